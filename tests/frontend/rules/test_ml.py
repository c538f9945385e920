"""Trees of ai.onnx.ml: what their attributes become, counted by hand, written back and run in ONNX Runtime."""

from __future__ import annotations

import copy
import sys
from math import factorial, log10
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases
from support.forests import DOMAIN, FLOAT, Tree, X, listed, model_of, onnx_of, random_tree, separate
from support.tiers import first

import gmnc
from gmnc.backends.onnx import values_from_edges, write
from gmnc.ir import ParameterGraph
from gmnc.symmetry.find import swap
from gmnc.testing import count, run, verify


def _stump(feature: int, threshold: float, true: float, false: float, target: int = 0) -> Tree:
    return Tree([], feature, 0, 0, threshold, Tree([(target, true)]), Tree([(target, false)]))


def _regressor(trees: list[Tree], targets: int = 1, **attributes: Any) -> onnx.ModelProto:
    every = {**listed(trees, "target"), "n_targets": targets, **attributes}
    return model_of("TreeEnsembleRegressor", every, 3, {"y": (FLOAT, (40, targets))}, rows=40)


def _ensemble(trees: list[Tree], targets: int = 1, **attributes: Any) -> onnx.ModelProto:
    every = {**separate(trees), "n_targets": targets, **attributes}
    return model_of("TreeEnsemble", every, 3, {"y": (FLOAT, (40, targets))}, rows=40, version=5)


def _values(graph: ParameterGraph) -> dict[str, np.ndarray]:
    return {name.rpartition(".")[2]: np.asarray(p.load()) for name, p in graph.parameters.items()}


DEEP = Tree([], 2, 1, 1, 0.25, _stump(0, -0.5, 1.0, 2.0), Tree([(0, 3.0), (1, 4.0)]))


def test_two_trees_counted_by_hand() -> None:
    graph = gmnc.compile(_regressor([DEEP, _stump(1, 0.1, 5.0, 6.0)], 2, base_values=[7.0, 8.0]))
    # 2 + 1 splits, 3 + 2 leaves, 2 targets; votes 1 + 1 + 2 and 1 + 1; every split has two branches
    assert count(graph) == {
        "nodes": {"input": 3, "split": 3, "neuron": 5 + 2, "param": 1},
        "edges": {"threshold": 3, "leaf": 6, "bias": 2},
        "links": {"true": 3, "false": 3},
    }
    assert graph.not_parameters() == {"threshold of a leaf": 5, "hit rate: no result depends on it": 8}
    assert graph.opaque == ()
    threshold = next(b for b in graph.edges if b.role == "threshold")
    found = zip(threshold.src[:, 0].tolist(), graph.values(threshold).reshape(-1).tolist(), strict=True)
    assert sorted(found) == [(0, -0.5), (1, np.float32(0.1)), (2, 0.25)]
    texts = {graph.via_text(int(v)) for v in threshold.via.reshape(-1)}
    assert texts == {f"Branch[missing={m}, mode=BRANCH_{c}]" for m, c in (("false", "LEQ"), ("true", "LT"))}
    assert "aggregate=SUM" in graph.via_text(int(graph.outputs[0].via[0]))


@pytest.mark.parametrize("make", [_regressor, _ensemble])
def test_branches_lead_where_the_tree_says(make: Any) -> None:
    graph = gmnc.compile(make([Tree([], 2, 1, 1, 0.25, _stump(0, -0.5, 1.0, 2.0), Tree([(0, 3.0)]))]))
    thresholds, leaves = (next(b for b in graph.edges if b.role == r) for r in ("threshold", "leaf"))
    split = dict(zip(graph.values(thresholds).reshape(-1).tolist(), thresholds.dst[:, 0].tolist(), strict=True))
    leaf = dict(zip(graph.values(leaves).reshape(-1).tolist(), leaves.src[:, 0].tolist(), strict=True))
    links = {(b.role, s, d) for b in graph.links for s, d in zip(b.src.tolist(), b.dst.tolist(), strict=True)}
    top, low = split[0.25], split[-0.5]
    assert links == {
        ("true", top, low), ("false", top, leaf[3.0]), ("true", low, leaf[1.0]), ("false", low, leaf[2.0])
    }  # fmt: skip


