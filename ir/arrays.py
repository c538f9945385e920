"""Helpers for integer arrays: distinct entries and rows, occurrence counts, connected components, hashes."""

from __future__ import annotations

import numpy as np

__all__ = [
    "connected",
    "distinct",
    "distinct_rows",
    "distinct_tuples",
    "mix64",
    "occurrence",
    "occurrence_in_rows",
]


def distinct(numbers: np.ndarray) -> np.ndarray:
    """The distinct entries, as `np.unique` returns them.

    Ids are mostly sorted already, where sorting is ten times as fast as the hashing of `np.unique`.

    Args:
        numbers: Integers of any shape.

    Returns:
        The distinct entries, flat, ascending, of the same dtype.
    """
    flat = np.ravel(numbers)
    if (flat[1:] > flat[:-1]).all():
        return flat.copy()
    flat = np.sort(flat)
    return flat[np.concatenate([[True], flat[1:] != flat[:-1]])]


def distinct_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct rows in order of first occurrence.

    Args:
        rows: int64 [n, m].

    Returns:
        The index of the first row of each class, int64 [classes], and the class of each row, int64 [n].
    """
    if len(rows) == 1:
        return np.zeros(1, np.int64), np.zeros(1, np.int64)
    if rows.shape[1] == 1:
        _, first, inverse = np.unique(rows[:, 0], return_index=True, return_inverse=True)
    else:
        packed = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.shape[1] * rows.itemsize)))[:, 0]
        _, first, inverse = np.unique(packed, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[inverse.reshape(-1)]


def distinct_tuples(*columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct tuples (columns[0][i], columns[1][i], ...), in lexicographic order.

    Args:
        columns: Integers [n] each, at least one column.

    Returns:
        The index of the first tuple of each class, int64 [classes], and the class of each tuple, int64 [n].
    """
    inverse = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        low, high = int(column.min(initial=0)), int(column.max(initial=0))
        # Renumbering after each column keeps the mixed-radix key small.
        if low != high:
            inverse = np.unique(inverse * (high - low + 1) + (column - low), return_inverse=True)[1]
    return np.unique(inverse, return_index=True)[1], inverse


def occurrence(*columns: np.ndarray) -> np.ndarray:
    """Number each tuple's occurrences 0, 1, 2, ... in row-major order.

    Args:
        columns: Integers of one shape; entry i of all of them is tuple i.

    Returns:
        int64 of that shape: how many equal tuples come before.
    """
    flat = columns[0].reshape(-1) if len(columns) == 1 else distinct_tuples(*(c.reshape(-1) for c in columns))[1]
    order = np.argsort(flat, kind="stable")
    ranked = flat[order]
    at = np.arange(len(order))
    new = np.ones(len(order), dtype=bool)
    new[1:] = ranked[1:] != ranked[:-1]
    count = np.empty(len(order), dtype=np.int64)
    count[order] = at - np.maximum.accumulate(np.where(new, at, 0))
    return count.reshape(columns[0].shape)


def occurrence_in_rows(rows: np.ndarray) -> np.ndarray:
    """Number each entry's occurrences 0, 1, 2, ... within its row.

    Args:
        rows: Integers [n, m].

    Returns:
        int64 [n, m]: how many equal entries come before in the row; a single 0 as [1, 1] if none repeats.
    """
    order = np.argsort(rows, axis=1, kind="stable")
    ranked = np.take_along_axis(rows, order, axis=1)
    new = np.ones(rows.shape, dtype=bool)
    new[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    if new.all():
        return np.zeros((1, 1), dtype=np.int64)
    at = np.arange(rows.shape[1])
    count = np.empty(rows.shape, dtype=np.int64)
    np.put_along_axis(count, order, at - np.maximum.accumulate(np.where(new, at, 0), axis=1), axis=1)
    return count


def connected(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Connected components of the undirected graph with edges a[i] - b[i].

    Args:
        a: Integers [n], one end of each edge.
        b: Integers [n], the other end.

    Returns:
        The distinct vertices, ascending, and the smallest vertex of each one's component.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    points, at = np.unique(np.concatenate([a, b]), return_inverse=True)
    if not len(points):
        return points, points
    edges = coo_array((np.ones(len(a), np.int8), (at[: len(a)], at[len(a) :])), shape=(len(points),) * 2)
    component = connected_components(edges, directed=False)[1]
    first = np.unique(component, return_index=True)[1]
    return points, points[first[component]]


def mix64(x: np.ndarray) -> np.ndarray:
    """Hash integers with the finalizer of splitmix64 (Steele, Lea, Flood 2014), a bijection of 64-bit words.

    Args:
        x: Integers of any shape, taken as uint64.

    Returns:
        uint64 of that shape.
    """
    x = np.asarray(x, dtype=np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
