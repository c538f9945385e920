"""Transformers of two layers in ONNX's text syntax: one shaped like a ViT, one like a Llama."""

from __future__ import annotations

import onnx

from gmnc.testing import build

__all__ = ["llama", "vit"]

_ATTENTION = """
    {p}s = MatMul({p}q, {p}k)
    {p}p = Softmax<axis = -1>({p}s)
    {p}o = MatMul({p}p, {p}v)
    {p}ot = Transpose<perm = [0, 2, 1, 3]>({p}o)
    {p}of = Reshape({p}ot, flat)
    {p}om = MatMul({p}of, {p}wo)
"""


def vit(rms: bool = False, shifted: bool = True) -> onnx.ModelProto:
    """Width 6, 2 heads of 3, biases everywhere, a class token and a position table; layer norms, or RMS norms."""
    lines = """
        c = Conv<strides = [2, 2]>(x, kernel, shift)
        f = Reshape(c, patches)
        t = Transpose<perm = [0, 2, 1]>(f)
        j = Concat<axis = 1>(cls, t)
        r0 = Add(j, pos)
    """
    floats = {"kernel": (6, 3, 2, 2), "shift": (6,), "cls": (1, 1, 6), "pos": (1, 5, 6), "wh": (6, 4), "bh": (4,)}

    def norm(x: str, to: str) -> str:
        floats[f"{to}g"] = (6,)
        if rms:
            return f"{to} = RMSNormalization<axis = -1>({x}, {to}g)\n"
        if shifted:
            floats[f"{to}b"] = (6,)
        return f"{to} = LayerNormalization({x}, {to}g{f', {to}b' if shifted else ''})\n"

    for p in ("a", "b"):
        lines += norm("r0" if p == "a" else "ar2", f"{p}n")
        for t in "qkv":
            floats |= {f"{p}w{t}": (6, 6), f"{p}b{t}": (6,)}
            perm = [0, 2, 3, 1] if t == "k" else [0, 2, 1, 3]
            lines += f"{p}{t}m = MatMul({p}n, {p}w{t})\n {p}{t}a = Add({p}{t}m, {p}b{t})\n"
            lines += f"{p}{t}h = Reshape({p}{t}a, heads)\n {p}{t} = Transpose<perm = {perm}>({p}{t}h)\n"
        floats |= {f"{p}wo": (6, 6), f"{p}bo": (6,), f"{p}w1": (6, 8), f"{p}b1": (8,), f"{p}w2": (8, 6)}
        lines += _ATTENTION.format(p=p)
        lines += f"{p}oa = Add({p}om, {p}bo)\n {p}r1 = Add({'r0' if p == 'a' else 'ar2'}, {p}oa)\n"
        lines += norm(f"{p}r1", f"{p}n2")
        lines += f"{p}u = MatMul({p}n2, {p}w1)\n {p}ua = Add({p}u, {p}b1)\n {p}ug = Gelu({p}ua)\n"
        lines += f"{p}d = MatMul({p}ug, {p}w2)\n {p}r2 = Add({p}r1, {p}d)\n"
    lines += norm("br2", "n")
    lines += "first = Gather<axis = 1>(n, zero)\n h = MatMul(first, wh)\n y = Add(h, bh)\n"
    ints = {"patches": [1, 6, 4], "heads": [1, 5, 2, 3], "flat": [1, 5, 6], "zero": [0]}
    text = f"(float[1, 3, 4, 4] x) => (float[1, 1, 4] y) {{ {lines} }}"
    return build(text, floats, ints, opset=23)


def llama(tied: bool = False) -> onnx.ModelProto:
    """Width 8, 4 query heads and 2 key and value heads of 2, rotary positions, RMS norms, gated layers, no biases."""
    lines = "r0 = Gather(emb, ids)\n"
    floats = {"emb": (11, 8), "cos": (5, 2), "sin": (5, 2), "ng": (8,), "head": (8, 11)}

    def rotated(x: str) -> str:
        return f"""
            {x}0, {x}1 = Split<axis = -1, num_outputs = 2>({x}t)
            {x}n = Neg({x}1)
            {x}r = Concat<axis = -1>({x}n, {x}0)
            {x}c = Mul({x}t, cos)
            {x}s = Mul({x}r, sin)
            {x}e = Add({x}c, {x}s)
        """

    def repeated(x: str, to: str) -> str:
        return f"{to}5 = Unsqueeze({x}, two)\n {to}x = Expand({to}5, copies)\n {to}y = Reshape({to}x, every)\n"

    for p in ("a", "b"):
        stream = "r0" if p == "a" else "ar2"
        floats |= {
            f"{p}g": (8,),
            f"{p}g2": (8,),
            f"{p}wq": (8, 8),
            f"{p}wk": (8, 4),
            f"{p}wv": (8, 4),
            f"{p}wo": (8, 8),
        }
        floats |= {f"{p}w1": (8, 12), f"{p}w3": (8, 12), f"{p}w2": (12, 8)}
        lines += f"{p}n = RMSNormalization<axis = -1>({stream}, {p}g)\n"
        for t, heads in (("q", "heads"), ("k", "groups"), ("v", "groups")):
            lines += f"{p}{t}m = MatMul({p}n, {p}w{t})\n {p}{t}h = Reshape({p}{t}m, {heads})\n"
            lines += f"{p}{t}t = Transpose<perm = [0, 2, 1, 3]>({p}{t}h)\n"
        lines += rotated(f"{p}q") + rotated(f"{p}k")
        lines += repeated(f"{p}ke", f"{p}kr") + repeated(f"{p}vt", f"{p}vr")
        lines += f"{p}q = Identity({p}qe)\n {p}k = Transpose<perm = [0, 1, 3, 2]>({p}kry)\n {p}v = Identity({p}vry)\n"
        lines += _ATTENTION.format(p=p)
        lines += f"""
            {p}r1 = Add({stream}, {p}om)
            {p}n2 = RMSNormalization<axis = -1>({p}r1, {p}g2)
            {p}u = MatMul({p}n2, {p}w1)
            {p}us = Sigmoid({p}u)
            {p}ug = Mul({p}u, {p}us)
            {p}u3 = MatMul({p}n2, {p}w3)
            {p}um = Mul({p}ug, {p}u3)
            {p}d = MatMul({p}um, {p}w2)
            {p}r2 = Add({p}r1, {p}d)
        """
    lines += "n = RMSNormalization<axis = -1>(br2, ng)\n"
    lines += "e = Transpose<perm = [1, 0]>(emb)\n y = MatMul(n, e)\n" if tied else "y = MatMul(n, head)\n"
    if tied:
        del floats["head"]
    ints = {"heads": [1, 5, 4, 2], "groups": [1, 5, 2, 2], "two": [2], "copies": [1, 2, 2, 5, 2], "every": [1, 4, 5, 2]}
    text = f"(int64[1, 5] ids) => (float[1, 5, 11] y) {{ {lines} }}"
    return build(text, floats, {**ints, "flat": [1, 5, 8]}, opset=23)
