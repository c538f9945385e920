"""LSTM, GRU and RNN: graphs counted by hand, hidden units as symmetries, and what torch exports."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from support.cases.recurrent import GATES
from support.corpus import corpus_file
from support.exports import How, export
from support.recurrent_networks import network
from torch import Tensor, nn

import gmnc
from gmnc.backends.draw import draw
from gmnc.ir import ParameterGraph
from gmnc.symmetry import fingerprint, isomorphic
from gmnc.symmetry.automorphism import verify_exact
from gmnc.testing import assert_isomorphic, assert_sound, build, count, values, with_values


def lower(model: onnx.ModelProto) -> ParameterGraph:
    graph = gmnc.compile(model)
    graph.check()
    assert graph.opaque == ()
    assert not graph.unsupported
    return graph


def test_rnn_by_hand() -> None:
    # per unit: what the input and the states before add up to, and the state itself
    assert count(lower(network("RNN"))) == {
        "nodes": {"input": 2, "gate": 4, "join": 4, "param": 2, "neuron": 2},
        "edges": {"weight": 4 * 2 + 2 * 4, "recurrent": 4 * 4, "bias": 2 * 4},
        "links": {"gate": 4},
    }


def test_lstm_by_hand() -> None:
    # per unit: gates i, o, f, c; cell and state; the cell reads i, f, c and itself, the state reads o and the cell
    assert count(lower(network("LSTM"))) == {
        "nodes": {"input": 2, "gate": 16, "join": 8, "param": 2, "neuron": 2},
        "edges": {"weight": 16 * 2 + 2 * 4, "recurrent": 16 * 4, "bias": 2 * 16},
        "links": {"gate": 4 * 4, "recurrent": 4, "state": 4},
    }


def test_bidirectional_lstm_with_peepholes_and_initial_states_by_hand() -> None:
    model = network("LSTM", 'direction = "bidirectional"', directions=2, h0=(2, 1, 4), c0=(2, 1, 4), p=(2, 12))
    # a source node per entry of the initial states, linked to the state or cell that it starts
    assert count(lower(model)) == {
        "nodes": {"input": 2, "gate": 32, "join": 16, "param": 4 + 2, "neuron": 16 + 2},
        "edges": {"weight": 32 * 2 + 2 * 8, "recurrent": 32 * 4, "bias": 2 * 32, "peephole": 2 * 12, "source": 16},
        "links": {"gate": 8 * 4, "recurrent": 8, "state": 8, "initial": 16},
    }


def test_gru_by_hand() -> None:
    # per unit: gates z, r, h; the product r * H, which h reads; the state, which reads z, h and itself
    assert count(lower(network("GRU"))) == {
        "nodes": {"input": 2, "gate": 12, "product": 4, "join": 4, "param": 2, "neuron": 2},
        "edges": {"weight": 12 * 2 + 2 * 4, "recurrent": 12 * 4, "bias": 2 * 12},
        "links": {"reset": 2 * 4, "gate": 2 * 4, "recurrent": 4},
    }


def test_gru_with_reset_after_the_weight_by_hand() -> None:
    # instead of the product, a neuron of the recurrent weight, whose product with r the gate h reads
    assert count(lower(network("GRU", "linear_before_reset = 1"))) == {
        "nodes": {"input": 2, "gate": 12, "neuron": 4 + 2, "join": 4, "param": 2},
        "edges": {"weight": 12 * 2 + 2 * 4, "recurrent": 12 * 4, "bias": 2 * 12},
        "links": {"reset": 2 * 4, "gate": 2 * 4, "recurrent": 4},
    }


def test_coupled_gates_leave_the_forget_gate_unread() -> None:
    graph = lower(network("LSTM", "input_forget = 1"))
    assert graph.not_parameters() == {"never read": 4 * (2 + 4 + 1 + 1)}


def test_depth_counts_one_pass() -> None:
    graph = lower(network("LSTM"))
    assert {g.kind: g.depth for g in graph.groups if g.kind != "param"} == {
        "input": 0, "gate": 1, "join": 1, "neuron": 2,
    }  # fmt: skip


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("directions", [1, 2])
def test_hidden_units_can_be_permuted(op: str, directions: int) -> None:
    """Every permutation of the units of a direction is a symmetry, and moves all of a unit's nodes together."""
    attributes = f'direction = "{("forward", "bidirectional")[directions - 1]}"'
    model = network(op, attributes, bias=False, directions=directions)
    graph = lower(model)
    units = [g for g in graph.groups if g.kind in ("gate", "join", "product")]
    found = gmnc.symmetries(graph)
    orbits = sorted((o.tolist() for o in found.orbits), key=min)
    assert orbits == [list(range(g.start, g.stop)) for g in units]
    assert found.log10_size == pytest.approx(directions * math.log10(24))
    for generator in found.generators:
        verify_exact(graph, generator)
        moved = np.unique(graph.group_of(generator.src))
        assert len(moved) == len(units) // directions
    assert assert_sound(model, trials=3).detected


