"""Accuracy of networks that were pruned, at once and after two epochs of training, beside Torch-Pruning.

    python benchmarks/pruning.py [--networks mlp vgg ...] [--ratios 0.25 0.5] [--seeds 0 1] [--folder F] [--json FILE]

Networks that classify digits (`merging_networks.py`) are trained and pruned. gmnc gets the exported ONNX file;
Torch-Pruning, if it is installed, gets the torch module, which is exported after pruning. From there on both are ONNX
files and treated by the same code: they are run in ONNX Runtime on images that were not trained on, trained for two
epochs on the same batches (`trainable.py`; AdamW, and the largest learning rate that the network was trained with), and
run again. The numbers are means over the seeds; the last column is the mean difference from Torch-Pruning, in points,
and its standard error.

What is the same: the share of each layer's channels, neurons and features of every head that leaves (the last layer's
outputs and the number of heads stay), a whole residual stream at once; and the criterion, the smallest sum of squares
of all weights and biases that lead to a channel or away from it, with those of normalisations. What is not:

* gmnc also counts kernels of depthwise convolutions, scales and shifts of GroupNorm, and position embeddings, which
  Torch-Pruning leaves out;
* gmnc picks the features of each head, and the channels of each group of a GroupNorm, by themselves, where
  Torch-Pruning removes the same ones of all.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import torch
import torch.nn.functional as F
from merging_networks import NETWORKS, Digits, digits, export, trained
from onnx import numpy_helper
from pruning_peers import installed, torch_pruned
from torch import nn
from trainable import OnnxModule

import gmnc
from gmnc.frontend.inference.shapes import infer
from gmnc.transforms.pruning.costs import macs

EPOCHS, BATCH = 2, 100


@dataclass(frozen=True, slots=True)
class Result:
    """A pruned network.

    Attributes:
        network: The architecture.
        seed: The seed of its training.
        ratio: The share that was removed; 0 for the network as it was.
        tool: What removed it.
        parameters: How many are left.
        macs: Multiply-accumulates for one image.
        accuracy: The share of images that are classified correctly.
        tuned: The same after training on.
        seconds: How long pruning took.
        failure: Why there is none, in a word.
    """

    network: str
    seed: int
    ratio: float
    tool: str
    parameters: int = 0
    macs: int = 0
    accuracy: float = 0.0
    tuned: float = 0.0
    seconds: float = 0.0
    failure: str = ""


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained network as a file and as a module, and its images."""

    network: str
    seed: int
    path: Path
    net: nn.Module
    data: Digits

    @property
    def names(self) -> list[str]:
        """The names of its trained parameters."""
        return [n for n, _ in self.net.named_parameters()]


def subject(network: str, seed: int, data: Digits, folder: Path) -> Subject:
    """A network, trained if its file is not there."""
    path = folder / f"{network}-{seed}.onnx"
    if not path.exists():
        export(network, trained(network, seed, data), data, path)
    net = NETWORKS[network].make().eval()
    own = net.state_dict()
    for tensor in onnx.load(path).graph.initializer:
        if tensor.name in own:
            own[tensor.name].copy_(torch.as_tensor(numpy_helper.to_array(tensor).copy()))
    return Subject(network, seed, path, net, data)


def pruned_by_gmnc(what: Subject, ratio: float) -> tuple[onnx.ModelProto, float]:
    """The file, and the seconds that it took, with the proof."""
    start = time.perf_counter()
    found = gmnc.prune(what.path, ratio, measure=False)
    seconds = time.perf_counter() - start
    return onnx_ir.to_proto(found.model), seconds


def pruned_by_torch_pruning(what: Subject, ratio: float) -> tuple[onnx.ModelProto, float]:
    """The file that the pruned module is exported to, and the seconds of pruning."""
    net = copy.deepcopy(what.net)
    start = time.perf_counter()
    torch_pruned(net, what.data.x[:2], ratio)
    seconds = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pruned.onnx"
        export(what.network, net, what.data, path)
        return onnx.load(path), seconds


TOOLS: dict[str, Callable[[Subject, float], tuple[onnx.ModelProto, float]]] = {
    "gmnc": pruned_by_gmnc,
    "Torch-Pruning": pruned_by_torch_pruning,
}


