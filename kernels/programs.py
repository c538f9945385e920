"""The programs of the Triton kernels; arguments are pointers and numbers, see `gmnc.kernels.triton`."""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["backward", "forward"]


@triton.jit
def _activate(x, NAME: tl.constexpr):
    if NAME == "relu":
        y = tl.maximum(x, 0.0)
    elif NAME == "silu":
        y = x / (1.0 + tl.exp(-x))
    elif NAME == "tanh":
        y = 2.0 / (1.0 + tl.exp(-2.0 * x)) - 1.0
    else:
        y = x * x
    return y


@triton.jit
def _slope(x, NAME: tl.constexpr):
    if NAME == "relu":
        y = tl.where(x > 0, 1.0, 0.0)
    elif NAME == "silu":
        s = 1.0 / (1.0 + tl.exp(-x))
        y = s * (1.0 + x * (1.0 - s))
    elif NAME == "tanh":
        t = 2.0 / (1.0 + tl.exp(-2.0 * x)) - 1.0
        y = 1.0 - t * t
    else:
        y = 2.0 * x
    return y


@triton.jit
def _rows(pointer, ids, width, WIDTH: tl.constexpr, mask):
    """Rows of a table, [ids, WIDTH]."""
    f = tl.arange(0, WIDTH)
    return tl.load(pointer + ids[:, None] * width + f[None, :], mask=mask[:, None] & (f < width)[None, :], other=0.0)


