"""Cases of weights that are stored quantised, and dequantised by DequantizeLinear."""

from __future__ import annotations

from collections.abc import Iterator

import ml_dtypes
import numpy as np
from support.cases.case import Case, boxes, image, rows

__all__ = ["arrays", "stored", "stored_cases"]

Values = dict[str, np.ndarray]


def stored_cases() -> Iterator[Case]:
    """Every form of DequantizeLinear of a constant."""
    yield from _weights()
    yield from _weights_elsewhere()
    yield from _small_types()
    yield from _sparse()


def stored(name: str, shape: tuple[int, ...], scale: tuple[int, ...] = (), low: int = -63, high: int = 64,
            dtype: type = np.int8, zero: bool = True) -> Values:  # fmt: skip
    """A tensor of distinct-looking integers, its scale and its zero point, of this shape.

    Of 7 bits by default, so that no CPU's pairs of products saturate.
    """
    rng = np.random.default_rng(len(name) + sum(shape))
    found = {name: rng.integers(low, high, shape), f"{name}_s": rng.uniform(0.01, 0.03, scale).astype(np.float32)}
    if zero:
        found[f"{name}_z"] = rng.integers(1, 9, scale).astype(dtype)
    return {n: np.asarray(v).astype(dtype) if n == name else np.asarray(v) for n, v in found.items()}


def arrays(*parts: Values) -> Values:
    return {n: np.asarray(v) for part in parts for n, v in part.items()}


def _weights() -> Iterator[Case]:
    op, matmul = "DequantizeLinear", "o = MatMul(h, w)"
    plain = "w = DequantizeLinear{}(q, q_s, q_z)\n "
    for name, axis, shape in (("tensor", "", ()), ("output", "<axis = 1>", (6,)), ("input", "<axis = 0>", (6,))):
        yield rows(op, f"per-{name}", plain.format(axis) + matmul, values=stored("q", (6, 6), shape))
    blocked = "<axis = {}, block_size = 3>"
    for axis, shape in ((0, (2, 6)), (1, (6, 2))):
        yield rows(op, f"blocks-along-{axis}", plain.format(blocked.format(axis)) + matmul, opset=21,
                   values=stored("q", (6, 6), shape))  # fmt: skip
    turned = "t = Transpose(q)\n w = DequantizeLinear<axis = 0>(t, q_s, q_z)\n "
    yield rows(op, "after-transpose", turned + matmul, values=stored("q", (6, 6), (6,)))
    turned = "v = DequantizeLinear<axis = 0>(q, q_s, q_z)\n w = Transpose(v)\n "
    yield rows(op, "before-transpose", turned + matmul, values=stored("q", (6, 6), (6,)))
    yield rows(op, "no-zero-point", "w = DequantizeLinear<axis = 1>(q, q_s)\n " + matmul,
               values=stored("q", (6, 6), (6,), zero=False))  # fmt: skip
    bias = "b = DequantizeLinear<axis = 0>(q, q_s)\n o = Add(h, b)"
    yield rows(op, "bias", bias, values=stored("q", (6,), (6,), -9000, 9000, np.int32, zero=False))
    twice = "w = DequantizeLinear<axis = 1>(q, q_s, q_z)\n a = MatMul(h, w)\n r = Relu(a)\n o = MatMul(r, w)"
    yield rows(op, "used-twice", twice, values=stored("q", (6, 6), (6,)))
    halves = "u = DequantizeLinear<axis = 0>(q, q_s, q_z)\n w, v = Split<axis = 1, num_outputs = 2>(u)\n "
    yield rows(op, "split", halves + "a = MatMul(h, w)\n b = MatMul(g, v)\n o = Add(a, b)",
               values=stored("q", (6, 12), (6,)))  # fmt: skip
    two = (
        "w = DequantizeLinear(q, q_s, q_z)\n v = DequantizeLinear(q, p_s, q_z)\n a = MatMul(h, w)\n b = MatMul(g, v)\n "
    )
    yield rows(op, "two-grids-of-one-tensor", two + "o = Add(a, b)",
               values=arrays(stored("q", (6, 6)), {"p_s": np.float32(0.05)}))  # fmt: skip
    stream = "w = DequantizeLinear(q, q_s, q_z)\n o = Concat<axis = 1>(w, h)"
    yield rows(op, "token", stream, values=stored("q", (1, 1, 6)))
    yield image(op, "convolution", "w = DequantizeLinear<axis = 0>(q, q_s, q_z)\n o = Conv(h, w)",
                values=stored("q", (4, 4, 1, 1), (4,)))  # fmt: skip
    yield image(op, "depthwise", "w = DequantizeLinear<axis = 0>(q, q_s, q_z)\n o = Conv<group = 4>(h, w)",
                values=stored("q", (4, 1, 1, 1), (4,)))  # fmt: skip
    yield image(op, "groups-per-input", "w = DequantizeLinear<axis = 1>(q, q_s, q_z)\n o = Conv<group = 2>(h, w)",
                values=stored("q", (4, 2, 1, 1), (2,)))  # fmt: skip
    yield image(op, "transposed", "w = DequantizeLinear<axis = 1>(q, q_s, q_z)\n o = ConvTranspose(h, w)",
                values=stored("q", (4, 4, 1, 1), (4,)))  # fmt: skip
    yield image(op, "flattened",
                "f = Flatten(h)\n w = DequantizeLinear<axis = 0, block_size = 48>(q, q_s, q_z)\n m = MatMul(f, w)\n"
                " o = Unsqueeze(m, last)", values=stored("q", (144, 4), (3, 4)), ints={"last": [2, 3]},
                opset=21)  # fmt: skip


