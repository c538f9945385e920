"""Assertions for the tests of lowering rules."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import onnx
import onnx_ir

from ..frontend import compile
from ..ir import ParameterGraph
from ..symmetry import colours, isomorphic
from .brute import BruteForce, brute_force
from .report import Report
from .verification import verify

__all__ = ["assert_exact", "assert_isomorphic", "assert_same_up_to_symmetry", "assert_sound", "count"]

Model = str | os.PathLike[str] | onnx.ModelProto | onnx_ir.Model


def assert_sound(model: Model, **options: Any) -> Report:
    """`verify` finds nothing wrong, and could tell. options: of `verify`. Returns the report."""
    report = verify(model, **options)
    assert report.holds, "\n\n".join(report.complaints())
    assert report.sound is not None, f"not checked: {'; '.join(report.skipped)}"
    return report


def assert_exact(model: str | os.PathLike[str] | onnx.ModelProto, **options: Any) -> BruteForce:
    """`brute_force` finds no claim that is false and no symmetry that is missed.

    options: of `brute_force`. Returns the report.
    """
    report = brute_force(model, **options)
    assert report.runs, f"nothing could be run: {'; '.join(report.skipped)}"
    assert not report.false, "\n".join(report.false)
    assert not report.missed, "\n".join(report.misses())
    return report


def assert_isomorphic(a: Model | ParameterGraph, b: Model | ParameterGraph, values: bool = False) -> None:
    """The graphs have the same structure, as far as colour refinement tells; with `values`, the same parameters too."""
    left, right = _graph(a), _graph(b)
    ours, theirs = count(left), count(right)
    found = {what: (ours.get(what), theirs.get(what)) for what in {**ours, **theirs}}
    differing = {what: pair for what, pair in found.items() if pair[0] != pair[1]}
    assert not differing, f"the graphs differ in numbers: {differing}"
    assert isomorphic(left, right, values=False), f"same numbers, other structure: {_apart(left, right, values=False)}"
    if values:
        assert isomorphic(left, right), f"same structure, other values: {_apart(left, right, values=True)}"


def assert_same_up_to_symmetry(a: Model | ParameterGraph, b: Model | ParameterGraph) -> None:
    """One network is the other with its parameters permuted by a symmetry: structure and values agree together."""
    assert_isomorphic(a, b, values=True)


def count(graph: ParameterGraph) -> dict[str, dict[str, int]]:
    """Nodes by kind; parameter edges, tied edges and links by role; only what is there."""
    nodes, edges, tied, links = (Counter[str]() for _ in range(4))
    for group in graph.groups:
        nodes[group.kind] += group.size
    for block in graph.edges:
        (links if block.constant else tied if block.tied else edges)[block.role] += block.size
    for link in graph.links:
        links[link.role] += link.size
    found = {"nodes": nodes, "edges": edges, "tied": tied, "links": links}
    return {name: {k: n for k, n in counter.items() if n} for name, counter in found.items() if counter.total()}


def _graph(source: Model | ParameterGraph) -> ParameterGraph:
    return source if isinstance(source, ParameterGraph) else compile(source)


def _apart(a: ParameterGraph, b: ParameterGraph, values: bool) -> str:
    """Which node groups of each graph have colours that the other lacks."""
    left, right = colours(a, values), colours(b, values)
    words = []
    for which, graph, ours, theirs in (("first", a, left, right), ("second", b, right, left)):
        lacking = Counter(ours.tolist()) - Counter(theirs.tolist())
        groups = [g for g in graph.groups if any(c in lacking for c in ours[g.start : g.stop].tolist())]
        names = [f"{g.kind} {g.value or g.node!r}" for g in groups[:4]]
        words.append(f"only in the {which}: {', '.join(names) or 'nothing'}{', ...' if len(groups) > 4 else ''}")
    return "; ".join(words)
