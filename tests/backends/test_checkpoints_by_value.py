"""Tensors that exporters renamed, moved, packed or computed: found in one checkpoint by their values, or refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.checkpoints import COMPUTED, IDS, Net, Wide, changed, layers, net, outputs, renamed, states
from support.exports import HOWS, How, compiled, export
from support.networks import NETWORKS, randomise
from support.tiers import first, some
from torch import nn

import gmnc
from gmnc.backends.checkpoints import ConversionWarning, MatchError, NameMap, match_names
from gmnc.backends.checkpoints.by_value import Pool, as_bits, pieces, whole
from gmnc.backends.onnx import serialised
from gmnc.ir import GmncError


@pytest.mark.parametrize("how", first(1, [None, *HOWS]))
def test_a_learned_number_is_no_number_of_the_program(how: How | None) -> None:
    """It has no edge of its own, but a state without it is incomplete."""
    torch.manual_seed(0)
    module = randomise(Net())
    graph = gmnc.from_torch(module, IDS) if how is None else gmnc.compile(export(module, (IDS,), how))
    state = changed(module)
    keep = ["/Constant*"] if how == "torchscript" else []
    values = gmnc.load_values(graph, state, like=dict(module.state_dict()), keep=keep)
    assert values["scale"] == state["scale"].numpy()
    del state["scale"]
    with pytest.raises(MatchError, match="scale"):
        gmnc.load_values(graph, state, keep=keep)


def test_folded_norms_are_refused_with_the_reason() -> None:
    """All parameters that the file has left are named and shaped as entries, and none has an entry's values."""
    torch.manual_seed(4)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.ConvTranspose2d(4, 5, 3), nn.BatchNorm2d(5)]
    module = randomise(nn.Sequential(*layers))
    graph = gmnc.compile(export(module, (torch.randn(1, 3, 8, 8),), "dynamo-optimized"))
    assert set(graph.parameters) <= set(module.state_dict())
    for like in (None, module.state_dict()):
        with pytest.raises(MatchError) as refused:
            gmnc.load_values(graph, module.state_dict(), like=like)
        computed = "; ".join(refused.value.mismatch.computed)
        for norm, layer in (("1", "0"), ("4", "3")):
            assert f"{norm}: no parameter holds its statistics" in computed
            assert like is None or f"'{layer}.weight' of the file is '{layer}.weight' times its scale" in computed


@pytest.mark.parametrize("how", first(1, HOWS))
def test_gates_slices_and_packed_projections(how: How, tmp_path: Path) -> None:
    torch.manual_seed(1)
    module, inputs = Wide().eval(), (torch.randn(1, 4, 6),)
    before = {n: t.clone() for n, t in module.state_dict().items()}
    graph = gmnc.compile(export(module, inputs, how))
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    after = module.state_dict()
    names = match_names(graph, before, ignore=["aux.*"])
    ours = outputs(serialised(graph, gmnc.load_values(graph, after, names=names)), inputs)
    np.testing.assert_allclose(ours[0], module(*inputs).detach().numpy(), rtol=1e-4, atol=1e-5)
    values = gmnc.load_values(graph, after, names=names)
    gmnc.save_values(graph, values, tmp_path / "x.pt", names=names, like=after)
    again = torch.load(tmp_path / "x.pt", weights_only=True)
    assert all(torch.equal(again[n], t) for n, t in after.items())


@pytest.mark.parametrize("name", some(["gru"], ["gru", *NETWORKS]))
def test_the_older_exporter_with_folding(name: str, tmp_path: Path) -> None:
    """It calls folded tensors `onnx::MatMul_123`, packs the weights of both directions and reorders gates."""
    torch.manual_seed(1)
    gru = nn.GRU(4, 5, num_layers=2, batch_first=True, bidirectional=True).eval()
    module, inputs = (gru, (torch.randn(1, 3, 4),)) if name == "gru" else NETWORKS[name]()
    torch.onnx.export(module, inputs, tmp_path / "x.onnx", dynamo=False)
    before = {n: t.clone() for n, t in module.state_dict().items()}
    graph = gmnc.compile(tmp_path / "x.onnx")
    for parameter in module.parameters() if name == "gru" else ():
        nn.init.normal_(parameter)
    randomise(module)
    if name in COMPUTED - {"decoder"}:
        with pytest.raises(MatchError):
            gmnc.load_values(graph, module.state_dict(), like=before)
        return
    ours = outputs(serialised(graph, gmnc.load_values(graph, module.state_dict(), like=before)), inputs)[0]
    theirs = module(*inputs)[0] if name == "gru" else module(*inputs)
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_values_tell_renamed_transposed_weights() -> None:
    state, graph = layers(square=True)
    after = {n: torch.randn_like(t) for n, t in state.items()}
    values = gmnc.load_values(graph, after, like=state)
    for name, entry in (("val_1", "a.weight"), ("val_2", "a.bias"), ("val_3", "b.weight"), ("val_4", "b.bias")):
        assert np.array_equal(values[name], after[entry].T.numpy() if "weight" in entry else after[entry].numpy())


@pytest.mark.parametrize(
    "how", [{"zero_bias": True, "square": True}, {"zero_bias": True}, {"square": True, "ones": True}]
)
def test_equal_values_are_not_guessed(how: dict[str, bool]) -> None:
    state, graph = layers(**how)
    with pytest.raises(MatchError) as refused:
        match_names(graph, state)
    for entry in ["a.weight"] if "ones" in how else ["a.bias", "b.bias"]:
        assert entry in str(refused.value)


