"""What differs between two architectures, in words: each change is named, with its layer and node, and nothing else."""

from __future__ import annotations

import onnx
import pytest
from support.commands import run
from support.exports import Compiled, by_network, exported
from support.reordered import reordered

import gmnc
from gmnc.testing import build
from gmnc.transforms import diff
from gmnc.transforms.wording import worded

Shapes = dict[str, tuple[int, ...]]


def perceptron(
    activations: tuple[str, ...] = ("Relu", "Relu"), widths: tuple[int, ...] = (6, 6), norms: tuple[int, ...] = (0, 1)
) -> onnx.ModelProto:
    """Hidden layers `fc0`, `fc1`, ..., those of `norms` with a normalisation, and a last one."""
    steps, shapes, sizes = ["h0 = Identity(x)"], Shapes(), (3, *widths, 2)
    for n, activation in enumerate(activations):
        shapes |= {f"fc{n}_weight": (sizes[n], sizes[n + 1]), f"fc{n}_bias": (sizes[n + 1],)}
        steps.append(f"[dense{n}] a{n} = Gemm(h{n}, fc{n}_weight, fc{n}_bias)")
        normed = f"a{n}"
        if n in norms:
            shapes |= {f"norm{n}_{p}": (sizes[n + 1],) for p in ("weight", "bias")}
            steps.append(f"[normal{n}] n{n} = LayerNormalization(a{n}, norm{n}_weight, norm{n}_bias)")
            normed = f"n{n}"
        steps.append(f"h{n + 1} = {activation}({normed})")
    last = len(activations)
    shapes["last_weight"] = (sizes[last], 2)
    steps.append(f"[dense_last] y = MatMul(h{last}, last_weight)")
    return build(f"(float[1, 3] x) => (float[1, 2] y) {{ {' '.join(steps)} }}", shapes)


ATTENTION = """(float[1, 5, 6] x) => (float[1, 5, 2] y) {
    q0 = MatMul(x, wq) k0 = MatMul(x, wk) v0 = MatMul(x, wv)
    q1 = Reshape(q0, parts) k1 = Reshape(k0, parts) v1 = Reshape(v0, parts)
    q = Transpose<perm = [0, 2, 1, 3]>(q1) k = Transpose<perm = [0, 2, 3, 1]>(k1) v = Transpose<perm = [0, 2, 1, 3]>(v1)
    [scores] s = MatMul(q, k) p = Softmax<axis = -1>(s) o = MatMul(p, v)
    t = Transpose<perm = [0, 2, 1, 3]>(o) f = Reshape(t, flat) y = MatMul(f, wo) }"""


