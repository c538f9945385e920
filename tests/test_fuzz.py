"""Random networks: everything that must hold of any network, on thousands of drawn ones.

`GMNC_FUZZ=5000 pytest tests/test_fuzz.py` draws so many, other ones in each run. A failure is printed with the seed or
the call of `reproduce_failure` that replays it, and the network is shrunk first.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import onnx
import pytest
from fuzz_checks import check_network
from hypothesis import HealthCheck, given, settings

from gmnc.testing.strategies import FAMILIES, network, networks

COUNT = int(os.environ.get("GMNC_FUZZ", "0"))


@settings(
    max_examples=COUNT or 200,
    derandomize=not COUNT,
    print_blob=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
@given(networks())
def test_any_network(model: onnx.ModelProto) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check_network(model, Path(folder))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_drawn(family: str) -> None:
    """A family whose steps never fit would make the fuzz say nothing about it."""
    drawn = [network(seed, 4, [family]) for seed in range(12)]
    assert sum(len(model.graph.node) > 3 for model in drawn) > 1
