"""Contract: a weight is contracted with an activation; this creates new neurons and one edge block per weight."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

import numpy as np

from ...ir import EdgeRole, LinkRole, NodeKind
from ...ir.arrays import distinct
from ..budget import MAX_POSITIONS, check_limit
from ..errors import Unsupported
from .elements import Elements
from .grid import free_axes, runs, spread
from .joins import Factors, independent, join, reordered, shared_neuron
from .labels import compress, map_via, nodes_of, to_labels, varying, vias_of
from .state import State, align

__all__ = ["Spec", "contract", "emit", "fitted", "roles", "shared_source"]


@dataclass(frozen=True, slots=True)
class Spec:
    """The axes of a contraction as letters, as in einsum.

    Attributes:
        x: Letters of the activation's axes.
        w: Letters of the weight's axes; those only in `w` are kernel positions (slots).
        out: Letters of the result's axes.
        window: Letters of `x` over which the weight slides; the output positions have other letters.
        still: Those of them along which it has one entry and takes each position for itself.
    """

    x: str
    w: str
    out: str
    window: str = ""
    still: str = ""


def contract(
    state: State, factors: Factors, shape: tuple[int, ...], weight: Elements, spec: Spec, out: tuple[int, ...],
    role: str = EdgeRole.WEIGHT,
) -> Factors:  # fmt: skip
    """Contract an activation with a weight.

    The factor that varies along the contracted axis is replaced by new neurons; the others are kept. A factor that
    varies where the weight is shared is joined first. Contracted axes without labels become slots.

    Args:
        state: The state of the lowering.
        factors: Labels of the activation, over `spec.x`.
        shape: Its shape.
        weight: The elements of the weight, over `spec.w`.
        spec: The axes.
        out: The shape of the result.
        role: The role of the edges.

    Returns:
        The labels of the result, over `spec.out`.
    """
    weight = fitted(weight, spec, out)
    source, kept = shared_source(state, factors, shape, weight.shape, spec)
    natural = replace(spec, out=_in_order(spec))
    new = emit(state, source, shape, kept, weight, natural, role)
    factors = independent(state, [new, *(compress(align(f, spec.x, natural.out)) for f in kept)])
    return reordered(state, factors, out, natural.out, spec.out)


def fitted(weight: Elements, spec: Spec, out: tuple[int, ...]) -> Elements:
    """Reduce a weight with one copy per entry (of the batch, say) to the first copy, if only one entry is lowered.

    The copies are consecutive along an axis, or interleaved.

    Args:
        weight: The weight.
        spec: The axes of the contraction.
        out: The shape of the result.

    Returns:
        A weight that fits the result.

    Raises:
        Unsupported: The weight does not consist of copies.
    """
    sizes = dict(zip(spec.out, out, strict=True))
    for axis, letter in enumerate(spec.w):
        size = sizes.get(letter, weight.shape[axis])
        if size < weight.shape[axis]:
            where = (*[slice(None)] * axis, _first_of_copies(weight, axis, size))
            weight = weight.move(itemgetter(where))
    return weight


def _first_of_copies(weight: Elements, axis: int, size: int) -> slice:
    """The positions of the first copy along an axis."""
    length, keys = weight.shape[axis], np.moveaxis(weight.keys, axis, 0)
    count = length // size if size and length % size == 0 else 0
    for step, apart in ((1, size), (count, 1)):
        places = np.arange(size) * step
        if count and all((keys[places + i * apart] == keys[places]).all() for i in range(count)):
            return slice(0, size * step, step)
    raise Unsupported("the size of its weight does not match its result")


def _in_order(spec: Spec) -> str:
    """The letters of the result, with those of the activation in the activation's order, as the grid has them."""
    here = iter([t for t in spec.x if t in spec.out])
    return "".join(next(here) if t in spec.x else t for t in spec.out)


