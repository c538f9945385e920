"""The registry of lowering rules: which function lowers which operator, from which opset on."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .algebra import Algebra
    from .values import Op, Value

__all__ = ["DataDependent", "Registry", "Rule", "Unsupported", "builtin", "rule"]

Lowering = Callable[["Algebra", "Op"], "Value | list[Value | None]"]


class Unsupported(Exception):
    """Raised by a rule for a form of its operator that it does not lower: a reason and a hint for the user."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


class DataDependent(Unsupported):
    """Raised where a setting of an operator (axes, sizes) is computed by the network: see `Algebra.entangle`."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A lowering rule.

    weights: operands that may be a weight or an attached constant; a parameter in any other place starts a stream.
    None means every operand (elementwise ops). moves: the op only moves data, so it runs on parameters as well.
    starts: its output is a feature of its own, whatever its operands are.
    declared: why there is no structure to lower, for an operator that is declared to be so.
    """

    op: str
    domain: str
    since: int
    lower: Lowering
    weights: tuple[int, ...] | None = ()
    moves: bool = False
    starts: bool = False
    declared: str = ""


@dataclass(slots=True)
class Registry:
    """Rules by (domain, operator), each with its versions in ascending order."""

    rules: dict[tuple[str, str], list[Rule]] = field(default_factory=dict)
    parent: Registry | None = None

    def add(self, rule: Rule) -> None:
        """Register a rule; a second one for the same operator and version is an error (`ValueError`)."""
        versions = self.rules.setdefault((rule.domain, rule.op), [])
        if any(r.since == rule.since for r in versions):
            raise ValueError(f"there is a rule for {rule.domain or 'ai.onnx'}::{rule.op} since {rule.since} already")
        versions.append(rule)
        versions.sort(key=lambda r: r.since)

    def find(self, domain: str, op: str, opset: int) -> Rule | None:
        """The rule with the greatest `since` not above `opset`; an overlay's rules come before its parent's."""
        versions = self.rules.get((_canonical(domain), op), [])
        at = bisect_right([r.since for r in versions], opset)
        if at:
            return versions[at - 1]
        return self.parent.find(domain, op, opset) if self.parent else None

    def overlay(self) -> Registry:
        """An empty registry whose rules take precedence over this one's."""
        return Registry(parent=self)

    def __iter__(self) -> Iterator[Rule]:
        """Every rule, overlays first."""
        for versions in self.rules.values():
            yield from versions
        if self.parent:
            yield from self.parent


def _canonical(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def rule(
    *ops: str,
    since: int = 1,
    domain: str = "",
    weights: tuple[int, ...] | None = (),
    moves: bool = False,
    starts: bool = False,
    declared: str = "",
) -> Callable[[Lowering], Lowering]:
    """Register the decorated function as a built-in rule for these operators."""

    def register(lower: Lowering) -> Lowering:
        for op in ops:
            _BUILTIN.add(Rule(op, domain, since, lower, weights, moves, starts, declared))
        return lower

    return register


def builtin() -> Registry:
    """The registry of built-in rules, all loaded."""
    from . import rules

    rules.load()
    return _BUILTIN


_BUILTIN = Registry()
