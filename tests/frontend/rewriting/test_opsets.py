"""Function bodies of an older operator set are upgraded to that of the model."""

from __future__ import annotations

import onnx
import onnx_ir
import pytest

import gmnc
from gmnc.frontend.model.opsets import upgrade
from gmnc.ir import LoadError
from gmnc.testing import assert_isomorphic, build

LOSS = """({scores}) => (float loss) {{
    h = MatMul(x, w)
    p = Relu(h)
    l = MatMul(p, v)
    {body}
}}"""
LOSSES = {
    "SoftmaxCrossEntropyLoss": 'loss = SoftmaxCrossEntropyLoss<reduction = "mean">(l, t, c)',
    "NegativeLogLikelihoodLoss": "s = LogSoftmax<axis = 1>(l)\n loss = NegativeLogLikelihoodLoss(s, t, c)",
    "unweighted": "s = LogSoftmax<axis = 1>(l)\n loss = NegativeLogLikelihoodLoss(s, t)",
}


@pytest.mark.parametrize("opset", [14, 18, 22])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_lowered_at_every_opset(name: str, opset: int) -> None:
    """30 + 18 weights, 3 class weights if the loss has them, nothing opaque; as at opset 13."""
    shapes = {"w": (5, 6), "v": (6, 3)} | ({} if name == "unweighted" else {"c": (3,)})

    def made(version: int) -> gmnc.ParameterGraph:
        text = LOSS.format(scores="float[4, 5] x, int64[4] t", body=LOSSES[name])
        return gmnc.compile(build(text, shapes, opset=version))

    graph = made(opset)
    assert (graph.num_parameter_edges, len(graph.opaque)) == (48 + 3 * (name != "unweighted"), 0)
    assert_isomorphic(graph, made(13))


def _with_function(body: str, opset: int) -> onnx.ModelProto:
    text = "(float[2, 5] x) => (float[2, 3] y) { h = MatMul(x, w) a = local.f(h) y = MatMul(a, v) }"
    model = build(text, {"w": (5, 6), "v": (6, 3)}, opset=20, domains={"local": 1})
    made = onnx.parser.parse_function(f'<domain: "local", opset_import: ["": {opset}]> f (a) => (b) {{ {body} }}')
    model.functions.append(made)
    return model


def test_attributes_become_operands_in_local_functions() -> None:
    """Axes of opset 11 are operands in opset 20; the graph is that of the function written for opset 20."""
    old = """r = ReduceMean<axes = [1], keepdims = 0>(a)
        u = Unsqueeze<axes = [1]>(r)
        s, t = Split<axis = 1, split = [2, 4]>(a)
        c = Concat<axis = 1>(s, t)
        b = Sub(c, u)"""
    new = """one = Constant<value_ints = [1]>()
        parts = Constant<value_ints = [2, 4]>()
        r = ReduceMean<keepdims = 0>(a, one)
        u = Unsqueeze(r, one)
        s, t = Split<axis = 1>(a, parts)
        c = Concat<axis = 1>(s, t)
        b = Sub(c, u)"""
    model = _with_function(old, 11)
    assert_isomorphic(gmnc.compile(model), gmnc.compile(_with_function(new, 20)))


def test_operators_with_another_meaning_are_refused() -> None:
    """Softmax of opset 11 covers all axes from `axis` on."""
    with pytest.raises(LoadError, match="Softmax differs"):
        gmnc.compile(_with_function("b = Softmax(a)", 11))


def test_equal_parts_are_counted_for_later_versions() -> None:
    """Split without sizes needs the number of outputs since opset 18."""
    function = onnx_ir.serde.deserialize_function(
        onnx.parser.parse_function(
            '<domain: "local", opset_import: ["": 13]> f (a) => (b, c) { b, c = Split<axis = 1>(a) }'
        )
    )
    assert upgrade(list(function), "", 13, 18) == []
    assert function[0].attributes["num_outputs"].as_int() == 2
