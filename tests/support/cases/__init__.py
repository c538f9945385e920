"""Small networks around one operator each, by family of operators: what every lowering rule is checked on."""

from __future__ import annotations

from .case import Case, build
from .control import control_cases
from .elementwise import elementwise_cases
from .fused import fused_cases
from .layers import layer_cases
from .loops import loop_cases
from .ml import ml_cases
from .movement import movement_cases
from .operators import operator_cases
from .quantised import quantised_cases
from .recurrent import recurrent_cases
from .regressions import regression_cases
from .sequences import sequence_cases
from .stored import stored_cases

__all__ = ["CASES", "Case", "build"]

CASES = [
    *control_cases(), *elementwise_cases(), *fused_cases(), *layer_cases(), *loop_cases(), *ml_cases(),
    *movement_cases(), *operator_cases(), *recurrent_cases(), *sequence_cases(), *stored_cases(), *quantised_cases(),
    *regression_cases(),
]  # fmt: skip
