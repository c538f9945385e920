"""A metanetwork with random weights sees what changes a network's output, and nothing else."""

from __future__ import annotations

from functools import cache

import onnx
import pytest
import torch
from support.changes import DIFFERENT, SAME, by_change, changed
from support.exports import HOWS, How, exported
from support.networks import VARIANTS

import gmnc
from gmnc.backends.blocks import blocks
from gmnc.metanets import GMN


@cache
def metanet() -> GMN:
    """Random weights, large enough that tanh bends, so that sums remember more than the mean of what they add.

    What heads share reaches the edges by way of products and sums, and back: that takes six updates of nodes.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GMN(out_channels=8, hidden_channels=16, num_layers=7, norm=False, act="tanh", hash_buckets=256).double()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.mul_(0.1 if name.startswith("encode") else 3 if weight.ndim == 2 else 0)
        model.layers[0].edges.w_in.mul_(10)
    return model


def gap(a: onnx.ModelProto, b: onnx.ModelProto) -> float:
    """Largest difference of the metanetwork's outputs relative to the largest magnitude."""
    with torch.no_grad():
        one, other = (metanet()(blocks(gmnc.compile(m), dtype=torch.float64)) for m in (a, b))
    return ((one - other).abs().max() / one.abs().max()).item()


@pytest.mark.parametrize(("name", "how"), by_change(DIFFERENT))
def test_what_changes_the_output_is_seen(name: str, how: How) -> None:
    assert gap(*changed(DIFFERENT[name], how)) > 1e-4


@pytest.mark.parametrize(("name", "how"), by_change(SAME))
def test_what_keeps_the_output_is_not_seen(name: str, how: How) -> None:
    assert gap(*changed(SAME[name], how)) < 1e-9


@pytest.mark.full
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_other_functions_of_the_same_parameters_are_seen(variant: str, how: How) -> None:
    assert gap(exported("resnet", how), exported(variant, how)) > 1e-4
