"""Tensors of one checkpoint found in an ONNX file by their values, however the exporter renamed and moved them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from ...ir.arrays import mix64
from .name_map import Copy, row_major

__all__ = ["Pool", "as_bits", "pieces", "whole"]

_MOST_AXES = 5
_MOST_CANDIDATES = 64
_MOST_PIECES = 4096

Dims = tuple[tuple[int, ...], tuple[int, ...]]
"""Shape, and strides in elements."""


def as_bits(array: np.ndarray) -> np.ndarray:
    """The elements as unsigned integers of the same size, so that a NaN equals itself.

    Args:
        array: Of any dtype.

    Returns:
        The same shape, in C order; bytes [bytes] for a dtype of more than 8 bytes.
    """
    # `ascontiguousarray` makes an axis of a scalar.
    ordered = np.ascontiguousarray(array).reshape(array.shape)
    size = array.dtype.itemsize
    return ordered.view(f"u{size}") if size in (1, 2, 4, 8) else ordered.reshape(-1).view(np.uint8)


@dataclass(frozen=True, slots=True)
class _Layout:
    """A tensor as rows of lines: a row number steps by `step`, a line has its own axes."""

    rows: int
    step: int
    line: Dims

    def hashes(self, tensor: np.ndarray) -> np.ndarray:
        """One hash per row, uint64 [rows]."""
        flat = tensor.reshape(-1)
        shape, steps = self.line
        strides = tuple(s * flat.itemsize for s in (self.step, *steps))
        lines = np.lib.stride_tricks.as_strided(flat, (self.rows, *shape), strides).reshape(self.rows, -1)
        odd = mix64(np.arange(1, lines.shape[1] + 1)) | np.uint64(1)
        total = np.zeros(self.rows, np.uint64)
        for column, weight in enumerate(odd) if len(odd) <= self.rows else ():
            total += mix64(lines[:, column]) * weight
        if len(odd) > self.rows:
            total = np.array([(mix64(line) * odd).sum(dtype=np.uint64) for line in lines], np.uint64)
        return total


@dataclass(frozen=True, slots=True)
class _Lines:
    """All lines of one length that the entries have.

    Attributes:
        owners: Entry and layout.
        hashes: uint64 [rows] of each owner.
        order: int64 [lines], the lines of all owners in order of their hashes.
        ordered: uint64 [lines], their hashes.
        starts: int64 [owners + 1], number of lines before each owner.
    """

    owners: list[tuple[str, _Layout]]
    hashes: list[np.ndarray]
    order: np.ndarray
    ordered: np.ndarray
    starts: np.ndarray

    def at(self, wanted: np.uint64) -> list[tuple[int, int]]:
        """(owner, row) of the lines with a hash, of too many the first ones."""
        first = int(np.searchsorted(self.ordered, wanted))
        found: list[tuple[int, int]] = []
        while first < len(self.order) and self.ordered[first] == wanted and len(found) <= _MOST_CANDIDATES:
            line = int(self.order[first])
            owner = int(np.searchsorted(self.starts, line, side="right")) - 1
            found.append((owner, line - int(self.starts[owner])))
            first += 1
        return found


class Pool:
    """The entries of a checkpoint, converted to one dtype, to look values up in.

    Args:
        entries: Arrays of that dtype by name.
    """

    def __init__(self, entries: Mapping[str, np.ndarray]) -> None:
        self.bits = {name: as_bits(array) for name, array in entries.items()}
        self._lines: dict[int, _Lines] = {}
        self._contents: dict[str, int] = {}
        self._by_size: dict[int, list[str]] = {}
        for name, bits in self.bits.items():
            self._by_size.setdefault(bits.size, []).append(name)

    def alike(self, target: np.ndarray) -> list[str]:
        """Entries with the same values in any order.

        Args:
            target: Bits of a tensor.

        Returns:
            Their names.
        """
        sized = self._by_size.get(target.size, [])
        wanted = _content(target) if sized else 0
        return [name for name in sized if self._content_of(name) == wanted]

    def _content_of(self, name: str) -> int:
        if name not in self._contents:
            self._contents[name] = _content(self.bits[name])
        return self._contents[name]

    def lines(self, length: int) -> _Lines:
        """The lines of `length` elements of all entries."""
        if length not in self._lines:
            owners = [
                (name, layout)
                for name, bits in self.bits.items()
                for layout in _layouts(bits.shape)
                if math.prod(layout.line[0]) == length and (length > 1 or layout.rows == bits.size == max(bits.shape))
            ]
            hashes = [layout.hashes(self.bits[name]) for name, layout in owners]
            together = np.concatenate([np.zeros(0, np.uint64), *hashes])
            order = np.argsort(together, kind="stable")
            starts = np.cumsum([0, *map(len, hashes)])
            self._lines[length] = _Lines(owners, hashes, order, together[order], starts)
        return self._lines[length]


def _content(bits: np.ndarray) -> int:
    """A hash of the values in any order."""
    flat, total = bits.reshape(-1), 0
    for first in range(0, len(flat), 1 << 20):
        total += int(mix64(flat[first : first + (1 << 20)]).sum(dtype=np.uint64))
    return total


def whole(target: np.ndarray, entry: np.ndarray, name: str) -> list[Copy]:
    """The orders of axes in which an entry is the whole of a tensor.

    Args:
        target: Bits of the tensor.
        entry: Bits of the entry, as many.
        name: Its name.

    Returns:
        A copy for each order of its axes of more than one element; those after which the shapes agree, if there are
        any. Several if the values do not tell.
    """
    shape = tuple(n for n in entry.shape if n != 1)
    own = tuple(n for n in target.shape if n != 1)
    squeezed, steps = entry.reshape(shape), row_major(shape)
    orders: Iterable[tuple[int, ...]] = permutations(range(len(shape)))
    found = []
    for order in orders if len(shape) <= _MOST_AXES else [tuple(range(len(shape)))]:
        moved = squeezed.transpose(order)
        if np.array_equal(moved.flat[:64], target.flat[:64]) and np.array_equal(moved.reshape(-1), target.reshape(-1)):
            found.append((moved.shape, tuple(steps[axis] for axis in order)))
    agreeing = [(s, t) for s, t in found if s == own]
    if agreeing:
        axes = [axis for axis, n in enumerate(target.shape) if n != 1]
        return [
            Copy(name, target.shape, 0, _spread(t, axes, target.ndim), 0, row_major(target.shape)) for _, t in agreeing
        ]
    return [Copy(name, s, 0, t, 0, row_major(s)) for s, t in found]


def _spread(steps: tuple[int, ...], axes: list[int], rank: int) -> tuple[int, ...]:
    """Strides with a zero for each axis that is not listed."""
    out = [0] * rank
    for axis, step in zip(axes, steps, strict=True):
        out[axis] = step
    return tuple(out)


def pieces(target: np.ndarray, pool: Pool) -> tuple[Copy, ...] | None:
    """Slices and rows of entries that make up a tensor along an axis (packed projections, reordered gates, tables).

    A piece is taken only if it is longer than anything else in the checkpoint that fits there by twice its length and
    two elements, and its elements are not all equal; so no coincidence is.

    Args:
        target: Bits of the tensor.
        pool: The entries.

    Returns:
        The copies, as few as possible; None if there are none, or values do not tell.
    """
    best: tuple[Copy, ...] | None = None
    for layout in _layouts(target.shape):
        found = _cover(target, layout, pool)
        if found is not None and (best is None or len(found) < len(best)):
            best = found
    return best


def _cover(target: np.ndarray, layout: _Layout, pool: Pool) -> tuple[Copy, ...] | None:
    width = math.prod(layout.line[0])
    lines = pool.lines(width)
    wanted = layout.hashes(target)
    copies: list[Copy] = []
    at = 0
    while at < layout.rows:
        runs = sorted(
            ((_run(wanted[at:], lines.hashes[owner][row:]), owner, row) for owner, row in lines.at(wanted[at])),
            reverse=True,
        )
        if not runs or len(runs) > _MOST_CANDIDATES or len(copies) == _MOST_PIECES:
            return None
        length, owner, row = runs[0]
        second = runs[1][0] if len(runs) > 1 else 0
        if length * width < 2 * second * width + 2:
            return None
        copy = _copy(layout, lines.owners[owner], at, row, length)
        if copy is None or not _tells(copy, target, pool.bits[copy.entry]):
            return None
        copies.append(copy)
        at += length
    return tuple(copies)


def _run(a: np.ndarray, b: np.ndarray) -> int:
    """Number of leading entries in which two arrays agree."""
    n = min(len(a), len(b))
    differ = a[:n] != b[:n]
    return int(differ.argmax()) if differ.any() else n


def _copy(layout: _Layout, owner: tuple[str, _Layout], at: int, row: int, length: int) -> Copy | None:
    name, other = owner
    line = _common(layout.line, other.line)
    if line is None:
        return None
    shape, own, steps = line
    return Copy(name, (length, *shape), row * other.step, (other.step, *steps), at * layout.step, (layout.step, *own))


def _tells(copy: Copy, target: np.ndarray, entry: np.ndarray) -> bool:
    """Whether the piece has the entry's values, and they are not all equal."""
    own, other = copy.place(target), copy.read(entry)
    return bool((own == other).all()) and own.min() != own.max()


