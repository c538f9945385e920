"""Time and memory of one layer of message passing, beside PyG, torch.compile and the floor of memory traffic.

    python benchmarks/message_passing.py --device cpu --net small --against pyg,scatter

Every contender computes the same: new edge states, and sums of hidden messages into both ends. `pyg` gathers both
ends, concatenates, applies the edge MLP and scatters, as message passing libraries do; `compile` is that under
torch.compile. The floor is what copying the edge state takes in the same run: 2 passes over it forward, 5 with
backward. Needs torch, numpy and, for `pyg`, torch_geometric; on a GPU triton.
"""

from __future__ import annotations

import argparse
import csv
import gc
import platform
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import torch

HERE = Path(__file__).resolve().parent
if find_spec("gmnc") is None:
    # A checkout that is not installed: its root is the package.
    sys.modules["gmnc"] = ModuleType("gmnc")
    sys.modules["gmnc"].__path__ = [str(HERE.parent)]
sys.path.insert(0, str(HERE))

from layouts import NETWORKS  # noqa: E402

from gmnc.kernels import Layout, Terms, edge_update, kernels  # noqa: E402
from gmnc.kernels.scatter import expand  # noqa: E402

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
COLUMNS = ("contender", "forward_ms", "both_ms", "x_floor", "x_floor_both", "memory_x", "memory_x_both", "error")
Update = Callable[[torch.Tensor, Terms], tuple[torch.Tensor, ...]]


@dataclass(frozen=True)
class Problem:
    """One layer's inputs."""

    layout: Layout
    edges: torch.Tensor
    terms: Terms

    @property
    def bytes(self) -> int:
        """Of the edge state."""
        return self.edges.numel() * self.edges.element_size()


@dataclass(frozen=True)
class Result:
    """Seconds and the most memory taken beyond the inputs, in bytes, forward and with backward; relative error."""

    forward: float
    both: float
    memory: int
    memory_both: int
    error: float


def problem(name: str, width: int, dtype: torch.dtype, device: str) -> Problem:
    """Random states and weights on the graph of a network."""
    torch.manual_seed(0)
    net = NETWORKS[name]()
    layout = net.layout().to(device)
    edges = torch.randn(net.edges, width, device=device, dtype=dtype).requires_grad_()
    shapes = [(net.nodes, width), (net.nodes, width), (net.types, width), (width, width), (width, width), (width,)]
    terms = Terms(*(torch.randn(s, device=device).mul_(width**-0.5).to(dtype).requires_grad_() for s in shapes))
    return Problem(layout, edges, terms)


def gathered(layout: Layout) -> Update:
    """Message passing with an index per edge, as libraries for graphs write it."""
    from torch_geometric.utils import scatter

    dst, src, types, _, _ = expand(layout)

    def update(edges: torch.Tensor, terms: Terms) -> tuple[torch.Tensor, ...]:
        ends = torch.cat([terms.dst[dst], terms.src[src], edges, terms.type[types]], dim=1)
        eye = torch.eye(edges.shape[1], device=edges.device, dtype=edges.dtype)
        hidden = torch.relu(ends @ torch.cat([eye, eye, terms.w_in, eye]))
        new = edges + torch.addmm(terms.b_out, hidden, terms.w_out)
        sums = (scatter(hidden, ids, dim=0, dim_size=len(terms.dst), reduce="sum") for ids in (dst, src))
        return new, *sums

    return update


def fused(layout: Layout, kernel: str) -> Update:
    """One of ours."""
    return lambda edges, terms: edge_update(edges, terms, layout, activation="relu", residual=True, kernel=kernel)


def contender(name: str, layout: Layout) -> Update:
    """By name: pyg, compile, or a kernel."""
    if name == "pyg":
        return gathered(layout)
    if name == "compile":
        return torch.compile(gathered(layout))
    return fused(layout, name)


def forward(update: Update, given: Problem) -> None:
    with torch.no_grad():
        update(given.edges, given.terms)


def both(update: Update, given: Problem, weights: tuple[torch.Tensor, ...]) -> None:
    outputs = update(given.edges, given.terms)
    torch.autograd.grad(outputs, [given.edges, *given.terms], weights)


