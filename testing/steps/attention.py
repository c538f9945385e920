"""Attention with multiple heads, grouped queries, masks, and packed or separate projections."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from ..sketch import Sketch, Tensor
from .normalisation import normalised
from .weights import vector, weight

__all__ = ["STEPS"]


def _projected(sketch: Sketch, x: Tensor, width: int) -> Tensor:
    y = sketch.node("MatMul", x, weight(sketch, (x.shape[-1], width)))
    return sketch.node("Add", y, vector(sketch, (width,))) if sketch.chance(40) else y


def _in_heads(sketch: Sketch, x: Tensor, heads: int) -> Tensor:
    """[1, s, heads * d] to [1, heads, s, d]."""
    split = sketch.node("Reshape", x, sketch.integers([1, x.shape[1], heads, x.shape[2] // heads]))
    return sketch.node("Transpose", split, perm=[0, 2, 1, 3])


def _repeated(sketch: Sketch, x: Tensor, times: int) -> Tensor:
    """Every head repeated, as grouped-query attention needs."""
    b, heads, s, d = x.shape
    wide = sketch.node(
        "Expand", sketch.node("Unsqueeze", x, sketch.integers([2])), sketch.integers([b, heads, times, s, d])
    )
    return sketch.node("Reshape", wide, sketch.integers([b, heads * times, s, d]))


def _operands(sketch: Sketch, x: Tensor, heads: int, groups: int, d: int) -> list[Tensor]:
    """Queries, keys and values, split into heads."""
    if groups == heads and sketch.chance(30):
        packed = _projected(sketch, x, 3 * heads * d)
        parts = sketch.split("Split", 3, packed, sketch.integers([heads * d] * 3), axis=2)
        return [_in_heads(sketch, p, heads) for p in parts]
    memory = sketch.pick(lambda t: t.rank == 3 and t.shape[0] == 1) if sketch.chance(20) else x
    sources = [(x, heads), (memory, groups), (memory, groups)]
    made = [_in_heads(sketch, _projected(sketch, v, n * d), n) for v, n in sources]
    if groups < heads:
        made[1:] = [_repeated(sketch, v, heads // groups) for v in made[1:]]
    return made


def _attention(sketch: Sketch) -> None:
    x = sketch.pick(lambda t: t.rank == 3 and t.shape[0] == 1 and t.shape[1] <= 5)
    heads, d = sketch.integer(1, 3), sketch.integer(1, 3)
    groups = 1 if sketch.chance(20) else heads
    q, k, v = _operands(sketch, x, heads, groups, d)
    if sketch.chance(15) and d > 1:
        q, k = normalised(sketch, q), normalised(sketch, k)
    scores = sketch.node("MatMul", q, sketch.node("Transpose", k, perm=[0, 1, 3, 2]))
    scores = sketch.node("Mul", scores, sketch.literal(1 / math.sqrt(d)))
    if sketch.chance(30) and scores.shape[-1] == scores.shape[-2]:
        mask = np.triu(np.full(scores.shape[-2:], -1e4, np.float32), 1)
        scores = sketch.node("Add", scores, sketch.initializer(mask))
    mixed = sketch.node("MatMul", sketch.node("Softmax", scores, axis=-1), v)
    merged = sketch.node("Transpose", mixed, perm=[0, 2, 1, 3])
    flat = sketch.node("Reshape", merged, sketch.integers([1, merged.shape[1], heads * d]))
    y = _projected(sketch, flat, x.shape[2])
    sketch.put(sketch.node("Add", x, y) if sketch.chance(60) else y)


def _operator(sketch: Sketch) -> None:
    """The Attention operator, which splits the heads itself."""
    x = sketch.pick(lambda t: t.rank == 3 and t.shape[0] == 1 and t.shape[1] <= 5)
    heads, d = sketch.integer(1, 3), sketch.integer(1, 3)
    groups = 1 if sketch.chance(30) else heads
    q, k, v = (_projected(sketch, x, n * d) for n in (heads, groups, groups))
    options = {"is_causal": 1} if sketch.chance(30) else {}
    y = sketch.node("Attention", q, k, v, like=q, q_num_heads=heads, kv_num_heads=groups, **options)
    sketch.put(_projected(sketch, y, x.shape[2]))


def _rotary(sketch: Sketch) -> None:
    """Rotary position embedding on the halves of each head."""
    x = sketch.pick(lambda t: t.rank == 3 and t.shape[0] == 1 and t.shape[2] % 2 == 0)
    heads = sketch.choice([h for h in (1, 2, 3) if x.shape[2] % (2 * h) == 0])
    h = _in_heads(sketch, x, heads)
    s, half = h.shape[2], h.shape[3] // 2
    angles = [_places(sketch, n) for n in (s, half)]
    columns = sketch.node("Reshape", angles[0], sketch.integers([s, 1]), like=Tensor("", (s, 1)))
    table = sketch.node("Mul", columns, sketch.node("Exp", angles[1], like=angles[1]), like=Tensor("", (s, half)))
    wide = sketch.node("Concat", table, table, axis=1)
    first, second = sketch.split("Split", 2, h, sketch.integers([half, half]), axis=3)
    turned = sketch.node("Concat", sketch.node("Neg", second), first, axis=3)
    parts = [sketch.node("Mul", v, sketch.node(op, wide)) for v, op in ((h, "Cos"), (turned, "Sin"))]
    sketch.put(sketch.node("Add", *parts))


def _places(sketch: Sketch, n: int) -> Tensor:
    return sketch.node("Range", *(sketch.literal(float(v)) for v in (0, n, 1)), like=Tensor("", (n,)))


STEPS: Mapping[str, Callable[[Sketch], None]] = {
    "attention": _attention,
    "attention-operator": _operator,
    "rotary": _rotary,
}
