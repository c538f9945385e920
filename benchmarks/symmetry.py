"""Time of finding all symmetries, beside that of lowering: median of several runs, one process.

    python benchmarks/symmetry.py [--net resnet50 gpt2 wide] [--runs 5] [--json]

`wide` is a perceptron of six layers with 1e5 nodes. Each run starts from a graph that knows nothing of itself.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

import gmnc

DEPTH, WIDTH = 6, 16640


def wide(folder: Path) -> Path:
    """Six layers of 16,640 neurons; weights are made by ConstantOfShape, so the file is small."""
    path = folder / "wide.onnx"
    sizes = [100, *[WIDTH] * DEPTH, 100]
    nodes, shapes = [], []
    for i, (k, n) in enumerate(pairwise(sizes)):
        shapes.append(helper.make_tensor(f"shape{i}", TensorProto.INT64, [2], [k, n]))
        nodes += [
            helper.make_node("ConstantOfShape", [f"shape{i}"], [f"w{i}"]),
            helper.make_node("MatMul", [f"h{i}", f"w{i}"], [f"a{i}"]),
            helper.make_node("Relu", [f"a{i}"], [f"h{i + 1}"]),
        ]
    ends = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, n])
        for name, n in (("h0", sizes[0]), (f"h{len(sizes) - 1}", sizes[-1]))
    )
    graph = helper.make_graph(nodes, "wide", [next(ends)], [next(ends)], shapes)
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


def row(name: str, path: Path, runs: int) -> dict[str, float | str]:
    """Seconds of both, and what was found."""
    lowering, finding = [], []
    for _ in range(runs):
        start = time.perf_counter()
        graph = gmnc.compile(path)
        middle = time.perf_counter()
        found = gmnc.symmetries(replace(graph))
        lowering.append(middle - start)
        finding.append(time.perf_counter() - middle)
    return {
        "network": name,
        "nodes": graph.num_nodes,
        "edges": graph.num_parameter_edges,
        "generators": len(found.generators),
        "log10 size": found.log10_size,
        "compile s": statistics.median(lowering),
        "symmetries s": statistics.median(finding),
        "spread s": float(np.ptp(finding)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--net", nargs="+", default=["resnet50", "gpt2", "wide"])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "gmnc-benchmark")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    from large_networks import write

    args.folder.mkdir(exist_ok=True)
    paths = {n: wide(args.folder) if n == "wide" else write(n, args.folder) for n in args.net}
    rows = [row(name, path, args.runs) for name, path in paths.items()]
    if args.json:
        print(json.dumps(rows))
        return
    print("  ".join(f"{key:>12}" for key in rows[0]))
    for line in rows:
        print("  ".join(f"{v:>12}" if isinstance(v, str) else f"{v:>12.4g}" for v in line.values()))


if __name__ == "__main__":
    main()
