"""Networks made by others, verified: whatever symmetries are claimed hold in ONNX Runtime, and others would show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from corpus import CORPUS

from gmnc.testing import assert_sound

GIVEN = {
    "silero_vad": {
        "input": 0.1 * np.sin(np.arange(576, dtype=np.float32))[None],
        "state": np.zeros((2, 1, 128), dtype=np.float32),
        "sr": np.array(16000, dtype=np.int64),
    }
}


@pytest.mark.parametrize("path", CORPUS, ids=lambda p: p.stem)
def test_corpus_is_sound(path: Path) -> None:
    report = assert_sound(path, trials=2, controls=1, inputs=GIVEN.get(path.stem))
    assert report.max_error < 1e-4
    assert report.detected or not report.generators
