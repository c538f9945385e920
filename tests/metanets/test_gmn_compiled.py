"""A metanetwork makes its tables at the first call; then it copies nothing to the device, and compiles as one graph."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.paths import CNN, MLP
from support.tiers import first, some
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import gmnc
from gmnc.backends.blocks import Blocks, batch, blocks
from gmnc.kernels import Layout
from gmnc.metanets import GMN, GMNConfig

OPTIONS = {
    "edges": {},
    "all": {"readout": "all", "global_node": True, "value_features": 4, "relative": True},
    "fan in": {"fan_in": True},
    "equivariant": {"head": "equivariant"},
}


def networks() -> Blocks:
    return batch([blocks(gmnc.compile(path), dtype=torch.float64) for path in (MLP, CNN)])


def metanet(name: str, kernel: str) -> GMN:
    torch.manual_seed(0)
    config = GMNConfig(out_channels=3, hidden_channels=8, num_layers=2, hash_buckets=64)
    return GMN(config, kernel=kernel, **OPTIONS[name]).double()


class OnOneDevice(TorchDispatchMode):
    """Refuses operations that read or make a tensor elsewhere; the tables of an edge update are never copied."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device, self.calls = device, 0

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = op(*args, **kwargs)
        self.calls += 1
        if op.namespace != "gmnc":
            tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)]
            assert all(t.device.type == self.device for t in tensors), f"{op} on {[t.device for t in tensors]}"
        return out


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("kernel", some(["cpu"], ["flat", "cpu", "reference"]))
# What fan-in divides by is found from ids, which tensors without storage do not have.
@pytest.mark.parametrize("options", [name for name in OPTIONS if name != "fan in"])
def test_nothing_is_copied_to_the_device_after_the_first_call(
    monkeypatch: pytest.MonkeyPatch, options: str, kernel: str, small: bool
) -> None:
    """The device is torch's meta device, which takes no part in what the host computes."""
    monkeypatch.setattr(Layout, "small", small)
    given, model = networks().to("meta"), metanet(options, kernel).to("meta")

    def step() -> None:
        out = model(given)
        out.sum().backward()
        if options == "equivariant":
            given.per_parameter(out.detach())

    with pytest.raises(AssertionError), OnOneDevice("meta"):
        step()
    step()
    with OnOneDevice("meta") as watched:
        step()
    assert watched.calls > 50


@pytest.mark.parametrize("small", some([True], [True, False]))
@pytest.mark.parametrize(("options", "kernel"), first(2, ((n, "flat" if n == "edges" else "cpu") for n in OPTIONS)))
def test_compiles_as_one_graph(monkeypatch: pytest.MonkeyPatch, options: str, kernel: str, small: bool) -> None:
    monkeypatch.setattr(Layout, "small", small)
    given, model = networks(), metanet(options, kernel)
    expected = model(given)
    wanted = torch.autograd.grad(expected.square().sum(), list(model.parameters()), allow_unused=True)
    torch._dynamo.reset()
    found = torch.compile(model, fullgraph=True, backend="aot_eager")(given)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    gradients = torch.autograd.grad(found.square().sum(), list(model.parameters()), allow_unused=True)
    for one, other in zip(gradients, wanted, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.allclose(one, other, rtol=0, atol=1e-10)
