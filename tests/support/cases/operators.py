"""Cases of operators that look up, sample or transform, whose settings are data, or that have no structure to lower."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from support.cases.case import Case, image, rows

__all__ = ["operator_cases"]


def operator_cases() -> Iterator[Case]:
    """Lookups by data, pictures, transforms, settings that are data, declared operators."""
    yield from _chosen()
    yield from _written()
    yield from _pictures()
    yield from _spectra()
    yield from _diagonals()
    yield from _computed_weights()
    yield from _computed_settings()
    yield from _statistics()
    yield from _declared()


def _chosen() -> Iterator[Case]:
    """What is picked is data: neurons beside the axis stay free, those along it do not."""
    best = "a = ArgMax<axis = 1, keepdims = 1>(g)\n"
    yield rows("GatherElements", "by-activation", best + "o = GatherElements<axis = 1>(h, a)", symmetric=False)
    one = "m = ReduceMean<keepdims = 1>(g, last)\n a = ArgMax<axis = 1, keepdims = 1>(m)\n"
    yield rows(
        "GatherElements",
        "along-neurons",
        "z = Relu(g)\na = ArgMax<axis = 2, keepdims = 1>(z)\no = GatherElements<axis = 2>(h, a)",
        width=1,
        symmetric=False,
    )
    yield rows(
        "GatherND",
        "by-activation",
        one + "t = Squeeze(a, last)\n o = GatherND<batch_dims = 1>(h, t)",
        ints={"last": [2]},
        rank=2,
    )
    yield rows(
        "Gather",
        "heads-by-activation",
        "z = Relu(g)\n a = ArgMax<axis = 2, keepdims = 0>(z)\n o = Gather<axis = 2>(h, a)",
        width=3,
        rank=4,
        symmetric=False,
    )
    keep = "k = Constant<value_ints = [1, 0, 1]>()\n c = Cast<to = 9>(k)\n"
    yield rows(
        "Compress",
        "positions",
        keep + "o = Compress<axis = 1>(h, c)",
        variants=["k = Constant<value_ints = [1, 1, 0]>()\n c = Cast<to = 9>(k)\n o = Compress<axis = 1>(h, c)"],
    )
    six = keep.replace("1, 0, 1", "1, 0, 1, 1, 0, 0")
    yield rows("Compress", "features", six + "o = Compress<axis = 2>(h, c)", width=3)


def _written() -> Iterator[Case]:
    best = "a = ArgMax<axis = 1, keepdims = 1>(g)\n u = ReduceMax<keepdims = 1>(g, one)\n"
    yield rows(
        "ScatterElements",
        "by-activation",
        best + "o = ScatterElements<axis = 1>(h, a, u)",
        ints={"one": [1]},
        opset=18,
        symmetric=False,
    )
    pick = (
        "m = ReduceMean<keepdims = 0>(g, last)\n a = ArgMax<axis = 1, keepdims = 1>(m)\n"
        "u = ReduceMax<keepdims = 0>(g, one)\n i = Concat<axis = 1>(a, nought)\n"
    )
    yield rows(
        "ScatterND",
        "by-activation",
        pick + "t = Transpose<perm = [1, 0, 2]>(h)\n p = ScatterND(t, i, u)\n o = Transpose<perm = [1, 0, 2]>(p)",
        symmetric=False,
        ints={"last": [2], "one": [1], "nought": [[0]]},
    )
    cut = "u = Slice(g, nought, one, one)\n"
    yield rows(
        "TensorScatter",
        "cache",
        cut + "o = TensorScatter<axis = 1>(h, u, at)",
        opset=24,
        ints={"nought": [0], "one": [1], "at": [1]},
        variants=[cut + "o = TensorScatter<axis = 1>(h, u)"],
    )


def _pictures() -> Iterator[Case]:
    yield image(
        "MaxUnpool",
        "features",
        "p, i = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(h)\n"
        "o = MaxUnpool<kernel_shape = [2, 2], strides = [2, 2]>(p, i)",
        symmetric=False,
    )
    yield image("CenterCropPad", "space", "o = CenterCropPad<axes = [2, 3]>(h, s)", ints={"s": [3, 9]})
    yield image("CenterCropPad", "channels", "o = CenterCropPad<axes = [1]>(h, s)", ints={"s": [2]}, channels=2)
    yield image("CenterCropPad", "more-channels", "o = CenterCropPad<axes = [1]>(h, s)", ints={"s": [7]}, channels=7)
    unfold = "r = Reshape(h, flat)\n o = Col2Im(r, whole, block)"
    yield image(
        "Col2Im",
        "blocks",
        unfold,
        channels=1,
        symmetric=False,
        ints={"flat": [1, 4, 36], "whole": [12, 12], "block": [2, 2]},
    )
    yield image("Col2Im", "points", unfold, ints={"flat": [1, 4, 36], "whole": [6, 6], "block": [1, 1]})
    grid = "m = ReduceMean<keepdims = 0>(h, space)\n t = Gemm(m, wt)\n q = Reshape(t, two)\n"
    sizes = {"space": [2, 3], "two": [1, 2, 3], "size": [1, 4, 5, 5]}
    yield image(
        "AffineGrid",
        "sampled",
        grid + "a = AffineGrid(q, size)\n o = GridSample(h, a)",
        ints=sizes,
        floats={"wt": (4, 6)},
        variants=[grid + "a = AffineGrid<align_corners = 1>(q, size)\n o = GridSample(h, a)"],
    )
    square = "s = MatMul(wl, h)\n p = Slice(s, nought, two, last)\n d = Det(p)\n o = Unsqueeze(d, both)"
    yield rows(
        "Det",
        "features",
        square,
        floats={"wl": (2, 3)},
        ints={"nought": [0], "two": [2], "last": [2], "both": [1, 2]},
        rank=3,
        width=1,
        symmetric=False,
    )
    offsets = "f = Conv<pads = [1, 1, 1, 1]>(g, kf)\n"
    deformed = offsets + "o = DeformConv<pads = [1, 1, 1, 1]>(h, kd, f, b)"
    yield image(
        "DeformConv", "offsets", deformed, channels=5, floats={"kf": (18, 4, 3, 3), "kd": (5, 4, 3, 3), "b": (5,)}
    )
    masked = offsets + "m = Conv<pads = [1, 1, 1, 1]>(g, km)\n o = DeformConv<pads = [1, 1, 1, 1]>(h, kd, f, b, m)"
    yield image(
        "DeformConv",
        "mask",
        masked,
        channels=5,
        floats={"kf": (18, 4, 3, 3), "km": (9, 4, 3, 3), "kd": (5, 4, 3, 3), "b": (5,)},
        variants=[deformed],
    )
    split = offsets + "o = DeformConv<pads = [1, 1, 1, 1], offset_group = 2>(h, kd, f)"
    yield image("DeformConv", "offset-groups", split, channels=5, floats={"kf": (36, 4, 3, 3), "kd": (5, 4, 3, 3)})


def _spectra() -> Iterator[Case]:
    complex_ = "u = Unsqueeze(h, last)\n f = DFT{}(u{})\n s = ReduceSumSquare<keepdims = 0>(f, last)\n o = Sqrt(s)"
    yield rows(
        "DFT",
        "time",
        complex_.format("", ", , one"),
        ints={"last": [3]},
        values={"one": np.array(1)},
        variants=[complex_.format("<inverse = 1>", ", , one")],
    )
    yield rows(
        "DFT",
        "features",
        complex_.format("", ", , two"),
        ints={"last": [3]},
        values={"two": np.array(2)},
        symmetric=False,
    )
    old = (
        "u = Unsqueeze(h, last)\n f = DFT<axis = 1>(u)\n s = ReduceSumSquare<axes = [3], keepdims = 0>(f)\n o = Sqrt(s)"
    )
    yield rows("DFT", "attribute", old, ints={"last": [3]}, opset=17)
    text = """(float[1, 8, 1] x) => (float[1, N, M] y) {{
        f = STFT<onesided = 1>(x, step, {})
        p = ReduceSumSquare<keepdims = 0>(f, last)
        a = MatMul(p, wh)
        r = Relu(a)
        y = MatMul(r, wo)
    }}"""
    sizes = {"wh": (3, 6), "wo": (6, 2)}
    ints = {"last": [3]}
    yield Case("STFT", "window", text.format("w"), {"w": (4,), **sizes}, ints, opset=18, values={"step": np.array(2)})
    yield Case(
        "STFT",
        "length",
        text.format(", length"),
        sizes,
        ints,
        opset=18,
        values={"step": np.array(2), "length": np.array(4)},
    )


def _diagonals() -> Iterator[Case]:
    """A repeated letter: of places, and of neurons with places."""
    yield rows(
        "Einsum",
        "diagonal-of-neurons",
        'p = Slice(h, nought, three, last)\n o = Einsum<equation = "bii->bi">(p)',
        ints={"nought": [0], "three": [3], "last": [2]},
        width=3,
        rank=2,
        symmetric=False,
    )
    places = "a = Unsqueeze(h, one)\n b = Unsqueeze(g, two)\n p = Add(a, b)\n"
    yield rows(
        "Einsum",
        "diagonal-of-places",
        places + 'o = Einsum<equation = "biij->bij">(p)',
        ints={"one": [1], "two": [2]},
        variants=[places + 'o = Einsum<equation = "bkij->bij">(p)'],
    )


def _computed_weights() -> Iterator[Case]:
    """Kernels and vectors that the network computes."""
    kernel = "m = ReduceMean<keepdims = 0>(g, space)\n t = Gemm(m, wk)\n k = Reshape(t, shape)\n"
    ints = {"space": [2, 3], "shape": [3, 4, 2, 2]}
    yield image(
        "Conv",
        "computed-kernel",
        kernel + "o = Conv(h, k)",
        channels=3,
        ints=ints,
        floats={"wk": (4, 48)},
        variants=[kernel + "o = Conv<strides = [2, 2]>(h, k)"],
    )
    yield image(
        "Conv",
        "computed-bias",
        "m = ReduceMean<keepdims = 0>(g, space)\n b = Squeeze(m, first)\no = Conv(h, k, b)",
        ints={"space": [2, 3], "first": [0]},
        floats={"k": (4, 4, 3, 3)},
    )
    yield image(
        "ConvTranspose",
        "computed-kernel",
        kernel + "o = ConvTranspose(h, k)",
        channels=3,
        ints={**ints, "shape": [4, 3, 2, 2]},
        floats={"wk": (4, 48)},
    )
    yield image(
        "Conv",
        "computed-groups",
        kernel + "o = Conv<group = 2>(h, k)",
        channels=4,
        floats={"wk": (4, 32)},
        ints={**ints, "shape": [4, 2, 2, 2]},
    )
    vector = "m = ReduceMean<keepdims = 0>(g, space)\n v = Squeeze(m, first)\n"
    for op in ("InstanceNormalization", "GroupNormalization"):
        groups = "<num_groups = 2>" if op == "GroupNormalization" else ""
        yield image(
            op,
            "computed-scale",
            vector + f"o = {op}{groups}(h, v, b)",
            opset=21,
            floats={"b": (4,)},
            ints={"space": [2, 3], "first": [0]},
        )
    yield image(
        "BatchNormalization",
        "computed-scale",
        vector + "o = BatchNormalization(h, v, b, mu, posv)",
        floats={"b": (4,), "mu": (4,), "posv": (4,)},
        ints={"space": [2, 3], "first": [0]},
    )
    yield rows(
        "RNN",
        "computed-weights",
        "t = Transpose<perm = [1, 0, 2]>(h)\nc, d = RNN<hidden_size = 3>(t, g, r)\n o = Squeeze(c, one)",
        ints={"one": [1]},
        floats={"r": (1, 3, 3)},
        width=3,
        symmetric=False,
    )


def _computed_settings() -> Iterator[Case]:
    """Axes, sizes and amounts that are inputs of the network: everything may depend on everything."""
    head = "(float[1, 3, 4] x, int64[1] s) => (float[{}] y) {{\n h = MatMul(x, wh)\n {} y = MatMul(o, wo)\n }}"
    floats = {"wh": (4, 6), "wo": (6, 2)}

    def case(op: str, name: str, body: str, out: str = "1, 3, 2", **more: object) -> Case:
        return Case(op, name, head.format(out, body), floats, opset=20, symmetric=False, **more)  # type: ignore[arg-type]

    yield case("Trilu", "computed-diagonal", "o = Trilu(h, s)\n")
    yield case("CumSum", "computed-axis", "q = Squeeze(s)\n o = CumSum(h, q)\n")


def _statistics() -> Iterator[Case]:
    trained = "o, m, v = BatchNormalization<training_mode = 1>(h, s, b, mu, posv)"
    vectors = dict.fromkeys(("s", "b", "mu", "posv"), (4,))
    yield image("BatchNormalization", "trained", trained, floats=vectors, opset=15)
    shifted = "n" + trained[1:] + "\n c = Reshape(m, four)\n o = Add(n, c)"
    yield image("BatchNormalization", "running-mean", shifted, floats=vectors, ints={"four": [4, 1, 1]}, opset=15)
    scaled = "n" + trained[1:] + "\n c = Reshape(v, four)\n o = Mul(n, c)"
    yield image("BatchNormalization", "running-variance", scaled, floats=vectors, ints={"four": [4, 1, 1]}, opset=15)
    yield rows(
        "LayerNormalization",
        "mean-used",
        "n, m, d = LayerNormalization(h, s, b)\n a = Mul(n, d)\n o = Add(a, m)",
        floats={"s": (6,), "b": (6,)},
        variants=["o = LayerNormalization(h, s, b)"],
    )


def _declared() -> Iterator[Case]:
    yield rows(
        "NonZero",
        "features",
        "p = Abs(h)\n q = Add(p, one)\n z = NonZero(q)\n f = Cast<to = 1>(z)\n"
        " m = ReduceSum<keepdims = 1>(f)\n o = Add(h, m)",
        values={"one": np.float32([1])},
        symmetric=False,
    )
    yield rows("SwiGLU", "features", "o = SwiGLU(h, g)", opset=28)
    yield rows("BitCast", "integers", "i = BitCast<to = 6>(h)\n o = BitCast<to = 1>(i)", opset=26)
