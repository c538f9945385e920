"""Add parameters: a constant operand that varies over neurons (bias, norm vector, position table) becomes edges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...ir import EdgeRole, LinkRole, NodeKind
from ...ir.arrays import distinct, distinct_rows, occurrence
from ..budget import MAX_POSITIONS, check_limit
from .elements import Elements
from .grid import free_axes, runs, unfold
from .joins import Factors
from .labels import map_via, nodes_of, unrepeated, varying, vias_of
from .state import State

__all__ = ["Addend", "add_parameters", "coordinates"]


@dataclass(frozen=True, slots=True)
class Addend:
    """A constant to add.

    Attributes:
        elements: Its elements, of the rank of the value; also those of a program table (rotary embedding, mask) that
            varies over neurons.
        role: The role of its edges.
    """

    elements: Elements
    role: str


def add_parameters(
    state: State, factors: Factors, shape: tuple[int, ...], parts: Sequence[Addend], op: str,
    attributes: dict[str, object],
) -> Factors:  # fmt: skip
    """Add edges from each part onto the neurons it applies to.

    Nodes stay, and the step `op`, which names the new blocks, is appended to the vias. A part that is broadcast over
    several neurons enters through hub nodes, one per entry of its own labelled axes. Axes of a part without labels
    become slots.

    Args:
        state: The state of the lowering.
        factors: Labels of the value.
        shape: Its shape.
        parts: The constants.
        op: The step to append.
        attributes: Its attributes.

    Returns:
        The labels of the result.
    """
    if len(parts) == 1:
        found = _before_moves(state, factors, shape, parts[0], op, attributes)
        if found is not None:
            return found
    out = list(factors)
    blocks: dict[int, list[int]] = {}
    along: list[tuple[int, ...]] = []
    grid = free_axes(factors, shape)
    for part in parts:
        elements = part.elements.squeezed()
        axes = {a for a, n in enumerate(elements.shape) if n > 1}
        meeting = [i for i, f in enumerate(out) if axes & set(varying(f))]
        for other in meeting[1:]:
            out[other] = state.ordered(out[other])
        index = meeting[0] if meeting else 0
        out[index] = _apart(state, out[index], elements)
        block = _attach(state, out[index], shape, grid, Addend(elements, part.role))
        blocks.setdefault(index, []).append(block)
        along.append(tuple(i - len(grid) for i, a in enumerate(grid) if a in axes))
    if any(own and len(own) < len(grid) for own in along):
        attributes = {**attributes, "along": tuple(along)}
    items = attributes.items()
    for index, numbers in blocks.items():
        out[index] = map_via(
            out[index],
            lambda v, n=tuple(numbers): state.builder.via(op, items, (v,), n),  # type: ignore[misc]
        )
    return tuple(out)


def _before_moves(
    state: State, factors: Factors, shape: tuple[int, ...], part: Addend, op: str, attributes: dict[str, object]
) -> Factors | None:
    """Add a constant to arrays whose positions are the entries, if all positions of an array get the same element.

    So a bias of each expert is added once, not for each token that is merged into the axis of the experts. None if it
    is not like this.
    """
    elements = part.elements.squeezed()
    axes = {a for a, n in enumerate(elements.shape) if n > 1}
    own = [i for i, f in enumerate(factors) if axes <= set(varying(f))] if axes else []
    if len(own) != 1:
        return None
    [index] = own
    labels = factors[index]
    found = unfold(state.moves, labels, tuple(shape[a] for a in free_axes(factors, shape)))
    if found.places is not None:
        return None
    keys = np.broadcast_to(elements.keys, labels.shape)
    first, _ = distinct_rows(found.which.reshape(-1, 1))
    pairs, _ = distinct_rows(np.stack([found.which.reshape(-1), keys.reshape(-1)], axis=1))
    arrays = found.origin(found.which.reshape(-1)[first])[0]
    if len(pairs) > len(first) or len(first) == labels.size or not unrepeated(arrays):
        return None
    once = elements.move(lambda a: np.broadcast_to(a, labels.shape).reshape(-1)[first])
    block = _attach(state, arrays, arrays.shape, [], Addend(once, part.role))

    def step(vias: tuple[int, ...]) -> int:
        return state.builder.via(op, attributes.items(), vias, (block,))

    out = list(factors)
    out[index] = map_via(labels, lambda v: state.moves.under((v,), step))
    return tuple(out)


def _apart(state: State, labels: np.ndarray, elements: Elements) -> np.ndarray:
    """Distinguish, by the via, entries with equal labels to which different elements are added."""
    if unrepeated(labels):
        return labels
    numbers = elements.keys
    mine = [a for a in range(labels.ndim) if numbers.shape[a] > 1 and labels.shape[a] > 1]
    rest = [a for a in range(labels.ndim) if a not in mine]
    rows = numbers.transpose(mine + rest).reshape(math.prod(numbers.shape[a] for a in mine), -1)
    entry = distinct_rows(np.ascontiguousarray(rows))[1].reshape(
        [numbers.shape[a] if a in mine else 1 for a in range(labels.ndim)]
    )
    pairs = np.stack([labels.reshape(-1), np.broadcast_to(entry, labels.shape).reshape(-1)], axis=1)
    first, which = distinct_rows(pairs)
    copy = occurrence(labels.reshape(-1)[first])[which].reshape(labels.shape)
    return state.marked(labels, "Copy", np.where(copy > 0, copy, -1))


def _attach(state: State, labels: np.ndarray, shape: tuple[int, ...], grid: list[int], part: Addend) -> int:
    """Edges of one part onto the neurons of one factor; returns the block's index."""
    rank = labels.ndim
    axes = [a for a in range(rank) if part.elements.shape[a] > 1]
    mine = [a for a in axes if labels.shape[a] > 1]
    free = [a for a in axes if a not in mine]
    rest = [a for a in range(rank) if a not in mine]
    labels = labels.transpose(mine + rest).reshape([labels.shape[a] for a in mine] + [-1])
    labels = labels.reshape(-1, labels.shape[-1])
    count = len(labels)
    sizes = [part.elements.shape[a] for a in free]
    unit = [a for a in range(rank) if a not in axes]
    elements = part.elements.move(lambda a: a.transpose(mine + free + unit).reshape(count, -1))
    slots = coordinates(sizes)
    if elements.array.dtype == np.int64 or not elements.bare:
        elements, slots, labels = _without_repeats(elements, slots, labels)
    role = EdgeRole.POSITION if part.role == EdgeRole.BIAS and len(slots) > 1 else part.role
    if labels.shape[1] == 1:
        sizes, along = [shape[a] for a in grid], [grid.index(a) for a in free if a in grid]
        own, (tile, run) = runs(state.moves, labels.T, sizes, along)
        if unrepeated(nodes_of(own)):
            return _direct(state, own[0], tile, run, elements, slots, role)
    return _through_hubs(state, labels, elements, slots, role)


