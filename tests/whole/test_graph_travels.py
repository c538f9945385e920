"""Graphs on their way to other processes: pickled, copied deeply, in pools and in the workers of a DataLoader."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import pytest
import torch
from support.exports import compiled
from support.paths import CNN
from support.quantised_models import quantised_mlp
from support.tiers import first

import gmnc
from gmnc.backends import store
from gmnc.backends.blocks import Blocks, blocks
from gmnc.backends.onnx import write
from gmnc.frontend.primitives.quantised import linear, lookup, packed, rounded, whole
from gmnc.ir import GmncError, GraphBuilder, LoadError, Parameter, ParameterGraph, ParameterView
from gmnc.symmetry import KINDS
from gmnc.testing import build

TEXT = "(float[1, 40] x) => (float[1, 30] y) { h = MatMul(x, w) r = Relu(h) y = MatMul(r, v) }"
SHAPES = {"w": (40, 50), "v": (50, 30)}
BYTES = 4 * (40 * 50 + 50 * 30)


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = torch.nn.Linear(40, 50), torch.nn.Linear(50, 30)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.first(x)))


def in_file(folder: Path) -> ParameterGraph:
    onnx.save(build(TEXT, SHAPES), folder / "m.onnx")
    return gmnc.compile(folder / "m.onnx")


def external(folder: Path) -> Path:
    onnx.save(build(TEXT, SHAPES), folder / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    return folder / "m.onnx"


def stored(folder: Path) -> ParameterGraph:
    store.save(gmnc.compile(build(TEXT, SHAPES)), folder / "m.safetensors")
    return store.load(folder / "m.safetensors")


def table_of_program(folder: Path) -> ParameterGraph:
    return compiled("llama")


def lazy(folder: Path) -> ParameterGraph:
    """Of tensors that are made by a function, which no pickle holds."""
    model = onnx_ir.from_proto(build(TEXT, SHAPES))
    for value in model.graph.initializers.values():
        tensor = value.const_value
        value.const_value = onnx_ir.LazyTensor(lambda t=tensor: t, tensor.dtype, tensor.shape, name=tensor.name)
    return gmnc.compile(model)


def torch_module(folder: Path, snapshot: bool = True) -> ParameterGraph:
    return gmnc.from_torch(Net(), torch.zeros(1, 40), copy=snapshot)


SOURCES: dict[str, Callable[[Path], ParameterGraph]] = {
    "file": in_file,
    "external": lambda folder: gmnc.compile(external(folder)),
    "external, in memory": lambda folder: gmnc.compile(onnx_ir.load(external(folder))),
    "message": lambda folder: gmnc.compile(build(TEXT, SHAPES)),
    "onnx-ir": lambda folder: gmnc.compile(onnx_ir.from_proto(build(TEXT, SHAPES))),
    "lazy": lazy,
    "torch": torch_module,
    "torch, live": lambda folder: torch_module(folder, snapshot=False),
    "stored": stored,
    "folded": lambda folder: gmnc.compile(CNN, fold_weights=True),
    "tables": table_of_program,
    "quantised": lambda folder: gmnc.compile(quantised_mlp()),
}
IN_FILES = ("file", "external", "external, in memory", "stored")


@pytest.fixture(params=SOURCES)
def graph(request: pytest.FixtureRequest, tmp_path: Path) -> ParameterGraph:
    return SOURCES[request.param](tmp_path)


def told(graph: ParameterGraph) -> tuple[object, ...]:
    """What a graph is, as plain data: structure, values, symmetries, and what is written back."""
    values = {n: (p.load().dtype.name, p.load().tobytes()) for n, p in {**graph.parameters, **graph.constants}.items()}
    found = gmnc.symmetries(graph, KINDS)
    moved = found.sample(np.random.default_rng(0)).apply({n: p.load() for n, p in graph.parameters.items()})
    try:
        back = onnx_ir.to_proto(write(graph, moved)).SerializeToString(deterministic=True)
    except GmncError as error:
        back = str(error)
    marks = gmnc.fingerprint(graph), gmnc.fingerprint(graph, False)
    return str(graph), values, found.to_json(), *marks, {n: v.tobytes() for n, v in moved.items()}, back


def test_what_arrives_is_what_was_sent(graph: ParameterGraph) -> None:
    arrived = pickle.loads(pickle.dumps(graph))
    assert told(arrived) == told(graph)
    again = pickle.loads(pickle.dumps(arrived))
    assert told(again) == told(graph), "and goes on from there"
    assert np.array_equal(arrived.pinned, graph.pinned)
    arrived.check()


def test_copies(graph: ParameterGraph) -> None:
    deep, shallow = copy.deepcopy(graph), copy.copy(graph)
    assert told(deep) == told(graph)
    assert shallow.model is graph.model
    assert shallow.parameters is graph.parameters
    if graph.model is not None:
        assert deep.model is not graph.model


@pytest.mark.parametrize("name", SOURCES)
def test_weights_travel_once_and_those_of_files_not_at_all(name: str, tmp_path: Path) -> None:
    graph = SOURCES[name](tmp_path)
    pickle.dumps(graph)  # onnx-ir makes some empty dictionaries of tensors on first use
    size = len(pickle.dumps(graph))
    held = sum(p.load().nbytes for p in graph.parameters.values())
    gmnc.symmetries(graph, KINDS), gmnc.fingerprint(graph), graph.group_starts
    assert len(pickle.dumps(graph)) == size, "what was derived stays"
    rest = 12_000 if held == BYTES or name.startswith("torch") else size
    assert size < rest + (name not in IN_FILES) * held * (2 if name == "lazy" else 1)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("name", first(1, ["quantised", "external", "file", "torch", "stored"]))
def test_pools_take_graphs(name: str, method: str, tmp_path: Path) -> None:
    if method == "spawn" and name not in ("external", "quantised"):
        pytest.skip("pickled alike: one of each kind is enough for a start of seconds")
    graph = SOURCES[name](tmp_path)
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        there, back = pool.submit(gmnc.fingerprint, graph).result(), pool.submit(copy.copy, graph).result()
    assert there == gmnc.fingerprint(graph)
    assert told(back) == told(graph)


@pytest.mark.parametrize("method", first(1, ["spawn", "fork"]))
def test_workers_of_a_data_loader_take_graphs_and_give_blocks(method: str, tmp_path: Path) -> None:
    graphs = [in_file(tmp_path), stored(tmp_path), gmnc.compile(CNN)]
    loader = torch.utils.data.DataLoader(
        graphs, batch_size=None, num_workers=1, multiprocessing_context=method, collate_fn=blocks
    )
    found: list[Blocks] = list(loader)
    for graph, there in zip(graphs, found, strict=True):
        here = blocks(graph)
        assert torch.equal(there.values, here.values)
        assert torch.equal(there.layout.blocks, here.layout.blocks)
        assert there.segments == here.segments


@pytest.mark.parametrize("name", ["file", "external", "stored"])
@pytest.mark.parametrize("when", ["before it is sent", "on the way"])
def test_a_file_that_changed_is_no_longer_read(name: str, when: str, tmp_path: Path) -> None:
    graph = SOURCES[name](tmp_path)
    path = tmp_path / {"file": "m.onnx", "external": "w.bin", "stored": "m.safetensors"}[name]
    sent = pickle.dumps(graph)
    path.write_bytes(path.read_bytes()[:-4] + b"abcd")
    os.utime(path, (1, 1))

    def read() -> None:
        arrived = pickle.loads(pickle.dumps(graph) if when == "before it is sent" else sent)
        arrived.parameters["w"].load()

    with pytest.raises(LoadError, match=f"{path.name}: the file changed"):
        read()


def test_write_says_which_file_is_gone(tmp_path: Path) -> None:
    graph = gmnc.compile(external(tmp_path))
    arrived = pickle.loads(pickle.dumps(graph))
    (tmp_path / "w.bin").unlink()
    with pytest.raises(LoadError, match=r"w\.bin"):
        write(arrived)


def test_a_model_is_opened_when_it_is_asked_for(tmp_path: Path) -> None:
    graph = in_file(tmp_path)
    arrived = pickle.loads(pickle.dumps(graph))
    assert isinstance(arrived.model, onnx_ir.Model)
    assert arrived.model is arrived.model
    assert pickle.loads(pickle.dumps(stored(tmp_path))).model is None
    # Another folder to work in changes nothing.
    relative = os.path.relpath(tmp_path / "m.onnx")
    elsewhere = pickle.dumps(gmnc.compile(relative))
    here = Path.cwd()
    try:
        os.chdir(tmp_path)
        assert told(pickle.loads(elsewhere)) == told(graph)
    finally:
        os.chdir(here)


def test_parameters_of_any_function_travel_as_numbers() -> None:
    g = GraphBuilder()
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    g.parameters["w"] = Parameter("w", (2, 3), "float32", "initializer", lambda: array)
    a, b = g.nodes("input", 3), g.nodes("neuron", 2, 1)
    g.add_edges(b[None], a[None], ParameterView("w", 0, (1, 2, 3, 1), (0, 3, 1, 0)), "weight")
    graph = g.finish("own", [], [], [])
    arrived = pickle.loads(pickle.dumps(graph))
    assert np.array_equal(arrived.parameters["w"].load(), array)
    with pytest.raises(GmncError, match="no model"):
        write(arrived)


def test_symmetries_travel_with_their_graph() -> None:
    graph = gmnc.compile(CNN)
    found = gmnc.symmetries(graph, KINDS)
    values = {n: p.load() for n, p in graph.parameters.items()}
    product = found.sample(np.random.default_rng(0))
    for each in (product, product.inverse(), *found.generators):
        there = pickle.loads(pickle.dumps(each)).apply(values)
        assert all(np.array_equal(v, there[n]) for n, v in each.apply(values).items())
    assert pickle.loads(pickle.dumps(found)).to_json() == found.to_json()


@pytest.mark.parametrize("code", [
    linear("int8", "float32"), linear("uint4", "float16", 4), whole(4), rounded("bfloat16"),
    lookup(np.linspace(-1, 1, 16, dtype=np.float32), "uint8", "float32"),
], ids=lambda c: c.name[:12])  # fmt: skip
def test_codes_of_stored_elements_arrive_as_they_are(code: object) -> None:
    arrived = pickle.loads(pickle.dumps(code))
    assert arrived.name == code.name
    stored_elements = np.arange(8, dtype=np.uint8)
    scale = {} if code.name.startswith(("whole", "rounded")) else {"scale": np.full(8, 0.5, np.float32)}
    numbers = code.decode(stored_elements, **scale)
    assert np.array_equal(arrived.decode(stored_elements, **scale), numbers)
    assert np.array_equal(
        arrived.encode(numbers, stored_elements, **scale), code.encode(numbers, stored_elements, **scale)
    )
    packing = pickle.loads(pickle.dumps(packed(4, True)))
    assert np.array_equal(packing.unwrap(packing.wrap(stored_elements)), stored_elements)
    assert np.array_equal(packing.wrap(stored_elements), packed(4, True).wrap(stored_elements))


def in_memory_with_external_data(folder: Path) -> ParameterGraph:
    return gmnc.compile(onnx_ir.load(external(folder)))


@pytest.mark.parametrize("make", [lambda folder: gmnc.compile(external(folder)), in_memory_with_external_data])
@pytest.mark.parametrize("how", ["in place", "by another file"])
def test_external_data_of_another_time_is_neither_sent_nor_written_nor_read(
    make: Callable[[Path], ParameterGraph], how: str, tmp_path: Path
) -> None:
    graph = make(tmp_path)
    sent, data = pickle.dumps(graph), tmp_path / "w.bin"
    other = data if how == "in place" else tmp_path / "other"
    other.write_bytes(bytes(data.stat().st_size))
    os.utime(other, (1, 1))
    os.replace(other, data)
    arrived = pickle.loads(sent)
    for read in (
        lambda: pickle.dumps(graph),
        lambda: write(graph, {}, tmp_path / "out.onnx"),
        lambda: write(graph),
        lambda: write(arrived, {}, tmp_path / "out.onnx"),
        lambda: arrived.parameters["w"].load(),
        lambda: graph.parameters["w"].load(),
    ):
        with pytest.raises(LoadError, match=r"w\.bin: the file changed"):
            read()
    assert not (tmp_path / "out.onnx").exists()


def test_a_model_compiled_again_after_its_data_changed_is_written(tmp_path: Path) -> None:
    model = onnx_ir.load(external(tmp_path))
    before = gmnc.compile(model)
    data = tmp_path / "w.bin"
    (tmp_path / "other").write_bytes(bytes(data.stat().st_size))
    os.replace(tmp_path / "other", data)
    write(gmnc.compile(model), {}, tmp_path / "out.onnx")
    with pytest.raises(LoadError, match=r"w\.bin: the file changed"):
        write(before, {}, tmp_path / "out.onnx")
