"""Rules of other distributions: found by entry point, before the built-in ones, never in the way of a compilation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

import gmnc
from gmnc.cli import app
from gmnc.frontend import Registry, Rule, builtin, installed
from gmnc.frontend.rules import plugins as loading
from gmnc.frontend.rules.foreign import quiet
from gmnc.ir import LoweringError, PluginError
from gmnc.ir.vocabulary import declared_step
from gmnc.testing import build

Install = Callable[..., None]

RIDDLE = "(float[1, 3] x) => (float[1, 2] y) { h = MatMul(x, w) g = acme.Riddle <depth = 2> (h) y = MatMul(g, v) }"
RULES = """
    from gmnc.frontend import Unsupported, rule
    from gmnc.ir import Step, register_step

    register_step(Step("Riddle", "a riddle", ("depth",)))

    @rule("Riddle", domain="acme", shapes=lambda op: [(op.input(0).shape, op.input(0).dtype)])
    def riddle(ctx, op):
        return ctx.unary(op.input(0), "Riddle", {"depth": op.attr("depth")})
"""


def riddle() -> onnx.ModelProto:
    return build(RIDDLE, {"w": (3, 5), "v": (5, 2)}, domains={"acme": 1})


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a distribution of one module on the path: install("acme-rules", "acme_rules", source, "acme_rules")."""

    def put(distribution: str, module: str, source: str, target: str) -> None:
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
        info = tmp_path / f"{module}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(f"[gmnc.rules]\nmain = {target}\n")
        mine.append(module)
        forget()

    def forget() -> None:
        loading._loaded.cache_clear()
        loading._registry.cache_clear()

    mine: list[str] = []
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("GMNC_PLUGINS", raising=False)
    yield put
    forget()
    for name in mine:
        sys.modules.pop(name, None)
        builtin_declarations().pop(name, None)


def builtin_declarations() -> dict[str, Any]:
    from gmnc.frontend.rules import registry

    return registry._DECLARED


def listed() -> list[dict[str, Any]]:
    result = CliRunner().invoke(app, ["plugins", "--json"])
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    return [p for p in json.loads(result.stdout) if p["distribution"].startswith("acme")]


def test_a_module_brings_its_rules(install: Install) -> None:
    assert [(p.op, p.rule != "") for p in gmnc.compile(riddle()).unsupported] == [("Riddle", False), ("MatMul", True)]
    install("acme-rules", "acme_rules", RULES, "acme_rules")
    graph = gmnc.compile(riddle())
    assert not graph.opaque
    assert graph.num_parameter_edges == 25
    assert any(via.op == "Riddle" and dict(via.attributes) == {"depth": 2} for via in graph.vias)
    assert listed() == [
        {
            "distribution": "acme-rules",
            "version": "1.5",
            "entry_point": "main = acme_rules",
            "state": "loaded",
            "error": "",
            "rules": [{"domain": "acme", "op": "Riddle", "since": 1, "rule": "acme_rules.riddle", "overrides": False}],
        }
    ]


def test_a_function_adds_rules_and_may_build_on_built_in_ones(install: Install) -> None:
    source = """
        from dataclasses import replace

        def register(registry):
            registry.add(replace(registry.find("", "Relu", 20), op="Riddle", domain="acme"))
            registry.add(replace(registry.find("", "Relu", 20), lower=lambda ctx, op: ctx.opaque(op, "mine")))
    """
    install("acme-rules", "acme_rules", source, "acme_rules:register")
    model = build("(float[1, 3] x) => (float[1, 3] y) { y = Relu(x) }")
    assert [o.reason for o in gmnc.compile(model).opaque] == ["mine"]
    assert not gmnc.compile(model, registry=builtin()).opaque
    [plugin] = listed()
    assert [(r["op"], r["overrides"]) for r in plugin["rules"]] == [("Riddle", False), ("Relu", True)]
    table = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["plugins"]).stdout
    assert "acme-rules 1.5" in table
    assert "ai.onnx::Relu since" in table
    assert table.count("overrides a built-in rule") == 1


