"""Loops and scans: what they carry, read and stack, and what decides how often they run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from support.cases.case import Case

__all__ = ["loop_cases"]

_ZEROS = "z = Constant<value = float[2, 4] {0, 0, 0, 0, 0, 0, 0, 0}>()"
_SHAPES = {
    "wx": (2, 3), "w": (3, 4), "r": (4, 4), "b": (4,), "h0": (2, 4), "wo": (4, 2), "q": (3, 4, 4), "p": (3, 4),
}  # fmt: skip
_CELL = "a1 = MatMul(xt, w) a2 = MatMul(h, r) a3 = Add(a1, a2) a4 = Add(a3, b) n = Tanh(a4)"
_MANY = "m = Constant<value_int = 3>() t = Constant<value = bool {1}>()"


def loop_cases() -> Iterator[Case]:
    yield from _scans()
    yield from _loops()
    yield from _parts()


def _scan(cell: str = _CELL, start: str = "z", attributes: str = "", x: str = "x", before: str = _ZEROS) -> str:
    """A cell over x [3, 2, 3] whose states are o [3, 2, 4]."""
    return f"""{before} last, o = Scan <num_scan_inputs = 1{", " * bool(attributes)}{attributes}, body = g
        (float[2, 4] h, float[2, 3] xt) => (float[2, 4] n, float[2, 4] row) {{
        {cell} row = Identity(n) }}>({start}, {x})"""


def _loop(cell: str, carried: str = "float[2, 4] h", ends: str = "float[2, 4] n", start: str = "x1", results: str = "o",
          again: str = "again = Identity(c)", before: str = _MANY) -> str:  # fmt: skip
    """A loop whose last state is o [2, 4]."""
    return f"""{before} {results} = Loop <body = g (int64 i, bool c, {carried}) => (bool again, {ends}) {{
        {cell} {again} }}>(m, t, {start})"""


def _case(op: str, name: str, body: str, rows: bool = False, **options: Any) -> Case:
    """Of a sequence x0 [3, 2, 2] (rows: of x0 [2, 2]), features before and after the body: x and x1, o."""
    head = "(float[2, 2] x0) => (float[N, M] y)" if rows else "(float[3, 2, 2] x0) => (float[N, M, K] y)"

    def net(text: str) -> str:
        first = "x = MatMul(x0, wx) x1 = MatMul(x, w)" if rows else "x = MatMul(x0, wx)"
        return f"{head} {{\n {first} {text}\n y = MatMul(o, wo)\n}}"

    texts = {key: tuple(net(t) for t in options.pop(key, ())) for key in ("variants", "alike")}
    used = net(body) + " ".join(texts["variants"] + texts["alike"])
    floats = {n: s for n, s in _SHAPES.items() if any(f"{start}{n}{end}" in used for start in "( " for end in ",)")}
    return Case(op, name, net(body), floats, **texts, **options)


def _scans() -> Iterator[Case]:
    backward = "scan_input_directions = [1], scan_output_directions = [1]"
    yield _case("Scan", "rnn", _scan(), variants=[
        _scan(_CELL.replace("Tanh", "Sigmoid")), _scan(attributes=backward), _scan(_CELL.replace("(h, r)", "(xt, w)")),
    ])  # fmt: skip
    yield _case("Scan", "learned start", _scan(start="h0", before=""))
    numbers = "k = Constant<value = int64[2, 4] {0, 1, 2, 3, 4, 5, 6, 7}>() z = Cast<to = 1>(k)"
    yield _case("Scan", "start of the program's numbers", _scan(before=numbers))
    yield _case("Scan", "start of one number", _scan(before=_ZEROS.replace("0,", "0.5,").replace("0}", "0.5}")))
    turned = _scan(attributes="scan_input_axes = [-1], scan_output_axes = [1]", x="xa").replace(
        " o = Scan", " oa = Scan"
    )
    turned = f"xa = Transpose<perm = [1, 2, 0]>(x) {turned} o = Transpose<perm = [1, 0, 2]>(oa)"
    yield _case("Scan", "axes", turned)
    yield _case(
        "Scan",
        "norm inside",
        _scan(_CELL.replace("Tanh(a4)", "LayerNormalization(a4, b)").replace("a4 = Add(a3, b)", "a4 = Relu(a3)")),
    )
    yield _case("Scan", "sum", "s0 = Constant<value = float[2, 3] {0, 0, 0, 0, 0, 0}>() " + _scan(
        "n = Add(h, xt)", "s0", before="").replace("float[2, 4]", "float[2, 3]").replace(" o = Scan", " u = Scan")
        + " o = MatMul(u, w)")  # fmt: skip
    layers = """last = Scan <num_scan_inputs = 2, body = g
        (float[2, 4] h, float[4, 4] ql, float[4] pl) => (float[2, 4] n) {
        a = MatMul(h, ql) s = Add(a, pl) n = Tanh(s) }>(x1, q, p) o = Identity(last)"""
    yield _case("Scan", "over layers", layers, rows=True)
    yield _case(
        "Scan",
        "over layers' logarithms",
        layers.replace("a = MatMul(h, ql)", "e = Exp(ql) a = MatMul(h, e)"),
        rows=True,
    )


def _loops() -> Iterator[Case]:
    cell = "a = MatMul(h, r) n = Tanh(a)"
    yield _case("Loop", "state", _loop(cell), rows=True, variants=[_loop(cell.replace("Tanh", "Sin"))])
    carried = ("float[2, 4] h, float[4, 4] rp, int64 k", "float[2, 4] n, float[4, 4] ro, int64 k1")
    one = "one = Constant<value_int = 1>()"
    yield _case("Loop", "weights and counters carried", f"k0 = Constant<value_int = 5>() {one}" + _loop(
        "a = MatMul(h, rp) f = Cast<to = 1>(k) s = Add(a, f) n = Tanh(s) ro = Identity(rp) k1 = Add(k, one)",
        *carried, start="x1, r, k0", results="o, r_, k_"), rows=True)  # fmt: skip
    swapped = _loop("a = MatMul(h, r) v = Tanh(a) n = Identity(g_)", "float[2, 4] h, float[2, 4] g_",
                    "float[2, 4] n, float[2, 4] v", "x1, x2", "h_, g1")  # fmt: skip
    yield _case("Loop", "two states change places", f"x2 = Sin(x1) {swapped} o = Add(h_, g1)", rows=True)
    step = "xt = Gather(x, i)"
    loop = _loop(
        f"{step} {_CELL} row = Identity(n)", ends="float[2, 4] n, float[2, 4] row", start="z", results="last, o"
    )
    backward = loop.replace("xt = Gather(x, i)", "e = Constant<value_int = 2>() j = Sub(e, i) xt = Gather(x, j)")
    yield _case("Loop", "reads by its number", _ZEROS + loop, variants=[_ZEROS + backward])
    counter = _loop(f"xt = Gather(x, k) k1 = Add(k, one) {_CELL} row = Identity(n)", "float[2, 4] h, int64 k",
                    "float[2, 4] n, int64 k1, float[2, 4] row", "z, k0", "last, k_, o")  # fmt: skip
    yield _case(
        "Loop", "reads by a counter", f"{_ZEROS} {one} k0 = Constant<value_int = 0>() {counter}", alike=[_ZEROS + loop]
    )
    check = "s = ReduceSum<keepdims = 0>(n) l = Constant<value_float = 0.1>() again = Greater(s, l)"
    yield _case("Loop", "as long as", _loop(cell, again=check), rows=True, variants=[
        _loop(cell, again=check.replace("Greater", "Less")), _loop(cell, again=check.replace("(n)", "(h)")),
    ])  # fmt: skip
    yield _case("Loop", "own weights", _loop("rl = Gather(q, i) a = MatMul(h, rl) n = Tanh(a)"), rows=True)
    longer = _loop(
        "l = Gather(h, e) a = MatMul(l, r) n0 = Tanh(a) n = Concat<axis = 0>(h, n0)", "float[A, 4] h", "float[B, 4] n"
    )
    yield _case("Loop", "growing", "e = Constant<value_ints = [-1]>() " + longer, rows=True)
    inner = """n = Loop <body = gi (int64 j, bool d, float[2, 4] hi) => (bool stays, float[2, 4] ni) {
        ai = MatMul(hi, r) bi = Add(ai, xh) ni = Tanh(bi) stays = Identity(d) }>(m, t, h)"""
    yield _case("Loop", "in a scan", f"{_MANY} " + _scan(f"xh = MatMul(xt, w) {inner}"))
    choice = """s = ReduceSum<keepdims = 0>(xt) l = Constant<value_float = 0.0>() up = Greater(s, l) u = MatMul(xt, w)
        k = If(up) <then_branch = th () => (float[2, 4] p1) { p0 = MatMul(h, r) p1 = Tanh(p0) },
                    else_branch = el () => (float[2, 4] p2) { p2 = Identity(h) }> n = Add(u, k)"""
    yield _case("Scan", "with a branch", _scan(choice))


def _parts() -> Iterator[Case]:
    """What a loop becomes, under the names of its nodes."""
    for op in ("Carry", "Step", "LoopEnd"):
        yield _case(op, "scan", _scan(), domain="gmnc")
    number = _loop("a = MatMul(h, r) f = Cast<to = 1>(i) s = Mul(a, f) t1 = Add(s, b) n = Tanh(t1)")
    yield _case("Iteration", "factor", number, rows=True, domain="gmnc",
                variants=[number.replace("s = Mul(a, f)", "s = Sub(a, f)")])  # fmt: skip
