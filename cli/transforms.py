"""`gmnc diff`, `fingerprint`, `align`, `merge` and `scramble`: what a symmetry is good for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .distances import check_picture, draw_alignment, print_layers
from .labels import labelled
from .options import Arrays, Dims, Inputs, Json, Kinds, Model, Quiet, Seed, parse_dims, parse_inputs
from .session import CHECK_FAILED, cell, errors_to_exit_codes, output, print_json, progress_bar, say

if TYPE_CHECKING:
    import numpy as np

    from ..ir import ParameterGraph
    from ..transforms import Alignment, Proof

__all__ = ["Criterion", "Method", "align_models", "diff_models", "fingerprint_model", "merge_models", "scramble_model"]

First = Annotated[Path, typer.Argument(metavar="A", help="An ONNX file.", show_default=False)]
Second = Annotated[Path, typer.Argument(metavar="B", help="Another one of the same architecture.", show_default=False)]
Several = Annotated[
    list[Path], typer.Argument(metavar="A B [C ...]", help="ONNX files of one architecture.", show_default=False)
]
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE.onnx", help="The file to write.", show_default=False)
]
Starts = Annotated[int, typer.Option(min=1, metavar="N", help="Number of orders of the layers that are tried.")]
Labels = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Labels of --inputs, for the loss along the line: the array's name there, or a .npy file.",
        show_default=False,
    ),
]  # fmt: skip
OutputName = Annotated[
    str | None, typer.Option(metavar="NAME", help="The output that the labels are of.", show_default=False)
]
Picture = Annotated[
    Path | None,
    typer.Option(metavar="PICTURE", help="Draw the distances by layer to this file (.svg, .png).", show_default=False),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print every layer, with its tensors.")]


class Criterion(StrEnum):
    """What tells which neurons belong together."""

    weights = "weights"
    activations = "activations"


By = Annotated[
    Criterion, typer.Option(help="What tells which neurons belong together: parameters, or values on --inputs.")
]


class Method(StrEnum):
    """How parameters are merged."""

    mean = "mean"
    slerp = "slerp"
    task_arithmetic = "task-arithmetic"
    ties = "ties"


def diff_models(
    a: First,
    b: Second,
    kinds: Kinds = "permutation",
    inputs: Arrays = None,
    seed: Seed = 0,
    dim: Dims = None,
    input: Inputs = None,
    draw: Picture = None,
    verbose: Verbose = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare two networks up to the symmetries of their architecture.

    Exit code 0 if a symmetry takes one to the other, 1 if they differ.

    Example: gmnc diff before.onnx after.onnx --kinds permutation,sign
    """
    with errors_to_exit_codes():
        options = _options(dim, input)
        given = _arrays(inputs)
        check_picture(draw, [a, b, inputs])
        from ..transforms import diff

        with progress_bar(quiet) as on_progress:
            made = diff(a, b, kinds=kinds.split(","), inputs=given, seed=seed, on_progress=on_progress, **options)
            draw_alignment(made.alignment, draw, (a, b))
    if json:
        print_json({"a": str(a), "b": str(b), **made.to_json()})
    else:
        console = output()
        console.print(cell(made.summary), soft_wrap=True)
        for line in made.structure:
            console.print(cell(line), soft_wrap=True)
        if made.alignment is not None:
            if not made.equal:
                print_layers(made.alignment.layers, verbose)
            console.print(cell(made.alignment.proof.summary), soft_wrap=True)
    if not made.equal:
        raise typer.Exit(CHECK_FAILED)


def fingerprint_model(
    model: Model, dim: Dims = None, input: Inputs = None, json: Json = False, quiet: Quiet = False
) -> None:
    """Print two hashes of MODEL: of its structure, and of the network, both up to the order of its neurons.

    Example: gmnc fingerprint model.onnx
    """
    with errors_to_exit_codes():
        options = _options(dim, input)
        from ..transforms import fingerprints

        with progress_bar(quiet) as on_progress:
            on_progress("hashing", 0, 1)
            structure, network = fingerprints(model, **options)
    if json:
        print_json({"model": str(model), "structure": structure, "network": network})
    else:
        output().print(f"structure {structure}\nnetwork   {network}")


