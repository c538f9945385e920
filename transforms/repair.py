"""Repair of a merged network: the statistics of its channels, which averaging shrinks, are set from data.

Running means and variances of normalisations are computed again. Where a layer has none, each channel is scaled and
shifted such that its mean and standard deviation are the weighted means of those of the merged networks (Jordan,
Sedghi, Saukh, Entezari, Neyshabur 2023, sections 3 and 4). One layer after the other, in the order of computation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..frontend import label_values
from ..ir import GmncError, ParameterGraph
from .correspondence import first_difference
from .probing import probed
from .proof import Feeds
from .repair_sites import Affine, Running, Skipped, sites
from .similarity import Values

__all__ = ["Moments", "Repaired", "Repairer"]

_TOLERANCE = 1e-2
"""What a standard deviation may differ by from the one that was meant, relative to it."""
_DEAD = 1e-6
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Statistics of the channels of a value.

    Attributes:
        channels: int64 [channels], ascending.
        mean: float64 [channels].
        deviation: float64 [channels], standard deviations.
    """

    channels: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray


@dataclass(frozen=True, slots=True)
class Repaired:
    """A network whose statistics were set from data.

    Attributes:
        values: Its parameters by name.
        recomputed: Normalisations whose running mean and variance were computed again.
        rescaled: Parameters whose channels were scaled and shifted.
        skipped: Layers that stay as they are, with the reason.
        error: The largest difference of a mean or standard deviation from what was meant, in standard deviations, when
            the repaired network ran on the data.
    """

    values: Values
    recomputed: tuple[str, ...]
    rescaled: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    error: float

    @property
    def summary(self) -> str:
        """What was done in one line."""
        parts = [
            f"{len(names):,} {what}"
            for names, what in ((self.recomputed, "running statistics recomputed"), (self.rescaled, "layers rescaled"))
            if names
        ]
        left = f"; {len(self.skipped):,} layers left as they are" if self.skipped else ""
        return (
            f"repaired: {', '.join(parts) or 'nothing to set'}{left}; ONNX Runtime: the statistics differ from those "
            f"meant by at most {self.error:.2g} standard deviations"
        )

    def to_json(self) -> dict[str, Any]:
        """What was done as JSON data, without tensors."""
        return {
            "recomputed": list(self.recomputed), "rescaled": list(self.rescaled),
            "skipped": [s.to_json() for s in self.skipped], "error": self.error,
        }  # fmt: skip


class Repairer:
    """Repairs networks of one architecture on the same data.

    Args:
        graph: The graph of the networks.
        feeds: Arrays by input name, for each run.
        dims: Sizes of symbolic dimensions by name.

    Raises:
        GmncError: The network has another structure at the sizes of the data.
    """

    def __init__(self, graph: ParameterGraph, feeds: Feeds, dims: Mapping[str, int] | None = None) -> None:
        labelled = label_values(graph.model, dims=dims, inputs={n: v.shape for n, v in feeds[0].items()})
        if (reason := first_difference(graph, labelled.graph)) is not None:
            raise GmncError(f"{graph.name} has another structure at the sizes of the data: {reason}")
        self.graph, self.feeds = graph, feeds
        self.sites, self.skipped = sites(labelled)

    def moments(self, values: Values, of: Sequence[Running | Affine] | None = None) -> list[Moments]:
        """Statistics of a network on the data.

        Args:
            values: Its parameters.
            of: The layers; all by default.

        Returns:
            The statistics of the value of each layer.

        Raises:
            NotRunnable: ONNX Runtime does not run the network.
        """
        wanted = self.sites if of is None else of
        by_value: dict[str, list[int]] = {}
        for i, site in enumerate(wanted):
            by_value.setdefault(site.value, []).append(i)
        found: dict[int, Moments] = {}
        for name, arrays in probed(self.graph, values, list(by_value), self.feeds) if by_value else ():
            found.update({i: _moments(wanted[i].channels, arrays) for i in by_value[name]})
        return [found[i] for i in range(len(wanted))]

    def repaired(
        self,
        values: Values,
        parts: Sequence[Sequence[Moments]],
        weights: Sequence[float],
        on_progress: Progress = lambda what, done, total: None,
    ) -> Repaired:
        """Set the statistics of a network.

        Args:
            values: Its parameters.
            parts: Statistics of the networks that it was merged from, of all layers.
            weights: How much each of them counts; they add up to 1.
            on_progress: Called with what is done.

        Returns:
            The repaired network.

        Raises:
            NotRunnable: ONNX Runtime does not run the network.
        """
        failed: list[int] = []
        while True:
            new = dict(values)
            goals: dict[int, Moments] = {}
            for i, site in enumerate(self.sites):
                on_progress("repairing", i, len(self.sites))
                if i in failed:
                    continue
                [now] = self.moments(new, [site])
                if isinstance(site, Running):
                    _recompute(new, site, now)
                else:
                    goals[i] = _goal(now, [p[i] for p in parts], weights)
                    _rescale(self.graph.num_nodes, new, site, now, goals[i])
            made = self.moments(new)
            errors = {
                i: _error(site, made[i], new, goals.get(i)) for i, site in enumerate(self.sites) if i not in failed
            }
            wrong = [i for i, e in errors.items() if not e <= _TOLERANCE]
            if not wrong:
                break
            # What comes behind a layer that does not do what is meant may be right without it.
            failed.append(wrong[0])
        kept = [s for i, s in enumerate(self.sites) if i not in failed]
        skipped = [Skipped(self.sites[i].name, "its values do not follow its parameters") for i in failed]
        return Repaired(
            new,
            tuple(s.name for s in kept if isinstance(s, Running)),
            tuple(s.name for s in kept if isinstance(s, Affine)),
            (*self.skipped, *skipped),
            max(errors.values(), default=0.0),
        )


