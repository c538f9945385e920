"""Loading keeps weights in their files and refuses what no lowering could rely on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.corpus import CORPUS
from support.tiers import first

from gmnc.frontend.reading.load import load
from gmnc.ir import LoadError
from gmnc.testing import build

_X = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])
_Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64])
_WEIGHT = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)


def _model(*nodes: onnx.NodeProto, weight: np.ndarray = _WEIGHT) -> onnx.ModelProto:
    nodes = nodes or (helper.make_node("MatMul", ["x", "w"], ["y"], name="dense"),)
    graph = helper.make_graph(list(nodes), "g", [_X], [_Y], [numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _external(folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save(_model(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def _set_external(path: Path, **entries: str) -> None:
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        entry.value = entries.get(entry.key, entry.value)
    onnx.save(model, path)


def _tensors(model: onnx_ir.Model) -> Iterator[onnx_ir.TensorProtocol]:
    for graph in model.graphs():
        yield from (v.const_value for v in graph.initializers.values() if v.const_value is not None)
        for node in graph:
            yield from (a.as_tensor() for a in node.attributes.values() if a.type == onnx_ir.AttributeType.TENSOR)


@pytest.mark.parametrize("path", first(0, CORPUS), ids=lambda p: p.stem)
def test_the_same_model_as_a_plain_parse(path: Path) -> None:
    loaded, plain = load(path), onnx_ir.load(path)
    for ours, theirs in zip(_tensors(loaded), _tensors(plain), strict=True):
        assert (ours.name, ours.dtype, ours.shape) == (theirs.name, theirs.dtype, theirs.shape)
        if ours.dtype == onnx_ir.DataType.STRING:
            assert ours.numpy().tolist() == theirs.numpy().tolist()
        else:
            assert ours.tobytes() == theirs.tobytes()
    assert [(n.name, n.op_type) for n in loaded.graph] == [(n.name, n.op_type) for n in plain.graph]


def test_weights_in_the_file_are_mapped_and_saved_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(_model().SerializeToString())
    model = load(path)
    tensor = model.graph.initializers["w"].const_value
    assert tensor is not None
    array = tensor.numpy()
    np.testing.assert_array_equal(array, _WEIGHT)
    assert not array.flags.owndata
    assert not array.flags.writeable
    assert onnx_ir.to_proto(model).graph.initializer[0].raw_data == _WEIGHT.tobytes()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int4", "uint4", "float8_e4m3fn", "int8", "bool", "float64"])
def test_every_data_type_is_read_from_the_map(tmp_path: Path, dtype: str) -> None:
    kind = {d.numpy().name: d for d in onnx_ir.DataType if d.name not in ("UNDEFINED", "STRING")}[dtype]
    array = (np.arange(60 * 70) % 2).reshape(60, 70).astype(kind.numpy())
    initializer = onnx_ir.Value(name="w", const_value=onnx_ir.Tensor(array, kind, name="w"))
    proto = _model()
    proto.graph.initializer[0].CopyFrom(onnx_ir.to_proto(initializer.const_value))
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    tensor = load(path).graph.initializers["w"].const_value
    assert isinstance(tensor, onnx_ir.LazyTensor)
    np.testing.assert_array_equal(tensor.numpy().astype(np.float32), array.astype(np.float32))


def test_weights_beside_the_file_are_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _external(tmp_path)
    monkeypatch.chdir(tmp_path)
    for source in (path, str(path), "model.onnx"):
        tensor = load(source).graph.initializers["w"].const_value
        assert isinstance(tensor, onnx_ir.ExternalTensor)
        np.testing.assert_array_equal(tensor.numpy(), _WEIGHT)


def test_memory_does_not_grow_with_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(_model(weight=np.ones((64, 1_000_000), np.float32)).SerializeToString())
    program = (
        "import resource, sys; from gmnc.frontend.reading.load import load; peak = lambda: "
        "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; before = peak(); load(sys.argv[1]); print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 0.1 * path.stat().st_size


def test_a_model_in_memory_is_taken_as_it_is() -> None:
    proto = _model()
    assert load(proto).graph.initializers["w"].const_value is not None
    model = onnx_ir.from_proto(proto)
    assert load(model) is model


def test_weights_as_inputs_and_odd_but_valid_models() -> None:
    proto = _model()
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [64, 64]))
    proto.opset_import.append(helper.make_opsetid("", 17))
    proto.graph.node[0].name = ""
    assert "w" in load(proto).graph.initializers


def test_a_map_valued_output_does_not_stop_the_rest() -> None:
    proto = _model()
    maps = onnx.TypeProto()
    maps.sequence_type.elem_type.map_type.key_type = TensorProto.INT64
    maps.sequence_type.elem_type.map_type.value_type.tensor_type.elem_type = TensorProto.FLOAT
    proto.graph.node.append(helper.make_node("ZipMap", ["y"], ["z"], domain="ai.onnx.ml", classlabels_int64s=[0, 1]))
    proto.graph.output.append(onnx.ValueInfoProto(name="z", type=maps))
    assert [v.name for v in load(proto).graph.outputs] == ["y", "z"]
    assert proto.graph.output[1].type == maps


def _cycle() -> onnx.ModelProto:
    return _model(
        helper.make_node("Add", ["x", "b"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="second"),
        helper.make_node("Relu", ["b"], ["y"], name="behind"),
    )


def _without_opset() -> onnx.ModelProto:
    proto = _model()
    del proto.opset_import[:]
    proto.opset_import.append(helper.make_opsetid("com.example", 1))
    return proto


def _twice(field: str) -> onnx.ModelProto:
    proto = _model()
    getattr(proto.graph, field).append(getattr(proto.graph, field)[0])
    return proto


def _wrong_length() -> onnx.ModelProto:
    proto = _model()
    proto.graph.initializer[0].dims[0] = 63
    return proto


def _dangling_in_a_branch() -> onnx.ModelProto:
    out = helper.make_tensor_value_info("b", TensorProto.FLOAT, None)
    body = helper.make_graph([helper.make_node("Relu", ["nowhere"], ["b"], name="inner")], "body", [], [out])
    return _model(helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body, name="if"))


def _without_outputs() -> onnx.ModelProto:
    proto = _model()
    del proto.graph.output[:]
    return proto


def _unknown_output() -> onnx.ModelProto:
    proto = _model()
    proto.graph.output[0].name = "elsewhere"
    return proto


def _damaged(old: bytes, new: bytes) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(_model().SerializeToString().replace(old, new))


def _untyped_attribute() -> onnx.ModelProto:
    proto = _model(helper.make_node("Elu", ["x"], ["y"], name="dense", alpha=2.0))
    proto.graph.node[0].attribute[0].ClearField("type")
    return proto


def _changed(change: Callable[[onnx.ModelProto], object]) -> Callable[[], onnx.ModelProto]:
    def make() -> onnx.ModelProto:
        proto = _model()
        change(proto)
        return proto

    return make


def _set(message: Any, **values: Any) -> None:
    for name, value in values.items():
        setattr(message, name, value)


def _with_attribute(**fields: Any) -> onnx.ModelProto:
    proto = _model(helper.make_node("Elu", ["x"], ["y"], name="dense"))
    proto.graph.node[0].attribute.add(name="alpha", **fields)
    return proto


def _twice_in_a_branch() -> onnx.ModelProto:
    out = helper.make_tensor_value_info("b", TensorProto.FLOAT, None)
    body = helper.make_graph([helper.make_node("Relu", ["x"], ["b"], name="inner")] * 2, "body", [], [out])
    return _model(helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body, name="if"))


def _domain_of_bytes() -> onnx.ModelProto:
    proto = _model()
    proto.opset_import.append(helper.make_opsetid("com.example", 1))
    return onnx.ModelProto.FromString(proto.SerializeToString().replace(b"com.example", b"com.\xe8xample"))


def _typed(*numbers: float) -> Callable[[], onnx.ModelProto]:
    tensor = TensorProto(name="w", dims=[64, 64], data_type=TensorProto.FLOAT, float_data=numbers)
    return _changed(lambda m: m.graph.initializer[0].CopyFrom(tensor))


_BROKEN = {
    "operators of version 0": (_changed(lambda m: _set(m.opset_import[0], version=0)), ["version 0", "'ai.onnx'"]),
    "operators of version 2^62": (_changed(lambda m: _set(m.opset_import[0], version=2**62)), [str(2**62)]),
    "weight without a type": (_changed(lambda m: _set(m.graph.initializer[0], data_type=0)), ["'w'", "data type"]),
    "weight of negative size": (_changed(lambda m: m.graph.initializer[0].dims.append(-1)), ["'w'", "-1"]),
    "weight of 40 axes": (_changed(lambda m: m.graph.initializer[0].dims.extend([1] * 38)), ["'w'", "40 axes"]),
    "weight of few numbers": (_typed(1.0, 2.0), ["'w'", "2 numbers", "4096"]),
    "input without a type": (
        _changed(lambda m: _set(m.graph.input[0].type.tensor_type, elem_type=0)),
        ["'x'", "data type"],
    ),
    "attribute of another type": (lambda: _with_attribute(type=2, i=3), ["'alpha'", "'dense'", "INT", "FLOAT"]),
    "attribute that refers to nothing": (
        lambda: _with_attribute(type=1, ref_attr_name="beta"),
        ["'alpha'", "'dense'", "function"],
    ),
    "attribute that is missing": (
        lambda: _model(helper.make_node("Cast", ["x"], ["y"], name="dense")),
        ["'to'", "'dense'", "lacks"],
    ),
    "node twice in a branch": (_twice_in_a_branch, ["'b'", "already defined", "'inner'"]),
    "domain that is no text": (_domain_of_bytes, ["not text", "damaged"]),
    "name that is no text": (lambda: _damaged(b"MatMul", b"Mat\xfful"), ["not text"]),
    "attribute without a type": (_untyped_attribute, ["'alpha'", "'dense'"]),
    "cycle": (_cycle, ["cycle", "first"]),
    "missing input": (lambda: _model(helper.make_node("MatMul", ["x", "v"], ["y"], name="dense")), ["'v'", "'dense'"]),
    "missing input in a branch": (_dangling_in_a_branch, ["'nowhere'", "'inner'"]),
    "unknown output": (_unknown_output, ["'elsewhere'"]),
    "no outputs": (_without_outputs, ["no outputs"]),
    "no default opset": (_without_opset, ["opset", "'dense'"]),
    "node twice": (lambda: _twice("node"), ["'y'", "already defined", "'dense'"]),
    "input twice": (lambda: _twice("input"), ["'x'", "twice"]),
    "initializer twice": (lambda: _twice("initializer"), ["'w'", "twice"]),
    "wrong length": (_wrong_length, ["'w'", "16384", "16128"]),
}


@pytest.mark.parametrize("in_memory", [False, True], ids=["file", "proto"])
@pytest.mark.parametrize("name", _BROKEN)
def test_broken_models(tmp_path: Path, name: str, in_memory: bool) -> None:
    make, words = _BROKEN[name]
    path = tmp_path / "broken.onnx"
    path.write_bytes(make().SerializeToString())
    with pytest.raises(LoadError) as caught:
        load(make() if in_memory else path)
    for word in [*words, "g" if in_memory else "broken.onnx"]:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nodes_out_of_order_are_no_cycle() -> None:
    nodes = [helper.make_node("Relu", ["a"], ["y"]), helper.make_node("Add", ["x", "x"], ["a"])]
    assert len(load(_model(*nodes)).graph) == 2


def test_files_that_are_no_models(tmp_path: Path) -> None:
    data = _model().SerializeToString()
    files = {"empty": b"", "text": b"This is not a model.\n" * 50, "truncated": data[:-1], "short": data[:3000]}
    for name, content in files.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        with pytest.raises(LoadError, match=f"{name}.onnx"):
            load(path)
    for path in (tmp_path / "absent.onnx", tmp_path):
        with pytest.raises(LoadError, match=path.name):
            load(path)


def test_external_data_that_is_missing_or_short(tmp_path: Path) -> None:
    path = _external(tmp_path)
    data = tmp_path / "weights.bin"
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(LoadError, match=r"model\.onnx: tensor 'w' .*'weights\.bin'.* truncated"):
        load(path)
    data.unlink()
    with pytest.raises(LoadError, match=r"model\.onnx: tensor 'w': .*'weights\.bin' is missing"):
        load(path)


def test_external_data_of_the_wrong_length(tmp_path: Path) -> None:
    path = _external(tmp_path)
    _set_external(path, length="12")
    with pytest.raises(LoadError, match="'w' has 12 bytes"):
        load(path)


@pytest.mark.parametrize("kind", ["parent", "absolute", "link", "folder link"])
def test_external_data_may_not_leave_the_folder(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = _external(folder)
    outside = tmp_path / "outside.bin"
    (folder / "weights.bin").rename(outside)
    location = {
        "parent": "../outside.bin",
        "absolute": str(outside),
        "link": "link.bin",
        "folder link": "up/outside.bin",
    }[kind]
    os.symlink(outside, folder / "link.bin")
    os.symlink(tmp_path, folder / "up")
    _set_external(path, location=location)
    with pytest.raises(LoadError, match=r"model\.onnx: tensor 'w'.*outside of the model's folder"):
        load(path)


def test_external_data_of_a_model_in_memory_has_no_folder(tmp_path: Path) -> None:
    proto = onnx.load(_external(tmp_path), load_external_data=False)
    with pytest.raises(LoadError, match=r"'w'.*pass the path"):
        load(proto)
    assert load(onnx_ir.load(tmp_path / "model.onnx")).graph.initializers["w"].const_value is not None


def test_inputs_of_impossible_rank_and_bodies_that_are_missing() -> None:
    model = build("(float[1, 2] x) => (float[1, 2] y) { y = Relu(x) }")
    model.graph.input[0].type.tensor_type.shape.dim.extend(
        onnx.TensorShapeProto.Dimension(dim_value=1) for _ in "a" * 99
    )
    with pytest.raises(LoadError, match="input 'x' has 101 axes"):
        load(model)
    model = build("(float[1, 2] x) => (float[1, 2] y) { y = Relu(x) }")
    model.graph.node[0].attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH)
    with pytest.raises(LoadError, match="attribute 'then_branch' lacks its graph"):
        load(model)


def test_an_operator_with_too_few_operands() -> None:
    model = build("(float[1, 3] x) => (float[1, 4] y) { y = MatMul(x, w) }", {"w": (3, 4)})
    del model.graph.node[0].input[1]
    with pytest.raises(LoadError, match="has 1 operands, it needs 2"):
        load(model)


_DAMAGED = {
    "a data type that there is not": (TensorProto(name="w", dims=[2], data_type=1000000000), "is not a valid DataType"),
    "strings as raw bytes": (
        TensorProto(name="w", dims=[2], data_type=TensorProto.STRING, raw_data=bytes(16)),
        "of 2 strings has 0 of them",
    ),
}


@pytest.mark.parametrize("how", _DAMAGED)
def test_damaged_tensors_are_refused(tmp_path: Path, how: str) -> None:
    tensor, said = _DAMAGED[how]
    model = helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [_X], [_Y], [tensor]))
    onnx.save(model, tmp_path / "model.onnx")
    for source in (model, tmp_path / "model.onnx"):
        with pytest.raises(LoadError, match=said):
            load(source)


def test_an_operand_that_must_be_there_is_not_left_out() -> None:
    with pytest.raises(LoadError, match=r"Relu.*lacks its operand 0"):
        load(_model(helper.make_node("Relu", [""], ["y"])))
