"""An ONNX file as a torch module that can be trained, and its tensors back in the file, for `pruning.py`.

Nodes are run one after another by the functions of `OPERATORS`, as many as the files of that benchmark need. Nodes that
depend on no input and no trained value, such as the shapes of tensors, are run once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import helper, numpy_helper
from torch import Tensor, nn

__all__ = ["OPERATORS", "OnnxModule"]

Attributes = dict[str, Any]
Function = Callable[..., Tensor]


def _dtype(number: int) -> torch.dtype:
    return torch.as_tensor(np.zeros(0, helper.tensor_dtype_to_np_dtype(number))).dtype


def _constant(value: Any = None, value_ints: Any = None, value_int: Any = None, value_float: Any = None,
              value_floats: Any = None) -> Tensor:  # fmt: skip
    if value is not None:
        return torch.as_tensor(numpy_helper.to_array(value).copy())
    integers, floats = (next((v for v in some if v is not None), None)
                        for some in ((value_ints, value_int), (value_floats, value_float)))  # fmt: skip
    return torch.as_tensor(integers) if integers is not None else torch.as_tensor(floats, dtype=torch.float32)


def _reshape(x: Tensor, shape: Tensor, allowzero: int = 0) -> Tensor:
    sizes = [x.shape[i] if n == 0 and not allowzero else n for i, n in enumerate(shape.tolist())]
    return x.reshape(sizes)


def _slice(x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None) -> Tensor:
    where = range(len(starts)) if axes is None else axes.tolist()
    strides = [1] * len(starts) if steps is None else steps.tolist()
    index = [slice(None)] * x.dim()
    for axis, start, end, step in zip(where, starts.tolist(), ends.tolist(), strides, strict=True):
        index[axis] = slice(start, end, step)
    return x[tuple(index)]


def _expand(x: Tensor, shape: Tensor) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, shape.tolist()))


def _gather(x: Tensor, index: Tensor, axis: int = 0) -> Tensor:
    index = torch.where(index < 0, index + x.shape[axis], index)
    found = x.index_select(axis, index.reshape(-1))
    axis %= x.dim()
    return found.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


def _unsqueeze(x: Tensor, axes: Tensor) -> Tensor:
    rank = x.dim() + axes.numel()
    for axis in sorted(a % rank for a in axes.reshape(-1).tolist()):
        x = x.unsqueeze(axis)
    return x


def _reduce_mean(x: Tensor, axes: Tensor, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
    return x.mean(axes.tolist(), keepdim=bool(keepdims))


def _gemm(a: Tensor, b: Tensor, c: Tensor | None = None, alpha: float = 1, beta: float = 1, transA: int = 0,
          transB: int = 0) -> Tensor:  # fmt: skip
    product = alpha * ((a.T if transA else a) @ (b.T if transB else b))
    return product if c is None else product + beta * c


def _symmetric(pads: list[int]) -> list[int]:
    half = len(pads) // 2
    if pads[:half] != pads[half:]:
        raise NotImplementedError(f"padding {pads}")
    return pads[:half]


def _conv(x: Tensor, weight: Tensor, bias: Tensor | None = None, group: int = 1, pads: Any = (0, 0, 0, 0),
          strides: Any = (1, 1), dilations: Any = (1, 1), **_: Any) -> Tensor:  # fmt: skip
    return F.conv2d(x, weight, bias, list(strides), _symmetric(list(pads)), list(dilations), group)


def _max_pool(x: Tensor, kernel_shape: Any, pads: Any = (0, 0, 0, 0), strides: Any = (1, 1), dilations: Any = (1, 1),
              ceil_mode: int = 0, **_: Any) -> Tensor:  # fmt: skip
    return F.max_pool2d(x, list(kernel_shape), list(strides), _symmetric(list(pads)), list(dilations), bool(ceil_mode))


def _instance_norm(x: Tensor, scale: Tensor, bias: Tensor, epsilon: float = 1e-5) -> Tensor:
    return F.instance_norm(x, weight=scale, bias=bias, eps=epsilon)


def _layer_norm(x: Tensor, scale: Tensor, bias: Tensor | None = None, axis: int = -1, epsilon: float = 1e-5,
                **_: Any) -> Tensor:  # fmt: skip
    return F.layer_norm(x, x.shape[axis:], scale, bias, epsilon)


def _squeeze(x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(axes.tolist()))


OPERATORS: dict[str, Function] = {
    "Add": torch.add,
    "Cast": lambda x, to, **_: x.to(_dtype(to)),
    "CastLike": lambda x, like, **_: x.to(like.dtype),
    "Clip": torch.clamp,
    "Concat": lambda *xs, axis: torch.cat(xs, axis),
    "Constant": _constant,
    "Conv": _conv,
    "Expand": _expand,
    "Gather": _gather,
    "Gelu": lambda x, approximate=b"none": F.gelu(x, approximate=approximate.decode()),
    "Gemm": _gemm,
    "Identity": lambda x: x,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "MatMul": torch.matmul,
    "MaxPool": _max_pool,
    "Mul": torch.mul,
    "Neg": torch.neg,
    "Pow": torch.pow,
    "Range": torch.arange,
    "Reciprocal": torch.reciprocal,
    "ReduceMean": _reduce_mean,
    "Relu": torch.relu,
    "Reshape": _reshape,
    "Shape": lambda x, start=0, end=None: torch.tensor(x.shape[start:end], dtype=torch.int64),
    "Sigmoid": torch.sigmoid,
    "Slice": _slice,
    "Softmax": lambda x, axis=-1: x.softmax(axis),
    "Sqrt": torch.sqrt,
    "Squeeze": _squeeze,
    "Sub": torch.sub,
    "Transpose": lambda x, perm: x.permute(list(perm)),
    "Trilu": lambda x, k=None, upper=1: (x.triu if upper else x.tril)(0 if k is None else int(k)),
    "Unsqueeze": _unsqueeze,
    "Where": torch.where,
}


class OnnxModule(nn.Module):
    """A model whose named tensors can be trained, statistics of BatchNormalization included.

    Args:
        model: A model of one input and one output, whose operators are all in `OPERATORS`.
        trained: Names of the initializers that are trained; those that the model does not have are ignored.

    Raises:
        NotImplementedError: An operator is not in `OPERATORS`.
    """

    def __init__(self, model: onnx.ModelProto, trained: Iterable[str]) -> None:
        super().__init__()
        self.model = model
        graph, wanted = model.graph, set(trained)
        tensors = {t.name: torch.as_tensor(numpy_helper.to_array(t).copy()) for t in graph.initializer}
        self.input, self.output = graph.input[0].name, graph.output[0].name
        self.values = {n: nn.Parameter(t) if n in wanted else t for n, t in tensors.items()}
        for number, (name, tensor) in enumerate(self.values.items()):
            if name in wanted:
                self.register_parameter(f"tensor{number}", tensor)
        self.static = dict(self.values)
        self.steps: list[tuple[Function, list[str], str, Attributes]] = []
        changing = {self.input, *(wanted & tensors.keys())}
        for node in graph.node:
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            step = self._function(node), list(node.input), node.output[0], attributes
            shape_of_weight = node.op_type == "Shape" and node.input[0] in tensors
            statistics = node.op_type == "BatchNormalization"
            if (changing & {*node.input} and not shape_of_weight) or statistics:
                changing.update(node.output)
                self.steps.append(step)
            else:
                self._run([step], self.static)

    def _function(self, node: onnx.NodeProto) -> Function:
        if node.op_type == "BatchNormalization":
            return self._batch_norm
        if node.op_type not in OPERATORS:
            raise NotImplementedError(f"operator {node.op_type}")
        return OPERATORS[node.op_type]

    def _batch_norm(self, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor, epsilon: float = 1e-5,
                    momentum: float = 0.9, **_: Any) -> Tensor:  # fmt: skip
        return F.batch_norm(x, mean, var, scale, bias, self.training, 1 - momentum, epsilon)

    @staticmethod
    def _run(steps: Iterable[tuple[Function, list[str], str, Attributes]], values: dict[str, Tensor]) -> None:
        for function, inputs, output, attributes in steps:
            values[output] = function(*(values[n] if n else None for n in inputs), **attributes)

    def forward(self, x: Tensor) -> Tensor:
        """The output for an input."""
        values = {**self.static, self.input: x}
        self._run(self.steps, values)
        return values[self.output]

    def written(self) -> onnx.ModelProto:
        """The model with the values that the tensors have now."""
        found = onnx.ModelProto()
        found.CopyFrom(self.model)
        for tensor in found.graph.initializer:
            tensor.CopyFrom(numpy_helper.from_array(self.values[tensor.name].detach().numpy(), tensor.name))
        return found
