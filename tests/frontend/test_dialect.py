"""The internal dialect: its table declares what passes make and rules lower, and computes what the file does."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir
import pytest
from onnx import numpy_helper

from gmnc.frontend.dialect import DIALECT, declared
from gmnc.frontend.inference.folding import run as run_node
from gmnc.frontend.inference.shapes import ValueInfo
from gmnc.frontend.model.keys import DOMAIN
from gmnc.frontend.passes import prepare
from gmnc.frontend.reading.load import load
from gmnc.frontend.rules.plugins import installed
from gmnc.frontend.rules.registry import builtin
from gmnc.testing import random_inputs, run

RNG = np.random.default_rng(0)
SCALES = {
    "xs": np.float32(0.05), "xz": np.uint8(128), "ws": RNG.uniform(0.01, 0.02, 3).astype(np.float32),
    "wz": np.zeros(3, np.int8), "ys": np.float32(0.1), "yz": np.uint8(100),
}  # fmt: skip
INTEGERS = {"w": RNG.integers(-60, 60, (4, 3)).astype(np.int8), **SCALES}
HEAD = "(float[2, 4] x) => (float[2, N] y)"
NORM = "e = Constant<value_float = 0.25>() p = Add(v, e) r = Sqrt(p)"
LOOP = """{ m = Size(x) t = Constant<value_int = 1>() b = Cast<to = 9>(t) k = ReduceMax<keepdims = 0>(n)
    last, rows = Loop<body = g (int64 i, bool c, float[2, 4] h) => (bool again, float[2, 4] hn, float[2, 4] row) {
        again = Identity(c) w = Gather<axis = 0>(s, i) hw = MatMul(h, w)
        f = Cast<to = 1>(i) z = Add(hw, f) hn = Tanh(z) row = Identity(hn) }>(k, b, x)
    y = Add(last, last) }"""
MODELS: dict[str, tuple[str, dict[str, np.ndarray], set[str]]] = {
    "integer product": (
        f"{HEAD} {{ a = QuantizeLinear(x, xs, xz) q = QLinearMatMul(a, xs, xz, w, ws, wz, ys, yz)"
        " y = DequantizeLinear(q, ys, yz) }",
        INTEGERS,
        {"Dequantize", "Quantize"},
    ),
    "dynamic product": (
        f"{HEAD} {{ y = com.microsoft.DynamicQuantizeMatMul(x, w, s) }}",
        {"w": INTEGERS["w"], "s": np.float32([0.02])},
        {"DynamicQuantize", "Dequantize"},
    ),
    "packed weight": (
        "(float[2, 32] x) => (float[2, N] y) { y = com.microsoft.MatMulNBits<K = 32, N = 3, bits = 4, block_size = 16>"
        "(x, w, s) }",
        {"w": RNG.integers(0, 256, (3, 2, 8)).astype(np.uint8), "s": RNG.uniform(0.5, 2, 6).astype(np.float32)},
        {"DequantizeBits"},
    ),
    "sparse weight": (
        f"{HEAD} {{ d = Constant<value_ints = [4, 3]>() z = ConstantOfShape(d) w = ScatterND(z, at, v)"
        " y = MatMul(x, w) }",
        {"at": np.int64([[0, 1], [2, 0], [3, 2]]), "v": np.float32([0.5, -1.5, 2.5])},
        {"Sparse"},
    ),
    "standardisation": (
        f"{HEAD} {{ m = ReduceMean<axes = [-1]>(x) c = Sub(x, m) q = Mul(c, c) v = ReduceMean<axes = [-1]>(q) {NORM}"
        " y = Div(c, r) }",
        {},
        {"Standardize"},
    ),
    "root mean square": (
        f"{HEAD} {{ q = Mul(x, x) v = ReduceMean<axes = [-1]>(q) {NORM} y = Div(x, r) }}",
        {},
        {"RMSNormalize"},
    ),
    "norm": (
        f"{HEAD} {{ l = ReduceL2<axes = [-1]>(x) e = Constant<value_float = 0.25>() m = Max(l, e) y = Div(x, m) }}",
        {},
        {"LpNormalize"},
    ),
    "softmax": (f"{HEAD} {{ e = Exp(x) s = ReduceSum(e, a) y = Div(e, s) }}", {"a": np.int64([-1])}, {"Softmax"}),
    "log-softmax": (
        f"{HEAD} {{ e = Exp(x) s = ReduceSum(e, a) l = Log(s) y = Sub(x, l) }}",
        {"a": np.int64([-1])},
        {"LogSoftmax"},
    ),
    "sum of three": (
        f"{HEAD} {{ a = Tanh(x) b = MatMul(x, w) c = Sin(b) s = Add(c, x) y = Add(s, b) }}",
        {"w": np.ones((4, 4), np.float32)},
        {"Chain"},
    ),
    "long run": (
        f"{HEAD} {{ h0 = MatMul(x, w) "
        + " ".join(f"t{i} = Tanh(h{i}) h{i + 1} = LeakyRelu<alpha = 0.25>(t{i})" for i in range(40))
        + " y = Identity(h40) }",
        {"w": np.ones((4, 4), np.float32)},
        {"Run"},
    ),
    "branches of two shapes": (
        """(float[2, 4] x, bool c) => (float[N, M] y) {
            y = If(c) <then_branch = t () => (float[2, 3] o) { o = MatMul(x, w) },
                       else_branch = e () => (float[2, 4] p) { p = Tanh(x) }> }""",
        {"w": np.ones((4, 3), np.float32)},
        {"Choice"},
    ),
    "chosen experts": (
        """(float[3, 4] x) => (float[3, 2] y) { s = MatMul(x, r) v, i = TopK(s, k) w = Gather(e, i)
            h = Einsum<equation = "bi,bkio->bko">(x, w) y = Einsum<equation = "bk,bko->bo">(v, h) }""",
        {"r": np.ones((4, 3), np.float32), "e": np.ones((3, 4, 2), np.float32), "k": np.array([2])},
        {"Chosen"},
    ),
    "ranks of a router": (
        """(float[3, 4] x) => (float[3, 2] y) { s = MatMul(x, r) v, i = TopK(s, k) h = OneHot(i, d, m)
            c = Cast<to = 1>(h) t = ReduceSum<keepdims = 0>(c, a) y = MatMul(t, e) }""",
        {
            "r": np.ones((4, 3), np.float32),
            "e": np.ones((3, 2), np.float32),
            "k": np.array([2]),
            "d": np.array([3]),
            "m": np.array([0, 1]),
            "a": np.array([1]),
        },
        {"Ranked"},
    ),
    "slice by data": (
        """(float[2, 4] x, int64[1] n) => (float[N, 1] y) { z = Constant<value_ints = [0]>() s = Slice(x, z, n, z)
            y = MatMul(s, w) }""",
        {"w": np.ones((4, 1), np.float32)},
        {"ByData", "FromData"},
    ),
    "loop": (
        f"(float[2, 4] x, int64[1] n, float[N, 4, 4] s) => (float[2, 4] y) {LOOP}",
        {},
        {"Carry", "Iteration", "Step", "LoopEnd"},
    ),
}
EVALUATED = [name for name, (_, _, ops) in MODELS.items() if all(DIALECT[op].evaluate for op in ops)]


def model_of(name: str) -> onnx.ModelProto:
    text, values, _ = MODELS[name]
    made = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 17, "com.microsoft" : 1]> agraph {text}')
    made.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), n) for n, v in values.items())
    return made


def prepared(name: str) -> tuple[onnx_ir.Model, dict[onnx_ir.Value, ValueInfo]]:
    return prepare(load(model_of(name)), {}, {}, installed())


def internal_nodes(name: str) -> list[onnx_ir.Node]:
    return [node for node in prepared(name)[0].graph.all_nodes() if node.domain == DOMAIN]


@pytest.mark.parametrize("name", MODELS)
def test_passes_make_what_the_dialect_declares(name: str) -> None:
    nodes = internal_nodes(name)
    assert {node.op_type for node in nodes} == MODELS[name][2]
    for node in nodes:
        entry = DIALECT[node.op_type]
        assert set(node.attributes) <= set(entry.attributes)
        assert len(node.inputs) <= len(entry.operands) or any(o.startswith("*") for o in entry.operands)


def test_every_declared_operator_is_made_by_some_pass_and_has_a_rule() -> None:
    assert set().union(*(ops for _, _, ops in MODELS.values())) == set(DIALECT)
    rules = {r.op: r for r in builtin() if r.domain == DOMAIN}
    assert set(rules) == set(DIALECT)
    for name, entry in DIALECT.items():
        rule = rules[name]
        assert (rule.weights, rule.moves, rule.starts) == (entry.weights, entry.moves, entry.starts)


def test_passes_can_make_no_other_operator() -> None:
    with pytest.raises(KeyError, match="'Riddle'"):
        declared("Riddle")


def test_shapes_of_what_loops_read_and_make() -> None:
    """An entry loses its axis; carried values stay as they are, rows of five iterations are stacked along axis 1."""
    step = onnx_ir.node("Step", [], {"axis": 1}, domain=DOMAIN)
    assert DIALECT["Step"].shapes(step, [((2, 5, 3), "float32")]) == [((2, 3), "float32")]
    assert DIALECT["Iteration"].shapes(onnx_ir.node("Iteration", []), []) == [((), "int64")]
    attributes = {"carried": 1, "rows": 2, "trips": 5, "axes": [1, 0]}
    end = onnx_ir.node("LoopEnd", [], attributes, domain=DOMAIN, num_outputs=3)
    state, row = ((2, 4), "float32"), ((3, 7), "float16")
    made = DIALECT["LoopEnd"].shapes(end, [state, state, state, row, None, ((), "bool")])
    assert made == [state, ((3, 5, 7), "float16"), None]


@pytest.mark.parametrize("name", EVALUATED)
def test_reference_evaluation_computes_what_the_file_does(name: str) -> None:
    """The rewritten network, node by node, against ONNX Runtime's run of the file."""
    model = model_of(name)
    network, known = prepared(name)
    feed = random_inputs(model)
    arrays: dict[onnx_ir.Value, np.ndarray] = {v: feed[v.name or ""] for v in network.graph.inputs}
    arrays.update({v: v.const_value.numpy() for v in network.graph.initializers.values() if v.const_value is not None})
    for node in network.graph:
        operands = [None if v is None else arrays[v] for v in node.inputs]
        evaluate = DIALECT[node.op_type].evaluate if node.domain == DOMAIN else None
        made = run_node(node, 17, operands) if evaluate is None else [evaluate(node, *operands)]
        assert made is not None
        arrays.update(zip(node.outputs, made, strict=False))
        assert [(a.shape, a.dtype.name) for a in made] == [(known[v].shape, known[v].dtype) for v in node.outputs]
    for value in network.graph.outputs:
        np.testing.assert_allclose(arrays[value], run(model, feed)[value.name], rtol=1e-4, atol=1e-5)
