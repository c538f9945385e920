"""Idiom recognition: what is rewritten computes the same, however it was written out."""

from __future__ import annotations

import itertools

import numpy as np
import onnx_ir
import pytest
from onnx import TensorProto, helper
from support.idiom_checks import Graph, found, ops, recognised, standardised

from gmnc.frontend.rewriting.idioms import recognise
from gmnc.frontend.rewriting.normalise import normalise

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


def test_product_with_the_operand_swallows_no_idiom() -> None:
    g = Graph((2, 3, 4))
    v = g.reduce("ReduceMean", g.op("Mul", "x", "x"), (-1,))
    y = g.op("Mul", "x", g.op("Reciprocal", g.op("Sqrt", v)))
    model = recognised(g.model(g.op("Mul", "x", y)))
    assert ops(model) == ["RMSNormalize", "Mul"]


def test_softmax_of_a_difference_that_is_not_constant_along_the_axis() -> None:
    g = Graph((4, 4))
    e = g.op("Exp", g.op("Sub", "x", g.reduce("ReduceMax", "x", (0,))))
    model = recognised(g.model(g.op("Div", e, g.reduce("ReduceSum", e, (1,)))))
    assert ops(model) == ["ReduceMax", "Sub", "Softmax"]


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
    assert model.graph.outputs[0].dtype == onnx_ir.DataType.FLOAT


def test_names_and_notes_of_the_last_node_are_kept() -> None:
    g = Graph((2, 3, 4))
    y = standardised(g, (-1,))
    proto = g.model(g.op("Relu", y))
    proto.graph.node[-2].metadata_props.add(key="scope", value="encoder.norm")
    model = normalise(onnx_ir.from_proto(proto))
    recognise(model)
    node = next(n for n in model.graph if n.domain == "gmnc")
    assert node.outputs[0].name == y
    assert node.name == f"node_{y}"
    assert node.metadata_props["scope"] == "encoder.norm"
