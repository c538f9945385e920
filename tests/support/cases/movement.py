"""Cases of the operators that move entries, look them up, or depend on their order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from support.cases.case import Case, boxes, image, rows, varied

__all__ = ["movement_cases"]


def movement_cases() -> Iterator[Case]:
    """Every operator that moves entries."""
    yield from _shapes()
    yield from _pieces()
    yield from _concatenations()
    yield from _lookups()
    yield from _padding()
    yield from _resizing()
    yield from _ordered()
    yield from _scattered()


def _shapes() -> Iterator[Case]:
    ints = {"pairs": [1, 9, 2], "back": [1, 3, 6], "merged": [1, 18], "swapped": [1, 2, 9], "heads": [1, 3, 2, 3],
            "last": [-1], "first": [0], "third": [2]}  # fmt: skip
    yield rows("Reshape", "heads", "a = Reshape(h, heads)\n r = Tanh(a)\n o = Reshape(r, back)", ints=ints, opset=13)
    yield rows("Reshape", "positions-into-features", "o = Reshape(h, merged)", ints=ints, width=18, rank=2)
    yield rows("Reshape", "features-into-positions", "o = Reshape(h, pairs)", ints=ints, width=2)
    yield rows("Reshape", "across", "o = Reshape(h, swapped)", ints=ints, width=9, symmetric=False)
    yield from varied(rows("Flatten", "features", "o = Flatten<axis = 1>(h)", width=18, rank=2), (9, 13))
    yield rows("Flatten", "rows", "o = Flatten<axis = 2>(h)", rank=2)
    yield rows("Flatten", "negative", "o = Flatten<axis = -1>(h)", rank=2)
    yield rows("Unsqueeze", "input", "u = Unsqueeze(h, third)\n r = Relu(u)\n o = Squeeze(r, third)", ints=ints)
    yield rows("Squeeze", "input", "u = Unsqueeze(h, third)\n r = Relu(u)\n o = Squeeze(r, third)", ints=ints, opset=13)
    yield rows(
        "Squeeze", "attribute", "u = Unsqueeze<axes = [2]>(h)\n r = Relu(u)\n o = Squeeze<axes = [2]>(r)", opset=11
    )
    yield rows("Squeeze", "every", "s = Squeeze(h)\n o = Relu(s)", rank=2)
    yield rows(
        "Unsqueeze", "attribute", "u = Unsqueeze<axes = [0]>(h)\n r = Relu(u)\n o = Squeeze<axes = [0]>(r)", opset=11
    )
    yield rows("Transpose", "features", "t = Transpose<perm = [0, 2, 1]>(h)\n o = Transpose<perm = [0, 2, 1]>(t)")
    yield rows("Transpose", "positions-mixed", "o = Transpose<perm = [0, 2, 1]>(h)", width=3, symmetric=False)
    yield rows("Transpose", "default", "t = Transpose(h)\n o = Transpose<perm = [2, 1, 0]>(t)")
    yield rows(
        "Expand", "batch", "r = ReduceMean<keepdims = 1>(h, ax)\n o = Expand(r, to)", ints={"ax": [1], "to": [1, 3, 6]}
    )
    yield rows("Expand", "features", "m = MatMul(x, w1)\n o = Expand(m, to)", floats={"w1": (4, 1)},
               ints={"to": [1, 3, 6]}, symmetric=False)  # fmt: skip
    yield rows("Tile", "features", "o = Tile(h, r)", ints={"r": [1, 1, 2]}, width=12)
    yield rows("Tile", "positions", "o = Tile(h, r)", ints={"r": [1, 2, 1]})
    yield rows("Identity", "features", "o = Identity(h)")
    yield rows("Dropout", "ratio", "o = Dropout(h)", opset=13)
    yield rows("Dropout", "attribute", "o = Dropout<ratio = 0.4>(h)", opset=10)
    yield rows("Dropout", "mask", "d, m = Dropout(h)\n c = Cast<to = 1>(m)\n o = Mul(d, c)", opset=13)
    yield rows("Cast", "integer", "i = Cast<to = 7>(h)\n o = Cast<to = 1>(i)", variants=["o = Identity(h)"])
    yield rows("Cast", "boolean", "r = Relu(h)\n i = Cast<to = 9>(r)\n o = Cast<to = 1>(i)",
               variants=["r = Relu(h)\n i = Cast<to = 7>(r)\n o = Cast<to = 1>(i)"])  # fmt: skip
    yield rows("Cast", "double", "d = Cast<to = 11>(h)\n t = Tanh(d)\n o = Cast<to = 1>(t)")
    yield rows("CastLike", "double", "d = Cast<to = 11>(g)\n c = CastLike(h, d)\n o = Cast<to = 1>(c)")
    for op in ("DepthToSpace", "SpaceToDepth"):
        channels = 1 if op == "DepthToSpace" else 16
        modes = ("DCR", "CRD") if op == "DepthToSpace" else ("",)
        for mode in modes:
            call = f"o = {op}<blocksize = 2{f', mode = {chr(34)}{mode}{chr(34)}' if mode else ''}>(h)"
            yield image(op, mode or "blocks", call, channels=channels, symmetric=op != "DepthToSpace")
    two = "c = Concat<axis = 1>(h, g)\n o = DepthToSpace<blocksize = 2{}>(c)"
    yield image("DepthToSpace", "two-channels", two.format(""), channels=2,
                variants=[two.format(', mode = "CRD"')])  # fmt: skip
    yield image("DepthToSpace", "two-channels-CRD",
                two.format(', mode = "CRD"').replace("Concat<axis = 1>(h, g)", "Conv(h, k)"),
                floats={"k": (8, 4, 1, 1)}, channels=2)  # fmt: skip
    yield rows("Identity", "optional", "p = Optional(h)\n o = OptionalGetElement(p)", opset=18)
    yield rows("Identity", "of no optional", "o = OptionalGetElement(h)", opset=18)


def _pieces() -> Iterator[Case]:
    ints = {"b": [2], "e": [5], "a": [2], "s": [2], "n": [-1], "m": [-100], "back": [-1], "third": [1], "one": [1]}
    cut = "o = Slice(h, b, e, a)"
    yield rows("Slice", "features", cut, ints=ints, width=3, opset=13, variants=["o = Slice(g, b, e, a)"])
    yield rows("Slice", "attributes", "o = Slice<starts = [2], ends = [5], axes = [2]>(h)", width=3, opset=9)
    yield rows("Slice", "stepped", "o = Slice(h, b, e, a, s)", ints=ints, width=2)
    yield rows("Slice", "reversed", "o = Slice(h, n, m, a, back)", ints=ints)
    yield rows("Slice", "negative-axis", "o = Slice(h, b, e, n)", ints=ints, width=3)
    yield rows("Slice", "positions", "o = Slice(h, one, e, one)", ints=ints, variants=["o = Identity(h)"])
    yield rows("Slice", "positions-reversed", "r = Slice(h, n, m, one, back)\n o = Add(r, h)", ints=ints,
               variants=["o = Add(h, h)"])  # fmt: skip
    yield rows("Slice", "rotated", """lo = Slice(h, z, t, a)
        hi = Slice(h, t, e6, a)
        nh = Neg(hi)
        r = Concat<axis = 2>(nh, lo)
        o = Add(h, r)""", ints={"z": [0], "t": [3], "e6": [6], "a": [2]})  # fmt: skip
    halves = "p, q = Split<axis = 2{}>(h{})\n s = Sigmoid(q)\n o = Mul(p, s)"
    yield rows("Split", "attribute", halves.format(", split = [3, 3]", ""), width=3, opset=11)
    yield rows("Split", "operand", halves.format("", ", sizes"), width=3, opset=13, ints={"sizes": [3, 3]},
               variants=["p, q = Split<axis = 2>(h, sizes)\n s = Sigmoid(p)\n o = Mul(q, s)"])  # fmt: skip
    yield rows("Split", "equal", halves.format("", ""), width=3, opset=13)
    yield rows("Split", "num-outputs", halves.format(", num_outputs = 2", ""), width=3, opset=18)
    yield rows("Split", "uneven", "p, q = Split<axis = 2, num_outputs = 2>(h)\n o = Concat<axis = 2>(q, p)",
               opset=18)  # fmt: skip
    yield rows("Split", "positions", "p, q = Split<axis = 1>(h, sizes)\n o = Mul(q, p)", opset=13,
               ints={"sizes": [1, 2]})  # fmt: skip
    yield rows("Split", "of-sequence",
               "q = SplitToSequence<axis = 2>(h, k)\n i = Constant<value_int = 1>()\n o = SequenceAt(q, i)", width=3,
               ints={"k": [3, 3]})  # fmt: skip
    yield rows("Split", "of-sequence-joined",
               "q = SplitToSequence<axis = 2>(h, k)\n o = ConcatFromSequence<axis = 2>(q)", ints={"k": [3, 3]},
               alike=["o = Identity(h)"])  # fmt: skip


def _concatenations() -> Iterator[Case]:
    cat = "o = Concat<axis = 2>(h, g)"
    yield rows("Concat", "features", cat, width=12, variants=["o = Concat<axis = 2>(g, h)"])
    yield rows("Concat", "positions", "o = Concat<axis = 1>(h, g)", variants=["o = Concat<axis = 1>(g, h)"])
    yield rows("Concat", "batch", "c = Concat<axis = 0>(h, g)\n o = Tanh(c)")
    yield rows(
        "Concat",
        "token",
        "o = Concat<axis = 1>(t, h)",
        floats={"t": (1, 1, 6)},
        variants=["o = Concat<axis = 1>(h, t)"],
    )
    yield rows("Concat", "learned-features", "o = Concat<axis = 2>(h, t)", floats={"t": (1, 3, 2)}, width=8)
    yield rows("Concat", "itself", "o = Concat<axis = 2>(h, h)", width=12)
    yield rows("Concat", "itself-changed", "r = Relu(h)\n n = Neg(h)\n o = Concat<axis = 2>(r, n)", width=12)
    yield rows("Concat", "constant-features",
               "z = ConstantOfShape<value = float[1] {1}>(s)\n o = Concat<axis = 2>(h, z)",
               ints={"s": [1, 3, 2]}, width=8)  # fmt: skip
    yield rows(
        "Concat", "weights", "w = Concat<axis = 1>(u, v)\n o = MatMul(h, w)", floats={"u": (6, 2), "v": (6, 3)}, width=5
    )
    yield rows("Concat", "single-units", "m = MatMul(x, w1)\n n = MatMul(x, w2)\n o = Concat<axis = 2>(m, n)",
               floats={"w1": (4, 1), "w2": (4, 1)}, width=2)  # fmt: skip
    yield image("Concat", "rows", "o = Concat<axis = 2>(h, g)")
    yield boxes("Concat", "heads", "o = Concat<axis = 2>(h, g)", width=12)
    yield boxes("Concat", "inside-heads", "o = Concat<axis = 3>(h, g)", width=12)


def _lookups() -> Iterator[Case]:
    ints = {"i": [4, 0, 1], "last": [5], "every": [5, 4, 3, 2, 1, 0], "twice": [0, 0, 3], "even": [0, 2, 4]}
    for name, index, width in (("features", "i", 3), ("last", "last", 1), ("permuted", "every", 6),
                               ("repeated", "twice", 3),
                               ("even", "even", 3)):  # fmt: skip
        yield rows(
            "Gather", name, f"p = Gather<axis = 2>(h, {index})\n o = Concat<axis = 2>(h, p)", ints=ints, width=width + 6
        )  # fmt: skip
    yield rows("Gather", "position", "o = Gather<axis = 1>(h, k)", ints={"k": [2, 0]},
               variants=["o = Identity(h)"])  # fmt: skip
    yield rows("Gather", "scalar", "c = Constant<value_int = 1>()\n o = Gather<axis = 1>(h, c)", rank=2,
               variants=["c = Constant<value_int = 2>()\n o = Gather<axis = 1>(h, c)"])  # fmt: skip
    yield rows(
        "Gather", "of-weight", "v = Gather<axis = 1>(w, i)\n o = MatMul(h, v)", floats={"w": (6, 5)}, ints=ints, width=3
    )
    embedding = "(int64[1, 3] x) => (float[1, 3, 2] y) {\n e = Gather(table, x)\n r = Tanh(e)\n y = MatMul(r, wo)\n}"
    yield Case("Gather", "embedding", embedding, {"table": (4, 6), "wo": (6, 2)})
    turned = embedding.replace("Gather", "Gather<axis = 1>").replace(
        "r = Tanh(e)", "r = Transpose<perm = [1, 2, 0]>(e)"
    )
    yield Case("Gather", "embedding-columns", turned, {"table": (6, 4), "wo": (6, 2)})
    yield rows("Gather", "by-activation", "z = Relu(h)\n a = ArgMax<axis = 2, keepdims = 0>(z)\n o = Gather(t, a)",
               floats={"t": (6, 5)},
               width=5)  # fmt: skip
    yield rows("Gather", "activation-by-activation",
               "a = ArgMax<axis = 1, keepdims = 0>(g)\n s = Gather<axis = 1>(h, a)\n"
               " o = Squeeze(s, ax)", ints={"ax": [1]})  # fmt: skip
    index = np.array([[[5, 0, 1], [2, 2, 2], [0, 3, 4]]])
    yield rows(
        "GatherElements", "features", "o = GatherElements<axis = 2>(h, i)", ints={"i": index}, width=3, symmetric=False
    )
    yield rows("GatherElements", "alike", "o = GatherElements<axis = 2>(h, i)", ints={"i": [[[1, 0, 3]] * 3]}, width=3)
    yield rows(
        "GatherElements", "negative", "o = GatherElements<axis = -1>(h, i)", ints={"i": [[[-1, 0]] * 3]}, width=2
    )
    yield rows(
        "GatherElements", "fewer-positions", "o = GatherElements<axis = 2>(h, i)", ints={"i": [[[1, 0]] * 2]}, width=2
    )
    yield rows("GatherND", "features",
               "t = Transpose<perm = [2, 0, 1]>(h)\n p = GatherND(t, i)\n o = Transpose<perm = [1, 2, 0]>(p)",
               ints={"i": [[3], [0]]}, width=2)  # fmt: skip
    yield rows("GatherND", "entries", "o = GatherND(h, i)", ints={"i": [[[0, 1], [0, 2]]]})
    yield rows("GatherND", "batched", "o = GatherND<batch_dims = 1>(h, i)", ints={"i": [[[1], [0]]]})


def _padding() -> Iterator[Case]:
    ints = {"f": [0, 0, 2, 0, 0, 1], "s": [0, 1, 0, 0, 2, 0], "cut": [0, 0, -1, 0, 0, -2]}
    fill = "c = Constant<value_float = 0.5>()\n o = Pad{}(h, {}, c)"
    plain = "o = Pad{}(h, {})"
    yield rows("Pad", "positions", plain.format("", "s"), ints=ints,
               variants=[plain.format('<mode = "edge">', "s"), fill.format("", "s"), "o = Identity(h)"])  # fmt: skip
    yield rows("Pad", "features", plain.format("", "f"), ints=ints, width=9, variants=[fill.format("", "f")])
    yield rows("Pad", "features-filled", fill.format("", "f"), ints=ints, width=9)
    yield rows("Pad", "features-cut", plain.format("", "cut"), ints=ints, width=3, symmetric=False)
    for mode in ("edge", "reflect", "wrap"):
        yield rows(
            "Pad", f"features-{mode}", plain.format(f'<mode = "{mode}">', "f"), ints=ints, width=9, symmetric=False
        )
        yield rows("Pad", f"positions-{mode}", plain.format(f'<mode = "{mode}">', "s"), ints=ints)
    yield rows("Pad", "attributes", "o = Pad<pads = [0, 1, 0, 0, 2, 0], value = 0.5>(h)", opset=10,
               variants=["o = Pad<pads = [0, 1, 0, 0, 2, 0], value = 0.7>(h)"])  # fmt: skip
    yield rows("Pad", "feature-attributes", "o = Pad<pads = [0, 0, 1, 0, 0, 0], value = 0.5>(h)", opset=10, width=7,
               variants=["o = Pad<pads = [0, 0, 1, 0, 0, 0], value = 0.7>(h)"])  # fmt: skip
    yield rows("Pad", "axes", "o = Pad(h, p, , a)", ints={"p": [1, 2], "a": [1]}, opset=18)
    yield image("Pad", "space", "o = Pad(h, p)", ints={"p": [0, 0, 1, 1, 0, 0, 1, 1]},
                variants=['o = Pad<mode = "reflect">(h, p)'])  # fmt: skip
    yield rows("Pad", "learned", "o = Pad(h, p, v)", ints={"p": [0, 0, 0, 0, 0, 1]}, floats={"v": (1,)}, width=7)


def _resizing() -> Iterator[Case]:
    sizes = {"sizes": [1, 4, 9, 9]}
    scales = {"scales": np.array([1, 1, 1.5, 1.5], np.float32), "roi": np.zeros(0, np.float32)}
    whole = {"scales": np.array([1, 1, 2, 2], np.float32), "roi": np.zeros(0, np.float32)}
    call = "o = Resize<{}>(h, , , sizes)"
    modes = ('mode = "linear"', 'mode = "cubic"', 'coordinate_transformation_mode = "align_corners", mode = "linear"')
    yield image(
        "Resize", "sizes", call.format('mode = "nearest"'), ints=sizes, variants=[call.format(m) for m in modes]
    )
    yield image("Resize", "linear", call.format(modes[0]), ints=sizes)
    yield from varied(
        image("Resize", "scales", 'o = Resize<mode = "linear">(h, roi, scales)', values=scales), (11, 13, 18)
    )
    yield image("Resize", "opset10", 'o = Resize<mode = "nearest">(h, scales)', values=whole, opset=10)
    yield image("Upsample", "opset9", 'o = Upsample<mode = "nearest">(h, scales)', values=whole, opset=9,
                variants=['o = Upsample<mode = "linear">(h, scales)'])  # fmt: skip
    yield image("Upsample", "attributes", 'o = Upsample<mode = "nearest", scales = [1.0, 1.0, 2.0, 2.0]>(h)', opset=8)
    over = {"sizes": [1, 8, 6, 6]}
    yield image("Resize", "channels", call.format('mode = "nearest"'), ints=over, channels=8, symmetric=False)
    nearest = 'mode = "nearest", nearest_mode = "{}"'
    yield image("Resize", "nearest-mode", call.format(nearest.format("floor")), ints=sizes,
                variants=[call.format(nearest.format("ceil"))])  # fmt: skip
    cubic = 'mode = "cubic", cubic_coeff_a = {}'
    yield image(
        "Resize", "cubic", call.format(cubic.format("-0.75")), ints=sizes, variants=[call.format(cubic.format("-0.5"))]
    )
    smooth = 'mode = "linear", antialias = {}'
    yield image("Resize", "antialias", call.format(smooth.format(0)), ints={"sizes": [1, 4, 3, 3]}, opset=18,
                variants=[call.format(smooth.format(1))])  # fmt: skip
    sample = "t = Conv(x, kt)\n s = Tanh(t)\n p = Transpose<perm = [0, 2, 3, 1]>(s)\n o = GridSample{}(h, p)"
    for opset in (16, 20):
        yield image("GridSample", f"opset{opset}", sample.format(""), floats={"kt": (2, 2, 1, 1)}, opset=opset,
                    variants=[sample.format('<padding_mode = "border">'), sample.format("<align_corners = 1>"),
                              sample.format('<mode = "nearest">')])  # fmt: skip
    grid = np.random.default_rng(5).uniform(-1, 1, (1, 4, 5, 2)).astype(np.float32)
    yield image("GridSample", "known-grid", "o = GridSample(h, grid)", values={"grid": grid})


def _ordered() -> Iterator[Case]:
    ints = {"axis1": [1], "axis2": [2], "k": [3], "k1": [2], "lengths": [2]}
    for op, opset in (("CumSum", 20), ("CumProd", 26)):
        call = f"o = {op}{{}}(h, {{}})"
        yield rows(op, "features", call.format("", "axis2"), ints=ints, opset=opset, symmetric=False)
        yield rows(op, "positions", call.format("", "axis1"), ints=ints, opset=opset,
                   variants=[call.format("<reverse = 1>", "axis1"),
                   call.format("<exclusive = 1>", "axis1")])  # fmt: skip
    two = "v, i = TopK<axis = {}{}>(h, {})\n c = Cast<to = 1>(i)\n o = Add(v, c)"
    yield rows("TopK", "features", two.format(2, "", "k"), ints=ints, width=3, symmetric=False)
    yield rows("TopK", "positions", two.format(1, "", "k1"), ints=ints, variants=[two.format(1, ", largest = 0", "k1")])
    yield rows("TopK", "values", "v, i = TopK<axis = 1>(h, k1)\n o = Tanh(v)", ints=ints,
               variants=["v, i = TopK<axis = 1, largest = 0>(h, k1)\n o = Tanh(v)"])  # fmt: skip
    yield from varied(rows("TopK", "versions", two.format(1, "", "k1"), ints=ints), (10, 11))
    yield rows("TopK", "attribute", "v, i = TopK<axis = 1, k = 2>(h)\n o = Tanh(v)", opset=9)
    tri = "o = Trilu{}(h)"
    yield rows(
        "Trilu", "features", tri.format(""), symmetric=False, variants=[tri.format("<upper = 0>"), "o = Identity(h)"]
    )
    yield rows(
        "Trilu", "scores", "t = Transpose<perm = [0, 2, 1]>(g)\n s = MatMul(h, t)\n o = Trilu<upper = 0>(s)", width=3
    )
    turned = (
        "t = Transpose<perm = [1, 0, 2]>(h)\n r = ReverseSequence{}(t, lengths)\n o = Transpose<perm = [1, 0, 2]>(r)"
    )
    yield rows("ReverseSequence", "positions", turned.format(""), ints=ints, variants=["o = Identity(h)"])


def _scattered() -> Iterator[Case]:
    elements = "o = {}<axis = {}>(h, i, u)"
    learned = {"u": (1, 3, 2)}
    yield rows("ScatterElements", "features", elements.format("ScatterElements", 2), ints={"i": [[[1, 4]] * 3]},
               floats=learned,
               variants=["o = Identity(h)"])  # fmt: skip
    yield rows("ScatterElements", "positions", "s = Slice(g, zero, one, one)\n o = ScatterElements<axis = 1>(h, i, s)",
               ints={"i": [[[2] * 6]], "zero": [0], "one": [1]},
               variants=["s = Slice(g, zero, one, one)\n j = Sub(i, one)\n"
                         " o = ScatterElements<axis = 1>(h, j, s)"])  # fmt: skip
    yield rows("ScatterElements", "added", 'o = ScatterElements<axis = 2, reduction = "add">(h, i, u)', opset=18,
               ints={"i": [[[1, 4]] * 3]}, floats=learned, symmetric=False)  # fmt: skip
    yield rows("Scatter", "features", elements.format("Scatter", 2), opset=9, ints={"i": [[[1, 4]] * 3]},
               floats=learned,                checked=False)  # fmt: skip
    yield rows(
        "ScatterND",
        "position",
        "s = Slice(g, zero, one, one)\n o = ScatterND(h, i, s)",
        ints={"i": [[[0, 2]]], "zero": [0], "one": [1]},
    )
    yield rows(
        "ScatterND", "learned-position", "o = ScatterND(h, i, u)", ints={"i": [[[0, 2]]]}, floats={"u": (1, 1, 6)}
    )
    yield rows(
        "ScatterND",
        "entries",
        "o = ScatterND(h, i, u)",
        ints={"i": [[0, 0, 3], [0, 2, 1]]},
        floats={"u": (2,)},
        symmetric=False,
    )
    places = "a = ArgMax<axis = {}, keepdims = 0>(h)\n v = Constant<value = float[2] {{{}}}>()\n"
    places += " n = Constant<value_int = 6>()\n"
    hot = places + " o = OneHot(a, n, v)"
    yield rows("OneHot", "features", hot.format(2, "0.5, 1.0"), variants=[hot.format(2, "0.0, 1.0")], symmetric=False)
    turned = places.replace("(h)", "(g)") + " q = OneHot<axis = 1>(a, n, v)\n o = MatMul(m, q)"
    yield rows("OneHot", "positions", turned.format(1, "0.0, 1.0"), floats={"m": (4, 6)})
    eye = "s = Squeeze(h, zero)\n e = EyeLike{}(s)\n o = Add(h, e)"
    yield rows("EyeLike", "features", eye.format(""), ints={"zero": [0]}, variants=[eye.format("<k = 1>")])
    regions = {"box": [[0, 0, 3, 3]], "first": [0]}
    align = "o = RoiAlign<output_height = 2, output_width = 2{}>(h, r, first)"
    known = "r = Cast<to = 1>(box)\n"
    yield image("RoiAlign", "channels", known + align.format(""), ints=regions,
                variants=[known + align.format(', mode = "max"')])  # fmt: skip
    found = "m = ReduceMean<keepdims = 0>(g, space)\n a = MatMul(m, w)\n r = Sigmoid(a)\n"
    yield image("RoiAlign", "found-regions", found + align.format(""), floats={"w": (4, 4)},
                ints={"space": [2, 3], "first": [0]})  # fmt: skip
    yield image("MaxRoiPool", "channels", "r = Cast<to = 1>(box)\n o = MaxRoiPool<pooled_shape = [2, 2]>(h, r)",
                ints={"box": [[0, 1, 1, 5, 4]]})  # fmt: skip
