"""Symmetries that mix neurons by matrices: dimensions counted by hand, and run."""

from __future__ import annotations

from dataclasses import replace
from math import factorial, log10

import numpy as np
import onnx
import pytest
from support.tiny import packed_attention, separate_attention
from support.tiny_transformers import llama, vit

import gmnc
from gmnc.ir import GraphError, ParameterGraph
from gmnc.ir.vocabulary import Matrices
from gmnc.ir.vocabulary import declared_step as declared
from gmnc.symmetry import Mixing, Mixings, Product, homogeneity
from gmnc.testing import build, random_inputs, verify, with_values
from gmnc.testing.strategies import network
from gmnc.testing.trial import Trial

MIXED = ["orthogonal", "linear"]


def mixings(graph: ParameterGraph) -> tuple[Mixings, Mixings]:
    orthogonal, linear = gmnc.symmetries(graph, MIXED).mixings
    return orthogonal, linear


def checked(model: onnx.ModelProto) -> tuple[int, int]:
    """The dimensions of the orthogonal and linear symmetries, which `verify` finds to hold up to rounding."""
    report = verify(model, kinds=MIXED, trials=3)
    assert report.holds, "\n".join(report.complaints())
    assert report.sound or not report.generators, report.skipped
    assert report.max_error < report.tolerance < 1e-4, "matrices of small condition round no more than a few layers do"
    assert report.graph is not None
    orthogonal, linear = mixings(report.graph)
    return orthogonal.dimension, linear.dimension


def hidden(step: str, **floats: tuple[int, ...]) -> onnx.ModelProto:
    """3 inputs, 4 hidden neurons that go from a to h by this step, 2 outputs."""
    text = "(float[1, 5, 3] x) => (float[1, N, 2] y) { m = MatMul(x, w) a = Add(m, b) %s y = MatMul(h, v) }"
    ints = {name: value for name, value in (("one", [1]), ("last", [2])) if f" {name})" in step}
    opset = 23 if "RMSNormalization" in step else 20
    return build(text % step, {"w": (3, 4), "b": (4,), "v": (4, 2), **floats}, ints, opset=opset)


