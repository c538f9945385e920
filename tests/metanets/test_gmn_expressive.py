"""What the metanetwork can express, by weights set by hand."""

from __future__ import annotations

import numpy as np
import torch

import gmnc
from gmnc.backends.blocks import blocks
from gmnc.metanets import GMN
from gmnc.testing import build, run

QUARTER = 0.25


def zeroed(edge_act: str = "square", **options: object) -> GMN:
    model = GMN(reverse=False, norm=False, act="relu", edge_act=edge_act, hash_buckets=4, **options).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return model


def test_runs_a_relu_network() -> None:
    """A forward pass: edges multiply (a product is a difference of squares), nodes sum and apply ReLU.

    Node channels: relu(s), relu(-s), and the constant of inputs and of the sources of biases. The edge's value is kept
    in its first channel, as ((e + 1)^2 - (e - 1)^2) / 4.
    """
    proto = build(
        """(float[1, 3] x) => (float[1, 2] y) {
            a = Gemm(x, w, b) r = Relu(a) c = Gemm(r, v, d) s = Relu(c) y = Gemm(s, u, f)
        }""",
        {"w": (3, 6), "b": (6,), "v": (6, 5), "d": (5,), "u": (5, 2), "f": (2,)},
    )
    graph = gmnc.compile(proto)
    tensors = blocks(graph, dtype=torch.float64)
    depth = 3
    model = zeroed(hidden_channels=3, mlp_channels=4, num_layers=depth + 1)
    with torch.no_grad():
        for number, layer in enumerate(model.layers):
            layer.edges.w_in[0] = torch.tensor([1.0, 1, 1, 1])
            layer.edges.of_src.weight[:2] = torch.tensor([[1.0, 0, 1], [-1, 0, -1]])
            layer.edges.of_dst.bias[2:] = torch.tensor([1.0, -1])
            layer.edges.w_out[2:, 0] = torch.tensor([QUARTER, -QUARTER])
            if number:
                # The new state is added to the old one, which holds the value already.
                layer.edges.w_out.zero_()
            first, last = layer.nodes[0], layer.nodes[3]
            first.weight[0, 3:5] = torch.tensor([QUARTER, -QUARTER])
            first.weight[1, 3:5] = torch.tensor([-QUARTER, QUARTER])
            first.weight[2, 0] = first.weight[3, 1] = 1
            last.weight[0] = torch.tensor([1.0, 0, -1, 0])
            last.weight[1] = torch.tensor([0.0, 1, 0, -1])
    rng = np.random.default_rng(0)
    given = rng.standard_normal((1, 3)).astype(np.float32)
    x = torch.zeros(graph.num_nodes, 3, dtype=torch.float64)
    for group in graph.groups:
        if group.kind == "param":
            x[group.start : group.stop, 2] = 1
    x[torch.from_numpy(graph.inputs[0].nodes).long(), 2] = torch.from_numpy(given[0]).double()
    nodes = model.states(tensors, x)[0][0]
    outputs = nodes[torch.from_numpy(graph.outputs[0].nodes).long()]
    (expected,) = run(proto, {"x": given}).values()
    assert np.allclose((outputs[:, 0] - outputs[:, 1]).detach().numpy(), expected[0], rtol=1e-5, atol=1e-6)
    assert np.abs(expected).max() > 0.1


def test_takes_moments_of_the_weights() -> None:
    """Mean and mean square of all parameters."""
    proto = build("(float[1, 3] x) => (float[1, 2] y) { a = Gemm(x, w, b) y = MatMul(a, v) }",
                  {"w": (3, 6), "b": (6,), "v": (6, 2)})  # fmt: skip
    graph = gmnc.compile(proto)
    model = zeroed(hidden_channels=2, mlp_channels=4, num_layers=1, out_channels=2)
    with torch.no_grad():
        model.edges.w_in[0] = torch.tensor([1.0, 1, 1, 0])
        model.edges.of_dst.bias[:2] = torch.tensor([1.0, -1])
        model.edges.w_out[:2, 0] = torch.tensor([QUARTER, -QUARTER])
        model.edges.w_out[2, 1] = 1
        first, last = model.last[0], model.last[3]
        first.weight[:2] = torch.tensor([[1.0, 0], [-1, 0]])
        first.weight[2] = torch.tensor([0.0, 1])
        last.weight[0, :3] = torch.tensor([1.0, -1, 0])
        last.weight[1, :3] = torch.tensor([0.0, 0, 1])
    found = model(blocks(graph, dtype=torch.float64))[0].detach().numpy()
    values = np.concatenate([p.load().reshape(-1) for p in graph.parameters.values()]).astype(np.float64)
    assert np.allclose(found, [values.mean(), np.square(values).mean()], rtol=1e-12)


def test_takes_quantiles_of_the_weights_to_a_grid() -> None:
    """The quantiles of StatNN, each to a step of a grid, which a wider network makes as fine as is wanted.

    An edge has a channel for each point of the grid: 1 where its value is greater, by a steep ramp, else 0. Their means
    are shares; the quantile q lies as many steps above the grid's start as there are shares greater than 1 - q.
    """
    proto = build("(float[1, 3] x) => (float[1, 2] y) { a = Gemm(x, w, b) y = MatMul(a, v) }",
                  {"w": (3, 6), "b": (6,), "v": (6, 2)})  # fmt: skip
    graph = gmnc.compile(proto)
    values = np.concatenate([p.load().reshape(-1) for p in graph.parameters.values()]).astype(np.float64)
    half = 0.5 / len(values)
    levels, steep = torch.tensor([half, 0.25, 0.5, 0.75, 1 - half], dtype=torch.float64), 1e6
    grid = torch.linspace(-4, 4, 401, dtype=torch.float64)
    step, points, many = 8 / 400, len(grid), len(levels)
    model = zeroed("relu", hidden_channels=points, mlp_channels=2 * many * points, num_layers=1, out_channels=many)
    with torch.no_grad():
        model.edges.w_in[0, : 2 * points] = steep
        model.edges.of_dst.bias[: 2 * points] = torch.cat([-steep * grid, -steep * grid - 1])
        model.edges.w_out[: 2 * points] = torch.cat([torch.eye(points), -torch.eye(points)])
        first, last = model.last[0], model.last[3]
        for number, level in enumerate(levels):
            ramp = slice(2 * number * points, 2 * (number + 1) * points)
            first.weight[ramp] = steep * torch.cat([torch.eye(points), torch.eye(points)])
            first.bias[ramp] = torch.cat([torch.zeros(points), -torch.ones(points)]) - steep * (1 - level)
            last.weight[number, ramp] = step * torch.cat([torch.ones(points), -torch.ones(points)])
        last.bias[:] = grid[0]
    found = model(blocks(graph, dtype=torch.float64))[0].detach().numpy()
    expected = np.quantile(values, levels.numpy(), method="inverted_cdf")
    assert expected[0] == values.min()
    assert expected[-1] == values.max()
    assert np.all(np.diff(expected) > 2 * step)
    assert np.abs(found - expected).max() <= step
