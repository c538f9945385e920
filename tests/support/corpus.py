"""Where the tests find networks made by others: files beside the repository, and those inside the onnx wheel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from support.paths import SHARED

__all__ = ["CORPUS", "FOLDER", "GIVEN", "LIGHT", "corpus_file"]

FOLDER = SHARED / "corpus"
CORPUS = sorted(FOLDER.glob("*.onnx"))
LIGHT = sorted((Path(onnx.__file__).parent / "backend" / "test" / "data" / "light").glob("*.onnx"))

# Inputs by name, for networks to which random ones say nothing.
GIVEN = {
    "silero_vad": {
        "input": 0.1 * np.sin(np.arange(576, dtype=np.float32))[None],
        "state": np.zeros((2, 1, 128), dtype=np.float32),
        "sr": np.array(16000, dtype=np.int64),
    }
}


def corpus_file(name: str) -> Path:
    """The path of one network beside the repository."""
    return FOLDER / f"{name}.onnx"
