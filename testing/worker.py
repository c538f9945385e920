"""ONNX Runtime in a separate process, which may crash or hang: `python worker.py` serves requests on stdin.

It imports nothing of gmnc. A message is a line of JSON followed by the raw bytes of its arrays; nothing is pickled.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

__all__ = ["Held", "Outputs", "flat", "main", "receive", "run_all", "send", "session"]

Outputs = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Held:
    """A session and the arrays that its runs take unless they change."""

    session: Any
    arrays: Mapping[str, np.ndarray]

    def feeds(self, changes: Mapping[str, np.ndarray], feeds: Sequence[Mapping[str, np.ndarray]]) -> list[Outputs]:
        """The inputs of each run."""
        return [{**self.arrays, **changes, **feed} for feed in feeds]


def run_all(running: Any, feeds: Sequence[Mapping[str, np.ndarray]]) -> list[Outputs]:
    """Run a session on each of the feeds; outputs as in `flat`. Raises what ONNX Runtime raises."""
    names = [output.name for output in running.get_outputs()]
    return [dict(flat(zip(names, running.run(names, dict(feed)), strict=True))) for feed in feeds]


def session(source: bytes | str) -> Any:
    """An `onnxruntime.InferenceSession` on one CPU thread, without graph optimisation.

    Args:
        source: A serialised model, or its path.

    Returns:
        The session; raises what ONNX Runtime raises.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Constants are not repacked for faster kernels, so that a tensor gives the same sums as a constant and as an input.
    options.add_session_config_entry("session.disable_prepacking", "1")
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def flat(outputs: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Outputs as tensors: a sequence of maps becomes a table of values by ascending key, one of tensors is split."""
    for name, value in outputs:
        if isinstance(value, np.ndarray):
            yield name, value
        elif isinstance(value, dict):
            yield name, _row(value)
        elif isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
            yield name, np.stack([_row(v) for v in value])
        elif isinstance(value, list):
            yield from ((f"{name}[{i}]", np.asarray(v)) for i, v in enumerate(value))


def _row(value: Mapping[Any, Any]) -> np.ndarray:
    return np.array([value[key] for key in sorted(value)])


def send(stream: IO[bytes], header: Mapping[str, Any], arrays: Sequence[Mapping[str, np.ndarray]]) -> None:
    """Write a message: a header, and any number of groups of arrays by name."""
    tables, bodies = [], []
    for group in arrays:
        table = []
        for name, array in group.items():
            texts = array.dtype.kind in "OUS"
            body = json.dumps(array.reshape(-1).tolist(), default=str).encode() if texts else array.tobytes()
            table.append([name, "text" if texts else array.dtype.name, list(array.shape), len(body)])
            bodies.append(body)
        tables.append(table)
    stream.write(json.dumps({**header, "arrays": tables}).encode() + b"\n")
    for body in bodies:
        stream.write(body)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], list[Outputs]]:
    """Read a message; raises `EOFError` if it is incomplete."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    header = json.loads(line)
    return header, [{name: _array(stream, *rest) for name, *rest in table} for table in header.pop("arrays")]


def _array(stream: IO[bytes], dtype: str, shape: list[int], size: int) -> np.ndarray:
    body = stream.read(size)
    if len(body) < size:
        raise EOFError
    if dtype == "text":
        return np.array(json.loads(body), dtype=object).reshape(shape)
    return np.frombuffer(body, dtype=_dtype(dtype)).reshape(shape)


def _dtype(name: str) -> np.dtype:
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))


def main() -> None:
    """Serve requests until stdin ends. argv: memory limit in bytes (0 for none), id of the parent process."""
    stdin, stdout = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # Output of libraries must not mix with the messages on stdout.
    os.dup2(2, 1)
    _end_with(int(sys.argv[2]))
    _limit(int(sys.argv[1]))
    held: Held | None = None
    while True:
        try:
            header, arrays = receive(stdin)
        except EOFError:
            return
        source = header.get("path") or stdin.read(header.get("size", 0))
        stage, found = "load", []
        try:
            if header["do"] == "hold":
                held = None
                held = Held(session(source), arrays[0])
            elif header["do"] == "run held":
                stage = "run"
                assert held is not None, "no model is held"
                found = run_all(held.session, held.feeds(arrays[0], arrays[1:]))
            else:
                running = session(source)
                stage = "run"
                found = run_all(running, arrays)
        except BaseException as error:
            send(stdout, {"error": str(error).strip() or type(error).__name__, "stage": stage}, [])
        else:
            send(stdout, {"error": ""}, found)


def _end_with(parent: int) -> None:
    """Exit when the parent process is gone, even while ONNX Runtime is running."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _limit(size: int) -> None:
    if not size:
        return
    try:
        import resource
    except ImportError:  # not on Windows
        return
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
