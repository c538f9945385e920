"""The predictor as a file, and what it calls far from the networks that it knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.exports import Compiled
from support.fake_zoo import FakeZoo, fake_zoo
from support.paths import CNN, MLP

import gmnc
from gmnc.backends.blocks import blocks
from gmnc.ir import GmncError, LoadError
from gmnc.metanets import GMN, save
from gmnc.tasks.predictor import Predictor, features, fit_predictor, token_counts


@pytest.fixture(scope="module")
def zoo() -> FakeZoo:
    return fake_zoo(40)


@pytest.fixture(scope="module")
def predictor(zoo: FakeZoo) -> Predictor:
    model = GMN(hidden_channels=8, num_layers=2, hash_buckets=64)
    return fit_predictor(model, zoo.members, {"zoo": "fake"})


def test_the_shipped_predictor_says_what_it_said_when_it_was_trained() -> None:
    """Accuracies that its release gave for two networks: a renamed option or tensor must not change them."""
    found = [Predictor.open()(blocks(gmnc.compile(path))).accuracy for path in (MLP, CNN)]
    assert found == pytest.approx([0.7615324, 0.4444279], abs=1e-5)


def test_a_predictor_is_one_file(zoo: FakeZoo, predictor: Predictor, tmp_path: Path) -> None:
    predictor.save(tmp_path / "p.safetensors")
    again = Predictor.open(tmp_path / "p.safetensors")
    assert (again.ranges, again.op_tokens, again.about) == (predictor.ranges, predictor.op_tokens, predictor.about)
    assert [again(m) for m in zoo.members] == [predictor(m) for m in zoo.members]


def test_members_are_near_and_others_far(zoo: FakeZoo, predictor: Predictor, compiled: Compiled) -> None:
    assert not [m for m in zoo.members if predictor(m).out_of_range]
    member = zoo.members[0]
    huge = member.with_values({s.name: np.full(s.shape, 1e3) for s in member.segments})
    assert any("greatest parameter" in reason for reason in predictor(huge).out_of_range)
    gpt = predictor(blocks(compiled("gpt"))).out_of_range
    assert any("of its operator tokens" in reason for reason in gpt)
    assert any(reason.startswith("parameters") for reason in gpt)


def test_values_that_are_not_finite_are_an_error(zoo: FakeZoo, predictor: Predictor) -> None:
    member = zoo.members[0]
    broken = member.with_values({s.name: np.full(s.shape, np.nan) for s in member.segments})
    with pytest.raises(GmncError, match="not finite"):
        predictor(broken)


def test_features_and_words_do_not_depend_on_the_order_of_neurons(zoo: FakeZoo, compiled: Compiled) -> None:
    graph = compiled("vit")
    tensors = blocks(graph)
    values = {n: p.load() for n, p in graph.parameters.items()}
    kept = {s.name for s in tensors.segments}
    moved = gmnc.symmetries(graph).sample(np.random.default_rng(0)).apply(values)
    other = tensors.with_values({n: v for n, v in moved.items() if n in kept})
    assert features(other) == pytest.approx(features(tensors))
    assert token_counts(other) == token_counts(tensors)
    assert graph.num_parameter_edges == pytest.approx(10 ** features(tensors)["log parameters"])


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="no such file"):
        Predictor.open(tmp_path / "none.safetensors")
    save(GMN(out_channels=1, hidden_channels=8, num_layers=1, hash_buckets=8), tmp_path / "net.safetensors")
    with pytest.raises(LoadError, match="not a predictor"):
        Predictor.open(tmp_path / "net.safetensors")
