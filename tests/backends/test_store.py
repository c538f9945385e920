import json
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file
from support import backend_graphs
from support.equality import same

from gmnc.backends import store
from gmnc.files import MappedFile
from gmnc.ir import GmncError, LoadError, ParameterView
from gmnc.symmetry import isomorphic


@pytest.fixture
def graph():
    return backend_graphs.every_kind_of_edge()


@pytest.mark.parametrize(
    "dtype",
    [
        np.float64, np.float32, np.float16, np.int8, np.uint8, np.bool_, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn,
        ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3fnuz, ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.float4_e2m1fn,
    ],
)  # fmt: skip
def test_round_trip_gives_an_equal_graph(dtype, tmp_path):
    graph = backend_graphs.every_kind_of_edge(dtype)
    store.save(graph, tmp_path / "g.safetensors")
    same(store.load(tmp_path / "g.safetensors"), graph)


def test_loaded_graph_says_and_computes_the_same(graph, tmp_path):
    store.save(graph, tmp_path / "g.safetensors")
    loaded = store.load(str(tmp_path / "g.safetensors"))
    assert str(loaded) == str(graph)
    assert isomorphic(loaded, graph)
    store.save(loaded, tmp_path / "g.safetensors")
    same(store.load(tmp_path / "g.safetensors"), graph)


def test_broadcast_arrays_are_stored_once_and_come_back_broadcast(graph, tmp_path):
    channels = 100_000
    block = graph.edges[1]
    wide = replace(
        block,
        dst=np.broadcast_to(block.dst[:1], (channels, 1)),
        src=np.broadcast_to(block.src[:1], (channels, 1)),
        via=np.broadcast_to(block.via[:1], (channels, 1)),
        view=ParameterView("rope", 0, (channels, 1, 1, 1), (0, 0, 0, 0)),
        constant=True,
    )
    graph = replace(graph, edges=(*graph.edges, wide))
    store.save(graph, tmp_path / "g.safetensors")
    assert (tmp_path / "g.safetensors").stat().st_size < 10_000
    loaded = store.load(tmp_path / "g.safetensors").edges[-1]
    same(loaded, wide)
    assert [a.strides[0] for a in (loaded.dst, loaded.src, loaded.via)] == [0, 0, 0]


def mapped(array):
    while isinstance(array.base, np.ndarray):
        array = array.base
    return isinstance(array, np.memmap)


def test_values_are_views_of_the_mapped_file_and_the_structure_is_copied(graph, tmp_path):
    store.save(graph, tmp_path / "g.safetensors")
    loaded = store.load(tmp_path / "g.safetensors")
    assert mapped(loaded.parameters["w"].load())
    for array in (loaded.edges[0].dst, loaded.edges[0].slots, loaded.links[0].src, loaded.pinned):
        assert not mapped(array)
        assert not array.flags.writeable
    assert not loaded.parameters["w"].load().flags.writeable


@pytest.mark.parametrize("how", ["overwritten", "truncated"])
def test_a_store_changed_in_place_leaves_the_loaded_structure_as_it_was(graph, tmp_path, how):
    path = tmp_path / "g.safetensors"
    store.save(graph, path)
    loaded, size = store.load(path), path.stat().st_size
    with path.open("r+b") as file:
        if how == "overwritten":
            file.write(bytes(size))
        else:
            file.truncate(100)
    loaded.check()
    assert str(loaded) == str(graph)
    for ours, given in zip(loaded.edges, graph.edges, strict=True):
        same(ours, given)
    with pytest.raises(LoadError, match="changed since it was read"):
        loaded.values(loaded.edges[0])


def test_a_store_that_changes_while_it_is_read_is_an_error(graph, tmp_path, monkeypatch):
    path = tmp_path / "g.safetensors"
    store.save(graph, path)
    given = MappedFile.read

    def truncating(file, first, last):
        if first:
            with path.open("r+b") as opened:
                opened.truncate(100)
        return given(file, first, last)

    monkeypatch.setattr(MappedFile, "read", truncating)
    with pytest.raises(LoadError, match="changed while it was read"):
        store.load(path)


def test_any_safetensors_reader_finds_the_values(graph, tmp_path):
    store.save(graph, tmp_path / "g.safetensors")
    tensors = load_file(tmp_path / "g.safetensors")
    assert np.array_equal(tensors["parameter/w"], graph.parameters["w"].load())
    assert np.array_equal(tensors["constant/rope"], graph.constants["rope"].load())


def test_without_values_the_structure_is_there(graph, tmp_path):
    store.save(graph, tmp_path / "g.safetensors", values=False)
    loaded = store.load(tmp_path / "g.safetensors")
    assert str(loaded) == str(graph)
    with pytest.raises(GmncError, match="without values"):
        loaded.values(loaded.edges[0])
    assert not any(name.startswith("parameter/") for name in load_file(tmp_path / "g.safetensors"))


def test_is_store(graph, tmp_path):
    from safetensors.numpy import save_file

    store.save(graph, tmp_path / "g.safetensors")
    save_file({"a": np.zeros(3)}, tmp_path / "other.safetensors")
    (tmp_path / "text").write_text("hello, this is text")
    (tmp_path / "empty").write_bytes(b"")
    assert store.is_store(tmp_path / "g.safetensors")
    for name in ("other.safetensors", "text", "empty", "missing", "."):
        assert not store.is_store(tmp_path / name)
        with pytest.raises(LoadError, match=str(tmp_path)):
            store.load(tmp_path / name)


def test_every_truncation_is_an_error(graph, tmp_path):
    store.save(graph, tmp_path / "g.safetensors")
    data = (tmp_path / "g.safetensors").read_bytes()
    for size in range(0, len(data), 101):
        (tmp_path / "cut").write_bytes(data[:size])
        with pytest.raises(LoadError):
            store.load(tmp_path / "cut")


def edited(path, change):
    """Rewrite the JSON header of a store."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(path, "np") as file:
        tables = json.loads(file.metadata()["gmnc"])
    tensors = load_file(path)
    change(tables)
    save_file(tensors, path, {"gmnc": json.dumps(tables)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update(version=99), "version 99"),
        (lambda t: t.update(version=1), "version 1, which this gmnc no longer reads: compile the model again"),
        (lambda t: t.pop("edges"), "damaged"),
        (lambda t: t["edges"][0].update(dst=[0, [1, 999], [1, 999]]), "damaged"),
        (lambda t: t["groups"].pop(), "damaged"),
        (lambda t: t["account"].clear(), "damaged.*account"),
    ],
)
def test_a_damaged_or_newer_store_is_an_error(graph, tmp_path, change, message):
    path = tmp_path / "g.safetensors"
    store.save(graph, path)
    edited(path, change)
    with pytest.raises(LoadError, match=message):
        store.load(path)


def test_a_failed_save_leaves_the_old_file(graph, tmp_path):
    path = tmp_path / "g.safetensors"
    store.save(graph, path)
    before = path.read_bytes()
    bad = replace(graph, vias=(*graph.vias, replace(graph.vias[1], attributes=(("object", object()),))))
    with pytest.raises(GmncError, match="object"):
        store.save(bad, path)
    with pytest.raises(GmncError, match="cannot write"):
        store.save(graph, tmp_path / "no folder" / "g.safetensors")
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["g.safetensors"]
