"""Rules from outside gmnc: used wherever the built-in one would be, and checked before their results go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import gmnc
from gmnc.frontend import Registry, Rule, Spec, Unsupported, installed
from gmnc.frontend.check import check
from gmnc.ir import ParameterGraph, PluginError, Step, register_step
from gmnc.testing import build

MODEL = build(
    "(float[1, 3] x) => (float[1, 2] y) { h = MatMul(x, w) g = acme.Foo(h) y = MatMul(g, v) }",
    {"w": (3, 4), "v": (4, 2)},
    domains={"acme": 1},
)


def like(op: Any) -> list[tuple[tuple[int, ...], str]]:
    return [(op.input(0).shape, op.input(0).dtype)]


def overlay(op: str, function: Callable[..., Any], domain: str = "acme", **options: Any) -> Registry:
    registry = installed().overlay()
    registry.add(Rule(op, domain, 1, function, **{"shapes": like, **options}))
    return registry


def lowered(function: Callable[..., Any], **options: Any) -> ParameterGraph:
    return gmnc.compile(MODEL, registry=overlay("Foo", function, **options))


# Operators that a pass rewrites.

F = np.float32
QUANTISED = {"s": F(0.1), "z": np.uint8(0), "wz": np.int8(0)}


def of_nodes(*nodes: onnx.NodeProto, dtypes: tuple[int, int], **arrays: Any) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items()]
    ports = [helper.make_tensor_value_info(n, t, None) for n, t in zip("xy", dtypes, strict=True)]
    ports[0].type.tensor_type.shape.dim.extend([onnx.TensorShapeProto.Dimension(dim_value=n) for n in (1, 4)])
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], tensors)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def body() -> onnx.GraphProto:
    kinds = (("i", TensorProto.INT64, ()), ("c", TensorProto.BOOL, ()), ("a", TensorProto.FLOAT, (1, 4)))
    given = [helper.make_tensor_value_info(*k) for k in kinds]
    made = [helper.make_tensor_value_info("d", TensorProto.BOOL, ()), helper.make_tensor_value_info("b", 1, (1, 4))]
    nodes = [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Relu", ["a"], ["b"])]
    return helper.make_graph(nodes, "body", given, made)


W = np.arange(16).reshape(4, 4)
BYTES, FLOATS = (TensorProto.UINT8, TensorProto.UINT8), (TensorProto.FLOAT, TensorProto.FLOAT)
REWRITTEN = {
    "QLinearMatMul": of_nodes(
        helper.make_node("QLinearMatMul", ["x", "s", "z", "w", "s", "wz", "s", "z"], ["y"]),
        dtypes=BYTES, w=W.astype(np.int8), **QUANTISED,
    ),
    "MatMulInteger": of_nodes(
        helper.make_node("MatMulInteger", ["x", "w"], ["y"]),
        dtypes=(TensorProto.UINT8, TensorProto.INT32), w=W.astype(np.int8),
    ),
    "com.microsoft QLinearAdd": of_nodes(
        helper.make_node("QLinearAdd", ["x", "s", "z", "w", "s", "z", "s", "z"], ["y"], domain="com.microsoft"),
        dtypes=BYTES, w=W[:1].astype(np.uint8), **QUANTISED,
    ),
    "Loop": of_nodes(helper.make_node("Loop", ["n", "", "x"], ["y"], body=body()), dtypes=FLOATS, n=np.array(3)),
    "Exp": of_nodes(
        helper.make_node("Exp", ["x"], ["e"]),
        helper.make_node("ReduceSum", ["e", "axes"], ["t"], keepdims=1),
        helper.make_node("Div", ["e", "t"], ["y"]),
        dtypes=FLOATS, axes=np.array([1]),
    ),
    "SequenceAt": of_nodes(
        helper.make_node("SequenceConstruct", ["x", "x"], ["q"]), helper.make_node("SequenceAt", ["q", "n"], ["y"]),
        dtypes=FLOATS, n=np.array(1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REWRITTEN)
def test_an_overlay_comes_before_the_passes(name: str) -> None:
    domain, _, op = name.rpartition(" ")
    seen: list[str] = []

    def mine(ctx: Any, node: Any) -> Any:
        seen.append(node.type)
        raise Unsupported("mine")

    graph = gmnc.compile(REWRITTEN[name], registry=overlay(op, mine, domain, shapes=None))
    assert set(seen) == {op}
    assert [(p.op, p.reason) for p in graph.unsupported] == [(op, "mine")]
    assert not any(p.reason == "mine" for p in gmnc.compile(REWRITTEN[name]).unsupported)


def test_an_overlay_may_read_attributes_that_gmnc_does_not_know() -> None:
    node = helper.make_node("QuickGelu", ["x"], ["y"], domain="com.microsoft", alpha=1.0, frob=1)
    model = of_nodes(node, dtypes=FLOATS)
    assert gmnc.compile(model).unsupported[0].reason
    registry = overlay("QuickGelu", lambda ctx, op: ctx.unary(op.input(0), "Relu", {}), "com.microsoft")
    assert not gmnc.compile(model, registry=registry).unsupported


def test_an_overlay_may_return_all_outputs_of_the_built_in_rule() -> None:
    text = "(float[1, 2, 3] x) => (float[1, 2, 4] y) { h = MatMul(x, w) y = com.microsoft.Skip(h, h, s) }"
    text = text.replace("Skip", "SkipLayerNormalization")
    model = build(text, {"w": (3, 4), "s": (4,)}, domains={"com.microsoft": 1})
    own = installed().find("com.microsoft", "SkipLayerNormalization", 1)
    assert own is not None
    registry = overlay(own.op, lambda ctx, op: own.lower(ctx, op), own.domain, weights=own.weights, shapes=own.shapes)
    assert gmnc.fingerprint(gmnc.compile(model, registry=registry)) == gmnc.fingerprint(gmnc.compile(model))


# What a rule returns and does.

FROBS = register_step(Step("Frobs", "x", ("n",)))


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda ctx, op: [op.input(0)] * 3, "returned 3 values for the 1 output"),
        (lambda ctx, op: ctx.transposed(op.input(0), (1, 0)), r"of shape \(4, 1\) as output 0, which has \(1, 4\)"),
        (lambda ctx, op: ctx.reduce(op.input(0), (1,), "ReduceSum", {}), r"of shape \(1, 1\) as output 0"),
        (lambda ctx, op: ctx.constant(np.zeros((7, 7), F)), r"of shape \(7, 7\) as output 0"),
        (lambda ctx, op: ctx.unary(op.input(0), FROBS.name, {"frob": 1}), "'Frobs' declares no attribute 'frob'"),
        (lambda ctx, op: ctx.unary(op.input(0), "Scale", {"factor": lambda: 1}), "'factor' .* is of type function"),
        (lambda ctx, op: ctx.unary(op.input(0), "Scale", {"factor": [1, 2]}), "'factor' .* is of type list"),
        (lambda ctx, op: ctx.unary(op.input(0), "Scale", {"factor": np.ones(3)}), "'factor' .* is of type ndarray"),
        (lambda ctx, op: ctx.add(op.input(0), 2.0), r"operand 1 of its call of Add is of type float.*ctx\.constant"),
        (lambda ctx, op: ctx.call("Add", op.input(0), np.ones(4, F)), "operand 1 .* is of type ndarray, not a Value"),
        (lambda ctx, op: ctx.call("Relu", op.input(0), opset=999), r"Relu of opset 999; give one from 1 to \d\d \("),
        (lambda ctx, op: ctx.call("Foo", op.input(0), domain="acme"), "itself; compose it of other operators"),
        (lambda ctx, op: ctx.call("Softmax", op.input(0), axis=9), r"call of Softmax does not fit: inputs of shapes"),
    ],
)  # fmt: skip
def test_a_result_that_does_not_fit_is_the_fault_of_the_rule(function: Callable[..., Any], said: str) -> None:
    with pytest.raises(PluginError, match=rf"node 'Foo_1' \(Foo\): rule .*lambda.* raised .*{said}") as caught:
        lowered(function)
    assert "the model contradicts itself" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([((1.0, 4.0), "float32")], r"the shape \(1.0, 4.0\): give integers"),
        ([((-1, 4), "float32")], r"the shape \(-1, 4\): give integers"),
        ([(("1", 4), "float32")], r"the shape \('1', 4\): give integers"),
        ([((1, 4), np.float32)], "the dtype <class 'numpy.float32'>: give NumPy's name"),
        ([((1, 4), "floaty")], "the dtype 'floaty': give NumPy's name"),
        ([(1, 4)], r"\(1, 4\) for an output, not \(shape, dtype name\)"),
        (None, "NoneType, not a list"),
    ],
)
def test_shapes_of_another_form_are_the_fault_of_the_rule(given: Any, said: str) -> None:
    with pytest.raises(PluginError, match=rf"'Foo_1': shapes of rule .* raised TypeError: it returned {said}"):
        lowered(lambda ctx, op: op.input(0), shapes=lambda op: given)


def test_shapes_that_do_not_fit_the_next_node_name_the_rule() -> None:
    with pytest.raises(gmnc.ir.LoweringError, match=r"the shape of 'g' was given by the rule .*: correct its shapes"):
        lowered(lambda ctx, op: op.input(0), shapes=lambda op: [((4, 1), "float32")])


@pytest.mark.parametrize("op", ["Attention", "If", "QLinearMatMul"])
def test_a_call_of_an_operator_that_is_rewritten_says_so(op: str) -> None:
    [problem] = lowered(lambda ctx, node: ctx.call(op, node.input(0))).unsupported[:1]
    assert problem.reason == f"its rule calls {op}, which gmnc lowers in models only, by rewriting the node"


@pytest.mark.parametrize("field", [{"weights": 1}, {"weights": (-1,)}, {"weights": (True,)}, {"data": ("0",)}])
def test_operand_indices_are_checked_when_a_rule_is_made(field: Any) -> None:
    with pytest.raises(TypeError, match="must be a tuple of operand indices or None, not"):
        Rule("Foo", "acme", 1, lambda ctx, op: op.input(0), **field)
    with pytest.raises(TypeError, match="is not a Rule"):
        installed().overlay().add(len)  # type: ignore[arg-type]


def test_what_a_failed_call_left_behind_is_not_in_the_graph() -> None:
    """A rule that tries one operator and then another gives the graph of the second alone: 12 + 16 + 8 edges."""
    model = build(
        "(float[1, 3] x) => (float[1, 2] y) { h = MatMul(x, w) g = acme.Foo(h, k) y = MatMul(g, v) }",
        {"w": (3, 4), "k": (4, 4), "v": (4, 2)},
        domains={"acme": 1},
    )

    def direct(ctx: Any, op: Any) -> Any:
        return ctx.contract(op.input(0), ctx.weight(op.input(1)), Spec("mk", "kn", "mn"), op.shape())

    def half(ctx: Any, op: Any) -> Any:
        direct(ctx, op)
        raise Unsupported("half way")

    def careful(ctx: Any, op: Any) -> Any:
        try:
            return ctx.call("Half", op.input(0), op.input(1), domain="acme")
        except Unsupported:
            return direct(ctx, op)

    registry = overlay("Foo", careful, weights=(1,))
    registry.add(Rule("Half", "acme", 1, half, weights=(1,), shapes=like))
    graph = gmnc.compile(model, registry=registry)
    plain = gmnc.compile(model, registry=overlay("Foo", direct, weights=(1,)))
    assert not graph.unsupported
    assert (graph.num_nodes, graph.num_parameter_edges, graph.num_tied_edges) == (13, 36, 0)
    assert gmnc.fingerprint(graph) == gmnc.fingerprint(plain)


def test_check_names_the_operator_and_the_rule_of_an_error() -> None:
    [finding] = check(MODEL, registry=overlay("Foo", lambda ctx, op: None))
    assert (finding.kind, finding.domain, finding.op, finding.nodes) == ("error", "acme", "Foo", ("Foo_1",))
    assert "<lambda>" in finding.rule
