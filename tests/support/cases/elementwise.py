"""Cases of the elementwise operators: one, two and three operands in every role."""

from __future__ import annotations

from collections.abc import Iterator

from support.cases.case import Case, boxes, image, rows, varied

__all__ = ["UNARY", "elementwise_cases", "unary_body"]

# operator -> how its operand t is made from h, and other attributes that change the function
_REAL, _UNIT, _POSITIVE, _ABOVE_ONE = "t = Identity(h)", "t = Tanh(h)", "t = Exp(h)", "e = Exp(h)\n t = Add(e, one)"
_ONE = "one = Constant<value_float = 1.0>()"
UNARY: dict[str, tuple[str, tuple[str, ...]]] = {
    **dict.fromkeys(
        ("Abs", "Neg", "Relu", "Sigmoid", "Tanh", "Sin", "Cos", "Tan", "Sinh", "Cosh", "Atan", "Asinh", "Erf", "Exp",
         "Ceil", "Floor", "Round", "Sign", "Softplus", "Softsign", "HardSwish", "Mish"), (_REAL, ())),
    **dict.fromkeys(("Acos", "Asin", "Atanh"), (_UNIT, ())),
    **dict.fromkeys(("Sqrt", "Log", "Reciprocal"), (_POSITIVE, ())),
    "Acosh": (_ABOVE_ONE, ()),
    "Celu": (_REAL, ("alpha = 2.0",)),
    "Elu": (_REAL, ("alpha = 0.5",)),
    "Gelu": (_REAL, ('approximate = "tanh"',)),
    "HardSigmoid": (_REAL, ("alpha = 0.3", "beta = 0.4")),
    "LeakyRelu": (_REAL, ("alpha = 0.2",)),
    "Selu": (_REAL, ("alpha = 1.5", "gamma = 1.2")),
    "Shrink": (_REAL, ("lambd = 0.3", "bias = 0.2")),
    "ThresholdedRelu": (_REAL, ("alpha = 2.5",)),
    "Swish": (_REAL, ("alpha = 0.7",)),
}  # fmt: skip
_OPSET = {"Swish": 24}

_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "Pow", "Mod")
_ORDERED = {"Sub", "Div", "Pow", "Mod"}
_COMPARED = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")


def unary_body(op: str, attributes: str = "") -> str:
    """h -> o by a unary operator; only t is made from h, and o from t."""
    made = UNARY[op][0]
    constant = _ONE if "one" in made else ""
    return f"{constant}\n{made}\n o = {op}{f'<{attributes}>' if attributes else ''}(t)"


def elementwise_cases() -> Iterator[Case]:
    """Every elementwise operator."""
    for op, (_, attributes) in UNARY.items():
        variants = [unary_body(op, a) for a in attributes]
        opset = _OPSET.get(op, 20)
        yield rows(op, "features", unary_body(op), opset=opset, variants=variants)
    yield image("Relu", "channels", "o = Relu(h)", variants=["o = Tanh(h)", "o = Identity(h)"])
    yield boxes("LeakyRelu", "heads", "o = LeakyRelu(h)", variants=["o = LeakyRelu<alpha = 0.3>(h)"])
    yield rows("Relu", "named-functions", "s = Sigmoid(h)\n m = Mul(h, s)\n o = Relu(m)", variants=["o = Relu(h)"])
    for op in _ARITHMETIC:
        yield from _arithmetic(op)
    yield rows("Sum", "bias", "o = Sum(h, b)", floats={"b": (6,)})
    yield from _comparisons()
    yield from _integers()
    yield from _three_operands()


def _call(op: str, a: str, b: str) -> str:
    return f"{op}<fmod = 1>({a}, {b})" if op == "Mod" else f"{op}({a}, {b})"


