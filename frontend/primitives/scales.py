"""Scales and zero points as edges onto the nodes whose stored elements they scale.

A block of stored elements connects sources to destinations. A scale per destination (per channel) is an edge onto it;
a scale per source is an edge onto the source; a blocked scale, which depends on both, is an edge onto the destination
from a node that is linked from the sources of the block. So stored elements can only be permuted along with their
scales.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...ir import LinkRole, NodeKind, ParameterView
from ...ir.arrays import distinct, distinct_rows
from .labels import to_labels
from .quantised import QuantEncoding, QuantParam
from .regions import affine_view, single_uses

if TYPE_CHECKING:
    from .state import State

__all__ = ["quant_param_edges"]

_LIMIT = 1 << 24


@dataclass(frozen=True, slots=True)
class _Block:
    """A block of stored elements: nodes dst [B, N], src [B, K], via [B, K], and the elements' view."""

    dst: np.ndarray
    src: np.ndarray
    via: np.ndarray
    view: ParameterView
    role: str


@dataclass(frozen=True, slots=True)
class _Classes:
    """Which element of a scale applies where: `numbers` [rows, columns], by `row_of` [B, N] and `column_of` [K, S]."""

    numbers: np.ndarray
    row_of: np.ndarray
    column_of: np.ndarray


def quant_param_edges(
    state: State,
    encoding: QuantEncoding,
    view: ParameterView,
    dst: np.ndarray,
    src: np.ndarray,
    via: np.ndarray,
    role: str,
) -> tuple[int, ...]:
    """Add the edges of the scales and zero points of a block of stored elements.

    Args:
        state: The state of the lowering.
        encoding: The stored tensor.
        view: The elements of the block.
        dst: Destinations [B, N].
        src: Sources [B, K].
        via: Vias of the sources [B, K].
        role: The role of the block.

    Returns:
        The indices of the new blocks.
    """
    made: list[int] = []
    block = _Block(dst, src, via, view, role)
    if encoding.ranged:
        _couple(state, block, encoding.shape)
    columns: dict[bytes, np.ndarray] = {}
    for param in encoding.quant_params:
        if not param.name or not view.size:
            continue
        classes = _classes(param, encoding.shape, view)
        if classes is None or not _apart(block, classes):
            made.append(_pinned(state, block, param, encoding.shape))
        elif classes.numbers.shape[0] == 1 and classes.numbers.shape[1] > 1:
            made.append(_of_sources(state, block, param, classes))
        else:
            made.append(_of_destinations(state, block, param, classes, columns))
    return tuple(made)


def _classes(param: QuantParam, shape: tuple[int, ...], view: ParameterView) -> _Classes | None:
    """The classes of rows (b, n) and columns (k, s) with equal scales; None if these are not a product."""
    coordinates = _coordinates(view, shape)
    if coordinates is None:
        return None
    rows, columns = np.zeros((*view.shape[:2], 1, 1), np.int64), np.zeros((1, 1, *view.shape[2:]), np.int64)
    for axis, places in enumerate(coordinates):
        if param.numbers.shape[axis] == 1:
            continue
        place = param.place(axis, places)
        step = int(np.prod(param.numbers.shape[axis + 1 :], dtype=np.int64))
        if place.shape[2:] == (1, 1):
            rows = rows + place * step
        elif place.shape[:2] == (1, 1):
            columns = columns + place * step
        else:
            return None
    row, row_of = _distinct(rows)
    column, column_of = _distinct(columns)
    numbers = param.numbers.reshape(-1)[row[:, None] + column[None, :]]
    return _Classes(numbers, row_of.reshape(view.shape[:2]), column_of.reshape(view.shape[2:]))


