"""Cases of activations on a grid, and of the operators that compute on quantised operands."""

from __future__ import annotations

from collections.abc import Iterator

import ml_dtypes
import numpy as np
from support.cases.case import DOMAINS, Case, image, rows
from support.cases.stored import arrays, stored

__all__ = ["quantised_cases"]

Values = dict[str, np.ndarray]
MICROSOFT = "com.microsoft"


def quantised_cases() -> Iterator[Case]:
    """Every quantised operator."""
    yield from _activations()
    yield from _written_out()
    yield from _integer_kernels()
    yield from _convolutions()
    yield from _elementwise_kernels()
    yield from _pooling_kernels()
    yield from _dynamic_kernels()
    yield from _attention_kernels()
    yield from _packed()
    yield from _tables()
    yield from _trained()


def _grid(name: str, scale: float = 0.04, zero: int = 120) -> Values:
    """Scale and zero point of an activation."""
    return {f"{name}_s": np.float32(scale), f"{name}_z": np.uint8(zero)}


def _activations() -> Iterator[Case]:
    both = "q = QuantizeLinear{}(h, a_s, a_z)\n o = DequantizeLinear{}(q, a_s, a_z)"
    coarse = both.replace("a_s", "b_s")
    yield rows("QuantizeLinear", "tensor", both.format("", ""), variants=[coarse.format("", "")],
               values=arrays(_grid("a"), {"b_s": np.float32(0.3)}))  # fmt: skip
    rng = np.random.default_rng(5)
    per = {"a_s": rng.uniform(0.02, 0.06, 6).astype(np.float32), "a_z": rng.integers(90, 150, 6).astype(np.uint8)}
    yield rows("QuantizeLinear", "channel", both.format("<axis = 2>", "<axis = 2>"), values=per)
    dynamic = "q, s, z = DynamicQuantizeLinear(h)\n o = DequantizeLinear(q, s, z)"
    yield rows("DynamicQuantizeLinear", "and-back", dynamic, variants=["o = Identity(h)"])
    product = """q, s, z = DynamicQuantizeLinear(h)
        i = MatMulInteger(q, w, z, w_z)
        c = Cast<to = 1>(i)
        m = Mul(c, s)
        o = Mul(m, w_s)"""
    yield rows("DynamicQuantizeLinear", "scales-apart", product, values=stored("w", (6, 6), (6,)), symmetric=False)

    scale = np.random.default_rng(6).uniform(0.01, 0.03, 6).astype(np.float32)
    trained = """q = QuantizeLinear<axis = 1>(wf, w_s)
        w = DequantizeLinear<axis = 1>(q, w_s)
        o = MatMul(h, w)"""
    yield rows("QuantizeLinear", "of-a-float-weight", trained, floats={"wf": (6, 6)}, values={"w_s": scale})
    shared = """a = QuantizeLinear(h, a_s, a_z)
        i = MatMulInteger(a, w, a_z, w_z)
        f = Cast<to = 1>(i)
        b = Mul(f, a_s)
        o = Mul(b, w_s)"""
    yield rows("QuantizeLinear", "scale-used-apart", shared, values=arrays(_grid("a"), stored("w", (6, 6), (6,))))
    weight = """q, s, z = DynamicQuantizeLinear(h)
        w, w_s, w_z = DynamicQuantizeLinear(wf)
        i = MatMulInteger(q, w, z, w_z)
        c = Cast<to = 1>(i)
        t = Mul(s, w_s)
        o = Mul(c, t)"""
    yield rows("DynamicQuantize", "of-a-float-weight", weight, domain="gmnc", floats={"wf": (6, 6)})
    computed = """k = Transpose(wf)
        m = MatMul(wf, k)
        w, w_s, w_z = DynamicQuantizeLinear(m)
        q = QuantizeLinear(h, a_s, a_z)
        i = MatMulInteger(q, w, a_z, w_z)
        c = Cast<to = 1>(i)
        o = Mul(c, a_s)"""
    yield rows("MatMulInteger", "of-a-computed-weight", computed, floats={"wf": (6, 6)}, values=arrays(_grid("a")),
               symmetric=False)  # fmt: skip


