"""Conv, ConvTranspose, pooling and resizing, in one and two dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..sketch import Sketch, Tensor
from .weights import vector, weight

__all__ = ["STEPS"]


def _image(sketch: Sketch) -> Tensor:
    return sketch.pick(lambda t: t.rank in (3, 4) and max(t.shape) <= 12)


def _groups(sketch: Sketch, channels: int) -> int:
    if sketch.chance(60):
        return 1
    return sketch.choice([g for g in range(1, channels + 1) if channels % g == 0])


def _windows(sketch: Sketch, x: Tensor, pads: bool = True) -> dict[str, Any]:
    """Kernel shape, with non-default strides, dilations and pads in some cases."""
    kernel = [sketch.integer(1, min(3, n)) for n in x.shape[2:]]
    found: dict[str, Any] = {"kernel_shape": kernel}
    if sketch.chance(25):
        found["strides"] = [sketch.integer(1, 2) for _ in kernel]
    if pads and sketch.chance(40):
        found["pads"] = [k // 2 for k in kernel] + [(k - 1) // 2 for k in kernel]
    elif pads and sketch.chance(20):
        found["auto_pad"] = "SAME_UPPER"
    elif sketch.chance(15) and all(2 * (k - 1) < n for k, n in zip(kernel, x.shape[2:], strict=True)):
        found["dilations"] = [2] * len(kernel)
    return found


def _conv(sketch: Sketch) -> None:
    x = _image(sketch)
    groups, options = _groups(sketch, x.shape[1]), _windows(sketch, x)
    inside = x.shape[1] // groups
    width = groups * sketch.integer(1, 2) if groups > 1 else sketch.size()
    w = weight(sketch, (width, inside, *options["kernel_shape"]), inside * math.prod(options["kernel_shape"]))
    bias = [vector(sketch, (width,))] if sketch.chance(50) else []
    sketch.put(sketch.node("Conv", x, w, *bias, group=groups, **options))


def _conv_transpose(sketch: Sketch) -> None:
    x = _image(sketch)
    groups = _groups(sketch, x.shape[1])
    kernel = [sketch.integer(1, 2) for _ in x.shape[2:]]
    options: dict[str, Any] = {"strides": [2] * len(kernel)} if sketch.chance(40) else {}
    if options and sketch.chance(30):
        options["output_padding"] = [1] * len(kernel)
    each = sketch.integer(1, 3)
    w = weight(sketch, (x.shape[1], each, *kernel), x.shape[1] // groups * math.prod(kernel))
    bias = [vector(sketch, (groups * each,))] if sketch.chance(50) else []
    sketch.put(sketch.node("ConvTranspose", x, w, *bias, group=groups, **options))


def _pool(sketch: Sketch) -> None:
    x = _image(sketch)
    op = sketch.choice(["MaxPool", "AveragePool", "LpPool"])
    options = _windows(sketch, x, pads=op != "LpPool")
    if op != "MaxPool":
        options.pop("dilations", None)
    sketch.put(sketch.node(op, x, **options))


def _global_pool(sketch: Sketch) -> None:
    x = _image(sketch)
    ops = ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"]
    # ONNX Runtime has no kernel for GlobalLpPool from opset 22 on.
    sketch.put(sketch.node(sketch.choice(ops if sketch.opset < 22 else ops[:2]), x))


def _resize(sketch: Sketch) -> None:
    x = _image(sketch)
    axis = sketch.axis(x) if sketch.chance(20) else sketch.axis(x, 2)
    scales = [1.0] * x.rank
    scales[axis] = 2.0
    mode = sketch.choice(["nearest", "linear"])
    sketch.put(sketch.node("Resize", x, None, sketch.initializer(np.array(scales, np.float32)), mode=mode))


def _sampled(sketch: Sketch) -> None:
    """Interpolation at learned or computed positions."""
    x = sketch.pick(lambda t: t.rank == 4)
    grids = [t for t in sketch.pool if t.rank == 4 and t.shape[0] == x.shape[0] and t.shape[-1] == 2]
    if grids and sketch.chance(50):
        grid = sketch.node("Tanh", sketch.choice(grids))
    else:
        grid = sketch.parameter((x.shape[0], sketch.size(3), sketch.size(3), 2), 0.7)
    sketch.put(sketch.node("GridSample", x, grid))


def _space_to_depth(sketch: Sketch) -> None:
    x = sketch.pick(lambda t: t.rank == 4 and t.shape[2] % 2 == 0 and t.shape[3] % 2 == 0)
    sketch.put(sketch.node("SpaceToDepth", x, blocksize=2))


def _depth_to_space(sketch: Sketch) -> None:
    x = sketch.pick(lambda t: t.rank == 4 and t.shape[1] % 4 == 0)
    sketch.put(sketch.node("DepthToSpace", x, blocksize=2, mode=sketch.choice(["DCR", "CRD"])))


STEPS: Mapping[str, Callable[[Sketch], None]] = {
    "conv": _conv,
    "conv-transpose": _conv_transpose,
    "pool": _pool,
    "global-pool": _global_pool,
    "resize": _resize,
    "grid-sample": _sampled,
    "space-to-depth": _space_to_depth,
    "depth-to-space": _depth_to_space,
}
