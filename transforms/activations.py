"""How alike the activations of two networks' neurons are: the other way to say which neuron meets which.

Both networks run on the same inputs; neurons that respond alike belong together, whatever their parameters (Li et al.
2016; Ainsworth, Hayase, Srinivasa 2023, section 3.1). Which entries of a computed value are of which neuron is known
from lowering; neurons whose entries are mixed with the unknown order of others have no activations here.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..frontend import LabelledModel, label_values
from ..ir import ParameterGraph
from ..symmetry import Interchangeable
from .correspondence import Correspondence, first_difference
from .probing import computed_names, probed
from .proof import Feeds
from .similarity import Positions

__all__ = ["Activations", "Correlations", "correlations"]

_MOST = 1 << 26
"""The most numbers that are kept of one network."""
_SAMPLES = 1 << 14
"""The most numbers that are kept of one neuron."""
_DEAD = 1e-6
"""A neuron whose standard deviation, relative to its largest magnitude, is below this is constant up to rounding."""


@dataclass(frozen=True, eq=False)
class Activations:
    """What neurons of a network respond to some inputs, each with mean 0 and mean square 1.

    Attributes:
        tables: float32 [neurons, samples], one per computed value; rows of neurons that never change are 0.
        table: int64 [num_nodes], the table of each node; -1 if it has none.
        row: int64 [num_nodes], its row.
    """

    tables: Sequence[np.ndarray]
    table: np.ndarray
    row: np.ndarray

    def of(self, nodes: np.ndarray) -> np.ndarray | None:
        """The responses of some neurons, float32 [nodes, samples]; None if one has none, or they do not compare."""
        tables = self.table[nodes]
        if (tables < 0).any() or len({self.tables[t].shape[1] for t in tables.tolist()}) != 1:
            return None
        if (tables == tables[0]).all():
            return self.tables[tables[0]][self.row[nodes]]
        return np.stack([self.tables[t][r] for t, r in zip(tables.tolist(), self.row[nodes].tolist(), strict=True)])


@dataclass(frozen=True, eq=False)
class Correlations:
    """How alike the neurons of two networks respond to the same inputs.

    Attributes:
        a: Activations of the reference.
        b: Those of the network that is put in order, in its original order.
        signed: Whether neurons may have the other sign, so that only magnitudes of correlations count.
    """

    a: Activations
    b: Activations
    signed: bool = False

    def covers(self, group: Interchangeable) -> bool:
        """Whether there are activations of some of the positions."""
        nodes = group.nodes
        return bool(((self.a.table[nodes] >= 0) & (self.b.table[nodes] >= 0)).all(axis=1).any())

    def scores(self, places: Positions) -> np.ndarray:
        """The correlations between positions of two networks, summed over columns of neurons.

        Args:
            places: Positions that no symmetry has moved yet.

        Returns:
            float64 [positions, positions]: of one in the first network and one in the second network.
        """
        total = np.zeros((places.count, places.count))
        for column in places.items[places.items[:, 0] < places.graph.num_nodes]:
            x, y = self.a.of(column), self.b.of(column)
            if x is not None and y is not None and x.shape == y.shape:
                products = x @ y.T / x.shape[1]
                total += np.abs(products) if self.signed else products
        return total


def correlations(
    networks: Correspondence,
    groups: Sequence[Interchangeable],
    feeds: tuple[Feeds, Feeds],
    signed: bool = False,
    **options: Any,
) -> Correlations:
    """Run two networks and compare how their neurons respond.

    Args:
        networks: The networks.
        groups: The positions that are to be put in order.
        feeds: The same inputs for both, by the names of each: arrays by input name, for each run.
        signed: Whether neurons may have the other sign.
        **options: `dims` of `gmnc.compile`.

    Returns:
        The correlations, of no neuron if the values of the networks do not correspond.

    Raises:
        NotRunnable: ONNX Runtime does not run a network on the inputs.
    """
    usable, moved = _moved_once(networks.a, groups)
    graphs = (networks.a, networks.compiled or networks.b)
    models = [_labelled(g, f[0], options) for g, f in zip(graphs, feeds, strict=True)]
    numbers = (None, None if networks.nodes is None else np.argsort(networks.nodes))
    plans = [{} if m is None else _axes(m, n, moved) for m, n in zip(models, numbers, strict=True)]
    pairs = _paired(*plans)
    names = [[pair[i] for pair in pairs] for i in range(2)]
    both = [
        _recorded(g, {n: plan[n] for n in own}, given, usable)
        for g, plan, own, given in zip(graphs, plans, names, feeds, strict=True)
    ]
    return Correlations(both[0], both[1], signed)


def _moved_once(graph: ParameterGraph, groups: Sequence[Interchangeable]) -> tuple[np.ndarray, np.ndarray]:
    """Nodes that one group alone moves among its likes, and nodes that any group moves: bool [num_nodes] each.

    A node that stands for a pair of positions moves with both, so its place says nothing about one of them.
    """
    moved, twice = np.zeros((2, graph.num_nodes), dtype=bool)

    def visit(siblings: Sequence[Interchangeable]) -> None:
        seen = np.zeros(graph.num_nodes, dtype=bool)
        for group in siblings:
            nodes = group.nodes
            twice[nodes[seen[nodes]]] = True
            seen[nodes] = moved[nodes] = True
            for inside in group.inside:
                visit(inside)

    visit(groups)
    return moved & ~twice, moved


def _labelled(
    graph: ParameterGraph, feed: Mapping[str, np.ndarray], options: Mapping[str, Any]
) -> LabelledModel | None:
    """The nodes of the network's values at the sizes of the inputs; None if it has another graph at these."""
    shapes = {n: v.shape for n, v in feed.items()}
    made = label_values(graph.model, dims=options.get("dims"), inputs=shapes)
    return made if first_difference(graph, made.graph) is None else None


