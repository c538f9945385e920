"""Networks that read one sparse tensor each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx.parser
from onnx import helper, numpy_helper

__all__ = ["NETWORKS", "network", "sparse", "tensor"]

HEAD = '<ir_version: 8, opset_import: ["" : 17]> agraph (float[1, 3, 4] x) => (float[1, 3, N] y) {'
# Each network reads the tensor s of this shape, and the dense tensors below.
NETWORKS = {
    "weight": ((4, 6), "h = MatMul(x, s) r = Relu(h) y = MatMul(r, wo)"),
    "last weight": ((6, 2), "h = MatMul(x, wh) r = Relu(h) y = MatMul(r, s)"),
    "transposed": ((6, 4), "t = Transpose(s) h = MatMul(x, t) r = Relu(h) y = MatMul(r, wo)"),
    "vector": ((6,), "m = MatMul(x, wh) h = Add(m, s) r = Relu(h) y = MatMul(r, wo)"),
    "positions": ((3, 6), "m = MatMul(x, wh) h = Add(m, s) r = Relu(h) y = MatMul(r, wo)"),
    "kernel": ((6, 3, 2), "h = Conv<pads = [1, 0]>(x, s) r = Relu(h) y = Flatten(r)"),
    "table": ((3, 6), "i = Constant<value_ints = [[2, 0, 1]]>() e = Gather(s, i) m = MatMul(x, wh) h = Add(e, m)"
     " r = Relu(h) y = MatMul(r, wo)"),
    "stream": ((1, 1, 4), "c = Concat<axis = 1>(s, x) h = MatMul(c, wh) r = Relu(h) y = MatMul(r, wo)"),
    "twice": ((4, 4), "h = MatMul(x, s) r = Relu(h) g = MatMul(r, s) e = Relu(g) m = MatMul(e, wh) y = MatMul(m, wo)"),
    "computed": ((4, 6), "k = Constant<value_float = 2.0>() t = Mul(s, k) h = MatMul(x, t) r = Relu(h)"
     " y = MatMul(r, wo)"),
}  # fmt: skip


def tensor(shape: Sequence[int]) -> np.ndarray:
    """Half of the entries are zeros; some columns have them at the same places."""
    rng = np.random.default_rng(3)
    values = rng.uniform(0.3, 1.2, shape) * rng.choice([-1.0, 1.0], shape)
    zero = np.indices(shape).sum(axis=0) % 2 == 0
    return np.where(zero, 0, values).astype(np.float32)


def sparse(name: str, dense: np.ndarray, linear: bool = False) -> onnx.SparseTensorProto:
    places = np.argwhere(dense)
    if linear:
        places = np.ravel_multi_index(tuple(places.T), dense.shape)
    indices = numpy_helper.from_array(places.astype(np.int64), "places")
    return helper.make_sparse_tensor(numpy_helper.from_array(dense[dense != 0], name), indices, dense.shape)


def network(kind: str, how: str) -> onnx.ModelProto:
    """how: "dense", "sparse", "linear" (indices), or "constant" (a Constant node)."""
    shape, body = NETWORKS[kind]
    text = body.replace("i = Constant<value_ints = [[2, 0, 1]]>()", "")
    model = onnx.parser.parse_model(
        f"{HEAD} {text} }}".replace("[1, 3, N] y", "[M, N] y" if kind == "kernel" else "[1, L, N] y")
    )
    rng = np.random.default_rng(0)
    for name, size in (("wh", (4, 6)), ("wo", (6, 2))):
        if name in text:
            model.graph.initializer.append(numpy_helper.from_array(rng.normal(size=size).astype(np.float32), name))
    if kind == "table":
        model.graph.initializer.append(numpy_helper.from_array(np.array([[2, 0, 1]]), "i"))
    dense = tensor(shape)
    if how == "dense":
        model.graph.initializer.append(numpy_helper.from_array(dense, "s"))
    elif how == "constant":
        model.graph.node.insert(0, helper.make_node("Constant", [], ["s"], sparse_value=sparse("s", dense)))
    else:
        model.graph.sparse_initializer.append(sparse("s", dense, how == "linear"))
    return model
