import ml_dtypes
import numpy as np
import onnx
import onnx_ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.corpus import CORPUS
from support.tiers import first
from support.written import X, floats, initializers, run, value

from gmnc.backends.onnx import write
from gmnc.backends.patching import Patcher
from gmnc.frontend.reading.load import load
from gmnc.frontend.reading.source import LoadedModel
from gmnc.ir import AccountEntry, GmncError, GraphBuilder, Parameter, ParameterGraph


def tensor(array, name):
    return numpy_helper.from_array(np.asarray(array), name)


def save(path, nodes, initializers, output=(1, 4), value_info=(), **model):
    graph = helper.make_graph(
        nodes, "net", [value("x", 1, 4)], [value("y", *output)], initializers, value_info=value_info
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 3)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="a test", **model)
    onnx.checker.check_model(proto)
    onnx.save(proto, path)
    return path


def graph_of(source, **parameters):
    """A graph with nothing but parameters: name=(array, origin), or (array, "attribute", place)."""
    model = load(source)
    builder = GraphBuilder()
    for name, (array, origin, *place) in parameters.items():
        builder.parameters[name] = Parameter(name, array.shape, array.dtype.name, origin, lambda a=array: a, *place)
    account = [AccountEntry(p.name, p.size, "dead") for p in builder.parameters.values()]
    return builder.finish("net", account, [], [], source=LoadedModel(model))


@pytest.fixture
def plain(tmp_path):
    """x @ w + b, with a weight over and one under the size at which loading maps it, and things that onnx-ir drops."""
    b = helper.make_tensor("b", TensorProto.FLOAT, [4], [1.0, 2.0, 3.0, 4.0])
    w = tensor(floats(4, 400), "w")
    w.doc_string = "a weight"
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="first", doc_string="", domain=""),
        helper.make_node("MatMul", ["h", "v"], ["g"], name="second"),
        helper.make_node("Add", ["g", "b"], ["y"]),
    ]
    nodes[0].metadata_props.add(key="scope", value="net.first")
    infos = [value("h", 1, 400), value("not a value of the graph", 3)]
    tensors = [w, tensor(floats(400, 4), "v"), b, tensor(np.arange(3), "unused")]
    return save(tmp_path / "net.onnx", nodes, tensors, value_info=infos, doc_string="d")


def test_identity_is_the_same_file_byte_for_byte(plain, tmp_path):
    graph = initializers(plain)
    before = plain.read_bytes()
    present = {name: np.array(p.load()) for name, p in graph.parameters.items()}
    for values in (None, {}, present):
        write(graph, values, tmp_path / "out.onnx")
        assert (tmp_path / "out.onnx").read_bytes() == before


def test_changed_values_run_and_nothing_else_changes(plain, tmp_path):
    graph = initializers(plain)
    w, b = floats(4, 400), floats(4)
    write(graph, {"w": w, "b": b}, tmp_path / "out.onnx")
    before, after = onnx.load(plain), onnx.load(tmp_path / "out.onnx")
    for new, old in zip(after.graph.initializer, before.graph.initializer, strict=True):
        if new.name in ("w", "b"):
            assert np.array_equal(numpy_helper.to_array(new), {"w": w, "b": b}[new.name])
            assert (new.name, list(new.dims), new.doc_string) == (old.name, list(old.dims), old.doc_string)
            new.CopyFrom(old)
    assert after.SerializeToString() == before.SerializeToString()
    v = graph.parameters["v"].load()
    np.testing.assert_allclose(run(tmp_path / "out.onnx"), X @ w @ v + b, rtol=1e-4)


def test_the_model_comes_back_and_the_loaded_one_is_untouched(plain):
    graph = initializers(plain)
    old = np.array(graph.parameters["w"].load())
    model = write(graph, {"w": old + 1})
    assert isinstance(model, onnx_ir.Model)
    assert np.array_equal(model.graph.initializers["w"].const_value.numpy(), old + 1)
    assert np.array_equal(graph.model.graph.initializers["w"].const_value.numpy(), old)
    assert np.array_equal(graph.parameters["w"].load(), old)


@pytest.mark.parametrize("form", ["proto", "ir"])
def test_a_model_in_memory_is_written_too(plain, tmp_path, form):
    proto = onnx.load(plain)
    array = numpy_helper.to_array(proto.graph.initializer[0])
    graph = graph_of(proto if form == "proto" else onnx_ir.from_proto(proto), w=(array, "initializer"))
    write(graph, None, tmp_path / "same.onnx")
    for old, new in zip(proto.graph.initializer, onnx.load(tmp_path / "same.onnx").graph.initializer, strict=True):
        assert old == new
    write(graph, {"w": -array}, tmp_path / "out.onnx")
    v, b = (numpy_helper.to_array(t) for t in proto.graph.initializer[1:3])
    np.testing.assert_allclose(run(tmp_path / "out.onnx"), -X @ array @ v + b, rtol=1e-4)


