"""Aligning and pruning the networks of the tests, beside rebasin and Torch-Pruning.

    python benchmarks/peers.py [--networks NAME ...] [--json]

The networks are those of `tests/support/networks.py`, with random parameters, exported by torch. gmnc gets the ONNX
file, the others get the torch module and its example inputs; they are run only if their packages are installed.

* `gmnc align` and `rebasin` bring a network with other random parameters to the order of the first one. Change: the
  largest change of its outputs, relative to the largest output (of the file in ONNX Runtime, of the module in torch);
  a function is kept up to 1e-4. rebasin leaves BatchNorm's statistics to be recalculated from data: "kept*" is kept
  after that. Moved: how many parameters have another value; "unmoved" if none. Distance: the first network in a random
  order, aligned to itself: how far it remains, relative to its size; 0 is the best.
* `gmnc prune` and `Torch-Pruning` remove half of all channels and neurons, those with the smallest norms. Torch-Pruning
  is told which layers are the last ones, and leaves their outputs. A network counts if it runs, its outputs have the
  shapes they had, and it has fewer parameters. Left: the share of these that is left. Masked: the largest difference
  between the outputs of the pruned file and those of the original whose removed parameters are zeros, from the proof of
  `gmnc prune` and in torch for Torch-Pruning; "stat.": the masked original takes statistics over what is left.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import onnx_ir
import torch
from peers_masking import masked_original
from peers_networks import (
    NETWORKS,
    Inputs,
    Subject,
    arrays,
    change,
    has_statistics,
    loaded,
    moved,
    parameters,
    run_file,
    run_module,
    shapes,
    subject,
    together,
    with_batch_statistics,
)
from torch import nn

import gmnc
from gmnc.transforms import align, distance, prune

T = TypeVar("T", "Aligned", "Pruned")
KEPT = 1e-4
RATIO = 0.5


@dataclass(frozen=True, slots=True)
class Aligned:
    """How one network was brought to the order of another.

    Attributes:
        change: The largest relative change of an output; None if it failed.
        recalculated: The same where BatchNorm's statistics are recalculated before and after; None if there are none.
        moved: How many parameters have another value.
        distance: What is left between a network and itself in a random order; None if that failed.
        seconds: How long the first alignment took.
        failure: Why it failed, in a word.
    """

    change: float | None = None
    recalculated: float | None = None
    moved: int = 0
    distance: float | None = None
    seconds: float = 0.0
    failure: str = ""

    @property
    def verdict(self) -> str:
        if self.change is None:
            return "fails"
        if self.change <= KEPT:
            return "kept" if self.moved else "unmoved"
        return "kept*" if self.recalculated is not None and self.recalculated <= KEPT else "changed"


@dataclass(frozen=True, slots=True)
class Pruned:
    """What is left of a network.

    Attributes:
        runs: Whether it runs, with outputs of the same shapes and fewer parameters.
        left: The share of parameters that is left.
        masked: The largest relative difference from the masked original; None if it was not compared.
        equal: Whether that is rounding.
        statistic: Whether the masked original takes statistics over what is left.
        seconds: How long it took.
        failure: Why it does not run, in a few words.
    """

    runs: bool = False
    left: float | None = None
    masked: float | None = None
    equal: bool = False
    statistic: bool = False
    seconds: float = 0.0
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One network; None stands for a package that is not installed."""

    network: str
    parameters: int
    align: Aligned
    rebasin: Aligned | None
    prune: Pruned
    torch_pruning: Pruned | None


def gmnc_align(what: Subject, folder: Path) -> Aligned:
    a, b, scrambled = what.paths
    start = time.perf_counter()
    found = align(a, b)
    seconds = time.perf_counter() - start
    ordered = folder / "ordered.onnx"
    gmnc.write(found.networks.b, found.values, ordered)
    changed = change(run_file(b, what.examples), run_file(ordered, what.examples))
    back = align(a, scrambled)
    gmnc.write(back.networks.b, back.values, ordered)
    return Aligned(changed, None, moved(loaded(b), found.values), distance(loaded(a), loaded(ordered)), seconds)


