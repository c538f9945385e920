"""The fastest configuration of the Triton kernel on this GPU, as a row of `TUNING` in kernels/triton.py.

    python benchmarks/tune.py --net resnet50 --width 64 --dtype bf16

For each geometry of programs, the best number of warps and stages forward, then with backward; prints them all, and the
row to paste for this dtype and width. A configuration that does not fit the GPU is left out, with the reason. On a CPU
it runs in Triton's interpreter (TRITON_INTERPRET=1), where times say nothing.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import checkout  # noqa: F401
import torch
from layouts import NETWORKS
from measuring import median_time
from message_passing import Problem, both, forward, fused, problem

from gmnc.kernels import triton as kernel
from gmnc.kernels.schedule import Geometry
from gmnc.kernels.triton import TUNING, Tuning

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}
EDGES = 1024
"""Of a program of single edges, whatever the columns."""
Launch = tuple[int, int]


@dataclass(frozen=True)
class Choice:
    """The best launches for one geometry: seconds forward, and with backward; infinite if none fits."""

    geometry: Geometry
    forward: Launch
    backward: Launch
    seconds: tuple[float, float]


def timed(direction: str, tuning: Tuning, given: Problem, key: tuple[str, int], repeats: int) -> float:
    """Seconds with a row of the table; infinite, and the reason on stderr, if it does not run."""
    before = TUNING.get(key)
    TUNING[key] = tuning
    # The tables of another geometry would stay in memory.
    given.layout._cache.clear()
    update = fused(given.layout, "triton")
    step = {"forward": forward, "both": both}[direction]

    def run() -> None:
        step(update, given)

    try:
        seconds = median_time(run, given.device, repeats)
    except Exception as error:
        print(f"{tuning}: {type(error).__name__}: {str(error).splitlines()[:1]}", file=sys.stderr)
        seconds = inf
    finally:
        if before is None:
            del TUNING[key]
        else:
            TUNING[key] = before
    if seconds < inf:
        g, (warps, stages) = tuning.geometry, getattr(tuning, "forward" if direction == "forward" else "backward")
        print(f"{g.columns:>8}{g.rows:>6}{direction:>9}{warps:>7}{stages:>8}{seconds * 1e3:>12.3f} ms", flush=True)
    return seconds


def choice(
    geometry: Geometry, launches: Sequence[Launch], given: Problem, key: tuple[str, int], repeats: int
) -> Choice:
    """The best launch forward; with it, the best one backward."""
    found = {one: timed("forward", Tuning(geometry, one, one), given, key, repeats) for one in launches}
    first = min(found, key=lambda one: found[one])
    if found[first] == inf:
        return Choice(geometry, first, first, (inf, inf))
    more = {one: timed("both", Tuning(geometry, first, one), given, key, repeats) for one in launches}
    second = min(more, key=lambda one: more[one])
    return Choice(geometry, first, second, (found[first], more[second]))


def table_row(key: tuple[str, int], best: Choice) -> str:
    """As Python, to paste."""
    geometry = f"Geometry({', '.join(map(str, best.geometry))})"
    return f'    ("{key[0]}", {key[1]}): Tuning({geometry}, {best.forward}, {best.backward}),'


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--net", default="resnet50", choices=NETWORKS)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--dtype", default="bf16", choices=DTYPES)
    parser.add_argument("--columns", type=numbers, default=[32, 64, 128])
    parser.add_argument("--rows", type=numbers, default=[64, 256])
    parser.add_argument("--warps", type=numbers, default=[4, 8])
    parser.add_argument("--stages", type=numbers, default=[1, 2, 3])
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    if not options.device.startswith("cuda") and isinstance(kernel.programs.add_up, kernel.triton.JITFunction):
        parser.error("needs a GPU, or TRITON_INTERPRET=1 in the environment")
    return options


def main() -> int:
    options = arguments()
    dtype, device = DTYPES[options.dtype], torch.device(options.device)
    if device.index is not None:
        torch.cuda.set_device(device)
    key = (str(dtype).removeprefix("torch."), max(16, 1 << (options.width - 1).bit_length()))
    given = problem(options.net, options.width, dtype, options.device)
    launches = list(itertools.product(options.warps, options.stages))
    found = [
        choice(Geometry(columns, rows, max(1, EDGES // columns)), launches, given, key, options.repeats)
        for columns, rows in itertools.product(options.columns, options.rows)
    ]
    best = min(found, key=lambda one: one.seconds[1])
    if best.seconds[1] == inf:
        print("no configuration runs here", file=sys.stderr)
        return 1
    print(f"best: forward {best.seconds[0] * 1e3:.3f} ms, both {best.seconds[1] * 1e3:.3f} ms")
    print(table_row(key, best))
    return 0


if __name__ == "__main__":
    sys.exit(main())
