"""What exporters, and `gmnc.from_torch`, note in the model about the state of the module."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...files.fields import FieldError, listed, mapping, table, text
from ...ir import ParameterGraph

__all__ = ["Noted", "noted"]

_KEY = "gmnc.state_dict"
_SCHEMA = table({"tied": mapping(text), "kept": listed(text)})
_KIND = "pkg.torch.export.graph_signature.InputSpec.kind"
_PERSISTENT = "pkg.torch.export.graph_signature.InputSpec.persistent"
_OF_STATE = re.compile(r"(?!val_\d+$)\w+(\.\w+)*\.[A-Za-z_]\w*|(?!val_\d+$)[A-Za-z_]\w*", re.ASCII)
"""Names of initializers that torch's older exporter takes from the module; others have slashes, colons or digits."""


@dataclass(frozen=True, slots=True)
class Noted:
    """What a state has, and what it has otherwise than the model.

    Attributes:
        held: Tensors of the model that every state has, by their names in the model.
        kept: Tensors that no state has: buffers that are not persistent, and constants of the program.
        tied: Further names of one tensor, and the name that it has in the model.
    """

    held: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()
    tied: Mapping[str, str] = field(default_factory=dict)


def noted(graph: ParameterGraph) -> Noted:
    """Read the notes of a graph's model.

    Args:
        graph: A graph.

    Returns:
        The notes; empty if there are none, or none that can be read.
    """
    model = graph.model
    if model is None:
        return Noted()
    values = [v for part in model.graphs() for v in part.initializers.values() if v.name in graph.parameters]
    found = model.metadata_props.get(_KEY)
    own = None if found is None else _of_from_torch(found)
    if own is not None:
        return Noted(frozenset(v.name for v in values) - own.kept, own.kept, own.tied)
    if any(_KIND in v.metadata_props for v in values):
        kinds = {v.name: _has_entry(v) for v in values}
        held, kept = (frozenset(n for n, has in kinds.items() if has is wanted) for wanted in (True, False))
        return Noted(held, kept)
    names = [v.name for v in values] if model.producer_name == "pytorch" else []
    return Noted(frozenset(name for name in names if _OF_STATE.fullmatch(name)))


def _of_from_torch(found: str) -> Noted | None:
    try:
        fields = _SCHEMA(json.loads(found))
    except (ValueError, RecursionError, FieldError):
        return None
    return Noted(kept=frozenset(fields["kept"]), tied=fields["tied"])


def _has_entry(value: Any) -> bool | None:
    """Whether the signature of torch's exporter says that a state has the tensor; None if it does not say."""
    kind = value.metadata_props.get(_KIND)
    if kind in ("PARAMETER", "BUFFER"):
        return value.metadata_props.get(_PERSISTENT) != "False"
    return None if kind is None else False
