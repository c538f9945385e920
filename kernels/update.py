"""The one operation of the kernels, and the choice of its implementation."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch

from . import cpu, flat, reference, scatter
from .activations import ACTIVATIONS
from .layout import Layout
from .terms import Terms

__all__ = ["edge_update", "kernels", "register"]

Outputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
Forward = Callable[[torch.Tensor, Terms, Layout, str, bool, torch.dtype], Outputs]
Backward = Callable[[Outputs, torch.Tensor, Terms, Layout, str, bool], tuple[torch.Tensor, Terms]]


@cache
def _triton() -> Any:
    """Imported on first use: it takes as long as all the rest."""
    return import_module(".triton", __package__)


_DIFFERENTIABLE: dict[str, Forward] = {"reference": reference.forward, "flat": flat.forward}
_FUSED: dict[str, tuple[Forward, Backward]] = {"cpu": (cpu.forward, cpu.backward)}

if find_spec("torch_scatter"):
    _DIFFERENTIABLE["scatter"] = scatter.forward
if find_spec("triton"):
    _FUSED["triton"] = (
        lambda *arguments: _triton().forward(*arguments),
        lambda *arguments: _triton().backward(*arguments),
    )

FEW, MOST = 1024, 2**19
"""On a CPU, ``flat`` is taken for fewer edges per block and in all: there a block costs more than its edges."""


def register(name: str, forward: Forward, backward: Backward | None = None) -> None:
    """Add an implementation of `edge_update`; without `backward`, `forward` must be differentiable torch code."""
    if backward is None:
        _DIFFERENTIABLE[name] = forward
    else:
        _FUSED[name] = (forward, backward)


def kernels() -> tuple[str, ...]:
    """Names that `edge_update` takes for `kernel`, apart from ``auto``."""
    return (*_DIFFERENTIABLE, *_FUSED)


def edge_update(
    e: torch.Tensor,
    terms: Terms,
    layout: Layout,
    *,
    activation: str = "relu",
    residual: bool = False,
    dtype: torch.dtype | None = None,
    kernel: str = "auto",
) -> Outputs:
    """Update every edge and sum messages into both of its ends, in one pass over the edges.

    For the edge of row r from j to i with type c, of block m:

        h = activation(e[row read by r] @ w_in + dst[i] + src[j] + type[c])
        new[r] = h @ w_out + b_out  (+ e[r] if residual)
        into[i] += scale_in[m] * h
        out[j] += scale_out[m] * h

    e: [rows, D], read by `layout`'s value columns (parameter values in the first layer, `layout.dense` later).
    dtype: of `new`, by default that of `e`; sums and products are in the dtype of the terms.
    Returns new [edges, O], into [num_nodes, H], out [num_nodes, H]. All are differentiable in `e` and in the terms;
    a fused kernel once, ``reference``, ``flat`` and ``scatter`` any number of times.

    kernel: ``auto`` takes the fastest for the device of `e`. Raises `ValueError` for an unknown name, and for shapes
    that do not fit.
    """
    chosen = _choose(kernel, e, layout)
    _check(e, terms, layout, activation, residual)
    dtype = dtype or e.dtype
    if chosen in _DIFFERENTIABLE:
        return _DIFFERENTIABLE[chosen](e, terms, layout, activation, residual, dtype)
    return _fused(e, *terms, *_tensors(layout), layout.edges, activation, residual, dtype, chosen)


def _choose(kernel: str, e: torch.Tensor, layout: Layout) -> str:
    if kernel == "auto":
        if e.is_cuda and "triton" in _FUSED:
            return "triton"
        return "flat" if layout.edges < min(FEW * len(layout.blocks), MOST) else "cpu"
    if kernel not in kernels():
        raise ValueError(f"there is no kernel {kernel!r}: choose auto, {', '.join(kernels())}")
    return kernel


def _check(e: torch.Tensor, terms: Terms, layout: Layout, activation: str, residual: bool) -> None:
    width, out = terms.w_out.shape
    if activation not in ACTIVATIONS:
        raise ValueError(f"there is no activation {activation!r}: choose {', '.join(ACTIVATIONS)}")
    if terms.w_in.shape != (e.shape[1], width) or terms.b_out.shape != (out,):
        shapes = f"w_in {list(terms.w_in.shape)}, w_out {list(terms.w_out.shape)}"
        raise ValueError(f"edge states [rows, {e.shape[1]}] do not fit {shapes}")
    if {t.shape[1] for t in (terms.dst, terms.src, terms.type)} != {width} or len(terms.dst) != len(terms.src):
        raise ValueError("the terms of nodes and types must be as wide as the hidden layer")
    if residual and (e.shape[1] != out):
        raise ValueError(f"a residual needs new states as wide as the old ones, not {out} and {e.shape[1]}")


def _tensors(layout: Layout) -> tuple[torch.Tensor, ...]:
    return layout.blocks, layout.scale, layout.dst, layout.src, layout.types


@torch.library.custom_op("gmnc::edge_update", mutates_args=())
def _fused(
    e: torch.Tensor,
    dst: torch.Tensor,
    src: torch.Tensor,
    type: torch.Tensor,
    w_in: torch.Tensor,
    w_out: torch.Tensor,
    b_out: torch.Tensor,
    blocks: torch.Tensor,
    scale: torch.Tensor,
    dst_ids: torch.Tensor,
    src_ids: torch.Tensor,
    type_ids: torch.Tensor,
    edges: int,
    activation: str,
    residual: bool,
    dtype: torch.dtype,
    kernel: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    layout = Layout(blocks, scale, dst_ids, src_ids, type_ids, edges)
    return _FUSED[kernel][0](e, Terms(dst, src, type, w_in, w_out, b_out), layout, activation, residual, dtype)


@_fused.register_fake
def _(
    e: torch.Tensor, dst: torch.Tensor, src: torch.Tensor, type: torch.Tensor, w_in: torch.Tensor, w_out: torch.Tensor,
    b_out: torch.Tensor, blocks: torch.Tensor, scale: torch.Tensor, dst_ids: torch.Tensor, src_ids: torch.Tensor,
    type_ids: torch.Tensor, edges: int, activation: str, residual: bool, dtype: torch.dtype, kernel: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    return e.new_empty(edges, w_out.shape[1], dtype=dtype), torch.empty_like(dst), torch.empty_like(dst)


@torch.library.custom_op("gmnc::edge_update_backward", mutates_args=())
def _fused_backward(
    grads: list[torch.Tensor], inputs: list[torch.Tensor], edges: int, activation: str, residual: bool, kernel: str
) -> list[torch.Tensor]:
    blocks, scale, dst, src, types = inputs[7:]
    e, terms, layout = inputs[0], Terms(*inputs[1:7]), Layout(blocks, scale, dst, src, types, edges)
    grad_new, grad_into, grad_out = grads
    grad_e, own = _FUSED[kernel][1]((grad_new, grad_into, grad_out), e, terms, layout, activation, residual)
    return [grad_e, *own]


@_fused_backward.register_fake
def _(
    grads: list[torch.Tensor], inputs: list[torch.Tensor], edges: int, activation: str, residual: bool, kernel: str
) -> list[torch.Tensor]:
    return [torch.empty_like(t) for t in inputs[:7]]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: object) -> None:
    ctx.save_for_backward(*inputs[:12])
    edges, activation, residual, _, kernel = inputs[12:]
    ctx.options = (edges, activation, residual, kernel)


def _derive(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    found = _fused_backward([g.contiguous() for g in grads], list(ctx.saved_tensors), *ctx.options)
    return (*found, *[None] * 10)


_fused.register_autograd(_derive, setup_context=_setup)
