"""Metanetworks by name: the graph metanetwork and the baselines, with the settings that the experiments use."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from ..backends.blocks import Blocks
from ..ir import GmncError
from ..ir.errors import root_cause
from .baselines import DMC, DeepSets, StatNN
from .gmn import GMN
from .nfn import NFN

__all__ = ["NAMES", "metanetwork"]

_CLASSES: dict[str, type[nn.Module]] = {"gmn": GMN, "deepsets": DeepSets, "statnn": StatNN, "dmc": DMC, "nfn": NFN}
NAMES = tuple(_CLASSES)

_GMN: dict[str, dict[str, Any]] = {
    "invariant": {"width": 32, "layers": 2, "relative": True, "readout": "all"},
    "equivariant": {"width": 64, "layers": 4},
}
"""By head; both have what follows."""
_BOTH: dict[str, Any] = {"global_node": True, "scales": 10, "words": 0.0}


def metanetwork(name: str, outputs: int, like: Blocks, head: str = "invariant", /, **options: Any) -> nn.Module:
    """A metanetwork with one row of `outputs` per network (``invariant``) or per edge (``equivariant``).

    like: a network of the kind that it will read; only NFN looks at it. options: instead of the usual ones. Raises
    `GmncError` for an unknown name, an option that it lacks, and a baseline without an equivariant head.
    """
    if name not in NAMES:
        raise GmncError(f"there is no metanetwork {name!r}: choose {', '.join(NAMES)}")
    takes = list(inspect.signature(_CLASSES[name]).parameters)
    if head != "invariant" and "head" not in takes:
        raise GmncError(f"{name} gives one row per network, none per parameter: choose gmn, deepsets or nfn")
    given = {"outputs": outputs, "head": head, "like": like}
    known = [option for option in takes if option not in given]
    for option in options:
        if option not in known:
            raise GmncError(f"{name} has no option {option!r}: choose {', '.join(known)}")
    usual = _BOTH | _GMN.get(head, {}) if name == "gmn" else {}
    try:
        return _CLASSES[name](**{n: v for n, v in given.items() if n in takes}, **(usual | options))
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise GmncError(f"{name}: {root_cause(error)}; look at its options") from error
