"""The registry of lowering rules: which function lowers which operator, from which opset on."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from ..dialect import DIALECT
from ..model.keys import DOMAIN

if TYPE_CHECKING:
    from ..context import LoweringContext
    from ..primitives.values import Op, Value

__all__ = ["Registry", "Rule", "builtin", "internal_rule", "rule"]

Lower = Callable[["LoweringContext", "Op"], "Value | list[Value | None]"]
Shapes = Callable[["Op"], Sequence[tuple[tuple[int, ...], str] | None]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A lowering rule.

    weights: operands that may be weights or other constants; a parameter as any other operand is lowered as an
    activation. None means every operand (elementwise operators). moves: whether it only moves data, so that it also
    runs on parameters. data: operands that are always activations: a constant is converted before the rule sees it.
    None for the first one, unless it may be a weight. starts: whether its output has new nodes, whatever its operands
    are. declared: why there is no structure to lower, for a declared operator. refuses: whether it lowers no form of
    its operator. shapes: shape and NumPy dtype name of each output (None if unknown), for operators without an ONNX
    schema; it gets operands without labels. origin: the distribution of a plug-in, "" for other rules.
    """

    op: str
    domain: str
    since: int
    lower: Lower
    weights: tuple[int, ...] | None = ()
    moves: bool = False
    starts: bool = False
    declared: str = ""
    shapes: Shapes | None = None
    origin: str = ""
    refuses: bool = False
    data: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Raise `TypeError` for a field of the wrong type, which would otherwise fail only at the first lookup."""
        for name in ("op", "domain", "declared", "origin"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"a rule's {name} must be a string, not {getattr(self, name)!r}")
        if not isinstance(self.since, int) or isinstance(self.since, bool) or self.since < 1:
            raise TypeError(f"a rule's since must be an integer of at least 1, not {self.since!r}")
        if not callable(self.lower) or not (self.shapes is None or callable(self.shapes)):
            raise TypeError(f"the rule of {self.op} must be a function, and its shapes a function or None")
        for name in ("weights", "data"):
            places = getattr(self, name)
            given = isinstance(places, tuple) and all(type(i) is int and i >= 0 for i in places)
            if places is not None and not given:
                raise TypeError(f"a rule's {name} must be a tuple of operand indices or None, not {places!r}")

    @property
    def activations(self) -> tuple[int, ...]:
        """The operands that are always activations."""
        if self.data is not None:
            return self.data
        first = self.weights is not None and 0 not in self.weights
        return (0,) if first and not (self.moves or self.declared or self.refuses) else ()

    @property
    def foreign(self) -> bool:
        """Whether it is code from outside gmnc, from a plug-in or an overlay."""
        package = __name__.rpartition(".")[0]
        return bool(self.origin) or not f"{_named(self.lower, '__module__')}.".startswith(f"{package}.")

    @property
    def function(self) -> str:
        """The lowering function by its full name."""
        return f"{_named(self.lower, '__module__')}.{_named(self.lower, '__qualname__')}"

    def __str__(self) -> str:
        """The operator and the version: ``ai.onnx::Conv since 1``."""
        return f"{self.domain or 'ai.onnx'}::{self.op} since {self.since}"


@dataclass(slots=True)
class Registry:
    """Rules by (domain, operator), sorted by version."""

    rules: dict[tuple[str, str], list[Rule]] = field(default_factory=dict)
    parent: Registry | None = None

    def add(self, rule: Rule) -> None:
        """Register a rule.

        Args:
            rule: The rule.

        Raises:
            TypeError: It is no `Rule`.
            ValueError: There already is one for the same operator and version.
        """
        if not isinstance(rule, Rule):
            raise TypeError(f"{rule!r} is not a Rule: add Rule(op, domain, since, function, ...)")
        versions = self.rules.setdefault((_canonical(rule.domain), rule.op), [])
        if any(r.since == rule.since for r in versions):
            raise ValueError(f"there already is a rule for {rule}")
        versions.append(rule)
        versions.sort(key=lambda r: r.since)

    def include(self, module: str) -> None:
        """Add the rules that modules declare with `@rule`.

        Args:
            module: The module, already imported; its submodules are included.
        """
        for name, rules in _DECLARED.items():
            if name == module or name.startswith(f"{module}."):
                for declared in rules:
                    self.add(declared)

    def find(self, domain: str, op: str, opset: int) -> Rule | None:
        """The rule of an operator; an overlay comes before its parent.

        Args:
            domain: The domain of the operator.
            op: The operator.
            opset: The opset version.

        Returns:
            The rule with the greatest `since` not above `opset`, None if there is none.
        """
        versions = self.rules.get((_canonical(domain), op), [])
        at = bisect_right([r.since for r in versions], opset)
        if at:
            return versions[at - 1]
        return self.parent.find(domain, op, opset) if self.parent else None

    def overlay(self) -> Registry:
        """An empty registry whose rules take precedence over this one's.

        Returns:
            The registry.
        """
        return Registry(parent=self)

    def __iter__(self) -> Iterator[Rule]:
        """Every rule, overlays first."""
        for versions in self.rules.values():
            yield from versions
        if self.parent:
            yield from self.parent


def _named(function: object, attribute: str) -> str:
    """The name of a function, or of its module; "?" if it has none."""
    return getattr(function, attribute, None) or "?"


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
    shapes: Shapes | None = None,
    refuses: bool = False,
    data: tuple[int, ...] | None = None,
) -> Callable[[Lower], Lower]:
    """Declare the decorated function as the rule of operators.

    Rules in gmnc's own files and in modules of plug-ins are included automatically, others by `Registry.include`.

    Args:
        ops: The operators.
        since: The opset version from which it holds.
        domain: The domain of the operators.
        weights: Operands that may be weights; see `Rule` for this and all further arguments.
        moves: Whether it only moves entries.
        starts: Whether its output has new nodes.
        declared: Why there is no structure to lower.
        shapes: Output shapes, for operators without an ONNX schema.
        refuses: Whether it lowers no form of the operators.
        data: Operands that are always activations.

    Returns:
        The decorator, which returns the function unchanged.
    """

    def declare(lower: Lower) -> Lower:
        declared_here = _DECLARED.setdefault(lower.__module__, [])
        declared_here += [
            Rule(op, domain, since, lower, weights, moves, starts, declared, shapes, refuses=refuses, data=data)
            for op in ops
        ]
        return lower

    return declare


def internal_rule(*ops: str, data: tuple[int, ...] | None = None) -> Callable[[Lower], Lower]:
    """Declare the decorated function as the rule of operators of the dialect, which declares their operands."""

    def declare(lower: Lower) -> Lower:
        for op in ops:
            entry = DIALECT[op]
            rule(op, domain=DOMAIN, weights=entry.weights, moves=entry.moves, starts=entry.starts, data=data)(lower)
        return lower

    return declare


@cache
def builtin() -> Registry:
    """The registry of built-in rules, all loaded."""
    from .. import rules

    rules.load()
    registry = Registry()
    registry.include(__name__.rpartition(".")[0])
    return registry


_DECLARED: dict[str, list[Rule]] = {}
