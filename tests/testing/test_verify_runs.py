"""What `verify` runs: inputs that a network answers, outputs of any kind, and ONNX Runtime in a process of its own."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner

import gmnc
from gmnc.cli import app
from gmnc.frontend.rules.registry import Rule, builtin
from gmnc.testing import assert_sound, build, disagreement, run, verify
from gmnc.testing.inputs import SAMPLINGS, draw_inputs, input_specs
from gmnc.testing.processes import ChildProcess, InProcess, NotRunnable, default_timeout
from gmnc.testing.trial_inputs import responsive_trial

MLP = "(float[1, 3] x) => (float[1, 2] y) { a = MatMul(x, w) b = Relu(a) y = MatMul(b, v) }"


def mlp() -> onnx.ModelProto:
    return build(MLP, {"w": (3, 5), "v": (5, 2)})


def endless() -> onnx.ModelProto:
    text = """(float[2, 4] x) => (float[2, 2] y) {
        h = Loop(t, "", x) <body = b (int64 i, bool c, float[2, 4] v) => (bool d, float[2, 4] o) {
            d = Identity(c) p = MatMul(v, w) o = Tanh(p)
        }>
        y = MatMul(h, u)
    }"""
    return build(text, {"w": (4, 4), "u": (4, 2)}, {"t": [1_000_000_000]})


def dividing() -> onnx.ModelProto:
    """INT64_MIN / -1 ends ONNX Runtime with SIGFPE."""
    text = """(float[1, 3] x, int64[1] n) => (float[1, 2] y) {
        m = Mul(n, zero) o = Add(m, least) d = Div(o, minus) f = Cast<to = 1>(d) s = Mul(f, tiny)
        a = MatMul(x, w) b = Add(a, s) r = Relu(b) y = MatMul(r, v)
    }"""
    return build(
        text, {"w": (3, 5), "v": (5, 2), "tiny": (1,)}, {"zero": [0], "least": [-(2**63)], "minus": [-1]}, opset=20
    )


def drawn(model: onnx.ModelProto, style: int = 0) -> dict[str, np.ndarray]:
    return draw_inputs(input_specs(model), np.random.default_rng(0), SAMPLINGS[style])


# Inputs


def test_indices_stay_within_tables_whatever_is_added() -> None:
    text = """(int64[1, 9] ids) => (float[1, 9, 2] y) {
        c = Cast<to = 7>(ids) m = Sub(c, one) n = Mul(m, two) t = Gather(table, n) y = MatMul(t, w)
    }"""
    model = build(text, {"table": (13, 4), "w": (4, 2)}, {"one": [1], "two": [2]})
    [spec] = input_specs(model)
    assert (spec.low, spec.high) == (1, 8)
    report = assert_sound(model)
    assert report.reacting == 1.0


def test_lengths_stay_within_the_axis() -> None:
    text = """(float[5, 2, 3] x, int32[2] lengths) => (float[5, 1, 2, 4] y) {
        y, h = RNN<hidden_size = 4>(x, w, r, , lengths)
    }"""
    model = build(text, {"w": (1, 4, 3), "r": (1, 4, 4)})
    assert {(s.low, s.high) for s in input_specs(model) if s.name == "lengths"} == {(1, 6)}
    assert verify(model).reacting == 1.0


def test_numbers_that_are_compared_are_drawn() -> None:
    """A rate that chooses the branch, as speech models have."""
    text = """(float[1, 3] x, int64[1] rate) => (float[1, 2] y) {
        e = Equal(rate, right) f = Cast<to = 1>(e) a = MatMul(x, w) b = Relu(a) c = MatMul(b, v) y = Mul(c, f)
    }"""
    model = build(text, {"w": (3, 5), "v": (5, 2)}, {"right": [16000]})
    assert drawn(model)["rate"].tolist() == [16000]
    assert assert_sound(model).reacting == 1.0


def test_masks_are_zeros_and_ones() -> None:
    text = """(float[1, 4, 3] x, float[1, 4] mask, int64[1, 4] kept) => (float[1, 4, 2] y) {
        one = Constant<value_float = 1.0>() far = Constant<value_float = -10000.0>()
        a = MatMul(x, w) b = Relu(a) m = Sub(one, mask) n = Mul(m, far) o = Unsqueeze(n, last) p = Add(b, o)
        s = Softmax<axis = 1>(p) k = Cast<to = 1>(kept) l = Unsqueeze(k, last) q = Mul(s, l) y = MatMul(q, v)
    }"""
    model = build(text, {"w": (3, 5), "v": (5, 2)}, {"last": [2]})
    feeds = drawn(model)
    assert set(feeds["mask"].reshape(-1)) <= {0.0, 1.0}
    assert set(feeds["kept"].reshape(-1)) <= {0, 1}
    assert drawn(model, 1)["mask"].all()


def test_pixels_have_the_scale_of_their_normalisation() -> None:
    text = """(float[1, 3, 8, 8] x) => (float[1, 2, 8, 8] y) {
        mean = Constant<value_float = 120.0>() deviation = Constant<value_float = 60.0>()
        a = Sub(x, mean) b = Div(a, deviation) c = Conv(b, w) d = Relu(c) y = Conv(d, v)
    }"""
    model = build(text, {"w": (4, 3, 1, 1), "v": (2, 4, 1, 1)})
    x = drawn(model)["x"]
    assert 100 < x.mean() < 140
    assert 50 < x.std() < 70


def test_other_inputs_are_drawn_where_outputs_do_not_move() -> None:
    """Only where all inputs are positive does the gate open."""
    text = """(float[1, 3] x) => (float[1, 2] y) {
        edge = Constant<value_float = 0.01>()
        m = ReduceMin(x) n = Sub(m, edge) g = Relu(n) a = MatMul(x, w) b = Tanh(a) c = MatMul(b, v) y = Mul(c, g)
    }"""
    model = build(text, {"w": (3, 5), "v": (5, 2)})
    for seed in range(4):
        assert assert_sound(model, seed=seed).reacting == 1.0


def test_networks_that_decide_run_on_several_inputs() -> None:
    """One input may hide a difference behind a threshold or a count."""
    counting = """(float[1, 3] x) => (float[1, 2] y) {
        a = MatMul(x, w) c = Floor(a) b = Sub(a, c) y = MatMul(b, v) }"""
    for text, runs in ((MLP, 1), (counting, 8)):
        model = build(text, {"w": (3, 5), "v": (5, 2)})
        graph = gmnc.compile(model)
        trial, _ = responsive_trial(model, graph, {}, {}, {}, np.random.default_rng(0), InProcess(), None)
        assert len(trial.feeds) == runs


def test_what_is_never_read_must_have_no_effect() -> None:
    """A rule that loses its second operand: the account says that it is never read, and the output disagrees."""
    text = "(float[1, 3] x) => (float[1, 2] y) { a = MatMul(x, w) b = Mul(a, s) c = Relu(b) y = MatMul(c, v) }"
    model = build(text, {"w": (3, 5), "v": (5, 2), "s": (5,)})
    rules = builtin().overlay()
    rules.add(Rule("Mul", "", 1, lambda ctx, op: ctx.unary(op.input(0), "Abs", {}), weights=(1,)))
    report = verify(model, registry=rules)
    assert report.sound is False
    assert any("never read" in str(failure) and failure.generator == "s" for failure in report.failures)
    assert verify(model).sound


def test_a_network_that_does_not_answer_is_not_called_sound() -> None:
    text = """(float[1, 3] x) => (float[1, 2] y) {
        far = Constant<value_float = 1000000.0>()
        a = MatMul(x, w) b = Tanh(a) c = MatMul(b, v) d = Abs(c) e = Sub(c, far) y = Relu(e)
    }"""
    model = build(text, {"w": (3, 5), "v": (5, 2)})
    report = verify(model)
    assert report.generators == 4
    assert report.sound is None
    assert report.reacting == 0.0
    assert "cannot tell" in report.skipped[-1]


def test_nothing_claimed_is_sound_if_it_runs() -> None:
    report = verify(build("(float[1, 3] x) => (float[1, 2] y) { y = MatMul(x, w) }", {"w": (3, 2)}))
    assert (report.generators, report.sound) == (0, True)


# Outputs


def test_outputs_that_are_all_left_out_prove_nothing() -> None:
    text = """(float[1, 3] x) => (float[1, 2] dice) {
        a = MatMul(x, w) b = Relu(a) y = MatMul(b, v) r = RandomNormalLike(y) dice = Add(y, r)
    }"""
    report = verify(build(text, {"w": (3, 5), "v": (5, 2)}))
    assert report.generators == 4
    assert report.sound is None
    assert "differ" in report.skipped[0]


def test_maps_and_sequences_are_compared() -> None:
    text = """(float[2, 3] x) => (float[2, 2] y) { a = MatMul(x, w) b = Relu(a) y = MatMul(b, v) }"""
    model = build(text, {"w": (3, 5), "v": (5, 2)})
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    zipped = helper.make_node("ZipMap", ["y"], ["z"], domain="ai.onnx.ml", classlabels_strings=["b", "a"])
    pair = helper.make_node("SequenceConstruct", ["y", "b"], ["s"])
    model.graph.node.extend([zipped, pair])
    del model.graph.output[:]
    kind = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    model.graph.output.append(helper.make_value_info("z", helper.make_sequence_type_proto(kind)))
    model.graph.output.append(helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None))
    found = run(model, {"x": np.ones((2, 3), np.float32)})
    assert {n: v.shape for n, v in found.items()} == {"z": (2, 2), "s[0]": (2, 2), "s[1]": (2, 5)}
    np.testing.assert_allclose(found["z"][:, ::-1], found["s[0]"])
    report = verify(model)
    assert report.outputs.keys() == found.keys()


# Processes


def test_a_child_answers_as_this_process_does() -> None:
    source = mlp().SerializeToString()
    feeds = [{"x": np.full((1, 3), n, np.float32)} for n in range(3)]
    child = ChildProcess(60, 0)
    try:
        for _ in range(2):
            for a, b in zip(child.run(source, feeds), InProcess().run(source, feeds), strict=True):
                np.testing.assert_array_equal(a["y"], b["y"])
        with pytest.raises(NotRunnable, match="x"):
            child.run(source, [{}])
        assert len(child.run(source, feeds)) == 3
    finally:
        child.close()


def test_text_and_half_precision_pass_the_pipe() -> None:
    text = "(string[2] s, float16[2] h) => (string[2] t, float16[2] k) { t = Identity(s) k = Neg(h) }"
    child = ChildProcess(60, 0)
    feeds = {"s": np.array(["a\n", "b"], dtype=object), "h": np.array([1, 2], np.float16)}
    [found] = child.run(build(text).SerializeToString(), [feeds])
    child.close()
    assert found["t"].tolist() == ["a\n", "b"]
    assert found["k"].dtype == np.float16


def test_a_child_works_from_threads() -> None:
    results: list[bool | None] = []
    threads = [threading.Thread(target=lambda: results.append(verify(mlp(), timeout=60).sound)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True, True]


def test_an_endless_network_is_stopped() -> None:
    report = verify(endless(), timeout=3)
    assert report.sound is None
    assert "did not finish within 3 s" in report.skipped[0]


def test_a_loop_is_given_less_time() -> None:
    def within(model: onnx.ModelProto, size: int) -> float:
        return default_timeout(onnx_ir.from_proto(model), size)

    assert within(mlp(), 0) == 120
    assert within(endless(), 1 << 20) == 5
    assert within(endless(), 1 << 40) == 120
    text = '<ir_version: 9, opset_import: ["": 18, "local": 1]> g (float[2, 4] x) => (float[2, 2] y) { y = local.f(x) }'
    hidden = onnx.parser.parse_model(text)
    function = helper.make_function("local", "f", ["x"], ["y"], endless().graph.node, [helper.make_opsetid("", 18)])
    hidden.functions.append(function)
    assert within(hidden, 0) == 4


def test_a_crash_is_reported() -> None:
    report = verify(dividing(), timeout=60)
    assert report.sound is None
    assert "SIGFPE" in report.skipped[0]


def test_memory_is_limited() -> None:
    text = "(int64[1] n) => (float y) { a = ConstantOfShape(n) y = ReduceSum<keepdims = 0>(a) }"
    child = ChildProcess(60, 0)
    with pytest.raises(NotRunnable):
        child.run(build(text).SerializeToString(), [{"n": np.array([3 << 28])}])
    child.close()


# The command


def test_exit_codes(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save_model(endless(), path)
    short = ["verify", str(path), "--timeout", "2"]
    found = CliRunner().invoke(app, short)
    assert found.exit_code == 1
    assert "not checked" in found.output
    assert CliRunner().invoke(app, [*short, "--allow-unchecked"]).exit_code == 0
    onnx.save_model(mlp(), path)
    found = CliRunner().invoke(app, ["verify", str(path)])
    assert found.exit_code == 0
    assert "outputs react to 100 % of the parameters" in found.output


def test_what_to_give_is_said(tmp_path: Path) -> None:
    text = """(float[1, 3] x, int64[2] shape) => (float[p, q] y) {
        a = MatMul(x, w) b = Relu(a) r = Reshape(b, shape) y = MatMul(r, v)
    }"""
    report = verify(build(text, {"w": (3, 6), "v": (3, 2)}))
    assert report.sound is None
    assert "give suitable arrays with --inputs" in report.skipped[0]
    assert "shape (int64 [2])" in report.skipped[0]


@pytest.mark.parametrize("zeros", [np.zeros(2), np.zeros((), np.int64)])
def test_outputs_of_zeros_are_compared_with_their_magnitude_in_other_runs(zeros: np.ndarray) -> None:
    other = zeros + 2
    assert disagreement({"y": zeros}, {"y": other}, 4.0) == 0.5
    assert disagreement({"y": other}, {"y": zeros}, 4.0) == 1
