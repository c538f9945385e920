"""Chains of an associative, commutative operator are one operator of all operands, however a file groups them."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from support.tiers import first

import gmnc
from gmnc.frontend import installed
from gmnc.frontend.passes import prepare
from gmnc.frontend.primitives import elementwise
from gmnc.frontend.reading.load import load
from gmnc.frontend.rules.registry import Rule
from gmnc.ir import ParameterGraph
from gmnc.testing import assert_exact, assert_isomorphic, assert_sound, build

HIDDEN = 3


def branches(combined: str, count: int = 3, opset: int = 20, **more: tuple[int, ...]) -> onnx.ModelProto:
    """Branches a, b, c, ... of one form, tanh(x w) v, each with its own weights, and how they are combined to y."""
    names = "abcdefgh"[:count]
    nodes = " ".join(f"p{n} = MatMul(x, w{n}) t{n} = Tanh(p{n}) {n} = MatMul(t{n}, v{n})" for n in names)
    weights = {f"w{n}": (2, HIDDEN) for n in names} | {f"v{n}": (HIDDEN, 2) for n in names} | more
    return build(f"(float[1, 2] x) => (float[1, 2] y) {{ {nodes} {combined} }}", weights, opset=opset)


def operators(model: onnx.ModelProto) -> list[str]:
    return [n.op_type for n in prepare(load(model), {}, {}, installed())[0].graph]


def size(graph: ParameterGraph) -> float:
    return gmnc.symmetries(graph).log10_size


def whole_branches(count: int) -> float:
    """Branches trade places as wholes, as do the hidden neurons of each: count! (hidden!)^count."""
    return math.log10(math.factorial(count) * math.factorial(HIDDEN) ** count)


SUMS = {
    "left": "s = Add(a, b) y = Add(s, c)",
    "right": "s = Add(b, c) y = Add(a, s)",
    "other order": "s = Add(c, a) y = Add(s, b)",
    "Sum": "y = Sum(c, a, b)",
    "Sum of two": "s = Sum(a, b) y = Sum(s, c)",
    "Sum and Add": "s = Sum(a, b) y = Add(c, s)",
    "Gemm": "s = Gemm(tb, vb, a) y = Gemm(tc, vc, s)",
    "Gemm and Add": "s = Gemm(tb, vb, a) y = Add(c, s)",
}


@pytest.mark.parametrize("form", SUMS)
def test_three_added_branches(form: str) -> None:
    """3! (3!)^3, and one graph for all forms."""
    graph = gmnc.compile(branches(SUMS[form]))
    assert_isomorphic(graph, gmnc.compile(branches(SUMS["Sum"])))
    assert size(graph) == pytest.approx(whole_branches(3))


@pytest.mark.parametrize("op", ["Add", "Mul", "Max", "Min"])
def test_four_branches_in_any_tree(op: str) -> None:
    """4! (3!)^4 whether the tree is deep or balanced."""
    balanced = branches(f"s = {op}(a, b) t = {op}(c, d) y = {op}(s, t)", 4)
    deep = branches(f"s = {op}(a, b) t = {op}(d, s) y = {op}(t, c)", 4)
    assert_isomorphic(gmnc.compile(balanced), gmnc.compile(deep))
    assert size(gmnc.compile(balanced)) == pytest.approx(whole_branches(4))
    assert_sound(balanced)


@pytest.mark.parametrize("op", ["And", "Or", "Xor"])
def test_three_conditions(op: str) -> None:
    conditions = " ".join(f"g{n} = Greater({n}, x)" for n in "abc")
    model = branches(f"{conditions} s = {op}(ga, gb) t = {op}(s, gc) y = Cast<to = 1>(t)")
    assert size(gmnc.compile(model)) == pytest.approx(whole_branches(3))


def test_every_permutation_is_found() -> None:
    """The second oracle, on three branches of one hidden neuron each."""
    nodes = " ".join(f"p{n} = MatMul(x, w{n}) t{n} = Tanh(p{n}) {n} = MatMul(t{n}, v{n})" for n in "abc")
    weights = {f"w{n}": (2, 2) for n in "abc"} | {f"v{n}": (2, 1) for n in "abc"}
    text = f"(float[2, 2] x) => (float[2, 1] y) {{ {nodes} s = Add(a, b) y = Add(s, c) }}"
    assert_exact(build(text, weights))


CONSTANTS = {
    "a bias inside": "s = Add(a, b) t = Add(s, k) y = Add(t, c)",
    "a bias inside a Sum": "s = Sum(a, k, b) y = Add(s, c)",
    "a bias in front": "s = Add(a, b) t = Add(k, s) y = Add(c, t)",
    "a bias subtracted inside twice": "s = Add(a, b) t = Sub(k, s) y = Sub(t, c)",
}


@pytest.mark.parametrize("form", list(CONSTANTS)[:3])
def test_a_bias_inside_a_chain_acts_on_the_whole_sum(form: str) -> None:
    """3! (3!)^3: the bias belongs to no branch."""
    model = branches(CONSTANTS[form], k=(2,))
    behind = branches("s = Add(a, b) t = Add(s, c) y = Add(t, k)", k=(2,))
    assert_isomorphic(gmnc.compile(model), gmnc.compile(behind))
    assert size(gmnc.compile(model)) == pytest.approx(whole_branches(3))
    assert_sound(model)


def test_all_operands_may_be_subtracted() -> None:
    """k - (a + b) - c: 3! (3!)^3."""
    model = branches(CONSTANTS["a bias subtracted inside twice"], k=(2,))
    assert size(gmnc.compile(model)) == pytest.approx(whole_branches(3))
    assert_sound(model)


def test_a_bias_of_one_branch_stays_with_it() -> None:
    """((a + k) + b) + c: a differs from the others, so b and c trade places: 2! (3!)^3."""
    model = branches("l = Add(a, k) s = Add(l, b) y = Add(s, c)", k=(2,))
    graph = gmnc.compile(model)
    assert size(graph) == pytest.approx(math.log10(2 * 6**3))
    plain = branches("l = Add(a, k) y = Sum(l, b, c)", k=(2,))
    assert_isomorphic(graph, gmnc.compile(plain))


def test_a_literal_inside_a_product() -> None:
    """((a b) 0.5) c: 3! (3!)^3."""
    model = branches("h = Constant<value_float = 0.5>() s = Mul(a, b) t = Mul(s, h) y = Mul(t, c)")
    assert size(gmnc.compile(model)) == pytest.approx(whole_branches(3))


def test_differences_are_sums_of_negated_operands() -> None:
    """a - (b - c) is a + c - b: a and c trade places: 2! (3!)^3."""
    model = branches("s = Sub(b, c) y = Sub(a, s)")
    assert_isomorphic(gmnc.compile(model), gmnc.compile(branches("s = Add(c, a) y = Sub(s, b)")))
    assert size(gmnc.compile(model)) == pytest.approx(math.log10(2 * 6**3))
    assert_sound(model)


APART = {
    "read twice": "s = Add(a, b) r = Relu(s) t = Add(s, c) y = Mul(r, t)",
    "another operator": "s = Mul(a, b) y = Add(s, c)",
    "rounded in between": "s = Add(a, b) q = Cast<to = 10>(s) r = Cast<to = 1>(q) y = Add(r, c)",
    "a function in between": "s = Add(a, b) r = Tanh(s) y = Add(r, c)",
    "a mean": "s = Mean(a, b) y = Mean(s, c)",
}


@pytest.mark.parametrize("form", APART)
def test_what_is_no_chain(form: str) -> None:
    """a and b trade places, but not with c: 2! (3!)^3."""
    model = branches(APART[form])
    assert "Chain" not in operators(model)
    assert size(gmnc.compile(model)) == pytest.approx(math.log10(2 * 6**3))


def test_an_output_inside_a_chain_stays() -> None:
    """The graph of a + b, which is an output, and of its sum with c."""
    model = branches("s = Add(a, b) y = Add(s, c)")
    model.graph.output.append(onnx.helper.make_tensor_value_info("s", onnx.TensorProto.FLOAT, [1, 2]))
    assert "Chain" not in operators(model)
    assert size(gmnc.compile(model)) == pytest.approx(math.log10(2 * 6**3))


def test_a_value_whose_shape_is_read_is_inside() -> None:
    model = branches("s = Add(a, b) n = Shape(s) t = Add(s, c) y = Reshape(t, n)")
    assert "Chain" in operators(model)


GATES = {
    "SiLU, then a gate": "g = Sigmoid(a) s = Mul(a, g) y = Mul(s, b)",
    "a gate inside": "g = Sigmoid(a) s = Mul(g, b) y = Mul(s, a)",
    "a gate with a function of it": "g = Sigmoid(a) s = Mul(b, a) y = Mul(g, s)",
}


@pytest.mark.parametrize("form", GATES)
def test_a_function_of_one_neuron_stays_on_it(form: str) -> None:
    """SwiGLU has the graph of Swish and a product, however its three factors are grouped."""
    fused = branches("s = Swish(a) y = Mul(s, b)", 2, opset=24)
    assert_isomorphic(gmnc.compile(branches(GATES[form], 2)), gmnc.compile(fused))


def test_an_operand_that_occurs_twice() -> None:
    """(a + b) + a is 2 a + b."""
    twice = branches("k = Constant<value_float = 2.0>() s = Mul(a, k) y = Add(b, s)", 2)
    assert_isomorphic(gmnc.compile(branches("s = Add(a, b) y = Add(s, a)", 2)), gmnc.compile(twice))


def test_a_gate_of_fewer_axes() -> None:
    """s and g have one entry per row: (e g) s = e (g s) = (e s) g, with one node for g s."""
    head = "u = MatMul(x, wu) g = Sigmoid(u) r = MatMul(x, wr) s = Tanh(r)"
    weights = {"wu": (2, 1), "wr": (2, 1)}
    forms = ("m = Mul(a, g) y = Mul(m, s)", "m = Mul(g, s) y = Mul(m, a)", "m = Mul(s, a) y = Mul(g, m)")
    graphs = [gmnc.compile(branches(f"{head} {form}", 1, **weights)) for form in forms]
    for graph in graphs:
        assert_isomorphic(graph, graphs[0])
        # one node for g s, and one for its product with each of the two entries of a
        assert [g.size for g in graph.groups if g.kind == "join"] == [1, 2]


def test_a_rule_from_outside_is_honoured() -> None:
    """Each Add of the file reaches it."""
    seen = []

    def lower(ctx, op):  # type: ignore[no-untyped-def]
        seen.append(op.name)
        return ctx.elementwise("Add", *op.inputs)

    registry = installed().overlay()
    registry.add(Rule("Add", "", 1, lower, weights=None))
    graph = gmnc.compile(branches(SUMS["left"]), registry=registry)
    assert len(set(seen)) == 2
    assert size(graph) == pytest.approx(math.log10(2 * 6**3))


def test_new_values_reach_the_file() -> None:
    """Parameters keep their names, and the nodes of a merged chain are those of its last operator."""
    model = branches("s = Add(a, b) t = Add(s, k) y = Add(t, c)", k=(2,))
    graph = gmnc.compile(model)
    assert set(graph.parameters) == {t.name for t in model.graph.initializer}
    written = gmnc.write(graph, {"k": np.float32([5, 7])})
    assert written.graph.initializers["k"].const_value.numpy().tolist() == [5, 7]
    assert [n.op_type for n in written.graph] == [n.op_type for n in model.graph.node]


@pytest.mark.parametrize("op", first(1, ["Add", "Sub"]))
def test_a_long_chain_is_one_join(op: str) -> None:
    """300 weights in parallel: one node for each of the two outputs, with a link from all 300 operands."""
    count = 300
    nodes = " ".join(f"a{i} = MatMul(x, w{i})" for i in range(count))
    sums = " ".join(f"s{i + 1} = {op}(s{i}, a{i + 1})" for i in range(count - 1)).replace("(s0,", "(a0,")
    text = f"(float[1, 2] x) => (float[1, 2] s{count - 1}) {{ {nodes} {sums} }}"
    graph = gmnc.compile(build(text, {f"w{i}": (2, 2) for i in range(count)}))
    assert [g.size for g in graph.groups if g.kind == "join"] == [2]
    assert sum(link.size for link in graph.links) == 2 * count
    # The first operand of the differences is the only one that is not subtracted.
    alike = math.lgamma(count + 1 if op == "Add" else count) / math.log(10)
    assert size(graph) == pytest.approx(alike)


def test_operands_beyond_the_budget_of_one_join_are_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four operands of 2 labels each, of which 5 may meet: two at a time."""
    monkeypatch.setattr(elementwise, "MAX_POSITIONS", 5)
    graph = gmnc.compile(branches("y = Sum(a, b, c, d)", 4))
    assert [g.size for g in graph.groups if g.kind == "join"] == [2, 2, 2]
    assert_sound(branches("y = Sum(a, b, c, d)", 4))


def test_several_literals_of_one_operator() -> None:
    """max(a, b, 1, 2) is max(a, b, 2), not max(a, b, 1)."""

    def graph(literals: str) -> ParameterGraph:
        one, two = (f"{n} = Constant<value_float = {v}>()" for n, v in (("l", 1.0), ("m", 2.0)))
        return gmnc.compile(branches(f"{one} {two} y = Max(a, b, {literals})", 2))

    assert_isomorphic(graph("m, l"), graph("m"))
    with pytest.raises(AssertionError):
        assert_isomorphic(graph("m, l"), graph("l"))


def test_operands_that_are_combined_to_two_functions_of_one_node() -> None:
    """x is one number: p + (w x - p) + p is a function of it, whatever is combined first."""
    text = """(float[1, 4, 1] x) => (float[1, 4, 1] y) {
        m = MatMul(x, w) p = PRelu(x, s) d = Sub(m, p) y = Sum(p, d, p)
    }"""
    assert_sound(build(text, {"w": (1, 1), "s": (4, 1)}))
