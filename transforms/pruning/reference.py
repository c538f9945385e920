"""What a pruned model must compute: the original, with the removed positions masked.

The parameters on all edges of removed nodes are zeros. Where the network takes a statistic over an axis that loses
entries (a mean over features, a softmax over experts), zeros would still count: there the statistic of the reference is
taken over the entries that are left, which is said in the proof.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir

from ...backends.onnx import write
from ...frontend.model.traversal import every_node
from ...frontend.rewriting.normalise import normalise
from ...ir import ParameterGraph
from .cuts import Cut
from .finish import finish

__all__ = ["Reference", "masked_original"]

_KEEP = (".zero_point", ".var")

_SKIPPED_EPSILON = 1e-12
"""The default of SkipLayerNormalization and SkipSimplifiedLayerNormalization."""
_LEAST = {"float16": -6e4}

_WHERE = 9
"""The operator set that introduces Where."""


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The masked original.

    Attributes:
        model: The model.
        statistics: The names of the nodes whose statistic is taken over the entries that are left.
    """

    model: onnx_ir.Model
    statistics: tuple[str, ...]


def masked_original(
    graph: ParameterGraph,
    removed: np.ndarray,
    cuts: Mapping[str, Cut],
    known: Mapping[str, np.ndarray],
    outgoing: bool = False,
) -> Reference:
    """The original in which the parameters of removed nodes are zeros, and statistics leave removed entries out.

    Args:
        graph: The graph of the original.
        removed: bool [num_nodes], the removed nodes.
        cuts: The cuts of its values, by name.
        known: The known data of its values, by name.
        outgoing: Whether only parameters on edges that leave removed nodes are zeros; for networks that divide by what
            then would be 0.
    """
    model = write(graph, _zeroed(graph, removed, outgoing), rounded=True)
    plain = normalise(model)
    finish(plain)
    masks = _Masks(plain, cuts, known)
    statistics = masks.run()
    return Reference(plain if masks.number else model, tuple(statistics))


def _zeroed(graph: ParameterGraph, removed: np.ndarray, outgoing: bool) -> dict[str, np.ndarray]:
    """Parameters with zeros on the edges of removed nodes; scales of stored integers and variances stay."""
    found: dict[str, np.ndarray] = {}
    for block in graph.edges:
        quantiser = block.role.endswith(".scale") and block.role != "norm.scale"
        if block.constant or block.role.endswith(_KEEP) or quantiser:
            continue
        ends = removed[block.dst][:, :, None]
        gone = removed[block.src][:, None, :] & ~ends if outgoing else ends | removed[block.src][:, None, :]
        if gone.any():
            name = block.view.name
            if name not in found:
                found[name] = np.array(graph.parameters[name].load(), copy=True, order="C")
            values = block.view.read(found[name]).copy()
            values[np.broadcast_to(gone[..., None], block.shape)] = 0
            block.view.write(found[name], values)
    return found


