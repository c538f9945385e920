"""The fingerprint: equal whatever the order of nodes, blocks and parameters, and different for any other change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from support.exports import Compiled, by_network
from support.parameter_graphs import random_graph

import gmnc
from gmnc.ir import ParameterGraph, ParameterView
from gmnc.testing import build

ZOO = ["perceptron", "resnet", "vit", "groupnorm", "densenet", "llama", "attention_qkv"]


def with_values(graph: ParameterGraph, values: Mapping[str, np.ndarray]) -> ParameterGraph:
    """The graph with other parameters."""
    new = {n: replace(p, load=lambda n=n: values[n]) if n in values else p for n, p in graph.parameters.items()}
    return replace(graph, parameters=new)


def relabelled(graph: ParameterGraph, rng: np.random.Generator) -> ParameterGraph:
    """The same graph: groups in another order, free nodes too, ends of blocks and links shuffled; blocks stay."""
    image = np.empty(graph.num_nodes, dtype=np.int32)
    groups, start = [], 0
    for number in rng.permutation(len(graph.groups)):
        group = graph.groups[number]
        groups.append(replace(group, start=start))
        places = np.arange(group.size)
        free = np.flatnonzero(~graph.pinned[group.start : group.stop])
        places[free] = places[rng.permutation(free)]
        image[group.start : group.stop] = start + places
        start += group.size
    pinned = np.empty_like(graph.pinned)
    pinned[image] = graph.pinned
    edges = []
    for block in graph.edges:
        b, n, _, _ = block.shape
        batch, row = rng.permutation(b), rng.permutation(n)
        at = block.view.elements()[batch][:, row]
        view = ParameterView(block.view.name, 0, block.view.shape, (0,) * 4, at)
        edges.append(replace(block, dst=image[block.dst[batch][:, row]], src=image[block.src[batch]], view=view,
                             via=block.via[batch]))  # fmt: skip
    links = []
    for link in graph.links:
        order = rng.permutation(link.size)
        new = {n: None if (v := getattr(link, n)) is None else v[order] for n in ("via", "operand", "slot")}
        links.append(replace(link, dst=image[link.dst[order]], src=image[link.src[order]], **new))
    ports = {n: tuple(replace(p, nodes=image[p.nodes]) for p in getattr(graph, n)) for n in ("inputs", "outputs")}
    links = [links[i] for i in rng.permutation(len(links))]
    return replace(graph, groups=tuple(groups), pinned=pinned, edges=tuple(edges), links=tuple(links), **ports)


def marks(graph: ParameterGraph) -> tuple[str, str]:
    return gmnc.fingerprint(graph), gmnc.fingerprint(graph, values=False)


@pytest.mark.parametrize("name", by_network(ZOO))
def test_the_order_of_nodes_does_not_matter(name: str, compiled: Compiled) -> None:
    graph = compiled(name)
    assert marks(relabelled(graph, np.random.default_rng(0))) == marks(graph)


@pytest.mark.parametrize("seed", range(25))
def test_the_order_of_nodes_of_random_graphs_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng)
    assert marks(relabelled(graph, rng)) == marks(graph)


@pytest.mark.parametrize("name", by_network(ZOO))
def test_symmetries_do_not_matter_and_values_do(name: str, compiled: Compiled) -> None:
    graph = compiled(name)
    rng = np.random.default_rng(1)
    moved = gmnc.symmetries(graph).sample(rng).apply({n: p.load() for n, p in graph.parameters.items()})
    assert moved
    assert marks(with_values(graph, moved)) == marks(graph)
    found = {gmnc.fingerprint(graph)}
    names = sorted({b.view.name for b in graph.edges if not b.constant})
    for parameter in rng.permutation(names)[:6]:
        changed = graph.parameters[parameter].load().copy()
        at = int(rng.integers(changed.size))
        changed.reshape(-1)[at] = np.nextafter(changed.reshape(-1)[at], np.float32(9))
        other = with_values(graph, {parameter: changed})
        assert gmnc.fingerprint(other, values=False) == gmnc.fingerprint(graph, values=False)
        found.add(gmnc.fingerprint(other))
    assert len(found) == 1 + len(names[:6])


def test_shared_weights_differ_from_equal_ones() -> None:
    text = """(float[1, 3] x) => (float[1, 3] y) {{
        a = MatMul(x, w)
        b = Tanh(a)
        c = MatMul(b, {})
        d = Tanh(c)
        y = MatMul(d, o)
    }}"""
    shared = gmnc.compile(build(text.format("w"), {"w": (3, 3), "o": (3, 3)}))
    apart = gmnc.compile(build(text.format("v"), {"w": (3, 3), "v": (3, 3), "o": (3, 3)}))
    equal = with_values(apart, {n: shared.parameters["w" if n == "v" else n].load() for n in "wvo"})
    assert not set(marks(shared)) & set(marks(equal))


def test_numbers_of_the_program_differ_from_parameters() -> None:
    """Only parameters are permuted: the same numbers as a table have other symmetries."""
    text = "(float[1, 2] x) => (float[1, 2] y) { h = MatMul(x, w) m = MatMul(h, t) r = Relu(m) y = MatMul(r, v) }"
    made = text.replace("m =", "a = Range(zero, six, one) c = Cast<to = 1>(a) t = Reshape(c, s) m =")
    weights = {"w": (2, 2), "v": (3, 2)}
    stored = build(text, {**weights, "t": (2, 3)}, {})
    table = build(made, weights, {"zero": np.array(0), "six": np.array(6), "one": np.array(1), "s": [2, 3]})
    graphs = gmnc.compile(stored), gmnc.compile(table)
    assert gmnc.symmetries(graphs[0]).log10_size > gmnc.symmetries(graphs[1]).log10_size
    prints = [gmnc.fingerprint(graph, values=False) for graph in graphs]
    assert prints[0] != prints[1]