def shared_source(
    state: State, factors: Factors, shape: tuple[int, ...], weight: tuple[int, ...], spec: Spec
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The labels over `spec.x` that a weight of shape `weight` is contracted with, and the factors that are kept."""
    contracted, batch = roles(spec, weight)
    involved: list[np.ndarray] = []
    kept: list[np.ndarray] = []
    for factor in factors:
        letters = {spec.x[a] for a in varying(factor)}
        inside = letters & {*contracted, *batch, *spec.window} or letters - set(spec.out)
        (involved if inside else kept).append(factor)
    source, kept = _source(state, involved, kept)
    shared = [spec.x.index(t) for t in spec.x if t not in contracted and t not in batch]
    differing = tuple(a for a in shared if source.shape[a] > 1)
    grid = free_axes([source, *kept], shape)
    if differing:
        source = shared_neuron(state, source, differing, beside=grid)
        grid = sorted([*grid, *differing])
    window = [spec.x.index(t) - len(shape) for t in spec.window]
    if window and any(shape[a] == 1 for a in window) and any(shape[a] > 1 for a in window):
        at = tuple(a - len(shape) for a in grid)
        source = map_via(source, lambda v: state.builder.via("Window", (("grid", at),), (v,)))
    apart = [spec.x.index(t) for t in batch]
    rest = [a for a in grid if a not in apart]
    return spread(
        state.moves, source, shape, grid, shape, [*varying(source), *(a for a in apart if a in grid)], rest
    ), kept


def roles(spec: Spec, weight: tuple[int, ...]) -> tuple[list[str], list[str]]:
    """The contracted letters, and the batch letters of the weight."""
    sizes = dict(zip(spec.w, weight, strict=True))
    contracted = [t for t in spec.w if t in spec.x and t not in spec.out]
    return contracted, [t for t in spec.w if t in spec.x and t in spec.out and sizes[t] > 1]


def _source(state: State, involved: list[np.ndarray], kept: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """The labels that the weight is contracted with, joined if they are of several factors, and the kept factors."""
    if len(involved) == 1:
        return involved[0], kept
    if involved:
        return join(state, involved, LinkRole.PAIR), kept
    if len(kept) == 1 and kept[0].size == 1:
        return kept[0], []
    labels = distinct(np.concatenate([f.reshape(-1) for f in kept]))
    node = state.labelled_nodes(NodeKind.JOIN, 1, state.depth(labels))
    state.links(np.repeat(nodes_of(node), len(labels)), labels, LinkRole.SHARED)
    return node.reshape((1,) * kept[0].ndim), kept


def emit(
    state: State,
    source: np.ndarray,
    shape: tuple[int, ...],
    kept: Sequence[np.ndarray],
    weight: Elements,
    spec: Spec,
    role: str,
    dst: np.ndarray | None = None,
) -> np.ndarray:
    """Add the edge block of a weight.

    Args:
        state: The state of the lowering.
        source: Labels over `spec.x` that the weight is contracted with.
        shape: The shape of the value.
        kept: The other factors of the value.
        weight: The elements over `spec.w`; positions along contracted axes without labels are slots.
        spec: The axes.
        role: The role of the edges.
        dst: Existing nodes [B, N] to connect to; new neurons by default.

    Returns:
        The labels of the destinations, over `spec.out`.
    """
    sizes = dict(zip(spec.w, weight.shape, strict=True))
    contracted, batch = roles(spec, weight.shape)
    fresh = [t for t in spec.w if t in spec.out and t not in spec.x]
    labelled = [t for t in contracted if source.shape[spec.x.index(t)] > 1]
    places = [t for t in spec.w if (t in contracted and t not in labelled) or (t not in spec.x and t not in spec.out)]
    length = {group: [sizes[t] for t in letters] for group, letters in
              {"b": batch, "n": fresh, "k": labelled, "s": places}.items()}  # fmt: skip
    b, n, k = (int(np.prod(length[g], dtype=np.int64)) for g in "bnk")

    sources = align(source, spec.x, "".join([*batch, *labelled]) + _others(spec.x, [*batch, *labelled]))
    sources = sources.reshape(sources.shape[: len(batch) + len(labelled)])
    sources = np.broadcast_to(sources, (*length["b"], *length["k"])).reshape(b, k)
    grid = [spec.x[a] for a in free_axes([source, *kept], shape)]
    slots = [grid.index(t) for t in places if t in grid]
    sources, (tile, run) = runs(state.moves, sources, [shape[spec.x.index(t)] for t in grid], slots)
    kinds = sources.shape[1]

    order = [spec.w.index(t) for t in [*batch, *fresh, *labelled, *places]]
    order += [a for a in range(len(spec.w)) if a not in order]
    full = (b, n, tile, kinds, run, *length["s"])

    def arrange(array: np.ndarray) -> np.ndarray:
        array = array.transpose(order).reshape(full)
        array = array.transpose(0, 1, 3, 2, 4, *range(5, array.ndim))
        return array.reshape(b, n, kinds, -1)

    elements = weight.move(arrange)
    if dst is None:
        dst = state.nodes(NodeKind.NEURON, b * n, 1 + state.depth(sources)).reshape(b, n)
    state.edges(dst, nodes_of(sources), vias_of(sources), elements, role, _slots([tile, run, *length["s"]]))
    labels = to_labels(dst).reshape([*length["b"], *length["n"]])
    return compress(align(labels, "".join([*batch, *fresh]), spec.out))


def _others(letters: str, taken: list[str]) -> str:
    return "".join(t for t in letters if t not in taken)


def _slots(sizes: list[int]) -> np.ndarray:
    """Slot coordinates, int32 [S, <=3]: one column per axis of size > 1, or a running number if there are more."""
    sizes = [s for s in sizes if s > 1]
    if not sizes:
        return np.zeros((1, 0), dtype=np.int32)
    check_limit(math.prod(sizes), MAX_POSITIONS, "slots of edges")
    if len(sizes) > 3:
        return np.arange(math.prod(sizes), dtype=np.int32)[:, None]
    grid = np.indices(sizes, dtype=np.int32)
    return np.ascontiguousarray(grid.reshape(len(sizes), -1).T)