# Steps between two linear layers of 4 neurons: GL(4) has 16 dimensions, O(4) has 6, O(3) has 3.
BETWEEN = {
    "nothing": ("h = Identity(a)", (0, 16)),
    "a number": ("f = Constant<value_float = 30.0>() h = Mul(f, a)", (0, 16)),
    "a sum over positions": ("h = ReduceSum<keepdims = 1>(a, one)", (0, 16)),
    "the difference of two positions": (
        "i = Constant<value_ints = [1]>() j = Constant<value_ints = [2]>() p = Gather<axis = 1>(a, i) "
        "q = Gather<axis = 1>(a, j) h = Sub(p, q)",
        (0, 16),
    ),
    "a vector that multiplies": ("h = Mul(a, g)", (0, 16)),
    "a vector that multiplies, then a shift": ("s = Mul(a, g) h = Add(s, c)", (0, 16)),
    "a table of positions": ("h = Add(a, t)", (0, 16)),
    "a residual layer": ("n = MatMul(a, u) h = Add(a, n)", (0, 16)),
    "a shared layer, twice": ("n = MatMul(a, u) k = MatMul(n, u) h = Add(a, k)", (0, 16)),
    "a common factor": ("r = MatMul(x, z) h = Mul(a, r)", (0, 16)),
    "a learned number that multiplies": ("h = Mul(a, one_scale)", (0, 16)),
    "a learned number behind a norm": ("n = LpNormalization<axis = -1>(a) h = Mul(n, one_scale)", (6, 0)),
    "a common divisor": ("r = MatMul(x, z) e = Exp(r) h = Div(a, e)", (0, 16)),
    "a root mean square": ("h = RMSNormalization<axis = -1>(a, g)", (6, 0)),
    "a 2-norm": ("h = LpNormalization<axis = -1, p = 2>(a)", (6, 0)),
    "a layer norm": ("h = LayerNormalization(a, g)", (3, 0)),
    "a layer norm with a shift": ("h = LayerNormalization(a, g, c)", (3, 0)),
    "a Gram matrix": ("k = Transpose<perm = [0, 2, 1]>(a) s = MatMul(a, k) p = Softmax(s) h = MatMul(p, a)", (6, 0)),
    "two norms with one scale": (
        "d = RMSNormalization<axis = -1>(a, g) e = MatMul(d, u) f = Add(a, e) h = RMSNormalization<axis = -1>(f, g)",
        (6, 0),
    ),
    "a norm without scale in the stream": (
        "n = LpNormalization<axis = -1>(a) u1 = MatMul(n, u) h = Add(n, u1)",
        (6, 0),
    ),
    # None of these leaves a matrix.
    "relu": ("h = Relu(a)", (0, 0)),
    "a 1-norm": ("h = LpNormalization<axis = -1, p = 1>(a)", (0, 0)),
    "softmax": ("h = Softmax(a)", (0, 0)),
    "its square": ("h = Mul(a, a)", (0, 0)),
    "a number that is added": ("f = Constant<value_float = 30.0>() h = Add(f, a)", (0, 0)),
    "a learned number that is added": ("h = Add(a, one_scale)", (0, 0)),
    "a mean over the neurons": ("r = ReduceMean<keepdims = 1>(a, last) h = Sub(a, r)", (0, 0)),
    "a gate for each neuron": ("n = MatMul(x, w2) h = Mul(a, n)", (0, 0)),
    "a maximum of two positions": ("h = ReduceMax<keepdims = 1>(a, one)", (0, 0)),
    "a norm of each half": (
        "i, j = Split<axis = -1, num_outputs = 2>(a) k = LpNormalization<axis = -1>(i) "
        "l = LpNormalization<axis = -1>(j) h = Concat<axis = -1>(k, l)",
        (0, 0),
    ),
    "a scale on the residual branch": ("n = MatMul(a, u) s = Mul(n, g) h = Add(a, s)", (0, 0)),
    "a scaled norm in the stream": ("n = RMSNormalization<axis = -1>(a, g) u1 = MatMul(n, u) h = Add(n, u1)", (0, 0)),
    "a vector that is used twice": ("s = Mul(a, g) p = Softmax(g) h = Mul(s, p)", (0, 0)),
}
MORE = {"one_scale": (1,), "g": (4,), "c": (4,), "t": (5, 4), "u": (4, 4), "z": (3, 1), "w2": (3, 4)}


@pytest.mark.parametrize(("step", "expected"), BETWEEN.values(), ids=BETWEEN)
def test_steps_between_two_layers(step: str, expected: tuple[int, int]) -> None:
    floats = {name: shape for name, shape in MORE.items() if f"{name})" in step or f"{name}," in step}
    model = hidden(step, **floats)
    assert checked(model) == expected


def test_values_and_queries_of_every_head_have_a_matrix() -> None:
    """2 heads of 2 neurons: GL(2) for queries and keys, GL(2) for values and outputs of each, 4 * 4 dimensions."""
    assert checked(separate_attention()) == checked(packed_attention()) == (0, 16)


def one_key(heads: int, dims: int) -> onnx.ModelProto:
    """Attention of several query heads with one key and one value."""
    text = """(float[1, 4, 2] x) => (float[1, 4, 2] y) { q0 = MatMul(x, wq) q1 = Reshape(q0, split)
        q = Transpose<perm = [0, 2, 1, 3]>(q1) k0 = MatMul(x, wk) k1 = Unsqueeze(k0, one)
        k = Transpose<perm = [0, 1, 3, 2]>(k1) s = MatMul(q, k) p = Softmax(s) v0 = MatMul(x, wv)
        v = Unsqueeze(v0, one) a = MatMul(p, v) a1 = Transpose<perm = [0, 2, 1, 3]>(a) o = Reshape(a1, flat)
        y = MatMul(o, wo) }"""
    width = heads * dims
    floats = {"wq": (2, width), "wk": (2, dims), "wv": (2, dims), "wo": (width, 2)}
    return build(text, floats, {"one": [1], "split": [1, 4, heads, dims], "flat": [1, 4, width]})


