import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
import torch
from support import backend_graphs

from gmnc.backends.coo import NODE_COLUMNS, TYPE_COLUMNS, CooGraph, coo
from gmnc.backends.networkx import networkx
from gmnc.backends.values import values_from_edges
from gmnc.ir import GmncError, GraphBuilder, NodeKind, ParameterView, Port
from gmnc.ir.vocabulary import role_name

COLUMNS = (*TYPE_COLUMNS, "reversed")


@pytest.fixture
def graph():
    return backend_graphs.every_kind_of_edge()


def rows(data, graph):
    """Every edge in words: (src, dst, role, value, parameter, element, via, operand, occurrence, slot)."""
    offsets = data.parameter_offsets.numpy()
    out = []
    for i in range(data.edge_index.shape[1]):
        kind = dict(zip(COLUMNS, data.edge_type_attr[data.edge_type[i]].tolist(), strict=True))
        param = int(data.edge_param[i])
        tensor = None if param < 0 else int(np.searchsorted(offsets, param, side="right")) - 1
        out.append((
            *data.edge_index[:, i].tolist(),
            role_name(kind["role"]),
            kind["kind"],
            None if kind["kind"] == 2 else float(data.edge_attr[i, 0]),
            None if tensor is None else data.parameter_names[tensor],
            None if tensor is None else param - offsets[tensor],
            data.via_names[kind["via"]],
            None if kind["operand"] < 0 else kind["operand"],
            kind["occurrence"],
            tuple(s for s in (kind["slot0"], kind["slot1"], kind["slot2"]) if s >= 0),
        ))  # fmt: skip
    return out


def test_says_the_same_of_every_edge_as_networkx(graph):
    expected = [
        (
            src,
            dst,
            e["role"],
            2 if e["link"] else int(e["constant"]),
            e["value"],
            None if e["constant"] else e["parameter"],
            None if e["constant"] else e["element"],
            e["via"],
            e["operand"],
            e["occurrence"],
            e["slot"],
        )
        for src, dst, e in networkx(graph).edges(data=True)
    ]
    assert sorted(rows(coo(graph), graph), key=str) == sorted(expected, key=str)


def test_order_is_parameters_constants_links(graph):
    data = coo(graph)
    parameters = [b for b in graph.edges if not b.constant]
    values = np.concatenate([graph.values(b).reshape(-1) for b in parameters])
    assert np.array_equal(data.edge_attr[: len(values), 0], values)
    sizes = [b.size for b in parameters] + [2] + [b.size for b in graph.links]
    assert data.block_offsets.tolist() == [0, *np.cumsum(sizes)]
    assert data.edge_index.shape[1] == graph.num_parameter_edges + graph.num_tied_edges + graph.num_links
    assert (data.edge_attr[data.block_offsets[5] :] == 0).all()


def test_elements_read_the_parameters_back(graph):
    data = coo(graph)
    flat = np.concatenate([p.load().reshape(-1) for p in graph.parameters.values()])
    carried = data.edge_param >= 0
    assert np.array_equal(flat[data.edge_param[carried]], data.edge_attr[carried, 0])
    assert int(carried.sum()) == graph.num_parameter_edges + graph.num_tied_edges
    assert len(data.edge_param[carried].unique()) == graph.num_parameter_edges


def test_without_links_only_parameters_are_left(graph):
    data = coo(graph, links=False)
    assert (data.edge_param >= 0).all()
    assert len(data.edge_type) == graph.num_parameter_edges + graph.num_tied_edges


def test_reverse_turns_every_edge_and_sets_the_direction_bit(graph):
    one, both = coo(graph), coo(graph, reverse=True)
    e, t = len(one.edge_type), len(one.edge_type_attr)
    assert torch.equal(both.edge_index[:, :e], one.edge_index)
    assert torch.equal(both.edge_index[:, e:], one.edge_index.flip(0))
    assert torch.equal(both.edge_attr[e:], one.edge_attr)
    assert torch.equal(both.edge_param[e:], one.edge_param)
    attributes = both.edge_type_attr[both.edge_type]
    assert torch.equal(attributes[e:, :-1], one.edge_type_attr[one.edge_type][:, :-1])
    assert attributes[:, -1].tolist() == [0] * e + [1] * e
    assert len(both.edge_type_attr) == 2 * t


def test_types_are_distinct_and_tied_edges_look_like_others(graph):
    data = coo(graph)
    assert len(data.edge_type_attr) == len(data.edge_type_attr.unique(dim=0))
    assert set(data.edge_type.tolist()) == set(range(len(data.edge_type_attr)))


def test_node_features(graph):
    x = coo(graph).x
    column = {name: x[:, i].tolist() for i, name in enumerate(NODE_COLUMNS)}
    assert [list(NodeKind)[k] for k in column["kind"]] == ["input"] * 2 + ["neuron"] * 3 + ["param"] + [
        "neuron"
    ] * 2 + ["join"] * 2
    assert column["depth"] == [0, 0, 1, 1, 1, 0, 2, 2, 2, 2]
    assert column["pinned"] == [1, 1, 0, 0, 0, 0, 0, 0, 1, 1]
    assert column["index"] == [1, 2, 0, 0, 0, 0, 0, 0, 1, 2]
    assert column["input"] == [1, 1] + [0] * 8
    assert column["input_index"] == [1, 2] + [0] * 8
    assert column["output"] == [0] * 6 + [2, 2, 1, 1]
    assert column["output_index"] == [0] * 6 + [1, 2, 2, 1]
    assert column["output_via"] == [0] * 8 + [1, 1]


