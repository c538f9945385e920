"""Time of finding all symmetries, beside that of lowering, and of verifying them, for networks of growing size.

    python benchmarks/symmetry.py [--net resnet50 gpt2 wide unrolled crnn] [--runs 3] [--json]
    python benchmarks/symmetry.py --net coat_lite_tiny convit_tiny xcit_nano_12_p16_224  # needs timm
    python benchmarks/symmetry.py --verify transformer transformer_int8 trees

Networks of `symmetry_networks` are run at n, 2n and 4n, and each row says by what factor its time exceeds that of the
row before. Each run of the search starts from a graph that knows nothing of itself; each network is verified in a
process of its own, whose peak memory is given beside the size of the file.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import symmetry_networks
from large_networks import write

import gmnc
from gmnc.testing import verify

Row = dict[str, float | str]


def searched(path: Path, runs: int) -> Row:
    """Seconds of lowering and of the search, and what was found."""
    lowering, finding = [], []
    for _ in range(runs):
        start = time.perf_counter()
        graph = gmnc.compile(path)
        middle = time.perf_counter()
        found = gmnc.symmetries(replace(graph))
        lowering.append(middle - start)
        finding.append(time.perf_counter() - middle)
    return {
        "nodes": graph.num_nodes,
        "edges": graph.num_parameter_edges,
        "generators": len(found.generators),
        "log10 size": found.log10_size,
        "compile s": statistics.median(lowering),
        "spread s": float(np.ptp(finding)),
        "seconds": statistics.median(finding),
    }


def verified(path: Path, runs: int) -> Row:
    """Seconds of `verify`, and the most memory that it takes, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        rows = [pool.apply(_verified, (path,)) for _ in range(runs)]
    return {**rows[0], "seconds": statistics.median(float(r["seconds"]) for r in rows)}


def _verified(path: Path) -> Row:
    start = time.perf_counter()
    report = verify(path)
    seconds = time.perf_counter() - start
    return {
        "sound": str(report.sound),
        "generators": report.generators,
        "error": report.max_error,
        "file MB": path.stat().st_size / 1e6,
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        "seconds": seconds,
    }


def rows(names: Sequence[str], folder: Path, runs: int, work: Callable[[Path, int], Row]) -> Iterator[Row]:
    """One row per network and size, with the growth of its time."""
    for name in names:
        own = name not in symmetry_networks.SEARCHED | symmetry_networks.VERIFIED
        before: float | None = None
        for factor in (1,) if own else symmetry_networks.FACTORS:
            path = write(name, folder) if own else symmetry_networks.write(name, factor, folder)
            found = work(path, runs)
            seconds = float(found["seconds"])
            yield {"network": path.stem, **found, "growth": seconds / before if before else ""}
            before = seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--net", nargs="*", help="networks to search")
    parser.add_argument("--verify", nargs="*", default=[], choices=symmetry_networks.VERIFIED, help="to verify")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "gmnc-benchmark")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    args.folder.mkdir(exist_ok=True)
    default = [] if args.verify else ["resnet50", "gpt2", "wide", "unrolled", "crnn"]
    net = default if args.net is None else args.net
    every: list[Row] = []
    for names, work in ((net, searched), (args.verify, verified)):
        for number, row in enumerate(rows(names, args.folder, args.runs, work)):
            every.append(row)
            if not args.json:
                cells = (f"{v:>12}" if isinstance(v, str) else f"{v:>12.4g}" for v in row.values())
                lines = [] if number else ["  ".join(f"{key:>12}" for key in row)]
                print("\n".join([*lines, "  ".join(cells)]), flush=True)
    if args.json:
        print(json.dumps(every))


if __name__ == "__main__":
    main()
