"""Fourier transforms along time: every frequency depends on all times in order."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..context import LoweringContext
from ..errors import DataDependent
from ..primitives.values import Op, Value
from .registry import rule

__all__: list[str] = []


@rule("DFT")
def dft(ctx: LoweringContext, op: Op) -> Value:
    """DFT along one axis (an attribute before opset 20, then operand 2); the last axis is real and imaginary part."""
    x, shape = op.input(0), op.shape()
    axis = op.data(2) if op.opset >= 20 else op.attr("axis", 1)
    where = (-2 if axis is None else int(np.reshape(axis, ()))) % x.rank
    attributes: dict[str, Any] = {n: int(op.attr(n, 0)) for n in ("inverse", "onesided")}
    length = op.data(1)
    attributes |= {"axis": where - x.rank, "length": x.shape[where] if length is None else int(np.reshape(length, ()))}
    return ctx.order(_whole_pairs(ctx, x), (where, x.rank - 1), op.type, attributes, shape)


def _whole_pairs(ctx: LoweringContext, x: Value) -> Value:
    """Complex numbers, each of which is one neuron: real and imaginary parts that are neurons are joined."""
    last = x.rank - 1
    if all(f.shape[last] == 1 for f in x.factors):
        return x
    kept = range(last)
    return ctx.join_all([x], "Complex", x.shape, {a: a for a in kept}, rows={a: (a,) for a in kept})


@rule("STFT", weights=(2,))
def stft(ctx: LoweringContext, op: Op) -> Value:
    """DFT of frames of a signal, each multiplied by a window (STFT since 17)."""
    signal, window, shape = op.input(0), op.optional(2), op.shape()
    if any(f.shape[1] > 1 for f in signal.factors):
        raise DataDependent("a window slides over times that are neurons")
    length = op.data(3)
    size = window.shape[0] if length is None and window is not None else int(np.reshape(op.known(3), ()))
    attributes = {"onesided": int(op.attr("onesided", 1)), "step": int(np.reshape(op.known(1), ())), "length": size}
    signal = ctx.unary(signal, "Frames", attributes)
    if signal.rank == 3:
        signal = ctx.order(_whole_pairs(ctx, signal), (2,), "Parts", {}, (*signal.shape[:2], 1))
    batch = tuple(f.reshape(f.shape[0], 1, 1, 1) for f in signal.factors)
    framed = signal.relabelled(batch, (shape[0], shape[1], size, 1))
    if window is not None:
        framed = ctx.elementwise("Mul", framed, ctx.reshaped(window, (size, 1)))
    return ctx.order(framed, (2, 3), op.type, attributes, shape)
