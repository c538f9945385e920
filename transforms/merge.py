"""`merge`: average the parameters of networks of one architecture, each put in the order of the first one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from ..ir import GmncError, ParameterGraph
from .align import Alignment, Criterion, Progress, Source, align, compiled
from .averages import Method, average
from .correspondence import correspondence, difference
from .probing import batches
from .repair import Repaired, Repairer
from .similarity import Values

__all__ = ["Merged", "Method", "merge"]


@dataclass(frozen=True, slots=True)
class Merged:
    """A network merged from several.

    Attributes:
        graph: The graph of the first one, into whose model the parameters are written.
        values: The merged parameters by name.
        alignments: Of every further network; none if they were not aligned.
        repaired: How statistics were set from data, if they were; `values` are those after it.
    """

    graph: ParameterGraph
    values: Values
    alignments: tuple[Alignment, ...]
    repaired: Repaired | None = None

    @property
    def summary(self) -> str:
        """What was done in one line."""
        if not self.alignments:
            return "merged as they are"
        moved = sum(a.moved for a in self.alignments)
        return f"merged after {moved:,} neurons moved" if moved else "merged; the networks were in one order already"

    def to_json(self) -> dict[str, Any]:
        """What was done as JSON data."""
        return {
            "alignments": [a.to_json() for a in self.alignments], "tensors": sorted(self.values),
            "repaired": None if self.repaired is None else self.repaired.to_json(),
        }  # fmt: skip


def merge(
    models: Sequence[Source],
    *,
    weights: Sequence[float] | None = None,
    method: Method = "mean",
    base: Source | None = None,
    aligned: bool = True,
    kinds: Sequence[str] = ("permutation",),
    by: Criterion = "weights",
    inputs: Mapping[str, np.ndarray] | None = None,
    labels: np.ndarray | None = None,
    output: str | None = None,
    repair: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
    on_progress: Progress | None = None,
    **options: Any,
) -> Merged:
    """Merge networks of one architecture into one.

    Args:
        models: At least two ONNX models, paths or graphs; the others are put in the order of the first one.
        weights: A weight per network, by default equal ones. For "mean" and "slerp" they are divided by their sum; for
            "task-arithmetic" and "ties" each scales what its network adds to the base.
        method: "mean": the weighted mean of all parameters. "slerp": along the arc between two tensors, of two networks
            (Shoemake 1985). "task-arithmetic": the base plus the weighted differences to it (Ilharco et al. 2023).
            "ties": the same with the largest differences only, of those that agree in sign (Yadav et al. 2023).
        base: The network that the models were fine-tuned from, for the last two methods.
        aligned: Whether to align the networks first.
        kinds: Kinds of symmetries to align by, see `align`.
        by: What neurons are matched by, see `align`.
        inputs: Arrays by input name for activations, and for the checks in ONNX Runtime.
        labels: Labels of `inputs`, for the loss along the line to each further network, see `align`.
        output: The output that they are labels of, see `align`.
        repair: Arrays by input name, samples along the first axis, from which the statistics of the merged network's
            channels are set: running means and variances, and scale and shift of layers that have none (`Repairer`).
        seed: Seed of everything random.
        on_progress: Called with (activity, steps done, steps in total).
        **options: Options of `gmnc.compile`; its option `inputs` is called `shapes` here.

    Returns:
        The merged parameters; `gmnc.write(merged.graph, merged.values, path)` writes them into the first model.

    Raises:
        GmncError: The architectures differ, the method does not fit what is given, or a network does not run on the
            data for repair.
    """
    weights = _checked(models, weights, method, base)
    if labels is not None and not aligned:
        raise GmncError("the loss along the line is computed by the alignment: merge with alignment, or without labels")
    graphs = [compiled(m, **options) for m in models]
    first = graphs[0]
    reference, alignments, parts = None, [], []
    for graph in [*graphs[1:], *([] if base is None else [compiled(base, **options)])]:
        if aligned:
            made = align(
                first, graph, kinds=kinds, by=by, inputs=inputs, labels=labels, output=output, seed=seed,
                on_progress=on_progress, **options,
            )  # fmt: skip
            alignments.append(made)
            reference, own = made.reference, made.aligned
        else:
            networks = correspondence(first, graph)
            if networks is None:
                raise GmncError(
                    f"{first.name} and {graph.name} have different architectures: {difference(first, graph)}"
                )
            reference, own = networks.values()
        parts.append(own)
    assert reference is not None
    start = None if base is None else parts.pop()
    every = [reference, *parts]
    merged = {
        n: average(method, [v[n] for v in every], weights, None if start is None else start[n]) for n in reference
    }
    repaired = None
    if repair is not None:
        endpoints = every if start is None else [*every, start]
        shares = weights if start is None else [*weights, 1 - sum(weights)]
        repaired = _repaired(first, merged, endpoints, shares, repair, on_progress, options)
    return Merged(first, merged if repaired is None else repaired.values, tuple(alignments), repaired)


def _repaired(
    graph: ParameterGraph, merged: Values, endpoints: Sequence[Values], shares: Sequence[float],
    data: Mapping[str, np.ndarray], on_progress: Progress | None, options: Mapping[str, Any],
) -> Repaired:  # fmt: skip
    """The merged network with its statistics set from data."""
    if graph.model is None:
        raise GmncError("a store holds no network to run: merge the ONNX files to repair the result")
    repairer = Repairer(graph, batches(graph.model, data), options.get("dims"))
    report = on_progress or (lambda what, done, total: None)
    return repairer.repaired(merged, [repairer.moments(v) for v in endpoints], shares, report)


def _checked(
    models: Sequence[Source], weights: Sequence[float] | None, method: str, base: Source | None
) -> list[float]:
    """The weights; raises `GmncError` if the options do not fit each other."""
    if method not in get_args(Method):
        raise GmncError(f"there is no method {method!r}: choose {', '.join(get_args(Method))}")
    if len(models) < 2:
        raise GmncError("merging takes at least two networks")
    if method == "slerp" and len(models) != 2:
        raise GmncError(f"slerp merges two networks, not {len(models)}; use the mean, or merge them one by one")
    if (method in ("task-arithmetic", "ties")) != (base is not None):
        raise GmncError(
            "task-arithmetic and ties need the base that the networks were fine-tuned from, others take none"
        )
    found = [1.0] * len(models) if weights is None else [float(w) for w in weights]
    if len(found) != len(models) or not np.isfinite(found).all():
        raise GmncError(f"{len(models)} networks need as many finite weights, not {found}")
    if base is None and not sum(found) > 0:
        raise GmncError(f"the weights {found} have no positive sum")
    return found if base is not None else [w / sum(found) for w in found]
