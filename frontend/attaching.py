"""Attach: a constant operand that varies along neurons (bias, norm vectors, position table) becomes edges onto them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .elements import Elements
from .joins import Factors
from .labels import compress, distinct_rows, map_via, nodes_of, periodic, varying, vias_of
from .state import State

__all__ = ["Part", "attach"]


@dataclass(frozen=True, slots=True)
class Part:
    """One attached constant: its elements, of the rank of the value, and its role.

    constant: it is no parameter (a rotary table, a mask), yet varies over neurons.
    """

    elements: Elements
    role: str
    constant: bool = False


def attach(state: State, factors: Factors, parts: Sequence[Part], op: str, attributes: dict[str, object]) -> Factors:
    """Edges from each part onto the neurons that it meets; labels stay, and `op` with its blocks enters their via.

    A part that is broadcast over several neurons enters through hubs, one per entry of its own labelled axes; its axes
    on which no neuron differs become slots.
    """
    blocks: dict[int, list[int]] = {}
    for part in parts:
        elements = _squeeze(part.elements)
        axes = {a for a, n in enumerate(elements.shape) if n > 1}
        meeting = [i for i, f in enumerate(factors) if axes & set(varying(f))]
        for other in meeting[1:]:
            state.pin(factors[other])
        index = meeting[0] if meeting else 0
        block = _attach(state, factors[index], Part(elements, part.role, part.constant))
        blocks.setdefault(index, []).append(block)
    out = list(factors)
    items = attributes.items()
    for index, numbers in blocks.items():
        out[index] = map_via(
            factors[index],
            lambda v, n=tuple(numbers): state.builder.via(op, items, (v,), n),  # type: ignore[misc]
        )
    return tuple(out)


def _squeeze(elements: Elements) -> Elements:
    """Size 1 along axes on which the elements only repeat."""

    def shrink(array: np.ndarray) -> np.ndarray:
        if array.dtype == np.int64:
            return compress(array)
        return array[tuple(slice(0, 1) if s == 0 else slice(None) for s in array.strides)]

    return elements.move(shrink)


def _attach(state: State, labels: np.ndarray, part: Part) -> int:
    """Edges of one part onto the neurons of one factor; returns the block's index."""
    rank = labels.ndim
    axes = [a for a in range(rank) if part.elements.shape[a] > 1]
    mine = [a for a in axes if labels.shape[a] > 1]
    free = [a for a in axes if a not in mine]
    rest = [a for a in range(rank) if a not in mine]
    ports = labels.transpose(mine + rest).reshape([labels.shape[a] for a in mine] + [-1])
    ports = ports.reshape(-1, ports.shape[-1])
    count = len(ports)
    if count + int((np.diff(np.sort(ports, axis=1), axis=1) != 0).sum()) > len(np.unique(ports)):
        # A neuron meets several entries of the part, so entries with its label differ from now on.
        state.merge(labels)
    sizes = [part.elements.shape[a] for a in free]
    unit = [a for a in range(rank) if a not in axes]
    elements = part.elements.move(lambda a: a.transpose(mine + free + unit).reshape(count, -1))
    slots = _coordinates(sizes)
    if elements.array.dtype == np.int64:
        elements, slots, ports = _without_repeats(elements, slots, ports)
    role = "position" if part.role == "bias" and len(slots) > 1 else part.role
    return _direct(state, ports, elements, slots, role, part.constant)


