"""The tensors of blocks: the same edges as `coo`, nothing as long as the edges, values in and out, batches."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from support.exports import Compiled, by_network
from support.tiny import packed_attention

import gmnc
from gmnc.backends.blocks import Blocks, batch, blocks
from gmnc.backends.coo import coo
from gmnc.backends.onnx import write
from gmnc.backends.values import values_from_edges
from gmnc.ir import GmncError
from gmnc.testing import build


def reversed_rows() -> onnx.ModelProto:
    """A weight that is read backwards, which strides of tensors cannot say."""
    return build(
        """(float[1, 3] x) => (float[1, 2] y) {
            start = Constant<value_ints = [-1]>() end = Constant<value_ints = [-9]>()
            axis = Constant<value_ints = [0]>() step = Constant<value_ints = [-1]>()
            v = Slice(w, start, end, axis, step) y = MatMul(x, v)
        }""",
        {"w": (3, 2)},
    )


@pytest.mark.parametrize("name", by_network())
def test_has_the_edges_of_coo(name: str, compiled: Compiled) -> None:
    graph = compiled(name)
    tensors, edges = blocks(graph), coo(graph, pyg=False)
    dst, src, types, rows, _ = tensors.layout.per_edge
    assert torch.equal(torch.stack([src, dst]), edges.edge_index.long())
    assert torch.equal(types, edges.edge_type.long())
    assert torch.equal(tensors.rows()[rows], edges.edge_attr)


def test_nothing_is_as_long_as_the_edges_but_their_values() -> None:
    model = build("(float[1, 300] x) => (float[1, 200] y) { y = MatMul(x, w) }", {"w": (300, 200)})
    tensors = blocks(gmnc.compile(model))
    held = [tensors.values, tensors.extra, tensors.nodes, tensors.types, tensors.op_tokens, tensors.layout.blocks]
    held += [tensors.layout.dst, tensors.layout.src, tensors.layout.types, tensors.node_graph, tensors.node_share]
    assert sum(t.numel() for t in held) < 60_000 + 1 + 11 * tensors.num_nodes + 100


def test_values_keep_their_type_and_layout() -> None:
    model = build("(float[1, 3] x) => (float[1, 2] y) { y = MatMul(x, w) }", {"w": (3, 2)})
    tensors = blocks(gmnc.compile(model), dtype=torch.bfloat16)
    weight = onnx.numpy_helper.to_array(model.graph.initializer[0])
    assert tensors.values.dtype == torch.bfloat16
    assert torch.equal(tensors.values[1:], torch.from_numpy(weight.copy()).reshape(-1).bfloat16())


@pytest.mark.parametrize("name", ["resnet", "llama", "vit", "reversed"])
def test_values_per_parameter_come_back(name: str, compiled: Compiled) -> None:
    graph = gmnc.compile(reversed_rows()) if name == "reversed" else compiled(name)
    tensors = blocks(graph)
    assert (len(tensors.extra) > 0) == (name == "reversed")
    rows = tensors.layout.per_edge.row
    (found,) = tensors.per_parameter(tensors.rows()[rows])
    for parameter, value in found.items():
        stored = torch.from_numpy(np.array(graph.parameters[parameter].load()))
        assert torch.equal(torch.nan_to_num(value[..., 0], nan=7.0), torch.where(value[..., 0].isnan(), 7.0, stored))


def test_the_mean_where_weights_are_tied(compiled: Compiled) -> None:
    graph = compiled("llama")
    tensors = blocks(graph)
    edges = torch.randn(tensors.num_edges, 1, dtype=torch.float64)
    (found,) = tensors.per_parameter(edges)
    wanted = values_from_edges(graph, edges[: graph.num_parameter_edges + graph.num_tied_edges, 0].numpy())
    assert graph.num_tied_edges
    for name, value in found.items():
        known = ~value[..., 0].isnan()
        assert torch.allclose(value[..., 0][known], torch.from_numpy(wanted[name]).double()[known], atol=1e-6)


def test_new_values() -> None:
    graph = gmnc.compile(packed_attention())
    tensors = blocks(graph)
    new = {"wqkv": 2 * graph.parameters["wqkv"].load()}
    changed = tensors.with_values(new)
    wanted = blocks(gmnc.compile(write(graph, new)))
    assert torch.equal(changed.values, wanted.values)
    assert not torch.equal(tensors.values, wanted.values)
    tracked = torch.from_numpy(new["wqkv"]).requires_grad_()
    tensors.with_values({"wqkv": tracked}).rows().sum().backward()
    assert torch.equal(tracked.grad, torch.ones_like(tracked))


def test_wrong_values_are_refused() -> None:
    tensors = blocks(gmnc.compile(packed_attention()))
    with pytest.raises(GmncError, match="no parameter with edges is called 'nothing'"):
        tensors.with_values({"nothing": torch.zeros(1)})
    with pytest.raises(GmncError, match=r"'bqkv': shape \[3\]"):
        tensors.with_values({"bqkv": torch.zeros(3)})
    with pytest.raises(GmncError, match="values for 2 graphs, but there are 1"):
        tensors.with_values({}, {})


def test_a_batch_is_its_parts(compiled: Compiled) -> None:
    parts = [blocks(gmnc.compile(reversed_rows())), blocks(compiled("llama")), blocks(gmnc.compile(reversed_rows()))]
    both = batch(parts)
    dst, src, types, rows, numbers = both.layout.per_edge
    at = nodes = kinds = 0
    for number, part in enumerate(parts):
        own = slice(at, at + part.num_edges)
        alone = part.layout.per_edge
        assert torch.equal(dst[own], alone[0] + nodes)
        assert torch.equal(src[own], alone[1] + nodes)
        assert torch.equal(types[own], alone[2] + kinds)
        assert torch.equal(both.rows()[rows[own]], part.rows()[alone[3]])
        assert (both.block_graph[numbers[own]] == number).all()
        at, nodes, kinds = at + part.num_edges, nodes + part.num_nodes, kinds + len(part.types)
    found = both.per_parameter(both.rows()[rows])
    for per_graph, part in zip(found, parts, strict=True):
        (alone,) = part.per_parameter(part.rows()[part.layout.per_edge.row])
        assert all(torch.equal(per_graph[n].nan_to_num(), v.nan_to_num()) for n, v in alone.items())


def test_moves_in_one_copy(compiled: Compiled) -> None:
    tensors = blocks(compiled("vit"))
    assert tensors.to("cpu") is tensors
    moved = tensors.to("cpu:0")
    storages = {t.untyped_storage().data_ptr() for t in (moved.values, moved.layout.dst, moved.types, moved.op_tokens)}
    assert len(storages) == 1
    assert all(torch.equal(*pair) for pair in _tensors(tensors, moved))
    assert str(tensors.to("meta").values.device) == "meta"


def test_what_was_worked_out_for_a_device_stays_there(compiled: Compiled) -> None:
    tensors = blocks(compiled("vit"))
    here = tensors.layout.cached("ids", lambda: tensors.layout.dst)
    there = tensors.to("meta").layout
    assert there.cached("ids", lambda: there.dst) is there.dst is not here


def _tensors(a: Blocks, b: Blocks) -> list[tuple[torch.Tensor, torch.Tensor]]:
    names = [
        "values",
        "extra",
        "nodes",
        "types",
        "op_tokens",
        "op_bag_sizes",
        "node_op_bag",
        "type_op_bag",
        "node_graph",
        "node_share",
    ]
    pairs = [(getattr(a, n), getattr(b, n)) for n in names]
    return pairs + [(getattr(a.layout, n), getattr(b.layout, n)) for n in ("dst", "src", "types")]


def test_operator_tokens_are_shared_by_all_graphs() -> None:
    def tokens(activation: str) -> set[int]:
        text = f"(float[1, 3] x) => (float[1, 2] y) {{ a = MatMul(x, w) b = {activation}(a) y = MatMul(b, v) }}"
        return set(blocks(gmnc.compile(build(text, {"w": (3, 4), "v": (4, 2)}))).op_tokens.tolist())

    assert tokens("Relu") == tokens("Relu")
    assert tokens("Relu") != tokens("Gelu")
    assert tokens("Relu") & tokens("Gelu")
