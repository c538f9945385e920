"""Operators of ai.onnx.ml other than trees: support vector machines, linear models, tables and maps."""

from __future__ import annotations

from math import log10
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.forests import DOMAIN, FLOAT, X, model_of, onnx_of

import gmnc
from gmnc.backends.onnx import write
from gmnc.testing import count, run, verify


def test_support_vectors_counted_by_hand() -> None:
    """Each coefficient is on the edge to the very score that depends on it."""
    counts, features = (2, 1, 3), 3
    vectors, rng = sum(counts), np.random.default_rng(0)
    attributes = {
        "support_vectors": rng.normal(size=vectors * features).tolist(), "vectors_per_class": counts,
        "coefficients": rng.normal(size=vectors * 2).tolist(), "rho": [0.1, 0.2, 0.3],
        "kernel_type": "RBF", "kernel_params": [0.5, 0.0, 3.0], "classlabels_ints": [0, 1, 2],
    }  # fmt: skip
    outputs = {"l": (TensorProto.INT64, (40,)), "y": (FLOAT, (40, 3))}
    model = model_of("SVMClassifier", attributes, features, outputs, rows=40)
    graph = gmnc.compile(model)
    assert count(graph)["nodes"] == {"input": 3, "neuron": vectors + 3, "param": 1, "reduce": 1}
    assert count(graph)["edges"] == {"centre": vectors * features, "weight": vectors * 2, "bias": 3}
    assert gmnc.symmetries(graph).log10_size == pytest.approx(log10(2 * 6))
    block = next(b for b in graph.edges if b.role == "weight")
    own = next(p for n, p in graph.parameters.items() if n.endswith("coefficients"))
    base, pairs = run(model, {"x": X})["y"], sorted(set(block.dst.reshape(-1).tolist()))
    for element, dst in zip(block.view.elements().reshape(-1).tolist(), block.dst[:, 0].tolist(), strict=True):
        new = own.load().copy()
        new[element] += 1
        changed = np.abs(run(onnx_of(write(graph, {own.name: new})), {"x": X})["y"] - base).max(axis=0) > 1e-4
        assert np.flatnonzero(changed).tolist() == [pairs.index(dst)]


def test_tables_are_parameters_of_their_values_and_keys_are_not() -> None:
    attributes = {"keys_floats": [0.0, 1.0, 2.0], "values_floats": [0.5, 0.25, 0.125], "default_float": 9.0}
    model = model_of("LabelEncoder", attributes, 1, {"y": (FLOAT, (3, 1))}, rows=3)
    graph = gmnc.compile(model)
    assert count(graph)["edges"] == {"value": 3}
    assert graph.not_parameters() == {"key of a table": 3}
    assert verify(model, inputs={"x": np.array([[0.0], [2.0], [1.0]], np.float32)}).sound


def test_entries_of_a_map_are_pinned() -> None:
    body = "(float[3, 4] x, float[4, 5] w) => (seq(map(int64, float)) y) { z = MatMul(x, w)\n"
    body += " y = ai.onnx.ml.ZipMap<classlabels_int64s = [5, 6, 7, 8, 9]>(z) }"
    head = '<ir_version: 9, opset_import: ["" : 20, "ai.onnx.ml" : 3]> g '
    model = onnx.parser.parse_model(head + body)
    model.graph.input.pop()
    model.graph.initializer.append(numpy_helper.from_array(np.ones((4, 5), np.float32), "w"))
    graph = gmnc.compile(model)
    assert graph.outputs[0].nodes.size == 5
    assert graph.pinned[graph.outputs[0].nodes].all()
    text = graph.via_text(int(graph.outputs[0].via[0]))
    assert text.startswith("ZipMap[")
    assert "labels=" in text


def test_classes_are_pinned_by_their_label_alone() -> None:
    attributes = {"coefficients": [0.5] * 9, "intercepts": [0.1] * 3, "classlabels_ints": [4, 5, 6]}
    outputs = {"l": (TensorProto.INT64, (40,)), "s": (FLOAT, (40, 3))}
    model = model_of("LinearClassifier", attributes, 3, outputs, rows=40)
    model.graph.output.pop()
    graph = gmnc.compile(model)
    weight = next(b for b in graph.edges if b.role == "weight")
    assert graph.pinned[weight.dst].all()


@pytest.mark.parametrize(
    ("op", "key", "attributes"),
    [
        ("DictVectorizer", TensorProto.STRING, {"string_vocabulary": ["a", "b", "c"]}),
        ("CastMap", TensorProto.INT64, {"map_form": "SPARSE", "max_map": 3}),
    ],
)
def test_a_map_may_come_in(op: str, key: int, attributes: dict[str, Any]) -> None:
    kind = onnx.TypeProto()
    kind.map_type.key_type = key
    kind.map_type.value_type.tensor_type.elem_type = FLOAT
    nodes = [
        helper.make_node(op, ["x"], ["h"], domain=DOMAIN, **attributes),
        helper.make_node("LinearRegressor", ["h"], ["y"], domain=DOMAIN, coefficients=[1.0, 2.0, 3.0]),
    ]
    y = helper.make_tensor_value_info("y", FLOAT, [1, 1])
    graph = helper.make_graph(nodes, "g", [onnx.ValueInfoProto(name="x", type=kind)], [y])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, 3)]
    found = gmnc.compile(helper.make_model(graph, opset_imports=opsets))
    assert found.opaque == ()
    # one node is the map; its three columns are its slots
    [block] = found.edges
    assert block.shape == (1, 1, 1, 3)
