"""Checks for people who write rules or trust them: claimed symmetries against ONNX Runtime, graphs against each other.

`verify` reports on any network; the `assert_` functions are for tests; `build`, `values` and `with_values` make small
models, `networks` (needs hypothesis) draws random ones. Each name is loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from .asserts import assert_exact, assert_isomorphic, assert_same_up_to_symmetry, assert_sound, count
    from .brute import BruteForce, brute_force
    from .builders import build, values, with_values
    from .inputs import random_inputs
    from .llama import Llama
    from .report import Failure, Report
    from .runtime import disagreement, run
    from .strategies import networks
    from .verification import verify

__all__ = [
    "BruteForce",
    "Failure",
    "Llama",
    "Report",
    "assert_exact",
    "assert_isomorphic",
    "assert_same_up_to_symmetry",
    "assert_sound",
    "brute_force",
    "build",
    "count",
    "disagreement",
    "networks",
    "random_inputs",
    "run",
    "values",
    "verify",
    "with_values",
]

_HOMES = {
    "BruteForce": "brute",
    "Failure": "report",
    "Llama": "llama",
    "Report": "report",
    "assert_exact": "asserts",
    "assert_isomorphic": "asserts",
    "assert_same_up_to_symmetry": "asserts",
    "assert_sound": "asserts",
    "brute_force": "brute",
    "build": "builders",
    "count": "asserts",
    "disagreement": "runtime",
    "networks": "strategies",
    "random_inputs": "inputs",
    "run": "runtime",
    "values": "builders",
    "verify": "verification",
    "with_values": "builders",
}

__getattr__, __dir__ = lazy(__name__, _HOMES)
