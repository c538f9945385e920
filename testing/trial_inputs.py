"""Find inputs on which a network runs and its outputs react to the parameters, by drawing them in several ways."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir

from ..backends.values import dtype_of
from ..frontend.budget import elements
from ..ir import GmncError, ParameterGraph
from .inputs import SAMPLINGS, InferredModel, InputSpec, around_splits, draw_inputs, infer_model, input_specs, is_large
from .precision import float_types
from .processes import NotRunnable, Runner, Stopped
from .trial import Trial

__all__ = ["responsive_trial"]

Source = str | os.PathLike[str] | onnx.ModelProto | onnx_ir.Model

_ENOUGH = 0.9
_MORE, _SMALL = 7, 4096
_STEPS = frozenset(["Ceil", "Floor", "Round", "Sign"])


def responsive_trial(
    model: Source,
    graph: ParameterGraph,
    given: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
    options: Mapping[str, Any],
    rng: np.random.Generator,
    runner: Runner,
    tolerance: float | None,
) -> tuple[Trial, float]:
    """Set up a trial on random and given inputs whose outputs react to as many parameters as possible.

    Small networks that turn numbers into integers or conditions run on several inputs, as one may hide a difference.
    The samplings of `inputs.SAMPLINGS` are tried in order until the outputs react to nearly all parameters. Given
    integers replace random ones in every feed, as they may be sizes, rates or choices.

    Args:
        model: The model that `graph` was compiled from.
        graph: Its graph.
        given: Arrays by input name.
        shapes: Shapes by input name, the option `inputs` of `gmnc.compile`.
        options: Further options of `gmnc.compile`.
        rng: Random generator.
        runner: What runs the network.
        tolerance: Allowed relative change of an output; by default from the float types.

    Returns:
        The trial, and the share of the parameters to which its outputs react.

    Raises:
        NotRunnable: The network runs on no sampling; the message says which inputs to give.
        GmncError: The model has no input of a given name, or the dtype of an array does not fit.
    """
    inferred = infer_model(model, options.get("dims"), shapes, options.get("registry"))
    specs, types = input_specs(inferred), float_types(inferred)
    unknown = sorted(given.keys() - {s.name for s in specs})
    if unknown:
        raise GmncError(f"the model has no input {unknown[0]!r}: its inputs are {', '.join(s.name for s in specs)}")
    given = {s.name: _fitting(s, given[s.name]) for s in specs if s.name in given}
    large = {s.name for s in specs if is_large(s)}
    whole = {n: v for n, v in given.items() if v.dtype.kind not in "fc" or n in large}
    drawable = [s for s in specs if s.name not in whole]
    more = _MORE if _decides(inferred) and sum(elements(s.shape) for s in specs) <= _SMALL else 0
    best: tuple[Trial, float] | None = None
    first: NotRunnable | None = None
    for sampling in SAMPLINGS:
        drawn = draw_inputs(drawable, rng, sampling)
        feeds = [{**drawn, **whole}, {**drawn, **given}] if given else [drawn]
        feeds += around_splits(graph, feeds[0], rng)
        feeds += [{**draw_inputs(drawable, rng, sampling), **whole} for _ in range(more)]
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


def _decides(inferred: InferredModel) -> bool:
    """Whether the network turns floats into integers, conditions or counts."""

    def dtypes(values: Sequence[onnx_ir.Value | None]) -> set[str]:
        known = [inferred.known.get(v) for v in values if v is not None]
        return {k.dtype for k in known if k is not None and k.data is None}

    return any(
        (node.op_type in _STEPS or any(d.startswith(("int", "bool")) for d in dtypes(node.outputs)))
        and any("float" in d for d in dtypes(node.inputs))
        for node in inferred.model.graph.all_nodes()
    )


def _fitting(spec: InputSpec, array: np.ndarray) -> np.ndarray:
    """Cast an array to the dtype of the input; raises `GmncError` if the kind of dtype differs."""
    if spec.dtype == "string":
        fits, dtype = array.dtype.kind in "OUS", np.dtype(object)
    else:
        dtype = dtype_of(spec.dtype)
        kinds = "b" if dtype == np.bool_ else "biu" if dtype.kind in "iu" else "biufc" if dtype.kind == "c" else "biuf"
        fits = array.dtype.kind in kinds or array.dtype == dtype
    if not fits:
        raise GmncError(f"input {spec.name!r} has dtype {spec.dtype}, the given array {array.dtype}")
    return array if array.dtype is dtype else array.astype(dtype)


def _wanted(specs: list[InputSpec], given: Mapping[str, np.ndarray]) -> str:
    """The hint which inputs to give where the network does not run on random ones."""
    missing = [f"{s.name} ({s.dtype} [{', '.join(map(str, s.shape))}])" for s in specs if s.name not in given]
    return f"; random were {', '.join(missing)}: give suitable arrays with --inputs FILE.npz" if missing else ""
