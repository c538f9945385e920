"""Runs code from outside gmnc (plug-ins, overlays) and attributes its errors to it."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stdout, suppress
from importlib.metadata import packages_distributions, version
from pathlib import Path

from ...ir import GmncError, PluginError, VocabularyError
from ..errors import Unsupported
from .registry import Rule

__all__ = ["plugin_errors", "quiet"]


@contextmanager
def plugin_errors(rule: Rule, code: str, where: str) -> Iterator[None]:
    """Turn any exception of a rule, `SystemExit` included, into a `PluginError`.

    code: the function of the rule. where: the node. Errors of gmnc itself and interrupts pass through.
    """
    try:
        with quiet() if rule.origin else nullcontext():
            yield
    except VocabularyError as error:
        raise _plugin_error(rule, code, where, error) from error
    except (Unsupported, GmncError, MemoryError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        raise _plugin_error(rule, code, where, error) from error


def _plugin_error(rule: Rule, code: str, where: str, error: BaseException) -> PluginError:
    distribution = rule.origin or _distribution(getattr(rule.lower, "__module__", None) or "")
    return PluginError(distribution, code, where, error, _line(rule, error), plugin=bool(rule.origin))


def _distribution(module: str) -> str:
    """Name and version of the distribution of a module; "" for none."""
    names = packages_distributions().get(module.partition(".")[0], [])
    return f"{names[0]} {version(names[0])}" if names else ""


def _line(rule: Rule, error: BaseException) -> str:
    """The last line of the rule's own file that ran before the error."""
    file = getattr(getattr(rule.lower, "__code__", None), "co_filename", None)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{Path(file).name}, line {lines[-1]}" if file and lines else ""


class _Redirection:
    """Redirects stdout to stderr, by its descriptor too, while at least one thread wants that."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._undo = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._undo.enter_context(redirect_stdout(sys.stderr))
                with suppress(OSError):  # a closed stream has no descriptor
                    real = os.dup(1)
                    self._undo.callback(os.close, real)
                    os.dup2(2, 1)
                    self._undo.callback(os.dup2, real, 1)
            self._users += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._undo.close()


_to_stderr = _Redirection()


def quiet() -> _Redirection:
    """Redirect what a plug-in prints to stderr: stdout is for results."""
    return _to_stderr
