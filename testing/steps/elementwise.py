"""Elementwise operators: activations, parameters broadcast to a value, and combinations of two values."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..sketch import NotApplicable, Sketch, Tensor
from .linear import matmul
from .weights import vector, weight

__all__ = ["STEPS", "broadcasts"]

_UNARY = (
    "Relu", "Tanh", "Sigmoid", "Gelu", "Sin", "Cos", "Elu", "LeakyRelu", "HardSwish", "HardSigmoid", "Softplus", "Erf",
    "Abs", "Neg", "Selu", "Celu", "Mish", "Softsign", "ThresholdedRelu", "Atan", "Sign", "Round", "Identity",
    "Shrink", "Floor",
)  # fmt: skip


def _unary(sketch: Sketch) -> None:
    x = sketch.pick()
    op = sketch.choice(_UNARY)
    # Normalised values are often exactly 1.
    options = {"alpha": 0.37} if op == "ThresholdedRelu" else {}
    sketch.put(sketch.node(op, x, like=x, **options))


def _chain(sketch: Sketch) -> None:
    """An activation written out in several nodes."""
    x = sketch.pick()
    sketch.put(sketch.choice(_CHAINS)(sketch, x))


def _silu(sketch: Sketch, x: Tensor) -> Tensor:
    return sketch.node("Mul", x, sketch.node("Sigmoid", x))


def _gelu(sketch: Sketch, x: Tensor) -> Tensor:
    inner = sketch.node("Erf", sketch.node("Div", x, sketch.literal(2**0.5)))
    return sketch.node(
        "Mul", sketch.node("Mul", x, sketch.node("Add", inner, sketch.literal(1.0))), sketch.literal(0.5)
    )


def _square(sketch: Sketch, x: Tensor) -> Tensor:
    return sketch.choice([lambda: sketch.node("Mul", x, x), lambda: sketch.node("Pow", x, sketch.literal(2.0))])()


def _log(sketch: Sketch, x: Tensor) -> Tensor:
    return sketch.node("Log", sketch.node("Add", sketch.node("Abs", x), sketch.literal(1.0)))


def _difference(sketch: Sketch, x: Tensor) -> Tensor:
    return sketch.node("Sub", x, sketch.node("Relu", x))


def _quotient(sketch: Sketch, x: Tensor) -> Tensor:
    return sketch.node("Div", sketch.literal(1.0), sketch.node("Add", sketch.node("Abs", x), sketch.literal(1.0)))


def _branch(sketch: Sketch, x: Tensor) -> Tensor:
    return sketch.node("Where", sketch.node("Greater", x, sketch.literal(0.1)), x, sketch.literal(0.0))


def _clip(sketch: Sketch, x: Tensor) -> Tensor:
    return sketch.node("Clip", x, sketch.literal(-0.5), sketch.literal(0.75))


def _exponential(sketch: Sketch, x: Tensor) -> Tensor:
    return sketch.node("Exp", sketch.node("Tanh", x))


def _logic(sketch: Sketch, x: Tensor) -> Tensor:
    inside = sketch.node(
        "And", sketch.node("Greater", x, sketch.literal(-0.4)), sketch.node("Less", x, sketch.literal(0.6))
    )
    return sketch.node("Where", inside if sketch.chance(50) else sketch.node("Not", inside), x, sketch.literal(0.25))


_CHAINS = (_silu, _gelu, _square, _log, _difference, _quotient, _branch, _clip, _exponential, _logic)


def _part(sketch: Sketch, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that broadcasts to this one: some axes of size 1, leading ones possibly omitted."""
    part = tuple(n if sketch.chance(50) else 1 for n in shape)
    while part and part[0] == 1 and sketch.chance(70):
        part = part[1:]
    return part


def _attach(sketch: Sketch) -> None:
    """A parameter of any broadcast shape, as either operand."""
    x = sketch.pick()
    op = sketch.choice(["Add", "Mul", "Sub", "Div", "Max", "Min", "PRelu", "Where"])
    part = _part(sketch, x.shape)
    if op == "Where":
        mask = sketch.node("Greater", x, sketch.literal(0.0))
        operands = [x, weight(sketch, part, 1)]
        sketch.put(sketch.node("Where", mask, *(operands if sketch.chance(50) else operands[::-1])))
        return
    w = vector(sketch, part, positive=op == "Div")
    turned = op not in ("PRelu", "Div") and sketch.chance(30)
    sketch.put(sketch.node(op, w, x) if turned else sketch.node(op, x, w))


