"""Parameter graphs made by hand for the tests of the backends."""

from __future__ import annotations

import numpy as np

from gmnc.ir import AccountEntry, GraphBuilder, OpaqueOp, Parameter, ParameterGraph, ParameterView, Port, Problem


def parameter(name: str, array: np.ndarray, origin: str = "initializer") -> Parameter:
    return Parameter(name, array.shape, array.dtype.name, origin, lambda: array)


def every_kind_of_edge(dtype: np.dtype | type = np.float32) -> ParameterGraph:
    """Ten nodes: a tied weight, a bias by index, a kernel over a repeated source, a constant, all sorts of links."""
    g = GraphBuilder()
    rng = np.random.default_rng(0)

    def add(name: str, *shape: int, constant: bool = False) -> None:
        table = g.constants if constant else g.parameters
        table[name] = parameter(name, rng.standard_normal(shape).astype(dtype))

    add("w", 3, 2)
    add("b", 5)
    add("k", 2, 3, 2, 2)
    add("left over", 7)
    add("rope", 2, constant=True)
    x = g.nodes("input", 2, 0, "", "x", "net")
    g.pin(x)
    h = g.nodes("neuron", 3, 1, "MatMul_0", "h")
    one = g.nodes("param", 1, 0, "", "b")
    y = g.nodes("neuron", 2, 2, "MatMul_1", "y")
    z = g.nodes("join", 2, 2, "Sub_0", "z")
    relu = g.via("Relu", (), (0,))
    g.add_edges(h[None], x[None], ParameterView("w", 0, (1, 3, 2, 1), (0, 2, 1, 0)), "weight")
    index = np.array([4, 0, 2]).reshape(3, 1, 1, 1)
    bias = g.add_edges(
        h[:, None], np.broadcast_to(one, (3, 1)), ParameterView("b", 0, (3, 1, 1, 1), (0, 0, 0, 0), index), "bias"
    )
    pool = g.via("MaxPool", [("kernel_shape", (2, 2)), ("ceil_mode", 0.1), ("auto_pad", "p")], (relu,), (bias,))
    g.add_edges(y[None], h[None], ParameterView("w", 0, (1, 2, 3, 1), (0, 1, 2, 0)), "weight", via=relu)
    slots = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.int32)
    src = np.array([[h[0], h[1], h[0]]])
    g.add_edges(y[None], src, ParameterView("k", 0, (1, 2, 3, 4), (0, 12, 4, 1)), "weight", slots, via=pool)
    g.add_edges(z[:, None], y[:, None], ParameterView("rope", 0, (2, 1, 1, 1), (1, 0, 0, 0)), "value", constant=True)
    g.add_links(np.repeat(z, 2), np.stack([y, x], 1).reshape(-1), "Sub", relu, np.tile([0, 1], 2), np.arange(4))
    g.add_links(z, y, "Add")
    g.pin(z)
    return g.finish(
        "every kind",
        [AccountEntry("b", 2, "dead"), AccountEntry("left over", 7, "opaque")],
        [Port("x", x, np.zeros(2, np.int32))],
        [Port("z", z[::-1], np.full(2, relu, np.int32)), Port("y", y, np.zeros(2, np.int32))],
        [OpaqueOp("Foo", "custom", "foo_0", "no rule")],
        [Problem("Foo", "custom", 1, "foo_0", "no rule", "write one")],
    )