_Axes = dict[str, np.ndarray]
"""By value: node ids, int64 of the value's rank, size 1 along axes of samples."""


def _axes(model: LabelledModel, numbers: np.ndarray | None, moved: np.ndarray) -> _Axes:
    """The values of floats in which only one axis, or none, is in an order that differs between networks.

    numbers: int64 [num_nodes], the reference's number of each node, if they differ.
    """
    floats = {v.name for v, k in model.known.items() if "float" in k.dtype}
    found: _Axes = {}
    for name in computed_names(model.graph):
        factors = model.nodes.get(name, ()) if name in floats else ()
        if numbers is not None:
            factors = tuple(np.where(f < 0, f, numbers[f]) for f in factors)
        free = [f for f in factors if moved[f[f >= 0]].any()]
        if len(free) == 1:
            found[name] = free[0]
    return found


def _paired(a: _Axes, b: _Axes) -> list[tuple[str, str]]:
    """The values of two networks that hold the same neurons, by their order or else by name."""
    mine, theirs = _by_neurons(a), _by_neurons(b)
    pairs: list[tuple[str, str]] = []
    for key, names in mine.items():
        others = theirs.get(key, [])
        if len(names) == len(others):
            pairs += zip(names, others, strict=True)
        else:
            pairs += [(n, n) for n in names if n in others]
    place = {n: i for i, n in enumerate(a)}
    return sorted(pairs, key=lambda pair: place[pair[0]])


def _by_neurons(values: _Axes) -> dict[Hashable, list[str]]:
    """The names of values by the neurons that they hold, in order."""
    found: dict[Hashable, list[str]] = {}
    for name, nodes in values.items():
        found.setdefault((nodes.shape, nodes.astype(np.int64).tobytes()), []).append(name)
    return found


def _recorded(graph: ParameterGraph, values: _Axes, feeds: Feeds, usable: np.ndarray) -> Activations:
    """The responses of every node in the last value that holds the most entries of it."""
    table, row = np.full((2, graph.num_nodes), -1)
    entries = np.zeros(graph.num_nodes)
    kept: dict[int, np.ndarray] = {}
    most = max(1, min(_SAMPLES, _MOST // max(1, int(usable.sum()))))
    for number, (name, arrays) in enumerate(probed(graph, {}, list(values), feeds) if values else ()):
        nodes, own, size = _samples(values[name], arrays, usable, most)
        better = size >= entries[nodes]
        table[nodes[better]], row[nodes[better]] = number, np.flatnonzero(better)
        entries[nodes[better]] = size
        if better.any():
            kept[number] = _standardised(own)
        kept = {n: t for n, t in kept.items() if (table == n).any()}
    places = {n: i for i, n in enumerate(kept)}
    return Activations([*kept.values()], np.array([places.get(t, -1) for t in table.tolist()]), row)


def _samples(
    labels: np.ndarray, arrays: Sequence[np.ndarray], usable: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """The nodes of a value, int64 [n], some entries of each in all runs, float32 [n, samples], and how many it has."""
    nodes, count = np.unique(labels, return_counts=True)
    fits = all(_fits(labels.shape, a.shape) for a in arrays)
    wanted = (nodes >= 0) & usable[nodes]
    if not fits or not wanted.any():
        return np.zeros(0, np.int64), np.zeros((0, 0), np.float32), 0
    # Nodes that fill other numbers of entries differ otherwise, too; the most frequent number is kept.
    numbers, times = np.unique(count[wanted], return_counts=True)
    wanted &= count == numbers[times.argmax()]
    order = np.argsort(labels.reshape(-1), kind="stable")
    starts = np.searchsorted(labels.reshape(-1)[order], nodes[wanted])
    places = order[starts[:, None] + np.arange(numbers[times.argmax()])]
    axes = [a for a, n in enumerate(labels.shape) if n > 1]
    parts = [x.reshape(len(places), -1) for x in _rows(places, labels.shape, axes, arrays)]
    own = np.concatenate(parts, axis=1)
    size = own.shape[1]
    if size > most:
        # One seed, so that the same samples are kept of both networks.
        own = own[:, np.random.default_rng(0).permutation(size)[:most]]
    return nodes[wanted], own, size


def _fits(labels: tuple[int, ...], array: tuple[int, ...]) -> bool:
    return len(labels) == len(array) and all(n in (1, m) for n, m in zip(labels, array, strict=True))


def _rows(
    places: np.ndarray, shape: tuple[int, ...], axes: Sequence[int], arrays: Sequence[np.ndarray]
) -> Iterator[np.ndarray]:
    """For each run the entries at places of the labels, float32 [nodes, entries of a node, samples]."""
    for array in arrays:
        front = np.moveaxis(array, axes, range(len(axes)))
        flat = front.reshape(int(np.prod([shape[a] for a in axes], dtype=np.int64)), -1)
        yield np.asarray(flat, dtype=np.float32)[places]


def _standardised(x: np.ndarray) -> np.ndarray:
    """Rows with mean 0 and mean square 1; rows that are constant or not finite become 0."""
    x = np.where(np.isfinite(x).all(axis=1, keepdims=True), x, 0).astype(np.float64)
    size = np.abs(x).max(axis=1, keepdims=True, initial=0)
    x -= x.mean(axis=1, keepdims=True)
    spread = np.sqrt((x * x).mean(axis=1, keepdims=True))
    alive = spread > _DEAD * size
    return np.where(alive, x / np.where(alive, spread, 1), 0).astype(np.float32)
