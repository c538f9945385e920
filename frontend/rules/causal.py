"""Causal convolutions of com.microsoft, which continue from a state."""

from __future__ import annotations

from collections.abc import Sequence

from ..context import LoweringContext
from ..errors import Unsupported
from ..primitives.functions import FUNCTIONS
from ..primitives.values import Op, Value
from .fused import Shaped
from .parts.steps import MICROSOFT, refuse
from .registry import rule

__all__: list[str] = []

_SINGLE = {"ndim": 1, "dilation": 1}
_ZERO = (
    "channels_last", "state_channels_last", "state_window", "state_update_capacity", "state_length", "input_channels",
    "input_channel_offset",
)  # fmt: skip


def _shapes(op: Op) -> Sequence[Shaped | None]:
    x, w = op.input(0), op.input(1)
    return [(x.shape, x.dtype), ((*x.shape[:-1], w.shape[-1] - 1), x.dtype)]


@rule("CausalConvWithState", domain=MICROSOFT, weights=(1, 2), shapes=_shapes)
def causal_conv(ctx: LoweringContext, op: Op) -> list[Value | None]:
    """Depthwise causal convolution of [batch, channels, length], continued from a state (since 1)."""
    for name, value in (_SINGLE | dict.fromkeys(_ZERO, 0)).items():
        refuse(int(op.attr(name, value)) != value, f"its {name} is {op.attr(name)}")
    refuse(any(op.results[2:]), "the updates of its state are outputs")
    x, w, past = op.input(0), op.input(1), op.optional(3)
    refuse(x.rank != 3 or w.shape[1] != 1, "its weight is not depthwise, [channels, 1, kernel]")
    before, channels = w.shape[-1] - 1, x.shape[1]
    if past is not None:
        x = ctx.call("Concat", ctx.as_activation(past), x, axis=2)
    pads = (0 if past is not None else before, 0)
    y = ctx.call("Conv", x, w, op.optional(2), group=channels, pads=pads)
    activation = str(op.attr("activation", "none"))
    if activation in ("silu", "swish"):
        y = ctx.unary(y, "Silu", {}, FUNCTIONS["Swish"])
    elif activation != "none":
        raise Unsupported(f"its activation {activation!r} is not known")
    out: list[Value | None] = [y]
    if op.wants(1):
        out.append(_state(ctx, op, x, before, past is None))
    return out


def _state(ctx: LoweringContext, op: Op, x: Value, before: int, padded: bool) -> Value:
    """The last entries, padded with zeros in front."""
    batch, channels, length = x.shape
    shape = (batch, channels, before)
    if length >= before:
        return ctx.sliced(x, slice(length - before, None))
    assert padded
    return ctx.order(x, (2,), "State", {"length": before}, shape)
