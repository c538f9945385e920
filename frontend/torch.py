"""A torch module -> its parameter graph, by way of `torch.onnx.export`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..ir.errors import LoadError
from ..ir.graph import ParameterGraph

if TYPE_CHECKING:
    import torch

__all__ = ["from_torch"]


def from_torch(
    module: torch.nn.Module,
    example_inputs: torch.Tensor | Sequence[Any],
    export_options: Mapping[str, Any] | None = None,
    **compile_options: Any,
) -> ParameterGraph:
    """The parameter graph of a torch module, which is put in evaluation mode for the export.

    example_inputs: what the module is called with, one tensor or a sequence of arguments.
    export_options: further arguments of `torch.onnx.export` (`kwargs`, `dynamic_shapes`, `input_names`, ...).
    compile_options: as in `gmnc.compile`.
    The export is `dynamo=True, optimize=False`: it keeps the names of parameters, ties, BatchNorm and zero biases; the
    weights stay in the module's own memory. Raises `LoadError` if torch cannot export the module, and what
    `gmnc.compile` raises.
    """
    import torch

    from . import compile

    arguments = (example_inputs,) if isinstance(example_inputs, torch.Tensor) else tuple(example_inputs)
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        options = {"verbose": False, **(export_options or {})}
        program = torch.onnx.export(module, arguments, dynamo=True, optimize=False, **options)
    except torch.onnx.OnnxExporterError as error:
        name = type(module).__name__
        raise LoadError(f"torch cannot export {name}: {error}; export it yourself and pass the .onnx file") from error
    finally:
        for part, mode in training.items():
            part.training = mode
    assert program is not None
    return compile(program.model, **compile_options)
