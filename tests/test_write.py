import os
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from gmnc.backends.onnx import write
from gmnc.frontend.load import load
from gmnc.ir import AccountEntry, GmncError, GraphBuilder, Parameter, ParameterGraph

RNG = np.random.default_rng(7)


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def tensor(array, name):
    return numpy_helper.from_array(np.asarray(array), name)


def value(name, *shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


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
    return builder.finish("net", account, [], [], model=model)


def initializers(path):
    """A graph over every initializer of the main graph of a file, values mapped."""
    model = load(path)
    builder = GraphBuilder()
    for name, v in model.graph.initializers.items():
        t = v.const_value
        builder.parameters[name] = Parameter(name, tuple(t.shape), t.dtype.numpy().name, "initializer", t.numpy)
    account = [AccountEntry(p.name, p.size, "dead") for p in builder.parameters.values()]
    return builder.finish("net", account, [], [], model=model)


def run(model, x=None):
    session = onnxruntime.InferenceSession(os.fspath(model), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.arange(4, dtype=np.float32)[None] if x is None else x})[0]


X = np.arange(4, dtype=np.float32)[None]


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
    assert isinstance(model, ir.Model)
    assert np.array_equal(model.graph.initializers["w"].const_value.numpy(), old + 1)
    assert np.array_equal(graph.model.graph.initializers["w"].const_value.numpy(), old)
    assert np.array_equal(graph.parameters["w"].load(), old)


@pytest.mark.parametrize("form", ["proto", "ir"])
def test_a_model_in_memory_is_written_too(plain, tmp_path, form):
    proto = onnx.load(plain)
    array = numpy_helper.to_array(proto.graph.initializer[0])
    graph = graph_of(proto if form == "proto" else ir.from_proto(proto), w=(array, "initializer"))
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
    proto = ir.to_proto(ir.Tensor(old, name="w"))
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


def test_a_folded_value_takes_the_place_of_its_expression(tmp_path):
    source, w = dequantised(tmp_path)
    graph = graph_of(source, w=(w, "folded"))
    new = floats(4, 4)
    write(graph, {"w": new}, tmp_path / "out.onnx")
    np.testing.assert_allclose(run(tmp_path / "out.onnx"), X @ new * 0.5, rtol=1e-4)
    after = onnx.load(tmp_path / "out.onnx")
    onnx.checker.check_model(after)
    assert [n.op_type for n in after.graph.node] == ["MatMul", "Mul", "Relu"]
    assert sorted(i.name for i in after.graph.initializer) == ["scale", "w_folded"]


