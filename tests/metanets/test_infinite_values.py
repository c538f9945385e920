"""Infinite parameters, as thresholds of splits that all or no features pass, have finite features; NaN has not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import gmnc
from gmnc.backends.blocks import Blocks, blocks
from gmnc.metanets import GMN
from gmnc.metanets.baselines import statistics
from gmnc.testing import build


def tree(threshold: float) -> Blocks:
    """One split at `threshold`, two leaves."""
    text = """(float[2, 3] x) => (float[2, 1] y) {
        y = ai.onnx.ml.TreeEnsembleRegressor<n_targets = 1, nodes_featureids = [1, 0, 0], nodes_nodeids = [0, 1, 2],
            nodes_truenodeids = [1, 0, 0], nodes_falsenodeids = [2, 0, 0], nodes_treeids = [0, 0, 0],
            nodes_modes = ["BRANCH_LEQ", "LEAF", "LEAF"], nodes_values = [0.5, 0.0, 0.0], target_ids = [0, 0],
            target_nodeids = [1, 2], target_treeids = [0, 0], target_weights = [1.5, -0.5]>(x) }"""
    model = build(text, opset=17, domains={"ai.onnx.ml": 3})
    for attribute in model.graph.node[0].attribute:
        if attribute.name == "nodes_values":
            attribute.floats[0] = threshold
    return blocks(gmnc.compile(model))


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("threshold", [np.inf, -np.inf])
def test_infinite_thresholds_are_embedded(threshold: float, relative: bool) -> None:
    torch.manual_seed(0)
    net = GMN(out_channels=4, hidden_channels=8, num_layers=2, hash_buckets=16, relative=relative)
    one, other = net(tree(threshold)), net(tree(-threshold))
    assert one.isfinite().all()
    assert not torch.allclose(one, other)
    assert statistics(tree(threshold))[0].isfinite().all()


def test_nan_is_not_hidden() -> None:
    net = GMN(out_channels=4, hidden_channels=8, num_layers=2, hash_buckets=16)
    assert net(tree(np.nan)).isnan().any()
