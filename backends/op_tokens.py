"""The operations that values went through, as bags of hashed tokens, so that all graphs share one vocabulary."""

from __future__ import annotations

import re
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from ..ir import ParameterGraph
from .edge_types import EdgeTypes

__all__ = ["EDGE_KINDS", "OpTokens", "hashed_tokens", "op_tokens"]

EDGE_KINDS = ("parameter", "constant", "link")
"""Names of the values of column `kind` of the edge types."""

_STEP = re.compile(r"[^\W\d][\w.]*=[^,\]\s]+|[^\W\d][\w.]*")


@dataclass(frozen=True, slots=True)
class OpTokens:
    """Y bags of tokens, end to end; bag 0 is empty.

    Attributes:
        of_type: int32 [T], the bag of each edge type.
        of_node: int32 [N], the bag of the trace between a node and an output; 0 for nodes that are no output.
        tokens: int64, the hashed tokens of all bags, below 2**31.
        sizes: int64 [Y], number of tokens of each bag.
    """

    of_type: np.ndarray
    of_node: np.ndarray
    tokens: np.ndarray
    sizes: np.ndarray


def op_tokens(graph: ParameterGraph, types: EdgeTypes) -> OpTokens:
    """One bag for each distinct (kind, role, via) of the edge types, and for each via of an output."""
    rows, of_type = np.unique(types.rows[:, :3], axis=0, return_inverse=True)
    bags: list[tuple[int, ...]] = [()]
    for kind, role, via in rows.tolist():
        bags.append(hashed_tokens(EDGE_KINDS[kind], types.roles[role], graph.via_text(via)))
    of_node = np.zeros(graph.num_nodes, dtype=np.int32)
    number: dict[int, int] = {}
    for port in reversed(graph.outputs):
        # Back to front, so that a node's first port and first place win.
        for node, via in zip(port.nodes[::-1].tolist(), port.via[::-1].tolist(), strict=True):
            if via not in number:
                number[via] = len(bags)
                bags.append(hashed_tokens("output", "", graph.via_text(via)))
            of_node[node] = number[via]
    tokens = np.array([token for bag in bags for token in bag], dtype=np.int64)
    sizes = np.array([len(bag) for bag in bags], dtype=np.int64)
    return OpTokens((of_type.reshape(-1) + 1).astype(np.int32), of_node, tokens, sizes)


def hashed_tokens(kind: str, role: str, via: str) -> tuple[int, ...]:
    """Hashed tokens of an edge kind, a role and the text of a via; equal texts have equal tokens in every graph.

    They are the kind, the role, each operator and attribute, each of these with its distance from the end, and the
    whole text.
    """
    tokens = [f"kind:{kind}", f"role:{role.lower()}"]
    if via:
        steps = _STEP.findall(via)
        tokens += [f"via:{via}", *steps, *(f"{step}@{rank}" for rank, step in enumerate(reversed(steps)))]
    return tuple(crc32(token.encode()) & 0x7FFFFFFF for token in tokens)
