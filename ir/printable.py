"""Text that is safe and readable to print: names from a model may hold control characters."""

from __future__ import annotations

__all__ = ["counted", "printable", "shortened"]


def printable(text: str, lines: bool = False) -> str:
    r"""Escape every character that is not printable, as `repr` does: ``\x1b``, ``\u202e``.

    That covers control characters, bidirectional overrides, surrogates and unassigned characters, with which a model
    could steer a terminal or a document.

    Args:
        text: Any text.
        lines: Keep newlines, for text that gmnc wrote.

    Returns:
        Printable text.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or (lines and c == "\n") else _escape(c) for c in text)


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun, e.g. ``1 node``, ``1,024 nodes``.

    Args:
        number: The number.
        noun: The noun in the singular.
        plural: Its plural; by default the noun with an s.

    Returns:
        The text.
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def shortened(text: str, most: int) -> str:
    """Shorten text in the middle, since beginning and end tell names apart.

    Args:
        text: Any text.
        most: The greatest length of the result.

    Returns:
        The text if it is not longer; else its beginning and its end, with an ellipsis between.
    """
    if len(text) <= most:
        return text
    end = (most - 1) // 2
    return f"{text[: most - 1 - end]}…{text[len(text) - end :]}"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
