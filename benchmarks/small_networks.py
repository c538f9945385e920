"""The `cpu` kernel against `flat` on batches of small networks of a zoo: which is faster at how many edges per block.

    python benchmarks/small_networks.py [--batch 32] [--width 32]

One row per family of `gmnc.tasks.families`, narrowest and widest: a step of training a metanetwork by each kernel, in
milliseconds, their ratio, and what `auto` takes.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

import gmnc
from gmnc.backends.blocks import Blocks, batch, blocks
from gmnc.metanets import GMN
from gmnc.tasks.families import FAMILIES, Recipe, build
from gmnc.tasks.images import SIZE


def networks(recipe: Recipe, count: int) -> Blocks:
    """A batch of copies of one network."""
    net = build(recipe).eval()
    return batch([blocks(gmnc.from_torch(net, (torch.zeros(1, 1, SIZE, SIZE),)))] * count)


def step_time(given: Blocks, width: int, kernel: str, repeats: int) -> float:
    """Seconds, forward and backward."""
    model, times = GMN(out_channels=1, hidden_channels=width, kernel=kernel), []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        model(given).sum().backward()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(f"{'network':<24}{'edges':>10}{'per block':>11}{'cpu':>9}{'flat':>9}{'cpu/flat':>10}  auto")
    for name, family in FAMILIES.items():
        for width in (family.widths[0], family.widths[-1]):
            recipe = Recipe(name, width, family.depths[0], family.norms[0])
            given = networks(recipe, options.batch)
            edges, count = given.layout.edges, len(given.layout.blocks)
            cpu, flat = (step_time(given, options.width, kernel, options.repeats) for kernel in ("cpu", "flat"))
            chosen = "flat" if given.layout.small else "cpu"
            print(f"{recipe.architecture:<24}{edges:>10}{edges / count:>11.0f}{cpu * 1e3:>9.0f}{flat * 1e3:>9.0f}"
                  f"{cpu / flat:>10.2f}  {chosen}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
