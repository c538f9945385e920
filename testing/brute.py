"""The second oracle: exhaustive search for the symmetries of a small network, compared with its graph's claims.

`brute_force` swaps equal-shaped slices of the stored tensors in all combinations and runs the network for each. A swap
that leaves the outputs unchanged must be claimed by the graph or be of a kind in `KNOWN`; a claim must leave the
outputs unchanged.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from typing import Any

import numpy as np
import onnx

from ..frontend import compile
from ..ir import ParameterGraph
from ..symmetry import apply, describe, isomorphic, symmetries
from .builders import with_values
from .inputs import draw_inputs, infer_model, input_specs
from .precision import eps_of, float_types, tolerance_of
from .runtime import Arrays, Network, disagreement
from .slices import SlicedAxis, connected, keys, pairs, sliced_axes
from .stored import StoredNetwork, hoisted
from .trial import perturbed, perturbed_values

__all__ = ["KNOWN", "BruteForce", "Finding", "brute_force"]

KNOWN = {
    "sum": "the outputs depend only on a sum of the swapped values (two biases in a row, a mean after a bias), or not "
    "on them at all: a continuous symmetry, not a permutation of neurons",
    "product": "the outputs depend only on a product of the swapped values (two scales in a row): likewise",
}
"""Kinds of swaps that preserve the function but are never claimed, with the reason."""

_DRAWS = 8
_TRIES = 8
_SMALLEST = 1e-6
_AMPLIFIED = 30
_APART = 10
_ROUNDING = 3e-7
_BETWEEN = (0.31, 0.74)
_GENERATORS = 200
_CLAIM_DRAWS = 3
_CONFIRMING_DRAWS = 64
_JOINED = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """A swap of slices that preserves the function.

    Attributes:
        axes: The axes whose slices are swapped together.
        pair: Indices of the two slices.
        kind: "claimed", "missed" or a key of `KNOWN`.
    """

    axes: tuple[SlicedAxis, ...]
    pair: tuple[int, int]
    kind: str


@dataclass(frozen=True, slots=True)
class BruteForce:
    """The report of `brute_force`.

    Attributes:
        false: Claims that change an output when the stored tensors are permuted, with the error.
        found: Swaps that preserve the function.
        claims: Number of claimed generators that were run.
        runs: Number of runs of the network.
        complete: Whether all combinations were tried.
        skipped: What was not tried or could not be run, and why.
    """

    false: tuple[str, ...]
    found: tuple[Finding, ...]
    claims: int
    runs: int
    complete: bool
    skipped: tuple[str, ...] = ()

    @property
    def missed(self) -> tuple[Finding, ...]:
        """Swaps that preserve the function, are not claimed, and are not of a kind in `KNOWN`."""
        return tuple(f for f in self.found if f.kind == "missed")

    def __str__(self) -> str:
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(Counter(f.kind for f in self.found).items()))
        lines = [
            f"{self.claims} claims run, {len(self.false)} false; swaps that preserve the outputs: {kinds or 'none'}"
        ]
        return "\n".join([*lines, *self.false, *self.misses(), *self.skipped])

    def misses(self) -> list[str]:
        """Describe the missed swaps, one line per set of axes."""
        by: dict[tuple[SlicedAxis, ...], list[str]] = {}
        for found in self.missed:
            by.setdefault(found.axes, []).append("{} <-> {}".format(*found.pair))
        return [f"missed: {', '.join(swaps)} of {', '.join(map(str, some))}" for some, swaps in by.items()]


def brute_force(
    model: onnx.ModelProto | str | os.PathLike[str], *, seed: int = 0, max_runs: int = 20_000, **options: Any
) -> BruteForce:
    """Search the permutation symmetries of a small network exhaustively, and compare them with its graph's claims.

    A swap exchanges slices i and j of an axis, possibly reshaped to [outer, n, inner]; tensors of equal shape, stacked,
    count as an axis too. All combinations of axes with equally many slices are tried, with perturbed, distinct values
    and several inputs; before a swap counts as missed, with many more. Quantised tensors, attributes and tensors in
    bodies are not swapped.

    Args:
        model: The network, or the path of its file.
        seed: Seed of values and inputs.
        max_runs: Largest number of runs of the network.
        **options: Options of `gmnc.compile`, whose errors are raised.

    Returns:
        The report.
    """
    source = hoisted(model if isinstance(model, onnx.ModelProto) else onnx.load(os.fspath(model)))
    graph = compile(source, **options)
    network = StoredNetwork(source, _fixed(graph))
    if not network.tensors:
        return BruteForce((), (), 0, 0, True, ("the file stores no float tensor to permute",))
    rng = np.random.default_rng(seed)
    inferred = infer_model(source, options.get("dims"), options.get("inputs"), options.get("registry"))
    specs, types = input_specs(inferred), float_types(inferred)
    try:
        tolerance = tolerance_of(graph, max(types.values(), key=eps_of, default="float32"))
        search = _Search(network, tolerance, lambda: draw_inputs(specs, rng), rng, max_runs)
    except Exception as error:  # whatever ONNX Runtime raises
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return BruteForce((), (), 0, 0, False, (f"the network: {reason}",))
    if not search.base[0] or not search.reacts():
        silent = (*search.skipped, "no output reacts to the stored tensors")
        return BruteForce((), (), 0, search.runs, False, silent)
    claims = symmetries(graph).generators[:_GENERATORS]
    false = tuple(w for g in claims if (w := search.failure(graph, g)))
    classifier = _Classifier(source, search, options, graph)
    swaps = [classifier.finding(some, pair) for some, pair in search.swaps()]
    found = [f for f in swaps if f.kind != "missed" or search.confirmed(f.axes, f.pair)]
    return BruteForce(false, tuple(found), len(claims), search.runs, search.complete, tuple(search.skipped))


def _largest(array: np.ndarray) -> float:
    """The largest magnitude; infinite for arrays that are not numeric."""
    return float(np.abs(array).max(initial=0)) if array.dtype.kind in "fiu" else math.inf


class _Search:
    """A network with several draws of values (float64 [elements]) and inputs, and the outputs of each."""

    def __init__(
        self,
        network: StoredNetwork,
        tolerance: float,
        feed: Callable[[], dict[str, np.ndarray]],
        rng: np.random.Generator,
        max_runs: int,
    ) -> None:
        self.network, self.feed, self.rng, self.max_runs = network, feed, rng, max_runs
        self.runs, self.complete = 0, True
        self.skipped: list[str] = []
        self.values: list[np.ndarray] = []
        self.feeds: list[dict[str, np.ndarray]] = []
        self.base: list[Arrays] = []
        for _ in range(_DRAWS):
            self._draw()
        again = self._run(self.values[0], 0)
        steady = {n for n, v in again.items() if disagreement({"": v}, {"": self.base[0][n]}) == 0}
        # An output that is zero up to rounding, such as the mean of centred values, shows nothing.
        informative = {n for n in steady if not all(_largest(b[n]) <= _SMALLEST for b in self.base)}
        self.skipped += [f"output {n!r}: it is zero up to rounding" for n in sorted(steady - informative)]
        self.base = [{n: v for n, v in b.items() if n in informative} for b in self.base]
        self.tolerance = max(tolerance, *(self._amplified(i) for i in range(_DRAWS)))

    def _amplified(self, number: int) -> float:
        """What rounding of the values may change in the outputs of a draw."""
        values = self.values[number]
        return _AMPLIFIED * self._error(number, values * (1 + _ROUNDING * self.rng.standard_normal(values.shape)))

    def _draw(self) -> None:
        """Add values, inputs and their outputs: if possible such that an output is not zero, which shows nothing."""
        outputs: Arrays = {}
        tries = 0
        while tries < _TRIES and all(_largest(v) <= _SMALLEST for v in outputs.values()):
            values, inputs = self._drawn(), self.feed()
            outputs = self.network.run(values, inputs)
            tries += 1
        self.runs += 1
        self.values.append(values)
        self.feeds.append(inputs)
        self.base.append(outputs)

    def _drawn(self) -> np.ndarray:
        """The stored values, shuffled within each tensor so that signs move too, and perturbed."""
        new = self.network.own.copy()
        for t in self.network.tensors:
            values = self.rng.permutation(new[t.indices].reshape(-1)).astype(t.dtype)
            new[t.indices.reshape(-1)] = perturbed(values, self.rng)
        return new

    def reacts(self) -> bool:
        """Whether an output depends on the stored tensors."""
        return self._error(0, self.values[1]) > _APART * self.tolerance

    def failure(self, graph: ParameterGraph, generator: Any) -> str:
        """Describe how a claim fails when it permutes the stored tensors; "" if it holds."""
        worst = max(self._moved_error(graph, generator, i) for i in range(_CLAIM_DRAWS))
        if worst < self.tolerance:
            return ""
        return f"a claimed symmetry changes the output by {worst:.3g}: {describe(graph, generator)}"

    def _moved_error(self, graph: ParameterGraph, generator: Any, number: int) -> float:
        values = self.values[number]
        mine = {t.name: values[t.indices].astype(t.dtype) for t in self.network.tensors}
        on_edges = {b.view.name for b in graph.edges if not b.constant}
        own = {n: graph.parameters[n].load() for n in sorted(on_edges - mine.keys())}
        others = perturbed_values(graph, own, self.rng)
        named = {**others, **mine}
        moved = apply(graph, generator, named)
        if moved.keys() <= mine.keys():
            new = values.copy()
            for t in self.network.tensors:
                new[t.indices] = moved.get(t.name, mine[t.name])
            return self._error(number, new)
        # Quantised parameters and attributes have to be written into the model.
        written, feeds = Network(graph), [self.feeds[number]]
        [before], [after] = written.run(named, feeds), written.run({**named, **moved}, feeds)
        some, others = ({n: v for n, v in found.items() if n in self.base[0]} for found in (before, after))
        return disagreement(some, others)

    def swaps(self) -> Iterator[tuple[tuple[SlicedAxis, ...], tuple[int, int]]]:
        """Minimal sets of axes whose slices i and j can be exchanged together.

        Swaps of one pair commute, so the sets that preserve the function form a vector space over GF(2): once one is
        found, one of its axes (the pivot) need not be tried with that pair again. If all slices of plain axes can be
        permuted, so can blocks of them: those are not tried.
        """
        free: set[frozenset[tuple[str, int]]] = set()
        for n, every in sorted(sliced_axes(self.network.tensors).items(), reverse=True):
            kept: dict[tuple[SlicedAxis, ...], list[tuple[int, int]]] = {}
            for pair in pairs(n):
                left = list(every)
                for some in self._sets(list(kept), left):
                    if self.runs >= self.max_runs:
                        self.skipped.append(
                            f"not every combination was tried: the limit of {self.max_runs} runs is reached"
                        )
                        self.complete = False
                        return
                    if keys(some) in free:
                        left.remove(some[0])
                    elif self._preserves(some, pair):
                        left.remove(some[0])
                        kept.setdefault(some, []).append(pair)
                        yield some, pair
            free.update(
                keys(some) for some, found in kept.items() if not any(s.rank for s in some) and connected(n, found)
            )

    def silent(self, elements: np.ndarray) -> bool:
        """Whether no output depends on these elements (bool [elements])."""
        noise = np.where(elements, 1 + 0.3 * self.rng.standard_normal(len(elements)), 1)
        return all(self._error(i, values * noise) < self.tolerance for i, values in enumerate(self.values))

    def confirmed(self, some: tuple[SlicedAxis, ...], pair: tuple[int, int]) -> bool:
        """Whether a swap preserves the outputs of many more draws: through steps such as Floor a few may agree."""
        names = self.base[0]
        for _ in range(_CONFIRMING_DRAWS):
            self._draw()
            last = len(self.values) - 1
            self.base[last] = {n: self.base[last][n] for n in names}
            differs = self._error(last, self.swapped(last, some, pair)) > max(self.tolerance, self._amplified(last))
            for drawn in (self.values, self.feeds, self.base):
                drawn.pop()
            if differs:
                return False
        return True

    def known(self, some: tuple[SlicedAxis, ...], pair: tuple[int, int]) -> str:
        """The key of `KNOWN` that explains why a swap preserves the function, or ""."""
        if all(self._error(i, self._blend(i, some, pair, t, False)) < self.tolerance for i, t in self._between()):
            return "sum"
        if all(self._error(i, self._blend(i, some, pair, t, True)) < self.tolerance for i, t in self._between()):
            return "product"
        return ""

    def swapped(self, number: int, some: Sequence[SlicedAxis], pair: tuple[int, int]) -> np.ndarray:
        """The values of a draw with slices i and j of these axes exchanged."""
        indices = np.arange(len(self.values[number]))
        for axis in some:
            here, there = axis.entries(pair[0]), axis.entries(pair[1])
            indices[here], indices[there] = indices[there], indices[here].copy()
        return self.values[number][indices]

    def _sets(self, first: list[tuple[SlicedAxis, ...]], every: list[SlicedAxis]) -> Iterator[tuple[SlicedAxis, ...]]:
        """Candidate sets: first those that worked for another pair, then all by size. `every` shrinks meanwhile."""
        sizes = (combinations(tuple(every), size) for size in range(1, len(every) + 1))
        yield from (some for some in chain(first, *sizes) if set(some) <= set(every))

    def _preserves(self, some: tuple[SlicedAxis, ...], pair: tuple[int, int]) -> bool:
        return all(self._error(i, self.swapped(i, some, pair)) < self.tolerance for i in range(len(self.values)))

    def _between(self) -> Iterator[tuple[int, float]]:
        return ((i, t) for i in range(3) for t in _BETWEEN)

    def _blend(
        self, number: int, some: tuple[SlicedAxis, ...], pair: tuple[int, int], t: float, geometric: bool
    ) -> np.ndarray:
        """Values between a draw and its swap: by linear interpolation, which keeps sums, or geometric, for products."""
        here, there = self.values[number], self.swapped(number, some, pair)
        if not geometric:
            return here + t * (there - here)
        return np.sign(here) * np.abs(here) ** (1 - t) * np.abs(there) ** t

    def _error(self, number: int, values: np.ndarray) -> float:
        new = self._run(values, number)
        return disagreement(self.base[number], {n: new[n] for n in self.base[number]})

    def _run(self, values: np.ndarray, number: int) -> Arrays:
        self.runs += 1
        return self.network.run(values, self.feeds[number])


class _Classifier:
    """Decides whether the graph claims a swap that preserves the function.

    It does if the graph of the network with swapped values is isomorphic to the original, values included: as all
    values are distinct, only an automorphism of the structure maps one to the other.
    """

    def __init__(
        self, source: onnx.ModelProto, search: _Search, options: dict[str, Any], graph: ParameterGraph
    ) -> None:
        self.source, self.search, self.options = source, search, options
        self.reference = self._graph(search.values[0])
        self.hidden = _without_edge(search.network, graph)
        self.known_swaps: dict[tuple[int, int, int], list[tuple[SlicedAxis, ...]]] = {}

    def finding(self, some: tuple[SlicedAxis, ...], pair: tuple[int, int]) -> Finding:
        """Classify a swap; one that is not claimed alone may be claimed together with swaps of a known kind."""
        if self._claimed(some, pair):
            return Finding(some, pair, "claimed")
        known_swaps = self.known_swaps.setdefault((some[0].n, *pair), [])
        kind = self.search.known(some, pair)
        if kind:
            known_swaps.append(some)
            return Finding(some, pair, kind)
        for size in range(1, len(known_swaps[:_JOINED]) + 1):
            for others in combinations(known_swaps[:_JOINED], size):
                if self._claimed((*some, *chain(*others)), pair):
                    return Finding(some, pair, "claimed")
        return Finding(some, pair, "missed")

    def _claimed(self, some: tuple[SlicedAxis, ...], pair: tuple[int, int]) -> bool:
        values = self.search.swapped(0, some, pair)
        if not isomorphic(self.reference, self._graph(values)):
            return False
        unseen = self.hidden & (values != self.search.values[0])
        return not unseen.any() or self.search.silent(unseen)

    def _graph(self, values: np.ndarray) -> ParameterGraph:
        tensors = {t.name: values[t.indices].astype(t.dtype) for t in self.search.network.tensors}
        return compile(with_values(self.source, **tensors), **self.options)


def _without_edge(network: StoredNetwork, graph: ParameterGraph) -> np.ndarray:
    """Whether an element is on no edge, so that the graph does not show its value."""
    hidden = np.ones(len(network.own), dtype=bool)
    start = {t.name: t.start for t in network.tensors}
    for block in graph.edges:
        if block.view.name in start:
            hidden[start[block.view.name] + block.view.elements().reshape(-1)] = False
    return hidden


def _fixed(graph: ParameterGraph) -> frozenset[str]:
    """Stored tensors that are literals of the program, constants or quantised."""
    numbers = {e.name for e in graph.account if e.where == "scalar literal"}
    return frozenset({*numbers, *graph.constants, *(n for n, p in graph.parameters.items() if p.storage is not None)})
