"""Chooses sizes of symbolic dimensions such that all shapes agree and no parameter table is read only in part."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol, TypeVar

from ...ir import LoweringError
from .sizes import DEFAULTS, Sizes
from .tables import LONGEST

__all__ = ["Inference", "choose_sizes"]


class Inference(Protocol):
    """The result of shape inference with one choice of sizes."""

    sizes: Sizes

    @property
    def misfits(self) -> Collection[object]:
        """Branches of If nodes that cannot run on these shapes."""
        ...

    def partial_reads(self) -> Sequence[tuple[int, int, int]]:
        """(rows, rows read, elements not read) of parameter tables: see `tables.partial_reads`."""
        ...


W = TypeVar("W", bound=Inference)


def choose_sizes(infer: Callable[[Sizes], W], dims: Mapping[str, int], inputs: Mapping[str, tuple[int, ...]]) -> W:
    """Infer shapes with default sizes in turn and choose the best.

    Args:
        infer: Infers with the sizes given.
        dims: Sizes of symbolic dimensions by name.
        inputs: Shapes of graph inputs by name.

    Returns:
        The inference with the chosen sizes.

    Raises:
        LoweringError: No default fits; the error is that of the first one.
    """
    return _extend_to_tables(infer, _first_agreeing(infer, dims, inputs), dims, inputs)


def _first_agreeing(infer: Callable[[Sizes], W], dims: Mapping[str, int], inputs: Mapping[str, tuple[int, ...]]) -> W:
    """Inference with the first default that suits all branches, else with the one that suits most."""
    first: LoweringError | None = None
    best: W | None = None
    for default in DEFAULTS:
        sizes = Sizes(dims, inputs, default)
        try:
            inference = infer(sizes)
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


def _extend_to_tables(
    infer: Callable[[Sizes], W], found: W, dims: Mapping[str, int],
    inputs: Mapping[str, tuple[int, ...]],
) -> W:  # fmt: skip
    """Set guessed dimensions to the lengths of the tables that they cut off, where shapes still agree."""
    names, reads = found.sizes.names, found.partial_reads()
    for rows in sorted({rows for rows, read, _ in reads if read == found.sizes.default and rows <= LONGEST}):
        for name in names:
            sizes = Sizes({**dims, name: rows}, inputs, found.sizes.default)
            with suppress(LoweringError):
                longer = infer(sizes)
                if len(longer.misfits) <= len(found.misfits) and _unread(longer.partial_reads()) < _unread(reads):
                    dims, found, reads = {**dims, name: rows}, longer, longer.partial_reads()
    return found


def _unread(cut: Iterable[tuple[int, int, int]]) -> int:
    return sum(elements for _, _, elements in cut)
