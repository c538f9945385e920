"""Weight matching: the order of a network's neurons in which its parameters are closest to those of another network.

One set of interchangeable positions after the other is put into the best order for the present order of all others, a
linear assignment problem, until none changes (Ainsworth, Hayase, Srinivasa 2023, algorithm 1). What is inside positions
(the features of heads) is solved for every pair of positions before the positions themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..ir.graph import ParameterGraph
from ..symmetry import Automorphism, Interchangeable, symmetries
from ..symmetry.automorphism import compose_all
from .activations import Correlations
from .similarity import Positions, Values, inner_product, similarity

__all__ = ["Matching", "match"]

_SWEEPS = 50
_CLOSE = 0.01
"""Squared distance, relative to the size of the networks, below which no other order is tried."""

_TIE = 1e-6
"""The most that parameters add to correlations, which are otherwise equal."""

Progress = Callable[[str, int, int], None]
"""Called with what is done, how much of it is done, and how much there is."""

Scorer = Callable[[Positions], np.ndarray]
"""The value of each position of the second network at each one of the first, float64 [positions, positions]."""


@dataclass(frozen=True, slots=True)
class Matching:
    """An order of a network's neurons.

    Attributes:
        symmetry: The symmetry that puts them into this order.
        values: The parameters in this order.
        product: The inner product with the parameters of the other network, which is as large as possible.
    """

    symmetry: Automorphism
    values: Values
    product: float


def match(
    graph: ParameterGraph,
    a: Values,
    b: Values,
    starts: int = 4,
    rng: np.random.Generator | None = None,
    on_progress: Progress = lambda what, done, total: None,
    by: Correlations | None = None,
) -> Matching:
    """Find the order of the neurons of a network in which its parameters are closest to another network's.

    Args:
        graph: The graph of both networks.
        a: Parameters of the reference, by name.
        b: Parameters of the network that is put in order.
        starts: How many orders of the layers are tried; 0 to improve the present order.
        rng: Source of randomness for the order in which layers are solved.
        on_progress: Called with what is done.
        by: How alike activations are. Positions that have some are put in order by them, once (not if `starts` is 0);
            the parameters then say the order of the others.

    Returns:
        The best order that was found.
    """
    rng = rng or np.random.default_rng(0)
    groups = symmetries(graph).positions
    first = Matching(compose_all(graph, []), b, inner_product(graph, a, b))
    if by is not None:
        if starts:
            first = _matched_by_activations(graph, groups, a, first, by)
        groups = [g for g in groups if not by.covers(g)]
    if not starts or not groups:
        return _descended(graph, groups, a, first)
    best: Matching | None = None
    for number in range(starts):
        on_progress("matching", number, starts)
        order = list(range(len(groups)))
        if number == 1:
            order.reverse()
        elif number:
            order = rng.permutation(len(groups)).tolist()
        ordered = [groups[i] for i in order]
        made = _descended(graph, ordered, a, _started(graph, ordered, a, first))
        if best is None or made.product > best.product:
            best = made
        if _are_close(graph, a, best):
            break
    assert best is not None
    return best


def _matched_by_activations(
    graph: ParameterGraph, groups: Sequence[Interchangeable], a: Values, state: Matching, by: Correlations
) -> Matching:
    """The positions that have activations in their best order."""
    score = _with_ties(by, _by_parameters(a, state.values, _known(graph, groups)))
    # Activations are those of neurons in their first order, which no group but their own changes.
    return _applied(state, [_best(group, score) for group in groups if by.covers(group)], a)


def _known(graph: ParameterGraph, groups: Sequence[Interchangeable]) -> np.ndarray:
    """The nodes that are in one order in both networks while that of these groups is not known, bool [num_nodes]."""
    known = np.ones(graph.num_nodes, dtype=bool)
    for group in groups:
        known[group.nodes] = False
    return known


def _by_parameters(a: Values, b: Values, known: np.ndarray | None) -> Scorer:
    return lambda places: similarity(places, a, b, known)


def _with_ties(by: Correlations, others: Scorer) -> Scorer:
    """Correlations; where they are equal, as of neurons that never change, others decide."""

    def scores(places: Positions) -> np.ndarray:
        more = others(places)
        return by.scores(places) + _TIE * more / max(np.abs(more).max(initial=0), np.finfo(float).tiny)

    return scores


def _started(graph: ParameterGraph, groups: Sequence[Interchangeable], a: Values, state: Matching) -> Matching:
    """Each set of positions in its best order by the parameters whose order is known by then."""
    known = _known(graph, groups)
    for group in groups:
        state = _applied(state, [_best(group, _by_parameters(a, state.values, known))], a)
        known[group.nodes] = True
    return state


def _descended(graph: ParameterGraph, groups: Sequence[Interchangeable], a: Values, state: Matching) -> Matching:
    """Improve one set of positions after the other until none gets better."""
    for _ in range(_SWEEPS):
        before = state.product
        for group in groups:
            made = _applied(state, [_best(group, _by_parameters(a, state.values, None))], a)
            if made.product > state.product:
                state = made
        if not state.product > before + 1e-9 * abs(before):
            break
    return state


def _applied(state: Matching, more: Sequence[Automorphism], a: Values) -> Matching:
    """The matching followed by further symmetries."""
    values, symmetry, product = state.values, state.symmetry, state.product
    for each in more:
        changed = each.apply(values)
        product += sum(_inner(a[n], v) - _inner(a[n], values[n]) for n, v in changed.items())
        values = {**values, **changed}
        symmetry = each @ symmetry
    return Matching(symmetry, values, product)


def _inner(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.vdot(x.astype(np.float64), y.astype(np.float64)))


@dataclass(frozen=True, eq=False)
class _Level:
    """Interchangeable positions of all outer positions together.

    own: the positions without what is inside them. inner: the levels inside, each with `width` positions per position
    of this level, in the same order.
    """

    items: np.ndarray
    own: Positions
    inner: tuple[tuple[_Level, int], ...]


def _level(graph: ParameterGraph, items: np.ndarray, templates: Sequence[Interchangeable], frame: np.ndarray) -> _Level:
    """A level with the levels inside, of which the first position has these."""
    row = {item: r for r, item in enumerate(items[:, 0].tolist())}
    inner, used = [], np.zeros(len(items), dtype=bool)
    for each in templates:
        rows = np.array([[row[i] for i in column] for column in each.items.tolist()])
        merged = items[rows].swapaxes(1, 2).reshape(len(rows), -1)
        inner.append((_level(graph, merged, each.inside[0] if each.inside else (), frame), each.degree))
        used[rows] = True
    skipped = np.zeros(graph.num_nodes, dtype=bool)
    inside = items[used]
    skipped[inside[inside < graph.num_nodes]] = True
    return _Level(items, Positions(graph, items[~used], frame, skipped), tuple(inner))


def _best(group: Interchangeable, score: Scorer) -> Automorphism:
    """The best symmetry of some positions and of all that is inside them."""
    level = _level(group.graph, group.items, group.inside[0] if group.inside else (), group.items)
    scores, solved = _scores(level, score)
    order = _assigned(scores)
    return compose_all(group.graph, _symmetries(group.graph, level, order, np.argsort(order), solved))


_Solved = list[tuple[dict[tuple[int, int], np.ndarray], Any]]
"""By inner level: the order inside for each pair of positions, and the same for the levels inside it."""


def _scores(level: _Level, score: Scorer) -> tuple[np.ndarray, _Solved]:
    """The value of each position of the second network at each position, and the best order inside it there."""
    scores = score(level.own)
    solved: _Solved = []
    for inner, width in level.inner:
        finer, deeper = _scores(inner, score)
        blocks = finer.reshape(len(scores), width, len(scores), width).swapaxes(1, 2)
        orders = {(i, j): _assigned(blocks[i, j]) for i, j in np.ndindex(scores.shape)}
        for (i, j), order in orders.items():
            scores[i, j] += blocks[i, j][np.arange(width), order].sum()
        solved.append((orders, deeper))
    return scores, solved


def _assigned(scores: np.ndarray) -> np.ndarray:
    from scipy.optimize import linear_sum_assignment

    return np.asarray(linear_sum_assignment(scores, maximize=True)[1])


def _symmetries(
    graph: ParameterGraph, level: _Level, order: np.ndarray, target: np.ndarray, solved: _Solved
) -> Iterator[Automorphism]:
    """The symmetries whose product puts positions in order, and what is inside each: the last one is applied first.

    Groups inside one position may move the same nodes, one their rows and one their columns, so each has its own.
    order: what comes to each place of this level. target: where each position of it ends after all outer levels.
    """
    yield _moved(graph, level.items, order)
    for (inner, width), (orders, deeper) in zip(level.inner, solved, strict=True):
        pairs = list(enumerate(target.tolist()))
        places = np.concatenate([j * width + orders[i, j] for j, i in pairs])
        ends = np.empty_like(places)
        ends[places] = np.concatenate([i * width + np.arange(width) for _, i in pairs])
        yield from _symmetries(graph, inner, places, ends, deeper)


def _moved(graph: ParameterGraph, items: np.ndarray, order: np.ndarray) -> Automorphism:
    """The symmetry after which the items at a place are those that were at place order[...], column by column."""
    moved = np.flatnonzero(order != np.arange(len(order)))
    pairs = (items[:, x].reshape(-1).tolist() for x in (order[moved], moved))
    return replace(Automorphism.of_items(dict(zip(*pairs, strict=True)), graph.num_nodes), graph=graph)


def _are_close(graph: ParameterGraph, a: Values, found: Matching) -> bool:
    """Whether the networks are so close that no other order can be meant."""
    sizes = [inner_product(graph, v, v) for v in (a, found.values)]
    return sum(sizes) - 2 * found.product <= _CLOSE * min(sizes)
