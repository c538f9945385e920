"""The wire reader changes where payloads lie and nothing else."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from support.corpus import CORPUS
from support.tiers import first

from gmnc.frontend.reading.wire import PagedFile, WireError, skeleton


def _body(name: str, array: np.ndarray) -> onnx.GraphProto:
    weight = numpy_helper.from_array(array, f"{name}_w")
    node = helper.make_node("Add", ["x", f"{name}_w"], [f"{name}_out"])
    out = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)
    return helper.make_graph([node], name, [], [out], [weight])


def _everywhere(size: int) -> onnx.ModelProto:
    """A model with a tensor in every place that can hold one: initializers, attributes, branches, a function."""
    rng = np.random.default_rng(size)

    def array() -> np.ndarray:
        return rng.standard_normal(size).astype(np.float32)

    constant = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(array(), "c"))
    branch = helper.make_node(
        "If", ["flag"], ["y"], then_branch=_body("then", array()), else_branch=_body("else", array())
    )
    call = helper.make_node("F", ["c"], ["z"], domain="local")
    inner = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(array()))
    function = helper.make_function(
        "local", "F", ["a"], ["b"], [inner, helper.make_node("Add", ["a", "k"], ["b"])], [helper.make_opsetid("", 17)]
    )
    floats = helper.make_tensor("floats", TensorProto.FLOAT, [size], array().tolist())
    doubles = helper.make_tensor("doubles", TensorProto.DOUBLE, [size], array().tolist())
    ints = helper.make_tensor("ints", TensorProto.INT64, [size], list(range(size)))
    halves = helper.make_tensor("halves", TensorProto.FLOAT16, [size], array().tolist())
    raw = numpy_helper.from_array(array(), "raw")
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [constant, branch, call],
        "g",
        [info("x", TensorProto.FLOAT, [size]), info("flag", TensorProto.BOOL, [])],
        [info("y", TensorProto.FLOAT, None), info("z", TensorProto.FLOAT, None)],
        [floats, doubles, ints, halves, raw],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, functions=[function], opset_imports=opsets, ir_version=9)


def _tensors(model: onnx.ModelProto) -> list[TensorProto]:
    found = [t for _, t in sorted(_walk(model.graph, ""), key=lambda pair: pair[0])]
    return found + [a.t for f in model.functions for n in f.node for a in n.attribute if a.HasField("t")]


def _walk(graph: onnx.GraphProto, path: str) -> list[tuple[str, TensorProto]]:
    found = [(f"{path}/{t.name}", t) for t in graph.initializer]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                found.append((f"{path}/{node.output[0]}.{attribute.name}", attribute.t))
            if attribute.HasField("g"):
                found += _walk(attribute.g, f"{path}/{node.output[0]}.{attribute.name}")
    return found


def _array(tensor: TensorProto, data: bytes) -> np.ndarray:
    """The tensor's numbers, read from `data` where it is external."""
    if tensor.data_location == TensorProto.EXTERNAL:
        entries = {e.key: e.value for e in tensor.external_data}
        offset, length = int(entries["offset"]), int(entries["length"])
        inline = TensorProto(data_type=tensor.data_type, dims=tensor.dims, raw_data=data[offset : offset + length])
        return numpy_helper.to_array(inline)
    return numpy_helper.to_array(tensor)


@pytest.mark.parametrize("size", [1, 16, 300, 5000])
def test_payloads_are_where_the_skeleton_says(size: int) -> None:
    data = _everywhere(size).SerializeToString()
    before, after = onnx.ModelProto.FromString(data), onnx.ModelProto.FromString(skeleton(data, "here"))
    pairs = list(zip(_tensors(before), _tensors(after), strict=True))
    assert len(pairs) == 9
    for old, new in pairs:
        assert old.name == new.name
        np.testing.assert_array_equal(_array(old, data), _array(new, data))
    external = sum(new.data_location == TensorProto.EXTERNAL for _, new in pairs)
    # Integers as varints and half floats as int32 are stored converted, so they stay; below the threshold all stay.
    assert external == {1: 0, 16: 0, 300: 7, 5000: 7}[size]


