"""Assertions for tests of lowering rules."""

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
    """Assert that every symmetry claimed for a model holds, and that the check was able to tell.

    Args:
        model: An ONNX model, or the path of one.
        **options: Options of `verify`.

    Returns:
        The report of `verify`.

    Raises:
        AssertionError: A claim fails, or the symmetries could not be checked.
    """
    report = verify(model, **options)
    assert report.holds, "\n\n".join(report.complaints())
    assert report.sound is not None, f"not checked: {'; '.join(report.skipped)}"
    return report


def assert_exact(model: str | os.PathLike[str] | onnx.ModelProto, **options: Any) -> BruteForce:
    """Assert by brute force that no claimed symmetry is false and none is missed.

    Args:
        model: A small ONNX model, or the path of one.
        **options: Options of `brute_force`.

    Returns:
        The report of `brute_force`.

    Raises:
        AssertionError: A claim is false, a symmetry is missed, or the network could not be run.
    """
    report = brute_force(model, **options)
    assert report.runs, f"nothing could be run: {'; '.join(report.skipped)}"
    assert not report.false, "\n".join(report.false)
    assert not report.missed, "\n".join(report.misses())
    return report


def assert_isomorphic(a: Model | ParameterGraph, b: Model | ParameterGraph, values: bool = False) -> None:
    """Assert that two graphs are isomorphic, as far as colour refinement can tell.

    Args:
        a: A graph, or a model to compile.
        b: A graph, or a model to compile.
        values: Compare the values of parameters too, and not the structure alone.

    Raises:
        AssertionError: They differ; the message says where.
    """
    left, right = _graph(a), _graph(b)
    ours, theirs = count(left), count(right)
    found = {what: (ours.get(what), theirs.get(what)) for what in {**ours, **theirs}}
    differing = {what: pair for what, pair in found.items() if pair[0] != pair[1]}
    assert not differing, f"the graphs differ in numbers: {differing}"
    assert isomorphic(left, right, values=False), (
        f"same numbers, other structure: {_difference(left, right, values=False)}"
    )
    if values:
        assert isomorphic(left, right), f"same structure, other values: {_difference(left, right, values=True)}"


def assert_same_up_to_symmetry(a: Model | ParameterGraph, b: Model | ParameterGraph) -> None:
    """Assert that one network is the other with its parameters permuted by a symmetry.

    Args:
        a: A graph, or a model to compile.
        b: A graph, or a model to compile.

    Raises:
        AssertionError: They differ in structure or values.
    """
    assert_isomorphic(a, b, values=True)


def count(graph: ParameterGraph) -> dict[str, dict[str, int]]:
    """Count the nodes and edges of a graph.

    Args:
        graph: The graph.

    Returns:
        The counts under "nodes" by kind, and under "edges" (that carry a parameter first), "tied" and "links"
        (constants included) by role; without zeros.
    """
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


def _difference(a: ParameterGraph, b: ParameterGraph, values: bool) -> str:
    """Describe the node groups of each graph that have colours the other lacks."""
    left, right = colours(a, values), colours(b, values)
    words = []
    for which, graph, ours, theirs in (("first", a, left, right), ("second", b, right, left)):
        lacking = Counter(ours.tolist()) - Counter(theirs.tolist())
        groups = [g for g in graph.groups if any(c in lacking for c in ours[g.start : g.stop].tolist())]
        names = [f"{g.kind} {g.value or g.node!r}" for g in groups[:4]]
        words.append(f"only in the {which}: {', '.join(names) or 'nothing'}{', ...' if len(groups) > 4 else ''}")
    return "; ".join(words)
