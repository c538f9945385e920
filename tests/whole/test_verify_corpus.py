"""Networks made by others, verified: whatever symmetries are claimed hold in ONNX Runtime, and others would show."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.corpus import CORPUS, GIVEN

from gmnc.testing import assert_sound


@pytest.mark.full
@pytest.mark.parametrize("path", CORPUS, ids=lambda p: p.stem)
def test_corpus_is_sound(path: Path) -> None:
    report = assert_sound(path, trials=2, controls=1, inputs=GIVEN.get(path.stem))
    assert report.max_error < 1e-4
    assert report.detected or not report.generators
