"""Distributes products over weights that are linear expressions of parameters.

`x (W + s A B)` becomes `x W + s ((x A) B)`, `x (g * V)` becomes `(x V) * g`: the same function in terms of activations,
so that its graph is that of a network written in this way. Expressions are left alone if they are not linear in each of
their tensors, or if an intermediate value would be as large as the weight.

| operator | its computed operand |
|---|---|
| MatMul, Gemm, Einsum of two operands | either |
| Conv | the kernel, see `_of_conv` |
| Gather along axis 0 at computed indices | the table, see `_of_gather` |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set

import onnx_ir

from ..inference.shapes import ValueInfo
from .contractions import contracted
from .expressions import Expressions, NotLinear

__all__ = ["distribute"]


def distribute(model: onnx_ir.Model, known: dict[onnx_ir.Value, ValueInfo], mixed: Set[onnx_ir.Value]) -> int:
    """Distribute the contractions of a normalised model, in place; returns how many were.

    known: gains the new values. mixed: the values with entries that depend on several parameter elements.
    """
    done = 0
    for node in list(model.graph):
        if node.domain or node.graph is None or all(v in mixed for v in node.outputs):
            continue
        places = [i for i in _PLACES.get(node.op_type, ()) if i < len(node.inputs)]
        computed = [i for i in places if node.inputs[i] in mixed]
        if len(computed) == 1:
            done += _rewritten(_REWRITES[node.op_type], Expressions(node, known, mixed), computed[0])
    return done


def _rewritten(rewrite: Callable[[Expressions, int], onnx_ir.Value], made: Expressions, place: int) -> bool:
    try:
        result = rewrite(made, place)
    except NotLinear:
        return False
    made.replace(result)
    return True


def _of_matmul(made: Expressions, place: int) -> onnx_ir.Value:
    x, weight = made.node.inputs[1 - place], made.node.inputs[place]
    assert x is not None
    assert weight is not None
    rank, batch = len(made.shape(x)), "abcdefghijkl"
    if len(made.shape(weight)) != 2 or rank < 1:
        raise NotLinear
    if place == 1:
        return contracted(made, x, weight, (f"{batch[: rank - 1]}y", "yz", f"{batch[: rank - 1]}z"))
    if rank == 1:
        return contracted(made, x, weight, ("y", "zy", "z"))
    lead = batch[: rank - 2]
    return contracted(made, x, weight, (f"{lead}yw", "zy", f"{lead}zw"))


def _of_gemm(made: Expressions, place: int) -> onnx_ir.Value:
    node = made.node
    alpha, beta, flipped = made.gemm(node.outputs[0])
    x, weight = node.inputs[1 - place], node.inputs[place]
    assert x is not None
    assert weight is not None
    terms = ["ym" if flipped[0] else "my", "zy" if flipped[1] else "yz"]
    y = contracted(made, x, weight, (terms[1 - place], terms[place], "mz"))
    if alpha != 1:
        y = made.one("Mul", y, made.number(y, alpha), shape=made.shape(y))
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is None or beta == 0:
        return y
    if beta != 1:
        bias = made.one("Mul", bias, made.number(y, beta), shape=made.shape(bias))
    return made.one("Add", y, bias, shape=made.shape(y))


def _of_einsum(made: Expressions, place: int) -> onnx_ir.Value:
    terms, out = made.equation(made.node.outputs[0])
    x, weight = made.node.inputs[1 - place], made.node.inputs[place]
    if len(made.node.inputs) != 2 or x is None or weight is None or any(len(set(t)) < len(t) for t in terms):
        raise NotLinear
    return contracted(made, x, weight, (terms[1 - place], terms[place], out))


def _of_conv(made: Expressions, place: int) -> onnx_ir.Value:
    """Move scales of channels before or after, distribute over sums, split low-rank kernels into two convolutions."""
    node = made.node
    x, kernel = node.inputs[0], node.inputs[1]
    assert x is not None
    assert kernel is not None
    y = _convolved(made, x, kernel, top=True)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is None:
        return y
    ones = [1] * (len(made.shape(y)) - 2)
    return made.one("Add", y, made.reshaped(bias, [*made.shape(bias), *ones]), shape=made.shape(y))


def _convolved(made: Expressions, x: onnx_ir.Value, kernel: onnx_ir.Value, top: bool = False) -> onnx_ir.Value:
    shape = made.shape(kernel)
    out = (made.shape(made.node.outputs[0])[0], shape[0], *made.shape(made.node.outputs[0])[2:])
    op = made.operator(kernel) if made.computed(kernel) else ""
    ones = [1] * (len(shape) - 2)
    if op in ("Identity", "Cast", "CastLike"):
        return _convolved(made, x, made.inputs(kernel)[0], top)
    if op in ("Add", "Sub") and all(made.shape(v) == shape for v in made.inputs(kernel)):
        return made.one(op, *(_convolved(made, x, v) for v in made.inputs(kernel)), shape=out)
    if op == "Neg":
        return made.one("Neg", _convolved(made, x, made.inputs(kernel)[0]), shape=out)
    if op in ("Mul", "Div"):
        a, b = made.inputs(kernel)
        if op == "Mul" and made.shape(a) != shape:
            a, b = b, a
        if made.shape(a) == shape:
            own = (1,) * (len(shape) - len(made.shape(b))) + made.shape(b)
            wide = [i for i, n in enumerate(own) if n > 1]
            if wide in ([], [0]):
                return made.one(
                    op, _convolved(made, x, a), made.reshaped(b, [shape[0], *ones] if wide else []), shape=out
                )
            if wide == [1] and made.node.attributes.get_int("group", 1) == 1:
                scaled = made.one(op, x, made.reshaped(b, [shape[1], *ones]), shape=made.shape(x))
                return _convolved(made, scaled, a)
    if op == "Reshape":
        source = made.inputs(kernel)[0]
        inner = made.operator(source) if made.computed(source) else ""
        if inner == "MatMul" and made.node.attributes.get_int("group", 1) == 1:
            a, b = made.inputs(source)
            if made.shape(source)[0] == shape[0] and len(made.shape(a)) == len(made.shape(b)) == 2:
                small = _convolved(made, x, made.reshaped(b, [made.shape(b)[0], *shape[1:]]))
                return made.one("Conv", small, made.reshaped(a, [*made.shape(a), *ones]), shape=out)
        if inner in ("Add", "Sub", "Mul", "Div", "Neg"):
            return _convolved(made, x, made.pushed(source, shape))
    if top:
        raise NotLinear
    attributes = dict(made.node.attributes.items())
    return made.one("Conv", x, kernel, shape=out, keep=attributes)


def _of_gather(made: Expressions, place: int) -> onnx_ir.Value:
    """The rows of an elementwise expression, or of a product, computed from the rows of its operands."""
    node = made.node
    table, indices = node.inputs[0], node.inputs[1]
    if node.attributes.get_int("axis", 0) or table is None or indices is None or len(made.shape(table)) != 2:
        raise NotLinear
    return _rows(made, table, indices, top=True)


def _rows(made: Expressions, table: onnx_ir.Value, indices: onnx_ir.Value, top: bool = False) -> onnx_ir.Value:
    shape = made.shape(table)
    if len(shape) < 2 or shape[0] == 1:
        return table
    out = (*made.shape(indices), *shape[1:])
    op = made.operator(table) if made.computed(table) else ""
    if op in ("Add", "Sub", "Mul", "Div"):
        return made.one(op, *(_rows(made, v, indices) for v in made.inputs(table)), shape=out)
    if op == "Neg":
        return made.one(op, _rows(made, made.inputs(table)[0], indices), shape=out)
    if op == "MatMul" and len(made.shape(made.inputs(table)[0])) == 2:
        a, b = made.inputs(table)
        return made.one("MatMul", _rows(made, a, indices), b, shape=out)
    if top:
        raise NotLinear
    return made.one("Gather", table, indices, shape=out, axis=0)


_PLACES = {"MatMul": (0, 1), "Gemm": (0, 1), "Einsum": (0, 1), "Conv": (1,), "Gather": (0,)}
_REWRITES: Mapping[str, Callable[[Expressions, int], onnx_ir.Value]] = {
    "MatMul": _of_matmul,
    "Gemm": _of_gemm,
    "Einsum": _of_einsum,
    "Conv": _of_conv,
    "Gather": _of_gather,
}
