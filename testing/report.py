"""What a verification found, as an object, as JSON and in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..ir import ParameterGraph

__all__ = ["Failure", "OutputCheck", "Report"]


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
class OutputCheck:
    """Of one output, relative to its largest magnitude: error, its largest change by a claimed symmetry; tolerance,
    what was allowed; sensitivity, its largest change by a negative control."""

    error: float
    tolerance: float
    sensitivity: float


@dataclass(frozen=True, slots=True)
class Report:
    """Outcome of `verify`.

    sound: whether no claimed symmetry changed an output; None if that cannot be told (`skipped` says why): nothing
    could be run, every output was left out, or no negative control changed an output by ten times its tolerance. A
    network that runs and claims nothing is sound.
    max_error, tolerance, sensitivity: of the output that comes nearest to its tolerance, see `OutputCheck`; `outputs`
    has them all. reacting: the share of the parameters to which the outputs react at all, tensor by tensor; None if
    nothing could be run. tried, detected: negative controls. round_trip: "bit-exact", or what differs.
    kinds: number of generators by kind of symmetry, of those that were asked for.
    """

    sound: bool | None
    trials: int
    generators: int
    moved_parameters: int
    max_error: float
    tolerance: float
    sensitivity: float
    reacting: float | None
    tried: int
    detected: int
    round_trip: str
    account_closed: bool
    skipped: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    graph: ParameterGraph | None = field(default=None, repr=False, compare=False)
    kinds: Mapping[str, int] = field(default_factory=dict)
    outputs: Mapping[str, OutputCheck] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether no claim failed; so it is too where `sound` is None, and nothing is proven."""
        return self.sound is not False and not self.complaints()

    def complaints(self) -> list[str]:
        """Every claim that failed, in words."""
        found = [str(f) for f in self.failures]
        if self.round_trip != "bit-exact":
            found.append(f"writing parameters back is not bit-exact: {self.round_trip}")
        if not self.account_closed:
            found.append("the account does not close: some elements of the weights are neither on edges nor explained")
        return found

    def to_json(self) -> dict[str, Any]:
        """The report as plain data; an infinite error or sensitivity (an output that is finite no more) is null."""
        return {
            "model": None if self.graph is None else self.graph.name,
            "sound": self.sound,
            "trials": self.trials,
            "generators": self.generators,
            "kinds": dict(self.kinds),
            "moved_parameters": self.moved_parameters,
            "max_error": _finite(self.max_error),
            "tolerance": self.tolerance,
            "sensitivity": _finite(self.sensitivity),
            "reacting": self.reacting,
            "outputs": {
                name: {"error": _finite(o.error), "tolerance": o.tolerance, "sensitivity": _finite(o.sensitivity)}
                for name, o in self.outputs.items()
            },
            "negative_controls": {"tried": self.tried, "detected": self.detected},
            "round_trip": self.round_trip,
            "account_closed": self.account_closed,
            "skipped": list(self.skipped),
        }


def _finite(error: float) -> float | None:
    return error if math.isfinite(error) else None
