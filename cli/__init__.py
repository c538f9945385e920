"""The command line `gmnc`. Commands import what they need when they run, so that `--help` stays fast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from .. import __version__
from .check import check_model
from .compile import compile_model
from .draw import draw_model
from .embed import embed_models
from .evaluate import evaluate_runs
from .inspect import inspect_model
from .plugins import list_plugins
from .predict import predict_accuracy
from .prune import prune_model
from .session import errors_to_exit_codes, prepare_streams
from .symmetries import list_symmetries
from .train import train_metanetwork
from .transforms import align_models, diff_models, fingerprint_model, merge_models, scramble_model
from .verify import verify_model
from .zoo import zoo

__all__ = ["app", "main"]

app = typer.Typer(
    name="gmnc",
    help="The graph-metanetwork compiler: any ONNX file to a parameter graph, to tensors, and back.",
    epilog="Exit codes: 0 success, 1 a check failed, 2 bad input or usage. GMNC_DEBUG=1 shows tracebacks.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_COMMANDS: dict[str, Callable[..., None]] = {
    "compile": compile_model,
    "check": check_model,
    "inspect": inspect_model,
    "draw": draw_model,
    "embed": embed_models,
    "symmetries": list_symmetries,
    "verify": verify_model,
    "diff": diff_models,
    "fingerprint": fingerprint_model,
    "align": align_models,
    "merge": merge_models,
    "prune": prune_model,
    "scramble": scramble_model,
    "plugins": list_plugins,
    "train": train_metanetwork,
    "evaluate": evaluate_runs,
    "predict": predict_accuracy,
}
for _name, _command in _COMMANDS.items():
    # Printing the results may fail as well.
    app.command(_name)(errors_to_exit_codes()(_command))
app.add_typer(zoo, name="zoo")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gmnc {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before the command."""


def main() -> None:
    """Run the command line; entry point of the `gmnc` script."""
    prepare_streams()
    app()
