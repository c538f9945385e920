"""COO tensors as `Blocks` of single edges, so that a metanetwork takes either."""

from __future__ import annotations

from typing import Any

import torch

from ..ir import GmncError
from ..kernels import COLUMNS, Layout
from .blocks import Blocks

__all__ = ["from_coo"]

_FIELDS = ("x", "edge_index", "edge_attr", "edge_type", "edge_type_attr", "type_op_bag", "node_op_bag", "op_tokens")


def from_coo(data: Any) -> Blocks:
    """Convert COO tensors to `Blocks`, with the edges in the same order.

    Args:
        data: What `gmnc.backends.coo.coo` returns, or a PyG `Batch` of that.

    Returns:
        Blocks without segments: the data's `edge_param` says which parameter an edge carries.

    Raises:
        GmncError: The data are not from `coo`, or have reversed edges (`reverse=True`), which a metanetwork adds
            itself.
    """
    missing = [f for f in _FIELDS if not hasattr(data, f)]
    if missing:
        raise GmncError(
            f"not a parameter graph in COO format: field {missing[0]!r} is missing; create it with gmnc.backends.coo"
        )
    kinds, src = data.edge_type_attr, data.edge_index[0]
    if kinds[:, -1].any():
        raise GmncError("reversed edges are not supported: create the tensors with reverse=False")
    edges, nodes = len(src), len(data.x)
    node_graph = getattr(data, "batch", None)
    node_graph = src.new_zeros(nodes, dtype=torch.int64) if node_graph is None else node_graph
    # One block per run of consecutive edges of one graph that all carry parameters, or none.
    carries = kinds[data.edge_type.long(), 0] == 0
    runs, lengths = torch.unique_consecutive(node_graph[src.long()] * 2 + carries, return_counts=True)
    lengths = lengths.cpu()
    start = torch.cumsum(lengths, 0) - lengths
    zero, one = torch.zeros_like(start), torch.ones_like(start)
    columns = dict.fromkeys(COLUMNS, zero) | {"edge": start, "b": lengths, "n": one, "k": one, "s": one}
    columns |= {"value": start + 1, "value_b": one, "dst": start, "src": start, "type": start, "type_b": one}
    to, at, kind = (t.to(torch.int32).contiguous() for t in (data.edge_index[1], src, data.edge_type))
    rows = torch.stack([columns[name] for name in COLUMNS], dim=1)
    layout = Layout(rows, torch.ones(len(start), 2), to, at, kind, edges)
    value = data.edge_attr[:, 0]
    return Blocks(
        layout=layout,
        values=torch.cat([value.new_zeros(1), value]),
        extra=src.new_zeros(0, dtype=torch.int64),
        segments=(),
        nodes=data.x[:, :8],
        types=kinds[:, 3:8],
        node_op_bag=data.node_op_bag,
        type_op_bag=data.type_op_bag,
        op_tokens=data.op_tokens,
        op_bag_sizes=data.op_bag_sizes,
        node_graph=node_graph,
        # COO data do not say which nodes form a group: every node counts as its own.
        node_share=1.0 / torch.bincount(node_graph).double()[node_graph],
        block_graph=runs.cpu() // 2,
        parameter_block=(runs.cpu() % 2).bool(),
        num_graphs=int(node_graph.max()) + 1 if nodes else 1,
    )
