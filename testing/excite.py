"""Inputs that a network answers: drawn in several styles, until it runs and its outputs react to the parameters."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir

from ..backends.values import dtype_of
from ..ir import GmncError, ParameterGraph
from .inputs import STYLES, InputSpec, around_splits, draw, input_specs, is_large, read
from .precision import float_types
from .processes import NotRunnable, Runner, Stopped
from .trial import Trial

__all__ = ["start"]

Source = str | os.PathLike[str] | onnx.ModelProto | onnx_ir.Model

_ENOUGH = 0.9


def start(
    model: Source,
    graph: ParameterGraph,
    given: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
    options: Mapping[str, Any],
    rng: np.random.Generator,
    runner: Runner,
    tolerance: float | None,
) -> tuple[Trial, float]:
    """A trial on random and on given inputs, and the share of the parameters that its outputs react to.

    Inputs of one style after another join, where more parameters react to them, until nearly all do. Integers that are
    given take the place of random ones: they may be sizes, rates or choices.
    Raises `NotRunnable` where no style runs, with what to give, and `GmncError` for an input that the model lacks.
    """
    reading = read(model, options.get("dims"), shapes, options.get("registry"))
    specs, types = input_specs(reading), float_types(reading)
    unknown = sorted(given.keys() - {s.name for s in specs})
    if unknown:
        raise GmncError(f"the model has no input {unknown[0]!r}: its inputs are {', '.join(s.name for s in specs)}")
    given = {s.name: _fitting(s, given[s.name]) for s in specs if s.name in given}
    large = {s.name for s in specs if is_large(s)}
    whole = {n: v for n, v in given.items() if v.dtype.kind not in "fc" or n in large}
    drawable = [s for s in specs if s.name not in whole]
    best: tuple[Trial, float] | None = None
    first: NotRunnable | None = None
    for style in STYLES:
        drawn = draw(drawable, rng, style)
        feeds = [{**drawn, **whole}, {**drawn, **given}] if given else [drawn]
        feeds += around_splits(graph, feeds[0], rng)
        earlier = [] if best is None else best[0].feeds
        try:
            trial = Trial(graph, [*earlier, *feeds], rng, runner, types, tolerance)
            share = trial.reacting()
        except Stopped:
            raise
        except NotRunnable as error:
            first = first or error
            continue
        if best is None or share > best[1]:
            best = trial, share
        if best[1] >= _ENOUGH or not trial.values or given.keys() >= {s.name for s in specs}:
            break
    if best is None:
        raise NotRunnable(f"{first}{_wanted(specs, given)}")
    return best


def _fitting(spec: InputSpec, array: np.ndarray) -> np.ndarray:
    """An array in the type of the input; raises `GmncError` for numbers of another kind."""
    if spec.dtype == "string":
        fits, dtype = array.dtype.kind in "OUS", np.dtype(object)
    else:
        dtype = dtype_of(spec.dtype)
        kinds = "b" if dtype == np.bool_ else "biu" if dtype.kind in "iu" else "biufc" if dtype.kind == "c" else "biuf"
        fits = array.dtype.kind in kinds or array.dtype == dtype
    if not fits:
        raise GmncError(f"input {spec.name!r} is of type {spec.dtype}, the array that is given of {array.dtype}")
    return array if array.dtype is dtype else array.astype(dtype)


def _wanted(specs: list[InputSpec], given: Mapping[str, np.ndarray]) -> str:
    """What a user has to give, where the inputs that were drawn do not run."""
    missing = [f"{s.name} ({s.dtype} [{', '.join(map(str, s.shape))}])" for s in specs if s.name not in given]
    return f"; drawn were {', '.join(missing)}: give arrays that fit with --inputs FILE.npz" if missing else ""
