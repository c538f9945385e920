"""Random networks: everything that must hold of any network, on thousands of drawn ones.

`GMNC_FUZZ=5000 pytest tests/whole/test_fuzz.py` draws so many, other ones in each run. A failure is printed with the
seed or the call of `reproduce_failure` that replays it, and the network is shrunk first.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from support.fuzz_checks import check_network

from gmnc.frontend.primitives import moves, reductions
from gmnc.testing import build, verify
from gmnc.testing.strategies import FAMILIES, network, networks

COUNT = int(os.environ.get("GMNC_FUZZ", "0"))


def examples(count: int) -> settings:
    return settings(
        max_examples=COUNT or count,
        derandomize=not COUNT,
        print_blob=True,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )


@pytest.mark.fuzz
@examples(30)
@given(networks())
def test_a_few_networks(model: onnx.ModelProto) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check_network(model, Path(folder))


@pytest.mark.full
@pytest.mark.fuzz
@examples(200)
@given(networks())
def test_any_network(model: onnx.ModelProto) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check_network(model, Path(folder))


PARTS = """(float[4, 3] x) => (float[4, 2] y) {
    h = MatMul(x, w)
    r = Reshape(h, parts)
    s = Softmax<axis = -1>(r)
    f = Reshape(s, flat)
    y = MatMul(f, v)
}"""


def test_a_false_symmetry_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neurons of two softmaxes seem to trade places once their scopes are left out."""
    model = build(PARTS, {"w": (3, 6), "v": (6, 2)}, {"parts": [4, 2, 3], "flat": [4, 6]})
    check_network(model, tmp_path)
    monkeypatch.setattr(reductions, "_whole", lambda *_: True)
    with pytest.raises(AssertionError, match="a claimed symmetry changes the output"):
        check_network(model, tmp_path)


@pytest.mark.full
def test_twins_show_what_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where moved places leave no trace, ops on rows and on columns look alike."""
    monkeypatch.setattr(moves.Moves, "append", lambda self, via, change: via)
    reports = [verify(network(seed, 1, ["twins"]), trials=2, controls=0) for seed in range(30)]
    assert any(report.sound is False for report in reports)


def test_a_seed_replays_its_network() -> None:
    assert network(3).SerializeToString() == network(3).SerializeToString()


def test_values_without_entries_are_not_drawn() -> None:
    """A transposed convolution that cuts more than it makes has outputs of negative size."""
    model = network(5001189, 6, "matmul unary attach meet transpose branches shared experts".split())
    assert all(d.dim_value > 0 for v in model.graph.output for d in v.type.tensor_type.shape.dim)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_drawn(family: str) -> None:
    """A family whose steps never fit would make the fuzz say nothing about it."""
    drawn = [network(seed, 4, [family]) for seed in range(12)]
    assert sum(len(model.graph.node) > 3 for model in drawn) > 1
