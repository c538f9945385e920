"""Compiles a torch module by way of `torch.onnx.export`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir

from ..ir import LoadError, ParameterGraph
from .model.keys import STATE
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
    """Export a torch module to ONNX and lower it to its parameter graph.

    The module is in evaluation mode during the export. The export uses `dynamo=True, optimize=False`, which keeps
    parameter names, ties, BatchNorm and zero biases.

    Args:
        module: Any module that `torch.export` supports.
        example_inputs: The arguments of the module's call: one tensor or a sequence.
        export_options: Further arguments of `torch.onnx.export` (`kwargs`, `dynamic_shapes`, `input_names`, ...).
        copy: Copy the weights to the CPU, each tensor once, so that the graph keeps its values when the module
            changes. With False the graph is a live view: nothing is copied, and readers of values (`blocks`, `save`,
            `fingerprint`, ...) see the module's current ones.
        **compile_options: As in `gmnc.compile`.

    Returns:
        The graph; its parameters have the names of the module's `state_dict`.

    Raises:
        LoadError: It is no module, or torch cannot export it.
        GmncError: As raised by `gmnc.compile`.
    """
    import torch

    from . import compile

    if not isinstance(module, torch.nn.Module):
        raise LoadError(f"a torch.nn.Module is needed, not a value of type {type(module).__name__}")
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
    program.model.metadata_props[STATE] = json.dumps(_notes(module, program.model))
    if copy:
        _snapshot(program.model)
    return compile(program.model, **compile_options)


def _notes(module: torch.nn.Module, model: onnx_ir.Model) -> dict[str, Any]:
    """What the module's state has otherwise than the model: further names of tied tensors, and what no state has."""
    state = module.state_dict(keep_vars=True)
    first: dict[int, str] = {}
    held = {name for graph in model.graphs() for name in graph.initializers}
    for name in sorted(state, key=lambda n: n not in held):
        first.setdefault(id(state[name]), name)
    tied = {name: first[id(tensor)] for name, tensor in state.items() if first[id(tensor)] != name}
    constants = {n.outputs[0].name for graph in model.graphs() for n in graph if n.op_type == "Constant"}
    return {"tied": tied, "kept": sorted(name for name in held | constants if name and name not in state)}


def _snapshot(model: onnx_ir.Model) -> None:
    """Replace the module's weights in the model by copies; shared storage is copied once."""
    import torch

    known: dict[tuple[object, ...], np.ndarray] = {}

    def own(tensor: onnx_ir.TensorProtocol) -> onnx_ir.TensorProtocol:
        raw = tensor.raw
        # Modules on the device "meta" or exported in fake mode have no values to copy.
        if not isinstance(raw, torch.Tensor) or raw.is_meta or isinstance(raw, torch._subclasses.FakeTensor):
            return tensor
        key = (raw.device, raw.data_ptr(), raw.dtype, raw.shape, raw.stride())
        if key not in known:
            array = tensor.numpy()
            # Tensors of other devices have been copied by `numpy`.
            known[key] = array.copy() if raw.device.type == "cpu" else array
        return onnx_ir.Tensor(known[key], tensor.dtype, name=tensor.name, doc_string=tensor.doc_string)

    replace_tensors(model, own)