class _Masks:
    """Inserts masks into a model, in front of what takes a statistic over an axis that loses entries."""

    def __init__(self, model: onnx_ir.Model, cuts: Mapping[str, Cut], known: Mapping[str, np.ndarray]) -> None:
        self.model = model
        self.known = known
        self.cuts = cuts
        self.opset = model.graph.opset_imports.get("", 1)
        self.number = 0

    def run(self) -> list[str]:
        """Insert all masks; the names of the nodes that got one."""
        changed = []
        for node in list(every_node(self.model.graph)):
            rule = _RULES.get(node.op_type)
            if rule is not None and rule(self, node):
                changed.append(node.name or "")
        return changed

    def data(self, value: onnx_ir.Value) -> np.ndarray | None:
        """The data of a value, None if it is not known."""
        return value.const_value.numpy() if value.const_value is not None else self.known.get(value.name or "")

    def cut(self, value: onnx_ir.Value | None) -> Cut | None:
        """The cut of a value that loses entries."""
        cut = self.cuts.get(value.name or "") if value is not None else None
        return cut if cut is not None and cut.any else None

    def constant(self, array: np.ndarray) -> onnx_ir.Value:
        """A new initializer."""
        self.number += 1
        name = f"mask.{self.number}"
        value = onnx_ir.Value(name=name, const_value=onnx_ir.tensor(array, name=name), shape=onnx_ir.Shape(array.shape))
        value.type = onnx_ir.TensorType(onnx_ir.DataType.from_numpy(array.dtype))
        self.model.graph.register_initializer(value)
        return value

    def node(self, before: onnx_ir.Node, op: str, *inputs: onnx_ir.Value, **attributes: int) -> onnx_ir.Value:
        """The result of a new node in front of another one."""
        self.number += 1
        attrs = [onnx_ir.AttrInt64(n, v) for n, v in attributes.items()]
        made = onnx_ir.Node("", op, inputs, attrs, name=f"mask.node.{self.number}", num_outputs=1)
        made.outputs[0].name = f"mask.value.{self.number}"
        graph = before.graph
        assert graph is not None
        graph.insert_before(before, made)
        return made.outputs[0]

    def typed(self, number: float | np.ndarray, like: onnx_ir.Value) -> np.ndarray:
        """A number of the float type of a value."""
        dtype = like.type.dtype.numpy() if like.type is not None else np.dtype(np.float32)
        return np.asarray(number).astype(dtype if dtype.kind in "fV" else np.float32)

    def masked(
        self, node: onnx_ir.Node, index: int, cut: Cut, fill: float = 0.0, axes: Sequence[int] = ()
    ) -> onnx_ir.Value:
        """An operand with `fill` in place of what is removed, but 0 where nothing is left along `axes`."""
        value = node.inputs[index]
        assert value is not None
        along = tuple(a for a in axes if cut.removed.shape[a] > 1)
        nothing = cut.removed.all(axis=along, keepdims=True) & cut.removed
        least = np.where(nothing, 0.0, fill)
        if self.model.graph.opset_imports.get("", 1) >= _WHERE:
            return self.node(node, "Where", self.constant(cut.removed), self.constant(self.typed(least, value)), value)
        kept = self.node(node, "Mul", value, self.constant(self.typed(~cut.removed, value)))
        return self.node(node, "Add", kept, self.constant(self.typed(np.where(cut.removed, least, 0.0), value)))


def _axes(masks: _Masks, node: onnx_ir.Node, cut: Cut) -> list[int]:
    found = node.attributes.get("axes")
    axes = None if found is None else found.value
    if node.op_type.startswith("Global"):
        return [*range(2, len(cut.shape))]
    if node.op_type in ("TopK", "ArgMax", "ArgMin"):
        found = node.attributes.get("axis")
        default = -1 if node.op_type == "TopK" else 0
        return [(default if found is None else int(found.value)) % len(cut.shape)]
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        data = masks.data(node.inputs[1])
        axes = [*range(len(cut.shape))] if data is None else data.reshape(-1).tolist()
    rank = len(cut.shape)
    noop = node.attributes.get("noop_with_empty_axes")
    if axes is None or not len(axes):
        return [] if noop is not None and noop.value else [*range(rank)]
    return [int(a) % rank for a in axes]


def _reduction(fill: float) -> Callable[[_Masks, onnx_ir.Node], bool]:
    def rule(masks: _Masks, node: onnx_ir.Node) -> bool:
        cut = masks.cut(node.inputs[0])
        axes = [] if cut is None else _axes(masks, node, cut)
        if cut is None or not {*cut.axes} & {*axes}:
            return False
        node.replace_input_with(0, masks.masked(node, 0, cut, fill, axes))
        return True

    return rule


def _mean(masks: _Masks, node: onnx_ir.Node) -> bool:
    cut = masks.cut(node.inputs[0])
    axes = [] if cut is None else _axes(masks, node, cut)
    if cut is None or not {*cut.axes} & {*axes}:
        return False
    value = node.inputs[0]
    assert value is not None
    node.replace_input_with(0, masks.masked(node, 0, cut))
    _scale_result(masks, node, _more(cut, axes), value)
    return True


def _more(cut: Cut, axes: list[int]) -> float:
    """By how much a mean over all entries of these axes is too small, the removed ones being 0."""
    return prod(cut.shape[a] for a in axes) / max(prod(cut.new[a] for a in axes), 1)


def _scale_result(masks: _Masks, node: onnx_ir.Node, by: float, like: onnx_ir.Value) -> None:
    old = node.outputs[0]
    graph = node.graph
    assert graph is not None
    made = onnx_ir.Node(
        "", "Mul", [old, masks.constant(masks.typed(by, like))], name=f"{node.name}.scaled", num_outputs=1
    )
    graph.insert_after(node, made)
    _instead(masks, node, made.outputs[0])
    made.replace_input_with(0, old)