def _table(sketch: Sketch) -> None:
    """A constant that varies along an axis: sinusoidal positions or a mask."""
    x = sketch.pick(lambda t: t.rank >= 1)
    axis = sketch.axis(x)
    n = x.shape[axis]
    places = sketch.node("Range", *(sketch.literal(float(v)) for v in (0, n, 1)), like=Tensor("", (n,)))
    op = sketch.choice(["Sin", "Greater", "Identity"])
    if op == "Greater":
        table = sketch.node("Cast", sketch.node("Greater", places, sketch.literal(n / 2 - 0.6)), to=1)
    else:
        table = sketch.node(op, sketch.node("Mul", places, sketch.literal(0.7)))
    shape = [n, *[1] * (x.rank - 1 - axis)]
    table = sketch.node("Reshape", table, sketch.integers(shape), like=Tensor("", tuple(shape)))
    sketch.put(sketch.node(sketch.choice(["Add", "Mul"]), x, table))


def broadcasts(a: Tensor, b: Tensor) -> bool:
    """Whether the shapes broadcast."""
    return all(1 in (m, n) or m == n for m, n in zip(a.shape[::-1], b.shape[::-1], strict=False))


def _meet(sketch: Sketch) -> None:
    """Two values of the pool whose shapes broadcast."""
    x = sketch.pick()
    y = sketch.pick(lambda t: t != x and broadcasts(x, t))
    op = sketch.choice(["Add", "Mul", "Sub", "Max", "Min", "Where", "Sum", "Mean", "Pow"])
    if op == "Where":
        sketch.put(sketch.node("Where", sketch.node("Greater", x, y), x, y))
    elif op == "Pow":
        base = sketch.node("Add", sketch.node("Sigmoid", x), sketch.literal(0.5))
        sketch.put(sketch.node("Pow", base, sketch.node("Tanh", y)))
    elif op in ("Sum", "Mean"):
        third = [t for t in sketch.pool if broadcasts(x, t) and broadcasts(y, t)]
        sketch.put(sketch.node(op, x, y, sketch.choice(third)))
    else:
        sketch.put(sketch.node(op, x, y))


def _residual(sketch: Sketch) -> None:
    """A residual connection: x plus a branch of its shape."""
    x = sketch.pick(lambda t: t.rank >= 2)
    branch = matmul(sketch, sketch.node("Relu", x), x.shape[-1])
    sketch.put(sketch.node("Add", *([x, branch] if sketch.chance(50) else [branch, x])))


def _gate(sketch: Sketch) -> None:
    """A gate computed from x: per entry, or with fewer axes (squeeze-and-excitation)."""
    x = sketch.pick(lambda t: t.rank >= 2)
    if sketch.chance(50):
        sketch.put(sketch.node("Mul", x, sketch.node("Sigmoid", matmul(sketch, x, x.shape[-1]))))
        return
    if x.rank < 3:
        raise NotApplicable
    pooled = sketch.node("ReduceMean", x, sketch.integers([*range(2, x.rank)]), keepdims=0)
    gate = sketch.node("Sigmoid", matmul(sketch, pooled, x.shape[1]))
    wide = [*range(2, x.rank)]
    sketch.put(sketch.node("Mul", x, sketch.node("Unsqueeze", gate, sketch.integers(wide))))


def _mixture(sketch: Sketch) -> None:
    """Branches of x, perhaps gated, that an associative operator combines in any tree; constants inside."""
    x, op = sketch.pick(lambda t: t.rank >= 2), sketch.choice(["Add", "Add", "Sum", "Mul", "Max", "Min", "Sub"])
    width, gated = sketch.size(4), sketch.chance(40)
    waiting = []
    for _ in range(sketch.integer(3, 4)):
        branch = matmul(sketch, sketch.node("Tanh", matmul(sketch, x, 3)), width)
        gate = sketch.node("Sigmoid", matmul(sketch, x, sketch.choice([1, width]))) if gated else None
        waiting.append(branch if gate is None else sketch.node("Mul", branch, gate))
    while len(waiting) > 1:
        a, b = (waiting.pop(sketch.integer(0, len(waiting) - 1)) for _ in range(2))
        made = sketch.node(op, a, b)
        if sketch.chance(20):
            k = vector(sketch, (width,)) if sketch.chance(50) else sketch.literal(0.5)
            made = sketch.node(op, *((made, k) if sketch.chance(50) else (k, made)))
        waiting.append(made)
    sketch.put(waiting[0])


STEPS: Mapping[str, Callable[[Sketch], None]] = {
    "unary": _unary,
    "chain": _chain,
    "attach": _attach,
    "table": _table,
    "meet": _meet,
    "residual": _residual,
    "gate": _gate,
    "mixture": _mixture,
}