def test_the_exporters_notes_decide_between_equal_values() -> None:
    """A group norm that was never trained: its scale and shift are ones and zeros, as those of others."""
    torch.manual_seed(3)
    one = [nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.InstanceNorm2d(8, affine=True)]
    inputs = (torch.randn(1, 3, 8, 8),)
    module = nn.Sequential(*one, nn.Flatten()).eval()
    before = {n: t.clone() for n, t in module.state_dict().items()}
    assert torch.equal(before["1.weight"], before["4.weight"])
    graph = gmnc.compile(export(module, inputs, "dynamo-optimized"))
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    ours = outputs(serialised(graph, gmnc.load_values(graph, module.state_dict(), like=before)), inputs)
    np.testing.assert_allclose(ours[0], module(*inputs).detach().numpy(), rtol=1e-4, atol=1e-4)


def test_equal_tensors_that_the_exporter_stored_once_must_stay_equal() -> None:
    torch.manual_seed(3)
    norms = [nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.GroupNorm(2, 8), nn.Flatten()]
    module = nn.Sequential(*norms).eval()
    before = {n: t.clone() for n, t in module.state_dict().items()}
    graph = gmnc.compile(export(module, (torch.randn(1, 3, 8, 8),), "dynamo-optimized"))
    names = match_names(graph, before)
    assert gmnc.load_values(graph, before, names=names)
    after = {n: torch.randn_like(t) for n, t in before.items()}
    with pytest.raises(MatchError, match=r"\d\.weight differs from \d\.weight"):
        gmnc.load_values(graph, after, names=names)


def test_a_file_of_another_checkpoint_is_noticed() -> None:
    state, graph = layers()
    other = {n: torch.randn_like(t) for n, t in state.items()}
    with pytest.raises(MatchError) as refused:
        match_names(graph, other)
    assert len(refused.value.mismatch.unmatched) == 4
    module, own = net()
    with pytest.raises(GmncError, match="was not exported from"):
        match_names(own, changed(module))


def test_half_precision_values_tell_too() -> None:
    state, _ = layers(square=True)
    half = {n: t.half() for n, t in state.items()}
    graph = renamed({
        "val_1": half["a.weight"].float().T.numpy(), "val_2": half["a.bias"].float().numpy(),
        "val_3": half["b.weight"].float().T.numpy(), "val_4": half["b.bias"].float().numpy(),
    })  # fmt: skip
    with pytest.warns(ConversionWarning):
        values = gmnc.load_values(graph, half, like=half)
    assert np.array_equal(values["val_3"], half["b.weight"].float().T.numpy())


def test_entries_that_shaped_the_file_must_stay() -> None:
    """A mask of booleans is folded into the file: a checkpoint with another mask is refused."""
    _, _, before, after = states("gpt")
    graph = compiled("gpt", "dynamo-optimized")
    names = match_names(graph, before)
    causal = "blocks.1.attention.causal"
    assert causal in names.fixed
    assert gmnc.load_values(graph, after, names=names)
    with pytest.raises(MatchError, match=f"{causal} differs"):
        gmnc.load_values(graph, after | {causal: ~after[causal]}, names=names)


SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(SHAPES, min_size=1, max_size=4), st.sampled_from(["normal", "few", "half"]))
def test_what_is_found_by_value_is_right_for_every_other_checkpoint(seed: int, shapes: list[Any], kind: str) -> None:
    """A tensor that a file holds in any of its forms is found, or refused, and never taken from elsewhere."""
    rng = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...]) -> np.ndarray:
        if kind == "few":
            return rng.integers(-1, 2, shape).astype(np.float32)
        return rng.standard_normal(shape).astype(np.float16 if kind == "half" else np.float32).astype(np.float32)

    entries = [{f"e{i}": draw(shape) for i, shape in enumerate(shapes)} for _ in range(2)]
    names = list(entries[0])
    order = {n: rng.permutation(entries[0][n].ndim) for n in names}
    chosen = [names[i] for i in rng.integers(0, len(names), rng.integers(1, 4))]
    cuts = [rng.integers(0, entries[0][n].shape[0]) for n in chosen]

    def stored(of: dict[str, np.ndarray]) -> np.ndarray:
        if len(chosen) == 1:
            return np.ascontiguousarray(of[chosen[0]].transpose(order[chosen[0]]))
        return np.concatenate([of[n][cut:].reshape(-1) for n, cut in zip(chosen, cuts, strict=True)])

    before, after = stored(entries[0]), stored(entries[1])
    pool = Pool(entries[0])
    wholes = [c for e in pool.alike(as_bits(before)) for c in whole(as_bits(before), pool.bits[e], e)]
    copies = (wholes[0],) if len(wholes) == 1 and before.min() != before.max() else pieces(as_bits(before), pool)
    if not copies:
        assert kind != "normal" or len(chosen) > 1 or before.size == 1
        return
    found = NameMap({"p": copies}, {"p": before.shape}, {n: a.shape for n, a in entries[0].items()})
    found.check()
    assert np.array_equal(found.read("p", entries[0]), before)
    if kind != "few":
        assert np.array_equal(found.read("p", entries[1]), after)


def test_arrays_of_other_byte_orders_and_layouts(tmp_path: Path) -> None:
    state, graph = layers()
    arrays = {n: np.asfortranarray(t.numpy()).astype(">f4", order="K") for n, t in state.items()}
    np.savez(tmp_path / "x.npz", **arrays)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = gmnc.load_values(graph, tmp_path / "x.npz", like=tmp_path / "x.npz")
    assert np.array_equal(values["val_1"], state["a.weight"].numpy().T)
    wide = {n: t.numpy().astype(np.longdouble) for n, t in state.items()}
    with pytest.warns(ConversionWarning):
        values = gmnc.load_values(graph, wide, like=wide)
    assert np.array_equal(values["val_3"], state["b.weight"].numpy().T)
