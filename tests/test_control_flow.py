"""Control flow: names and places of what lies in branches and loops, and what is left of those that do not run."""

from __future__ import annotations

import numpy as np
import pytest
from corpus import corpus_file

import gmnc
from gmnc.backends.onnx import write
from gmnc.testing import build, verify

_SAME_NAMES = """(float[2, 3] x, bool c) => (float[2, 4] y) {
    h = Relu(x)
    y = If(c) <
        then_branch = t () => (float[2, 4] o) <float[3, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}> {
            s = MatMul(h, w) o = Tanh(s) },
        else_branch = e () => (float[2, 4] o) <float[3, 4] w = {12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1}> {
            s = MatMul(h, w) o = Sin(s) }>
}"""


def test_branches_may_use_the_same_names() -> None:
    model = build(_SAME_NAMES)
    before = model.SerializeToString()
    graph = gmnc.compile(model)
    assert model.SerializeToString() == before
    assert graph.num_parameter_edges == graph.num_parameters == 24
    assert not graph.opaque
    new = {name: p.load() + 1 for name, p in graph.parameters.items()}
    again = gmnc.compile(write(graph, new))
    assert {n: p.load().tolist() for n, p in again.parameters.items()} == {n: v.tolist() for n, v in new.items()}


def test_what_a_known_condition_rules_out_is_dead() -> None:
    model = build(
        _SAME_NAMES.replace("bool c)", "bool unused)").replace("h = Relu", "c = Constant<value = bool {1}>() h = Relu")
    )
    graph = gmnc.compile(model)
    assert [(e.count, e.where) for e in graph.account] == [(12, "dead")]
    assert graph.num_parameter_edges == 12
    assert {v.op for v in graph.vias} >= {"Relu", "Tanh"}
    assert "Sin" not in {v.op for v in graph.vias}


def test_a_branch_that_does_not_fit_the_shapes_is_dead() -> None:
    text = """(float[1, N] x, bool c) => (float[1, 2] y) {
        y = If(c) <then_branch = t () => (float[1, 2] o) { o = MatMul(x, w3) },
                   else_branch = e () => (float[1, 2] p) { p = MatMul(x, w5) }>
    }"""
    model = build(text, {"w3": (3, 2), "w5": (5, 2)})
    for size, dead in ((3, "w5"), (5, "w3")):
        graph = gmnc.compile(model, dims={"N": size})
        assert [(e.name, e.where) for e in graph.account] == [(dead, "dead")]


def test_branches_of_different_shapes_are_opaque_but_their_weights_are_not() -> None:
    text = """(float[2, 3] x, bool c) => (float[N, M] y) {
        y = If(c) <then_branch = t () => (float[2, 4] o) { o = MatMul(x, w4) },
                   else_branch = e () => (float[2, 5] p) { p = MatMul(x, w5) }>
    }"""
    graph = gmnc.compile(build(text, {"w4": (3, 4), "w5": (3, 5)}))
    assert graph.num_parameter_edges == graph.num_parameters == 27
    assert ["different shapes" in o.reason for o in graph.opaque] == [True]


@pytest.mark.skipif(not corpus_file("silero_vad").exists(), reason="no corpus beside the repository")
def test_a_network_in_each_branch() -> None:
    path = corpus_file("silero_vad")
    shapes = {"input": (1, 256), "state": (2, 1, 128)}
    graph = gmnc.compile(path, inputs=shapes)
    assert graph.num_parameter_edges == graph.num_parameters - 4
    assert not graph.opaque
    feeds = {"input": 0.1 * np.ones(shapes["input"], np.float32), "state": np.zeros(shapes["state"], np.float32)}
    report = verify(path, trials=2, inputs={**feeds, "sr": np.array(8000)})
    assert report.sound, report
