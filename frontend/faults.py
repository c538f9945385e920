"""Errors as users see them: with the file, and with the node that was being read where memory or the stack ran out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import onnx_ir

from ..ir import GmncError, LoweringError
from .errors import SMALLER
from .model.traversal import describe
from .primitives.values import Op

__all__ = ["of_file"]


@contextmanager
def of_file(where: str) -> Iterator[None]:
    """Let the errors of a model name its file, and raise `LoweringError` where memory or the stack runs out."""
    try:
        yield
    except GmncError as error:
        error.args = (f"{where}: {error}",)
        raise
    except MemoryError as error:
        raise LoweringError(f"{where}: {_place(error)} takes more memory than there is; {SMALLER}") from error
    except RecursionError as error:
        raise LoweringError(
            f"{where}: {_place(error)} is nested too deeply, or at the end of too long a chain; export the model again"
        ) from error


def _place(error: BaseException) -> str:
    """The node that the innermost function was about, in words."""
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
