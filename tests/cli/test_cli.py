"""The command line: what it prints, where, and how it exits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from support.commands import parsed, run
from support.paths import CNN, MLP
from support.tiers import first
from typer.testing import CliRunner

import gmnc
from gmnc.cli import app
from gmnc.frontend.passes import PASSES
from gmnc.testing import build


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A model with an operator that nobody knows, beneath a linear layer."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2, 3], [1.0] * 6)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "mm"),
        helper.make_node("Riddle", ["h"], ["y"], "riddle", domain="nowhere"),
    ]
    ports = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, s])] for n, s in (("x", 2), ("y", 3))]
    graph = helper.make_graph(nodes, "odd", *ports, initializer=[weight])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("nowhere", 1)]
    path = tmp_path / "odd.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())
    return path


@pytest.mark.parametrize(
    "arguments",
    first(
        5,
        [
            ["--help"],
            ["--version"],
            *([c, "-h"] for c in ("train", "verify", "predict", "compile", "check", "inspect", "draw", "embed")),
            *([c, "-h"] for c in ("symmetries", "evaluate", "plugins")),
        ],
    ),
)
def test_help_and_version_load_nothing_heavy(arguments: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['gmnc', *{arguments!r}]\n"
        "from gmnc.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = [m for m in ('torch', 'onnx', 'onnx_ir', 'numpy', 'matplotlib') if m in sys.modules]\n"
        "print(code, heavy, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stderr.strip() == "0 []"
    assert done.stdout


def test_the_script_runs() -> None:
    script = Path(sys.executable).with_name("gmnc")
    if not script.exists():
        pytest.skip("gmnc is not installed as a script beside this Python")
    done = subprocess.run([script, "--version"], check=True, capture_output=True, text=True)
    assert done.stdout == f"gmnc {gmnc.__version__}\n"


def test_compile_json_of_the_perceptron() -> None:
    found = parsed("compile", MLP)
    assert found.pop("seconds") > 0
    assert found == {
        "model": str(MLP),
        "nodes": 8,  # 2 inputs, 3 and 1 neurons, a source for each of the two biases
        "groups": 5,
        "blocks": 4,
        "edges": {"parameter": 13, "link": 0},
        "parameters": {"total": 13, "on_edges": 13, "tied_edges": 0, "not_parameters": {}, "opaque": 0},
        "opaque": [],
        "unsupported": [],
    }


@pytest.mark.parametrize("model", [MLP, CNN], ids=lambda p: p.stem)
def test_the_account_closes(model: Path) -> None:
    found = parsed("compile", model)
    account = found["parameters"]
    weights = sum(len(onnx.numpy_helper.to_array(t).reshape(-1)) for t in onnx.load(model).graph.initializer)
    assert account["total"] == weights
    assert account["total"] == account["on_edges"] + sum(account["not_parameters"].values()) + account["opaque"]


def test_compile_prints_tables_and_writes_the_store(tmp_path: Path) -> None:
    store = tmp_path / "cnn.safetensors"
    result = run("compile", CNN, "-o", store)
    assert result.exit_code == 0
    for word in ("neuron", "param", "join", "weight", "norm.scale", "norm.var", "on edges", "total"):
        assert word in result.stdout
    assert result.stderr == f"wrote {store}\n"
    assert run("compile", CNN, "-o", store, "--quiet").stderr == ""
    direct, stored = parsed("inspect", CNN), parsed("inspect", store)
    assert (direct.pop("model"), stored.pop("model")) == (str(CNN), str(store))
    assert direct == stored


def test_inspect_lists_groups_and_blocks_in_depth_order() -> None:
    found = parsed("inspect", CNN)
    for part in ("groups", "blocks"):
        depths = [entry["depth"] for entry in found[part]]
        assert depths == sorted(depths)
        assert depths[-1] > depths[0]
    weights = {b["parameter"]: b for b in found["blocks"] if b["role"] == "weight"}
    assert list(weights) == ["conv1.weight", "conv2.weight", "fc.weight"]
    assert weights["conv2.weight"]["shape"] == [1, 4, 4, 9]
    assert weights["conv2.weight"]["slots"] == [3, 3]
    (via,) = weights["conv2.weight"]["via"]
    assert [step.split("[")[0] for step in via.split(" > ")][:3] == ["BatchNormalization", "Relu", "MaxPool"]
    assert [p["name"] for p in found["inputs"] + found["outputs"]] == ["image", "scores"]


def test_inspect_shows_the_model_after_a_pass() -> None:
    """As plain data, and as lines of which each node has one, with the shapes of what it makes."""
    found = parsed("inspect", CNN, "--after", "fuse-idioms")
    operators = [n.op_type for n in onnx.load(CNN).graph.node]
    assert [n["op"] for n in found["nodes"]] == operators
    assert all(v["shape"] for n in found["nodes"] for v in n["outputs"])
    assert found["pass"] == "fuse-idioms"
    lines = run("inspect", CNN, "--after", "fuse-idioms").stdout.splitlines()
    assert "s: float32[1, 4, 4, 4] = Add(c2, p1)" in lines
    assert sum(" = " in line.split("<")[0].split("(")[0] for line in lines) == len(operators)
    assert lines[0] == "input image: float32[1, 1, 8, 8]"
    assert lines[-1] == "output scores"


def test_inspect_shows_the_bodies_of_nodes(tmp_path: Path) -> None:
    text = """(float[1, 2] x, bool c) => (float[1, 2] y) {
        y = If(c) <then_branch = t () => (float[1, 2] o) { o = Relu(x) },
                   else_branch = e () => (float[1, 2] p) { p = Tanh(x) }> }"""
    path = tmp_path / "if.onnx"
    onnx.save(build(text), path)
    lines = run("inspect", path, "--after", "normalise").stdout.splitlines()
    assert lines[3:5] == ["  then_branch () => (o)", "    o: float32[1, 2] = Relu(x)"]
    flat = run("inspect", path, "--after", "flatten-control-flow").stdout
    assert " = If(" not in flat
    assert " = Where(" in flat


def test_inspect_lists_the_passes_in_order() -> None:
    result = run("inspect", "--list-passes")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == [p.name for p in PASSES]


def test_inspect_refuses_an_unknown_pass_with_the_names_of_all(tmp_path: Path) -> None:
    result = run("inspect", CNN, "--after", "riddle")
    assert result.exit_code == 2
    assert all(p.name in result.stderr for p in PASSES)
    store = tmp_path / "cnn.safetensors"
    assert run("compile", CNN, "-o", store).exit_code == 0
    assert run("inspect", store, "--after", "normalise").exit_code == 2


def test_inspect_prints_a_row_for_each_group_and_block() -> None:
    found = parsed("inspect", CNN)
    result = run("inspect", CNN)
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()]
    assert sum(bool(r) and r[0] in {f"g{g['id']}" for g in found["groups"]} for r in rows) >= len(found["groups"])
    for block in found["blocks"]:
        assert any(block["role"] in r for r in rows)


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_draw_writes_a_picture(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the extra draw")
    picture = tmp_path / f"mlp.{suffix}"
    result = run("draw", MLP, "-o", picture)
    assert result.exit_code == 0, result.stderr
    assert picture.read_bytes().startswith(b"<?xml" if suffix == "svg" else b"\x89PNG")


def test_dim_and_input_set_sizes(tmp_path: Path) -> None:
    weight = helper.make_tensor("w", TensorProto.FLOAT, [6, 1], [1.0] * 6)
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"], "flat"),
        helper.make_node("MatMul", ["f", "w"], ["y"], "mm"),
    ]
    ports = [
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "c", "t"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])],
    ]
    path = tmp_path / "flat.onnx"
    graph = helper.make_graph(nodes, "flat", *ports, initializer=[weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    for arguments in (["--dim", "c=2", "--dim", "t=3"], ["--input", "x=1x2x3"]):
        assert parsed("compile", path, *arguments)["parameters"]["on_edges"] == 6


@pytest.mark.parametrize(
    "arguments",
    [
        ["--dim", "batch"],
        ["--dim", "batch=0"],
        ["--dim", "batch=many"],
        ["--input", "x"],
        ["--input", "x=1x"],
        ["--input", "x=1x0"],
        ["--on-unsupported", "shrug"],
        ["--nonsense"],
    ],
)
def test_bad_usage_is_exit_code_2(arguments: list[str]) -> None:
    result = run("compile", MLP, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["compile", "check", "inspect", "embed", "symmetries", "verify"])
@pytest.mark.parametrize("kind", ["missing", "folder", "text", "truncated", "empty"])
def test_bad_input_is_exit_code_2_and_one_message(tmp_path: Path, command: str, kind: str) -> None:
    path = tmp_path / "model.onnx"
    content = {"text": b"not a model at all", "truncated": MLP.read_bytes()[:200], "empty": b""}
    if kind == "folder":
        path.mkdir()
    elif kind in content:
        path.write_bytes(content[kind])
    result = run(command, path, "--json")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert str(path) in result.stderr
    assert "Traceback" not in result.stderr


def test_a_store_cannot_be_compiled(tmp_path: Path) -> None:
    store = tmp_path / "mlp.safetensors"
    assert run("compile", MLP, "-o", store).exit_code == 0
    result = run("compile", store)
    assert result.exit_code == 2
    assert "gmnc inspect" in result.stderr


@pytest.mark.parametrize("option", [("--dim", "batch=2"), ("--input", "x=1x2"), ("--fold-weights",)])
@pytest.mark.parametrize("command", ["inspect", "symmetries"])
def test_options_of_lowering_are_refused_for_a_store(command: str, option: tuple[str, ...], tmp_path: Path) -> None:
    store = tmp_path / "mlp.safetensors"
    assert run("compile", MLP, "-o", store).exit_code == 0
    result = run(command, store, *option)
    assert result.exit_code == 2
    assert f"{option[0]} has no effect on a store" in result.stderr


def test_an_unwritable_output_is_exit_code_2(tmp_path: Path) -> None:
    result = run("compile", MLP, "-o", tmp_path / "no such folder" / "out.safetensors")
    assert result.exit_code == 2
    assert "no such folder" in result.stderr


def test_unknown_operators_are_opaque_or_an_error(odd: Path) -> None:
    found = parsed("compile", odd)
    assert [(o["op"], o["domain"], o["node"]) for o in found["opaque"]] == [("Riddle", "nowhere", "riddle")]
    assert [(u["op"], u["domain"]) for u in found["unsupported"]] == [("Riddle", "nowhere")]
    assert set(found["opaque"][0]) == {"op", "domain", "node", "reason"}
    assert "Riddle" in run("compile", odd).stdout
    result = run("compile", odd, "--on-unsupported", "error", "--json")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Riddle" in result.stderr
    assert "riddle" in result.stderr


@pytest.mark.parametrize(("error", "code"), [("RuntimeError", 1), ("GraphError", 1), ("LoweringError", 2)])
def test_no_error_ends_in_a_traceback(monkeypatch: pytest.MonkeyPatch, error: str, code: int) -> None:
    from gmnc import ir

    kind = getattr(ir, error, RuntimeError)

    def broken(*_: object, **__: object) -> None:
        raise kind("the moon is full")

    monkeypatch.setattr("gmnc.frontend.compile", broken)
    result = run("compile", MLP)
    assert result.exit_code == code
    assert "the moon is full" in result.stderr
    assert "Traceback" not in result.stderr
    assert ("bug" in result.stderr) == (kind is RuntimeError)
    shown = CliRunner(env={"GMNC_DEBUG": "1"}).invoke(app, ["compile", str(MLP)])
    assert "Traceback" in shown.stderr


@pytest.mark.parametrize("size", [10**9, 2**62])
def test_sizes_beyond_reason_are_one_message(tmp_path: Path, size: int) -> None:
    model = onnx.load(MLP)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = size
    path = tmp_path / "huge.onnx"
    onnx.save(model, path)
    result = run("compile", path)
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
    assert str(path) in result.stderr
    assert "--input" in result.stderr


def with_attribute(path: Path, **attribute: object) -> Path:
    node = helper.make_node("Riddle", ["x"], ["y"], domain="nowhere", **attribute)
    ports = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 2])] for n in "xy"]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("nowhere", 1)]
    model = helper.make_model(helper.make_graph([node], "g", *ports), opset_imports=opsets, ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("given", "in_json", "in_text"),
    [
        (b"\xff\xfe", {"bytes": "fffe"}, r'"\\xff\\xfe"'),
        (float("nan"), "nan", "nan"),
        (float("-inf"), "-inf", "-inf"),
        ([1.0, float("inf")], [1.0, "inf"], "inf"),
    ],
)
def test_attributes_that_json_lacks_are_shown(given: object, in_json: object, in_text: str, tmp_path: Path) -> None:
    path = with_attribute(tmp_path / "m.onnx", depth=given)
    found = run("inspect", path, "--after", "normalise", "--json")

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    [node] = json.loads(found.stdout, parse_constant=refuse)["nodes"]
    assert node["attributes"] == {"depth": in_json}
    assert in_text.replace("\\\\", "\\") in run("inspect", path, "--after", "normalise").stdout


def contradictory(path: Path) -> None:
    model = build("(float[1, 3] x) => (float[1, 4] y) { y = MatMul(x, w) }", {"w": (3, 4)})
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 4
    onnx.save(model, path)


def test_an_error_of_a_pass_names_the_file(tmp_path: Path) -> None:
    contradictory(tmp_path / "m.onnx")
    for arguments in (["compile"], ["inspect", "--after", "fuse-idioms"]):
        done = CliRunner().invoke(app, [*arguments, str(tmp_path / "m.onnx")])
        assert done.exit_code == 2
        assert done.stderr.startswith(f"gmnc: {tmp_path / 'm.onnx'}: MatMul node")


def test_check_says_that_lowering_stops(tmp_path: Path) -> None:
    contradictory(tmp_path / "m.onnx")
    done = CliRunner().invoke(app, ["check", str(tmp_path / "m.onnx")])
    assert "lowering stops at an error" in done.stdout
    assert "0 operators" not in done.stdout


def test_a_missing_file_is_reported_before_a_predictor_is_opened(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['gmnc', 'predict', 'missing.onnx']\n"
        "from gmnc.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: code = end.code\n"
        "print(code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert done.stderr == "gmnc: missing.onnx: no such file\n"
    assert done.stdout == "2 False\n"
