"""Values from checkpoints: what `load_values` reads is what the network computes, and `save_values` is its inverse."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.checkpoints import COMPUTED, Net, State, changed, layers, net, outputs, states, wrapped
from support.exports import HOWS, How, by_export, compiled, export, exported
from support.networks import NETWORKS, randomise
from support.paths import ROOT
from support.tiers import first, some

import gmnc
from gmnc.backends.checkpoints import ConversionWarning, MatchError, NameMap, match_names
from gmnc.backends.onnx import serialised
from gmnc.ir import GmncError, LoadError, ParameterGraph


@pytest.mark.parametrize(("name", "how"), by_export())
def test_a_state_makes_the_file_compute_what_the_network_computes(name: str, how: How) -> None:
    module, inputs, before, after = states(name)
    graph = compiled(name, how)
    if how == "dynamo-optimized" and name in COMPUTED:
        with pytest.raises(MatchError) as refused:
            gmnc.load_values(graph, after, like=before)
        assert refused.value.mismatch.computed
        return
    values = gmnc.load_values(graph, after, like=before)
    ours = outputs(serialised(graph, values), inputs)
    again = outputs(export(module, inputs, how).SerializeToString(), inputs)
    for a, b in zip(ours, again, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    old = outputs(exported(name, how).SerializeToString(), inputs)
    assert not np.allclose(old[0], again[0], rtol=1e-2, atol=1e-3), "the two states differ in what they compute"


@pytest.mark.parametrize(("name", "how"), by_export())
def test_a_state_comes_back_as_it_was(name: str, how: How, tmp_path: Path) -> None:
    _, _, before, after = states(name)
    graph = compiled(name, how)
    if how == "dynamo-optimized" and name in COMPUTED:
        pytest.skip("computed entries have no inverse")
    match_names(graph, before).save(tmp_path / "names.json")
    names = NameMap.load(tmp_path / "names.json")
    assert names == match_names(graph, before)
    values = gmnc.load_values(graph, after, names=names)
    for suffix in ("pt", "safetensors", "npz"):
        path = tmp_path / f"state.{suffix}"
        gmnc.save_values(graph, values, path, names=names, like=after)
        again = gmnc.load_values(graph, path, names=names)
        assert {n: a.tobytes() for n, a in again.items()} == {n: a.tobytes() for n, a in values.items()}
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert list(state) == list(after)
    assert all(torch.equal(state[n], t) and state[n].dtype == t.dtype for n, t in after.items())


@pytest.mark.parametrize("name", some(["vit"], NETWORKS))
def test_from_torch_needs_no_exported_checkpoint(name: str, tmp_path: Path) -> None:
    module, inputs, before, after = states(name)
    module.load_state_dict(before)
    graph = gmnc.from_torch(module, inputs)
    randomise(module)
    values = gmnc.load_values(graph, module.state_dict())
    assert all(np.array_equal(values[n], module.state_dict()[n].numpy()) for n in values)
    gmnc.save_values(graph, values, tmp_path / "state.pt", like=before)
    done = module.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert not done.missing_keys
    gmnc.save_values(graph, gmnc.load_values(graph, after), tmp_path / "own.pt")
    missing = module.load_state_dict(torch.load(tmp_path / "own.pt", weights_only=True), strict=False).missing_keys
    assert all(not after[n].is_floating_point() for n in missing)


@pytest.mark.parametrize("change", [
    dict, wrapped("module."), wrapped("model."), wrapped("_orig_mod."), wrapped("module._orig_mod.encoder."),
    lambda s: {"state_dict": s},
    lambda s: {"model": wrapped("module.")(s), "optimizer": {"state": {0: {}}}, "epoch": 3},
    lambda s: {"model_state_dict": s, "loss": torch.tensor(0.1)}, lambda s: {"anything": s},
])  # fmt: skip
@pytest.mark.parametrize("suffix", ["pt", "safetensors", "npz", ""])
def test_wrappers_and_prefixes(change: Callable[[State], Any], suffix: str, tmp_path: Path) -> None:
    module, graph = net()
    state = changed(module)
    given: Any = change(state)
    if suffix and suffix != "pt" and any(isinstance(v, dict) for v in given.values()):
        pytest.skip("these files hold tensors only")
    path = tmp_path / f"state.{suffix}"
    if suffix == "pt":
        torch.save(given, path)
    elif suffix == "safetensors":
        save_file({n: t.clone() for n, t in given.items()}, path)
    elif suffix == "npz":
        np.savez(path, **{n: t.numpy() for n, t in given.items()})
    values = gmnc.load_values(graph, path if suffix else given)
    assert len(values) == len(state) - 2, "the tied weight once, and no counter"
    assert all(np.array_equal(a, state[n].numpy()) for n, a in values.items())


def test_tied_weights_may_have_either_name_and_must_be_equal() -> None:
    module, graph = net()
    state = changed(module)
    assert torch.equal(state["tokens.weight"], state["head.weight"])
    (own,) = graph.parameters.keys() & {"tokens.weight", "head.weight"}
    for gone in ("tokens.weight", "head.weight"):
        left = {n: t for n, t in state.items() if n != gone}
        assert np.array_equal(gmnc.load_values(graph, left)[own], state[own].numpy())
    with pytest.raises(MatchError, match=r"tokens\.weight"):
        gmnc.load_values(graph, state | {"head.weight": state["head.weight"] + 1})
    names = match_names(graph, module.state_dict())
    with pytest.raises(MatchError, match=r"\w+\.weight differs from \w+\.weight"):
        gmnc.load_values(graph, state | {"head.weight": state["head.weight"] + 1}, names=names)


def test_a_module_loads_what_was_saved(tmp_path: Path) -> None:
    module, graph = net()
    state = changed(module)
    gmnc.save_values(graph, gmnc.load_values(graph, state), tmp_path / "x.pt", like=state)
    other = Net()
    other.load_state_dict(torch.load(tmp_path / "x.pt", weights_only=True))
    assert all(torch.equal(t, state[n]) for n, t in other.state_dict().items())
    gmnc.save_values(graph, gmnc.load_values(graph, state), tmp_path / "y.safetensors")
    assert set(load_file(tmp_path / "y.safetensors")) == set(state) - {"norm.num_batches_tracked"}


def test_everything_that_does_not_fit_is_listed_at_once() -> None:
    module, graph = net()
    state = changed(module)
    state["norm.weihgt"] = state.pop("norm.weight")
    state["norm.bias"] = torch.zeros(6)
    state["norm.running_var"] = torch.zeros(5, dtype=torch.int64)
    with pytest.raises(MatchError) as refused:
        gmnc.load_values(graph, state)
    found = refused.value.mismatch
    assert [t.partition(":")[0] for t in found.unmatched] == ["norm.weight"]
    assert [t.partition(":")[0] for t in found.extra] == ["norm.weihgt"]
    assert [t.partition(":")[0] for t in found.misshapen] == ["norm.running_var", "norm.bias"] or len(
        found.misshapen
    ) == 2
    for name in ("norm.weight", "norm.weihgt", "norm.bias", "norm.running_var"):
        assert name in str(refused.value)


def test_a_student_is_not_taken_for_its_teacher() -> None:
    module, graph = net()
    state = changed(module)
    both = wrapped("student.")(state) | wrapped("teacher.")(changed(module))
    with pytest.raises(GmncError, match="several prefixes"):
        gmnc.load_values(graph, both)
    values = gmnc.load_values(graph, both, ignore=["teacher.*"])
    assert np.array_equal(values["norm.weight"], state["norm.weight"].numpy())


@pytest.mark.parametrize("dtype", first(2, [torch.float16, torch.float64, torch.bfloat16]))
def test_other_float_types_are_converted_and_said(dtype: torch.dtype, tmp_path: Path) -> None:
    module, graph = net()
    state = {n: t.to(dtype) if t.is_floating_point() else t for n, t in changed(module).items()}
    save_file({n: t.clone() for n, t in state.items()}, tmp_path / "x.safetensors")
    with pytest.warns(ConversionWarning, match=str(dtype).removeprefix("torch.")) as said:
        values = gmnc.load_values(graph, tmp_path / "x.safetensors")
    assert ("rounded" in str(said[0].message)) == (dtype == torch.float64)
    assert all(a.dtype == np.float32 and np.array_equal(a, state[n].float().numpy()) for n, a in values.items())
    gmnc.save_values(graph, values, tmp_path / "y.pt", like=tmp_path / "x.safetensors", names=match_own(graph, state))
    again = torch.load(tmp_path / "y.pt", weights_only=True)
    if dtype != torch.float64:
        assert all(torch.equal(again[n], t) and again[n].dtype == t.dtype for n, t in state.items())


def match_own(graph: ParameterGraph, state: State) -> NameMap:
    """The map by names alone."""
    from gmnc.backends.checkpoints.matching import match

    return match(graph, state, exported=False)


def test_values_too_large_for_the_graph_are_refused() -> None:
    module, graph = net()
    state = changed(module) | {"norm.weight": torch.full((5,), 1e300, dtype=torch.float64)}
    with pytest.raises(MatchError, match="do not fit"):
        gmnc.load_values(graph, state)


def test_other_files_of_the_same_network(tmp_path: Path) -> None:
    """An ONNX file, a store, shards and a folder of them."""
    module, graph = net()
    state = changed(module)
    values = gmnc.load_values(graph, state)
    gmnc.write(graph, values, tmp_path / "x.onnx")
    gmnc.save(gmnc.compile(tmp_path / "x.onnx"), tmp_path / "store.safetensors")
    shards = {"a-1.safetensors": list(state)[:3], "a-2.safetensors": list(state)[3:]}
    (tmp_path / "hub").mkdir()
    for shard, names in shards.items():
        save_file({n: state[n].clone() for n in names}, tmp_path / "hub" / shard)
    index = {"metadata": {}, "weight_map": {n: shard for shard, names in shards.items() for n in names}}
    (tmp_path / "hub" / "model.safetensors.index.json").write_text(json.dumps(index))
    for place in ("x.onnx", "store.safetensors", "hub/model.safetensors.index.json", "hub"):
        again = gmnc.load_values(graph, tmp_path / place)
        assert all(np.array_equal(again[n], a) for n, a in values.items()), place


def write(path: Path, name: str, data: bytes) -> None:
    (path / name).write_bytes(data)


TOO_LONG = b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'


A = {"a": torch.zeros(1)}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: torch.save(Net(), p / "x.pt"), "save module.state_dict"),
        (lambda p: torch.save([1, 2], p / "x.pt"), "a mapping of names"),
        (lambda p: torch.save({"epoch": 3}, p / "x.pt"), "no tensors by name"),
        (lambda p: torch.save({"model": A, "net": A}, p / "x.pt"), "several states"),
        (lambda p: write(p, "x.pt", b"no"), "not a checkpoint"),
        (lambda p: write(p, "x.safetensors", b"no"), "truncated"),
        (lambda p: write(p, "x.safetensors", b"\xff" * 99), "truncated"),
        (lambda p: write(p, "x.safetensors", (60).to_bytes(8, "little") + TOO_LONG.ljust(60)), "within the file"),
        (lambda p: write(p, "x.txt", b"no"), "the suffixes are"),
        (lambda p: write(p, "x.onnx", b"no"), "not an ONNX model"),
        (lambda p: write(p, "x.index.json", b'{"weight_map": {"a": "../../x.bin"}}'), "not a file beside it"),
        (lambda p: None, "cannot read|suffixes"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_read_are_an_error(make: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    make(tmp_path)
    path = next(tmp_path.iterdir(), tmp_path / "x.pt")
    with pytest.raises(LoadError, match=message) as refused:
        gmnc.load_values(net()[1], path)
    assert path.name in str(refused.value)


def test_a_map_of_another_graph_is_refused(tmp_path: Path) -> None:
    state, graph = layers()
    module, other = net()
    names = match_names(graph, state)
    with pytest.raises(GmncError, match="of another graph"):
        gmnc.load_values(other, changed(module), names=names)
    names.save(tmp_path / "n.json")
    found = json.loads((tmp_path / "n.json").read_text())
    found["parameters"]["val_1"][1][0][3] = [1, 100]
    (tmp_path / "n.json").write_text(json.dumps(found))
    with pytest.raises(LoadError, match="val_1"):
        NameMap.load(tmp_path / "n.json")


def test_nothing_is_said_when_nothing_is_converted() -> None:
    module, graph = net()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gmnc.load_values(graph, changed(module))


def test_what_is_neither_a_file_nor_a_mapping_is_refused() -> None:
    module, graph = net()
    with pytest.raises(GmncError, match="not a Net"):
        gmnc.load_values(graph, module)  # type: ignore[arg-type]


@pytest.mark.parametrize("how", first(1, HOWS[::-1]))
def test_blocks_take_what_is_loaded(how: How) -> None:
    """Swin's mask is a parameter of the file that no edge carries."""
    _, _, before, after = states("swin")
    graph = compiled("swin", how)
    values = gmnc.load_values(graph, after, like=before)
    assert how == "dynamo-optimized" or "mask" in values
    changed = gmnc.blocks(graph).with_values(values)
    two = gmnc.batch([gmnc.blocks(graph)] * 2).with_values(values, values)
    for segment in (*changed.segments, *two.segments):
        there = (two if segment in two.segments and segment not in changed.segments else changed).values
        found = there[segment.start : segment.start + segment.size].numpy()
        assert np.array_equal(found, values[segment.name].reshape(-1))


def test_the_page_on_data_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(code, "data.md", "exec"), names)
    before, after = (torch.load(tmp_path / f, weights_only=True) for f in ("checkpoint.pt", "again.pt"))
    assert all(torch.equal(t, after[n]) for n, t in before["state_dict"].items())
    assert set(load_file(tmp_path / "again.safetensors")) == set(before["state_dict"])
