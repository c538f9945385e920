"""The loss along the straight line between two networks, before and after one is put in the order of the other.

At share t of the second network every parameter is (1 - t) times that of the first and t times that of the second one.
Networks that lie in one basin have no barrier between them (Frankle, Dziugaite, Roy, Carbin 2020; Entezari, Sedghi,
Saukh, Neyshabur 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..ir import GmncError, ParameterGraph
from ..testing.processes import NotRunnable
from ..testing.runtime import Network
from .probing import batches
from .proof import Feeds
from .similarity import Values

__all__ = ["POINTS", "Examples", "Line", "between", "examples", "line"]

POINTS = tuple((np.arange(11) / 10).tolist())
"""The shares of the second network at which the loss is computed."""

_SUM = 1e-3
"""How much the sum of probabilities may differ from 1."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Line:
    """Loss and accuracy along the line between two networks.

    Attributes:
        points: Shares of the second network.
        output: The output that was compared with the labels.
        loss: "cross-entropy", in nats, or "mean squared error".
        samples: On how many labels it was computed.
        before: The loss at each point between the networks as they are.
        after: The same after the alignment.
        accuracy_before: The share of labels that were predicted at each point; None if they are no classes.
        accuracy_after: The same after the alignment.
    """

    points: tuple[float, ...]
    output: str
    loss: str
    samples: int
    before: tuple[float, ...]
    after: tuple[float, ...]
    accuracy_before: tuple[float, ...] | None = None
    accuracy_after: tuple[float, ...] | None = None

    @property
    def barrier_before(self) -> float:
        """The largest excess of the loss over the straight line between the losses at the ends, before."""
        return self._barrier(self.before)

    @property
    def barrier_after(self) -> float:
        """The same after the alignment."""
        return self._barrier(self.after)

    @property
    def summary(self) -> str:
        """The numbers that matter, in one line or two."""
        middle = len(self.points) // 2
        text = (
            f"{self.loss} on {self.samples:,} labels: barrier {self.barrier_before:.4g} before, "
            f"{self.barrier_after:.4g} after; midpoint {self.before[middle]:.4g} before, {self.after[middle]:.4g} after"
        )
        if self.accuracy_before is None or self.accuracy_after is None:
            return f"{text} ({self.after[0]:.4g} and {self.after[-1]:.4g} at the ends)"
        ends = (100 * self.accuracy_after[0], 100 * self.accuracy_after[-1])
        return (
            f"{text}\naccuracy at the midpoint: {100 * self.accuracy_before[middle]:.2f} % before, "
            f"{100 * self.accuracy_after[middle]:.2f} % after ({ends[0]:.2f} % and {ends[1]:.2f} % at the ends)"
        )

    def to_json(self) -> dict[str, Any]:
        """The line as JSON data."""
        return {**asdict(self), "barrier_before": self.barrier_before, "barrier_after": self.barrier_after}

    def _barrier(self, loss: Sequence[float]) -> float:
        points = np.array(self.points)
        return float((np.array(loss) - (1 - points) * loss[0] - points * loss[-1]).max())


