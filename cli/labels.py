"""Labels of inputs: an array beside them in their file, or a file of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import numpy as np

__all__ = ["labelled"]


def labelled(
    inputs: Mapping[str, np.ndarray] | None, labels: str | None
) -> tuple[dict[str, np.ndarray] | None, np.ndarray | None]:
    """Take the labels out of the arrays of a file, or read them from another file.

    Args:
        inputs: Arrays by name; None if there is no file.
        labels: The name of an array, or the path of a .npy file; None if there are no labels.

    Returns:
        The other arrays, and the labels.

    Raises:
        BadParameter: There is no such array.
        LoadError: The file is missing or holds no array.
    """
    given = None if inputs is None else dict(inputs)
    if labels is None:
        return given, None
    if given is None:
        raise typer.BadParameter("labels need --inputs FILE.npz", param_hint="--labels")
    if labels in given:
        found = given.pop(labels)
        return given, found
    if labels.endswith(".npy"):
        from ..files.npz import read_array

        return given, read_array(labels)
    raise typer.BadParameter(
        f"{labels!r} is neither an array of the inputs file, which holds {', '.join(given) or 'none'}, nor a .npy file",
        param_hint="--labels",
    )