@pytest.mark.parametrize(("heads", "dims"), [(2, 3), (3, 5), (2, 4)])
def test_query_heads_that_share_a_key_share_its_matrix(heads: int, dims: int) -> None:
    """GL(d) for the key and all queries, GL(d) for the value; the heads and d features of each trade places.

    With 2 heads of 3 features, exchanges of two heads and of two features of all heads move equally many neurons.
    """
    model = one_key(heads, dims)
    found = gmnc.symmetries(gmnc.compile(model))
    assert found.exact
    assert found.log10_size == pytest.approx(log10(factorial(heads) * factorial(dims) ** 2))
    assert checked(model) == (0, 2 * dims**2)


SHARED = {
    # y = (x A) A^T B: A and A^T change alike under orthogonal matrices only.
    "its own transpose": (
        "t = Transpose<perm = [1, 0]>(w) a = MatMul(x, w) b = MatMul(a, t) y = MatMul(b, v)",
        {"w": (4, 4), "v": (4, 2)},
        (6, 0),
    ),
    # What the second use sees is no linear function of what the file stores.
    "a function of it": (
        "t = Tanh(w) a = MatMul(x, w) b = MatMul(x, t) c = Add(a, b) y = MatMul(c, v)",
        {"w": (4, 4), "v": (4, 2)},
        (0, 0),
    ),
    "on another input": (
        "a = MatMul(x, w) b = MatMul(a, v) c = MatMul(x, w) r = Relu(c) d = ReduceSum<keepdims = 1>(r) y = Add(b, d)",
        {"w": (4, 4), "v": (4, 2)},
        (0, 0),
    ),
    "a low-rank update with a factor": (
        "f = Constant<value_float = 2.0>() fb = Mul(b, f) p = MatMul(a, fb) s = Add(w, p) h = MatMul(x, s) r = Relu(h)"
        " y = MatMul(r, v)",
        {"w": (4, 5), "a": (4, 3), "b": (3, 5), "v": (5, 2)},
        (0, 9),
    ),
    # A function of each element of B, so that its rows cannot be mixed.
    "a low-rank update of squares": (
        "fb = Mul(b, b) p = MatMul(a, fb) s = Add(w, p) h = MatMul(x, s) r = Relu(h) y = MatMul(r, v)",
        {"w": (4, 5), "a": (4, 3), "b": (3, 5), "v": (5, 2)},
        (0, 0),
    ),
    # Two vectors of 3 features each, whose product is all that is read: M and its transposed inverse.
    "products that are summed": (
        "t = Constant<value_ints = [1]>() a = MatMul(x, w) b = MatMul(x, u) m = Mul(a, b)"
        " s = ReduceSum<keepdims = 1>(m, t) y = Mul(s, g)",
        {"w": (4, 3), "u": (4, 3), "g": (2,)},
        (0, 9),
    ),
    "the greatest of products": (
        "t = Constant<value_ints = [1]>() a = MatMul(x, w) b = MatMul(x, u) m = Mul(a, b)"
        " s = ReduceMax<keepdims = 1>(m, t) y = Mul(s, g)",
        {"w": (4, 3), "u": (4, 3), "g": (2,)},
        (0, 0),
    ),
    "sums of some products": (
        "t = Constant<value_ints = [2]>() d = Constant<value_ints = [7, 2, 2]>() a = MatMul(x, w) b = MatMul(x, u)"
        " m0 = Mul(a, b) m = Reshape(m0, d) y = ReduceSum<keepdims = 0>(m, t)",
        {"w": (4, 4), "u": (4, 4)},
        (0, 8),
    ),
    # A sum of A B and C: neurons between A and B.
    "a low-rank update": (
        "p = MatMul(a, b) s = Add(w, p) h = MatMul(x, s) r = Relu(h) y = MatMul(r, v)",
        {"w": (4, 5), "a": (4, 3), "b": (3, 5), "v": (5, 2)},
        (0, 9),
    ),
}


