"""ONNX's own cases of every operator: they compile with weights in every place, the account closes, claims are true.

One case per operator and version; all of them with the environment variable GMNC_NODE_CASES=all (ten minutes).
"""

from __future__ import annotations

import functools
import os

import onnx
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema
from support.node_cases import NodeCase, Outcome, collect, examine, sample, variants
from support.tiers import first

from gmnc.frontend import builtin

ALL = os.environ.get("GMNC_NODE_CASES") == "all"
CHUNKS = 48 if ALL else 12
# Of all cases; the sample counts every version once, and control flow and training have many.
SHARE = 0.95 if ALL else 0.9


@functools.cache
def outcomes(case: NodeCase) -> tuple[Outcome, ...]:
    """Of the sample, the variant with most weights is verified, the others compile."""
    made = list(variants(case))
    return tuple(examine(v, trials=1 if ALL or number == len(made) else 0) for number, v in enumerate(made, 1))


def cases() -> tuple[NodeCase, ...]:
    return collect() if ALL else sample()


@pytest.mark.xdist_group("node cases")
@pytest.mark.parametrize("chunk", range(CHUNKS) if ALL else first(1, range(CHUNKS)))
def test_cases(chunk: int) -> None:
    found = [o for case in cases()[chunk::CHUNKS] for o in outcomes(case) if o.complaint]
    assert not found, "\n".join(f"{o.variant}: {o.complaint}" for o in found)


@pytest.mark.full
@pytest.mark.xdist_group("node cases")
def test_share_that_is_lowered() -> None:
    """In all of its variants, so with a weight in any place."""
    lowered = [case for case in cases() if not any(o.opaque for o in outcomes(case))]
    assert len(lowered) >= SHARE * len(cases())


def test_all_cases_are_collected() -> None:
    assert len(collect()) >= 1800


def test_sample_covers_every_operator_and_version() -> None:
    assert {o for case in collect() for o in case.operators} == {o for case in sample() for o in case.operators}


def test_declared_operators_exist() -> None:
    """What is declared to have no structure is an operator of ONNX or of ONNX Runtime, and says why."""
    known = {(schema.domain, schema.name) for schema in get_all_operator_schema()}
    for rule in builtin():
        if rule.declared:
            assert onnx.defs.has(rule.op, rule.domain) or (rule.domain, rule.op) in known, rule.op
