"""Activations of the kernels, and their derivatives."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F

__all__ = ["ACTIVATIONS", "DERIVATIVES"]

Function = Callable[[torch.Tensor], torch.Tensor]


def _relu_slope(x: torch.Tensor) -> torch.Tensor:
    return (x > 0).to(x.dtype)


def _silu_slope(x: torch.Tensor) -> torch.Tensor:
    s = torch.sigmoid(x)
    return s * (1 + x * (1 - s))


def _tanh_slope(x: torch.Tensor) -> torch.Tensor:
    return 1 - torch.tanh(x).square()


ACTIVATIONS: dict[str, Function] = {"relu": torch.relu, "silu": F.silu, "tanh": torch.tanh, "square": torch.square}
"""Name to function. ``square`` can express products exactly, which the others only approximate."""

DERIVATIVES: dict[str, Function] = {
    "relu": _relu_slope,
    "silu": _silu_slope,
    "tanh": _tanh_slope,
    "square": lambda x: 2 * x,
}
"""Name to derivative, a function of the activation's argument."""
