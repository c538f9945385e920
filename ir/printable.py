"""Text from a model as it may be shown: without characters that steer a terminal or a document."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str, lines: bool = False) -> str:
    r"""The text with all that is not printable written as an escape, as `repr` writes it: ``\x1b``, ``\u202e``.

    Control characters, overrides of the direction of writing, surrogates and characters that are none do not pass.
    lines: newlines do, where the text is gmnc's own.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or (lines and c == "\n") else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
