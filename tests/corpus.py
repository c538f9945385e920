"""Where the tests find networks made by others: files beside the repository, and those inside the onnx wheel."""

from __future__ import annotations

from pathlib import Path

import onnx

__all__ = ["CORPUS", "LIGHT", "corpus_file"]

_FOLDER = Path(__file__).resolve().parents[2] / "shared" / "corpus"
CORPUS = sorted(_FOLDER.glob("*.onnx"))
LIGHT = sorted((Path(onnx.__file__).parent / "backend" / "test" / "data" / "light").glob("*.onnx"))


def corpus_file(name: str) -> Path:
    """The path of one network beside the repository."""
    return _FOLDER / f"{name}.onnx"
