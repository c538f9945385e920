"""A network, and rules of which one forgets what that network needs."""

from __future__ import annotations

from gmnc.frontend import Registry, Rule, builtin
from gmnc.testing import build

__all__ = ["LRN", "careless"]

LRN = build(
    "(float[1, 2, 3, 3] x) => (float[1, 2, 3, 3] y) { a = Conv(x, u) b = LRN<size=3, alpha=0.9>(a) y = Conv(b, v) }",
    {"u": (6, 2, 1, 1), "v": (2, 6, 1, 1)},
)
LRN.graph.node[1].name = "normalise across channels"


def careless() -> Registry:
    """Rules of which one is wrong: LRN, whose window slides over channels, passes as if it were a function of one."""
    registry = builtin().overlay()
    relu = builtin().find("", "Relu", 14)
    assert relu is not None
    registry.add(Rule("LRN", "", 1, relu.lower))
    return registry
