"""Metanetworks by name: the graph metanetwork and the baselines, with the settings of the experiments."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

from torch import nn

from ..backends.blocks import Blocks
from ..ir import GmncError
from ..ir.errors import root_cause
from .baselines import DMC, DeepSets, StatNN
from .config import GMNConfig
from .gmn import GMN
from .nfn import NFN

__all__ = ["NAMES", "metanetwork"]

_CLASSES: dict[str, type[nn.Module]] = {"gmn": GMN, "deepsets": DeepSets, "statnn": StatNN, "dmc": DMC, "nfn": NFN}
NAMES = tuple(_CLASSES)
"""Names that `metanetwork` takes."""

_GMN: dict[str, dict[str, Any]] = {
    "invariant": {"hidden_channels": 32, "num_layers": 2, "relative": True, "readout": "all"},
    "equivariant": {"hidden_channels": 64, "num_layers": 4},
}
"""Defaults of gmn in the experiments by head, besides `_BOTH`."""
_BOTH: dict[str, Any] = {"global_node": True, "value_features": 10, "op_embedding_std": 0.0}


def metanetwork(
    name: str, out_channels: int, like: Blocks, head: str = "invariant", /, **options: Any
) -> nn.Module:  # fmt: skip
    """A metanetwork with random weights and the settings of the experiments.

    Args:
        name: One of `NAMES`.
        out_channels: Width of the output.
        like: A network of the kind that it will read; used by nfn only.
        head: ``invariant``: one row per network. ``equivariant``: one row per edge.
        **options: Arguments of the class that replace the experiments' settings.

    Returns:
        A module that takes `Blocks`.

    Raises:
        GmncError: Unknown name or option, a value that an option cannot have, or a baseline without an equivariant
            head.
    """
    if name not in NAMES:
        raise GmncError(f"unknown metanetwork {name!r}: choose {', '.join(NAMES)}")
    takes = _arguments(_CLASSES[name])
    if head != "invariant" and "head" not in takes:
        raise GmncError(f"{name} gives one row per network, none per parameter: choose gmn, deepsets or nfn")
    given = {"out_channels": out_channels, "head": head, "like": like}
    known = [option for option in takes if option not in given]
    for option in options:
        if option not in known:
            raise GmncError(f"{name} has no option {option!r}: choose {', '.join(known)}")
    defaults = _BOTH | _GMN.get(head, {}) if name == "gmn" else {}
    try:
        return _CLASSES[name](**{n: v for n, v in given.items() if n in takes}, **(defaults | options))
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise GmncError(f"{name}: {root_cause(error)}; check its options") from error


def _arguments(model: type[nn.Module]) -> list[str]:
    """Names of the keyword arguments of a metanetwork."""
    if model is GMN:
        return [*(f.name for f in fields(GMNConfig)), "kernel"]
    return list(inspect.signature(model).parameters)
