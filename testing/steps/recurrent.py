"""Recurrent cells over the first axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..sketch import Sketch
from .weights import weight

__all__ = ["STEPS"]

_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def _cell(sketch: Sketch) -> None:
    """All hidden states, or the last one."""
    x = sketch.pick(lambda t: t.rank == 3 and t.shape[0] <= 4)
    if x.shape[0] == 1 and sketch.chance(70):
        x = sketch.node("Transpose", x, perm=[1, 0, 2])
    op, size = sketch.choice(list(_GATES)), sketch.integer(1, 3)
    rows = _GATES[op] * size
    direction = sketch.choice(["forward", "forward", "reverse", "bidirectional"])
    ways = 2 if direction == "bidirectional" else 1
    operands: list[Any] = [
        x,
        weight(sketch, (ways, rows, x.shape[2]), x.shape[2]),
        weight(sketch, (ways, rows, size), size),
    ]
    operands.append(weight(sketch, (ways, 2 * rows), 4) if sketch.chance(60) else None)
    if sketch.chance(20):
        operands += [None, weight(sketch, (ways, x.shape[1], size), 4)]
    options: dict[str, Any] = {"hidden_size": size}
    if direction != "forward":
        options["direction"] = direction
    if op == "GRU" and sketch.chance(50):
        options["linear_before_reset"] = 1
    every, last = sketch.split(op, 2, *operands, **options)
    sketch.put(last if sketch.chance(40) else sketch.node("Transpose", every, perm=[2, 0, 1, 3]))


STEPS: Mapping[str, Callable[[Sketch], None]] = {"recurrent": _cell}
