"""Pruning: the small network equals the masked original, whatever the network, and says what it leaves whole."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import pytest
from onnx import numpy_helper
from support.cases import CASES
from support.cases import build as build_case
from support.corpus import CORPUS, GIVEN
from support.exports import HOWS, How, by_export, exported
from support.networks import NETWORKS

from gmnc import prune
from gmnc.ir import GmncError
from gmnc.testing import build, run
from gmnc.testing.strategies import network
from gmnc.transforms import NothingToPrune, Prune, Pruned

FUZZ = int(os.environ.get("GMNC_FUZZ", "20"))
FUSED = [c for c in CASES if c.runs and ("Attention" in c.op or c.op in ("SkipLayerNormalization", "MoE", "FusedConv"))]

TREES = ("atspm_decode", "surfaces_knn_validity")
"""Networks without neurons."""

MLP = "(float[1, 3] x) => (float[1, 2] y) { a = MatMul(x, w) b = Add(a, u) c = Relu(b) y = MatMul(c, v) }"


def weights(model: onnx_ir.Model) -> dict[str, np.ndarray]:
    return {n: v.const_value.numpy() for n, v in model.graph.initializers.items() if v.const_value is not None}


def outputs(model: onnx.ModelProto | onnx_ir.Model, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return run(onnx_ir.to_proto(model) if isinstance(model, onnx_ir.Model) else model, feed)


def reasons(pruned: Pruned) -> list[str]:
    """Why families that could lose positions lost none."""
    return [f.reason for f in pruned.families if f.reason and not f.reason.startswith("kept whole")]


def equal_or_whole(model: onnx.ModelProto, level: str) -> None:
    """Assert that the pruned model equals the masked original, or that nothing can be pruned, or nothing can be run."""
    with suppress(NothingToPrune):
        pruned = prune(model, 0.5, level=level, measure=False)  # type: ignore[arg-type]
        assert pruned.proof.holds or pruned.proof.error is None


@pytest.mark.parametrize("level", ["inner", "outer"])
@pytest.mark.parametrize(("name", "how"), by_export())
def test_half_of_every_family_of_every_network_can_go(name: str, how: How, level: str) -> None:
    pruned = prune(exported(name, how), 0.5, level=level, measure=False)
    assert pruned.proof.holds, pruned.proof.summary
    assert not reasons(pruned)
    assert pruned.after.parameters < pruned.before.parameters
    assert pruned.after.macs < pruned.before.macs


@pytest.mark.full
@pytest.mark.parametrize("how", HOWS[::2])
@pytest.mark.parametrize("name", [n for n in NETWORKS if n != "triplane"])
def test_a_symbolic_batch_stays_symbolic(name: str, how: How) -> None:
    """The pruned network runs on any batch, entry by entry as on one."""
    model = exported(name, how, batch=None)
    pruned = prune(model, 0.5, measure=False)
    names = [i.name for i in model.graph.input]
    one = [x.numpy() for x in NETWORKS[name]()[1]]
    many = dict(zip(names, (np.concatenate([x, x[::-1], np.roll(x, 1, -1)]) for x in one), strict=True))
    whole = outputs(pruned.model, many)
    parts = [outputs(pruned.model, {n: x[i : i + 1] for n, x in many.items()}) for i in range(3)]
    for key, value in whole.items():
        np.testing.assert_allclose(value, np.concatenate([p[key] for p in parts]), atol=1e-5)


def test_the_least_neurons_leave_with_their_weights() -> None:
    model = build(MLP, {"w": (3, 4), "u": (4,), "v": (4, 2)})
    old = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    pruned = prune(model, 0.5, measure=False)
    norm = (old["w"] ** 2).sum(0) + old["u"] ** 2 + (old["v"] ** 2).sum(1)
    kept = np.sort(np.argsort(norm)[2:])
    new = weights(pruned.model)
    np.testing.assert_array_equal(new["w"], old["w"][:, kept])
    np.testing.assert_array_equal(new["u"], old["u"][kept])
    np.testing.assert_array_equal(new["v"], old["v"][kept])
    assert (pruned.before.parameters, pruned.after.parameters) == (24, 12)
    assert (pruned.before.macs, pruned.after.macs) == (20, 10)
    assert not pruned.proof.statistics


def test_a_statistic_over_removed_channels_is_named() -> None:
    text = """(float[1, 3] x) => (float[1, 2] y) {
        a = MatMul(x, w) b = LayerNormalization(a, s, t) y = MatMul(b, v) }"""
    pruned = prune(build(text, {"w": (3, 6), "s": (6,), "t": (6,), "v": (6, 2)}), 0.5, measure=False)
    assert pruned.proof.holds
    assert len(pruned.proof.statistics) == 1
    assert "not exact" in pruned.proof.summary


@pytest.mark.parametrize("opset", [8, 17])
def test_statistics_are_masked_in_old_operator_sets_too(opset: int) -> None:
    """There is no Where before 9."""
    text = """(float[1, 3] x) => (float[1, 2] y) {
        a = MatMul(x, w) m = ReduceMax<axes = [1]>(a) c = Sub(a, m) y = MatMul(c, v) }"""
    pruned = prune(build(text, {"w": (3, 6), "v": (6, 2)}, opset=opset), 0.5, measure=False)
    assert pruned.proof.holds
    assert len(pruned.proof.statistics) == 1


def test_the_scale_of_attention_stays() -> None:
    """1 / sqrt of the size of a head is computed from the shape of the queries, which pruning changes."""
    text = """(float[1, 5, 3] x) => (float[1, 5, 4] y) {
        q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv)
        s = Shape<start = 2, end = 3>(q) f = Cast<to = 1>(s) r = Sqrt(f)
        t = Transpose<perm = [0, 2, 1]>(k) p = MatMul(q, t) d = Div(p, r) a = Softmax(d)
        y = MatMul(a, v) }"""
    model = build(text, {"wq": (3, 4), "wk": (3, 4), "wv": (3, 4)})
    pruned = prune(model, 0.5, measure=False)
    assert pruned.proof.holds
    assert not pruned.proof.statistics


def test_literal_sizes_are_overwritten() -> None:
    text = """(float[1, 3, 4, 4] x) => (float[1, 2] y) {
        a = Conv(x, w) b = Reshape(a, flat) y = MatMul(b, v) }"""
    model = build(text, {"w": (6, 3, 1, 1), "v": (96, 2)}, {"flat": [1, 96]})
    pruned = prune(model, 0.5, measure=False)
    assert pruned.proof.holds
    assert weights(pruned.model)["flat"].tolist() == [1, 48]
    assert weights(pruned.model)["v"].shape == (48, 2)


@pytest.mark.parametrize("level", ["inner", "outer"])
@pytest.mark.parametrize("case", [pytest.param(c, id=c.id, marks=[pytest.mark.full]) for c in FUSED])
def test_fused_operators_follow_or_stay_whole(case: object, level: str) -> None:
    equal_or_whole(build_case(case), level)  # type: ignore[arg-type]


@pytest.mark.parametrize("level", ["inner", "outer"])
def test_heads_of_fused_attention_leave(level: str) -> None:
    case = next(c for c in CASES if c.op == "MultiHeadAttention" and c.name == "plain")
    pruned = prune(build_case(case), 0.5, level=level, measure=False)
    assert pruned.proof.holds, pruned.proof.summary
    assert not reasons(pruned)


@pytest.mark.fuzz
@pytest.mark.parametrize("seed", range(FUZZ))
def test_any_network_is_pruned_or_left_whole(seed: int) -> None:
    equal_or_whole(network(seed), "inner")


def test_round_to_keeps_multiples() -> None:
    model = build(MLP, {"w": (3, 30), "u": (30,), "v": (30, 2)})
    assert weights(prune(model, 0.5, round_to=8, measure=False).model)["u"].shape == (16,)


def test_scores_may_be_given() -> None:
    model = build(MLP, {"w": (3, 4), "u": (4,), "v": (4, 2)})
    old = numpy_helper.to_array(next(i for i in model.graph.initializer if i.name == "u"))
    [name] = prune(model, 0.5, measure=False).removed
    pruned = prune(model, 0.5, importance={name: np.array([3.0, 0.0, 1.0, 2.0])}, measure=False)
    np.testing.assert_array_equal(weights(pruned.model)["u"], old[[0, 3]])


@pytest.mark.parametrize("importance", ["l1", "l2", "activations", "random"])
def test_every_criterion_prunes(importance: str) -> None:
    model = build(MLP, {"w": (3, 8), "u": (8,), "v": (8, 2)})
    assert prune(model, 0.5, importance=importance, measure=False).proof.holds


def test_activations_rank_by_their_size() -> None:
    """The neuron that is always 0 goes, though its weights are the largest."""
    model = build(MLP, {"w": (3, 4), "u": (4,), "v": (4, 2)})
    for tensor in model.graph.initializer:
        if tensor.name == "u":
            tensor.CopyFrom(numpy_helper.from_array(np.array([1, 1, -100, 1], np.float32), "u"))
    pruned = prune(model, 0.25, importance="activations", measure=False)
    assert weights(pruned.model)["u"].tolist() == [1, 1, 1]


def test_only_names_families() -> None:
    text = """(float[1, 3] x) => (float[1, 2] y) {
        a = MatMul(x, w) b = Relu(a) c = MatMul(b, v) d = Relu(c) y = MatMul(d, u) }"""
    model = build(text, {"w": (3, 4), "v": (4, 6), "u": (6, 2)})
    new = weights(prune(model, 0.5, only="^c$", measure=False).model)
    assert (new["w"].shape, new["v"].shape) == ((3, 4), (4, 3))
    with pytest.raises(GmncError, match="the families are"):
        prune(model, 0.5, only="nothing")


@pytest.mark.parametrize(
    "options", [{"ratio": 0.0}, {"ratio": 1.0}, {"importance": "l3"}, {"level": "middle"}, {"round_to": 0}]
)
def test_bad_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(GmncError):
        prune(build(MLP, {"w": (3, 4), "u": (4,), "v": (4, 2)}), **options)  # type: ignore[arg-type]


def test_the_original_is_not_modified(tmp_path: Path) -> None:
    model = build(MLP, {"w": (3, 4), "u": (4,), "v": (4, 2)})
    before = model.SerializeToString()
    prune(model, 0.5, path=tmp_path / "small.onnx", measure=False)
    assert model.SerializeToString() == before
    onnx.checker.check_model(tmp_path / "small.onnx", full_check=True)


def test_external_data_stays_external(tmp_path: Path) -> None:
    model = build(MLP, {"w": (3, 40), "u": (40,), "v": (40, 2)})
    inside = prune(model, 0.5, measure=False)
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="model.data", size_threshold=0)
    whole = (tmp_path / "model.data").read_bytes()
    prune(tmp_path / "model.onnx", 0.5, path=tmp_path / "small.onnx", measure=False)
    assert (tmp_path / "model.data").read_bytes() == whole
    assert (tmp_path / "small.onnx.data").stat().st_size < len(whole)
    feed = {"x": np.ones((1, 3), np.float32)}
    written = run(tmp_path / "small.onnx", feed)
    np.testing.assert_array_equal(written["y"], outputs(inside.model, feed)["y"])


@pytest.mark.full
@pytest.mark.skipif(not CORPUS, reason="there are no networks made by others beside the repository")
@pytest.mark.parametrize("path", [p for p in CORPUS if p.stem not in TREES], ids=lambda p: p.stem)
def test_networks_made_by_others_lose_what_can_go(path: Path) -> None:
    pruned = prune(path, 0.3, inputs=GIVEN.get(path.stem), measure=False)
    assert pruned.proof.holds, pruned.proof.summary
    assert pruned.after.parameters < pruned.before.parameters


def test_it_is_a_pass_among_others() -> None:
    import onnxscript.optimizer

    model = onnx_ir.from_proto(build(MLP, {"w": (3, 8), "u": (8,), "v": (8, 2)}))
    pipeline = onnx_ir.passes.Sequential(
        onnx_ir.passes.common.CheckerPass(), Prune(0.5), onnx_ir.passes.common.CheckerPass(),
        onnx_ir.passes.common.RemoveUnusedNodesPass(),
    )  # fmt: skip
    small = pipeline(model).model
    assert weights(small)["u"].shape == (4,)
    assert weights(model)["u"].shape == (8,)
    feed = {"x": np.ones((1, 3), np.float32)}
    optimised = onnxscript.optimizer.optimize(small)
    np.testing.assert_allclose(outputs(optimised, feed)["y"], outputs(small, feed)["y"], rtol=1e-6)


def test_nothing_to_prune_is_said() -> None:
    with pytest.raises(NothingToPrune, match="nothing can be pruned"):
        prune(build("(float[1, 3] x) => (float[1, 2] y) { y = MatMul(x, w) }", {"w": (3, 2)}), 0.5)
