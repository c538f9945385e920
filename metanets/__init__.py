"""Metanetworks, which take networks as input: the graph metanetwork, and the baselines it is compared with."""

from __future__ import annotations

from .baselines import DMC, DeepSets, StatNN, statistics
from .config import HEADS, READOUTS, GMNConfig
from .files import header, load, save
from .gmn import GMN
from .layer import mlp
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
    "GMNConfig",
    "StatNN",
    "header",
    "load",
    "metanetwork",
    "mlp",
    "save",
    "statistics",
]
