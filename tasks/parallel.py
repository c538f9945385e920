"""Data-parallel training: the share of each process in a batch, and collective operations."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import distributed

__all__ = ["agreed", "joined", "rank", "same_weights", "share", "sum_gradients", "summed", "world"]


@contextmanager
def joined() -> Iterator[None]:
    """Join the processes that `torchrun` started while the body runs; does nothing without it."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield
        return
    # Imported before: its default arguments would keep the group, whose threads would outlive the interpreter.
    importlib.import_module("torch.distributed.nn.functional")
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def world() -> int:
    """The number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0; 0 without `torchrun`."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def share(indices: np.ndarray) -> np.ndarray:
    """The part of a batch for this process; may be empty."""
    return indices[rank() :: world()]


def summed(*numbers: float) -> list[float]:
    """Each number, summed over the processes."""
    if world() == 1:
        return list(numbers)
    total = torch.tensor(numbers, dtype=torch.float64)
    distributed.all_reduce(total)
    return total.tolist()


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Sum the gradients over the processes; those that no process has stay None."""
    if world() == 1:
        return
    kept = [p for p in parameters if p.requires_grad]
    there = torch.tensor([float(p.grad is not None) for p in kept], device=kept[0].device)
    flat = torch.cat([there, *((torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in kept)])
    distributed.all_reduce(flat)
    parts = flat[len(kept) :].split([p.numel() for p in kept])
    for p, found, part in zip(kept, flat[: len(kept)].tolist(), parts, strict=True):
        p.grad = part.view_as(p) if found else None


def agreed(value: Any) -> Any:
    """The value of process 0; those of the others are ignored."""
    if world() == 1:
        return value
    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


def same_weights(model: torch.nn.Module) -> None:
    """Broadcast the weights of process 0."""
    if world() > 1:
        for tensor in model.state_dict().values():
            distributed.broadcast(tensor, src=0)
