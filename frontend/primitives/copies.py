"""Copies: axes along which all entries of a value are equal, as Expand, Tile and constants make them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

from .constants import varies
from .labels import varying
from .values import Value

__all__ = ["SINGLE", "common_copies", "is_copied", "met_by_labels"]

Names = Sequence[Hashable]
"""The names of the axes of a value, equal for aligned axes of several values."""

SINGLE = frozenset({
    "Cast", "Mask", "Quantize", "Dequantize", "Sign", "Gather", "GatherElements", "GatherND", "Compress", "Scatter",
    "ScatterElements", "ScatterND",
})  # fmt: skip
"""Steps without a known scalar function that still map equal entries to equal entries."""

_LARGEST = 1 << 22


def is_copied(value: Value, axis: int) -> bool:
    """Whether all entries of a value along an axis are known to be equal; large constants are not read."""
    if value.data is None:
        return value.shape[axis] == 1 or axis in value.copy_axes
    return value.data.strides[axis] == 0 or (value.data.size <= _LARGEST and not varies(value.data, axis))


def common_copies(
    values: Sequence[Value | None], names: Sequence[Names], result: Mapping[Hashable, int]
) -> frozenset[int]:
    """The axes along which a result consists of copies if each entry depends only on the aligned ones of the operands.

    Args:
        values: The operands, None where one is left out.
        names: The names of their axes.
        result: The axes of the result, by name.

    Returns:
        The axes along which every operand is broadcast or consists of copies.
    """
    given = [(v, n) for v, n in zip(values, names, strict=True) if v is not None]
    given.sort(key=lambda pair: pair[0].data is not None)
    wide: set[Hashable] = set()
    differ: set[Hashable] = set()
    for value, own in given:
        for axis, (size, name) in enumerate(zip(value.shape, own, strict=True)):
            if size > 1 and name in result and name not in differ:
                (wide if is_copied(value, axis) else differ).add(name)
    return frozenset(result[name] for name in wide - differ)


def met_by_labels(values: Sequence[Value | None], names: Sequence[Names]) -> list[list[int]]:
    """The axes of copies of each value that are aligned with axes along which the labels of another one vary.

    Args:
        values: The values, None where one is left out.
        names: The names of the axes of each.

    Returns:
        The axes of each value, ascending.
    """
    if not any(v is not None and v.copy_axes for v in values):
        return [[] for _ in values]
    varied = [
        set() if v is None else {own[a] for f in v.factors for a in varying(f)}
        for v, own in zip(values, names, strict=True)
    ]
    times = Counter(name for own in varied for name in own)
    return [
        [] if v is None else
        [a for a in sorted(v.copy_axes) if times[own[a]] > (own[a] in mine) and v.shape[a] > 1]
        for v, own, mine in zip(values, names, varied, strict=True)
    ]  # fmt: skip
