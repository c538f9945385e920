"""Torch-Pruning on the networks of `merging_networks.py`, for `pruning.py`."""

from __future__ import annotations

import math
from importlib.metadata import version
from importlib.util import find_spec

import torch
from merging_networks import Attention
from torch import Tensor, nn

__all__ = ["installed", "torch_pruned"]


def installed() -> str:
    """The version of Torch-Pruning; "" if it is not installed."""
    return version("torch-pruning") if find_spec("torch_pruning") else ""


def torch_pruned(net: nn.Module, example: Tensor, ratio: float) -> None:
    """Remove channels, neurons and features of heads from a network, in place.

    Torch-Pruning is told what it cannot trace: which layer is the last one, how many heads there are, and afterwards
    the size of the heads. Where it would round the number of channels of a group of GroupNorm up that leave, it is
    given a ratio that removes as many as `gmnc prune`.

    Args:
        net: A network of `merging_networks.py`.
        example: What it takes.
        ratio: The share to remove.

    Raises:
        Exception: Whatever Torch-Pruning raises.
    """
    from torch_pruning.pruner import BasePruner
    from torch_pruning.pruner.importance import GroupMagnitudeImportance

    attentions = [m for m in net.modules() if isinstance(m, Attention)]
    heads = {layer: n for m in attentions for layer, n in ((m.q, m.heads), (m.k, m.groups), (m.v, m.groups))}
    last = [m for m in net.modules() if isinstance(m, nn.Linear)][-1]
    rounded = {m: _rounded(m, ratio) for m in net.modules() if isinstance(m, nn.GroupNorm)}
    pruner = BasePruner(
        net, example, GroupMagnitudeImportance(p=2, bias=True), pruning_ratio=ratio, pruning_ratio_dict=rounded,
        ignored_layers=[last], num_heads=heads,
    )  # fmt: skip
    pruner.step()
    for m in attentions:
        _resize(m)


def _rounded(norm: nn.GroupNorm, ratio: float) -> float:
    """The share of the channels of a group that whole channels make, at most the given one."""
    channels = norm.num_channels // norm.num_groups
    return math.floor(channels * ratio) / channels


@torch.no_grad()
def _resize(attention: Attention) -> None:
    """Set the size of the heads, and leave the scale of the scores at what it was."""
    size = attention.q.out_features // attention.heads
    for parameter in attention.q.parameters():
        parameter *= math.sqrt(size / attention.size)
    attention.size = size
