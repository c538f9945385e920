"""The rewriting passes in their order, and `prepare`, which runs them until none finds anything more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace

import onnx_ir

from ..ir import GmncError, LoweringError
from .inference.shapes import ValueInfo, infer
from .interpret import opset_of, rule_lookup
from .model.attribute_weights import attributes_to_operands
from .model.protos import type_proto
from .plan import plan
from .rewriting.cells import expand_cells
from .rewriting.control import flatten
from .rewriting.dequantised import fuse_dequantisation
from .rewriting.expand import expand
from .rewriting.idioms import recognise
from .rewriting.linearity import distribute
from .rewriting.normalise import normalise
from .rewriting.quantized_ops import decompose
from .rewriting.rows import batch_rows
from .rewriting.sequences import unpack
from .rules.registry import Registry, Rule, builtin

__all__ = ["PASSES", "PassContext", "RewritePass", "model_after", "passes_up_to", "prepare", "run"]


@dataclass(slots=True)
class PassContext:
    """What passes need beside the model; what is inferred of a model is kept until the next normalisation.

    Attributes:
        dims: Sizes of symbolic dimensions by name.
        inputs: Shapes of graph inputs by name.
        rules: The lowering rules. An operator that has one is not expanded.
    """

    dims: Mapping[str, int]
    inputs: Mapping[str, tuple[int, ...]]
    rules: Registry
    _known: dict[onnx_ir.Value, ValueInfo] | None = None
    _misfits: set[onnx_ir.Graph] = field(default_factory=set)
    _mixed: Set[onnx_ir.Value] | None = None

    def find(self, model: onnx_ir.Model) -> Callable[[onnx_ir.Node], Rule | None]:
        """What looks up the rule of a node of `model`."""
        return rule_lookup(self.rules, model)

    def known(self, model: onnx_ir.Model) -> dict[onnx_ir.Value, ValueInfo]:
        """Shapes and known numbers of the values of `model`; passes add those of the values that they make."""
        if self._known is None:
            self._misfits = set()
            self._known = infer(model, self.dims, self.inputs, self.find(model), self._misfits)
        return self._known

    def misfits(self, model: onnx_ir.Model) -> set[onnx_ir.Graph]:
        """The branches of `model` that cannot run on these shapes."""
        self.known(model)
        return self._misfits

    def mixed(self, model: onnx_ir.Model) -> Set[onnx_ir.Value]:
        """The values of `model` that are computed from several parameters, or from several places of one."""
        if self._mixed is None:
            self._mixed = plan(model, self.known(model), self.find(model)).mixed
        return self._mixed

    def forget(self) -> None:
        """Drop what was inferred: the model has new values."""
        self._known, self._mixed = None, None


@dataclass(frozen=True, slots=True)
class RewritePass(onnx_ir.passes.InPlacePass):
    """A rewriting of a model in place, as a pass of onnx-ir.

    Attributes:
        name: What `gmnc inspect --after` calls it.
        summary: What it does, in one line.
        rewrite: The rewriting; returns whether there was anything to rewrite.
        restarts: Whether the passes start over after a change, as what it makes holds work for earlier ones.
        context: What the pass runs in; given before it runs (see `run`).
    """

    name: str
    summary: str
    rewrite: Callable[[onnx_ir.Model, PassContext], bool]
    restarts: bool = False
    context: PassContext | None = None

    def call(self, model: onnx_ir.Model) -> onnx_ir.passes.PassResult:
        """Rewrite `model`. Raises `GmncError` where it runs without a context."""
        if self.context is None:
            raise GmncError(f"pass {self.name!r} runs in a context: run(model, passes, context)")
        return onnx_ir.passes.PassResult(model, self.rewrite(model, self.context))


def _normalise(model: onnx_ir.Model, context: PassContext) -> bool:
    """Put the normalised copy of the graph in its place. A function whose operator has a rule of its own stays."""
    model.graph = normalise(model, keep=lambda function: _is_overridden(function, model, context.rules)).graph
    model.functions.clear()
    context.forget()
    return True


def _is_overridden(function: onnx_ir.Function, model: onnx_ir.Model, rules: Registry) -> bool:
    """Whether a rule that is not built in takes the place of a local function's body."""
    key = (function.domain, function.name, opset_of(model, function.domain))
    rule = rules.find(*key)
    return rule is not None and rule is not builtin().find(*key)