def _arithmetic(op: str) -> Iterator[Case]:
    """Two operands in every role. Powers have a positive base: |.| + 0.5."""
    ordered = op in _ORDERED

    def case(name: str, made: str, a: str, b: str, make=rows, **options: object) -> Case:
        lines = [made]
        names = []
        for place, operand in enumerate((a, b)):
            if op == "Pow" and place == 0 and not operand.startswith("k"):
                lines.append(f"half = Constant<value_float = 0.5>()\n ab = Abs({operand})\n base = Add(ab, half)")
                operand = "base"
            names.append(operand)
        body = "\n".join([*lines, f"o = {_call(op, *names)}"])
        swapped = "\n".join([*lines, f"o = {_call(op, names[1], names[0])}"])
        options.setdefault("variants", [swapped] if ordered and op != "Pow" else [])
        return make(op, name, body, **options)

    yield case("activations", "", "h", "g")
    yield case("own-function", "s = Sigmoid(h)", "h", "s")
    yield case("vector", "", "h", "posv", floats={"posv": (6,)})
    yield case("vector-left", "", "posv", "h", floats={"posv": (6,)})
    yield case("matrix", "", "h", "posm", floats={"posm": (3, 6)})
    yield case("per-position", "", "h", "posc", floats={"posc": (3, 1)})
    yield case("learned-scalar", "", "h", "poss", floats={"poss": (1,)})
    yield case("literal", "k = Constant<value_float = 1.5>()", "h", "k")
    yield case("literal-left", "k = Constant<value_float = 1.5>()", "k", "h")
    yield case("over-positions", "m = ReduceMean<keepdims = 1>(g, axis)", "h", "m", ints={"axis": [1]})
    yield case("over-neurons", "m = MatMul(x, w1)", "h", "m", floats={"w1": (4, 1)})
    yield case("over-neurons-left", "m = MatMul(x, w1)", "m", "h", floats={"w1": (4, 1)})
    yield case("shared-by-heads", "", "h", "posd", boxes, floats={"posd": (3,)})
    yield case("per-head", "", "h", "posh", boxes, floats={"posh": (2, 1)})
    yield case("heads", "", "h", "g", boxes)
    yield case("channels", "", "h", "posk", image, floats={"posk": (4, 1, 1)})
    yield case("pixels", "", "h", "posp", image, floats={"posp": (4, 6, 6)})
    yield case("pixels-of-all", "", "h", "posp", image, floats={"posp": (6, 6)})
    if op in ("Max", "Min", "Sum", "Mean"):
        yield rows(op, "three", f"t = Tanh(h)\n o = {op}(h, g, t)", variants=[f"t = Tanh(h)\n o = {op}(h, t)"])
        yield rows(op, "one", f"o = {op}(h)")
        yield rows(op, "two-and-vector", f"o = {op}(h, g, v)", floats={"v": (6,)})
    if op in ("Add", "Sub", "Mul", "Div"):
        yield from varied(case("opset7", "", "h", "posv", floats={"posv": (6,)}), (7, 13))


def _comparisons() -> Iterator[Case]:
    cast = "o = Cast<to = 1>(c)"
    for op in (*_COMPARED, "Equal"):
        opset = 20
        floor = "a = Floor(h)\n b = Floor(g)" if op == "Equal" else "a = Identity(h)\n b = Identity(g)"
        variants = [] if op == "Equal" else [f"{floor}\n c = {op}(b, a)\n {cast}"]
        yield rows(op, "activations", f"{floor}\n c = {op}(a, b)\n {cast}", opset=opset, variants=variants)
        yield rows(
            op, "literal", f"k = Constant<value_float = 0.0>()\n a = Ceil(h)\n c = {op}(a, k)\n {cast}", opset=opset,
            variants=[f"k = Constant<value_float = -1.0>()\n a = Ceil(h)\n c = {op}(a, k)\n {cast}"],
        )  # fmt: skip
        if op != "Equal":
            yield rows(op, "vector", f"c = {op}(h, v)\n {cast}", opset=opset, floats={"v": (6,)},
                       variants=[f"c = {op}(v, h)\n {cast}"])  # fmt: skip
    both = "z = Constant<value_float = 0.0>()\n a = Greater(h, z)\n b = Less(g, z)"
    for op in ("And", "Or", "Xor"):
        others = [f"{both}\n c = {o}(a, b)\n {cast}" for o in ("And", "Or", "Xor") if o != op]
        yield rows(op, "activations", f"{both}\n c = {op}(a, b)\n {cast}", variants=others)
    yield rows("Not", "predicate", f"{both}\n c = Not(a)\n {cast}", variants=[f"{both}\n c = Identity(a)\n {cast}"])
    yield rows("IsNaN", "of-log", f"l = Log(h)\n c = IsNaN(l)\n {cast}")
    infinite = "r = Relu(h)\n l = Log(r)\n n = Neg(l)"
    yield rows(
        "IsInf", "of-log", f"{infinite}\n c = IsInf(l)\n {cast}",
        variants=[f"{infinite}\n c = IsInf<detect_negative = 0>(l)\n {cast}"],
    )  # fmt: skip


