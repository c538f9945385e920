"""Attention over patches, frames and sound: log10 of the number of permutations, derived by hand.

Sizes are those of the configurations in this folder: a stream of 24 features, two layers, 4 heads of 6 features each of
queries and keys, and of values, and 40 or 96 neurons per perceptron, where nothing else is said. Patches and pixels
stay, as do the outputs.
"""

from __future__ import annotations

from .counting import HIDDEN, STREAM, attention, blocks, ways

__all__ = ["KNOWN"]

HEADS = attention(4, 6, 6)


def plain(neurons: int = HIDDEN) -> float:
    """The stream runs from patches to the classifier."""
    return ways(STREAM) + 2 * (HEADS + ways(neurons))


def siglip() -> float:
    """One more attention pools the patches; it and its perceptron write the output, and its query has a basis: 24!."""
    return plain() + HEADS + ways(HIDDEN) + ways(STREAM)


def timesformer() -> float:
    """Per layer, one more attention, along time, and a layer behind it, with a basis of its own between them."""
    return plain() + 2 * (HEADS + ways(STREAM))


def whisper() -> float:
    """Two convolutions of 24 channels, of which the second makes the stream; one layer; a projection to 10 features."""
    return ways(STREAM, STREAM) + HEADS + ways(HIDDEN, 10)


def wav2vec2() -> float:
    """Two convolutions of 16 channels, and a projection to 10 features.

    A convolution along positions is added to the stream, in 4 groups of channels, so the stream is permuted by groups.
    """
    return ways(16, 16) + blocks(4, 6) + 2 * (HEADS + ways(HIDDEN)) + ways(10)


def patchtsmixer() -> float:
    """Per layer, 8 neurons that mix the patches, and 48 that mix the features.

    The scale of the input enters behind the stream, by two perceptrons: 2 numbers are mapped to 4 and back to 2, and
    the 24 features with these to 48 and back to 24.
    """
    return ways(STREAM) + 2 * ways(8, 48) + ways(4, 2, 48, 24)


def stage(channels: int, heads: int, neurons: int) -> float:
    """A layer of attention whose heads divide the channels, and a perceptron."""
    size = channels // heads
    return attention(heads, size, size) + ways(neurons)


def swin(*positions: int) -> float:
    """A stream of 8 channels with two layers of 2 heads, then of 16 with one layer of 4 heads.

    Args:
        positions: The numbers of neurons and of inputs of a perceptron that makes each layer's biases, if one does.
    """
    return ways(8, 16) + 2 * stage(8, 2, 32) + stage(16, 4, 64) + 3 * ways(*positions)


def segformer() -> float:
    """Streams of 8 and 12 channels; keys and values of the first are read from patches: 8!.

    The decoder maps each to 10 channels, and both to 10.
    """
    return ways(8, 12) + stage(8, 2, 16) + ways(8) + stage(12, 3, 24) + ways(10, 10, 10)


def pvt_v2() -> float:
    """Streams of 8, 8, 12 and 16 channels; keys and values of the first two are read from patches: 8! 8!."""
    return ways(8, 8, 12, 16) + stage(8, 1, 16) + stage(8, 2, 16) + ways(8, 8) + stage(12, 2, 24) + stage(16, 4, 32)


def levit() -> float:
    """Four convolutions to 16 channels; stages of 16, 24 and 32, whose heads have 4 features of queries and 8 values.

    Between the stages, attention (by as many heads of 4 as the stage has) to every other patch has 16 values, and is
    followed by a perceptron.
    """
    between = attention(4, 4, 16) + ways(48) + attention(6, 4, 16) + ways(64)
    stages = attention(2, 4, 8) + ways(32) + attention(3, 4, 8) + ways(48) + attention(4, 4, 8) + ways(64)
    return ways(2, 4, 8) + ways(16, 24, 32) + stages + between


def mobilevit() -> float:
    """Two blocks of expanding convolutions, then three that expand, convolve, attend, project back and fuse.

    The first expands 8 channels to 32. The second goes to 12 channels with 32 and twice 48 inner ones. The others have
    48, 48 and 64 inner channels; transformers of 8, 12 and 16 features, by 2 heads, with 2, 4 and 3 layers; and a basis
    each before the transformer, behind it and behind the fusion. 20 channels reach the classifier.
    """
    total = ways(8, 32) + ways(32, 12, 48, 48) + ways(20)
    for inner, channels, width, layers in ((48, 12, 8, 2), (48, 16, 12, 4), (64, 16, 16, 3)):
        total += ways(inner, *[channels] * 4, width) + layers * stage(width, 2, 2 * width)
    return total


def eva02() -> float:
    """Three heads of 8 features, whose queries and keys are rotated by 4 pairs of a stored table."""
    return ways(STREAM) + 2 * (attention(3, 8) + ways(4 * STREAM)) + ways(4)


