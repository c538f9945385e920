"""Every public name says what it takes, gives and raises."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import gmnc

from .test_faces import FACES


def public() -> Iterator[tuple[str, Any]]:
    """(name, object) of everything on the face of the package and of its rooms, submodules' names included."""
    seen: set[int] = set()
    for room in ("", *FACES):
        module = importlib.import_module(f"gmnc.{room}".rstrip("."))
        for name in module.__all__:
            found = getattr(module, name)
            inner = [(f"{name}.{n}", getattr(found, n)) for n in found.__all__] if inspect.ismodule(found) else []
            for label, thing in inner or [(name, found)]:
                if id(thing) not in seen and getattr(thing, "__module__", "").startswith("gmnc"):
                    seen.add(id(thing))
                    yield f"{room}.{label}".lstrip("."), thing


def functions(name: str, thing: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
    """A function, or the public methods that a class itself defines."""
    if inspect.isfunction(thing):
        yield name, thing
    elif inspect.isclass(thing):
        for attribute, value in vars(thing).items():
            method = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
            if inspect.isfunction(method) and not attribute.startswith("_"):
                yield f"{name}.{attribute}", method


def complaints(name: str, function: Callable[..., Any]) -> Iterator[str]:
    text = inspect.getdoc(function) or ""
    sections: dict[str, str] = {}
    for part in re.split(r"^(?=\S)", text, flags=re.MULTILINE):
        title, _, body = part.partition(":\n")
        sections |= {title: body} if title in ("Args", "Returns", "Yields", "Raises") else {}
    signature = inspect.signature(function)
    taken = [p for p in signature.parameters if p not in ("self", "cls")]
    missing = [p for p in taken if not re.search(rf"^\s+\*{{0,2}}{p}:", sections.get("Args", ""), flags=re.MULTILINE)]
    if missing:
        yield f"{name}: Args lacks {', '.join(missing)}"
    if (
        taken
        and signature.return_annotation not in (None, "None", "NoReturn")
        and not {"Returns", "Yields"} & set(sections)
    ):
        yield f"{name}: no Returns"
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    raised = {n.exc.func.id for n in ast.walk(tree) if isinstance(n, ast.Raise) and isinstance(n.exc, ast.Call)
              and isinstance(n.exc.func, ast.Name)}  # fmt: skip
    known = [r for r in sorted(raised) if hasattr(gmnc.ir, r) or hasattr(builtins, r)]
    lacking = [r for r in known if r not in sections.get("Raises", "")]
    if lacking:
        yield f"{name}: Raises lacks {', '.join(lacking)}"


NAMES = list(public())


def test_the_faces_are_read() -> None:
    assert {"compile", "ir.GraphBuilder", "backends.coo.node_features"} <= {name for name, _ in NAMES}


@pytest.mark.parametrize(("name", "thing"), NAMES, ids=[name for name, _ in NAMES])
def test_a_docstring_is_complete(name: str, thing: Any) -> None:
    assert inspect.getdoc(thing)
    assert [c for label, function in functions(name, thing) for c in complaints(label, function)] == []
