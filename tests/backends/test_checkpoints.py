"""Values from checkpoints: what `load_values` reads is what the network computes, and `save_values` is its inverse."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from support.exports import HOWS, How, by_export, compiled, export, exported
from support.networks import NETWORKS, randomise
from support.paths import ROOT
from support.tiers import first, some
from torch import nn

import gmnc
from gmnc.backends.checkpoints import ConversionWarning, MatchError, NameMap, match_names
from gmnc.backends.checkpoints.by_value import Pool, as_bits, pieces, whole
from gmnc.backends.onnx import serialised
from gmnc.ir import GmncError, LoadError, ParameterGraph

COMPUTED = {"resnet", "squeeze_excite", "shufflenet", "llama_computed", "decoder"}
"""Networks of which `dynamo-optimized` stores functions of several entries."""
State = dict[str, torch.Tensor]


def states(name: str) -> tuple[nn.Module, tuple[torch.Tensor, ...], State, State]:
    """A network of the zoo, which has the second of two states: that which was exported, and another one."""
    module, inputs = NETWORKS[name]()
    before = {n: t.clone() for n, t in module.state_dict().items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        randomise(module)
    return module, inputs, before, module.state_dict()


def outputs(model: bytes, inputs: tuple[torch.Tensor, ...]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    given = zip(session.get_inputs(), inputs, strict=True)
    return session.run(None, {i.name: x.numpy() for i, x in given})


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


class Net(nn.Module):
    """A tied weight, a buffer that no state has, a counter, a learned number, a transposed table."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(7, 4)
        self.norm = nn.BatchNorm1d(5)
        self.scale = nn.Parameter(torch.tensor(0.7))
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.tokens.weight
        self.register_buffer("table", torch.rand(5, 4), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.norm(self.tokens(x) + self.table) * self.scale))


IDS = torch.arange(5)[None]


@cache
def net() -> tuple[Net, ParameterGraph]:
    torch.manual_seed(0)
    module = Net().eval()
    return module, gmnc.from_torch(module, IDS)


def changed(module: nn.Module) -> State:
    """Another state of a module, in which tensors that were one still are."""
    made: dict[int, torch.Tensor] = {}
    return {
        n: made.setdefault(t.data_ptr(), torch.rand_like(t) + 0.5 if t.is_floating_point() else t + 3)
        for n, t in module.state_dict().items()
    }


def wrapped(prefix: str) -> Callable[[State], State]:
    return lambda state: {f"{prefix}{name}": value for name, value in state.items()}


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


@pytest.mark.parametrize("how", [None, *HOWS])
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


class Wide(nn.Module):
    """Integers that the network reads, an unused head, and rows of a table that are not read."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Embedding(32, 6)
        self.rnn = nn.LSTM(6, 5, batch_first=True, bidirectional=True)
        self.q, self.k, self.v = (nn.Linear(10, 10, bias=False) for _ in range(3))
        self.aux = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.rnn(x + self.positions(torch.arange(4)))[0]
        packed = nn.functional.linear(x, torch.cat([self.q.weight, self.k.weight, self.v.weight]))
        q, k, v = packed.split(10, -1)
        return torch.softmax(q @ k.transpose(-1, -2), -1) @ v


@pytest.mark.parametrize("how", HOWS)
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


def renamed(tensors: dict[str, np.ndarray]) -> ParameterGraph:
    """A perceptron of two layers whose weights are stored transposed under names of an exporter."""
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "val_1"], ["a"]), onnx.helper.make_node("Add", ["a", "val_2"], ["b"]),
        onnx.helper.make_node("Relu", ["b"], ["c"]), onnx.helper.make_node("MatMul", ["c", "val_3"], ["d"]),
        onnx.helper.make_node("Add", ["d", "val_4"], ["y"]),
    ]  # fmt: skip
    value = onnx.helper.make_tensor_value_info
    held = [onnx.numpy_helper.from_array(np.ascontiguousarray(a), n) for n, a in tensors.items()]
    ends = [[value(n, 1, [2, k])] for n, k in (("x", 4), ("y", 4))]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "g", *ends, held), opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9
    )
    return gmnc.compile(model)


def layers(zero_bias: bool = False, square: bool = False, ones: bool = False) -> tuple[State, ParameterGraph]:
    torch.manual_seed(2)
    hidden = 4 if square else 5
    state = {
        "a.weight": torch.randn(hidden, 4), "a.bias": torch.randn(hidden), "b.weight": torch.randn(4, hidden),
        "b.bias": torch.randn(4),
    }  # fmt: skip
    if zero_bias:
        state |= {"a.bias": torch.zeros(hidden), "b.bias": torch.zeros(4)}
    if ones:
        state["a.weight"] = torch.eye(4)
    pairs = {
        "val_1": state["a.weight"].T,
        "val_2": state["a.bias"],
        "val_3": state["b.weight"].T,
        "val_4": state["b.bias"],
    }
    return state, renamed({n: t.numpy() for n, t in pairs.items()})


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


def test_the_page_on_data_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(code, "data.md", "exec"), names)
    before, after = (torch.load(tmp_path / f, weights_only=True) for f in ("checkpoint.pt", "again.pt"))
    assert all(torch.equal(t, after[n]) for n, t in before["state_dict"].items())
    assert set(load_file(tmp_path / "again.safetensors")) == set(before["state_dict"])


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
