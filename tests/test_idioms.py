"""Idiom recognition: what is rewritten computes the same, what is no idiom stays as it is."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from gmnc.frontend.idioms import recognise
from gmnc.frontend.normalise import normalise
from gmnc.frontend.shapes import infer
from gmnc_ops import run_original, run_rewritten
from onnx import TensorProto, helper, numpy_helper

Attributes = dict[str, object]


class Graph:
    """Writes a graph of one float input `x`; constants are Constant nodes, so they are literals."""

    def __init__(self, shape: tuple[int, ...], opset: int = 18, dtype: int = TensorProto.FLOAT) -> None:
        self.shape, self.opset, self.dtype = shape, opset, dtype
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.real: object = np.float32

    def op(self, op: str, *inputs: str, name: str | None = None, **attributes: object) -> str:
        name = name or f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"node_{name}", **attributes))
        return name

    def literal(self, value: object, dtype: object = None) -> str:
        return self.op("Constant", value=numpy_helper.from_array(np.array(value, dtype or self.real)))

    def parameter(self, name: str, value: object) -> str:
        self.initializers.append(numpy_helper.from_array(np.array(value, np.float32), name))
        return name

    def reduce(self, op: str, value: str, axes: tuple[int, ...], keepdims: int = 1) -> str:
        if self.opset >= 18 or (op == "ReduceSum" and self.opset >= 13):
            return self.op(op, value, self.literal(axes, np.int64), keepdims=keepdims)
        return self.op(op, value, axes=axes, keepdims=keepdims)

    def model(self, *outputs: str) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes, "test", [helper.make_tensor_value_info("x", self.dtype, self.shape)],
            [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs], self.initializers,
        )  # fmt: skip
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9)
        return onnx.shape_inference.infer_shapes(proto) if self.dtype != TensorProto.FLOAT else proto


def standardised(g: Graph, axes: tuple[int, ...], x: str = "x", epsilon: float = 1e-5) -> str:
    c = g.op("Sub", x, g.reduce("ReduceMean", x, axes))
    v = g.reduce("ReduceMean", g.op("Mul", c, c), axes)
    return g.op("Div", c, g.op("Sqrt", g.op("Add", v, g.literal(epsilon))))


def found(model: ir.Model) -> list[tuple[str, Attributes]]:
    """The nodes of the domain `gmnc` with their attributes, in order."""
    nodes = [n for n in model.graph.all_nodes() if n.domain == "gmnc"]
    return [(n.op_type, {k: a.value for k, a in n.attributes.items()}) for n in nodes]


def ops(model: ir.Model) -> list[str]:
    return [n.op_type for n in model.graph.all_nodes()]


def recognised(proto: onnx.ModelProto, tolerance: float = 2e-5) -> ir.Model:
    """The model after recognition, checked to compute the same and to know the shapes of its values."""
    model = normalise(ir.from_proto(proto))
    known = infer(model)
    outputs = [v.name for v in model.graph.outputs]
    parameters = {n: v.const_value.numpy().copy() for n, v in model.graph.initializers.items() if v.const_value}
    count = recognise(model, known)
    assert count == len(found(model))
    assert [v.name for v in model.graph.outputs] == outputs
    assert ("gmnc" in model.graph.opset_imports) == bool(count)
    assert model.graph.initializers.keys() == parameters.keys()
    for value, fact in infer(model).items():
        assert (known[value].shape, known[value].dtype) == (fact.shape, fact.dtype), value.name
    rng = np.random.default_rng(0)
    feeds = {}
    for value in model.graph.inputs:
        shape = [d if isinstance(d, int) else 2 for d in value.shape]
        feeds[value.name] = (rng.normal(size=shape) * 2 + 1).astype(value.dtype.numpy())
    for expected, got in zip(run_original(proto, feeds), run_rewritten(model, feeds), strict=True):
        assert expected.dtype == got.dtype
        np.testing.assert_allclose(got.astype(np.float64), expected.astype(np.float64), tolerance, tolerance)
    return model


def untouched(proto: onnx.ModelProto) -> None:
    model = normalise(ir.from_proto(proto))
    before = ir.to_proto(model).SerializeToString()
    assert recognise(model) == 0
    assert ir.to_proto(model).SerializeToString() == before


MEANS = ("mean", "sum/n", "sum*n")
SQUARES = ("pow", "mul", "sumsquare", "fast", "fast0")
QUOTIENTS = ("div", "reciprocal", "1/", "pow-0.5", "pow-1", "sqrt(1/)", "div pow0.5")
CASTS = ("", "variance", "all")


def mean(g: Graph, value: str, axes: tuple[int, ...], how: str, keepdims: int, op: str = "ReduceSum") -> str:
    n = float(np.prod([g.shape[a] for a in axes]))
    if how == "mean" and op == "ReduceSum":
        return g.reduce("ReduceMean", value, axes, keepdims)
    total = g.reduce(op, value, axes, keepdims)
    return g.op("Div", total, g.literal(n)) if how == "sum/n" else g.op("Mul", g.literal(1 / n), total)


def divided(g: Graph, c: str, radicand: str, how: str, swap: bool) -> str:
    def times(factor: str) -> str:
        return g.op("Mul", *((factor, c) if swap else (c, factor)))

    if how == "pow-0.5":
        return times(g.op("Pow", radicand, g.literal(-0.5)))
    if how == "sqrt(1/)":
        return times(g.op("Sqrt", g.op("Reciprocal", radicand)))
    if how == "div pow0.5":
        return g.op("Div", c, g.op("Pow", radicand, g.literal([0.5])))
    root = g.op("Sqrt", radicand)
    if how == "div":
        return g.op("Div", c, root)
    if how == "pow-1":
        return times(g.op("Pow", root, g.literal(-1)))
    return times(g.op("Reciprocal", root) if how == "reciprocal" else g.op("Div", g.literal(1), root))


def written_out(
    g: Graph, axes: tuple[int, ...], centre: bool, means: str, squares: str, quotient: str, cast: str, copies: bool,
    keepdims: int, swap: bool,
) -> str:  # fmt: skip
    """A standardisation or RMS normalisation, in one of many ways."""

    def restored(value: str) -> str:
        return value if keepdims else g.op("Unsqueeze", value, g.literal(axes, np.int64))

    def average(value: str, op: str = "ReduceSum") -> str:
        return restored(mean(g, value, axes, means, keepdims, op))

    def widened(value: str) -> str:
        g.real = np.float64
        return g.op("Cast", value, to=TensorProto.DOUBLE)

    def narrowed(value: str) -> str:
        g.real = np.float32
        return g.op("Cast", value, to=TensorProto.FLOAT)

    x = widened("x") if cast == "all" else "x"
    c = g.op("Sub", x, average(x)) if centre else x
    d = g.op("Sub", x, average(x)) if centre and copies else c
    if squares.startswith("fast"):
        d = x
    d = widened(d) if cast == "variance" else d
    if squares.startswith("fast"):
        m = average(d)
        v = g.op("Sub", average(g.op("Mul", d, d)), g.op("Mul", m, m))
        v = g.op("Max", v, g.literal(0)) if squares == "fast0" else v
    elif squares == "sumsquare":
        v = average(d, "ReduceSumSquare")
    else:
        v = average(g.op("Mul", d, d) if squares == "mul" else g.op("Pow", d, g.literal(2)))
    epsilon = g.literal(1e-3)
    radicand = g.op("Add", *((epsilon, v) if swap else (v, epsilon)))
    radicand = narrowed(radicand) if cast == "variance" else radicand
    y = divided(g, c, radicand, quotient, swap)
    return narrowed(y) if cast == "all" else y


def ways() -> list[tuple]:
    """Choices such that every pair of them occurs; all combinations would be thousands."""
    choices = (MEANS, SQUARES, QUOTIENTS, CASTS, (False, True), (1, 0), (False, True))
    rng = np.random.default_rng(1)
    places = [[(place, value) for value in values] for place, values in enumerate(choices)]
    left = {frozenset((a, b)) for p, q in itertools.combinations(places, 2) for a in p for b in q}
    kept = []
    while left:
        way = tuple(c[rng.integers(len(c))] for c in choices)
        pairs = {frozenset(pair) for pair in itertools.combinations(enumerate(way), 2)}
        if not left.isdisjoint(pairs):
            left -= pairs
            kept.append(way)
    return kept


@pytest.mark.parametrize(
    ("opset", "shape", "axes"), [(18, (2, 3, 4), (-1,)), (13, (2, 3, 4, 5), (1,)), (13, (3, 2, 4), (-2, -1))]
)
def test_every_way_of_writing_a_standardisation(opset: int, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    expected = tuple(sorted(a - len(shape) if a >= 0 else a for a in axes))
    for way in ways():
        g = Graph(shape, opset)
        y = written_out(g, axes, True, *way)
        model = recognised(g.model(g.op("Relu", y, name="y")), 1e-4)
        assert found(model) == [("Standardize", {"axes": expected, "epsilon": pytest.approx(1e-3)})], way
        assert set(ops(model)) <= {"Standardize", "Cast", "Relu"}, way


@pytest.mark.parametrize("axes", [(-1,), (1,), (1, 2)])
def test_every_way_of_writing_an_rms_normalisation(axes: tuple[int, ...]) -> None:
    for way in ways():
        if way[1].startswith("fast"):
            continue
        g = Graph((2, 3, 4))
        y = written_out(g, axes, False, *way)
        model = recognised(g.model(g.op("Relu", y, name="y")), 1e-4)
        expected = tuple(sorted(a - 3 if a >= 0 else a for a in axes))
        assert found(model) == [("RMSNormalize", {"axes": expected, "epsilon": pytest.approx(1e-3)})], way
        assert set(ops(model)) <= {"RMSNormalize", "Cast", "Relu"}, way


def test_without_epsilon_and_over_all_or_leading_axes() -> None:
    g = Graph((3, 4))
    y = g.op("Div", "x", g.op("Sqrt", g.op("ReduceMean", g.op("Mul", "x", "x"), keepdims=0)))
    c = g.op("Sub", "x", g.reduce("ReduceMean", "x", (0,), 0))
    v = g.reduce("ReduceMean", g.op("Mul", c, c), (0,), 0)
    z = g.op("Div", c, g.op("Sqrt", g.op("Add", v, g.literal(0.5))))
    model = recognised(g.model(y, z))
    assert found(model) == [
        ("RMSNormalize", {"axes": (-2, -1), "epsilon": 0.0}),
        ("Standardize", {"axes": (-2,), "epsilon": 0.5}),
    ]


def test_scale_multiplied_into_the_root() -> None:
    g = Graph((2, 3, 4))
    c = g.op("Sub", "x", g.reduce("ReduceMean", "x", (-1,)))
    v = g.reduce("ReduceMean", g.op("Mul", c, c), (-1,))
    root = g.op("Reciprocal", g.op("Sqrt", g.op("Add", v, g.literal(1e-6))))
    scale = g.parameter("norm.scale", np.linspace(-1, 2, 4))
    model = recognised(g.model(g.op("Mul", c, g.op("Mul", scale, root))))
    assert ops(model) == ["Standardize", "Mul"]
    assert "norm.scale" in model.graph.initializers


@pytest.mark.parametrize("affine", [True, False])
def test_tensorflow_batchnorm_form(affine: bool) -> None:
    g = Graph((2, 3, 4))
    m = g.reduce("ReduceMean", "x", (-1,))
    c = g.op("Sub", "x", m)
    v = g.reduce("ReduceMean", g.op("Mul", c, c), (-1,))
    w = g.op("Reciprocal", g.op("Sqrt", g.op("Add", v, g.literal(1e-6))))
    if affine:
        w = g.op("Mul", w, g.parameter("gamma", np.linspace(-1, 2, 4)))
        rest = g.op("Sub", g.parameter("beta", np.linspace(1, 2, 4)), g.op("Mul", m, w))
        y = g.op("Add", g.op("Mul", "x", w), rest)
    else:
        y = g.op("Sub", g.op("Mul", "x", w), g.op("Mul", m, w))
    model = recognised(g.model(y))
    assert ops(model) == ["Standardize", "Mul", "Add"] if affine else ["Standardize"]


def norm(g: Graph, how: str, axes: tuple[int, ...]) -> tuple[str, int]:
    if how in ("ReduceL1", "ReduceL2"):
        return g.reduce(how, "x", axes), int(how[-1])
    if how == "abs":
        return g.reduce("ReduceSum", g.op("Abs", "x"), axes), 1
    square = g.reduce("ReduceSumSquare", "x", axes) if how == "sumsquare" else None
    square = square or g.reduce("ReduceSum", g.op("Pow", g.op("Abs", "x"), g.literal(2)), axes)
    return g.op("Sqrt", square), 2


@pytest.mark.parametrize("how", ["ReduceL1", "ReduceL2", "abs", "sumsquare", "pow"])
@pytest.mark.parametrize("floor", ["Clip", "Max", ""])
@pytest.mark.parametrize("last", ["div", "expand", "mul"])
def test_lp_normalisation(how: str, floor: str, last: str) -> None:
    g = Graph((2, 3, 4))
    n, p = norm(g, how, (1,))
    if floor:
        n = g.op(floor, n, g.literal(4.0))
    if last == "expand":
        n = g.op("Expand", n, g.op("Shape", "x"))
    y = g.op("Mul", g.op("Reciprocal", n), "x") if last == "mul" else g.op("Div", "x", n)
    model = recognised(g.model(y))
    assert found(model) == [("LpNormalize", {"axes": (-2,), "p": p, "epsilon": 4.0 if floor else 0.0})]
    assert ops(model) == ["LpNormalize"]


def test_lp_normalisation_floored_under_the_root() -> None:
    g = Graph((2, 3, 4))
    square = g.reduce("ReduceSum", g.op("Mul", "x", "x"), (-1,))
    root = g.op("Reciprocal", g.op("Sqrt", g.op("Max", square, g.literal(9.0))))
    model = recognised(g.model(g.op("Mul", "x", root)))
    assert found(model) == [("LpNormalize", {"axes": (-1,), "p": 2, "epsilon": 3.0})]


@pytest.mark.parametrize("shift", ["", "same", "wider", "floor"])
@pytest.mark.parametrize("copies", [False, True])
@pytest.mark.parametrize("last", ["div", "mul"])
def test_softmax(shift: str, copies: bool, last: str) -> None:
    g = Graph((2, 3, 4), 13)

    def exponential() -> str:
        if not shift:
            return g.op("Exp", "x")
        top = g.reduce("ReduceMax", "x", (1, 2) if shift == "wider" else (1,))
        top = g.op("Max", g.literal(-np.inf), top) if shift == "floor" else top
        return g.op("Exp", g.op("Sub", "x", top))

    e = exponential()
    total = g.reduce("ReduceSum", exponential() if copies else e, (1,))
    y = g.op("Div", e, total) if last == "div" else g.op("Mul", g.op("Reciprocal", total), e)
    model = recognised(g.model(y))
    assert found(model) == [("Softmax", {"axis": -2})]
    assert ops(model) == ["Softmax"]


@pytest.mark.parametrize("form", ["shifted", "plain", "logsumexp", "ReduceLogSumExp"])
def test_log_softmax(form: str) -> None:
    g = Graph((2, 3, 4))
    m = g.reduce("ReduceMax", "x", (-1,)) if form in ("shifted", "logsumexp") else None
    z = g.op("Sub", "x", m) if m else "x"
    if form == "ReduceLogSumExp":
        total = g.reduce(form, "x", (-1,))
    else:
        total = g.op("Log", g.reduce("ReduceSum", g.op("Exp", z), (-1,)))
    if form == "logsumexp" and m:
        z, total = "x", g.op("Add", total, m)
    model = recognised(g.model(g.op("Sub", z, total)))
    assert found(model) == [("LogSoftmax", {"axis": -1})]
    assert ops(model) == ["LogSoftmax"]


def test_softmax_and_log_softmax_may_share_their_inside() -> None:
    g = Graph((2, 5))
    z = g.op("Sub", "x", g.reduce("ReduceMax", "x", (-1,)))
    e = g.op("Exp", z)
    total = g.reduce("ReduceSum", e, (-1,))
    model = recognised(g.model(g.op("Div", e, total), g.op("Sub", z, g.op("Log", total))))
    assert sorted(ops(model)) == ["LogSoftmax", "Softmax"]


def test_idioms_in_a_row_and_inside_a_branch() -> None:
    g = Graph((2, 3, 4))
    y = standardised(g, (-1,), standardised(g, (1, 2)))
    model = recognised(g.model(y))
    assert [a["axes"] for _, a in found(model)] == [(-2, -1), (-1,)]
    inner, other = Graph((2, 3, 4)), Graph((2, 3, 4))
    bodies = []
    for body, value in ((inner, standardised(inner, (-1,))), (other, other.op("Neg", "x"))):
        outputs = [helper.make_tensor_value_info(value, TensorProto.FLOAT, (2, 3, 4))]
        bodies.append(helper.make_graph(body.nodes, value, [], outputs))
    g = Graph((2, 3, 4))
    condition = g.op("Greater", g.op("ReduceSum", "x", keepdims=0), g.literal(0))
    y = g.op("If", condition, then_branch=bodies[0], else_branch=bodies[1])
    assert [op for op, _ in found(recognised(g.model(y)))] == ["Standardize"]


def test_shape_and_type_of_an_inner_value_may_be_asked() -> None:
    g = Graph((2, 3, 4))
    n = g.reduce("ReduceL2", "x", (-1,))
    y = g.op("Div", "x", g.op("Max", n, g.op("CastLike", g.literal(1e-6, np.float64), n)))
    model = recognised(g.model(y, g.op("Cast", g.op("Shape", n), to=TensorProto.FLOAT)))
    assert [op for op, _ in found(model)] == ["LpNormalize"]


def test_half_precision_keeps_its_casts() -> None:
    g = Graph((2, 3, 4), dtype=TensorProto.FLOAT16)
    c = g.op("Sub", "x", g.reduce("ReduceMean", "x", (-1,)))
    d = g.op("Cast", c, to=TensorProto.FLOAT)
    v = g.reduce("ReduceMean", g.op("Mul", d, d), (-1,))
    y = g.op("Div", d, g.op("Sqrt", g.op("Add", v, g.literal(1e-5))))
    model = recognised(g.model(y), 3e-3)
    assert ops(model) == ["Cast", "Standardize"]
    assert model.graph.outputs[0].dtype == ir.DataType.FLOAT


class TestNoIdiom:
    """Each differs from an idiom in one point and must stay as it is."""

    def normalised(
        self, axes=(-1,), inner=(-1,), outer=(-1,), epsilon: object = 1e-5, extra=None, add="Add", power=2.0
    ) -> onnx.ModelProto:
        g = Graph((3, 4, 4))
        c = g.op("Sub", "x", g.reduce("ReduceMean", "x", axes))
        d = g.op("Sub", "x", g.reduce("ReduceMean", "x", inner))
        v = g.reduce("ReduceMean", g.op("Pow", d, g.literal(power)), outer)
        e = g.parameter("norm.eps", epsilon[0]) if isinstance(epsilon, list) else g.literal(epsilon)
        s = g.op("Sqrt", g.op(add, v, e))
        y = g.op("Div", c, s)
        return g.model(y, *({"centre": [c, d], "root": [s], "variance": [v]}.get(extra, [])))

    def test_the_plain_one_is_one(self) -> None:
        assert len(found(recognised(self.normalised()))) == 1

    @pytest.mark.parametrize("change", [
        {"axes": (-2,)}, {"inner": (-2,)}, {"outer": (-2,)}, {"outer": (-2, -1)}, {"epsilon": [1e-5]},
        {"epsilon": -1e-5}, {"extra": "centre"}, {"extra": "root"}, {"extra": "variance"}, {"add": "Mul"}, {"power": 3.0},
    ])  # fmt: skip
    def test_another_axis_a_learned_epsilon_or_an_inner_value_seen_elsewhere(self, change: Attributes) -> None:
        untouched(self.normalised(**change))

    def test_centre_used_by_another_op(self) -> None:
        g = Graph((2, 3, 4))
        y = standardised(g, (-1,))
        c = next(n.output[0] for n in g.nodes if n.op_type == "Sub")
        untouched(g.model(g.op("Add", y, g.op("Neg", c))))

    def test_square_of_another_value(self) -> None:
        g = Graph((2, 3, 4))
        v = g.reduce("ReduceMean", g.op("Mul", "x", g.op("Neg", "x")), (-1,))
        untouched(g.model(g.op("Div", "x", g.op("Sqrt", g.op("Add", v, g.literal(9.0))))))

    def test_divided_by_one_less_than_the_number_of_elements(self) -> None:
        g = Graph((2, 3, 4))
        c = g.op("Sub", "x", g.reduce("ReduceMean", "x", (-1,)))
        v = g.op("Div", g.reduce("ReduceSum", g.op("Mul", c, c), (-1,)), g.literal(3))
        untouched(g.model(g.op("Div", c, g.op("Sqrt", g.op("Add", v, g.literal(1e-5))))))

    def test_literal_divided_by_the_sum(self) -> None:
        g = Graph((2, 3, 4))
        v = g.op("Div", g.literal(4), g.reduce("ReduceSum", g.op("Mul", "x", "x"), (-1,)))
        untouched(g.model(g.op("Div", "x", g.op("Sqrt", v))))

    def test_root_plus_epsilon(self) -> None:
        g = Graph((2, 3, 4))
        v = g.reduce("ReduceMean", g.op("Mul", "x", "x"), (-1,))
        untouched(g.model(g.op("Div", "x", g.op("Add", g.op("Sqrt", v), g.literal(1e-5)))))

    def test_reduced_axis_lines_up_with_another(self) -> None:
        g = Graph((4, 4))
        v = g.reduce("ReduceMean", g.op("Mul", "x", "x"), (1,), keepdims=0)
        untouched(g.model(g.op("Div", "x", g.op("Sqrt", v))))

    def test_squares_reshaped_before_they_are_averaged(self) -> None:
        g = Graph((4, 4))
        square = g.op("Reshape", g.op("Mul", "x", "x"), g.literal([4, 2, 2], np.int64))
        v = g.reduce("ReduceMean", square, (1, 2))
        v = g.op("Reshape", v, g.literal([1, 4], np.int64))
        untouched(g.model(g.op("Div", "x", g.op("Sqrt", v))))

    def test_result_broader_than_the_operand(self) -> None:
        g = Graph((1, 4))
        n = g.op("Expand", g.reduce("ReduceL2", "x", (-1,)), g.literal([3, 4], np.int64))
        untouched(g.model(g.op("Div", "x", n)))

    @pytest.mark.parametrize("change", ["axis", "axes", "epsilon", "other", "swapped", "sum"])
    def test_not_quite_a_softmax(self, change: str) -> None:
        g = Graph((4, 4, 4))
        e = g.op("Exp", "x")
        other = g.op("Exp", g.op("Neg", "x")) if change == "other" else e
        total = g.reduce("ReduceSum", other, (1, 2) if change == "axes" else (-1,), 0 if change == "axis" else 1)
        total = g.op("Add", total, g.literal(1.0)) if change == "epsilon" else total
        y = g.op("Div", total, e) if change == "swapped" else g.op("Div", e, total)
        untouched(g.model(y, *([total] if change == "sum" else [])))

    def test_power_that_is_learned(self) -> None:
        g = Graph((2, 3, 4))
        v = g.reduce("ReduceMean", g.op("Pow", "x", g.parameter("pool.p", 2.0)), (-1,))
        untouched(g.model(g.op("Div", "x", g.op("Sqrt", v))))

    def test_clip_that_is_closed_above(self) -> None:
        g = Graph((2, 3, 4))
        n = g.op("Clip", g.reduce("ReduceL2", "x", (-1,)), g.literal(1e-6), g.literal(1.0))
        untouched(g.model(g.op("Div", "x", n)))


class TestUnitAffine:
    """Normalisation ops whose scale and bias the exporter had to make up."""

    def instance(self, scale: str, bias: str, ones: object = 1.0, how: str = "initializer") -> onnx.ModelProto:
        g = Graph((2, 3, 4, 5), 17)
        values = {scale: np.full(3, ones, np.float32), bias: np.zeros(3, np.float32)}
        for name, value in values.items():
            if how == "initializer":
                g.parameter(name, value)
            elif how == "Constant":
                g.op("Constant", name=name, value=numpy_helper.from_array(value))
            else:
                g.op("Expand", g.literal(value[0]), g.op("Shape", "x", start=1, end=2), name=name)
        return g.model(g.op("InstanceNormalization", "x", scale, bias, epsilon=0.25))

    @pytest.mark.parametrize(("scale", "bias", "how"), [
        ("val_8", "val_11", "initializer"),
        ("/g/Constant_1_output_0", "/g/Constant_2_output_0", "Constant"),
        ("12", "13", "Constant"),
        ("a", "b", "Expand"),
    ])  # fmt: skip
    def test_made_up(self, scale: str, bias: str, how: str) -> None:
        model = recognised(self.instance(scale, bias, how=how))
        assert found(model) == [("Standardize", {"axes": (-2, -1), "epsilon": 0.25})]
        assert ops(model) == ["Standardize"]

    @pytest.mark.parametrize(("scale", "bias", "how"), [
        ("norm.weight", "norm.bias", "initializer"),
        ("norm.weight", "val_11", "initializer"),
        ("val_8", "norm.bias", "initializer"),
        ("instance_norm.w_0", "instance_norm.b_0", "Constant"),
        ("12", "13", "initializer"),
    ])  # fmt: skip
    def test_learned_but_still_ones(self, scale: str, bias: str, how: str) -> None:
        untouched(self.instance(scale, bias, how=how))

    @pytest.mark.parametrize("ones", [2.0, [1.0, 1.0, 0.5]])
    def test_scale_that_is_not_one_or_varies(self, ones: object) -> None:
        untouched(self.instance("val_8", "val_11", ones))

    def test_constant_that_was_folded_from_a_parameter(self) -> None:
        for source, count in (("x", 1), ("val_3", 1), ("norm.weight", 0)):
            model = normalise(ir.from_proto(self.instance("val_8", "val_11")))
            note = str(["val_2", source])
            model.graph.initializers["val_8"].metadata_props["pkg.onnxscript.optimizer.folded_from"] = note
            assert recognise(model) == count, source

    @pytest.mark.parametrize(("axis", "axes"), [(-1, (-1,)), (1, (-2, -1)), (-2, (-2, -1))])
    def test_layer_normalization(self, axis: int, axes: tuple[int, ...]) -> None:
        for scale, count in (("val_8", 1), ("norm.weight", 0)):
            g = Graph((2, 3, 4), 17)
            g.parameter(scale, np.ones(g.shape[axis:]))
            y = g.op("LayerNormalization", "x", scale, axis=axis, epsilon=0.25)
            model = recognised(g.model(y))
            assert found(model) == [("Standardize", {"axes": axes, "epsilon": 0.25})] * count

    def test_second_output_in_use(self) -> None:
        g = Graph((2, 3, 4), 17)
        g.parameter("val_8", np.ones(4))
        g.nodes.append(helper.make_node("LayerNormalization", ["x", "val_8"], ["y", "m"]))
        untouched(g.model("y", "m"))


def test_names_and_notes_of_the_last_node_are_kept() -> None:
    g = Graph((2, 3, 4))
    y = standardised(g, (-1,))
    proto = g.model(g.op("Relu", y))
    proto.graph.node[-2].metadata_props.add(key="scope", value="encoder.norm")
    model = normalise(ir.from_proto(proto))
    recognise(model)
    node = next(n for n in model.graph if n.domain == "gmnc")
    assert node.outputs[0].name == y
    assert node.name == f"node_{y}"
    assert node.metadata_props["scope"] == "encoder.norm"
