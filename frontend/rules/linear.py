"""MatMul, Gemm and Einsum: a contraction with a weight, or a product-sum of two activations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..context import LoweringContext
from ..errors import Unsupported
from ..primitives.contraction import Spec
from ..primitives.values import Op, Value
from .registry import rule

__all__ = ["bilinear"]


@rule("MatMul", weights=(0, 1))
def matmul(ctx: LoweringContext, op: Op) -> Value:
    """Matrix product over the last two axes, batch axes broadcast (MatMul since 1)."""
    x, y = op.input(0), op.input(1)
    rank = max(x.rank, y.rank, 2)
    batch = "abcdefgh"[: rank - 2]
    left = _tail(batch + "m", x.rank - 1) + "k"
    right = "k" if y.rank == 1 else _tail(batch, y.rank - 2) + "kn"
    out = batch[len(batch) - max(x.rank - 2, y.rank - 2, 0) :] + "m" * (x.rank > 1) + "n" * (y.rank > 1)
    return bilinear(ctx, x, y, (left, right, out), op.shape())


def _tail(letters: str, count: int) -> str:
    return letters[len(letters) - count :] if count > 0 else ""


def bilinear(
    ctx: LoweringContext, x: Value, y: Value, letters: tuple[str, str, str], shape: tuple[int, ...] | None = None
) -> Value:
    """Einsum of two operands of any kind.

    Args:
        ctx: The context.
        x: The left operand.
        y: The right operand.
        letters: The axes of left, right and result, as letters.
        shape: The shape of the result, by default that of the operands; smaller if a weight has a copy per entry.

    Returns:
        The result.
    """
    left, right, out = letters
    shape = _shape((x, y), (left, right), out) if shape is None else shape
    if not x.is_activation and not y.is_activation:
        x, y = (x, ctx.as_activation(y)) if y.data is not None else (ctx.as_activation(x), y)
    if x.is_activation and y.is_activation:
        return ctx.product_sum(x, y, letters, shape)
    if x.is_activation:
        return _contract(ctx, x, y, left, right, out, shape)
    return _contract(ctx, y, x, right, left, out, shape)


def _shape(values: Sequence[Value], terms: Sequence[str], out: str) -> tuple[int, ...]:
    """The sizes of the letters of `out`; axes of size 1 are broadcast."""
    sizes: dict[str, int] = {}
    for value, term in zip(values, terms, strict=True):
        for letter, size in zip(term, value.shape, strict=True):
            sizes[letter] = size if sizes.get(letter, 1) == 1 else sizes[letter]
    return tuple(sizes[t] for t in out)


def _contract(
    ctx: LoweringContext, x: Value, w: Value, x_letters: str, w_letters: str, out: str, shape: tuple[int, ...]
) -> Value:
    """Contract with a weight, which is shared over its batch axes of size 1."""
    elements = ctx.weight(w)
    kept = [i for i, t in enumerate(w_letters) if not (t in x_letters and t in out and elements.shape[i] == 1)]
    sizes = [elements.shape[i] for i in kept]
    elements = elements.reshape(*sizes)
    w_letters = "".join(w_letters[i] for i in kept)
    return ctx.contract(x, elements, Spec(x_letters, w_letters, out), shape)


@rule("Gemm", weights=(0, 1, 2))
def gemm(ctx: LoweringContext, op: Op) -> Value:
    """Affine map alpha * A' B' + beta * C (Gemm since 1)."""
    a, b, c = op.input(0), op.input(1), op.optional(2)
    left = "km" if op.attr("transA", 0) else "mk"
    right = "nk" if op.attr("transB", 0) else "kn"
    y = bilinear(ctx, a, b, (left, right, "mn"), op.shape())
    alpha, beta = float(op.attr("alpha", 1.0)), float(op.attr("beta", 1.0))
    if alpha != 1:
        y = ctx.unary(y, "Scale", {"factor": alpha}, lambda v: alpha * v)
    if c is None or beta == 0:
        return y
    if beta != 1 and c.is_activation:
        c = ctx.unary(c, "Scale", {"factor": beta}, lambda v: beta * v)
    return ctx.elementwise("Add", y, c, **({} if beta == 1 or c.is_activation else {"beta": beta}))


@rule("Einsum", weights=None)
def einsum(ctx: LoweringContext, op: Op) -> Value:
    """Einstein summation of one or two operands, explicit or implicit output (Einsum since 12)."""
    inputs = [v for v in op.inputs if v is not None]
    terms, out = _equation(str(op.attr("equation")), [v.rank for v in inputs])
    if (
        len(set(out)) < len(out)
        or not set(out) <= set("".join(terms))
        or any(len(t) != v.rank for t, v in zip(terms, inputs, strict=True))
    ):
        raise Unsupported(f"its equation {op.attr('equation')!r} does not fit its operands", "export the model again")
    inputs = [_diagonal(ctx, v, t) for v, t in zip(inputs, terms, strict=True)]
    terms = ["".join(dict.fromkeys(t)) for t in terms]
    if len(inputs) == 1:
        return _single(ctx, op, ctx.as_activation(inputs[0]), terms[0], out)
    while len(inputs) > 2:
        inputs, terms = _first_two(ctx, op, inputs, terms, out)
    inputs = [_sum_alone(ctx, v, t, terms[1 - i] + out) for i, (v, t) in enumerate(zip(inputs, terms, strict=True))]
    terms = ["".join(t for t in term if t in terms[1 - i] + out) for i, term in enumerate(terms)]
    return bilinear(ctx, inputs[0], inputs[1], (terms[0], terms[1], out), op.shape())


def _equation(equation: str, ranks: list[int]) -> tuple[list[str], str]:
    """The operand terms and the output term, with "..." replaced by capitals that the equation does not use."""
    equation = equation.replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    spare = [t for t in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if t not in equation]
    width = max((r - len(t.replace("...", "")) for t, r in zip(terms, ranks, strict=True) if "..." in t), default=0)
    dots = "".join(spare[:width])
    filled = []
    for term, rank in zip(terms, ranks, strict=True):
        own = rank - len(term.replace("...", ""))
        filled.append(term.replace("...", dots[width - own :] if own else ""))
    if arrow:
        return filled, right.replace("...", dots)
    every = "".join(filled)
    return filled, dots + "".join(sorted(t for t in set(every) - set(dots) if every.count(t) == 1))


def _diagonal(ctx: LoweringContext, x: Value, term: str) -> Value:
    """Merge axes with the same letter; this pins their neurons."""
    repeated = [i for i, t in enumerate(term) if term.count(t) > 1]
    if not repeated:
        return x
    if not x.is_activation:
        raise Unsupported("a repeated letter in the term of a weight (a diagonal)")
    letters = "".join(dict.fromkeys(term))
    shape = tuple(x.shape[term.index(t)] for t in letters)
    ordered = ctx.order(x, repeated, "Diagonal", {"axes": tuple(i - x.rank for i in repeated)}, x.shape)
    return x.relabelled(ctx.moved(ordered, lambda a: np.einsum(f"{term}->{letters}", a), shape), shape)


def _single(ctx: LoweringContext, op: Op, x: Value, term: str, out: str) -> Value:
    gone = [i for i, t in enumerate(term) if t not in out]
    if gone:
        x = ctx.reduce(x, gone, "ReduceSum", {})
    order = [term.index(t) for t in out] + gone
    return x.relabelled(ctx.moved(x, lambda a: a.transpose(order).reshape(op.shape()), op.shape()), op.shape())


def _sum_alone(ctx: LoweringContext, x: Value, term: str, others: str) -> Value:
    """Sum out the letters that only this operand has."""
    gone = [i for i, t in enumerate(term) if t not in others]
    if not gone or not x.is_activation:
        if gone:
            raise Unsupported("a weight is summed over a letter that only it has")
        return x
    kept = tuple(n for i, n in enumerate(x.shape) if i not in gone)
    return ctx.reshaped(ctx.reduce(x, gone, "ReduceSum", {}), kept)


def _first_two(
    ctx: LoweringContext, op: Op, inputs: list[Value], terms: list[str], out: str
) -> tuple[list[Value], list[str]]:
    """Contract the first two of several operands, keeping all letters that are still needed."""
    needed = out + "".join(terms[2:])
    term = "".join(t for t in dict.fromkeys(terms[0] + terms[1]) if t in needed)
    x, y = inputs[0], inputs[1]
    if not (x.is_activation or y.is_activation):
        x = ctx.as_activation(x)
    made = bilinear(ctx, x, y, (terms[0], terms[1], term))
    return [made, *inputs[2:]], [term, *terms[2:]]
