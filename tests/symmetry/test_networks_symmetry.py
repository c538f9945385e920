"""The zoo, exported three ways: claimed symmetries hold in ONNX Runtime, and the group is the one known by hand."""

from __future__ import annotations

from math import factorial, log10

import pytest
from support.exports import Compiled, How, by_export, exported

import gmnc
from gmnc.testing import assert_sound

# Orders of the groups: n! for n neurons or channels that trade places, jointly in all layers of a residual stream;
# attention with h heads of d dimensions has h! for the heads, and in each d! for queries with keys and d! for values.
ORDERS = {
    "perceptron": factorial(16) ** 2,
    # the residual streams of 8 and 12 channels, and the inside of each block
    "resnet": factorial(8) ** 2 * factorial(12) ** 2,
    # the stream of 12; in each of 2 blocks 3 heads of 4 and 20 hidden neurons
    "vit": factorial(12) * (factorial(3) * factorial(4) ** 6 * factorial(20)) ** 2,
    "vit_torch_mha": factorial(12) * factorial(3) * factorial(4) ** 6 * factorial(20),
    # its stream is the output; 2 heads of 3, 12 hidden neurons
    "swin": factorial(2) * factorial(3) ** 4 * factorial(12),
    "convnext": factorial(8) * factorial(32),
    # 2 groups of 4 channels into 6 trade places with all that is in them; each depthwise kernel follows its channel
    "grouped": factorial(2) * factorial(4) ** 2 * factorial(6) ** 2,
    # the stem, two layers of growth 4, the transition: concatenated, not added, so nothing is tied
    "densenet": factorial(6) * factorial(4) ** 2 * factorial(7),
    "unet": factorial(6) ** 2 * factorial(10) * factorial(7),
    "squeeze_excite": factorial(8) * factorial(4),
    # the branch's 4 inputs and 4 inner channels; the shuffle deals 2 channels of each half to each of 2 groups, which
    # have 6 channels each and trade places as wholes
    "shufflenet": factorial(4) ** 2 * factorial(2) * (factorial(2) ** 2 * factorial(6)) ** 2,
    "siren": factorial(16) ** 2,
    "gpt": factorial(8) * (factorial(2) * factorial(4) ** 4 * factorial(20)) ** 2,
    # the stream of 16; the 2 frequencies of the rotary tables, alike in all heads and layers; in each of 2 blocks 2 key
    # heads, each with its 2 query heads and 4 dimensions of v, and 10 hidden neurons
    "llama": factorial(16) * factorial(2) * (factorial(2) ** 3 * factorial(4) ** 2 * factorial(10)) ** 2,
    "llama_computed": factorial(16) * factorial(2) * (factorial(2) ** 3 * factorial(4) ** 2 * factorial(10)) ** 2,
    # channels; hidden neurons of token mixing and of channel mixing; the tokens keep their places
    "mixer": factorial(10) * factorial(6) * factorial(20),
    # 3 experts of 9 hidden neurons, 6 mixed outputs
    "experts": factorial(3) * factorial(9) ** 3 * factorial(6),
    "experts_stacked": factorial(3) * factorial(9) ** 3 * factorial(6),
    # the stream of queries, the encoded image, attention among queries and to the image, 14 hidden neurons
    "decoder": factorial(8) ** 2 * (factorial(2) * factorial(4) ** 4) ** 2 * factorial(14),
    "deepsets": factorial(8) * factorial(6),
    # 2 normalised groups of 4 channels that trade places, and 6 free channels
    "groupnorm": factorial(2) * factorial(4) ** 2 * factorial(6),
    "triplane": factorial(4) * factorial(9),
    # 12 neurons viewed as 3 channels of 4 places; 7 channels
    "linear_view_conv": factorial(3) * factorial(7),
    "attention_qkv": factorial(2) * factorial(4) ** 4,
}
# The optimizer computes the attention of the learned queries among themselves: it has no parameters any more.
COMPUTED = {("decoder", "dynamo-optimized"): factorial(2) * factorial(4) ** 4}


@pytest.mark.parametrize(("name", "how"), by_export())
def test_claimed_symmetries_hold(name: str, how: How) -> None:
    report = assert_sound(exported(name, how), trials=3, controls=2)
    assert report.trials
    assert report.max_error < 1e-4
    assert report.detected


@pytest.mark.parametrize(("name", "how"), by_export())
def test_known_groups(name: str, how: How, compiled: Compiled) -> None:
    found = gmnc.symmetries(compiled(name, how))
    assert found.log10_size == pytest.approx(log10(ORDERS[name] // COMPUTED.get((name, how), 1)))
    assert found.exact
    if name == "perceptron":
        assert [len(o) for o in found.orbits] == [16, 16]