def test_the_source_may_be_overwritten(plain):
    graph = initializers(plain)
    old = np.array(graph.parameters["w"].load())
    write(graph, {"w": 2 * old}, plain)
    assert np.array_equal(graph.parameters["w"].load(), old), "the graph still reads the file that it was made from"
    assert np.array_equal(initializers(plain).parameters["w"].load(), 2 * old)
    write(graph, {"w": 3 * old}, plain)
    assert np.array_equal(initializers(plain).parameters["w"].load(), 3 * old)
    assert [p.name for p in plain.parent.iterdir()] == ["net.onnx"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"W": np.zeros((4, 400))}, "no parameter 'W'"),
        ({"w": np.zeros((400, 4), np.float32)}, r"shape \[400, 4\].*\[4, 400\]"),
        ({"w": np.zeros((4, 400), np.int32)}, "int32.*float32"),
        ({"w": np.full((4, 400), 1e300)}, "do not fit"),
        ({"unused": np.zeros(3, np.float32)}, "float32.*int64"),
    ],
)
def test_wrong_values_are_refused(plain, tmp_path, values, message):
    with pytest.raises(GmncError, match=message):
        write(initializers(plain), values, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_a_graph_without_a_model_is_refused(tmp_path):
    with pytest.raises(GmncError, match="no model"):
        write(GraphBuilder().finish("stored", [], [], []), {}, tmp_path / "out.onnx")


def test_a_missing_folder_is_refused(plain, tmp_path):
    with pytest.raises(GmncError, match="does not exist"):
        write(initializers(plain), None, tmp_path / "no" / "out.onnx")


@pytest.mark.parametrize(
    ("stored", "given"),
    [
        (np.float16, np.float32), (np.float64, np.float32), (ml_dtypes.bfloat16, np.float32),
        (ml_dtypes.float8_e4m3fn, np.float64), (np.int8, np.int64), (np.uint8, np.int32), (ml_dtypes.int4, np.int8),
        (np.bool_, np.bool_),
    ],
)  # fmt: skip
def test_values_are_cast_to_the_stored_type(tmp_path, stored, given):
    old, new = np.array([[1, 0, 1, 1]]).astype(stored), np.array([[0, 1, 1, 0]]).astype(given)
    proto = onnx_ir.to_proto(onnx_ir.Tensor(old, name="w"))
    node = helper.make_node("Shape", ["w"], ["y"])
    graph = helper.make_graph([node], "net", [value("x", 1, 4)], [value("y", 2, kind=TensorProto.INT64)], [proto])
    onnx.save(helper.make_model(graph), tmp_path / "net.onnx")
    model = write(initializers(tmp_path / "net.onnx"), {"w": new}, tmp_path / "out.onnx")
    for found in (model, load(tmp_path / "out.onnx")):
        array = found.graph.initializers["w"].const_value.numpy()
        assert array.dtype == np.dtype(stored)
        assert np.array_equal(array.astype(np.float32), new.astype(np.float32))


def test_constant_nodes_are_set_in_place(tmp_path):
    w, b = floats(4, 4), floats(4)
    nodes = [
        helper.make_node("Constant", [], ["w"], value=tensor(w, "another name")),
        helper.make_node("Constant", [], ["b"], value_floats=b.tolist()),
        helper.make_node("Constant", [], ["s"], value_float=2.0),
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Add", ["h", "b"], ["g"]),
        helper.make_node("Mul", ["g", "s"], ["y"]),
    ]
    source = save(tmp_path / "net.onnx", nodes, [])
    graph = graph_of(source, w=(w, "initializer"), b=(b, "initializer"), s=(np.float32(2).reshape(()), "initializer"))
    new = {"w": floats(4, 4), "b": floats(4), "s": np.float32(5)}
    write(graph, new, tmp_path / "out.onnx")
    np.testing.assert_allclose(run(tmp_path / "out.onnx"), (X @ new["w"] + new["b"]) * 5, rtol=1e-4)
    after = onnx.load(tmp_path / "out.onnx").graph
    assert [n.op_type for n in after.node] == [n.op_type for n in nodes]
    assert after.node[0].attribute[0].t.name == "another name"
    assert not after.initializer


def branches(tmp_path, names=("w", "w")):
    """x @ w in both branches of an If, each with its own w."""
    arrays = [floats(4, 4), floats(4, 4)]
    graphs = [
        helper.make_graph(
            [helper.make_node("MatMul", ["x", name], [out])], out, [], [value(out, 1, 4)], [tensor(array, name)]
        )
        for name, out, array in zip(names, ("then", "else"), arrays, strict=True)
    ]
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["top"], keepdims=0),
        helper.make_node("Greater", ["top", "zero"], ["c"]),
        helper.make_node("If", ["c"], ["y"], then_branch=graphs[0], else_branch=graphs[1]),
    ]
    return save(tmp_path / "net.onnx", nodes, [tensor(np.float32(0), "zero")]), arrays


