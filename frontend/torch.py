"""A torch module -> its parameter graph, by way of `torch.onnx.export`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir

from ..ir.errors import LoadError
from ..ir.graph import ParameterGraph
from .reading.load import replace_tensors

if TYPE_CHECKING:
    import torch

__all__ = ["from_torch"]


def from_torch(
    module: torch.nn.Module,
    example_inputs: torch.Tensor | Sequence[Any],
    export_options: Mapping[str, Any] | None = None,
    *,
    copy: bool = True,
    **compile_options: Any,
) -> ParameterGraph:
    """The parameter graph of a torch module, which is put in evaluation mode for the export.

    The export is `dynamo=True, optimize=False`, which keeps the names of parameters, ties, BatchNorm and zero biases.

    Args:
        module: Any module that `torch.export` takes.
        example_inputs: What the module is called with, one tensor or a sequence of arguments.
        export_options: Further arguments of `torch.onnx.export` (`kwargs`, `dynamic_shapes`, `input_names`, ...).
        copy: Take a snapshot of the weights, on the CPU, each tensor once; the graph keeps its values whatever becomes
            of the module. With False the graph is a live view: nothing is copied, and what reads values (`blocks`,
            `save`, `fingerprint`, ...) finds those that the module has at that time.
        **compile_options: As in `gmnc.compile`.

    Returns:
        The graph; its parameters have the names of the module's `state_dict`.

    Raises:
        LoadError: Torch cannot export the module.
        GmncError: What `gmnc.compile` raises.
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
    if copy:
        _snapshot(program.model)
    return compile(program.model, **compile_options)


def _snapshot(model: onnx_ir.Model) -> None:
    """Give the model weights of its own in place of the module's; what several of its tensors share is copied once."""
    import torch

    known: dict[tuple[object, ...], np.ndarray] = {}

    def own(tensor: onnx_ir.TensorProtocol) -> onnx_ir.TensorProtocol:
        raw = tensor.raw
        # Those of a module without values (on the device "meta", or exported under a fake mode) have none to copy.
        if not isinstance(raw, torch.Tensor) or raw.is_meta or isinstance(raw, torch._subclasses.FakeTensor):
            return tensor
        key = (raw.device, raw.data_ptr(), raw.dtype, raw.shape, raw.stride())
        if key not in known:
            array = tensor.numpy()
            # From another device it is a copy already.
            known[key] = array.copy() if raw.device.type == "cpu" else array
        return onnx_ir.Tensor(known[key], tensor.dtype, name=tensor.name, doc_string=tensor.doc_string)

    replace_tensors(model, own)
