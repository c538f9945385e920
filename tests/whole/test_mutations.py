"""Without any one of its rules the code fails a test: the table of `mutations`, carried out."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support import mutations
from support.mutations import MUTATIONS
from support.paths import ROOT, TESTS

BY_ASSERTION = ("call: AssertionError", "call: Failed: DID NOT RAISE", "call: GraphError: not an automorphism")


@pytest.fixture(scope="module")
def found() -> dict[str, tuple[int, str]]:
    """What pytest says of each mutation's test: exit status and failure."""
    done = subprocess.run(
        [sys.executable, "-m", "support.mutations", "--run"], cwd=TESTS, capture_output=True, text=True, check=True
    )
    return {key: (code, failure) for key, code, failure in map(json.loads, done.stdout.splitlines())}


@pytest.mark.full
@pytest.mark.xdist_group("mutations")
@pytest.mark.parametrize("key", MUTATIONS)
def test_the_test_fails_without_the_rule(key: str, found: dict[str, tuple[int, str]]) -> None:
    code, failure = found[key]
    assert code == pytest.ExitCode.TESTS_FAILED, f"{MUTATIONS[key].test} does not fail without the rule: {failure}"
    assert failure.startswith(BY_ASSERTION), failure


def test_the_page_is_up_to_date() -> None:
    page = ROOT / "docs" / "rules-matter.md"
    assert page.read_text() == mutations.table() + "\n"
