from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import pytest
from onnx import TensorProto, helper
from support.written import X, floats, initializers, run, value

from gmnc.backends.onnx import write


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
    assert all(isinstance(v.const_value, onnx_ir.ExternalTensor) for v in model.graph.initializers.values())
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
    kinds = {name: type(v.const_value) is onnx_ir.ExternalTensor for name, v in model.graph.initializers.items()}
    assert kinds == {"w": True, "v": False, "b": True, "u": True}
    assert np.array_equal(model.graph.initializers["v"].const_value.numpy(), arrays["v"] * 2)
    assert np.array_equal(model.graph.initializers["b"].const_value.numpy(), arrays["b"])
    assert tree(source.parent) == before
