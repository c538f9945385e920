"""Convolutional networks: log10 of the number of permutations, derived by hand. Pixels, colours and classes stay.

Channels of a stage that has residuals are one basis, whatever its depth; those inside a block have one of their own.
"""

from __future__ import annotations

from collections.abc import Iterable

from .counting import ways

__all__ = ["KNOWN"]


def grouped(channels: int, groups: int) -> float:
    """A convolution in groups: these trade places; the inputs and the outputs of each do."""
    return ways(groups) + 2 * groups * ways(channels // groups)


def resnet() -> float:
    """64 channels, then four stages of one block, whose inner convolution has two groups."""
    return ways(64, 256, 512, 1024, 2048) + sum(grouped(n, 2) for n in (8, 16, 32, 64))


def inverted(rows: Iterable[tuple[int, int, int, int]], channels: int) -> float:
    """Blocks that expand their channels; the result has a new basis unless it is added to what is expanded.

    Args:
        rows: Expansion, channels, repetitions, and stride of the first, as in the paper.
        channels: Of the input.
    """
    total = 0.0
    for expansion, width, times, stride in rows:
        for at in range(times):
            total += ways(channels * expansion) if expansion > 1 else 0
            total += 0 if width == channels and (at or stride == 1) else ways(width)
            channels = width
    return total


def mobilenet_v2() -> float:
    """At a tenth of its width: 8 channels at first, 1280 at last."""
    rows = ((1, 8, 1, 1), (6, 8, 2, 2), (6, 8, 3, 2), (6, 8, 4, 2), (6, 16, 3, 1), (6, 16, 3, 2), (6, 32, 1, 1))
    return ways(8) + inverted(rows, 8) + ways(1280)


def mnasnet() -> float:
    """At a tenth of its width: 8 channels, 8 more behind them, 1280 at last."""
    rows = ((3, 8, 3, 2), (3, 8, 3, 2), (6, 8, 3, 2), (6, 16, 2, 1), (6, 24, 4, 2), (6, 32, 1, 1))
    return ways(8, 8) + inverted(rows, 8) + ways(1280)


def mobilenet_v3() -> float:
    """At a fifth of its width: 8 channels at first, of which 8 squeeze; 144 and 208 before the classes.

    Expanded channels, those that squeeze them, and new channels of each block, where there are some.
    """
    bodies = ((8, 8), (16, 8), (16,), (24, 8, 8), (48, 16), (48, 16), (24, 8, 16), (32, 8), (56, 16, 24), (112, 32),
              (112, 32))  # fmt: skip
    return ways(8) + sum(ways(*body) for body in bodies) + ways(144, 208)


def efficientnet() -> float:
    """At a fifth of its width. Per block: expanded channels, a quarter of its own that squeeze, new ones."""
    bodies = ((2,), (48, 2, 8), (48, 2, 8), (48, 2, 16), (96, 4, 24), (144, 6, 40), (240, 10, 64))
    return ways(8) + sum(ways(*body) for body in bodies) + ways(32)


def regnet() -> float:
    """8 channels; stages of 8, 16 and 32 with 1, 1 and 2 blocks, in groups of 4; a quarter of the input's squeeze."""
    inner = grouped(8, 2) + ways(2) + grouped(16, 4) + ways(2) + 2 * grouped(32, 8) + ways(4, 8)
    return ways(8) + inner + ways(8, 16, 32)


def shufflenet_v2() -> float:
    """8 channels, stages of one block with two branches, 32 channels at last.

    A branch makes half of the channels; one of them has as many inner ones.
    """
    return ways(8) + ways(4, 4, 4) + ways(8, 8, 8) + ways(12, 12, 12) + ways(32)


def densenet() -> float:
    """8 channels, two layers that append 4 (with 16 inner ones), a transition to 8, and two more layers."""
    return ways(8, 8) + 4 * ways(16, 4)


def squeezenet() -> float:
    """64 channels, then eight blocks: those that squeeze, and two kinds of expanded ones."""
    sizes = (16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)
    return ways(64) + sum(ways(squeezed, expanded, expanded) for squeezed, expanded in sizes)


def ghostnet() -> float:
    """Half of a block's channels are made of the other half, one of each: 6 and 6, 8 and 8, 10 and 8; 8 squeeze."""
    return ways(8) + ways(6, 6) + ways(8, 8) + ways(10, 8, 8) + ways(20, 1280)


def resnetv2() -> float:
    """8 channels at first; two blocks of 8 and 16 channels with two inner bases of 8 each."""
    return ways(8) + ways(8, 8, 8) + ways(16, 8, 8)


def inception_next() -> float:
    """Three kinds of kernels act on 2 of 16 channels each, then on 3 of 24; a last perceptron has 72 neurons."""
    return ways(10, 2, 2, 2) + ways(32) + ways(15, 3, 3, 3) + ways(48) + ways(72)


def convnext(*channels: int) -> float:
    """One block per stage, with four times the channels inside."""
    return ways(*channels) + ways(*(4 * n for n in channels))


KNOWN: dict[str, float] = {
    "convnextv2": convnext(8, 12, 16, 20),
    "convnext_timm": convnext(8, 12, 16, 20),
    "convnext": convnext(8, 12, 16),
    "poolformer": convnext(8, 12),
    # 8 channels, 8 inside the first block; 12 inside the second, 12 behind it.
    "resnet_hf": ways(8, 8, 12, 12),
    "resnet18_narrow": resnet(),
    # 16 patch features, and behind each of two layers.
    "convmixer": 3 * ways(16),
    "mobilenet_v2": mobilenet_v2(),
    "mobilenet_v3": mobilenet_v3(),
    "mnasnet": mnasnet(),
    "efficientnet": efficientnet(),
    "regnet": regnet(),
    "shufflenet_v2": shufflenet_v2(),
    "densenet": densenet(),
    "squeezenet": squeezenet(),
    "ghostnet": ghostnet(),
    "resnetv2": resnetv2(),
    "inception_next": inception_next(),
}
