"""Layouts of well-known networks by their shapes alone, so that any machine that has torch can time kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import checkout  # noqa: F401
import torch

from gmnc.kernels import Block, Layout, block_table

__all__ = ["NETWORKS", "Network"]


@dataclass
class Network:
    """Blocks of edges between groups of nodes; a group is (first node, number of nodes)."""

    nodes: int = 0
    edges: int = 0
    types: int = 0
    rows: list[Block] = field(default_factory=list)
    dst: list[torch.Tensor] = field(default_factory=list)
    src: list[torch.Tensor] = field(default_factory=list)
    kinds: list[torch.Tensor] = field(default_factory=list)

    def group(self, size: int) -> range:
        """New nodes."""
        self.nodes += size
        return range(self.nodes - size, self.nodes)

    def weight(self, src: range, size: int, slots: int = 1, groups: int = 1) -> range:
        """A dense layer or a convolution onto new nodes."""
        dst = self.group(size)
        self._block((groups, size // groups, len(src) // groups, slots), dst, src)
        return dst

    def vectors(self, dst: range, count: int) -> None:
        """Biases or vectors of a normalisation, each from a node of its own."""
        for _ in range(count):
            source = self.group(1)
            self._block((len(dst), 1, 1, 1), dst, [source.start] * len(dst))

    def link(self, dst: range, *sources: range) -> None:
        """Edges without a parameter, one to one."""
        for src in sources:
            self._block((len(dst), 1, 1, 1), dst, src)

    def join(self, *sources: range) -> range:
        """New nodes that sources of equal size are linked to."""
        dst = self.group(len(sources[0]))
        self.link(dst, *sources)
        return dst

    def layout(self) -> Layout:
        """The layout of an edge state [edges, D] in the order of the blocks."""
        ids = [torch.cat(part).to(torch.int32) for part in (self.dst, self.src, self.kinds)]
        return Layout(block_table(self.rows), torch.ones(len(self.rows), 2), *ids, self.edges)

    def _block(self, shape: tuple[int, int, int, int], dst: range | list[int], src: range | list[int]) -> None:
        b, n, k, s = shape
        starts = [sum(map(len, part)) for part in (self.dst, self.src, self.kinds)]
        self.rows.append(Block(self.edges, *shape, self.edges, n * k * s, k * s, s, 1, *starts, type_b=0, type_k=0))
        self.dst.append(torch.tensor(dst))
        self.src.append(torch.tensor(src))
        self.kinds.append(torch.arange(self.types, self.types + s))
        self.types += s
        self.edges += b * n * k * s


def tiny() -> Network:
    """A few hundred parameters: whether all runs, even in an interpreter."""
    net = Network()
    x = net.weight(net.group(3), 8, 9)
    net.vectors(x, 2)
    net.vectors(net.weight(x, 5), 1)
    return net


def small() -> Network:
    """About a million parameters: convolutions, a bottleneck and dense layers."""
    net = Network()
    x = net.group(3)
    for size in (64, 128, 256):
        x = net.weight(x, size, 9)
        net.vectors(x, 4)
    for size in (512, 512, 512, 10):
        x = net.weight(x, size)
        net.vectors(x, 1)
    return net


def resnet(blocks: tuple[int, ...], bottleneck: bool) -> Network:
    """A residual network for 224 x 224 images and 1,000 classes."""
    net = Network()
    x = _normed(net, net.group(3), 64, 49)
    for stage, count in enumerate(blocks):
        planes = 64 << stage
        width = 4 * planes if bottleneck else planes
        for i in range(count):
            if bottleneck:
                y = _normed(net, _normed(net, _normed(net, x, planes, 1), planes, 9), width, 1)
            else:
                y = _normed(net, _normed(net, x, planes, 9), planes, 9)
            skip = _normed(net, x, width, 1) if i == 0 and len(x) != width else x
            x = net.join(y, skip)
    net.vectors(net.weight(x, 1000), 1)
    return net


def gpt2(vocabulary: int = 50257, width: int = 768, depth: int = 12, heads: int = 12) -> Network:
    """GPT-2 small; the tied head's edges are a block of their own."""
    net = Network()
    x = net.join(net.weight(net.group(vocabulary), width), net.weight(net.group(1), width, 1024))
    for _ in range(depth):
        net.vectors(x, 2)
        q, k, v = (net.weight(x, width) for _ in range(3))
        for part in (q, k, v):
            net.vectors(part, 1)
        products, sums = net.join(q, k), net.group(heads)
        per_head = width // heads
        net._block((heads, 1, per_head, 1), sums, products)
        mixed = net.group(width)
        net.link(mixed, v)
        net._block((heads, per_head, 1, 1), mixed, sums)
        out = net.weight(mixed, width)
        net.vectors(out, 1)
        x = net.join(x, out)
        net.vectors(x, 2)
        up = net.weight(x, 4 * width)
        net.vectors(up, 1)
        down = net.weight(up, width)
        net.vectors(down, 1)
        x = net.join(x, down)
    net.vectors(x, 2)
    net.weight(x, vocabulary)
    return net


def _normed(net: Network, x: range, size: int, slots: int) -> range:
    y = net.weight(x, size, slots)
    net.vectors(y, 4)
    return y


NETWORKS: dict[str, Callable[[], Network]] = {
    "tiny": tiny,
    "small": small,
    "resnet18": lambda: resnet((2, 2, 2, 2), bottleneck=False),
    "resnet50": lambda: resnet((3, 4, 6, 3), bottleneck=True),
    "gpt2": gpt2,
}
