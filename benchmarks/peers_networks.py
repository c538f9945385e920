"""The networks of the tests for `peers.py`, as torch modules and as ONNX files, and how they are run."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from support.exports import export
from support.networks import NETWORKS, randomise

import gmnc
from gmnc.testing import disagreement
from gmnc.transforms import scramble

__all__ = [
    "NETWORKS", "Inputs", "Subject", "Values", "arrays", "change", "has_statistics", "loaded", "moved", "parameters",
    "run_file", "run_module", "shapes", "subject", "tensors", "together", "with_batch_statistics",
]  # fmt: skip

Values = dict[str, np.ndarray]
Inputs = tuple[Tensor, ...]
SAMPLES = 4


@dataclass(frozen=True, eq=False)
class Subject:
    """A network as torch modules and as files: one, another one, and the first one in a random order (if it has one).

    Attributes:
        modules: The networks.
        paths: The same as files, with parameters of the same names.
        examples: Example inputs, the first of which traces the network.
    """

    modules: Sequence[nn.Module]
    paths: Sequence[Path]
    examples: Sequence[Inputs]


def subject(name: str, folder: Path) -> Subject:
    """Export a network of the tests."""
    module, inputs = NETWORKS[name]()
    other = copy.deepcopy(module)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        randomise(other)
        # Shuffled inputs are as valid as the example: no value is new.
        shuffled = [
            tuple(x.flatten()[torch.randperm(x.numel())].reshape(x.shape) for x in inputs) for _ in range(SAMPLES - 1)
        ]
    paths = [folder / f"{name}-{which}.onnx" for which in ("a", "b", "scrambled")]
    for each, path in zip((module, other), paths, strict=False):
        onnx.save(export(each, inputs, "dynamo"), path)
    made = scramble(paths[0], seed=1)
    gmnc.write(made.graph, made.values, paths[2])
    scrambled = copy.deepcopy(module)
    own = tensors(scrambled)
    with torch.no_grad():
        for tensor, values in made.values.items():
            own[tensor].copy_(torch.as_tensor(np.array(values)))
    return Subject((module, other, scrambled), paths, (inputs, *shuffled))


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of floats, by name."""
    return {n: t for n, t in (*module.named_parameters(), *module.named_buffers()) if t.is_floating_point()}


def arrays(module: nn.Module) -> Values:
    return {n: t.detach().numpy().copy() for n, t in tensors(module).items()}


def loaded(path: Path) -> Values:
    """The float tensors of a file, without masks of infinities."""
    found = {n: np.asarray(p.load()) for n, p in gmnc.compile(path).parameters.items()}
    return {n: v for n, v in found.items() if v.dtype.kind == "f" and np.isfinite(v).all()}


def moved(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> int:
    """How many parameters have another value."""
    return sum(int((before[n] != after[n]).sum()) for n in after)


def run_file(source: Path | bytes, examples: Sequence[Inputs]) -> list[Values]:
    """The outputs of a file in ONNX Runtime, on each of some inputs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    feeds = [dict(zip(names, (x.numpy() for x in inputs), strict=True)) for inputs in examples]
    return [numbered(session.run(None, feed)) for feed in feeds]


def run_module(module: nn.Module, examples: Sequence[Inputs]) -> list[Values]:
    """The outputs of a module, on each of some inputs."""
    with torch.no_grad():
        outputs = [module(*inputs) for inputs in examples]
    return [numbered([t.numpy() for t in ([o] if isinstance(o, Tensor) else o)]) for o in outputs]


def numbered(outputs: Sequence[np.ndarray]) -> Values:
    return {str(i): np.asarray(v) for i, v in enumerate(outputs)}


def change(before: Sequence[Values], after: Sequence[Values]) -> float:
    return max(disagreement(a, b) for a, b in zip(before, after, strict=True))


def shapes(outputs: Sequence[Values]) -> list[list[tuple[int, ...]]]:
    return [[v.shape for v in each.values()] for each in outputs]


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def with_batch_statistics(module: nn.Module) -> nn.Module:
    """The same, but its BatchNorms take their statistics from what they are given."""
    found = copy.deepcopy(module)
    for each in found.modules():
        if isinstance(each, _BatchNorm):
            each.train()
    return found


def has_statistics(module: nn.Module) -> bool:
    return any(isinstance(m, _BatchNorm) for m in module.modules())


def together(examples: Sequence[Inputs]) -> list[Inputs]:
    """All inputs as one batch."""
    return [tuple(torch.cat(some) for some in zip(*examples, strict=True))]