def attention(heads: int) -> onnx.ModelProto:
    shapes = {"wq": (6, 12), "wk": (6, 12), "wv": (6, 12), "wo": (12, 2)}
    return build(ATTENTION, shapes, {"parts": [1, 5, heads, 12 // heads], "flat": [1, 5, 12]})


def convolutions(attributes: str = "group = 1", kernel: int = 3, groups: int = 1, last: str = "") -> onnx.ModelProto:
    text = f"""(float[1, 3, 8, 8] x) => (float[1, c, h, w] y) {{
        [first] a = Conv(x, k0) b = Relu(a) [second] z = Conv<{attributes}>(b, k1) {last or "y = Relu(z)"} }}"""
    return build(text, {"k0": (4, 3, 1, 1), "k1": (4, 4 // groups, kernel, kernel)})


SKIP = "(float[1, 3] x) => (float[1, 3] y) { a = MatMul(x, w) b = Tanh(a) c = MatMul(b, v) %s }"
SKIP_SHAPES = {"w": (3, 5), "v": (5, 3)}
PLAIN = perceptron()
CASES: dict[str, tuple[onnx.ModelProto, onnx.ModelProto, list[str]]] = {
    "layer added": (
        PLAIN, perceptron(("Relu",) * 3, (6, 6, 6)),
        ["+ linear layer fc2 (node dense2): 6 inputs, 6 outputs, parameters bias, weight, after Relu"],
    ),
    "activation": (
        PLAIN, perceptron(("Relu", "Tanh")), ["~ linear layer last (node dense_last): after Tanh, not Relu"],
    ),
    "width": (
        PLAIN, perceptron(widths=(6, 7), norms=(0,)),
        [
            "~ linear layer fc1 (node dense1): outputs 7, not 6",
            "- normalisation norm1 (node normal1): 6 features, parameters bias, scale, epsilon 1e-05, over neurons",
            "~ linear layer last (node dense_last): inputs 7, not 6",
        ],
    ),
    "normalisation removed": (
        PLAIN, perceptron(norms=(0,)),
        ["- normalisation norm1 (node normal1): 6 features, parameters bias, scale, epsilon 1e-05, over neurons"],
    ),
    "heads": (attention(3), attention(4), ["~ attention s (node scores): heads 4, not 3"]),
    "stride": (
        convolutions(), convolutions("strides = [2, 2]"), ["~ convolution k1 (node second): stride 2x2, not none"],
    ),
    "kernel": (convolutions(), convolutions(kernel=5), ["~ convolution k1 (node second): kernel 5x5, not 3x3"]),
    "groups": (
        convolutions(), convolutions("group = 2", groups=2), ["~ convolution k1 (node second): groups 2, not 1"],
    ),
    "output": (
        convolutions(), convolutions(last="y = Sigmoid(z)"), ["~ output y: after Sigmoid, not Relu"],
    ),
    "residual": (
        build(SKIP % "y = Identity(c)", SKIP_SHAPES), build(SKIP % "[skip] y = Add(x, c)", SKIP_SHAPES),
        ["+ sum y (node skip): 2 operands"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_change_is_named(case: str) -> None:
    a, b, wanted = CASES[case]
    found = diff(a, b)
    assert not found.equal
    assert found.alignment is None
    assert list(found.structure) == wanted


@pytest.mark.parametrize("case", CASES)
def test_the_other_way_round(case: str) -> None:
    a, b, wanted = CASES[case]
    found = diff(b, a)
    turned = str.maketrans("+-~", "-+~")
    assert sorted(x[:1] for x in found.structure) == sorted(x[:1].translate(turned) for x in wanted)
    named = {x.split(":")[0][1:] for x in wanted}
    assert {x.split(":")[0][1:] for x in found.structure} == named


def test_two_changes_at_once() -> None:
    found = diff(perceptron(), perceptron(("Relu", "Relu", "Tanh"), (6, 6, 6), (0,)))
    assert found.summary == "different architectures: 1 part added, 1 part removed, 1 part changed"
    assert any(line.startswith("+ linear layer fc2") for line in found.structure)
    assert any(line.startswith("- normalisation norm1") for line in found.structure)
    assert "~ linear layer last (node dense_last): after Tanh, not Relu" in found.structure


def test_numbered_layers_behind_a_new_one_are_the_same() -> None:
    """As in a torch `Sequential`, where every later layer gets another number."""
    step = "[node{1}] c{1} = MatMul(h{0}, n{1}_weight) h{1} = {2}(c{1})"

    def model(activations: str) -> onnx.ModelProto:
        kinds = activations.split()
        steps = ["h0 = Identity(x)", *(step.format(n, n + 1, k) for n, k in enumerate(kinds))]
        shapes = {f"n{n + 1}_weight": (3 + n % 2, 3 + (n + 1) % 2) for n in range(len(kinds))}
        return build(f"(float[1, 3] x) => (float[1, m] y) {{ {' '.join(steps)} y = Neg(h{len(kinds)}) }}", shapes)

    found = diff(model("Tanh Relu Tanh Relu"), model("Tanh Tanh Relu Tanh Relu")).structure
    assert [line[0] for line in found if "linear" in line].count("+") == 1


def test_the_command_prints_the_parts(tmp_path: object) -> None:
    a, b, wanted = CASES["activation"]
    for name, model in (("a", a), ("b", b)):
        onnx.save(model, f"{tmp_path}/{name}.onnx")
    result = run("diff", f"{tmp_path}/a.onnx", f"{tmp_path}/b.onnx")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == ["different architectures: 1 part changed", *wanted]


@pytest.mark.parametrize("name", by_network())
def test_exporters_are_described_alike(name: str, compiled: Compiled) -> None:
    """Also in another order; what is said to differ would otherwise be what the exporter did."""
    graph = compiled(name)
    assert worded(graph, compiled(name, "torchscript")) == ()
    assert worded(graph, gmnc.compile(reordered(exported(name, "dynamo"), 1))) == ()