def _moments(channels: np.ndarray, arrays: Sequence[np.ndarray]) -> Moments:
    """Mean and standard deviation over all entries of each channel in all runs."""
    names, which = np.unique(channels, return_inverse=True)
    which = which.reshape(channels.shape)
    count, total, squares = np.zeros((3, len(names)))
    for array in arrays:
        _add(count, which, np.ones(array.shape))
        _add(total, which, array)
    mean = total / count
    for array in arrays:
        _add(squares, which, np.square(np.asarray(array, np.float64) - mean[which]))
    return Moments(names, mean, np.sqrt(squares / count))


def _add(sums: np.ndarray, which: np.ndarray, array: np.ndarray) -> None:
    """Add the entries of an array to the sums of their channels."""
    axes = tuple(a for a, n in enumerate(which.shape) if n == 1)
    np.add.at(sums, which.reshape(-1), np.asarray(array, np.float64).sum(axis=axes).reshape(-1))


def _goal(now: Moments, parts: Sequence[Moments], weights: Sequence[float]) -> Moments:
    """The weighted means of statistics; channels that are or were constant are only shifted."""
    mean = sum(w * p.mean for w, p in zip(weights, parts, strict=True))
    deviation = sum(w * p.deviation for w, p in zip(weights, parts, strict=True))
    alive = (now.deviation > _DEAD * np.abs(now.mean)) & (deviation > 0) & (now.deviation > 0)
    return Moments(now.channels, np.asarray(mean), np.where(alive, deviation, now.deviation))


def _recompute(values: dict[str, np.ndarray], site: Running, now: Moments) -> None:
    for name, made in ((site.mean, now.mean), (site.variance, now.deviation**2)):
        values[name] = made.astype(values[name].dtype).reshape(values[name].shape)


def _rescale(num_nodes: int, values: dict[str, np.ndarray], site: Affine, now: Moments, goal: Moments) -> None:
    factor, old, new = np.ones(num_nodes), np.zeros(num_nodes), np.zeros(num_nodes)
    factor[now.channels] = goal.deviation / np.where(now.deviation > 0, now.deviation, 1)
    factor[now.channels[now.deviation == 0]] = 1
    old[now.channels], new[now.channels] = now.mean, goal.mean
    for block in (*site.factors, site.shift):
        name, at = block.view.name, block.dst[:, :, None, None]
        read = block.view.read(np.ascontiguousarray(values[name])).astype(np.float64)
        made = (read - old[at]) * factor[at] + new[at] if block is site.shift else read * factor[at]
        tensor = np.array(values[name], order="C")
        block.view.write(tensor, made.astype(tensor.dtype))
        values[name] = tensor


def _error(site: Running | Affine, made: Moments, values: Values, goal: Moments | None) -> float:
    """How far statistics are from what was meant, in standard deviations; channels that never change do not count."""
    if isinstance(site, Running):
        mean = np.asarray(values[site.mean], np.float64).reshape(-1)
        deviation = np.sqrt(np.asarray(values[site.variance], np.float64).reshape(-1))
    else:
        assert goal is not None
        mean, deviation = goal.mean, goal.deviation
    alive = deviation > _DEAD * np.maximum(np.abs(mean), 1)
    if not alive.any():
        return 0.0
    difference = np.maximum(np.abs(made.mean - mean), np.abs(made.deviation - deviation))
    return float((difference[alive] / deviation[alive]).max())
