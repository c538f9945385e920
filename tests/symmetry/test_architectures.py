"""Networks of public packages: the number of permutations is the one derived by hand, and each of them is real.

The derivations are in `support/architectures/known_*.py`.
"""

from __future__ import annotations

import pytest
from support.architectures import KNOWN, exported, why_not

import gmnc
from gmnc.ir import ParameterGraph
from gmnc.testing import verify

pytestmark = pytest.mark.full

# The others are measured by `python -m support.architectures`, which writes them into docs/networks.md.
TESTED = (
    "mamba", "mamba2", "rwkv", "xlstm", "jamba", "mixtral", "qwen2_moe", "deepseek_v3", "gpt_oss", "llama", "phi",
    "deberta_v2", "nystromformer", "xlnet", "squeezebert", "bart", "vit", "swinv2", "levit", "xcit", "edgenext", "cait",
    "convnext", "regnet", "unet", "flux", "gcn", "sage", "gat", "gin", "transformer_conv", "rgcn", "nnconv",
)  # fmt: skip

NAMES = [pytest.param(n, marks=pytest.mark.xdist_group(n)) for n in TESTED]


def lowered(name: str) -> ParameterGraph:
    reason = why_not(name)
    if reason:
        pytest.skip(reason)
    return gmnc.compile(exported(name))


@pytest.mark.parametrize("name", NAMES)
def test_all_permutations_are_found(name: str) -> None:
    graph = lowered(name)
    found = gmnc.symmetries(graph)
    assert found.exact
    assert found.log10_size == pytest.approx(KNOWN[name], abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_claims_are_real_and_nothing_is_opaque(name: str) -> None:
    assert lowered(name).opaque == ()
    report = verify(exported(name), trials=2)
    assert report.sound or not report.generators, report
