"""Text from a model as it may be shown: without characters that steer a terminal or a document."""

from __future__ import annotations

__all__ = ["counted", "printable", "shortened"]


def printable(text: str, lines: bool = False) -> str:
    r"""The text with all that is not printable written as an escape, as `repr` writes it: ``\x1b``, ``\u202e``.

    Control characters, overrides of the direction of writing, surrogates and characters that are none do not pass.
    lines: newlines do, where the text is gmnc's own.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or (lines and c == "\n") else _escape(c) for c in text)


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: ``1 node``, ``1,024 nodes``. plural: where it is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def shortened(text: str, most: int) -> str:
    """The text, of at most so many characters: of a longer one the beginning and the end, which tell names apart."""
    if len(text) <= most:
        return text
    end = (most - 1) // 2
    return f"{text[: most - 1 - end]}…{text[len(text) - end :]}"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
