"""`gmnc verify`: check the claims of a parameter graph in ONNX Runtime."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import (
    Dims,
    FoldWeights,
    Inputs,
    Json,
    Kinds,
    Model,
    OnUnsupported,
    Policy,
    Quiet,
    Seed,
    parse_dims,
    parse_inputs,
)
from .session import CHECK_FAILED, cell, errors_to_exit_codes, is_store, output, print_json, progress_bar, say

if TYPE_CHECKING:
    from ..testing import Report

__all__ = ["verify_model"]


Trials = Annotated[int, typer.Option(min=1, metavar="N", help="Number of products of generators to run.")]
Arrays = Annotated[
    Path | None,
    typer.Option(metavar="FILE.npz", help="Arrays by input name, run besides random inputs.", show_default=False),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        max=1e6,
        metavar="S",
        show_default="120; with a Loop 4 plus 1 per MiB of parameters, at most 120",
        help="Time limit of one run in ONNX Runtime, in seconds.",
    ),
]
AllowUnchecked = Annotated[
    bool, typer.Option("--allow-unchecked", help="Exit with 0, not 1, if the symmetries could not be checked.")
]


def verify_model(
    model: Model,
    trials: Trials = 8,
    seed: Seed = 0,
    inputs: Arrays = None,
    kinds: Kinds = "permutation",
    timeout: Timeout = None,
    allow_unchecked: AllowUnchecked = False,
    dim: Dims = None,
    input: Inputs = None,
    on_unsupported: Policy = OnUnsupported.opaque,
    fold_weights: FoldWeights = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check the claims about MODEL: its symmetries in ONNX Runtime, the parameter account and write-back.

    Exit code 1 if a claim fails, or if the symmetries could not be checked.

    Example: gmnc verify model.onnx --trials 20 --kinds permutation,sign,scale
    """
    with errors_to_exit_codes():
        from ..files.npz import read_arrays
        from ..ir import LoadError

        if timeout is not None and math.isnan(timeout):
            raise typer.BadParameter("'nan' is not a number of seconds", param_hint="--timeout")
        dims, shapes = parse_dims(dim), parse_inputs(input)
        given = None if inputs is None else read_arrays(inputs)
        if is_store(model):
            raise LoadError(f"{model}: a store holds no network to run; give the ONNX file that it was compiled from")
        from ..testing import verify

        with progress_bar(quiet) as on_progress:
            report = verify(
                model, trials=trials, seed=seed, inputs=given, shapes=shapes, kinds=kinds.split(","),
                on_progress=on_progress, timeout=timeout or "auto", dims=dims, on_unsupported=on_unsupported.value,
                fold_weights=fold_weights,
            )  # fmt: skip
    if json:
        print_json(report.to_json())
    else:
        _print(report)
    for complaint in report.complaints():
        say(complaint, err=True)
    if not report.holds or (report.sound is None and not allow_unchecked):
        raise typer.Exit(CHECK_FAILED)


def _print(report: Report) -> None:
    from ..ir.printable import counted

    console = output()
    changed = "moved" if set(report.kinds) <= {"permutation"} else "changed"
    unknown = "cannot tell" if report.trials else "not checked"
    if report.graph is not None:
        console.print(f"model: {cell(report.graph.name)}", soft_wrap=True)
    verdict = {True: "sound", False: "NOT SOUND", None: unknown}[report.sound]
    console.print(
        f"symmetries: {verdict}; {_generators(report)}, {counted(report.trials, 'product')} run, up to "
        f"{counted(report.moved_parameters, 'parameter')} {changed}, "
        f"error {report.max_error:.2g} (tolerance {report.tolerance:.2g})"
    )
    console.print(
        f"negative controls: {report.tried} tried, {report.detected} detected, "
        f"error {report.sensitivity:.2g} (ten times the tolerance is needed)"
    )
    if report.reacting is not None:
        console.print(f"outputs react to {100 * report.reacting:.3g} % of the parameters")
    console.print(f"writing parameters back: {cell(report.round_trip)}", soft_wrap=True)
    console.print(f"account: {'closed' if report.account_closed else 'NOT CLOSED'}")
    for reason in report.skipped:
        console.print(f"skipped: {cell(reason)}", soft_wrap=True)


def _generators(report: Report) -> str:
    """The number of generators, by kind unless only permutations were checked."""
    from ..ir.printable import counted

    if set(report.kinds) <= {"permutation"}:
        return counted(report.generators, "generator")
    noun = "generator" if report.generators == 1 else "generators"
    return f"{' + '.join(f'{n:,} {kind}' for kind, n in report.kinds.items())} {noun}"