def test_a_rule_for_one_call_comes_before_those_of_plug_ins(install: Install) -> None:
    install("acme-rules", "acme_rules", RULES, "acme_rules")
    registry = installed().overlay()
    registry.add(Rule("Riddle", "acme", 1, lambda ctx, op: ctx.opaque(op, "for this call")))
    assert gmnc.compile(riddle(), registry=registry).opaque[0].reason == "for this call"
    assert not gmnc.compile(riddle()).opaque


def test_they_can_be_switched_off(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("acme-rules", "acme_rules", "raise SystemError('was imported')", "acme_rules")
    monkeypatch.setenv("GMNC_PLUGINS", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "Riddle" in [o.op for o in gmnc.compile(riddle()).opaque]
    assert [(p["state"], p["rules"], p["error"]) for p in listed()] == [("off", [], "")]
    assert "acme_rules" not in sys.modules


@pytest.mark.parametrize(
    ("source", "target", "error"),
    [
        ("import no_such_module_of_acme", "acme_bad", "no_such_module_of_acme"),
        ("raise SystemExit(3)", "acme_bad", "SystemExit"),
        ("", "acme_bad", "adds no rule"),
        ("def register(registry): raise OSError('the moon is full')", "acme_bad:register", "the moon is full"),
        ("register = 3", "acme_bad:register", "neither a module nor a function"),
        ("", "acme_bad:register", "register"),
        (RULES, "acme_bad", "acme-a 1.5 already has a rule for acme::Riddle since 1"),
        (RULES + "\n    rule('Riddle', domain='acme')(riddle)", "acme_bad", "there already is a rule for acme::Riddle"),
    ],
    ids=["import", "exit", "empty", "exception", "no-function", "missing", "duplicate-of-other", "duplicate-of-own"],
)
def test_one_that_fails_is_named_once_and_left_out(install: Install, source: str, target: str, error: str) -> None:
    install("acme-a", "acme_a", RULES, "acme_a")
    install("acme-bad", "acme_bad", source, target)
    with pytest.warns(RuntimeWarning, match=r"acme-bad 1\.5 .*is left out: ") as warned:
        graphs = [gmnc.compile(riddle()) for _ in range(2)]
    assert len([w for w in warned if "acme" in str(w.message)]) == 1
    assert error in str(warned[0].message)
    assert not any(g.opaque for g in graphs)
    good, bad = listed()
    assert (good["state"], bad["state"], bad["rules"]) == ("loaded", "failed", [])
    assert error in bad["error"]


def test_the_command_line_warns_in_one_line(install: Install, tmp_path: Path) -> None:
    install("acme-bad", "acme_bad", "1 / 0", "acme_bad")
    onnx.save(riddle(), tmp_path / "m.onnx")
    result = CliRunner().invoke(app, ["compile", str(tmp_path / "m.onnx"), "--json"])
    assert result.exit_code == 0
    [line] = result.stderr.splitlines()
    assert line.startswith("gmnc: warning: the plug-in acme-bad 1.5")
    assert "ZeroDivisionError" in line


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("return op.nonsense", "AttributeError"),
        ("raise ValueError('the moon is full')", "the moon is full"),
        ("return 3", "not a Value"),
        ("return []", "0 of 1 outputs"),
        ("return op.input(0).relabelled((op.input(0).factors[0][0],))", "labels of shape"),
    ],
)
def test_an_error_in_a_rule_names_the_distribution_the_rule_and_the_node(
    install: Install, body: str, complaint: str
) -> None:
    source = RULES.replace("return ctx", body + "\n        return ctx")
    install("acme-rules", "acme_rules", source, "acme_rules")
    model = riddle()
    model.graph.node[1].name = "the_sphinx"
    with pytest.raises(PluginError) as caught:
        gmnc.compile(model)
    for word in ("acme-rules 1.5", "acme_rules.riddle", "the_sphinx", "Riddle", complaint):
        assert word in str(caught.value)


def test_an_error_in_the_shapes_of_a_rule_is_named_too(install: Install) -> None:
    install("acme-rules", "acme_rules", RULES.replace("lambda op: [", "lambda op: [1 / 0, "), "acme_rules")
    with pytest.raises(PluginError, match=r"acme::Riddle node .*acme_rules\.riddle of the distribution acme-rules 1"):
        gmnc.compile(riddle())


