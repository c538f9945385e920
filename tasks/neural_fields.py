"""Zoos of neural fields: SIRENs, each fitted to one image of a digit or to one function a sin(b x)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

import numpy as np
import torch

from ..frontend import compile
from .images import SIZE, digits
from .siren import FitOptions, Siren, fit, initial_values, pixel_grid
from .zoo import Member

__all__ = ["MAX_SINE", "DigitSirens", "SineSirens", "pixels", "sine_points"]

MAX_SINE = 10.0
"""Upper bound of the amplitudes and frequencies of sines, which are uniform from 0."""


class _SirenMaker:
    """Makes a zoo of one architecture; see `gmnc.tasks.zoo.Maker`."""

    batch_size = 32
    name: str
    siren: Siren
    fit_options: FitOptions

    def points(self) -> torch.Tensor:
        """Points at which signals are sampled, [P, inputs]."""
        raise NotImplementedError

    def signals(self, seed: int, numbers: np.ndarray) -> tuple[np.ndarray, list[dict[str, int | float | str]]]:
        """The signals of members: samples float32 [n, P], and columns of the index for each."""
        raise NotImplementedError

    def architecture(self, seed: int, number: int) -> str:
        """One architecture for all members."""
        return f"{self.name} {'-'.join(map(str, self.siren.sizes))}"

    def members(self, seed: int, numbers: Sequence[int]) -> Iterator[Member]:
        """Fit members, always in the same batches, as rounding may depend on the batch."""
        graph = compile(self.siren.onnx())
        found: dict[int, tuple[Mapping[str, torch.Tensor], dict[str, int | float | str]]] = {}
        for number in numbers:
            if number not in found:
                first = number - number % self.batch_size
                found = dict(zip(range(first, first + self.batch_size), self._fitted(seed, first), strict=True))
            values, row = found[number]
            arrays = {name: value.numpy() for name, value in values.items()}
            yield Member(self.architecture(seed, number), graph, arrays, row)

    def _fitted(self, seed: int, first: int) -> Iterator[tuple[dict[str, torch.Tensor], dict[str, int | float | str]]]:
        numbers = np.arange(first, first + self.batch_size)
        signals, rows = self.signals(seed, numbers)
        begin = initial_values(self.siren, [(3, seed, number) for number in numbers.tolist()])
        values, errors = fit(self.siren, begin, self.points(), torch.from_numpy(signals)[:, :, None], self.fit_options)
        power = np.ptp(signals, axis=1).clip(1e-6).astype(np.float64) ** 2
        for at, mse in enumerate(errors.double().numpy().clip(1e-12)):
            measured = {"mse": float(mse), "psnr": float(10 * np.log10(power[at] / mse))}
            about = {"parameters": self.siren.parameters, **rows[at], **measured}
            yield {name: value[at] for name, value in values.items()}, about


class DigitSirens(_SirenMaker):
    """SIRENs of images of digits, in an order that depends on the seed; images repeat after 5,000 members."""

    name, siren, fit_options = "siren", Siren((2, 32, 32, 1), 25.0), FitOptions(100, 0.03)

    def points(self) -> torch.Tensor:
        """Pixel centres."""
        return pixel_grid(SIZE)

    def signals(self, seed: int, numbers: np.ndarray) -> tuple[np.ndarray, list[dict[str, int | float | str]]]:
        """Pixels between -1 and 1; column test: 1 for the test images of the classifiers."""
        images, labels, tested = pixels()
        image = np.random.default_rng([1, seed]).permutation(len(images))[numbers % len(images)]
        rows: list[dict[str, int | float | str]] = [
            {"image": int(i), "label": int(labels[i]), "test": int(i >= tested)} for i in image
        ]
        return images[image], rows


class SineSirens(_SirenMaker):
    """SIRENs of functions a sin(b x), a and b uniform from 0 to 10 (Navon et al. 2023), two successive ones each.

    The first weights start so small (w0 = 3) that fitting must raise frequencies, so that they encode b. With w0 = 10
    all frequencies are present at initialisation, and no metanetwork here could read b from the result.
    """

    name, siren, fit_options = "sine", Siren((1, 32, 32, 1), 3.0), FitOptions(150, 0.06)

    def points(self) -> torch.Tensor:
        """Points from -pi to pi."""
        return sine_points()

    def signals(self, seed: int, numbers: np.ndarray) -> tuple[np.ndarray, list[dict[str, int | float | str]]]:
        """Samples of the functions; column function: its number, from 0."""
        rows: list[dict[str, int | float | str]] = []
        for function in (numbers // 2).tolist():
            a, b = np.random.default_rng([2, seed, function]).uniform(0, MAX_SINE, 2).tolist()
            rows.append({"function": function, "a": a, "b": b})
        x = sine_points()[:, 0].double().numpy()
        samples = np.stack([float(row["a"]) * np.sin(float(row["b"]) * x) for row in rows])
        return samples.astype(np.float32), rows


def sine_points() -> torch.Tensor:
    """Points at which sines are sampled, [100, 1], from -pi to pi."""
    return torch.linspace(-math.pi, math.pi, 100)[:, None]


@cache
def pixels() -> tuple[np.ndarray, np.ndarray, int]:
    """All images, float32 [5000, 196] between -1 and 1; their classes; the index of the first test image."""
    found = digits(SIZE)
    both = np.concatenate([found.train_x, found.test_x]).reshape(-1, SIZE * SIZE)
    grey = (both * found.deviation + found.mean).clip(0, 1)
    return 2 * grey - 1, np.concatenate([found.train_y, found.test_y]), len(found.train_x)
