"""The tutorial and the example plug-in: every block is run, and the package is installed and used."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.paths import ROOT
from typer.testing import CliRunner

from gmnc.cli import app

PAGE = (ROOT / "docs" / "write-a-rule.md").read_text(encoding="utf-8")


class Block(NamedTuple):
    """A fenced block: its language, what else stands behind the fence, its text."""

    language: str
    note: str
    text: str


def blocks() -> list[Block]:
    return [Block(*found) for found in re.findall(r"^```(\w+) ?(.*)\n((?:.*\n)*?)```$", PAGE, re.MULTILINE)]


def session(text: str) -> list[tuple[list[str], list[str]]]:
    """Commands of a console block, each with the parts of its output that are shown."""
    found: list[tuple[list[str], list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((shlex.split(line[2:]), []))
        else:
            found[-1][1].append(line)
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the example is installed, without a network."""
    pytest.importorskip("setuptools", minversion="77", reason="building a wheel without a network needs setuptools>=77")
    folder = tmp_path_factory.mktemp("plugin")
    source, target = folder / "source", folder / "site"
    shutil.copytree(
        ROOT / "examples" / "plugin", source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    )
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*install, "--target", target, source], check=True, capture_output=True)
    return target


def run(site: Path, cwd: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python with the installed example on its path."""
    path = os.pathsep.join([str(site), *([p] if (p := os.environ.get("PYTHONPATH")) else [])])
    variables = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200", **environment}
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=variables, capture_output=True, text=True)


def test_the_page_has_blocks_of_every_kind() -> None:
    assert len([b for b in blocks() if b.language == "python" and not b.note]) >= 5
    assert {(b.language, b.note.split("/")[0]) for b in blocks()} == {
        ("python", ""), ("python", "examples"), ("toml", "examples"), ("console", ""), ("console", "installed"),
    }  # fmt: skip


def test_every_block_runs_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # The page begins where nobody has a rule, though the example may be installed.
    monkeypatch.setenv("GMNC_PLUGINS", "0")
    names: dict[str, Any] = {}
    for block in blocks():
        if block.note:
            continue
        if block.language == "python":
            exec(compile(block.text, "write-a-rule.md", "exec"), names)
            continue
        for (command, *arguments), shown in session(block.text):
            assert command == "gmnc"
            result = CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments)
            assert result.exit_code == (2 if arguments[0] == "check" else 0)
            for part in shown:
                assert part in result.stdout


@pytest.mark.parametrize("block", [b for b in blocks() if b.note.startswith("examples/")], ids=lambda b: b.note)
def test_files_are_shown_as_they_are(block: Block) -> None:
    file = (ROOT / block.note).read_text(encoding="utf-8")
    for paragraph in block.text.strip().split("\n\n\n"):
        assert paragraph in file


@pytest.mark.full
def test_the_installed_example_is_used(site: Path, tmp_path: Path) -> None:
    model = next(b.text for b in blocks() if "onnx.save" in b.text)
    assert run(site, tmp_path, "-c", model).returncode == 0
    main = ("-c", "from gmnc.cli import main; main()")
    for (_, *arguments), shown in session(next(b.text for b in blocks() if b.note == "installed")):
        done = run(site, tmp_path, *main, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
        for part in shown:
            assert part in done.stdout
    assert run(site, tmp_path, *main, "check", "rbf.onnx", GMNC_PLUGINS="0").returncode == 2


@pytest.mark.full
def test_the_tests_of_the_example_pass(site: Path, tmp_path: Path) -> None:
    tests = shutil.copytree(ROOT / "examples" / "plugin" / "tests", tmp_path / "tests")
    done = run(site, tmp_path, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(tmp_path), str(tests))
    assert done.returncode == 0, done.stdout + done.stderr