def test_a_refusal_of_a_rule_is_a_problem_that_names_it(install: Install) -> None:
    source = RULES.replace("return ctx", "raise Unsupported('too deep', 'dig')\n        return ctx")
    install("acme-rules", "acme_rules", source, "acme_rules")
    [problem] = gmnc.compile(riddle()).unsupported
    assert (problem.rule, problem.reason, problem.hint) == ("acme_rules.riddle", "too deep", "dig")
    assert gmnc.compile(riddle(), registry=builtin()).unsupported[0].rule == ""


def test_rules_come_before_the_bodies_of_local_functions_but_built_in_ones_do_not() -> None:
    text = """
        <ir_version: 9, opset_import: ["" : 20, "acme" : 1]>
        agraph (float[1, 3] x) => (float[1, 2] y) { h = MatMul(x, w) r = acme.Twice(h) y = MatMul(r, v) }
        <domain: "acme", opset_import: ["" : 20]> Twice (a) => (b) { b = Add(a, a) }
    """
    small = build(
        "(float[1, 3] x) => (float[1, 2] y) { h = MatMul(x, w) y = MatMul(h, v) }", {"w": (3, 5), "v": (5, 2)}
    )
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(small.graph.initializer)
    registry = builtin().overlay()
    mine = Rule("Twice", "acme", 1, lambda ctx, op: ctx.opaque(op, "mine"))
    registry.add(replace(mine, shapes=lambda op: [(op.input(0).shape, op.input(0).dtype)]))
    assert not gmnc.compile(model).opaque
    assert [(o.op, o.reason) for o in gmnc.compile(model, registry=registry).opaque] == [("Twice", "mine")]
    model.functions[0].domain = model.graph.node[1].domain = ""
    model.functions[0].name = model.graph.node[1].op_type = "Relu"
    assert {"Scale"} <= {via.op for via in gmnc.compile(model).vias}


def test_rules_of_a_domain_have_one_name() -> None:
    registry = Registry()
    registry.add(Rule("Riddle", "ai.onnx", 3, lambda ctx, op: []))
    assert registry.find("", "Riddle", 3) is registry.find("ai.onnx", "Riddle", 4)
    assert registry.find("", "Riddle", 2) is None


def test_wrong_operands_of_a_built_in_rule_are_the_fault_of_the_model() -> None:
    registry = builtin().overlay()

    def careless(ctx: object, op: object) -> Any:
        raise ValueError("the moon is full")

    registry.add(Rule("MatMul", "", 1, careless, (0, 1)))
    with pytest.raises(
        PluginError, match=r"careless of .* raised ValueError: the moon is full \(test_plugins.py, line"
    ):
        gmnc.compile(riddle(), registry=registry)
    careless.__module__ = "gmnc.frontend.rules.linear"
    with pytest.raises(LoweringError, match="do not fit together: the moon is full"):
        gmnc.compile(riddle(), registry=registry)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("None", "TypeError: it returned NoneType as output 0, not a Value"),
        ("[]", "ValueError: it returned 0 of 1 outputs"),
        ("op.shape", "TypeError: it returned method as output 0"),
        ("exit(0)", "SystemExit: 0"),
        ("op.attributes['nope']", "KeyError: 'nope'"),
        ("op.nope", "AttributeError: 'Op' object has no attribute 'nope'"),
        (
            "op.input(0).relabelled(op.input(0).factors, (7,))",
            "ValueError: output 0 of shape .7,. has labels",
        ),
        (
            "ctx.call('MatMul', op.input(0), op.input(0))",
            "ValueError: its call of MatMul does not fit: inputs of shapes",
        ),
    ],
)
def test_a_bad_rule_of_an_overlay_is_named_with_file_and_node(returned: str, said: str) -> None:
    registry = installed().overlay()
    names: dict[str, Any] = {}
    exec(f"def mine(ctx, op): return {returned}", {"exit": sys.exit}, names)
    registry.add(Rule("Riddle", "acme", 1, names["mine"]))
    with pytest.raises(PluginError, match=rf"^agraph: node .* \(Riddle\): rule .*mine of .* raised {said}"):
        gmnc.compile(riddle(), registry=registry)