def test_an_unchanged_folded_value_stays_an_expression(tmp_path):
    source, w = dequantised(tmp_path)
    write(graph_of(source, w=(w, "folded")), {"w": w.copy()}, tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").read_bytes() == source.read_bytes()


def test_an_expression_that_is_needed_elsewhere_stays(tmp_path):
    source, w = dequantised(tmp_path)
    dq = np.ascontiguousarray(w.T)
    proto = onnx.load(source)
    proto.graph.output.append(value("w", 4, 4))
    onnx.save(proto, source)
    graph = graph_of(source, dq=(dq, "folded"), w=(w, "folded"))
    with pytest.raises(GmncError, match="output of its graph"):
        write(graph, {"w": w + 1})
    new = floats(4, 4)
    write(graph, {"dq": new}, tmp_path / "out.onnx")
    np.testing.assert_allclose(run(tmp_path / "out.onnx"), X @ new.T * 0.5, rtol=1e-4)


def test_a_folded_value_inside_a_branch(tmp_path):
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
    graph = graph_of(source, **{"then t": (np.ascontiguousarray(w.T), "folded")})
    new = floats(4, 4)
    write(graph, {"then t": new}, tmp_path / "out.onnx")
    np.testing.assert_allclose(run(tmp_path / "out.onnx"), X @ new, rtol=1e-4)
    np.testing.assert_allclose(run(tmp_path / "out.onnx", -X), -X @ w.T, rtol=1e-4)


def test_values_without_a_place_are_refused(plain):
    array = floats(2)
    for name, origin in (("nowhere", "initializer"), ("nowhere", "folded"), ("first.alpha", "attribute")):
        graph = graph_of(plain, **{name: (array, origin)})
        with pytest.raises(GmncError, match=f"place of '{name}'"):
            write(graph, {name: array + 1})


@pytest.fixture
def external(tmp_path):
    """`plain` with v, w in one data file and b in another in a subfolder; u shares the bytes of w."""
    folder = tmp_path / "source"
    (folder / "deep").mkdir(parents=True)
    w, v, b = floats(4, 40), floats(40, 4), floats(4)
    (folder / "net.bin").write_bytes(b"head" * 2 + v.tobytes() + b"pad." + w.tobytes() + b"tail")
    (folder / "deep" / "b.bin").write_bytes(b.tobytes())

    def outside(array, name, location, offset):
        out = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=array.shape)
        out.data_location = TensorProto.EXTERNAL
        for key, text in (("location", location), ("offset", offset), ("length", array.nbytes)):
            out.external_data.add(key=key, value=str(text))
        return out

    place = 8 + v.nbytes + 4
    tensors = [outside(w, "w", "net.bin", place), outside(v, "v", "net.bin", 8), outside(b, "b", "deep/b.bin", 0)]
    tensors.append(outside(w, "u", "net.bin", place))
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("MatMul", ["h", "v"], ["g"]),
        helper.make_node("Add", ["g", "b"], ["f"]),
        helper.make_node("ReduceSum", ["u"], ["s"], keepdims=0),
        helper.make_node("Add", ["f", "s"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "net", [value("x", 1, 4)], [value("y", 1, 4)], tensors)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    (folder / "net.onnx").write_bytes(proto.SerializeToString())
    return folder / "net.onnx", {"w": w, "v": v, "b": b, "u": w}


def expected(arrays):
    return X @ arrays["w"] @ arrays["v"] + arrays["b"] + arrays["u"].sum()


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def test_external_identity_into_another_folder_is_a_copy(external, tmp_path):
    source, _ = external
    (tmp_path / "to").mkdir()
    write(initializers(source), None, tmp_path / "to" / "net.onnx")
    assert tree(tmp_path / "to") == tree(source.parent)


def test_external_identity_beside_the_source_shares_its_data(external):
    source, arrays = external
    before = tree(source.parent)
    write(initializers(source), arrays, source.parent / "copy.onnx")
    assert tree(source.parent) == before | {"copy.onnx": before["net.onnx"]}


@pytest.mark.parametrize("where", ["to", "source"])
def test_external_values_change_and_the_source_does_not(external, tmp_path, where):
    source, arrays = external
    (tmp_path / "to").mkdir()
    before = tree(source.parent)
    new = arrays | {"w": floats(4, 40), "v": floats(40, 4)}
    out = tmp_path / where / "out.onnx"
    model = write(initializers(source), new, out)
    np.testing.assert_allclose(run(out), expected(new), rtol=1e-4)
    np.testing.assert_allclose(run(source), expected(arrays), rtol=1e-4)
    assert before.items() <= tree(source.parent).items()
    assert all(isinstance(v.const_value, ir.ExternalTensor) for v in model.graph.initializers.values())
    for name, array in new.items():
        assert np.array_equal(model.graph.initializers[name].const_value.numpy(), array)
    assert "net.bin" in tree(out.parent)
    assert ("out.onnx.data" in tree(out.parent)) == (where == "source")


def test_models_in_one_folder_keep_their_own_data(external, tmp_path):
    source, arrays = external
    graph = initializers(source)
    (tmp_path / "to").mkdir()
    versions = {f"{i}.onnx": arrays | {"v": floats(40, 4), "b": floats(4)} for i in range(3)}
    for name, new in versions.items():
        write(graph, new, tmp_path / "to" / name)
    write(graph, versions["0.onnx"], tmp_path / "to" / "1.onnx")
    versions["1.onnx"] = versions["0.onnx"]
    for name, new in versions.items():
        np.testing.assert_allclose(run(tmp_path / "to" / name), expected(new), rtol=1e-4)


def test_a_source_with_external_data_may_be_overwritten(external):
    source, arrays = external
    proto = onnx.load(source)
    onnx.save(proto, source, save_as_external_data=True, location="net.onnx.data", size_threshold=0)
    graph = initializers(source)
    files = set(tree(source.parent))
    new = arrays | {"w": floats(4, 40)}
    write(graph, new, source)
    assert np.array_equal(graph.parameters["w"].load(), arrays["w"]), "the graph still reads what it was made from"
    assert set(tree(source.parent)) == files
    np.testing.assert_allclose(run(source), expected(new), rtol=1e-4)


def test_external_values_without_a_path_stay_in_memory(external):
    source, arrays = external
    before = tree(source.parent)
    model = write(initializers(source), {"v": arrays["v"] * 2})
    kinds = {name: type(v.const_value) is ir.ExternalTensor for name, v in model.graph.initializers.items()}
    assert kinds == {"w": True, "v": False, "b": True, "u": True}
    assert np.array_equal(model.graph.initializers["v"].const_value.numpy(), arrays["v"] * 2)
    assert np.array_equal(model.graph.initializers["b"].const_value.numpy(), arrays["b"])
    assert tree(source.parent) == before


CORPUS = sorted((Path(__file__).parents[2] / "shared" / "corpus").glob("*.onnx"))


@pytest.mark.skipif(not CORPUS, reason="the corpus of real models is not beside the repository")
@pytest.mark.parametrize("path", CORPUS, ids=lambda p: p.stem)
def test_identity_of_real_models(path, tmp_path):
    graph = ParameterGraph("real", (), np.zeros(0, bool), (), (), (), {}, {}, (), (), (), model=load(path))
    model = write(graph, None, tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").read_bytes() == path.read_bytes()
    assert isinstance(model, ir.Model)
