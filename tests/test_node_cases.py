"""ONNX's own cases of every operator: they compile with weights in every place, the account closes, claims are true.

One case per operator and version; all of them with the environment variable GMNC_NODE_CASES=all (ten minutes).
"""

from __future__ import annotations

import os

import onnx
import pytest
from node_cases import collect, examine, sample, variants

from gmnc.frontend import builtin

ALL = os.environ.get("GMNC_NODE_CASES") == "all"
CHUNKS = 48 if ALL else 12


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_cases(chunk: int) -> None:
    """Chunks can run in parallel; of the sample, the variant with most weights is verified, the others compile."""
    cases = (collect() if ALL else sample())[chunk::CHUNKS]
    complaints = []
    for case in cases:
        made = list(variants(case))
        for number, variant in enumerate(made, 1):
            outcome = examine(variant, trials=1 if ALL or number == len(made) else 0)
            if outcome.complaint:
                complaints.append(f"{outcome.variant}: {outcome.complaint}")
    assert not complaints, "\n".join(complaints)


def test_all_cases_are_collected() -> None:
    assert len(collect()) >= 1800


def test_sample_covers_every_operator_and_version() -> None:
    assert {o for case in collect() for o in case.operators} == {o for case in sample() for o in case.operators}


def test_declared_operators_exist() -> None:
    """What is declared to have no structure is an operator of ONNX, and says why."""
    for rule in builtin():
        if rule.declared:
            assert onnx.defs.has(rule.op, rule.domain), rule.op
