"""Products of symmetries of several kinds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from ..ir.errors import GraphError
from ..ir.graph import ParameterGraph
from .automorphism import Automorphism, compose_all

__all__ = ["Factor", "Product", "product"]


class Factor:
    """A symmetry that is no permutation: an element of a group of rescalings, or of matrices."""

    __slots__ = ()

    @property
    @abstractmethod
    def family(self) -> object:
        """The group that it is an element of; those of one group are merged."""

    @property
    @abstractmethod
    def graph(self) -> ParameterGraph:
        """The graph."""

    @property
    @abstractmethod
    def nodes(self) -> np.ndarray:
        """The nodes whose values it changes, int64 ids, ascending."""

    @abstractmethod
    def apply(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Change parameter tensors.

        Args:
            values: Parameter name to tensor, shaped as in `graph.parameters`; every parameter that changes.

        Returns:
            New tensors by name, only of parameters that changed.
        """

    @abstractmethod
    def inverse(self) -> Self:
        """The symmetry that undoes this one."""

    @abstractmethod
    def describe(self) -> str:
        """What it changes, one line per node group."""

    @classmethod
    @abstractmethod
    def merged(cls, factors: Sequence[Self]) -> Self:
        """The product of elements of one group, the first one applied first.

        Args:
            factors: At least one.

        Returns:
            The product.
        """

    def __matmul__(self, other: Automorphism | Factor | Product) -> Factor | Product:
        """``a @ b`` applies b first, then a; two elements of one group make one."""
        if isinstance(other, type(self)) and other.family is self.family:
            return self.merged([other, self])
        return Product((self,)) @ other

    def __rmatmul__(self, other: Automorphism) -> Product:
        return Product((other,)) @ self


@dataclass(frozen=True, slots=True)
class Product:
    """A product of permutations and other symmetries.

    Attributes:
        factors: The symmetries in the order in which they are applied, the first one first.
    """

    factors: tuple[Automorphism | Factor, ...]

    def inverse(self) -> Product:
        """The inverse: the inverses of the factors, in reverse order."""
        return Product(tuple(factor.inverse() for factor in reversed(self.factors)))

    def __matmul__(self, other: Automorphism | Factor | Product) -> Product:
        """``a @ b`` applies b first, then a.

        Raises:
            GraphError: if they belong to different graphs.
        """
        if not isinstance(other, (Automorphism, Factor, Product)):
            return NotImplemented
        graphs = {id(g): g for factor in (*_factors(other), *self.factors) if (g := _graph(factor)) is not None}
        if len(graphs) > 1:
            raise GraphError("symmetries of two graphs do not compose: take both from the same `symmetries` call")
        return Product((*_factors(other), *self.factors))

    def __rmatmul__(self, other: Automorphism) -> Product:
        return Product((other,)) @ self

    def apply(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Apply the factors to parameter tensors, one after the other.

        Args:
            values: Parameter name to tensor, shaped as in `graph.parameters`; every parameter that changes.

        Returns:
            New tensors by name, only of parameters that changed.
        """
        new: dict[str, np.ndarray] = {}
        for factor in self.factors:
            new |= factor.apply({**values, **new})
        return {n: v for n, v in new.items() if not np.array_equal(v, values[n])}


def _factors(symmetry: Automorphism | Factor | Product) -> tuple[Automorphism | Factor, ...]:
    return symmetry.factors if isinstance(symmetry, Product) else (symmetry,)


def _graph(factor: Automorphism | Factor) -> ParameterGraph | None:
    return factor.graph


def product(graph: ParameterGraph, symmetries: Iterable[Automorphism | Factor]) -> Product:
    """The product of permutations and other symmetries.

    Args:
        graph: Their graph.
        symmetries: The factors.

    Returns:
        A product that applies the permutations last, the last one of them first; the others are merged by group.
    """
    permutations: list[Automorphism] = []
    by_family: dict[int, list[Factor]] = {}
    for each in symmetries:
        if isinstance(each, Automorphism):
            permutations.append(each)
        else:
            by_family.setdefault(id(each.family), []).append(each)
    factors: list[Automorphism | Factor] = [some[0].merged(some) for some in by_family.values()]
    if permutations:
        factors.append(compose_all(graph, permutations))
    return Product(tuple(factors))