@triton.jit
def _small(pointer, height, width, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """A whole matrix."""
    r, f = tl.arange(0, HEIGHT), tl.arange(0, WIDTH)
    mask = (r < height)[:, None] & (f < width)[None, :]
    return tl.load(pointer + r[:, None] * width + f[None, :], mask=mask, other=0.0)


@triton.jit
def forward(
    e, of_dst, of_src, of_type, w_in, w_out, b_out, dst, src, types, new, by_row, by_column,
    n, k, s, tiles, runs, per_run, edge, value, value_b, value_n, value_k, value_s, type_b, type_k,
    d, h, o, D: tl.constexpr, H: tl.constexpr, P: tl.constexpr, TN: tl.constexpr, TK: tl.constexpr,
    NAME: tl.constexpr, RESIDUAL: tl.constexpr, DOT: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """One tile of destinations and run of sources: new states, and its part of the sums."""
    at, run = tl.program_id(0).to(tl.int64), tl.program_id(1)
    b, tile = at // tiles, at % tiles
    columns = k * s
    row = tile * TN + tl.arange(0, TN)
    row_mask = row < n
    by_dst = _rows(of_dst, tl.load(dst + b * n + row, mask=row_mask, other=0).to(tl.int64), h, H, row_mask).to(SUM)
    first, second = _small(w_in, d, h, D, H).to(DOT), _small(w_out, h, o, H, P).to(DOT)
    f_h, f_o = tl.arange(0, H), tl.arange(0, P)
    bias = tl.load(b_out + f_o, mask=f_o < o, other=0.0).to(SUM)
    total = tl.zeros([TN, H], dtype=SUM)
    for step in range(per_run):
        c = (run * per_run + step).to(tl.int64) * TK + tl.arange(0, TK)
        c_mask = c < columns
        at_k, at_s = c // s, c % s
        by_src = _rows(of_src, tl.load(src + b * k + at_k, mask=c_mask, other=0).to(tl.int64), h, H, c_mask).to(SUM)
        kind = tl.load(types + b * type_b + at_k * type_k + at_s, mask=c_mask, other=0).to(tl.int64)
        by_src += _rows(of_type, kind, h, H, c_mask).to(SUM)
        mask = tl.reshape(row_mask[:, None] & c_mask[None, :], [TN * TK])
        read = value + b * value_b + row[:, None] * value_n + (at_k * value_k + at_s * value_s)[None, :]
        state = _rows(e, tl.reshape(read, [TN * TK]), d, D, mask)
        argument = tl.dot(state.to(DOT), first, out_dtype=SUM, input_precision="ieee")
        argument = tl.reshape(argument, [TN, TK, H]) + by_dst[:, None, :] + by_src[None, :, :]
        hidden = _activate(argument, NAME)
        hidden = tl.where((row_mask[:, None] & c_mask[None, :])[:, :, None], hidden, 0.0).to(SUM)
        total += tl.sum(hidden, axis=1)
        column = (at * columns + c)[:, None] * h + f_h[None, :]
        tl.store(by_column + column, tl.sum(hidden, axis=0), mask=c_mask[:, None] & (f_h < h)[None, :])
        result = tl.dot(tl.reshape(hidden, [TN * TK, H]).to(DOT), second, out_dtype=SUM, input_precision="ieee")
        result += bias[None, :]
        if RESIDUAL:
            result += state.to(SUM)
        write = tl.reshape(edge + (b * n + row)[:, None] * columns + c[None, :], [TN * TK])
        tl.store(new + write[:, None] * o + f_o[None, :], result, mask=mask[:, None] & (f_o < o)[None, :])
    out_row = ((b * n + row) * runs + run)[:, None] * h + f_h[None, :]
    tl.store(by_row + out_row, total, mask=row_mask[:, None] & (f_h < h)[None, :])


@triton.jit
def backward(
    e, of_dst, of_src, of_type, w_in, w_out, dst, src, types, grad_new, grad_into, grad_out, grad_e, by_row, by_column,
    by_in, by_out, n, k, s, tiles, runs, per_run, edge, value, value_b, value_n, value_k, value_s, type_b, type_k,
    scale_in, scale_out, d, h, o, D: tl.constexpr, H: tl.constexpr, P: tl.constexpr, TN: tl.constexpr,
    TK: tl.constexpr, NAME: tl.constexpr, RESIDUAL: tl.constexpr, DOT: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """One tile of destinations and run of sources: gradients of states, and its part of those of the terms."""
    at, run = tl.program_id(0).to(tl.int64), tl.program_id(1)
    b, tile = at // tiles, at % tiles
    columns = k * s
    row = tile * TN + tl.arange(0, TN)
    row_mask = row < n
    node = tl.load(dst + b * n + row, mask=row_mask, other=0).to(tl.int64)
    by_dst = _rows(of_dst, node, h, H, row_mask).to(SUM)
    from_into = _rows(grad_into, node, h, H, row_mask).to(SUM) * scale_in
    first, second = _small(w_in, d, h, D, H).to(DOT), _small(w_out, h, o, H, P).to(DOT)
    f_d, f_h, f_o = tl.arange(0, D), tl.arange(0, H), tl.arange(0, P)
    total = tl.zeros([TN, H], dtype=SUM)
    total_in, total_out = tl.zeros([D, H], dtype=SUM), tl.zeros([H, P], dtype=SUM)
    for step in range(per_run):
        c = (run * per_run + step).to(tl.int64) * TK + tl.arange(0, TK)
        c_mask = c < columns
        at_k, at_s = c // s, c % s
        node = tl.load(src + b * k + at_k, mask=c_mask, other=0).to(tl.int64)
        kind = tl.load(types + b * type_b + at_k * type_k + at_s, mask=c_mask, other=0).to(tl.int64)
        by_src = _rows(of_src, node, h, H, c_mask).to(SUM) + _rows(of_type, kind, h, H, c_mask).to(SUM)
        from_out = _rows(grad_out, node, h, H, c_mask).to(SUM) * scale_out
        both = row_mask[:, None] & c_mask[None, :]
        mask = tl.reshape(both, [TN * TK])
        read = value + b * value_b + row[:, None] * value_n + (at_k * value_k + at_s * value_s)[None, :]
        state = _rows(e, tl.reshape(read, [TN * TK]), d, D, mask)
        argument = tl.dot(state.to(DOT), first, out_dtype=SUM, input_precision="ieee")
        argument = tl.reshape(argument, [TN, TK, H]) + by_dst[:, None, :] + by_src[None, :, :]
        write = tl.reshape(edge + (b * n + row)[:, None] * columns + c[None, :], [TN * TK])
        given = _rows(grad_new, write, o, P, mask)
        hidden = tl.where(both[:, :, None], _activate(argument, NAME), 0.0)
        flat = tl.reshape(hidden, [TN * TK, H]).to(DOT)
        total_out += tl.dot(tl.trans(flat), given.to(DOT), out_dtype=SUM, input_precision="ieee")
        grad = tl.dot(given.to(DOT), tl.trans(second), out_dtype=SUM, input_precision="ieee")
        grad = tl.reshape(grad, [TN, TK, H]) + from_into[:, None, :] + from_out[None, :, :]
        grad = tl.where(both[:, :, None], grad * _slope(argument, NAME), 0.0).to(SUM)
        total += tl.sum(grad, axis=1)
        column = (at * columns + c)[:, None] * h + f_h[None, :]
        tl.store(by_column + column, tl.sum(grad, axis=0), mask=c_mask[:, None] & (f_h < h)[None, :])
        flat = tl.reshape(grad, [TN * TK, H]).to(DOT)
        total_in += tl.dot(tl.trans(state.to(DOT)), flat, out_dtype=SUM, input_precision="ieee")
        result = tl.dot(flat, tl.trans(first), out_dtype=SUM, input_precision="ieee")
        if RESIDUAL:
            result += given.to(SUM)
        tl.store(grad_e + write[:, None] * d + f_d[None, :], result, mask=mask[:, None] & (f_d < d)[None, :])
    out_row = ((b * n + row) * runs + run)[:, None] * h + f_h[None, :]
    tl.store(by_row + out_row, total, mask=row_mask[:, None] & (f_h < h)[None, :])
    place = at * runs + run
    matrix = f_d[:, None] * h + f_h[None, :]
    tl.store(by_in + place * d * h + matrix, total_in, mask=(f_d < d)[:, None] & (f_h < h)[None, :])
    matrix = f_h[:, None] * o + f_o[None, :]
    tl.store(by_out + place * h * o + matrix, total_out, mask=(f_h < h)[:, None] & (f_o < o)[None, :])
