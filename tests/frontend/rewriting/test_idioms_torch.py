"""Idioms in what the three exporters make of torch modules: all agree, and the network computes the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from support.exports import HOWS, How, export
from support.idiom_checks import Attributes, found, ops, recognised
from support.tiers import some
from torch import Tensor, nn
from torch.nn import functional


class Llama(nn.Module):
    """RMSNorm as Hugging Face writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 2, 6))

    def forward(self, x: Tensor) -> Tensor:
        y = x.to(torch.float32)
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.weight * y.to(x.dtype)


class ChannelsFirst(nn.Module):
    """ConvNeXt's LayerNorm over axis 1."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 2, 6))
        self.bias = nn.Parameter(torch.linspace(1, 2, 6))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        var = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(var + 1e-6)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class Written(nn.Module):
    """A function of one tensor."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def by_var(x: Tensor) -> Tensor:
    return (x - x.mean(-1, keepdim=True)) * torch.rsqrt(x.var(-1, keepdim=True, unbiased=False) + 1e-5)


def softmax(x: Tensor) -> Tensor:
    e = torch.exp(x - x.amax(1, keepdim=True))
    return e / e.sum(1, keepdim=True)


def convolved(norm: nn.Module) -> nn.Module:
    """The norm of an inner value, whose shape torchscript does not write down."""
    return nn.Sequential(nn.Conv2d(6, 6, 1), norm)


THREE, FOUR = (2, 4, 6), (2, 6, 4, 4)
STANDARD, RMS, LP = "Standardize", "RMSNormalize", "LpNormalize"
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], tuple[str, Attributes] | None]] = {
    "group": (partial(nn.GroupNorm, 2, 6), FOUR, (STANDARD, {"axes": (-1,), "epsilon": 1e-5})),
    "group inside": (lambda: convolved(nn.GroupNorm(3, 6)), FOUR, (STANDARD, {"axes": (-1,), "epsilon": 1e-5})),
    "instance": (partial(nn.InstanceNorm2d, 6), FOUR, (STANDARD, {"axes": (-2, -1), "epsilon": 1e-5})),
    "instance inside": (lambda: convolved(nn.InstanceNorm2d(6)), FOUR, (STANDARD, {"axes": (-2, -1), "epsilon": 1e-5})),
    "instance with affine": (partial(nn.InstanceNorm2d, 6, affine=True), FOUR, None),
    "layer": (partial(nn.LayerNorm, 6, elementwise_affine=False), THREE, (STANDARD, {"axes": (-1,), "epsilon": 1e-5})),
    "channels first": (ChannelsFirst, FOUR, (STANDARD, {"axes": (-3,), "epsilon": 1e-6})),
    "by var": (partial(Written, by_var), THREE, (STANDARD, {"axes": (-1,), "epsilon": 1e-5})),
    "llama": (Llama, THREE, (RMS, {"axes": (-1,), "epsilon": 1e-6})),
    "normalize": (partial(Written, functional.normalize), FOUR, (LP, {"axes": (-3,), "p": 2, "epsilon": 1e-12})),
    "normalize 1": (
        partial(Written, partial(functional.normalize, p=1, dim=-1)),
        THREE,
        (LP, {"axes": (-1,), "p": 1, "epsilon": 1e-12}),
    ),
    "softmax": (partial(Written, softmax), THREE, ("Softmax", {"axis": -2})),
    "softmax op": (partial(nn.Softmax, -1), THREE, None),
}


@pytest.mark.parametrize("how", some(["torchscript"], HOWS))
@pytest.mark.parametrize("name", CASES)
def test_exporters_agree(name: str, how: How) -> None:
    make, shape, expected = CASES[name]
    torch.manual_seed(0)
    model = recognised(export(make().eval(), (torch.randn(shape),), how))
    if expected is None:
        assert found(model) == []
        return
    op, attributes = expected
    assert found(model) == [(op, {k: pytest.approx(v) if k == "epsilon" else v for k, v in attributes.items()})]
    left = {"ReduceMean", "ReduceSum", "Sqrt", "Sub", "Div", "Reciprocal", "Exp", "InstanceNormalization", "Expand"}
    assert "group" in name or left.isdisjoint(ops(model))


@pytest.mark.parametrize("opset", [13, 16, 17, 18, 20])
def test_layer_norm_of_old_opsets(opset: int) -> None:
    norm = nn.LayerNorm(6)
    nn.init.uniform_(norm.weight)
    nn.init.uniform_(norm.bias)
    model = recognised(export(norm, (torch.randn(2, 4, 6),), "torchscript", opset))
    assert ops(model) == (["Standardize", "Mul", "Add"] if opset < 17 else ["LayerNormalization"])
    assert {"weight", "bias"} <= model.graph.initializers.keys()


@pytest.mark.parametrize("how", HOWS)
def test_rms_norm_written_out_by_the_exporter(how: How) -> None:
    if how == "torchscript":
        pytest.skip("torchscript has no RMSNorm")
    model = recognised(export(nn.RMSNorm(6), (torch.randn(2, 4, 6),), how, 18))
    assert [op for op, _ in found(model)] == ["RMSNormalize"]


@pytest.mark.parametrize("how", HOWS)
def test_half_precision(how: How) -> None:
    model = recognised(export(Llama().half(), (torch.randn(2, 4, 6).half(),), how), 3e-3)
    assert ops(model) == ["Cast", "RMSNormalize", "Cast", "Mul"]


def test_layer_norm_in_half_precision() -> None:
    model = recognised(export(nn.LayerNorm(6).half(), (torch.randn(2, 4, 6).half(),), "torchscript", 13), 3e-3)
    assert ops(model) == ["Cast", "Standardize", "Cast", "Mul", "Add"]
