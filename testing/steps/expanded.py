"""Parameters that make new axes of neurons: products written out, modulated matrices, branches, gathered experts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..sketch import NotApplicable, Sketch, Tensor
from .linear import matmul
from .weights import weight

__all__ = ["STEPS"]


def _over_a_new_axis(sketch: Sketch) -> None:
    """Combine a value with a parameter along its last axis and a new one, then reduce the last axis."""
    x = sketch.pick(lambda t: 1 <= t.rank <= 3)
    wide = sketch.node("Unsqueeze", x, sketch.integers([x.rank - 1]))
    shape: list[int] = [sketch.size(4), x.shape[-1]]
    if x.rank > 1 and sketch.chance(30):
        shape.insert(0, x.shape[-2])
    y = sketch.node(sketch.choice(["Mul", "Sub", "Add", "Max"]), wide, weight(sketch, shape))
    if sketch.chance(50):
        y = sketch.node(sketch.choice(["Tanh", "Relu", "Abs"]), y)
    if sketch.chance(70):
        reduction = sketch.choice(["ReduceSum", "ReduceMax", "ReduceSumSquare"])
        y = sketch.node(reduction, y, sketch.integers([-1]), keepdims=0)
    sketch.put(y)


def _modulated(sketch: Sketch) -> None:
    """A matrix whose rows, columns or both are scaled by a value that depends on the input, as a weight."""
    x = sketch.pick(lambda t: t.rank >= 2)
    source = sketch.pick(lambda t: t.rank >= 2 and t.shape[0] == 1)
    rows, columns = x.shape[-1], sketch.size(4)
    mean = sketch.node("ReduceSum", source, sketch.integers(list(range(source.rank - 1))), keepdims=0)
    w = weight(sketch, (rows, columns))
    for size, shape in ((rows, [rows, 1]), (columns, [1, columns])):
        if sketch.chance(60):
            scale = sketch.node("MatMul", mean, weight(sketch, (mean.shape[0], size)))
            w = sketch.node(sketch.choice(["Mul", "Add"]), w, sketch.node("Reshape", scale, sketch.integers(shape)))
    sketch.put(sketch.node("MatMul", x, w))


def _branches(sketch: Sketch) -> None:
    """Several branches with scales of their own on one value, added up."""
    x = sketch.pick(lambda t: t.rank >= 2)
    width, ends = sketch.size(4), []
    for _ in range(sketch.integer(2, 3)):
        scaled = sketch.node("Mul", x, sketch.parameter(x.shape[-1:]))
        ends.append(sketch.node("MatMul", sketch.node("Tanh", scaled), weight(sketch, (x.shape[-1], width))))
    y = ends[0]
    for other in ends[1:]:
        y = sketch.node("Add", y, other)
    sketch.put(y)


def _experts(sketch: Sketch) -> None:
    """Two layers of experts whose weights a router gathers, weighted by its scores."""
    x = sketch.pick(lambda t: t.rank >= 2)
    width = x.shape[-1]
    tokens = sketch.node("Reshape", x, sketch.integers([-1, width]))
    count, chosen, inner, out = sketch.integer(2, 4), 2, sketch.size(3), sketch.size(3)
    if tokens.shape[0] * chosen * inner > 64 or width > 8:
        raise NotApplicable
    scores = matmul(sketch, tokens, count)
    values, index = sketch.split("TopK", 2, scores, sketch.integers([chosen]))
    gate = sketch.node(sketch.choice(["Softmax", "Sigmoid"]), values)
    first, second = sketch.parameter((count, width, inner)), sketch.parameter((count, inner, out))
    if sketch.chance(50):
        y = _beside_tokens(sketch, tokens, index, (first, second))
        sketch.put(sketch.node("Einsum", gate, y, equation="tk,tko->to"))
        return
    rows = tokens.shape[0]
    thin = sketch.node("Unsqueeze", tokens, sketch.integers([1]))
    repeated = sketch.node("Expand", thin, sketch.integers([rows, chosen, width]))
    flat, biased = sketch.node("Reshape", index, sketch.integers([-1])), sketch.chance(40)
    y = sketch.node("Reshape", repeated, sketch.integers([rows * chosen, 1, width]))
    for place, bank in enumerate((first, second)):
        y = sketch.node("MatMul", y, sketch.node("Gather", bank, flat, axis=0))
        if biased:
            bias = sketch.node("Gather", sketch.parameter((count, bank.shape[2])), flat, axis=0)
            y = sketch.node("Add", y, sketch.node("Unsqueeze", bias, sketch.integers([1])))
        y = y if place else sketch.node("Relu", y)
    share = sketch.node("Reshape", gate, sketch.integers([rows * chosen, 1, 1]))
    apart = sketch.node("Reshape", sketch.node("Mul", y, share), sketch.integers([rows, chosen, out]))
    sketch.put(sketch.node("ReduceSum", apart, sketch.integers([1]), keepdims=0))


def _beside_tokens(sketch: Sketch, tokens: Tensor, index: Tensor, banks: tuple[Tensor, Tensor]) -> Tensor:
    """The experts' results with the choices on an axis of their own, [tokens, choices, outputs]."""
    first, second = (sketch.node("Gather", bank, index, axis=0) for bank in banks)
    h = sketch.node("Relu", sketch.node("Einsum", tokens, first, equation="ti,tkih->tkh"))
    return sketch.node("Einsum", h, second, equation="tkh,tkho->tko")


STEPS: Mapping[str, Callable[[Sketch], None]] = {
    "new axes": _over_a_new_axis,
    "modulated": _modulated,
    "branches": _branches,
    "experts": _experts,
}
