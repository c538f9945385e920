"""Cases of the operators with weights, of normalisation, softmax, reductions and pooling."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from support.cases.case import Case, boxes, image, rows, varied

__all__ = ["layer_cases"]


def layer_cases() -> Iterator[Case]:
    """Every operator that mixes entries."""
    yield from _matrices()
    yield from _einsums()
    yield from _convolutions()
    yield from _batch_norms()
    yield from _norms()
    yield from _written_out()
    yield from _softmax()
    yield from _reductions()
    yield from _pooling()
    yield from _expanded()


def _matrices() -> Iterator[Case]:
    yield rows("MatMul", "weight", "o = MatMul(h, w)", floats={"w": (6, 5)}, width=5)
    yield rows("MatMul", "weight-left", "o = MatMul(w, h)", floats={"w": (5, 3)})
    yield boxes("MatMul", "weight-per-head",
                "t = Transpose<perm = [0, 2, 1, 3]>(h)\n p = MatMul(t, w)\n o = Transpose<perm = [0, 2, 1, 3]>(p)",
                floats={"w": (2, 3, 3)})  # fmt: skip
    yield boxes("MatMul", "weight-shared-by-heads", "o = MatMul(h, w)", floats={"w": (3, 3)})
    yield boxes("MatMul", "mixing-heads", "o = MatMul(w, h)", floats={"w": (2, 2)})
    yield rows("MatMul", "gram", "t = Transpose<perm = [0, 2, 1]>(g)\n o = MatMul(h, t)", width=3,
               variants=["t = Transpose<perm = [0, 2, 1]>(h)\n o = MatMul(g, t)"])  # fmt: skip
    yield rows("MatMul", "own-gram", "t = Transpose<perm = [0, 2, 1]>(h)\n o = MatMul(h, t)", width=3)
    yield rows("MatMul", "outer", "t = Transpose<perm = [0, 2, 1]>(g)\n o = MatMul(t, h)",
               variants=["t = Transpose<perm = [0, 2, 1]>(h)\n o = MatMul(t, g)"])  # fmt: skip
    yield rows("MatMul", "vector", "s = MatMul(h, v)\n o = Unsqueeze(s, last)", floats={"v": (6,)}, width=1,
               ints={"last": [-1]})  # fmt: skip
    yield rows("MatMul", "vector-left", "s = MatMul(v, h)\n o = Unsqueeze(s, last)", floats={"v": (3,)},
               ints={"last": [1]})  # fmt: skip
    attention = """qt = Transpose<perm = [0, 2, 1, 3]>(h)
        kt = Transpose<perm = [0, 2, 3, 1]>(g)
        xv = MatMul(x, wv)
        v = Reshape(xv, split)
        vt = Transpose<perm = [0, 2, 1, 3]>(v)
        s = MatMul(qt, kt)
        p = Softmax(s)
        a = MatMul(p, vt)
        o = Transpose<perm = [0, 2, 1, 3]>(a)"""
    scaled = attention.replace("s = MatMul", "k = Constant<value_float = 0.5>()\n u = MatMul")
    yield boxes("MatMul", "attention", attention, floats={"wv": (4, 6)},
                variants=[attention.replace("Softmax", "LogSoftmax"),
                scaled.replace("p =", "s = Mul(u, k)\n p =")])  # fmt: skip
    for trans_a, trans_b in ((0, 0), (1, 0), (0, 1), (1, 1)):
        made = "r = Reshape(h, square)\n t = " + ("Transpose(r)" if trans_a else "Identity(r)")
        shape = (5, 6) if trans_b else (6, 5)
        gemm = f"g2 = Gemm<transA = {trans_a}, transB = {trans_b}, alpha = {{}}, beta = {{}}>(t, w, {{}})"
        back = "o = Reshape(g2, cube)"
        first = "\n".join([made, gemm.format("0.5", "2.0", "b"), back])
        others = [("1.0", "2.0", "b"), ("0.5", "1.0", "b"), ("0.5", "0.0", "b")]
        yield rows(
            "Gemm", f"transposed-{trans_a}{trans_b}", first, width=5, floats={"w": shape, "b": (5,)},
            ints={"square": [3, 6], "cube": [1, 3, 5]},
            variants=["\n".join([made, gemm.format(*o), back]) for o in others],
        )  # fmt: skip
    flat = "r = Reshape(h, square)\n q = Reshape(g, square)\n"
    ints = {"square": [3, 6], "cube": [1, 3, 5], "three": [1, 3, 3], "six": [1, 6, 6], "wide": [1, 5, 6]}
    yield rows(
        "Gemm", "no-bias", flat + "z = Gemm(r, w)\n o = Reshape(z, cube)", floats={"w": (6, 5)}, width=5, ints=ints
    )
    for name, shape in (("scalar", (1,)), ("matrix", (3, 5)), ("column", (3, 1))):
        yield rows("Gemm", f"bias-{name}", flat + "z = Gemm(r, w, b)\n o = Reshape(z, cube)", width=5,
                   floats={"w": (6, 5), "b": shape}, ints=ints)  # fmt: skip
    yield rows("Gemm", "weight-left", flat + "z = Gemm(w, r)\n o = Reshape(z, wide)", floats={"w": (5, 3)}, ints=ints)
    yield rows("Gemm", "activations", flat + "z = Gemm<transB = 1>(r, q)\n o = Reshape(z, three)", width=3, ints=ints)
    yield rows("Gemm", "bias-activation",
               flat + "m = MatMul(q, w)\n z = Gemm<beta = 0.5>(r, w2, m)\n o = Reshape(z, cube)",
               floats={"w": (6, 5), "w2": (6, 5)}, width=5, ints=ints,
               variants=[flat + "m = MatMul(q, w)\n z = Gemm(r, w2, m)\n o = Reshape(z, cube)"])  # fmt: skip
    yield from varied(rows("Gemm", "old", flat + "z = Gemm(r, w, b)\n o = Reshape(z, cube)", width=5,
                           floats={"w": (6, 5), "b": (5,)}, ints=ints), (7, 9, 11))  # fmt: skip


def _einsums() -> Iterator[Case]:
    def einsum(name: str, equation: str, operands: str, make=rows, **options: object) -> Case:
        return make("Einsum", name, f'o = Einsum<equation = "{equation}">({operands})', **options)

    yield einsum("weight", "bsi,io->bso", "h, w", floats={"w": (6, 5)}, width=5)
    yield einsum("weight-left", "io,bsi->bso", "w, h", floats={"w": (6, 5)}, width=5)
    yield einsum("ellipsis", "...i,oi->...o", "h, w", floats={"w": (5, 6)}, width=5)
    yield einsum("implicit", "bsi,io", "h, w", floats={"w": (6, 5)}, width=3)
    yield einsum("weight-per-head", "bshi,hio->bsho", "h, w", boxes, floats={"w": (2, 3, 3)})
    yield einsum("scale", "bsi,i->bsi", "h, v", floats={"v": (6,)})
    yield einsum("positions", "bsi,st->bti", "h, w", floats={"w": (3, 3)})
    yield einsum("gram", "bsi,bti->bst", "h, g", width=3)
    yield einsum("elementwise", "bsi,bsi->bsi", "h, g")
    yield einsum("outer", "bsi,bsj->bij", "h, g")
    yield einsum("scores", "bshi,bthi->bsht", "h, g", boxes)
    yield einsum("three", "bsi,io,bti->bto", "h, w, g", floats={"w": (6, 5)}, width=5)
    yield einsum("bilinear", "bsi,ij,bsj->bsi", "h, w, g", floats={"w": (6, 6)})
    yield einsum("single", "bsi->bis", "h", width=3, symmetric=False)
    yield einsum("summed", "bsi->bi", "h", rank=2)


def _convolutions() -> Iterator[Case]:
    def conv(
        name: str, attributes: str, shape: tuple[int, ...], variants: tuple[str, ...] = (), **options: object
    ) -> Case:
        op = str(options.pop("op", "Conv"))
        body = f"o = {op}<{{}}>(h, k, b)"
        bias = shape[1] * int(options.pop("group", 1)) if op == "ConvTranspose" else shape[0]
        return image(op, name, body.format(attributes), channels=bias, floats={"k": shape, "b": (bias,)},
                     variants=[body.format(v) for v in variants], **options)  # fmt: skip

    yield conv("plain", "kernel_shape = [3, 3]", (5, 4, 3, 3),
               ("kernel_shape = [3, 3], strides = [2, 2]", "kernel_shape = [3, 3], dilations = [2, 2]",
                "kernel_shape = [3, 3], pads = [1, 1, 1, 1]",
                'kernel_shape = [3, 3], auto_pad = "SAME_UPPER"'))  # fmt: skip
    yield conv("grouped", "group = 2", (6, 2, 3, 3))
    yield conv("depthwise", "group = 4", (4, 1, 3, 3))
    yield conv("depthwise-multiplier", "group = 4", (8, 1, 3, 3))
    yield conv("one-dimensional", "group = 1", (5, 4, 3), space=1)
    yield conv("three-dimensional", "group = 1", (5, 4, 2, 2, 2), space=3)
    yield conv("plain", "kernel_shape = [3, 3]", (4, 5, 3, 3),
               ("kernel_shape = [3, 3], strides = [2, 2]",
               "kernel_shape = [3, 3], output_padding = [1, 1], strides = [2, 2]"),
               op="ConvTranspose")  # fmt: skip
    yield conv("grouped", "group = 2", (4, 3, 3, 3), op="ConvTranspose", group=2)
    yield conv("depthwise", "group = 4", (4, 1, 2, 2), op="ConvTranspose", group=4)
    yield image("Conv", "no-bias", "o = Conv(h, k)", channels=5, floats={"k": (5, 4, 1, 1)})
    yield image("Conv", "over-features", "t = Transpose<perm = [0, 2, 1, 3]>(h)\n o = Conv(t, k)", channels=4,
                floats={"k": (4, 6, 1, 3)}, symmetric=False)  # fmt: skip
    yield image("Conv", "weight-of-the-input", "m = ReduceMean<keepdims = 1>(g, axes)\n o = Conv(h, m)", channels=1,
                ints={"axes": [2, 3]})  # fmt: skip


def _batch_norms() -> Iterator[Case]:
    vectors = {"s": (4,), "b": (4,), "m": (4,), "posvar": (4,)}
    norm = "o = BatchNormalization{}(h, s, b, m, posvar)"
    plain = image("BatchNormalization", "channels", norm.format(""), floats=vectors,
                  variants=[norm.format("<epsilon = 0.1>"), norm.format("").replace("s, b", "b, s"),
                            norm.format("").replace("(h, s, b, m", "(h, s, m, b"), "o = Identity(h)"])  # fmt: skip
    yield from varied(plain, (7, 9, 14, 15, 20))
    flat = dict.fromkeys(vectors, (6,))
    yield rows("BatchNormalization", "features",
               f"f = Reshape(h, square)\n n = {norm[4:].format('').replace('(h', '(f')}\n o = Reshape(n, cube)",
               floats=flat,
               ints={"square": [3, 6], "cube": [1, 3, 6]})  # fmt: skip


def _norms() -> Iterator[Case]:
    layer = "o = LayerNormalization{}(h, s, b)"
    vectors = {"s": (6,), "b": (6,)}
    yield rows("LayerNormalization", "features", layer.format(""), opset=17, floats=vectors,
               variants=[layer.format("<epsilon = 0.1>"), "o = LayerNormalization(h, b, s)",
               "o = LayerNormalization(h, s)"])  # fmt: skip
    yield rows("LayerNormalization", "no-bias", "o = LayerNormalization(h, s)", floats=vectors)
    yield rows("LayerNormalization", "two-axes", "o = LayerNormalization<axis = 1>(h, s, b)",
               floats={"s": (3, 6), "b": (3, 6)})  # fmt: skip
    yield boxes("LayerNormalization", "per-head", "o = LayerNormalization(h, s, b)", floats={"s": (3,), "b": (3,)})
    yield boxes("LayerNormalization", "all-heads", "o = LayerNormalization<axis = 2>(h, s, b)",
                floats={"s": (2, 3), "b": (2, 3)})  # fmt: skip
    yield rows("LayerNormalization", "with-mean", "o, m = LayerNormalization(h, s, b)", floats=vectors)
    yield image("LayerNormalization", "space", "o = LayerNormalization(h, s, b)", floats={"s": (6,), "b": (6,)})
    yield rows("RMSNormalization", "features", "o = RMSNormalization(h, s)", opset=23, floats=vectors,
               variants=["o = LayerNormalization(h, s)", "o = RMSNormalization<epsilon = 0.1>(h, s)"])  # fmt: skip
    yield boxes("RMSNormalization", "per-head", "o = RMSNormalization(h, s)", opset=23, floats={"s": (3,)})
    yield rows("SimplifiedLayerNormalization", "features", "o = SimplifiedLayerNormalization(h, s)", floats=vectors,
               checked=False)  # fmt: skip
    yield image("InstanceNormalization", "channels", "o = InstanceNormalization(h, s, b)",
                floats={"s": (4,), "b": (4,)},
                variants=["o = InstanceNormalization<epsilon = 0.1>(h, s, b)",
                "o = InstanceNormalization(h, b, s)"])  # fmt: skip
    group = "o = GroupNormalization<num_groups = 2{}>(h, s, b)"
    yield image("GroupNormalization", "per-channel", group.format(""), opset=21, floats={"s": (4,), "b": (4,)},
                variants=[group.format(", epsilon = 0.1"), group.replace("2", "4").format("")])  # fmt: skip
    yield image("GroupNormalization", "one-group", group.replace("2", "1").format(""), opset=21,
                floats={"s": (4,), "b": (4,)})  # fmt: skip
    yield image("GroupNormalization", "per-group", group.format(""), opset=18, floats={"s": (2,), "b": (2,)},
                checked=False)  # fmt: skip
    mvn = "o = MeanVarianceNormalization{}(h)"
    yield image(
        "MeanVarianceNormalization",
        "channels",
        mvn.format("<axes = [0, 2, 3]>"),
        variants=[mvn.format("<axes = [0, 1, 2, 3]>")],
    )
    yield image("MeanVarianceNormalization", "everything", mvn.format("<axes = [0, 1, 2, 3]>"))
    yield image("MeanVarianceNormalization", "across-channels", mvn.format("<axes = [1]>"))
    norm = "o = LpNormalization<axis = {}, p = {}>(h)"
    yield rows("LpNormalization", "features", norm.format(2, 2), variants=[norm.format(2, 1), norm.format(1, 2)])
    yield rows("LpNormalization", "positions", norm.format(1, 2))
    yield boxes("LpNormalization", "per-head", norm.format(3, 2))
    lrn = "o = LRN<size = {}, alpha = {}>(h)"
    yield image("LRN", "channels", lrn.format(3, "0.5"), symmetric=False,
                variants=[lrn.format(5, "0.5"), lrn.format(3, "0.4")])  # fmt: skip


def _written_out() -> Iterator[Case]:
    """Idioms, which become operators of the domain gmnc before lowering."""
    epsilon = "e = Constant<value_float = 0.01>()\n two = Constant<value_float = 2.0>()\n"
    centred = "m = ReduceMean<keepdims = 1>(h, last)\n c = Sub(h, m)\n"
    scaled = "q = Pow({0}, two)\n v = ReduceMean<keepdims = 1>(q, last)\n w = Add(v, e)\n r = Sqrt(w)\n o = Div({0}, r)"
    options = {"ints": {"last": [-1]}, "domain": "gmnc"}
    standard = epsilon + centred + scaled.format("c")
    yield rows("Standardize", "features", standard, **options, variants=[standard.replace("0.01", "0.1")])
    yield boxes("Standardize", "per-head", standard, **options)
    yield rows("RMSNormalize", "features", epsilon + scaled.format("h"), **options, variants=[standard])
    norm = "n = ReduceL2<keepdims = 1>(h, last)\n o = Div(h, n)"
    yield rows("LpNormalize", "features", norm, **options, variants=[norm.replace("L2", "L1")])
    softmax = (
        "m = ReduceMax<keepdims = 1>(h, last)\n c = Sub(h, m)\n e = Exp(c)\n s = ReduceSum<keepdims = 1>(e, last)\n"
    )
    yield rows("Softmax", "written-out", softmax + "o = Div(e, s)", **options, alike=["o = Softmax(h)"],
               variants=[softmax + "l = Log(s)\n o = Sub(c, l)"])  # fmt: skip
    yield rows("LogSoftmax", "written-out", softmax + "l = Log(s)\n o = Sub(c, l)", **options,
               alike=["o = LogSoftmax(h)"])  # fmt: skip


def _softmax() -> Iterator[Case]:
    for op in ("Softmax", "LogSoftmax", "Hardmax"):
        other = {"Softmax": "LogSoftmax", "LogSoftmax": "Hardmax", "Hardmax": "Softmax"}[op]
        one = f"o = {op}<axis = {{}}>(h)"
        # Of equal entries Hardmax takes the first.
        over = {"symmetric": op != "Hardmax"}
        yield rows(op, "features", one.format(2), alike=[one.format(-1)], variants=[one.format(1), f"o = {other}(h)"],
                   **over)  # fmt: skip
        yield rows(op, "positions", one.format(1))
        yield boxes(op, "inside-heads", one.format(3), **over)
        yield boxes(op, "over-heads", one.format(2), **over)
        yield rows(op, "features-opset11", one.format(2), opset=11, variants=[one.format(1)], **over)
        yield rows(op, "all-opset11", one.format(1), opset=11, **over)
        yield image(op, "channels-opset11", one.format(1), opset=11, **over)
        yield image(op, "channels", one.format(1), variants=[one.format(3)], **over)


def _reductions() -> Iterator[Case]:
    ops = ("Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")
    ints = {"axis1": [1], "axis2": [2], "axis3": [3], "both": [1, 2], "flat1": [1, 1, 6]}
    for i, name in enumerate(ops):
        op = f"Reduce{name}"
        made = "t = Exp(h)\n" if name == "LogSum" else "t = Tanh(h)\n"
        call = made + f"o = {op}<keepdims = 1>(t, {{}})"
        other = made + f"o = Reduce{ops[(i + 1) % len(ops)]}<keepdims = 1>(t, axis2)"
        yield rows(op, "features", call.format("axis2"), width=1, opset=18, ints=ints, variants=[other],
                   alike=[made + f"r = {op}<keepdims = 0>(t, axis2)\n o = Unsqueeze(r, axis2)"])  # fmt: skip
        yield rows(op, "positions", call.format("axis1"), opset=18, ints=ints)
        yield rows(op, "both", call.format("both"), opset=18, ints=ints, width=1)
        yield rows(op, "all-by-default", made + f"o = {op}(t)", opset=18, width=1)
        old = made + f"o = {op}<axes = [2], keepdims = 1>(t)"
        if name != "Sum":
            yield rows(op, "features-opset11", old, width=1, opset=11)
        yield rows(op, "noop", made + f"o = {op}<noop_with_empty_axes = 1>(t)", opset=18)
    yield rows(
        "ReduceSum", "features-opset11", "t = Tanh(h)\n o = ReduceSum<axes = [2], keepdims = 1>(t)", width=1, opset=11
    )
    yield rows(
        "ReduceSum",
        "features-opset13",
        "t = Tanh(h)\n o = ReduceSum<keepdims = 1>(t, axis2)",
        width=1,
        opset=13,
        ints=ints,
    )
    yield boxes("ReduceMean", "inside-heads", "m = ReduceMean<keepdims = 1>(h, axis3)\n o = Sub(h, m)", ints=ints,
                opset=18)  # fmt: skip
    yield boxes("ReduceMax", "over-heads", "m = ReduceMax<keepdims = 1>(h, axis2)\n o = Mul(h, m)", ints=ints, opset=18)
    yield image("ReduceMean", "space", "o = ReduceMean<keepdims = 1>(h, sp)", ints={"sp": [2, 3]}, opset=18)
    for op in ("ArgMax", "ArgMin"):
        call = f"a = {op}<axis = {{}}, keepdims = 1>(h)\n o = Cast<to = 1>(a)"
        yield rows(op, "features", call.format(2), width=1, symmetric=False)
        other = "ArgMin" if op == "ArgMax" else "ArgMax"
        yield rows(op, "positions", call.format(1), variants=[call.format(1).replace(op, other)])


def _pooling() -> Iterator[Case]:
    kernel = "kernel_shape = [3, 3]"
    for op in ("MaxPool", "AveragePool", "LpPool"):
        call = f"o = {op}<{kernel}{{}}>(h)"
        variants = [", strides = [2, 2]", ", pads = [1, 1, 1, 1]", ', auto_pad = "SAME_LOWER"']
        yield image(op, "windows", call.format(""), opset=22,
                    variants=[*(call.format(v) for v in variants), call.format("").replace("3", "2")])  # fmt: skip
        yield from varied(image(op, "strides", call.format(", strides = [2, 2]")), (8, 11, 19))
        turned = f"t = Transpose<perm = [0, 2, 1, 3]>(h)\n p = {op}<kernel_shape = [2, 1]>(t)"
        yield image(op, "over-channels", f"{turned}\n o = Transpose<perm = [0, 2, 1, 3]>(p)", channels=3,
                    symmetric=False)  # fmt: skip
    counted = f"o = AveragePool<{kernel}, pads = [1, 1, 1, 1]{{}}>(h)"
    yield image("AveragePool", "padding", counted.format(""), variants=[counted.format(", count_include_pad = 1")])
    ceiled = "o = MaxPool<kernel_shape = [2, 2], strides = [3, 3]{}>(h)"
    yield image(
        "MaxPool", "ceiling", ceiled.format(", ceil_mode = 1"), variants=["o = MaxPool<kernel_shape = [2, 2]>(h)"]
    )
    yield image("MaxPool", "dilated", "o = MaxPool<kernel_shape = [2, 2], dilations = [2, 2]>(h)",
                variants=["o = MaxPool<kernel_shape = [2, 2]>(h)"])  # fmt: skip
    yield image("MaxPool", "indices", "o, i = MaxPool<kernel_shape = [2, 2]>(h)", symmetric=False)
    yield image("LpPool", "p", "o = LpPool<kernel_shape = [2, 2], p = 1>(h)",
                variants=["o = LpPool<kernel_shape = [2, 2], p = 3>(h)"])  # fmt: skip
    for op, other in (("GlobalAveragePool", "GlobalMaxPool"), ("GlobalMaxPool", "GlobalLpPool"),
                      ("GlobalLpPool", "GlobalAveragePool")):  # fmt: skip
        yield image(op, "channels", f"o = {op}(h)", variants=[f"o = {other}(h)"])
    yield image("GlobalLpPool", "p", "o = GlobalLpPool<p = 1>(h)", variants=["o = GlobalLpPool<p = 2>(h)"])
    yield image("GlobalLpPool", "p-3", "o = GlobalLpPool<p = 3>(h)", variants=["o = GlobalLpPool<p = 4>(h)"])
    yield image("GlobalAveragePool", "over-channels",
                "u = Tanh(h)\n t = Transpose<perm = [0, 2, 1, 3]>(u)\n"
                " p = GlobalAveragePool(t)\n o = Transpose<perm = [0, 2, 1, 3]>(p)",
                channels=1)  # fmt: skip
    yield image(
        "AveragePool", "global", "o = AveragePool<kernel_shape = [6, 6]>(h)", alike=["o = GlobalAveragePool(h)"]
    )


def _expanded() -> Iterator[Case]:
    """Operators that become their ONNX function body."""
    qkv = "q = Transpose<perm = [0, 2, 1, 3]>(h)\n k = Transpose<perm = [0, 2, 1, 3]>(g)\n"
    attention = qkv + "a = Attention{}(q, k, k)\n o = Transpose<perm = [0, 2, 1, 3]>(a)"
    for opset in (23, 24):
        yield boxes("Attention", f"opset{opset}", attention.format(""), opset=opset,
                    variants=[attention.format("<scale = 0.3>"), attention.format("<is_causal = 1>")])  # fmt: skip
    yield rows("Attention", "packed", "o = Attention<q_num_heads = 2, kv_num_heads = 2>(h, g, g)", opset=23)
    tables = {n: np.random.default_rng(3).uniform(-1, 1, (1, 3, 1)).astype(np.float32) for n in ("cosine", "sine")}
    rotary = "q = Transpose<perm = [0, 2, 1, 3]>(h4)\n r = RotaryEmbedding{}(q, cosine, sine)\n"
    rotary += " t = Transpose<perm = [0, 2, 1, 3]>(r)\n o = Reshape(t, same)"
    yield rows("RotaryEmbedding", "heads", "h4 = Reshape(h, pairs)\n" + rotary.format(""), opset=23, values=tables,
               ints={"pairs": [1, 3, 3, 2], "same": [1, 3, 6]},
               variants=[])  # fmt: skip
