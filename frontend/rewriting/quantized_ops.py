"""Quantised operators, decomposed into Dequantize of the operands, the float operator, and Quantize of the result.

So one rule per operator suffices, and a network with QLinear operators has the same graph as one with QuantizeLinear
and DequantizeLinear. The new nodes are of the dialect: Dequantize, Quantize, DynamicQuantize, DequantizeBits, Sparse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir

from ..inference.signatures import unknown
from ..model.keys import DOMAIN, REASON
from ..model.traversal import every_node
from .editor import NodeWriter

__all__ = ["KERNELS", "decompose"]

MICROSOFT = "com.microsoft"

_UNKNOWN_FORM = (
    "this form of the quantised operator is not lowered",
    "export the model before ONNX Runtime's fusions",
)

Output = onnx_ir.Value | Sequence[onnx_ir.Value] | None


def decompose(model: onnx_ir.Model, keep: Callable[[onnx_ir.Node], bool]) -> int:
    """Decompose the quantised operators of a normalised model in place; returns how many were.

    Unknown forms of an operator are left as they are. keep: whether a node stays, since it has a rule that is not
    built in.
    """
    count = 0
    for node in every_node(model.graph):
        kernel = KERNELS.get((node.domain, node.op_type)) if node.graph is not None else None
        if kernel is None or keep(node):
            continue
        writer = NodeWriter(node)
        made = None if unknown(node.domain, node.op_type, node.inputs, node.attributes) else kernel(writer)
        if made is None:
            node.meta[REASON] = _UNKNOWN_FORM
        else:
            outputs = [made] if isinstance(made, onnx_ir.Value) else list(made)
            writer.replace(outputs)
            count += 1
    if count:
        model.graph.opset_imports[DOMAIN] = 1
        model.graph.opset_imports.setdefault("", 21)
    return count


def _rank(value: onnx_ir.Value | None) -> int | None:
    return None if value is None or value.shape is None else value.shape.rank()


def _conv(w: NodeWriter) -> Output:
    """QLinearConv: the bias is stored in units of the product of both scales; Microsoft's may be channels-last."""
    rank, last = _rank(w.input(3)), bool(w.integer("channels_last"))
    if last and rank is None:
        return None
    x, weight = w.dequantized_operand(0, 1, 2), w.dequantized_operand(3, 4, 5, (0,))
    stored = w.input(8)
    bias = None if stored is None else w.dequantize(stored, w.input(4), None, w.input(1), (0,))
    x = _first(w, x, rank) if last else x
    y = w.one("Conv", x, weight, bias, attributes=w.attributes_but("channels_last"))
    return w.quantize(_last(w, y, rank) if last else y, 6, 7)


def _first(w: NodeWriter, x: onnx_ir.Value | None, rank: int | None) -> onnx_ir.Value:
    """`x` with its channels moved from the last axis to axis 1."""
    assert rank is not None
    return w.one("Transpose", x, attributes={"perm": (0, rank - 1, *range(1, rank - 1))})


def _last(w: NodeWriter, x: onnx_ir.Value, rank: int | None) -> onnx_ir.Value:
    """`x` with its channels moved from axis 1 to the last axis."""
    assert rank is not None
    return w.one("Transpose", x, attributes={"perm": (0, *range(2, rank), 1)})


def _qlinear_matmul(w: NodeWriter) -> Output:
    a, b = w.dequantized_operand(0, 1, 2, (-2,)), w.dequantized_operand(3, 4, 5, (-1,))
    return w.quantize(w.one("MatMul", a, b), 6, 7)


def _matmul_integer(w: NodeWriter) -> Output:
    _in_floats(w, w.node.outputs[0])
    return w.one("MatMul", w.dequantized_operand(0, None, 2, (-2,)), w.dequantized_operand(1, None, 3, (-1,)))


def _conv_integer(w: NodeWriter) -> Output:
    _in_floats(w, w.node.outputs[0])
    return w.one(
        "Conv",
        w.dequantized_operand(0, None, 2),
        w.dequantized_operand(1, None, 3, (0,)),
        attributes=w.attributes_but(),
    )


