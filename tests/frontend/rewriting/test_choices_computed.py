"""Networks with codes in place of indices, and all experts in place of the chosen one, compute what they did before."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir
import pytest
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from gmnc.frontend.passes import model_after
from gmnc.frontend.reading.load import load
from gmnc.frontend.rules.registry import builtin
from gmnc.testing import run

from . import test_codes, test_gathered

SUMMED = "the tokens of one expert after the other, by any of two"
"""What is not chosen is left out of a sum of all scores, which nothing computes."""

CASES = {
    **{f"router: {n}": (test_codes.network, *case[:2]) for n, case in test_codes.ROUTERS.items() if n != SUMMED},
    **{f"table: {n}": (test_codes.network, *case[:2]) for n, case in test_codes.TABLES.items()},
    **{f"expert: {n}": (test_gathered.network, *case[:2]) for n, case in test_gathered.FORMS.items()},
}


def _order(x: np.ndarray, axis: int, largest: int) -> np.ndarray:
    """The rank of each entry along an axis."""
    return np.argsort(np.argsort(-x if largest else x, axis=axis, kind="stable"), axis=axis)


class Chosen(OpRun):
    op_domain = "gmnc"

    def _run(self, x: np.ndarray, *scores: np.ndarray, **attributes: Any) -> tuple[np.ndarray]:
        by = scores[0] if scores else x
        among = _order(by, self.axis, self.largest) < self.k  # type: ignore[attr-defined]
        # What is not chosen has no share behind a softmax or a sigmoid, or is left out by a mask.
        return (among.astype(x.dtype) if getattr(self, "mask", 0) else np.where(among, x, -1e3).astype(x.dtype),)


class Ranked(OpRun):
    op_domain = "gmnc"

    def _run(self, x: np.ndarray, **attributes: Any) -> tuple[np.ndarray]:
        order = _order(x, -1, self.largest)[..., None, :]  # type: ignore[attr-defined]
        return ((order == np.arange(self.k)[:, None]).astype(x.dtype),)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", CASES)
def test_the_results_are_the_same(name: str) -> None:
    make, text, shapes = CASES[name]
    model = make(text, shapes)
    rewritten = onnx_ir.to_proto(model_after(load(model), "dense-experts", {}, {}, builtin()))
    rewritten.opset_import.append(onnx.helper.make_opsetid("gmnc", 1))
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    before = run(model, {"x": x})
    after = ReferenceEvaluator(rewritten, new_ops=[Chosen, Ranked]).run(None, {"x": x})
    np.testing.assert_allclose(after[0], before["y"], rtol=1e-5, atol=1e-6)