PASSES: tuple[RewritePass, ...] = (
    RewritePass(
        "normalise", "inline functions, make constants initializers, sort, drop dead nodes, name everything", _normalise
    ),
    RewritePass(
        "fuse-dequantise",
        "integer weights behind Cast, Sub and Mul, and dynamic quantisation, become Dequantize and DynamicQuantize",
        lambda model, context: fuse_dequantisation(model) > 0,
    ),
    RewritePass(
        "decompose-quantised",
        "quantised operators become Dequantize, the float operator and Quantize",
        lambda model, context: decompose(model) > 0,
    ),
    RewritePass(
        "unpack-sequences",
        "readers of sequences and optionals with known entries read the entries",
        lambda model, context: unpack(model, context.known(model)),
        restarts=True,
    ),
    RewritePass(
        "flatten-control-flow",
        "bodies of If, Loop and Scan move into the main graph",
        lambda model, context: flatten(model, context.known(model), context.misfits(model)),
        restarts=True,
    ),
    RewritePass(
        "expand-functions",
        "operators without a rule become the function body that ONNX defines",
        lambda model, context: expand(model, context.known(model), context.find(model)),
        restarts=True,
    ),
    RewritePass(
        "expand-cells",
        "LSTM, GRU and RNN with computed weights become Scan",
        lambda model, context: expand_cells(model, context.known(model), context.mixed(model), context.find(model)),
        restarts=True,
    ),
    RewritePass(
        "distribute-products",
        "x (W + A B) becomes x W + (x A) B where the weight is an expression of parameters",
        lambda model, context: distribute(model, context.known(model), context.mixed(model)) > 0,
    ),
    RewritePass(
        "fuse-idioms",
        "normalisations and softmax in primitive operators become one node",
        lambda model, context: recognise(model, context.known(model)) > 0,
    ),
    RewritePass(
        "batch-rows",
        "indices that number the rows of a batch become a batch axis",
        lambda model, context: batch_rows(model, context.known(model)) > 0,
    ),
    RewritePass(
        "attributes-to-operands",
        "parameters in attributes of ai.onnx.ml operators become operands",
        lambda model, context: attributes_to_operands(model) > 0,
    ),
)
"""Every rewriting pass, in order.

Only some restart the list. They make calls of local functions, or move bodies into the main graph: the result has to be
normalised again, and may hold quantised operators, sequences and further bodies. The passes after them make nothing
that an earlier pass rewrites and add to what is known of values themselves, so that shapes are inferred once less.
"""


def run(model: onnx_ir.Model, passes: Sequence[RewritePass], context: PassContext) -> None:
    """Run passes over a model, in place: after a change by one that restarts, from the first on."""
    at = 0
    while at < len(passes):
        changed = replace(passes[at], context=context)(model).modified
        at = 0 if changed and passes[at].restarts else at + 1


def passes_up_to(name: str) -> tuple[RewritePass, ...]:
    """The passes up to the one of this name; raises `GmncError`, which lists the names, if there is none."""
    names = [p.name for p in PASSES]
    if name not in names:
        raise GmncError(f"there is no pass {name!r}; the passes are, in order: {', '.join(names)}")
    return PASSES[: names.index(name) + 1]


def prepare(
    model: onnx_ir.Model,
    dims: Mapping[str, int],
    inputs: Mapping[str, tuple[int, ...]],
    rules: Registry,
    passes: Sequence[RewritePass] = PASSES,
) -> tuple[onnx_ir.Model, dict[onnx_ir.Value, ValueInfo]]:
    """The network that is lowered, with what is known of its values; `model` stays as it is.

    Args:
        model: A model that `load` has read.
        dims: Sizes of symbolic dimensions by name.
        inputs: Shapes of graph inputs by name.
        rules: The lowering rules.
        passes: What to run, in this order; normalisation first.

    Returns:
        The rewritten network; values that were not replaced keep their names. Shapes and known numbers of its values.
    """
    network, context = _sharing(model), PassContext(dims, inputs, rules)
    run(network, passes, context)
    return network, context.known(network)


def model_after(
    model: onnx_ir.Model,
    name: str,
    dims: Mapping[str, int],
    inputs: Mapping[str, tuple[int, ...]],
    rules: Registry,
) -> onnx_ir.Model:
    """The model as the passes up to one leave it, with the shapes of its values where they can be inferred.

    Args:
        model: A model that `load` has read; it stays as it is.
        name: The name of the last pass to run.
        dims: Sizes of symbolic dimensions by name.
        inputs: Shapes of graph inputs by name.
        rules: The lowering rules.

    Raises:
        GmncError: No pass has this name.
    """
    network, context = _sharing(model), PassContext(dims, inputs, rules)
    run(network, passes_up_to(name), context)
    with suppress(LoweringError):
        for value, entry in context.known(network).items():
            proto = type_proto(entry.shape, entry.dtype)
            if proto is not None and value.const_value is None:
                value.shape = onnx_ir.Shape(entry.shape)
                value.type = onnx_ir.serde.deserialize_type_proto_for_type(proto)
    return network


def _sharing(model: onnx_ir.Model) -> onnx_ir.Model:
    """A model of the same graph and functions, for normalisation to put another graph into."""
    return onnx_ir.Model(
        model.graph,
        ir_version=model.ir_version,
        producer_name=model.producer_name,
        producer_version=model.producer_version,
        domain=model.domain,
        model_version=model.model_version,
        doc_string=model.doc_string,
        functions=list(model.functions.values()),
        metadata_props=dict(model.metadata_props),
    )
