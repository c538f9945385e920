"""Negative controls: changes of parameters that are not symmetries, so that outputs should change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ..ir import EdgeBlock, NodeKind, ParameterGraph
from ..symmetry import Automorphism, Symmetries, swap, symmetries
from ..symmetry import apply as permuted

__all__ = ["controls", "one_sided", "swapped"]

_DRAWS = 60


def controls(
    graph: ParameterGraph,
    values: Mapping[str, np.ndarray],
    rng: np.random.Generator,
    each: int = 3,
    claims: Symmetries | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Yield negative controls of three forms.

    * One-sided: only one of the tensors that a random claimed symmetry changes, or some entries of the only one.
    * Across heads: the weights of two nodes are swapped that a symmetry swaps only together with others.
    * Across orbits: the weights of two nodes of one group are swapped that no symmetry swaps.

    Args:
        graph: The graph.
        values: Current values of the parameters.
        rng: Random generator.
        each: Largest number of controls per form.
        claims: Claimed symmetries; by default permutations only.

    Yields:
        The changed tensors of a control, by name.
    """
    claims = claims or symmetries(graph)
    for other in claims.others:
        for _ in range(each if other.dimension else 0):
            changes = one_sided(values, other.sample(rng).apply(values), rng)
            if changes:
                yield changes
    if "permutation" not in claims.kinds:
        return
    permutations = symmetries(graph)
    for _ in range(each if permutations.generators else 0):
        changes = one_sided(values, permutations.sample(rng).apply(values), rng)
        if changes:
            yield changes
    left = {True: each, False: each}
    groups = [g for g in graph.groups if g.size > 1 and g.kind in (NodeKind.NEURON, NodeKind.INPUT)]
    for _ in range(_DRAWS if groups else 0):
        group = groups[int(rng.integers(len(groups)))]
        a, b = (group.start + int(i) for i in rng.choice(group.size, 2, replace=False))
        found = swap(graph, a, b)
        alike = isinstance(found, Automorphism)
        if not left[alike]:
            continue
        changes = _different(values, swapped(graph, values, a, b))
        if not changes or (isinstance(found, Automorphism) and _same(changes, permuted(graph, found, values), values)):
            continue
        left[alike] -= 1
        yield changes


def one_sided(
    values: Mapping[str, np.ndarray], changes: Mapping[str, np.ndarray], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """One of several changed tensors, or some of the changed entries of a single one; empty if neither is possible."""
    changed = sorted(_different(values, changes))
    if not changed:
        return {}
    name = changed[int(rng.integers(len(changed)))]
    return {name: changes[name]} if len(changed) > 1 else _some(name, values[name], changes[name], rng)


def _some(name: str, old: np.ndarray, new: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """About half of the entries that differ: at least one, and not all."""
    places = rng.permutation(np.flatnonzero(old != new))
    if len(places) < 2:
        return {}
    mixed = np.array(old, copy=True, order="C")
    chosen = places[: len(places) // 2]
    mixed.reshape(-1)[chosen] = new.reshape(-1)[chosen]
    return {name: mixed}


def swapped(graph: ParameterGraph, values: Mapping[str, np.ndarray], a: int, b: int) -> dict[str, np.ndarray]:
    """The tensors with the weights of two nodes swapped, incoming and outgoing, and nothing else."""
    new: dict[str, np.ndarray] = {}
    for block in graph.edges:
        if block.constant or block.tied:
            continue
        for ends, side in ((block.dst, 1), (block.src, 2)):
            here, there = np.argwhere(ends == a), np.argwhere(ends == b)
            if len(here) and len(here) == len(there):
                name = block.view.name
                tensor = new.setdefault(name, np.array(values[name], copy=True, order="C"))
                _exchange(block, tensor, side, here, there)
    return new


def _exchange(block: EdgeBlock, tensor: np.ndarray, side: int, here: np.ndarray, there: np.ndarray) -> None:
    for (b, i), (c, j) in zip(here.tolist(), there.tolist(), strict=True):
        first = (b, i) if side == 1 else (b, slice(None), i)
        second = (c, j) if side == 1 else (c, slice(None), j)
        one, two = (block.view.read(tensor, at).copy() for at in (first, second))
        block.view.write(tensor, two, first)
        block.view.write(tensor, one, second)


def _different(values: Mapping[str, np.ndarray], changes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {n: v for n, v in changes.items() if not np.array_equal(v, values[n])}


def _same(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]) -> bool:
    b = _different(values, b)
    return a.keys() == b.keys() and all(np.array_equal(a[n], b[n]) for n in a)
