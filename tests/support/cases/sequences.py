"""Sequences and optionals: taken apart where their entries are known, one node each where they are not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from support.cases.case import Case

__all__ = ["sequence_cases"]

_SHAPES = {"wx": (2, 4), "w": (4, 4), "v": (4, 4), "half": (2, 4), "wo": (4, 2)}
_PLACES = """i0 = Constant<value_int = 0>() i1 = Constant<value_int = 1>() im = Constant<value_int = -1>()
    two = Constant<value_int = 2>()"""
_UP = "l = Constant<value_float = 0.0>() r = ReduceSum<keepdims = 0>(x0) up = Greater(r, l) p = Cast<to = 7>(up)"
# Always 2, yet nothing that is known.
_COUNT = "ab = Abs(x0) s0 = Sign(ab) s1 = ReduceMax<keepdims = 0>(s0) s2 = Add(s1, s1) n = Cast<to = 7>(s2)"


def sequence_cases() -> Iterator[Case]:
    yield from _known()
    yield from _unknown()


def _net(body: str, declared: str = "", output: str = "") -> str:
    body = f"{_PLACES} {body}" if "i0" in body or "im" in body or "two" in body else body
    return f"""(float[3, 2] x0) => (float[A, B] y{output}) {declared} {{
        x = MatMul(x0, wx) {body} y = MatMul(o, wo) }}"""


def _case(op: str, name: str, body: str, same: str = "", declared: str = "", output: str = "", **options: Any) -> Case:
    texts = [_net(t, declared, output) for t in (body, same) if t]
    floats = {n: s for n, s in _SHAPES.items() if any(re.search(rf"[ (]{n}[,)]", t) for t in texts)}
    return Case(op, name, texts[0], floats, alike=tuple(texts[1:]), **options)


def _known() -> Iterator[Case]:
    yield _case(
        "Sequence", "split", "s = SplitToSequence<axis = 1>(x, two) a = SequenceAt(s, i0) b = SequenceAt(s, im) "
        "c = Mul(a, b) o = MatMul(c, half)",
        "a, b = Split<axis = 1, num_outputs = 2>(x) c = Mul(a, b) o = MatMul(c, half)",
    )  # fmt: skip
    yield _case(
        "Sequence", "single rows", "s = SplitToSequence<axis = 0, keepdims = 0>(x) a = SequenceAt(s, i0) "
        "b = SequenceAt(s, im) c = Mul(a, b) d = MatMul(c, w) u = Constant<value_ints = [0]>() o = Unsqueeze(d, u)",
        "a = Gather(x, i0) b = Gather(x, two) c = Mul(a, b) d = MatMul(c, w) u = Constant<value_ints = [0]>() "
        "o = Unsqueeze(d, u)",
    )  # fmt: skip
    yield _case(
        "Sequence", "insertions", "e = SequenceEmpty<dtype = 1>() t = Tanh(x) a = SequenceInsert(e, x) "
        "b = SequenceInsert(a, t, i0) c = SequenceInsert(b, t, im) d = SequenceErase(c, i0) f = SequenceErase(d) "
        "n = SequenceLength(c) m = Cast<to = 1>(n) g = ConcatFromSequence<axis = 0>(f) h = Mul(g, m) k = MatMul(h, w) "
        "o = Relu(k)",
        "t = Tanh(x) m = Constant<value_float = 3.0>() h = Mul(t, m) k = MatMul(h, w) o = Relu(k)",
    )  # fmt: skip
    pieces = "t = Tanh(x) u = Sin(x) a = MatMul(x, w)"
    places = {-3: "u, x, t, a", -2: "x, u, t, a", -1: "x, t, u, a", 0: "u, x, t, a", 2: "x, t, u, a", 3: "x, t, a, u"}
    for place, order in places.items():
        yield _case(
            "Sequence", f"insertion at {place}", f"{pieces} i = Constant<value_int = {place}>() "
            "s = SequenceConstruct(x, t, a) c = SequenceInsert(s, u, i) o = ConcatFromSequence<axis = 0>(c)",
            f"{pieces} o = Concat<axis = 0>({order})",
        )  # fmt: skip
    yield _case(
        "Sequence", "new axis", "t = MatMul(x, w) s = SequenceConstruct(x, t) u = Constant<value_ints = [0]>() "
        "c = ConcatFromSequence<axis = 0, new_axis = 1>(s) o = ReduceMax<keepdims = 0>(c, u)",
    )  # fmt: skip
    yield _case(
        "SequenceMap", "known", """t = Tanh(x) s = SequenceConstruct(x, t)
        q = SequenceMap <body = g (float[3, 4] e) => (float[3, 4] f) { f0 = MatMul(e, w) f = Relu(f0) }>(s)
        a = SequenceAt(q, i0) b = SequenceAt(q, i1) o = Sub(a, b)""",
        "t = Tanh(x) c = MatMul(x, w) a = Relu(c) d = MatMul(t, w) b = Relu(d) o = Sub(a, b)",
    )  # fmt: skip
    yield _case(
        "Loop", "collects a sequence", """m = Constant<value_int = 2>() t = Constant<value = bool {1}>()
        e = SequenceEmpty<dtype = 1>() last, s = Loop <body = g
        (int64 i, bool c, float[3, 4] h, seq(float[3, 4]) s0) => (bool again, float[3, 4] k, seq(float[3, 4]) s1) {
        again = Identity(c) a = MatMul(h, w) k = Tanh(a) s1 = SequenceInsert(s0, k) }>(m, t, x, e)
        o = ConcatFromSequence<axis = 0>(s)""",
        "a = MatMul(x, w) b = Tanh(a) c = MatMul(b, w) d = Tanh(c) o = Concat<axis = 0>(b, d)",
    )  # fmt: skip
    yield _case(
        "If", "sequences", f"""{_UP} s = If(up) <
        then_branch = th () => (seq(float[3, 4]) s1) {{ u = MatMul(x, w) s1 = SequenceConstruct(x, u) }},
        else_branch = el () => (seq(float[3, 4]) s2) {{ g = MatMul(x, v) s2 = SequenceConstruct(g, x) }}>
        a = SequenceAt(s, i0) b = SequenceAt(s, i1) t = Tanh(b) o = Add(a, t)""",
    )  # fmt: skip
    picked = "t = Tanh(x) s = SequenceConstruct(x, t) a = SequenceAt(s, p) o = MatMul(a, w)"
    yield _case("Sequence", "computed place", f"{_UP} {picked}")
    yield _case(
        "Sequence", "weights",
        "s = SequenceConstruct(w, v) a = SequenceAt(s, i0) b = SequenceAt(s, i1) c = MatMul(x, a) d = Relu(c) "
        "o = MatMul(d, b)",
        "c = MatMul(x, w) d = Relu(c) o = MatMul(d, v)",
    )  # fmt: skip
    places = "c = Greater(x0, l) d = Cast<to = 7>(c) u = Constant<value_ints = [1]>() e = ReduceMax<keepdims = 0>(d, u)"
    yield _case("Gather", "computed places", f"{_UP} {places} a = Gather(x, e) b = Relu(a) o = MatMul(b, w)")
    yield _case(
        "Sequence", "optional", """op = Optional(x) h = OptionalHasElement(op) t = OptionalGetElement(op)
        o = If(h) <then_branch = th () => (float[3, 4] y1) { y0 = MatMul(t, w) y1 = Tanh(y0) },
                   else_branch = el () => (float[3, 4] y2) { y2 = MatMul(x, v) }>""",
        "y0 = MatMul(x, w) o = Tanh(y0) unused = MatMul(x, v)",
    )  # fmt: skip


def _unknown() -> Iterator[Case]:
    split = f"{_COUNT} s = SplitToSequence<axis = 1>(x, n)"
    for op, body in (
        ("SplitToSequence", f"{split} z = SequenceErase(s)"),
        ("SequenceErase", f"{split} z = SequenceErase(s)"),
        ("SequenceInsert", f"{split} z = SequenceInsert(s, x)"),
        ("SequenceConstruct", "z = SequenceConstruct(x, x0)"),
        ("SequenceEmpty", "z = SequenceEmpty<dtype = 1>()"),
    ):
        yield _case(op, "unknown", f"{body} o = Relu(x)", output=", seq(float[A, B]) z", symmetric=False)
    at = f"{split} a = SequenceAt(s, i0) o = MatMul(a, half)"
    yield _case("SequenceAt", "unknown", at, declared="<float[3, 2] a>")
    joined = f"{split} a = ConcatFromSequence<axis = 1>(s) o = MatMul(a, w)"
    yield _case("ConcatFromSequence", "unknown", joined, declared="<float[3, 4] a>")
    length = f"{split} a = SequenceLength(s) b = Cast<to = 1>(a) c = Mul(x, b) o = MatMul(c, w)"
    yield _case("SequenceLength", "unknown", length)
    optional = f"""{_UP}
        q = If(up) <then_branch = th () => (optional(float[3, 4]) q1) {{ q1 = Optional(x) }},
                    else_branch = el () => (optional(float[3, 4]) q2) {{ q2 = Optional<type = float[3, 4]>() }}>
        h = OptionalHasElement(q) f = Cast<to = 1>(h) g = OptionalGetElement(q) c = Mul(x, f) o = Add(c, g)"""
    for op in ("Optional", "OptionalHasElement", "OptionalGetElement"):
        yield _case(op, "unknown", optional, opaque="different shapes", symmetric=False)