def rebasin_align(what: Subject) -> Aligned:
    from rebasin import PermutationCoordinateDescent

    a, b, scrambled = map(copy.deepcopy, what.modules)
    before, outputs = arrays(b), run_module(b, what.examples)
    every = together(what.examples) if has_statistics(b) else []
    recalculated = run_module(with_batch_statistics(b), every)
    start = time.perf_counter()
    torch.manual_seed(0)
    PermutationCoordinateDescent(a, b, what.examples[0][0], logging_level="error").rebasin()
    seconds = time.perf_counter() - start
    changed = change(outputs, run_module(b, what.examples))
    again = change(recalculated, run_module(with_batch_statistics(b), every)) if every else None
    PermutationCoordinateDescent(a, scrambled, what.examples[0][0], logging_level="error").rebasin()
    return Aligned(changed, again, moved(before, arrays(b)), distance(arrays(a), arrays(scrambled)), seconds)


def gmnc_prune(what: Subject) -> Pruned:
    start = time.perf_counter()
    found = prune(what.paths[0], RATIO, measure=False)
    seconds = time.perf_counter() - start
    small = onnx_ir.to_proto(found.model).SerializeToString()
    before, after = (run_file(each, what.examples) for each in (what.paths[0], small))
    fewer = found.after.parameters < found.before.parameters
    return Pruned(
        shapes(before) == shapes(after) and fewer, found.after.parameters / found.before.parameters, found.proof.error,
        found.proof.holds, bool(found.proof.statistics), seconds,
    )  # fmt: skip


def torch_prune(what: Subject) -> Pruned:
    import torch_pruning

    module = copy.deepcopy(what.modules[0])
    inputs = what.examples[0]
    size, before = parameters(module), run_module(module, what.examples)
    start = time.perf_counter()
    pruner = torch_pruning.pruner.BasePruner(
        module, inputs, importance=torch_pruning.importance.GroupMagnitudeImportance(p=2), pruning_ratio=RATIO,
        ignored_layers=output_layers(module, inputs),
    )  # fmt: skip
    pruner.step()
    seconds = time.perf_counter() - start
    left = parameters(module)
    after = run_module(module, what.examples)
    same = shapes(before) == shapes(after)
    failure = "" if same and left < size else "outputs of other shapes" if not same else "removes nothing"
    if failure:
        return Pruned(failure=failure)
    masked, statistic = masked_original(what.modules[0], module, inputs, pruner.pruning_history())
    error = change(run_module(masked, what.examples), after)
    return Pruned(True, left / size, error, error <= KEPT, statistic, seconds)


_PASSED_ON = ("TBackward0", "TransposeBackward0", "PermuteBackward0", "ViewBackward0", "ExpandBackward0")


def output_layers(module: nn.Module, inputs: Inputs) -> list[nn.Module | nn.Parameter]:
    """The layers, or parameters outside of layers, of which nothing with a weight matrix follows."""
    owner = {id(p): m for m in module.modules() for p in m.parameters(recurse=False)}
    found: dict[int, nn.Module | nn.Parameter] = {}
    queue, seen = [module(*inputs).grad_fn], set()
    while queue:
        node = queue.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        after = [f for f, _ in node.next_functions]
        weights = [w for f in after if (w := _weight(f)) is not None and w.dim() > 1]
        for weight in weights:
            layer = owner[id(weight)]
            found[id(weight)] = layer if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd) else weight
        if not weights:
            queue += after
    return list(found.values())


def _weight(node: torch.autograd.graph.Node | None) -> nn.Parameter | None:
    """The parameter that a node of the tape hands on."""
    while node is not None and node.name() in _PASSED_ON:
        node = node.next_functions[0][0]
    found = getattr(node, "variable", None)
    return found if isinstance(found, nn.Parameter) else None


