"""Normalisations that an exporter folded into the layer before them: recognised, as no entry holds the result."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

__all__ = ["folded_norms"]

_LARGEST_EPS = 0.1
_TOLERANCE = 1e-2


def folded_norms(
    extra: Collection[str], entries: Mapping[str, np.ndarray], parameters: Mapping[str, np.ndarray]
) -> dict[str, str]:
    """Find the normalisations whose statistics no parameter holds.

    Args:
        extra: Names of entries without a parameter.
        entries: All entries.
        parameters: Values in the ONNX file by name, of the parameters that may be folded; none if the file was not
            exported from these entries.

    Returns:
        What happened to each, by the common part of its entries' names.
    """
    suffix = ".running_var"
    stems = [name.removesuffix(suffix) for name in extra if name.endswith(suffix) and name in entries]
    found = {}
    for stem in stems:
        text = f"{stem}: no parameter holds its statistics; a BatchNormalization of {len(entries[stem + suffix])} "
        text += "channels is folded into the layer before it"
        pair = next((p for p in _pairs(entries, parameters) if _scaled(stem, entries, *p[2:])), None)
        found[stem] = text if pair is None else f"{text}: {pair[0]!r} of the file is {pair[1]!r} times its scale"
    return found


def _pairs(
    entries: Mapping[str, np.ndarray], parameters: Mapping[str, np.ndarray]
) -> list[tuple[str, str, np.ndarray, np.ndarray]]:
    """Weights of one shape: names of parameter and entry, and their values."""
    return [
        (name, entry, value, other)
        for name, value in parameters.items()
        for entry, other in entries.items()
        if value.ndim > 1 and value.shape == other.shape and other.dtype.kind == "f"
    ]


def _scaled(stem: str, entries: Mapping[str, np.ndarray], value: np.ndarray, entry: np.ndarray) -> bool:
    """Whether a value is an entry times the scale of a normalisation, w / sqrt(var + eps), along a channel axis."""
    variance = entries[f"{stem}.running_var"].astype(np.float64)
    weight = entries.get(f"{stem}.weight", np.ones(len(variance))).astype(np.float64)
    for axis in (0, 1):
        if value.shape[axis] != len(variance):
            continue
        a, b = (np.moveaxis(x.astype(np.float64), axis, 0).reshape(len(variance), -1) for x in (value, entry))
        with np.errstate(all="ignore"):
            scale = (a * b).sum(1) / (b * b).sum(1)
            eps = float(np.median(weight**2 / scale**2 - variance))
            right = np.allclose(scale, weight / np.sqrt(variance + max(eps, 0.0)), rtol=_TOLERANCE)
        if (
            right
            and -_TOLERANCE < eps < _LARGEST_EPS
            and np.allclose(a, b * scale[:, None], rtol=_TOLERANCE, atol=1e-6)
        ):
            return True
    return False
