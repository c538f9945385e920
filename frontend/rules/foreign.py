"""Runs code from outside gmnc (plug-ins, overlays) and attributes its errors to it."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import TextIO

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


def quiet() -> redirect_stdout[TextIO]:
    """Redirect what a plug-in prints to stderr: stdout is for results."""
    return redirect_stdout(sys.stderr)
