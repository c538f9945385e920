"""Symmetries that multiply instead of permuting: signs of odd functions' values, scales of homogeneous ones'.

A rescaling multiplies the value of each node by a factor of its own and its parameters so that every other value, the
outputs above all, stays what it was: `tanh(-x) = -tanh(x)`, `relu(c x) = c relu(x)` for c > 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..ir.arrays import distinct
from ..ir.errors import GmncError, GraphError
from ..ir.graph import EdgeBlock, ParameterGraph
from ..ir.printable import counted
from .automorphism import Automorphism
from .find import product as permuted
from .scaling_equations import Gain, ScalingEquations

__all__ = ["KINDS", "RESCALINGS", "Product", "Rescaling", "Rescalings", "checked_kinds", "product", "rescalings"]

RESCALINGS = ("sign", "scale")
"""Kinds of symmetries that multiply."""

_TERMS = ("numbers", "amounts")

KINDS = ("permutation", *RESCALINGS)
"""Kinds of symmetries."""


def checked_kinds(kinds: Sequence[str]) -> tuple[str, ...]:
    """The kinds, each once, in the order of `KINDS`; raises `GmncError` for one that is none, and for none at all."""
    unknown = [k for k in kinds if k not in KINDS]
    if unknown or not kinds or isinstance(kinds, str):
        given = kinds if isinstance(kinds, str) else ", ".join(unknown) or "none"
        raise GmncError(f"kinds of symmetries: {given} given, there are {', '.join(KINDS)}")
    return tuple(k for k in KINDS if k in kinds)


class Rescalings:
    """All sign or scale symmetries of a graph: `dimension` independent ones, which commute.

    They are 2^dimension sign changes, or a vector space of that dimension (of logarithms of scales, to base 2).
    """

    def __init__(self, graph: ParameterGraph, kind: str) -> None:
        self.graph, self.kind = graph, kind
        equations = ScalingEquations(graph, sign=kind == "sign")
        self._node = equations.signals.node
        self._gains = equations.gains
        moving = [np.zeros(0, dtype=np.int64), *(ids.reshape(-1) for g in equations.gains for (_, ids), _ in g)]
        self._solution = equations.system.solve().kept(np.concatenate(moving))

    @property
    def dimension(self) -> int:
        """How many of them generate all."""
        return self._solution.count

    @property
    def log10_size(self) -> float:
        """log10 of how many there are; infinite for scales, unless there are none."""
        return self.dimension * math.log10(2) if self.kind == "sign" else math.inf if self.dimension else 0.0

    @property
    def words(self) -> str:
        """How many there are, in words."""
        if self.kind == "sign":
            return f"2^{self.dimension:,} changes of sign" if self.dimension else "no changes of sign"
        return counted(self.dimension, "independent scale") if self.dimension else "no scales"

    @cached_property
    def homes(self) -> np.ndarray:
        """For each generator the first node whose value it changes, int64 [dimension]."""
        first = np.full(len(self._solution.root), len(self._node))
        np.minimum.at(first, self._solution.root[: len(self._node)], self._node)
        found = np.full(self.dimension, len(self._node))
        np.minimum.at(found, self._solution.free, first[self._solution.at])
        return found

    def generator(self, number: int, amount: float = 1.0) -> Rescaling:
        """One generator: a change of sign, or a scale of 2^amount."""
        return Rescaling(self, np.array([number]), np.array([amount]))

    def singly(self, rng: np.random.Generator) -> list[Rescaling]:
        """Every generator; scales by random powers of 2, as these round nothing when floats are multiplied by them."""
        return [self.generator(i, a) for i, a in enumerate(self._amounts(rng).tolist())]

    def sample(self, rng: np.random.Generator) -> Rescaling:
        """A random product: signs by the toss of a coin, scales between 1/4 and 4, see `singly`."""
        numbers = np.arange(self.dimension)
        if self.kind == "sign":
            numbers = numbers[rng.random(self.dimension) < 0.5]
        return Rescaling(self, numbers, self._amounts(rng)[numbers])

    def _amounts(self, rng: np.random.Generator) -> np.ndarray:
        """1 for signs; logarithms of scales, whole numbers that leave roots whole too and are small for powers."""
        power, whole = np.ones((2, self.dimension))
        if self.kind == "sign":
            return power
        np.maximum.at(power, self._solution.free, np.abs(self._solution.times))
        np.maximum.at(whole, self._solution.free, 1.0 + (self._solution.times % 1 != 0))
        most = np.where(power > 1, 1, 2)
        return rng.choice([-1, 1], self.dimension) * rng.integers(1, most + 1) * whole

    def changes(self, numbers: np.ndarray, amounts: np.ndarray) -> np.ndarray:
        """Change of every port and further unknown, float64: log2 of scales, or 1 where a sign changes."""
        every = np.zeros(self.dimension)
        np.add.at(every, numbers, amounts)
        return self._solution.values(every)

    def apply(self, changes: np.ndarray, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The parameter tensors after these changes, only those that change; values: name to tensor."""
        new: dict[str, np.ndarray] = {}
        for block, gain in zip(self.graph.edges, self._gains, strict=True):
            sides = {axis: self._total(gain, axis, changes) for axis in (1, 2)}
            if block.tied or not any(x.any() for x in sides.values()):
                continue
            name = block.view.name
            if name not in new:
                new[name] = np.array(values[name], copy=True, order="C")
            _multiply(block, new[name], self._factors(sides[1][:, :, None] + sides[2][:, None, :])[..., None])
        return {n: v for n, v in new.items() if not np.array_equal(v, values[n])}

    def touched(self, changes: np.ndarray) -> np.ndarray:
        """Nodes whose value changes, or what it becomes: int64 ids, ascending."""
        return distinct(self._node[changes[: len(self._node)] != 0])

    def _total(self, gain: Gain, axis: int, changes: np.ndarray) -> np.ndarray:
        """Change of the parameters by one of their ends, [B, N] or [B, K]."""
        terms = [times * changes[ids] for (times, ids), side in gain if side == axis]
        return np.asarray(sum(terms)) if terms else np.zeros((1, 1))

    def _factors(self, total: np.ndarray) -> np.ndarray:
        return 1 - 2 * (total % 2) if self.kind == "sign" else np.exp2(total)


