"""Adds the file name to error messages, and the node being processed when memory or the stack ran out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import onnx_ir

from ..ir import GmncError, LoweringError
from .errors import SMALLER
from .model.traversal import describe
from .primitives.values import Op

__all__ = ["errors_in_file"]


@contextmanager
def errors_in_file(where: str) -> Iterator[None]:
    """Prefix errors with the file name, and turn `MemoryError` and `RecursionError` into `LoweringError`."""
    try:
        yield
    except GmncError as error:
        error.args = (f"{where}: {error}",)
        raise
    except MemoryError as error:
        raise LoweringError(f"{where}: {_innermost_node(error)} takes more memory than there is; {SMALLER}") from error
    except RecursionError as error:
        raise LoweringError(
            f"{where}: {_innermost_node(error)} is nested too deeply or ends too long a chain; export the model again"
        ) from error


def _innermost_node(error: BaseException) -> str:
    """A description of the node in the innermost stack frame that has one."""
    found = "the model"
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        for value in list(trace.tb_frame.f_locals.values()):
            if isinstance(value, onnx_ir.Node):
                found = describe(value)
            elif isinstance(value, Op):
                found = f"node {value.name!r} ({value.type})"
        trace = trace.tb_next
    return found
