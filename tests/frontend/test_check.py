"""`gmnc check`: every problem of a file at once, where it stands and what is nearest."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import onnx.parser
import pytest
from typer.testing import CliRunner, Result

import gmnc
from gmnc.cli import app
from gmnc.frontend import Rule, builtin
from gmnc.frontend.check import Finding, check
from gmnc.ir import LoadError
from gmnc.testing import build

HEAD = '<ir_version: 9, opset_import: ["" : 20, "acme" : 3]>'
FULL = build("(float[1, 3] x) => (float[1, 5] y) { h = MatMul(x, w) y = Relu(h) }", {"w": (3, 5)})

MANY = f"""
    {HEAD}
    agraph (float[1, 3] x, bool c) => (float[1, 3] y, float[1, 3] z)
    <float[1, 3] a, float[1, 3] b, float[1, 3] d, float[1, 3] e, float[1, 3] f,
    float[3, 3] w = {{1, 2, 3, 4, 5, 6, 7, 8, 9}}> {{
        [first] a = acme.Riddle(x)
        [second] b = acme.Riddle(a)
        [close] d = SoftmaxX(b)
        [away] e = acme.Relu(d)
        [call] f = acme.Twice(e)
        [choice] y = If(c) <
            then_branch = g () => (float[1, 3] t) {{ [inner] t = acme.Enigma(f) }},
            else_branch = h () => (float[1, 3] u) {{ [plain] u = Relu(f) }}
        >
        [refused] z = Einsum <equation = "ab,bb->ab"> (f, w)
        [dead] unused = acme.Dead(x)
    }}
    <domain: "acme", opset_import: ["" : 20, "acme" : 3]> Twice (p) => (r) {{
        [half] q = acme.Half(p)
        [double] r = Add(q, q)
    }}
