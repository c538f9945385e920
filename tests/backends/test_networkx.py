import numpy as np
import pytest
from support import backend_graphs

from gmnc.backends import networkx as backend
from gmnc.ir import GmncError


@pytest.fixture
def graph():
    return backend_graphs.every_kind_of_edge()


def test_every_node_and_edge_is_there(graph):
    out = backend.networkx(graph)
    assert out.number_of_nodes() == graph.num_nodes
    assert out.number_of_edges() == graph.num_parameter_edges + graph.num_tied_edges + graph.num_links
    by_role = {}
    for _, _, edge in out.edges(data=True):
        by_role[edge["role"]] = by_role.get(edge["role"], 0) + 1
    assert by_role == {"weight": 6 + 6 + 24, "bias": 3, "value": 2, "Sub": 4, "Add": 2}


def test_attributes_have_names(graph):
    out = backend.networkx(graph)
    assert out.nodes[3] == {
        "kind": "neuron", "group": 1, "index": 1, "pinned": False, "depth": 1, "value": "h", "node": "MatMul_0",
        "inputs": (), "outputs": (),
    }  # fmt: skip
    assert out.nodes[8]["outputs"] == ((0, 1, "Relu"),)
    w = graph.parameters["w"].load()
    first, *rest = list(out.get_edge_data(1, 4).values())
    assert not rest
    assert first == {
        "role": "weight", "link": False, "constant": False, "tied": False, "parameter": "w", "element": 5,
        "value": float(w[2, 1]), "via": "", "slot": (), "occurrence": 0, "operand": None, "block": 0,
    }  # fmt: skip
    tied = [e for e in out.get_edge_data(4, 7).values() if e["tied"]]
    assert [e["element"] for e in tied] == [5]
    assert tied[0]["via"] == "Relu"


def test_repeated_sources_have_places_and_slots(graph):
    edges = [e for e in backend.networkx(graph).get_edge_data(2, 6).values() if e["parameter"] == "k"]
    assert sorted((e["occurrence"], e["slot"], e["element"]) for e in edges) == [
        (place, divmod(s, 2), 8 * place + s) for place in (0, 1) for s in range(4)
    ]


def test_links_tell_their_operand(graph):
    out = backend.networkx(graph)
    assert [(e["operand"], e["slot"]) for e in out.get_edge_data(0, 8).values()] == [(1, (1,))]
    assert all(e["value"] is None for _, _, e in out.edges(data=True) if e["link"])


def test_values_can_be_left_out(graph):
    out = backend.networkx(graph, values=False)
    assert all(e["value"] is None for _, _, e in out.edges(data=True))


def test_a_large_graph_is_refused_unless_forced(graph, monkeypatch):
    monkeypatch.setattr(backend, "MAX_EDGES", 10)
    with pytest.raises(GmncError, match="47 edges"):
        backend.networkx(graph)
    assert backend.networkx(graph, force=True).number_of_edges() == 47


def test_isomorphic_after_a_relabelling(graph):
    import networkx as nx

    a = backend.networkx(graph)
    order = np.random.default_rng(1).permutation(graph.num_nodes).tolist()
    b = nx.relabel_nodes(a, dict(enumerate(order)))
    assert nx.is_isomorphic(a, b, lambda x, y: x["kind"] == y["kind"])
