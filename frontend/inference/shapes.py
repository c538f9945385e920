"""Shape inference: concrete shapes of all values, and the data of constants that are not parameters."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from typing import Any

import numpy as np
import onnx
import onnx_ir
from onnx.shape_inference import InferenceError, infer_node_outputs

from ...ir import LoweringError
from ..budget import MAX_FOLDED_BYTES, MAX_TOTAL_FOLD_WORK, oversize_reason
from ..dialect import Shaped
from ..errors import SMALLER, Unsupported
from ..model.attributes import attribute_values
from ..model.gc_pause import paused
from ..model.keys import DOMAIN, ML_DOMAIN
from ..model.protos import dtype_name, inference_reason, node_proto, schema_of, tensor_proto, type_proto
from ..model.traversal import describe, every_node
from ..primitives.values import Op, Value
from ..rules.foreign import plugin_errors
from ..rules.registry import Rule
from . import ml_shapes
from .bodies import BODIES
from .contrib import output_shapes
from .counted import counted, upper_bound
from .data_sizes import Assumed
from .fold_budget import fits_budget, python_work
from .folding import elementwise, fold
from .inference_guard import unsafe_reason
from .program_data import initializer_data, quantised
from .shape_checks import contradiction
from .size_choice import choose_sizes, with_assumed_sizes
from .sizes import DEFAULTS, Sizes
from .tables import partial_reads
from .value_info import ValueInfo, hint, inference_key, of_array, of_type, shape_of

__all__ = ["ValueInfo", "infer", "of_operator"]


def infer(
    model: onnx_ir.Model,
    dims: Mapping[str, int] | None = None,
    inputs: Mapping[str, tuple[int, ...]] | None = None,
    find: Callable[[onnx_ir.Node], Rule | None] = lambda node: None,
    misfits: set[onnx_ir.Graph] | None = None,
) -> dict[onnx_ir.Value, ValueInfo]:
    """Infer the shape of every value of a normalised model, values in subgraphs included, and fold constants.

    Dimensions without a given size get 1 if they look like a batch, else the first of `sizes.DEFAULTS` with which all
    shapes agree (or most branches). A dimension that would cut off a parameter table gets the length of the table, up
    to `tables.LONGEST`.

    Args:
        model: The model.
        dims: Sizes of symbolic dimensions by name.
        inputs: Shapes of graph inputs by name.
        find: The rule of a node. If it gives output shapes (`Rule.shapes`), these override the schema's inference.
        misfits: Gains the branches of If nodes that cannot run on these shapes.

    Returns:
        Shape, dtype and known data by value. Axes whose sizes depend on data have a default size and are marked;
        NonZero counts as if all entries were non-zero. Values of which nothing is known are absent.

    Raises:
        LoweringError: Ranks or shapes contradict each other; the error names the node.
    """
    with paused():
        memo: dict[Hashable, list[ValueInfo | None]] = {}
        start = _Inference(model, Sizes({}, {}, DEFAULTS[0]), memo, find, Assumed(DEFAULTS[0])).initializers()

        def infer_with(sizes: Sizes, assumed: Assumed) -> _Inference:
            inference = _Inference(model, sizes, memo, find, assumed)
            inference.unsure = unsure
            inference.known.update(start)
            inference.inputs()
            inference.graph(model.graph)
            return inference

        def choose(guess: bool) -> _Inference:
            return choose_sizes(
                lambda sizes: infer_with(sizes, Assumed(sizes.default, guess)), dims or {}, inputs or {}
            )

        nodes, opset = every_node(model.graph), model.opset_imports.get("", 1)
        unsure: set[onnx_ir.Value] = set()
        best, known = with_assumed_sizes(nodes, choose, infer_with, opset)
        while new := _assumed_choices(nodes, best.known, known) - unsure:
            unsure |= new
            best, known = with_assumed_sizes(nodes, choose, infer_with, opset)
    if misfits is not None:
        misfits.update(best.misfits)
    return known


def _assumed_choices(
    nodes: Iterable[onnx_ir.Node], assumed: Mapping[onnx_ir.Value, ValueInfo], known: Mapping[onnx_ir.Value, ValueInfo]
) -> set[onnx_ir.Value]:
    """The conditions and trip counts of which only assumed sizes give the data."""
    read = [v for n in nodes if n.op_type in ("If", "Loop") and not n.domain for v in n.inputs[:2] if v is not None]
    return {v for v in read if v in known and known[v].data is None and assumed[v].data is not None}


def of_operator(
    op: str,
    domain: str,
    opset: int,
    inputs: Sequence[ValueInfo | None],
    attributes: Mapping[str, Any],
    rule: Rule | None,
    outputs: int = 1,
) -> list[ValueInfo | None]:
    """Infer the outputs of an operator that is not a node of a model.

    Args:
        op: The operator.
        domain: Its domain.
        opset: The version of its domain.
        inputs: Its operands, None where one is left out.
        attributes: Its attributes; those that are None are left out.
        rule: Its rule, which may give the shapes; else the schema does.
        outputs: How many outputs it has.

    Returns:
        Its first outputs, None where unknown.

    Raises:
        LoweringError: The operands do not fit.
    """
    values = [None if k is None else onnx_ir.Value(name=f"i{i}") for i, k in enumerate(inputs)]
    made = onnx_ir.convenience.convert_attributes({n: v for n, v in attributes.items() if v is not None})
    node = onnx_ir.Node(
        domain, op, values, made, outputs=[onnx_ir.Value(name=f"o{i}") for i in range(outputs)], version=opset
    )
    graph = onnx_ir.Graph([], [], nodes=[], opset_imports={domain: opset})
    sizes, assumed = Sizes({}, {}, DEFAULTS[0]), Assumed(DEFAULTS[0], guess=False)
    inference = _Inference(onnx_ir.Model(graph, ir_version=10), sizes, {}, lambda _: rule, assumed)
    inference.advice = ""
    return inference.outputs(node, list(inputs))


class _Inference:
    """One walk over the nodes with one choice of sizes.

    Attributes:
        memo: Inferred outputs by `value_info.inference_key`, shared between walks.
        assumed: What is assumed of sizes that depend on data.
        known: What has been inferred so far.
        misfits: Branches that cannot run on these shapes.
        unsure: Values whose data follows from sizes that depend on data.
        advice: What to do if sizes that were not guessed do not fit.
        folded: Bytes of the constants folded so far.
        python_work: Their work element by element in Python, see `budget.MAX_FOLD_WORK`.
    """

    def __init__(
        self,
        model: onnx_ir.Model,
        sizes: Sizes,
        memo: dict[Hashable, list[ValueInfo | None]],
        find: Callable[[onnx_ir.Node], Rule | None],
        assumed: Assumed,
    ) -> None:
        self.model = model
        self.assumed = assumed
        self.sizes = sizes
        self.memo = memo
        self.find = find
        self.known: dict[onnx_ir.Value, ValueInfo] = {}
        self.misfits: set[onnx_ir.Graph] = set()
        self.unsure: Collection[onnx_ir.Value] = ()
        self.advice = _FIXED
        self.folded = self.python_work = 0
        self.opsets = [onnx.OperatorSetIdProto(domain=d, version=v) for d, v in model.opset_imports.items()]

    def partial_reads(self) -> list[tuple[int, int, int]]:
        """Parameter tables that are read in part (see `tables.partial_reads`); none if no dimension was guessed."""
        if not self.sizes.names:
            return []
        shapes = {v: k.shape for v, k in self.known.items()}
        return list(partial_reads(self.model, shapes, {v: k.data for v, k in self.known.items() if k.data is not None}))

    def opset(self, node: onnx_ir.Node) -> int:
        """The version of the operator set of a node."""
        return node.version or self.model.opset_imports.get(node.domain, 1)

    def initializers(self) -> dict[onnx_ir.Value, ValueInfo]:
        """Shapes of the initializers, and the data of those that are not parameters."""
        stored = quantised(self.model.graph, self.find)
        known = {}
        for value in self.model.graph.initializers.values():
            tensor = value.const_value
            if tensor is not None:
                data = None if value in stored else initializer_data(value)
                known[value] = ValueInfo(tuple(tensor.shape.numpy()), dtype_name(tensor.dtype), data)
        return known

    def inputs(self) -> None:
        """Set the shapes of the graph inputs."""
        for value in self.model.graph.inputs:
            if isinstance(value.type, onnx_ir.TensorType):
                shape = self.sizes.of_input(value)
                if reason := oversize_reason(shape):
                    raise LoweringError(f"input {value.name!r} has {reason}; {SMALLER}")
                self.known[value] = ValueInfo(shape, dtype_name(value.type.dtype))
            else:
                self.known[value] = ValueInfo((), "")

    def graph(self, graph: onnx_ir.Graph) -> None:
        """Infer the nodes of a graph whose inputs are known."""
        for node in graph:
            inputs = [None if v is None else self.known.get(v) for v in node.inputs]
            try:
                outputs = self._node(node, inputs)
                pairs = list(zip(node.outputs, outputs, strict=False))
                found = {v: k or self._declared(v) or upper_bound(node, inputs) for v, k in pairs}
                found = self._by_data(self.assumed, node, inputs, found)
            except (ValueError, LookupError, TypeError, ArithmeticError) as error:
                raise self._misfit(node, inputs, str(error)) from error
            self.known.update((v, k) for v, k in found.items() if k is not None and v.name)

    def _by_data(
        self, assumed: Assumed, node: onnx_ir.Node, inputs: list[ValueInfo | None],
        found: dict[onnx_ir.Value, ValueInfo | None],
    ) -> dict[onnx_ir.Value, ValueInfo | None]:  # fmt: skip
        """The outputs of a node, with default sizes where sizes depend on data."""
        marks = counted(node, inputs, list(found.values()))
        found = {v: k and assumed.counted(node, v, k, m) for (v, k), m in zip(found.items(), marks, strict=True)}
        if not assumed.guess or all(k is not None or not v.name for v, k in found.items()):
            return found
        made: list[ValueInfo | None] | None = None
        with suppress(LoweringError):
            made = assumed.outputs(node, inputs, self.known, self.opset(node), lambda k: self._inferred(node, k))
        if made is None and node.domain not in _WITH_SCHEMAS and self.find(node) is None:
            made = [self._named(assumed, v) for v in node.outputs]
            if any(k is not None for k in made):
                assumed.nodes[node] = None
        if made is None:
            return found
        self.sizes.guessed = True
        return {v: k or m for (v, k), m in zip(found.items(), made, strict=True)}

    def _named(self, assumed: Assumed, value: onnx_ir.Value) -> ValueInfo | None:
        """The declared shape of an output of an operator of unknown structure."""
        if not isinstance(value.type, onnx_ir.TensorType) or value.shape is None:
            return None
        if value.type.dtype is onnx_ir.DataType.UNDEFINED:
            return None
        return ValueInfo(assumed.named(value.shape, self.sizes.of_dim), dtype_name(value.type.dtype))

    def _node(self, node: onnx_ir.Node, inputs: list[ValueInfo | None]) -> list[ValueInfo | None]:
        if node.op_type in BODIES and not node.domain:
            return BODIES[node.op_type](self, node, inputs)
        if any(v is not None and k is None for v, k in zip(node.inputs, inputs, strict=True)):
            return [None] * len(node.outputs)
        return self._outputs(node, inputs)

    def _outputs(self, node: onnx_ir.Node, inputs: list[ValueInfo | None]) -> list[ValueInfo | None]:
        if not node.domain and node.op_type in ("Shape", "Size") and inputs[0] is not None:
            return [of_array(shape_of(node, inputs[0].shape))]
        if (
            node.op_type == "CastLike"
            and inputs[0] is not None
            and inputs[0].data is not None
            and inputs[1] is not None
        ):
            data = inputs[0].data
            return [of_array(elementwise(lambda a: a.astype(inputs[1].dtype), data))]  # type: ignore[union-attr]
        if all(k is None or k.data is not None for k in inputs) and (inputs or node.op_type in _NULLARY):
            arrays = self._fold(node, inputs)
            if arrays is not None:
                return [of_array(a) for a in arrays]
        return self._inferred(node, inputs)

    def outputs(self, node: onnx_ir.Node, inputs: list[ValueInfo | None]) -> list[ValueInfo | None]:
        """Outputs of a node without their data; any error is reported as a misfit of the operands."""
        try:
            return self._inferred(node, inputs)
        except (ValueError, LookupError, TypeError, ArithmeticError) as error:
            raise self._misfit(node, inputs, str(error)) from error

    def _inferred(self, node: onnx_ir.Node, inputs: list[ValueInfo | None]) -> list[ValueInfo | None]:
        """Outputs of a node without their data, by its rule or its schema."""
        rule = self.find(node)
        if rule is not None and rule.shapes is not None:
            return self._by_rule(node, inputs, rule, rule.shapes)
        if node.domain == ML_DOMAIN:
            return _contrib(node, inputs, ml_shapes.output_shapes)
        decisive = inference_key(node, inputs)
        known = self.memo.get(decisive)
        if known is None:
            known = self.memo[decisive] = self._schema(node, inputs)
        return known

    def _by_rule(
        self,
        node: onnx_ir.Node,
        inputs: list[ValueInfo | None],
        rule: Rule,
        shapes: Callable[[Op], Iterable[Shaped | None]],
    ) -> list[ValueInfo | None]:
        """Outputs as given by `Rule.shapes`."""
        values = tuple(None if k is None else Value("", k.shape, k.dtype, data=k.data) for k in inputs)
        name, version = node.name or node.op_type, self.opset(node)
        op = Op(node.op_type, node.domain, version, name, values, (), attribute_values(node, version))
        found: list[ValueInfo | None] = []
        blame = (
            plugin_errors(rule, f"shapes of rule {rule.function}", describe(node)) if rule.foreign else nullcontext()
        )
        try:
            with suppress(Unsupported), blame:
                given = _checked(shapes(op)) if rule.foreign else shapes(op)
                found = [f and ValueInfo(tuple(map(int, f[0])), f[1]) for f in given]
        except (AssertionError, AttributeError) as error:
            raise self._misfit(node, inputs, str(error)) from error
        return found + [None] * (len(node.outputs) - len(found))

    def _fold(self, node: onnx_ir.Node, inputs: list[ValueInfo | None]) -> list[np.ndarray] | None:
        """Compute the outputs of a node; None if it cannot be run or would exceed the budget."""
        arrays = [None if k is None else k.data for k in inputs]
        try:
            spent = self.folded > MAX_FOLDED_BYTES or self.python_work > MAX_TOTAL_FOLD_WORK
            if spent or not fits_budget(node, arrays, lambda: self._output_shapes(node, inputs)):
                return None
            results = fold(node, self.opset(node), arrays)
        except Exception as error:
            if self.assumed.nodes:
                return None  # The operands may follow from an assumed size, as an index beyond a table.
            raise self._misfit(node, inputs, str(error)) from error
        self.folded += sum(a.nbytes for a in results or () if a.base is None)
        self.python_work += python_work(node, sum(a.size for a in results or ()))
        return results

    def _output_shapes(self, node: onnx_ir.Node, inputs: list[ValueInfo | None]) -> list[tuple[int, ...] | None]:
        """The output shapes of a node, as far as they can be inferred without computing it."""
        with suppress(LoweringError):
            return _shapes(self._inferred(node, inputs))
        return []

    def _schema(self, node: onnx_ir.Node, inputs: list[ValueInfo | None]) -> list[ValueInfo | None]:
        """Outputs by the ONNX schema's own inference."""
        schema = schema_of(node.op_type, self.opset(node), node.domain)
        if schema is None:
            return _contrib(node, inputs)
        proto = node_proto(node)
        types = {f"i{i}": type_proto(k.shape, k.dtype) for i, k in enumerate(inputs) if k is not None}
        data = {f"i{i}": tensor_proto(a) for i, k in enumerate(inputs) if (a := hint(node, k)) is not None}
        tensors = {name: t for name, t in types.items() if t is not None}
        if len(tensors) < len(types):
            return _contrib(node, inputs)
        if reason := unsafe_reason(node, _shapes(inputs)):
            raise self._misfit(node, inputs, reason)
        try:
            found = infer_node_outputs(schema, proto, tensors, data, opset_imports=self.opsets)
        except (InferenceError, onnx.checker.ValidationError, MemoryError) as error:
            raise self._misfit(node, inputs, inference_reason(error)) from error
        outputs = [found.get(f"o{k}") for k in range(len(node.outputs))]
        known = [None if t is None else of_type(t) for t in outputs]
        if all(k is None for k in known):
            return _contrib(node, inputs)
        wrong = None if node.domain else contradiction(node, _shapes(inputs), _shapes(known))
        if wrong is not None:
            raise self._misfit(node, inputs, wrong)
        return known

    def _misfit(self, node: onnx_ir.Node, inputs: Sequence[ValueInfo | None], reason: str) -> LoweringError:
        hint = self._given_by_rule(node) or (_GUESSED if self.sizes.guessed or self.sizes.inputs else self.advice)
        return LoweringError(
            f"{describe(node)}: inputs of shapes {[k and list(k.shape) for k in inputs]} do not fit: {reason}"
            + (f"; {hint}" if hint else "")
        )

    def _given_by_rule(self, node: onnx_ir.Node) -> str:
        """Which rule that is not built in gave the shape of an operand, if any did."""
        for value in node.inputs:
            producer = None if value is None else value.producer()
            rule = None if producer is None else self.find(producer)
            if value is not None and rule is not None and rule.foreign and rule.shapes is not None:
                owner = f" of the distribution {rule.origin}" if rule.origin else ""
                return f"the shape of {value.name!r} was given by the rule {rule.function}{owner}: correct its shapes"
        return ""

    def _declared(self, value: onnx_ir.Value) -> ValueInfo | None:
        """Shape and dtype that the model declares for a value."""
        if isinstance(value.type, onnx_ir.TensorType) and value.type.dtype is onnx_ir.DataType.UNDEFINED:
            return None
        if isinstance(value.type, onnx_ir.TensorType):
            shape = self.sizes.of_value(value)
            return None if shape is None else ValueInfo(shape, dtype_name(value.type.dtype))
        return None if value.type is None else ValueInfo((), "")


