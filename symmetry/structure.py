"""Colour refinement of a graph's structure without expanding its edges: comparable colours of nodes, blocks and vias.

All edges of a batch of an edge block are alike, parameters aside, so a round costs as much as the ends of the blocks,
not as much as the parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.arrays import distinct, mix64, occurrence
from ..ir.graph import EdgeBlock, ParameterGraph
from .isomorphism import hash64, initial_colours, marked_role, met, port_colours, row_hashes
from .refinement import GOLDEN

__all__ = ["Structure", "structure"]


@dataclass(frozen=True, slots=True)
class Structure:
    """Colours that do not depend on the order of nodes and blocks; parts of unequal colour do not correspond.

    Attributes:
        nodes: uint64 [num_nodes].
        blocks: uint64 [edges].
        vias: uint64 [vias].
    """

    nodes: np.ndarray
    blocks: np.ndarray
    vias: np.ndarray


def structure(graph: ParameterGraph, marks: np.ndarray | None = None) -> Structure:
    """Stable colours of the parts of a graph, parameters aside.

    Args:
        graph: The graph.
        marks: uint64 [num_nodes], further marks of nodes that tell them apart, of any graphs that are compared.

    Returns:
        The colours.
    """
    start = initial_colours(graph) if marks is None else mix64(initial_colours(graph) + marks)
    labels = np.array([_block_label(graph, block) for block in graph.edges], dtype=np.uint64)
    places = [occurrence(_batch_numbers(b), b.src, b.via).astype(np.uint64) for b in graph.edges]
    nodes, blocks, vias = start, labels, _via_colours(graph, labels)
    classes = 0
    while True:
        nodes = mix64(nodes + port_colours(graph, vias))
        while (found := len(distinct(nodes)) + len(distinct(blocks))) > classes:
            classes = found
            nodes, blocks = _round(graph, nodes, mix64(labels + _shared(graph, blocks)), vias, places)
        if not any(via.blocks for via in graph.vias):
            return Structure(nodes, blocks, vias)
        finer = _via_colours(graph, blocks)
        stable = len(distinct(finer)) == len(distinct(vias))
        vias = finer
        if stable:
            return Structure(nodes, blocks, vias)
        classes = 0


def _round(
    graph: ParameterGraph, nodes: np.ndarray, labels: np.ndarray, vias: np.ndarray, places: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """One round: each node's colour with those of its neighbours, each block's with those of its ends.

    places: by block how often each source came before in its batch, uint64 [B, K].
    """
    inward, outward = np.zeros_like(nodes), np.zeros_like(nodes)
    ends = np.zeros_like(labels)
    for number, block in enumerate(graph.edges):
        label = mix64(vias[block.via] + places[number])
        sources = mix64(label + mix64(nodes[block.src])).sum(axis=1, dtype=np.uint64)
        targets = mix64(nodes[block.dst] + GOLDEN).sum(axis=1, dtype=np.uint64)
        np.add.at(inward, block.dst, mix64(labels[number] + sources)[:, None])
        np.add.at(outward, block.src, mix64(labels[number] ^ mix64(label + targets[:, None])))
        ends[number] = mix64(sources + mix64(targets)).sum(dtype=np.uint64)
    for link in graph.links:
        label = vias[link.via] + hash64("link", link.role)
        for column in (link.operand, link.slot):
            if column is not None:
                label = mix64(label) + row_hashes(column.reshape(link.size, -1))
        np.add.at(inward, link.dst, mix64(label + mix64(nodes[link.src])))
        np.add.at(outward, link.src, mix64(label ^ mix64(nodes[link.dst] + GOLDEN)))
    return mix64(nodes + mix64(inward + mix64(outward + GOLDEN))), mix64(labels + ends)


def _batch_numbers(block: EdgeBlock) -> np.ndarray:
    return np.broadcast_to(np.arange(len(block.src))[:, None], block.src.shape)


def _block_label(graph: ParameterGraph, block: EdgeBlock) -> np.uint64:
    """A hash of what a block is, whatever its ends; of a constant one with its numbers."""
    # Adding 0.0 makes -0.0 equal to 0.0.
    numbers = np.sort(graph.values(block).astype(np.float64) + 0.0, axis=None).tobytes() if block.constant else b""
    slots = tuple(row_hashes(block.slots).tolist())
    # Which of the uses of a shared tensor is the first one depends on the order, so whether it is tied does not count.
    return hash64(marked_role(block), block.shape, slots, numbers)


def _shared(graph: ParameterGraph, blocks: np.ndarray) -> np.ndarray:
    """By block a hash of all blocks that hold elements of its tensor, uint64 [edges]; 0 for those of constants."""
    place = {name: number for number, name in enumerate(graph.parameters)}
    tensor = np.array([-1 if b.constant else place[b.view.name] for b in graph.edges], dtype=np.int64)
    totals = np.zeros(len(place) + 1, dtype=np.uint64)
    np.add.at(totals, tensor, mix64(blocks))
    return np.where(tensor < 0, np.uint64(0), totals[tensor])


def _via_colours(graph: ParameterGraph, blocks: np.ndarray) -> np.ndarray:
    """A colour per via from the colours of the blocks that it names, uint64 [vias]."""
    hashes: list[int] = []
    for via in graph.vias:
        own = tuple(int(blocks[n]) for n in via.blocks)
        hashes.append(int(hash64(via.op, via.attributes, met(via, hashes), own)))
    return np.array(hashes, dtype=np.uint64)
