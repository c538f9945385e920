"""`gmnc.testing`: what `verify` reports, what it catches, what it skips, and the assertions for rules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir
import pytest
from onnx import TensorProto, helper
from support.careless import LRN, careless
from support.paths import EXAMPLES
from support.tiny import separate_attention

import gmnc
from gmnc.backends.values import dtype_of
from gmnc.ir import GmncError
from gmnc.symmetry.automorphism import apply
from gmnc.symmetry.find import swap
from gmnc.testing import (
    assert_isomorphic,
    assert_same_up_to_symmetry,
    assert_sound,
    build,
    random_inputs,
    values,
    verify,
    with_values,
)
from gmnc.testing.controls import controls, swapped
from gmnc.testing.inputs import infer_model, input_specs
from gmnc.testing.precision import float_types, tolerance_of
from gmnc.testing.round_trip import write_back
from gmnc.testing.runtime import disagreement, run

MLP = "(float[1, 3] x) => (float[1, 2] y) { a = MatMul(x, w) b = Relu(a) y = MatMul(b, v) }"


def mlp() -> onnx.ModelProto:
    return build(MLP, {"w": (3, 5), "v": (5, 2)})


def test_the_report_of_a_sound_network() -> None:
    report = verify(EXAMPLES / "cnn.onnx", trials=3)
    assert report.holds
    found = report.to_json()
    assert 0 < found.pop("max_error") < 1e-5
    assert 1e-6 < found.pop("tolerance") < 1e-4
    assert found.pop("sensitivity") > 0.01
    [(name, output)] = found.pop("outputs").items()
    assert output == {"error": report.max_error, "tolerance": report.tolerance, "sensitivity": report.sensitivity}
    assert name == report.graph.outputs[0].name
    tried = found["negative_controls"]["tried"]
    assert tried >= 3
    assert found == {
        "model": "cnn.onnx",
        "sound": True,
        "trials": 3,
        "generators": 3,
        "kinds": {"permutation": 3},
        "moved_parameters": report.moved_parameters,
        "reacting": 1.0,
        "negative_controls": {"tried": tried, "detected": tried},
        "round_trip": "bit-exact",
        "account_closed": True,
        "skipped": [],
    }
    assert report.moved_parameters > 100


def test_the_same_seed_gives_the_same_report() -> None:
    assert verify(mlp(), seed=3) == verify(mlp(), seed=3)
    assert verify(mlp(), seed=3) != verify(mlp(), seed=4)


def test_a_wrong_rule_is_named() -> None:
    assert verify(LRN).sound
    report = verify(LRN, registry=careless())
    assert report.sound is False
    assert not report.holds
    assert report.max_error > report.tolerance
    [failure] = report.failures
    words = str(failure)
    assert "'a'" in words, "the node group that it moves"
    assert any(op == "LRN" and "frontend.rules" in rule for _, op, rule in failure.nodes), words
    assert any(op == "Conv" for _, op, _ in failure.nodes)
    with pytest.raises(AssertionError, match="a claimed symmetry changes the output"):
        assert_sound(LRN, registry=careless())


def test_a_network_that_onnx_runtime_lacks_is_not_checked() -> None:
    node = helper.make_node("Riddle", ["h"], ["y"], "riddle", domain="nowhere")
    model = build("(float[1, 2] x) => (float[1, 3] h) { h = MatMul(x, w) }", {"w": (2, 3)})
    model.graph.node.append(node)
    model.graph.output[0].name = "y"
    model.opset_import.append(helper.make_opsetid("nowhere", 1))
    report = verify(model)
    assert report.sound is None
    assert report.trials == 0
    assert "Riddle" in report.skipped[0]
    with pytest.raises(AssertionError, match=r"not checked: .*Riddle"):
        assert_sound(model)


def test_outputs_that_say_nothing_are_skipped() -> None:
    text = """(float[1, 3] x) => (float[1, 2] y, float[1, 3] same, float[1, 2] none, float[1, 2] dice) {
        a = MatMul(x, w)
        y = MatMul(a, v)
        same = Abs(x)
        z = Sub(y, y)
        none = Div(z, z)
        r = RandomNormalLike(y)
        dice = Add(y, r)
    }"""
    report = verify(build(text, {"w": (3, 5), "v": (5, 2)}))
    assert report.sound
    assert report.holds
    reasons = dict(reason.split(": ", 1) for reason in report.skipped)
    assert reasons.keys() == {"output 'same'", "output 'none'", "output 'dice'"}
    assert "does not depend" in reasons["output 'same'"]
    assert "finite" in reasons["output 'none'"]
    assert "differ" in reasons["output 'dice'"]


def test_controls_that_change_nothing_leave_it_open() -> None:
    report = verify(mlp(), tolerance=1e6)
    assert report.tried
    assert not report.detected
    assert report.sound is None
    assert "cannot tell" in report.skipped[-1]
    with pytest.raises(AssertionError, match="cannot tell"):
        assert_sound(mlp(), tolerance=1e6)


def test_controls_must_be_ten_times_as_large_as_what_is_allowed() -> None:
    assert verify(mlp(), tolerance=0.5).detected
    assert verify(mlp(), tolerance=0.5).sound is None
    assert verify(mlp(), tolerance=1e-3).sound


def test_a_write_back_that_loses_bits_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    write = write_back.write

    def lossy(graph, values=None, path=None, rounded=False):  # type: ignore[no-untyped-def]
        return write(graph, {n: np.round(v, 3) for n, v in (values or {}).items()}, path, rounded)

    monkeypatch.setattr(write_back, "write", lossy)
    report = verify(mlp())
    assert not report.holds
    assert "differs when it is read back" in report.round_trip


def test_given_inputs_are_run_and_set_the_shapes() -> None:
    text = "(float[batch, time, 3] x) => (float[batch, time, 2] y) { a = MatMul(x, w) b = Relu(a) y = MatMul(b, v) }"
    model = build(text, {"w": (3, 5), "v": (5, 2)})
    assert verify(model, inputs={"x": np.ones((2, 7, 3), dtype=np.float32)}).sound
    with pytest.raises(GmncError, match=r"no input .*'z'"):
        verify(model, inputs={"z": np.ones((2, 7, 3), dtype=np.float32)})
    with pytest.raises(GmncError, match="signs"):
        verify(model, kinds=["permutation", "signs"])


def test_token_ids_stay_within_their_tables() -> None:
    text = """(int64[1, 9] ids, int64[1, 9] mask, bool[1, 9] flags) => (float[1, 9, 2] y) {
        wide = Unsqueeze(ids, one)
        narrow = Squeeze(wide, one)
        t = Gather<axis = 0>(table, narrow)
        m = Cast<to = 1>(mask)
        k = Mul(m, m)
        u = Unsqueeze(k, two)
        a = Mul(t, u)
        y = MatMul(a, w)
    }"""
    model = build(text, {"table": (13, 4), "w": (4, 2)}, {"one": [1], "two": [2]})
    highs = {s.name: s.high for s in input_specs(model)}
    assert highs["ids"] == 13
    inputs = random_inputs(model)
    assert inputs["ids"].max() < 13
    assert inputs["flags"].dtype == np.bool_


def test_tolerance_follows_type_and_depth() -> None:
    shallow = gmnc.compile(mlp())
    deep = gmnc.compile(
        build(
            "(float[1, 3] x) => (float[1, 2] y) { a = MatMul(x, w) b = MatMul(a, u) c = MatMul(b, t) y = MatMul(c, v)}",
            {"w": (3, 5), "u": (5, 5), "t": (5, 5), "v": (5, 2)},
        )
    )
    assert tolerance_of(deep) > tolerance_of(shallow)
    assert tolerance_of(shallow, "float16") > 1000 * tolerance_of(shallow)


def test_tolerance_is_of_the_types_on_the_way_to_each_output() -> None:
    """One odd scalar, a stored table and another output's types do not count; what is computed does."""
    text = """(float[1, 3] x) => (float[1, 2] y, float[1, 2] z) {
        e = Cast<to = 1>(scalar) t = Cast<to = 1>(table)
        a = MatMul(x, t) b = Mul(a, e) c = Relu(b) y = MatMul(c, v)
        h = Cast<to = 16>(c) i = Cast<to = 1>(h) z = MatMul(i, v)
    }"""
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 20]> agraph {text}')
    for name, shape, kind in (("scalar", (), "bfloat16"), ("table", (3, 5), "bfloat16"), ("v", (5, 2), "float32")):
        array = np.random.default_rng(0).uniform(0.5, 1, shape).astype(dtype_of(kind))
        model.graph.initializer.append(onnx_ir.to_proto(onnx_ir.tensor(array, name=name)))
    assert float_types(infer_model(model)) == {"y": "float32", "z": "bfloat16"}
    report = verify(model)
    assert report.sound
    assert report.outputs["y"].tolerance < 1e-4 < 0.1 < report.outputs["z"].tolerance


