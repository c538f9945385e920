"""Networks held in memory: the outputs of the model that is written back, and a check that is not fooled by others."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import gmnc
from gmnc.backends import onnx as write_back
from gmnc.testing import build, verify
from gmnc.testing.held import HeldNetwork
from gmnc.testing.processes import ChildProcess, InProcess, Runner
from gmnc.testing.runtime import Network
from gmnc.testing.trial import perturbed_values

X = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)


def plain() -> onnx.ModelProto:
    """An initializer, a Constant node, and a table that an If reads from outside."""
    text = """(float[2, 3] x) => (float[2, 2] y) {
        c = Constant<value = float[5] {0.1, 0.2, 0.3, 0.4, 0.5}>()
        a = MatMul(x, w) b = Add(a, c) d = Relu(b) p = MatMul(d, v) t = ReduceSum<keepdims = 0>(p) z = Greater(t, zero)
        y = If(z) <
            then_branch = f () => (float[2, 2] r) { r = Add(p, e) },
            else_branch = g () => (float[2, 2] q) { q = Sub(p, e) }
        >
    }"""
    return build(text, {"w": (3, 5), "v": (5, 2), "e": (2,), "zero": ()})


def quantised() -> onnx.ModelProto:
    """Weights as int8 with a scale per column."""
    text = """(float[2, 3] x) => (float[2, 2] y) {
        d = DequantizeLinear<axis = 1>(w, s) a = MatMul(x, d) b = Relu(a) y = MatMul(b, v)
    }"""
    model = build("(float[2, 3] x) => (float[2, 3] y) { y = Relu(x) }")
    graph = onnx.parser.parse_graph(f"agraph {text}")
    codes = np.random.default_rng(0).integers(-100, 100, (3, 5)).astype(np.int8)
    graph.initializer.append(numpy_helper.from_array(codes, "w"))
    for name, shape in (("s", (5,)), ("v", (5, 2))):
        values = np.random.default_rng(1).uniform(0.01, 0.1, shape).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(values, name))
    model.graph.CopyFrom(graph)
    return model


def half() -> onnx.ModelProto:
    text = """(float[2, 3] x) => (float[2, 2] y) {
        c = Cast<to = 10>(x) a = MatMul(c, w) b = Relu(a) d = MatMul(b, v) y = Cast<to = 1>(d)
    }"""
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 20]> agraph {text}')
    for name, shape in (("w", (3, 5)), ("v", (5, 2))):
        values = np.random.default_rng(2).uniform(0.1, 1, shape).astype(np.float16)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return model


NETWORKS = {"plain": plain, "quantised": quantised, "half": half}


def runners() -> list[Runner]:
    return [InProcess(), ChildProcess(60, 0)]


@pytest.mark.filterwarnings("ignore::gmnc.ir.StorageWarning")
@pytest.mark.parametrize("name", NETWORKS)
def test_held_and_written_networks_agree(name: str) -> None:
    graph = gmnc.compile(NETWORKS[name]())
    rng = np.random.default_rng(0)
    values = perturbed_values(graph, {n: p.load() for n, p in graph.parameters.items()}, rng)
    generators = gmnc.symmetries(graph).generators
    assert generators
    some = [{}, *(g.apply(values) for g in generators[:2])]
    some += [{n: (v * np.linspace(0.5, 1.5, v.size).reshape(v.shape)).astype(v.dtype)} for n, v in values.items()]
    for runner in runners():
        try:
            written = Network(graph, runner)
            held = HeldNetwork(graph, values, write_back.serialised(graph, values, rounded=True), runner)
            for changes in some:
                [expected] = written.run({**values, **changes}, [{"x": X}])
                found = held.run(changes, [{"x": X}])
                assert found is not None
                np.testing.assert_array_equal(found[0]["y"], expected["y"])
                assert held.matches(changes, write_back.serialised(graph, {**values, **changes}, rounded=True))
        finally:
            runner.close()


def test_a_bit_that_differs_is_seen() -> None:
    graph = gmnc.compile(plain())
    own = {n: p.load() for n, p in graph.parameters.items()}
    held = HeldNetwork(graph, own, write_back.serialised(graph, own), InProcess())
    changes = {"w": own["w"][:, ::-1].copy()}
    assert held.matches(changes, write_back.serialised(graph, {**own, **changes}))
    other = own["v"].copy()
    other.view(np.uint8)[0, 0] ^= 1
    assert not held.matches(changes, write_back.serialised(graph, {**own, **changes, "v": other}))
    assert not held.matches({}, write_back.serialised(graph, {**own, **changes}))


def test_two_networks_take_turns_in_one_runner() -> None:
    graph = gmnc.compile(plain())
    own = {n: p.load() for n, p in graph.parameters.items()}
    runner = InProcess()
    both = [HeldNetwork(graph, v, write_back.serialised(graph, v), runner) for v in (own, {**own, "w": 2 * own["w"]})]
    first, second, again = (both[i].run({}, [{"x": X}]) for i in (0, 1, 0))
    assert first is not None
    assert second is not None
    assert again is not None
    np.testing.assert_array_equal(first[0]["y"], again[0]["y"])
    assert not np.allclose(first[0]["y"], second[0]["y"])


def test_the_model_is_written_a_few_times_only(monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    serialised = write_back.serialised
    monkeypatch.setattr(write_back, "serialised", lambda *a, **k: written.append(1) or serialised(*a, **k))
    report = verify(plain(), trials=8)
    assert report.sound
    assert report.trials == 8
    # for the reference outputs, the first product and the first control
    assert len(written) == 3


@pytest.mark.parametrize("from_run", [0, 1, 4])
def test_a_held_network_that_computes_something_else_is_given_up(
    monkeypatch: pytest.MonkeyPatch, from_run: int
) -> None:
    """It is compared with the written model at the start and at the first product; failures are confirmed there."""
    run, count = HeldNetwork.run, []

    def wrong(held: HeldNetwork, changes: dict, feeds: list) -> list | None:
        found = run(held, changes, feeds)
        count.append(1)
        if found is not None and len(count) > from_run:
            return [{n: v + len(count) for n, v in outputs.items()} for outputs in found]
        return found

    monkeypatch.setattr(HeldNetwork, "run", wrong)
    assert verify(plain()).sound


def test_attributes_are_written() -> None:
    """Weights in an attribute cannot be inputs: each change is written into the model."""
    node = helper.make_node(
        "LinearRegressor", ["b"], ["y"], domain="ai.onnx.ml", coefficients=[0.3, 0.2, 0.5, 0.1, 0.7], intercepts=[0.1]
    )
    model = build("(float[2, 3] x) => (float[2, 5] b) { a = MatMul(x, w) b = Relu(a) }", {"w": (3, 5)})
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    model.graph.node.append(node)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, 1]))
    report = verify(model)
    assert report.sound
    assert report.generators == 4
