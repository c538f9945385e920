"""The package as a whole: what the wheel holds, which way imports point, which names are public."""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from pathlib import Path

import pytest
from support.paths import ROOT

import gmnc

NOT_SHIPPED = {"tests", "benchmarks", "docs", "examples", "build", "dist"}
MAY_IMPORT = {
    "ir": set(),
    "files": {"ir"},
    "symmetry": {"ir"},
    "frontend": {"ir", "files"},
    "kernels": set(),
    "backends": {"ir", "files", "kernels"},
    "metanets": {"ir", "files", "kernels", "backends"},
    "tasks": {"ir", "files", "symmetry", "kernels", "backends", "metanets", "frontend", ""},
    "testing": {"ir", "symmetry", "frontend", "backends"},
    "transforms": {"ir", "files", "symmetry", "frontend", "backends", "testing"},
    "cli": {
        "ir",
        "files",
        "symmetry",
        "kernels",
        "backends",
        "metanets",
        "frontend",
        "tasks",
        "testing",
        "transforms",
        "",
    },
}
FLOORS = (
    ("errors",),
    ("budget", "model"),
    ("reading", "primitives"),
    ("dialect",),
    ("context",),
    ("lowering", "tracing"),
    ("discovery",),
    ("rules",),
    ("inference",),
    ("rewriting", "lines"),
    ("plan", "entrywise", "calls"),
    ("interpret", "faults"),
    ("passes",),
    ("fold",),
    ("compile",),
    ("check", "torch", "ir_pass", "labelled"),
)
"""The front end's files and folders from the ground up; one of a floor imports only what lies below it."""
HEAVY = ("torch", "onnx", "onnx_ir", "numpy", "networkx", "torch_geometric", "matplotlib", "onnxruntime")


@cache
def shipped() -> list[Path]:
    """Every Python file of the package, relative to its root. A virtual environment may lie beside them."""
    found = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [f for f in folders if not f.startswith(".") and (Path(folder) != ROOT or f not in NOT_SHIPPED)]
        found += [(Path(folder) / name).relative_to(ROOT) for name in files if name.endswith(".py")]
    return sorted(found)


def imports(file: Path) -> set[str]:
    """Absolute names of the modules that a file imports, anywhere in it."""
    package = ["gmnc", *file.parent.parts]
    found = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {module} if node.module else {f"{module}.{alias.name}" for alias in node.names}
    return found


def test_every_package_of_the_tree_is_listed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {".".join(["gmnc", *p.parent.parts]) for p in shipped() if p.name == "__init__.py"}
    assert set(project["tool"]["setuptools"]["packages"]) == packages
    assert {".".join(["gmnc", *p.parent.parts]) for p in shipped()} == packages