@pytest.mark.parametrize(("lines", "floats", "expected"), SHARED.values(), ids=SHARED)
def test_weights_that_are_shared_or_computed(
    lines: str, floats: dict[str, tuple[int, ...]], expected: tuple[int, int]
) -> None:
    assert checked(build(f"(float[7, 4] x) => (float[7, 2] y) {{ {lines} }}", floats)) == expected


def image(step: str, **floats: tuple[int, ...]) -> onnx.ModelProto:
    text = "(float[1, 2, 6, 6] x) => (float[1, N, H, W] y) { a = Conv(x, w, b) %s }"
    return build(text % step, {"w": (4, 2, 3, 3), "b": (4,), **floats})


CONVOLUTIONS = {
    "a padded kernel": ("y = Conv<pads = [1, 1, 1, 1]>(a, v)", {"v": (3, 4, 3, 3)}, (0, 16)),
    "an average": ("h = AveragePool<kernel_shape = [2, 2]>(a) y = Conv(h, v)", {"v": (3, 4, 1, 1)}, (0, 16)),
    "a maximum": ("h = MaxPool<kernel_shape = [2, 2]>(a) y = Conv(h, v)", {"v": (3, 4, 1, 1)}, (0, 0)),
    "one kernel per channel": (
        "h = Conv<group = 4>(a, u) y = Conv(h, v)",
        {"u": (4, 1, 3, 3), "v": (3, 4, 1, 1)},
        (0, 0),
    ),
    # Two groups of two channels: GL(2) for each.
    "two groups": ("y = Conv<group = 2>(a, v)", {"v": (4, 2, 3, 3)}, (0, 8)),
    # statistics of a channel are not those of a mixture
    "batch norm": (
        "h = BatchNormalization(a, g, c, m, s) y = Conv(h, v)",
        {"v": (3, 4, 1, 1), "g": (4,), "c": (4,), "m": (4,), "s": (4,)},
        (0, 0),
    ),
}


@pytest.mark.parametrize(("step", "floats", "expected"), CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_channels(step: str, floats: dict[str, tuple[int, ...]], expected: tuple[int, int]) -> None:
    assert checked(image(step, **floats)) == expected


def test_a_flattened_image_is_mixed_at_every_place() -> None:
    lines = "a = Conv(x, w, b) f = Flatten(a) y = MatMul(f, v)"
    text = f"(float[1, 2, 5, 5] x) => (float[1, 2] y) {{ {lines} }}"
    assert checked(build(text, {"w": (4, 2, 3, 3), "b": (4,), "v": (36, 2)})) == (0, 16)


def test_a_network_shaped_like_a_vit() -> None:
    """The stream of width 6: O(5), as layer norms keep the mean: 10. 2 layers of 2 heads: twice GL(3) each: 72."""
    assert checked(vit()) == checked(vit(shifted=False)) == (10, 72)


def test_a_vit_with_rms_norms() -> None:
    """O(6) has 15 dimensions."""
    assert checked(vit(rms=True)) == (15, 72)


def test_a_network_shaped_like_a_llama() -> None:
    """The stream of width 8: O(8): 28. Queries and keys are rotated, so they are free of none but rotations.

    The values of each of 2 groups of heads share one GL(2), in 2 layers: 4 * 4 dimensions.
    """
    assert checked(llama()) == (28, 16)


def test_an_embedding_tied_to_the_head_behind_a_scale_is_not_mixed() -> None:
    """E Q and E diag(g) Q would have to be one tensor."""
    assert checked(llama(tied=True)) == (0, 16)


def _trial(model: onnx.ModelProto) -> tuple[ParameterGraph, Trial]:
    graph = gmnc.compile(model)
    rng = np.random.default_rng(1)
    return graph, Trial(graph, [{"x": rng.standard_normal((1, 5, 3)).astype(np.float32)}], rng)


def test_elements_compose_and_invert() -> None:
    graph, trial = _trial(hidden("h = Identity(a)"))
    rng = np.random.default_rng(0)
    linear = mixings(graph)[1]
    a, b = linear.sample(rng), linear.sample(rng)
    both = a @ b
    assert isinstance(both, Mixing)
    after = b.apply(trial.values)
    expected = {**trial.values, **after, **a.apply({**trial.values, **after})}
    for name, value in both.apply(trial.values).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5)
    for name, value in (a.inverse() @ a).apply(trial.values).items():
        np.testing.assert_allclose(value, trial.values[name], rtol=1e-4, atol=1e-5)
    assert "4 mixed by a matrix of GL(4)" in a.describe()


