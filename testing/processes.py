"""Where ONNX Runtime runs: in this process, or in a child with a time limit and a memory limit."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx_ir

from ..ir import GmncError
from . import worker
from .worker import Answer

__all__ = ["Child", "Here", "NotRunnable", "Runner", "Stopped", "patience"]

Feeds = Sequence[Mapping[str, np.ndarray]]

_BASE, _PER_BYTE = 3 << 29, 10

_USUAL, _LOOPING, _PER_SECOND = 120.0, 4.0, 1 << 20


class NotRunnable(GmncError):
    """ONNX Runtime does not run the network, or its outputs say nothing. Its text is the reason."""


class Stopped(NotRunnable):
    """ONNX Runtime does not load the network, crashed, or was stopped: no other inputs are tried."""


class Runner(Protocol):
    """Runs models."""

    def run(self, source: bytes | Path, feeds: Feeds) -> list[Answer]:
        """The outputs for each of the feeds; raises `NotRunnable`."""

    def close(self) -> None:
        """End what was started."""


class Here:
    """In this process, without limits."""

    def run(self, source: bytes | Path, feeds: Feeds) -> list[Answer]:
        """The outputs for each of the feeds; raises `NotRunnable`."""
        try:
            running = worker.session(source if isinstance(source, bytes) else os.fspath(source))
        except Exception as error:
            raise Stopped(_first_line(error)) from error
        try:
            return worker.answers(running, feeds)
        except Exception as error:
            raise NotRunnable(_first_line(error)) from error

    def close(self) -> None:
        """Nothing to do."""


class Child:
    """In one child process, which serves all runs and is started anew after it ended.

    timeout: seconds that an answer may take. size: bytes of the parameters, by which the memory limit is set: 1.5 GiB
    and ten times as much.
    """

    def __init__(self, timeout: float, size: int) -> None:
        self.timeout, self.memory = timeout, _BASE + _PER_BYTE * size
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, source: bytes | Path, feeds: Feeds) -> list[Answer]:
        """The outputs for each of the feeds; raises `NotRunnable`, and ends the child if it is late."""
        process = self._process = self._process or self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self.timeout, stop)
        timer.start()
        try:
            body = source if isinstance(source, bytes) else b""
            where = "" if isinstance(source, bytes) else os.fspath(source)
            worker.send(process.stdin, {"path": where, "size": len(body)}, feeds)
            process.stdin.write(body)
            process.stdin.flush()
            header, found = worker.receive(process.stdout)
        except (EOFError, OSError, ValueError) as error:
            timer.cancel()
            self.close()
            raise Stopped(self._reason(process, late.is_set())) from error
        finally:
            timer.cancel()
        if header["error"]:
            raise (Stopped if header["stage"] == "load" else NotRunnable)(_first_line(header["error"]))
        return found

    def close(self) -> None:
        """End the child, if there is one."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                # What was not sent any more cannot be.
                with contextlib.suppress(OSError):
                    stream.close()

    def _started(self) -> subprocess.Popen[bytes]:
        # It finds what this process finds, however its path was set, but nothing in the working folder.
        paths = os.pathsep.join(p for p in sys.path if p)
        return subprocess.Popen(
            [sys.executable, "-P", worker.__file__, str(self.memory), str(os.getpid())],
            env={**os.environ, "PYTHONPATH": paths},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def _reason(self, process: subprocess.Popen[bytes], late: bool) -> str:
        if late:
            return f"ONNX Runtime did not end within {self.timeout:.3g} s (--timeout)"
        code = process.returncode
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"exit code {code}"
        return f"ONNX Runtime ended with {name} (it may use {self.memory / (1 << 30):.1f} GiB of memory)"


def patience(model: onnx_ir.Model, size: int) -> float:
    """Seconds that an answer may take: 120, or 4 and one per MiB of parameters where a loop may be endless.

    size: bytes of the parameters.
    """
    graphs = (model.graph, *(function.graph for function in model.functions.values()))
    looping = any(node.op_type == "Loop" for graph in graphs for node in graph.all_nodes())
    return min(_USUAL, _LOOPING + size / _PER_SECOND) if looping else _USUAL


def _first_line(error: object) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