def _in_floats(w: NodeWriter, total: onnx_ir.Value) -> None:
    """Let the sums of an integer product and integers (a bias) be sums of floats, as the product becomes one."""
    for use in list(total.uses()):
        node, outer = use.node, use.node.graph
        if node.op_type != "Add" or node.domain or outer is not w.node.graph:
            continue
        other = node.inputs[1 - use.idx]
        if other is not None and other is not total:
            before = NodeWriter(node)
            node.replace_input_with(1 - use.idx, _numbers(before, other))
            before.insert()
        node.outputs[0].type = onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
        _in_floats(w, node.outputs[0])


def _numbers(w: NodeWriter, value: onnx_ir.Value) -> onnx_ir.Value:
    """Integers as floats: stored ones, also behind a reshape, are parameters."""
    source = value.producer()
    if value.const_value is not None:
        return w.dequantize(value, None, None)
    stored = None if source is None or source.op_type not in _RESHAPING or source.domain else source.inputs[0]
    if source is not None and stored is not None and stored.const_value is not None:
        rest = [w.dequantize(stored, None, None), *source.inputs[1:]]
        return w.one(source.op_type, *rest, attributes=dict(source.attributes))
    return w.one("Cast", value, attributes={"to": int(onnx_ir.DataType.FLOAT)})


_RESHAPING = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})


def _gemm(w: NodeWriter) -> Output:
    """QGemm: C is stored in units of the product of alpha and both scales."""
    column = 0 if w.integer("transB") else 1
    a, b = w.dequantized_operand(0, 1, 2), w.dequantized_operand(3, 4, 5, (column,))
    stored = w.input(6)
    c = None if stored is None else w.dequantize(stored, w.input(4), None, w.input(1))
    alpha = w.real("alpha", 1.0)
    y = w.one("Gemm", a, b, c, attributes={**w.attributes_but("alpha"), "alpha": alpha, "beta": alpha})
    return y if w.input(7) is None else w.quantize(y, 7, 8)


def _binary(op: str) -> Callable[[NodeWriter], Output]:
    return lambda w: w.quantize(w.one(op, w.dequantized_operand(0, 1, 2), w.dequantized_operand(3, 4, 5)), 6, 7)


def _unary(op: str) -> Callable[[NodeWriter], Output]:
    return lambda w: w.quantize(w.one(op, w.dequantized_operand(0, 1, 2), attributes=w.attributes_but()), 3, 4)


def _softmax(w: NodeWriter) -> Output:
    """QLinearSoftmax: Softmax of the opset in its attribute."""
    axis, old = w.integer("axis", -1), w.integer("opset", 13) < 13
    graph = w.node.graph
    if old and (graph is None or graph.opset_imports.get("", 1) >= 13):
        return None
    x, attributes = w.dequantized_operand(0, 1, 2), {"axis": axis}
    y = w.one("Softmax", x, attributes=attributes) if old else w.internal("Softmax", x, attributes=attributes)
    return w.quantize(y, 3, 4)


def _pool(op: str) -> Callable[[NodeWriter], Output]:
    def pool(w: NodeWriter) -> Output:
        rank = _rank(w.input(0))
        last = bool(w.integer("channels_last"))
        if last and rank is None:
            return None
        x = w.dequantized_operand(0, 1, 2)
        y = w.one(op, _first(w, x, rank) if last else x, attributes=w.attributes_but("channels_last"))
        y = _last(w, y, rank) if last else y
        return w.quantize(y, 3, 4)

    return pool


def _where(w: NodeWriter) -> Output:
    return w.quantize(w.one("Where", w.input(0), w.dequantized_operand(1, 2, 3), w.dequantized_operand(4, 5, 6)), 7, 8)


def _concat(w: NodeWriter) -> Output:
    parts = [w.dequantized_operand(i, i + 1, i + 2) for i in range(2, len(w.node.inputs), 3)]
    return w.quantize(w.one("Concat", *parts, attributes=w.attributes_but()), 0, 1)


def _plus(w: NodeWriter, y: onnx_ir.Value, bias: int) -> onnx_ir.Value:
    added = w.input(bias)
    return y if added is None else w.one("Add", y, added)


def _matmul_to_float(w: NodeWriter) -> Output:
    """MatMulIntegerToFloat."""
    return _plus(w, w.one("MatMul", w.dequantized_operand(0, 2, 4, (-2,)), w.dequantized_operand(1, 3, 5, (-1,))), 6)


def _dynamic_matmul(w: NodeWriter) -> Output:
    """DynamicQuantizeMatMul."""
    x = w.internal("DynamicQuantize", w.input(0))
    return _plus(w, w.one("MatMul", x, w.dequantized_operand(1, 2, 3, (-1,))), 4)


