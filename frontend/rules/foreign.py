"""Code from outside of gmnc (plug-ins, overlays), run so that what goes wrong in it is told as its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import TextIO

from ...ir import GmncError, PluginError, VocabularyError
from ..errors import Unsupported
from .registry import Rule

__all__ = ["blamed", "quiet"]


@contextmanager
def blamed(rule: Rule, code: str, where: str) -> Iterator[None]:
    """Raise `PluginError` for whatever the code of a rule raises, `sys.exit` included.

    code: which function of the rule. where: the node. Errors of gmnc itself, and interrupts, pass.
    """
    try:
        with quiet() if rule.origin else nullcontext():
            yield
    except VocabularyError as error:
        raise PluginError(rule.origin, code, where, error) from error
    except (Unsupported, GmncError, MemoryError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        raise PluginError(rule.origin, code, where, error) from error


def quiet() -> redirect_stdout[TextIO]:
    """What a plug-in prints goes to stderr: stdout is for results."""
    return redirect_stdout(sys.stderr)
