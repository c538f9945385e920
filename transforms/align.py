"""`align`: put the neurons of a network in the order of another one of the same architecture."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnx_ir

from ..frontend import compile
from ..ir import GmncError, ParameterGraph
from ..symmetry import Automorphism, Factor, Product, checked_kinds, symmetries
from ..symmetry.automorphism import compose_all
from ..testing.processes import NotRunnable
from .correspondence import Correspondence, correspondence, first_difference
from .distance import LayerDistance, distance, layer_distances
from .matching import match
from .mixing import absorbed, best_mixing, normal_form
from .proof import Proof, feeds_for, prove
from .rescaling import balancing, best_signs
from .similarity import Values

__all__ = ["Alignment", "Progress", "Source", "align", "compiled", "proof_of"]

Source = str | os.PathLike[str] | onnx.ModelProto | onnx_ir.Model | ParameterGraph
Progress = Callable[[str, int, int], None]

_ROUNDS = 3
_MIXED = ("linear", "orthogonal")


@dataclass(frozen=True, slots=True)
class Alignment:
    """A network in the order of another one.

    Attributes:
        networks: The graphs of the reference and of the other network.
        symmetry: What was applied to the other network.
        reference: Parameters of the reference, by its names.
        aligned: Parameters of the other network in the new order, as tensors of the reference.
        values: The tensors of the other network that changed, by its own names.
        before: The distance of all parameters, relative to the size of the reference's.
        after: The same after the alignment.
        layers: Both by layer, the farthest first.
        moved: How many neurons have another place.
        proof: That the other network computes what it did.
    """

    networks: Correspondence
    symmetry: Product
    reference: Values
    aligned: Values
    values: Values
    before: float
    after: float
    layers: tuple[LayerDistance, ...]
    moved: int
    proof: Proof

    @property
    def summary(self) -> str:
        """What was done in one line."""
        what = (
            f"{self.moved:,} neurons moved" if self.moved else "no neuron moved: the networks are in one order already"
        )
        return f"{what}; distance {self.before:.4g} before, {self.after:.4g} after"

    def to_json(self) -> dict[str, Any]:
        """The alignment as JSON data, without tensors."""
        return {
            "moved": self.moved, "before": self.before, "after": self.after,
            "layers": [layer.to_json() for layer in self.layers], "proof": self.proof.to_json(),
        }  # fmt: skip


def align(
    a: Source,
    b: Source,
    *,
    kinds: Sequence[str] = ("permutation",),
    inputs: Mapping[str, np.ndarray] | None = None,
    starts: int = 4,
    seed: int = 0,
    on_progress: Progress | None = None,
    **options: Any,
) -> Alignment:
    """Find the symmetry of network B that brings its parameters closest to those of network A.

    B computes the same before and after; this is checked in ONNX Runtime. Both must have one architecture.

    Args:
        a: The reference: an ONNX model, its path, or its graph.
        b: The network that is put in order.
        kinds: Kinds of symmetries to use, see `gmnc.symmetries`. With "orthogonal" or "linear" the scales of some
            normalisations are taken into the weights, of the reference too.
        inputs: Arrays by input name for the check; missing inputs are random.
        starts: How many orders of the layers are tried.
        seed: Seed of everything random.
        on_progress: Called with (activity, steps done, steps in total).
        **options: Options of `gmnc.compile` (`dims`, ...); its option `inputs` is called `shapes` here.

    Returns:
        The alignment; `gmnc.write(alignment.networks.b, alignment.values, path)` writes B in the new order.

    Raises:
        GmncError: The architectures differ, or a model cannot be compiled.
    """
    report = on_progress or (lambda what, done, total: None)
    kinds, rng = checked_kinds(kinds), np.random.default_rng(seed)
    report("lowering", 0, 1)
    graphs = compiled(a, **options), compiled(b, **options)
    networks = correspondence(*graphs)
    if networks is None:
        raise GmncError(
            f"{graphs[0].name} and {graphs[1].name} have different architectures: {first_difference(*graphs)}; "
            "only networks of one architecture can be aligned"
        )
    reference, other = networks.values()
    own, course = _aligned(networks.a, reference, other, kinds, starts, rng, report)
    symmetry, aligned = Product(tuple(course.factors)), course.values
    reference = own.values if _changes(kinds) else reference
    values = networks.back(aligned, {n: v for n, v in aligned.items() if not np.array_equal(v, other[n])})
    report("running", 0, 1)
    proof = proof_of(networks.b, b, values, inputs or {}, rng, options)
    orders = [f for f in reversed(symmetry.factors) if isinstance(f, Automorphism)]
    moved = len(compose_all(networks.a, orders).src)
    return Alignment(
        networks, symmetry, reference, aligned, values, distance(reference, other), distance(reference, aligned),
        layer_distances(networks.a, reference, other, aligned), moved, proof,
    )  # fmt: skip


def compiled(source: Source, shapes: Mapping[str, tuple[int, ...]] | None = None, **options: Any) -> ParameterGraph:
    """The graph of a model; a graph as it is."""
    return source if isinstance(source, ParameterGraph) else compile(source, inputs=shapes, **options)


def _aligned(
    graph: ParameterGraph, a: Values, b: Values, kinds: Sequence[str], starts: int, rng: np.random.Generator,
    report: Progress,
) -> tuple[_Course, _Course]:  # fmt: skip
    """What is done to the reference and to the other network to bring them as close as possible."""
    found = [_descended(graph, a, b, kinds, starts, rng, report, normal=False)]
    if "linear" in kinds and symmetries(graph, ("linear",)).mixings[0].spaces:
        found.append(_descended(graph, a, b, kinds, starts, rng, report, normal=True))
    return min(found, key=lambda pair: distance(pair[0].values, pair[1].values))


def _descended(
    graph: ParameterGraph, a: Values, b: Values, kinds: Sequence[str], starts: int, rng: np.random.Generator,
    report: Progress, normal: bool,
) -> tuple[_Course, _Course]:  # fmt: skip
    """Bring one kind of symmetries after the other to its best.

    normal: whether both networks are put into their normal forms by linear maps first; by scales they always are.
    """
    own, other = _Course(graph, a), _Course(graph, b)
    back: list[Factor] = []
    if "scale" in kinds:
        back += _put_into_form(own, other, balancing)
    for kind in _MIXED:
        if kind in kinds:
            # Scales of normalisations that are 1 in one network must be 1 in the other.
            _put_into_form(own, other, partial(absorbed, kind=kind))
    if normal:
        back += _put_into_form(own, other, normal_form)
    if "orthogonal" in kinds:
        other.apply(best_mixing(graph, own.values, other.values, "orthogonal", _unmoved(graph)))
    for number in range(1 if set(kinds) <= {"permutation", "scale"} else _ROUNDS):
        if "permutation" in kinds:
            # Until signs are known, magnitudes alone are compared.
            unsigned = "sign" in kinds and not number
            pair = [_magnitudes(c.values) if unsigned else c.values for c in (own, other)]
            made = match(graph, *pair, starts if not number else 0, rng, report).symmetry
            other.apply(made if len(made.src) else None)
        if "sign" in kinds:
            other.apply(best_signs(graph, own.values, other.values))
        for kind in _MIXED:
            if kind in kinds:
                other.apply(best_mixing(graph, own.values, other.values, kind))
    for each in reversed(back):
        own.apply(each)
        other.apply(each)
    return own, other


def _put_into_form(
    own: _Course, other: _Course, form: Callable[[ParameterGraph, Values], Factor | None]
) -> list[Factor]:
    """Put two networks into a normal form; returns what takes the first one back, if anything changes."""
    made = form(own.graph, own.values)
    if made is None:
        return []
    own.apply(made)
    other.apply(form(other.graph, other.values))
    return [made.inverse()]


@dataclass
class _Course:
    """What has been applied to a network so far, and its parameters after it."""

    graph: ParameterGraph
    values: Values
    factors: list[Automorphism | Factor] = field(default_factory=list)

    def apply(self, more: Automorphism | Factor | None) -> None:
        if more is not None:
            self.factors.append(more)
            self.values = {**self.values, **more.apply(self.values)}


def _changes(kinds: Sequence[str]) -> bool:
    """Whether the reference is changed too."""
    return not set(kinds).isdisjoint(_MIXED)


def _unmoved(graph: ParameterGraph) -> np.ndarray:
    """The nodes that no permutation moves, bool [num_nodes]."""
    found = np.ones(graph.num_nodes, dtype=bool)
    for orbit in symmetries(graph).orbits:
        found[orbit] = False
    return found


def _magnitudes(values: Values) -> Values:
    return {n: np.abs(v) for n, v in values.items()}


def proof_of(
    graph: ParameterGraph, model: Source, values: Values, inputs: Mapping[str, np.ndarray], rng: np.random.Generator,
    options: Mapping[str, Any],
) -> Proof:  # fmt: skip
    """Run a network with its own and with new parameters, on given and on random inputs."""
    source = graph.model if isinstance(model, ParameterGraph) else model
    if source is None:
        return Proof(None, 0.0, 0, "a store holds no network to run")
    try:
        feeds = feeds_for(source, graph, inputs, rng, options.get("dims"), options.get("shapes"))
    except NotRunnable as error:
        return Proof(None, 0.0, 0, str(error))
    return prove(graph, values, feeds, rng, source)
