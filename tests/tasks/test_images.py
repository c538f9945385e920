"""The images of digits that classifiers train on."""

from __future__ import annotations

import numpy as np
import pytest

from gmnc.ir import GmncError
from gmnc.tasks.images import digits


def test_digits_are_balanced_standardised_and_always_the_same() -> None:
    images = digits()
    assert images.train_x.shape == (4000, 1, 14, 14)
    assert images.test_x.shape == (1000, 1, 14, 14)
    assert np.bincount(images.train_y).tolist() == [400] * 10
    assert np.bincount(images.test_y).tolist() == [100] * 10
    assert abs(images.train_x.mean(dtype=np.float64)) < 1e-6
    assert abs(images.train_x.std(dtype=np.float64) - 1) < 1e-6
    again = digits()
    assert np.array_equal(images.train_x, again.train_x)
    assert np.array_equal(images.test_y, again.test_y)
    both = np.concatenate([images.train_x, images.test_x]).reshape(5000, -1)
    assert len(np.unique(both, axis=0)) == 5000


def test_a_pixel_is_the_mean_of_a_square() -> None:
    coarse, fine = digits(7), digits(14)
    squares = fine.test_x.reshape(1000, 1, 7, 2, 7, 2).mean(axis=(3, 5))
    back = coarse.test_x * coarse.deviation + coarse.mean
    np.testing.assert_allclose(back, squares * fine.deviation + fine.mean, atol=1e-6)
    with pytest.raises(GmncError, match="divides 28"):
        digits(13)