def _direct(
    state: State, labels: np.ndarray, tile: int, run: int, elements: Elements, slots: np.ndarray, role: str
) -> int:  # fmt: skip
    """Edges for elements [tile x labels x run, S], directly onto one neuron per label; tile, run and S are slots."""
    source = state.nodes(NodeKind.PARAM, 1, 0)
    places = elements.shape[1]
    elements = elements.move(
        lambda a: a.reshape(tile, len(labels), run, places).transpose(1, 0, 2, 3).reshape(len(labels), 1, 1, -1)
    )
    if tile * run > 1:
        slots = np.arange(elements.shape[3], dtype=np.int32)[:, None]
    dst = nodes_of(labels)[:, None]
    return state.edges(dst, np.broadcast_to(source, dst.shape), vias_of(labels)[:, None], elements, role, slots)


def _through_hubs(state: State, labels: np.ndarray, elements: Elements, slots: np.ndarray, role: str) -> int:
    """Edges for elements [H, S] onto labels [H, R], through one hub per row."""
    source = state.nodes(NodeKind.PARAM, 1, 0)
    hubs = state.nodes(NodeKind.HUB, len(elements.shape) and elements.shape[0], state.depth(labels))[:, None]
    block = elements.move(lambda a: a.reshape(len(hubs), 1, 1, -1))
    index = state.edges(hubs, np.broadcast_to(source, hubs.shape), np.zeros((1, 1), np.int32), block, role, slots)
    _link_hubs(state, hubs, labels)
    return index


