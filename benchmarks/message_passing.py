"""Time and memory of one layer of message passing, beside PyG, torch.compile and the floor of memory traffic.

    python benchmarks/message_passing.py --device cpu --net small --against pyg,scatter

Every contender computes the same: new edge states, and sums of hidden messages into both ends. `pyg` gathers both
ends, concatenates, applies the edge MLP and scatters, as message passing libraries do; `compile` is that under
torch.compile; `graph` is the kernel played back from a CUDA graph. The floor is what copying the edge state takes in
the same run: 2 passes over it forward, 5 with backward. Memory is that beyond the inputs, in edge states. Errors are
differences from float64, relative: of the outputs the largest, of the gradients the root mean square. Needs torch,
numpy and, for `pyg` and `compile`, torch_geometric; on a GPU triton. A contender that is not installed, or does not
fit, is a row that says so. Exit code 1: the kernel itself failed or is wrong.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import checkout  # noqa: F401
import torch
from exact import error_of_gradients, error_of_outputs
from layouts import NETWORKS
from measuring import about, append, captured, columns_of, median_time, peak

from gmnc.kernels import Layout, Terms, edge_update, kernels

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
"""Of errors. A slope of relu that rounding turns is wrong as a whole: about one in 10^7 and 10^3, by type."""
COLUMNS = (
    "contender", "forward_ms", "both_ms", "x_floor", "x_floor_both", "memory_x", "memory_x_both", "error",
    "error_grad",
)  # fmt: skip
Update = Callable[[torch.Tensor, Terms], tuple[torch.Tensor, ...]]


@dataclass(frozen=True)
class Problem:
    """One layer's inputs, and what its outputs are weighted by for the gradients."""

    layout: Layout
    edges: torch.Tensor
    terms: Terms
    weights: tuple[torch.Tensor, ...]

    @property
    def bytes(self) -> int:
        """Of the edge state."""
        return self.edges.numel() * self.edges.element_size()

    @property
    def device(self) -> torch.device:
        return self.edges.device


@dataclass
class Result:
    """Of forward, and of forward with backward: seconds, most memory beyond the inputs in bytes, relative error."""

    seconds: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    failure: str = ""


def problem(name: str, width: int, dtype: torch.dtype, device: str) -> Problem:
    """Random states and weights on the graph of a network."""
    torch.manual_seed(0)
    net = NETWORKS[name]()
    layout = net.layout().to(device)
    edges = torch.randn(net.edges, width, device=device, dtype=dtype).requires_grad_()
    shapes = [(net.nodes, width), (net.nodes, width), (net.types, width), (width, width), (width, width), (width,)]
    terms = Terms(*(torch.randn(s, device=device).mul_(width**-0.5).to(dtype).requires_grad_() for s in shapes))
    sizes = (net.edges, net.nodes, net.nodes)
    weights = tuple(torch.randn(size, width, device=device, dtype=dtype) for size in sizes)
    return Problem(layout, edges, terms, weights)


def gathered(layout: Layout) -> Update:
    """Message passing with an index per edge, as libraries for graphs write it."""
    from torch_geometric.utils import scatter

    dst, src, types, _, _ = layout.per_edge

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


def contender(name: str, layout: Layout, kernel: str) -> Update:
    """By name: pyg, compile, graph, or a kernel."""
    if name in ("pyg", "compile"):
        update = gathered(layout)
        return torch.compile(update) if name == "compile" else update
    return fused(layout, kernel if name == "graph" else name)


def forward(update: Update, given: Problem) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
        return update(given.edges, given.terms)


def both(update: Update, given: Problem) -> tuple[torch.Tensor, ...]:
    """The gradients of the edges and of the terms."""
    return torch.autograd.grad(update(given.edges, given.terms), [given.edges, *given.terms], given.weights)


def measure(name: str, kernel: str, given: Problem, repeats: int) -> Result:
    """Median times, memory and errors of one contender; what it fails of, if it does."""
    result = Result()
    try:
        update = contender(name, given.layout, kernel)
        for step in (forward, both):
            _measure(result, lambda step=step: step(update, given), name == "graph", given, repeats)
    except Exception as error:
        # One that does not fit, or that does not run here, must not keep the others from being measured.
        result.failure = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    gc.collect()
    if given.device.type == "cuda":
        torch.cuda.empty_cache()
    return result


def _measure(
    result: Result, work: Callable[[], tuple[torch.Tensor, ...]], graph: bool, given: Problem, repeats: int
) -> None:
    found = work()
    if result.errors:
        error = error_of_gradients(found, given.weights, given.edges, given.terms, given.layout)
    else:
        error = error_of_outputs(found, given.edges, given.terms, given.layout)
    del found
    result.errors.append(error)

    def run() -> None:
        work()

    result.memory.append(peak(run, given.device))
    result.seconds.append(median_time(captured(run) if graph else run, given.device, repeats))