@pytest.mark.parametrize("make", [_regressor, _ensemble])
def test_equal_trees_trade_places(make: Any) -> None:
    trees = [_stump(1, i / 10, i, -i) for i in range(1, 6)]
    model = make([*trees, _stump(2, 0.0, 9.0, 8.0), Tree([], 1, 1, 0, 0.4, Tree([(0, 1.5)]), Tree([(0, 2.5)]))])
    graph = gmnc.compile(model)
    found = gmnc.symmetries(graph)
    # five trees are alike; another one looks at another feature, and one compares otherwise
    assert found.log10_size == pytest.approx(log10(factorial(5)))
    values = {name: p.load() for name, p in graph.parameters.items()}
    new = found.generators[0].apply(values)
    old, written = run(model, {"x": X}), run(onnx_of(write(graph, new)), {"x": X})
    # thresholds and leaf weights of the two trees, nothing else
    assert sum(int((new[n] != values[n]).sum()) for n in new) == 2 + 2 * 2
    np.testing.assert_allclose(written["y"], old["y"], rtol=1e-6)
    report = verify(model, inputs={"x": X})
    assert report.sound
    assert report.moved_parameters
    assert report.detected


def test_branches_do_not_trade_places() -> None:
    graph = gmnc.compile(_regressor([_stump(1, 0.1, 5.0, 6.0)]))
    leaves = next(b for b in graph.edges if b.role == "leaf")
    assert not swap(graph, int(leaves.src[0, 0]), int(leaves.src[1, 0]))
    assert not gmnc.symmetries(graph).generators


def test_a_set_has_an_edge_for_each_member() -> None:
    tree = Tree([], 0, 6, 0, 0.0, _stump(1, 0.5, 1.0, 2.0), Tree([], 2, 6, 0, 0.0, Tree([(0, 3.0)]), Tree([(0, 4.0)])))
    members = numpy_helper.from_array(np.array([1.5, 2.5, np.nan, 3.5, 4.5, 5.5], np.float32))
    model = _ensemble([tree], membership_values=members)
    graph = gmnc.compile(model)
    # the first set is of the root, on feature 0; of the thresholds only that of the stump says anything
    assert count(graph)["edges"] == {"threshold": 1, "member": 5, "leaf": 4}
    assert graph.not_parameters() == {"threshold of a split with a set": 2, "delimiter of sets": 1}
    block = next(b for b in graph.edges if b.role == "member")
    pairs = zip(block.src[:, 0].tolist(), graph.values(block).reshape(-1).tolist(), strict=True)
    assert list(pairs) == [(0, 1.5), (0, 2.5), (2, 3.5), (2, 4.5), (2, 5.5)]
    rows = np.array([[1.5, 0, 0], [2.5, 9, 0], [0, 0, 4.5], [0, 0, 0]], np.float32)
    assert run(model, {"x": np.tile(rows, (10, 1))})["y"][:4, 0].tolist() == [1, 2, 3, 4]
    assert verify(model, inputs={"x": np.tile(rows, (10, 1))}).sound


def test_comparisons_that_share_a_branch() -> None:
    """LightGBM's categories: a chain of equalities whose true branches are one node."""
    attributes = {
        "nodes_treeids": [0] * 4, "nodes_nodeids": [0, 1, 2, 3], "nodes_featureids": [0, 0, 0, 0],
        "nodes_values": [1.0, 2.0, 0.0, 0.0], "nodes_modes": ["BRANCH_EQ", "BRANCH_EQ", "LEAF", "LEAF"],
        "nodes_truenodeids": [2, 2, 0, 0], "nodes_falsenodeids": [1, 3, 0, 0], "target_treeids": [0, 0],
        "target_nodeids": [2, 3], "target_ids": [0, 0], "target_weights": [5.0, 7.0], "n_targets": 1,
    }  # fmt: skip
    model = model_of("TreeEnsembleRegressor", attributes, 1, {"y": (FLOAT, (3, 1))}, rows=3)
    graph = gmnc.compile(model)
    assert count(graph)["links"] == {"true": 2, "false": 2}
    assert graph.opaque == ()
    x = np.array([[1.0], [2.0], [3.0]], np.float32)
    assert run(model, {"x": x})["y"].reshape(-1).tolist() == [5, 5, 7]


