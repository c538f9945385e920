"""Probes: images, responses as features, and metanetworks that read them beside parameters."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from support.fake_zoo import FakeZoo, fake_zoo
from torch import nn

from gmnc.ir import GmncError
from gmnc.tasks import accuracy
from gmnc.tasks.experiment import Settings, run
from gmnc.tasks.probe_responses import WithProbeResponses, probe_images, probe_responses, standardised
from gmnc.tasks.training import Options


def test_probe_images_are_standardised_and_differ() -> None:
    images = probe_images(32, 14)
    assert images.shape == (32, 1, 14, 14)
    assert images.dtype == np.float32
    assert abs(images.mean(dtype=np.float64)) < 1e-6
    assert abs(images.std(dtype=np.float64) - 1) < 1e-6
    assert len(np.unique(images.reshape(32, -1), axis=0)) == 32
    probe_images.cache_clear()
    assert np.array_equal(probe_images(32, 14), images)
    # A pen has a width: of a finer image a pixel is the mean of a square, roughly.
    fine = probe_images(32, 28).reshape(32, 1, 14, 2, 14, 2).mean(axis=(3, 5))
    assert np.corrcoef(fine.ravel(), images.ravel())[0, 1] > 0.99


def test_responses_as_features_by_hand() -> None:
    given = np.array([[[0.0, np.log(3.0)]], [[np.log(3.0), 0.0]], [[0.0, 100.0]], [[np.nan, 0.0]]], dtype=np.float32)
    found = standardised(given, np.array([0, 1]))
    # Probabilities (1/4, 3/4) and (3/4, 1/4): one deviation either way. 1e-44 counts as e^-20, bounded after that.
    low, high = np.log(0.25), np.log(0.75)
    bounded = (0 - (low + high) / 2) / ((high - low) / 2)
    assert found == pytest.approx(np.array([[-1, 1], [1, -1], [-6, bounded], [0, 0]]), abs=1e-5)
    assert found.dtype == np.float32
    # e^-20 and not 1e-44 for the mean and the deviation too.
    logs = np.array([low, high, -20])
    expected = (logs - logs.mean()) / logs.std()
    assert standardised(given, np.array([0, 1, 2]))[:3, 0] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("shape", [("batch", 3, 4, 4), ("batch", 1, 4, 5), ("batch", 6)])
def test_networks_that_take_no_square_grey_images_are_named(shape: tuple[object, ...], tmp_path: Path) -> None:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "net", value[:1], value[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "a.onnx")

    class One(SimpleNamespace):
        def __len__(self) -> int:
            return 1

    zoo = One(cache=tmp_path, state="", path=lambda _: tmp_path / "a.onnx")
    with pytest.raises(GmncError, match=r"a\.onnx: does not take a batch of square grey images"):
        probe_responses(zoo, 2)  # type: ignore[arg-type]


def test_readers_do_not_know_of_each_other() -> None:
    torch.manual_seed(0)
    model = WithProbeResponses(nn.Linear(3, 1), probes=6).eval()
    graph, given = torch.randn(2, 3), torch.randn(2, 6)
    found, other, said = model(graph, given), model(graph + 1, given), model(graph, given + 1)
    assert found.shape == (2, 2)
    assert torch.equal(found[:, 0], other[:, 0])
    assert torch.equal(found[:, 1], said[:, 1])
    assert not torch.equal(found[:, 1], other[:, 1])
    assert not torch.equal(found[:, 0], said[:, 0])
    model.train()
    again = model(graph, given)
    assert not torch.equal(again[:, 0], found[:, 0])
    assert torch.equal(again[:, 1], found[:, 1])
    assert WithProbeResponses(None, probes=6)(graph, given).shape == (2, 1)


@pytest.mark.full
def test_readers_learn_by_themselves_and_are_averaged() -> None:
    parts = accuracy.Split(*(np.array([i]) for i in (0, 1, 2)))
    task = accuracy.Accuracy(
        zoo().members,
        np.array([0.2, 0.5, 0.5]),
        parts,
        seed=0,
        max_edges=10**6,
        max_members=2,
        responses=np.zeros((3, 1), np.float32),
    )
    logits = nn.Parameter(torch.tensor([[0.0, 2.0]]))

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logits = logits

        def forward(self, graph: object, given: torch.Tensor) -> torch.Tensor:
            return self.logits.expand(len(given), 2)

    total, count = task.loss(Model(), np.array([0]))
    total.backward()
    p = 1 / (1 + np.exp(-np.array([0.0, 2.0])))
    assert count == 1
    assert total.item() == pytest.approx(-np.mean(0.2 * np.log(p) + 0.8 * np.log(1 - p)), abs=1e-6)
    assert logits.grad.numpy()[0] == pytest.approx((p - 0.2) / 2, abs=1e-6)
    with torch.no_grad():
        found = task.predict(Model(), np.array([1, 2]))
    assert found == pytest.approx([1 / (1 + np.exp(-1))] * 2, abs=1e-6)


@cache
def zoo() -> FakeZoo:
    return fake_zoo(80)


def trained(model: str, out: Path, monkeypatch: pytest.MonkeyPatch, said: np.ndarray, **more: object) -> dict:
    monkeypatch.setattr(accuracy, "probe_responses", lambda *_: said)
    small = {"hidden_channels": 8, "num_layers": 2, "hash_buckets": 64} if model == "gmn" else {}
    settings = Settings("accuracy", "fake", model, members=8, metanet=small, probes=2, **more)  # type: ignore[arg-type]
    return run(lambda s: accuracy.experiment(s, zoo()), settings, Options(epochs=30, lr=4e-3), out)


@pytest.mark.full
@pytest.mark.parametrize("model", ["none", "gmn", "statnn"])
def test_accuracies_are_read_from_responses(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    said = rng.standard_normal((80, 2, 2)).astype(np.float32)
    by_chance = trained("none", tmp_path / "chance", monkeypatch, said)["metrics"]["r2"]
    said[:, 0, 0] = 3 * zoo().table["accuracy"]
    said[:, 0, 1] = 0
    found = trained(model, tmp_path / "told", monkeypatch, said)
    assert by_chance < 0.2
    assert found["metrics"]["r2"] > 0.6
    assert found["settings"]["probes"] == 2


@pytest.mark.full
def test_more_probes_than_can_be_held_are_refused() -> None:
    with pytest.raises(GmncError, match=r"probes: at most 16,384, not 1,000,000,000,000"):
        probe_responses(fake_zoo(), 10**12)  # type: ignore[arg-type]


@pytest.mark.full
def test_without_probes_none_has_nothing_to_read() -> None:
    with pytest.raises(GmncError, match="--model none reads only responses to probes: choose"):
        accuracy.experiment(Settings("accuracy", "fake", "none"), zoo())
