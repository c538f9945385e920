"""Loss along the line between two networks that learned the same, before and after their neurons are put in one order.

    python benchmarks/merging.py [--networks mlp vgg ...] [--pairs 3] [--folder F] [--draw FOLDER] [--json]

Networks that classify digits (`merging_networks.py`) are trained in pairs from different seeds and exported. Each row
is a way to bring the second one to the first one; the numbers are means over the pairs:

* barrier: the largest excess of the loss over the straight line between the losses of both, at 11 points, in nats, on
  images that were not trained on, by ONNX Runtime on the written parameters;
* the accuracy at the midpoint, and that at both ends, which is not that of the trained networks if a tool changed one;
* the seconds of the alignment, and with repair also those of repairing the midpoint.

`repair` sets the statistics of every network on the line from 400 training images. `git re-basin` is the published
algorithm for networks of which a specification says what moves together (Ainsworth, Hayase, Srinivasa 2023, algorithm
1), written out here; `rebasin` is run if its package is installed. Trained networks are kept in F, if it is given, with
the test images and their labels as inputs of `gmnc align`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from merging_networks import NETWORKS, Digits, digits, export, trained
from merging_peers import SPECIFIED, git_re_basin, rebasin

import gmnc
from gmnc.backends.onnx import serialised
from gmnc.ir import GmncError, ParameterGraph
from gmnc.transforms import align
from gmnc.transforms.repair import Repairer

Values = Mapping[str, np.ndarray]
POINTS = np.linspace(0, 1, 11)
REPAIRED = 400
ALIGNED: dict[str, dict[str, Any]] = {
    "weights": {"by": "weights"},
    "activations": {"by": "activations"},
    "signs, scales": {"kinds": ("permutation", "sign", "scale")},
    "continuous": {"kinds": ("permutation", "sign", "orthogonal", "linear")},
}


@dataclass(frozen=True, slots=True)
class Curve:
    """The line between two networks.

    Attributes:
        network: The architecture.
        pair: Which pair of seeds.
        method: What was done before.
        loss: Cross-entropy at each point, in nats.
        accuracy: Share of images that are classified correctly at each point.
        seconds: How long the method took.
    """

    network: str
    pair: int
    method: str
    loss: list[float]
    accuracy: list[float]
    seconds: float

    @property
    def barrier(self) -> float:
        """The largest excess over the straight line."""
        straight = (1 - POINTS) * self.loss[0] + POINTS * self.loss[-1]
        return float((np.array(self.loss) - straight).max())


@dataclass(frozen=True, eq=False)
class Pair:
    """Two trained networks of one architecture, and inputs of theirs."""

    network: str
    number: int
    paths: tuple[Path, Path]
    test: np.ndarray
    labels: np.ndarray
    some: np.ndarray

    @property
    def name(self) -> str:
        """The name of the input."""
        return str(onnxruntime.InferenceSession(self.paths[0]).get_inputs()[0].name)


def made(network: str, number: int, data: Digits, folder: Path) -> Pair:
    """A pair from its own two seeds, trained if it is not there."""
    paths = tuple(folder / f"{network}-{seed}.onnx" for seed in (2 * number, 2 * number + 1))
    for path, seed in zip(paths, (2 * number, 2 * number + 1), strict=True):
        if not path.exists():
            export(network, trained(network, seed, data), data, path)
    test, some = data.test_x.numpy(), data.x[:REPAIRED].numpy()
    return Pair(network, number, (paths[0], paths[1]), test, data.test_y.numpy(), some)


def measured(graph: ParameterGraph, values: Values, pair: Pair) -> tuple[float, float]:
    """Loss and accuracy."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(serialised(graph, values), options)
    [logits] = session.run(None, {pair.name: pair.test})
    given = torch.as_tensor(logits)
    loss = torch.nn.functional.cross_entropy(given, torch.as_tensor(pair.labels))
    return float(loss), float((logits.argmax(1) == pair.labels).mean())


def between(a: Values, b: Values, t: float) -> dict[str, np.ndarray]:
    return {n: ((1 - t) * a[n] + t * b[n]).astype(a[n].dtype) if a[n].dtype.kind == "f" else a[n] for n in a}


def curve(graph: ParameterGraph, a: Values, b: Values, pair: Pair, method: str, seconds: float) -> Curve:
    found = [measured(graph, between(a, b, t), pair) for t in POINTS.tolist()]
    return Curve(pair.network, pair.number, method, [f[0] for f in found], [f[1] for f in found], seconds)


def repaired(graph: ParameterGraph, a: Values, b: Values, pair: Pair, method: str, seconds: float) -> Curve:
    """The line of which every network between both was repaired."""
    repairer = Repairer(graph, [{pair.name: pair.some}])
    start = time.perf_counter()
    parts = [repairer.moments(v) for v in (a, b)]
    seconds += time.perf_counter() - start
    found, times = [measured(graph, a, pair)], []
    for t in POINTS.tolist()[1:-1]:
        begin = time.perf_counter()
        found.append(measured(graph, repairer.repaired(between(a, b, t), parts, [1 - t, t]).values, pair))
        times.append(time.perf_counter() - begin)
    found.append(measured(graph, b, pair))
    seconds += statistics.median(times)
    return Curve(pair.network, pair.number, method, [f[0] for f in found], [f[1] for f in found], seconds)


