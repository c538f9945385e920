"""Places in the checkout."""

from __future__ import annotations

from pathlib import Path

__all__ = ["BENCHMARKS", "CNN", "EXAMPLES", "MLP", "ROOT", "SHARED", "TESTS"]

ROOT = Path(__file__).resolve().parents[2]
TESTS, BENCHMARKS, EXAMPLES = (ROOT / name for name in ("tests", "benchmarks", "examples"))
# Real networks and hard cases, which may lie beside the checkout.
SHARED = ROOT.parent / "shared"
MLP, CNN = EXAMPLES / "mlp.onnx", EXAMPLES / "cnn.onnx"
