"""SIRENs (Sitzmann et al. 2020): small sine networks, each fitted to one signal; fitted and rendered in batches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import onnx
import torch
from onnx import helper

__all__ = ["FitOptions", "Siren", "fit", "initial_values", "layer_outputs", "pixel_grid", "render"]

Values = Mapping[str, torch.Tensor]
"""Parameters of B networks: name to [B, *shape]."""

_OPSET, _IR_VERSION = 20, 10


@dataclass(frozen=True, slots=True)
class Siren:
    """An architecture: layers x W^T + b with sines between them.

    The paper's factor omega is folded into the weights: the functions are the same, the parameters of all layers have
    similar magnitudes, and the network is a plain chain of layers.

    Attributes:
        sizes: Inputs, hidden widths, outputs.
        w0: Scale of the first weights at initialisation.
    """

    sizes: tuple[int, ...]
    w0: float

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters, in order: a weight [out, in] and a bias [out] per layer."""
        found: dict[str, tuple[int, ...]] = {}
        for number, (inputs, outputs) in enumerate(pairwise(self.sizes)):
            found |= {f"layers.{number}.weight": (outputs, inputs), f"layers.{number}.bias": (outputs,)}
        return found

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def onnx(self) -> onnx.ModelProto:
        """An ONNX model with zero parameters: ``points`` [P, inputs] to ``values`` [P, outputs]."""
        nodes, before = [], "points"
        for number in range(len(self.sizes) - 1):
            last = number == len(self.sizes) - 2
            after = "values" if last else f"layers.{number}.sum"
            operands = [before, f"layers.{number}.weight", f"layers.{number}.bias"]
            nodes.append(helper.make_node("Gemm", operands, [after], f"layers.{number}", transB=1))
            if not last:
                before = f"layers.{number}.sine"
                nodes.append(helper.make_node("Sin", [after], [before], before))
        kind = onnx.TensorProto.FLOAT
        ends = [
            helper.make_tensor_value_info(name, kind, ["points", size])
            for name, size in (("points", self.sizes[0]), ("values", self.sizes[-1]))
        ]
        stored = [
            onnx.numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in self.shapes.items()
        ]
        graph = helper.make_graph(nodes, "siren", ends[:1], ends[1:], stored)
        opsets = [helper.make_opsetid("", _OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="gmnc")


@dataclass(frozen=True, slots=True)
class FitOptions:
    """Hyperparameters of fitting by Adam, on all points at once, with a cosine schedule to 0.

    Attributes:
        steps: Number of steps.
        lr: Peak learning rate, relative to the scale of each parameter tensor.
    """

    steps: int
    lr: float


def pixel_grid(side: int) -> torch.Tensor:
    """Pixel centres of a square image, row by row, [side * side, 2]: y and x between -1 and 1."""
    at = (torch.arange(side, dtype=torch.float32) * 2 + 1) / side - 1
    return torch.stack(torch.meshgrid(at, at, indexing="ij"), dim=-1).reshape(-1, 2)


def initial_values(siren: Siren, seeds: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
    """Initial parameters of a network per seed, uniform as in the paper."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in siren.shapes}
    for seed in seeds:
        rng = np.random.default_rng(list(seed))
        for name, shape in siren.shapes.items():
            found[name].append(rng.uniform(-1, 1, shape).astype(np.float32) * np.float32(_scale(siren, name)))
    return {name: torch.from_numpy(np.stack(parts)) for name, parts in found.items()}


def layer_outputs(values: Values, points: torch.Tensor) -> list[torch.Tensor]:
    """Output of each layer of B networks at points [P, inputs], after the sine if hidden: [B, P, width] each.

    Differentiable in both arguments.
    """
    weights, biases = list(values.values())[::2], list(values.values())[1::2]
    found = [points.to(weights[0]).expand(len(weights[0]), *points.shape)]
    for number, (weight, bias) in enumerate(zip(weights, biases, strict=True), start=1):
        state = torch.baddbmm(bias[:, None], found[-1], weight.transpose(1, 2))
        found.append(state if number == len(weights) else torch.sin(state))
    return found[1:]


def render(values: Values, points: torch.Tensor) -> torch.Tensor:
    """Outputs of B networks at points [P, inputs], [B, P, outputs]; differentiable in both arguments."""
    return layer_outputs(values, points)[-1]


def fit(
    siren: Siren, values: Values, points: torch.Tensor, targets: torch.Tensor, options: FitOptions
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """FitOptions B independent networks to targets [B, P, outputs]; returns parameters and mean squared errors [B]."""
    own = {name: value.clone().requires_grad_() for name, value in values.items()}
    groups = [{"params": [value], "lr": options.lr * _scale(siren, name)} for name, value in own.items()]
    optimizer = torch.optim.Adam(groups, eps=1e-12)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
    for _ in range(options.steps):
        optimizer.zero_grad()
        (render(own, points) - targets).square().mean((1, 2)).sum().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        errors = (render(own, points) - targets).square().mean((1, 2))
    return {name: value.detach() for name, value in own.items()}, errors


def _scale(siren: Siren, name: str) -> float:
    """Bound of the uniform distribution that initialises a parameter tensor."""
    number = int(name.split(".")[1])
    inputs = siren.sizes[number]
    if name.endswith("bias"):
        return 1.0 if number < len(siren.sizes) - 2 else 0.1
    return siren.w0 / inputs if number == 0 else math.sqrt(6 / inputs)
