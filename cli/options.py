"""Options shared by several commands, and the parsing of their values."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "LARGEST_SEED",
    "Arrays",
    "Device",
    "Dims",
    "FoldWeights",
    "Inputs",
    "Json",
    "Kinds",
    "Model",
    "OnUnsupported",
    "Policy",
    "Quiet",
    "Seed",
    "parse_dims",
    "parse_inputs",
]


class OnUnsupported(StrEnum):
    """How to treat an operator without a lowering rule."""

    opaque = "opaque"
    error = "error"


Model = Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX file.", show_default=False)]
Dims = Annotated[
    list[str] | None,
    typer.Option(
        "--dim",
        metavar="NAME=SIZE",
        help="Size of a symbolic dimension, as in batch=4. Repeatable.",
        show_default=False,
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME=1x3x224x224",
        help="Shape of a graph input. Repeatable.",
        show_default=False,
    ),
]
Policy = Annotated[
    OnUnsupported,
    typer.Option(help="Operators without a rule: make each an opaque node, or fail with exit code 2 and list them."),
]
FoldWeights = Annotated[
    bool,
    typer.Option(
        "--fold-weights",
        help="Fold computed weights (weight norm, low-rank updates) into constants, and take these as parameters.",
    ),
]
Kinds = Annotated[
    str,
    typer.Option(
        metavar="KINDS", help="Comma-separated kinds of symmetries: permutation, sign, scale, orthogonal, linear."
    ),
]
LARGEST_SEED = 2**63 - 1
Seed = Annotated[int, typer.Option(min=0, max=LARGEST_SEED, metavar="S", help="Seed of everything random.")]
Arrays = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.npz", help="Arrays by input name for activations and the check in ONNX Runtime; else random.",
        show_default=False,
    ),
]  # fmt: skip
Device = Annotated[str, typer.Option(metavar="DEVICE", help="auto (a GPU if available), cpu, cuda, cuda:1, ...")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Suppress progress and notes on stderr.")]

_DIGITS = 18
"""Largest number of digits of a size."""


def _size(text: str) -> int:
    """Parse a size of at least 1; 0 if it is not valid."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else 0


def parse_dims(values: list[str] | None) -> dict[str, int]:
    """Parse ``["batch=4"]`` to ``{"batch": 4}``; raises `typer.BadParameter` for other forms."""
    dims: dict[str, int] = {}
    for text in values or ():
        name, _, size = text.rpartition("=")
        if not name or not _size(size):
            raise typer.BadParameter(f"{text!r}: expected NAME=SIZE with a size of at least 1", param_hint="--dim")
        dims[name] = int(size)
    return dims


def parse_inputs(values: list[str] | None) -> dict[str, tuple[int, ...]]:
    """Parse ``["x=1x3x8x8"]`` to ``{"x": (1, 3, 8, 8)}``; raises `typer.BadParameter` for other forms."""
    inputs: dict[str, tuple[int, ...]] = {}
    for text in values or ():
        name, _, shape = text.rpartition("=")
        sizes = shape.lower().split("x")
        if not name or not all(map(_size, sizes)):
            raise typer.BadParameter(f"{text!r}: expected NAME=SIZExSIZE..., as in x=1x3x224x224", param_hint="--input")
        inputs[name] = tuple(map(int, sizes))
    return inputs
