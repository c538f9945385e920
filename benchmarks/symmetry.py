"""Time of lowering, of finding all symmetries and of verifying them, for networks of growing size.

    python benchmarks/symmetry.py [--find NETWORK ...] [--lower NETWORK ...] [--verify NETWORK ...] [--runs 3] [--json]

Without names, all are run. The networks are made on the spot (those of timm and transformers only if these packages are
installed), most of them at n, 2n and 4n. Each row gives

* the seconds of the work, the median of the runs, and by what factor they exceed those of the row before;
* the seconds of a floor in the same process, and the ratio of the two. For `find`, the floor is lowering the same
  network; for `lower`, loading it and inferring its shapes with the onnx package; for `verify`, writing the model with
  new values, loading it into ONNX Runtime and running it, once;
* for `verify`, the verdict and the peak of memory, in a process of its own. `verify --command` starts ONNX Runtime in a
  further process, as the command line does.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import onnx
import symmetry_networks as networks
from large_networks import write

import gmnc
from gmnc.testing import random_inputs, verify
from gmnc.testing.runtime import Network

Row = dict[str, float | str]
T = TypeVar("T")
Work = Callable[[Path, int], Row]


def find(path: Path, runs: int) -> Row:
    """The search; every run starts from a graph that knows nothing of itself."""
    graph, floor = _timed(lambda: gmnc.compile(path), runs)
    found, seconds = _timed(lambda: gmnc.symmetries(replace(graph)), runs)
    return {
        "nodes": graph.num_nodes,
        "edges": graph.num_parameter_edges,
        "generators": len(found.generators),
        "log10 size": found.log10_size,
        **_compared(seconds, floor),
    }


def lower(path: Path, runs: int) -> Row:
    """Lowering, and the search after it."""
    _, floor = _timed(lambda: onnx.shape_inference.infer_shapes(onnx.load(path)), runs)
    graph, seconds = _timed(lambda: gmnc.compile(path), runs)
    _, more = _timed(lambda: gmnc.symmetries(replace(graph)), runs)
    return {
        "nodes": graph.num_nodes,
        "edges": graph.num_parameter_edges,
        "find s": more,
        **_compared(seconds, floor),
    }


def verified(path: Path, runs: int, command: bool = False) -> Row:
    """Verifying, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_verified, (path, runs, command))


def _verified(path: Path, runs: int, command: bool) -> Row:
    before = _peak()
    report, seconds = _timed(lambda: verify(path, timeout="auto" if command else None), runs)
    above = _peak() - before
    graph = gmnc.compile(path)
    values = {n: p.load() for n, p in graph.parameters.items()}
    feeds = [random_inputs(onnx.load(path))]
    _, floor = _timed(lambda: Network(graph).run(values, feeds), runs)
    return {
        "sound": str(report.sound),
        "generators": report.generators,
        "error": report.max_error,
        "file MB": path.stat().st_size / 1e6,
        "above MB": above,
        **_compared(seconds, floor),
    }


def _timed(work: Callable[[], T], runs: int) -> tuple[T, float]:
    """The last result, and the median of the seconds."""
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        found = work()
        seconds.append(time.perf_counter() - start)
    return found, statistics.median(seconds)


def _compared(seconds: float, floor: float) -> Row:
    return {"seconds": seconds, "floor s": floor, "ratio": seconds / floor}


def _peak() -> float:
    """The peak of this process's memory in MB, of its own program alone (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM"))


def rows(names: Sequence[str], folder: Path, runs: int, work: Work) -> Iterator[Row]:
    """One row per network and size, with the growth of its time; one that says "skipped" if a package is missing."""
    for name in names:
        if package := networks.missing(name):
            yield {"network": name, "skipped": f"{package} is not installed"}
            continue
        before: float | None = None
        for factor in networks.FACTORS if name in networks.NETWORKS else (1,):
            grows = name in networks.NETWORKS
            path = networks.write(name, factor, folder) if grows else write(name, folder)
            found = work(path, runs)
            seconds = float(found["seconds"])
            yield {"network": path.stem, **found, "growth": seconds / before if before else ""}
            before = seconds


def _cells(row: Row) -> str:
    return "  ".join(f"{v:>22}" if isinstance(v, str) else f"{v:>10.4g}" for v in row.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--find", nargs="*", metavar="NETWORK", help=" ".join((*networks.LARGE, *networks.SEARCHED)))
    parser.add_argument("--lower", nargs="*", metavar="NETWORK", help=" ".join(networks.LOWERED))
    parser.add_argument("--verify", nargs="*", metavar="NETWORK", help=" ".join(networks.VERIFIED))
    parser.add_argument("--command", action="store_true", help="verify as the command does, in a child process")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "gmnc-benchmark")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    args.folder.mkdir(exist_ok=True)
    every = args.find is None and args.lower is None and args.verify is None
    checking = partial(verified, command=args.command)
    works: list[tuple[str, Sequence[str] | None, Sequence[str], Work]] = [
        ("find", args.find, (*networks.LARGE, *networks.SEARCHED), find),
        ("lower", args.lower, tuple(networks.LOWERED), lower),
        ("verify", args.verify, tuple(networks.VERIFIED), checking),
    ]
    found: list[Row] = []
    for title, chosen, usual, work in works:
        header = False
        for row in rows(usual if every or chosen == [] else chosen or (), args.folder, args.runs, work):
            found.append({"work": title, **row})
            if args.json:
                continue
            if not header and "skipped" not in row:
                print(f"\n{title}\n" + "  ".join(f"{k:>22}" if k in ("network", "sound") else f"{k:>10}" for k in row))
                header = True
            print(_cells(row), flush=True)
    if args.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
