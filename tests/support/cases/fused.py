"""Cases of the operators of com.microsoft that are several others in one, each beside those others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from support.cases.attention import attention_cases
from support.cases.case import Case, image, rows
from support.cases.experts import causal_cases, expert_cases

__all__ = ["fused_cases"]

MICROSOFT = "com.microsoft"


def fused_cases() -> Iterator[Case]:
    """One or more cases per operator, alike to what it is written out."""
    yield from _products()
    yield from _activations()
    yield from _norms()
    yield from _attention()
    yield from attention_cases()
    yield from expert_cases()
    yield from causal_cases()
    yield from _others()


def _products() -> Iterator[Case]:
    yield rows(
        "FusedMatMul",
        "weight",
        "o = com.microsoft.FusedMatMul<transB = 1, alpha = 0.5>(h, w)",
        floats={"w": (6, 6)},
        domain=MICROSOFT,
        alike=["t = Transpose(w) m = MatMul(h, t) c = Constant<value_float = 0.5>() o = Mul(m, c)"],
        variants=["o = com.microsoft.FusedMatMul<transB = 1, alpha = 0.7>(h, w)"],
    )
    yield rows(
        "FusedMatMul",
        "activations",
        "s = com.microsoft.FusedMatMul<transB = 1>(h, g) o = MatMul(s, h)",
        domain=MICROSOFT,
        alike=["t = Transpose<perm = [0, 2, 1]>(g) s = MatMul(h, t) o = MatMul(s, h)"],
    )
    flat = "s = Squeeze(h, first) {} o = Unsqueeze(d, first)"
    yield rows(
        "FusedGemm",
        "activation",
        flat.format(
            'd = com.microsoft.FusedGemm<transB = 1, activation = "LeakyRelu", activation_alpha = 0.2>(s, w, b)'
        ),
        floats={"w": (6, 6), "b": (6,)},
        ints={"first": [0]},
        domain=MICROSOFT,
        alike=[flat.format("e = Gemm<transB = 1>(s, w, b) d = LeakyRelu<alpha = 0.2>(e)")],
    )
    conv = 'o = com.microsoft.FusedConv<pads = [1, 1, 1, 1], activation = "{}">(h, w, b{})'
    for name, z, plain in (
        ("Relu", "", "c = Conv<pads = [1, 1, 1, 1]>(h, w, b) o = Relu(c)"),
        ("Relu", ", g", "c = Conv<pads = [1, 1, 1, 1]>(h, w, b) s = Add(c, g) o = Relu(s)"),
    ):
        yield image(
            "FusedConv",
            "sum" if z else "activation",
            conv.format(name, z),
            domain=MICROSOFT,
            floats={"w": (4, 4, 3, 3), "b": (4,)},
            alike=[plain],
            variants=[conv.format("Tanh", z)],
        )


def _activations() -> Iterator[Case]:
    tanh = '<approximate = "tanh">'
    yield rows("Gelu", "microsoft", "o = com.microsoft.Gelu(h)", domain=MICROSOFT, alike=["o = Gelu(h)"])
    yield rows(
        "BiasGelu",
        "vector",
        "o = com.microsoft.BiasGelu(h, b)",
        domain=MICROSOFT,
        floats={"b": (6,)},
        alike=["a = Add(h, b) o = Gelu(a)"],
        variants=["o = com.microsoft.FastGelu(h, b)"],
    )
    yield rows(
        "FastGelu",
        "vector",
        "o = com.microsoft.FastGelu(h, b)",
        domain=MICROSOFT,
        floats={"b": (6,)},
        alike=[f"a = Add(h, b) o = Gelu{tanh}(a)"],
    )
    yield rows("FastGelu", "plain", "o = com.microsoft.FastGelu(h)", domain=MICROSOFT, alike=[f"o = Gelu{tanh}(h)"])
    yield rows(
        "QuickGelu",
        "plain",
        "o = com.microsoft.QuickGelu(h)",
        domain=MICROSOFT,
        alike=["c = Constant<value_float = 1.702>() m = Mul(h, c) s = Sigmoid(m) o = Mul(h, s)"],
        variants=["o = com.microsoft.QuickGelu<alpha = 1.0>(h)"],
    )
    # ONNX Runtime has these two for GPUs alone.
    yield rows(
        "BiasSplitGelu",
        "halves",
        "o = com.microsoft.BiasSplitGelu(h, b)",
        width=3,
        runs=False,
        domain=MICROSOFT,
        floats={"b": (6,)},
        alike=["a = Add(h, b) l, r = Split<axis = 2, num_outputs = 2>(a) e = Gelu(r) o = Mul(l, e)"],
    )
    yield rows(
        "BiasAdd",
        "residual",
        "o = com.microsoft.BiasAdd(h, b, g)",
        runs=False,
        domain=MICROSOFT,
        floats={"b": (6,)},
        alike=["a = Add(h, b) o = Add(a, g)"],
    )


def _norms() -> Iterator[Case]:
    sides = {"s": (6,), "t": (6,), "b": (6,)}
    # Older files name these two so; ONNX Runtime registers them in the default domain only.
    for op, vectors in (("LayerNormalization", "s, t"), ("SimplifiedLayerNormalization", "s")):
        yield rows(
            op,
            "microsoft",
            f"o = com.microsoft.{op}<axis = -1, epsilon = 0.001>(h, {vectors})",
            floats=sides,
            domain=MICROSOFT,
            runs=False,
            checked=False,
            alike=[f"o = {op}<axis = -1, epsilon = 0.001>(h, {vectors})"],
        )
    yield rows(
        "SkipLayerNormalization",
        "bias",
        "o = com.microsoft.SkipLayerNormalization<epsilon = 0.001>(h, g, s, t, b)",
        domain=MICROSOFT,
        floats=sides,
        alike=["a = Add(h, g) c = Add(a, b) o = LayerNormalization<epsilon = 0.001>(c, s, t)"],
        variants=["o = com.microsoft.SkipLayerNormalization<epsilon = 0.1>(h, g, s, t, b)"],
    )
    yield rows(
        "SkipLayerNormalization",
        "sum used",
        "n, m, d, c = com.microsoft.SkipLayerNormalization(h, g, s, t) o = Add(n, c)".replace("n, m, d, c", "n, , , c"),
        domain=MICROSOFT,
        floats=sides,
        alike=["c = Add(h, g) n = LayerNormalization<epsilon = 0.000000000001>(c, s, t) o = Add(n, c)"],
    )
    yield rows(
        "SkipSimplifiedLayerNormalization",
        "bias",
        "o = com.microsoft.SkipSimplifiedLayerNormalization<epsilon = 0.001>(h, g, s, b)",
        domain=MICROSOFT,
        floats=sides,
        checked=False,
        alike=["a = Add(h, g) c = Add(a, b) o = SimplifiedLayerNormalization<epsilon = 0.001>(c, s)"],
    )
    # The default epsilon of these is not that of a LayerNormalization.
    yield rows(
        "SkipSimplifiedLayerNormalization",
        "plain",
        "o = com.microsoft.SkipSimplifiedLayerNormalization(h, g, s)",
        domain=MICROSOFT,
        floats=sides,
        checked=False,
        alike=["a = Add(h, g) o = SimplifiedLayerNormalization<epsilon = 0.000000000001>(a, s)"],
    )
    text = """(int32[1, 3] i, int32[1, 3] k) => (float[1, 3, 2] y) {{
        {}
        y = MatMul(e, wo) }}"""
    floats = {"w": (7, 6), "p": (5, 6), "q": (2, 6), "s": (6,), "t": (6,), "wo": (6, 2)}
    whole = "e, l = com.microsoft.EmbedLayerNormalization<epsilon = 0.001>(i, k, w, p, q, s, t)"
    apart = """a = Gather(w, i) b = Slice(p, zero, three) c = Gather(q, k) d = Add(a, b) f = Add(d, c)
        e = LayerNormalization<epsilon = 0.001>(f, s, t)"""
    yield Case(
        "EmbedLayerNormalization",
        "segments",
        text.format(whole),
        floats,
        {"zero": [0], "three": [3]},
        domain=MICROSOFT,
        alike=(text.format(apart),),
    )
    yield Case(
        "EmbedLayerNormalization",
        "plain",
        text.format(whole.replace("<epsilon = 0.001>", "")),
        floats,
        {"zero": [0], "three": [3]},
        domain=MICROSOFT,
        alike=(text.format(apart.replace("0.001", "0.000000000001")),),
    )


def _written(k: str, v: str, scores: str = "") -> str:
    """Attention of two heads of three over a, and k and v, in primitive operators; r is [1, 3, 6]."""
    parts = " ".join(
        f"{n}r = Reshape({x}, split) {n}h = Transpose<perm = [0, 2, 1, 3]>({n}r)"
        for n, x in (("q", "a"), ("k", k), ("v", v))
    )
    return f"""{parts} kt = Transpose<perm = [0, 1, 3, 2]>(kh) qk = MatMul(qh, kt) sc = Mul(qk, scale)
        {scores or "sm = Identity(sc)"}
        pr = Softmax(sm) ov = MatMul(pr, vh) ot = Transpose<perm = [0, 2, 1, 3]>(ov) r = Reshape(ot, whole)"""


def _attention() -> Iterator[Case]:
    ints = {"split": [1, 3, 2, 3], "whole": [1, 3, 6], "thirds": [6, 6, 6]}
    scale = "scale = Constant<value_float = 0.57735>() "
    packed = "o = com.microsoft.Attention<num_heads = 2{}>(h, w, b{})"
    apart = scale + "m = MatMul(h, w) n = Add(m, b) a, k, v = Split<axis = 2>(n, thirds) "
    floats = {"w": (6, 18), "b": (18,), "bias": (1, 2, 3, 3)}
    yield rows(
        "Attention",
        "microsoft",
        packed.format("", ""),
        domain=MICROSOFT,
        floats=floats,
        ints=ints,
        alike=[apart + _written("k", "v") + " o = Identity(r)"],
        variants=[
            packed.format(", scale = 0.3", ""),
            packed.format(", unidirectional = 1", ""),
            "o = com.microsoft.Attention<num_heads = 3>(h, w, b)",
        ],
    )
    yield rows(
        "Attention", "microsoft causal", packed.format(", unidirectional = 1", ""), domain=MICROSOFT, floats=floats
    )
    yield rows(
        "Attention",
        "microsoft added",
        packed.format("", ", , , bias"),
        domain=MICROSOFT,
        floats=floats,
        ints=ints,
        alike=[apart + _written("k", "v", "sm = Add(sc, bias)") + " o = Identity(r)"],
    )
    yield rows(
        "Attention",
        "microsoft masked",
        packed.format("", ", mask"),
        domain=MICROSOFT,
        floats=floats,
        values={"mask": np.array([[1, 1, 0]], np.int32)},
    )
    apart = scale + "a = Identity(h) "
    both = "o = com.microsoft.MultiHeadAttention<num_heads = 2>(h, g, {})"
    yield rows(
        "MultiHeadAttention",
        "plain",
        both.format("h"),
        domain=MICROSOFT,
        ints=ints,
        alike=[apart + _written("g", "h") + " o = Identity(r)"],
        variants=[both.format("g"), both.format("h").replace("= 2", "= 3")],
    )
    yield rows(
        "MultiHeadAttention",
        "bias",
        both.format("h, b"),
        domain=MICROSOFT,
        ints=ints,
        floats={"b": (18,)},
        alike=[
            scale
            + "x1, x2, x3 = Split<axis = 0>(b, thirds) a = Add(h, x1) k = Add(g, x2) v = Add(h, x3) "
            + _written("k", "v")
            + " o = Identity(r)"
        ],
    )


def _others() -> Iterator[Case]:
    positions = {"at": [[2, 0, 1]], "from": [1], "t": [[1, 0, 2]]}
    for name, more in (("halves", ""), ("pairs", ", interleaved = 1")):
        text = f"o = com.microsoft.RotaryEmbedding<num_heads = 1{more}>(h, {{}}, cos, sin)"
        yield rows(
            "RotaryEmbedding",
            f"microsoft {name}",
            text.format("at"),
            domain=MICROSOFT,
            ints=positions,
            floats={"cos": (5, 3), "sin": (5, 3)},
            variants=[text.format("t")],
        )
    text = "o = com.microsoft.RotaryEmbedding<num_heads = 2>(h8, from, cos, sin)"
    yield rows(
        "RotaryEmbedding",
        "microsoft offset",
        "h8 = MatMul(h, w8) " + text,
        width=8,
        domain=MICROSOFT,
        ints=positions,
        floats={"w8": (6, 8), "cos": (5, 2), "sin": (5, 2)},
    )
    yield rows(
        "Trilu",
        "microsoft",
        "t = com.microsoft.Trilu<upper = 0>(h) o = Mul(t, g)",
        domain=MICROSOFT,
        symmetric=False,
        alike=["t = Trilu<upper = 0>(h) o = Mul(t, g)"],
    )
    # ONNX Runtime has these for GPUs alone.
    first, last = "f = Transpose<perm = [0, 2, 3, 1]>(h) ", " o = Transpose<perm = [0, 3, 1, 2]>(n)"
    yield image(
        "NhwcConv",
        "bias",
        first + "n = com.microsoft.NhwcConv<pads = [1, 1, 1, 1]>(f, k, b)" + last,
        runs=False,
        domain=MICROSOFT,
        floats={"w": (4, 4, 3, 3), "k": (4, 3, 3, 4), "b": (4,)},
        alike=["wk = Transpose<perm = [0, 3, 1, 2]>(k) o = Conv<pads = [1, 1, 1, 1]>(h, wk, b)"],
    )
    norm = "n = com.microsoft.GroupNorm<groups = 2, activation = {}, epsilon = 0.001>(f, s, t)"
    yield image(
        "GroupNorm",
        "silu",
        first + norm.format(1) + last,
        runs=False,
        domain=MICROSOFT,
        opset=21,
        floats={"s": (4,), "t": (4,)},
        variants=[first + norm.format(0) + last],
        alike=["g1 = GroupNormalization<num_groups = 2, epsilon = 0.001>(h, s, t) g2 = Sigmoid(g1) o = Mul(g1, g2)"],
    )
    for op, reason in (
        ("PackedAttention", "packed"),
        ("PackedMultiHeadAttention", "packed"),
        ("DecoderMaskedSelfAttention", "cache"),
        ("QMoE", "form"),
    ):
        yield rows(
            op,
            "refused",
            f"o = com.microsoft.{op}(h, g, w)",
            domain=MICROSOFT,
            floats={"w": (6, 6)},
            opaque=reason,
            symmetric=False,
        )
    yield rows(
        "FusedMatMul",
        "unknown attribute",
        "o = com.microsoft.FusedMatMul<someday = 1>(h, w)",
        floats={"w": (6, 6)},
        domain=MICROSOFT,
        runs=False,
        opaque="someday",
        symmetric=False,
    )
    yield rows(
        "MatMulNBits",
        "packed ahead",
        "o = com.microsoft.MatMulNBits<K = 6, N = 6, block_size = 16, weight_prepacked = 1>(h, w, s)",
        floats={"s": (6,)},
        values={"w": np.zeros((6, 1, 8), np.uint8)},
        domain=MICROSOFT,
        runs=False,
        opaque="form",
        symmetric=False,
    )
    nchwc = "com.microsoft.nchwc"
    for op in ("Conv", "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "ReorderInput", "ReorderOutput"):
        text = f"o = {nchwc}.{op}(h{', w' if op == 'Conv' else ''})"
        floats = {"w": (16, 16, 3, 3)}
        yield image(op, "blocks", text, domain=nchwc, floats=floats, runs=False, opaque="blocked", symmetric=False)
    yield image(
        "Upsample", "blocks", f"o = {nchwc}.Upsample(h)", domain=nchwc, runs=False, opaque="blocked", symmetric=False
    )
    yield rows(
        "NGramRepeatBlock",
        "declared",
        "s = Squeeze(h, first)\n d = com.microsoft.NGramRepeatBlock<ngram_size = 2>(tokens, s)"
        "\n o = Unsqueeze(d, first)",
        domain=MICROSOFT,
        ints={"tokens": [[1, 2]] * 3, "first": [0]},
        symmetric=False,
    )
