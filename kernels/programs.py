"""The programs of the Triton kernels; arguments are pointers and sizes, see `gmnc.kernels.triton`.

`programs` is a table of `gmnc.kernels.schedule`; `blocks` and `scale` are those of `Layout`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .layout import COLUMN, COLUMNS
from .schedule import DENSE, FLAT

__all__ = ["add_up", "backward_dense", "backward_flat", "forward_dense", "forward_flat"]

# Triton reads only globals that are constexpr.
_BLOCK_SIZE, _DENSE_SIZE, _FLAT_SIZE = (tl.constexpr(len(row)) for row in (COLUMNS, DENSE, FLAT))
_EDGE = tl.constexpr(COLUMN.edge)
_N, _K, _S = tl.constexpr(COLUMN.n), tl.constexpr(COLUMN.k), tl.constexpr(COLUMN.s)
_VALUE = tl.constexpr(COLUMN.value)
_VALUE_B, _VALUE_N = tl.constexpr(COLUMN.value_b), tl.constexpr(COLUMN.value_n)
_VALUE_K, _VALUE_S = tl.constexpr(COLUMN.value_k), tl.constexpr(COLUMN.value_s)
_DST, _SRC = tl.constexpr(COLUMN.dst), tl.constexpr(COLUMN.src)
_TYPE, _TYPE_B, _TYPE_K = tl.constexpr(COLUMN.type), tl.constexpr(COLUMN.type_b), tl.constexpr(COLUMN.type_k)
_DENSE_BLOCK, _ENTRY = tl.constexpr(DENSE.block), tl.constexpr(DENSE.entry)
_ROW, _COLUMN = tl.constexpr(DENSE.row), tl.constexpr(DENSE.column)
_ROW_SUMS, _COLUMN_SUMS = tl.constexpr(DENSE.row_sums), tl.constexpr(DENSE.column_sums)
_FLAT_BLOCK, _FIRST = tl.constexpr(FLAT.block), tl.constexpr(FLAT.first)
_EDGES, _SUMS = tl.constexpr(FLAT.edges), tl.constexpr(FLAT.sums)


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
def _row(pointer, id, width, WIDTH: tl.constexpr):
    """One row of a table, [WIDTH]."""
    f = tl.arange(0, WIDTH)
    return tl.load(pointer + id.to(tl.int64) * width + f, mask=f < width, other=0.0)


@triton.jit
def _rows(pointer, ids, width, WIDTH: tl.constexpr, mask):
    """Rows of a table, [ids, WIDTH]."""
    f = tl.arange(0, WIDTH)
    at = ids.to(tl.int64)[:, None] * width + f[None, :]
    return tl.load(pointer + at, mask=mask[:, None] & (f < width)[None, :], other=0.0)


@triton.jit
def _store_row(pointer, id, width, WIDTH: tl.constexpr, value):
    f = tl.arange(0, WIDTH)
    tl.store(pointer + id.to(tl.int64) * width + f, value, mask=f < width)


@triton.jit
def _store_rows(pointer, ids, width, WIDTH: tl.constexpr, mask, value):
    f = tl.arange(0, WIDTH)
    at = ids.to(tl.int64)[:, None] * width + f[None, :]
    tl.store(pointer + at, value, mask=mask[:, None] & (f < width)[None, :])


@triton.jit
def _small(pointer, height, width, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """A whole matrix."""
    r = tl.arange(0, HEIGHT)
    return _rows(pointer, r, width, WIDTH, r < height)


@triton.jit
def _dot(x, y, DOT: tl.constexpr, SUM: tl.constexpr):
    """The product x @ y; float32 as three TF32 products on tensor cores, which lose about two bits."""
    PRECISION: tl.constexpr = "tf32x3" if tl.float32 == DOT else "ieee"
    return tl.dot(x.to(DOT), y.to(DOT), out_dtype=SUM, input_precision=PRECISION)


@triton.jit
def _times(x, w, DOT: tl.constexpr, SUM: tl.constexpr):
    """The product x @ w; exact for a single number per edge (the value of a parameter)."""
    return x.to(SUM) * w.to(SUM) if x.shape[1] == 1 else _dot(x, w, DOT, SUM)


@triton.jit
def _times_back(grad, w, DOT: tl.constexpr, SUM: tl.constexpr):
    """The product grad @ w.T."""
    return tl.sum(grad * w.to(SUM), axis=1)[:, None] if w.shape[0] == 1 else _dot(grad, tl.trans(w), DOT, SUM)


@triton.jit
def _outer(x, grad, DOT: tl.constexpr, SUM: tl.constexpr):
    """The product x.T @ grad."""
    return tl.sum(x.to(SUM) * grad, axis=0)[None, :] if x.shape[1] == 1 else _dot(tl.trans(x), grad, DOT, SUM)


@triton.jit
def _type_at(types, info, b, at_k, at_s):
    """Where types of edges stand."""
    start = types + tl.load(info + _TYPE) + b * tl.load(info + _TYPE_B)
    return start + at_k * tl.load(info + _TYPE_K) + at_s


@triton.jit
def _strip(src, types, info, b, first, TC: tl.constexpr):
    """Columns of a dense program: mask, sources, types, and the rows that destination 0 reads and writes."""
    n, k, s = tl.load(info + _N), tl.load(info + _K), tl.load(info + _S)
    column = first + tl.arange(0, TC)
    mask = column < k * s
    at_k, at_s = column // s, column % s
    node = tl.load(src + tl.load(info + _SRC) + b * k + at_k, mask=mask, other=0)
    kind = tl.load(_type_at(types, info, b, at_k, at_s), mask=mask, other=0)
    read = tl.load(info + _VALUE) + b * tl.load(info + _VALUE_B)
    read = read + at_k * tl.load(info + _VALUE_K) + at_s * tl.load(info + _VALUE_S)
    return mask, node, kind, read, tl.load(info + _EDGE) + b * n * k * s + column


@triton.jit
def _run(dst, src, types, info, at, mask):
    """Edges of a flat program, by position in the block: ends, types, and the rows that they read and write."""
    n, k, s = tl.load(info + _N), tl.load(info + _K), tl.load(info + _S)
    at_s, at_k, at_n, b = at % s, at // s % k, at // (s * k) % n, at // (s * k * n)
    to = tl.load(dst + tl.load(info + _DST) + b * n + at_n, mask=mask, other=0)
    of = tl.load(src + tl.load(info + _SRC) + b * k + at_k, mask=mask, other=0)
    kind = tl.load(_type_at(types, info, b, at_k, at_s), mask=mask, other=0)
    read = tl.load(info + _VALUE) + b * tl.load(info + _VALUE_B) + at_n * tl.load(info + _VALUE_N)
    read += at_k * tl.load(info + _VALUE_K) + at_s * tl.load(info + _VALUE_S)
    return to, of, kind, read, tl.load(info + _EDGE) + at


@triton.jit
def forward_dense(
    e, of_dst, of_src, of_type, w_in, w_out, b_out, dst, src, types, new, parts, programs, blocks, d, h, o,
    D: tl.constexpr, H: tl.constexpr, P: tl.constexpr, TC: tl.constexpr, R: tl.constexpr,
    NAME: tl.constexpr, RESIDUAL: tl.constexpr, DOT: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """A strip of columns, row by row: new states, and partial sums by row and by column."""
    program = programs + tl.program_id(0) * _DENSE_SIZE
    info, b = blocks + tl.load(program + _DENSE_BLOCK) * _BLOCK_SIZE, tl.load(program + _ENTRY)
    row, by_row, by_column = tl.load(program + _ROW), tl.load(program + _ROW_SUMS), tl.load(program + _COLUMN_SUMS)
    mask, node, kind, read, write = _strip(src, types, info, b, tl.load(program + _COLUMN), TC)
    n, step = tl.load(info + _N), tl.load(info + _VALUE_N)
    columns = tl.load(info + _K) * tl.load(info + _S)
    to = dst + tl.load(info + _DST) + b * n
    by_src = _rows(of_src, node, h, H, mask).to(SUM) + _rows(of_type, kind, h, H, mask).to(SUM)
    first, second = _small(w_in, d, h, D, H), _small(w_out, h, o, H, P)
    bias = _small(b_out, 1, o, 1, P).to(SUM)
    total = tl.zeros([TC, H], dtype=SUM)
    last = tl.minimum(row + R, n)
    # Destination terms are prefetched a row ahead, as their address depends on an id that is loaded too.
    ahead = _row(of_dst, tl.load(to + row), h, H)
    for at in range(row, last):
        by_dst = ahead.to(SUM)
        ahead = _row(of_dst, tl.load(to + tl.minimum(at + 1, last - 1)), h, H)
        state = _rows(e, read + at * step, d, D, mask)
        hidden = _activate(_times(state, first, DOT, SUM) + by_src + by_dst[None, :], NAME)
        hidden = tl.where(mask[:, None], hidden, 0.0).to(SUM)
        total += hidden
        _store_row(parts, by_row + at - row, h, H, tl.sum(hidden, axis=0))
        result = _dot(hidden, second, DOT, SUM) + bias
        if RESIDUAL:
            result += state.to(SUM)
        _store_rows(new, write + at * columns, o, P, mask, result)
    _store_rows(parts, by_column + tl.arange(0, TC), h, H, mask, total)


@triton.jit
def forward_flat(
    e, of_dst, of_src, of_type, w_in, w_out, b_out, dst, src, types, new, parts, programs, blocks, d, h, o,
    D: tl.constexpr, H: tl.constexpr, P: tl.constexpr, TC: tl.constexpr, R: tl.constexpr,
    NAME: tl.constexpr, RESIDUAL: tl.constexpr, DOT: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """A run of edges: new states, and a partial sum per edge."""
    program = programs + tl.program_id(0) * _FLAT_SIZE
    info, start = blocks + tl.load(program + _FLAT_BLOCK) * _BLOCK_SIZE, tl.load(program + _FIRST)
    count, part = tl.load(program + _EDGES), tl.load(program + _SUMS)
    first, second = _small(w_in, d, h, D, H), _small(w_out, h, o, H, P)
    bias = _small(b_out, 1, o, 1, P).to(SUM)
    for tile in range(0, count, TC):
        at = tile + tl.arange(0, TC)
        mask = at < count
        to, of, kind, read, write = _run(dst, src, types, info, start + at, mask)
        state = _rows(e, read, d, D, mask)
        argument = _times(state, first, DOT, SUM) + _rows(of_dst, to, h, H, mask).to(SUM)
        argument += _rows(of_src, of, h, H, mask).to(SUM) + _rows(of_type, kind, h, H, mask).to(SUM)
        hidden = _activate(argument, NAME).to(SUM)
        _store_rows(parts, part + at, h, H, mask, hidden)
        result = _dot(hidden, second, DOT, SUM) + bias
        if RESIDUAL:
            result += state.to(SUM)
        _store_rows(new, write, o, P, mask, result)


@triton.jit
def backward_dense(
    e, of_dst, of_src, of_type, w_in, w_out, dst, src, types, grad_new, grad_in, grad_out, grad_e, parts, by_in,
    by_out, by_bias, programs, blocks, scale, d, h, o,
    D: tl.constexpr, H: tl.constexpr, P: tl.constexpr, TC: tl.constexpr, R: tl.constexpr,
    NAME: tl.constexpr, RESIDUAL: tl.constexpr, DOT: tl.constexpr, SUM: tl.constexpr, KEPT: tl.constexpr,
):  # fmt: skip
    """A strip of columns, row by row: gradients of states, and partial sums of those of the terms."""
    program = programs + tl.program_id(0) * _DENSE_SIZE
    number, b, row = tl.load(program + _DENSE_BLOCK), tl.load(program + _ENTRY), tl.load(program + _ROW)
    by_row, by_column = tl.load(program + _ROW_SUMS), tl.load(program + _COLUMN_SUMS)
    info = blocks + number * _BLOCK_SIZE
    mask, node, kind, read, write = _strip(src, types, info, b, tl.load(program + _COLUMN), TC)
    n, step = tl.load(info + _N), tl.load(info + _VALUE_N)
    columns = tl.load(info + _K) * tl.load(info + _S)
    scale_in, scale_out = tl.load(scale + 2 * number), tl.load(scale + 2 * number + 1)
    to = dst + tl.load(info + _DST) + b * n
    by_src = _rows(of_src, node, h, H, mask).to(SUM) + _rows(of_type, kind, h, H, mask).to(SUM)
    from_out = _rows(grad_out, node, h, H, mask).to(SUM) * scale_out
    # Both stay in registers; the type of the products halves their size.
    by_src, from_out = by_src.to(KEPT), from_out.to(KEPT)
    first, second = _small(w_in, d, h, D, H), _small(w_out, h, o, H, P)
    total = tl.zeros([TC, H], dtype=SUM)
    total_in, total_out = tl.zeros([D, H], dtype=SUM), tl.zeros([H, P], dtype=SUM)
    total_bias = tl.zeros([P], dtype=SUM)
    last = tl.minimum(row + R, n)
    ahead = tl.load(to + row)
    dst_ahead, in_ahead = _row(of_dst, ahead, h, H), _row(grad_in, ahead, h, H)
    for at in range(row, last):
        by_dst, from_in = dst_ahead.to(SUM), in_ahead.to(SUM) * scale_in
        ahead = tl.load(to + tl.minimum(at + 1, last - 1))
        dst_ahead, in_ahead = _row(of_dst, ahead, h, H), _row(grad_in, ahead, h, H)
        state = _rows(e, read + at * step, d, D, mask)
        given = _rows(grad_new, write + at * columns, o, P, mask)
        argument = _times(state, first, DOT, SUM) + by_src.to(SUM) + by_dst[None, :]
        hidden = tl.where(mask[:, None], _activate(argument, NAME), 0.0)
        total_out += _dot(tl.trans(hidden), given, DOT, SUM)
        total_bias += tl.sum(given.to(SUM), axis=0)
        grad = _dot(given, tl.trans(second), DOT, SUM)
        grad = (grad + from_in[None, :] + from_out.to(SUM)) * _slope(argument, NAME)
        grad = tl.where(mask[:, None], grad, 0.0).to(SUM)
        total += grad
        _store_row(parts, by_row + at - row, h, H, tl.sum(grad, axis=0))
        total_in += _outer(state, grad, DOT, SUM)
        result = _times_back(grad, first, DOT, SUM)
        if RESIDUAL:
            result += given.to(SUM)
        _store_rows(grad_e, write + at * columns, d, D, mask, result)
    _store_rows(parts, by_column + tl.arange(0, TC), h, H, mask, total)
    place = tl.program_id(0).to(tl.int64)
    f_d, f_h = tl.arange(0, D), tl.arange(0, H)
    _store_rows(by_in + place * d * h, f_d, h, H, f_d < d, total_in)
    _store_rows(by_out + place * h * o, f_h, o, P, f_h < h, total_out)
    _store_row(by_bias, place, o, P, total_bias)


@triton.jit
def backward_flat(
    e, of_dst, of_src, of_type, w_in, w_out, dst, src, types, grad_new, grad_in, grad_out, grad_e, parts, by_in,
    by_out, by_bias, programs, blocks, scale, d, h, o,
    D: tl.constexpr, H: tl.constexpr, P: tl.constexpr, TC: tl.constexpr, R: tl.constexpr,
    NAME: tl.constexpr, RESIDUAL: tl.constexpr, DOT: tl.constexpr, SUM: tl.constexpr, KEPT: tl.constexpr,
):  # fmt: skip
    """A run of edges: gradients of states, and partial sums of those of the terms."""
    program = programs + tl.program_id(0) * _FLAT_SIZE
    number, start = tl.load(program + _FLAT_BLOCK), tl.load(program + _FIRST)
    count, part = tl.load(program + _EDGES), tl.load(program + _SUMS)
    info = blocks + number * _BLOCK_SIZE
    scale_in, scale_out = tl.load(scale + 2 * number), tl.load(scale + 2 * number + 1)
    first, second = _small(w_in, d, h, D, H), _small(w_out, h, o, H, P)
    total_in, total_out = tl.zeros([D, H], dtype=SUM), tl.zeros([H, P], dtype=SUM)
    total_bias = tl.zeros([P], dtype=SUM)
    for tile in range(0, count, TC):
        at = tile + tl.arange(0, TC)
        mask = at < count
        to, of, kind, read, write = _run(dst, src, types, info, start + at, mask)
        state, given = _rows(e, read, d, D, mask), _rows(grad_new, write, o, P, mask)
        argument = _times(state, first, DOT, SUM) + _rows(of_dst, to, h, H, mask).to(SUM)
        argument += _rows(of_src, of, h, H, mask).to(SUM) + _rows(of_type, kind, h, H, mask).to(SUM)
        hidden = tl.where(mask[:, None], _activate(argument, NAME), 0.0)
        total_out += _dot(tl.trans(hidden), given, DOT, SUM)
        total_bias += tl.sum(given.to(SUM), axis=0)
        grad = _dot(given, tl.trans(second), DOT, SUM)
        grad += _rows(grad_in, to, h, H, mask).to(SUM) * scale_in
        grad += _rows(grad_out, of, h, H, mask).to(SUM) * scale_out
        grad = tl.where(mask[:, None], grad * _slope(argument, NAME), 0.0).to(SUM)
        _store_rows(parts, part + at, h, H, mask, grad)
        total_in += _outer(state, grad, DOT, SUM)
        result = _times_back(grad, first, DOT, SUM)
        if RESIDUAL:
            result += given.to(SUM)
        _store_rows(grad_e, write, d, D, mask, result)
    place = tl.program_id(0).to(tl.int64)
    f_d, f_h = tl.arange(0, D), tl.arange(0, H)
    _store_rows(by_in + place * d * h, f_d, h, H, f_d < d, total_in)
    _store_rows(by_out + place * h * o, f_h, o, P, f_h < h, total_out)
    _store_row(by_bias, place, o, P, total_bias)


@triton.jit
def add_up(
    parts, order, starts, block, scale, side, result, h,
    H: tl.constexpr, T: tl.constexpr, ORDERED: tl.constexpr, SCALED: tl.constexpr, ADD: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """The sum of one run of partial sums, T rows at a time; ADD: add it to `result`."""
    run = tl.program_id(0)
    first, last = tl.load(starts + run), tl.load(starts + run + 1)
    total = tl.zeros([H], dtype=SUM)
    for start in range(first, last, T):
        at = start + tl.arange(0, T)
        mask = at < last
        row = at
        if ORDERED:
            row = tl.load(order + at, mask=mask, other=0)
        value = _rows(parts, row, h, H, mask)
        if SCALED:
            number = tl.load(block + row, mask=mask, other=0)
            value = value * tl.load(scale + 2 * number + side, mask=mask, other=0.0)[:, None]
        total += tl.sum(value.to(SUM), axis=0)
    if ADD:
        total += _row(result, run, h, H).to(SUM)
    _store_row(result, run, h, H, total)
