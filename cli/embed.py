"""`gmnc embed`: one vector per network, from a graph metanetwork."""

from __future__ import annotations

import json as text
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import (
    LARGEST_SEED,
    Device,
    Dims,
    FoldWeights,
    Inputs,
    Json,
    OnUnsupported,
    Policy,
    Quiet,
    parse_dims,
    parse_inputs,
)
from .session import cell, errors_to_exit_codes, note, open_graph, output, print_json, progress_bar

if TYPE_CHECKING:
    import numpy as np
    import torch

    from ..ir import ParameterGraph
    from ..metanets import GMN

__all__ = ["Kernel", "embed_models"]

OUTPUTS = 64
LARGE, CHUNK = 1 << 22, 1 << 20
"""Networks with more than `LARGE` edges (1 GB of edge states at width 64) are read `CHUNK` edges at a time."""
_SHOWN = 6


class Kernel(StrEnum):
    """How edges are updated; see `gmnc.kernels.edge_update`."""

    auto = "auto"
    reference = "reference"
    scatter = "scatter"
    flat = "flat"
    cpu = "cpu"
    triton = "triton"


Networks = Annotated[
    list[Path],
    typer.Argument(metavar="MODEL|STORE...", help="ONNX files, or stores written by gmnc compile.", show_default=False),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        "-w",
        metavar="WEIGHTS",
        show_default="random, from --seed",
        help="Weights of the metanetwork (.safetensors), as written by gmnc.metanets.save.",
    ),
]
Seed = Annotated[
    int,
    typer.Option(metavar="S", min=0, max=LARGEST_SEED, help="Seed of the random weights if --weights is not given."),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write the embeddings to this file (.safetensors, .npy).",
        show_default=False,
    ),
]
KernelName = Annotated[
    Kernel, typer.Option(help="Implementation of the edge update; auto: the fastest for the device.")
]


def embed_models(
    models: Networks,
    weights: Weights = None,
    seed: Seed = 0,
    device: Device = "auto",
    kernel: KernelName = Kernel.auto,
    out: Output = None,
    dim: Dims = None,
    input: Inputs = None,
    on_unsupported: Policy = OnUnsupported.opaque,
    fold_weights: FoldWeights = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Embed each MODEL or STORE as one vector, by a graph metanetwork.

    Example: gmnc embed a.onnx b.onnx -o embeddings.npy
    """
    with errors_to_exit_codes():
        from ..files.writing import replacing, target

        dims, inputs = parse_dims(dim), parse_inputs(input)
        read = [*models, *([weights] if weights is not None else [])]
        write = None if out is None else _writer(out)
        if out is not None:
            target(out, read)
        where = _device(device, kernel)
        net, origin = _metanetwork(weights, seed, kernel)
        net = net.to(where).eval()

        def graph_of(path: Path) -> ParameterGraph:
            graph = open_graph(path, dims, inputs, on_unsupported, fold_weights)
            read.extend(map(Path, graph.files))
            return graph

        rows = _rows(net, models, graph_of, where, quiet)
        if out is not None and write is not None:
            with replacing(out, read) as temporary:
                write(temporary, rows, origin)
    if json:
        print_json({"weights": origin, "outputs": net.config.out_channels, "models": rows})
    elif out is None:
        _print_table(rows)
    if not json:
        note(f"weights: {origin}", quiet)
    if out is not None:
        note(f"wrote {out}", quiet)


def _rows(
    net: GMN, paths: list[Path], graph_of: Callable[[Path], ParameterGraph], device: torch.device, quiet: bool
) -> list[dict[str, Any]]:
    """The results for all networks, with a progress bar."""
    rows = []
    with progress_bar(quiet) as on_progress:
        for number, path in enumerate(paths):
            on_progress(f"embedding {path.name}", number, len(paths))
            rows.append(_row(net, path, graph_of, device))
    return rows


def _device(name: str, kernel: Kernel) -> torch.device:
    """The device; raises `GmncError` if it, or the kernel on it, is not available."""
    import torch

    from ..ir import GmncError
    from ..kernels import kernels

    try:
        there = torch.cuda.is_available()
        device = torch.device(("cuda" if there else "cpu") if name == "auto" else name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise GmncError(f"--device {name}: not available ({reason}); choose auto or cpu") from error
    if kernel != Kernel.auto and kernel not in kernels():
        raise GmncError(f"--kernel {kernel}: not installed; pip install 'gmnc[{kernel}]', or choose auto")
    if kernel == Kernel.triton and device.type != "cuda":
        raise GmncError("--kernel triton: needs a GPU; choose --device cuda, or --kernel auto")
    return device


def _metanetwork(weights: Path | None, seed: int, kernel: Kernel) -> tuple[GMN, str]:
    """The metanetwork, and the origin of its weights in words; raises `LoadError` if the file holds no such weights."""
    import torch

    from ..ir import LoadError
    from ..metanets import GMN, load

    if weights is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return GMN(out_channels=OUTPUTS, kernel=kernel.value), f"random, seed {seed}"
    net = load(weights, kernel=kernel.value)
    if net.config.head != "invariant":
        raise LoadError(f"{weights}: weights of an equivariant metanetwork, which gives no embedding")
    return net, str(weights)


def _row(net: GMN, path: Path, graph_of: Callable[[Path], ParameterGraph], device: torch.device) -> dict[str, Any]:
    """The result for one network; errors name its file."""
    import torch

    from ..backends.blocks import blocks
    from ..ir import GmncError

    try:
        graph = graph_of(path)
        tensors = blocks(graph).to(device)
        net.edge_chunk = net.config.edge_chunk or (CHUNK if tensors.num_edges > LARGE else 0)
        with torch.no_grad():
            embedding = net(tensors)[0].double().cpu()
        if not embedding.isfinite().all():
            raise GmncError("the embedding is not finite: look for NaN, infinity or huge values in the parameters")
    except GmncError as error:
        if str(path) not in str(error):
            error.args = (f"{path}: {error}",)
        raise
    return {"model": str(path), "parameter_edges": graph.num_parameter_edges, "embedding": embedding.tolist()}


def _writer(path: Path) -> Callable[[Path, list[dict[str, Any]], str], None]:
    from ..ir import GmncError

    found = _WRITERS.get(path.suffix.lower())
    if found is None:
        raise GmncError(f"cannot write {path}: the name of the embeddings must end in {' or '.join(_WRITERS)}")
    return found


def _table(rows: list[dict[str, Any]]) -> np.ndarray:
    """The embeddings, float32 [models, outputs]."""
    import numpy as np

    return np.array([row["embedding"] for row in rows], dtype=np.float32)


def _write_safetensors(path: Path, rows: list[dict[str, Any]], origin: str) -> None:
    from safetensors.numpy import save_file

    about = {"models": text.dumps([row["model"] for row in rows]), "weights": origin}
    save_file({"embeddings": _table(rows)}, path, about)


def _write_npy(path: Path, rows: list[dict[str, Any]], origin: str) -> None:
    import numpy as np

    with path.open("wb") as file:
        np.save(file, _table(rows))


_WRITERS = {".safetensors": _write_safetensors, ".npy": _write_npy}


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("model", overflow="fold")
    table.add_column("parameter edges", justify="right")
    table.add_column("embedding")
    for row in rows:
        first = " ".join(f"{v:+.4f}" for v in row["embedding"][:_SHOWN])
        more = len(row["embedding"]) - _SHOWN
        table.add_row(cell(row["model"]), f"{row['parameter_edges']:,}", first + (f" … {more} more" * (more > 0)))
    output().print(table)
