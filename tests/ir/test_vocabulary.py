"""The vocabulary: what is declared, what is refused, and that rules make all of it and nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.cases import CASES, build

import gmnc
from gmnc.frontend import LoweringContext, Op, Value, builtin
from gmnc.ir import (
    EdgeRole,
    GraphBuilder,
    LinkRole,
    NodeKind,
    Parameter,
    ParameterView,
    Step,
    VocabularyError,
    declared_steps,
    register_step,
    vocabulary,
)
from gmnc.ir.steps import STEPS
from gmnc.ir.vocabulary import NUM_ROLES, declared_step, edge_role_id, is_edge_role, link_role_id, role_name
from gmnc.testing import build as build_model

DOCS = Path(gmnc.__file__).parent / "docs"


def view(builder: GraphBuilder) -> ParameterView:
    builder.parameters["w"] = Parameter("w", (1,), "float32", "initializer", lambda: np.ones(1, np.float32))
    return ParameterView("w", 0, (1, 1, 1, 1), (0, 0, 0, 0))


def test_a_builder_refuses_what_is_not_declared() -> None:
    builder = GraphBuilder()
    node = builder.nodes("neuron", 1)
    with pytest.raises(VocabularyError, match="'neurone' is not a node kind: choose among input, neuron"):
        builder.nodes("neurone", 1)
    with pytest.raises(VocabularyError, match=r"step 'Reluu' is not declared: declare it with gmnc\.ir\.register_step"):
        builder.via("Reluu")
    with pytest.raises(VocabularyError, match="edge role 'wieght' is not declared"):
        builder.add_edges(node[None], node[None], view(builder), "wieght")
    with pytest.raises(VocabularyError, match="link role 'add' is not declared"):
        builder.add_links(node, node, "add")


def test_roles_have_the_same_ids_in_every_graph_and_version() -> None:
    pinned = {
        "weight": 0, "weight.scale": 1, "weight.zero_point": 2, "bias": 4, "scale": 8, "scale.scale": 9,
        "norm.scale": 40, "norm.scale.table": 43, "Where": 148,
    }  # fmt: skip
    assert {role: edge_role_id(role) for role in pinned} == pinned
    assert {role: link_role_id(role) for role in ("hub", "shared", "opaque_join", "Add", "Where", "Xor")} == {
        "hub": 256, "shared": 257, "opaque_join": 276, "Add": 277, "Where": 318, "Xor": 320,
    }  # fmt: skip
    assert [list(NodeKind).index(kind) for kind in ("input", "neuron", "opaque")] == [0, 1, 11]


def test_ids_tell_roles_apart_and_back() -> None:
    edges = [role + suffix for role in EdgeRole for suffix in vocabulary.SUFFIXES]
    ids = [*map(edge_role_id, edges), *map(link_role_id, LinkRole)]
    assert len(set(ids)) == len(ids)
    assert max(ids) < NUM_ROLES
    assert [role_name(number) for number in ids] == [*edges, *LinkRole]
    with pytest.raises(VocabularyError, match="no declared role has the id 511"):
        role_name(511)


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "_added", {})


def test_no_module_takes_the_place_of_a_name_of_the_face() -> None:
    """A submodule that is imported later becomes an attribute of its package."""
    import gmnc.ir

    assert not [n for n in gmnc.ir.__all__ if (Path(str(gmnc.ir.__file__)).parent / f"{n}.py").exists()]


@pytest.mark.usefixtures("added")
def test_a_step_is_declared_once() -> None:
    step = Step("Twist", "twisted", ("by",), degree=1)
    assert register_step(step) is step
    assert register_step(Step("Twist", "twisted", ("by",), degree=1)) == step
    assert declared_step("Twist") == step
    assert list(declared_steps())[-1] == step
    with pytest.raises(VocabularyError, match=r"another step Twist is declared already \(twisted\)"):
        register_step(Step("Twist", "turned"))
    with pytest.raises(VocabularyError, match="another step Relu is declared already"):
        register_step(Step("Relu", "mine"))
    assert is_edge_role("Twist.scale")
    assert NUM_ROLES <= edge_role_id("Twist") != link_role_id("Twist") >= NUM_ROLES
    assert role_name(edge_role_id("Twist.scale")) == "Twist.scale"
    builder = GraphBuilder()
    builder.add_links(builder.nodes("join", 1), builder.nodes("input", 1), "Twist", builder.via("Twist"))


def test_a_built_in_rule_that_makes_what_is_not_declared_is_opaque_and_says_so() -> None:
    """Its fault must not keep people from the rest of their network."""
    model = build_model("(float[2, 3] x) => (float[2, 3] y) { h = MatMul(x, w) y = Relu(h) }", {"w": (3, 3)})
    registry = builtin().overlay()
    relu = builtin().find("", "Relu", 20)
    assert relu is not None

    def lower(ctx: LoweringContext, op: Op) -> Value:
        return ctx.unary(op.input(0), "Twirl", {})

    lower.__module__ = relu.lower.__module__
    registry.add(replace(relu, lower=lower))
    [problem] = gmnc.compile(model, registry=registry).unsupported
    assert "step 'Twirl' is not declared" in problem.reason


@pytest.mark.usefixtures("added")
@pytest.mark.parametrize(("name", "mixes"), [("twist", ""), ("Twi st", ""), ("", ""), ("Twist", "everything")])
def test_a_step_that_cannot_be_is_refused(name: str, mixes: str) -> None:
    with pytest.raises(VocabularyError):
        Step(name, "", mixes_over=mixes)


_NUMBERS = (
    "zero = Constant<value_float = 0.0>() one = Constant<value_float = 1.0>() a = Greater(h, zero) b = Less(h, one)"
)
MORE = {
    "And": f"{_NUMBERS} c = And(a, b) o = Cast<to = 1>(c)",
    "Or": f"{_NUMBERS} c = Or(a, b) o = Cast<to = 1>(c)",
    "Xor": f"{_NUMBERS} c = Xor(a, b) o = Cast<to = 1>(c)",
    "Square": "o = Mul(h, h)",
    "Celu": "o = Celu<alpha = 2.0>(h)",
    "Relu6": "six = Constant<value_float = 6.0>() r = Relu(h) o = Min(r, six)",
    "ScaledTanh": """
        first = Constant<value_ints = [1]>() t = Unsqueeze(h, first)
        n, c = RNN<hidden_size = 4, activations = ["ScaledTanh"], activation_alpha = [2.0], layout = 1>(t, r, s)
        o = Squeeze(c, first)""",
}
"""Networks of steps that no rule case makes. What is between x W and o V."""

ELSEWHERE = {
    "Batch", "ByData", "CastMap", "Complex", "Compress", "Concat", "DictVectorizer", "Dropout",
    "Scatter", "Scope", "SoftmaxZero", "SwiGLU", "While",
}  # fmt: skip
"""Steps that networks of other tests make: variants of rule cases, classical models, loops, parts of a softmax, sizes
that depend on data, pairs that are complex numbers."""

ON_ELEMENTS = {"Neg", "Regrid"}
"""Steps on stored elements, which graphs show in the text of `Reparametrize` alone."""

ROLES_ELSEWHERE = {
    "prototype", "member", "ByData", "Clip", "Complex", "Equal", "SwiGLU", "Compress", "Scatter", "Sum",
}  # fmt: skip


def more(step: str) -> onnx.ModelProto:
    weights = {"w": (3, 4), "v": (4, 5)} | ({"r": (1, 4, 4), "s": (1, 4, 4)} if step == "ScaledTanh" else {})
    return build_model(
        f"(float[2, 3] x) => (float[2, 5] y) {{ h = MatMul(x, w) {MORE[step]} y = MatMul(o, v) }}", weights
    )


@pytest.mark.full
def test_rules_make_all_that_is_declared() -> None:
    made: dict[str, set[str]] = defaultdict(set)
    roles: set[str] = set()
    kinds: set[str] = set()
    for model in [*map(build, CASES), *map(more, MORE)]:
        graph = gmnc.compile(model, registry=builtin())
        for via in graph.vias[1:]:
            made[via.op] |= {name for name, _ in via.attributes}
        roles |= {f"edge {b.role}".split(".table")[0] for b in graph.edges} | {f"link {b.role}" for b in graph.links}
        kinds |= {g.kind for g in graph.groups}
    declared = {step.name: step for step in STEPS}
    made = {name: attributes for name, attributes in made.items() if name in declared}
    assert kinds == set(NodeKind)
    assert {name for name in declared if name not in made} == ELSEWHERE | ON_ELEMENTS
    unmade = {r for r in EdgeRole if f"edge {r}" not in roles} | {r for r in LinkRole if f"link {r}" not in roles}
    assert unmade == ROLES_ELSEWHERE
    own = {name: attributes - set(declared[name].attributes) for name, attributes in made.items()}
    assert {name: left for name, left in own.items() if left and name != "OpaqueJoin"} == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"name": 3}, {"name": ""}, {"summary": 3}, {"attributes": "metric"}, {"attributes": (1,)}, {"degree": "one"},
        {"degree": float("nan")}, {"degree": True}, {"parity": "odd"}, {"parity": 0.5}, {"parity": 2},
        {"mixes_over": "tokens"}, {"branches": ("alike", "alike")}, {"links": None}, {"attached": (1, 0)},
        {"couples": True},
    ],
)  # fmt: skip
def test_a_step_refuses_fields_of_another_form(fields: dict[str, object]) -> None:
    [field] = fields
    with pytest.raises(VocabularyError, match="CamelCase" if field == "name" else f"step Odd: {field} is "):
        Step(**{"name": "Odd", "summary": "odd", **fields})  # type: ignore[arg-type]


def test_only_steps_are_registered() -> None:
    with pytest.raises(VocabularyError, match="'Odd' is not a Step"):
        register_step("Odd")  # type: ignore[arg-type]


def test_a_step_with_a_law_may_be_declared_again_by_the_same_code() -> None:
    """As by a cell of a notebook that is run twice."""

    def declare(cell: str) -> Step:
        scope: dict[str, object] = {"Step": Step, "register_step": register_step}
        exec(compile(cell, f"cell-{len(cell)}", "exec"), scope)
        found = scope["step"]
        assert isinstance(found, Step)
        return found

    cell = "step = register_step(Step('Rerun', 'x', ('n',), lambda a: 1 if a.get('n') else None))"
    first = declare(cell)
    assert declare(f"\n{cell}").name == first.name
    assert declared_step("Rerun") is first
    with pytest.raises(VocabularyError, match="another step Rerun is declared already"):
        declare(cell.replace("1 if", "2 if"))


def test_a_via_has_the_declared_attributes_and_plain_values() -> None:
    builder = GraphBuilder()
    register_step(Step("OneAttribute", "x", ("n",)))
    assert builder.via("OneAttribute", [("n", 1)])
    with pytest.raises(VocabularyError, match="step 'OneAttribute' declares no attribute 'frob'"):
        builder.via("OneAttribute", [("frob", 1)])
    for value in (np.ones(2), [1], lambda: 1, {1: 2}, object(), (1, [2])):
        with pytest.raises(VocabularyError, match="attribute 'factor' of step 'Scale' is of type"):
            builder.via("Scale", [("factor", value)])
    assert builder.via("Scale", [("factor", (1, "a", b"b", None, True, np.float32(2)))])


def test_ids_of_a_plug_ins_roles_differ_and_have_names() -> None:
    register_step(Step("TwoRoles", "x"))
    assert edge_role_id("TwoRoles") != link_role_id("TwoRoles")
    assert role_name(edge_role_id("TwoRoles.scale")) == "TwoRoles.scale"
    assert role_name(link_role_id("TwoRoles")) == "TwoRoles"
    with pytest.raises(VocabularyError, match="no declared role has the id -1"):
        role_name(-1)


def test_the_page_is_of_this_vocabulary() -> None:
    """Otherwise: python docs/vocabulary_table.py > docs/vocabulary.md"""
    made = subprocess.run([sys.executable, DOCS / "vocabulary_table.py"], check=True, capture_output=True, text=True)
    assert (DOCS / "vocabulary.md").read_text(encoding="utf-8") == made.stdout
