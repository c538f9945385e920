"""Networks of public packages: the number of permutations is the one derived by hand, and each of them is real.

The derivations are in `support.architectures.known`.
"""

from __future__ import annotations

import pytest
from support.architectures import KNOWN, exported, why_not

import gmnc
from gmnc.ir import ParameterGraph
from gmnc.testing import verify

pytestmark = pytest.mark.full

# What is still missed, and where. The test fails if one of them is found: then take it off this list.
MISSED: dict[str, str] = {}


def known(missed: bool) -> list[object]:
    """The architectures whose group is known; those in `MISSED` with a mark, if they are expected to fail."""
    marks = {n: [pytest.mark.xfail(reason=r, strict=True, raises=AssertionError)] for n, r in MISSED.items() if missed}
    return [pytest.param(n, marks=[*marks.get(n, []), pytest.mark.xdist_group(n)]) for n in KNOWN]


def lowered(name: str) -> ParameterGraph:
    reason = why_not(name)
    if reason:
        pytest.skip(reason)
    return gmnc.compile(exported(name))


@pytest.mark.parametrize("name", known(missed=True))
def test_all_permutations_are_found(name: str) -> None:
    graph = lowered(name)
    found = gmnc.symmetries(graph)
    assert found.exact
    assert found.log10_size == pytest.approx(KNOWN[name], abs=1e-6)


@pytest.mark.parametrize("name", known(missed=False))
def test_claims_are_real_and_nothing_is_opaque(name: str) -> None:
    assert lowered(name).opaque == ()
    report = verify(exported(name), trials=2)
    assert report.sound or not report.generators, report
