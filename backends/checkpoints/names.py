"""Names of checkpoint entries and of parameters, matched up to a prefix."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ...ir import GmncError

__all__ = ["matched_names"]

_COMPILED = "_orig_mod."
"""What `torch.compile` puts into names, at any depth."""
_SAMPLE = 12

Prefixes = tuple[str, str]
"""What precedes the common part of names: in the checkpoint, and in the graph."""


def matched_names(have: Collection[str], need: Collection[str]) -> dict[str, str]:
    """Match names exactly or, if that matches more of them, after removing one prefix from either side.

    Args:
        have: Names of entries.
        need: Names of parameters.

    Returns:
        The parameter's name of each entry that matches one.

    Raises:
        GmncError: Two prefixes match equally many names (a checkpoint of a student and a teacher).
    """
    plain = _without_compiled(have, need)
    found = {prefixes: _pairs(plain, need, prefixes) for prefixes in _prefixes(plain.values(), need)}
    most = max(map(len, found.values()))
    best = {prefixes: pairs for prefixes, pairs in found.items() if len(pairs) == most}
    if ("", "") in best:
        return best["", ""]
    chosen = min(best, key=lambda p: (len(p[0]) + len(p[1]), p))
    rivals = [prefixes for prefixes, pairs in best.items() if pairs != best[chosen]]
    if rivals:
        names = ", ".join(repr(p[0]) for p in (chosen, *rivals[:3]))
        raise GmncError(
            f"{most} names match after each of several prefixes ({names}); leave the entries of the others out with "
            "ignore=[PATTERN]"
        )
    return best[chosen]


def _without_compiled(have: Iterable[str], need: Iterable[str]) -> dict[str, str]:
    """Entries by name, and the names without the marks of `torch.compile` if the parameters have none."""
    names = {name: name.replace(_COMPILED, "") for name in have}
    if any(_COMPILED in name for name in need) or len(set(names.values())) < len(names):
        return {name: name for name in names}
    return names


def _pairs(plain: dict[str, str], need: Collection[str], prefixes: Prefixes) -> dict[str, str]:
    """The matches after removing prefixes."""
    ours, theirs = prefixes
    wanted = {name.removeprefix(theirs): name for name in need if name.startswith(theirs)}
    short = {entry: name.removeprefix(ours) for entry, name in plain.items() if name.startswith(ours)}
    return {entry: wanted[name] for entry, name in short.items() if name in wanted}


def _prefixes(have: Collection[str], need: Collection[str]) -> set[Prefixes]:
    """Prefixes after which some names agree; the longest names tell most."""
    found = {("", "")}
    for name in sorted(need, key=lambda n: (-n.count("."), n))[:_SAMPLE]:
        found |= {_heads(other, name) for other in have if other.rpartition(".")[2] == name.rpartition(".")[2]}
    return found


def _heads(a: str, b: str) -> Prefixes:
    """What precedes the longest common end of two names, cut at dots."""
    left, right = a.split("."), b.split(".")
    common = 0
    while common < min(len(left), len(right)) and left[-1 - common] == right[-1 - common]:
        common += 1
    heads = (left[: len(left) - common], right[: len(right) - common])
    return ".".join([*heads[0], ""]), ".".join([*heads[1], ""])
