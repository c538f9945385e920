"""Tensors of graphs on their way: printed, pinned, moved, saved and loaded, batched by PyG and taken apart again."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import backend_graphs
from support.paths import CNN, MLP

import gmnc
from gmnc.backends.blocks import Blocks, Segment, batch, blocks
from gmnc.backends.coo import NODE_COLUMNS, CooGraph, coo
from gmnc.backends.transfer import to_device
from gmnc.ir import GmncError, ParameterGraph
from gmnc.kernels import Layout
from gmnc.metanets import GMN


def graphs() -> list[ParameterGraph]:
    compiled = [gmnc.compile(path) for path in (MLP, CNN)]
    return [compiled[0], backend_graphs.every_kind_of_edge(), compiled[1], compiled[0]]


def batched(data: list[Any]) -> Any:
    # Imports Triton, which other tests want in its interpreter.
    from torch_geometric.data import Batch

    return Batch.from_data_list(data)


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return type(a) is type(b) and a == b


def same_blocks(a: Blocks, b: Blocks) -> bool:
    layouts = all(equal(getattr(a.layout, f), getattr(b.layout, f)) for f in ("blocks", "scale", "dst", "src", "types"))
    others = [f for f in Blocks.__dataclass_fields__ if f != "layout"]
    return layouts and a.layout.edges == b.layout.edges and all(equal(getattr(a, f), getattr(b, f)) for f in others)


def same_data(a: Any, b: Any) -> bool:
    names = CooGraph.__slots__ if isinstance(a, CooGraph) else a.keys()
    return set(names) == set(b.keys() if not isinstance(b, CooGraph) else names) and all(
        equal(getattr(a, n), getattr(b, n)) for n in names
    )


def test_everything_prints_as_a_line() -> None:
    graph = graphs()[2]
    one = blocks(graph)
    plain, data = coo(graph, pyg=False), coo(graph, pyg=True)
    for thing in (one, batch([one, one]), one.layout, plain, data, batched([data] * 40), graph):
        assert len(repr(thing).splitlines()) == 1
        assert len(repr(thing)) < 500
    assert repr(one) == "Blocks(1 graph, 22 nodes, 223 edges, 9 parameters, float32 on cpu)"
    assert repr(batch([one, one])).startswith("Blocks(2 graphs, 44 nodes")
    assert repr(plain) == "CooGraph(22 nodes, 223 edges of 26 types, 9 parameters, float32 on cpu)"
    assert repr(graph) == "<parameter graph 'cnn.onnx': 22 nodes, 215 parameter edges, 0 tied, 8 links>"


@pytest.mark.parametrize("used", [False, True])
def test_saved_tensors_load_with_weights_only(used: bool) -> None:
    graph = graphs()[2]
    one = batch([blocks(graph), blocks(graphs()[0], dtype=torch.float32)])
    if used:
        GMN(out_channels=2)(one)
    data = coo(graph, pyg=True)
    both = batched([data, coo(graphs()[0], pyg=True)])
    file = io.BytesIO()
    torch.save({"blocks": one, "plain": coo(graph, pyg=False), "data": data, "both": both}, file)
    if used:
        # What kernels have worked out is as long as the edges and stays behind.
        fresh = io.BytesIO()
        torch.save(batch([blocks(graph), blocks(graphs()[0])]), fresh)
        again = io.BytesIO()
        torch.save(one, again)
        assert again.tell() == fresh.tell()
    file.seek(0)
    found = torch.load(file, weights_only=True)
    assert same_blocks(found["blocks"], one)
    assert same_data(found["plain"], coo(graph, pyg=False))
    assert same_data(found["data"], data)
    assert type(found["data"]) is type(data)
    assert type(found["both"]) is type(both)
    assert all(map(same_data, found["both"].to_data_list(), both.to_data_list()))


@pytest.mark.full
def test_another_process_loads_them(tmp_path: Path) -> None:
    path = tmp_path / "tensors.pt"
    torch.save([blocks(graphs()[0]), coo(graphs()[0], pyg=False), coo(graphs()[0], pyg=True)], path)
    code = (
        "import sys, torch, gmnc.backends.blocks, gmnc.backends.pyg; "
        "print(*(type(t).__name__ for t in torch.load(sys.argv[1], weights_only=True)))"
    )
    found = subprocess.run([sys.executable, "-c", code, path], check=True, capture_output=True, text=True)
    assert found.stdout.split() == ["Blocks", "CooGraph", "ParameterData"]


def test_moving_keeps_every_tensor_in_one_piece() -> None:
    one = blocks(graphs()[2])
    tensors = {"a": torch.arange(5), "none": torch.zeros(0, 3), "b": torch.rand(2, 3).T, "c": torch.tensor([True])}
    there = to_device(tensors, "cpu")
    assert all(equal(there[n], t) for n, t in tensors.items())
    assert len({t.untyped_storage().data_ptr() for t in there.values()}) == 1
    # What lies in one piece already, in pinned memory say, is not put together again.
    again = to_device(there, "cpu")
    assert again["a"].data_ptr() == there["a"].data_ptr()
    changed = {**there, "a": torch.arange(5) + 1}
    assert all(equal(t, changed[n]) for n, t in to_device(changed, "cpu").items())
    assert one.to("cpu") is one
    away = one.to("meta")
    assert {t.device.type for t in (away.values, away.nodes, away.layout.dst)} == {"meta"}


def test_values_of_another_type() -> None:
    one = blocks(graphs()[2])
    for half in (one.to(torch.float16), one.to("cpu", torch.float16), one.to(dtype=torch.float16)):
        assert half.values.dtype == torch.float16
        assert torch.equal(half.values, one.values.half())
        assert half.nodes is one.nodes
    assert coo(graphs()[2], pyg=False).to("meta").edge_attr.is_meta


def test_a_move_keeps_the_gradient() -> None:
    one = blocks(graphs()[2])
    weight = torch.zeros(3, 4, requires_grad=True)
    there = one.with_values({"fc.weight": weight}).to("meta")
    assert there.values.requires_grad
    assert not there.nodes.requires_grad


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, which memory can be pinned for")
def test_without_a_gpu_pinning_says_why_not() -> None:
    with pytest.raises(GmncError, match="none is available"):
        blocks(graphs()[0]).pin_memory()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_pinned_tensors_move_without_another_copy() -> None:
    one = blocks(graphs()[2])
    pinned = one.pin_memory()
    assert pinned.is_pinned()
    assert not one.is_pinned()
    assert same_blocks(pinned, one)
    there = pinned.to("cuda", non_blocking=True)
    assert same_blocks(there.to("cpu"), one)
    assert coo(graphs()[2], pyg=False).pin_memory().edge_attr.is_pinned()
    (loaded,) = torch.utils.data.DataLoader([one], batch_size=None, pin_memory=True)
    assert loaded.is_pinned()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("index_dtype", [None, torch.int64])
def test_a_pyg_batch_gives_back_what_went_in(reverse: bool, index_dtype: torch.dtype | None) -> None:
    from torch_geometric.loader import DataLoader

    data = [coo(g, pyg=True, reverse=reverse, index_dtype=index_dtype) for g in graphs()]
    (both,) = DataLoader(data, batch_size=len(data))
    for found, given in zip(both.to_data_list(), data, strict=True):
        assert same_data(found, given)
    nested = batched([batched(data[:2]), batched(data[2:])])
    for n in ("x", "edge_index", "edge_param", "edge_type_attr", "parameter_offsets", "block_offsets", "via_names"):
        assert equal(getattr(nested, n), getattr(both, n)), n


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("wide", [0, 1])
def test_no_edge_of_a_batch_of_mixed_ids_gets_a_parameter(workers: int, wide: int) -> None:
    from torch_geometric.loader import DataLoader

    types: list[torch.dtype | None] = [None, None]
    types[wide] = torch.int64
    data = [coo(g, pyg=True, index_dtype=t) for g, t in zip(graphs()[1:3], types, strict=True)]
    (both,) = DataLoader(data, batch_size=2, num_workers=workers)
    first = int(data[0].parameter_offsets[-1])
    expected = [torch.where(d.edge_param < 0, -1, d.edge_param + n) for d, n in zip(data, (0, first), strict=True)]
    assert torch.equal(both.edge_param.clamp(min=-1).long(), torch.cat(expected).long())


@pytest.mark.parametrize("reverse", [False, True])
def test_every_id_of_a_pyg_batch_is_of_the_batch(reverse: bool) -> None:
    data = [coo(g, pyg=True, reverse=reverse) for g in graphs()]
    both = batched(data)
    edges = np.cumsum([0] + [len(d.edge_type) for d in data])
    via = both.edge_type_attr[both.edge_type.long(), 2].tolist()
    texts = [d.via_names[v] for d in data for v in d.edge_type_attr[d.edge_type.long(), 2].tolist()]
    assert [both.via_names[v] for v in via] == texts
    column = NODE_COLUMNS.index("output_via")
    outputs = [d.via_names[v] for d in data for v in d.x[:, column].tolist()]
    assert [both.via_names[v] for v in both.x[:, column].tolist()] == outputs
    # The other columns are numbers that all graphs share.
    others = [c for c in range(both.x.shape[1]) if c != column]
    assert torch.equal(both.x[:, others], torch.cat([d.x[:, others] for d in data]))
    place = 0
    for number, (d, start) in enumerate(zip(data, edges.tolist(), strict=False)):
        carried = d.edge_param >= 0
        mine = both.edge_param[start : start + len(carried)]
        for p, name in enumerate(d.parameter_names):
            first, last = both.parameter_offsets[place + p], both.parameter_offsets[place + p + 1]
            inside = carried & (mine >= first) & (mine < last)
            assert torch.equal(inside, carried & (d.edge_param >= d.parameter_offsets[p])
                               & (d.edge_param < d.parameter_offsets[p + 1]))  # fmt: skip
            assert both.parameter_names[number][p] == name
        place += len(d.parameter_offsets)
    carrying = [set(m[m >= 0].tolist()) for m in both.edge_param.split(np.diff(edges).tolist())]
    assert len(set().union(*carrying)) == sum(map(len, carrying)), "no element is of two graphs"
    assert torch.equal(both.edge_param < 0, torch.cat([d.edge_param < 0 for d in data])), "what is none stays none"
    starts = torch.cat([d.block_offsets + s for d, s in zip(data, edges.tolist(), strict=False)])
    assert torch.equal(both.block_offsets, starts)


def test_more_parameters_than_int32_can_number_are_refused() -> None:
    graph = backend_graphs.every_kind_of_edge()
    huge = replace(graph.parameters["left over"], shape=(2**30,))
    graph = replace(graph, parameters={**graph.parameters, "left over": huge})
    narrow, wide = ([coo(graph, pyg=True, index_dtype=dtype)] * 3 for dtype in (None, torch.int64))
    with pytest.raises(GmncError, match=r"index_dtype=torch\.int64"):
        _ = batched(narrow).edge_param
    found = batched(wide).edge_param
    assert found.max() > 2**31
    assert len(found[found >= 0].unique()) == 3 * len(narrow[0].edge_param[narrow[0].edge_param >= 0].unique())


def test_safe_classes_are_those_of_tensors() -> None:
    registered = torch.serialization.get_safe_globals()
    assert {Blocks, CooGraph, Layout, Segment} <= {c for c in registered if isinstance(c, type)}
    assert ParameterGraph not in registered
