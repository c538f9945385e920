"""The kinds of symmetries."""

from __future__ import annotations

from collections.abc import Sequence

from ..ir.errors import GmncError

__all__ = ["KINDS", "MIXINGS", "RESCALINGS", "checked_kinds", "plural"]

RESCALINGS = ("sign", "scale")
"""The kinds of symmetries that multiply parameters."""

MIXINGS = ("orthogonal", "linear")
"""The kinds of symmetries that multiply parameters by matrices."""

KINDS = ("permutation", *RESCALINGS, *MIXINGS)
"""All kinds of symmetries, as `symmetries` takes them."""


def checked_kinds(kinds: Sequence[str]) -> tuple[str, ...]:
    """Validate kinds of symmetries.

    Args:
        kinds: Some of `KINDS`.

    Returns:
        Each kind once, in the order of `KINDS`.

    Raises:
        GmncError: if one is unknown, or there is none.
    """
    unknown = [k for k in kinds if k not in KINDS]
    if unknown or not kinds or isinstance(kinds, str):
        given = kinds if isinstance(kinds, str) else ", ".join(unknown)
        problem = f"unknown kinds of symmetries: {given}" if given else "no kinds of symmetries given"
        raise GmncError(f"{problem}; choose among {', '.join(KINDS)}")
    return tuple(k for k in KINDS if k in kinds)


def plural(kind: str) -> str:
    """What a number of independent symmetries of a kind is called in JSON and tables: ``signs``, ``linear``.

    Args:
        kind: One of `KINDS`.

    Returns:
        The name.
    """
    return kind if kind in MIXINGS else f"{kind}s"