def test_what_is_mixed_follows_the_definition() -> None:
    """w -> w M^T, b -> M b, v -> M^-T v, for tensors of shapes [3, 4], [4] and [4, 2]."""
    graph, trial = _trial(hidden("h = Identity(a)"))
    element = mixings(graph)[1].sample(np.random.default_rng(0))
    [m], new, old = element.matrices, element.apply(trial.values), trial.values
    np.testing.assert_allclose(new["w"], old["w"] @ m.T, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(new["b"], m @ old["b"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(new["v"], np.linalg.inv(m).T @ old["v"], rtol=1e-5, atol=1e-6)
    assert np.linalg.cond(m) <= 2.001


def test_one_tensor_alone_is_no_symmetry() -> None:
    graph, trial = _trial(hidden("h = LayerNormalization(a, g, c)", g=(4,), c=(4,)))
    element = mixings(graph)[0].sample(np.random.default_rng(0))
    changes = element.apply(trial.values)
    assert changes.keys() == {"w", "b", "g", "c", "v"}
    assert trial.error(changes) < 1e-6
    for name, value in changes.items():
        assert trial.error({name: value}) > 1e-3, name


def test_matrices_that_keep_the_mean() -> None:
    graph, _ = _trial(hidden("h = LayerNormalization(a, g)", g=(4,)))
    [m] = mixings(graph)[0].sample(np.random.default_rng(0)).matrices
    np.testing.assert_allclose(m @ m.T, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(m @ np.ones(4), np.ones(4), atol=1e-12)
    assert abs(m - np.eye(4)).max() > 0.1


def test_a_scale_of_zero_in_front_of_a_shift_is_refused() -> None:
    model = hidden("h = LayerNormalization(a, g, c)", g=(4,), c=(4,))
    graph = gmnc.compile(with_values(model, g=np.array([1, 0, 1, 1], dtype=np.float32)))
    values = {name: p.load() for name, p in graph.parameters.items()}
    with pytest.raises(GraphError, match="a scale of 0 and a shift"):
        mixings(graph)[0].sample(np.random.default_rng(0)).apply(values)
    plain = gmnc.compile(with_values(hidden("h = LayerNormalization(a, g)", g=(4,)), g=np.float32([1, 0, 1, 1])))
    assert mixings(plain)[0].sample(np.random.default_rng(0)).apply({n: p.load() for n, p in plain.parameters.items()})


def test_all_kinds_are_drawn_and_reported_together() -> None:
    graph, trial = _trial(hidden("h = LpNormalization<axis = -1>(a)"))
    found = gmnc.symmetries(graph, ["linear", "permutation", "orthogonal", "scale"])
    assert found.kinds == ("permutation", "scale", "orthogonal", "linear")
    sample = found.sample(np.random.default_rng(0))
    assert isinstance(sample, Product)
    assert trial.error(sample.apply(trial.values)) < 1e-5
    assert trial.error((sample @ sample.inverse()).apply(trial.values)) < 1e-5
    data = found.to_json()
    assert (data["orthogonal"], data["linear"]) == (6, 0)
    assert sum(f.get("orthogonal", 0) for f in data["families"]) == 6
    assert str(found).endswith("O(4): 6 dimensions of orthogonal maps\nno linear maps")
    assert any(f.summary.endswith("6 dimensions of orthogonal maps") for f in found.families)


def test_integers_are_not_mixed() -> None:
    model = hidden("h = Identity(a)")
    scaled = onnx.ModelProto()
    scaled.CopyFrom(model)
    node = next(n for n in scaled.graph.node if n.op_type == "MatMul")
    node.input[1] = "dequantised"
    scaled.graph.node.insert(0, onnx.helper.make_node("DequantizeLinear", ["codes", "step"], ["dequantised"]))
    kept = [t for t in scaled.graph.initializer if t.name != "w"]
    del scaled.graph.initializer[:]
    codes = np.arange(12, dtype=np.int8).reshape(3, 4)
    scaled.graph.initializer.extend([*kept, onnx.numpy_helper.from_array(codes, "codes")])
    scaled.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0.1), "step"))
    assert [m.dimension for m in mixings(gmnc.compile(model))] == [0, 16]
    assert [m.dimension for m in mixings(gmnc.compile(scaled))] == [0, 0]


def test_half_precision_weights_are_mixed_up_to_their_rounding() -> None:
    """Weights in float16 that are cast to float32: the matrix rounds them to float16 again."""
    model = hidden("h = Identity(a)")
    for name in ("w", "v"):
        [tensor] = [t for t in model.graph.initializer if t.name == name]
        half = onnx.numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(onnx.numpy_helper.from_array(half, f"{name}16"))
        cast = onnx.helper.make_node("Cast", [f"{name}16"], [name], to=onnx.TensorProto.FLOAT)
        model.graph.node.insert(0, cast)
    report = verify(model, kinds=["linear"], trials=2)
    assert report.kinds == {"linear": 16}
    assert report.sound is True
    assert 1e-5 < report.max_error < report.tolerance


WRONG = {
    "relu taken for linear": ("Relu", {"commutes": Matrices.ALL}, "h = Relu(a)"),
    "a 1-norm taken for a 2-norm": (
        "LpNormalize", {"commutes": Matrices.ORTHOGONAL}, "h = LpNormalization<axis = -1, p = 1>(a)",
    ),
    "a norm taken for linear": ("LpNormalize", {"commutes": Matrices.ALL}, "h = LpNormalization<axis = -1>(a)"),
    "a layer norm taken for one without mean": (
        "Standardize", {"commutes": Matrices.ORTHOGONAL}, "h = LayerNormalization(a, g)",
    ),
    "a maximum taken for a sum": ("Max", {"additive": True}, "n = MatMul(a, u) h = Max(a, n)"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_law_is_found_out(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, law, step = WRONG[mistake]
    floats = {name: shape for name, shape in MORE.items() if f"{name})" in step}
    wrong = replace(declared(name), **law)
    monkeypatch.setattr(homogeneity, "declared_step", lambda op: wrong if op == name else declared(op))
    report = verify(hidden(step, **floats), kinds=MIXED, trials=2)
    assert report.sound is False
    assert any("mixed by a matrix of" in str(f) for f in report.failures)


FAMILIES = ("stream", "linear-chain", "attention", "position", "learned", "looked-up", "attach", "twins")


def held(seed: int) -> int:
    """How many spaces a random network has, all of which hold at once."""
    model = network(seed, 3, FAMILIES)
    graph, rng = gmnc.compile(model), np.random.default_rng(seed)
    found = mixings(graph)
    trial = Trial(graph, [random_inputs(model, seed=seed)], rng)
    changes: dict[str, np.ndarray] = {}
    for each in found:
        changes |= each.sample(rng).apply({**trial.values, **changes})
    if not trial.excess(trial.errors(changes)) < 1:
        trial.widen()
    assert trial.excess(trial.errors(changes)) < 1
    return sum(len(each.spaces) for each in found)


def test_random_networks_hold() -> None:
    assert sum(map(held, range(12))) > 12


@pytest.mark.full
@pytest.mark.fuzz
def test_many_random_networks_hold() -> None:
    assert sum(map(held, range(100, 400))) > 200
