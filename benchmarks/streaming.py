"""A metanetwork on a network whose edge states do not fit: time and memory of forward and backward, by chunks of edges.

    python benchmarks/streaming.py --net gpt2 --width 64 [--device cuda] [--edge-chunk 4194304]

Prints what the states of all edges after one layer would take, and the most memory in use beyond the graph and the
weights of the metanetwork: forward, and forward with backward. Once each, after a call on a tiny network.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from large_networks import NETWORKS, write
from measuring import peak

import gmnc
from gmnc.backends.blocks import Blocks, blocks
from gmnc.metanets import GMN
from gmnc.testing import build

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def tiny() -> Blocks:
    """For the first call, which loads and compiles what later ones find."""
    return blocks(gmnc.compile(build("(float[1, 3] x) => (float[1, 2] y) { y = MatMul(x, w) }", {"w": (3, 2)})))


def measured(model: GMN, given: Blocks, backward: bool) -> tuple[float, int]:
    """Seconds, and bytes beyond what was there before."""
    device = given.values.device

    def work() -> None:
        with torch.set_grad_enabled(backward):
            out = model(given)
        if backward:
            out.float().square().sum().backward()
        model.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()

    start = time.perf_counter()
    memory = peak(work, device)
    return time.perf_counter() - start, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", default="gpt2", choices=NETWORKS)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--edge-chunk", type=int, default=2**22, help="edges in a chunk")
    parser.add_argument("--dtype", default="fp32", choices=DTYPES)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.manual_seed(0)
    dtype, device = DTYPES[options.dtype], torch.device(options.device)
    with tempfile.TemporaryDirectory() as folder:
        graph = gmnc.compile(write(options.net, Path(folder)))
        given = blocks(graph, dtype=dtype).to(device)
    model = GMN(hidden_channels=options.width, num_layers=options.layers, edge_chunk=options.edge_chunk)
    model = model.to(device, dtype)
    state = given.num_edges * options.width * given.values.element_size()
    print(f"{options.net}: {graph.num_parameters:,} parameters, {given.num_edges:,} edges; states of all edges after "
          f"one of {options.layers} layers would take {state / 1e9:.1f} GB", flush=True)  # fmt: skip
    measured(model, tiny().to(device), backward=True)
    for name, backward in (("forward", False), ("both", True)):
        seconds, memory = measured(model, given, backward)
        print(f"{name:>8}: {seconds:.1f} s, {memory / 1e9:.2f} GB, {memory / state:.3f} of one state", flush=True)


if __name__ == "__main__":
    main()