@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs of a network with labels of one of its outputs.

    Attributes:
        graph: The network's graph.
        feeds: Arrays by input name, for each run.
        labels: Integers, the classes, or floats, the targets.
        output: The output that they are labels of.
        axis: The axis of classes of that output; None for targets.
        probable: Whether the output holds probabilities, not logits.
    """

    graph: ParameterGraph
    feeds: Feeds
    labels: np.ndarray
    output: str
    axis: int | None
    probable: bool = False

    def measure(self, values: Values) -> tuple[float, float | None]:
        """Run the network with other parameters.

        Args:
            values: Parameters by name; its own where they are not given.

        Returns:
            Its loss, and its accuracy if the labels are classes.
        """
        found = _outputs(self.graph, values, self.feeds)[self.output]
        if self.axis is None:
            return float(np.square(found.reshape(self.labels.shape) - self.labels).mean()), None
        scores = np.moveaxis(found, self.axis, -1)
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(scores) if self.probable else scores - _log_sum(scores)
        chosen = np.take_along_axis(logs, self.labels[..., None], axis=-1)
        return float(-chosen.mean()), float((scores.argmax(axis=-1) == self.labels).mean())


def examples(
    graph: ParameterGraph, inputs: Mapping[str, np.ndarray] | None, labels: np.ndarray, output: str | None = None
) -> Examples:
    """Check that labels fit a network, which is run once for that.

    Args:
        graph: Its graph.
        inputs: Arrays by input name, samples along the first axis.
        labels: Integers, one class for each prediction: the shape of the output without its axis of classes (the second
            or the last one). Or floats of the shape of the output.
        output: The output that they are labels of; may be left out if they fit one output only.

    Returns:
        The examples.

    Raises:
        GmncError: Inputs or labels do not fit the network, or it does not run.
    """
    if graph.model is None:
        raise GmncError("a store holds no network to run: give the ONNX files to compute the loss")
    if not inputs:
        raise GmncError("labels need inputs: arrays by input name, in the same order of samples")
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iuf" or labels.size == 0 or not np.isfinite(labels).all():
        raise GmncError(
            f"labels are classes (integers) or targets (finite floats), at least one; these are of type {labels.dtype} "
            f"and shape {list(labels.shape)}"
        )
    feeds = batches(graph.model, inputs)
    try:
        found = _outputs(graph, {}, feeds)
    except NotRunnable as error:
        raise GmncError(f"the network does not run on the inputs: {error}") from error
    if output is not None and output not in found:
        raise GmncError(f"there is no output {output!r} of floats; the network has {', '.join(map(repr, found))}")
    names = list(found) if output is None else [output]
    axes = {n: _axes(found[n].shape, labels) for n in names}
    fitting = [n for n in names if axes[n]]
    if len(fitting) != 1 or len(axes[fitting[0]]) != 1:
        raise GmncError(_misfit(labels, {n: found[n].shape for n in names}, axes))
    name = fitting[0]
    [axis] = axes[name]
    if axis is None:
        return Examples(graph, feeds, labels.astype(np.float64), name, None)
    classes = found[name].shape[axis]
    if labels.min() < 0 or labels.max() >= classes:
        raise GmncError(
            f"the output {name!r} has {classes:,} classes, numbered from 0; labels are {labels.min()} to {labels.max()}"
        )
    return Examples(graph, feeds, labels.astype(np.int64), name, axis, _are_probabilities(found[name], axis))


def line(
    given: Examples, before: tuple[Values, Values], after: tuple[Values, Values],
    on_progress: Progress = lambda what, done, total: None,
) -> Line:  # fmt: skip
    """The loss along the line between two networks, before and after an alignment.

    Args:
        given: Inputs and labels of the first network.
        before: Parameters of both, as tensors of the first one.
        after: The same after the alignment.
        on_progress: Called with (activity, steps done, steps in total).

    Returns:
        Loss and accuracy at `POINTS`.

    Raises:
        GmncError: The network does not run with some of the parameters.
    """
    found: list[tuple[float, float | None]] = []
    try:
        for a, b in (before, after):
            for t in POINTS:
                on_progress("loss along the line", len(found), 2 * len(POINTS))
                found.append(given.measure(between(a, b, t)))
    except NotRunnable as error:
        raise GmncError(f"the network does not run on the line to the other one: {error}") from error
    loss, accuracy = [f[0] for f in found], [f[1] for f in found if f[1] is not None]
    half = len(POINTS)
    return Line(
        POINTS, given.output, "mean squared error" if given.axis is None else "cross-entropy", given.labels.size,
        tuple(loss[:half]), tuple(loss[half:]), tuple(accuracy[:half]) or None, tuple(accuracy[half:]) or None,
    )  # fmt: skip


def between(a: Values, b: Values, share: float) -> dict[str, np.ndarray]:
    """The network at a share of the second one on the line between two networks.

    Args:
        a: Parameters by name.
        b: Parameters of the same names and shapes.
        share: The share of the second network.

    Returns:
        Their weighted mean, in the types of the first network; integers are those of the first one.
    """
    made = {}
    for name, own in a.items():
        floats = own.dtype.kind == "f" or own.dtype.name == "bfloat16"
        mean = (1 - share) * np.asarray(own, np.float64) + share * np.asarray(b[name], np.float64) if floats else own
        made[name] = np.asarray(mean).astype(own.dtype)
    return made


def _outputs(graph: ParameterGraph, values: Values, feeds: Feeds) -> dict[str, np.ndarray]:
    """The outputs of floats of all runs together, float64, by name."""
    found = Network(graph).run(values, feeds)
    whole = {}
    for name, first in found[0].items():
        if first.dtype.kind == "f" and first.ndim:
            whole[name] = np.concatenate([np.asarray(each[name], np.float64) for each in found])
    return whole


def _axes(shape: tuple[int, ...], labels: np.ndarray) -> list[int | None]:
    """The axes of an output that may be that of classes; [None] if labels are targets that fit it."""
    if labels.dtype.kind == "f":
        return [None] if _squeezed(shape) == _squeezed(labels.shape) and shape[0] == len(labels) else []
    places = dict.fromkeys(a for a in (1, len(shape) - 1) if 0 < a < len(shape))
    return [a for a in places if shape[:a] + shape[a + 1 :] == labels.shape]


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)


def _misfit(labels: np.ndarray, shapes: Mapping[str, tuple[int, ...]], axes: Mapping[str, Sequence[int | None]]) -> str:
    """Why labels do not say which output they are of, or fit none."""
    told = ", ".join(f"{n!r} of shape {list(s)}" for n, s in shapes.items()) or "no output of floats"
    if sum(map(bool, axes.values())) > 1:
        return f"labels of shape {list(labels.shape)} fit several outputs: name one of {told}"
    if any(len(found) > 1 for found in axes.values()):
        return f"labels of shape {list(labels.shape)} do not say which axis of {told} holds the classes"
    if labels.dtype.kind == "f":
        return f"targets of shape {list(labels.shape)} fit none of the outputs on these inputs: {told}"
    return (
        f"labels of shape {list(labels.shape)} fit none of the outputs on these inputs: {told}; classes have the "
        "shape of the output without its axis of classes, and targets are floats"
    )


def _are_probabilities(scores: np.ndarray, axis: int) -> bool:
    return bool((scores >= 0).all() and (np.abs(scores.sum(axis=axis) - 1) <= _SUM).all())


def _log_sum(scores: np.ndarray) -> np.ndarray:
    """The logarithm of the sum of exponentials along the last axis."""
    from scipy.special import logsumexp

    return np.asarray(logsumexp(scores, axis=-1, keepdims=True))