def _distinct(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`numpy.unique` with its inverse; sorted input is not sorted again."""
    flat = values.reshape(-1)
    steps = np.diff(flat)
    if (steps < 0).any():
        return np.unique(flat, return_inverse=True)
    new = np.concatenate([[True], steps > 0])
    return flat[new], np.cumsum(new) - 1


def _coordinates(view: ParameterView, shape: tuple[int, ...]) -> list[np.ndarray] | None:
    """Coordinates of the elements per axis of their tensor, broadcastable to [B, N, K, S]; None if unknown."""
    if view.index is not None:
        return [_shrunk(c) for c in np.unravel_index(view.index, shape)] if view.size <= _LIMIT else None
    start = np.array(np.unravel_index(view.offset, shape))
    places = [np.full((1,) * 4, s) for s in start]
    for axis, (size, stride) in enumerate(zip(view.shape, view.strides, strict=True)):
        if size == 1 or stride == 0:
            continue
        line = np.array(np.unravel_index(view.offset + stride * np.arange(size), shape))
        lined = [-1 if a == axis else 1 for a in range(4)]
        for a, moved in enumerate(line - start[:, None]):
            if moved.any():
                places[a] = places[a] + moved.reshape(lined)
    inside = all(int(p.min()) >= 0 and int(p.max()) < n for p, n in zip(places, shape, strict=True))
    return places if inside else None


def _shrunk(array: np.ndarray) -> np.ndarray:
    """The array with constant axes reduced to size 1."""
    for axis in range(array.ndim):
        first = array.take([0], axis=axis)
        if array.shape[axis] > 1 and (array == first).all():
            array = first
    return array


def _apart(block: _Block, classes: _Classes) -> bool:
    """Whether every destination, and every slot of a source, is in a single class."""
    places = (*block.src.shape, classes.column_of.shape[1])
    batch, _, slot = np.ogrid[tuple(slice(n) for n in places)]
    members = [np.broadcast_to(a, places) for a in (block.src[:, :, None], slot, batch * _is_batched(block, classes))]
    return _exclusive(classes.row_of, block.dst) and (
        classes.numbers.shape[1] == 1 or _exclusive(np.broadcast_to(classes.column_of, places), *members)
    )


def _is_batched(block: _Block, classes: _Classes) -> bool:
    """Whether batches have different sources, and scales depend on both ends."""
    return min(classes.numbers.shape) > 1 and bool((block.src != block.src[:1]).any())


def _exclusive(class_of: np.ndarray, *members: np.ndarray) -> bool:
    """Whether no member (a tuple of ids) is in two classes."""
    if any((np.diff(a.reshape(-1)) > 0).all() for a in members):
        return True
    rows = np.stack([a.reshape(-1) for a in members], axis=1)
    _, which = distinct_rows(rows.astype(np.int64))
    pairs = np.stack([which, class_of.reshape(-1)], axis=1)
    return len(np.unique(pairs, axis=0)) == int(which.max(initial=-1)) + 1


def _of_destinations(
    state: State, block: _Block, param: QuantParam, classes: _Classes, columns: dict[bytes, np.ndarray]
) -> int:
    """Edges onto destinations, from a `param` node or from one node per class of columns."""
    rows = len(classes.numbers)
    ends = _ends(state, block.dst, classes.row_of, rows)
    if classes.numbers.shape[1] == 1:
        source = _source(state, block)
        view = affine_view(param.name, classes.numbers.reshape(rows, 1, 1, 1))
        return _edges(state, ends[:, None], np.broadcast_to(source, (rows, 1)), view, block.role, param)
    if _is_batched(block, classes):
        return _batched(state, block, param, classes)
    key = classes.column_of.tobytes()
    if key not in columns:
        columns[key] = _runs(state, block.src[0], block.via[0], classes.column_of)
    view = affine_view(param.name, classes.numbers[None, :, :, None])
    return _edges(state, ends[None], columns[key][None], view, block.role, param)


def _batched(state: State, block: _Block, param: QuantParam, classes: _Classes) -> int:
    """Edges onto destinations of batches with different sources, each with its own nodes per class of columns."""
    runs = [_runs(state, s, v, classes.column_of) for s, v in zip(block.src, block.via, strict=True)]
    view = affine_view(param.name, classes.numbers[classes.row_of][..., None])
    return _edges(state, block.dst, np.stack(runs), view, block.role, param)


def _of_sources(state: State, block: _Block, param: QuantParam, classes: _Classes) -> int:
    """Edges onto sources, for scales that depend on the source alone."""
    count = classes.numbers.shape[1]
    column_of = classes.column_of
    apart = bool((column_of != column_of[:, :1]).any())
    sources = np.broadcast_to(block.src[:, :, None], (*block.src.shape, column_of.shape[1]))
    member = np.broadcast_to(column_of, sources.shape)
    if apart:
        ends = state.nodes(NodeKind.HUB, count, state.depth(to_labels(block.src)))
        slot = np.broadcast_to(np.arange(column_of.shape[1]), sources.shape)
        links = np.unique(np.stack([a.reshape(-1) for a in (sources, ends[member], slot)], axis=1), axis=0)
        state.builder.add_links(links[:, 0], links[:, 1], LinkRole.HUB, slot=links[:, 2:], node=state.site.node)
    else:
        ends = _ends(state, block.src, member[:, :, 0], count)
    source = state.nodes(NodeKind.PARAM, 1, 0)
    view = affine_view(param.name, classes.numbers.reshape(count, 1, 1, 1))
    return _edges(state, ends[:, None], np.broadcast_to(source, (count, 1)), view, block.role, param)


def _ends(state: State, nodes: np.ndarray, class_of: np.ndarray, count: int) -> np.ndarray:
    """One node per class: its only member, or else a hub linked to its members."""
    flat, classes = nodes.reshape(-1), class_of.reshape(-1)
    if len(flat) == count and (np.diff(flat) > 0).all() and (np.diff(classes) > 0).all():
        return flat
    pairs = np.unique(np.stack([classes, flat], axis=1), axis=0)
    if len(pairs) == count == len(distinct(flat)):
        return pairs[:, 1]
    hubs = state.nodes(NodeKind.HUB, count, state.depth(to_labels(nodes)))
    state.builder.add_links(pairs[:, 1], hubs[pairs[:, 0]], LinkRole.HUB, node=state.site.node)
    return hubs


def _runs(state: State, src: np.ndarray, via: np.ndarray, column_of: np.ndarray) -> np.ndarray:
    """One node per class of columns [K, S], linked from its sources [K]; by slot if a source is in several classes."""
    count = int(column_of.max()) + 1
    nodes = state.nodes(NodeKind.REDUCE, count, state.depth(to_labels(src)))
    slots = column_of.shape[1]
    if (column_of == column_of[:, :1]).all():
        state.links(nodes[column_of[:, 0]], to_labels(src, via), LinkRole.SCOPE)
        return nodes
    slot = np.tile(np.arange(slots), len(src))
    state.links(nodes[column_of.reshape(-1)], np.repeat(to_labels(src, via), slots), LinkRole.SCOPE, slot=slot)
    return nodes


def _source(state: State, block: _Block) -> np.ndarray:
    """The `param` node of the block if it is a vector, so that scales belong to it; else a new one."""
    first = block.src.reshape(-1)[:1]
    if (block.src == first).all() and state.builder.groups[
        int(state.builder.group_of(first)[0])
    ].kind == NodeKind.PARAM:
        return first
    return state.nodes(NodeKind.PARAM, 1, 0)


def _pinned(state: State, block: _Block, param: QuantParam, shape: tuple[int, ...]) -> int:
    """Scales that do not factor into rows and columns: all nodes of the block are pinned."""
    state.pin(to_labels(block.dst))
    state.pin(to_labels(block.src))
    places = distinct(param.of([np.asarray(c) for c in np.unravel_index(block.view.elements(), shape)]))
    source, hub = (
        state.nodes(NodeKind.PARAM, 1, 0),
        state.nodes(NodeKind.HUB, 1, state.depth(to_labels(block.dst)), pinned=True),
    )
    state.links(distinct(block.dst), np.repeat(to_labels(hub), len(distinct(block.dst))), LinkRole.HUB)
    view = affine_view(param.name, places.reshape(1, 1, 1, -1))
    return _edges(state, hub[None], source[None], view, block.role, param)


def _couple(state: State, block: _Block, shape: tuple[int, ...]) -> None:
    """Link the destinations of a tensor that is rounded to the grid of its own range to one node.

    The range is that of all elements, so destinations of two such tensors can only be exchanged along with all others.
    Where a part of the tensor is used, all nodes are pinned.
    """
    size = math.prod(shape)
    whole = block.view.size == size <= _LIMIT and len(distinct(block.view.elements().reshape(-1))) == size
    if not whole:
        state.pin(to_labels(block.dst))
        state.pin(to_labels(block.src))
    ends = distinct(block.dst)
    node = state.nodes(NodeKind.REDUCE, 1, state.depth(to_labels(ends)), pinned=not whole)
    state.links(np.repeat(node, len(ends)), to_labels(ends), LinkRole.SCOPE)


def _edges(state: State, dst: np.ndarray, src: np.ndarray, view: ParameterView, role: str, param: QuantParam) -> int:
    """Add edge blocks for these elements, split where some have edges already; returns the first block's index.

    The via tells scales that only the rounding uses from those that the values are multiplied by.
    """
    first = len(state.builder.edges)
    via = state.builder.via("Quantize") if param.quantises else 0
    for (b, n, k, s), part in single_uses(state.builder, view):
        slots = None if view.shape[3] == 1 else np.arange(view.shape[3], dtype=np.int32)[s, None]
        ends = dst[b][:, n], src[b][:, k]
        state.builder.add_edges(*ends, part, f"{role}.{param.role}", slots, via, state.site.node)
    return first
