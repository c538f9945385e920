"""Edges by the chunk: the same results, gradients included, and nothing as long as the edges but their values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.exports import Compiled
from support.kernel_cases import KERNELS
from support.tiers import some
from torch.utils._python_dispatch import TorchDispatchMode

import gmnc
from gmnc.backends.blocks import Blocks, batch, blocks
from gmnc.backends.coo import coo
from gmnc.metanets import GMN
from gmnc.testing import build

OPTIONS: dict[str, dict[str, object]] = {
    "edges": {},
    "one layer": {"num_layers": 1},
    "all": {"readout": "all", "global_node": True, "value_features": 4, "relative": True},
    "fan-in": {"fan_in": True},
    "one way": {"reverse": False, "norm": False},
    "equivariant": {"head": "equivariant", "global_node": True},
}


def graphs(compiled: Compiled) -> Blocks:
    """Two networks: grouped convolutions (blocks of several batches), attention, links, tied weights."""
    return batch([blocks(compiled(n), dtype=torch.float64) for n in ("grouped", "gpt")])


def pair(limit: int, **options: object) -> tuple[GMN, GMN]:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"hidden_channels": 8, "num_layers": 3, "hash_buckets": 64, **options}
    whole, chunked = (GMN(out_channels=2, edge_chunk=size, **settings).double() for size in (0, limit))
    chunked.load_state_dict(whole.state_dict())
    return whole, chunked


def gradients(model: GMN, tensors: Blocks) -> tuple[torch.Tensor, list[torch.Tensor]]:
    out = model(tensors)
    (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    return out.detach(), [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]


@pytest.mark.parametrize("limit", some([700], [50, 700, 10**6]))
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_chunks_change_nothing(options: dict[str, object], limit: int, compiled: Compiled) -> None:
    tensors = graphs(compiled)
    whole, chunked = pair(limit, **options)
    (a, of_a), (b, of_b) = gradients(whole, tensors), gradients(chunked, tensors)
    torch.testing.assert_close(b, a, rtol=1e-10, atol=1e-12)
    for one, other in zip(of_a, of_b, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-8, atol=1e-10)
    with torch.no_grad():
        torch.testing.assert_close(chunked(tensors), b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("head", ["invariant", "equivariant"])
def test_a_network_without_edges_is_read_by_chunks(head: str) -> None:
    tensors = blocks(gmnc.compile(build("(float[2, 3] x) => (float[2, 3] y) { y = Relu(x) }")), dtype=torch.float64)
    assert tensors.num_edges == 0
    whole, chunked = pair(10, head=head)
    torch.testing.assert_close(chunked(tensors), whole(tensors))


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_reads_by_chunks(kernel: str, compiled: Compiled) -> None:
    tensors = blocks(compiled("linear_view_conv"), dtype=torch.float64)
    whole, chunked = pair(tensors.num_edges // 2, num_layers=2)
    chunked.kernel = kernel
    torch.testing.assert_close(chunked(tensors), whole(tensors), rtol=1e-8, atol=1e-10)


def test_single_edges_are_read_by_chunks(compiled: Compiled) -> None:
    graph = coo(compiled("linear_view_conv"), dtype=torch.float64)
    whole, chunked = pair(40)
    torch.testing.assert_close(chunked(graph), whole(graph), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("limit", [1, 7, 100, 10**6])
def test_chunks_are_all_edges_once(limit: int, compiled: Compiled) -> None:
    layout = graphs(compiled).layout
    chunks = layout.chunks(limit)
    assert [p.start for p in chunks[1:]] == [p.start + p.layout.edges for p in chunks[:-1]]
    assert chunks[0].start == 0
    assert sum(p.layout.edges for p in chunks) == layout.edges
    rows = max(block.k * block.s for block in layout)
    assert all(p.layout.edges <= max(limit, rows) for p in chunks)
    together = [torch.cat(columns) for columns in zip(*(p.layout.per_edge[:4] for p in chunks), strict=True)]
    for found, expected in zip(together, layout.per_edge, strict=False):
        assert torch.equal(found, expected)
    numbers = torch.cat([torch.tensor(p.numbers)[p.layout.per_edge.block] for p in chunks])
    assert torch.equal(numbers, layout.per_edge.block)
    assert layout.chunks(limit) is chunks


class _Largest(TorchDispatchMode):
    """Elements of the largest tensor that any operation makes."""

    most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.most = max(self.most, tensor.untyped_storage().nbytes() // tensor.element_size())
        return out


@pytest.mark.full
def test_no_state_of_all_edges_is_made() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(300, 200), torch.nn.ReLU(), torch.nn.Linear(200, 300))
    tensors = blocks(gmnc.from_torch(module, (torch.randn(1, 300),)))
    torch.manual_seed(0)
    found = {}
    for limit in (0, 4000):
        model = GMN(out_channels=1, hidden_channels=32, num_layers=3, hash_buckets=16, edge_chunk=limit, kernel="cpu")
        with _Largest() as largest:
            model(tensors).sum().backward()
        found[limit] = largest.most
    assert found[0] >= tensors.num_edges * 32
    assert found[4000] < 2 * max(4000 * 32, tensors.num_edges)
