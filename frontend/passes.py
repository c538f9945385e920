"""The rewriting passes in order, and `prepare`, which runs them to a fixed point."""

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
from .plan import mixed_values
from .rewriting.cells import expand_cells
from .rewriting.chains import merge_chains
from .rewriting.control import flatten
from .rewriting.data_sizes import fix_sizes
from .rewriting.dequantised import fuse_dequantisation
from .rewriting.expand import expand
from .rewriting.experts import dense_experts
from .rewriting.idioms import recognise
from .rewriting.linearity import distribute
from .rewriting.normalise import normalise
from .rewriting.quantized_ops import decompose
from .rewriting.rows import batch_rows
from .rewriting.runs import merge_runs
from .rewriting.sequences import unpack
from .rules.registry import Registry, Rule, builtin

__all__ = ["PASSES", "PassContext", "RewritePass", "model_after", "passes_up_to", "prepare", "run"]


@dataclass(slots=True)
class PassContext:
    """What passes need besides the model. Inferred shapes are cached until the next normalisation.

    Attributes:
        dims: Sizes of symbolic dimensions by name.
        inputs: Shapes of graph inputs by name.
        rules: The lowering rules. An operator that has one is not expanded to its function body, and one that has one
            that is not built in is not rewritten at all.
    """

    dims: Mapping[str, int]
    inputs: Mapping[str, tuple[int, ...]]
    rules: Registry
    _known: dict[onnx_ir.Value, ValueInfo] | None = None
    _misfits: set[onnx_ir.Graph] = field(default_factory=set)
    _mixed: Set[onnx_ir.Value] | None = None

    def find(self, model: onnx_ir.Model) -> Callable[[onnx_ir.Node], Rule | None]:
        """A function that looks up the rule of a node of `model`."""
        return rule_lookup(self.rules, model)

    def overridden(self, model: onnx_ir.Model) -> Callable[[onnx_ir.Node], bool]:
        """A function that tells whether a node of `model` has a rule that is not built in: no pass may rewrite it."""
        find = rule_lookup(self.rules, model)
        return lambda node: (rule := find(node)) is not None and rule.foreign

    def known(self, model: onnx_ir.Model) -> dict[onnx_ir.Value, ValueInfo]:
        """Shapes and known data of the values of `model`; passes add those of new values."""
        if self._known is None:
            self._misfits = set()
            self._known = infer(model, self.dims, self.inputs, self.find(model), self._misfits)
        return self._known

    def misfits(self, model: onnx_ir.Model) -> set[onnx_ir.Graph]:
        """The branches of `model` that cannot run on these shapes."""
        self.known(model)
        return self._misfits

    def mixed(self, model: onnx_ir.Model) -> Set[onnx_ir.Value]:
        """The values of `model` with entries that depend on several parameter elements."""
        if self._mixed is None:
            self._mixed = mixed_values(model, self.known(model), self.find(model))
        return self._mixed

    def forget(self) -> None:
        """Drop the cache: the model has new values."""
        self._known, self._mixed = None, None


@dataclass(frozen=True, slots=True)
class RewritePass(onnx_ir.passes.InPlacePass):
    """An in-place rewriting of a model, as an onnx-ir pass.

    Attributes:
        name: What `gmnc inspect --after` calls it.
        summary: What it does, in one line.
        rewrite: The rewriting; returns whether it changed the model.
        restarts: Whether a change restarts the passes, since earlier ones may apply to the new nodes.
        context: The context, set before it runs (see `run`).
    """

    name: str
    summary: str
    rewrite: Callable[[onnx_ir.Model, PassContext], bool]
    restarts: bool = False
    context: PassContext | None = None

    def call(self, model: onnx_ir.Model) -> onnx_ir.passes.PassResult:
        """Rewrite `model`. Raises `GmncError` if there is no context."""
        if self.context is None:
            raise GmncError(f"pass {self.name!r} needs a context: run(model, passes, context)")
        return onnx_ir.passes.PassResult(model, self.rewrite(model, self.context))


def _normalise(model: onnx_ir.Model, context: PassContext) -> bool:
    """Replace the graph by its normalised copy. Functions whose operator has a rule that is not built in stay."""
    model.graph = normalise(model, keep=lambda function: _is_overridden(function, model, context.rules)).graph
    model.functions.clear()
    context.forget()
    return True