def floor(given: Problem, repeats: int) -> float:
    """Seconds of one pass over the edge state: half of what a copy takes."""
    source = given.edges.detach()
    other = torch.empty_like(source)

    def copy() -> None:
        other.copy_(source)

    return median_time(copy, given.device, repeats) / 2


def row(name: str, result: Result, given: Problem, one_pass: float) -> dict[str, str]:
    """By column; empty cells, and the reason, where a contender failed."""
    seconds, memory, errors = result.seconds, result.memory, result.errors
    cells = [name]
    cells += [f"{s * 1e3:.2f}" for s in seconds] + [""] * (2 - len(seconds))
    cells += [f"{s / (n * one_pass):.2f}" for s, n in zip(seconds, (2, 5), strict=False)] + [""] * (2 - len(seconds))
    cells += [f"{m / given.bytes:.2f}" for m in memory] + [""] * (2 - len(memory))
    cells += [f"{e:.1e}" for e in errors] + [""] * (2 - len(errors))
    return {**dict(zip(COLUMNS, cells, strict=True)), "failure": result.failure}


def compared(ours: str, name: str, results: dict[str, Result]) -> str:
    """In words: how many times as fast, and how much memory."""
    mine, other = results[ours], results[name]
    if other.failure or mine.failure:
        return f"{name if other.failure else ours} failed: {other.failure or mine.failure}"
    forward, both = (b / a for a, b in zip(mine.seconds, other.seconds, strict=True))
    memory = mine.memory[1] / max(other.memory[1], 1)
    return f"{ours} against {name}: forward {forward:.2f}x, both {both:.2f}x faster; memory {memory:.2f} of it"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--net", default="small", choices=NETWORKS)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--dtype", default="fp32", choices=DTYPES)
    parser.add_argument("--kernel", default="auto", choices=("auto", *kernels()))
    parser.add_argument("--against", default="pyg", help="of pyg, compile, graph and kernels, separated by commas")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--csv", type=Path, help="append the rows to this file")
    options = parser.parse_args()
    options.against = [name for name in options.against.split(",") if name]
    cuda = options.device.startswith("cuda")
    known = dict.fromkeys(("pyg", "compile", "graph", "scatter", *kernels()))
    if set(options.against) - set(known):
        parser.error(f"--against {','.join(options.against)}: choose of {', '.join(known)}")
    if cuda and not torch.cuda.is_available():
        parser.error(f"--device {options.device}: torch finds no GPU here")
    if "graph" in options.against and not cuda:
        parser.error("--against graph: needs a GPU")
    if options.csv and columns_of(options.csv) not in (None, [*fixed(options), *COLUMNS, "failure"]):
        parser.error(f"--csv {options.csv}: has other columns; name another file")
    return options


def fixed(options: argparse.Namespace) -> dict[str, str]:
    """What all rows of a run share."""
    return about(torch.device(options.device)) | {n: str(getattr(options, n)) for n in ("net", "width", "dtype")}


def main() -> int:
    options = arguments()
    device = torch.device(options.device)
    if device.index is not None:
        torch.cuda.set_device(device)
    given = problem(options.net, options.width, DTYPES[options.dtype], options.device)
    one_pass = floor(given, options.repeats)
    print(f"{options.net}: {given.layout.edges:,} edges, state {given.bytes / 1e6:.0f} MB, floor forward "
          f"{2e3 * one_pass:.2f} ms, both {5e3 * one_pass:.2f} ms")  # fmt: skip
    print("".join(f"{column:>14}" for column in COLUMNS))
    names = list(dict.fromkeys([options.kernel, *options.against]))
    results = {}
    for name in names:
        results[name] = measure(name, options.kernel, given, options.repeats)
        cells = row(name, results[name], given, one_pass)
        print("".join(f"{cell:>14}" for cell in list(cells.values())[:-1]), flush=True)
        if options.csv:
            # At once: a later contender may end the process.
            append(options.csv, [fixed(options) | cells])
    for name in names[1:]:
        print(compared(names[0], name, results))
    ours = results[names[0]]
    if ours.failure:
        print(f"{names[0]} failed: {ours.failure}", file=sys.stderr)
    wrong = max(ours.errors, default=0.0) > TOLERANCE[DTYPES[options.dtype]]
    if wrong:
        print(f"{names[0]} is wrong: errors {ours.errors}", file=sys.stderr)
    return int(bool(ours.failure) or wrong)


if __name__ == "__main__":
    sys.exit(main())
