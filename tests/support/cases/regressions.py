"""Networks that were lowered to graphs with false symmetries, or not at all. Most were found by random composition."""

from __future__ import annotations

from collections.abc import Iterator

from support.cases.case import Case, image, rows

__all__ = ["regression_cases"]


def regression_cases() -> Iterator[Case]:
    """One network for each mistake, and its neighbours."""
    yield from _couplings()
    yield from _shared_weights()
    yield from _places()
    yield from _operands()


def _couplings() -> Iterator[Case]:
    """Softmax over a group of neurons that does not hold together, or over neurons that went through unlike steps."""
    depthwise = """t = Tanh(h)
        a = Conv<group = 4>(t, ka)
        b = Conv<group = 4>(t, kb)
        p = Softmax<axis = 1>(a)
        q = Softmax<axis = 1>(b)"""
    kernels = {"ka": (4, 1, 1, 1), "kb": (4, 1, 1, 1)}
    yield image("Softmax", "two-depthwise-added", f"{depthwise}\n o = Add(p, q)", floats=kernels)
    yield image("Softmax", "two-depthwise-side-by-side", f"{depthwise}\n o = Concat<axis = 1>(p, q)", floats=kernels,
                channels=8)  # fmt: skip
    biased = depthwise.replace("ka)", "ka, u)").replace("kb)", "kb, v)")
    yield image("Softmax", "two-biased-depthwise", f"{biased}\n o = Add(p, q)",
                floats={**kernels, "u": (4,), "v": (4,)})  # fmt: skip
    half = """a, b = Split<axis = 2, num_outputs = 2>(h)
        r = Relu(a)
        k = Concat<axis = 2>(r, b)
        p = Softmax<axis = 2>(k)
        o = Slice(p, zero, two, two)"""
    yield rows("Softmax", "half-activated", half, ints={"zero": [0], "two": [2]}, width=2)
    chunks = "q = Reshape(h, c)\n p = LayerNormalization(q, s)\n o = Reshape(p, back)"
    yield rows("LayerNormalization", "across-positions", chunks, symmetric=False,
               ints={"c": [1, 2, 9], "back": [1, 3, 6]}, floats={"s": (9,)})  # fmt: skip


def _shared_weights() -> Iterator[Case]:
    """Weights of which only a part is shared, or that are repeated."""
    cut = {"zero": [0], "four": [4], "one": [1]}
    part = "v = Slice(w, zero, four, one)\n"
    yield rows("MatMul", "tied-part", f"a = MatMul(h, w)\n {part} b = MatMul(a, v)\n o = Tanh(b)", floats={"w": (6, 6)},
               ints=cut, width=4)  # fmt: skip
    yield rows("MatMul", "tied-part-first", f"{part} b = MatMul(h, v)\n a = MatMul(h, w)\n o = Concat<axis = 2>(a, b)",
               floats={"w": (6, 6)}, ints=cut, width=10)  # fmt: skip
    for name, made, shape, ints in (
        ("twice", "Concat<axis = 1>(w, w)", (6, 3), {}),
        ("tiled", "Tile(w, r)", (6, 3), {"r": [1, 2]}),
        ("expanded", "Expand(w, r)", (6, 1), {"r": [6, 6]}),
        ("expanded-rows", "Expand(w, r)", (1, 6), {"r": [6, 6]}),
        ("gathered", "Gather<axis = 1>(w, r)", (6, 4), {"r": [0, 2, 0, 1, 1, 3]}),
    ):
        yield rows("MatMul", f"weight-{name}", f"v = {made}\n o = MatMul(h, v)", floats={"w": shape}, ints=ints)
    tie = "a = MatMul(h, w)\n t = Tanh(a)\n"
    yield rows("MatMul", "transposed-tie", tie + "v = Transpose(w)\n o = MatMul(t, v)", floats={"w": (6, 5)})
    yield rows("MatMul", "square-tie", tie + "o = MatMul(t, w)", floats={"w": (6, 6)})
    yield rows("Add", "tied-vector", "a = Add(h, v)\n b = Tanh(a)\n o = Mul(b, v)", floats={"v": (6,)})
    yield rows("Add", "gathered-vector", "u = Gather(v, i)\n o = Add(h, u)", floats={"v": (4,)},
               ints={"i": [0, 1, 2, 0, 1, 3]})  # fmt: skip
    yield rows("MatMul", "computed-weight", "a = MatMul(u, v)\n o = MatMul(h, a)", floats={"u": (6, 2), "v": (2, 5)},
               width=5)  # fmt: skip
    norm = "n = ReduceL2<keepdims = 1>(u, zero)\n d = Div(u, n)\n w = Mul(d, k)\n o = MatMul(h, w)"
    yield rows("MatMul", "weight-norm", norm, floats={"u": (6, 5), "k": (1, 5)}, ints={"zero": [0]}, width=5)