def test_inputs_and_outputs_fix_the_units() -> None:
    """States that the network's user hands in and out keep their order."""
    model = build(
        """(float[3, 1, 2] x, float[1, 1, 4] h0) => (float[3, 1, 1, 4] y) {
            y = RNN<hidden_size = 4>(x, w, r, "", "", h0)
        }""",
        {"w": (1, 4, 2), "r": (1, 4, 4)},
    )
    graph = lower(model)
    assert count(graph)["links"] == {"gate": 4, "initial": 4}
    assert not gmnc.symmetries(graph).generators


@pytest.mark.parametrize("op", ["LSTM", "GRU"])
@pytest.mark.parametrize("tensor", ["w", "r", "b"])
def test_gates_are_told_apart(op: str, tensor: str) -> None:
    model = network(op)
    blocks = values(model, tensor).reshape(1, -1, 4, *values(model, tensor).shape[2:])
    marks = {fingerprint(lower(model))}
    for place in range(1, GATES[op]):
        order = list(range(blocks.shape[1]))
        order[0], order[place] = order[place], order[0]
        swapped = blocks[:, order].reshape(values(model, tensor).shape)
        marks.add(fingerprint(lower(with_values(model, **{tensor: swapped}))))
    assert len(marks) == GATES[op]


def test_permuted_units_are_the_same_network() -> None:
    model, order = network("LSTM"), [2, 0, 3, 1]
    w, r, b = (values(model, n) for n in ("w", "r", "b"))
    w, b = w.reshape(1, 4, 4, 2)[:, :, order].reshape(w.shape), b.reshape(1, 8, 4)[:, :, order].reshape(b.shape)
    rows = r.reshape(1, 4, 4, 4)[:, :, order]
    same = with_values(model, w=w, b=b, r=rows[..., order].reshape(r.shape), wo=values(model, "wo")[order])
    assert_isomorphic(model, same, values=True)
    half = with_values(model, w=w, b=b, r=rows.reshape(r.shape), wo=values(model, "wo")[order])
    assert not isomorphic(lower(model), lower(half))


def test_structure_tells_cells_apart() -> None:
    cells = [
        network("GRU"), network("GRU", "linear_before_reset = 1"), network("GRU", 'direction = "reverse"'),
        network("GRU", 'activations = ["Sigmoid", "Relu"]'), network("GRU", 'activations = ["Tanh", "Sigmoid"]'),
        network("GRU", "clip = 1.0"), network("GRU", "clip = 2.0"), network("GRU", bias=False),
        network("GRU", h0=(1, 1, 4)),
        network("LSTM"), network("LSTM", "input_forget = 1"), network("LSTM", p=(1, 12)), network("LSTM", h0=(1, 1, 4)),
        network("LSTM", c0=(1, 1, 4)), network("RNN"),
    ]  # fmt: skip
    assert len({fingerprint(lower(m), values=False) for m in cells}) == len(cells)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("directions", [1, 2])
