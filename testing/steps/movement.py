"""Data movement, along axes of neurons and of positions alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from ..sketch import NotApplicable, Sketch, Tensor

__all__ = ["STEPS"]


def _reshape(sketch: Sketch) -> None:
    """Merge neighbouring axes, split an axis, or reshape otherwise."""
    x = sketch.pick(lambda t: t.rank >= 1)
    way = sketch.integer(0, 3)
    if way == 0 and x.rank >= 2:
        at = sketch.integer(0, x.rank - 2)
        shape = [*x.shape[:at], x.shape[at] * x.shape[at + 1], *x.shape[at + 2 :]]
    elif way == 1:
        at = sketch.choice([a for a, n in enumerate(x.shape) if n in (4, 6, 8, 9, 12)])
        first = sketch.choice([k for k in range(2, x.shape[at]) if x.shape[at] % k == 0])
        shape = [*x.shape[:at], first, x.shape[at] // first, *x.shape[at + 1 :]]
    elif way == 2:
        total = math.prod(x.shape)
        first = sketch.choice([k for k in range(1, total + 1) if total % k == 0])
        shape = [first, total // first] if sketch.chance(50) else [1, first, total // first]
    else:
        shape = [1, math.prod(x.shape)]
    if len(shape) > 5:
        raise NotApplicable
    sketch.put(sketch.node("Reshape", x, sketch.integers(shape)))


def _flatten(sketch: Sketch) -> None:
    x = sketch.pick(lambda t: t.rank >= 2)
    sketch.put(sketch.node("Flatten", x, axis=sketch.integer(0, x.rank)))


def _transpose(sketch: Sketch) -> None:
    x = sketch.pick(lambda t: t.rank >= 2)
    rest, perm = [*range(x.rank)], []
    while rest:
        perm.append(rest.pop(sketch.integer(0, len(rest) - 1)))
    sketch.put(sketch.node("Transpose", x, perm=perm))


def _squeeze(sketch: Sketch) -> None:
    x = sketch.pick(lambda t: 1 in t.shape and t.rank >= 2)
    axis = sketch.choice([a for a, n in enumerate(x.shape) if n == 1])
    sketch.put(sketch.node("Squeeze", x, sketch.integers([axis])))


def _unsqueeze(sketch: Sketch) -> None:
    x = sketch.pick(lambda t: t.rank <= 3)
    sketch.put(sketch.node("Unsqueeze", x, sketch.integers([sketch.integer(0, x.rank)])))


def _split(sketch: Sketch) -> None:
    """Split into equal or unequal parts, all of which stay in use."""
    x = sketch.pick(lambda t: max(t.shape, default=1) > 1)
    axis = sketch.axis(x)
    n = x.shape[axis]
    first = sketch.integer(1, n - 1)
    sizes = [n // 2] * 2 if n % 2 == 0 and sketch.chance(60) else [first, n - first]
    if n % 3 == 0 and sketch.chance(30):
        sizes = [n // 3] * 3
    sketch.put(*sketch.split("Split", len(sizes), x, sketch.integers(sizes), axis=axis))


def _concat(sketch: Sketch) -> None:
    """Concatenate values that differ in one axis only, perhaps one of them twice."""
    x = sketch.pick(lambda t: t.rank >= 1)
    axis = sketch.integer(0, x.rank - 1)

    def fits(t: Tensor) -> bool:
        return t.rank == x.rank and all(
            a == axis or m == n for a, (m, n) in enumerate(zip(t.shape, x.shape, strict=True))
        )

    parts = [x, *(sketch.pick(fits) for _ in range(sketch.integer(1, 2)))]
    sketch.put(sketch.node("Concat", *parts, axis=axis))


def _slice(sketch: Sketch) -> None:
    x = sketch.pick(lambda t: max(t.shape, default=1) > 1)
    axis = sketch.axis(x)
    n = x.shape[axis]
    step = sketch.choice([1, 1, 2, -1])
    if step < 0:
        bounds = [n - 1, -n - 1, axis, -1]
    else:
        start = sketch.integer(0, n - 1)
        bounds = [start, sketch.integer(start + 1, n), axis, step]
    sketch.put(sketch.node("Slice", x, *(sketch.integers([v]) for v in bounds)))


def _gather(sketch: Sketch) -> None:
    """Gather along an axis: one entry, several, repeated, or permuted."""
    x = sketch.pick(lambda t: max(t.shape, default=1) > 1)
    axis = sketch.axis(x)
    last = x.shape[axis] - 1
    if sketch.chance(40):
        places: int | list[int] = sketch.integer(-1, last)
    else:
        places = [sketch.integer(0, last) for _ in range(sketch.integer(1, x.shape[axis] + 1))]
    sketch.put(sketch.node("Gather", x, sketch.integers(places), axis=axis))


def _gather_elements(sketch: Sketch) -> None:
    x = sketch.pick(lambda t: 1 <= t.rank <= 3 and max(t.shape) > 1 and math.prod(t.shape) <= 24)
    axis = sketch.axis(x)
    flat = [sketch.integer(0, x.shape[axis] - 1) for _ in range(math.prod(x.shape))]
    places = sketch.initializer(np.array(flat, dtype=np.int64).reshape(x.shape))
    sketch.put(sketch.node("GatherElements", x, places, axis=axis))


def _gather_nd(sketch: Sketch) -> None:
    """GatherND over the leading axes."""
    x = sketch.pick(lambda t: t.rank >= 2)
    depth = sketch.integer(1, x.rank)
    places = [[sketch.integer(0, n - 1) for n in x.shape[:depth]] for _ in range(sketch.integer(1, 4))]
    sketch.put(sketch.node("GatherND", x, sketch.initializer(np.array(places, dtype=np.int64))))


def _scatter(sketch: Sketch) -> None:
    """Scatter entries of one value into another, along an axis or over the first axis."""
    x = sketch.pick(lambda t: t.rank >= 1 and max(t.shape) > 1)
    axis = sketch.axis(x)
    n = x.shape[axis]
    places = list(dict.fromkeys(sketch.integer(0, n - 1) for _ in range(n)))
    rows = sketch.node("Gather", x, sketch.integers(places[::-1]), axis=axis)
    updates = sketch.node("Tanh", rows)
    if axis == 0 and sketch.chance(50):
        sketch.put(sketch.node("ScatterND", x, sketch.initializer(np.array(places, dtype=np.int64)[:, None]), updates))
        return
    grid = np.broadcast_to(np.array(places).reshape([-1 if a == axis else 1 for a in range(x.rank)]), updates.shape)
    where = sketch.initializer(np.ascontiguousarray(grid, dtype=np.int64))
    sketch.put(sketch.node("ScatterElements", x, where, updates, axis=axis))


def _expand(sketch: Sketch) -> None:
    x = sketch.pick(lambda t: t.rank <= 4)
    shape = [sketch.size(3) if n == 1 and sketch.chance(50) else n for n in x.shape]
    if len(shape) < 4 and sketch.chance(30):
        shape = [sketch.size(3), *shape]
    sketch.put(sketch.node("Expand", x, sketch.integers(shape)))


def _tile(sketch: Sketch) -> None:
    x = sketch.pick(lambda t: t.rank >= 1)
    repeats = [1] * x.rank
    repeats[sketch.integer(0, x.rank - 1)] = 2
    sketch.put(sketch.node("Tile", x, sketch.integers(repeats)))


def _pad(sketch: Sketch) -> None:
    x = sketch.pick(lambda t: t.rank >= 1)
    axis = sketch.axis(x) if max(x.shape) > 1 else 0
    pads = [0] * (2 * x.rank)
    pads[axis], pads[x.rank + axis] = sketch.integer(0, 1), sketch.integer(0, 1)
    mode = sketch.choice(["constant", "constant", "edge", "reflect"])
    if mode == "reflect" and x.shape[axis] < 2:
        raise NotApplicable
    fill = [sketch.literal(0.5)] if mode == "constant" and sketch.chance(30) else []
    sketch.put(sketch.node("Pad", x, sketch.integers(pads), *fill, mode=mode))


STEPS: Mapping[str, Callable[[Sketch], None]] = {
    "reshape": _reshape,
    "flatten": _flatten,
    "transpose": _transpose,
    "squeeze": _squeeze,
    "unsqueeze": _unsqueeze,
    "split": _split,
    "concat": _concat,
    "slice": _slice,
    "gather": _gather,
    "gather-elements": _gather_elements,
    "gather-nd": _gather_nd,
    "scatter": _scatter,
    "expand": _expand,
    "tile": _tile,
    "pad": _pad,
}
