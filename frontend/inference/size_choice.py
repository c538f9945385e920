"""Chooses sizes of symbolic dimensions such that all shapes agree and no parameter table is read only in part."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol, TypeVar

import onnx_ir

from ...ir import LoweringError
from .data_sizes import Assumed
from .size_marks import downstream, is_fixed, marked
from .sizes import DEFAULTS, Sizes
from .tables import LONGEST
from .value_info import ValueInfo

__all__ = ["AssumingInference", "Inference", "choose_sizes", "with_assumed_sizes"]


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


class AssumingInference(Inference, Protocol):
    """The result of shape inference that may have assumed sizes."""

    known: dict[onnx_ir.Value, ValueInfo]
    assumed: Assumed


W = TypeVar("W", bound=Inference)
A = TypeVar("A", bound=AssumingInference)


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


def with_assumed_sizes(
    nodes: Sequence[onnx_ir.Node], choose: Callable[[bool], A], infer: Callable[[Sizes, Assumed], A], opset: int
) -> tuple[A, dict[onnx_ir.Value, ValueInfo]]:
    """Infer with default sizes for axes whose sizes depend on data.

    If they fit nowhere, sizes that operands give are left unknown, and everything behind a count depends on it.

    Args:
        nodes: All nodes of the model, in order.
        choose: Infers with the best sizes of symbolic dimensions; its argument says whether to guess sizes that
            operands give.
        infer: Infers with the sizes given.
        opset: The version of the default operator set.

    Returns:
        The inference, and what is known, with axes whose sizes depend on data marked.

    Raises:
        LoweringError: No sizes fit.
    """
    guessed: A | None = None
    with suppress(LoweringError):
        guessed = choose(True)
    if guessed is not None and not guessed.assumed.nodes:
        return guessed, guessed.known
    plain = choose(False) if guessed is None or guessed.misfits else None
    if guessed is not None and (plain is None or len(plain.misfits) >= len(guessed.misfits)):
        found = _marked(nodes, guessed, infer, opset)
        if found is not None:
            return guessed, found
    plain = plain or choose(False)
    return plain, _marked(nodes, plain, infer, opset) or _all_marked(nodes, plain)


def _marked(
    nodes: Sequence[onnx_ir.Node], best: A, infer: Callable[[Sizes, Assumed], A], opset: int
) -> dict[onnx_ir.Value, ValueInfo] | None:
    """What is known, with axes marked by another inference; None if no other numbers fit."""
    if not best.assumed.nodes:
        return best.known
    if any(is_fixed(node) for node in nodes):
        return None
    for other in best.assumed.others(best.known):
        with suppress(LoweringError):
            found = marked(nodes, best.known, infer(best.sizes, other).known, other, opset)
            if found is not None:
                return found
    return None


def _all_marked(nodes: Sequence[onnx_ir.Node], best: A) -> dict[onnx_ir.Value, ValueInfo]:
    """What is known, as if all sizes behind one that depends on data did so too."""
    known = dict(best.known)
    for value in downstream(nodes, known, best.assumed.nodes):
        if value in known:
            known[value] = replace(known[value], data=None, by_data=frozenset(range(len(known[value].shape))))
    return known


def _unread(cut: Iterable[tuple[int, int, int]]) -> int:
    return sum(elements for _, _, elements in cut)