def _weights_elsewhere() -> Iterator[Case]:
    """Dequantised constants that are moved, put together, or no weight of a product."""
    op, per = "DequantizeLinear", "{0} = DequantizeLinear<axis = {2}>({1}, {1}_s, {1}_z)\n "
    two = per.format("v", "q", "{0}") + per.format("w", "p", "{0}")
    both = arrays(
        stored("q", (3, 6), (6,)), {n.replace("q", "p"): v for n, v in stored("q", (3, 6), (6,), 5, 60).items()}
    )
    joined = two + "k = Concat<axis = {1}>(v, w)\n o = MatMul(h, k)"
    yield rows(op, "two-joined-inputs", joined.format(1, 0), values=both)
    both = arrays(
        stored("q", (6, 3), (6,)), {n.replace("q", "p"): v for n, v in stored("q", (6, 3), (6,), 5, 60).items()}
    )
    yield rows(op, "two-joined-outputs", joined.format(0, 1), values=both)
    heads = """w = DequantizeLinear<axis = 1>(q, q_s, q_z)
        k = Reshape(w, heads)
        o4 = Einsum<equation = "bsd,dhe->bshe">(h, k)
        o = Reshape(o4, flat)"""
    yield rows(op, "heads", heads, values=stored("q", (6, 6), (6,)), ints={"heads": [6, 2, 3], "flat": [1, 3, 6]})
    vectors = "a = DequantizeLinear<axis = 0>(q, q_s)\n b = DequantizeLinear<axis = 0>(p, p_s)\n "
    pair = arrays(
        stored("q", (6,), (6,), zero=False),
        {"p": stored("q", (6,), (6,), 5, 60)["q"], "p_s": np.linspace(0.01, 0.03, 6, dtype=np.float32)},
    )
    yield rows(op, "two-biases", vectors + "c = Add(h, a)\n o = Add(c, b)", values=pair)
    yield rows(op, "norm", vectors + "o = LayerNormalization(h, a, b)", values=pair)
    yield rows(op, "slope", "a = DequantizeLinear(q, q_s)\n o = PRelu(h, a)", values=stored("q", (6,), (), zero=False))
    position = "a = DequantizeLinear<axis = 1>(q, q_s)\n o = Add(h, a)"
    yield rows(op, "position", position, values=stored("q", (3, 6), (6,), zero=False))
    yield rows(
        op, "position-per-row", position.replace("axis = 1", "axis = 0"), values=stored("q", (3, 6), (3,), zero=False)
    )
    table = """at = ArgMax<axis = 2, keepdims = 0>(x)
        a = DequantizeLinear<axis = {}>(q, q_s, q_z)
        e = Gather(a, at)
        o = Add(h, e)"""
    for axis, size in ((0, 5), (1, 6)):
        yield rows(op, f"table-per-{axis}", table.format(axis), values=stored("q", (5, 6), (size,)))
    tied = """a = DequantizeLinear<axis = {}>(q, q_s, q_z)
        t = Transpose(a)
        u = MatMul(h, a)
        r = Relu(u)
        o = MatMul(r, t)"""
    for axis, size in ((0, 6), (1, 5)):
        yield rows(op, f"tied-{axis}", tied.format(axis), values=stored("q", (6, 5), (size,)))
    cell = """t = Transpose<perm = [1, 0, 2]>(h)
        w = DequantizeLinear<axis = 1>(q, q_s, q_z)
        r = DequantizeLinear<axis = 1>(p, p_s, p_z)
        y4, last, state = LSTM<hidden_size = 3>(t, w, r)
        u = Transpose<perm = [2, 0, 1, 3]>(y4)
        o = Reshape(u, flat)"""
    recurrent = arrays(
        stored("q", (1, 12, 6), (12,)), {n.replace("q", "p"): v for n, v in stored("q", (1, 12, 3), (12,)).items()}
    )
    yield rows(op, "lstm", cell, values=recurrent, width=3, ints={"flat": [1, 3, 3]})
    yield image(op, "transposed-groups",
                "w = DequantizeLinear<axis = 1>(q, q_s, q_z)\n o = ConvTranspose<group = 2>(h, w)",
                values=stored("q", (4, 2, 1, 1), (2,)))  # fmt: skip
    yield boxes(op, "per-head-weight",
                "w = DequantizeLinear<axis = 0>(q, q_s, q_z)\n t = Transpose<perm = [0, 2, 1, 3]>(h)\n"
                " m = MatMul(t, w)\n o = Transpose<perm = [0, 2, 1, 3]>(m)",
                values=stored("q", (2, 3, 3), (2,)))  # fmt: skip
    yield boxes(op, "blocks-per-head", "w = DequantizeLinear<axis = 1, block_size = 2>(q, q_s, q_z)\n"
                " t = Transpose<perm = [0, 2, 1, 3]>(h)\n m = MatMul(t, w)\n o = Transpose<perm = [0, 2, 1, 3]>(m)",
                values=stored("q", (2, 3, 3), (2, 2, 3)), opset=21, symmetric=False)  # fmt: skip


