"""Numbers that users give, as torch tensors and as arrays, whatever holds them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..ir import GmncError
from .values import array_of, dtype_of

__all__ = ["flat", "is_whole", "tensor_of"]


def tensor_of(value: Any, name: str) -> torch.Tensor:
    """The value as a tensor, itself if it is one already. name: of the parameter that it is for.

    Raises `GmncError` for what holds no numbers, or holds them in another way than as a strided tensor.
    """
    plain = isinstance(value, torch.Tensor) and value.layout == torch.strided
    if plain and not (value.is_complex() or value.is_quantized or value.is_meta):
        return value
    array = array_of(value, name)
    if array.dtype.kind == "c":
        raise GmncError(f"values for {name!r}: complex numbers ({array.dtype}), where there is room for real ones")
    return flat(array).reshape(array.shape)


def is_whole(value: Any) -> bool:
    """Whether it holds whole numbers or truth values."""
    if isinstance(value, torch.Tensor):
        return not (value.is_floating_point() or value.is_complex() or value.is_quantized)
    return np.asarray(value).dtype.kind in "iub"


def flat(array: np.ndarray) -> torch.Tensor:
    """The numbers in C order as a tensor of one axis; types that torch has not become float32."""
    row = np.ascontiguousarray(array).reshape(-1)
    if row.dtype == dtype_of("bfloat16"):
        return torch.from_numpy(row.view(np.int16).copy()).view(torch.bfloat16)
    if row.dtype.kind not in "fiub":
        row = row.astype(np.float32)
    return torch.from_numpy(row if row.flags.writeable else row.copy())