def curves(pair: Pair) -> Iterator[Curve]:
    """The line after each method."""
    graphs = [gmnc.compile(p) for p in pair.paths]
    names = sorted(graphs[0].parameters)
    a, b = ({n: np.asarray(g.parameters[n].load()) for n in names} for g in graphs)
    yield curve(graphs[0], a, b, pair, "naive", 0)
    yield repaired(graphs[0], a, b, pair, "naive, repair", 0)
    for method, options in ALIGNED.items():
        if options.get("by") == "activations":
            options = {**options, "inputs": {pair.name: pair.some}}
        start = time.perf_counter()
        try:
            found = align(*pair.paths, **options)
        except GmncError as error:
            print(f"  {pair.network}, {method}: {error}", flush=True)
            continue
        seconds = time.perf_counter() - start
        if not found.proof.holds:
            print(f"  {pair.network}, {method}: {found.proof.summary}", flush=True)
        ends = {**a, **found.reference}, {**b, **found.aligned}
        yield curve(graphs[0], *ends, pair, method, seconds)
        yield repaired(graphs[0], *ends, pair, f"{method}, repair", seconds)
    peers: dict[str, Callable[[], Values | None]] = {
        "git re-basin": lambda: git_re_basin(pair.network, a, b),
        "rebasin": lambda: rebasin(pair.network, a, b, torch.as_tensor(pair.some[:2])),
    }
    for method, peer in peers.items():
        start = time.perf_counter()
        other = peer()
        if other is not None:
            yield curve(graphs[0], a, other, pair, method, time.perf_counter() - start)


def print_table(network: str, found: Sequence[Curve]) -> None:
    """A row per method, means over the pairs."""
    ends = [a for c in found if c.method == "naive" for a in (c.accuracy[0], c.accuracy[-1])]
    print(f"\n{network}: accuracy of the trained networks {100 * statistics.mean(ends):.1f} %")
    print(f"{'':<22}{'barrier':>9}{'smallest':>10}{'largest':>9}{'midpoint %':>12}{'ends %':>8}{'s':>8}")
    for method in dict.fromkeys(c.method for c in found):
        own = [c for c in found if c.method == method]
        barriers = [c.barrier for c in own]
        middle = statistics.mean(c.accuracy[len(POINTS) // 2] for c in own)
        both = statistics.mean(a for c in own for a in (c.accuracy[0], c.accuracy[-1]))
        seconds = statistics.mean(c.seconds for c in own)
        print(f"{method:<22}{statistics.mean(barriers):>9.3f}{min(barriers):>10.3f}{max(barriers):>9.3f}"
              f"{100 * middle:>12.1f}{100 * both:>8.1f}{seconds:>8.1f}", flush=True)  # fmt: skip


def draw(network: str, found: Sequence[Curve], folder: Path) -> None:
    """A picture of the mean loss and accuracy along the line, of what is repaired in dashes."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    drawn = dict.fromkeys(m for n in ("naive", *ALIGNED) for m in (n, f"{n}, repair"))
    for number, method in enumerate(m for m in drawn if any(c.method == m for c in found)):
        own = [c for c in found if c.method == method]
        style = {"color": f"C{number // 2}", "linestyle": "--" if "repair" in method else "-"}
        left.plot(POINTS, np.mean([c.loss for c in own], axis=0), label=method, **style)
        right.plot(POINTS, 100 * np.mean([c.accuracy for c in own], axis=0), **style)
    left.set(xlabel="share of the second network", ylabel="test loss, nats", title=network)
    right.set(xlabel="share of the second network", ylabel="test accuracy, %")
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center", fontsize="small")
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"merging-{network}.png")
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    usual = [n for n in NETWORKS if n != "vit-wide"]
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=usual)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where trained networks are kept")
    parser.add_argument("--draw", type=Path, metavar="FOLDER", help="where pictures of the lines are written")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all lines")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data, every = digits(), []
    print(f"{len(data.x):,} images to train on, {len(data.test_x):,} to test; git re-basin: {', '.join(SPECIFIED)}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for network in options.networks:
            found = []
            for pair in (made(network, n, data, folder) for n in range(options.pairs)):
                if options.folder:
                    # What `gmnc align --inputs` reads.
                    np.savez(folder / f"{network}.npz", **{pair.name: pair.test}, labels=pair.labels)
                for line in curves(pair):
                    found.append(line)
                    print(f"  pair {pair.number}, {line.method}: {line.barrier:.3f}", file=sys.stderr, flush=True)
            print_table(network, found)
            if options.draw:
                draw(network, found, options.draw)
            every += found
    if options.json:
        options.json.write_text(json.dumps([{**asdict(c), "barrier": c.barrier} for c in every], indent=1))


if __name__ == "__main__":
    main()
