"""The loss along the line between two networks: against formulas, and labels that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support.commands import parsed, run

from gmnc.ir import GmncError
from gmnc.testing import build
from gmnc.testing import run as outputs_of
from gmnc.transforms import align, merge

TEXT = "(float[N, 3] x) => (float[N, 4] y) { a = Gemm(x, w, b) c = Tanh(a) y = MatMul(c, v) }"
SHAPES = {"w": (3, 6), "b": (6,), "v": (6, 4)}
RNG = np.random.default_rng(0)
X = {"x": RNG.standard_normal((20, 3)).astype(np.float32)}
CLASSES, TARGETS = RNG.integers(0, 4, 20), RNG.standard_normal((20, 4)).astype(np.float32)


def floats(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}


def between(a: onnx.ModelProto, b: onnx.ModelProto, t: float) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(a)
    for tensor in made.graph.initializer:
        mean = (1 - t) * floats(a)[tensor.name] + t * floats(b)[tensor.name]
        tensor.CopyFrom(onnx.numpy_helper.from_array(mean.astype(np.float32), tensor.name))
    return made


def cross_entropy(scores: np.ndarray, labels: np.ndarray) -> float:
    chances = np.exp(scores.astype(np.float64))
    return float(-np.log(chances[np.arange(len(labels)), labels] / chances.sum(axis=1)).mean())


def ordered(b: onnx.ModelProto, order: np.ndarray) -> onnx.ModelProto:
    """The network with its hidden neurons in another order."""
    made = onnx.ModelProto()
    made.CopyFrom(b)
    for tensor in made.graph.initializer:
        value = floats(b)[tensor.name]
        value = value[order] if tensor.name == "v" else value[..., order]
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(value), tensor.name))
    return made


def test_cross_entropy_and_accuracy() -> None:
    a, b = (build(TEXT, SHAPES, seed=s) for s in (0, 1))
    found = align(a, b, inputs=X, labels=CLASSES).line
    assert found is not None
    assert (found.output, found.loss, found.samples) == ("y", "cross-entropy", 20)
    assert found.points == pytest.approx(np.linspace(0, 1, 11))
    assert found.accuracy_before is not None
    for number, t in enumerate(found.points):
        scores = outputs_of(between(a, b, t), X)["y"]
        assert found.before[number] == pytest.approx(cross_entropy(scores, CLASSES), rel=1e-5)
        assert found.accuracy_before[number] == pytest.approx((scores.argmax(axis=1) == CLASSES).mean())
    assert found.after[0] == found.before[0]
    assert found.after[-1] == pytest.approx(found.before[-1], rel=1e-5)
    straight = (1 - np.array(found.points)) * found.before[0] + np.array(found.points) * found.before[-1]
    assert found.barrier_before == pytest.approx((np.array(found.before) - straight).max())


def test_the_barrier_of_a_network_in_another_order_vanishes() -> None:
    a = build(TEXT, SHAPES)
    labels = outputs_of(a, X)["y"].argmax(axis=1)
    found = align(a, ordered(a, np.array([3, 4, 5, 0, 1, 2])), inputs=X, labels=labels).line
    assert found is not None
    assert found.barrier_before > 0.01
    assert found.barrier_after == pytest.approx(0, abs=1e-6)
    assert found.accuracy_after == (1.0,) * 11
    assert found.accuracy_before is not None
    assert min(found.accuracy_before) < 1


def test_squared_errors() -> None:
    a, b = (build(TEXT, SHAPES, seed=s) for s in (0, 1))
    found = align(a, b, inputs=X, labels=TARGETS).line
    assert found is not None
    assert found.loss == "mean squared error"
    assert found.accuracy_before is found.accuracy_after is None
    scores = outputs_of(between(a, b, 0.5), X)["y"]
    assert found.before[5] == pytest.approx(np.square(scores - TARGETS).mean(), rel=1e-5)


def test_probabilities_are_not_taken_for_logits() -> None:
    text = TEXT.replace("y = MatMul(c, v)", "z = MatMul(c, v) y = Softmax<axis = 1>(z)")
    a, b = (build(TEXT, SHAPES, seed=s) for s in (0, 1))
    c, d = (build(text, SHAPES, seed=s) for s in (0, 1))
    logits, chances = (align(*pair, inputs=X, labels=CLASSES).line for pair in ((a, b), (c, d)))
    assert logits is not None
    assert chances is not None
    assert chances.before == pytest.approx(logits.before, rel=1e-5)


def test_classes_of_tokens_are_along_the_last_axis() -> None:
    text = "(float[N, 5, 3] x) => (float[N, 5, 4] y) { a = MatMul(x, w) b = Tanh(a) y = MatMul(b, v) }"
    shapes = {"w": (3, 6), "v": (6, 4)}
    a, b = (build(text, shapes, seed=s) for s in (0, 1))
    x = {"x": RNG.standard_normal((7, 5, 3)).astype(np.float32)}
    labels = RNG.integers(0, 4, (7, 5))
    found = align(a, b, inputs=x, labels=labels).line
    assert found is not None
    scores = outputs_of(a, x)["y"]
    assert found.before[0] == pytest.approx(cross_entropy(scores.reshape(-1, 4), labels.reshape(-1)), rel=1e-5)


def test_networks_of_a_fixed_number_of_rows_run_in_parts() -> None:
    fixed = TEXT.replace("N", "5")
    found = [align(*(build(t, SHAPES, seed=s) for s in (0, 1)), inputs=X, labels=CLASSES).line for t in (TEXT, fixed)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[1].before == pytest.approx(found[0].before, rel=1e-5)


TWO = """(float[N, 3] x) => (float[N, 4] y, float[N, 4] z, float[N, 5] t) {
    a = Gemm(x, w, b) c = Tanh(a) y = MatMul(c, v) z = Relu(y) t = MatMul(c, u) }"""


def test_one_of_several_outputs_is_chosen() -> None:
    a, b = (build(TWO, {**SHAPES, "u": (6, 5)}, seed=s) for s in (0, 1))
    with pytest.raises(GmncError, match="fit several outputs: name one of 'y' of shape"):
        align(a, b, inputs=X, labels=TARGETS)
    with pytest.raises(GmncError, match="no output 'q' of floats; the network has 'y', 'z', 't'"):
        align(a, b, inputs=X, labels=TARGETS, output="q")
    named = align(a, b, inputs=X, labels=TARGETS, output="z").line
    assert named is not None
    scores = outputs_of(a, X)["z"]
    assert named.before[0] == pytest.approx(np.square(scores - TARGETS).mean(), rel=1e-5)
    only = align(a, b, inputs=X, labels=RNG.standard_normal((20, 5))).line
    assert only is not None
    assert only.output == "t"


WRONG: dict[str, tuple[Any, Any, str]] = {
    "length": (X, CLASSES[:-1], r"of shape \[19\] fit none of the outputs on these inputs: 'y' of shape \[20, 4\]"),
    "class": (X, CLASSES + 1, "has 4 classes, numbered from 0; labels are 1 to 4"),
    "negative": (X, CLASSES - 1, "labels are -1 to 2"),
    "targets": (X, TARGETS[:, :2], r"targets of shape \[20, 2\] fit none"),
    "text": (X, np.array(["a"] * 20), "labels are classes"),
    "not finite": (X, np.full((20, 4), np.nan), "finite floats"),
    "empty": (X, CLASSES[:0], "at least one"),
    "no inputs": (None, CLASSES, "labels need inputs"),
    "other inputs": ({"q": X["x"]}, CLASSES, "the data lacks the input 'x'"),
    "width of inputs": ({"x": X["x"][:, :2]}, CLASSES, "does not run on the inputs"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_labels_that_do_not_fit_are_refused_before_anything_is_matched(case: str) -> None:
    inputs, labels, message = WRONG[case]
    told: list[str] = []
    a, b = (build(TEXT, SHAPES, seed=s) for s in (0, 1))
    with pytest.raises(GmncError, match=message):
        align(a, b, inputs=inputs, labels=labels, on_progress=lambda what, done, total: told.append(what))
    assert set(told) <= {"lowering"}


def test_merging_reports_the_line_to_each_network() -> None:
    models = [build(TEXT, SHAPES, seed=s) for s in (0, 1, 2)]
    found = merge(models, inputs=X, labels=CLASSES).alignments
    assert all(a.line is not None for a in found)
    with pytest.raises(GmncError, match="computed by the alignment"):
        merge(models, inputs=X, labels=CLASSES, aligned=False)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    for seed, name in enumerate("ab"):
        onnx.save(build(TEXT, SHAPES, seed=seed), tmp_path / f"{name}.onnx")
    np.savez(tmp_path / "data.npz", **X, labels=CLASSES)
    np.save(tmp_path / "targets.npy", TARGETS)
    return [str(tmp_path / n) for n in ("a.onnx", "b.onnx", "data.npz", "targets.npy")]


def test_the_command_takes_labels_by_name_or_from_a_file(files: list[str], tmp_path: Path) -> None:
    options = [*files[:2], "-o", str(tmp_path / "c.onnx"), "--inputs", files[2]]
    found = parsed("align", *options, "--labels", "labels")["line"]
    assert found["loss"] == "cross-entropy"
    assert len(found["before"]) == len(found["after"]) == len(found["accuracy_after"]) == 11
    shown = run("align", *options, "--labels", "labels").stdout
    assert f"barrier {found['barrier_before']:.4g} before, {found['barrier_after']:.4g} after" in shown
    assert f"accuracy at the midpoint: {100 * found['accuracy_before'][5]:.2f} % before" in shown
    assert "cross-entropy on 20 labels" in run("merge", *options, "--labels", "labels").stdout
    np.savez(files[2], **X)
    assert parsed("align", *options, "--labels", files[3], "--output-name", "y")["line"]["loss"] == "mean squared error"
    assert parsed("align", *options)["line"] is None


def test_labels_that_are_missing_write_nothing(files: list[str], tmp_path: Path) -> None:
    target = tmp_path / "c.onnx"
    options = ["align", *files[:2], "-o", str(target)]
    for more, message in (
        (["--labels", "labels"], "labels need --inputs"),
        (["--inputs", files[2], "--labels", "y"], "holds x, labels"),
        (["--inputs", files[2], "--labels", str(tmp_path / "none.npy")], "none.npy"),
        (["--inputs", files[2], "--labels", files[3]], "unknown input 'labels'"),
    ):
        failed = run(*options, *more)
        assert failed.exit_code == 2
        assert message in " ".join(failed.output.replace("│", " ").split())
        assert not target.exists()
