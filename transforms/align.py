"""`align`: put the neurons of a network in the order of another one of the same architecture."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import onnx
import onnx_ir

from ..frontend import compile
from ..ir import GmncError, ParameterGraph
from ..symmetry import Automorphism, Product, checked_kinds, symmetries
from ..symmetry.automorphism import compose_all
from ..testing.processes import NotRunnable
from .activations import correlations
from .correspondence import Correspondence, correspondence, difference
from .descent import Search, closest
from .distance import LayerDistance, distance, layer_distances
from .line import Line, examples, line
from .probing import batches, first_rows
from .proof import Feeds, Proof, feeds_for, prove
from .similarity import Values

__all__ = ["Alignment", "Criterion", "Progress", "Source", "align", "compiled", "proof_of"]

Source = str | os.PathLike[str] | onnx.ModelProto | onnx_ir.Model | ParameterGraph
Progress = Callable[[str, int, int], None]
Criterion = Literal["weights", "activations"]
"""What tells which neurons belong together."""

_RANDOM = 32
"""How many random inputs activations are computed on, if none are given."""


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
        criterion: What neurons were matched by, in words.
        line: The loss along the straight line between both networks, if labels were given.
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
    criterion: str = "weights"
    line: Line | None = None

    @property
    def summary(self) -> str:
        """What was done in one line."""
        what = (
            f"{self.moved:,} neurons moved" if self.moved else "no neuron moved: the networks are in one order already"
        )
        by = "" if self.criterion == "weights" else f"by {self.criterion}: "
        return f"{by}{what}; distance {self.before:.4g} before, {self.after:.4g} after"

    def to_json(self) -> dict[str, Any]:
        """The alignment as JSON data, without tensors."""
        return {
            "by": self.criterion, "moved": self.moved, "before": self.before, "after": self.after,
            "layers": [layer.to_json() for layer in self.layers], "proof": self.proof.to_json(),
            "line": None if self.line is None else self.line.to_json(),
        }  # fmt: skip


def align(
    a: Source,
    b: Source,
    *,
    kinds: Sequence[str] = ("permutation",),
    by: Criterion = "weights",
    inputs: Mapping[str, np.ndarray] | None = None,
    labels: np.ndarray | None = None,
    output: str | None = None,
    starts: int = 4,
    seed: int = 0,
    on_progress: Progress | None = None,
    **options: Any,
) -> Alignment:
    """Find the symmetry of network B that brings its neurons closest to those of network A.

    B computes the same before and after; this is checked in ONNX Runtime. Both must have one architecture.

    Args:
        a: The reference: an ONNX model, its path, or its graph.
        b: The network that is put in order.
        kinds: Kinds of symmetries to use, see `gmnc.symmetries`. With "orthogonal" or "linear" the scales of some
            normalisations are taken into the weights, of the reference too.
        by: "weights": neurons whose parameters are closest belong together. "activations": those whose values on
            `inputs` correlate most, in ONNX Runtime; neurons without such values are matched by weights.
        inputs: Arrays by input name, samples along the first axis, for activations and for the check; without them,
            random ones.
        labels: Of each sample of `inputs`: integers (classes, for the cross-entropy of logits or probabilities), or
            floats (targets, for the mean squared error). The loss along the line between both networks is computed.
        output: The output that they are labels of, if several fit.
        starts: How many orders of the layers are tried.
        seed: Seed of everything random.
        on_progress: Called with (activity, steps done, steps in total).
        **options: Options of `gmnc.compile` (`dims`, ...); its option `inputs` is called `shapes` here.

    Returns:
        The alignment; `gmnc.write(alignment.networks.b, alignment.values, path)` writes B in the new order.

    Raises:
        GmncError: The architectures differ, a model cannot be compiled, or does not run on the inputs, or labels do not
            fit them.
    """
    report = on_progress or (lambda what, done, total: None)
    if by not in get_args(Criterion):
        raise GmncError(f"networks cannot be aligned by {by!r}: choose {' or '.join(get_args(Criterion))}")
    kinds, rng = checked_kinds(kinds), np.random.default_rng(seed)
    report("lowering", 0, 1)
    graphs = compiled(a, **options), compiled(b, **options)
    networks = correspondence(*graphs)
    if networks is None:
        raise GmncError(
            f"{graphs[0].name} and {graphs[1].name} have different architectures: {difference(*graphs)}; "
            "only networks of one architecture can be aligned"
        )
    labelled = None if labels is None else examples(networks.a, inputs, labels, output)
    reference, other = networks.values()
    criterion, alike = "weights", None
    if by == "activations":
        report("running", 0, 1)
        feeds = _feeds(networks, a, inputs or {}, rng, options)
        criterion = f"activations on {'the given' if inputs else 'random'} inputs"
        groups = symmetries(networks.a).positions
        alike = correlations(
            networks, groups, (feeds, [_renamed(networks, f) for f in feeds]), "sign" in kinds, **options
        )
    own, course = closest(Search(networks.a, kinds, starts, rng, report, alike), reference, other)
    symmetry, aligned = Product(tuple(course.factors)), course.values
    values = networks.back(aligned, {n: v for n, v in aligned.items() if not np.array_equal(v, other[n])})
    report("running", 0, 1)
    proof = proof_of(networks.b, b, values, _renamed(networks, inputs or {}), rng, options)
    losses = None
    if labelled is not None:
        losses = line(labelled, (reference, other), (own.values, aligned), report)
    orders = [f for f in reversed(symmetry.factors) if isinstance(f, Automorphism)]
    moved = len(compose_all(networks.a, orders).src)
    return Alignment(
        networks, symmetry, own.values, aligned, values, distance(own.values, other), distance(own.values, aligned),
        layer_distances(networks.a, own.values, other, aligned), moved, proof, criterion, losses,
    )  # fmt: skip


def compiled(source: Source, shapes: Mapping[str, tuple[int, ...]] | None = None, **options: Any) -> ParameterGraph:
    """The graph of a model; a graph as it is."""
    return source if isinstance(source, ParameterGraph) else compile(source, inputs=shapes, **options)


def _feeds(
    networks: Correspondence, model: Source, inputs: Mapping[str, np.ndarray], rng: np.random.Generator,
    options: Mapping[str, Any],
) -> Feeds:  # fmt: skip
    """Inputs of the reference: the given ones, or random ones."""
    source = networks.a.model if isinstance(model, ParameterGraph) else model
    if source is None or networks.b.model is None:
        raise GmncError("a store holds no network to run: align by weights, or compile the ONNX files")
    if inputs:
        return batches(networks.a.model, inputs)
    return feeds_for(source, networks.a, {}, rng, options.get("dims"), options.get("shapes"), _RANDOM)


def _renamed(networks: Correspondence, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Inputs of the reference by the names of the other network's inputs, whose order is the same."""
    names = {p.name: q.name for p, q in zip(networks.a.inputs, networks.b.inputs, strict=True)}
    return {names.get(n, n): v for n, v in feed.items()}


def proof_of(
    graph: ParameterGraph, model: Source, values: Values, inputs: Mapping[str, np.ndarray], rng: np.random.Generator,
    options: Mapping[str, Any],
) -> Proof:  # fmt: skip
    """Run a network with its own and with new parameters, on given and on random inputs."""
    source = graph.model if isinstance(model, ParameterGraph) else model
    if source is None:
        return Proof(None, 0.0, 0, "a store holds no network to run")
    try:
        feeds = feeds_for(
            source, graph, first_rows(graph.model, inputs), rng, options.get("dims"), options.get("shapes")
        )
    except NotRunnable as error:
        return Proof(None, 0.0, 0, str(error))
    return prove(graph, values, feeds, rng, source)
