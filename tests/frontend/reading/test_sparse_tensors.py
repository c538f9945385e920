"""Sparse tensors of a model: the stored values are the parameters, each on one edge; ONNX Runtime computes the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir
import pytest
from onnx import helper, numpy_helper
from support.sparse_networks import NETWORKS, network, sparse, tensor

import gmnc
from gmnc.backends.onnx import write
from gmnc.ir import LoadError
from gmnc.symmetry import isomorphic
from gmnc.testing import verify
from gmnc.testing.runtime import disagreement, run


@pytest.mark.parametrize("how", ["sparse", "linear", "constant"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_values_are_the_parameters(kind: str, how: str) -> None:
    model = network(kind, how)
    graph = gmnc.compile(model)
    graph.check()
    dense = tensor(NETWORKS[kind][0])
    on_edges = sum(b.view.size for b in graph.edges if b.view.name == "s" and not b.tied)
    assert on_edges == graph.parameters["s"].size == np.count_nonzero(dense)
    np.testing.assert_array_equal(graph.parameters["s"].load(), dense[dense != 0])
    assert not [e for e in graph.account if e.name != "k"]
    report = verify(model, trials=4)
    assert report.sound
    assert report.round_trip == "bit-exact"


@pytest.mark.parametrize("kind", NETWORKS)
def test_without_its_zeros_the_graph_is_another(kind: str) -> None:
    assert not isomorphic(gmnc.compile(network(kind, "sparse")), gmnc.compile(network(kind, "dense")), values=False)


def test_neurons_of_one_pattern_can_trade_places() -> None:
    """Columns of w [4, 6] have their zeros at even or at odd places: 3! ways each."""
    assert gmnc.symmetries(gmnc.compile(network("weight", "sparse"))).log10_size == pytest.approx(np.log10(36))
    assert gmnc.symmetries(gmnc.compile(network("weight", "dense"))).log10_size == pytest.approx(np.log10(720))


@pytest.mark.parametrize("how", ["sparse", "linear", "constant"])
def test_written_back_as_sparse(how: str, tmp_path: Path) -> None:
    onnx.save(network("weight", how), tmp_path / "model.onnx")
    graph = gmnc.compile(tmp_path / "model.onnx")
    write(graph, path=tmp_path / "same.onnx")
    assert (tmp_path / "same.onnx").read_bytes() == (tmp_path / "model.onnx").read_bytes()
    new = graph.parameters["s"].load() * 2
    in_memory = write(graph, {"s": new}, tmp_path / "new.onnx")
    again = gmnc.compile(tmp_path / "new.onnx")
    assert isomorphic(again, graph, values=False)
    np.testing.assert_array_equal(again.parameters["s"].load(), new)
    proto = onnx.load(tmp_path / "new.onnx")
    assert bool(proto.graph.sparse_initializer) == (how != "constant")
    x = {"x": np.random.default_rng(1).normal(size=(1, 3, 4)).astype(np.float32)}
    expected = network("weight", "dense")
    for stored in expected.graph.initializer:
        if stored.name == "s":
            stored.CopyFrom(numpy_helper.from_array(tensor((4, 6)) * 2, "s"))
    for model in (proto, onnx_ir.to_proto(in_memory)):
        assert disagreement(run(expected, x), run(model, x)) < 1e-6


def test_values_of_a_file_stay_in_it(tmp_path: Path) -> None:
    """Above the threshold values are read from the mapped file."""
    dense = np.zeros((64, 64), np.float32)
    dense[::2, 1::2] = np.random.default_rng(0).normal(size=(32, 32))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "s"], ["y"])], "g",
        [helper.make_tensor_value_info("x", 1, [1, 64])], [helper.make_tensor_value_info("y", 1, [1, 64])],
        sparse_initializer=[sparse("s", dense)],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    found = gmnc.compile(tmp_path / "m.onnx")
    np.testing.assert_array_equal(found.parameters["s"].load(), dense[dense != 0])
    assert found.num_parameter_edges == 1024


def test_inside_of_a_branch() -> None:
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 3, 4] x, bool c) => (float[1, 3, 2] y) {
            y = If (c) <then_branch = a () => (float[1, 3, 2] p) { p = MatMul(x, s) },
                        else_branch = b () => (float[1, 3, 2] q) { q = MatMul(x, t) }>
        }""")
    model.graph.sparse_initializer.append(sparse("t", tensor((4, 2))))
    branch = model.graph.node[0].attribute[0].g
    branch.sparse_initializer.append(sparse("s", tensor((4, 2)) * 2))
    graph = gmnc.compile(model)
    assert graph.num_parameter_edges == graph.num_parameters == 8
    assert verify(model, trials=2).sound is not False


def _damaged(change: str) -> onnx.ModelProto:
    model = network("weight", "linear" if change == "far" else "sparse")
    [stored] = model.graph.sparse_initializer
    if change == "far":
        stored.indices.CopyFrom(numpy_helper.from_array(np.full(12, 99)))
    elif change == "twice":
        stored.indices.CopyFrom(numpy_helper.from_array(np.zeros((12, 2), np.int64)))
    elif change == "few":
        stored.indices.CopyFrom(numpy_helper.from_array(np.zeros((3, 2), np.int64)))
    elif change == "huge":
        stored.dims[:] = [1 << 40, 1 << 20]
    elif change == "negative":
        stored.dims[:] = [-4, 6]
    elif change == "strings":
        stored.values.data_type = onnx.TensorProto.STRING
    elif change == "old":
        model.opset_import[0].version = 9
    elif change == "output":
        model.graph.output.append(helper.make_tensor_value_info("s", 1, [4, 6]))
    elif change == "value twice":
        model = network("weight", "constant")
        model.graph.node[0].attribute.append(model.graph.node[0].attribute[0])
    elif change == "named twice":
        model.graph.initializer.append(numpy_helper.from_array(tensor((4, 6)), "s"))
    return model


@pytest.mark.parametrize(
    "change", ["far", "twice", "few", "huge", "negative", "strings", "old", "output", "named twice", "value twice"]
)
def test_damaged(change: str) -> None:
    with pytest.raises(LoadError, match=r"sparse|named twice"):
        gmnc.compile(_damaged(change))
