"""The rule against ONNX Runtime."""

from __future__ import annotations

import gmnc_cdist  # declares the rule

import gmnc
from gmnc.frontend import builtin
from gmnc.testing import assert_sound, build

TEXT = """(float[1, 3] x) => (float[1, 2] y) {
    d = com.microsoft.CDist <metric = "%s"> (x, centres)
    n = Neg(d)
    r = Exp(n)
    y = MatMul(r, readout)
}"""
FLOATS = {"centres": (5, 3), "readout": (5, 2)}

RULES = builtin().overlay()
RULES.include(gmnc_cdist.__name__)


def rbf(metric: str = "sqeuclidean"):
    return build(TEXT % metric, FLOATS, domains={"com.microsoft": 1})


def test_hidden_units_can_trade_places() -> None:
    report = assert_sound(rbf(), registry=RULES)
    assert report.generators == 4  # of 5 units
    assert report.detected > 0


def test_every_parameter_is_an_edge() -> None:
    graph = gmnc.compile(rbf(), registry=RULES)
    assert not graph.opaque
    assert graph.num_parameter_edges == graph.num_parameters == 5 * 3 + 5 * 2


def test_the_metric_shows() -> None:
    vias = [{str(v) for v in gmnc.compile(rbf(m), registry=RULES).vias} for m in ("euclidean", "sqeuclidean")]
    assert vias[0] != vias[1]


def test_moving_centres_are_refused() -> None:
    text = (
        TEXT.replace("d = ", "c = Mul(centres, s) d = ")
        .replace("(x, centres)", "(x, c)")
        .replace("x)", "x, float s)", 1)
    )
    model = build(text % "euclidean", FLOATS, domains={"com.microsoft": 1})
    [problem] = [p for p in gmnc.compile(model, registry=RULES).unsupported if p.op == "CDist"]
    assert "both operands" in problem.reason