def measure(name: str, given: Problem, repeats: int) -> Result:
    """Median time, memory and error of one contender."""
    update = contender(name, given.layout)
    with torch.no_grad():
        found = update(given.edges, given.terms)
        error = max(map(disagreement, found, exact(given)))
        weights = tuple(torch.randn_like(t) for t in found)
        del found
    first, second = lambda: forward(update, given), lambda: both(update, given, weights)
    times = [median_time(f, given.edges.device, repeats) for f in (first, second)]
    memory = [peak(f, given.edges.device) for f in (first, second)]
    return Result(*times, *memory, error)


def exact(given: Problem, limit: int = 2_000_000) -> tuple[torch.Tensor, ...]:
    """The outputs in float64, or in float32 where float64 would not fit."""
    kind = torch.float64 if given.layout.edges <= limit else torch.float32
    terms = Terms(*(t.detach().to(kind) for t in given.terms))
    kernel = "reference" if given.layout.edges <= limit else "auto"
    return edge_update(
        given.edges.detach().to(kind), terms, given.layout, activation="relu", residual=True, kernel=kernel
    )


def disagreement(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference relative to the largest magnitude."""
    return float((found.to(expected.dtype) - expected).abs().max() / expected.abs().max())


def median_time(run: Callable[[], None], device: torch.device, repeats: int) -> float:
    """Seconds, after one run to warm up."""
    times = []
    for _ in range(repeats + 1):
        wait(device)
        start = time.perf_counter()
        run()
        wait(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def peak(run: Callable[[], None], device: torch.device) -> int:
    """Most memory in use during a run, less what was in use before, in bytes."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    before, most, stop = resident(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not stop.wait(0.002):
            most = max(most, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    run()
    stop.set()
    watcher.join()
    return max(0, most - before)


def resident() -> int:
    """Bytes of this process that are in memory (Linux)."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


def floor(given: Problem, repeats: int) -> float:
    """Seconds of one pass over the edge state: half of what a copy takes."""
    other = torch.empty_like(given.edges)

    def copy() -> None:
        with torch.no_grad():
            other.copy_(given.edges)

    return median_time(copy, given.edges.device, repeats) / 2


def row(name: str, result: Result, given: Problem, one_pass: float) -> tuple[str, ...]:
    return (
        name,
        f"{result.forward * 1e3:.1f}",
        f"{result.both * 1e3:.1f}",
        f"{result.forward / (2 * one_pass):.2f}",
        f"{result.both / (5 * one_pass):.2f}",
        f"{result.memory / given.bytes:.2f}",
        f"{result.memory_both / given.bytes:.2f}",
        f"{result.error:.1e}",
    )


def about() -> dict[str, str]:
    """The machine and the versions."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    found = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "device": gpu or platform.machine()}
    found["threads"] = str(torch.get_num_threads())
    for package in ("torch", "triton", "torch_geometric", "torch_scatter"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = ""
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--net", default="small", choices=NETWORKS)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--dtype", default="fp32", choices=DTYPES)
    parser.add_argument("--kernel", default="auto", help=f"auto, {', '.join(kernels())}")
    parser.add_argument("--against", default="pyg", help="of pyg, compile, scatter, separated by commas")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--csv", type=Path, help="append the rows to this file")
    options = parser.parse_args()
    given = problem(options.net, options.width, DTYPES[options.dtype], options.device)
    one_pass = floor(given, options.repeats)
    print(f"{options.net}: {given.layout.edges:,} edges, state {given.bytes / 1e6:.0f} MB, floor forward "
          f"{2e3 * one_pass:.2f} ms, both {5e3 * one_pass:.2f} ms")  # fmt: skip
    names = [options.kernel, *(n for n in options.against.split(",") if n)]
    results = {name: measure(name, given, options.repeats) for name in names}
    rows = [row(name, result, given, one_pass) for name, result in results.items()]
    for line in (COLUMNS, *rows):
        print("".join(f"{cell:>15}" for cell in line))
    ours = results[names[0]]
    for name in names[1:]:
        other = results[name]
        print(
            f"{names[0]} against {name}: forward {other.forward / ours.forward:.2f}x, both "
            f"{other.both / ours.both:.2f}x faster; memory {ours.memory_both / max(other.memory_both, 1):.2f} of it"
        )
    if options.csv:
        append(options.csv, vars(options), rows)


def append(path: Path, options: dict[str, object], rows: list[tuple[str, ...]]) -> None:
    fixed = {**about(), **{name: str(options[name]) for name in ("net", "width", "dtype")}}
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow([*fixed, *COLUMNS])
        writer.writerows([*fixed.values(), *cells] for cells in rows)


if __name__ == "__main__":
    main()