def test_the_wheel_holds_the_tree(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77", reason="building a wheel without a network needs setuptools>=77")
    source = tmp_path / "checkout"
    skip = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build", "dist")
    shutil.copytree(ROOT, source, ignore=skip)
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        licences = [name for name in archive.namelist() if name.endswith("/LICENSE")]
    assert held == {f"gmnc/{p.as_posix()}" for p in shipped()} | {"gmnc/py.typed", "gmnc/tasks/predictor.safetensors"}
    assert len(licences) == 1


@pytest.mark.parametrize("file", [p for p in shipped() if len(p.parts) > 1], ids=str)
def test_rooms_import_only_downwards(file: Path) -> None:
    room = file.parts[0]
    own = {n for n in imports(file) if n.split(".")[0] == "gmnc"}
    rooms = {n.split(".")[1] if "." in n else "" for n in own}
    rooms = {r if (ROOT / r).is_dir() else "" for r in rooms if r != "_lazy"}
    assert rooms <= MAY_IMPORT[room] | {room}
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    absolute = [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and not n.level]
    assert not [m for m in absolute if m and m.split(".")[0] == "gmnc"], "import within the package is relative"


def test_the_floors_of_the_front_end_import_only_downwards() -> None:
    floor = {name: level for level, names in enumerate(FLOORS) for name in names}
    files = [p for p in shipped() if p.parts[0] == "frontend" and len(p.parts) > 1 and p.name != "__init__.py"]
    assert {p.parts[1].removesuffix(".py") for p in files} == set(floor)
    wrong = []
    for file in files:
        own = file.parts[1].removesuffix(".py")
        for name in imports(file):
            parts = name.split(".")
            if parts[:2] == ["gmnc", "frontend"]:
                other = parts[2] if len(parts) > 2 else ""
                if other != own and not floor.get(other, len(FLOORS)) < floor[own]:
                    wrong.append(f"{file} imports {name}")
    assert not wrong


@pytest.mark.parametrize(
    ("room", "barred"),
    [
        ("ir", {"onnx", "onnx_ir", "torch", "onnxruntime", "torch_geometric"}),
        ("symmetry", {"onnx", "onnx_ir", "torch", "onnxruntime", "torch_geometric"}),
        ("frontend", {"torch_geometric", "networkx", "safetensors"}),
        ("kernels", {"onnx", "onnx_ir", "onnxruntime"}),
    ],
)
def test_rooms_do_not_know_the_libraries_of_others(room: str, barred: set[str]) -> None:
    for file in shipped():
        if file.parts[0] == room:
            assert not {n.split(".")[0] for n in imports(file)} & barred, file


@pytest.mark.parametrize("name", ["gmnc", "gmnc.testing"])
def test_importing_loads_nothing_heavy(name: str) -> None:
    code = f"import {name}, sys; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_the_testing_kit_loads_no_torch() -> None:
    code = "import sys; from gmnc.testing import *; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False"]


EVERYDAY = [
    "GMN", "Blocks", "GmncError", "LowerToParameterGraph", "ParameterGraph", "Symmetries",
    "align", "batch", "blocks", "compile", "coo", "diff", "draw", "fingerprint", "from_torch", "isomorphic", "load",
    "load_values", "merge", "networkx", "prune", "save", "save_values", "scramble", "symmetries", "verify", "write",
]  # fmt: skip


def test_the_public_names_of_the_package_are_pinned() -> None:
    assert gmnc.__all__ == EVERYDAY
    for name in gmnc.__all__:
        assert getattr(gmnc, name) is not None
    assert dir(gmnc) == sorted([*EVERYDAY, *MAY_IMPORT, "passes"])
    for room in MAY_IMPORT:
        assert getattr(gmnc, room).__name__ == f"gmnc.{room}"


def modules() -> list[str]:
    """Every module of the package by name."""
    rooms = [p for p in MAY_IMPORT if (ROOT / p).is_dir()]
    packages = [str(ROOT / room) for room in rooms]
    deep = [m.name for room, path in zip(rooms, packages, strict=True)
            for m in pkgutil.walk_packages([path], prefix=f"gmnc.{room}.")]  # fmt: skip
    return [*(f"gmnc.{room}" for room in rooms), *deep]


def is_rule(definition: ast.FunctionDef | ast.ClassDef) -> bool:
    """Whether it is a lowering rule, which is reached through the registry and by no name."""
    calls = [d.func for d in definition.decorator_list if isinstance(d, ast.Call)]
    return any(isinstance(c, ast.Name) and c.id in ("rule", "internal_rule") for c in calls)


@pytest.mark.parametrize("name", modules())
def test_public_names_are_declared(name: str) -> None:
    if name.endswith(".pyg"):
        pytest.importorskip("torch_geometric", reason="the one module that needs PyG")
    module = importlib.import_module(name)
    declared = module.__all__
    assert list(declared) == sorted(set(declared), key=lambda n: (not n.isupper(), n[0].islower(), n))
    for public in declared:
        assert hasattr(module, public), f"{name}.{public} is declared and not there"
    made_here = {
        n.name
        for n in ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8")).body
        if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and not n.name.startswith("_") and not is_rule(n)
    }
    assert made_here <= set(declared), f"{name} has undeclared public names"
