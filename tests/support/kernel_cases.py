"""Layouts of odd shapes for the tests of the kernels."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest
import torch

from gmnc.kernels import Block, Layout, Terms, block_table

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

KERNELS = [
    "reference",
    "cpu",
    "flat",
    pytest.param(
        "scatter",
        marks=[pytest.mark.scatter, pytest.mark.skipif(not find_spec("torch_scatter"), reason="no torch-scatter")],
    ),
    pytest.param("triton", marks=[pytest.mark.gpu, pytest.mark.skipif(not find_spec("triton"), reason="no triton")]),
]
"""All implementations; those that need more than the package's dependencies are marked."""


def device_of(kernel: str) -> str:
    """Where tensors must lie for a kernel: the Triton one takes a GPU's if there is one, else it is interpreted."""
    return "cuda" if kernel == "triton" and torch.cuda.is_available() else "cpu"


SHAPES = {
    "dense": [(1, 5, 7, 1)],
    "one": [(1, 1, 1, 1)],
    "vector": [(13, 1, 1, 1)],
    "convolution": [(1, 11, 3, 9)],
    "grouped": [(3, 2, 5, 4)],
    "strips": [(2, 6, 7, 5)],
    "depthwise": [(17, 1, 1, 9)],
    "many slots": [(1, 2, 1, 37)],
    "wide": [(1, 3, 13, 3)],
    "tall": [(1, 41, 2, 1)],
    "many small": [(23, 2, 2, 1)],
    "empty": [(1, 0, 4, 1), (0, 3, 3, 1)],
    "two runs": [(1, 9, 39, 1)],
    "several": [(1, 5, 7, 1), (7, 1, 1, 1), (2, 0, 3, 1), (1, 3, 5, 2), (1, 37, 1, 1)],
}
"""Blocks [B, N, K, S]; with `small_tiles` the longer ones go over the end of a tile in every direction."""

LARGE = {
    "many slots": [(1, 2, 1, 2503)],
    "wide": [(1, 3, 701, 3)],
    "tall": [(1, 1201, 2, 1)],
    "many small": [(601, 2, 2, 1)],
    "two runs": [(1, 9, 300, 1)],
}
"""The same with tiles as they are; minutes in the interpreter."""


def layout(shapes: list[tuple[int, int, int, int]], nodes: int, types: int, seed: int = 0) -> tuple[Layout, int]:
    """A layout of these blocks with random ids (repeated ones, self-loops) and strides, and its number of value rows.

    Values of a block are read from a transposed tensor [k, n, b, s], as if the file held it so; every fourth block
    reads one row for all edges, as links do.
    """
    rng = torch.Generator().manual_seed(seed)
    rows, dst, src, kinds = [], [], [], []
    edge = value = at_dst = at_src = at_type = 0
    for number, (b, n, k, s) in enumerate(shapes):
        strides = [0, 0, 0, 0] if number % 4 == 3 else [s, b * s, n * b * s, 1]
        per_source = number % 2 == 0
        steps = (k * s, s) if per_source else (0, 0)
        rows.append(Block(edge, b, n, k, s, value, *strides, at_dst, at_src, at_type, *steps))
        dst.append(torch.randint(nodes, (b * n,), generator=rng))
        src.append(torch.randint(nodes, (b * k,), generator=rng))
        kinds.append(torch.randint(types, (b * k * s if per_source else s,), generator=rng))
        edge += b * n * k * s
        value += 1 if number % 4 == 3 else b * n * k * s
        at_dst, at_src, at_type = at_dst + b * n, at_src + b * k, at_type + len(kinds[-1])
    ids = (torch.cat(part).to(torch.int32) for part in (dst, src, kinds))
    scale = 0.5 + torch.rand(len(shapes), 2, generator=rng)
    return Layout(block_table(rows), scale, *ids, edge), value


def terms(nodes: int, types: int, d: int, h: int, o: int, dtype: torch.dtype, seed: int = 0) -> Terms:
    rng = torch.Generator().manual_seed(seed)
    shapes = [(nodes, h), (nodes, h), (types, h), (d, h), (h, o), (o,)]
    return Terms(*(torch.randn(s, generator=rng, dtype=torch.float64).to(dtype).requires_grad_() for s in shapes))


def placed(kernel: str, where: Layout, e: torch.Tensor, with_terms: Terms) -> tuple[Layout, torch.Tensor, Terms]:
    """Where the kernel takes them; leaves that want gradients as before."""
    device = device_of(kernel)
    moved = [t.detach().to(device).requires_grad_(t.requires_grad) for t in (e, *with_terms)]
    return where.to(device), moved[0], Terms(*moved[1:])