def _softmax(masks: _Masks, node: onnx_ir.Node) -> bool:
    cut = masks.cut(node.inputs[0])
    if cut is None:
        return False
    rank = len(cut.shape)
    found = node.attributes.get("axis")
    axis = (int(found.value) if found is not None else (-1 if masks.opset >= 13 else 1)) % rank
    axes = {axis} if masks.opset >= 13 else {*range(axis, rank)}
    if not {*cut.axes} & axes:
        return False
    node.replace_input_with(0, masks.masked(node, 0, cut, -1e30, [*axes]))
    return True


def _normalisation(masks: _Masks, node: onnx_ir.Node) -> bool:
    """LayerNormalization, RMSNormalization, InstanceNormalization and GroupNormalization, written out."""
    cut = masks.cut(node.inputs[0])
    if cut is None:
        return False
    rank, op = len(cut.shape), node.op_type
    value, attributes = node.inputs[0], node.attributes
    assert value is not None
    if op == "InstanceNormalization":
        axes = [*range(2, rank)]
    elif op == "MeanVarianceNormalization":
        axes = [int(a) % rank for a in (attributes["axes"].value if "axes" in attributes else (0, 2, 3))]
    else:
        found = attributes.get("axis")
        axes = [*range((int(found.value) if found is not None else -1) % rank, rank)]
    if not {*cut.axes} & {*axes}:
        return False
    epsilon = float(attributes["epsilon"].value) if "epsilon" in attributes else 1e-5
    by = _more(cut, axes)

    def mean(x: onnx_ir.Value) -> onnx_ir.Value:
        return masks.node(node, "Mul", _mean_of(masks, node, x, axes), masks.constant(masks.typed(by, value)))

    x = masks.masked(node, 0, cut)
    kept = masks.constant(masks.typed(~cut.removed, value))
    if "RMS" not in op and "Simplified" not in op:
        x = masks.node(node, "Mul", masks.node(node, "Sub", x, mean(x)), kept)
    epsilon = 1e-18 if op == "MeanVarianceNormalization" else epsilon
    square = masks.node(node, "Add", mean(masks.node(node, "Mul", x, x)), masks.constant(masks.typed(epsilon, value)))
    y = masks.node(node, "Div", x, masks.node(node, "Sqrt", square))
    for operand, step in zip(node.inputs[1:3], ("Mul", "Add"), strict=False):
        if operand is not None:
            if op == "InstanceNormalization":
                shape = masks.constant(np.array([1, -1, *(1,) * (rank - 2)], np.int64))
                operand = masks.node(node, "Reshape", operand, shape)
            y = masks.node(node, step, y, operand)
    _instead(masks, node, y)
    return True


def _instead(masks: _Masks, node: onnx_ir.Node, y: onnx_ir.Value) -> None:
    """Let the readers of the first result of a node read another value."""
    masks.number += 1
    name, node.outputs[0].name = node.outputs[0].name, f"mask.whole.{masks.number}"
    onnx_ir.convenience.replace_all_uses_with(node.outputs[0], y, replace_graph_outputs=True)
    y.name = name


def _group_normalisation(masks: _Masks, node: onnx_ir.Node) -> bool:
    """GroupNormalization, written out for groups that lose channels."""
    cut, value = masks.cut(node.inputs[0]), node.inputs[0]
    if cut is None or 1 not in cut.axes:
        return False
    groups = int(node.attributes["num_groups"].value)
    epsilon = float(node.attributes["epsilon"].value) if "epsilon" in node.attributes else 1e-5
    assert value is not None
    batch, channels, *space = cut.shape
    left = np.zeros(channels, bool)
    left[cut.indices(1)] = True
    counts = left.reshape(groups, -1).sum(axis=1)
    by = masks.constant(masks.typed(channels / groups / counts.max(), value))
    apart = masks.constant(np.array([batch, groups, -1], np.int64))
    kept = np.repeat(left, prod(space)).reshape(1, groups, -1)
    mask = masks.constant(masks.typed(kept, value))
    x = masks.node(node, "Mul", masks.node(node, "Reshape", masks.masked(node, 0, cut), apart), mask)

    def mean(of: onnx_ir.Value) -> onnx_ir.Value:
        return masks.node(node, "Mul", _mean_of(masks, node, of, [2]), by)

    x = masks.node(node, "Mul", masks.node(node, "Sub", x, mean(x)), mask)
    square = masks.node(node, "Add", mean(masks.node(node, "Mul", x, x)), masks.constant(masks.typed(epsilon, value)))
    y = masks.node(node, "Div", x, masks.node(node, "Sqrt", square))
    per_group = masks.opset < 21
    if not per_group:
        y = masks.node(node, "Reshape", y, masks.constant(np.array(cut.shape, np.int64)))
    shape = masks.constant(np.array([1, -1, *(1,) * (1 if per_group else len(space))], np.int64))
    for operand, step in zip(node.inputs[1:3], ("Mul", "Add"), strict=True):
        assert operand is not None
        y = masks.node(node, step, y, masks.node(node, "Reshape", operand, shape))
    if per_group:
        y = masks.node(node, "Reshape", y, masks.constant(np.array(cut.shape, np.int64)))
    _instead(masks, node, y)
    return True