def test_controls_are_no_symmetries() -> None:
    model = separate_attention()
    graph = gmnc.compile(model)
    own = {n: p.load() for n, p in graph.parameters.items()}
    inputs = random_inputs(model)
    base = run(model, inputs)
    found = list(controls(graph, own, np.random.default_rng(0)))
    assert len(found) >= 6
    errors = [disagreement(base, run(with_values(model, **changes), inputs)) for changes in found]
    # all but at most one: softmax hides what permutes the bias of the keys
    assert sum(e > 1e-4 for e in errors) >= len(errors) - 1


def test_swapped_exchanges_rows_and_columns() -> None:
    model = mlp()
    graph = gmnc.compile(model)
    own = {n: graph.parameters[n].load() for n in ("w", "v")}
    [hidden] = [g for g in graph.groups if g.size == 5]
    new = swapped(graph, own, hidden.start + 1, hidden.start + 4)
    order = [0, 4, 2, 3, 1]
    np.testing.assert_array_equal(new["w"], own["w"][:, order])
    np.testing.assert_array_equal(new["v"], own["v"][order])
    found = swap(graph, hidden.start + 1, hidden.start + 4)
    assert found
    for name, value in apply(graph, found, own).items():
        np.testing.assert_array_equal(new[name], value)


def test_assertions_about_two_networks() -> None:
    model = mlp()
    order = [2, 0, 1, 4, 3]
    permuted = with_values(model, w=values(model, "w")[:, order], v=values(model, "v")[order])
    half = with_values(model, w=values(model, "w")[:, order])
    assert_isomorphic(model, half)
    assert_same_up_to_symmetry(model, permuted)
    with pytest.raises(AssertionError, match=r"other values: only in the first: .*neuron 'a'"):
        assert_same_up_to_symmetry(model, half)
    with pytest.raises(AssertionError, match="other structure"):
        assert_isomorphic(model, build(MLP.replace("Relu", "Tanh"), {"w": (3, 5), "v": (5, 2)}))
    with pytest.raises(AssertionError, match=r"differ in numbers: .*neuron"):
        assert_isomorphic(model, build(MLP, {"w": (3, 6), "v": (6, 2)}))


def test_external_data(tmp_path: Path) -> None:
    model = mlp()
    path = tmp_path / "net.onnx"
    onnx.save_model(model, path, save_as_external_data=True, size_threshold=0, location="net.data")
    report = verify(path)
    assert report.holds
    assert report.sound
    assert report.generators == 4


def test_sequences_as_inputs_are_refused() -> None:
    model = mlp()
    model.graph.input.append(helper.make_tensor_sequence_value_info("seq", TensorProto.FLOAT, None))
    with pytest.raises(GmncError, match="seq"):
        verify(model)
