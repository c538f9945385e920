"""What a verification found, as an object, as JSON and in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..ir import ParameterGraph

__all__ = ["Failure", "Report"]


@dataclass(frozen=True, slots=True)
class Failure:
    """A generator that changes the output, and what to look at.

    generator: in words, one line per node group. groups: the groups that it moves or multiplies. nodes: the ONNX nodes
    whose weights or links it changes, as (name, operator, lowering rule).
    """

    error: float
    generator: str
    groups: tuple[int, ...] = ()
    nodes: tuple[tuple[str, str, str], ...] = ()

    def __str__(self) -> str:
        lines = [f"a claimed symmetry changes the output by {self.error:.3g}:"]
        lines += [f"  {line}" for line in self.generator.splitlines()]
        if self.nodes:
            lines.append("it touches these ONNX nodes, lowered by:")
            lines += [f"  {name or '(on the way)'}: {op}, {rule}" for name, op, rule in self.nodes]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Report:
    """Outcome of `verify`.

    sound: whether no claimed symmetry changed an output; None if nothing could be run (`skipped` says why).
    max_error: largest change of an output by a claimed symmetry, relative to its largest magnitude.
    tolerance: what was allowed. tried, detected: negative controls. round_trip: "bit-exact", or what differs.
    kinds: number of generators by kind of symmetry, of those that were asked for.
    """

    sound: bool | None
    trials: int
    generators: int
    moved_parameters: int
    max_error: float
    tolerance: float
    tried: int
    detected: int
    round_trip: str
    account_closed: bool
    skipped: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    graph: ParameterGraph | None = field(default=None, repr=False, compare=False)
    kinds: Mapping[str, int] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether no claim failed. Controls that were tried and never detected fail: the check would see nothing."""
        return self.sound is not False and not self.complaints()

    def complaints(self) -> list[str]:
        """Every claim that failed, in words."""
        found = [str(f) for f in self.failures]
        if self.tried and not self.detected:
            found.append(
                f"none of {self.tried} parameter permutations that are no symmetries changed an output: "
                "the outputs hardly depend on the parameters, or symmetries are missing"
            )
        if self.round_trip != "bit-exact":
            found.append(f"writing parameters back is not bit-exact: {self.round_trip}")
        if not self.account_closed:
            found.append("the account does not close: some elements of the weights are neither on edges nor explained")
        return found

    def to_json(self) -> dict[str, Any]:
        """The report as plain data; an infinite error (an output that is finite no more) is null."""
        return {
            "sound": self.sound,
            "trials": self.trials,
            "generators": self.generators,
            "kinds": dict(self.kinds),
            "moved_parameters": self.moved_parameters,
            "max_error": self.max_error if math.isfinite(self.max_error) else None,
            "tolerance": self.tolerance,
            "negative_controls": {"tried": self.tried, "detected": self.detected},
            "round_trip": self.round_trip,
            "account_closed": self.account_closed,
            "skipped": list(self.skipped),
        }
