"""Reading many checkpoints of one architecture: CPU time per checkpoint and format, with and without a map of names.

    python benchmarks/checkpoints.py [--count 500]

A convolutional network of 8,530 parameters in 18 tensors, with BatchNorm.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

import gmnc
from gmnc.backends.checkpoints import match_names

FORMATS: dict[str, Callable[[dict[str, torch.Tensor], Path], object]] = {
    "safetensors": save_file,
    "pt": torch.save,
    "npz": lambda state, path: np.savez(path, **{n: t.numpy() for n, t in state.items()}),
}


def network() -> nn.Module:
    def layer(a: int, b: int) -> list[nn.Module]:
        return [nn.Conv2d(a, b, 3), nn.BatchNorm2d(b), nn.ReLU()]

    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 10)]
    return nn.Sequential(*layer(1, 16), *layer(16, 32), nn.Conv2d(32, 8, 3), nn.ReLU(), *head).eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    count = parser.parse_args().count
    torch.set_num_threads(1)
    module = network()
    graph = gmnc.from_torch(module, torch.zeros(1, 1, 14, 14))
    names = match_names(graph, module.state_dict())
    print(f"{graph.num_parameter_edges:,} parameters in {len(names.parameters)} tensors, {count} checkpoints")
    with tempfile.TemporaryDirectory() as folder:
        for suffix, save in FORMATS.items():
            paths = [Path(folder) / f"{i}.{suffix}" for i in range(count)]
            for path in paths:
                state = module.state_dict()
                save({n: torch.rand_like(t) if t.is_floating_point() else t for n, t in state.items()}, path)
            for given in (names, None):
                start = time.process_time()
                for path in paths:
                    gmnc.load_values(graph, path, names=given)
                took = (time.process_time() - start) / count
                print(f"{suffix:12} {'with a map' if given else 'by names':10} {took * 1e3:6.2f} ms")


if __name__ == "__main__":
    main()
