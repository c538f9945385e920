"""Edges by the piece: the same results, gradients included, and nothing as long as the edges but their values."""

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
    "one layer": {"layers": 1},
    "all": {"readout": "all", "global_node": True, "scales": 4, "relative": True},
    "fan-in": {"fan_in": True},
    "one way": {"reverse": False, "norm": False},
    "equivariant": {"head": "equivariant", "global_node": True},
}


def graphs(compiled: Compiled) -> Blocks:
    """Two networks: grouped convolutions (blocks of several batches), attention, links, tied weights."""
    return batch([blocks(compiled(n), dtype=torch.float64) for n in ("grouped", "gpt")])


def pair(limit: int, **options: object) -> tuple[GMN, GMN]:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"width": 8, "layers": 3, "buckets": 64, **options}
    whole, streamed = GMN(2, **settings).double(), GMN(2, stream=limit, **settings).double()
    streamed.load_state_dict(whole.state_dict())
    return whole, streamed


def gradients(model: GMN, tensors: Blocks) -> tuple[torch.Tensor, list[torch.Tensor]]:
    out = model(tensors)
    (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    return out.detach(), [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]


@pytest.mark.parametrize("limit", some([700], [50, 700, 10**6]))
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_pieces_change_nothing(options: dict[str, object], limit: int, compiled: Compiled) -> None:
    tensors = graphs(compiled)
    whole, streamed = pair(limit, **options)
    (a, of_a), (b, of_b) = gradients(whole, tensors), gradients(streamed, tensors)
    torch.testing.assert_close(b, a, rtol=1e-10, atol=1e-12)
    for one, other in zip(of_a, of_b, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-8, atol=1e-10)
    with torch.no_grad():
        torch.testing.assert_close(streamed(tensors), b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("head", ["invariant", "equivariant"])
def test_a_network_without_edges_streams(head: str) -> None:
    tensors = blocks(gmnc.compile(build("(float[2, 3] x) => (float[2, 3] y) { y = Relu(x) }")), dtype=torch.float64)
    assert tensors.num_edges == 0
    whole, streamed = pair(10, head=head)
    torch.testing.assert_close(streamed(tensors), whole(tensors))


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_streams(kernel: str, compiled: Compiled) -> None:
    tensors = blocks(compiled("linear_view_conv"), dtype=torch.float64)
    whole, streamed = pair(tensors.num_edges // 2, layers=2)
    streamed.kernel = kernel
    torch.testing.assert_close(streamed(tensors), whole(tensors), rtol=1e-8, atol=1e-10)


def test_single_edges_stream(compiled: Compiled) -> None:
    graph = coo(compiled("linear_view_conv"), dtype=torch.float64)
    whole, streamed = pair(40)
    torch.testing.assert_close(streamed(graph), whole(graph), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("limit", [1, 7, 100, 10**6])
def test_pieces_are_all_edges_once(limit: int, compiled: Compiled) -> None:
    layout = graphs(compiled).layout
    pieces = layout.pieces(limit)
    assert [p.start for p in pieces[1:]] == [p.start + p.layout.edges for p in pieces[:-1]]
    assert pieces[0].start == 0
    assert sum(p.layout.edges for p in pieces) == layout.edges
    rows = max(block.k * block.s for block in layout)
    assert all(p.layout.edges <= max(limit, rows) for p in pieces)
    together = [torch.cat(columns) for columns in zip(*(p.layout.single[:4] for p in pieces), strict=True)]
    for found, expected in zip(together, layout.single, strict=False):
        assert torch.equal(found, expected)
    numbers = torch.cat([torch.tensor(p.numbers)[p.layout.single[4]] for p in pieces])
    assert torch.equal(numbers, layout.single[4])
    assert layout.pieces(limit) is pieces


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
        model = GMN(1, width=32, layers=3, buckets=16, stream=limit, kernel="cpu")
        with _Largest() as largest:
            model(tensors).sum().backward()
        found[limit] = largest.most
    assert found[0] >= tensors.num_edges * 32
    assert found[4000] < 2 * max(4000 * 32, tensors.num_edges)
