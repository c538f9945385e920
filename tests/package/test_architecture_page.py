"""The section of docs/networks.md about public packages is written row by row, and the rest of the page stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.architectures import ARCHITECTURES, KNOWN, page


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "networks.md"
    path.write_text("# Networks\n\n| name | size |\n|---|---|\n| gcn | 1 |\n", encoding="utf-8")
    monkeypatch.setattr(page, "DOCS", path)
    return path


def test_rows_replace_earlier_ones_and_reasons_in_a_fixed_order(docs: Path) -> None:
    before = docs.read_text(encoding="utf-8")
    page.write({"sage": "| sage | old |"}, {"gcn": "PyG is not installed"})
    page.write({"gcn": "| gcn | new |"}, {})
    page.write({"sage": "| sage | new |"}, {"gin": "no time"})
    text = docs.read_text(encoding="utf-8")
    assert text.startswith(before)
    rows = [line for line in page.section().splitlines() if line.startswith(("| gcn", "| sage", "- "))]
    assert rows == ["| gcn | new |", "| sage | new |", "- gin: no time"]


def test_the_group_of_every_architecture_is_known() -> None:
    assert KNOWN.keys() == ARCHITECTURES.keys()
    assert len(ARCHITECTURES) > 100
