"""Fused operators of ONNX Runtime and of recent opsets that have sizes in attributes."""

from __future__ import annotations

from collections.abc import Callable

from .operators import dynamic_lstm
from .step import Step

__all__ = ["CONTRIB"]

CONTRIB: dict[tuple[str, str], Callable[[Step], None]] = {
    ("com.microsoft", "DynamicQuantizeLSTM"): dynamic_lstm,
}
"""How nodes follow the cuts, by domain and operator."""