def _places() -> Iterator[Case]:
    """Free axes are ordered: their places must not be lost where they meet labelled axes."""
    yield rows("Conv", "groups-of-positions", "c = Conv<group = 3>(h, k, b)\n o = MatMul(m, c)",
               symmetric=False, floats={"k": (3, 1, 1), "b": (3,), "m": (4, 3)})  # fmt: skip
    yield image("Conv", "groups-of-merged-rows", "r = Reshape(h, lines)\n c = Conv<group = 24, pads = [1, 1]>(r, k)\n"
                " t = Tanh(c)\n p = Conv<group = 2>(t, w)\n o = Unsqueeze(p, two)", channels=2, symmetric=False,
                floats={"k": (24, 1, 3), "w": (2, 12, 1)}, ints={"lines": [1, 24, 6], "two": [2]})  # fmt: skip
    yield rows("Conv", "groups-behind-a-token",
               "c = Concat<axis = 1>(t, h)\n d = Conv<group = 5, pads = [1, 1]>(c, k)\n"
               " e = Tanh(d)\n o = MatMul(m, e)", floats={"t": (1, 2, 6), "k": (10, 1, 3), "m": (2, 10)},
               symmetric=False)  # fmt: skip
    yield rows("Conv", "groups-of-positions-flattened", "c = Conv<group = 3>(h, k)\n o = Reshape(c, flat)",
               floats={"k": (3, 1, 1)}, symmetric=False, ints={"flat": [1, -1]}, width=18, rank=2)  # fmt: skip
    yield rows("MatMul", "own-weight-per-position", "u = Unsqueeze(h, two)\n p = MatMul(u, k)\n o = Squeeze(p, two)",
               floats={"k": (3, 6, 6)}, ints={"two": [2]})  # fmt: skip
    yield rows("Concat", "rows-of-a-parameter", "c = Concat<axis = 2>(t, h)\n o = MatMul(m, c)",
               symmetric=False, floats={"t": (1, 3, 2), "m": (4, 3)}, width=8)  # fmt: skip
    halves = "c = Concat<axis = 1>(t, h)\n a, b = Split<axis = 2, num_outputs = 2>(c)\n p = MatMul(m, b)\n"
    yield rows("Concat", "half-of-a-parameter", halves + "o = Reshape(p, flat)", floats={"t": (1, 1, 6), "m": (4, 4)},
               symmetric=False, ints={"flat": [1, -1]}, width=12, rank=2)  # fmt: skip
    ints = {"nine": [1, 2, 9], "flat": [1, 18], "heads": [1, 6, 1, 3], "ten": [1, 9, 2], "zero": [0], "one": [1],
"two": [2],
            "four": [4], "five": [5], "six": [6], "twelve": [12]}  # fmt: skip
    across = "r = Reshape(h, nine)\n"
    yield rows("Add", "vector-across-positions", across + "a = Add(r, v)\n o = Reshape(a, flat)",
               floats={"v": (1, 1, 9)},
               symmetric=False, ints=ints, width=18, rank=2)  # fmt: skip
    yield rows("ReduceMax", "across-positions",
               across + "a = ReduceMax<keepdims = 1>(r, two)\n o = Concat<axis = 2>(a, a)",
               symmetric=False, ints=ints, width=2)  # fmt: skip
    yield rows("MatMul", "outer-across-positions", "r = Reshape(h, heads)\n t = Transpose<perm = [0, 1, 3, 2]>(r)\n"
               " p = MatMul(r, t)\n o = Reshape(p, back)", ints={**ints, "back": [1, 6]}, rank=2)  # fmt: skip
    flat = "r = Reshape(h, flat)\n"
    for name, start, stop in (("across", "one", "five"), ("first", "zero", "six"), ("second", "six", "twelve")):
        body = flat + f"a = Slice(r, {start}, {stop}, one)\n b = Tanh(a)\n o = MatMul(b, w)"
        width = {"across": 4}.get(name, 6)
        yield rows("Slice", f"flattened-{name}", body, ints=ints, floats={"w": (width, 6)}, rank=2)
    yield rows("Add", "flattened-and-mixed", flat + "s = MatMul(r, w)\n t = Tanh(s)\n o = Mul(r, t)",
               floats={"w": (18, 18)},
               ints=ints, width=18, rank=2)  # fmt: skip
    yield rows("Add", "flattened-vector", flat + "s = Add(r, v)\n o = Tanh(s)", floats={"v": (18,)}, ints=ints,
               width=18, rank=2)  # fmt: skip
    yield rows("Reshape", "flattened-and-back", flat + "s = Add(r, v)\n t = Reshape(s, back)\n o = Tanh(t)",
               floats={"v": (18,)}, ints={**ints, "back": [1, 3, 6]})  # fmt: skip
    shuffled = image("DepthToSpace", "shuffled", "c = DepthToSpace<blocksize = 2>(h)\n o = Add(c, p)", channels=1,
                     floats={"p": (12, 12)}, symmetric=False)  # fmt: skip
    yield shuffled
    twice = "c = Concat<axis = 2>(h, h)\n a = Mul(c, v)\n p = Gather<axis = 2>(a, i)\n o = Tanh(p)"
    yield rows("Mul", "copies-that-part", twice, floats={"v": (12,)},
               ints={"i": [0, 10, 9, 2, 8, 4, 3, 6, 5, 1, 7, 11]},
               width=12, symmetric=False)  # fmt: skip
    pairs = "a = Unsqueeze(h, one)\n b = Unsqueeze(h, two)\n c = {}(a, b)\n o = Tanh(c)"
    yield rows("Max", "pairs-of-positions", pairs.format("Max"), ints=ints, rank=4, variants=[pairs.format("Min")])
    yield rows("Add", "pairs-of-positions", pairs.format("Add"), ints=ints, rank=4)


