"""The compiler as a pass of onnx-ir."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx_ir

from ..ir import ParameterGraph

__all__ = ["LowerToParameterGraph", "LoweringResult"]


@dataclass
class LoweringResult(onnx_ir.passes.PassResult):
    """What the pass returns: the model as it came, and its parameter graph."""

    graph: ParameterGraph


class LowerToParameterGraph(onnx_ir.passes.PassBase):
    """Lowers a model to its parameter graph and leaves the model as it is (a side-effect-only pass).

    The graph is in the result and, for pipelines that pass results on, in `graph` of the pass (None before a run).

    Args:
        **options: As in `gmnc.compile`.
    """

    in_place = True
    changes_input = False

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.graph: ParameterGraph | None = None

    def call(self, model: onnx_ir.Model) -> LoweringResult:
        """Lower a model.

        Args:
            model: As `onnx_ir.load` gives it; it stays as it is.

        Returns:
            The model, not modified, with its graph.

        Raises:
            GmncError: What `gmnc.compile` raises.
        """
        from . import compile

        self.graph = compile(model, **self.options)
        return LoweringResult(model, False, self.graph)