def test_plain_and_pyg_hold_the_same(graph):
    from torch_geometric.data import Data

    plain, data = coo(graph, pyg=False), coo(graph, pyg=True)
    assert isinstance(plain, CooGraph)
    assert isinstance(data, Data)
    assert isinstance(coo(graph), Data)
    assert data.validate()
    assert (plain.num_nodes, plain.num_edges) == (data.num_nodes, data.num_edges)
    for name in CooGraph.__slots__:
        a, b = getattr(plain, name), getattr(data, name)
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_a_pyg_batch_keeps_every_edge_type(graph):
    from torch_geometric.data import Batch

    data = coo(graph)
    batch = Batch.from_data_list([data, data])
    own = data.edge_type_attr[data.edge_type]
    found, via = batch.edge_type_attr[batch.edge_type], COLUMNS.index("via")
    assert [batch.via_names[v] for v in found[:, via].tolist()] == [data.via_names[v] for v in own[:, via].tolist()] * 2
    found[len(own) :, via] -= len(data.via_names)
    assert torch.equal(found, torch.cat([own, own]))
    assert torch.equal(batch.edge_index[:, len(own) :], data.edge_index + data.num_nodes)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_values_in_the_type_asked_for(graph, dtype):
    values = coo(graph, dtype=dtype).edge_attr
    assert values.dtype == dtype
    assert torch.equal(values, coo(graph, dtype=torch.float64).edge_attr.to(dtype))


@pytest.mark.parametrize("stored", [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, np.int8, np.float64])
def test_parameters_of_every_type_are_read(stored):
    graph = backend_graphs.every_kind_of_edge(stored)
    expected = np.concatenate([graph.values(b).astype(np.float32).reshape(-1) for b in graph.edges])
    assert np.array_equal(coo(graph).edge_attr[: len(expected), 0], expected)


def test_ids_in_the_type_asked_for(graph):
    assert coo(graph).edge_index.dtype == torch.int32
    wide = coo(graph, index_dtype=torch.int64)
    assert wide.edge_index.dtype == wide.edge_param.dtype == torch.int64
    assert torch.equal(wide.edge_index, coo(graph).edge_index.long())
    with pytest.raises(GmncError, match="index_dtype"):
        coo(graph, index_dtype=torch.int16)
    with pytest.raises(GmncError, match="int8"):
        coo(graph, dtype=torch.int8)


def test_twenty_bytes_an_edge_and_nothing_else_as_long_as_the_edges():
    """24 is what is promised; peak allocation beyond the result stays far below one array of edges."""
    import tracemalloc

    g = GraphBuilder()
    weight = np.zeros((1000, 1000), np.float32)
    g.parameters["w"] = backend_graphs.parameter("w", weight)
    a, b = g.nodes("input", 1000), g.nodes("neuron", 1000, 1)
    g.add_edges(b[None], a[None], ParameterView("w", 0, (1, 1000, 1000, 1), (0, 1000, 1, 0)), "weight")
    graph = g.finish("dense", [], [Port("x", a, np.zeros(1000, np.int32))], [])
    coo(graph)
    tracemalloc.start()
    data = coo(graph)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    size = sum(t.nbytes for t in (data.edge_index, data.edge_attr, data.edge_type, data.edge_param))
    assert size <= 24 * weight.size
    assert peak < size + weight.size


def test_a_graph_without_edges():
    g = GraphBuilder()
    nodes = g.nodes("input", 3)
    data = coo(g.finish("none", [], [Port("x", nodes, np.zeros(3, np.int32))], []), reverse=True)
    assert data.edge_index.shape == (2, 0)
    assert len(data.x) == 3


def test_edge_values_go_back_to_tensors(graph):
    present = {name: p.load() for name, p in graph.parameters.items()}
    back = values_from_edges(graph, coo(graph).edge_attr.numpy())
    assert set(back) == {"w", "b", "k"}
    assert all(np.array_equal(back[name], present[name]) for name in back)
    blocks = [np.zeros(b.shape) for b in graph.edges]
    blocks[0][0, 2, 1], blocks[2][0, 1, 2] = 3.0, 5.0
    blocks[1][:, 0, 0, 0] = [10, 20, 30]
    new = values_from_edges(graph, blocks)
    assert new["w"].tolist() == [[0, 0], [0, 0], [0, 4]], "an element with two edges takes their mean"
    assert new["b"].tolist() == [20, present["b"][1], 30, present["b"][3], 10], "dead elements keep their value"
    assert new["w"].dtype == np.float32
    with pytest.raises(GmncError, match="block 1"):
        values_from_edges(graph, [blocks[0], blocks[0], *blocks[2:]])
    with pytest.raises(GmncError, match="3 edge values"):
        values_from_edges(graph, np.zeros(3))


def test_backends_import_no_torch():
    code = (
        "import sys, gmnc.backends as b; b.coo, b.networkx, b.store, b.onnx; "
        "bad = {'torch', 'networkx', 'torch_geometric'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
