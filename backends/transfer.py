"""Move many tensors in one copy, packed into one buffer."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch

from ..ir import GmncError

__all__ = ["to_device", "to_pinned_memory"]

_ALIGN = 16


def to_device(
    tensors: Mapping[str, torch.Tensor], device: torch.device | str, non_blocking: bool = False
) -> dict[str, torch.Tensor]:
    """The tensors on another device. non_blocking: as in `torch.Tensor.to`, for results of `to_pinned_memory`."""
    buffer = _shared_buffer(tensors)
    if buffer is None:
        buffer = _packed(tensors, torch.zeros(_size(tensors), dtype=torch.uint8, device=_device(tensors)))
    return _views(tensors, buffer.to(device, non_blocking=non_blocking))


def to_pinned_memory(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors in page-locked memory. Raises `GmncError` where there is no GPU."""
    try:
        buffer = torch.zeros(_size(tensors), dtype=torch.uint8, pin_memory=True)
    except RuntimeError as error:
        raise GmncError(f"memory can be pinned for a GPU only, and none is available: {error}") from error
    return _views(tensors, _packed(tensors, buffer))


def _offsets(tensors: Mapping[str, torch.Tensor]) -> list[int]:
    """Offset of each tensor in the buffer, in bytes, and the buffer's size."""
    sizes = (-(-t.numel() * t.element_size() // _ALIGN) * _ALIGN for t in tensors.values())
    return [0, *itertools.accumulate(sizes)]


def _size(tensors: Mapping[str, torch.Tensor]) -> int:
    return _offsets(tensors)[-1]


def _device(tensors: Mapping[str, torch.Tensor]) -> torch.device:
    return next(iter(tensors.values())).device


def _packed(tensors: Mapping[str, torch.Tensor], buffer: torch.Tensor) -> torch.Tensor:
    for t, at in zip(tensors.values(), _offsets(tensors), strict=False):
        if t.numel():
            buffer[at : at + t.numel() * t.element_size()] = t.contiguous().view(-1).view(torch.uint8)
    return buffer


def _shared_buffer(tensors: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    """The buffer that the tensors already share, as results of this module do; None if they do not."""
    storage = next(iter(tensors.values())).untyped_storage()
    if storage.nbytes() != _size(tensors):
        return None
    for t, at in zip(tensors.values(), _offsets(tensors), strict=False):
        same = t.untyped_storage().data_ptr() == storage.data_ptr() and t.is_contiguous()
        if t.numel() and not (same and t.storage_offset() * t.element_size() == at):
            return None
    return torch.empty(0, dtype=torch.uint8, device=_device(tensors)).set_(storage)


def _views(tensors: Mapping[str, torch.Tensor], buffer: torch.Tensor) -> dict[str, torch.Tensor]:
    """Views of the buffer with the dtypes and shapes of the tensors."""
    return {
        name: buffer[at : at + t.numel() * t.element_size()].view(t.dtype).view(t.shape)
        for (name, t), at in zip(tensors.items(), _offsets(tensors), strict=False)
    }
