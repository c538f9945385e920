"""Orthogonal and linear symmetries: matrices mix neurons, and the parameters around them change along.

Values and output weights of an attention head are free up to an invertible matrix, and so are queries and keys without
rotation, the inner neurons of a low-rank layer, and those between two linear layers. A residual stream that is read
through normalisations alone is free up to an orthogonal matrix. See `space_search` for how they are found.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..ir.arrays import distinct
from ..ir.graph import ParameterGraph
from ..ir.vocabulary import Matrices
from .products import Factor
from .spaces import Space, apply_matrix, random_matrix

__all__ = ["Mixing", "Mixings"]


@dataclass(frozen=True, eq=False)
class Mixings:
    """The orthogonal or the linear symmetries of a graph: a group of matrices for each space.

    Attributes:
        graph: The graph.
        kind: "orthogonal" for spaces that only orthogonal matrices may mix, "linear" for those that all may.
        spaces: These spaces.
    """

    graph: ParameterGraph
    kind: str
    spaces: tuple[Space, ...]

    @property
    def dimension(self) -> int:
        """The dimension of the product of the groups of all spaces."""
        return sum(space.dimension for space in self.spaces)

    @property
    def log10_size(self) -> float:
        """log10 of their number: infinite, or 0 if there is none but the identity."""
        return math.inf if self.spaces else 0.0

    @property
    def summary(self) -> str:
        """The groups and their dimension in one line."""
        if not self.spaces:
            return f"no {self.kind} maps"
        groups = Counter(space.group for space in self.spaces)
        powers = " ".join(f"{name}^{n}" if n > 1 else name for name, n in groups.items())
        return f"{powers}: {self.dimension:,} dimensions of {self.kind} maps"

    @cached_property
    def parameters(self) -> frozenset[str]:
        """Names of the parameters that change."""
        parts = (part for space in self.spaces for part in space.parts)
        return frozenset(self.graph.edges[part.block].view.name for part in parts)

    @cached_property
    def starts(self) -> tuple[np.ndarray, np.ndarray]:
        """The first node of each space and the dimension of its group, int64 [spaces] each."""
        first = [int(space.nodes.min()) for space in self.spaces]
        return np.array(first, dtype=np.int64), np.array([space.dimension for space in self.spaces], dtype=np.int64)

    def generators(self, rng: np.random.Generator) -> list[Mixing]:
        """A random element of each space's group.

        Args:
            rng: Source of randomness.

        Returns:
            One per space.
        """
        return [Mixing(self, (i,), (random_matrix(space, rng),)) for i, space in enumerate(self.spaces)]

    def sample(self, rng: np.random.Generator) -> Mixing:
        """A random element: a matrix for each space, see `spaces.random_matrix`.

        Args:
            rng: Source of randomness.

        Returns:
            The element.
        """
        every = tuple(random_matrix(space, rng) for space in self.spaces)
        return Mixing(self, tuple(range(len(every))), every)


@dataclass(frozen=True, slots=True, eq=False)
class Mixing(Factor):
    """One orthogonal or linear symmetry.

    Where a normalisation in front of the weights has a scale, it becomes 1 and the weights take it.

    Attributes:
        of: The group it is an element of.
        numbers: Indices of the spaces that are mixed, one after the other.
        matrices: The matrix [d, d] of each.
    """

    of: Mixings
    numbers: tuple[int, ...]
    matrices: tuple[np.ndarray, ...]

    @property
    def family(self) -> Mixings:
        """The group that it is an element of."""
        return self.of

    @property
    def graph(self) -> ParameterGraph:
        """The graph."""
        return self.of.graph

    @property
    def nodes(self) -> np.ndarray:
        """The nodes that it mixes, int64 ids, ascending."""
        every = [self.of.spaces[i].nodes.reshape(-1) for i in self.numbers]
        return distinct(np.concatenate([np.zeros(0, dtype=np.int64), *every]))

    def apply(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Change parameter tensors; computed in float64 and rounded to their type once per space.

        Args:
            values: Parameter name to tensor, shaped as in `graph.parameters`; every parameter that changes.

        Returns:
            New tensors by name, only of parameters that changed.

        Raises:
            GraphError: if a normalisation with a shift has a scale of 0.
        """
        new: dict[str, np.ndarray] = {}
        for number, matrix in zip(self.numbers, self.matrices, strict=True):
            apply_matrix(self.graph, self.of.spaces[number], matrix, new, values)
        return {n: v for n, v in new.items() if not np.array_equal(v, values[n])}

    def inverse(self) -> Mixing:
        """The symmetry with the inverse matrices; it does not undo that scales were taken into the weights."""
        orthogonal = (self.of.spaces[i].matrices is not Matrices.ALL for i in reversed(self.numbers))
        pairs = zip(reversed(self.matrices), orthogonal, strict=True)
        inverted = tuple(m.T if turned else np.linalg.inv(m) for m, turned in pairs)
        return Mixing(self.of, self.numbers[::-1], inverted)

    @classmethod
    def merged(cls, factors: Sequence[Mixing]) -> Mixing:
        """The product of elements of one group.

        Args:
            factors: At least one; the first one is applied first.

        Returns:
            The product.
        """
        numbers = tuple(n for factor in factors for n in factor.numbers)
        return cls(factors[0].of, numbers, tuple(m for factor in factors for m in factor.matrices))

    def describe(self) -> str:
        """What it mixes, one line per node group of a space."""
        lines = []
        for space in (self.of.spaces[i] for i in self.numbers):
            for number in distinct(self.graph.group_of(space.nodes[:, 0])).tolist():
                group = self.graph.groups[number]
                name = f"g{number} {group.kind} x{group.size} {group.value!r} (node {group.node!r})"
                lines.append(f"{name}: {space.size} mixed by a matrix of {space.group}")
        return "\n".join(lines)
