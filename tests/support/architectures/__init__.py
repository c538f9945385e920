"""Tiny networks of the architectures that public packages have, and what is known of their symmetries.

`python -m support.architectures` measures them. The packages need not be installed: `why_not` says which is missing.
"""

from __future__ import annotations

import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch

from . import of_diffusers, of_perception, of_pyg, of_timm, of_torchvision, of_transformers
from .common import Architecture, perturb
from .known import KNOWN

__all__ = ["ARCHITECTURES", "FOLDER", "KNOWN", "exported", "why_not"]

ARCHITECTURES: dict[str, Architecture] = {}
for _part in (of_transformers, of_perception, of_diffusers, of_timm, of_torchvision, of_pyg):
    _twice = ARCHITECTURES.keys() & _part.ARCHITECTURES.keys()
    if _twice:
        raise ValueError(f"two architectures are called {sorted(_twice)}")
    ARCHITECTURES |= _part.ARCHITECTURES
FOLDER = Path(tempfile.gettempdir()) / "gmnc-architectures"
"""Where exported networks are kept. They depend on the versions of the packages: after an upgrade, remove it."""


def why_not(name: str) -> str | None:
    """Why an architecture cannot be made here; None if it can."""
    package = ARCHITECTURES[name].package
    return None if find_spec(package) else f"{package} is not installed"


def exported(name: str, folder: Path = FOLDER) -> Path:
    """The ONNX file of an architecture with random values, by torch's exporter; made once in each folder."""
    path = folder / f"{name}.onnx"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        module, inputs = ARCHITECTURES[name].make()
        perturb(module.eval())
        program = torch.onnx.export(module, inputs, dynamo=True, optimize=False, verbose=False)
    assert program is not None
    draft = path.with_suffix(".part")
    program.save(str(draft), external_data=False)
    draft.replace(path)
    return path
