"""Values of a graph's parameters from the checkpoints that training leaves, and back.

* `load_values` and `save_values` read and write a checkpoint; `match_names` finds the `NameMap` of an architecture.
* `names` matches names up to a prefix, `by_value` finds renamed and moved tensors, `matching` decides from both.
"""

from .load import ConversionWarning, load_values, match_names
from .mismatch import MatchError, Mismatch
from .name_map import Copy, NameMap
from .save import save_values

__all__ = [
    "ConversionWarning",
    "Copy",
    "MatchError",
    "Mismatch",
    "NameMap",
    "load_values",
    "match_names",
    "save_values",
]
