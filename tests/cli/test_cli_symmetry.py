"""`gmnc symmetries` and `gmnc verify`: what they print, where, and how they exit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.commands import parsed, run
from support.paths import CNN, MLP

from gmnc import testing
from gmnc.testing import Failure, build

KEYS = [
    "model",
    "sound",
    "trials",
    "generators",
    "kinds",
    "moved_parameters",
    "max_error",
    "tolerance",
    "sensitivity",
    "reacting",
    "outputs",
    "negative_controls",
    "round_trip",
    "account_closed",
    "skipped",
]


def test_symmetries_json_of_the_perceptron() -> None:
    found = parsed("symmetries", MLP)
    assert found.pop("log10_size") == pytest.approx(np.log10(6), abs=1e-6)
    families = found.pop("families")
    assert found == {
        "model": str(MLP),
        "nodes": 8,
        "generators": 2,
        "exact": True,
        "orbits": [{"size": 3, "groups": [1]}],
    }
    assert [f["what"] for f in families] == ["pinned, inputs", "3 neurons, free", "pinned, outputs"]
    assert families[1] == {
        "name": families[1]["name"],
        "what": "3 neurons, free",
        "groups": [1],
        "generators": 2,
        "degrees": [[3]],
        "log10_size": 0.778151,
        "exact": True,
    }


def test_symmetries_prints_a_table_of_a_model_or_its_store(tmp_path: Path) -> None:
    store = tmp_path / "cnn.safetensors"
    assert run("compile", CNN, "-o", store).exit_code == 0
    shown = [run("symmetries", path) for path in (CNN, store)]
    assert [s.exit_code for s in shown] == [0, 0]
    assert shown[0].stdout == shown[1].stdout
    assert "4 channels, jointly in 2 layers" in shown[0].stdout
    assert "4! = 24 symmetries by 3 generators, 3 orbits" in shown[0].stdout


def test_verify_json_has_the_keys_of_a_report() -> None:
    found = parsed("verify", CNN, "--trials", 2, "--seed", 7)
    assert list(found) == KEYS
    assert found["sound"] is True
    assert found["trials"] == 2
    assert found == parsed("verify", CNN, "--trials", 2, "--seed", 7)


def test_verify_prints_a_line_for_each_claim() -> None:
    result = run("verify", MLP)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "model: mlp.onnx"
    assert lines[1].startswith("symmetries: sound; 2 generators, 8 products run, up to 12 parameters moved, error ")
    assert lines[2].startswith("negative controls: ")
    assert lines[3:] == [
        "outputs react to 100 % of the parameters",
        "writing parameters back: bit-exact",
        "account: closed",
    ]
    assert result.stderr == ""


def test_verify_takes_arrays(tmp_path: Path) -> None:
    path = tmp_path / "inputs.npz"
    [name] = testing.random_inputs(MLP)
    np.savez(path, **{name: np.ones((3, 2), dtype=np.float32)})
    assert parsed("verify", MLP, "--inputs", path)["sound"] is True
    np.savez(path, other=np.ones((3, 2), dtype=np.float32))
    result = run("verify", MLP, "--inputs", path)
    assert result.exit_code == 2
    assert "'other'" in result.stderr
    for wrong in (tmp_path / "missing.npz", MLP):
        result = run("verify", MLP, "--inputs", wrong)
        assert result.exit_code == 2
        assert str(wrong) in result.stderr


@pytest.mark.parametrize("json", [[], ["--json"]])
def test_a_failed_claim_is_exit_code_1_and_named_on_stderr(monkeypatch: pytest.MonkeyPatch, json: list[str]) -> None:
    report = testing.verify(MLP)
    failure = Failure(0.5, "g1 neuron x3 'hidden'", (1,), (("node 7", "Gemm", "gmnc.frontend.rules.linear.gemm"),))
    wrong = replace(report, sound=False, max_error=0.5, failures=(failure,))
    monkeypatch.setattr(testing, "verify", lambda *_, **__: wrong)
    result = run("verify", MLP, *json)
    assert result.exit_code == 1
    assert "NOT SOUND" in result.stdout or '"sound": false' in result.stdout
    for word in ("changes the output by 0.5", "'hidden'", "node 7: Gemm, gmnc.frontend.rules.linear.gemm"):
        assert word in result.stderr


def test_verify_refuses_stores_and_unknown_kinds(tmp_path: Path) -> None:
    store = tmp_path / "mlp.safetensors"
    assert run("compile", MLP, "-o", store).exit_code == 0
    result = run("verify", store)
    assert result.exit_code == 2
    assert "holds no network" in result.stderr
    result = run("verify", MLP, "--kinds", "permutation,rotation")
    assert result.exit_code == 2
    assert "unknown kinds of symmetries: rotation; choose among permutation, sign, scale" in result.stderr


def test_symmetries_counts_signs_and_scales_if_asked_to() -> None:
    kinds = ("--kinds", "permutation,sign,scale")
    found = parsed("symmetries", CNN, *kinds)
    # four channels under a BatchNormalization, a ReLU and a residual addition
    assert (found["signs"], found["scales"]) == (4, 8)
    assert [(f["signs"], f["scales"]) for f in found["families"]] == [(0, 0), (4, 8), (0, 0)]
    assert sum(o["signs"] for o in found["orbits"]) == 4
    shown = run("symmetries", CNN, *kinds).stdout
    assert "2^4 changes of sign" in shown
    assert "8 independent scales" in shown
    plain = parsed("symmetries", CNN)
    assert "signs" not in plain
    assert all("signs" not in f for f in plain["families"])


def test_matrices_are_counted_and_checked_if_asked_for(tmp_path: Path) -> None:
    """Three neurons between two linear layers: GL(3), of 9 dimensions."""
    text = "(float[1, 4] x) => (float[1, 2] y) { h = MatMul(x, w) y = MatMul(h, v) }"
    path = tmp_path / "two_layers.onnx"
    onnx.save(build(text, {"w": (4, 3), "v": (3, 2)}), path)
    found = parsed("symmetries", path, "--kinds", "linear,orthogonal")
    assert (found["orthogonal"], found["linear"]) == (0, 9)
    assert sum(f["linear"] for f in found["families"]) == 9
    shown = run("symmetries", path, "--kinds", "linear").stdout
    assert "GL(3): 9 dimensions of linear maps" in shown
    report = parsed("verify", path, "--trials", 2, "--kinds", "linear")
    assert report["kinds"] == {"linear": 9}
    assert report["sound"] is True


def test_verify_checks_signs_and_scales_if_asked_to() -> None:
    found = parsed("verify", CNN, "--trials", 2, "--kinds", "permutation,sign,scale")
    assert found["kinds"] == {"permutation": 3, "sign": 4, "scale": 8}
    assert found["generators"] == 15
    assert found["sound"] is True
    assert "3 permutation + 4 sign + 8 scale generators" in run(
        "verify", CNN, "--trials", 1, "--kinds", "permutation,sign,scale"
    ).stdout.replace("\n", " ")


def test_effective_weights_are_claims_about_the_folded_model(tmp_path: Path) -> None:
    text = "(float[2, 3] x) => (float[2, 2] y) { w = MatMul(a, b) h = MatMul(x, w) r = Tanh(h) y = MatMul(r, v) }"
    path = tmp_path / "low rank.onnx"
    onnx.save(testing.build(text, {"a": (3, 2), "b": (2, 4), "v": (4, 2)}), path)
    stored, effective = (parsed("verify", path, *options) for options in ([], ["--fold-weights"]))
    assert (stored["model"], effective["model"]) == ("low rank.onnx", "low rank.onnx, its weights folded")
    assert (stored["generators"], effective["generators"]) == (4, 3)
    assert stored["sound"] is effective["sound"] is True
    assert parsed("compile", path, "--fold-weights")["parameters"]["total"] == 3 * 4 + 4 * 2