def _direct(state: State, ports: np.ndarray, elements: Elements, slots: np.ndarray, role: str, constant: bool) -> int:
    """elements [H, S] onto ports [H, R]: straight where each neuron has rows of its own, through hubs otherwise."""
    source = state.nodes("param", 1, 0)
    if ports.shape[1] == 1:
        tile, distinct, run = periodic(ports.T)
        own = ports[: distinct * run : run, 0]
        if len(np.unique(nodes_of(own))) == distinct:
            places = elements.shape[1]
            elements = elements.move(
                lambda a: a.reshape(tile, distinct, run, places).transpose(1, 0, 2, 3).reshape(distinct, 1, 1, -1)
            )
            if tile * run > 1:
                slots = np.arange(elements.shape[3], dtype=np.int32)[:, None]
            dst = nodes_of(own)[:, None]
            return state.edges(
                dst, np.broadcast_to(source, dst.shape), vias_of(own)[:, None], elements, role, slots, constant
            )
    hubs = state.nodes("hub", len(elements.shape) and elements.shape[0], state.depth(ports))[:, None]
    block = elements.move(lambda a: a.reshape(len(hubs), 1, 1, -1))
    index = state.edges(
        hubs, np.broadcast_to(source, hubs.shape), np.zeros((1, 1), np.int32), block, role, slots, constant
    )
    _link_hubs(state, hubs, ports)
    return index


def _link_hubs(state: State, hubs: np.ndarray, ports: np.ndarray) -> None:
    """Links hub -> neuron, once per pair; a neuron under several hubs gets its place as slot."""
    pairs = np.stack([np.broadcast_to(hubs, ports.shape).reshape(-1), ports.reshape(-1)], axis=1).astype(np.int64)
    first, _ = distinct_rows(pairs)
    pairs = pairs[first]
    nodes = nodes_of(pairs[:, 1])
    slot = None
    if len(np.unique(nodes)) < len(nodes):
        order = np.argsort(nodes, kind="stable")
        ranked = nodes[order]
        start = np.searchsorted(ranked, ranked)
        slot = np.empty(len(nodes), dtype=np.int64)
        slot[order] = np.arange(len(nodes)) - start
    state.builder.add_links(nodes, pairs[:, 0], "hub", vias_of(pairs[:, 1]), slot=slot, node=state.site.node)


def _without_repeats(
    elements: Elements, slots: np.ndarray, ports: np.ndarray
) -> tuple[Elements, np.ndarray, np.ndarray]:
    """Elements [H, S] that a gather repeated, each once: repeated columns share a slot, repeated rows share a hub."""
    numbers = elements.array
    if len(np.unique(numbers)) == numbers.size:
        return elements, slots, ports
    columns, _ = distinct_rows(np.ascontiguousarray(numbers.T))
    numbers = numbers[:, columns]
    slots = np.arange(len(columns), dtype=np.int32)[:, None]
    rows, which = distinct_rows(np.ascontiguousarray(numbers))
    counts = np.bincount(which)
    if len(rows) < len(numbers) and (counts == counts[0]).all():
        order = np.argsort(which, kind="stable")
        ports = ports[order].reshape(len(rows), -1)
        numbers = numbers[rows]
    if len(np.unique(numbers)) != numbers.size:
        hub, numbers = np.unique(numbers, return_inverse=True)[1].reshape(numbers.shape), np.unique(numbers)[:, None]
        ports = _spread(ports, hub, len(numbers))
        slots = np.zeros((1, 0), dtype=np.int32)
    return Elements(elements.arena, numbers), slots, ports


def _spread(ports: np.ndarray, hub: np.ndarray, count: int) -> np.ndarray:
    """Ports of each hub [count, R] when every element is its own hub; rows are padded by repeating their first port."""
    rows: list[np.ndarray] = [np.unique(ports[np.unique(np.nonzero(hub == h)[0])].reshape(-1)) for h in range(count)]
    width = max(len(r) for r in rows)
    return np.stack([np.concatenate([r, np.full(width - len(r), r[0])]) for r in rows])


def _coordinates(sizes: list[int]) -> np.ndarray:
    """Slot coordinates of free axes, int32 [S, <=3]."""
    if not sizes:
        return np.zeros((1, 0), dtype=np.int32)
    if len(sizes) > 3:
        return np.arange(np.prod(sizes), dtype=np.int32)[:, None]
    return np.ascontiguousarray(np.indices(sizes, dtype=np.int32).reshape(len(sizes), -1).T)