def _common(a: Dims, b: Dims) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None:
    """A shape that refines both, with the strides of either; None if there is none."""
    left, right = ([*zip(*dims, strict=True)] for dims in (a, b))
    found: list[tuple[int, int, int]] = []
    while left and right:
        (n, s), (m, t) = left.pop(), right.pop()
        size = min(n, m)
        if n % size or m % size:
            return None
        found.append((size, s, t))
        if n > size:
            left.append((n // size, s * size))
        if m > size:
            right.append((m // size, t * size))
    if left or right:
        return None
    shape, own, other = zip(*reversed(found), strict=True) if found else ((), (), ())
    return tuple(shape), tuple(own), tuple(other)


def _layouts(shape: tuple[int, ...]) -> Iterator[_Layout]:
    """The ways to see a tensor as rows of lines, in one order of its elements within a line."""
    dims = [(n, s) for n, s in zip(shape, row_major(shape), strict=True) if n != 1]
    if math.prod(shape) == 0:
        return
    for axis, (rows, step) in enumerate(dims):
        yield _Layout(rows, step, _dims(dims[:axis] + dims[axis + 1 :]))
    for split in range(2, len(dims)):
        yield _Layout(math.prod(n for n, _ in dims[:split]), dims[split - 1][1], _dims(dims[split:]))
    if len(dims) > 2:
        yield _Layout(math.prod(n for n, _ in dims[1:]), dims[-1][1], _dims(dims[:1]))
    if len(dims) == 2:
        yield _Layout(math.prod(n for n, _ in dims), dims[-1][1], _dims([]))


def _dims(dims: list[tuple[int, int]]) -> Dims:
    return tuple(n for n, _ in dims), tuple(s for _, s in dims)
