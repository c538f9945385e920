"""Validation of JSON from untrusted files, by combinators that describe each field.

A check takes a value and returns it, or raises `FieldError`; `parsed` and `read_json` turn that into a `LoadError`
that names the file and the field.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ..ir import LoadError
from .reading import FileState

__all__ = [
    "LARGEST", "Check", "FieldError", "flag", "integer", "listed", "mapping", "maybe", "number", "one_of", "parsed",
    "plain", "read_json", "row", "table", "text", "valid", "word",
]  # fmt: skip

T = TypeVar("T")
Check = Callable[[Any], T]

LARGEST = 1 << 26
"""Largest JSON file in bytes; parsed, it takes about 20 times the memory."""

_WORD = re.compile(r"[A-Za-z0-9_][\w .+-]{0,99}", re.ASCII)
_SHOWN = 60
_ADVICE = "; the file is damaged, create it again"


class FieldError(Exception):
    """A value is not of the expected form.

    Attributes:
        expected: The expected form, in words.
        found: The value.
        place: Where the value is in what was checked, as in ".edges[3].dst".
    """

    def __init__(self, expected: str, found: Any) -> None:
        super().__init__(expected)
        self.expected, self.found, self.place = expected, found, ""

    def within(self, place: str) -> FieldError:
        """The same error, with `place` in front of the present one."""
        self.place = place + self.place
        return self

    def __str__(self) -> str:
        shown = repr(self.found)
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
        field = f"{self.place.removeprefix('.')}: " if self.place else ""
        return f"{field}expected {self.expected}, found {shown}"


def parsed(data: str | bytes, check: Check[T], where: str, advice: str = _ADVICE) -> T:
    """Parse and check a JSON text.

    Args:
        data: The text.
        check: What it must hold.
        where: The file, for messages.
        advice: End of each message.

    Returns:
        The checked value.

    Raises:
        LoadError: The text is no JSON, or a field is not of the expected form.
    """
    try:
        return valid(json.loads(data), check, where, advice)
    except (ValueError, RecursionError) as error:
        raise LoadError(f"{where}: not valid JSON ({error}){advice}") from error


def valid(value: Any, check: Check[T], where: str, advice: str = "") -> T:
    """Check a value. Raises `LoadError` that names `where` and the field if it is not of the expected form."""
    try:
        return check(value)
    except FieldError as error:
        raise LoadError(f"{where}: {error}{advice}") from error


def read_json(path: str | os.PathLike[str], check: Check[T], advice: str = _ADVICE) -> T:
    """Read and check a JSON file; as `parsed`, and a file that is missing or too large raises `LoadError` too."""
    if FileState.of(path).size > LARGEST:
        raise LoadError(f"{path}: larger than {LARGEST >> 20} MiB, the limit for such files")
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise LoadError(f"{path}: cannot read the file: {error.strerror or error}") from error
    return parsed(data, check, str(path), advice)


def text(value: Any) -> str:
    """A string that can be encoded as UTF-8."""
    if not isinstance(value, str):
        raise FieldError("text", value)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise FieldError("text without lone surrogates", value) from None
    return value


def plain(value: Any, depth: int = 8) -> Any:
    """Anything that can be serialised as strict JSON again."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return number()(value)
    if isinstance(value, str):
        return text(value)
    if depth == 0:
        raise FieldError("less nesting", value)
    inner: Check[Any] = partial(plain, depth=depth - 1)
    return mapping(inner)(value) if isinstance(value, dict) else listed(inner)(value)


def word(value: Any) -> str:
    """A name that is safe as a path component and a label: letters, digits, `-_.+` and inner spaces."""
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise FieldError("a name of letters, digits and -_.+", value)
    return value


def flag(value: Any) -> bool:
    """A boolean."""
    if not isinstance(value, bool):
        raise FieldError("true or false", value)
    return value


def integer(least: int = 0, most: int = 2**31 - 1) -> Check[int]:
    """An integer in a closed range."""

    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise FieldError(f"a whole number from {least} to {most}", value)
        return value

    return check


def number(least: float = -math.inf, most: float = math.inf) -> Check[float]:
    """A finite number in a closed range."""

    def check(value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise FieldError("a number", value)
        try:
            fits = math.isfinite(value) and least <= value <= most
        except OverflowError:
            fits = False
        if not fits:
            limits = f" from {least:g} to {most:g}" if (least, most) != (-math.inf, math.inf) else ""
            raise FieldError(f"a finite number{limits}", value)
        return value

    return check


def one_of(*known: Any) -> Check[Any]:
    """One of these strings."""

    def check(value: Any) -> Any:
        if not isinstance(value, str) or value not in known:
            raise FieldError(f"one of {', '.join(known)}", value)
        return value

    return check


def maybe(check: Check[T]) -> Check[T | None]:
    """None, or a value that passes `check`."""
    return lambda value: None if value is None else check(value)


def listed(check: Check[T], least: int = 0, most: int = LARGEST) -> Check[list[T]]:
    """A list of `least` to `most` entries that all pass `check`."""

    def checked(value: Any) -> list[T]:
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise FieldError(
                "a list" + (f" of {least}" if least == most else f" of {least} or more" if least else ""), value
            )
        return [_within(check, entry, f"[{at}]") for at, entry in enumerate(value)]

    return checked


def row(*checks: Check[Any], least: int | None = None) -> Check[list[Any]]:
    """A list with one check per entry; entries from index `least` on may be missing."""
    shortest = len(checks) if least is None else least

    def checked(value: Any) -> list[Any]:
        if not isinstance(value, list) or not shortest <= len(value) <= len(checks):
            raise FieldError(f"a list of {len(checks)}", value)
        return [_within(check, entry, f"[{at}]") for at, (check, entry) in enumerate(zip(checks, value, strict=False))]

    return checked


def table(
    required: Mapping[str, Check[Any]], optional: Mapping[str, Check[Any]] | None = None
) -> Check[dict[str, Any]]:
    """An object with these fields; unknown fields are kept unchecked."""

    def checked(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise FieldError("an object", value)
        for name in required:
            if name not in value:
                raise FieldError(f"a field {name!r}", list(value))
        known = {**required, **(optional or {})}
        return {n: _within(known[n], v, f".{n}") if n in known else v for n, v in value.items()}

    return checked


def mapping(check: Check[T], names: Check[str] = text) -> Check[dict[str, T]]:
    """An object whose values all pass `check`, and its names `names`."""

    def checked(value: Any) -> dict[str, T]:
        if not isinstance(value, dict):
            raise FieldError("an object", value)
        return {names(name): _within(check, entry, f".{name}") for name, entry in value.items()}

    return checked


def _within(check: Check[T], value: Any, place: str) -> T:
    try:
        return check(value)
    except FieldError as error:
        raise error.within(place) from None
