"""Lowering against `onnx.load` of the same file: time and peak memory, median of several runs in fresh processes.

    python benchmarks/compile.py [--net resnet50 gpt2 llama llama_4bit] [--runs 5] [--json]

Prints one row per network: seconds of `onnx.load` with all weights and of `gmnc.compile`, their ratio, the peak memory
above that of the interpreter with everything imported, as a share of the file; then edges per second of `coo`, called
again and again in one process, and its time as a multiple of that of filling fresh memory of the same size by one
thread (the first touch of a page can take a virtual machine ten times longer than every later one, so that a single
call measures the machine). Needs Linux, whose kernel counts peak memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from math import nan
from pathlib import Path

_MEASURE = """
import json, sys, time
mode, path = sys.argv[1:]
import numpy, onnx, gmnc
warm = onnx.helper.make_model(onnx.helper.make_graph(
    [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])], "warm",
    [onnx.helper.make_tensor_value_info("x", 1, [1, 2])], [onnx.helper.make_tensor_value_info("y", 1, [1, 3])],
    [onnx.numpy_helper.from_array(numpy.ones((2, 3), numpy.float32), "w")]))
graph = gmnc.compile(warm)
def status(key):
    line = next(line for line in open("/proc/self/status") if line.startswith(key + ":"))
    return int(line.split()[1]) * 1024
open("/proc/self/clear_refs", "w").write("5")
before, start = status("VmRSS"), time.perf_counter()
extra = {}
if mode == "load":
    onnx.load(path)
elif mode == "compile":
    graph = gmnc.compile(path)
    extra = {"edges": graph.num_parameter_edges, "nodes": graph.num_nodes}
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "memory": status("VmHWM") - before, **extra}))
"""

_COO = """
import json, statistics, sys, time
import numpy, gmnc
from gmnc.backends.coo import coo
path, runs = sys.argv[1], int(sys.argv[2])
graph = gmnc.compile(path)
data = coo(graph)
edges = data.edge_index.shape[1]
tensors = [t for t in data.to_dict().values() if hasattr(t, "element_size") and t.shape]
size = sum(t.element_size() * t.numel() for t in tensors)
del data, tensors
def clock(job):
    start = time.perf_counter()
    job()
    return time.perf_counter() - start
def median(job):
    job()
    return statistics.median(clock(job) for _ in range(runs))
print(json.dumps({"edges": edges, "bytes_per_edge": size / edges, "seconds": median(lambda: coo(graph)),
                  "fill": median(lambda: numpy.empty(size // 4, numpy.int32).fill(1))}))
"""


_COO_MOST = 500_000_000
"""Edges that fit as coordinates into the memory of a small machine."""


def script(text: str, *arguments: object) -> dict[str, float]:
    """What a program prints as its last line, run in a process of its own."""
    command = [sys.executable, "-c", text, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(mode: str, path: Path, runs: int) -> dict[str, float]:
    """Median of every figure over `runs` fresh processes, after one that warms the page cache."""
    found = []
    for _ in range(runs + 1):
        found.append(script(_MEASURE, mode, path))
    return {key: statistics.median(f[key] for f in found[1:]) for key in found[0]}


def row(name: str, path: Path, runs: int) -> dict[str, float | str]:
    """All figures of one network."""
    load, lower = (measure(mode, path, runs) for mode in ("load", "compile"))
    size = sum(file.stat().st_size for file in path.parent.glob(f"{path.stem}.*"))
    large = lower["edges"] > _COO_MOST
    coo = dict.fromkeys(("edges", "seconds", "bytes_per_edge", "fill"), nan) if large else script(_COO, path, runs)
    return {
        "network": name,
        "file MB": size / 1e6,
        "edges": lower["edges"],
        "onnx.load s": load["seconds"],
        "compile s": lower["seconds"],
        "ratio": lower["seconds"] / load["seconds"],
        "memory / file": lower["memory"] / size,
        "coo M edges/s": coo["edges"] / coo["seconds"] / 1e6,
        "coo / fill": coo["seconds"] / coo["fill"],
        "coo bytes/edge": coo["bytes_per_edge"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--net", nargs="+", default=["resnet50", "gpt2"])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "gmnc-benchmark")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    from large_networks import write

    args.folder.mkdir(exist_ok=True)
    rows = [row(name, write(name, args.folder), args.runs) for name in args.net]
    if args.json:
        print(json.dumps(rows))
        return
    print("  ".join(f"{key:>14}" for key in rows[0]))
    for line in rows:
        print("  ".join(f"{v:>14}" if isinstance(v, str) else f"{v:>14.4g}" for v in line.values()))


if __name__ == "__main__":
    main()
