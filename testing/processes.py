"""Runners of ONNX Runtime: in this process, or in a child process with time and memory limits."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx_ir

from ..ir import GmncError
from . import worker
from .worker import Outputs

__all__ = ["ChildProcess", "Feeds", "InProcess", "NotRunnable", "Runner", "Stopped", "default_timeout"]

Feeds = Sequence[Mapping[str, np.ndarray]]

_BASE, _PER_BYTE = 3 << 29, 10

_USUAL, _LOOPING, _PER_SECOND = 120.0, 4.0, 1 << 20


class NotRunnable(GmncError):
    """ONNX Runtime cannot run the network, or its outputs prove nothing. The message is the reason."""


class Stopped(NotRunnable):
    """ONNX Runtime cannot load the network, crashed, or was stopped: other inputs would not help."""


class Runner(Protocol):
    """Runs models in ONNX Runtime.

    Attributes:
        holder: Whose model is held; None if none is.
    """

    holder: object | None

    def run(self, source: bytes | Path, feeds: Feeds) -> list[Outputs]:
        """Run a model, given as bytes or as a path, on each of the feeds.

        Args:
            source: The serialised model, or its path.
            feeds: Arrays by input name, for each run.

        Returns:
            The outputs of each run, by name.

        Raises:
            NotRunnable: The model does not run.
        """

    def hold(self, source: bytes, held: Mapping[str, np.ndarray], holder: object) -> None:
        """Load a model and keep it, in place of the one before, with these arrays as inputs of every run.

        Args:
            source: The serialised model.
            held: Arrays by input name.
            holder: Becomes the attribute `holder`.

        Raises:
            NotRunnable: The model cannot be loaded.
        """

    def run_held(self, changes: Mapping[str, np.ndarray], feeds: Feeds) -> list[Outputs]:
        """Run the model that `hold` loaded.

        Args:
            changes: Arrays that replace held ones in these runs.
            feeds: Arrays of the other inputs, for each run.

        Returns:
            The outputs of each run, by name.

        Raises:
            NotRunnable: The model does not run, or none is held.
        """

    def close(self) -> None:
        """Release what was started."""


class InProcess:
    """Runs models in this process, without limits."""

    def __init__(self) -> None:
        self.holder: object | None = None
        self._held: worker.Held | None = None

    def run(self, source: bytes | Path, feeds: Feeds) -> list[Outputs]:
        """Run a model on each of the feeds; see `Runner.run`."""
        try:
            running = worker.session(source if isinstance(source, bytes) else os.fspath(source))
        except Exception as error:
            raise Stopped(_first_line(error)) from error
        return self._run(running, feeds)

    def hold(self, source: bytes, held: Mapping[str, np.ndarray], holder: object) -> None:
        """Load a model and keep it; see `Runner.hold`."""
        self.close()
        try:
            self._held = worker.Held(worker.session(source), dict(held))
        except Exception as error:
            raise Stopped(_first_line(error)) from error
        self.holder = holder

    def run_held(self, changes: Mapping[str, np.ndarray], feeds: Feeds) -> list[Outputs]:
        """Run the model that is held; see `Runner.run_held`."""
        if self._held is None:
            raise NotRunnable("no model is held")
        return self._run(self._held.session, self._held.feeds(changes, feeds))

    def _run(self, running: Any, feeds: Feeds) -> list[Outputs]:
        try:
            return worker.run_all(running, feeds)
        except Exception as error:
            raise NotRunnable(_first_line(error)) from error

    def close(self) -> None:
        """Release the model that is held."""
        self.holder = self._held = None


class ChildProcess:
    """Runs models in one child process, which is restarted after a crash.

    Args:
        timeout: Time limit of a request, in seconds.
        size: Size of the parameters in bytes. The memory limit is 1.5 GiB plus ten times that.
    """

    def __init__(self, timeout: float, size: int) -> None:
        self.timeout, self.memory = timeout, _BASE + _PER_BYTE * size
        self.holder: object | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, source: bytes | Path, feeds: Feeds) -> list[Outputs]:
        """Run a model on each of the feeds; see `Runner.run`. The child is killed after the time limit."""
        body = source if isinstance(source, bytes) else b""
        path = "" if isinstance(source, bytes) else os.fspath(source)
        return self._ask({"do": "run", "path": path, "size": len(body)}, feeds, body)

    def hold(self, source: bytes, held: Mapping[str, np.ndarray], holder: object) -> None:
        """Load a model and keep it in the child; see `Runner.hold`."""
        self.holder = None
        self._ask({"do": "hold", "path": "", "size": len(source)}, [held], source)
        self.holder = holder

    def run_held(self, changes: Mapping[str, np.ndarray], feeds: Feeds) -> list[Outputs]:
        """Run the model that the child holds; see `Runner.run_held`."""
        return self._ask({"do": "run held"}, [changes, *feeds])

    def _ask(self, request: Mapping[str, Any], arrays: Feeds, body: bytes = b"") -> list[Outputs]:
        """Send a request, and the bytes of a model, to the child; returns the arrays of its answer."""
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
            worker.send(process.stdin, request, arrays)
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
        """Kill the child, if there is one."""
        process, self._process, self.holder = self._process, None, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                # Flushing what is still buffered fails once the child is dead.
                with contextlib.suppress(OSError):
                    stream.close()

    def _started(self) -> subprocess.Popen[bytes]:
        # The child imports what this process imports, but nothing from the working folder.
        paths = os.pathsep.join(p for p in sys.path if p)
        return subprocess.Popen(
            [sys.executable, "-P", worker.__file__, str(self.memory), str(os.getpid())],
            env={**os.environ, "PYTHONPATH": paths},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def _reason(self, process: subprocess.Popen[bytes], late: bool) -> str:
        if late:
            return f"ONNX Runtime did not finish within {self.timeout:.3g} s (--timeout)"
        code = process.returncode
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"exit code {code}"
        return f"ONNX Runtime ended with {name} (its memory limit is {self.memory / (1 << 30):.1f} GiB)"


def default_timeout(model: onnx_ir.Model, size: int) -> float:
    """The time limit of a request in seconds: 120, or 4 plus 1 per MiB of parameters if a Loop may be endless.

    Args:
        model: The model.
        size: Size of the parameters in bytes.

    Returns:
        The limit in seconds.
    """
    graphs = (model.graph, *(function.graph for function in model.functions.values()))
    looping = any(node.op_type == "Loop" for graph in graphs for node in graph.all_nodes())
    return min(_USUAL, _LOOPING + size / _PER_SECOND) if looping else _USUAL


def _first_line(error: object) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
