"""Pooling over regions of interest, per channel."""

from __future__ import annotations

from ..context import LoweringContext
from ..primitives.constants import digest
from ..primitives.values import Op, Value
from .registry import rule

__all__: list[str] = []

_SETTINGS = (
    "mode", "output_height", "output_width", "sampling_ratio", "spatial_scale", "pooled_shape",
    "coordinate_transformation_mode",
)  # fmt: skip


@rule("RoiAlign", "MaxRoiPool")
def region_pool(ctx: LoweringContext, op: Op) -> Value:
    """Per channel, a join of the pooled values and the regions (RoiAlign since 10, MaxRoiPool since 1)."""
    x, shape = op.input(0), op.shape()
    attributes = {name: op.attr(name) for name in _SETTINGS if op.attr(name) is not None}
    for name, value in zip(("regions", "rows"), op.inputs[1:], strict=False):
        if value is not None and value.data is not None:
            attributes[name] = digest(value.data)
    if op.type == "RoiAlign" and op.opset < 16:
        attributes["coordinate_transformation_mode"] = "output_half_pixel"
    pooled = ctx.order(x, (0, 2, 3), op.type, attributes, shape)
    regions = [v for v in op.inputs[1:] if v is not None and v.is_activation]
    if not regions:
        return pooled
    each = (None, *[0 for _ in regions])
    rows = {1: (1, *[None for _ in regions]), **({0: each} if len(regions) == len(op.inputs) - 1 else {})}
    return ctx.join_all([pooled, *regions], op.type, shape, {1: 1}, (0,), rows)