@pytest.mark.parametrize(
    ("attribute", "place", "value"),
    [
        ("nodes_truenodeids", 0, 9),
        ("nodes_truenodeids", 0, -1),
        ("nodes_truenodeids", 1, 0),
        ("nodes_falsenodeids", 0, 0),
        ("nodes_nodeids", 1, 0),
        ("nodes_nodeids", 1, 1 << 60),
        ("nodes_treeids", 1, 7),
        ("nodes_featureids", 0, 3),
        ("nodes_featureids", 0, -1),
        ("nodes_modes", 0, "BRANCH_MAYBE"),
        ("nodes_modes", 0, "LEAF"),
        ("target_nodeids", 0, 0),
        ("target_treeids", 0, 5),
        ("target_ids", 0, 2),
        ("n_targets", None, 10**9),
        ("n_targets", None, 0),
    ],
)
def test_what_are_no_trees_is_opaque(attribute: str, place: int | None, value: Any) -> None:
    every = {**listed([DEEP, _stump(1, 0.1, 5.0, 6.0)], "target"), "n_targets": 2}
    if place is None:
        every[attribute] = value
    else:
        every[attribute][place] = value
    graph = gmnc.compile(model_of("TreeEnsembleRegressor", every, 3, {"y": (FLOAT, (40, 2))}, rows=40))
    assert len(graph.opaque) == 1
    assert graph.num_opaque_parameters == graph.num_parameters > 0


@pytest.mark.parametrize(
    ("attribute", "place", "value"),
    [
        ("nodes_truenodeids", 0, 5),
        ("nodes_truenodeids", 1, 1),
        ("nodes_trueleafs", 1, 1),
        ("tree_roots", 0, 1),
        ("tree_roots", 0, -1),
        ("leaf_targetids", 0, 3),
    ],
)
def test_what_are_no_separate_trees_is_opaque(attribute: str, place: int, value: int) -> None:
    every = {**separate([_stump(0, 0.2, 1, 2), Tree([], 2, 1, 1, 0.25, _stump(0, -0.5, 1, 2), Tree([(0, 3.0)]))])}
    every[attribute][place] = value
    model = model_of("TreeEnsemble", {**every, "n_targets": 1}, 3, {"y": (FLOAT, (40, 1))}, rows=40, version=5)
    graph = gmnc.compile(model)
    assert len(graph.opaque) == 1
    assert graph.num_opaque_parameters == graph.num_parameters > 0


@pytest.mark.parametrize("make", [_regressor, _ensemble])
def test_values_are_written_into_the_attributes(make: Any, tmp_path: Path) -> None:
    trees = [_stump(1, 0.1, 5.0, 6.0), _stump(2, -0.3, 1.0, 2.0)]
    onnx.save(make(trees), tmp_path / "net.onnx")
    graph = gmnc.compile(tmp_path / "net.onnx")
    write(graph, values_from_edges(graph, [graph.values(b) for b in graph.edges]), tmp_path / "same.onnx")
    assert (tmp_path / "same.onnx").read_bytes() == (tmp_path / "net.onnx").read_bytes()
    changed = [graph.values(b) + np.float32(0.5) for b in graph.edges]
    write(graph, values_from_edges(graph, changed), tmp_path / "new.onnx")
    wanted = copy.deepcopy(trees)
    for tree in wanted:
        for node in tree.nodes():
            node.threshold = float(np.float32(node.threshold) + np.float32(0.5))
            node.votes = [(t, w + 0.5) for t, w in node.votes]
    expected = run(make(wanted), {"x": X})["y"]
    np.testing.assert_array_equal(run(tmp_path / "new.onnx", {"x": X})["y"], expected)
    assert np.abs(expected - run(tmp_path / "net.onnx", {"x": X})["y"]).max() > 0.1
    for name, array in _values(gmnc.compile(tmp_path / "new.onnx")).items():
        if name.endswith("weights"):
            np.testing.assert_array_equal(array, [w for t in wanted for n in t.nodes() for _, w in n.votes])


