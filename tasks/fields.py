"""Zoos of implicit representations: networks fitted to a picture of a digit, or to a function a sin(b x), each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

import numpy as np
import torch

from ..frontend import compile
from .images import SIZE, digits
from .siren import Fit, Siren, fit, grid, start
from .zoo import Member

__all__ = ["WAVES", "Pictures", "Sines", "pixels", "waves"]

WAVES = 10.0
"""Amplitudes and frequencies of sines are uniform between 0 and this."""


class _Fields:
    """Makes a zoo of one architecture; see `gmnc.tasks.zoo.Maker`."""

    together = 32
    name: str
    siren: Siren
    how: Fit

    def points(self) -> torch.Tensor:
        """Points where signals are sampled, [P, inputs]."""
        raise NotImplementedError

    def signals(self, seed: int, numbers: np.ndarray) -> tuple[np.ndarray, list[dict[str, int | float | str]]]:
        """The signals of members: samples float32 [n, P], and columns of the index for each."""
        raise NotImplementedError

    def architecture(self, seed: int, number: int) -> str:
        """One architecture for all members."""
        return f"{self.name} {'-'.join(map(str, self.siren.sizes))}"

    def members(self, seed: int, numbers: Sequence[int]) -> Iterator[Member]:
        """Fit members, always together with the same others, as rounding may depend on the batch."""
        graph = compile(self.siren.onnx())
        found: dict[int, tuple[Mapping[str, torch.Tensor], dict[str, int | float | str]]] = {}
        for number in numbers:
            if number not in found:
                first = number - number % self.together
                found = dict(zip(range(first, first + self.together), self._fitted(seed, first), strict=True))
            values, row = found[number]
            arrays = {name: value.numpy() for name, value in values.items()}
            yield Member(self.architecture(seed, number), graph, arrays, row)

    def _fitted(self, seed: int, first: int) -> Iterator[tuple[dict[str, torch.Tensor], dict[str, int | float | str]]]:
        numbers = np.arange(first, first + self.together)
        signals, rows = self.signals(seed, numbers)
        begin = start(self.siren, [(3, seed, number) for number in numbers.tolist()])
        values, errors = fit(self.siren, begin, self.points(), torch.from_numpy(signals)[:, :, None], self.how)
        power = np.ptp(signals, axis=1).clip(1e-6).astype(np.float64) ** 2
        for at, mse in enumerate(errors.double().numpy().clip(1e-12)):
            measured = {"mse": float(mse), "psnr": float(10 * np.log10(power[at] / mse))}
            about = {"parameters": self.siren.parameters, **rows[at], **measured}
            yield {name: value[at] for name, value in values.items()}, about


class Pictures(_Fields):
    """Pictures of the digits, in an order that depends on the seed; repeated after 5,000 members."""

    name, siren, how = "siren", Siren((2, 32, 32, 1), 25.0), Fit(100, 0.03)

    def points(self) -> torch.Tensor:
        """Pixel centres."""
        return grid(SIZE)

    def signals(self, seed: int, numbers: np.ndarray) -> tuple[np.ndarray, list[dict[str, int | float | str]]]:
        """Pixels between -1 and 1; column test: 1 for the test pictures of classifiers."""
        images, labels, tested = pixels()
        image = np.random.default_rng([1, seed]).permutation(len(images))[numbers % len(images)]
        rows: list[dict[str, int | float | str]] = [
            {"image": int(i), "label": int(labels[i]), "test": int(i >= tested)} for i in image
        ]
        return images[image], rows


class Sines(_Fields):
    """Functions a sin(b x), a and b uniform between 0 and 10 (Navon et al. 2023), two successive members for each.

    The first weights start so small (w0 = 3) that fitting must raise frequencies, so that they encode b. With w0 = 10
    all frequencies are there at initialisation, and no metanetwork here could read b from the result.
    """

    name, siren, how = "sine", Siren((1, 32, 32, 1), 3.0), Fit(150, 0.06)

    def points(self) -> torch.Tensor:
        """Points from -pi to pi."""
        return waves()

    def signals(self, seed: int, numbers: np.ndarray) -> tuple[np.ndarray, list[dict[str, int | float | str]]]:
        """Samples of the functions; column function: its number, from 0."""
        rows: list[dict[str, int | float | str]] = []
        for function in (numbers // 2).tolist():
            a, b = np.random.default_rng([2, seed, function]).uniform(0, WAVES, 2).tolist()
            rows.append({"function": function, "a": a, "b": b})
        x = waves()[:, 0].double().numpy()
        samples = np.stack([float(row["a"]) * np.sin(float(row["b"]) * x) for row in rows])
        return samples.astype(np.float32), rows


def waves() -> torch.Tensor:
    """Points where sines are sampled, [100, 1], from -pi to pi."""
    return torch.linspace(-math.pi, math.pi, 100)[:, None]


@cache
def pixels() -> tuple[np.ndarray, np.ndarray, int]:
    """All pictures, float32 [5000, 196] between -1 and 1; their classes; the number of the first test picture."""
    found = digits(SIZE)
    both = np.concatenate([found.train_x, found.test_x]).reshape(-1, SIZE * SIZE)
    grey = (both * found.deviation + found.mean).clip(0, 1)
    return 2 * grey - 1, np.concatenate([found.train_y, found.test_y]), len(found.train_x)