def test_all_but_payloads_is_unchanged() -> None:
    data = _everywhere(5000).SerializeToString()
    before, after = onnx.ModelProto.FromString(data), onnx.ModelProto.FromString(skeleton(data, "here"))
    for model in (before, after):
        for tensor in _tensors(model):
            for field in ("raw_data", "float_data", "double_data", "external_data", "data_location"):
                tensor.ClearField(field)
    assert before == after


def test_a_file_below_the_threshold_is_copied() -> None:
    data = _everywhere(4).SerializeToString()
    assert skeleton(data, "here") == data


def test_onnx_reads_the_skeleton_as_external_data(tmp_path: Path) -> None:
    data = _everywhere(5000).SerializeToString()
    (tmp_path / "model.onnx").write_bytes(data)
    (tmp_path / "skeleton.onnx").write_bytes(skeleton(data, "model.onnx"))
    loaded = onnx.load(tmp_path / "skeleton.onnx")
    for old, new in zip(_tensors(onnx.ModelProto.FromString(data)), _tensors(loaded), strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(old), numpy_helper.to_array(new))


def test_size_does_not_grow_with_the_weights() -> None:
    small, large = (skeleton(_everywhere(size).SerializeToString(), "here", 0) for size in (1000, 1001))
    weights = numpy_helper.from_array(np.zeros(1_000_000, np.float32), "w")
    model = helper.make_model(helper.make_graph([], "g", [], [], [weights]))
    assert len(skeleton(model.SerializeToString(), "here")) < 300
    assert abs(len(small) - len(large)) < 100


def test_every_truncation_is_noticed() -> None:
    data = _everywhere(300).SerializeToString()
    for stop in range(0, len(data), 7):
        try:
            out = skeleton(data[:stop], "here")
        except WireError:
            continue
        # Only a cut between two fields of the model is a message.
        assert onnx.ModelProto.FromString(out).SerializeToString()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
@example(b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
@example(b"\x3a\x02\x2a\x7f")
@example(b"\x0b")
def test_foreign_bytes_end_in_a_wire_error(data: bytes) -> None:
    try:
        out = skeleton(data, "here", 0)
    except WireError:
        return
    assert isinstance(out, bytes)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 255))
def test_a_flipped_byte_breaks_nothing_else(position: int, byte: int) -> None:
    data = bytearray(_everywhere(64).SerializeToString())
    data[position % len(data)] = byte
    try:
        skeleton(bytes(data), "here", 16)
    except WireError:
        return


@pytest.mark.parametrize("path", first(0, CORPUS), ids=lambda p: p.stem)
def test_networks_made_by_others(path: Path) -> None:
    data = path.read_bytes()
    before, after = onnx.ModelProto.FromString(data), onnx.ModelProto.FromString(skeleton(data, "here"))
    for old, new in zip(_tensors(before), _tensors(after), strict=True):
        np.testing.assert_array_equal(_array(old, data), _array(new, data))


class _Counting(bytes):
    """Bytes that count how often single ones are read."""

    reads = 0

    def __getitem__(self, key):  # type: ignore[no-untyped-def]
        self.reads += not isinstance(key, slice)
        return super().__getitem__(key)


@pytest.mark.parametrize("values", [[1.5] * 5000, [3] * 5000, ["LEAF"] * 5000], ids=lambda v: type(v[0]).__name__)
def test_a_list_in_an_attribute_takes_no_step_per_entry(values: list[object]) -> None:
    node = helper.make_node("Custom", ["x"], ["y"], domain="local", values=values)
    model = helper.make_model(helper.make_graph([node], "g", [], []))
    data = _Counting(model.SerializeToString())
    assert skeleton(data, "here", 16) == data
    assert data.reads < 200


def test_a_file_of_zeros_ends_at_its_first_byte() -> None:
    """A download that has only reserved its space; reading every field of it would take half a second per megabyte."""

    class Counted(PagedFile):
        reads = 0

        def __getitem__(self, key):  # type: ignore[no-untyped-def]
            Counted.reads += 1
            return super().__getitem__(key)

    with TemporaryFile() as file:
        file.truncate(1 << 20)
        with pytest.raises(WireError, match="the field at byte 0 has no number"):
            skeleton(Counted(file.fileno()), "here")
    assert Counted.reads == 1


def test_a_field_without_a_number_is_an_error_inside_a_message_too() -> None:
    data = _everywhere(2000).SerializeToString() + bytes(2000)
    with pytest.raises(WireError, match="has no number"):
        skeleton(data, "here")
