"""Edge types: a table of the distinct (kind, role, via, operand, occurrence, slot); each edge has a row number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..ir import EdgeBlock, LinkBlock, ParameterGraph, edge_role_id, link_role_id
from ..ir.arrays import distinct_tuples, occurrence_in_rows

__all__ = ["TYPE_COLUMNS", "EdgeTypes", "edge_types", "occurrences"]

TYPE_COLUMNS = ("kind", "role", "via", "operand", "occurrence", "slot0", "slot1", "slot2")
"""Columns of the edge types. kind: 0 parameter, 1 constant, 2 link. role: id of the role, the same in every graph
(`gmnc.ir.vocabulary.edge_role_id`, `link_role_id`). via: row of the graph's via table. operand: index of the operand,
-1 where their order does not matter. occurrence: how many earlier sources in the same row of `src` have the same
signal. slot0..2: coordinates of the slot, -1 beyond its rank."""


@dataclass(frozen=True, slots=True)
class EdgeTypes:
    """The edge types of a graph.

    Attributes:
        rows: Distinct types, int32 [T, 8], columns as in `TYPE_COLUMNS`.
        roles: Role name by id, for the roles that occur.
        blocks: Per edge block, the type of each (b, k, s), int32 [B or 1, K or 1, S]; it does not depend on n.
        links: Per link block, the type of each link, int32 [n].
    """

    rows: np.ndarray
    roles: Mapping[int, str]
    blocks: tuple[np.ndarray, ...]
    links: tuple[np.ndarray, ...]


def edge_types(graph: ParameterGraph) -> EdgeTypes:
    """Number the distinct edge types of a graph, in one pass over the ids and without reading parameters."""
    edges = {role: edge_role_id(role) for role in dict.fromkeys(b.role for b in graph.edges)}
    links = {role: link_role_id(role) for role in dict.fromkeys(b.role for b in graph.links)}
    roles = {number: role for named in (edges, links) for role, number in named.items()}
    found = [_block_rows(b, edges[b.role]) for b in graph.edges] + [_link_rows(b, links[b.role]) for b in graph.links]
    stacked = np.concatenate([rows for rows, _ in found] or [np.zeros((0, 8), np.int64)])
    first, renumber = distinct_tuples(*stacked.T)
    rows = stacked[first]
    ids, start = [], 0
    for own, local in found:
        ids.append(renumber[start + local].astype(np.int32))
        start += len(own)
    split = len(graph.edges)
    return EdgeTypes(rows.astype(np.int32), roles, tuple(ids[:split]), tuple(ids[split:]))


def occurrences(block: EdgeBlock) -> np.ndarray:
    """How often each source's signal, its (node, via) pair, occurs earlier in its row of `src`.

    Args:
        block: The edge block.

    Returns:
        int64 [B, K], or a zero [1, 1] if none repeats.
    """
    return occurrence_in_rows(block.src.astype(np.int64) << 32 | block.via)


def _block_rows(block: EdgeBlock, role: int) -> tuple[np.ndarray, np.ndarray]:
    """Types [t, 8] of one block, and the type of each (b, k, s), broadcastable."""
    occurrence = occurrences(block)
    via = block.via
    if via.size and (via.strides == (0, 0) or (via == via.flat[0]).all()):
        via = via[:1, :1]
    columns = [a.reshape(-1) for a in np.broadcast_arrays(via, occurrence)]
    first, inverse = distinct_tuples(*columns)
    pairs = np.stack([c[first] for c in columns], axis=1)
    slots = len(block.slots)
    rows = np.full((len(pairs), slots, 8), -1, dtype=np.int64)
    rows[..., 0], rows[..., 1] = int(block.constant), role
    rows[..., 2], rows[..., 4] = pairs[:, None, 0], pairs[:, None, 1]
    rows[..., 5 : 5 + block.slots.shape[1]] = block.slots
    shape = np.broadcast_shapes(via.shape, occurrence.shape)
    return rows.reshape(-1, 8), inverse.reshape(*shape, 1) * slots + np.arange(slots)


def _link_rows(link: LinkBlock, role: int) -> tuple[np.ndarray, np.ndarray]:
    """Types [t, 8] of one link block, and the type of each link."""
    columns = [link.via] if link.operand is None else [link.via, link.operand]
    slots = 0 if link.slot is None else link.slot.shape[1]
    if link.slot is not None:
        columns += list(link.slot.T)
    first, inverse = distinct_tuples(*columns)
    found = np.stack([c[first] for c in columns], axis=1)
    rows = np.full((len(found), 8), -1, dtype=np.int64)
    rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 4] = 2, role, found[:, 0], 0
    if link.operand is not None:
        rows[:, 3] = found[:, 1]
    rows[:, 5 : 5 + slots] = found[:, found.shape[1] - slots :]
    return rows, inverse
