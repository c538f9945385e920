"""Moves: the steps of vias that say how data movement changes the positions on a grid.

A `Move` stays last while scalar functions are applied before it, so that equal movements can be undone or joined.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ...ir import GraphBuilder
from ...ir.arrays import distinct
from ..budget import MAX_POSITIONS, check_limit
from .labels import compress, vias_of
from .move_notation import describe_move

__all__ = ["Change", "Grid", "Move", "Moves"]

Grid = tuple[int, ...]
_SHORT = 8


@dataclass(frozen=True, slots=True)
class Move:
    """The last step of a via: a data movement on the grid.

    Attributes:
        parent: The via before it.
        base: The grid of the parent.
        grid: The new grid.
        at: int64 [positions]; position i of `grid` is position `at[i]` of `base`, both flat.
    """

    parent: int
    base: Grid
    grid: Grid
    at: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """A data movement on a grid without the via that it follows; equal ones are one object.

    Attributes:
        base: The old grid.
        grid: The new grid.
        at: Positions, as in `Move`.
        text: Its description, None for an irregular one.
        marks: Its positions in short if it is irregular.
    """

    base: Grid
    grid: Grid
    at: np.ndarray
    text: str | None
    marks: tuple[object, ...]


class Moves:
    """The vias that end in a `Move`.

    The step of a regular move does not mention grid sizes, so that it is the same at every size of the network.
    """

    def __init__(self, builder: GraphBuilder) -> None:
        self._builder = builder
        self._moves: dict[int, Move] = {}
        self._last: dict[int, Change] = {}
        self._alike: dict[tuple[int, Grid, str], list[Grid]] = {}
        self._changes: dict[tuple[Grid, Grid, Grid, bytes], Change] = {}

    def split(self, via: int, grid: Grid) -> Move:
        """The last move of a via with this grid; the identity move if there is none."""
        found = self._moves.get(via)
        if found is not None and found.grid == grid:
            return found
        return Move(via, grid, grid, _everywhere(grid))

    def append(self, via: int, change: Change | None) -> int:
        """Append a change to a via; None, the identity, adds nothing."""
        if change is None:
            return via
        base, grid, text = change.base, change.grid, change.text
        if text is None:
            items: list[tuple[str, object]] = [("from", base), ("to", grid), ("at", change.marks)]
            new = self._builder.via("Move", items, (via,))
        else:
            # The description omits the number of copies, so equal descriptions of different grids are numbered.
            alike = self._alike.setdefault((via, base, text), [])
            if grid not in alike:
                alike.append(grid)
            number = alike.index(grid)
            items = [("axes", text), *([("number", number)] if number else [])]
            new = self._builder.via("Move", items, (via,), sizes=(*base, *grid))
        self._moves.setdefault(new, Move(via, base, grid, change.at))
        self._last.setdefault(new, change)
        return new

    def change(self, base: Grid, grid: Grid, at: np.ndarray) -> Change | None:
        """The change to these positions, None for the identity.

        It reads all of them, so this is done once for all vias that it follows.
        """
        if base == grid and np.array_equal(at, _everywhere(grid)):
            return None
        # Copies along an axis, as broadcasting makes them, need not be hashed.
        core = compress(at.reshape(grid))
        digest = hashlib.blake2b(np.ascontiguousarray(core, np.int64).data, digest_size=16).digest()
        key = (base, grid, core.shape, digest)
        if key not in self._changes:
            text = describe_move(base, grid, at)
            self._changes[key] = Change(base, grid, at, text, _marks(at) if text is None else ())
        return self._changes[key]

    def under(self, vias: tuple[int, ...], step: Callable[[tuple[int, ...]], int]) -> int:
        """Apply a scalar function: before the last move if all operands end in the same one, else after."""
        moves, changes = [self._moves.get(v) for v in vias], {self._last.get(v) for v in vias}
        change = changes.pop()
        if changes or change is None:
            return step(vias)
        return self.append(step(tuple(m.parent for m in moves if m is not None)), change)

    def none(self, labels: np.ndarray, grid: Grid) -> bool:
        """Whether none of the labels over this grid ends in a move."""
        found = (self._moves.get(v) for v in distinct(vias_of(labels)).tolist())
        return all(m is None or m.grid != grid for m in found)

    def before(self, via: int) -> int:
        """The via without its last move."""
        found = self._moves.get(via)
        return via if found is None else found.parent


@lru_cache(maxsize=256)
def _everywhere(grid: Grid) -> np.ndarray:
    """All positions of a grid in order, int64 [positions]. Raises `TooLarge` beyond the budget."""
    check_limit(math.prod(grid), MAX_POSITIONS, f"positions of a grid {list(grid)}")
    places = np.arange(math.prod(grid))
    places.setflags(write=False)
    return places


def _marks(at: np.ndarray) -> tuple[object, ...]:
    """A short encoding of positions: the positions, a range, or a digest."""
    if len(at) <= _SHORT:
        return tuple(at.tolist())
    step = int(at[1] - at[0])
    if (np.diff(at) == step).all():
        return "range", int(at[0]), len(at), step
    return "digest", len(at), hashlib.blake2b(at.astype(np.int64).tobytes(), digest_size=8).hexdigest()
