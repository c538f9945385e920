"""Tools for testing lowering rules: claimed symmetries against ONNX Runtime, and graphs against each other.

* `verify` and `brute_force` report on a network; the `assert_` functions do the same in tests.
* `build`, `values` and `with_values` create small models, `networks` (needs hypothesis) draws random ones, `Llama`
  writes large ones.
* `run`, `random_inputs` and `disagreement` run and compare networks; `count` counts nodes and edges.

`__all__` is the public interface; the modules are internal. Names are imported on first use.
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
