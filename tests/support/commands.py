"""The command line, called in this process."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner, Result

from gmnc.cli import app

__all__ = ["parsed", "refused", "run"]


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "200", "GMNC_DEBUG": ""}).invoke(app, [str(a) for a in arguments])


def parsed(*arguments: object) -> Any:
    """The JSON of a run, which is all that it prints on stdout."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def refused(done: Any, *says: str) -> None:
    """Assert that a run ended with exit code 2 and one line on stderr that says these things."""
    assert done.exit_code == 2, done.output
    for each in says:
        assert each in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
