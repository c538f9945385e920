"""Arrays in .npz files that cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from support.commands import refused, run
from support.paths import MLP
from support.tiers import first


@pytest.mark.parametrize(
    "how", first(4, ["pipe", "checksum", "pickle", "cut", "large", "method", "encrypted", "array"])
)
def test_arrays_that_cannot_be_read_are_an_error(how: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, x=np.arange(100))
    data = path.read_bytes()
    central = data.rindex(b"PK\x01\x02")
    if how == "pipe":
        path.unlink()
        os.mkfifo(path)
    elif how == "large":
        np.savez_compressed(path, x=np.zeros(2**30 // 8 + 1))
    elif how == "array":
        np.save(path.open("wb"), np.arange(3))
    elif how == "pickle":
        np.savez(path, x=np.array([{}], dtype=object))
    else:
        # In the entry of the central directory: flags at byte 8, the method at 10.
        flags, method = (central + 8, b"\1"), (central + 10, b"\7")
        at, new = {"checksum": (300, b"\xff\xff"), "encrypted": flags, "method": method, "cut": (200, b"")}[how]
        path.write_bytes(data[:at] if how == "cut" else data[:at] + new + data[at + len(new) :])
    done = run("verify", MLP, "--inputs", path)
    refused(done, "x.npz: ")
