"""What commands print, in words: counts, names, causes; and the options that the documentation lists."""

from __future__ import annotations

import itertools
import math
import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import typer
from support.commands import parsed, run
from support.exports import Compiled, by_network
from support.paths import CNN, MLP, ROOT

import gmnc
from gmnc.cli import app
from gmnc.frontend.check import check
from gmnc.ir.printable import counted, shortened
from gmnc.tasks.predictor import SHIPPED, Predictor
from gmnc.testing import build

LONG = "layer." * 50
OPAQUE = '<ir_version: 9, opset_import: ["" : 20, "acme" : 3]>'


def test_counts_agree_with_their_nouns() -> None:
    assert [counted(n, "node") for n in (0, 1, 2, 12345)] == ["0 nodes", "1 node", "2 nodes", "12,345 nodes"]
    assert [counted(n, "entry", "entries") for n in (1, 2)] == ["1 entry", "2 entries"]


def test_long_names_keep_their_ends() -> None:
    for most in (5, 20, 80):
        short = shortened(f"first.{LONG}last", most)
        assert len(short) == most
        assert short[0] == "f"
        assert short[-1] == "t"
        assert shortened(short, most) == short


def saved(folder: Path, text: str, weights: dict[str, tuple[int, ...]], name: str = "m.onnx") -> Path:
    onnx.save(build(text, weights), folder / name)
    return folder / name


def test_no_symmetries_is_said(tmp_path: Path) -> None:
    path = saved(tmp_path, "(float[1, 3] x) => (float[1, 2] y) { y = MatMul(x, w) }", {"w": (3, 2)})
    shown = run("symmetries", path, "--kinds", "permutation,sign,scale").stdout
    assert "no symmetries: no node can take another's place" in shown
    assert "no changes of sign" in shown
    assert "no scales" in shown
    assert "10^" not in shown


def test_one_is_not_several(tmp_path: Path) -> None:
    text = "(float[1, 1] x) => (float[1, 1] y) { h = MatMul(x, w) r = Relu(h) y = MatMul(r, v) }"
    path = saved(tmp_path, text, {"w": (1, 1), "v": (1, 1)})
    commands = (
        ["symmetries", path, "--kinds", "permutation,scale"],
        ["inspect", path],
        ["verify", path],
        ["compile", path],
    )
    shown = [run(*c).stdout for c in commands] + [str(gmnc.compile(path)), str(gmnc.symmetries(gmnc.compile(path)))]
    for text in shown:
        assert not re.search(r"(?<![\d,.])1 \w+s\b(?<!is)", text), text
    assert "1 neuron" in shown[0]
    assert "1 independent scale" in shown[0]


@pytest.mark.parametrize(
    ("hidden", "words"),
    [((3,), "3! = 6"), ((4, 4), "(4!)^2 = 576"), ((2, 3, 4), "2! 3! 4! = 288"), ((2, 3, 4, 5), "34,560"),
     ((12,), "12! = 479,001,600"), ((13,), "10^9.79")],
)  # fmt: skip
def test_few_symmetries_are_a_whole_number(hidden: tuple[int, ...], words: str) -> None:
    sizes = (2, *hidden, 2)
    steps = ["h0 = Identity(x)"] + [f"m{i} = MatMul(h{i}, w{i}) h{i + 1} = Tanh(m{i})" for i in range(len(sizes) - 1)]
    steps.append(f"y = Identity(h{len(sizes) - 1})")
    weights = {f"w{i}": pair for i, pair in enumerate(itertools.pairwise(sizes))}
    found = gmnc.symmetries(gmnc.compile(build(f"(float[1, 2] x) => (float[1, 2] y) {{ {' '.join(steps)} }}", weights)))
    assert found.summary.startswith(f"{words} symmetries by {sum(hidden) - len(hidden)} generators, ")
    assert found.log10_size == pytest.approx(sum(math.log10(math.factorial(n)) for n in hidden))


@pytest.mark.parametrize("name", by_network())
def test_whole_numbers_of_symmetries_are_their_logarithms(name: str, compiled: Compiled) -> None:
    found = gmnc.symmetries(compiled(name))
    number = re.match(r"(?:.* = )?([\d,]+) symmetries", found.summary)
    if number:
        assert math.log10(int(number[1].replace(",", ""))) == pytest.approx(found.log10_size, abs=1e-9)
    else:
        assert f"10^{found.log10_size:,.2f} symmetries" in found.summary or not found.generators


def test_long_names_do_not_fill_tables(tmp_path: Path) -> None:
    model = build("(float[1, 3] x) => (float[1, 2] y) { h = MatMul(x, w) y = Relu(h) }", {"w": (3, 2)})
    model.graph.node[1].op_type = "Riddle"
    model.graph.node[0].output[0] = model.graph.node[1].input[0] = f"value.{LONG}h"
    for node, value in zip(model.graph.node, ("h", "y"), strict=True):
        node.name = f"first.{LONG}{value}"
    model.graph.initializer[0].name = model.graph.node[0].input[1] = f"weight.{LONG}end"
    path = tmp_path / "long.onnx"
    onnx.save(model, path)
    for command in ("inspect", "symmetries", "check"):
        shown = run(command, path).stdout
        assert max(len(line) for line in shown.splitlines()) <= 200
        assert LONG not in shown.replace("\n", "")
        assert LONG in run(command, path, "--json").stdout
    assert re.search(r"weight\.layer.*….*\.end", run("inspect", path).stdout)


