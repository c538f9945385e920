"""What a symmetry is good for: networks compared, aligned, merged and pruned. No torch."""

from __future__ import annotations

from .prune import NothingToPrune, prune
from .prune_pass import Prune
from .pruning.report import FamilyReport, Pruned

__all__ = ["FamilyReport", "NothingToPrune", "Prune", "Pruned", "prune"]
