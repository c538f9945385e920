"""Parameter values from users (tensors, arrays, lists) as torch tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..ir import GmncError
from .values import array_of, dtype_of

__all__ = ["flat", "is_integer", "tensor_of"]


def tensor_of(value: Any, name: str) -> torch.Tensor:
    """Convert a value to a real, strided tensor; such a tensor is returned as it is, with its gradient.

    Args:
        value: A tensor, or anything that `numpy.asarray` takes.
        name: The parameter it is for, for messages.

    Returns:
        A tensor of the value's shape.

    Raises:
        GmncError: The value holds no numbers, complex ones, or is a sparse, quantised or meta tensor.
    """
    plain = isinstance(value, torch.Tensor) and value.layout == torch.strided
    if plain and not (value.is_complex() or value.is_quantized or value.is_meta):
        return value
    array = array_of(value, name)
    if array.dtype.kind == "c":
        raise GmncError(f"values for {name!r}: complex numbers ({array.dtype}), expected real ones")
    return flat(array).reshape(array.shape)


def is_integer(value: Any) -> bool:
    """Whether the value holds integers or booleans."""
    if isinstance(value, torch.Tensor):
        return not (value.is_floating_point() or value.is_complex() or value.is_quantized)
    return np.asarray(value).dtype.kind in "iub"


def flat(array: np.ndarray) -> torch.Tensor:
    """The elements in C order as a 1-d tensor; dtypes that torch lacks become float32."""
    row = np.ascontiguousarray(array).reshape(-1)
    if row.dtype == dtype_of("bfloat16"):
        return torch.from_numpy(row.view(np.int16).copy()).view(torch.bfloat16)
    if row.dtype.kind not in "fiub":
        row = row.astype(np.float32)
    return torch.from_numpy(row if row.flags.writeable else row.copy())
