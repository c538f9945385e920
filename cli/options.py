"""The options that several commands share, and the parsing of their values."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "LARGEST_SEED",
    "Dims",
    "FoldWeights",
    "Inputs",
    "Json",
    "Kinds",
    "Model",
    "OnUnsupported",
    "Policy",
    "Quiet",
    "parse_dims",
    "parse_inputs",
]


class OnUnsupported(StrEnum):
    """What an operator without a rule becomes."""

    opaque = "opaque"
    error = "error"


Model = Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX file.", show_default=False)]
Dims = Annotated[
    list[str] | None,
    typer.Option("--dim", metavar="NAME=SIZE", help="Size of a symbolic dimension. Repeatable.", show_default=False),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="NAME=1x3x224x224", help="Shape of a graph input. Repeatable.", show_default=False),
]
Policy = Annotated[
    OnUnsupported, typer.Option(help="An operator without a rule becomes an opaque node, or an error (exit code 2).")
]
FoldWeights = Annotated[
    bool,
    typer.Option(
        "--fold-weights", help="Take the weights that the model computes for parameters, not those that it stores."
    ),
]
Kinds = Annotated[str, typer.Option(metavar="KINDS", help="Kinds of symmetries, by commas: permutation, sign, scale.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")]


LARGEST_SEED = 2**63 - 1
_DIGITS = 18
"""Digits of a size, at most: more are no size of anything."""


def _size(text: str) -> int:
    """A size of at least 1; 0 for what is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else 0


def parse_dims(values: list[str] | None) -> dict[str, int]:
    """``["batch=4"]`` as ``{"batch": 4}``; raises `typer.BadParameter` for anything else."""
    dims: dict[str, int] = {}
    for text in values or ():
        name, _, size = text.rpartition("=")
        if not name or not _size(size):
            raise typer.BadParameter(f"{text!r}: expected NAME=SIZE with a size of at least 1", param_hint="--dim")
        dims[name] = int(size)
    return dims


def parse_inputs(values: list[str] | None) -> dict[str, tuple[int, ...]]:
    """``["x=1x3x8x8"]`` as ``{"x": (1, 3, 8, 8)}``; raises `typer.BadParameter` for anything else."""
    inputs: dict[str, tuple[int, ...]] = {}
    for text in values or ():
        name, _, shape = text.rpartition("=")
        sizes = shape.lower().split("x")
        if not name or not all(map(_size, sizes)):
            raise typer.BadParameter(f"{text!r}: expected NAME=SIZExSIZE..., as in x=1x3x224x224", param_hint="--input")
        inputs[name] = tuple(map(int, sizes))
    return inputs
