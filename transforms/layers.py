"""Which parameter tensors make up a layer, and what the layer is called.

Exporters name tensors (`blocks.0.q.weight`), or else nodes (`/blocks.0/q/MatMul`), or neither in a way that says where
they belong (`onnx::MatMul_17`). Without names, what leads to the same neurons is one layer: a weight with its bias, a
normalisation with its shift and statistics.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from ..ir import EdgeBlock, ParameterGraph

__all__ = ["Layer", "layer_names", "layers"]

_PART = re.compile(
    r"(?:^|[._])(?:weights?|bias|biases|kernel|gamma|beta|alpha|scale|shift|offset|mean|var|variance|slope"
    r"|(?:running|moving)_(?:mean|var|variance)|zero_point|quantized|coefficients?|intercepts?"
    r"|(?:weight|bias)_(?:q|int8|quant)|[wbr](?:_\d+)?)$",
    re.IGNORECASE,
)
"""The end of a tensor's name that says which part of its layer it is."""
_OPERATOR = re.compile(
    r"^(?:node_)?(?:Conv(?:Transpose|[123]D)?|Depthwise\w+|MatMul\w*|Gemm|Add|Sub|Mul|Div|BiasAdd|LSTM|GRU|RNN|PRelu|Gather"
    r"|Einsum|\w*Normalization|FusedBatchNorm(?:V3)?|ReadVariableOp|Tensordot|Reshape|transpose|Const|Cast|add)"
    r"(?:_\d+)?(?:_quant)?$",
)
"""A part of a path that names an operator."""
_Key = tuple[str, Any]
"""("path", path) or ("target", group of nodes and whether it is a normalisation)."""
_WORD = re.compile(r"^[A-Za-z]{3,}$")


@dataclass(frozen=True, slots=True)
class Layer:
    """Parameter tensors that belong together.

    Attributes:
        name: What people call it: its path in the module, or else the name of its tensors or of its values.
        tensors: The names of its tensors, in the order of the graph.
    """

    name: str
    tensors: tuple[str, ...]


def layers(graph: ParameterGraph) -> tuple[Layer, ...]:
    """The layers of a network, in the order of its graph.

    Args:
        graph: Its graph.

    Returns:
        Layers that together hold each parameter tensor on an edge once.
    """
    firsts: dict[str, EdgeBlock] = {}
    for block in graph.edges:
        if not block.constant:
            firsts.setdefault(block.view.name, block)
    paths = {name: _path_of_tensor(graph, name) for name in firsts}
    # A tensor whose name says nothing belongs to the layer that its node, or what it leads to, belongs to.
    known: dict[_Key, set[str]] = defaultdict(set)
    for name, block in firsts.items():
        for place in _places(graph, block) if paths[name] else ():
            known[place].add(paths[name])
    found: dict[_Key, list[str]] = defaultdict(list)
    for name, block in firsts.items():
        places = _places(graph, block)
        near = [next(iter(known[p])) for p in places if len(known[p]) == 1]
        found[("path", paths[name] or near[0]) if paths[name] or near else places[0]].append(name)
    return tuple(Layer(_name(graph, key, names, firsts[names[0]]), tuple(names)) for key, names in found.items())


def layer_names(graph: ParameterGraph) -> Mapping[str, str]:
    """The layer of each tensor.

    Args:
        graph: The network's graph.

    Returns:
        Names of layers by names of tensors.
    """
    return graph.derived("layer names", lambda: {t: layer.name for layer in layers(graph) for t in layer.tensors})


def _places(graph: ParameterGraph, block: EdgeBlock) -> list[_Key]:
    """What tensors of one layer have in common if their names say nothing: the path of their node, or their neurons."""
    path = _path(block.node)
    target = int(graph.group_of(block.dst.flat[:1])[0]) if block.dst.size else -1
    return [*([("path", path)] if path else []), ("target", (target, block.role.startswith("norm")))]


def _path_of_tensor(graph: ParameterGraph, name: str) -> str:
    """The path of a layer by the name of a tensor; "" if it says none."""
    if graph.parameters[name].origin == "attribute":
        return name.rpartition(".")[0]
    if "::" in name:
        return ""
    text = re.sub(r"(?:/resource)?:\d+$", "", name.split(";")[0])
    if _WORD.match(text) and not _PART.match(text):
        return text
    short = text
    while cut := _PART.search(short[1:]):
        short = short[: cut.start() + 1]
    return short.replace("/", ".") if short != text else _path(text)


def _path(text: str) -> str:
    """A path without the operators at its end; "" if there are none, or nothing is left."""
    parts = [p for p in re.split(r"[/.]", text) if p]
    short = list(parts)
    while short and _OPERATOR.match(short[-1]):
        short.pop()
    return ".".join(short) if short != parts else ""


def _name(graph: ParameterGraph, key: _Key, tensors: list[str], block: EdgeBlock) -> str:
    kind, place = key
    if kind == "path":
        return str(place)
    if len(tensors) == 1:
        return tensors[0]
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*tensors, strict=False))
    common = "".join(letters[0] for letters in same)
    if len(common) > 1 and (common[-1] in "._/" or all(t[len(common) :][:1] in "._/" for t in tensors)):
        return common.rstrip("._/")
    return graph.groups[place[0]].value or block.node or tensors[0]
