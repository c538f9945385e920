"""Recurrence: a cell with weights shared over time, as cycles of nodes per hidden unit.

A cell consists of named groups of nodes, one node per hidden unit, with incoming edges and links from parameters and
other groups. Time is a free axis, so all steps use the same nodes. The state carried from step to step is a group of
`join` nodes, linked also from the initial state; edges and links out of it read the state of the previous step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ir import LinkRole, NodeKind
from ...ir.arrays import occurrence
from .constants import varies
from .contraction import Spec, emit, shared_source
from .elements import Elements
from .joins import Factors, independent, join, shared_neuron
from .labels import compress, map_via, to_labels, unrepeated
from .state import State, align
from .values import Value

__all__ = ["INPUT", "Feed", "Step", "Units", "Weight", "recur"]

INPUT = "input"
_SPEC = Spec("tbi", "hi", "bh")

Step = tuple[str, dict[str, Any], Callable[..., Any] | None]
"""A scalar function: its name, its attributes, and the NumPy function if it is known."""


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter with edges onto the `size` nodes of a `Units`.

    Attributes:
        source: `INPUT` (elements [size, features]), the name of a group of the cell (elements [size, size of that], or
            [size] from each unit to its own), or else the name of a parameter node (elements [size]).
        elements: The elements.
        role: The role of the edges.
    """

    source: str
    elements: Elements
    role: str


@dataclass(frozen=True, slots=True)
class Feed:
    """Links from the nodes of the group `source`, after these steps, to the nodes of the same hidden units."""

    source: str
    steps: tuple[Step, ...] = ()
    role: str = LinkRole.GATE


@dataclass(frozen=True, slots=True)
class Units:
    """A group with one node per hidden unit; the index of a feed is the operand of its links."""

    name: str
    kind: str
    size: int
    weights: tuple[Weight, ...] = ()
    feeds: tuple[Feed, ...] = ()


def recur(
    state: State,
    x: Value,
    cell: Sequence[Units],
    initial: Mapping[str, Value],
    lengths: Value | None,
    counted: np.ndarray | None,
    outputs: Sequence[str],
) -> list[Factors]:
    """Lower a recurrent cell.

    Features that vary over time or batch are joined first, since they share a weight. Neurons along the batch axis are
    pinned if rows have different initial states or lengths.

    Args:
        state: The state of the lowering.
        x: The input, [time, batch, features].
        cell: The groups of the cell.
        initial: Initial states by group, activations [batch, size].
        lengths: The sequence length of each row of the batch, on which all outputs depend.
        counted: The label of `lengths` if its data is not known.
        outputs: The groups to return.

    Returns:
        The labels [batch, size] of each output.
    """
    first = next(w.elements for units in cell for w in units.weights if w.source == INPUT)
    source, kept = shared_source(state, x.factors, x.shape, first.shape, _SPEC)
    if x.shape[0] == 1 < x.shape[1]:
        source = map_via(source, lambda v: state.builder.via("Batch", (), (v,)))
    starts = {name: _start(state, value) for name, value in initial.items()}
    depth = max([1 + state.depth(source), *(state.depth(s) for s in starts.values())])
    nodes = {units.name: _nodes(state, units, depth) for units in cell}
    parameters: dict[str, np.ndarray] = {}
    for units in cell:
        for weight in units.weights:
            _weigh(state, nodes, parameters, (source, x.shape, kept), units.name, weight)
        for operand, feed in enumerate(units.feeds):
            _link(state, nodes, units.name, feed, operand)
    for name, labels in starts.items():
        _enter(state, nodes[name], labels, 1 in initial[name].copy_axes)
    if counted is not None:
        for name in outputs:
            state.links(nodes[name], np.broadcast_to(counted.reshape(-1)[:1], nodes[name].shape), LinkRole.LENGTH)
    if any(_rows_differ(v) for v in (*initial.values(), lengths)):
        kept = [state.ordered(factor) for factor in kept]
    beside = [compress(align(f, _SPEC.x, _SPEC.out)) for f in kept]
    return [independent(state, [to_labels(nodes[name])[None], *beside]) for name in outputs]


def _rows_differ(value: Value | None) -> bool:
    """Whether a value [batch, ...] may differ between rows of the batch."""
    if value is None or value.shape[0] == 1 or 0 in value.copy_axes:
        return False
    return value.data is None or varies(value.data, 0)


def _nodes(state: State, units: Units, depth: int) -> np.ndarray:
    site = state.site
    return state.builder.nodes(units.kind, units.size, depth, site.node, f"{site.value}.{units.name}", site.scope)


def _weigh(
    state: State,
    nodes: Mapping[str, np.ndarray],
    parameters: dict[str, np.ndarray],
    source: tuple[np.ndarray, tuple[int, ...], list[np.ndarray]],
    name: str,
    weight: Weight,
) -> None:
    """Add the edges of a weight onto the group `name`."""
    dst, elements = nodes[name], weight.elements
    if weight.source == INPUT:
        emit(state, *source, elements, _SPEC, weight.role, dst[None])
        return
    if len(elements.shape) == 2:
        src = nodes[weight.source]
        state.edges(
            dst[None], src[None], np.zeros((1, 1), np.int32), elements.reshape(1, *elements.shape, 1), weight.role
        )
        return
    if weight.source in nodes:
        src = nodes[weight.source][:, None]
    else:
        if weight.source not in parameters:
            parameters[weight.source] = state.nodes(NodeKind.PARAM, 1, 0)
        src = np.broadcast_to(parameters[weight.source], (len(dst), 1))
    state.edges(dst[:, None], src, np.zeros((1, 1), np.int32), elements.reshape(len(dst), 1, 1, 1), weight.role)


def _link(state: State, nodes: Mapping[str, np.ndarray], name: str, feed: Feed, operand: int) -> None:
    via = 0
    for op, attributes, function in feed.steps:
        via = state.step((via,), function, op, attributes)
    dst = nodes[name]
    state.links(dst, to_labels(nodes[feed.source], via), feed.role, np.full(len(dst), operand))


def _start(state: State, value: Value) -> np.ndarray:
    """The labels [1, size] of an initial state [batch, size]; labels that vary over the batch are joined."""
    labels = value.factors[0] if len(value.factors) == 1 else join(state, value.factors, LinkRole.PAIR)
    return shared_neuron(state, labels, (0,)) if labels.shape[0] > 1 else labels


def _enter(state: State, nodes: np.ndarray, labels: np.ndarray, copies: bool) -> None:
    """Link the initial state to the carried one; units that read different positions of one node get slots."""
    labels = np.broadcast_to(labels.reshape(-1), nodes.shape)
    slot = None if copies or unrepeated(labels) else occurrence(labels)[:, None]
    state.links(nodes, labels, LinkRole.INITIAL, slot=slot)
