"""`scramble`: change a network by a random symmetry, which changes nothing that it computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ir import ParameterGraph
from ..symmetry import Automorphism, Factor, Interchangeable, Product, Symmetries, symmetries
from ..symmetry.automorphism import compose_all
from .align import Progress, Source, compiled, proof_of
from .proof import Proof
from .similarity import Values

__all__ = ["Scrambled", "scramble"]


@dataclass(frozen=True, slots=True)
class Scrambled:
    """A network after a random symmetry.

    Attributes:
        graph: Its graph.
        symmetry: The symmetry.
        values: The tensors that changed, by name.
        proof: That the network computes what it did.
    """

    graph: ParameterGraph
    symmetry: Product
    values: Values
    proof: Proof

    @property
    def summary(self) -> str:
        """What was changed in one line."""
        changed = sum(v.size for v in self.values.values())
        return f"{len(self.values):,} tensors of {changed:,} elements changed"

    def to_json(self) -> dict[str, Any]:
        """What was changed as JSON data, without tensors."""
        return {"tensors": sorted(self.values), "proof": self.proof.to_json()}


def scramble(
    model: Source,
    *,
    seed: int = 0,
    kinds: Sequence[str] = ("permutation",),
    inputs: Mapping[str, np.ndarray] | None = None,
    on_progress: Progress | None = None,
    **options: Any,
) -> Scrambled:
    """Change a network by a random symmetry.

    Args:
        model: An ONNX model, its path, or its graph.
        seed: Seed of everything random.
        kinds: Kinds of symmetries to draw from, see `gmnc.symmetries`.
        inputs: Arrays by input name for the check; missing inputs are random.
        on_progress: Called with (activity, steps done, steps in total).
        **options: Options of `gmnc.compile`; its option `inputs` is called `shapes` here.

    Returns:
        The changed tensors; `gmnc.write(scrambled.graph, scrambled.values, path)` writes them.

    Raises:
        GmncError: The model cannot be compiled, or a kind is unknown.
    """
    report = on_progress or (lambda what, done, total: None)
    rng = np.random.default_rng(seed)
    report("lowering", 0, 1)
    graph = compiled(model, **options)
    report("finding symmetries", 0, 1)
    symmetry = _random(symmetries(graph, kinds), rng)
    names = sorted({block.view.name for block in graph.edges if not block.constant})
    values = symmetry.apply({n: np.asarray(graph.parameters[n].load()) for n in names})
    report("running", 0, 1)
    return Scrambled(graph, symmetry, values, proof_of(graph, model, values, inputs or {}, rng, options))


def _random(found: Symmetries, rng: np.random.Generator) -> Product:
    """A random symmetry: every order of interchangeable positions is equally likely."""
    factors: list[Automorphism | Factor] = [each.sample(rng) for each in found.others if each.dimension]
    if "permutation" in found.kinds:
        some = [g for i, g in enumerate(found.generators) if rng.random() < 0.5]
        orders = [s for group in found.positions for s in _orders(group, rng)]
        factors.append(compose_all(found.graph, [*orders, *some]))
    return Product(tuple(factors))


def _orders(group: Interchangeable, rng: np.random.Generator) -> list[Automorphism]:
    """A random order of some positions and of what is inside each."""
    return [each.permutation(rng.permutation(each.degree)) for each in group.everything()]
