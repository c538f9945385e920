"""Networks of `diffusers`: log10 of the number of permutations, derived by hand.

Group norms have 4 groups: where one reads 8 (16) channels, pairs (quadruples) of them trade places as wholes, and the
channels within each do. Where a skip connection is appended to a value and both are normalised together, the groups of
that norm cut both, and channels must keep to both partitions.
"""

from __future__ import annotations

from .counting import STREAM, attention, blocks, ways

__all__ = ["KNOWN"]

NARROW, WIDE = blocks(4, 2), blocks(4, 4)
"""8 or 16 channels that only norms of their own read."""


def unet_common() -> float:
    """What both U-Nets share: the time, the inner channels of residual blocks, and what their skips cut alike.

    The time has two layers of 32. There are three residual blocks with 8 inner channels, and five with 16.

    The first convolution and the first block have one basis of 8 channels, in pairs 01 23 45 67. Appended to 8 others,
    they are cut into 0123 4567, and appended to 16 others, into 01 234567 (24 channels in groups of 6): so 01 stays,
    hence 23, while 45 and 67 trade places: 2!^4 2!. The 8 channels behind the first downsampling are cut into 01 234567
    alone: 2!^4 3!. The 16 of the middle are in quadruples, and appended to themselves in halves: 4!^4 2!^2 2!.
    The 16 behind the upsampling are in the last one's groups alone: 012345 6789ab cdef, of which the last has others
    in its group: 2! 6!^2 4!. The last 8 are read by a norm of their own.
    """
    first, down = 4 * ways(2) + ways(2), 4 * ways(2) + ways(3)
    middle, up = 4 * ways(4) + 2 * ways(2) + ways(2), ways(2, 6, 6, 4)
    return ways(32, 32) + 3 * NARROW + 5 * WIDE + first + down + middle + up + NARROW


def unet() -> float:
    """Four attentions of 4 heads of 4, and what lies around those on the way up.

    The first 16 channels on the way up are in quadruples (for attention) and in 012345 6789ab cdef (as above). The
    first two of these trade places, with 0123 for 89ab and 45 for 67: 2! (4! 2!)^2 4!. The next 16 are in quadruples.
    The 8 behind them are in halves, as 8 others are appended: 2! 4!^2.
    """
    before = ways(2) + 2 * ways(4, 2) + ways(4)
    return unet_common() + 4 * attention(4, 4, 4) + before + WIDE + blocks(2, 4)


def transformer(width: int) -> float:
    """A stream, attention by two heads to itself and to the text, and a gated perceptron, between two projections."""
    return ways(width, 4 * width) + 2 * attention(2, width // 2, width // 2)


def unet_text() -> float:
    """Transformers of 8 channels (three) and of 16 (in the middle).

    On the way up, the first 16 channels are only cut by what is appended, the next 16 are not normalised at all, and
    the 8 behind them are in halves of pairs: 2! 2!^2 2!^4.
    """
    return unet_common() + 3 * transformer(8) + transformer(16) + ways(2, 6, 6, 4) + ways(16) + 7 * ways(2)


def autoencoder(latents: float) -> float:
    """An encoder and a decoder with one residual block per stage and direction, and two in the middle.

    8 channels: three in the encoder (the first, inner, downsampled), three in the decoder (inner, inner, the last). 16
    channels: four in the encoder (the last, three inner), six in the decoder (the first, four inner, upsampled). Two
    attentions by one head of 16 features.
    """
    return 6 * NARROW + 10 * WIDE + 2 * ways(16, 16) + latents


def dit() -> float:
    """Per block: attention, a perceptron, and an embedding of the time (24 neurons) and the class (24 features)."""
    return ways(STREAM) + 2 * (attention(4, 6, 6) + ways(4 * STREAM) + ways(STREAM, STREAM))


def sd3() -> float:
    """Streams of image and text; joint attention. Image: two perceptrons of 96 neurons; text: one, as it ends there.

    The time and the pooled text have 24 neurons each, and a common embedding of 24 features.
    """
    return 2 * ways(STREAM) + 2 * attention(4, 6, 6) + 3 * ways(4 * STREAM) + 3 * ways(STREAM)


def flux() -> float:
    """Streams of 16 features, which a block for both makes one; 2 rotated heads of 8, whose frequencies are numbers.

    Perceptrons of 64 neurons: image, text, both. The time and the pooled text have 16 neurons each, and a common
    embedding of 16 features.
    """
    return ways(16) + 2 * attention(2, 8) + 3 * ways(64) + 3 * ways(16)


KNOWN: dict[str, float] = {
    "unet": unet(),
    "unet_text": unet_text(),
    # 8 moments, before the layer that mixes them; 4 means, before and after the one behind; 4 variances, not read.
    "autoencoder_kl": autoencoder(ways(8, 4, 4, 4)),
    # 3 latents, in three bases; 7 entries of the codebook.
    "vq_model": autoencoder(ways(3, 3, 3, 7)),
    "dit": dit(),
    "sd3": sd3(),
    "flux": flux(),
}
