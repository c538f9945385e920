"""Why a checkpoint does not fit a graph: everything at once."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from ...ir import GmncError

__all__ = ["MatchError", "Mismatch"]

_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Mismatch:
    """What does not fit.

    Attributes:
        unmatched: Parameters without an entry.
        extra: Entries without a parameter.
        misshapen: Parameters whose entry has another shape or kind of numbers, and both.
        ambiguous: Parameters that several entries, or several orders of axes, explain, and these.
        computed: Parameters whose value is no entry but a function of entries, and of which if known.
        changed: Entries that differ from those that the file was exported from, or from each other, where the file
            holds one tensor.
    """

    unmatched: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)
    ambiguous: list[str] = field(default_factory=list)
    computed: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any(getattr(self, f.name) for f in fields(self))


_TITLES = {
    "computed": "values that the exporter computed from several entries",
    "unmatched": "parameters of the graph without an entry",
    "extra": "entries without a parameter",
    "misshapen": "shapes and types that differ",
    "ambiguous": "parameters that several entries may be",
    "changed": "entries that the ONNX file cannot take",
}
_ADVICE = {
    "computed": "export with folding off, as gmnc.from_torch does",
    "unmatched": "like=CHECKPOINT finds renamed tensors by the values that were exported; "
    "keep=[PATTERN] leaves the value of the file to numbers of the program",
    "extra": "ignore=[PATTERN] leaves entries out that the network does not use",
    "misshapen": "is it a checkpoint of this architecture?",
    "ambiguous": "export from trained weights, in which no two tensors are equal",
    "changed": "export the network again; ignore=[PATTERN] leaves entries out that it does not use",
}


class MatchError(GmncError):
    """A checkpoint does not fit a graph.

    Args:
        where: The checkpoint, for the message.
        mismatch: What does not fit.

    Attributes:
        mismatch: The same.
    """

    def __init__(self, where: str, mismatch: Mismatch) -> None:
        self.mismatch = mismatch
        parts = [f"{where} does not fit the graph"]
        for kind, title in _TITLES.items():
            found = getattr(mismatch, kind)
            if found:
                more = f"\n    ... and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
                parts.append(f"  {title} ({_ADVICE[kind]}):\n    " + "\n    ".join(found[:_SHOWN]) + more)
        super().__init__("\n".join(parts))
