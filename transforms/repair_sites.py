"""Where the statistics of a network's channels can be set: normalisations with running statistics, and affine maps.

An affine map ends in a vector that is added to its channels: a linear layer or convolution with its bias, the scale and
shift of a normalisation. Channel by channel, scaling and shifting its parameters scales and shifts its values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir

from ..frontend import LabelledModel
from ..ir import ParameterGraph
from ..ir.graph import EdgeBlock
from .probing import computed_names

__all__ = ["Affine", "Running", "Skipped", "sites"]

_NORMALISED = ("BatchNormalization", "Standardize")
_LATER = ("norm.scale", "norm.bias", "norm.mean", "norm.var")


@dataclass(frozen=True, slots=True, eq=False)
class Running:
    """A normalisation by running statistics of its input.

    Attributes:
        name: The ONNX node.
        value: The value whose statistics these are.
        channels: int64, broadcastable to the value: the channel of each entry.
        mean: Name of the parameter [channels] that holds the mean.
        variance: Name of that of the variance.
    """

    name: str
    value: str
    channels: np.ndarray
    mean: str
    variance: str


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """A map whose channels parameters scale and shift.

    Attributes:
        name: The parameter that shifts.
        value: The value after the shift.
        channels: int64, broadcastable to the value: the node of each entry.
        factors: The edge blocks whose parameters all scale the channels that they lead to.
        shift: The edge block of the parameter that is added.
    """

    name: str
    value: str
    channels: np.ndarray
    factors: tuple[EdgeBlock, ...]
    shift: EdgeBlock


@dataclass(frozen=True, slots=True)
class Skipped:
    """A layer whose statistics cannot be set, and why."""

    name: str
    reason: str

    def to_json(self) -> dict[str, str]:
        """The layer as JSON data."""
        return {"name": self.name, "reason": self.reason}


def sites(labelled: LabelledModel) -> tuple[list[Running | Affine], list[Skipped]]:
    """The layers of a network whose statistics can be set, in the order in which it computes them.

    Args:
        labelled: The network, and the nodes of its values.

    Returns:
        The layers, and those that are left out.
    """
    every = [*_running(labelled), *_affine(labelled), *_without_shift(labelled.graph)]
    found = [site for site in every if not isinstance(site, Skipped)]
    skipped = [site for site in every if isinstance(site, Skipped)]
    order = {name: i for i, name in enumerate(computed_names(labelled.graph))}
    known = [s for s in found if s.value in order]
    skipped += [Skipped(s.name, "a part of a function or body computes it") for s in found if s.value not in order]
    return sorted(known, key=lambda site: order[site.value]), skipped


def _running(labelled: LabelledModel) -> Iterator[Running | Skipped]:
    graph = labelled.graph
    nodes = {
        (n.inputs[3].name, n.inputs[4].name): n
        for n in graph.model.graph
        if n.op_type == "BatchNormalization"
        and len(n.inputs) > 4
        and n.inputs[3] is not None
        and n.inputs[4] is not None
    }
    variances = {(b.node, b.dst.tobytes()): b for b in graph.edges if b.role == "norm.var"}
    for block in graph.edges:
        if block.role != "norm.mean":
            continue
        variance = variances.get((block.node, block.dst.tobytes()))
        mean, name = block.view.name, block.node
        node = None if variance is None else nodes.get((mean, variance.view.name))
        if variance is None or node is None or node.inputs[0] is None or not node.inputs[0].name:
            yield Skipped(name, "its running statistics are read by no BatchNormalization of the file")
        elif _is_training(node):
            yield Skipped(name, "it takes the statistics of each batch already")
        elif reason := next((r for b in (block, variance) if (r := _fixed(graph, b))), ""):
            yield Skipped(name, reason)
        else:
            size = graph.parameters[mean].size
            rank = len(_shape(labelled, node.inputs[0].name) or (0, 0))
            channels = np.arange(size).reshape([size if a == 1 else 1 for a in range(rank)])
            yield Running(node.name or name, node.inputs[0].name, channels, mean, variance.view.name)


def _is_training(node: onnx_ir.Node) -> bool:
    mode = node.attributes.get("training_mode")
    return mode is not None and bool(mode.as_int())


def _affine(labelled: LabelledModel) -> Iterator[Affine | Skipped]:
    graph = labelled.graph
    behind = {p for via in graph.vias if via.op in _NORMALISED for p in via.parents}
    outputs = np.zeros(graph.num_nodes, dtype=bool)
    for port in graph.outputs:
        outputs[port.nodes] = True
    for number, via in enumerate(graph.vias):
        if via.op != "Add" or len(via.blocks) != 1 or len(via.parents) != 1:
            continue
        shift = graph.edges[via.blocks[0]]
        if shift.constant or number in behind:
            continue
        before = graph.vias[via.parents[0]]
        if before.op == "Mul" and len(before.blocks) == 1 and shift.role == "norm.bias":
            scale = graph.edges[before.blocks[0]]
            factors = [scale] if np.array_equal(scale.dst, shift.dst) else []
        elif via.parents[0] == 0 and shift.role == "bias":
            factors = _into(graph, shift)
        else:
            continue
        if outputs[shift.dst].any():
            yield Skipped(shift.view.name, "it makes an output of the network")
        else:
            yield _checked(labelled, shift, factors)


def _into(graph: ParameterGraph, shift: EdgeBlock) -> list[EdgeBlock]:
    """The weights behind which a bias is added; none if there is something else."""
    moved = np.zeros(graph.num_nodes, dtype=bool)
    moved[shift.dst] = True
    blocks = [b for b in graph.edges if b is not shift and b.role not in _LATER and moved[b.dst].any()]
    whole = all(b.role == "weight" and not b.constant and moved[b.dst].all() for b in blocks)
    return blocks if whole and not any(moved[k.dst].any() for k in graph.links) else []


def _checked(labelled: LabelledModel, shift: EdgeBlock, factors: list[EdgeBlock]) -> Affine | Skipped:
    graph, name = labelled.graph, shift.view.name
    if not factors:
        return Skipped(name, "what it is added to is not scaled by parameters alone")
    reason = next((r for b in (shift, *factors) if (r := _fixed(graph, b))), "")
    if reason:
        return Skipped(name, reason)
    value = graph.groups[int(graph.group_of(shift.src.reshape(-1)[:1])[0])].value
    wanted = np.zeros(graph.num_nodes, dtype=bool)
    wanted[shift.dst] = True
    own = [f for f in labelled.nodes.get(value, ()) if wanted[f[f >= 0]].any()]
    if len(own) != 1 or not (own[0] >= 0).all() or not wanted[own[0]].all():
        return Skipped(name, "which entries of its value are of which channel is not known")
    return Affine(name, value, own[0], tuple(factors), shift)


def _without_shift(graph: ParameterGraph) -> Iterator[Skipped]:
    """Layers with weights whose values nothing shifts or normalises."""
    shifted = np.zeros(graph.num_nodes, dtype=bool)
    for block in graph.edges:
        if block.role in ("bias", "norm.bias", "norm.mean"):
            shifted[block.dst] = True
    for block in graph.edges:
        if block.role == "weight" and not block.constant and not shifted[block.dst].any():
            yield Skipped(block.view.name, "it has no bias")


def _fixed(graph: ParameterGraph, block: EdgeBlock) -> str:
    """Why the parameters of a block cannot be changed by themselves; "" if they can."""
    name = block.view.name
    parameter = graph.parameters[name]
    if block.tied or any(b.tied and b.view.name == name for b in graph.edges):
        return f"{name!r} is shared"
    if parameter.storage is not None or "float" not in parameter.dtype:
        return f"{name!r} is stored as {parameter.dtype if parameter.storage is None else parameter.storage.dtype}"
    return ""


def _shape(labelled: LabelledModel, name: str) -> tuple[int, ...] | None:
    shapes: Mapping[str | None, tuple[int, ...]] = {v.name: k.shape for v, k in labelled.known.items()}
    return shapes.get(name)