def _integers() -> Iterator[Case]:
    """Integers made by rounding activations."""
    made = "hh = Abs(h)\n gg = Abs(g)\n k = Constant<value_float = 5.0>()\n hk = Mul(hh, k)\n gk = Mul(gg, k)"
    made += "\n a = Cast<to = {0}>(hk)\n b = Cast<to = {0}>(gk)"
    back = "o = Cast<to = 1>(c)"
    signed, unsigned = made.format(6), made.format(12)
    for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
        others = [f"{signed}\n c = {o}(a, b)\n {back}" for o in ("BitwiseAnd", "BitwiseOr", "BitwiseXor") if o != op]
        yield rows(op, "activations", f"{signed}\n c = {op}(a, b)\n {back}", variants=others)
        yield rows(op, "literal", f"{signed}\n three = Constant<value = int32 {{3}}>()\n c = {op}(a, three)\n {back}")
    yield rows("BitwiseNot", "activation", f"{signed}\n c = BitwiseNot(a)\n {back}")
    shift = f'{unsigned}\n c = BitShift<direction = "LEFT">(a, b)\n {back}'
    yield rows(
        "BitShift", "activations", shift, variants=[shift.replace("LEFT", "RIGHT"), shift.replace("a, b", "b, a")]
    )
    yield rows(
        "Mod",
        "integers",
        f"{signed}\n one = Constant<value = int32 {{1}}>()\n d = Add(b, one)\n c = Mod(a, d)\n {back}",
    )


def _three_operands() -> Iterator[Case]:
    zero = "z = Constant<value_float = 0.0>()\n c = Greater(g, z)"
    yield rows("Where", "three", f"t = MatMul(x, wt)\n {zero}\n o = Where(c, h, t)", floats={"wt": (4, 6)},
               variants=[f"t = MatMul(x, wt)\n {zero}\n o = Where(c, t, h)"])  # fmt: skip
    yield rows("Where", "own-sign", "c = Greater(h, z0)\n z = Mul(h, k)\n o = Where(c, h, z)",
               floats={"z0": (6,), "k": (6,)})  # fmt: skip
    yield rows("Where", "vector", f"{zero}\n o = Where(c, h, v)", floats={"v": (6,)},
               variants=[f"{zero}\n o = Where(c, v, h)"])  # fmt: skip
    yield rows("Where", "literal", f"{zero}\n o = Where(c, h, z)", variants=[f"{zero}\n o = Where(c, z, h)"])
    yield rows("Where", "parameters", f"{zero}\n o = Where(c, u, v)", floats={"u": (6,), "v": (6,)},
               variants=[f"{zero}\n o = Where(c, v, u)"])  # fmt: skip
    yield rows("PRelu", "vector", "o = PRelu(h, v)", floats={"v": (6,)}, variants=["o = Identity(h)"])
    yield rows("PRelu", "scalar", "o = PRelu(h, s)", floats={"s": (1,)})
    yield rows("PRelu", "activations", "o = PRelu(h, g)", variants=["o = PRelu(g, h)"])
    yield image("PRelu", "channels", "o = PRelu(h, k)", floats={"k": (4, 1, 1)})
    yield boxes("PRelu", "heads", "o = PRelu(h, d)", floats={"d": (3,)})
    bounds = "l = Constant<value_float = -0.5>()\n u = Constant<value_float = 0.7>()"
    yield rows("Clip", "literals", f"{bounds}\n o = Clip(h, l, u)",
               variants=[f"{bounds}\n o = Clip(h, l)", f"{bounds}\n o = Clip(h, , u)"])  # fmt: skip
    yield rows(
        "Clip", "attributes", "o = Clip<min = -0.5, max = 0.7>(h)", opset=9, variants=["o = Clip<min = -0.5>(h)"]
    )
    yield rows("Clip", "none", "o = Clip(h)", alike=["o = Identity(h)"])
    yield rows("Clip", "relu", "z = Constant<value_float = 0.0>()\n o = Clip(h, z)", alike=["o = Relu(h)"])
