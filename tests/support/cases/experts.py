"""Cases of mixtures of experts, and of convolutions that go on from a state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from support.cases.case import Case, rows

__all__ = ["causal_cases", "expert_cases"]

MICROSOFT = "com.microsoft"


def expert_cases() -> Iterator[Case]:
    """Four experts of five inner neurons, of which two are used."""
    floats = {"wr": (6, 4), "w": (4, 5, 6), "b": (4, 5), "v": (4, 6, 5), "c": (4, 6), "wide": (4, 10, 6), "b2": (4, 10)}
    floats |= {"u": (4, 5, 6), "d": (4, 5)}
    head = "s = Reshape(h, flat) p = MatMul(s, wr) "
    text = head + "m = com.microsoft.MoE<k = {}{}>(s, p, {}) o = Unsqueeze(m, first)"
    ints = {"flat": [3, 6], "first": [0]}

    def case(name: str, k: int, attributes: str, operands: str, **options: Any) -> Case:
        body = text.format(k, attributes, operands)
        return rows("MoE", name, body, domain=MICROSOFT, floats=floats, ints=ints, **options)

    plain = "w, b, v, c"
    relu = [text.format(2, "", plain)]
    yield case("relu", 2, "", plain, variants=[text.format(3, "", plain)])
    yield case("normalised", 2, ", normalize_routing_weights = 1", plain, variants=relu)
    for kind in ("gelu", "silu", "identity"):
        yield case(kind, 2, f', activation_type = "{kind}"', plain, variants=relu)
    gated = ', activation_type = "swiglu", swiglu_fusion = {}, activation_alpha = 1.7, activation_beta = 1.0'
    yield case("swiglu", 2, gated.format(1), "wide, b2, v, c")
    yield case("swiglu limited", 2, gated.format(1) + ", swiglu_limit = 0.5", "wide, b2, v, c",
               variants=[text.format(2, gated.format(1), "wide, b2, v, c")])  # fmt: skip
    # ONNX Runtime runs these on GPUs alone.
    yield case("swiglu halves", 2, gated.format(2), "wide, b2, v, c", runs=False)
    yield case("gate apart", 2, ', activation_type = "silu"', "w, b, v, c, u, d", runs=False)
    packed = {n: np.random.default_rng(i).integers(0, 256, (4, 6, 6), np.uint8) for i, n in enumerate(("w8", "v8"))}
    small = {n: v[..., :3] for n, v in packed.items()}
    for bits, values in ((8, packed), (4, small)):
        yield rows(
            "QMoE",
            f"{bits} bits",
            head + f"m = com.microsoft.QMoE<k = 2, expert_weight_bits = {bits}>(s, p, w8, s1, , v8, s2) "
            "o = Unsqueeze(m, first)",
            domain=MICROSOFT,
            floats={"wr": (6, 4), "s1": (4, 6), "s2": (4, 6)},
            ints=ints,
            values=values,
            symmetric=bits == 8,
        )
    yield from _gathered(head, floats, {**ints, "two": [2], "three": [3], "last": [-1]})
    yield case("other order", 2, "", "v, , w", opaque="not [4 experts", symmetric=False)


def _gathered(head: str, floats: dict[str, tuple[int, ...]], ints: dict[str, list[int]]) -> Iterator[Case]:
    """Experts whose weights are gathered by what the router chooses."""
    chosen = "a, i = TopK<{}>(p, {}) share = {}(a) "
    indexed = "wa = Gather<axis = 0>(w, i) va = Gather<axis = 0>(v, i) "
    applied = (
        'e = Einsum<equation = "bi,bkoi->bko">(s, wa) r = Relu(e) z = Einsum<equation = "bko,bkjo->bkj">(r, va)'
        ' m = Einsum<equation = "bk,bkj->bj">(share, z) o = Unsqueeze(m, first)'
    )
    tuples = "n = Unsqueeze(i, last) wa = GatherND(w, n) va = GatherND(v, n) "
    best = chosen.format("largest = 1", "two", "Softmax")
    counted = "a, i = TopK<{}>(p, {}) hot = OneHot(i, depth, marks) c = Cast<to = 1>(hot) "
    summed = "z = ReduceSum<keepdims = 0>(c, rank) q = MatMul(z, back) o = Unsqueeze(q, first)"
    equal = "a, i = TopK(p, two) n = Unsqueeze(i, last) hot = Equal(n, numbers) c = Cast<to = 1>(hot) "
    yield rows("Ranked", "one-hot", head + counted.format("largest = 1", "two") + summed, domain="gmnc",
               floats={"wr": (6, 4), "back": (4, 6)},
               ints={**ints, "depth": [4], "marks": [0, 1], "rank": [-2], "numbers": [[[0, 1, 2, 3]]]},
               variants=[head + counted.format("largest = 0", "two") + summed,
                         head + counted.format("largest = 1", "three") + summed],
               alike=[head + equal + summed])  # fmt: skip
    yield rows("Chosen", "gathered weights", head + best + indexed + applied, domain="gmnc",
               floats={n: floats[n] for n in ("wr", "w", "v")}, ints=ints,
               variants=[head + first + indexed + applied for first in (
                   chosen.format("largest = 1", "three", "Softmax"), chosen.format("largest = 0", "two", "Softmax"),
                   chosen.format("largest = 1", "two", "Sigmoid"))],
               alike=[head + best + tuples + applied])  # fmt: skip


def causal_cases() -> Iterator[Case]:
    """Convolutions over the length, channel by channel."""
    head = "t = Transpose<perm = [0, 2, 1]>(h) "
    text = head + "c, n = com.microsoft.CausalConvWithState{}(t, k, b) o = Transpose<perm = [0, 2, 1]>(c)"
    floats = {"k": (6, 1, 3), "b": (6,)}
    pads = "<group = 6, pads = [2, 0]>"
    yield rows(
        "CausalConvWithState",
        "plain",
        text.format(""),
        domain=MICROSOFT,
        floats=floats,
        variants=[text.format('<activation = "silu">')],
        alike=[head + f"c = Conv{pads}(t, k, b) o = Transpose<perm = [0, 2, 1]>(c)"],
    )
    yield rows(
        "CausalConvWithState",
        "silu",
        text.format('<activation = "silu">'),
        domain=MICROSOFT,
        floats=floats,
        alike=[head + f"a = Conv{pads}(t, k, b) s = Sigmoid(a) c = Mul(a, s) o = Transpose<perm = [0, 2, 1]>(c)"],
    )
    joined = (
        "u = Transpose<perm = [0, 2, 1]>(g) z, n = com.microsoft.CausalConvWithState(t, k, b, p) "
        "a = Transpose<perm = [0, 2, 1]>(z) m = Transpose<perm = [0, 2, 1]>(n) q = ReduceMax(m, one) o = Add(a, q)"
    )
    cut = "u = Transpose<perm = [0, 2, 1]>(g) p = Slice(u, first, two, last) "
    yield rows(
        "CausalConvWithState",
        "state",
        head + cut + joined.replace("u = Transpose<perm = [0, 2, 1]>(g) ", ""),
        domain=MICROSOFT,
        floats=floats,
        ints={"first": [0], "two": [2], "last": [2], "one": [1]},
    )
