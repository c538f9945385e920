"""What values went through, as bags of hashed words, so that unlike graphs share one vocabulary."""

from __future__ import annotations

import re
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from ..ir import ParameterGraph
from .edge_types import EdgeTypes

__all__ = ["EDGE_KINDS", "Styles", "style_words", "styles"]

EDGE_KINDS = ("parameter", "constant", "link")
"""The words for column `kind` of the edge types."""

_STEP = re.compile(r"[^\W\d][\w.]*=[^,\]\s]+|[^\W\d][\w.]*")


@dataclass(frozen=True, slots=True)
class Styles:
    """Bags of words: style y has the next `lengths[y]` of `words`. Style 0 has none.

    of_type: int32 [T], the style of each edge type. of_node: int32 [N], of what a node's value went through before
    it became an output; 0 for nodes that are none. words: int64, below 2**31. lengths: int64 [Y].
    """

    of_type: np.ndarray
    of_node: np.ndarray
    words: np.ndarray
    lengths: np.ndarray


def styles(graph: ParameterGraph, types: EdgeTypes) -> Styles:
    """One style for each distinct (kind, role, via) of the edge types, and for each via of an output."""
    rows, of_type = np.unique(types.rows[:, :3], axis=0, return_inverse=True)
    bags: list[tuple[int, ...]] = [()]
    bags += [style_words(EDGE_KINDS[kind], types.roles[role], graph.via_text(via)) for kind, role, via in rows.tolist()]
    of_node = np.zeros(graph.num_nodes, dtype=np.int32)
    number: dict[int, int] = {}
    for port in reversed(graph.outputs):
        # Back to front, so that a node's first port and first place win.
        for node, via in zip(port.nodes[::-1].tolist(), port.via[::-1].tolist(), strict=True):
            if via not in number:
                number[via] = len(bags)
                bags.append(style_words("output", "", graph.via_text(via)))
            of_node[node] = number[via]
    words = np.array([word for bag in bags for word in bag], dtype=np.int64)
    lengths = np.array([len(bag) for bag in bags], dtype=np.int64)
    return Styles((of_type.reshape(-1) + 1).astype(np.int32), of_node, words, lengths)


def style_words(kind: str, role: str, via: str) -> tuple[int, ...]:
    """Hashed words of an edge kind, a role and a via in words; the same in every graph for the same texts.

    They are the kind, the role, each operator and attribute, each of them with its distance from the end, and the
    whole text.
    """
    words = [f"kind:{kind}", f"role:{role.lower()}"]
    if via:
        steps = _STEP.findall(via)
        words += [f"via:{via}", *steps, *(f"{step}@{rank}" for rank, step in enumerate(reversed(steps)))]
    return tuple(crc32(word.encode()) & 0x7FFFFFFF for word in words)