@pytest.mark.parametrize("names", [("", ""), ("same", "same"), ("one", "two")])
def test_nodes_are_told_apart_whatever_their_names(names: tuple[str, str]) -> None:
    nodes = [
        helper.make_node("Scaler", [x], [y], name=name, domain=DOMAIN, scale=[s], offset=[0.0])
        for x, y, name, s in (("x", "h", names[0], 2.0), ("h", "y", names[1], 3.0))
    ]
    x, y = (helper.make_tensor_value_info(n, FLOAT, [2, 3]) for n in "xy")
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, 3)]
    model = helper.make_model(helper.make_graph(nodes, "two", [x], [y]), opset_imports=opsets, ir_version=10)
    graph = gmnc.compile(model)
    second = next(n for n, p in graph.parameters.items() if p.load() == np.float32(3.0))
    written = gmnc.compile(write(graph, {second: np.array([5.0], np.float32)}))
    assert [p.load().item() for p in written.parameters.values()] == [0, 2, 0, 5]


def test_attributes_stay_with_their_node_where_another_is_expanded() -> None:
    body = """(float[1, 1, 4, 2] x) => (float[4, 1] y) {
        a = Attention(x, x, x)
        f = Reshape(a, shape)
        y = ai.onnx.ml.LinearRegressor<coefficients = [0.5, 0.25], intercepts = [1.0]>(f) }"""
    model = onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 23, "ai.onnx.ml" : 3]> g ' + body)
    model.graph.initializer.append(numpy_helper.from_array(np.array([4, 2]), "shape"))
    graph = gmnc.compile(model)
    assert count(graph)["edges"] == {"weight": 2, "bias": 1}
    name = next(n for n in graph.parameters if n.endswith("coefficients"))
    written = gmnc.compile(write(graph, {name: np.array([3, 4], np.float32)}))
    assert written.parameters[name].load().tolist() == [3, 4]


def test_attributes_of_dead_nodes_are_accounted_for() -> None:
    model = _regressor([_stump(1, 0.1, 5.0, 6.0)])
    dead = helper.make_node("Scaler", ["x"], ["nothing"], domain=DOMAIN, scale=[1.0] * 3, offset=[2.0] * 3)
    model.graph.node.append(dead)
    graph = gmnc.compile(model)
    assert graph.not_parameters()["dead"] == 6


def test_an_operator_that_is_refused_keeps_its_parameters_in_the_account() -> None:
    node = helper.make_node("LinearRegressor", ["x"], ["y"], domain=DOMAIN, coefficients=[1.0] * 4, targets=1)
    x, y = (helper.make_tensor_value_info(n, FLOAT, [2, k]) for n, k in (("x", 3), ("y", 1)))
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, 3)]
    graph = gmnc.compile(helper.make_model(helper.make_graph([node], "g", [x], [y]), opset_imports=opsets))
    assert "rows of 3" in graph.opaque[0].reason
    assert graph.num_opaque_parameters == graph.num_parameters == 4