def test_numbers_of_the_predictor_are_no_powers() -> None:
    from gmnc.tasks.predictor import _readable

    assert [_readable(v) for v in (77_712.4, 0.012345, 1e6, 12.0, 999.94)] == [
        "77,710",
        "0.01235",
        "1,000,000",
        "12",
        "999.9",
    ]
    graph = gmnc.compile(build("(float[1, 700] x) => (float[1, 700] y) { y = MatMul(x, w) }", {"w": (700, 700)}))
    from gmnc.backends.blocks import blocks

    far = Predictor.open(SHIPPED).out_of_range(blocks(graph))
    assert any(text.startswith("parameters 490,000 (training: ") for text in far)
    assert "e+" not in "".join(far)


def test_opaque_operators_are_told_once(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(
        onnx.parser.parse_model(f"""{OPAQUE} agraph (float[1, 3] x) => (float[1, 3] y)
        {{ [one] a = acme.Riddle(x) [two] y = acme.Riddle(a) }}"""),
        path,
    )
    shown = run("compile", path).stdout
    assert shown.count("acme::Riddle") == 2
    for name in ("one", "two"):
        assert len([line for line in shown.splitlines() if f"'{name}'" in line]) == 1
    assert "(opset 3)" in shown
    assert len(parsed("compile", path)["opaque"]) == len(parsed("compile", path)["unsupported"]) == 2


def test_a_cause_is_listed_before_what_follows_from_it() -> None:
    model = onnx.parser.parse_model(f"""{OPAQUE} agraph (float[1, 3] x) => (float[1, 3] y)
        <float[3, 3] w = {{1, 2, 3, 4, 5, 6, 7, 8, 9}}> {{
            [first] a = acme.Zebra(x) [then] b = acme.Ant(a) [last] y = MatMul(b, w) }}""")
    assert [f.op for f in check(model)][:2] == ["Zebra", "Ant"]
    places = [("first", "then", "last").index(f.nodes[0]) for f in check(model)]
    assert places == sorted(places)


def test_an_error_comes_after_the_unknown_operator_before_it() -> None:
    model = build("(float[1, 3] x) => (float[N, M] z) { a = Relu(x) h = MatMul(x, w) z = Relu(h) }", {"w": (3, 5)})
    model.graph.initializer[0].dims[:] = [5, 3]
    model.graph.node[0].op_type = model.graph.node[2].op_type = "Reluu"
    model.graph.node[0].output[0] = "unused"
    model.graph.output.add().CopyFrom(onnx.helper.make_tensor_value_info("unused", 1, None))
    for number, node in enumerate(model.graph.node):
        node.name = f"node {number}"
    found = check(model)
    assert [f.kind for f in found] == ["no rule", "error"]
    assert found[0].nodes == ("node 0", "node 2")


@pytest.mark.parametrize(
    ("arguments", "endings"),
    [
        (["compile", MLP, "-o", "x.txt"], [".safetensors"]),
        (["draw", MLP, "-o", "x.txt"], [".svg", ".png"]),
        (["embed", MLP, "-o", "x.txt"], [".safetensors", ".npy"]),
        (["train", "accuracy", "--zoo", ".", "-o", "run", "--predictor", "x.txt"], [".safetensors"]),
    ],
)
def test_an_ending_that_is_no_format_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[object], endings: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "x.txt" in result.stderr
    assert all(ending in result.stderr for ending in endings)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_store_is_called_one(tmp_path: Path, share: float) -> None:
    store = tmp_path / "cnn.safetensors"
    assert run("compile", CNN, "-o", store).exit_code == 0
    data = store.read_bytes()
    store.write_bytes(data[: max(1, int(share * len(data)))])
    for command in ("inspect", "symmetries", "embed", "compile", "check"):
        result = run(command, store)
        assert result.exit_code == 2
        assert "ONNX model" not in result.stderr
        assert "store" in result.stderr


def test_a_model_whose_weights_are_inputs_is_told_of(tmp_path: Path) -> None:
    path = saved(tmp_path, "(float[1, 3] x, float[3, 2] w) => (float[1, 2] y) { y = MatMul(x, w) }", {})
    result = run("compile", path)
    assert result.exit_code == 0
    assert "stores no parameters" in result.stderr
    assert "inputs" in result.stderr
    assert run("compile", MLP).stderr == ""


def test_the_package_lists_what_it_has() -> None:
    code = "import gmnc; print(*dir(gmnc)); gmnc.tasks; print(gmnc.tasks.__name__)"
    names, room = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert {"compile", "from_torch", "tasks", "backends"} <= set(names.split())
    assert room == "gmnc.tasks"
    assert all(hasattr(gmnc, name) for name in dir(gmnc))


def commands() -> dict[str, set[str]]:
    """Every command with its options."""
    found = {}
    for name, command in typer.main.get_command(app).commands.items():
        for inner, each in getattr(command, "commands", {"": command}).items():
            options = {o for p in each.params if p.param_type_name == "option" for o in p.opts}
            found[f"{name} {inner}".strip()] = options
    return found


def test_the_documentation_lists_the_options_that_there_are() -> None:
    text = (ROOT / "docs/cli.md").read_text()
    known = commands()
    told: dict[str, set[str]] = {name: set() for name in known}
    for row in re.findall(r"^\| (`-.*?) \| ([^|]*) \| .*\|$", text.split("## Options")[1].split("\n\n|")[1], re.M):
        options = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", row[0]))
        said = row[1].removeprefix("all but ")
        if said.startswith("("):
            continue
        named = set(said.split(", "))
        assert named <= set(known), row
        for name in set(known) - named if row[1] != said else named:
            assert options <= known[name], (name, row)
            told[name] |= options
    for name, options in known.items():
        section = re.search(rf"^## `gmnc {name}`\n(.*?)(?=^## |\Z)", text, re.M | re.S)
        mentioned = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", section[1])) if section else set()
        assert options <= told[name] | mentioned, (name, options - told[name] - mentioned)
