"""`diff`: whether two networks are the same up to a symmetry, and otherwise how they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ir import ParameterGraph
from ..symmetry import fingerprint
from .align import Alignment, Progress, Source, align, compiled
from .correspondence import correspondence, difference
from .wording import counts, worded

__all__ = ["Difference", "diff", "fingerprints"]

_EQUAL = 1e-6
"""Two networks whose parameters differ by less than this are equal up to rounding."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How two networks differ.

    Attributes:
        graphs: Their graphs.
        structure: Lines that say what differs in structure, see `worded`; none if they have one architecture.
        alignment: The second network in the order of the first one, if they have one architecture.
    """

    graphs: tuple[ParameterGraph, ParameterGraph]
    structure: tuple[str, ...]
    alignment: Alignment | None

    @property
    def equal(self) -> bool:
        """Whether a symmetry takes the second network to the first one, up to rounding."""
        return self.alignment is not None and self.alignment.after <= _EQUAL

    @property
    def summary(self) -> str:
        """The verdict in one line."""
        if self.alignment is None:
            numbers = counts(self.structure)
            return f"different architectures: {numbers}" if numbers else "different architectures"
        same = self.alignment
        if same.before == 0:
            return "the same parameters"
        if self.equal:
            return f"the same network up to a symmetry: {same.moved:,} neurons have another place"
        return (
            f"one architecture, other parameters: distance {same.after:.4g} after alignment ({same.before:.4g} before)"
        )

    def to_json(self) -> dict[str, Any]:
        """The difference as JSON data."""
        return {
            "equal": self.equal,
            "same_architecture": self.alignment is not None,
            "structure": list(self.structure),
            "alignment": None if self.alignment is None else self.alignment.to_json(),
        }


def diff(
    a: Source,
    b: Source,
    *,
    kinds: Sequence[str] = ("permutation",),
    inputs: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
    on_progress: Progress | None = None,
    **options: Any,
) -> Difference:
    """Compare two networks up to the symmetries of their architecture.

    Args:
        a: An ONNX model, its path, or its graph.
        b: Another one.
        kinds: Kinds of symmetries that do not count as a difference, see `align`.
        inputs: Arrays by input name for the check in ONNX Runtime; missing inputs are random.
        seed: Seed of everything random.
        on_progress: Called with (activity, steps done, steps in total).
        **options: Options of `gmnc.compile`; its option `inputs` is called `shapes` here.

    Returns:
        What differs in structure, or else the distances of all parameters after alignment.

    Raises:
        GmncError: A model cannot be compiled.
    """
    graphs = compiled(a, **options), compiled(b, **options)
    networks = correspondence(*graphs)
    if networks is None:
        return Difference(graphs, worded(*graphs) or (difference(*graphs),), None)
    made = align(networks.a, networks.b, kinds=kinds, inputs=inputs, seed=seed, on_progress=on_progress, **options)
    return Difference(graphs, (), made)


def fingerprints(model: Source, **options: Any) -> tuple[str, str]:
    """Hashes of a network's structure, and of the network itself, both up to permutations of neurons.

    Args:
        model: An ONNX model, its path, or its graph.
        **options: Options of `gmnc.compile`; its option `inputs` is called `shapes` here.

    Returns:
        16 hex digits each: equal for networks of one architecture, and for networks that are the same up to the order
        of their neurons.
    """
    graph = compiled(model, **options)
    return fingerprint(graph, values=False), fingerprint(graph)