def _drawn(kind: str, seed: int) -> tuple[onnx.ModelProto, int]:
    """A random ensemble of which some trees have one shape; operator, aggregate and transform by chance."""
    rng = np.random.default_rng(seed)
    features, targets = (int(n) for n in rng.integers(1, 4, 2))
    shapes = [random_tree(rng, int(rng.integers(1, 4)), features, targets) for _ in range(rng.integers(1, 3))]
    trees = [copy.deepcopy(shapes[i]) for i in rng.integers(len(shapes), size=rng.integers(2, 6))]
    for node in (node for tree in trees for node in tree.nodes()):
        node.threshold, node.votes = float(rng.normal()), [(t, float(rng.normal())) for t, _ in node.votes]
    if kind == "TreeEnsembleRegressor":
        every = {**listed(trees, "target"), "n_targets": targets, "base_values": rng.normal(size=targets).tolist()}
        every["aggregate_function"] = str(rng.choice(["SUM", "AVERAGE", "MIN", "MAX"]))
        every["post_transform"] = str(rng.choice(["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"]))
        return model_of(kind, every, features, {"y": (FLOAT, (6, targets))}), features
    if kind == "TreeEnsembleClassifier":
        classes = max(targets, 2)
        every = {**listed(trees, "class"), "classlabels_int64s": list(range(5, 5 + classes))}
        every["post_transform"] = str(rng.choice(["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"]))
        if rng.random() < 0.5:
            every["base_values"] = rng.normal(size=classes).tolist()
        outputs = {"l": (TensorProto.INT64, (6,)), "y": (FLOAT, (6, classes))}
        return model_of(kind, every, features, outputs), features
    for node in (node for tree in trees for node in tree.nodes()):
        node.votes = node.votes[:1]
    grown = [tree for tree in trees if tree.true is not None] or [_stump(0, 0.1, 1, 2)]
    every = {**separate(grown), "n_targets": targets, "aggregate_function": int(rng.integers(4))}
    every["post_transform"] = int(rng.integers(4))
    return model_of(kind, every, features, {"y": (FLOAT, (6, targets))}, version=5), features


@pytest.mark.parametrize("seed", first(2, range(8)))
@pytest.mark.parametrize("kind", ["TreeEnsembleRegressor", "TreeEnsembleClassifier", "TreeEnsemble"])
def test_random_ensembles_are_sound(kind: str, seed: int) -> None:
    model, features = _drawn(kind, seed)
    x = np.random.default_rng(seed).normal(size=(6, features)).astype(np.float32)
    report = verify(model, trials=2, inputs={"x": x})
    assert report.sound, report
    assert report.graph.opaque == ()
    assert report.round_trip == "bit-exact"
    assert report.account_closed


def _calls(model: onnx.ModelProto) -> int:
    """How often functions of the frontend are called while a model is compiled."""
    count, room = 0, str(Path(gmnc.frontend.__file__).parent)

    def watch(frame: Any, event: str, _: Any) -> None:
        nonlocal count
        count += event == "call" and frame.f_code.co_filename.startswith(room)

    sys.setprofile(watch)
    try:
        graph = gmnc.compile(model)
    finally:
        sys.setprofile(None)
    assert graph.opaque == ()
    return count


@pytest.mark.parametrize("make", [_regressor, _ensemble])
def test_compiling_takes_no_step_per_node(make: Any) -> None:
    gmnc.compile(make([DEEP]))
    tree = random_tree(np.random.default_rng(0), 6, 3, 1, full=True)
    few, many = ([copy.deepcopy(tree) for _ in range(n)] for n in (2, 20))
    assert _calls(make(many)) < 1.1 * _calls(make(few))


@pytest.mark.full
def test_node_cases_of_onnx() -> None:
    cases = [c for c in collect_testcases(None) if any(n.domain == DOMAIN for n in c.model.graph.node)]
    assert len(cases) >= 8
    for case in cases:
        names = [i.name for i in case.model.graph.input]
        feeds = dict(zip(names, case.data_sets[0][0], strict=True))
        report = verify(case.model, inputs={n: a for n, a in feeds.items() if a.dtype.kind != "O"})
        assert report.sound is not False, case.name
        assert report.account_closed, case.name
        assert report.graph.opaque == () or case.name.endswith("array_feature_extractor")
