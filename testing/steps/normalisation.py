"""Normalisation over any axes, as an operator or written out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..sketch import Sketch, Tensor
from .weights import vector

__all__ = ["STEPS", "normalised"]


def _batch(sketch: Sketch) -> None:
    x = sketch.pick(lambda t: t.rank >= 2)
    vectors = [vector(sketch, x.shape[1:2], positive=i == 3) for i in range(4)]
    sketch.put(sketch.node("BatchNormalization", x, *vectors))


def normalised(sketch: Sketch, x: Tensor) -> Tensor:
    """Layer or RMS normalisation over the last axes, as an operator."""
    first = x.rank - 1 if sketch.chance(70) else sketch.integer(1, x.rank - 1)
    op = "RMSNormalization" if sketch.opset >= 23 and sketch.chance(50) else "LayerNormalization"
    vectors = [vector(sketch, x.shape[first:])]
    if op == "LayerNormalization" and sketch.chance(60):
        vectors.append(vector(sketch, x.shape[first:]))
    return sketch.node(op, x, *vectors, axis=first - x.rank, like=x)


def _layer(sketch: Sketch) -> None:
    x = sketch.pick(lambda t: t.rank >= 2)
    sketch.put(_across(sketch, x) if sketch.chance(20) else normalised(sketch, x))


def _across(sketch: Sketch, x: Tensor) -> Tensor:
    """Normalisation of parts that a reshape makes of the last two axes."""
    total = x.shape[-2] * x.shape[-1]
    parts = sketch.choice([n for n in range(1, total + 1) if total % n == 0])
    split = sketch.node("Reshape", x, sketch.integers([*x.shape[:-2], parts, total // parts]))
    y = normalised(sketch, split) if sketch.chance(50) else sketch.node("LpNormalization", split, axis=-1, p=2)
    return sketch.node("Reshape", y, sketch.integers(x.shape))


def _instance(sketch: Sketch) -> None:
    x = sketch.pick(lambda t: t.rank >= 3)
    sketch.put(sketch.node("InstanceNormalization", x, *(vector(sketch, x.shape[1:2]) for _ in range(2))))


def _group(sketch: Sketch) -> None:
    x = sketch.pick(lambda t: t.rank >= 3)
    groups = sketch.choice([g for g in range(1, x.shape[1] + 1) if x.shape[1] % g == 0])
    vectors = [vector(sketch, x.shape[1:2]) for _ in range(2)]
    sketch.put(sketch.node("GroupNormalization", x, *vectors, num_groups=groups, like=x))


def _written_out(sketch: Sketch) -> None:
    """(x - mean) / sqrt(variance + epsilon) or without the mean, over any axes, with or without a scale."""
    x = sketch.pick()
    axes = sketch.integers(sketch.some_axes(x))
    if sketch.chance(60):
        x = sketch.node("Sub", x, sketch.node("ReduceMean", x, axes))
    mean = sketch.node("ReduceMean", sketch.node("Mul", x, x), axes)
    y = sketch.node("Div", x, sketch.node("Sqrt", sketch.node("Add", mean, sketch.literal(1e-2))))
    sketch.put(sketch.node("Mul", y, vector(sketch, y.shape[-1:])) if y.rank and sketch.chance(60) else y)


def _lp(sketch: Sketch) -> None:
    x = sketch.pick(lambda t: max(t.shape, default=1) > 1)
    sketch.put(sketch.node("LpNormalization", x, axis=sketch.axis(x), p=sketch.integer(1, 2)))


def _mean_variance(sketch: Sketch) -> None:
    x = sketch.pick(lambda t: t.rank >= 2)
    sketch.put(sketch.node("MeanVarianceNormalization", x, axes=sketch.some_axes(x), like=x))


def _response(sketch: Sketch) -> None:
    x = sketch.pick(lambda t: t.rank == 4)
    sketch.put(sketch.node("LRN", x, size=3))


STEPS: Mapping[str, Callable[[Sketch], None]] = {
    "batch-norm": _batch,
    "layer-norm": _layer,
    "instance-norm": _instance,
    "group-norm": _group,
    "norm-written-out": _written_out,
    "lp-norm": _lp,
    "mean-variance": _mean_variance,
    "lrn": _response,
}
