"""Swap closure on hand-made graphs: known groups, brute-force orbits, and exact proofs of every generator."""

from __future__ import annotations

import numpy as np
import pytest
from support.parameter_graphs import Net, attention, brute_orbits, mlp, random_graph
from support.tiers import first

import gmnc
from gmnc.ir import GraphError, ParameterGraph, ParameterView
from gmnc.symmetry.automorphism import Automorphism, apply, compose, verify_exact
from gmnc.symmetry.closure import Closure, Contradiction
from gmnc.symmetry.find import Rejection, generators, orbits, sample, swap
from gmnc.symmetry.incidence import incidence


def sizes(graph: ParameterGraph, kind: str = "neuron") -> list[int]:
    """Sizes of the orbits of one kind of node."""
    starts = [g.start for g in graph.groups if g.kind == kind]
    members = [o for o in orbits(graph) if graph.groups[int(graph.group_of(o[:1])[0])].start in starts]
    return sorted(len(o) for o in members)


def proved(graph: ParameterGraph) -> list[Automorphism]:
    """The generators, each proved by expansion, and a few products of them."""
    found = generators(graph)
    for automorphism in found:
        verify_exact(graph, automorphism)
    rng = np.random.default_rng(0)
    for _ in range(3):
        verify_exact(graph, sample(graph, found, rng))
    return found


def test_mlp() -> None:
    graph = mlp(8, 16, 16, 3)
    assert sizes(graph) == [16, 16]
    assert len(generators(graph)) == 30
    assert isinstance(swap(graph, graph.num_nodes - 2, graph.num_nodes - 3), Rejection)
    for automorphism in generators(graph):
        assert len(automorphism.src) == 2


def test_apply_moves_rows_columns_and_bias() -> None:
    graph = mlp(3, 4, 2)
    hidden = graph.groups[1].start
    found = swap(graph, hidden, hidden + 2)
    assert isinstance(found, Automorphism)
    values = {name: p.load() for name, p in graph.parameters.items()}
    new = apply(graph, found, values)
    order = [2, 1, 0, 3]
    assert set(new) == {"w0", "w1", "b0"}
    np.testing.assert_array_equal(new["w0"], values["w0"][order])
    np.testing.assert_array_equal(new["b0"], values["b0"][order])
    np.testing.assert_array_equal(new["w1"], values["w1"][:, order])


def test_residual_stream_is_tied() -> None:
    net = Net()
    x = net.inputs(3)
    stream = first = net.linear(x, 5, "stem")
    outs = []
    for layer in range(3):
        hidden = net.linear(stream, 4, f"up{layer}")
        outs.append(net.linear(hidden, 5, f"down{layer}"))
        stream = net.join(stream, outs[-1])
    graph = net.finish(net.linear(stream, 2, "head"), x)
    proved(graph)
    found = swap(graph, int(outs[1][0]), int(outs[1][3]))
    assert isinstance(found, Automorphism)
    assert found.moved.items() >= {int(first[0]): int(first[3]), int(outs[2][3]): int(outs[2][0])}.items()
    assert sizes(graph) == [4, 4, 4, 5, 5, 5, 5]


def test_heads() -> None:
    graph, at = attention(2, 3)
    found = proved(graph)
    pair = swap(graph, int(at["q"][0]), int(at["q"][1]))
    assert isinstance(pair, Automorphism)
    assert {int(at["k"][0]), int(at["k"][1])} < set(pair.moved)
    assert not {int(at["v"][0]), int(at["k"][2])} & set(pair.moved)
    alone = swap(graph, int(at["v"][0]), int(at["v"][1]))
    assert isinstance(alone, Automorphism)
    assert not set(at["q"].tolist()) & set(alone.moved)
    head = swap(graph, int(at["q"][0]), int(at["q"][3]))
    assert isinstance(head, Automorphism)
    assert set(np.concatenate([at["q"], at["k"], at["v"]]).tolist()) <= set(head.moved)
    # stream 3 swaps, per head 2 of q with k and 2 of v, and one swap of the heads; closures of member pairs may repeat
    assert sizes(graph) == [4, 4, 6, 6, 6]
    assert len(found) >= 3 + 2 * (2 + 2) + 1


def test_table_shared_by_heads_ties_their_dimensions() -> None:
    graph, at = attention(2, 3, table=True)
    proved(graph)
    pair = swap(graph, int(at["q"][0]), int(at["q"][1]))
    assert isinstance(pair, Automorphism)
    assert {int(at["k"][3]), int(at["k"][4])} < set(pair.moved)


