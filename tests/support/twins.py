"""Networks of two branches that differ in one respect and feed weights of one shape."""

from __future__ import annotations

import onnx

from gmnc.testing import build

__all__ = ["BACK", "CHANNELS_FIRST", "OBLONG", "SIZES", "SQUARE", "twins"]

SIZES = {"w": (3, 4), "wa": (4, 5), "wb": (4, 5), "v": (5, 2)}
BACK = "[0, 2, 3, 1]"


def twins(branches: str, sizes: dict[str, tuple[int, ...]], ints: dict[str, object], shape: str) -> onnx.ModelProto:
    """Neurons t along the last axis of a grid; branches a and b; a weight behind each, averaged over places, added."""
    text = f"""(float[{shape}] x) => (float[N, M] y) {{
        h = MatMul(x, w)
        t = Tanh(h)
        {branches}
        ma = MatMul(a, wa)
        mb = MatMul(b, wb)
        ta = Tanh(ma)
        tb = Tanh(mb)
        pa = ReduceMean<keepdims = 0>(ta, places)
        pb = ReduceMean<keepdims = 0>(tb, places)
        s = Add(pa, pb)
        y = MatMul(s, v)
    }}"""
    return build(text, SIZES | sizes, {"places": [1, 2], **ints})


SQUARE, OBLONG = "1, 4, 4, 3", "1, 4, 6, 3"
CHANNELS_FIRST = "c = Transpose<perm = [0, 3, 1, 2]>(t)"
