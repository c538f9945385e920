"""One layer of message passing: time and memory of the kernels against PyG and the floor of memory traffic.

    python benchmarks/message_passing.py --device cpu --net small --against pyg,scatter

Each contender updates every edge and sums messages into both ends, with the same weights; the floor is the time that
copies of the edge state take on the same machine: 2 passes over it forward, 5 with backward.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gmnc.kernels import Layout, Terms

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Problem:
    """One layer's inputs."""

    layout: Layout
    nodes: int
    types: int
    edges: torch.Tensor
    terms: Terms
