"""A Llama-like model of any size, with all-zero weights in a sparse external file that takes no disk space."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

__all__ = ["Llama"]

_BLOCK = 32


@dataclass(frozen=True, slots=True)
class Llama:
    """The configuration of a Llama-like model; the default one has 1.1e9 parameters.

    Attributes:
        vocabulary: Number of tokens.
        width: Size of the residual stream.
        inner: Width of the feed-forward layers.
        layers: Number of layers.
        heads: Number of query heads.
        shared: Number of key and value heads.
        length: Sequence length, in tokens.
        packed: Store matrices in 4 bits, as `MatMulNBits` (com.microsoft).
        dtype: Of all other tensors, an ONNX float type.
    """

    vocabulary: int = 32000
    width: int = 2048
    inner: int = 5632
    layers: int = 22
    heads: int = 32
    shared: int = 4
    length: int = 16
    packed: bool = False
    dtype: int = TensorProto.FLOAT16

    @property
    def parameters(self) -> int:
        """Number of elements of all matrices and norms, without the scales of packed matrices."""
        side = self.width * self.shared // self.heads
        layer = 2 * self.width * (self.width + side) + 3 * self.width * self.inner + 2 * self.width
        return 2 * self.vocabulary * self.width + self.layers * layer + self.width

    def write(self, path: Path) -> Path:
        """Write the model, and its weights beside it with the suffix `.bin`.

        Args:
            path: File to write.

        Returns:
            `path`.
        """
        file = _File(path.with_suffix(".bin").name, self.packed, self.dtype)
        shape: list[str | int | None] = ["batch", self.length]
        x = file.node("Gather", [file.tensor("embed", (self.vocabulary, self.width)), "ids"], axis=0)
        half = self.width // self.heads // 2
        angles = np.outer(np.arange(self.length), 10000.0 ** -(np.arange(half) / half))
        tables = [file.constant(name, f(angles)[None]) for name, f in (("cos", np.cos), ("sin", np.sin))]
        for i in range(self.layers):
            x = self._layer(file, f"layers.{i}", x, tables)
        x = file.linear(file.norm(x, "norm", self.width), "head", self.width, self.vocabulary)
        file.nodes[-1].output[0] = "logits"
        graph = helper.make_graph(
            file.nodes,
            "llama",
            [helper.make_tensor_value_info("ids", TensorProto.INT64, shape)],
            [helper.make_tensor_value_info("logits", self.dtype, [*shape, self.vocabulary])],
            file.tensors,
        )
        opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=11), path)
        with open(path.with_suffix(".bin"), "wb") as weights:
            weights.truncate(file.offset)
        return path

    def _layer(self, file: _File, name: str, x: str, tables: list[str]) -> str:
        side = self.width * self.shared // self.heads
        y = file.norm(x, f"{name}.attention_norm", self.width)
        q, k, v = (
            file.linear(y, f"{name}.{n}", self.width, m) for n, m in zip("qkv", (self.width, side, side), strict=True)
        )
        counts = {"q": self.heads, "k": self.shared}
        q, k = (file.node("RotaryEmbedding", [t, *tables], num_heads=counts[n]) for n, t in (("q", q), ("k", k)))
        y = file.node("Attention", [q, k, v], q_num_heads=self.heads, kv_num_heads=self.shared, is_causal=1)
        x = file.node("Add", [x, file.linear(y, f"{name}.o", self.width, self.width)])
        y = file.norm(x, f"{name}.ffn_norm", self.width)
        gate, up = (file.linear(y, f"{name}.{n}", self.width, self.inner) for n in ("gate", "up"))
        y = file.node("Mul", [file.node("Mul", [gate, file.node("Sigmoid", [gate])]), up])
        return file.node("Add", [x, file.linear(y, f"{name}.down", self.inner, self.width)])


@dataclass(slots=True)
class _File:
    """Nodes and tensors so far; the tensors are consecutive in the weight file, aligned to 64 bytes."""

    location: str
    packed: bool
    dtype: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)
    offset: int = 0

    def tensor(self, name: str, shape: tuple[int, ...], dtype: int | None = None) -> str:
        dtype = dtype or self.dtype
        size = math.prod(shape) * helper.tensor_dtype_to_np_dtype(dtype).itemsize
        tensor = TensorProto(name=name, dims=shape, data_type=dtype, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", self.location), ("offset", self.offset), ("length", size)):
            tensor.external_data.add(key=key, value=str(value))
        self.offset += -(-size // 64) * 64
        self.tensors.append(tensor)
        return name

    def constant(self, name: str, array: np.ndarray) -> str:
        self.tensors.append(
            onnx.numpy_helper.from_array(array.astype(helper.tensor_dtype_to_np_dtype(self.dtype)), name)
        )
        return name

    def node(self, op: str, inputs: list[str], domain: str = "", **attributes: int) -> str:
        output = f"v{len(self.nodes)}"
        node = helper.make_node(op, inputs, [output], name=f"n{len(self.nodes)}", domain=domain)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self.nodes.append(node)
        return output

    def norm(self, x: str, name: str, width: int) -> str:
        return self.node("RMSNormalization", [x, self.tensor(f"{name}.weight", (width,))], axis=-1)

    def linear(self, x: str, name: str, fan_in: int, fan_out: int) -> str:
        if not self.packed:
            return self.node("MatMul", [x, self.tensor(f"{name}.weight", (fan_in, fan_out))])
        blocks = fan_in // _BLOCK
        weight = self.tensor(f"{name}.weight", (fan_out, blocks, _BLOCK // 2), TensorProto.UINT8)
        scales = self.tensor(f"{name}.scales", (fan_out, blocks))
        return self.node(
            "MatMulNBits", [x, weight, scales], "com.microsoft", K=fan_in, N=fan_out, bits=4, block_size=_BLOCK
        )