def _lstm(w: NodeWriter) -> Output:
    """DynamicQuantizeLSTM: W and R are the transposes of LSTM's, with scales per direction or per column."""
    weights = []
    for place, side in ((1, 8), (2, 10)):
        axes = (0,) if _rank(w.input(side)) == 1 else (0, 2)
        weights.append(
            w.one("Transpose", w.dequantized_operand(place, side, side + 1, axes), attributes={"perm": (0, 2, 1)})
        )
    x = w.internal("DynamicQuantize", w.input(0))
    rest = [w.input(i) for i in range(3, 8)]
    return w.add("LSTM", x, *weights, *rest, attributes=w.attributes_but(), outputs=len(w.node.outputs))


def _attention(w: NodeWriter) -> Output:
    """QAttention."""
    inputs = (w.dequantized_operand(0, 3, 6), w.dequantized_operand(1, 4, 7, (-1,)), *(w.input(i) for i in (2, 5, 8)))
    return w.add("Attention", *inputs, domain=MICROSOFT, attributes=w.attributes_but(), outputs=len(w.node.outputs))


def _embed(w: NodeWriter) -> Output:
    """QEmbedLayerNormalization."""
    stored = [w.dequantized_operand(i, i + 6, i + 11) for i in range(2, 7)]
    inputs = (w.input(0), w.input(1), *stored, w.input(7))
    outputs = len(w.node.outputs)
    return w.add("EmbedLayerNormalization", *inputs, domain=MICROSOFT, attributes=w.attributes_but(), outputs=outputs)


def _matmul_bits(w: NodeWriter) -> Output:
    """MatMulNBits: A [.., K] times the transpose of the packed weight [N, K]."""
    if w.input(4) is not None or w.integer("weight_prepacked"):
        return None
    attributes = {n: w.integer(n, d) for n, d in (("N", 0), ("K", 0), ("bits", 4), ("block_size", 32))}
    quant_params = w.input(1), w.input(2), w.input(3)
    weight = w.internal("DequantizeBits", *quant_params, attributes=attributes)
    return _plus(w, w.one("MatMul", w.input(0), w.one("Transpose", weight, attributes={"perm": (1, 0)})), 5)


def _matmul_bnb(w: NodeWriter) -> Output:
    """MatMulBnb4: as MatMulNBits, with a lookup table: quant_type 0 is FP4, 1 is NF4."""
    if not w.integer("transB", 1):
        return None
    attributes = {n: w.integer(n) for n in ("N", "K", "block_size")}
    table = ("fp4", "nf4")[w.integer("quant_type", 1)]
    weight = w.internal("DequantizeBits", w.input(1), w.input(2), attributes={**attributes, "bits": 4, "table": table})
    return w.one("MatMul", w.input(0), w.one("Transpose", weight, attributes={"perm": (1, 0)}))


def _experts(w: NodeWriter) -> Output:
    """QMoE: MoE with packed weights of 4 or 8 bits and a scale per row, or per block of a row."""
    stored = {"expert_weight_bits", "block_size"}
    if any(w.input(i) for i in range(14, len(w.node.inputs))):
        return None
    bits, block = w.integer("expert_weight_bits", 4), w.integer("block_size", 0)
    layers: list[onnx_ir.Value | None] = []
    for place, zero in ((2, 11), (5, 12), (8, 13)):
        packed, scale, bias = (w.input(place + i) for i in range(3))
        if packed is None:
            layers += [None, None]
            continue
        shape = packed.shape.numpy() if packed.const_value is not None and packed.shape is not None else ()
        if len(shape) != 3 or scale is None:
            return None
        size = shape[2] * 8 // bits
        attributes = {"N": shape[0] * shape[1], "K": size, "bits": bits, "block_size": block or size}
        numbers = w.internal("DequantizeBits", packed, scale, w.input(zero), attributes=attributes)
        layers += [numbers, bias]
    own = w.attributes_but(*stored)
    return w.add("MoE", w.input(0), w.input(1), *layers, domain=MICROSOFT, attributes=own)