def test_a_bad_rule_of_an_installed_distribution_names_it_even_in_an_overlay() -> None:
    registry = installed().overlay()
    registry.add(Rule("Riddle", "acme", 1, np.linalg.norm))
    with pytest.raises(PluginError, match=r"numpy\.linalg\.norm of the distribution numpy \d+\.\S+ raised"):
        gmnc.compile(riddle(), registry=registry)


@pytest.mark.parametrize("body", ["return None", "raise SystemExit(0)", "raise KeyError('x')"])
def test_a_plug_in_cannot_end_the_program(install: Install, body: str, tmp_path: Path) -> None:
    source = f"""
        from gmnc.frontend import rule

        @rule("Riddle", domain="acme")
        def riddle(ctx, op):
            print("for whom?")
            {body}
    """
    install("acme-rules", "acme_rules", source, "acme_rules")
    path = tmp_path / "riddle.onnx"
    onnx.save(riddle(), path)
    result = CliRunner().invoke(app, ["compile", str(path), "--json"])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert f"{path}: node" in result.stderr
    assert "of the distribution acme-rules 1.5 raised" in result.stderr


@pytest.mark.parametrize(
    ("first", "error"),
    [
        ("class Odd(BaseException): pass\n        raise Odd('no')", "Odd: no"),
        (
            "from gmnc.frontend import rule\n        rule('R', domain='acme', since='x')(print)",
            "TypeError: a rule's since",
        ),
        ("from gmnc.frontend import rule\n        rule(7, domain='acme')(print)", "TypeError: a rule's op"),
    ],
)
def test_a_plug_in_that_fails_in_any_way_is_left_out(install: Install, first: str, error: str) -> None:
    install("acme-broken", "acme_broken", f"        {first}\n", "acme_broken")
    with pytest.warns(RuntimeWarning, match="acme-broken"):
        assert gmnc.compile(riddle()).opaque
    [plugin] = listed()
    assert plugin["state"] == "failed"
    assert plugin["error"].startswith(error)


def test_a_plug_in_that_is_left_out_declares_no_steps(install: Install) -> None:
    install("acme-rules", "acme_rules", RULES.replace('"Riddle"', '"LeftOut"', 1) + "    1 / 0\n", "acme_rules")
    with pytest.warns(RuntimeWarning, match="left out: ZeroDivisionError"):
        gmnc.compile(riddle())
    assert declared_step("LeftOut") is None


def test_what_a_plug_in_prints_does_not_mix_with_results(install: Install, tmp_path: Path) -> None:
    install("acme-rules", "acme_rules", "print('hello')\n" + textwrap.dedent(RULES), "acme_rules")
    path = tmp_path / "riddle.onnx"
    onnx.save(riddle(), path)
    result = CliRunner().invoke(app, ["compile", str(path), "--json"])
    assert json.loads(result.stdout)["opaque"] == []
    assert "hello" in result.stderr


def test_what_a_plug_in_writes_past_python_does_not_either(install: Install, capfd: pytest.CaptureFixture[str]) -> None:
    source = "import os\nos.write(1, b'from C')\n" + textwrap.dedent(RULES)
    install("acme-rules", "acme_rules", source, "acme_rules")
    gmnc.compile(riddle())
    os.write(1, b"after")
    assert capfd.readouterr() == ("after", "from C")


def test_two_threads_give_stdout_back() -> None:
    out, both = sys.stdout, [quiet(), quiet()]
    for one in both:
        one.__enter__()
    assert sys.stdout is sys.stderr
    for one in both:
        one.__exit__(None, None, None)
    assert sys.stdout is out


@pytest.mark.parametrize("code", ["import gmnc, gmnc.frontend", "from gmnc.cli import main; main()"])
def test_nothing_is_loaded_before_a_compilation(tmp_path: Path, code: str) -> None:
    (tmp_path / "acme_loud.py").write_text("raise SystemError('was imported')")
    info = tmp_path / "acme_loud-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-loud\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[gmnc.rules]\nmain = acme_loud\n")
    path = os.pathsep.join([str(tmp_path), *([p] if (p := os.environ.get("PYTHONPATH")) else [])])
    program = f"import sys; sys.argv = ['gmnc', '--help']\ntry: {code}\nfinally: print('acme_loud' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], env={**os.environ, "PYTHONPATH": path}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "False"
