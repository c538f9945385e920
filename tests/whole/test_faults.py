"""Errors tell the file, the node and what to do; what is printed or drawn of a model steers nothing."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.bombs import bombs, calls, recursion
from support.tiers import first
from typer.testing import CliRunner, Result

import gmnc
from gmnc.cli import app
from gmnc.frontend.budget import MAX_POSITIONS
from gmnc.frontend.errors import TooLarge
from gmnc.frontend.primitives.movement import apply_movement
from gmnc.frontend.rules import running
from gmnc.ir import GmncError, LoadError, LoweringError
from gmnc.ir.printable import printable
from gmnc.testing import build, random_inputs

NAME = "\x1b[2J\x9b31m\u202e\x00\ufffe$\\frac$\n"


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "300", "GMNC_DEBUG": ""}).invoke(app, [str(a) for a in arguments])


def symbolic() -> onnx.ModelProto:
    return build("(float[batch, seq, 3] x) => (float[batch, seq, 2] y) { y = MatMul(x, w) }", {"w": (3, 2)})


def test_names_of_dimensions_and_inputs_that_are_not_there() -> None:
    model = symbolic()
    for options, said in (
        ({"dims": {"bach": 2}}, r"no dimension 'bach'; its dimensions are \['batch', 'seq'\]"),
        ({"inputs": {"z": (1, 2, 3)}}, r"no input 'z'; its inputs are \['x'\]"),
        ({"dims": {"seq": "7"}}, "the size given for dimension 'seq' is '7'"),
        ({"dims": {"seq": 0}}, "the size given for dimension 'seq' is 0"),
        ({"inputs": {"x": "2x7x3"}}, "the shape given for input 'x' is '2x7x3'"),
    ):
        with pytest.raises(LoweringError, match=said):
            gmnc.compile(model, **options)  # type: ignore[arg-type]
    with pytest.raises(LoweringError, match="no dimension 'bach'"):
        random_inputs(model, dims={"bach": 2})
    assert gmnc.compile(model, dims={"batch": 2, "seq": 7}).num_parameters == 6


def test_an_expression_declares_the_names_in_it() -> None:
    model = build("(float[n, 3] x) => (float[n, 2] y) { y = MatMul(x, w) }", {"w": (3, 2)})
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "2*pairs"
    assert gmnc.compile(model, dims={"pairs": 2}).num_parameters == 6


@pytest.mark.parametrize("command", ["compile", "check", "inspect", "symmetries", "embed", "verify"])
def test_every_command_refuses_unknown_names(command: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(symbolic(), path)
    for option, what in (("--dim", "dimension 'nope'"), ("--input", "input 'nope'")):
        result = run(command, path, option, "nope=3")
        assert result.exit_code == 2
        assert f"{path}: the model has no {what}" in result.stderr


def test_unknown_values_of_options() -> None:
    with pytest.raises(GmncError, match="on_unsupported is 'raise': choose 'opaque' or 'error'"):
        gmnc.compile(symbolic(), on_unsupported="raise")  # type: ignore[arg-type]
    with pytest.raises(GmncError, match="registry is of type dict"):
        gmnc.compile(symbolic(), registry={})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "said"), [(MemoryError("no 7 GiB"), "takes more memory than"), (RecursionError(), "is nested too deeply")]
)
def test_what_runs_out_is_the_fault_of_the_model(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(op: object, *_: object) -> None:
        raise error

    monkeypatch.setattr(running, "_outputs", fail)
    path = tmp_path / "model.onnx"
    onnx.save(symbolic(), path)
    result = run("compile", path)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"gmnc: {path}: node 'MatMul_0' (MatMul) {said}")


def test_functions_are_counted_before_they_are_inlined(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"local::f0 node .*: inlining functions makes 32,768 nodes of the 31"):
        gmnc.compile(calls(15))
    assert gmnc.compile(calls(6)).num_nodes == 1
    path = tmp_path / "circle.onnx"
    onnx.save(recursion(), path)
    with pytest.raises(LoadError, match=rf"{path}: function '[fg]' of domain 'local' calls itself"):
        gmnc.compile(path)


def test_inlined_nodes_have_names_of_their_own() -> None:
    graph = gmnc.frontend.reading.load.load(calls(8))
    names = [node.name for node in gmnc.frontend.rewriting.normalise.normalise(graph).graph]
    assert len(names) == len(set(names)) == 256


def test_data_movement_beyond_the_budget_must_be_a_view() -> None:
    small, wide = np.arange(4).reshape(4, 1), (4, MAX_POSITIONS)
    large = np.broadcast_to(small, wide)
    assert apply_movement(lambda a: np.broadcast_to(a, wide), small, wide).strides[1] == 0
    assert apply_movement(lambda a: a.T, large, wide[::-1]).shape == wide[::-1]
    assert apply_movement(lambda a: a[:, ::-1][:, :-1], large, (4, MAX_POSITIONS - 1)).shape == (4, MAX_POSITIONS - 1)
    for function, shape in (
        (lambda a: np.tile(a, (1, MAX_POSITIONS)), wide),
        (lambda a: a.reshape(-1), (4 * MAX_POSITIONS,)),
        (lambda a: a[:, np.zeros(MAX_POSITIONS + 1, np.int8)], (4, MAX_POSITIONS + 1)),
        (lambda a: a + 1, wide),
        (lambda a: a.copy(), wide),
    ):
        with pytest.raises(TooLarge, match=f"copies {np.prod(shape):,} entries"):
            apply_movement(function, small if shape == wide else large, shape)


def test_printable() -> None:
    assert printable("héllo 字 🙂") == "héllo 字 🙂"
    assert printable(NAME) == "\\x1b[2J\\x9b31m\\u202e\\x00\\ufffe$\\frac$\\n"
    assert printable("a\nb\x07", lines=True) == "a\nb\\x07"
    assert printable("\ud800") == "\\ud800"


@pytest.mark.parametrize("command", first(2, ["inspect", "symmetries", "compile", "check"]))
@pytest.mark.parametrize("json_", [False, True])
def test_names_cannot_steer_the_terminal(command: str, json_: bool, tmp_path: Path) -> None:
    path = tmp_path / "names.onnx"
    path.write_bytes(bombs()["names '\\u202eabc'"].replace("\u202e".encode(), b"\x1b]0"))
    result = run(command, path, *["--json"] * json_)
    assert result.exit_code in (0, 2)
    assert "\x1b" not in result.stdout + result.stderr
    if json_:
        json.loads(result.stdout)
        assert command == "symmetries" or "\\u001b]0" in result.stdout
    elif command == "check":
        assert "\\x1b]0" in result.stdout


@pytest.mark.parametrize("view", ["nodes", "groups"])
def test_pictures_are_well_formed_whatever_the_names(view: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the extra draw")
    from gmnc.backends.draw import draw

    x, w, y = f"x{NAME}", f"w{NAME}", "$y_1$"
    graph = helper.make_graph(
        [helper.make_node("MatMul", [x, w], [y], name="$\\nofrac{1$")],
        "g",
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, None)],
        [helper.make_tensor(w, TensorProto.FLOAT, [2, 3], [1.0] * 6)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path = draw(gmnc.compile(model), tmp_path / "names.svg", view)
    text = path.read_text(encoding="utf-8")
    ET.fromstring(text)
    assert view == "nodes" or "$y_1$" in text
    draw(gmnc.compile(model), tmp_path / "names.png", view)
