"""A network as people describe it: its layers and what combines their values, in order, each with what it does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..ir import EdgeBlock, LinkBlock, LinkRole, NodeKind, ParameterGraph, Via
from ..ir.arrays import distinct
from ..symmetry.report import group_name
from .layers import layer_names

__all__ = ["Part", "outline"]

_NORMS = {
    "Standardize": "normalisation",
    "RMSNormalize": "RMS normalisation",
    "BatchNormalization": "batch normalisation",
}
_SILENT = {"Add", "Mul", "Move", "Place", "Copy", "Tuple", "Window", "Conv", "Batch", "Along", "BatchNormalization"}
"""Steps that attach parameters or only move data, or are told otherwise."""
_AXES = (LinkRole.PAIR, LinkRole.COPY, LinkRole.SHARED, LinkRole.HUB)
"""Roles of links that only say which axes a value has, or which parameters are shared."""
_SHOWN = 8
"""How many ways into a node are told."""
_WEIGHTS = ("weight", "recurrent", "embedding")
_PLAIN = {"strides": "1", "dilations": "1", "pads": "0", "group": "1", "auto_pad": "NOTSET"}
_NAMED = {"pads": "padding", "strides": "stride", "dilations": "dilation"}


@dataclass(frozen=True, slots=True)
class Part:
    """A layer, a sum of values, an attention, an output: something that a network consists of.

    Attributes:
        what: What it is, e.g. "linear layer".
        name: Its name.
        node: The name of its ONNX node.
        facts: What it does, by name of the property, e.g. {"outputs": "16"}.
        after: The functions that its input went through, e.g. ("Relu",).
    """

    what: str
    name: str
    node: str
    facts: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()


def outline(graph: ParameterGraph) -> list[Part]:
    """The parts of a network, in the order of its graph.

    Args:
        graph: Its graph.

    Returns:
        Layers; sums, products and other nodes where values meet; attentions; inputs and outputs.
    """
    found: list[tuple[int, Part]] = []
    by_layer: dict[str, list[EdgeBlock]] = defaultdict(list)
    names = layer_names(graph)
    for block in graph.edges:
        if not block.constant and block.size:
            by_layer[names[block.view.name]].append(block)
    for name, blocks in by_layer.items():
        found += [(int(each[0].dst.min()), _layer(graph, name, each)) for each in _by_kind(blocks)]
    found += _meetings(graph)
    found.sort(key=lambda pair: pair[0])
    inputs = [Part("input", p.name, "", {"features": f"{len(distinct(p.nodes)):,}"}) for p in graph.inputs]
    outputs = [
        Part("output", p.name, "", {"features": f"{len(distinct(p.nodes)):,}"}, _steps(graph, p.via))
        for p in graph.outputs
    ]
    return [*inputs, *(part for _, part in found), *outputs]


def _by_kind(blocks: Sequence[EdgeBlock]) -> Iterator[list[EdgeBlock]]:
    """The blocks of a layer: its weights with all that goes with them, or else a normalisation, or other parameters."""
    norms = [b for b in blocks if b.role.startswith("norm")]
    others = [b for b in blocks if not b.role.startswith("norm")]
    yield from (part for part in (others, norms) if part)


def _layer(graph: ParameterGraph, name: str, blocks: Sequence[EdgeBlock]) -> Part:
    weights = [b for b in blocks if b.role in _WEIGHTS]
    main = (weights or blocks)[0]
    outputs = distinct(np.concatenate([b.dst.reshape(-1) for b in weights or blocks]))
    facts = {"outputs": f"{len(outputs):,}"} if weights else {"features": f"{len(outputs):,}"}
    if weights:
        sources = distinct(np.concatenate([b.src.reshape(-1) for b in weights]))
        facts = {"inputs": f"{len(sources):,}", **facts}
    facts |= {"parameters": ", ".join(sorted({b.role.removeprefix("norm.") for b in blocks}))}
    conv = next((v for v in _chain(graph, int(main.via.flat[0])) if v.op == "Conv"), None)
    if weights and main.shape[3] > 1 and main.slots.shape[1]:
        facts["kernel"] = "x".join(str(int(n) + 1) for n in main.slots.max(axis=0))
        facts["groups"] = f"{len(main.dst):,}"
    for key, value in conv.attributes if conv is not None and weights else ():
        sizes = value if isinstance(value, tuple) else (value,)
        if set(map(str, sizes)) != {_PLAIN.get(key, "")}:
            facts[_NAMED.get(key, key)] = "x".join(map(str, sizes))
    if main.role.startswith("norm"):
        norm = next((v for v in reversed(_chain(graph, int(main.via.flat[0]))) if v.op in _NORMS), None)
        what = "batch normalisation" if norm is None else _NORMS[norm.op]
        facts |= {} if norm is None else _settings(norm)
        return Part(what, name, main.node, facts, ())
    what = "parameters" if not weights else "convolution" if conv is not None or "kernel" in facts else "linear layer"
    what = (
        "embedding"
        if main.role == "embedding"
        else "recurrent layer"
        if any(b.role == "recurrent" for b in blocks)
        else what
    )
    return Part(what, name, main.node, facts, _steps(graph, main.via))


def _settings(via: Via) -> dict[str, str]:
    return {name: _short(value) for name, value in via.attributes}


def _meetings(graph: ParameterGraph) -> Iterator[tuple[int, Part]]:
    """Where activations meet: sums and products of values, attentions, reductions."""
    into: dict[int, list[LinkBlock]] = defaultdict(list)
    heads: dict[int, np.ndarray] = {}
    softmax = np.array([v.op == "Softmax" for v in graph.vias])
    for link in graph.links:
        if link.size:
            into[int(graph.group_of(link.dst[:1])[0])].append(link)
            scored = link.src[softmax[link.via]]
            for group in distinct(graph.group_of(scored)).tolist() if len(scored) else ():
                if graph.groups[group].kind == NodeKind.SUM:
                    mine = scored[graph.group_of(scored) == group]
                    heads[group] = distinct(np.concatenate([heads.get(group, mine[:0]), mine]))
    for number, links in into.items():
        group, first = graph.groups[number], links[0]
        if number in heads:
            yield group.start, Part("attention", group_name(group), group.node, {"heads": f"{len(heads[number]):,}"})
        elif first.role not in _AXES and group.kind in (NodeKind.JOIN, NodeKind.REDUCE, NodeKind.OPAQUE, NodeKind.GATE):
            operands = sum(k.size for k in links) / group.size
            facts = {"operands": f"{operands:g}"} if group.kind == NodeKind.JOIN else {}
            vias = distinct(np.concatenate([k.via for k in links]))[:_SHOWN]
            steps = sorted({text for v in vias if (text := " > ".join(_steps(graph, v)))})
            yield (
                group.start,
                Part(_meeting(group.kind, first.role), group_name(group), group.node, facts, tuple(steps)),
            )


def _meeting(kind: str, role: str) -> str:
    named = {"Add": "sum", "Mul": "product", "Concat": "concatenation", "reduce": "reduction", "scope": "normalisation"}
    return named.get(role, f"{kind} ({role})")


def _chain(graph: ParameterGraph, via: int) -> list[Via]:
    """The steps of a via, oldest first, back to where branches meet."""
    found: list[Via] = []
    while via:
        found.append(graph.vias[via])
        if len(found[-1].parents) != 1:
            break
        via = found[-1].parents[0]
    return found[::-1]


def _steps(graph: ParameterGraph, via: np.ndarray) -> tuple[str, ...]:
    """The functions that values went through; normalisations that have parameters are layers of their own."""
    if not via.size:
        return ()
    chain = _chain(graph, int(via.flat[0]))
    told = []
    for at, step in enumerate(chain):
        attached = step.blocks or (step.op in _NORMS and at + 1 < len(chain) and chain[at + 1].blocks)
        if attached or (step.op in _SILENT and len(step.parents) < 2):
            continue
        told.append(_told(step))
    return tuple(told)


def _told(step: Via) -> str:
    parts = ", ".join(f"{k}={_short(v)}" for k, v in step.attributes if k not in ("over", "axes"))
    return f"{_NORMS.get(step.op, step.op)}[{parts}]" if parts else _NORMS.get(step.op, step.op)


def _short(value: object) -> str:
    if isinstance(value, tuple):
        return "x".join(map(_short, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
