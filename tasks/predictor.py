"""A trained accuracy metanetwork as one file, with a check whether a network resembles its training networks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..backends.blocks import Blocks
from ..files.fields import integer, listed, mapping, number, parsed, plain, row, table
from ..ir import GmncError, LoadError
from ..metanets import GMN, header, load, save, statistics

__all__ = ["SHIPPED", "Prediction", "Predictor", "features", "fit_predictor", "token_counts"]

SHIPPED = Path(__file__).with_name("predictor.safetensors")
"""The predictor that comes with the package."""

_KEY = "gmnc.tasks.predictor"
_MARGIN, _UNKNOWN = 0.1, 0.1
_FEATURES = (
    "log parameters", "log neurons and other nodes", "depth", "log root mean square of the parameters",
    "log greatest parameter", "log spread within a tensor, on average",
)  # fmt: skip
# Messages show ten to the power of these.
_range, _depths = row(number(-300, 300), number(-300, 300)), row(number(0, 1e12), number(0, 1e12))
_HEADER = table(
    {
        "ranges": table({name: _depths if name == "depth" else _range for name in _FEATURES}),
        "op_tokens": listed(integer(-(2**63), 2**63 - 1)),
        "about": mapping(plain),
    }
)


@dataclass(frozen=True, slots=True)
class Prediction:
    """A predicted accuracy.

    Attributes:
        accuracy: Between 0 and 1.
        out_of_range: Features of the network outside the range of the training networks, in words.
    """

    accuracy: float
    out_of_range: tuple[str, ...]


@dataclass(frozen=True)
class Predictor:
    """Predicts the test accuracy of a network from its parameters.

    Attributes:
        model: An invariant GMN with one output, the logit of the accuracy.
        ranges: Minimum and maximum of each of `features` over the training networks.
        op_tokens: Hashed tokens of operators and roles in the training networks, see `gmnc.backends.op_tokens`.
        about: Description of the training data and metrics.
    """

    model: GMN
    ranges: dict[str, tuple[float, float]]
    op_tokens: frozenset[int]
    about: dict[str, Any]

    def __call__(self, graph: Blocks) -> Prediction:
        """Predict the accuracy of one network.

        Args:
            graph: Its tensors.

        Returns:
            The prediction.

        Raises:
            GmncError: The result is not finite.
        """
        with torch.no_grad():
            logit = self.model.eval()(graph)[0, 0]
        if not logit.isfinite():
            raise GmncError("the prediction is not finite: look for NaN, infinity or huge values in the parameters")
        return Prediction(float(torch.sigmoid(logit)), self.out_of_range(graph))

    def out_of_range(self, graph: Blocks) -> tuple[str, ...]:
        """Compare a network with the training networks.

        Args:
            graph: Tensors of one network.

        Returns:
            A description of each feature that is out of range.
        """
        found = []
        for name, value in features(graph).items():
            low, high = self.ranges[name]
            slack = _MARGIN * (high - low) + 1e-9
            if not low - slack <= value <= high + slack:
                log = name.startswith("log ")
                shown = [_readable(10**v if log else v) for v in (value, low, high)]
                found.append(f"{name.removeprefix('log ')} {shown[0]} (training: {shown[1]} to {shown[2]})")
        own = token_counts(graph)
        unknown = sum(count for token, count in own.items() if token not in self.op_tokens) / max(sum(own.values()), 1)
        if unknown > _UNKNOWN:
            found.append(f"{unknown:.0%} of its operator tokens never occurred in training")
        return tuple(found)

    def save(self, path: Path) -> None:
        """Write the file that `open` reads.

        Args:
            path: A ``.safetensors`` file.

        Raises:
            GmncError: The file cannot be written.
        """
        stored = {"ranges": self.ranges, "op_tokens": sorted(self.op_tokens), "about": self.about}
        save(self.model, path, {_KEY: json.dumps(stored)})

    @staticmethod
    def open(path: Path = SHIPPED) -> Predictor:
        """Read a predictor.

        Args:
            path: The file; by default the predictor shipped with gmnc.

        Returns:
            The predictor, on the CPU.

        Raises:
            LoadError: The file is missing or is not a predictor.
        """
        model, stored = load(path), header(path).get(_KEY)
        if stored is None:
            raise LoadError(f"{path}: a metanetwork, but not a predictor; `gmnc train accuracy --predictor` writes one")
        if (model.config.head, model.config.out_channels) != ("invariant", 1):
            raise LoadError(f"{path}: a metanetwork without one output per network, which a predictor needs")
        found = parsed(stored, _HEADER, str(path))
        ranges = {name: (low, high) for name, (low, high) in found["ranges"].items()}
        return Predictor(model, ranges, frozenset(found["op_tokens"]), found["about"])


def _readable(number: float) -> str:
    """The number to four digits: ``0.01235``, ``77,710``."""
    short = f"{number:.4g}"
    return f"{float(short):,.0f}" if 1000 <= abs(number) < 1e15 else short


def fit_predictor(model: GMN, members: Iterable[Blocks], about: Mapping[str, Any]) -> Predictor:
    """Make a predictor of a trained model and the ranges of its training networks."""
    rows: list[Mapping[str, float]] = []
    op_tokens: set[int] = set()
    for member in members:
        rows.append(features(member))
        op_tokens |= token_counts(member).keys()
    ranges = {name: (min(r[name] for r in rows), max(r[name] for r in rows)) for name in rows[0]}
    return Predictor(model, ranges, frozenset(op_tokens), dict(about))


def features(graph: Blocks) -> dict[str, float]:
    """Sizes of a network and its values; those whose names begin with ``log`` are logarithms to base 10."""
    numbers, *_ = statistics(graph)
    size = numbers[:, -1].exp() if len(numbers) else numbers.new_ones(1)
    mean, deviation = (numbers[:, i] if len(numbers) else numbers.new_zeros(1) for i in (0, 1))
    most = numbers[:, 2:7].abs().amax() if len(numbers) else 0.0
    square = (size * (mean.square() + deviation.square())).sum() / size.sum()
    found = (
        float(np.log10(float(size.sum()))),
        float(np.log10(max(graph.num_nodes, 1))),
        float(graph.nodes[:, 1].max()) if graph.num_nodes else 0.0,
        float(np.log10(float(square.sqrt()) + 1e-6)),
        float(np.log10(float(most) + 1e-6)),
        float((deviation + 1e-3).log10().mean()),
    )
    return dict(zip(_FEATURES, found, strict=True))


def token_counts(graph: Blocks) -> dict[int, int]:
    """Hashed operator tokens of the edge types, and the number of edge types with each."""
    ends = torch.cumsum(graph.op_bag_sizes, 0)
    tokens = graph.op_tokens.tolist()
    found: dict[int, int] = {}
    for bag, count in _counts(graph.type_op_bag.tolist()).items():
        end = int(ends[bag])
        for token in tokens[end - int(graph.op_bag_sizes[bag]) : end]:
            found[token] = found.get(token, 0) + count
    return found


def _counts(items: Sequence[int]) -> dict[int, int]:
    values, counts = np.unique(np.asarray(items, dtype=np.int64), return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))
