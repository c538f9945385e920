"""Rows of `Layout.blocks`, for `gmnc.backends.blocks`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..ir import EdgeBlock
from ..kernels import Block

__all__ = ["append_block", "row_and_strides"]


def row_and_strides(
    block: EdgeBlock, starts: Mapping[tuple[bool, str], int], end: int, extra: list[np.ndarray]
) -> tuple[int, tuple[int, ...]]:
    """First row and strides of a block's values; elements without strides are appended to `extra`, at row `end`."""
    start = starts[block.constant, block.view.name]
    if block.view.index is None and min(block.view.strides) >= 0:
        return start + block.view.offset, block.view.strides
    _, n, k, s = block.shape
    extra.append(start + block.view.elements().reshape(-1))
    return end, (n * k * s, k * s, s, 1)


def append_block(
    rows: list[Block], ids: dict[str, list[np.ndarray]], shape: tuple[int, ...], value: int, strides: Sequence[int],
    dst: np.ndarray, src: np.ndarray, types: np.ndarray,
) -> None:  # fmt: skip
    """Append a block to `rows`, and its ids to `ids`. types: int [B or 1, K or 1, S]."""
    edge = rows[-1].edge + rows[-1].size if rows else 0
    at_dst, at_src, at_type = (sum(map(len, part)) for part in ids.values())
    many, per_source, slots = types.shape
    type_b, type_k = per_source * slots if many > 1 else 0, slots if per_source > 1 else 0
    (b, n, k, s), (by_b, by_n, by_k, by_s) = shape, strides
    rows.append(Block(edge, b, n, k, s, value, by_b, by_n, by_k, by_s, at_dst, at_src, at_type, type_b, type_k))
    for part, new in zip(ids.values(), (dst, src, types), strict=True):
        part.append(np.ascontiguousarray(new, dtype=np.int32).reshape(-1))
