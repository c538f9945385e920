"""What the command does where its streams are closed, full or of few characters, and with numbers that are none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.paths import MLP

from gmnc.testing import build
from gmnc.testing.processes import ChildProcess, NotRunnable
from gmnc.testing.verification import verify

CODE = "from gmnc.cli import main; main()"
full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is of Linux alone")


def ran(*arguments: object, shell: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """The command; shell: redirections behind it."""
    command = [sys.executable, "-c", CODE, *map(str, arguments)]
    if shell:
        command = ["bash", "-c", f'"$@" {shell}', "bash", *command]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **env})


@pytest.mark.full
def test_what_the_terminal_cannot_show_is_escaped(tmp_path: Path) -> None:
    model = build(
        "(float[2, 3] x) => (float[2, 4] y) { r = my.Riddle(x) y = MatMul(r, w) }", {"w": (3, 4)}, domains={"my": 1}
    )
    model.graph.input[0].name = model.graph.node[0].input[0] = "é→x"
    onnx.save_model(model, tmp_path / "net.onnx")
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for command, code in (("compile", 0), ("inspect", 0), ("check", 2)):
        found = ran(command, tmp_path / "net.onnx", **plain)
        assert found.returncode == code, found.stderr
        assert "internal error" not in found.stderr
    assert "\\u2192" in ran("inspect", tmp_path / "net.onnx", **plain).stdout


@pytest.mark.full
def test_closed_streams_change_no_exit_code() -> None:
    assert ran("compile", MLP, shell=">&-").returncode == 0
    assert ran("compile", "nowhere.onnx", shell="2>&-").returncode == 2
    assert ran("verify", MLP, shell="2>&-").returncode == 0


def test_a_pipe_that_nobody_reads_is_no_failed_check() -> None:
    found = ran("inspect", MLP, "--json", shell="| (exec <&-; sleep 1); exit ${PIPESTATUS[0]}")
    assert found.returncode == 141
    assert "Traceback" not in found.stderr


@full
def test_a_full_disk_behind_stdout_is_exit_code_2() -> None:
    for command in (["compile", MLP], ["verify", MLP, "--json"]):
        found = ran(*command, shell="> /dev/full")
        assert found.returncode == 2
        assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    "options",
    [("verify", "--timeout", "inf"), ("verify", "--timeout", "nan"), ("verify", "--timeout", "1e30"),
     ("embed", "--seed", str(2**64)), ("compile", "--dim", "x=" + "1" * 5000),
     ("compile", "--input", "x=" + "1" * 5000)],
    ids=lambda options: " ".join(options)[:20],
)  # fmt: skip
def test_numbers_that_are_none(options: tuple[str, ...]) -> None:
    found = ran(options[0], MLP, *options[1:])
    assert found.returncode == 2, found.stderr
    assert "internal error" not in found.stderr


@pytest.mark.full
def test_given_arrays_are_read_as_the_input_is_typed(tmp_path: Path) -> None:
    """Numbers in the other order of bytes are the same numbers; those of another kind are refused."""
    model = build("(float[1, 2] x) => (float[1, 3] y) { y = MatMul(x, w) }", {"w": (2, 3)})
    onnx.save_model(model, tmp_path / "net.onnx")
    for array in (np.array([[1, 2]], ">f4"), np.array([[1, 2]], np.float64), np.array([[1, 2]])):
        report = verify(model, inputs={"x": array}, timeout=60)
        assert (report.sound, report.reacting) == (True, 1)
    for array in (np.zeros((1, 2), "V8"), np.zeros((1, 2), np.complex64), np.array([["a", "b"]])):
        np.savez(tmp_path / "given.npz", x=array)
        found = ran("verify", tmp_path / "net.onnx", "--inputs", tmp_path / "given.npz")
        assert found.returncode == 2
        assert "input 'x' has dtype float32" in found.stderr


ENDLESS = """(float[2, 4] x) => (float[2, 4] h) {
    h = Loop(t, "", x) <body = b (int64 i, bool c, float[2, 4] v) => (bool d, float[2, 4] o) {
        d = Identity(c) p = MatMul(v, w) o = Tanh(p)
    }>
}"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks at processes where Linux lists them")
def test_a_killed_command_leaves_no_process_behind(tmp_path: Path) -> None:
    onnx.save_model(build(ENDLESS, {"w": (4, 4)}, {"t": [1_000_000_000]}), tmp_path / "net.onnx")
    command = [sys.executable, "-c", CODE, "verify", str(tmp_path / "net.onnx"), "--timeout", "100"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not (children := listed.read_text().split()):
        time.sleep(0.1)
    time.sleep(2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for _ in range(100):
        states = [p.read_text() for c in children if (p := Path(f"/proc/{c}/status")).exists()]
        if not any("State:\tR" in s or "State:\tS" in s for s in states):
            return
        time.sleep(0.1)
    pytest.fail("ONNX Runtime still runs")


def test_a_child_is_of_the_process_that_asks() -> None:
    child = ChildProcess(60, 0)
    with pytest.raises(NotRunnable):
        child.run(b"no model", [])
    child.close()