def _skip_normalisation(masks: _Masks, node: onnx_ir.Node) -> bool:
    """SkipLayerNormalization: the sum in front of it becomes a node of its own."""
    simple = "Simplified" in node.op_type
    cut = masks.cut(node.inputs[0])
    if cut is None or len(cut.shape) - 1 not in cut.axes:
        return False
    gamma, beta = node.inputs[2], None if simple else (node.inputs[3] if len(node.inputs) > 3 else None)
    bias = node.inputs[3 if simple else 4] if len(node.inputs) > (3 if simple else 4) else None
    a, b = node.inputs[:2]
    assert a is not None
    assert b is not None
    total = masks.node(node, "Add", a, b)
    if bias is not None:
        total = masks.node(node, "Add", total, bias)
    epsilon = node.attributes.get("epsilon") or onnx_ir.AttrFloat32("epsilon", _SKIPPED_EPSILON)
    operands = [v for v in (gamma, beta) if v is not None]
    made = masks.node(node, "RMSNormalization" if simple else "LayerNormalization", total, *operands)
    producer = made.producer()
    assert producer is not None
    total.type = made.type = a.type
    producer.attributes["epsilon"] = epsilon
    masks.cuts = {**masks.cuts, total.name or "": cut}
    _instead(masks, node, made)
    if len(node.outputs) > 3:
        onnx_ir.convenience.replace_all_uses_with(node.outputs[3], total, replace_graph_outputs=True)
    return _normalisation(masks, producer)


def _mean_of(masks: _Masks, node: onnx_ir.Node, x: onnx_ir.Value, axes: list[int]) -> onnx_ir.Value:
    if masks.opset >= 18:
        return masks.node(node, "ReduceMean", x, masks.constant(np.array(axes, np.int64)))
    made = masks.node(node, "ReduceMean", x)
    producer = made.producer()
    assert producer is not None
    producer.attributes["axes"] = onnx_ir.AttrInt64s("axes", axes)
    return made


def _product(masks: _Masks, node: onnx_ir.Node) -> bool:
    """A product of two activations: removed features do not count, whatever their value."""
    operands = [v for v in node.inputs if v is not None]
    if len(operands) < 2 or any(v.is_initializer() for v in operands):
        return False
    cut = masks.cut(node.inputs[0])
    if cut is None or (node.op_type == "MatMul" and len(cut.shape) - 1 not in cut.axes):
        return False
    node.replace_input_with(0, masks.masked(node, 0, cut))
    return False  # no statistic: it only guards against functions that are not 0 at 0


def _sum(masks: _Masks, node: onnx_ir.Node) -> bool:
    """A summand that leaves a sum which stays (one of several branches) is 0, whatever functions made of it."""
    out = masks.cut(node.outputs[0])
    for index, value in enumerate(node.inputs):
        cut = masks.cut(value)
        stored = value is not None and value.is_initializer()
        if cut is not None and not stored and (out is None or (cut.empty and not out.empty)):
            node.replace_input_with(index, masks.masked(node, index, cut))
    return False


_RULES: dict[str, Callable[[_Masks, onnx_ir.Node], bool]] = {
    "Add": _sum,
    "Sum": _sum,
    **dict.fromkeys(("MatMul", "Einsum"), _product),
    "ReduceMean": _mean,
    "GlobalAveragePool": _mean,
    "GlobalMaxPool": _reduction(-1e30),
    "GroupNormalization": _group_normalisation,
    "MeanVarianceNormalization": _normalisation,
    **dict.fromkeys(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), _skip_normalisation),
    **dict.fromkeys(("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum"), _reduction(0.0)),
    **dict.fromkeys(("ReduceMax", "ReduceLogSumExp", "TopK", "ArgMax"), _reduction(-1e30)),
    "ReduceProd": _reduction(1.0),
    **dict.fromkeys(("ReduceMin", "ArgMin"), _reduction(1e30)),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    **dict.fromkeys(
        ("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", "InstanceNormalization"),
        _normalisation,
    ),
}
