"""The graph of `tests/backends/stores/version-2.safetensors`, by hand: every field of the store has a value.

Change nothing here: a file of that version says what it said when it was written. A new version gets its own.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gmnc.ir import (
    AccountEntry,
    EdgeBlock,
    LinkBlock,
    NodeGroup,
    OpaqueOp,
    Parameter,
    ParameterGraph,
    ParameterView,
    Port,
    Problem,
    Via,
)

__all__ = ["version_2"]


def _ids(*values: int | list[int]) -> np.ndarray:
    return np.array(values, dtype=np.int32)


def _held(name: str, array: np.ndarray, origin: str) -> Parameter:
    return Parameter(name, array.shape, array.dtype.name, origin, lambda: array)


def version_2() -> ParameterGraph:
    """Nine nodes: x [2], h [3], a bias source, y [2] and a pinned z [1]."""
    groups = (
        NodeGroup("input", 0, 2, 0, "", "x", "net"),
        NodeGroup("neuron", 2, 3, 1, "MatMul_0", "h", "net/first"),
        NodeGroup("param", 5, 1, 0, "", "b"),
        NodeGroup("neuron", 6, 2, 2, "MatMul_1", "y", "net/second"),
        NodeGroup("join", 8, 1, 2, "Sub_0", "z"),
    )
    x, h, y = _ids(0, 1), _ids(2, 3, 4), _ids(6, 7)
    vias = (
        Via(""),
        Via("Relu", (), (0,)),
        Via(
            "MaxPool",
            (("auto_pad", "SAME_UPPER"), ("ceil_mode", 0.5), ("kernel_shape", (2, 2)), ("opaque", b"\x00\xff")),
            (1,),
            (1,),
            (4, 4),
        ),
    )
    bias = ParameterView("b", 0, (3, 1, 1, 1), (0, 0, 0, 0), np.array([4, 0, 2]).reshape(3, 1, 1, 1))
    everywhere = np.zeros((1, 0), np.int32)
    slots = _ids([0, 0], [0, 1], [1, 0], [1, 1])
    edges = (
        EdgeBlock(h[None], x[None], ParameterView("w", 0, (1, 3, 2, 1), (0, 2, 1, 0)), "weight", everywhere,
                  _ids([0, 0]), node="MatMul_0"),
        EdgeBlock(h[:, None], np.broadcast_to(_ids(5), (3, 1)), bias, "bias", everywhere, np.zeros((3, 1), np.int32)),
        EdgeBlock(y[None], h[None], ParameterView("w", 1, (1, 2, 3, 1), (0, -1, 2, 0)), "weight", everywhere,
                  _ids([1, 1, 1]), tied=True, node="MatMul_1"),
        EdgeBlock(y[None], _ids([2, 3, 2]), ParameterView("k", 0, (1, 2, 3, 4), (0, 12, 4, 1)), "weight", slots,
                  _ids([2, 2, 2])),
        EdgeBlock(y[:, None], y[:, None], ParameterView("rope", 0, (2, 1, 1, 1), (1, 0, 0, 0)), "value", everywhere,
                  np.zeros((2, 1), np.int32), constant=True),
    )  # fmt: skip
    links = (
        LinkBlock(_ids(8, 8), _ids(6, 0), "Sub", _ids(1, 1), _ids(0, 1), _ids([0], [1]), "Sub_0"),
        LinkBlock(_ids(8), _ids(7), "Add", _ids(0)),
    )
    graph = ParameterGraph(
        "every field",
        groups,
        np.array([True, True, False, False, False, False, False, False, True]),
        edges,
        links,
        vias,
        {
            "w": _held("w", np.arange(6, dtype=np.float32).reshape(3, 2) / 4, "initializer"),
            "b": _held("b", np.array([1, -2, 3, -4, 5], np.float32), "constant"),
            "k": _held("k", np.arange(24, dtype=np.float16).reshape(2, 3, 2, 2), "initializer"),
            "left over": _held("left over", np.arange(7, dtype=np.int64), "initializer"),
        },
        {"rope": _held("rope", np.array([0.5, -0.5]), "initializer")},
        (AccountEntry("b", 2, "dead"), AccountEntry("left over", 7, "opaque")),
        (Port("x", x, _ids(0, 0)),),
        (Port("z", _ids(8), _ids(2)), Port("y", y, _ids(0, 0))),
        (OpaqueOp("Foo", "custom", "foo_0", "no rule"),),
        (Problem("Foo", "custom", 1, "foo_0", "no rule", "write one", "plugin:foo"),),
    )
    return replace(graph, paired=np.array([False] * 6 + [True, False, False]))
