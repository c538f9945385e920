"""A textual form of data movement: the new axes in terms of digits of the old ones, without sizes of whole axes.

    a b -> (a b)          two axes merged            a -> a *           copies along a new axis
    a -> (a/4 a/1)        4 apart, and within        a -> a[1:]         all but the first
    a b -> b at a=-1      the last along a           a -> a[-1::-1]     backward

Numbers are offsets within an axis, counted from its nearer end. The text and the sizes of the old axes determine the
move, except for the number of copies along an axis of copies alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

__all__ = ["describe_move"]

_NAMES = "abcdefghijklmnopqrstuvwxyz"
Grid = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Digit:
    """A digit of a new axis: `size` steps of `unit` along the old axis `axis`, which is -1 for copies."""

    axis: int
    unit: int
    size: int


def describe_move(old: Grid, new: Grid, at: np.ndarray) -> str | None:
    """Describe a move as text.

    Args:
        old: The old grid.
        new: The new grid.
        at: Position i of `new` is position `at[i]` of `old`, both flat.

    Returns:
        The text, which determines the move given both grids; None for an irregular move.
    """
    if not at.size or len(old) > len(_NAMES):
        return None
    start = int(at[0])
    lines = _lines(at.reshape(new), start)
    runs = None if lines is None else [_runs(line) for line in lines]
    if runs is None or any(r is None for r in runs):
        return None
    origin = tuple(int(i) for i in np.unravel_index(start, old)) if old else ()
    axes = [_digits(r, old, origin) for r in runs if r is not None]
    if any(a is None for a in axes):
        return None
    return _words(old, origin, [a for a in axes if a is not None])


def _lines(places: np.ndarray, start: int) -> list[np.ndarray] | None:
    """The offset that each new axis adds to the old position, if offsets are additive, else None."""
    total, lines = np.full((1,) * places.ndim, start), []
    for axis in range(places.ndim):
        line = np.moveaxis(places, axis, -1)[(0,) * (places.ndim - 1)] - start
        total = total + line.reshape([-1 if a == axis else 1 for a in range(places.ndim)])
        lines.append(line)
    return lines if np.array_equal(total, places) else None


def _runs(line: np.ndarray) -> list[tuple[int, int]] | None:
    """The (size, stride) of the digits that generate a sequence of offsets, outermost first; None if there are none."""
    out: list[tuple[int, int]] = []
    while len(line) > 1:
        step = int(line[1])
        off = np.flatnonzero(line != step * np.arange(len(line)))
        size = int(off[0]) if off.size else len(line)
        if len(line) % size or not (line.reshape(-1, size) == line[::size, None] + step * np.arange(size)).all():
            return None
        out.insert(0, (size, step))
        line = line[::size]
    return out


def _digits(runs: list[tuple[int, int]], old: Grid, origin: Grid) -> list[_Digit] | None:
    """Express (size, stride) pairs as digits of the old axes; None where one crosses the end of an axis."""
    out: list[_Digit] = []
    for size, step in runs:
        found: list[_Digit] = []
        while size > 1 and step:
            axis, inner = _axis(abs(step), old)
            unit, rest = divmod(abs(step), inner)
            if rest:
                return None
            ahead = old[axis] - 1 - origin[axis] if step > 0 else origin[axis]
            if size - 1 > ahead // unit:
                whole = old[axis] // unit
                if ahead != old[axis] - 1 or old[axis] % unit or size % whole or not axis:
                    return None
            else:
                whole = size
            found.insert(0, _Digit(axis, unit if step > 0 else -unit, whole))
            size, step = size // whole, int(math.copysign(inner * old[axis], step))
        out += found or [_Digit(-1, 0, size)]
    return out


def _axis(step: int, old: Grid) -> tuple[int, int]:
    """The old axis along which a stride advances, and the stride of that axis."""
    inner = 1
    for axis in reversed(range(len(old))):
        if step < inner * old[axis]:
            return axis, inner
        inner *= old[axis]
    return 0, inner // old[0]


def _words(old: Grid, origin: Grid, axes: list[list[_Digit]]) -> str | None:
    every = [d for digits in axes for d in digits]
    texts: dict[_Digit, str] = {}
    left = []
    for axis, size in enumerate(old):
        mine = [d for d in every if d.axis == axis]
        if len(set(mine)) < len(mine) or not _inside(mine, size, origin[axis]):
            return None
        if not mine:
            left.append(f"{_NAMES[axis]}={_from_nearer_end(origin[axis], size)}")
        elif len(mine) == 1:
            texts[mine[0]] = _NAMES[axis] + _cut(mine[0], size, origin[axis])
        else:
            chain = sorted(mine, key=lambda d: d.unit)
            steps = [d.unit for d in chain]
            whole = origin[axis] == 0 and [d.unit * d.size for d in chain] == [*steps[1:], size] and steps[0] == 1
            texts |= {d: f"{_NAMES[axis]}/{d.unit}{'' if whole else f'x{d.size}'}" for d in chain}
            left += [] if origin[axis] == 0 else [f"{_NAMES[axis]}={origin[axis]}"]
    parts = []
    for digits in axes:
        words = [texts.get(d) or ("*" if len(digits) == 1 else f"*{d.size}") for d in digits]
        parts.append(words[0] if len(words) == 1 else f"({' '.join(words)})")
    before = " ".join(_NAMES[: len(old)])
    return " ".join([*before.split(), "->", *parts, *(["at", *left] if left else [])])


def _inside(digits: list[_Digit], size: int, origin: int) -> bool:
    """Whether the digits together stay within the axis."""
    ends = [origin + sum(d.unit * (d.size - 1) for d in digits if (d.unit > 0) == up) for up in (True, False)]
    return ends[0] < size and ends[1] >= 0


def _cut(digit: _Digit, size: int, start: int) -> str:
    """The positions that the only digit of an axis covers, as slice syntax; empty for the whole axis."""
    step, stop = digit.unit, start + digit.unit * digit.size
    last = start + step * (digit.size - 1)
    first = "" if (start, step > 0) == (0, True) else str(_from_nearer_end(start, size))
    beyond = stop >= size if step > 0 else stop < 0
    end = "" if beyond else str(_from_nearer_end(last, size))
    text = f"{first}:{end}" + (f":{step}" if step != 1 else "")
    return "" if text == ":" else f"[{text}]"


def _from_nearer_end(place: int, size: int) -> int:
    return place if place <= size - 1 - place else place - size