"""


def many() -> onnx.ModelProto:
    return onnx.parser.parse_model(MANY)


def by_op(found: list[Finding]) -> dict[str, Finding]:
    return {f.op: f for f in found}


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "200", "GMNC_DEBUG": ""}).invoke(app, ["check", *(str(a) for a in arguments)])


def test_a_model_that_is_lowered_in_full_has_no_problem(tmp_path: Path) -> None:
    assert check(FULL) == []
    onnx.save(FULL, tmp_path / "m.onnx")
    result = run(tmp_path / "m.onnx", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {"model": str(tmp_path / "m.onnx"), "problems": []}
    assert "every operator is lowered" in run(tmp_path / "m.onnx").stdout


def test_every_problem_with_its_place() -> None:
    found = by_op(check(many()))
    assert found["Riddle"].nodes == ("first", "second")
    assert (found["Riddle"].kind, found["Riddle"].domain, found["Riddle"].opset) == ("no rule", "acme", 3)
    assert found["Enigma"].nodes == ("choice/then_branch/inner",)
    assert found["Half"].nodes == ("acme::Twice/half",)
    assert "Dead" not in found
    assert "Add" not in found  # behind Half, but without parameters


def test_a_weight_behind_what_nothing_is_known_of() -> None:
    model = build("(float[1, 3] x) => (float[1, 5] y) { h = Relu(x) y = MatMul(h, w) }", {"w": (3, 5)})
    model.graph.node[0].op_type = "Reluu"
    assert "operand 0 ('h') is not known" in by_op(check(model))["MatMul"].reason


def test_a_refusal_is_told_from_a_missing_rule() -> None:
    found = by_op(check(many()))
    refused = found["Einsum"]
    assert (refused.kind, refused.nearest) == ("refused", None)
    assert "diagonal" in refused.reason
    assert refused.rule.startswith("gmnc.frontend.rules.")
    assert found["Riddle"].rule == ""


@pytest.mark.parametrize(
    ("op", "nearest", "hint"),
    [
        ("SoftmaxX", ("", "Softmax"), "did you mean Softmax?"),
        ("Relu", ("", "Relu"), "the operator of domain 'ai.onnx'"),
        ("Riddle", None, "write-a-rule"),
    ],
)
def test_the_nearest_rule_is_named(op: str, nearest: tuple[str, str] | None, hint: str) -> None:
    finding = by_op(check(many()))[op]
    assert (finding.nearest and (finding.nearest.domain, finding.nearest.op)) == nearest
    assert hint in finding.hint


def test_a_rule_for_later_versions_is_the_nearest() -> None:
    registry = builtin().overlay()
    for since in (9, 5):
        registry.add(Rule("Riddle", "acme", since, lambda ctx, op: []))
    finding = by_op(check(many(), registry=registry))["Riddle"]
    assert finding.nearest is not None
    assert finding.nearest.since == 5
    assert "operator set 5" in finding.hint


def test_a_contradiction_does_not_hide_the_rest() -> None:
    model = build("(float[1, 3] x) => (float[N, M] z) { h = MatMul(x, w) z = Relu(h) }", {"w": (3, 5)})
    model.graph.initializer[0].dims[:] = [5, 3]
    model.graph.node[1].op_type = "Reluu"
    error, other = check(model)
    assert error.kind == "error"
    assert "do not fit" in error.reason
    assert (other.kind, other.op, other.hint.split("?")[0]) == ("no rule", "Reluu", "did you mean Relu")


def test_problems_are_exit_code_2_in_json_and_in_a_table(tmp_path: Path) -> None:
    path = tmp_path / "many.onnx"
    onnx.save(many(), path)
    result = run(path, "--json")
    assert (result.exit_code, result.stderr) == (2, "")
    problems = json.loads(result.stdout)["problems"]
    assert {p["op"]: p["nodes"] for p in problems}["Riddle"] == ["first", "second"]
    assert {p["op"]: p["nearest"] for p in problems}["SoftmaxX"]["op"] == "Softmax"
    table = run(path)
    assert table.exit_code == 2
    for word in ("acme::Riddle", "acme::Twice/half", "choice/then_branch/inner", "did you mean Softmax?", "refused"):
        assert word in table.stdout
    assert f"{len({p['op'] for p in problems})} operators" in table.stdout


def test_check_and_compile_agree(tmp_path: Path) -> None:
    """What is opaque in the graph is in the list."""
    model = many()
    names = {name.removeprefix("acme::Twice/") for finding in check(model) for name in finding.nodes}
    assert {o.node for o in gmnc.compile(model).opaque} <= names


def test_an_unreadable_file_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"not a model")
    with pytest.raises(LoadError):
        check(tmp_path / "m.onnx")
    result = run(tmp_path / "m.onnx", "--json")
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)


def test_what_no_form_is_lowered_of_is_told_behind_what_nothing_is_known_of() -> None:
    model = onnx.parser.parse_model("""<ir_version: 9, opset_import: ["" : 20, "acme" : 3, "com.microsoft" : 1]>
        agraph (float[2, 4] x) => (float[2, 4] y) {
            a = acme.Riddle(x)
            y = com.microsoft.PackedAttention<num_heads = 2>(a, a, a, a, a)
        }""")
    found = by_op(check(model))
    assert {op: f.kind for op, f in found.items()} == {"Riddle": "no rule", "PackedAttention": "refused"}


@pytest.mark.parametrize("equation", ["bi,io->bobi,io->bo", "bi,io->bob", "bi,io->bz", "bi,i->b"])
def test_an_equation_that_does_not_fit_is_no_crash(equation: str) -> None:
    """The first one was found among damaged files."""
    model = build('(float[1, 3] x) => (float[1, 5] y) { y = Einsum<equation = "bi,io->bo">(x, w) }', {"w": (3, 5)})
    model.graph.node[0].attribute[0].s = equation.encode()
    found = check(model)
    assert found
    assert {f.kind for f in found} <= {"refused", "error"}
