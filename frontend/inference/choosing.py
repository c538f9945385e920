"""Sizes for the dimensions that nobody gave one: with which all shapes agree, and no table of parameters is cut."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol, TypeVar

from ...ir.errors import LoweringError
from .sizes import DEFAULTS, Sizes
from .tables import LONGEST

__all__ = ["Walk", "chosen"]


class Walk(Protocol):
    """What is found of a model with one choice of sizes."""

    sizes: Sizes

    @property
    def misfits(self) -> Collection[object]:
        """Branches that do not fit."""
        ...

    def cuts(self) -> Sequence[tuple[int, int, int]]:
        """(rows, rows read, elements left out) of tables: see `tables.cuts`."""
        ...


W = TypeVar("W", bound=Walk)


def chosen(walked: Callable[[Sizes], W], dims: Mapping[str, int], inputs: Mapping[str, tuple[int, ...]]) -> W:
    """The walk with the sizes that are chosen; raises the first `LoweringError` where none fit."""
    return _whole_tables(walked, _agreeing(walked, dims, inputs), dims, inputs)


def _agreeing(walked: Callable[[Sizes], W], dims: Mapping[str, int], inputs: Mapping[str, tuple[int, ...]]) -> W:
    """The first default with which all shapes agree, or the one with which most branches do."""
    first: LoweringError | None = None
    best: W | None = None
    for default in DEFAULTS:
        sizes = Sizes(dims, inputs, default)
        try:
            inference = walked(sizes)
        except LoweringError as error:
            first = first or error
        else:
            if best is None or len(inference.misfits) < len(best.misfits):
                best = inference
            if not best.misfits:
                break
        if not sizes.guessed:
            break
    if best is None:
        assert first is not None
        raise first
    return best


def _whole_tables(
    walked: Callable[[Sizes], W], found: W, dims: Mapping[str, int],
    inputs: Mapping[str, tuple[int, ...]],
) -> W:  # fmt: skip
    """With guessed dimensions as long as the tables that they cut, where all shapes agree then too."""
    names, left = found.sizes.names, found.cuts()
    for rows in sorted({rows for rows, read, _ in left if read == found.sizes.default and rows <= LONGEST}):
        for name in names:
            sizes = Sizes({**dims, name: rows}, inputs, found.sizes.default)
            with suppress(LoweringError):
                longer = walked(sizes)
                if len(longer.misfits) <= len(found.misfits) and _lost(longer.cuts()) < _lost(left):
                    dims, found, left = {**dims, name: rows}, longer, longer.cuts()
    return found


def _lost(cut: Iterable[tuple[int, int, int]]) -> int:
    return sum(elements for _, _, elements in cut)