def _gather_blocks(w: NodeWriter) -> Output:
    """GatherBlockQuantized: rows of a table with blocked scales along the last axis, packed or of a 4-bit type."""
    data = w.input(0)
    tensor = None if data is None else data.const_value
    if tensor is None or len(tensor.shape) != 2 or w.integer("gather_axis") or w.integer("quantize_axis", 1) % 2 != 1:
        return None
    rows, width = tensor.shape.numpy()
    block, bits = w.integer("block_size", 128), w.integer("bits", 4)
    quant_params = w.input(0), w.input(2), w.input(3)
    if tensor.dtype == onnx_ir.DataType.UINT8:
        attributes = {"N": rows, "K": width * 8 // bits, "bits": bits, "block_size": block}
        table = w.internal("DequantizeBits", *quant_params, attributes=attributes)
    else:
        table = w.internal("Dequantize", *quant_params, attributes={"axes": (0, 1), "block_size": block})
    return w.one("Gather", table, w.input(1), attributes={"axis": 0})


def _quantiser(op: str) -> Callable[[NodeWriter], Output]:
    """Microsoft's QuantizeLinear and DequantizeLinear: as in ONNX, for more types."""

    def quantiser(w: NodeWriter) -> Output:
        attributes = {"axes": (w.integer("axis", 1),)} if _rank(w.input(1)) == 1 else {}
        operands = w.input(0), w.input(1), w.input(2)
        return w.internal(op, *operands, attributes={**attributes, "written": 1})

    return quantiser


def _sparse(w: NodeWriter) -> Output:
    """ScatterND of single values into zeros, at distinct positions: a tensor that is stored sparsely."""
    zeros, places, values = (w.input(i) for i in range(3))
    if zeros is None or places is None or values is None or "reduction" in w.node.attributes:
        return None
    fill, indices, tensor = zeros.producer(), places.const_value, values.const_value
    if fill is None or fill.op_type != "ConstantOfShape" or indices is None or tensor is None:
        return None
    size, number = fill.inputs[0], fill.attributes.get("value")
    zero = number is None or not np.any(number.as_tensor().numpy())
    if size is None or size.const_value is None or not zero or not tensor.dtype.is_floating_point():
        return None
    shape, at = tuple(map(int, size.const_value.numpy())), indices.numpy()
    if not tensor.size or at.shape != (tensor.size, len(shape)) or len(np.unique(at, axis=0)) < len(at):
        return None
    return w.internal("Sparse", values, attributes={"shape": shape, "indices": onnx_ir.AttrTensor("indices", indices)})


KERNELS: dict[tuple[str, str], Callable[[NodeWriter], Output]] = {
    ("", "ScatterND"): _sparse,
    ("", "QLinearConv"): _conv,
    ("", "QLinearMatMul"): _qlinear_matmul,
    ("", "MatMulInteger"): _matmul_integer,
    ("", "ConvInteger"): _conv_integer,
    (MICROSOFT, "QLinearConv"): _conv,
    (MICROSOFT, "QGemm"): _gemm,
    (MICROSOFT, "QLinearAdd"): _binary("Add"),
    (MICROSOFT, "QLinearMul"): _binary("Mul"),
    (MICROSOFT, "QLinearSigmoid"): _unary("Sigmoid"),
    (MICROSOFT, "QLinearLeakyRelu"): _unary("LeakyRelu"),
    (MICROSOFT, "QLinearSoftmax"): _softmax,
    (MICROSOFT, "QLinearAveragePool"): _pool("AveragePool"),
    (MICROSOFT, "QLinearGlobalAveragePool"): _pool("GlobalAveragePool"),
    (MICROSOFT, "QLinearWhere"): _where,
    (MICROSOFT, "QLinearConcat"): _concat,
    (MICROSOFT, "MatMulIntegerToFloat"): _matmul_to_float,
    (MICROSOFT, "DynamicQuantizeMatMul"): _dynamic_matmul,
    (MICROSOFT, "DynamicQuantizeLSTM"): _lstm,
    (MICROSOFT, "QAttention"): _attention,
    (MICROSOFT, "QEmbedLayerNormalization"): _embed,
    (MICROSOFT, "QuantizeLinear"): _quantiser("Quantize"),
    (MICROSOFT, "DequantizeLinear"): _quantiser("Dequantize"),
    (MICROSOFT, "GatherBlockQuantized"): _gather_blocks,
    (MICROSOFT, "QMoE"): _experts,
    (MICROSOFT, "MatMulNBits"): _matmul_bits,
    (MICROSOFT, "MatMulBnb4"): _matmul_bnb,
}
