"""Three ways from a torch module to ONNX, as users meet them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import onnx
import pytest
import torch
from support.networks import NETWORKS, VARIANTS
from torch import Tensor, nn

import gmnc
from gmnc.ir import ParameterGraph

How = Literal["dynamo", "dynamo-optimized", "torchscript"]
Compiled = Callable[..., ParameterGraph]
HOWS: tuple[How, ...] = get_args(How)
PLAIN: dict[str, How] = {"resnet": "dynamo", "vit": "dynamo", "llama": "dynamo"}
"""The networks, each by one exporter, that a plain run of the tests exports; `pytest -m full` has the others."""


def by_network(names: Iterable[str] = NETWORKS) -> list[Any]:
    """Values for `parametrize("name", ...)`, of networks that `dynamo` exports."""
    return [pytest.param(name, marks=marks(name, "dynamo")) for name in names]


def by_export(names: Iterable[str] = NETWORKS, hows: Iterable[How] = HOWS) -> list[Any]:
    """Values for `parametrize(("name", "how"), ...)`: each network through each exporter."""
    return [pytest.param(name, how, marks=marks(name, how)) for name in names for how in hows]


def marks(name: str, how: How) -> list[pytest.MarkDecorator]:
    """Whether a plain run exports it, and that one process makes all graphs of a network (`--dist loadgroup`)."""
    return [pytest.mark.xdist_group(name), *([] if PLAIN.get(name) == how else [pytest.mark.full])]


def export(
    module: nn.Module, inputs: tuple[Tensor, ...], how: How, opset: int | None = None, symbolic: bool = False
) -> onnx.ModelProto:
    """The module as ONNX. `opset` is the exporter's own default if not given.

    "dynamo": `dynamo=True, optimize=False`. "dynamo-optimized": with the onnxscript optimizer. "torchscript": the older
    exporter, told to leave BatchNorm and constants alone. symbolic: the first axis of the inputs is called `batch`.
    """
    with _quiet():
        if how == "torchscript":
            return _torchscript(module, inputs, opset, symbolic)
        program = torch.onnx.export(
            module, inputs, dynamo=True, optimize=how == "dynamo-optimized", opset_version=opset, verbose=False,
            dynamic_shapes=tuple({0: torch.export.Dim("batch")} for _ in inputs) if symbolic else None,
        )  # fmt: skip
    assert program is not None
    return program.model_proto


def exported(name: str, how: How, opset: int | None = None, batch: int | None = 1) -> onnx.ModelProto:
    """`export` of a network of the zoo or a variant, kept in a temporary folder of this state of the zoo.

    batch: how often the example is repeated along the batch; None makes the batch symbolic.
    """
    path = _folder() / f"{name}-{how}-{opset or 'default'}{'' if batch == 1 else f'-{batch}'}.onnx"
    if not path.exists():
        module, inputs = (NETWORKS | VARIANTS)[name]()
        # Exporters take a batch of 1 for a constant.
        inputs = tuple(torch.cat([x] * (batch or 3)) for x in inputs)
        draft = path.with_suffix(f".{os.getpid()}")
        draft.write_bytes(export(module, inputs, how, opset, batch is None).SerializeToString())
        draft.replace(path)
    return onnx.load(path)


@cache
def compiled(name: str, how: How = "dynamo", opset: int | None = None, batch: int | None = 1) -> ParameterGraph:
    """The graph of `exported`, made once in each process: nothing may be changed in it."""
    return gmnc.compile(exported(name, how, opset, batch))


def _torchscript(module: nn.Module, inputs: tuple[Tensor, ...], opset: int | None, symbolic: bool) -> onnx.ModelProto:
    names = [f"input{i}" for i in range(len(inputs))]
    axes = {"input_names": names, "dynamic_axes": {n: {0: "batch"} for n in names}} if symbolic else {}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.onnx")
        torch.onnx.export(
            module, inputs, path, dynamo=False, opset_version=opset or 17,
            training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False, **axes,
        )  # fmt: skip
        return onnx.load(path)


def _folder() -> Path:
    here = Path(__file__).parent
    state = hashlib.sha256(torch.__version__.encode())
    for path in sorted([here / "networks.py", here / "exports.py", *here.glob("zoo_*.py")]):
        state.update(path.read_bytes())
    folder = Path(tempfile.gettempdir()) / f"gmnc-exports-{state.hexdigest()[:16]}"
    folder.mkdir(exist_ok=True)
    return folder


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
