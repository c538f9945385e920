"""What `gmnc.from_torch` notes in the model about the names of the module's state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...files.fields import FieldError, listed, mapping, table, text
from ...ir import ParameterGraph

__all__ = ["Noted", "noted"]

_KEY = "gmnc.state_dict"
_SCHEMA = table({"tied": mapping(text), "kept": listed(text)})


@dataclass(frozen=True, slots=True)
class Noted:
    """What a state has otherwise than the model.

    Attributes:
        tied: Further names of one tensor, and the name that it has in the model.
        kept: Tensors of the model that no state has: buffers that are not persistent, and constants of the program.
        known: Whether there are notes, so that all other tensors of the model are in the state under their name.
    """

    tied: Mapping[str, str] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()
    known: bool = False


def noted(graph: ParameterGraph) -> Noted:
    """Read the notes of a graph's model.

    Args:
        graph: A graph.

    Returns:
        The notes; empty if there are none, or none that can be read.
    """
    found = None if graph.model is None else graph.model.metadata_props.get(_KEY)
    if not found:
        return Noted()
    try:
        fields = _SCHEMA(json.loads(found))
    except (ValueError, RecursionError, FieldError):
        return Noted()
    return Noted(fields["tied"], frozenset(fields["kept"]), True)
