"""Data-parallel training: the shard of each process in a batch, and collective operations."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import distributed

__all__ = [
    "all_reduce_gradients",
    "all_reduce_sum",
    "broadcast_value",
    "broadcast_weights",
    "process_group",
    "rank",
    "shard",
    "world_size",
]


@contextmanager
def process_group() -> Iterator[None]:
    """Initialise torch.distributed for the processes that `torchrun` started, while the body runs; else do nothing."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield
        return
    # Imported first: its default arguments would keep the group alive, whose threads would outlive the interpreter.
    importlib.import_module("torch.distributed.nn.functional")
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def world_size() -> int:
    """The number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """The rank of this process; 0 without `torchrun`."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def shard(indices: np.ndarray) -> np.ndarray:
    """This process's part of a batch; may be empty."""
    return indices[rank() :: world_size()]


def all_reduce_sum(*numbers: float) -> list[float]:
    """Each number, all_reduce_sum over the processes."""
    if world_size() == 1:
        return list(numbers)
    total = torch.tensor(numbers, dtype=torch.float64)
    distributed.all_reduce(total)
    return total.tolist()


def all_reduce_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Sum the gradients over the processes; those that no process has stay None."""
    if world_size() == 1:
        return
    kept = [p for p in parameters if p.requires_grad]
    there = torch.tensor([float(p.grad is not None) for p in kept], device=kept[0].device)
    flat = torch.cat([there, *((torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in kept)])
    distributed.all_reduce(flat)
    parts = flat[len(kept) :].split([p.numel() for p in kept])
    for p, found, part in zip(kept, flat[: len(kept)].tolist(), parts, strict=True):
        p.grad = part.view_as(p) if found else None


def broadcast_value(value: Any) -> Any:
    """The value of rank 0; those of the other processes are ignored."""
    if world_size() == 1:
        return value
    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


def broadcast_weights(model: torch.nn.Module) -> None:
    """Broadcast the weights of rank 0."""
    if world_size() > 1:
        for tensor in model.state_dict().values():
            distributed.broadcast(tensor, src=0)