def _operands() -> Iterator[Case]:
    """Known tables along neurons, and neurons that copies of one stand for."""
    yield rows("Where", "mask-on-neurons", "c = Cast<to = 9>(m)\n o = Where(c, h, g)", ints={"m": [1, 0, 1, 1, 0, 0]},
               variants=["c = Cast<to = 9>(m)\n o = Where(c, g, h)"])  # fmt: skip
    yield rows("Mul", "table-on-neurons", "c = Cast<to = 1>(m)\n o = Mul(h, c)", ints={"m": [1, 2, 1, 1, 2, 0]})
    repeated = "u = Unsqueeze(k, two)\n e = Expand(u, copies)\n r = Reshape(e, heads)\n o = Mul(h, r)"
    for name, made in (
        ("expand", "e = Expand(u, copies)"),
        ("tile", "e = Tile(u, times)"),
        ("concat", "e = Concat<axis = 2>(u, u)"),
    ):
        body = "k = MatMul(x, wk)\n" + repeated.replace("e = Expand(u, copies)", made)
        yield rows("Mul", f"copies-by-{name}", body, floats={"wk": (4, 3)},
                   ints={"two": [2], "copies": [1, 3, 2, 3], "times": [1, 1, 2, 1], "heads": [1, 3, 6]})  # fmt: skip
