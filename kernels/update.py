"""The operation `edge_update`, and the choice of its implementation."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch

from . import cpu, flat, reference, scatter
from .activations import ACTIVATIONS
from .layout import Layout
from .terms import Terms

__all__ = ["Fused", "edge_update", "kernels", "register"]

Outputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
Plan = tuple[list[torch.Tensor], list[int]]
Forward = Callable[[torch.Tensor, Terms, Layout, str, bool, torch.dtype], Outputs]


class Fused(NamedTuple):
    """A kernel with its own backward pass.

    Attributes:
        forward: (e, terms, layout, plan, activation, residual, dtype) to the three outputs.
        backward: (gradients of the outputs, e, terms, layout, plan, activation, residual, whether the gradient of `e`
            is needed) to the gradient of `e` (anything if it is not needed) and those of the terms.
        plan: (e, terms, layout) to tables made once per layout, as tensors and integers.
    """

    forward: Callable[[torch.Tensor, Terms, Layout, Plan, str, bool, torch.dtype], Outputs]
    backward: Callable[[Outputs, torch.Tensor, Terms, Layout, Plan, str, bool, bool], tuple[torch.Tensor, Terms]]
    plan: Callable[[torch.Tensor, Terms, Layout], Plan] = lambda *_: ([], [])


def _triton() -> Any:
    """The module, imported on first use, as that takes as long as all other imports."""
    # import_module would break the graph of torch.compile.
    from . import triton

    return triton


_DIFFERENTIABLE: dict[str, Forward] = {"reference": reference.forward, "flat": flat.forward}
_FUSED: dict[str, Fused] = {"cpu": Fused(cpu.forward, cpu.backward)}

if find_spec("torch_scatter"):
    _DIFFERENTIABLE["scatter"] = scatter.forward
if find_spec("triton"):
    _FUSED["triton"] = Fused(
        lambda *arguments: _triton().forward(*arguments),
        lambda *arguments: _triton().backward(*arguments),
        lambda *arguments: _triton().plan(*arguments),
    )


def register(name: str, implementation: Forward | Fused) -> None:
    """Add an implementation of `edge_update`.

    Args:
        name: The value of `kernel` that selects it in `edge_update`; an existing implementation is replaced.
        implementation: Differentiable torch code, (e, terms, layout, activation, residual, dtype) to the three outputs,
            or a `Fused` kernel.
    """
    if isinstance(implementation, Fused):
        _FUSED[name] = implementation
    else:
        _DIFFERENTIABLE[name] = implementation


def kernels() -> tuple[str, ...]:
    """Values of `edge_update`'s `kernel`, besides ``auto``."""
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
        in_sum[i] += scale_in[m] * h
        out_sum[j] += scale_out[m] * h

    Args:
        e: Edge states [rows, D], read by the value columns of `layout`: parameter values in the first layer, and in
            later ones, with `Layout.dense`, what this function returned.
        terms: The other operands; sums and products are in their dtype.
        layout: Blocks of edges.
        activation: One of `ACTIVATIONS`.
        residual: Add the old state to the new one; needs O = D.
        dtype: Dtype of `new`; by default that of `e`.
        kernel: One of `kernels()`; ``auto`` takes the fastest for the device of `e`.

    Returns:
        new [edges, O], in_sum [num_nodes, H] and out_sum [num_nodes, H], differentiable in `e` and in the terms: once
        by a fused kernel, any number of times by ``reference``, ``flat`` and ``scatter``.

    Raises:
        ValueError: Unknown kernel or activation, shapes that do not fit, or a width that the kernel does not support.
    """
    chosen = _choose(kernel, e, terms, layout)
    _check(e, terms, layout, activation, residual)
    dtype = dtype or e.dtype
    if chosen in _DIFFERENTIABLE:
        return _DIFFERENTIABLE[chosen](e, terms, layout, activation, residual, dtype)
    tensors, numbers = _FUSED[chosen].plan(e, terms, layout)
    tables = [layout.blocks, layout.scale, layout.dst, layout.src, layout.types, *tensors]
    return _fused(e, *terms, tables, [layout.edges, *numbers], activation, residual, dtype, chosen)


def _choose(kernel: str, e: torch.Tensor, terms: Terms, layout: Layout) -> str:
    if kernel == "auto":
        # A batch of small networks is rarely seen twice, so tables for the fused kernels would not pay off.
        if layout.small:
            return "flat"
        if e.is_cuda:
            return "triton" if "triton" in _FUSED and _triton().fits(e, terms) else "flat"
        return "cpu"
    if kernel not in kernels():
        raise ValueError(f"unknown kernel {kernel!r}: choose auto, {', '.join(kernels())}")
    return kernel


def _check(e: torch.Tensor, terms: Terms, layout: Layout, activation: str, residual: bool) -> None:
    width, out = terms.w_out.shape
    if activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}: choose {', '.join(ACTIVATIONS)}")
    if terms.w_in.shape != (e.shape[1], width) or terms.b_out.shape != (out,):
        shapes = f"w_in {list(terms.w_in.shape)}, w_out {list(terms.w_out.shape)}"
        raise ValueError(f"edge states [rows, {e.shape[1]}] do not fit {shapes}")
    if {t.shape[1] for t in (terms.dst, terms.src, terms.type)} != {width} or len(terms.dst) != len(terms.src):
        raise ValueError("terms of nodes and types must be as wide as the hidden layer")
    if residual and (e.shape[1] != out):
        raise ValueError(f"a residual needs new states as wide as the old ones, not {out} and {e.shape[1]}")


@torch.library.custom_op("gmnc::edge_update", mutates_args=())
def _fused(
    e: torch.Tensor,
    dst: torch.Tensor,
    src: torch.Tensor,
    type: torch.Tensor,
    w_in: torch.Tensor,
    w_out: torch.Tensor,
    b_out: torch.Tensor,
    tables: list[torch.Tensor],
    numbers: list[int],
    activation: str,
    residual: bool,
    dtype: torch.dtype,
    kernel: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    terms = Terms(dst, src, type, w_in, w_out, b_out)
    layout, plan = _unpacked(tables, numbers)
    with torch.cuda.device_of(e):
        return _FUSED[kernel].forward(e, terms, layout, plan, activation, residual, dtype)


def _unpacked(tables: list[torch.Tensor], numbers: list[int]) -> tuple[Layout, Plan]:
    """The layout and the plan of a call."""
    blocks, scale, dst, src, types, *plan = tables
    return Layout(blocks, scale, dst, src, types, numbers[0]), (plan, numbers[1:])


@_fused.register_fake
def _(
    e: torch.Tensor, dst: torch.Tensor, src: torch.Tensor, type: torch.Tensor, w_in: torch.Tensor, w_out: torch.Tensor,
    b_out: torch.Tensor, tables: list[torch.Tensor], numbers: list[int], activation: str, residual: bool,
    dtype: torch.dtype, kernel: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    return e.new_empty(numbers[0], w_out.shape[1], dtype=dtype), torch.empty_like(dst), torch.empty_like(dst)


@torch.library.custom_op("gmnc::edge_update_backward", mutates_args=())
def _fused_backward(
    grads: list[torch.Tensor], inputs: list[torch.Tensor], tables: list[torch.Tensor], numbers: list[int],
    activation: str, residual: bool, kernel: str, need_grad_e: bool,
) -> list[torch.Tensor]:  # fmt: skip
    e, terms, outputs = inputs[0], Terms(*inputs[1:]), (grads[0], grads[1], grads[2])
    layout, plan = _unpacked(tables, numbers)
    with torch.cuda.device_of(e):
        grad_e, own = _FUSED[kernel].backward(outputs, e, terms, layout, plan, activation, residual, need_grad_e)
    return [grad_e if need_grad_e else e.new_empty(0), *own]


@_fused_backward.register_fake
def _(
    grads: list[torch.Tensor], inputs: list[torch.Tensor], tables: list[torch.Tensor], numbers: list[int],
    activation: str, residual: bool, kernel: str, need_grad_e: bool,
) -> list[torch.Tensor]:  # fmt: skip
    grad_e = torch.empty_like(inputs[0]) if need_grad_e else inputs[0].new_empty(0)
    return [grad_e, *(torch.empty_like(t) for t in inputs[1:])]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: object) -> None:
    *tensors, tables, numbers, activation, residual, _, kernel = inputs
    ctx.save_for_backward(*tensors, *tables)
    ctx.options = (numbers, activation, residual, kernel)


def _fused_gradients(ctx: Any, *grads: torch.Tensor) -> tuple[Any, ...]:
    saved, need_grad_e = list(ctx.saved_tensors), ctx.needs_input_grad[0]
    tensors, tables = saved[:7], saved[7:]
    grad_e, *own = _fused_backward([g.contiguous() for g in grads], tensors, tables, *ctx.options, need_grad_e)
    return (grad_e if need_grad_e else None, *own, [None] * len(tables), *[None] * 5)


_fused.register_autograd(_fused_gradients, setup_context=_setup_context)