def _small_types() -> Iterator[Case]:
    for dtype, low, high in (
        (ml_dtypes.int4, -7, 8),
        (ml_dtypes.uint4, 0, 15),
        (np.uint8, 0, 250),
        (np.int16, -999, 999),
    ):
        name = np.dtype(dtype).name
        yield rows("DequantizeLinear", name, "w = DequantizeLinear<axis = 1>(q, q_s)\n o = MatMul(h, w)", opset=21,
                   values=stored("q", (6, 6), (6,), low, high, dtype, zero=False))  # fmt: skip
    rng = np.random.default_rng(3)
    for dtype in (ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2):
        values = {"q": rng.normal(size=(6, 6)).astype(dtype), "q_s": rng.uniform(0.5, 2, 6).astype(np.float32)}
        yield rows("DequantizeLinear", np.dtype(dtype).name,
                   "w = DequantizeLinear<axis = 1>(q, q_s)\n o = MatMul(h, w)", opset=21, values=values)  # fmt: skip
    half = stored("q", (6, 6), (6,), zero=False)
    half["q_s"] = half["q_s"].astype(np.float16)
    yield rows("DequantizeLinear", "half",
               "v = DequantizeLinear<axis = 1>(q, q_s)\n w = Cast<to = 1>(v)\n o = MatMul(h, w)", opset=21,
               values=half, symmetric=False)  # fmt: skip


def _sparse() -> Iterator[Case]:
    """Values scattered into zeros (more in test_sparse_tensors)."""
    places = [[k, n] for k in range(6) for n in range(6) if (k + n) % 2]
    text = """z = ConstantOfShape(shape)
        w = ScatterND(z, places, s)
        o = MatMul(h, w)"""
    floats = {"s": (len(places),)}
    yield rows("Sparse", "weight", text, domain="gmnc", floats=floats, ints={"shape": [6, 6], "places": places})