def _written_out() -> Iterator[Case]:
    cast, product = "c = Cast<to = 1>(q)\n ", "\n o = MatMul(h, w)"
    values = stored("q", (6, 6), (1, 6))
    scaled = cast + "w = Mul(c, q_s)" + product
    yield rows("Dequantize", "cast", scaled, domain="gmnc", values=values)
    yield rows("Dequantize", "cast-shifted", cast + "z = Cast<to = 1>(q_z)\n d = Sub(c, z)\n w = Mul(q_s, d)" + product,
               domain="gmnc", values=values)  # fmt: skip
    table = stored("q", (5, 6), dtype=np.uint8, low=0, high=250)
    text = """r = Gather(q, at)
        w = DequantizeLinear(r, q_s, q_z)
        o = Add(h, w)"""
    yield rows("Dequantize", "gathered", text, domain="gmnc", values=table, ints={"at": [4, 1, 2]})


def _integer_kernels() -> Iterator[Case]:
    quantised = "a = QuantizeLinear(h, a_s, a_z)\n "
    back = "\n o = DequantizeLinear(y8, y_s, y_z)"
    for name, shape in (("tensor", ()), ("column", (6,))):
        values = arrays(_grid("a"), _grid("y", 0.06, 100), stored("w", (6, 6), shape))
        kernel = quantised + "y8 = QLinearMatMul(a, a_s, a_z, w, w_s, w_z, y_s, y_z)" + back
        apart = """b = DequantizeLinear(a, a_s, a_z)
            v = DequantizeLinear<axis = 1>(w, w_s, w_z)
            m = MatMul(b, v)
            y8 = QuantizeLinear(m, y_s, y_z)"""
        yield rows("Quantize", name, kernel, domain="gmnc", values=values)
        yield rows("QLinearMatMul", name, kernel, alike=[quantised + apart + back], values=values)
        integer = quantised + "i = MatMulInteger(a, w, a_z, w_z)\n f = Cast<to = 1>(i)\n o = Mul(f, w_s)"
        yield rows("MatMulInteger", name, integer, values=values)
        floats = quantised + "o = com.microsoft.MatMulIntegerToFloat(a, w, a_s, w_s, a_z, w_z, {})"
        yield rows("MatMulIntegerToFloat", name, floats.format("bw"), domain=MICROSOFT, floats={"bw": (6,)},
                   values=values)  # fmt: skip
    flat = "s = Squeeze(h, first)\n a = QuantizeLinear(s, a_s, a_z)\n "
    for trans, per in ((0, "column"), (1, "column"), (1, "tensor")):
        values = arrays(_grid("a"), _grid("y", 0.06, 100), stored("w", (6, 6), (6,) if per == "column" else ()))
        values |= {"c": np.arange(-600, 600, 200, dtype=np.int32)}
        text = f"""y8 = com.microsoft.QGemm<transB = {trans}, alpha = 0.7>(a, a_s, a_z, w, w_s, w_z, c, y_s, y_z)
            d = DequantizeLinear(y8, y_s, y_z)
            o = Unsqueeze(d, first)"""
        yield rows("QGemm", f"{per}-{trans}", flat + text, domain=MICROSOFT, values=values, ints={"first": [0]})
    text = "o2 = com.microsoft.QGemm(a, a_s, a_z, w, w_s, w_z)\n o = Unsqueeze(o2, first)"
    yield rows("QGemm", "to-float", flat + text, domain=MICROSOFT, values=values, ints={"first": [0]})


