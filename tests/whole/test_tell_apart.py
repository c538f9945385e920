"""What changes a network must change its graph, and what does not must leave it isomorphic.

Each change is made on networks of the zoo as exporters write them, and is first put to ONNX Runtime: it alters the
output, or it does not.
"""

from __future__ import annotations

import numpy as np
import pytest
from support.changes import DIFFERENT, SAME, Change, by_change, changed, reordered, rows, transposition
from support.exports import HOWS, How, exported
from support.networks import VARIANTS

import gmnc
from gmnc.symmetry import isomorphic
from gmnc.testing import disagreement, random_inputs, run


@pytest.mark.parametrize(("name", "how"), by_change(DIFFERENT))
def test_what_changes_the_output_changes_the_graph(name: str, how: How) -> None:
    a, b = changed(DIFFERENT[name], how)
    inputs = random_inputs(a)
    assert disagreement(run(a, inputs), run(b, inputs)) > 1e-4
    left, right = gmnc.compile(a), gmnc.compile(b)
    assert not isomorphic(left, right)
    assert gmnc.fingerprint(left) != gmnc.fingerprint(right)
    assert gmnc.fingerprint(left, values=False) == gmnc.fingerprint(right, values=False)


@pytest.mark.parametrize(("name", "how"), by_change(SAME))
def test_what_keeps_the_output_keeps_the_graph(name: str, how: How) -> None:
    a, b = changed(SAME[name], how)
    inputs = random_inputs(a)
    assert disagreement(run(a, inputs), run(b, inputs)) < 1e-5
    left, right = gmnc.compile(a), gmnc.compile(b)
    assert isomorphic(left, right)
    assert gmnc.fingerprint(left) == gmnc.fingerprint(right)
    names = {t.name for t in a.graph.initializer}
    assert any(
        not np.array_equal(left.parameters[n].load(), right.parameters[n].load()) for n in names & {*left.parameters}
    )


@pytest.mark.full
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_other_functions_of_the_same_parameters(variant: str, how: How) -> None:
    a, b = exported("resnet", how), exported(variant, how)
    inputs = random_inputs(a)
    ours, theirs = (list(run(m, inputs).values()) for m in (a, b))
    assert disagreement({"": ours[0]}, {"": theirs[0]}) > 1e-4
    left, right = gmnc.compile(a), gmnc.compile(b)
    assert left.num_parameter_edges == right.num_parameter_edges
    assert not isomorphic(left, right, values=False)
    for values in (False, True):
        assert gmnc.fingerprint(left, values) != gmnc.fingerprint(right, values)


def test_ports_keep_their_order() -> None:
    """Features of the input and of the output are not alike, whatever the weights between them."""
    columns = Change("perceptron", reordered({"0.weight": 1}, transposition(8, (2, 5))))
    outputs = Change("perceptron", reordered(rows("4"), transposition(3, (0, 1))))
    for change in (columns, outputs):
        a, b = changed(change, "dynamo")
        inputs = random_inputs(a)
        assert disagreement(run(a, inputs), run(b, inputs)) > 1e-4
        assert gmnc.fingerprint(gmnc.compile(a)) != gmnc.fingerprint(gmnc.compile(b))
