"""The predictor as a file, and what it calls far from the networks that it knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.exports import Compiled
from support.fake_zoo import FakeZoo, fake_zoo

import gmnc
from gmnc.backends.blocks import blocks
from gmnc.ir import GmncError, LoadError
from gmnc.metanets import GMN, save
from gmnc.tasks.predictor import Predictor, features, fit_predictor, vocabulary


@pytest.fixture(scope="module")
def zoo() -> FakeZoo:
    return fake_zoo(40)


@pytest.fixture(scope="module")
def predictor(zoo: FakeZoo) -> Predictor:
    return fit_predictor(GMN(1, width=8, layers=2, buckets=64), zoo.members, {"zoo": "fake"})


def test_a_predictor_is_one_file(zoo: FakeZoo, predictor: Predictor, tmp_path: Path) -> None:
    predictor.save(tmp_path / "p.safetensors")
    again = Predictor.open(tmp_path / "p.safetensors")
    assert (again.ranges, again.words, again.about) == (predictor.ranges, predictor.words, predictor.about)
    assert [again(m) for m in zoo.members] == [predictor(m) for m in zoo.members]


def test_members_are_near_and_others_far(zoo: FakeZoo, predictor: Predictor, compiled: Compiled) -> None:
    assert not [m for m in zoo.members if predictor(m).far]
    member = zoo.members[0]
    huge = member.with_values({s.name: np.full(s.shape, 1e3) for s in member.slots})
    assert any("greatest parameter" in reason for reason in predictor(huge).far)
    gpt = predictor(blocks(compiled("gpt"))).far
    assert any("words that describe its operators" in reason for reason in gpt)
    assert any(reason.startswith("parameters") for reason in gpt)


def test_values_that_are_not_finite_are_an_error(zoo: FakeZoo, predictor: Predictor) -> None:
    member = zoo.members[0]
    broken = member.with_values({s.name: np.full(s.shape, np.nan) for s in member.slots})
    with pytest.raises(GmncError, match="not finite"):
        predictor(broken)


def test_features_and_words_do_not_depend_on_the_order_of_neurons(zoo: FakeZoo, compiled: Compiled) -> None:
    graph = compiled("vit")
    tensors = blocks(graph)
    values = {n: p.load() for n, p in graph.parameters.items()}
    kept = {s.name for s in tensors.slots}
    moved = gmnc.symmetries(graph).sample(np.random.default_rng(0)).apply(values)
    other = tensors.with_values({n: v for n, v in moved.items() if n in kept})
    assert features(other) == pytest.approx(features(tensors))
    assert vocabulary(other) == vocabulary(tensors)
    assert graph.num_parameter_edges == pytest.approx(10 ** features(tensors)["log parameters"])


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="no such file"):
        Predictor.open(tmp_path / "none.safetensors")
    save(GMN(1, width=8, layers=1, buckets=8), tmp_path / "net.safetensors")
    with pytest.raises(LoadError, match="no predictor"):
        Predictor.open(tmp_path / "net.safetensors")