def _convolutions() -> Iterator[Case]:
    quantised, back = "a = QuantizeLinear(h, a_s, a_z)\n ", "\n o = DequantizeLinear(y8, y_s, y_z)"
    for group, name, shape in ((1, "tensor", ()), (1, "channel", (4,)), (4, "depthwise", (4,))):
        weight = stored("w", (4, 4 // group, 3, 3), shape)
        values = arrays(_grid("a"), _grid("y", 0.1, 100), weight, {"b": np.array([-99, 800, -444, 1200], np.int32)})
        pads = f"group = {group}, pads = [1, 1, 1, 1]"
        kernel = f"y8 = QLinearConv<{pads}>(a, a_s, a_z, w, w_s, w_z, y_s, y_z, b)"
        yield image("QLinearConv", name, quantised + kernel + back, values=values)
        last = f"""l = Transpose<perm = [0, 2, 3, 1]>(a)
            yl = com.microsoft.QLinearConv<channels_last = 1, {pads}>(l, a_s, a_z, w, w_s, w_z, y_s, y_z, b)
            y8 = Transpose<perm = [0, 3, 1, 2]>(yl)"""
        yield image("QLinearConv", f"channels last {name}", quantised + last + back, domain=MICROSOFT, values=values)
        if name == "tensor":
            kernel = f"i = ConvInteger<{pads}>(a, w, a_z, w_z)\n f = Cast<to = 1>(i)\n o = Mul(f, w_s)"
            yield image("ConvInteger", name, quantised + kernel, values=values)


def _elementwise_kernels() -> Iterator[Case]:
    values = arrays(_grid("a"), _grid("b", 0.05, 110), _grid("y", 0.08, 130))
    quantised = "a = QuantizeLinear(h, a_s, a_z)\n b = QuantizeLinear(g, b_s, b_z)\n "
    back = "\n o = DequantizeLinear(y8, y_s, y_z)"
    for op, plain in (("QLinearAdd", "Add"), ("QLinearMul", "Mul")):
        kernel = f"y8 = com.microsoft.{op}(a, a_s, a_z, b, b_s, b_z, y_s, y_z)"
        apart = f"""ah = DequantizeLinear(a, a_s, a_z)
            bh = DequantizeLinear(b, b_s, b_z)
            m = {plain}(ah, bh)
            y8 = QuantizeLinear(m, y_s, y_z)"""
        yield rows(op, "both", quantised + kernel + back, domain=MICROSOFT, values=values,
                   alike=[quantised + apart.replace("bh", "bb") + back])  # fmt: skip
        constant = f"y8 = com.microsoft.{op}(a, a_s, a_z, w, w_s, w_z, y_s, y_z)"
        yield rows(op, "constant", quantised + constant + back, domain=MICROSOFT,
                   values=arrays(values, stored("w", (6,), low=10, high=250, dtype=np.uint8)))  # fmt: skip
    for op, attributes in (("QLinearSigmoid", ""), ("QLinearLeakyRelu", "<alpha = 0.2>"),
                           ("QLinearSoftmax", "<axis = 2, opset = 13>")):  # fmt: skip
        kernel = f"y8 = com.microsoft.{op}{attributes}(a, a_s, a_z, y_s, y_z)"
        yield rows(op, "activation", quantised + kernel + back, domain=MICROSOFT,
                   values=arrays(values, _grid("y", 1 / 256, 0)))  # fmt: skip
    kernel = "y8 = com.microsoft.QLinearConcat<axis = 2>(y_s, y_z, a, a_s, a_z, b, b_s, b_z)"
    yield rows("QLinearConcat", "neurons", quantised + kernel + back, domain=MICROSOFT, values=values, width=12)
    kernel = "k = Greater(h, g)\n y8 = com.microsoft.QLinearWhere(k, a, a_s, a_z, b, b_s, b_z, y_s, y_z)"
    yield rows("QLinearWhere", "greater", quantised + kernel + back, domain=MICROSOFT, values=values)


def _pooling_kernels() -> Iterator[Case]:
    values = arrays(_grid("a"), _grid("y", 0.03, 110))
    quantised, back = "a = QuantizeLinear(h, a_s, a_z)\n ", "\n o = DequantizeLinear(y8, y_s, y_z)"
    pool = "y8 = com.microsoft.QLinearAveragePool<kernel_shape = [2, 2], strides = [2, 2]>(a, a_s, a_z, y_s, y_z)"
    yield image("QLinearAveragePool", "windows", quantised + pool + back, domain=MICROSOFT, values=values)
    pool = "y8 = com.microsoft.QLinearGlobalAveragePool(a, a_s, a_z, y_s, y_z)"
    yield image("QLinearGlobalAveragePool", "all", quantised + pool + back, domain=MICROSOFT, values=values)


def _attention_kernels() -> Iterator[Case]:
    values = arrays(_grid("a"), stored("w", (6, 18), (), dtype=np.uint8, low=0, high=250))
    quantised = "a = QuantizeLinear(h, a_s, a_z)\n "
    apart = """c = DequantizeLinear(a, a_s, a_z)
        v = DequantizeLinear(w, w_s, w_z)
        o = com.microsoft.Attention<num_heads = 2>(c, v, b)"""
    kernel = quantised + "o = com.microsoft.QAttention<num_heads = 2>(a, w, b, a_s, w_s, {}, a_z, w_z)".replace(
        "{}", ""
    )
    yield rows("QAttention", "tensor", kernel, domain=MICROSOFT, floats={"b": (18,)}, values=values,
               alike=[quantised + apart])  # fmt: skip
    names, sizes = ("e", "p", "q", "t", "u"), ((7, 6), (5, 6), (2, 6), (6,), (6,))
    tables = [stored(n, s, (), dtype=np.uint8, low=0, high=250) for n, s in zip(names, sizes, strict=True)]
    sides = ", ".join(f"{n}_{s}" for s in "sz" for n in names)
    text = """(int32[1, 3] i, int32[1, 3] k) => (float[1, 3, 2] y) {{
        {}
        y = MatMul(x, wo) }}"""
    plain = "\n".join(f"{n}d = DequantizeLinear({n}, {n}_s, {n}_z)" for n in names)
    plain += "\nx, l = com.microsoft.EmbedLayerNormalization(i, k, ed, pd, qd, td, ud)"
    kernel = f"x, l = com.microsoft.QEmbedLayerNormalization(i, k, e, p, q, t, u, , {sides})"
    yield Case("QEmbedLayerNormalization", "segments", text.format(kernel), {"wo": (6, 2)}, values=arrays(*tables),
               domain=MICROSOFT, alike=(text.format(plain),))  # fmt: skip


def _dynamic_kernels() -> Iterator[Case]:
    for name, shape in (("tensor", ()), ("column", (6,))):
        values = stored("w", (6, 6), shape)
        kernel = "o = com.microsoft.DynamicQuantizeMatMul(h, w, w_s, w_z, bw)"
        written = """q, s, z = DynamicQuantizeLinear(h)
            i = MatMulInteger(q, w, z, w_z)
            c = Cast<to = 1>(i)
            t = Mul(s, w_s)
            m = Mul(c, t)
            o = Add(m, bw)"""
        yield rows("DynamicQuantize", f"matmul-{name}", kernel, domain="gmnc", floats={"bw": (6,)}, values=values,
                   alike=[written])  # fmt: skip
    written = """q, s, z = DynamicQuantizeLinear(h)
        i = ConvInteger(q, w, z, w_z)
        c = Cast<to = 1>(i)
        t = Mul(s, w_s)
        o = Mul(c, t)"""
    yield image("DynamicQuantize", "conv", written, domain="gmnc", values=stored("w", (4, 4, 1, 1)))
    cell = """t = Transpose<perm = [1, 0, 2]>(h)
        y4, last, state = com.microsoft.DynamicQuantizeLSTM<hidden_size = 3, direction = "{}">
            (t, w, r, b{}, , , , , w_s, w_z, r_s, r_z)
        u = Transpose<perm = [2, 0, 1, 3]>(y4)
        o = Reshape(u, flat)"""
    for direction, count in (("forward", 1), ("bidirectional", 2)):
        for per in ((count,), (count, 12)):
            values = arrays(stored("w", (count, 6, 12), per), stored("r", (count, 3, 12), per))
            values = {n: np.zeros_like(v) if n.endswith("_z") else v for n, v in values.items()}
            yield rows("DynamicQuantizeLSTM", f"{direction}-{len(per)}", cell.format(direction, count),
                       domain=MICROSOFT, values=values, floats={f"b{count}": (count, 24)}, width=3 * count,
                       ints={"flat": [1, 3, 3 * count]})  # fmt: skip


def _packed() -> Iterator[Case]:
    rng = np.random.default_rng(11)
    for bits in (2, 4, 8):
        for zero in ("middle", "packed", "float"):
            if (bits, zero) == (8, "float"):
                continue
            values: Values = {
                "w": rng.integers(0, 256, (20, 1, 2 * bits)).astype(np.uint8),
                "w_s": rng.uniform(0.05, 0.2, (20, 1)).astype(np.float32),
                "v": rng.integers(0, 256, (6, 2, 2 * bits)).astype(np.uint8),
                "v_s": rng.uniform(0.05, 0.2, (6, 2)).astype(np.float32),
                "w_z": rng.uniform(1, 3, (20, 1)).astype(np.float32),
                "v_z": rng.uniform(1, 3, (6, 2)).astype(np.float32),
            }
            if zero == "packed":
                values["w_z"] = rng.integers(0, 256, 20).astype(np.uint8)
                values["v_z"] = rng.integers(0, 256, 6 * -(-2 * bits // 8)).astype(np.uint8)
            sides = "" if zero == "middle" else ", {0}_z"
            layer = (
                "com.microsoft.MatMulNBits<K = {1}, N = {2}, bits = {3}, block_size = 16>({4}, {0}, {0}_s" + sides + ")"
            )
            text = (
                f"a = {layer.format('w', 6, 20, bits, 'h')}\n r = Relu(a)\n o = {layer.format('v', 20, 6, bits, 'r')}"
            )
            yield rows("DequantizeBits", f"{bits}-{zero}", text, domain="gmnc", values=values)
    for kind in (0, 1):
        values = {
            "w": rng.integers(0, 256, 6 * 32 // 2).astype(np.uint8),
            "w_s": rng.uniform(0.5, 2, 12).astype(np.float32),
        }
        text = f"""u = MatMul(h, wide)
            t = Tanh(u)
            o = com.microsoft.MatMulBnb4<K = 32, N = 6, block_size = 16, quant_type = {kind}>(t, w, w_s)"""
        yield rows("DequantizeBits", f"bnb-{kind}", text, domain="gmnc", values=values, floats={"wide": (6, 32)})


def _tables() -> Iterator[Case]:
    """Rows of quantised tables, and Microsoft's own quantisers."""
    rng = np.random.default_rng(13)
    text = """b = com.microsoft.GatherBlockQuantized<gather_axis = 0, quantize_axis = 1, block_size = 16{}>(w, at, w_s)
        u = MatMul(b, narrow)
        o = Add(h, u)"""
    values: Values = {"w_s": rng.uniform(0.1, 0.3, (5, 2)).astype(np.float32)}
    packed = rng.integers(0, 256, (5, 16)).astype(np.uint8)
    typed = rng.integers(-7, 8, (5, 32)).astype(ml_dtypes.int4)
    for name, table, bits in (("packed", packed, ", bits = 4"), ("typed", typed, "")):
        looked_up = "at = ArgMax<axis = 2, keepdims = 0>(x)\n " + text.format(bits)
        yield rows("GatherBlockQuantized", name, looked_up, domain=MICROSOFT, opset=21, symmetric=False,
                   floats={"narrow": (32, 6)}, values={**values, "w": table})  # fmt: skip
        yield rows("GatherBlockQuantized", f"{name}-known", text.format(bits), domain=MICROSOFT, opset=21,
                   floats={"narrow": (32, 6)}, values={**values, "w": table}, ints={"at": [4, 1, 2]})  # fmt: skip
    both = """q = com.microsoft.QuantizeLinear(h, a_s, a_z)
        d = com.microsoft.DequantizeLinear(q, a_s, a_z)
        w = com.microsoft.DequantizeLinear<axis = 1>(p, p_s, p_z)
        o = MatMul(d, w)"""
    values = {"a_s": np.float32(0.001), "a_z": np.uint16(30000)}
    yield rows("Quantize", "microsoft", both, domain="gmnc", values=arrays(values, stored("p", (6, 6), (6,))))


def _trained() -> Iterator[Case]:
    """QONNX's quantisers, which ONNX Runtime does not run."""
    scale = np.random.default_rng(12).uniform(0.1, 0.3, (1, 6)).astype(np.float32)
    values = {"s": scale, "zero": np.float32(0), "bits": np.float32(4)}
    for domain in DOMAINS[1:4]:
        text = f"""wq = {domain}.Quant<signed = 1, narrow = 0>(wf, s, zero, bits)
            m = MatMul(h, wq)
            o = {domain}.Quant<signed = 1, narrow = 0>(m, s, zero, bits)"""
        yield rows("Quant", domain, text, domain=domain, floats={"wf": (6, 6)}, values=values)
        text = f"wq = {domain}.BipolarQuant(wf, s)\n m = MatMul(h, wq)\n o = {domain}.BipolarQuant(m, s)"
        yield rows("BipolarQuant", domain, text, domain=domain, floats={"wf": (6, 6)}, values=values)
        if "finn" in domain:
            continue
        text = f"""wq = {domain}.FloatQuant<has_inf = 0, rounding_mode = "ROUND">(wf, s, e, mb, eb)
            m = MatMul(h, wq)
            o = {domain}.FloatQuant<has_inf = 0, rounding_mode = "ROUND">(m, s, e, mb, eb)"""
        formats = {"s": scale, "e": np.float32(4), "mb": np.float32(3), "eb": np.float32(7)}
        yield rows("FloatQuant", domain, text, domain=domain, floats={"wf": (6, 6)}, values=formats)