def accuracy(model: onnx.ModelProto, what: Subject) -> float:
    """The share of test images that are classified correctly, in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    [logits] = session.run(None, {session.get_inputs()[0].name: what.data.test_x.numpy()})
    return float((np.asarray(logits).argmax(1) == what.data.test_y.numpy()).mean())


def tuned(model: onnx.ModelProto, what: Subject) -> onnx.ModelProto:
    """The model after two epochs of training on an order of the data that depends on the seed alone."""
    recipe = NETWORKS[what.network]
    net = OnnxModule(model, what.names).train()
    x, y = what.data.x, what.data.y
    steps = len(x) // BATCH
    optimizer = torch.optim.AdamW(net.parameters(), recipe.rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, total_steps=EPOCHS * steps)
    generator = torch.Generator().manual_seed(what.seed)
    for part in (p for _ in range(EPOCHS) for p in torch.randperm(len(x), generator=generator).split(BATCH)[:steps]):
        optimizer.zero_grad()
        F.cross_entropy(net(x[part]), y[part]).backward()
        optimizer.step()
        schedule.step()
    return net.written()


def parameters(model: onnx.ModelProto, what: Subject) -> int:
    return sum(math.prod(t.dims) for t in model.graph.initializer if t.name in what.names)


def multiply_accumulates(model: onnx.ModelProto, what: Subject) -> int:
    """Those for one image."""
    own = onnx_ir.from_proto(model)
    return macs(own, infer(own, {}, {str(own.graph.inputs[0].name): tuple(what.data.x[:1].shape)}))


def measured(model: onnx.ModelProto, what: Subject, ratio: float, tool: str, seconds: float) -> Result:
    """The costs and accuracies of a model."""
    return Result(
        what.network, what.seed, ratio, tool, parameters(model, what), multiply_accumulates(model, what),
        accuracy(model, what), accuracy(tuned(model, what), what), seconds,
    )  # fmt: skip


def results(what: Subject, ratios: Sequence[float], tools: Sequence[str]) -> Iterator[Result]:
    """The network as it is, and pruned by each tool."""
    yield measured(onnx.load(what.path), what, 0, "as trained", 0)
    for ratio in ratios:
        for tool in tools:
            try:
                model, seconds = TOOLS[tool](what, ratio)
            except Exception as error:
                yield Result(what.network, what.seed, ratio, tool, failure=type(error).__name__)
                continue
            yield measured(model, what, ratio, tool, seconds)


HEAD = (f"{'network':<11}{'ratio':>6}  {'tool':<14}{'parameters':>11}{'MACs':>12}{'at once %':>11}{'tuned %':>9}"
        f"{'s':>7}   difference")  # fmt: skip


def table(found: Sequence[Result]) -> Iterator[str]:
    """A row per ratio and tool of one network, means over the seeds."""
    for ratio, tool in dict.fromkeys((r.ratio, r.tool) for r in found):
        own, others = (
            {r.seed: r for r in found if r.ratio == ratio and (r.tool == tool) is same and not r.failure}
            for same in (True, False)
        )
        head = f"{found[0].network:<11}{f'{100 * ratio:.0f} %' if ratio else '':>6}  {tool:<14}"
        if not own:
            failures = {r.failure for r in found if r.ratio == ratio and r.tool == tool}
            yield f"{head}{', '.join(sorted(failures))}"
            continue
        mean = {n: statistics.mean(getattr(r, n) for r in own.values())
                for n in ("parameters", "macs", "accuracy", "tuned", "seconds")}  # fmt: skip
        apart = [100 * (own[s].tuned - others[s].tuned) for s in own.keys() & others.keys()] if tool == "gmnc" else []
        yield (
            f"{head}{mean['parameters']:>11,.0f}{mean['macs']:>12,.0f}{100 * mean['accuracy']:>11.1f}"
            f"{100 * mean['tuned']:>9.1f}{mean['seconds']:>7.1f}{_difference(apart)}"
        )


def _difference(apart: Sequence[float]) -> str:
    if not apart:
        return ""
    error = f" ± {statistics.stdev(apart) / math.sqrt(len(apart)):.1f}" if len(apart) > 1 else ""
    return f"   {statistics.mean(apart):+.1f}{error}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--ratios", nargs="+", type=float, default=[0.25, 0.5, 0.75])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--folder", type=Path, help="where trained networks are kept, also those of merging.py")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results of all seeds")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    data, every = digits(), []
    tools = [t for t in TOOLS if t == "gmnc" or installed()]
    print(f"{len(data.x):,} images to train on, {len(data.test_x):,} to test; "
          f"Torch-Pruning {installed() or 'is not installed'}\n\n{HEAD}", flush=True)  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for network in options.networks:
            found = []
            for seed in options.seeds:
                for result in results(subject(network, seed, data, folder), options.ratios, tools):
                    found.append(result)
                    print(f"  seed {seed}, {result.ratio}, {result.tool}: {100 * result.tuned:.1f} %", file=sys.stderr)
            print("\n".join(table(found)), flush=True)
            every += found
    if options.json:
        options.json.write_text(json.dumps([asdict(r) for r in every], indent=1))


if __name__ == "__main__":
    main()
