"""Networks written in another order are one architecture: the correspondence, and what it must not claim."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from support.exports import Compiled, How, by_export, by_network, exported
from support.reordered import reordered
from support.tiers import first

import gmnc
from gmnc.frontend.primitives.functions import COMMUTATIVE
from gmnc.ir import declared_steps
from gmnc.testing import build
from gmnc.testing.runtime import Network
from gmnc.transforms import align, correspondence, diff, fingerprints, scramble
from gmnc.transforms.correspondence import first_difference
from gmnc.transforms.proof import feeds_for

Floats = dict[str, np.ndarray]


def with_floats(model: onnx.ModelProto, values: Floats) -> onnx.ModelProto:
    for tensor in model.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(values[tensor.name]), tensor.name))
    return model


def floats(model: onnx.ModelProto) -> Floats:
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == 1}


def assert_one_network(a: onnx.ModelProto, b: onnx.ModelProto) -> None:
    found = diff(a, b)
    assert found.equal, (found.summary, found.structure)
    assert found.alignment is not None
    assert found.alignment.proof.holds
    assert fingerprints(a) == fingerprints(b)


@pytest.mark.parametrize(("name", "how"), by_export(hows=["dynamo", "torchscript"]))
@pytest.mark.parametrize("seed", first(1, [1, 2]))
def test_a_network_in_another_order_is_the_same(name: str, how: How, seed: int) -> None:
    model = exported(name, how)
    assert_one_network(model, reordered(model, seed))


@pytest.mark.parametrize("name", by_network())
def test_exporters_may_use_different_orders(name: str, compiled: Compiled, tmp_path: Path) -> None:
    """The result is written in the order and the names of the network that was put in order."""
    theirs, there, back = reordered(exported(name, "torchscript"), 3), tmp_path / "there.onnx", tmp_path / "back.onnx"
    graph = gmnc.compile(theirs)
    gmnc.write(graph, scramble(graph, seed=1).values, there)
    made = align(compiled(name, "dynamo"), there)
    assert made.proof.holds
    assert made.after < 1e-6
    gmnc.write(made.networks.b, made.values, back)
    written = onnx.load(back).graph
    assert [n.output for n in written.node] == [n.output for n in theirs.graph.node]
    # What is left may be an order of equal neurons.
    assert diff(back, theirs).equal


def test_some_orders_do_differ() -> None:
    """Otherwise the tests above would show nothing."""
    model = exported("llama", "dynamo")
    a, b = gmnc.compile(model), gmnc.compile(reordered(model, 1))
    assert first_difference(a, b) is not None
    found = correspondence(a, b)
    assert found is not None
    assert first_difference(a, found.b) is None
    found.b.check()


ATTENTION = """(float[1, 5, 6] x) => (float[1, 5, 2] y) {
    z = MatMul(x, w) %s = Split<axis = -1, num_outputs = 3>(z)
    q1 = Reshape(q0, parts) k1 = Reshape(k0, parts) v1 = Reshape(v0, parts)
    q = Transpose<perm = %s>(q1) k = Transpose<perm = %s>(k1) v = Transpose<perm = %s>(v1)
    s = MatMul(q, k) p = Softmax<axis = -1>(s) o = MatMul(p, v)
    t = Transpose<perm = %s>(o) f = Reshape(t, flat) h = MatMul(f, u) r = Tanh(h) y = MatMul(r, g) }"""
HEADS_FIRST = ("[0, 2, 1, 3]", "[0, 2, 3, 1]", "[0, 2, 1, 3]", "[0, 2, 1, 3]")
FEATURES_FIRST = ("[0, 3, 1, 2]", "[0, 3, 2, 1]", "[0, 3, 1, 2]", "[0, 2, 3, 1]")
SHAPES = {"w": (6, 36), "u": (12, 7), "g": (7, 2)}


def attention(split: str = "q0, k0, v0", perms: tuple[str, ...] = HEADS_FIRST, parts: int = 3) -> onnx.ModelProto:
    return build(ATTENTION % (split, *perms), SHAPES, {"parts": [1, 5, parts, 12 // parts], "flat": [1, 5, 12]})


def test_parts_of_one_weight_in_another_order() -> None:
    a = attention()
    q, k, v = np.split(floats(a)["w"], 3, axis=1)
    b = with_floats(attention("k0, q0, v0"), {**floats(a), "w": np.concatenate([k, q, v], axis=1)})
    assert_one_network(a, b)
    assert not diff(a, with_floats(attention("k0, q0, v0"), floats(a))).equal


def test_heads_laid_out_in_another_way() -> None:
    """The features of a head are 3 apart there: the order within groups of nodes is another one."""
    a = attention()
    w, u, g = (floats(a)[n] for n in "wug")
    w = w.reshape(6, 3, 3, 4).swapaxes(2, 3).reshape(6, 36)
    u = u.reshape(3, 4, 7).swapaxes(0, 1).reshape(12, 7)
    assert_one_network(a, with_floats(attention(perms=FEATURES_FIRST, parts=4), {"w": w, "u": u, "g": g}))


def test_concatenated_branches_in_another_order() -> None:
    text = """(float[2, 3] x) => (float[2, 2] y) { a = MatMul(x, wa) c = Tanh(a) b = MatMul(x, wb) d = Relu(b)
        e = Concat<axis = 1>(%s) y = MatMul(e, v) }"""
    shapes = {"wa": (3, 4), "wb": (3, 5), "v": (9, 2)}
    a, b = (build(text % order, shapes) for order in ("c, d", "d, c"))
    v = floats(a)["v"]
    assert_one_network(a, with_floats(b, {**floats(a), "v": np.concatenate([v[4:], v[:4]])}))


def branches(order: str, operands: str = "a, b, c") -> onnx.ModelProto:
    steps = [f"{n}0 = MatMul(x, w{n}) {n}1 = Tanh({n}0) {n} = MatMul({n}1, v{n})" for n in order]
    shapes = {f"{w}{n}": s for n in "abc" for w, s in (("w", (3, 5)), ("v", (5, 2)))}
    return build(f"(float[2, 3] x) => (float[2, 2] y) {{ {' '.join(steps)} s = Sum({operands}) y = Tanh(s) }}", shapes)


def test_of_branches_alike_those_of_one_name_correspond() -> None:
    a = branches("abc")
    b = with_floats(branches("cab", "b, c, a"), floats(a))
    assert_one_network(a, b)
    found = diff(a, b)
    assert found.summary == "the same parameters"


def test_of_branches_alike_those_of_close_parameters_are_found_without_names() -> None:
    a = branches("abc")
    values = {f"{w}{n}": floats(a)[f"{w}{m}"] for w in "wv" for n, m in zip("abc", "bca", strict=True)}
    assert_one_network(a, with_floats(branches("abc"), values))


def test_names_may_mislead() -> None:
    text = """(float[2, 3] x) => (float[2, 2] y) { a0 = MatMul(x, wa) a1 = %s(a0) a = MatMul(a1, va)
        b0 = MatMul(x, wb) b1 = %s(b0) b = MatMul(b1, vb) y = Add(a, b) }"""
    shapes = {f"{w}{n}": s for n in "ab" for w, s in (("w", (3, 5)), ("v", (5, 2)))}
    a, b = (build(text % names, shapes) for names in (("Tanh", "Relu"), ("Relu", "Tanh")))
    swapped = {f"{w}{n}": floats(a)[f"{w}{m}"] for w in "wv" for n, m in ("ab", "ba")}
    assert_one_network(a, with_floats(b, swapped))


@pytest.mark.parametrize(("ours", "theirs"), [(("w", "v"), ("u", "v")), (("w", "u"), ("u", "w"))])
def test_parameters_shared_by_other_layers_do_not_correspond(ours: tuple[str, str], theirs: tuple[str, str]) -> None:
    text = """(float[2, 4] x) => (float[2, 4] y) { a = MatMul(x, w) b = Tanh(a) c = MatMul(b, u) d = Tanh(c)
        e = MatMul(d, %s) f = Tanh(e) y = MatMul(f, %s) }"""
    shapes = {"w": (4, 4), "u": (4, 4), "v": (4, 4)}
    graphs = [gmnc.compile(build(text % names, shapes)) for names in (ours, theirs)]
    assert correspondence(*graphs) is None
    assert diff(*graphs).alignment is None
    assert correspondence(graphs[0], graphs[0]) is not None


def test_commutative_steps_are_those_that_the_front_end_takes_for_such() -> None:
    assert {step.name for step in declared_steps() if step.commutative} == COMMUTATIVE


def test_operands_that_are_told_apart_stay_so() -> None:
    text = "(float[2, 3] x) => (float[2, 2] y) { a = MatMul(x, w) b = Tanh(a) c = Exp(a) d = %s y = MatMul(d, v) }"
    shapes = {"w": (3, 4), "v": (4, 2)}
    a, b, c = (build(text % d, shapes) for d in ("Sub(b, c)", "Sub(c, b)", "Mul(b, c)"))
    assert diff(a, b).alignment is None
    assert_one_network(c, build(text % "Mul(c, b)", shapes))


def test_the_size_of_images_does_not_count() -> None:
    text = """(float[2, 3, %d, %d] x) => (float[2, 4, h, w] y) { a = Conv(x, k) b = Relu(a)
        c = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(b) y = Conv(c, l) }"""
    shapes = {"k": (6, 3, 1, 1), "l": (4, 6, 3, 3)}
    assert_one_network(*(build(text % (n, n), shapes) for n in (8, 12)))


def test_activations_align_networks_in_different_orders(tmp_path: Path) -> None:
    model = exported("llama", "dynamo")
    graph = gmnc.compile(reordered(model, 1))
    other = gmnc.write(graph, scramble(graph, seed=1).values)
    made = align(model, other, by="activations")
    assert made.criterion.startswith("activations")
    assert made.after < 1e-6


@pytest.mark.parametrize("name", by_network())
def test_parameters_that_are_carried_over_compute_the_same(name: str, compiled: Compiled) -> None:
    """Other parameters of a network in another order and format, in the tensors of the reference."""
    a, theirs = compiled(name, "dynamo"), gmnc.compile(reordered(exported(name, "torchscript"), 4))
    rng = np.random.default_rng(0)
    names = sorted({e.view.name for e in theirs.edges if not e.constant})
    own = {n: np.asarray(theirs.parameters[n].load()) for n in names}
    other = {n: (v * rng.uniform(0.5, 1.5, v.shape)).astype(v.dtype) for n, v in own.items()}
    b = gmnc.compile(gmnc.write(theirs, other))
    networks = correspondence(a, b)
    assert networks is not None
    feeds = feeds_for(a.model, a, {}, rng)
    inputs = [{q.name: feed[p.name] for p, q in zip(a.inputs, b.inputs, strict=True)} for feed in feeds]
    found, before = Network(a).run(networks.values()[1], feeds), Network(a).run({}, feeds)
    for mine, wanted, old in zip(found, Network(b).run({}, inputs), before, strict=True):
        for x, y, z in zip(mine.values(), wanted.values(), old.values(), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4 * np.abs(y).max())
            assert not np.allclose(y, z, rtol=1e-2, atol=1e-2 * np.abs(y).max())
