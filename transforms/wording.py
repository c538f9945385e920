"""What differs in structure between two networks, in words: parts added, removed and changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import takewhile

import numpy as np

from ..ir import ParameterGraph
from ..ir.printable import counted
from .outline import Part, outline

__all__ = ["counts", "worded"]

_MOST = 600
"""The largest number of parts that are paired by likeness; more are paired by name."""
_COUNTED = ("inputs", "outputs", "features", "heads", "operands")


def worded(a: ParameterGraph, b: ParameterGraph) -> tuple[str, ...]:
    """What differs between two networks.

    Args:
        a: The graph of the first one.
        b: That of the second one.

    Returns:
        A line per part: with "-" if only the first network has it, with "+" if only the second one has it, and with "~"
        if it does something else in the second one.
    """
    mine, theirs = outline(a), outline(b)
    lines = []
    for x, y in _pairs(mine, theirs):
        if y is None and x is not None:
            lines.append(f"- {_described(x)}")
        elif x is None and y is not None:
            lines.append(f"+ {_described(y)}")
        elif x is not None and y is not None and (changes := list(_changes(x, y))):
            lines.append(f"~ {_titled(x, y)}: {'; '.join(changes)}")
    return tuple(lines)


def counts(lines: Sequence[str]) -> str:
    """How many parts were added, removed and changed.

    Args:
        lines: The lines of `worded`.

    Returns:
        The numbers in words.
    """
    told = []
    for sign, verb in (("+", "added"), ("-", "removed"), ("~", "changed")):
        number = sum(line.startswith(f"{sign} ") for line in lines)
        told += [f"{counted(number, 'part')} {verb}"] if number else []
    return ", ".join(told)


def _titled(x: Part, y: Part | None = None) -> str:
    """What a part is and what it is called in one network, or in both."""
    names = [part.name for part in (x, y) if part is not None]
    nodes = [part.node for part in (x, y) if part is not None and part.node]
    title = f"{x.what} {' / '.join(dict.fromkeys(names))}"
    return f"{title} (node {' / '.join(dict.fromkeys(nodes))})" if nodes else title


def _described(part: Part) -> str:
    facts = ", ".join(f"{value} {key}" if key in _COUNTED else f"{key} {value}" for key, value in part.facts.items())
    after = f", after {' > '.join(part.after)}" if part.after else ""
    return f"{_titled(part)}{': ' if facts else ''}{facts}{after}"


def _changes(x: Part, y: Part) -> Iterator[str]:
    for key in dict.fromkeys([*x.facts, *y.facts]):
        old, new = x.facts.get(key), y.facts.get(key)
        if old is None or new is None:
            yield f"no {key}, not {old}" if new is None else f"{key} {new}, not none"
        elif old != new:
            yield f"{key} {new}, not {old}"
    if x.after != y.after:
        old, new = (" > ".join(p.after) or "nothing" for p in (x, y))
        yield f"after {new}, not {old}"


_Pairs = list[tuple[Part | None, Part | None]]


def _pairs(mine: list[Part], theirs: list[Part]) -> _Pairs:
    """Parts that stand for each other, and those without a counterpart, in order."""
    names = [sorted((p.what, p.name) for p in parts) for parts in (mine, theirs)]
    if names[0] == names[1]:
        return _by_name(mine, theirs)
    # What is the same at both ends needs no search.
    start = _alike(zip(mine, theirs, strict=False))
    end = _alike(zip(mine[start:][::-1], theirs[start:][::-1], strict=False))
    inner = mine[start : len(mine) - end], theirs[start : len(theirs) - end]
    return (_by_name if max(map(len, inner)) > _MOST else _by_likeness)(*inner)


def _alike(pairs: Iterable[tuple[Part, Part]]) -> int:
    """How many pairs are the same, up to their nodes, before the first one that is not."""
    return sum(1 for _ in takewhile(lambda pair: replace(pair[0], node="") == replace(pair[1], node=""), pairs))


def _by_name(mine: list[Part], theirs: list[Part]) -> _Pairs:
    waiting: dict[tuple[str, str], list[Part]] = {}
    for part in theirs:
        waiting.setdefault((part.what, part.name), []).append(part)
    pairs: _Pairs = []
    for part in mine:
        found = waiting.get((part.what, part.name))
        best = max(range(len(found)), key=lambda n: _likeness(part, found[n])) if found else 0
        pairs.append((part, found.pop(best) if found else None))
    return [*pairs, *((None, part) for found in waiting.values() for part in found)]


def _by_likeness(mine: list[Part], theirs: list[Part]) -> _Pairs:
    """The pairs of two sequences that are most alike in all (Needleman, Wunsch 1970)."""
    likeness = np.array([[_likeness(x, y) for y in theirs] for x in mine]).reshape(len(mine), len(theirs))
    best = np.zeros((len(mine) + 1, len(theirs) + 1))
    for i in range(len(mine) - 1, -1, -1):
        for j in range(len(theirs) - 1, -1, -1):
            best[i, j] = max(best[i + 1, j], best[i, j + 1], best[i + 1, j + 1] + likeness[i, j])
    pairs: _Pairs = []
    i = j = 0
    while i < len(mine) and j < len(theirs):
        if likeness[i, j] > 0 and best[i, j] == best[i + 1, j + 1] + likeness[i, j]:
            pairs.append((mine[i], theirs[j]))
            i, j = i + 1, j + 1
        elif best[i, j] == best[i + 1, j]:
            pairs.append((mine[i], None))
            i += 1
        else:
            pairs.append((None, theirs[j]))
            j += 1
    return [*pairs, *((x, None) for x in mine[i:]), *((None, y) for y in theirs[j:])]


def _likeness(x: Part, y: Part) -> float:
    """How alike two parts are; 0 if one cannot stand for the other."""
    if x.what != y.what:
        return 0.0
    keys = {*x.facts, *y.facts}
    same = sum(x.facts.get(k) == y.facts.get(k) for k in keys) / len(keys) if keys else 1.0
    return 1 + 3 * same + (x.after == y.after) + (x.name == y.name)
