"""Changes to networks of the zoo: those that alter the output, and those that do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.exports import HOWS, How, exported, marks
from support.networks import NETWORKS

from gmnc.testing import with_values

__all__ = ["DIFFERENT", "SAME", "Change", "by_change", "changed", "reordered", "rows", "transposition"]

Tensors = Mapping[str, np.ndarray]
PLAIN: tuple[How, ...] = ("dynamo", "torchscript")


@dataclass(frozen=True)
class Change:
    """edit: new tensors from those of the torch module, by name. hows: exports that have these tensors."""

    network: str
    edit: Callable[[Tensors], Tensors]
    hows: Sequence[How] = HOWS


def reordered(axes: Mapping[str, int], order: Sequence[int]) -> Callable[[Tensors], Tensors]:
    """Entries along an axis of each of these tensors, as far as the export has them, in another order."""
    return lambda t: {name: t[name].take(order, axis=axis) for name, axis in axes.items() if name in t}


def exchanged(*pairs: tuple[str, str]) -> Callable[[Tensors], Tensors]:
    return lambda t: {a: t[b] for pair in pairs for a, b in (pair, pair[::-1])}


def transposition(size: int, *pairs: tuple[int, int]) -> list[int]:
    order = list(range(size))
    for a, b in pairs:
        order[a], order[b] = b, a
    return order


def rows(*layers: str) -> dict[str, int]:
    return {f"{layer}.{kind}": 0 for layer in layers for kind in ("weight", "bias")}


# attention_qkv has 2 heads of 4 dimensions; vit packs q, k, v of 3 heads of 4 each, gpt of 2 heads of 4
PACKED = {f"blocks.0.attention.qkv.{kind}": 0 for kind in ("weight", "bias")}
# what the residual stream of 8 channels runs through; names of folded BatchNorms included
STEM = {f"{n}": 0 for n in ("0.weight", "0.weight_bias", "1.weight", "1.bias", "1.running_mean", "1.running_var")}
BRANCH = {"4.conv1.weight": 1, "4.conv2.weight": 0, "4.conv2.weight_bias": 0}
BRANCH |= {f"4.bn2.{n}": 0 for n in ("weight", "bias", "running_mean", "running_var")}
STREAM = STEM | BRANCH | {"5.conv1.weight": 1, "5.skip.0.weight": 1}

DIFFERENT = {
    "W_Q and W_V swapped": Change("attention_qkv", exchanged(("q.weight", "v.weight"), ("q.bias", "v.bias"))),
    "W_Q and W_V swapped, packed": Change("gpt", reordered(PACKED, [*range(16, 24), *range(8, 16), *range(8)])),
    "attention dimensions across heads": Change(
        "attention_qkv", reordered(rows("q", "k"), transposition(8, (1, 5)))
    ),
    "attention dimensions across heads, packed": Change(
        "vit", reordered(PACKED, transposition(36, (1, 5), (13, 17)))
    ),
    "queries alone": Change("attention_qkv", reordered(rows("q"), transposition(8, (0, 1)))),
    "running mean": Change("resnet", lambda t: {"4.bn1.running_mean": t["4.bn1.running_mean"] * 1.5}, PLAIN),
    "running variance": Change("resnet", lambda t: {"4.bn1.running_var": t["4.bn1.running_var"] * 1.5}, PLAIN),
    "scale and variance swapped": Change("resnet", exchanged(("4.bn1.weight", "4.bn1.running_var")), PLAIN),
    "channels of the stem alone": Change("resnet", reordered(STEM, transposition(8, (2, 5)))),
    "channels of the branch alone": Change("resnet", reordered(BRANCH, transposition(8, (2, 5)))),
    "the two maps of a DeepSets layer swapped": Change("deepsets", exchanged(("own.0.weight", "all.0.weight"))),
    "a kernel flipped": Change("resnet", lambda t: {"4.conv1.weight": t["4.conv1.weight"][..., ::-1, ::-1]}),
    "channels across groups": Change("grouped", reordered(rows("0"), transposition(8, (0, 4)))),
}  # fmt: skip
SAME = {
    "Q and K jointly inside one head": Change("attention_qkv", reordered(rows("q", "k"), transposition(8, (0, 1)))),
    "Q and K jointly inside one head, packed": Change(
        "vit", reordered(PACKED, transposition(36, (1, 2), (13, 14)))
    ),
    "values inside one head": Change(
        "attention_qkv", reordered({**rows("v"), "o.weight": 1}, transposition(8, (4, 6)))
    ),
    "whole heads": Change(
        "attention_qkv", reordered({**rows("q", "k", "v"), "o.weight": 1}, [4, 5, 6, 7, 0, 1, 2, 3])
    ),
    "channels along a residual stream": Change("resnet", reordered(STREAM, [3, 0, 6, 1, 2, 7, 5, 4])),
    "whole groups": Change(
        "grouped",
        lambda t: reordered(rows("0"), [4, 5, 6, 7, 0, 1, 2, 3])(t)
        | reordered({**rows("2"), "4.weight": 0, "7.weight": 1}, [*range(6, 12), *range(6)])(t),
    ),
}  # fmt: skip


def by_change(changes: Mapping[str, Change]) -> list[Any]:
    """Values for `parametrize(("name", "how"), ...)`."""
    return [pytest.param(name, how, marks=marks(c.network, how)) for name, c in changes.items() for how in c.hows]


def changed(change: Change, how: How) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The export, and the same with the change made on it."""
    model = exported(change.network, how)
    state = {n: t.numpy() for n, t in NETWORKS[change.network]()[0].state_dict().items()}
    own = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    turned = {name: found for name, value in state.items() if name not in own and (found := _transposed(value, own))}
    seen = own | {name: own[found].T for name, found in turned.items()}
    edited = change.edit(seen)
    assert edited
    return model, with_values(model, **{turned.get(n, n): v.T if n in turned else v for n, v in edited.items()})


def _transposed(value: np.ndarray, own: Tensors) -> str | None:
    """The initializer that an optimizer has made of a weight by transposing it."""
    return next((n for n, v in own.items() if value.ndim == 2 and np.array_equal(v, value.T)), None)
