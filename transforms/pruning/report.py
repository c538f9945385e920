"""What a pruning did: families, costs before and after, and the proof."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import onnx_ir

from ...symmetry import SymmetryFamily
from .choice import Choice
from .costs import Costs
from .proof import PruningProof

__all__ = ["FamilyReport", "Pruned", "family_reports"]


@dataclass(frozen=True, slots=True)
class FamilyReport:
    """What happened to one family.

    Attributes:
        name: Its name.
        what: What its positions are.
        positions: Their number.
        removed: How many of them left the network.
        reason: Why none did; "" if some did.
    """

    name: str
    what: str
    positions: int
    removed: int
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Pruned:
    """A pruned model.

    Attributes:
        model: The smaller model.
        families: What happened to each family.
        before: The costs of the original.
        after: The costs of the smaller model.
        proof: The comparison with the masked original in ONNX Runtime.
        removed: The positions that left, by family name, one ascending list per symmetric group.
    """

    model: onnx_ir.Model
    families: tuple[FamilyReport, ...]
    before: Costs
    after: Costs
    proof: PruningProof
    removed: dict[str, list[list[int]]]

    @property
    def summary(self) -> str:
        """The costs before and after in one line."""
        a, b = self.before, self.after
        parts = [
            f"{b.parameters:,} of {a.parameters:,} parameters ({_share(b.parameters, a.parameters)})",
            f"{b.macs:,} of {a.macs:,} multiply-accumulates ({_share(b.macs, a.macs)})",
            f"{b.bytes:,} of {a.bytes:,} bytes",
        ]
        if a.milliseconds is not None and b.milliseconds is not None:
            parts.append(f"{b.milliseconds:.3g} of {a.milliseconds:.3g} ms")
        return ", ".join(parts)

    def __str__(self) -> str:
        lines = [f"{f.name}: {f.reason or f'{f.removed} of {f.positions} {f.what} removed'}" for f in self.families]
        return "\n".join([*lines, self.summary, self.proof.summary])

    def to_json(self) -> dict[str, Any]:
        """The report as JSON data."""
        return {
            "families": [asdict(f) for f in self.families],
            "before": asdict(self.before),
            "after": asdict(self.after),
            "proof": self.proof.to_json(),
            "removed": self.removed,
        }


def family_reports(
    families: Sequence[SymmetryFamily], choices: Sequence[Choice], refused: dict[int, str], others: dict[int, str]
) -> tuple[FamilyReport, ...]:
    """One report per family, in their order.

    Args:
        families: The families of the graph.
        choices: The positions that were removed.
        refused: Why families could not be pruned, by index.
        others: Why they were not to be pruned, by index.
    """
    found = []
    for number, family in enumerate(families):
        mine = [c for c in choices if c.group.family == number]
        total, gone = sum(c.group.degree for c in mine), sum(len(c.positions) for c in mine)
        reason = "" if gone else refused.get(number) or others.get(number) or _fixed(family)
        found.append(FamilyReport(family.name, family.what, total, gone, reason))
    return tuple(found)


def _fixed(family: SymmetryFamily) -> str:
    """Why a family without movable positions is left whole."""
    return f"kept whole: {family.what}"


def _share(part: int, of: int) -> str:
    return f"{100 * part / of:.0f} %" if of else "-"