def test_batch_first_layout_is_a_transposed_one(op: str, directions: int) -> None:
    d, gates = directions, GATES[op]
    floats = {
        "w": (d, 4 * gates, 2), "r": (d, 4 * gates, 4), "b": (d, 8 * gates), "h0": (d, 3, 4), "wo": (4, 2),
    }  # fmt: skip
    settings = f'hidden_size = 4, direction = "{["forward", "bidirectional"][d - 1]}"'
    head = f"(float[3, 5, 2] x) => (float[3, 5, {d}, 2] y, float[3, {d}, 4] last) {{"
    batch_first = f"""{head}
        h = Transpose<perm = [1, 0, 2]>(h0)
        s, last = {op}<{settings}, layout = 1>(x, w, r, b, "", h)
        y = MatMul(s, wo)
    }}"""
    time_first = f"""{head}
        t = Transpose<perm = [1, 0, 2]>(x)
        q, l = {op}<{settings}>(t, w, r, b, "", h0)
        s = Transpose<perm = [2, 0, 1, 3]>(q)
        last = Transpose<perm = [1, 0, 2]>(l)
        y = MatMul(s, wo)
    }}"""
    models = [build(text, floats) for text in (batch_first, time_first)]
    assert_isomorphic(*models, values=True)
    if directions == 1:
        x = {"x": np.random.default_rng(0).standard_normal((3, 5, 2)).astype(np.float32)}
        for ours, theirs in zip(*(ReferenceEvaluator(m).run(None, x) for m in models), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_weights_in_another_order_stay_views() -> None:
    """Gates that a file keeps in torch's order (i, f, c, o) and sorts by Slice and Concat."""
    model = network("LSTM", bias=False)
    blocks = {n: values(model, n)[0].reshape(4, 4, -1)[[0, 2, 3, 1]].reshape(16, -1) for n in ("w", "r")}
    sort = "\n".join(
        f"""{n}_i = Slice({n}0, at0, at4, axis)
        {n}_o = Slice({n}0, at12, at16, axis)
        {n}_fc = Slice({n}0, at4, at12, axis)
        {n}_s = Concat<axis = 0>({n}_i, {n}_o, {n}_fc)
        {n} = Unsqueeze({n}_s, axis)"""
        for n in ("w", "r")
    )
    text = f"""(float[3, 1, 2] x) => (float[3, 1, 2] y) {{
        {sort}
        s = LSTM<hidden_size = 4>(x, w, r)
        u = Squeeze(s, one)
        y = MatMul(u, wo)
    }}"""
    ints = {f"at{n}": [n] for n in (0, 4, 12, 16)} | {"axis": [0], "one": [1]}
    other = with_values(
        build(text, {"w0": (16, 2), "r0": (16, 4), "wo": (4, 2)}, ints), w0=blocks["w"], r0=blocks["r"],
        wo=values(model, "wo"),
    )  # fmt: skip
    graph = lower(other)
    assert all(block.view.index is None for block in graph.edges)
    assert_isomorphic(model, other, values=True)


def test_features_that_differ_by_time_are_joined() -> None:
    model = build(
        """(float[1, 2] x) => (float[4, 1, 1, 2] y) {
            f = MatMul(x, w0)
            t = Reshape(f, steps)
            s = LSTM<hidden_size = 4>(t, w, r)
            y = MatMul(s, wo)
        }""",
        {"w0": (2, 12), "w": (1, 16, 3), "r": (1, 16, 4), "wo": (4, 2)},
        {"steps": [4, 1, 3]},
    )
    graph = lower(model)
    # 3 features, each what it is at 4 steps
    assert count(graph)["links"]["shared"] == 12
    assert count(graph)["edges"]["weight"] == 2 * 12 + 16 * 3 + 4 * 2
    assert assert_sound(model, trials=3).generators


def test_channels_in_the_batch_share_one_cell() -> None:
    model = build(
        """(float[1, 2, 6] x) => (float[1, 2] y) {
            c = Conv(x, w0)
            t = Transpose<perm = [2, 1, 0]>(c)
            s, h = GRU<hidden_size = 4>(t, w, r)
            f = Reshape(h, flat)
            y = MatMul(f, wo)
        }""",
        {"w0": (3, 2, 1), "w": (1, 12, 1), "r": (1, 12, 4), "wo": (12, 2)},
        {"flat": [1, 12]},
    )
    graph = lower(model)
    assert count(graph)["edges"] == {"weight": 6 + 12 + 24, "recurrent": 48}
    assert_sound(model, trials=3)


class Tagger(nn.Module):
    def __init__(self, cell: str, layers: int, bidirectional: bool, batch_first: bool) -> None:
        super().__init__()
        self.rnn = getattr(nn, cell)(3, 4, layers, bidirectional=bidirectional, batch_first=batch_first)
        self.head = nn.Linear(4 * (1 + bidirectional), 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0])


SETTINGS = {"one": (1, False, False), "two": (2, False, True), "both": (1, True, True), "two-both": (2, True, False)}


def exported(cell: str, setting: str, how: How) -> tuple[nn.Module, onnx.ModelProto]:
    torch.manual_seed(0)
    module = Tagger(cell, *SETTINGS[setting]).eval()
    return module, export(module, (torch.randn(2, 5, 3),), how)


@pytest.mark.full
@pytest.mark.parametrize(("cell", "setting"), [("LSTM", "one"), ("LSTM", "two"), ("LSTM", "both"), ("GRU", "two-both")])
def test_torch(cell: str, setting: str) -> None:
    """Edges are the module's parameters, the hidden units are symmetric, and the exporters agree."""
    graphs = []
    for how in ("torchscript", "dynamo"):
        module, model = exported(cell, setting, how)
        report = assert_sound(model, trials=3)
        assert report.graph is not None
        assert_torch(module, report.graph)
        assert report.generators >= 3 * (1 + ("two" in setting)) * (1 + ("both" in setting))
        graphs.append(report.graph)
    assert_isomorphic(*graphs, values=True)


def assert_torch(module: nn.Module, graph: ParameterGraph) -> None:
    assert graph.opaque == ()
    assert graph.num_parameter_edges == sum(p.numel() for p in module.parameters())
    assert all(block.view.index is None for block in graph.edges)


@pytest.mark.parametrize("setting", ["two", "both"])
def test_torch_rnn(setting: str) -> None:
    """The other exporter unrolls plain recurrence."""
    module, model = exported("RNN", setting, "torchscript")
    assert_torch(module, lower(model))
    assert_sound(model, trials=3)


def test_the_optimised_export_differs_in_names_only() -> None:
    """The optimiser folds the sorting of the gates and the zeros that the cell starts from."""
    graphs = [lower(exported("LSTM", "both", how)[1]) for how in ("dynamo", "dynamo-optimized")]
    assert_isomorphic(*graphs, values=True)


def test_silero() -> None:
    path = corpus_file("silero_16k_sequence")
    if not path.exists():
        pytest.skip("the corpus of real networks is not there")
    report = assert_sound(path, trials=2)
    graph = report.graph
    assert graph is not None
    assert graph.opaque == ()
    assert count(graph)["edges"]["recurrent"] == 4 * 128 * 128
    assert report.generators > 500


def test_a_cyclic_graph_can_be_drawn(tmp_path: Path) -> None:
    target = tmp_path / "cell.svg"
    draw(lower(network("LSTM")), target)
    assert target.stat().st_size > 1000