@dataclass(frozen=True, slots=True)
class Rescaling:
    """One symmetry that multiplies: generators by number, int64 [n], with their amounts, float64 [n]."""

    of: Rescalings
    numbers: np.ndarray
    amounts: np.ndarray

    def apply(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The new parameter tensors, only those that change; values: name to tensor, for every parameter that does."""
        return self.of.apply(self.of.changes(self.numbers, self.amounts), values)

    def inverse(self) -> Rescaling:
        """The rescaling that divides by what this one multiplies by; a change of sign is its own."""
        return self if self.of.kind == "sign" else replace(self, amounts=-self.amounts)

    def __matmul__(self, other: Automorphism | Rescaling | Product) -> Rescaling | Product:
        """``a @ b`` does b and after it a; two of one kind are one again."""
        if isinstance(other, Rescaling) and other.of is self.of:
            return Rescaling(self.of, *(np.concatenate([getattr(x, n) for x in (other, self)]) for n in _TERMS))
        return Product((self,)) @ other

    def __rmatmul__(self, other: Automorphism) -> Product:
        return Product((other,)) @ self

    @property
    def nodes(self) -> np.ndarray:
        """Nodes whose value it multiplies, int64 ids, ascending."""
        return self.of.touched(self.of.changes(self.numbers, self.amounts))

    def describe(self) -> str:
        """What it multiplies, in words: one line per node group."""
        graph, nodes = self.of.graph, self.nodes
        groups, counts = np.unique(graph.group_of(nodes), return_counts=True)
        lines = []
        for number, count in zip(groups.tolist(), counts.tolist(), strict=True):
            group = graph.groups[number]
            here = (nodes[graph.group_of(nodes) == number][:3] - group.start).tolist()
            more = ", ..." if count > 3 else ""
            what = "change their sign" if self.of.kind == "sign" else "change their scale"
            lines.append(
                f"g{number} {group.kind} x{group.size} {group.value!r} (node {group.node!r}): "
                f"{count} {what}: {', '.join(map(str, here))}{more}"
            )
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Product:
    """Several symmetries, one after the other: the first is done first."""

    steps: tuple[Automorphism | Rescaling, ...]

    def inverse(self) -> Product:
        """The symmetry that undoes this one: the last step first."""
        return Product(tuple(step.inverse() for step in reversed(self.steps)))

    def __matmul__(self, other: Automorphism | Rescaling | Product) -> Product:
        """``a @ b`` does b and after it a."""
        if not isinstance(other, Automorphism | Rescaling | Product):
            return NotImplemented
        graphs = {id(g): g for step in (*_steps(other), *self.steps) if (g := _graph(step)) is not None}
        if len(graphs) > 1:
            raise GraphError("symmetries of two graphs have no product: take both from one call of `symmetries`")
        return Product((*_steps(other), *self.steps))

    def __rmatmul__(self, other: Automorphism) -> Product:
        return Product((other,)) @ self

    def apply(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The new parameter tensors, only those that change; values: name to tensor, for every parameter that does."""
        new: dict[str, np.ndarray] = {}
        for step in self.steps:
            new |= step.apply({**values, **new})
        return {n: v for n, v in new.items() if not np.array_equal(v, values[n])}


def _steps(symmetry: Automorphism | Rescaling | Product) -> tuple[Automorphism | Rescaling, ...]:
    return symmetry.steps if isinstance(symmetry, Product) else (symmetry,)


def _graph(step: Automorphism | Rescaling) -> ParameterGraph | None:
    return step.graph if isinstance(step, Automorphism) else step.of.graph


def product(graph: ParameterGraph, symmetries: Iterable[Automorphism | Rescaling]) -> Product:
    """Rescalings first, those of one kind at once; then the permutations, the last of them first."""
    moves: list[Automorphism] = []
    by_kind: dict[Rescalings, list[Rescaling]] = {}
    for each in symmetries:
        if isinstance(each, Automorphism):
            moves.append(each)
        else:
            by_kind.setdefault(each.of, []).append(each)
    steps: list[Automorphism | Rescaling] = [
        Rescaling(of, np.concatenate([r.numbers for r in some]), np.concatenate([r.amounts for r in some]))
        for of, some in by_kind.items()
    ]
    if moves:
        steps.append(permuted(graph, moves))
    return Product(tuple(steps))


def rescalings(graph: ParameterGraph, kind: str) -> Rescalings:
    """The rescalings of a graph of one kind, found on first use and kept with it."""
    return graph.derived(("rescalings", kind), lambda: Rescalings(graph, kind))


def _multiply(block: EdgeBlock, tensor: np.ndarray, factors: np.ndarray) -> None:
    """factors: broadcastable to [B, N, K, S]."""
    view = block.view
    view.write(tensor, (view.read(tensor) * factors).astype(tensor.dtype))
