"""The list of rewriting passes: its contract, its fixed point, and the model between two of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnx_ir
import pytest
from support.quantised_models import quantised_mlp

from gmnc.frontend.passes import PASSES, PassContext, model_after, passes_up_to, prepare, run
from gmnc.frontend.reading.load import load
from gmnc.frontend.rules.plugins import installed
from gmnc.ir import GmncError
from gmnc.testing import build

LOOPED = """(float[2, 4] x, bool c) => (float[2, 4] y) {
    t = Constant<value_int = 1>() b = Cast<to = 9>(t) m = Constant<value_int = 3>()
    s = If(c) <then_branch = p () => (float[2, 4] o) { o = MatMul(x, v) },
               else_branch = q () => (float[2, 4] u) { u = Celu(x) }>
    h = Loop<body = g (int64 i, bool again, float[2, 4] h0) => (bool go, float[2, 4] hn) {
        go = Identity(again) hw = MatMul(h0, w) hn = Celu(hw) }>(m, b, s)
    r = ReduceMean<axes = [-1]>(h) d = Sub(h, r) e = Mul(d, d) k = ReduceMean<axes = [-1]>(e)
    z = Constant<value_float = 0.1>() f = Add(k, z) l = Sqrt(f) y = Div(d, l)
}"""
CELL = """(float[3, 2, 3] x) => (float[3, 1, 2, 4] y) {
    q = MatMul(r, e) y = RNN<hidden_size = 4>(x, w, q)
}"""
LOW_RANK = "(float[2, 4] x) => (float[2, 4] y) { d = MatMul(a, b) s = Add(w, d) y = MatMul(x, s) }"
MODELS = {
    "control flow and an idiom": lambda: build(LOOPED, {"v": (4, 4), "w": (4, 4)}, opset=17),
    "a cell with computed weights": lambda: build(CELL, {"w": (1, 4, 3), "r": (1, 4, 4), "e": (4, 4)}),
    "a product with a low-rank update": lambda: build(LOW_RANK, {"w": (4, 4), "a": (4, 1), "b": (1, 4)}),
    "quantised": quantised_mlp,
}


def operators(model: onnx_ir.Model) -> list[str]:
    return [node.op_type for node in model.graph.all_nodes()]


def test_passes_have_names_of_their_own_and_one_line_summaries() -> None:
    assert len({p.name for p in PASSES}) == len(PASSES)
    assert all(p.summary and "\n" not in p.summary for p in PASSES)
    assert PASSES[0].name == "normalise"


def test_a_pass_is_an_in_place_pass_of_onnx_ir() -> None:
    """A sequence of them runs in onnx-ir's own runner, once they have a context."""
    network = load(MODELS["a product with a low-rank update"]())
    context = PassContext({}, {}, installed())
    result = onnx_ir.passes.Sequential(*(replace(p, context=context) for p in PASSES))(network)
    assert result.model is network
    assert result.modified
    assert operators(network).count("MatMul") == 3


def test_a_pass_without_a_context_says_so() -> None:
    with pytest.raises(GmncError, match="'fuse-idioms' needs a context"):
        passes_up_to("fuse-idioms")[-1](load(MODELS["quantised"]()))


@pytest.mark.parametrize("name", MODELS)
def test_preparing_ends_where_no_pass_finds_anything_more(name: str) -> None:
    network, context = load(MODELS[name]()).clone(), PassContext({}, {}, installed())
    run(network, PASSES, context)
    again = [p.name for p in PASSES[1:] if replace(p, context=context)(network).modified]
    assert again == []


@pytest.mark.parametrize("name", MODELS)
def test_preparing_leaves_the_model_as_it_is(name: str) -> None:
    """Names and tensors too, which the network shares with it."""
    model = load(MODELS[name]())
    before = onnx_ir.to_proto(model).SerializeToString(deterministic=True)
    prepare(model, {}, {}, installed())
    assert onnx_ir.to_proto(model).SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("last", [p.name for p in PASSES])
def test_every_pass_keeps_every_parameter(name: str, last: str) -> None:
    """Under its name, the same numbers, in the order of the file."""
    model = load(MODELS[name]())
    network = model_after(model, last, {}, {}, installed())
    found = [n for n in network.graph.initializers if n in model.graph.initializers]
    assert found == list(model.graph.initializers)
    for key, value in model.graph.initializers.items():
        assert network.graph.initializers[key].const_value is value.const_value


def test_the_model_after_a_pass_is_what_the_passes_up_to_it_leave() -> None:
    model, rules = load(MODELS["control flow and an idiom"]()), installed()
    after = {p.name: operators(model_after(model, p.name, {}, {}, rules)) for p in PASSES}
    assert {"If", "Loop", "Celu"} <= set(after["unpack-sequences"])
    assert {"Where", "Carry", "LoopEnd", "Celu"} <= set(after["flatten-control-flow"])
    assert not {"If", "Loop"} & set(after["flatten-control-flow"])
    assert "Standardize" not in after["distribute-products"]
    assert "Standardize" in after["fuse-idioms"]
    assert "Sqrt" not in after["fuse-idioms"]


def test_the_model_after_a_pass_has_the_shapes_of_its_values() -> None:
    model = load(MODELS["a product with a low-rank update"]())
    network = model_after(model, "distribute-products", {}, {}, installed())
    shapes = {v.name: v.shape for node in network.graph for v in node.outputs}
    assert all(shape is not None for shape in shapes.values())
    assert shapes["y"] == onnx_ir.Shape([2, 4])


def test_a_model_whose_shapes_contradict_each_other_is_shown_before_they_are_inferred() -> None:
    text = "(float[2, 3] x) => (float[2, 4] y) { y = MatMul(x, w) }"
    proto = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 20]> agraph {text}')
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((4, 4), np.float32), "w"))
    network = model_after(load(proto), "decompose-quantised", {}, {}, installed())
    assert operators(network) == ["MatMul"]


def test_an_unknown_pass_is_refused_with_the_names_of_all() -> None:
    with pytest.raises(GmncError, match=r"no pass 'fold'.*normalise, merge-runs, fuse-dequantise"):
        passes_up_to("fold")
