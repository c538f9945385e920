"""Control flow: branches, loops and scans, their captures and what they carry."""

from __future__ import annotations

from collections.abc import Iterator

from support.cases.case import Case

__all__ = ["control_cases"]

_WEIGHTS = {"wa": (3, 4), "wt": (4, 5), "we": (4, 5), "b": (5,), "wo": (5, 2)}


def control_cases() -> Iterator[Case]:
    yield from _branches()


def _if(then: str, other: str, condition: str = "c") -> str:
    return f"""{condition}
        o = If(c) <then_branch = t () => (float[2, 5] ot) {{ {then} }},
                   else_branch = e () => (float[2, 5] oe) {{ {other} }}>"""


def _net(body: str, inputs: str = "") -> str:
    return f"(float[2, 3] x{inputs}) => (float[2, 2] y) {{ a0 = MatMul(x, wa) a = Relu(a0) {body} y = MatMul(o, wo) }}"


def _case(name: str, body: str, unused: str = "", inputs: str = "", **options: object) -> Case:
    kept = {n: s for n, s in _WEIGHTS.items() if n not in unused.split()}
    many = {k: tuple(_net(t, inputs) for t in options.pop(k, ())) for k in ("variants", "alike")}  # type: ignore[attr-defined]
    return Case("If", name, _net(body, inputs), kept, **many, **options)  # type: ignore[arg-type]


def _branches() -> Iterator[Case]:
    then, other = "ot = MatMul(a, wt)", "u = MatMul(a, we) oe = Add(u, b)"
    flag = ", bool c"
    yield _case(
        "input", _if(then, other, ""), inputs=flag, variants=[
            _if("u = MatMul(a, wt) ot = Tanh(u)", other, ""),
            _if("u = MatMul(a, we) ot = Add(u, b)", "oe = MatMul(a, wt)", ""),
            _if(then, other, "d = Not(c)").replace("If(c)", "If(d)"),
        ],
    )  # fmt: skip
    decided = "s = ReduceSum<keepdims = 0>(a0) z = Constant<value_float = 0.0>() c = Greater(s, z)"
    yield _case("activation", _if(then, other, decided), variants=[
        _if(then, other, decided.replace("Greater", "Less")), _if(then, other, decided.replace("a0", "a")),
    ])  # fmt: skip
    true = "c = Constant<value = bool {1}>()"
    plain = "u = MatMul(a, we) o = Add(u, b)"
    false = true.replace("1", "0")
    yield _case(
        "known",
        _if(then, other, false),
        alike=[plain, _if("u = MatMul(a, we) ot = Add(u, b)", then.replace("ot", "oe"), true)],
    )
    shape = "s = Shape(a) i = Constant<value_int = 1>() n = Gather(s, i) k = Constant<value_int = 4>() c = Equal(n, k)"
    yield _case("shape", _if(other.replace("oe", "ot"), then.replace("ot", "oe"), shape), alike=[plain])
    yield _case(
        "neuron pass",
        _if("h = MatMul(a, wt) ot = Relu(h)", "h = MatMul(a, wt) oe = Identity(h)", ""),
        "we b",
        inputs=flag,
    )
    inner = """ot = If(d) <then_branch = tt () => (float[2, 5] p) { p = Tanh(h) },
                           else_branch = te () => (float[2, 5] q) { q = Add(h, b) }>"""
    nested = f"h = MatMul(a, wt) {inner}"
    swapped = nested.replace("If(d)", "If(n)").replace("ot =", "n = Not(d) ot =")
    yield _case(
        "nested",
        _if(nested, "h = MatMul(a, we) oe = Sin(h)", ""),
        inputs=", bool c, bool d",
        variants=[_if(swapped, "h = MatMul(a, we) oe = Sin(h)", "")],
    )
    yield _case(
        "weights of branches",
        "w = If(c) <then_branch = t () => (float[4, 5] ot) { ot = Identity(wt) }, "
        "else_branch = e () => (float[4, 5] oe) { oe = Identity(we) }> o = MatMul(a, w)",
        "b",
        flag,
        symmetric=False,
    )
    yield Case(
        "Choice",
        "shapes",
        """(float[2, 3] x, bool c) => (float[N, M] y) {
            y = If(c) <then_branch = t () => (float[2, 4] o) { o = MatMul(x, w4) },
                       else_branch = e () => (float[2, 5] p) { p = MatMul(x, w5) }>
        }""",
        {"w4": (3, 4), "w5": (3, 5)},
        domain="gmnc",
        opaque="different shapes",
        symmetric=False,
    )
