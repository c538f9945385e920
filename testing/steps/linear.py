"""MatMul, Gemm and Einsum, with weights on either side, and products of two values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from ..sketch import NotApplicable, Sketch, Tensor
from .weights import vector, weight

__all__ = ["STEPS", "matmul"]


def matmul(sketch: Sketch, x: Tensor, width: int | None = None) -> Tensor:
    """Multiply x by a weight over its last axis, perhaps with a bias."""
    y = sketch.node("MatMul", x, weight(sketch, (x.shape[-1], width or sketch.size())))
    return sketch.node("Add", y, vector(sketch, y.shape[-1:])) if sketch.chance(50) else y


def _right(sketch: Sketch) -> None:
    sketch.put(matmul(sketch, sketch.pick(lambda t: t.rank >= 2)))


def _left(sketch: Sketch) -> None:
    x = sketch.pick(lambda t: t.rank >= 2)
    w = weight(sketch, (sketch.size(), x.shape[-2]), x.shape[-2])
    sketch.put(sketch.node("MatMul", w, x))


def _batched(sketch: Sketch) -> None:
    """A batched MatMul: a separate weight per entry of some batch axes."""
    x = sketch.pick(lambda t: t.rank >= 3)
    lead = sketch.integer(1, x.rank - 2)
    batch = [n if sketch.chance(70) else 1 for n in x.shape[x.rank - 2 - lead : -2]]
    if sketch.chance(70):
        w = weight(sketch, (*batch, x.shape[-1], sketch.size(4)), x.shape[-1])
        sketch.put(sketch.node("MatMul", x, w))
    else:
        w = weight(sketch, (*batch, sketch.size(4), x.shape[-2]), x.shape[-2])
        sketch.put(sketch.node("MatMul", w, x))


def _by_vector(sketch: Sketch) -> None:
    x = sketch.pick(lambda t: t.rank >= 2)
    if sketch.chance(50):
        sketch.put(sketch.node("MatMul", x, weight(sketch, (x.shape[-1],))))
    else:
        sketch.put(sketch.node("MatMul", weight(sketch, (x.shape[-2],)), x))


def _gemm(sketch: Sketch) -> None:
    x = sketch.pick(lambda t: t.rank >= 2)
    if x.rank > 2:
        x = sketch.node("Reshape", x, sketch.integers([-1, x.shape[-1]]))
    turned, on_left, n = sketch.chance(40), sketch.chance(20), sketch.size()
    options: dict[str, Any] = {"alpha": 0.5} if sketch.chance(20) else {}
    if on_left:
        w = weight(sketch, (x.shape[0], n) if turned else (n, x.shape[0]), x.shape[0])
        operands, shape, side = (w, x), (n, x.shape[1]), "transA"
    else:
        w = weight(sketch, (n, x.shape[1]) if turned else (x.shape[1], n), x.shape[1])
        operands, shape, side = (x, w), (x.shape[0], n), "transB"
    form = sketch.choice([None, shape[1:], (1, shape[1]), (shape[0], 1), shape, (1,), ()])
    bias = () if form is None else (vector(sketch, form),)
    if bias and sketch.chance(20):
        options["beta"] = 2.0
    if turned:
        options[side] = 1
    sketch.put(sketch.node("Gemm", *operands, *bias, **options))


def _einsum(sketch: Sketch) -> None:
    """Any einsum with a weight: axes contracted, kept as batch axes, or new, in any order."""
    x = sketch.pick(lambda t: t.rank >= 1)
    letters = "abcdefgh"[: x.rank]
    summed = [letters[a] for a in sketch.some_axes(x)]
    batch = [t for t in letters if t not in summed and sketch.chance(20)]
    new = "yz"[: sketch.integer(0 if len(summed) < x.rank else 1, 2)]
    sizes = {**dict(zip(letters, x.shape, strict=True)), **{t: sketch.size(4) for t in new}}
    w_letters = _shuffled(sketch, [*summed, *batch, *new])
    out = _shuffled(sketch, [*(t for t in letters if t not in summed), *new])
    fan = math.prod(sizes[t] for t in summed)
    w = weight(sketch, [sizes[t] for t in w_letters], fan)
    sketch.put(sketch.node("Einsum", x, w, equation=f"{letters},{w_letters}->{out}"))


def _shuffled(sketch: Sketch, letters: list[str]) -> str:
    rest, out = list(letters), ""
    while rest:
        out += rest.pop(sketch.integer(0, len(rest) - 1) if sketch.chance(50) else 0)
    return out


def _product(sketch: Sketch) -> None:
    """MatMul of two values, the second transposed if necessary."""
    x = sketch.pick(lambda t: t.rank >= 2)
    y = sketch.pick(lambda t: t.rank >= 2 and x.shape[-1] in t.shape[-2:])
    if y.shape[-2] != x.shape[-1] or (y.shape[-1] == x.shape[-1] and sketch.chance(50)):
        y = sketch.node("Transpose", y, perm=[*range(y.rank - 2), y.rank - 1, y.rank - 2])
    made = sketch.node("MatMul", x, y)
    sketch.put(sketch.node("Mul", made, sketch.literal(1 / math.sqrt(x.shape[-1]))))


def _einsum_product(sketch: Sketch) -> None:
    """An einsum of two values (and perhaps a weight), in which axes of equal size may share a letter."""
    x, y = sketch.pick(lambda t: t.rank >= 1), sketch.pick(lambda t: t.rank >= 1)
    left, right = "abcde"[: x.rank], ""
    for n in y.shape:
        same = [t for t, m in zip(left, x.shape, strict=True) if m == n and t not in right]
        right += sketch.choice(same) if same and sketch.chance(80) else "uvwxy"[len(right)]
    sizes = dict(zip(left + right, x.shape + y.shape, strict=True))
    common = [t for t in left if t in right and sizes[t] > 1]
    summed = [t for t in common if sketch.chance(50)]
    if not common:
        raise NotApplicable
    out = _shuffled(sketch, [t for t in dict.fromkeys(left + right) if t not in summed])
    operands, terms = [x, y], [left, right]
    if sketch.chance(20) and summed:
        operands.append(weight(sketch, [sizes[t] for t in summed]))
        terms.append("".join(summed))
    sketch.put(sketch.node("Einsum", *operands, equation=f"{','.join(terms)}->{out}"))


def _module_twice(sketch: Sketch) -> None:
    """One layer applied to two values."""
    x = sketch.pick(lambda t: t.rank >= 2)
    y = sketch.pick(lambda t: t.rank >= 2 and t.shape[-1] == x.shape[-1])
    w = weight(sketch, (x.shape[-1], sketch.size()))
    b = vector(sketch, w.shape[-1:])
    for value in (x, y):
        sketch.put(sketch.node("Relu", sketch.node("Add", sketch.node("MatMul", value, w), b)))


STEPS: Mapping[str, Callable[[Sketch], None]] = {
    "matmul": _right,
    "matmul-left": _left,
    "matmul-batched": _batched,
    "matmul-vector": _by_vector,
    "gemm": _gemm,
    "einsum": _einsum,
    "product": _product,
    "einsum-product": _einsum_product,
    "module-twice": _module_twice,
}
