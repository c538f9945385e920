"""Time and peak memory of a piece of work on a CPU or a GPU, and what ran it."""

from __future__ import annotations

import csv
import gc
import itertools
import platform
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

__all__ = ["about", "append", "captured", "columns_of", "median_time", "peak"]

_PACKAGES = ("torch", "triton", "torch_geometric", "torch_scatter")
Work = Callable[[], None]


def median_time(work: Work, device: torch.device, repeats: int) -> float:
    """Seconds. On a GPU the runs follow one another without a wait, and are timed there."""
    work()
    if device.type != "cuda":
        return statistics.median(_seconds(work) for _ in range(repeats))
    for _ in range(2):
        work()
    events = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    torch.cuda.synchronize()
    events[0].record()
    for event in events[1:]:
        work()
        event.record()
    torch.cuda.synchronize()
    return statistics.median(a.elapsed_time(b) for a, b in itertools.pairwise(events)) / 1e3


def _seconds(work: Work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def captured(work: Work) -> Work:
    """The same work, played back from a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def peak(work: Work, device: torch.device) -> int:
    """Most memory in use during a run, less what was in use before, in bytes."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    before, most, stop = _resident(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not stop.wait(0.002):
            most = max(most, _resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        stop.set()
        watcher.join()
    return max(0, most - before)


def _resident() -> int:
    """Bytes of this process that are in memory (Linux)."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


def about(device: torch.device) -> dict[str, str]:
    """The machine and the versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    found = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "device": name}
    found |= {"threads": str(torch.get_num_threads()), "cuda": torch.version.cuda or ""}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = ""
    return found


def columns_of(path: Path) -> list[str] | None:
    """The first row of a CSV file; None if there is no file, or nothing in it."""
    if not path.exists():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        return next(csv.reader(file), None)


def append(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Add rows to a CSV file, under a row of their names if it is new."""
    new = columns_of(path) is None
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        if new:
            writer.writeheader()
        writer.writerows(rows)
