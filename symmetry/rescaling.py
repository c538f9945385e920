"""Sign and scale symmetries: parameters are multiplied so that the outputs stay the same.

Odd functions let a hidden value change its sign, `tanh(-x) = -tanh(x)`; homogeneous ones let it be scaled,
`relu(c x) = c relu(x)` for c > 0. A rescaling multiplies each value by a factor and compensates in the parameters
around it. See `scaling_equations` for how they are found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..ir.arrays import distinct
from ..ir.graph import EdgeBlock, ParameterGraph
from ..ir.printable import counted
from .products import Factor
from .scaling_equations import Gain, ScalingEquations

__all__ = ["Rescaling", "Rescalings", "rescalings"]

_ARRAYS = ("numbers", "amounts")


class Rescalings:
    """All sign or all scale symmetries of a graph, a commutative group.

    Signs form GF(2)^dimension; the base-2 logarithms of scales form a real vector space of that dimension.

    Args:
        graph: The graph.
        kind: "sign" or "scale".

    Attributes:
        graph: The graph.
        kind: "sign" or "scale".
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
        """The number of independent rescalings, which generate all of them."""
        return self._solution.dimension

    @property
    def log10_size(self) -> float:
        """log10 of their number; infinite for scales, or 0 if there is none but the identity."""
        return self.dimension * math.log10(2) if self.kind == "sign" else math.inf if self.dimension else 0.0

    @property
    def summary(self) -> str:
        """Their number in one line."""
        if self.kind == "sign":
            return f"2^{self.dimension:,} changes of sign" if self.dimension else "no changes of sign"
        return counted(self.dimension, "independent scale") if self.dimension else "no scales"

    @cached_property
    def starts(self) -> tuple[np.ndarray, np.ndarray]:
        """The first node whose value each generator changes, and 1 for each, int64 [dimension] each."""
        first = np.full(len(self._solution.root), len(self._node))
        np.minimum.at(first, self._solution.root[: len(self._node)], self._node)
        found = np.full(self.dimension, len(self._node))
        np.minimum.at(found, self._solution.free, first[self._solution.at])
        return found, np.ones(self.dimension, dtype=np.int64)

    def generator(self, number: int, amount: float = 1.0) -> Rescaling:
        """One generator.

        Args:
            number: Its index, below `dimension`.
            amount: For scales, log2 of the factor; 1 for signs.

        Returns:
            The rescaling.
        """
        return Rescaling(self, np.array([number]), np.array([amount]))

    def generators(self, rng: np.random.Generator) -> list[Rescaling]:
        """Every generator once.

        Args:
            rng: Source of randomness for the amounts of scales. Factors are powers of two, which multiply floats
                without rounding.

        Returns:
            `dimension` rescalings.
        """
        return [self.generator(i, a) for i, a in enumerate(self._amounts(rng).tolist())]

    def sample(self, rng: np.random.Generator) -> Rescaling:
        """A random product of generators.

        Args:
            rng: Source of randomness.

        Returns:
            Each sign flips with probability 1/2; each scale is a power of two, usually from 1/4 to 4.
        """
        numbers = np.arange(self.dimension)
        if self.kind == "sign":
            numbers = numbers[rng.random(self.dimension) < 0.5]
        return Rescaling(self, numbers, self._amounts(rng)[numbers])

    def _amounts(self, rng: np.random.Generator) -> np.ndarray:
        """Random amounts, float64 [dimension]: 1 for signs, else logarithms of scales.

        They are whole numbers, even where a square root halves them, and small where a power multiplies them.
        """
        power, whole = np.ones((2, self.dimension))
        if self.kind == "sign":
            return power
        np.maximum.at(power, self._solution.free, np.abs(self._solution.coefficient))
        np.maximum.at(whole, self._solution.free, 1.0 + (self._solution.coefficient % 1 != 0))
        most = np.where(power > 1, 1, 2)
        return rng.choice([-1, 1], self.dimension) * rng.integers(1, most + 1) * whole

    def changes(self, numbers: np.ndarray, amounts: np.ndarray) -> np.ndarray:
        """The change of every signal and further unknown of the equations under a product of generators.

        Args:
            numbers: int64 [n], indices of generators.
            amounts: float64 [n], their amounts.

        Returns:
            float64 [unknowns]: log2 of the factor; for signs, 1 where the sign changes.
        """
        every = np.zeros(self.dimension)
        np.add.at(every, numbers, amounts)
        return self._solution.values(every)

    def apply(self, changes: np.ndarray, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Multiply parameter tensors.

        Args:
            changes: As returned by `changes`.
            values: Parameter name to tensor, shaped as in `graph.parameters`; every parameter that changes.

        Returns:
            New tensors by name, only of parameters that changed.
        """
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

    def exponents(self, changes: np.ndarray) -> list[np.ndarray]:
        """The change of the parameters of every edge block.

        Args:
            changes: As returned by `changes`.

        Returns:
            float64, broadcastable to [B, N, K], by block: log2 of the factor; for signs, odd where the sign changes.
        """
        sides = ((self._total(gain, axis, changes) for axis in (1, 2)) for gain in self._gains)
        return [targets[:, :, None] + sources[:, None, :] for targets, sources in sides]

    def pulled_back(self, weights: Sequence[np.ndarray | None]) -> np.ndarray:
        """The derivative of a sum over all parameters by the amounts: the transpose of `exponents` after `changes`.

        Args:
            weights: The derivative of the sum by the exponents, [B, N, K] by block; None for a block without any.

        Returns:
            float64 [dimension].
        """
        found = np.zeros(len(self._solution.root))
        for gain, weight in zip(self._gains, weights, strict=True):
            for (times, ids), axis in gain if weight is not None else ():
                summed = weight.sum(axis=3 - axis)  # type: ignore[union-attr]
                times, ids, summed = np.broadcast_arrays(np.abs(times) if self.kind == "sign" else times, ids, summed)
                np.add.at(found, self._solution.root[ids], times * summed)
        total = np.zeros(self.dimension)
        np.add.at(total, self._solution.free, self._solution.coefficient * found[self._solution.at])
        return total

    def depends(self, numbers: np.ndarray) -> list[np.ndarray]:
        """Which parameters change under some of the generators.

        Args:
            numbers: int64 [n], indices of generators.

        Returns:
            bool, broadcastable to [B, N, K], by edge block; true where the factor depends on one of them.
        """
        moved = np.zeros(len(self._solution.root), dtype=bool)
        moved[self._solution.at[np.isin(self._solution.free, numbers)]] = True
        moved = moved[self._solution.root]
        found = []
        for gain in self._gains:
            sides = [
                np.any(
                    [np.broadcast_arrays(times, moved[ids])[1] for (times, ids), axis in gain if axis == side], axis=0
                )
                if any(axis == side for _, axis in gain)
                else np.zeros((1, 1), dtype=bool)
                for side in (1, 2)
            ]
            found.append(sides[0][:, :, None] | sides[1][:, None, :])
        return found

    def touched(self, changes: np.ndarray) -> np.ndarray:
        """The nodes of the signals that change.

        Args:
            changes: As returned by `changes`.

        Returns:
            int64 node ids, ascending.
        """
        return distinct(self._node[changes[: len(self._node)] != 0])

    def _total(self, gain: Gain, axis: int, changes: np.ndarray) -> np.ndarray:
        """Contribution of targets (axis 1) or sources (axis 2) to the change of parameters, [B, N] or [B, K]."""
        terms = [times * changes[ids] for (times, ids), side in gain if side == axis]
        return np.asarray(sum(terms)) if terms else np.zeros((1, 1))

    def _factors(self, total: np.ndarray) -> np.ndarray:
        return 1 - 2 * (total % 2) if self.kind == "sign" else np.exp2(total)


@dataclass(frozen=True, slots=True)
class Rescaling(Factor):
    """One sign or scale symmetry, a product of generators.

    Attributes:
        of: The group it is an element of.
        numbers: int64 [n], indices of generators.
        amounts: float64 [n], log2 of each factor; 1 for signs.
    """

    of: Rescalings
    numbers: np.ndarray
    amounts: np.ndarray

    def apply(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Multiply parameter tensors.

        Args:
            values: Parameter name to tensor, shaped as in `graph.parameters`; every parameter that changes.

        Returns:
            New tensors by name, only of parameters that changed.
        """
        return self.of.apply(self.of.changes(self.numbers, self.amounts), values)

    def inverse(self) -> Rescaling:
        """The rescaling that undoes this one; a sign change is its own inverse."""
        return self if self.of.kind == "sign" else replace(self, amounts=-self.amounts)

    @classmethod
    def merged(cls, factors: Sequence[Rescaling]) -> Rescaling:
        """The product of rescalings of one group.

        Args:
            factors: At least one; the first one is applied first.

        Returns:
            The product.
        """
        return cls(factors[0].of, *(np.concatenate([getattr(x, n) for x in factors]) for n in _ARRAYS))

    @property
    def family(self) -> Rescalings:
        """The group that it is an element of."""
        return self.of

    @property
    def graph(self) -> ParameterGraph:
        """The graph."""
        return self.of.graph

    @property
    def nodes(self) -> np.ndarray:
        """The nodes whose value it multiplies, int64 ids, ascending."""
        return self.of.touched(self.of.changes(self.numbers, self.amounts))

    def describe(self) -> str:
        """What it multiplies, one line per node group."""
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


def rescalings(graph: ParameterGraph, kind: str) -> Rescalings:
    """The rescalings of one kind ("sign" or "scale") of a graph, found on first use and cached with it."""
    return graph.derived(("rescalings", kind), lambda: Rescalings(graph, kind))


def _multiply(block: EdgeBlock, tensor: np.ndarray, factors: np.ndarray) -> None:
    """Multiply the elements of a block in place; factors: broadcastable to [B, N, K, S]."""
    view = block.view
    view.write(tensor, (view.read(tensor) * factors).astype(tensor.dtype))