def test_weights_in_branches_are_set(tmp_path):
    source, (w, v) = branches(tmp_path)
    graph = graph_of(source, w=(w, "initializer"), w_1=(v, "initializer"))
    new = {"w": floats(4, 4), "w_1": floats(4, 4)}
    write(graph, new, tmp_path / "out.onnx")
    np.testing.assert_allclose(run(tmp_path / "out.onnx"), X @ new["w"], rtol=1e-4)
    np.testing.assert_allclose(run(tmp_path / "out.onnx", -X), -X @ new["w_1"], rtol=1e-4)


def test_attributes_of_numbers_are_set(tmp_path):
    scale = np.array([1, 2, 3, 4], np.float32)
    node = helper.make_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", scale=scale, offset=[0.5] * 4)
    source = save(tmp_path / "net.onnx", [node], [])
    graph = graph_of(source, **{"my.scaler.scale": (scale, "attribute", ("y", "scale"))})
    write(graph, {"my.scaler.scale": scale[::-1]}, tmp_path / "out.onnx")
    np.testing.assert_allclose(run(tmp_path / "out.onnx"), (X - 0.5) * scale[::-1])


def dequantised(tmp_path):
    """x @ dequantise(q), an initializer that two nodes read and one that only the folded part reads."""
    q, scale = np.arange(-8, 8, dtype=np.int8).reshape(4, 4), np.float32(0.5)
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "scale"], ["dq"]),
        helper.make_node("Transpose", ["dq"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Mul", ["h", "scale"], ["y"]),
        helper.make_node("Relu", ["h"], ["dead already"]),
    ]
    source = save(tmp_path / "net.onnx", nodes, [tensor(q, "q"), tensor(scale, "scale")])
    return source, (q * scale).T


def replaced(source, target, name, array):
    """The model with numbers in the place of what makes a value, as floats take that of a dequantised weight."""
    proto = onnx.load(source)
    Patcher(proto).replace(name, array)
    onnx.save(proto, target)


def test_numbers_take_the_place_of_their_expression_under_its_name(tmp_path):
    source, _ = dequantised(tmp_path)
    new = floats(4, 4)
    replaced(source, tmp_path / "out.onnx", "w", new)
    np.testing.assert_allclose(run(tmp_path / "out.onnx"), X @ new * 0.5, rtol=1e-4)
    after = onnx.load(tmp_path / "out.onnx")
    onnx.checker.check_model(after)
    assert [n.op_type for n in after.graph.node] == ["MatMul", "Mul", "Relu"]
    assert sorted(i.name for i in after.graph.initializer) == ["scale", "w"]


def test_an_expression_that_is_needed_elsewhere_stays(tmp_path):
    source, w = dequantised(tmp_path)
    proto = onnx.load(source)
    proto.graph.output.append(value("w", 4, 4))
    onnx.save(proto, source)
    with pytest.raises(GmncError, match="output of its graph"):
        replaced(source, tmp_path / "out.onnx", "w", w + 1)
    new = floats(4, 4)
    replaced(source, tmp_path / "out.onnx", "dq", new)
    np.testing.assert_allclose(run(tmp_path / "out.onnx"), X @ new.T * 0.5, rtol=1e-4)


def test_numbers_take_the_place_of_an_expression_inside_a_branch(tmp_path):
    w = floats(4, 4)
    graphs = [
        helper.make_graph(
            [helper.make_node("Transpose", ["w"], [f"{out} t"]), helper.make_node("MatMul", ["x", f"{out} t"], [out])],
            out, [], [value(out, 1, 4)],
        )
        for out in ("then", "else")
    ]  # fmt: skip
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["top"], keepdims=0),
        helper.make_node("Greater", ["top", "zero"], ["c"]),
        helper.make_node("If", ["c"], ["y"], then_branch=graphs[0], else_branch=graphs[1]),
    ]
    source = save(tmp_path / "net.onnx", nodes, [tensor(np.float32(0), "zero"), tensor(w, "w")])
    new = floats(4, 4)
    replaced(source, tmp_path / "out.onnx", "then t", new)
    np.testing.assert_allclose(run(tmp_path / "out.onnx"), X @ new, rtol=1e-4)
    np.testing.assert_allclose(run(tmp_path / "out.onnx", -X), -X @ w.T, rtol=1e-4)


def test_values_that_the_model_does_not_hold_are_refused(plain):
    array = floats(2)
    for name, origin in (("nowhere", "initializer"), ("first.alpha", "attribute")):
        graph = graph_of(plain, **{name: (array, origin)})
        with pytest.raises(GmncError, match=f"cannot locate '{name}'"):
            write(graph, {name: array + 1})


@pytest.mark.skipif(not CORPUS, reason="the corpus of real models is not beside the repository")
@pytest.mark.parametrize("path", first(0, CORPUS), ids=lambda p: p.stem)
def test_identity_of_real_models(path, tmp_path):
    graph = ParameterGraph(
        "real", (), np.zeros(0, bool), (), (), (), {}, {}, (), (), (), source=LoadedModel(load(path))
    )
    model = write(graph, None, tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").read_bytes() == path.read_bytes()
    assert isinstance(model, onnx_ir.Model)