def test_constant_table_separates() -> None:
    net = Net()
    x = net.inputs(2)
    h = net.linear(x, 4, "w")
    net.attach(h, "cosines", constant=True)
    graph = net.finish(net.linear(h, 2, "head"), x)
    proved(graph)
    assert isinstance(swap(graph, int(h[0]), int(h[2])), Rejection)
    assert sizes(graph) == [2, 2]


def test_grouped_convolution() -> None:
    net = Net()
    x = net.inputs(3)
    h = net.linear(x, 6, "stem", slots=4)
    g = net.grouped(h, 4, 2, "grouped", slots=9)
    graph = net.finish(net.linear(g, 2, "head"), x)
    proved(graph)
    assert sizes(graph) == [4, 6]
    inside = swap(graph, int(h[0]), int(h[1]))
    across = swap(graph, int(h[0]), int(h[4]))
    assert isinstance(inside, Automorphism)
    assert isinstance(across, Automorphism)
    assert len(inside.src) == 2
    assert len(across.src) == 10


def test_depthwise_follows_its_channel() -> None:
    net = Net()
    x = net.inputs(3)
    h = net.linear(x, 4, "stem")
    d = net.grouped(h, 4, 4, "depthwise", slots=9)
    graph = net.finish(net.linear(d, 2, "head"), x)
    proved(graph)
    found = swap(graph, int(h[1]), int(h[3]))
    assert isinstance(found, Automorphism)
    assert found.moved == {int(a[i]): int(a[j]) for a in (h, d) for i, j in ((1, 3), (3, 1))}


def test_flatten_keeps_positions() -> None:
    net = Net()
    x = net.inputs(3)
    h = net.linear(x, 4, "conv")
    graph = net.finish(net.linear(np.repeat(h, 4), 2, "head"), x)
    proved(graph)
    found = swap(graph, int(h[0]), int(h[1]))
    assert isinstance(found, Automorphism)
    new = apply(graph, found, {n: p.load() for n, p in graph.parameters.items()})
    assert new["head"][0, :, 0].tolist() == [4, 5, 6, 7, 0, 1, 2, 3, *range(8, 16)]


def test_class_token_and_position_table() -> None:
    net = Net()
    x = net.inputs(3)
    patch = net.linear(x, 4, "patch")
    token = net.nodes("neuron", 4, "token")
    net.attach(token, "class")
    stream = net.nodes("join", 4, "tokens")
    for place, src in enumerate((token, patch)):
        net.builder.add_links(stream, src, "shared", slot=np.full((4, 1), place))
    net.attach(stream, "positions", "position", slots=5)
    graph = net.finish(net.linear(stream, 2, "head"), x)
    proved(graph)
    found = swap(graph, int(token[0]), int(token[1]))
    assert isinstance(found, Automorphism)
    assert len(found.src) == 6
    assert isinstance(swap(graph, int(token[0]), int(patch[0])), Rejection)


def test_slots_of_links_tell_positions_apart() -> None:
    def build(slots: bool) -> ParameterGraph:
        net = Net()
        x = net.inputs(3)
        h = net.linear(x, 2, "w")
        joined = net.nodes("join", 1)
        net.builder.add_links(np.repeat(joined, 2), h, "shared", slot=np.arange(2)[:, None] if slots else None)
        return net.finish(net.linear(joined, 2, "head"), x)

    assert orbits(build(True)) == []
    assert len(orbits(build(False))) == 1


def test_scopes_keep_groups_together() -> None:
    net = Net()
    x = net.inputs(3)
    h = net.linear(x, 6, "w")
    net.reduce(h.reshape(2, 3), "reduce", "scope")
    graph = net.finish(net.linear(h, 2, "head"), x)
    proved(graph)
    assert isinstance(inside := swap(graph, int(h[0]), int(h[1])), Automorphism)
    assert isinstance(across := swap(graph, int(h[0]), int(h[3])), Automorphism)
    assert len(inside.src) == 2
    assert len(across.src) == 8


def test_tied_embedding_moves_at_both_sites() -> None:
    net = Net()
    x = net.inputs(5)
    h = net.linear(x, 4, "embedding")
    up = net.linear(h, 4, "up")
    y = net.nodes("neuron", 5, "logits")
    view = ParameterView("embedding", 0, (1, 5, 4, 1), (0, 1, 5, 0))
    net.builder.add_edges(y[None], up[None], view, "weight")
    graph = net.finish(y, x)
    proved(graph)
    found = swap(graph, int(h[0]), int(h[2]))
    assert isinstance(found, Automorphism)
    assert found.moved == {int(a[i]): int(a[j]) for a in (h, up) for i, j in ((0, 2), (2, 0))}
    assert brute_orbits(graph) == [o.tolist() for o in orbits(graph)]