def _link_hubs(state: State, hubs: np.ndarray, labels: np.ndarray) -> None:
    """Link each hub to its neurons once; the links of a neuron with several hubs are numbered by slots."""
    pairs = np.stack([np.broadcast_to(hubs, labels.shape).reshape(-1), labels.reshape(-1)], axis=1).astype(np.int64)
    first, _ = distinct_rows(pairs)
    pairs = pairs[first]
    nodes = nodes_of(pairs[:, 1])
    slot = None
    if not unrepeated(nodes):
        order = np.argsort(nodes, kind="stable")
        ranked = nodes[order]
        start = np.searchsorted(ranked, ranked)
        slot = np.empty(len(nodes), dtype=np.int64)
        slot[order] = np.arange(len(nodes)) - start
    state.builder.add_links(nodes, pairs[:, 0], LinkRole.HUB, vias_of(pairs[:, 1]), slot=slot, node=state.site.node)


def _without_repeats(
    elements: Elements, slots: np.ndarray, labels: np.ndarray
) -> tuple[Elements, np.ndarray, np.ndarray]:
    """Deduplicate elements [H, S] that a gather repeated: equal columns share a slot, equal rows share a hub."""
    keys = elements.keys
    if unrepeated(keys):
        return elements, slots, labels
    columns, _ = distinct_rows(np.ascontiguousarray(keys.T))
    keys, elements = keys[:, columns], elements.move(lambda a: a[:, columns])
    slots = np.arange(len(columns), dtype=np.int32)[:, None]
    rows, which = distinct_rows(np.ascontiguousarray(keys))
    counts = np.bincount(which)
    if len(rows) < len(keys) and (counts == counts[0]).all():
        order = np.argsort(which, kind="stable")
        labels = labels[order].reshape(len(rows), -1)
        keys, elements = keys[rows], elements.move(lambda a: a[rows])
    if not unrepeated(keys):
        _, first, hub = np.unique(keys, return_index=True, return_inverse=True)
        elements = elements.move(lambda a: a.reshape(-1)[first][:, None])
        labels = _spread(labels, hub.reshape(keys.shape), len(first))
        slots = np.zeros((1, 0), dtype=np.int32)
    return elements, slots, labels


def _spread(labels: np.ndarray, hub: np.ndarray, count: int) -> np.ndarray:
    """Labels [count, R] per hub when each element is a hub; rows are padded with their first label."""
    rows: list[np.ndarray] = [distinct(labels[distinct(np.nonzero(hub == h)[0])].reshape(-1)) for h in range(count)]
    width = max(len(r) for r in rows)
    return np.stack([np.concatenate([r, np.full(width - len(r), r[0])]) for r in rows])


def coordinates(sizes: list[int]) -> np.ndarray:
    """Slot coordinates of axes without labels, int32 [S, <=3]; a running number if there are more than three axes."""
    if not sizes:
        return np.zeros((1, 0), dtype=np.int32)
    check_limit(math.prod(sizes), MAX_POSITIONS, "slots of edges")
    if len(sizes) > 3:
        return np.arange(math.prod(sizes), dtype=np.int32)[:, None]
    return np.ascontiguousarray(np.indices(sizes, dtype=np.int32).reshape(len(sizes), -1).T)