def align_models(
    a: First,
    b: Second,
    output_file: Output,
    kinds: Kinds = "permutation",
    by: By = Criterion.weights,
    starts: Starts = 4,
    inputs: Arrays = None,
    labels: Labels = None,
    output_name: OutputName = None,
    seed: Seed = 0,
    dim: Dims = None,
    input: Inputs = None,
    draw: Picture = None,
    verbose: Verbose = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write network B with its neurons in the order of network A; it computes the same as before.

    Example: gmnc align a.onnx b.onnx -o b_in_order.onnx
    """
    with errors_to_exit_codes():
        options = _options(dim, input)
        given, known = labelled(_arrays(inputs), labels)
        _check_output(output_file, [a, b, inputs])
        check_picture(draw, [a, b, inputs, output_file])
        from ..transforms import align

        with progress_bar(quiet) as on_progress:
            made = align(
                a, b, kinds=kinds.split(","), by=by.value, starts=starts, inputs=given, labels=known,
                output=output_name, seed=seed, on_progress=on_progress, **options,
            )  # fmt: skip
            on_progress("writing", 0, 1)
            _write(made.networks.b, made.values, output_file)
            draw_alignment(made, draw, (a, b))
    if json:
        print_json({"a": str(a), "b": str(b), "output": str(output_file), **made.to_json()})
    else:
        _print_alignment(made, verbose)
    _fail_unless_proved(made.proof)


def scramble_model(
    model: Model,
    output_file: Output,
    seed: Seed = 0,
    kinds: Kinds = "permutation",
    inputs: Arrays = None,
    dim: Dims = None,
    input: Inputs = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write MODEL changed by a random symmetry: other numbers that compute the same.

    Example: gmnc scramble model.onnx --seed 1 -o scrambled.onnx
    """
    with errors_to_exit_codes():
        options = _options(dim, input)
        given = _arrays(inputs)
        _check_output(output_file, [model, inputs])
        from ..transforms import scramble

        with progress_bar(quiet) as on_progress:
            made = scramble(model, seed=seed, kinds=kinds.split(","), inputs=given, on_progress=on_progress, **options)
            on_progress("writing", 0, 1)
            _write(made.graph, made.values, output_file)
    if json:
        print_json({"model": str(model), "output": str(output_file), **made.to_json()})
    else:
        output().print(cell(made.summary), soft_wrap=True)
        output().print(cell(made.proof.summary), soft_wrap=True)
    _fail_unless_proved(made.proof)


def merge_models(
    models: Several,
    output_file: Output,
    weights: Annotated[
        str | None,
        typer.Option(metavar="W1,W2,...", help="A weight per network; equal by default.", show_default=False),
    ] = None,
    method: Annotated[Method, typer.Option(help="How parameters are merged.")] = Method.mean,
    base: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What the networks were fine-tuned from.", show_default=False),
    ] = None,
    align: Annotated[bool, typer.Option(help="Put the networks in the order of the first one before.")] = True,
    kinds: Kinds = "permutation",
    by: By = Criterion.weights,
    inputs: Arrays = None,
    labels: Labels = None,
    output_name: OutputName = None,
    repair: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npz",
            help="Arrays by input name to set the statistics of the merged channels from.",
            show_default=False,
        ),
    ] = None,
    seed: Seed = 0,
    dim: Dims = None,
    input: Inputs = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Merge networks of one architecture: average their parameters after putting their neurons in one order.

    Example: gmnc merge a.onnx b.onnx -o merged.onnx
    """
    with errors_to_exit_codes():
        options = _options(dim, input)
        (given, known), data = labelled(_arrays(inputs), labels), _arrays(repair)
        _check_output(output_file, [*models, base, inputs, repair])
        from ..transforms import merge

        with progress_bar(quiet) as on_progress:
            made = merge(
                models, weights=_numbers(weights), method=method.value, base=base, aligned=align,
                kinds=kinds.split(","), by=by.value, inputs=given, labels=known, output=output_name,
                repair=data, seed=seed, on_progress=on_progress, **options,
            )  # fmt: skip
            on_progress("writing", 0, 1)
            _write(made.graph, made.values, output_file)
    if json:
        print_json({"models": [str(m) for m in models], "output": str(output_file), **made.to_json()})
    else:
        for alignment in made.alignments:
            output().print(cell(f"{alignment.networks.b.name}: {alignment.summary}"), soft_wrap=True)
            _print_line(alignment)
            output().print(cell(alignment.proof.summary), soft_wrap=True)
        output().print(cell(made.summary), soft_wrap=True)
        if made.repaired is not None:
            output().print(cell(made.repaired.summary), soft_wrap=True)
            for layer in made.repaired.skipped:
                output().print(cell(f"not repaired: {layer.name}: {layer.reason}"), soft_wrap=True)
    for alignment in made.alignments:
        _fail_unless_proved(alignment.proof)


def _options(dim: list[str] | None, input: list[str] | None) -> dict[str, Any]:
    return {"dims": parse_dims(dim), "shapes": parse_inputs(input)}


def _arrays(path: Path | None) -> dict[str, np.ndarray] | None:
    from ..files.npz import read_arrays

    return None if path is None else dict(read_arrays(path))


def _numbers(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{text!r}: expected numbers, as in 0.5,0.5", param_hint="--weights") from None


def _check_output(path: Path, read: Sequence[Path | None]) -> None:
    """Refuse an output that cannot be written, or that the command reads, before anything that takes time."""
    from ..files.writing import target

    target(path, [p for p in read if p is not None])


def _write(graph: ParameterGraph, values: Mapping[str, np.ndarray], path: Path) -> None:
    from ..backends.onnx import write

    write(graph, values, path)


def _print_alignment(made: Alignment, verbose: bool) -> None:
    output().print(cell(made.summary), soft_wrap=True)
    print_layers(made.layers, verbose)
    _print_line(made)
    output().print(cell(made.proof.summary), soft_wrap=True)


def _print_line(made: Alignment) -> None:
    for text in () if made.line is None else made.line.summary.splitlines():
        output().print(cell(text), soft_wrap=True)


def _fail_unless_proved(proof: Proof) -> None:
    if not proof.holds:
        say(f"not proved: {proof.summary}", err=True)
        raise typer.Exit(CHECK_FAILED)
