"""Trace a changed output to the failing generator, its ONNX nodes and their lowering rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir

from ..frontend import Registry, installed
from ..frontend.interpret import opset_of
from ..frontend.rewriting.normalise import normalise
from ..ir import ParameterGraph
from ..symmetry import Automorphism, Factor, describe, product
from .report import Failure
from .trial import Errors, Trial

__all__ = ["Generator", "culprits", "involved"]

Generator = Automorphism | Factor

_MOST = 3


def culprits(trial: Trial, failing: Sequence[Generator], registry: Registry | None = None) -> list[Failure]:
    """Find the generators at fault in a failing product by bisection.

    If a product of generators fails, so does one of its halves.

    Args:
        trial: The network.
        failing: Generators whose product changes an output.
        registry: The lowering rules, for the report; by default those installed.

    Returns:
        At most three failures, one per set of node groups.
    """
    left = list(failing)
    found: list[Failure] = []
    while left and len(found) < _MOST:
        errors = _errors(trial, left)
        if trial.excess(errors) < 1:
            break
        worst, errors = _halve(trial, left, errors)
        groups = _groups(trial.graph, worst)
        nodes = tuple(involved(trial.graph, worst, registry))
        words = worst.describe() if isinstance(worst, Factor) else describe(trial.graph, worst)
        found.append(Failure(max(errors.values(), default=0.0), words, groups, nodes))
        left = [g for g in left if type(g) is not type(worst) or _groups(trial.graph, g) != groups]
    return found


def involved(
    graph: ParameterGraph, generator: Generator, registry: Registry | None = None
) -> Iterator[tuple[str, str, str]]:
    """Yield (ONNX node, operator, lowering rule) for whatever a symmetry moves, then for the operators in its vias.

    The latter have no node name.
    """
    moved = np.zeros(graph.num_nodes, dtype=bool)
    moved[_nodes(generator)] = True
    names = [graph.groups[g].node for g in _groups(graph, generator)]
    vias: set[int] = set()
    for block in graph.edges:
        sources = moved[block.src]
        if sources.any() or moved[block.dst].any():
            names.append(block.node)
            vias.update(np.unique(np.broadcast_to(block.via, block.src.shape)[sources]).tolist())
    for link in graph.links:
        touched = moved[link.src] | moved[link.dst]
        if touched.any():
            names.append(link.node)
            vias.update(np.unique(link.via[touched]).tolist())
    model, rules = graph.model, registry or installed()
    nodes = {n.name: n for g in normalise(model).graphs() for n in g} if isinstance(model, onnx_ir.Model) else {}
    for name in dict.fromkeys(n for n in names if n):
        node = nodes.get(name)
        op = node.op_type if node is not None else "(created by lowering)"
        yield name, op, _rule(rules, model, op, node.domain if node is not None else "")
    for op in _ops(graph, vias):
        yield "", op, _rule(rules, model, op, "")


def _ops(graph: ParameterGraph, vias: set[int]) -> list[str]:
    """The operators in the via chains."""
    ops: dict[str, None] = {}
    queue = sorted(vias)
    seen = set(queue)
    while queue:
        via = graph.vias[queue.pop(0)]
        if via.op:
            ops[via.op] = None
        new = [p for p in via.parents if p not in seen]
        seen.update(new)
        queue += new
    return list(ops)


def _rule(rules: Registry, model: object, op: str, domain: str) -> str:
    opset = opset_of(model, domain) if isinstance(model, onnx_ir.Model) else 1
    rule = rules.find(domain, op, opset)
    if rule is None:
        return "no rule of its own"
    return rule.function


def _halve(trial: Trial, failing: list[Generator], errors: Errors) -> tuple[Generator, Errors]:
    while len(failing) > 1:
        half = failing[: len(failing) // 2]
        found = _errors(trial, half)
        if trial.excess(found) < 1:
            half = failing[len(failing) // 2 :]
            found = _errors(trial, half)
        failing, errors = half, found
    return failing[0], errors


def _errors(trial: Trial, generators: Sequence[Generator]) -> Errors:
    return trial.errors(product(trial.graph, generators).apply(trial.values))


def _nodes(generator: Generator) -> np.ndarray:
    return generator.nodes if isinstance(generator, Factor) else generator.src


def _groups(graph: ParameterGraph, generator: Generator) -> tuple[int, ...]:
    return tuple(np.unique(graph.group_of(_nodes(generator))).tolist())
