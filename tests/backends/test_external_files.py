"""External data files: odd locations are refused, and none outside of the model's folder is read or written."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.external import external

import gmnc
from gmnc.backends.onnx import write
from gmnc.ir import GmncError, LoadError


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize(
    ("location", "entries", "says"),
    [
        ("s/../o.bin", {}, "outside of the model's folder"),
        ("w.bin\0", {}, "not a valid file name"),
        ("w.bin", {"offset": "1e3"}, "the offset of its external data is '1e3', not a number"),
        ("w.bin", {"offset": ""}, "not a number"),
        ("w.bin", {"length": "9" * 30}, "the length of its external data"),
    ],
)
def test_external_data_of_odd_places(location: str, entries: dict[str, str], says: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    path = external(tmp_path / "d", location, **entries)
    (tmp_path / "d" / "s").symlink_to(tmp_path / "elsewhere" / "deep")
    (tmp_path / "elsewhere" / "o.bin").write_bytes(bytes(24))
    (tmp_path / "d" / "o.bin").write_bytes(bytes(24))
    with pytest.raises(LoadError, match=says):
        gmnc.compile(path)


def test_write_back_copies_no_file_from_outside(tmp_path: Path) -> None:
    path = external(tmp_path / "d")
    (tmp_path / "secret").write_bytes(bytes(24))
    graph = gmnc.compile(path)
    (tmp_path / "d" / "w.bin").unlink()
    (tmp_path / "d" / "w.bin").symlink_to(tmp_path / "secret")
    (tmp_path / "to").mkdir()
    with pytest.raises(GmncError, match=r"w\.bin: the file changed"):
        write(graph, None, tmp_path / "to" / "m.onnx")
    assert names(tmp_path / "to") == []


def test_write_back_writes_no_file_outside(tmp_path: Path) -> None:
    path = external(tmp_path / "d", "s/w.bin")
    (tmp_path / "d" / "s").mkdir()
    (tmp_path / "d" / "w.bin").rename(tmp_path / "d" / "s" / "w.bin")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "s").symlink_to(tmp_path / "elsewhere")
    write(gmnc.compile(path), None, tmp_path / "to" / "m.onnx")
    assert names(tmp_path / "elsewhere") == []
    assert names(tmp_path / "to") == ["m.onnx", "m.onnx.data", "s"]
    graph = gmnc.compile(external(tmp_path / "flat"))
    (tmp_path / "to" / "w.bin").symlink_to(tmp_path / "elsewhere" / "new")
    write(graph, None, tmp_path / "to" / "n.onnx")
    assert names(tmp_path / "elsewhere") == []
