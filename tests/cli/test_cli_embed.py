"""`gmnc embed`: the vectors, where they go, and which weights made them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from support.commands import parsed, run
from support.paths import CNN, MLP

import gmnc
from gmnc.backends.blocks import blocks
from gmnc.cli import embed
from gmnc.kernels import Layout
from gmnc.metanets import GMN, GMNConfig, load, save
from gmnc.testing import build


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    config = GMNConfig(out_channels=5, hidden_channels=8, num_layers=2, hash_buckets=64, fan_in=True, global_node=True)
    save(GMN(config), tmp_path / "gmn.safetensors")
    return tmp_path / "gmn.safetensors"


def vectors(*arguments: object) -> np.ndarray:
    return np.array([m["embedding"] for m in parsed("embed", *arguments)["models"]])


def test_a_row_for_each_network_by_the_given_weights(weights: Path) -> None:
    found = parsed("embed", MLP, CNN, "--weights", weights)
    assert (found["weights"], found["outputs"]) == (str(weights), 5)
    edges = [parsed("compile", path)["edges"]["parameter"] for path in (MLP, CNN)]
    assert [(m["model"], m["parameter_edges"]) for m in found["models"]] == [(str(MLP), edges[0]), (str(CNN), edges[1])]
    model = load(weights)
    for path, row in zip((MLP, CNN), found["models"], strict=True):
        expected = model(blocks(gmnc.compile(path)))[0].tolist()
        assert np.allclose(row["embedding"], expected, rtol=1e-6)


def test_large_networks_are_read_by_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = vectors(MLP, CNN)
    seen: list[int] = []
    chunks = Layout.chunks
    monkeypatch.setattr(embed, "LARGE", 100)
    monkeypatch.setattr(embed, "CHUNK", 50)
    monkeypatch.setattr(Layout, "chunks", lambda *a: seen.append(a[1]) or chunks(*a))
    assert np.allclose(vectors(MLP, CNN), whole, rtol=1e-4, atol=1e-6)
    assert set(seen) == {50}


def test_without_weights_they_are_random_by_a_seed_and_the_output_says_so() -> None:
    found = parsed("embed", MLP)
    assert found["weights"] == "random, seed 0"
    assert np.isfinite(found["models"][0]["embedding"]).all()
    assert np.array_equal(vectors(MLP), [found["models"][0]["embedding"]])
    assert not np.allclose(vectors(MLP, "--seed", 1), vectors(MLP))
    result = run("embed", MLP, CNN)
    assert result.stderr == "weights: random, seed 0\n"
    assert str(MLP) in result.stdout
    assert str(CNN) in result.stdout
    assert run("embed", MLP, "--quiet").stderr == ""


def test_files_hold_what_json_says(tmp_path: Path) -> None:
    expected = vectors(MLP, CNN)
    for suffix in ("npy", "safetensors"):
        path = tmp_path / f"out.{suffix}"
        result = run("embed", MLP, CNN, "-o", path)
        assert result.exit_code == 0, result.stderr
        assert result.stdout == ""
        assert result.stderr == f"weights: random, seed 0\nwrote {path}\n"
        held = np.load(path) if suffix == "npy" else load_file(path)["embeddings"]
        assert held.dtype == np.float32
        assert np.array_equal(held, expected.astype(np.float32))
    with safe_open(tmp_path / "out.safetensors", "np") as file:
        about = file.metadata()
    assert json.loads(about["models"]) == [str(MLP), str(CNN)]
    assert about["weights"] == "random, seed 0"


def test_a_store_gives_what_its_model_gives(tmp_path: Path) -> None:
    store = tmp_path / "cnn.safetensors"
    assert run("compile", CNN, "-o", store).exit_code == 0
    assert np.array_equal(vectors(store), vectors(CNN))


@pytest.mark.parametrize("kernel", ["reference", "cpu"])
def test_kernels_agree(kernel: str) -> None:
    assert np.allclose(vectors(CNN, "--kernel", kernel), vectors(CNN), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--kernel", "fast"], "fast"),
        (["--device", "abacus"], "--device abacus"),
        (["--device", "cpu", "--kernel", "triton"], "--kernel triton"),
        (["--weights", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--weights", str(MLP)], str(MLP)),
        (["-o", "out.csv"], "out.csv"),
        (["-o", "no such folder/out.npy"], "no such folder"),
    ],
)
def test_bad_usage_is_exit_code_2_and_one_message(arguments: list[str], complaint: str) -> None:
    result = run("embed", MLP, "--json", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert complaint in result.stderr
    assert "Traceback" not in result.stderr


def test_the_message_names_the_file_among_several(tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    text = "(float[1, 2] x) => (float[1, 2] y) { y = MatMul(x, w) }"
    proto = build(text, {"w": (2, 2)})
    proto.graph.initializer[0].CopyFrom(gmnc.testing.with_values(
        proto, w=np.full((2, 2), np.nan, np.float32)
    ).graph.initializer[0])  # fmt: skip
    bad.write_bytes(proto.SerializeToString())
    result = run("embed", MLP, bad, "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{bad}: the embedding is not finite" in result.stderr


def test_weights_of_other_things_are_refused(tmp_path: Path, weights: Path) -> None:
    other_head = GMN(head="equivariant", hidden_channels=4, num_layers=1, hash_buckets=4)
    for name, net in (("head", other_head), ("other", None)):
        path = tmp_path / f"{name}.safetensors"
        if net is None:
            save_file({"w": np.zeros(3, np.float32)}, path)
        else:
            save(net, path)
        result = run("embed", MLP, "-w", path)
        assert result.exit_code == 2
        assert str(path) in result.stderr


def test_saved_weights_come_back_with_their_options_and_dtype(tmp_path: Path) -> None:
    model = GMN(out_channels=2, hidden_channels=4, num_layers=2, hash_buckets=8, norm=False, reverse=False).double()
    save(model, tmp_path / "net.safetensors")
    again = load(tmp_path / "net.safetensors")
    assert again.config == model.config
    assert again.dtype == torch.float64
    assert all(torch.equal(again.state_dict()[n], v) for n, v in model.state_dict().items())
