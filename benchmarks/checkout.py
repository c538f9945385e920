"""Imports `gmnc` from this checkout, whose root is the package, whether or not any is installed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

if "gmnc" not in sys.modules:
    sys.modules["gmnc"] = ModuleType("gmnc")
    sys.modules["gmnc"].__path__ = [str(Path(__file__).resolve().parents[1])]
