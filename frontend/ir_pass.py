"""The compiler as a pass of onnx-ir."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx_ir

from ..ir import ParameterGraph

__all__ = ["LowerToParameterGraph", "LoweringResult"]


@dataclass
class LoweringResult(onnx_ir.passes.PassResult):
    """The result of the pass: the unmodified model and its parameter graph."""

    graph: ParameterGraph


class LowerToParameterGraph(onnx_ir.passes.PassBase):
    """Lowers a model to its parameter graph and leaves the model as it is (a side-effect-only pass).

    The graph is in the result and, for pipelines that drop results, in the attribute `graph` (None before a run).

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
            model: The model; it is not modified.

        Returns:
            The model and its graph.

        Raises:
            GmncError: As raised by `gmnc.compile`.
        """
        from . import compile

        self.graph = compile(model, **self.options)
        return LoweringResult(model, False, self.graph)