def _checked(given: object) -> Sequence[Shaped | None]:
    """What the `shapes` of a rule that is not built in returned; raises `TypeError` if it is of another form."""
    if not isinstance(given, list | tuple):
        raise TypeError(f"it returned {type(given).__name__}, not a list of one (shape, dtype name) per output")
    for entry in given:
        if entry is None:
            continue
        if not isinstance(entry, tuple) or len(entry) != 2 or not isinstance(entry[0], list | tuple):
            raise TypeError(f"it returned {entry!r} for an output, not (shape, dtype name) or None")
        if not all(isinstance(n, int | np.integer) and not isinstance(n, bool) and n >= 0 for n in entry[0]):
            raise TypeError(f"it returned the shape {entry[0]!r}: give integers of at least 0")
        if not isinstance(entry[1], str) or entry[1] not in _DTYPES:
            raise TypeError(f"it returned the dtype {entry[1]!r}: give NumPy's name of one, such as 'float32'")
    return given


_DTYPES = {dtype_name(dtype) for dtype in onnx_ir.DataType if dtype is not onnx_ir.DataType.UNDEFINED}
_NULLARY = frozenset({"Constant"})
_WITH_SCHEMAS = frozenset({"", "ai.onnx", ML_DOMAIN, DOMAIN})
_GUESSED = "give sizes that fit (--dim NAME=SIZE, --input NAME=1x3x224x224), or export the model again"
_FIXED = "the model contradicts itself; export it again"


def _contrib(
    node: onnx_ir.Node,
    inputs: list[ValueInfo | None],
    shapes: Callable[[onnx_ir.Node, Sequence[Shaped | None]], list[Shaped | None]] = output_shapes,
) -> list[ValueInfo | None]:
    found = shapes(node, [None if k is None else (k.shape, k.dtype) for k in inputs])
    return [f and ValueInfo(*f) for f in found]


def _shapes(values: Sequence[ValueInfo | None]) -> list[tuple[int, ...] | None]:
    return [None if k is None else k.shape for k in values]