def test_shared_table_ties_layers() -> None:
    net = Net()
    x = net.inputs(2)
    first = net.linear(x, 4, "w0")
    net.attach(first, "table")
    second = net.linear(first, 4, "w1")
    net.attach(second, "table")
    graph = net.finish(net.linear(second, 2, "head"), x)
    proved(graph)
    found = swap(graph, int(first[0]), int(first[1]))
    assert isinstance(found, Automorphism)
    assert int(second[0]) in found.moved


def test_repeated_branches_swap_with_what_their_paths_name() -> None:
    net = Net()
    x = net.inputs(3)
    stem = net.linear(x, 3, "stem")
    outs, vias = [], []
    for branch in "ab":
        h = net.linear(stem, 4, f"up {branch}")
        via = net.through("Scale", blocks=(net.attach(h, f"scale {branch}", "norm.scale"),))
        outs.append(net.linear(h, 3, f"down {branch}", via))
        vias.append(via)
    joined = net.join(*outs)
    graph = net.finish(net.linear(joined, 2, "head"), x)
    proved(graph)
    found = swap(graph, int(outs[0][0]), int(outs[1][0]))
    assert isinstance(found, Automorphism)
    assert len(found.src) == 2 * (4 + 3) + 2
    assert sizes(graph) == [3, 6, 8]


def test_a_via_that_differs_rejects() -> None:
    net = Net()
    x = net.inputs(3)
    h = net.linear(x, 4, "w")
    via = np.array([[0, 0, net.through("Relu"), 0]])
    graph = net.finish(net.linear(h, 2, "head", via), x)
    assert isinstance(swap(graph, int(h[0]), int(h[2])), Rejection)
    assert sizes(graph) == [3]


def test_products_are_not_commutative_in_their_operands() -> None:
    graph, at = attention(1, 2)
    assert isinstance(swap(graph, int(at["q"][0]), int(at["k"][0])), Rejection)


@pytest.mark.parametrize("what", ["kind", "role"])
def test_kinds_and_roles_differ(what: str) -> None:
    """Two nodes that differ in their kind, or in the role of a link, alone."""

    def build(kinds: tuple[str, str], roles: tuple[str, str]) -> tuple[ParameterGraph, list[int]]:
        net = Net()
        x = net.inputs(2)
        made = [net.nodes(kind, 1) for kind in kinds]
        for node, role in zip(made, roles, strict=True):
            net.builder.add_links(np.repeat(node, 2), x, role)
        heads = net.linear(np.concatenate(made), 2, "head")
        return net.finish(heads, x), [int(node[0]) for node in made]

    same, nodes = build(("sum", "sum"), ("sum", "sum"))
    assert isinstance(swap(same, *nodes), Automorphism)
    differ = ("sum", "reduce")
    graph, nodes = build(differ if what == "kind" else ("sum", "sum"), differ if what == "role" else ("sum", "sum"))
    assert isinstance(swap(graph, *nodes), Rejection)
    assert gmnc.fingerprint(graph) != gmnc.fingerprint(same)


def test_a_closure_that_is_no_symmetry_is_not_kept() -> None:
    graph, at = attention(2, 2)
    good = swap(graph, int(at["q"][0]), int(at["q"][1]))
    assert isinstance(good, Automorphism)
    half = {x: y for x, y in good.moved.items() if x in at["q"]}
    closure = Closure(incidence(graph), image=half)
    with pytest.raises(Contradiction, match="has no image"):
        closure._verify()
    Closure(incidence(graph), image=good.moved)._verify()


def test_verify_exact_rejects_what_is_no_symmetry() -> None:
    graph, at = attention(2, 2)
    good = swap(graph, int(at["q"][0]), int(at["q"][1]))
    assert isinstance(good, Automorphism)
    half = {x: y for x, y in good.moved.items() if x in at["q"]}
    with pytest.raises(GraphError):
        verify_exact(graph, Automorphism.of_items(half, graph.num_nodes))


def test_compose_is_a_product_of_permutations() -> None:
    graph = mlp(2, 5, 2)
    rng = np.random.default_rng(3)
    values = {n: p.load() for n, p in graph.parameters.items()}
    a, b = (sample(graph, generators(graph), rng) for _ in range(2))
    twice = {**values, **apply(graph, a, values)}
    twice.update(apply(graph, b, twice))
    once = {**values, **apply(graph, compose(a, b), values)}
    for name in values:
        np.testing.assert_array_equal(once[name], twice[name])


@pytest.mark.parametrize("seed", first(3, range(12)))
def test_random_graphs(seed: int) -> None:
    """Every generator is proved by expansion, and no orbit of the full group is missed."""
    graph = random_graph(np.random.default_rng(seed))
    proved(graph)
    assert [o.tolist() for o in orbits(graph)] == brute_orbits(graph)
