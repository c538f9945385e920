"""Networks that read networks: the graph metanetwork, and the baselines that it is measured against."""

from __future__ import annotations

from .baselines import DMC, DeepSets, StatNN
from .files import load, save
from .gmn import GMN, HEADS, READOUTS
from .named import NAMES, metanetwork
from .nfn import NFN

__all__ = [
    "DMC",
    "GMN",
    "HEADS",
    "NAMES",
    "NFN",
    "READOUTS",
    "DeepSets",
    "StatNN",
    "load",
    "metanetwork",
    "save",
]
