"""The verifier of the parameter graph. It runs after every lowering and does not read parameter values."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from .errors import GraphError
from .views import Parameter, ParameterView
from .vocabulary import NodeKind

if TYPE_CHECKING:
    from .graph import EdgeBlock, LinkBlock, ParameterGraph

__all__ = ["check", "overlaps"]

_KINDS = frozenset(NodeKind)


def check(graph: ParameterGraph) -> None:
    """Verify the invariants of a graph.

    Args:
        graph: The graph.

    Raises:
        GraphError: at the first invariant that is broken.
    """
    _check_groups(graph)
    for index, block in enumerate(graph.edges):
        _check_edges(graph, index, block)
    for index, link in enumerate(graph.links):
        _check_links(graph, index, link)
    _check_vias(graph)
    for port in (*graph.inputs, *graph.outputs):
        if port.nodes.shape != port.via.shape or port.nodes.ndim != 1:
            raise GraphError(f"port {port.name!r}: nodes {port.nodes.shape} and vias {port.via.shape} differ")
        _check_ids(port.nodes, graph.num_nodes, f"port {port.name!r}: node")
        _check_ids(port.via, len(graph.vias), f"port {port.name!r}: via")
    if graph.paired is not None and graph.paired.shape != graph.pinned.shape:
        raise GraphError(f"paired has shape {graph.paired.shape}, expected ({graph.num_nodes},)")
    _check_account(graph)


def overlaps(parameter: Parameter, views: list[ParameterView]) -> bool:
    """Whether an element of a parameter is in two views, or twice in one.

    Args:
        parameter: The parameter.
        views: Views of it.

    Returns:
        True if an element occurs more than once.
    """
    boxes = [v.box(parameter.shape) for v in views]
    if all(b is not None for b in boxes):
        rectangles = [b for b in boxes if b is not None]
        return any(
            all(lo < other_hi and other_lo < hi for (lo, hi), (other_lo, other_hi) in zip(a, b, strict=True))
            for a, b in combinations(rectangles, 2)
        )
    seen = np.zeros(parameter.size, dtype=np.uint8)
    for view in views:
        np.add.at(seen, view.elements().reshape(-1), 1)
    return bool((seen > 1).any())


def _check_groups(graph: ParameterGraph) -> None:
    at = 0
    for group in graph.groups:
        if group.kind not in _KINDS:
            raise GraphError(f"node group {group.value!r}: unknown kind {group.kind!r}")
        if group.start != at or group.size < 0:
            raise GraphError(f"node group {group.value!r}: starts at {group.start}, expected {at}")
        at = group.stop
    if at != graph.num_nodes:
        raise GraphError(f"the groups hold {at} nodes, pinned has {graph.num_nodes}")


def _check_ids(ids: np.ndarray, limit: int, what: str) -> None:
    # Broadcast axes are looked at once: expanded, the ids may be as many as the parameters.
    ids = ids[tuple(slice(0, 1) if step == 0 else slice(None) for step in ids.strides)]
    if ids.size and (int(ids.min()) < 0 or int(ids.max()) >= limit):
        raise GraphError(f"{what} id out of range [0, {limit})")


def _check_edges(graph: ParameterGraph, index: int, block: EdgeBlock) -> None:
    what = f"edge block {index} ({block.role} of {block.view.name!r})"
    b, n, k, s = block.shape
    if block.dst.shape != (b, n) or block.src.shape != (b, k) or block.via.shape != (b, k):
        raise GraphError(
            f"{what}: shapes disagree: view {block.shape}, dst {block.dst.shape}, "
            f"src {block.src.shape}, via {block.via.shape}"
        )
    if block.slots.ndim != 2 or block.slots.shape[0] != s or block.slots.shape[1] > 3:
        raise GraphError(f"{what}: slots {block.slots.shape} do not fit S={s}")
    if block.view.index is not None and block.view.index.shape != block.shape:
        raise GraphError(f"{what}: the index {block.view.index.shape} does not fit the view {block.shape}")
    table = graph.constants if block.constant else graph.parameters
    parameter = table.get(block.view.name)
    if parameter is None:
        raise GraphError(f"{what}: no such parameter")
    low, high = block.view.bounds()
    if block.size and (low < 0 or high >= parameter.size):
        raise GraphError(f"{what}: reaches outside of the {parameter.size} elements of its tensor")
    _check_ids(block.dst, graph.num_nodes, f"{what}: dst")
    _check_ids(block.src, graph.num_nodes, f"{what}: src")
    _check_ids(block.via, len(graph.vias), f"{what}: via")


def _check_links(graph: ParameterGraph, index: int, link: LinkBlock) -> None:
    what = f"link block {index} ({link.role})"
    arrays = [link.src, link.via] + [a for a in (link.operand, link.slot) if a is not None]
    if any(len(a) != link.size for a in arrays):
        raise GraphError(f"{what}: arrays differ in length")
    _check_ids(link.dst, graph.num_nodes, f"{what}: dst")
    _check_ids(link.src, graph.num_nodes, f"{what}: src")
    _check_ids(link.via, len(graph.vias), f"{what}: via")


def _check_vias(graph: ParameterGraph) -> None:
    for index, via in enumerate(graph.vias):
        if any(not 0 <= parent < index for parent in via.parents):
            raise GraphError(f"via {index} ({via.op}) comes before one of its parents")
        if any(not 0 <= block < len(graph.edges) for block in via.blocks):
            raise GraphError(f"via {index} ({via.op}) names an edge block that does not exist")


def _check_account(graph: ParameterGraph) -> None:
    """Check that every element is on exactly one untied edge or in the account."""
    first_sites: dict[str, list[ParameterView]] = defaultdict(list)
    for block in graph.edges:
        if not block.tied and not block.constant:
            first_sites[block.view.name].append(block.view)
    elsewhere: dict[str, int] = defaultdict(int)
    for entry in graph.account:
        elsewhere[entry.name] += entry.count
    for name, parameter in graph.parameters.items():
        views = first_sites.get(name, [])
        on_edges = sum(v.size for v in views)
        if on_edges + elsewhere[name] != parameter.size:
            raise GraphError(
                f"the account of {name!r} does not close: {parameter.size} elements, "
                f"{on_edges} on edges, {elsewhere[name]} in the account"
            )
        if overlaps(parameter, views):
            raise GraphError(f"an element of {name!r} has two edges that are not marked tied")
    unknown = set(elsewhere) - set(graph.parameters)
    if unknown:
        raise GraphError(f"the account names tensors that do not exist: {sorted(unknown)}")
