"""A model whose weight is in a file of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

__all__ = ["external"]


def external(folder: Path, location: str = "w.bin", **entries: str) -> Path:
    """A linear layer whose weight is in a file of its own."""
    folder.mkdir(exist_ok=True)
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 3])
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        weight.external_data.add(key=key, value=value)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    ports = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, s])] for n, s in (("x", 2), ("y", 3))]
    graph = helper.make_graph([node], "net", *ports, initializer=[weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    (folder / "w.bin").write_bytes(np.arange(6, dtype=np.float32).tobytes())
    return folder / "m.onnx"
