"""`gmnc diff --draw` and `gmnc align --draw`: the distances by layer as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from support.commands import run

from gmnc.backends.draw.distances import Curves, distance_picture
from gmnc.testing import build

TEXT = "(float[N, 3] x) => (float[N, 2] y) { a = Gemm(x, fc1_w, fc1_b) b = Relu(a) y = Gemm(b, fc2_w, fc2_b) }"
SHAPES = {"fc1_w": (3, 6), "fc1_b": (6,), "fc2_w": (6, 2), "fc2_b": (2,)}


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{n}.onnx" for n in "ab"]
    for seed, path in enumerate(paths):
        onnx.save(build(TEXT, SHAPES, seed=seed), path)
    np.savez(tmp_path / "data.npz", x=np.ones((5, 3), np.float32), labels=np.arange(5) % 2)
    return [*paths, tmp_path / "data.npz"]


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_the_commands_draw_always_the_same(files: list[Path], tmp_path: Path, ending: str) -> None:
    pictures = [tmp_path / f"{n}.{ending}" for n in "pq"]
    for picture in pictures:
        options = ["-o", tmp_path / "c.onnx", "--inputs", files[2], "--labels", "labels", "--draw", picture]
        assert run("align", *files[:2], *options).exit_code == 0
    assert pictures[0].read_bytes() == pictures[1].read_bytes()
    assert run("diff", *files[:2], "--draw", pictures[0]).exit_code == 1
    # Without labels there are no curves.
    assert 1000 < pictures[0].stat().st_size < pictures[1].stat().st_size


def test_what_is_drawn() -> None:
    figure = distance_picture(
        [("far", 1.4, 1.2), ("near", 1.0, 0.1)], "title", [Curves("loss", [0, 1], [3, 4], [1, 2])]
    )
    rows, curves = figure.axes
    assert [label.get_text() for label in rows.get_yticklabels()] == ["far", "near"]
    before, after = (np.asarray(points.get_offsets()) for points in rows.collections[1:])
    assert before[:, 0].tolist() == [1.4, 1.0]
    assert after[:, 0].tolist() == [1.2, 0.1]
    assert [list(line.get_ydata()) for line in curves.lines] == [[3, 4], [1, 2]]
    assert curves.get_ylabel() == "loss"


def test_many_layers_are_cut() -> None:
    figure = distance_picture([(f"layer {n}", 1.0, 1 / (n + 1)) for n in range(1000)])
    assert len(figure.axes[0].get_yticks()) == 60
    assert figure.axes[0].get_title(loc="left") == "the 60 farthest of 1,000 layers"


def test_pictures_that_cannot_be_drawn_are_refused_before_anything_is_written(
    files: list[Path], tmp_path: Path
) -> None:
    target = tmp_path / "c.onnx"
    before = files[0].read_bytes()
    for picture, message in ((tmp_path / "p.txt", ".svg or .png"), (tmp_path / "no" / "p.png", "no")):
        failed = run("align", *files[:2], "-o", target, "--draw", picture)
        assert failed.exit_code == 2
        assert message in failed.stderr
        assert not target.exists()
    assert files[0].read_bytes() == before


def test_other_architectures_have_no_distances(files: list[Path], tmp_path: Path) -> None:
    onnx.save(build(TEXT.replace("Relu", "Tanh"), SHAPES), files[1])
    result = run("diff", *files[:2], "--draw", tmp_path / "p.png")
    assert result.exit_code == 1
    assert "is not drawn: the architectures differ" in result.stderr
    assert not (tmp_path / "p.png").exists()
