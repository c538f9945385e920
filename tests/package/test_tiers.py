"""Tiers: every mark is declared, and CI runs each test, whatever its marks."""

from __future__ import annotations

import ast
import itertools
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.paths import ROOT, TESTS

SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
DECLARED = {re.split(r"[:(]", line)[0] for line in SETTINGS["markers"]}
TIERS = sorted(DECLARED - {"xdist_group"})
BUILT_IN = {"filterwarnings", "parametrize", "skip", "skipif", "usefixtures", "xfail"}


def marks(file: Path) -> Iterator[str]:
    """The names behind `pytest.mark` in a file."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == "mark":
            yield node.attr


def stages() -> list[list[str]]:
    """The arguments of each pytest that CI runs: the README's, and those of `.ci/run` itself."""
    readme, script = (
        (ROOT / "README.md").read_text(encoding="utf-8"),
        (ROOT / ".ci" / "run").read_text(encoding="utf-8"),
    )
    _, second = re.findall(r"^```bash setup$(.*?)^```$", readme, flags=re.MULTILINE | re.DOTALL)
    commands = [*second.split("&&"), *script.splitlines()]
    return [words[1:] for words in map(shlex.split, filter(_runs_pytest, commands))]


def _runs_pytest(command: str) -> bool:
    return command.strip().startswith(".venv/bin/pytest ")


def selected(options: list[str], folder: Path) -> set[str]:
    """The names of the tests of a folder that pytest runs with these options, under the settings of the project."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED), done.stdout + done.stderr
    return set(re.findall(r"::(test\w*)", done.stdout))


@pytest.fixture
def every_combination(tmp_path: Path) -> Path:
    """A project with the settings of this one and a test for every set of marks."""
    lines = ["import pytest"]
    for chosen in itertools.chain.from_iterable(itertools.combinations(TIERS, n) for n in range(len(TIERS) + 1)):
        lines += [f"@pytest.mark.{mark}" for mark in chosen]
        lines += [f"def {'_'.join(['test', *chosen])}(): pass"]
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_all.py").write_text("\n".join(lines))
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return tmp_path


def test_every_mark_is_declared() -> None:
    assert "--strict-markers" in shlex.split(SETTINGS["addopts"])
    used = {mark for file in TESTS.rglob("*.py") for mark in marks(file)} - BUILT_IN
    assert used == DECLARED


def test_ci_runs_every_tier_once(every_combination: Path) -> None:
    """What needs torch-scatter is skipped at first, and runs once more when that is installed."""
    plain, full, scatter = (selected(options, every_combination) for options in stages())
    assert {"test", "test_fuzz", "test_gpu"} <= plain
    assert not plain & full
    assert len(plain | full) == 2 ** len(TIERS)
    assert scatter == {name for name in plain | full if "scatter" in name}


def test_the_last_expression_counts(every_combination: Path) -> None:
    assert len(selected(["-m", "full or not full"], every_combination)) == 2 ** len(TIERS)