def tried(made: type[T], work: Callable[[], T]) -> T:
    """The result, or the failure."""
    try:
        with quiet():
            return work()
    except Exception as error:
        return made(failure=type(error).__name__)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing of what others print is shown."""
    logging.disable(logging.WARNING)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


def measured(name: str, folder: Path) -> Row:
    """All four on one network."""
    what = subject(name, folder)
    return Row(
        name,
        parameters(what.modules[0]),
        tried(Aligned, lambda: gmnc_align(what, folder)),
        tried(Aligned, lambda: rebasin_align(what)) if find_spec("rebasin") else None,
        tried(Pruned, lambda: gmnc_prune(what)),
        tried(Pruned, lambda: torch_prune(what)) if find_spec("torch_pruning") else None,
    )


HEAD = (f"{'':<17}{'':>8}  {'gmnc align':<36}{'rebasin':<36}{'gmnc prune':<31}Torch-Pruning\n"
        f"{'network':<17}{'param.':>8}  " + 2 * f"{'change':<18}{'moved':>7}{'distance':>9}  "
        + 2 * f"{'left':<7}{'masked':<24}").rstrip()  # fmt: skip


def _aligned(cell: Aligned | None) -> str:
    if cell is None or cell.change is None:
        return f"{'not installed' if cell is None else cell.failure:<36}"
    changed = f"{cell.verdict} ({cell.change:.1e})"
    return f"{changed:<18}{cell.moved:>7,}{cell.distance:>9.2g}  "


def _pruned(cell: Pruned | None) -> str:
    if cell is None or not cell.runs:
        return f"{'not installed' if cell is None else cell.failure or 'does not run':<31}"
    left = f"{100 * (cell.left or 0):.0f} %"
    verdict = "not compared" if cell.masked is None else f"{'equal' if cell.equal else 'DIFFERS'} ({cell.masked:.1e})"
    return f"{left:<7}{verdict + (' stat.' if cell.statistic else ''):<24}"


def line(row: Row) -> str:
    cells = _aligned(row.align), _aligned(row.rebasin), _pruned(row.prune), _pruned(row.torch_pruning)
    return f"{row.network:<17}{row.parameters:>8,}  {''.join(cells)}".rstrip()


def totals(rows: Sequence[Row]) -> list[str]:
    """What holds for how many networks."""
    found = []
    for name, aligned in (("gmnc align", [r.align for r in rows]), ("rebasin", [r.rebasin for r in rows])):
        cells = [c for c in aligned if c is not None]
        counts = {v: sum(c.verdict == v for c in cells) for v in ("kept", "kept*", "changed", "unmoved", "fails")}
        back = sum(c.distance is not None and c.distance < KEPT for c in cells)
        found.append(
            f"{name}: function kept and parameters moved {counts['kept']} of {len(cells)}, "
            f"kept once BatchNorm's statistics are recalculated {counts['kept*']}, changed {counts['changed']}, "
            f"nothing moved {counts['unmoved']}, fails {counts['fails']}; planted order found {back}"
            if cells else f"{name}: not installed"
        )  # fmt: skip
    for name, pruned in (("gmnc prune", [r.prune for r in rows]), ("Torch-Pruning", [r.torch_pruning for r in rows])):
        cut = [c for c in pruned if c is not None]
        text = f"{name}: runs {sum(c.runs for c in cut)} of {len(cut)}" if cut else f"{name}: not installed"
        if cut:
            equal = [c for c in cut if c.runs and c.equal]
            text += f", equals the masked original {len(equal)}"
            text += f", of which {sum(c.statistic for c in equal)} with a statistic over what is left"
        found.append(text)
    return found


def versions() -> str:
    found = []
    for package in ("torch", "onnxruntime", "rebasin", "torch-pruning"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    return ", ".join(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS), metavar="NAME",
                        help=" ".join(NETWORKS))  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print all rows as JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if not args.json:
        print(f"{versions()}\n\n{HEAD}", flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.networks:
            rows.append(measured(name, Path(folder)))
            if not args.json:
                print(line(rows[-1]), flush=True)
    print(json.dumps([asdict(r) for r in rows]) if args.json else "\n" + "\n".join(totals(rows)))


if __name__ == "__main__":
    main()