def mlp_mixer() -> float:
    """Per layer: 12 neurons that mix the patches, 96 that mix the features. The patches, places of the image, stay."""
    return ways(STREAM) + 2 * ways(STREAM // 2, 4 * STREAM)


def convit() -> float:
    """Three layers with 4 heads of 24 features on a stream of 96."""
    return ways(96) + 3 * (attention(4, 24, 24) + ways(384))


def xcit() -> float:
    """Two layers whose heads attend to features, so that a key goes with a value; one in which the class attends.

    Convolutions of 6 and 12 channels make the patches.
    """
    return plain(4 * STREAM) + HEADS + ways(4 * STREAM) + ways(6, 12)


def cait() -> float:
    """Scores of heads are mixed before softmax and after it: 4 heads of queries, 4 between, 4 of values.

    In one more layer, the class attends.
    """
    talking = attention(4, 6) + ways(4) + attention(4, 6)
    return ways(STREAM) + 2 * talking + HEADS + 3 * ways(4 * STREAM)


def coat_lite() -> float:
    """Streams of 8, 12, 16 and 20 channels with 4 heads; queries are multiplied by convolved values: one basis.

    A convolution along positions is of another size for the first head, the second, and the last two: 2!.
    """
    sizes = (8, 12, 16, 20)
    return sum(ways(n, 2 * n) + ways(2) + 4 * ways(n // 4) for n in sizes)


def tnt() -> float:
    """An inner stream of 8 features with 2 heads, and the outer one, in two layers each."""
    return plain(4 * STREAM) + ways(8) + 2 * stage(8, 2, 32)


def nest() -> float:
    """Streams of 8 and 12 channels with one layer each."""
    return ways(8, 12) + stage(8, 2, 32) + stage(12, 3, 48)


def davit() -> float:
    """The same, with two layers each: heads attend to places, then to channels."""
    return ways(8, 12) + 2 * (stage(8, 2, 32) + stage(12, 3, 48))


def focalnet() -> float:
    """Streams of 8 and 16 channels; contexts have a basis, and so have the queries with what modulates them."""
    return ways(8, 8, 8, 32) + ways(16, 16, 16, 64)


def edgenext() -> float:
    """A convolution on 8 channels, then 12, 16 and 20, of which heads attend to channels, and perceptrons.

    Before attention, chunks of channels are convolved, each after the one before is added to it, but the last: these
    are 6 + 6 channels, 6 (twice) + 4 and 5 (three times) + 5.
    """
    attends = stage(12, 4, 48) + stage(16, 4, 64) + stage(20, 4, 80)
    return ways(8, 32) + ways(6, 6) + ways(6, 4) + ways(5, 5) + attends


def maxvit() -> float:
    """Two convolutions of 8 channels; stages of 8 and 16; a layer of 16 neurons before the classes.

    A stage has a block with 32 (64) inner channels, 2 (4) of which squeeze, and attends to windows and to grids.
    """
    return ways(8, 8) + ways(32, 2, 8) + 2 * stage(8, 2, 32) + ways(64, 4, 16) + 2 * stage(16, 4, 64) + ways(16)


KNOWN: dict[str, float] = {
    **dict.fromkeys(("vit", "deit", "beit", "videomae", "patchtst", "vit_torchvision"), plain()),
    "vit_timm": plain(4 * STREAM),
    "dinov2": plain(2 * STREAM),
    # The stream is the output.
    "clip_vision": plain() - ways(STREAM),
    "siglip": siglip(),
    "swin": swin(),
    "swin_torchvision": swin(),
    # A stored table of relative positions has two coordinates, which 512 neurons read.
    "swinv2": swin(512, 2),
    "segformer": segformer(),
    "pvt_v2": pvt_v2(),
    "levit": levit(),
    "mobilevit": mobilevit(),
    "timesformer": timesformer(),
    "whisper": whisper(),
    "wav2vec2": wav2vec2(),
    "hubert": wav2vec2(),
    "patchtsmixer": patchtsmixer(),
    "eva02": eva02(),
    "mlp_mixer": mlp_mixer(),
    # One matrix mixes the patches.
    "resmlp": ways(STREAM) + 2 * ways(4 * STREAM),
    # Each of 48 neurons gates another one.
    "gmlp": ways(STREAM) + 2 * ways(2 * STREAM),
    "convit": convit(),
    "xcit": xcit(),
    "cait": cait(),
    "coat_lite": coat_lite(),
    "tnt": tnt(),
    "nest": nest(),
    "davit": davit(),
    "focalnet": focalnet(),
    "edgenext": edgenext(),
    "maxvit": maxvit(),
}
