"""The report of `verify`: as an object, as JSON and as text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..ir import ParameterGraph

__all__ = ["Failure", "OutputCheck", "Report"]


@dataclass(frozen=True, slots=True)
class Failure:
    """A claim that is false: a claimed generator, or a change of tensors that are never read, changes an output.

    Attributes:
        error: The largest relative change of an output.
        generator: Description, one line per node group; the names of the tensors.
        groups: Node groups that it permutes or rescales.
        nodes: ONNX nodes whose weights or links it changes, as (name, operator, lowering rule).
        claim: How the text begins.
    """

    error: float
    generator: str
    groups: tuple[int, ...] = ()
    nodes: tuple[tuple[str, str, str], ...] = ()
    claim: str = "a claimed symmetry changes the output by"

    def __str__(self) -> str:
        lines = [f"{self.claim} {self.error:.3g}:"]
        lines += [f"  {line}" for line in self.generator.splitlines()]
        if self.nodes:
            lines.append("it changes these ONNX nodes, lowered by:")
            lines += [f"  {name or '(in a via)'}: {op}, {rule}" for name, op, rule in self.nodes]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class OutputCheck:
    """Changes of one output, relative to its largest magnitude.

    Attributes:
        error: The largest change by a claimed symmetry.
        tolerance: The allowed change.
        sensitivity: The largest change by a negative control.
    """

    error: float
    tolerance: float
    sensitivity: float


@dataclass(frozen=True, slots=True)
class Report:
    """The result of `verify`.

    Attributes:
        sound: Whether no claimed symmetry changed an output. None if undecided, for the reasons in `skipped`: nothing
            could be run, no output could be compared, or no negative control changed an output by ten times its
            tolerance. A network that runs and claims nothing is sound.
        trials: Number of products of generators that were run.
        generators: Number of claimed generators.
        moved_parameters: Largest number of parameter elements that a product changed.
        max_error: Error of the output closest to its tolerance, see `OutputCheck`.
        tolerance: Tolerance of that output.
        sensitivity: Sensitivity of that output.
        reacting: Share of the parameters to which the outputs react, measured per tensor; None if nothing was run.
        tried: Number of negative controls that were run.
        detected: Number of these that changed an output.
        round_trip: "bit-exact", or what differs after writing parameters back.
        account_closed: Whether every element of every weight is on an edge or explained.
        skipped: What could not be checked, and why.
        failures: The generators at fault.
        graph: The graph.
        kinds: Number of claimed generators by kind of symmetry.
        outputs: The checks of all compared outputs, by name.
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
        """Whether no claim failed; also true where `sound` is None and nothing was proven."""
        return self.sound is not False and not self.complaints()

    def complaints(self) -> list[str]:
        """Describe every claim that failed.

        Returns:
            One text per claim.
        """
        found = [str(f) for f in self.failures]
        if self.round_trip != "bit-exact":
            found.append(f"writing parameters back is not bit-exact: {self.round_trip}")
        if not self.account_closed:
            found.append("the account does not close: some weight elements are neither on an edge nor explained")
        return found

    def to_json(self) -> dict[str, Any]:
        """Convert to plain data for JSON.

        Returns:
            The report without graph and failures; infinite errors and sensitivities are None.
        """
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
