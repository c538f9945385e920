"""What the options of the graph metanetwork may be, given by a caller or by a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..backends.fields import Wrong, flag, integer, maybe, number, one_of, table, text
from ..ir import GmncError
from ..kernels.activations import ACTIVATIONS

__all__ = ["HIDDEN_ACTIVATIONS", "check_options", "stored_options"]

HIDDEN_ACTIVATIONS = ("relu", "silu", "tanh")
"""Of all layers but those on edges, which know the kernels' ones."""

_FIELDS = {
    "outputs": integer(1, 1 << 20), "head": text, "width": integer(1, 1 << 13), "hidden": maybe(integer(0, 1 << 13)),
    "layers": integer(-(2**31), 1000), "reverse": flag, "global_node": flag, "norm": flag, "dropout": number(0, 1),
    "activation": one_of(*HIDDEN_ACTIVATIONS), "edge_activation": maybe(one_of(*ACTIVATIONS)), "fan_in": flag,
    "scales": integer(1, 64), "relative": flag, "readout": text, "recompute": flag, "stream": integer(most=2**62),
    "buckets": integer(1, 1 << 24), "words": number(0, 1e6),
}  # fmt: skip


def stored_options(value: Any) -> dict[str, Any]:
    """Those in a file; all are known."""
    found = table({}, _FIELDS)(value)
    for name in found:
        if name not in _FIELDS:
            raise Wrong(f"options among {', '.join(_FIELDS)}", name)
    return found


def check_options(given: Mapping[str, Any]) -> None:
    """Raise `GmncError` that names the option whose value cannot be."""
    try:
        stored_options(dict(given))
    except Wrong as error:
        raise GmncError(f"gmn: option {error}") from error
