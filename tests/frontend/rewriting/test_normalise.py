"""Normalisation changes the form of a model: not its function, not its parameters, not the model it was given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir
import onnxruntime as ort
import pytest
from support.corpus import CORPUS

from gmnc.frontend.model.keys import CONSTANT
from gmnc.frontend.reading.load import load
from gmnc.frontend.rewriting.normalise import normalise
from gmnc.ir import LoadError


def _parse(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(text)


def _run(model: onnx_ir.Model, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    session = ort.InferenceSession(onnx_ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, dict(feeds))


_HEAD = '<ir_version: 9, opset_import: ["" : 17, "local" : 1]>'
_TWICE = f"""
{_HEAD} g (float[1,2] x) => (float[1,2] y) {{ a = local.Dense(x) y = local.Dense(a) }}
<opset_import: ["" : 17], domain: "local"> Dense (x) => (y) {{
    w = Constant<value = float[2,2] {{1.0, 2.0, 3.0, 4.0}}>()
    s = Constant<value_float = 0.5>()
    m = MatMul(x, w)
    y = Mul(m, s)
}}
"""
_BRANCHES = f"""
{_HEAD} g (float[2] x, bool flag) => (float[2] y) <float[2] w = {{1.0, 2.0}}> {{
    y = If(flag) <
        then_branch = t () => (float[2] o) <float[2] w = {{3.0, 4.0}}> {{ o = Add(x, w) }},
        else_branch = e () => (float[2] w_1) {{ w_1 = Constant<value = float[2] {{5.0, 6.0}}>() }}>
}}
"""
_CONSTANTS = f"""
{_HEAD} g (float[2] x) => (float[2] y, float k) {{
    dead = Relu(x)
    k = Constant<value_float = 2.0>()
    v = Constant<value_floats = [1.0, 2.0]>()
    i = Constant<value_int = 1>()
    j = Constant<value_ints = [0, 1]>()
    g = Gather(v, j)
    h = Mul(g, k)
    y = Add(x, h)
}}
"""


@pytest.mark.parametrize("path", CORPUS, ids=lambda p: p.stem)
def test_parameters_and_the_given_model_stay(path: Path) -> None:
    model = load(path)
    before = onnx_ir.to_proto(model).SerializeToString()
    normal = normalise(model)
    assert onnx_ir.to_proto(model).SerializeToString() == before
    for name, value in model.graph.initializers.items():
        assert normal.graph.initializers[name].const_value is value.const_value
    assert all(n.op_type != "Constant" for n in normal.graph.all_nodes())
    assert len({n.name for n in normal.graph if n.name}) == len(normal.graph)
    assert not {v.name for v in normal.graph.inputs} & set(normal.graph.initializers)


@pytest.mark.parametrize("text", [_TWICE, _BRANCHES, _CONSTANTS], ids=["functions", "branches", "constants"])
@pytest.mark.parametrize("flag", [False, True])
def test_the_function_stays(text: str, flag: bool) -> None:
    model = load(_parse(text))
    feeds: dict[str, np.ndarray] = {"x": np.ones(model.graph.inputs[0].shape.numpy(), np.float32)}
    if len(model.graph.inputs) > 1:
        feeds["flag"] = np.array(flag)
    normal = normalise(model)
    for old, new in zip(_run(model, feeds), _run(normal, feeds), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_function_called_twice_has_its_weights_once() -> None:
    graph = normalise(load(_parse(_TWICE))).graph
    assert sorted(v.const_value.size for v in graph.initializers.values()) == [1, 1, 4]
    weight = next(v for v in graph.initializers.values() if v.const_value.size == 4)
    assert [u.node.op_type for u in weight.uses()] == ["MatMul", "MatMul"]


def test_initializers_of_branches_move_up_under_free_names() -> None:
    graph = normalise(load(_parse(_BRANCHES))).graph
    assert {n: v.const_value.numpy().tolist() for n, v in graph.initializers.items()} == {
        "w": [1, 2],
        "w_1": [3, 4],
        "w_1_1": [5, 6],
    }


def test_constants_become_marked_initializers_and_dead_nodes_go() -> None:
    graph = normalise(load(_parse(_CONSTANTS))).graph
    assert [n.op_type for n in graph] == ["Gather", "Mul", "Add"]
    assert {v.meta.get(CONSTANT) for v in graph.initializers.values()} == {"k", "v", "i", "j"}
    assert graph.initializers["i"].const_value.numpy().shape == ()


def test_initializers_are_no_inputs_and_unused_ones_stay() -> None:
    proto = _parse(
        f"{_HEAD} g (float[2] x) => (float[2] y) <float[2] w = {{1.0, 2.0}}, float[1] u = {{0.0}}> {{ y = Add(x, w) }}"
    )
    proto.graph.input.append(onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [2]))
    normal = normalise(load(proto))
    assert [v.name for v in normal.graph.inputs] == ["x"]
    assert set(normal.graph.initializers) == {"w", "u"}
    assert not normal.graph.initializers["w"].meta


def test_nodes_are_put_in_order_and_named() -> None:
    proto = _parse(f"{_HEAD} g (float[2] x) => (float[2] y) {{ a = Relu(x) y = Neg(a) }}")
    proto.graph.node.reverse()
    proto.opset_import[0].domain = "ai.onnx"
    normal = normalise(load(proto))
    assert [n.op_type for n in normal.graph] == ["Relu", "Neg"]
    assert len({n.name for n in normal.graph} - {"", None}) == 2
    assert normal.opset_imports[""] == 17


def test_a_constant_that_makes_nothing_is_dead() -> None:
    model = onnx.parser.parse_model("""<ir_version: 9, opset_import: ["" : 20]>
        agraph (float[2, 3] x) => (float[2, 3] y) { c = Constant<value_ints = [1]>() y = Relu(x) }""")
    del model.graph.node[0].output[:]
    assert [n.op_type for n in normalise(load(model)).graph] == ["Relu"]


def _softmax(model: str, function: str) -> onnx.ModelProto:
    """A call of a function that uses MatMul, whose versions agree, and Softmax, which version 13 changed."""
    return _parse(f"""
        <ir_version: 9, opset_import: ["" : {model}, "local" : 1]> g (float[2,2] x) => (float[2,2] y)
            <float[2,2] w = {{1.0, 2.0, 3.0, 4.0}}> {{ y = local.Layer(x, w) }}
        <opset_import: ["" : {function}], domain: "local"> Layer (x, w) => (y) {{
            m = MatMul(x, w) y = Softmax<axis = 1>(m) }}
        <opset_import: ["" : 7], domain: "local"> NobodyCallsThis (x) => (y) {{ y = Softmax(x) }}
    """)


@pytest.mark.parametrize("function", [13, 17, 20])
def test_a_function_may_import_a_version_in_which_its_operators_are_the_same(function: int) -> None:
    model = load(_softmax("18", str(function)))
    before = onnx_ir.to_proto(model).SerializeToString()
    normal = normalise(model)
    assert onnx_ir.to_proto(model).SerializeToString() == before
    assert [n.op_type for n in normal.graph] == ["MatMul", "Softmax"]
    assert normal.opset_imports[""] == 18
    x = {"x": np.array([[0.1, 0.2], [0.3, -0.4]], np.float32)}
    np.testing.assert_array_equal(_run(model, x), _run(normal, x))


@pytest.mark.parametrize("of", ["model", "function"])
def test_the_default_domain_has_two_names_in_functions_too(of: str) -> None:
    for version in ("13", "11"):
        proto = _softmax("18", version)
        (proto if of == "model" else proto.functions[0]).opset_import[0].domain = "ai.onnx"
        if version == "13":
            assert normalise(load(proto)).opset_imports[""] == 18
        else:
            with pytest.raises(LoadError, match="Softmax differs"):
                normalise(load(proto))


@pytest.mark.parametrize(("model", "function"), [("18", "11"), ("11", "13")])
def test_a_function_of_a_version_that_means_something_else_is_refused(model: str, function: str) -> None:
    with pytest.raises(LoadError, match=rf"local::Layer imports opset {function} .*, the model {model}, and Softmax"):
        normalise(load(_softmax(model, function)))
