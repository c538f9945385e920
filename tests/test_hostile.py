"""Damaged files end with exit code 0 or 2 and a message, soon and in little memory.

`GMNC_HOSTILE=20000 pytest tests/test_hostile.py` tries so many; `python tests/hostile.py` replays one by its number.
"""

from __future__ import annotations

import os

from hostile import attempt, case, seeds

COUNT = int(os.environ.get("GMNC_HOSTILE", "0")) or 150


def test_damaged_files_are_errors_with_a_message() -> None:
    problems = [f"{o.number}: {o.problem}" for o in attempt(0, COUNT) if o.problem]
    assert not problems, "\n".join(problems)


def test_a_number_replays_its_file() -> None:
    given = seeds()
    assert len(given) == 22
    files = {number: case(number, given) for number in range(60)}
    assert files == {number: case(number, given) for number in range(60)}
    assert len(set(files.values()) - set(given.values())) > 50
