"""Long runs of elementwise operators are lowered in one step, to the graph that they give one by one."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import gmnc
from gmnc.frontend.passes import model_after
from gmnc.frontend.reading.load import load
from gmnc.frontend.rewriting import runs
from gmnc.frontend.rules.plugins import installed
from gmnc.testing import assert_sound

Step = tuple[str, dict[str, object], list[object]]

STEPS: dict[str, Step] = {
    "unary": ("Tanh", {}, [None]),
    "idempotent": ("Relu", {}, [None]),
    "identity": ("Identity", {}, [None]),
    "attribute": ("LeakyRelu", {"alpha": 0.25}, [None]),
    "text": ("Gelu", {"approximate": "tanh"}, [None]),
    "number": ("Mul", {}, [None, 0.5]),
    "number first": ("Sub", {}, [1.0, None]),
    "bounds": ("Clip", {}, [None, -0.75, 0.5]),
}


def chain(steps: list[Step], generated: bool = True, **options: object) -> onnx.ModelProto:
    """x W, then these steps, then a second layer; numbers are Constant nodes, or else initializers (parameters)."""
    nodes, numbers, last = [helper.make_node("MatMul", ["x", "w"], ["h"])], {}, "h"
    for i, (op, attributes, operands) in enumerate(steps):
        names = [last if v is None else f"{op}.{v}" for v in operands]
        numbers |= {n: np.float32(v) for n, v in zip(names, operands, strict=True) if v is not None}
        last = f"h{i}"
        nodes.append(helper.make_node(op, names, [last], **attributes))
    nodes.append(helper.make_node("MatMul", [last, "v"], ["y"]))
    stored = {n: numpy_helper.from_array(np.asarray(v), n) for n, v in numbers.items()}
    written = [helper.make_node("Constant", [], [n], value=t) for n, t in stored.items()] if generated else []
    rng = np.random.default_rng(0)
    weights = {n: rng.standard_normal(s).astype(np.float32) for n, s in (("w", (3, 4)), ("v", (4, 2)))}
    tensors = [numpy_helper.from_array(a, n) for n, a in weights.items()] + ([] if generated else list(stored.values()))
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [5, k]) for n, k in (("x", 3), ("y", 2)))
    graph = helper.make_graph([*written, *nodes], "chain", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def merged(model: onnx.ModelProto) -> list[int]:
    """How many steps each run has after the pass."""
    after = model_after(load(model), "merge-runs", {}, {}, installed())
    return [len(node.attributes["steps"].as_strings()) for node in after.graph if node.op_type == "Run"]


@pytest.mark.parametrize("name", [*STEPS, "all"])
def test_a_run_gives_the_graph_of_its_operators(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = list(STEPS.values()) * 2 if name == "all" else [STEPS[name]] * 3
    model = chain(steps)
    one_by_one = gmnc.compile(model)
    monkeypatch.setattr(runs, "SHORTEST", 2)
    assert merged(model) == [sum(op != "Identity" for op, _, _ in steps)]
    graph = gmnc.compile(model)
    assert str(graph) == str(one_by_one)
    assert graph.vias == one_by_one.vias
    assert graph.account == one_by_one.account
    assert_sound(model, kinds=("permutation", "sign", "scale"))


def test_parameters_are_in_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "SHORTEST", 2)
    model = chain([STEPS["unary"], STEPS["number"], STEPS["unary"]], generated=False)
    assert merged(model) == []
    assert gmnc.compile(model).num_parameter_edges == 3 * 4 + 4 * 2 + 1


@pytest.mark.parametrize("reader", ["output", "second use"])
def test_values_that_others_read_end_a_run(reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "SHORTEST", 2)
    model = chain([STEPS["unary"], STEPS["attribute"]] * 4)
    if reader == "output":
        model.graph.output.append(helper.make_tensor_value_info("h2", TensorProto.FLOAT, [5, 4]))
    else:
        model.graph.node[-1].input[0] = "sum"
        model.graph.node.insert(len(model.graph.node) - 1, helper.make_node("Add", ["h2", "h7"], ["sum"]))
    assert merged(model) == [3, 5]


def test_runs_on_weights_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "SHORTEST", 2)
    model = chain([STEPS["unary"]])
    model.graph.node[-1].input[1] = "v1"
    at = len(model.graph.node) - 1
    model.graph.node.insert(at, helper.make_node("Tanh", ["v"], ["v0"]))
    model.graph.node.insert(at + 1, helper.make_node("Exp", ["v0"], ["v1"]))
    assert merged(model) == []


def test_short_runs_stay() -> None:
    assert merged(chain([STEPS["unary"]] * (runs.SHORTEST - 1))) == []
    assert merged(chain([STEPS["unary"]] * runs.SHORTEST)) == [runs.SHORTEST]