def _is_overridden(function: onnx_ir.Function, model: onnx_ir.Model, rules: Registry) -> bool:
    """Whether a rule that is not built in replaces the body of a local function."""
    key = (function.domain, function.name, opset_of(model, function.domain))
    rule = rules.find(*key)
    return rule is not None and rule is not builtin().find(*key)


PASSES: tuple[RewritePass, ...] = (
    RewritePass(
        "normalise",
        "inline functions, turn constants into initializers, sort, drop dead nodes, name everything",
        _normalise,
    ),
    RewritePass(
        "merge-runs",
        "long runs of elementwise operators on one value become one operator",
        lambda model, context: merge_runs(model, context.overridden(model)) > 0,
    ),
    RewritePass(
        "fuse-dequantise",
        "integer weights behind Cast, Sub and Mul, and dynamic quantisation, become Dequantize and DynamicQuantize",
        lambda model, context: fuse_dequantisation(model, context.overridden(model)) > 0,
    ),
    RewritePass(
        "decompose-quantised",
        "quantised operators become Dequantize, the float operator and Quantize",
        lambda model, context: decompose(model, context.overridden(model)) > 0,
    ),
    RewritePass(
        "unpack-sequences",
        "readers of sequences and optionals with known entries read the entries",
        lambda model, context: unpack(model, context.known(model), context.overridden(model)),
        restarts=True,
    ),
    RewritePass(
        "flatten-control-flow",
        "bodies of If, Loop and Scan move into the main graph",
        lambda model, context: flatten(model, context.known(model), context.misfits(model), context.overridden(model)),
        restarts=True,
    ),
    RewritePass(
        "expand-functions",
        "operators without a rule become the function body that ONNX defines",
        lambda model, context: expand(model, context.known(model), context.find(model)),
        restarts=True,
    ),
    RewritePass(
        "fix-sizes",
        "operators whose sizes depend on data get default sizes, and a join with what determines the sizes",
        lambda model, context: fix_sizes(model, context.known(model)),
        restarts=True,
    ),
    RewritePass(
        "expand-cells",
        "LSTM, GRU and RNN with computed weights become Scan",
        lambda model, context: expand_cells(
            model, context.known(model), context.mixed(model), context.overridden(model)
        ),
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
        lambda model, context: recognise(model, context.known(model), context.overridden(model)) > 0,
    ),
    RewritePass(
        "batch-rows",
        "indices that number the rows of a batch become a batch axis",
        lambda model, context: batch_rows(model, context.known(model), context.overridden(model)) > 0,
    ),
    RewritePass(
        "dense-experts",
        "experts whose weights the router gathers all run, with a gate",
        lambda model, context: dense_experts(model, context.known(model), context.overridden(model)) > 0,
    ),
    RewritePass(
        "merge-chains",
        "(a + b) + c becomes one operator of three operands, likewise products, maxima, ...",
        lambda model, context: merge_chains(model, context.known(model), context.find(model)) > 0,
    ),
    RewritePass(
        "attributes-to-operands",
        "parameters in attributes of ai.onnx.ml operators become operands",
        lambda model, context: attributes_to_operands(model) > 0,
    ),
)
"""Every rewriting pass, in order.

Some restart the list: they insert calls of local functions, or move bodies into the main graph, so that the result has
to be normalised again and may contain quantised operators, sequences and further bodies. The others insert nothing that
an earlier pass rewrites, and record shapes of new values themselves, which saves another inference.
"""


def run(model: onnx_ir.Model, passes: Sequence[RewritePass], context: PassContext) -> None:
    """Run passes over a model in place; start over after a change by one that restarts."""
    at = 0
    while at < len(passes):
        changed = replace(passes[at], context=context)(model).modified
        at = 0 if changed and passes[at].restarts else at + 1


def passes_up_to(name: str) -> tuple[RewritePass, ...]:
    """The passes up to the one of this name. Raises `GmncError`, which lists all names, if there is none."""
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
    """Rewrite a copy of a model for lowering, and infer its shapes.

    Args:
        model: A model from `load`; it is not modified.
        dims: Sizes of symbolic dimensions by name.
        inputs: Shapes of graph inputs by name.
        rules: The lowering rules.
        passes: The passes to run, normalisation first.

    Returns:
        The rewritten network, in which values that were not replaced keep their names; shapes and known data of its
        values.
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
    """The model after the passes up to one, with the shapes of its values as far as they can be inferred.

    Args:
        model: A model from `load`; it is not modified.
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
    """A model that shares graph and functions; normalisation replaces its graph."""
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
