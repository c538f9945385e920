"""The symmetries claimed for the zoo hold in ONNX Runtime, and those that are known are found."""

from __future__ import annotations

import pytest
from exports import exported
from networks import NETWORKS

from gmnc.testing import assert_sound

# Swaps of neighbours that generate the known symmetries: n - 1 for n channels that can trade places.
KNOWN = {
    # the two residual streams (8 and 12 channels) and the inside of each block
    "resnet": 7 + 7 + 11 + 11,
    "unet": 5 + 9 + 5 + 6,
    # the stem, two layers of growth 4, the transition
    "densenet": 5 + 3 + 3 + 6,
    "siren": 15 + 15,
    "deepsets": 7 + 5,
    # 12 neurons viewed as 3 channels of 4 places; 7 channels
    "linear_view_conv": 2 + 6,
    # 3 experts of 9 hidden neurons, the experts themselves, 6 mixed outputs
    "experts": 3 * 8 + 2 + 5,
    # in each of 2 heads 4 pairs of q and k and 4 dimensions of v; the heads themselves
    "attention_qkv": 2 * (3 + 3) + 1,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_claimed_symmetries_hold(name: str) -> None:
    assert assert_sound(exported(name, "dynamo"), trials=3).generators >= KNOWN.get(name, 1)
