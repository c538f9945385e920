"""The benchmark of kernels runs from a checkout that is not installed, with few other packages, and finds errors."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from support.kernel_cases import layout, terms
from support.paths import BENCHMARKS

import gmnc
from gmnc.backends.blocks import blocks
from gmnc.kernels import Layout, edge_update
from gmnc.kernels.update import _DIFFERENTIABLE
from gmnc.metanets import GMN
from gmnc.testing import build

sys.path.append(str(BENCHMARKS))

import message_passing
from exact import error_of_gradients, error_of_outputs, pieces
from layouts import NETWORKS

NEEDED = ("torch", "triton", "numpy", "onnx", "torch-geometric")

_ALONE = """
import json, runpy, sys
hidden, sys.argv = set(json.loads(sys.argv[1])), sys.argv[2:]

class Without:
    '''A finder that does not find what is hidden.'''
    def __init__(self, inner):
        self.inner = inner
    def find_spec(self, name, path=None, target=None):
        return None if path is None and name in hidden else self.inner.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.inner, name)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
for name in hidden:
    assert name not in sys.modules, name
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def needed() -> set[str]:
    """The distributions that `NEEDED` bring, by their normal names."""
    found: set[str] = set()
    queue = list(NEEDED)
    while queue:
        name = re.sub(r"[-_.]+", "-", queue.pop()).lower()
        if name in found:
            continue
        found.add(name)
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        wanted = map(Requirement, requirements)
        queue += [r.name for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


def alone(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a benchmark where gmnc is not installed, and nothing is but `NEEDED` and what that brings."""
    kept = needed()
    hidden = {"gmnc"} | {
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if not any(re.sub(r"[-_.]+", "-", owner).lower() in kept for owner in owners)
    }
    hidden = {name for name in hidden if not name.startswith(("_", "~")) and name != "setuptools"}
    command = [sys.executable, "-c", _ALONE, json.dumps(sorted(hidden)), str(BENCHMARKS / script)]
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, cwd="/", check=False)


@pytest.mark.full
def test_runs_from_a_checkout_with_few_packages(tmp_path: Path) -> None:
    table = tmp_path / "out.csv"
    options = ("--device", "cpu", "--net", "tiny", "--width", 8, "--repeats", 1, "--csv", table)
    result = alone("message_passing.py", *options, "--against", "pyg,reference")
    assert result.returncode == 0, result.stderr
    assert "auto against pyg: forward " in result.stdout
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    assert [row["contender"] for row in rows] == ["auto", "pyg", "reference"]
    for row in rows:
        assert (row["net"], row["width"], row["torch"]) == ("tiny", "8", importlib.metadata.version("torch"))
        assert row["device"]
        assert float(row["error"]) < 1e-5
        assert float(row["error_grad"]) < 1e-5
        assert float(row["forward_ms"]) > 0


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("--against magic", "--against magic"),
        ("--against graph", "needs a GPU"),
        ("--against flat --csv {other}", "other columns"),
    ],
)
def test_bad_usage_is_exit_code_2_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: str, complaint: str
) -> None:
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n", encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["message_passing.py", "--device", "cpu", *given.format(other=other).split()])
    with pytest.raises(SystemExit) as stopped:
        message_passing.main()
    assert stopped.value.code == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert complaint in found.err


@pytest.mark.full
def test_a_contender_that_fails_is_a_row_that_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are measured all the same; a wrong kernel is exit code 1."""

    def fails(where: Layout) -> None:
        raise torch.OutOfMemoryError("too large")

    monkeypatch.setattr(message_passing, "gathered", fails)
    others = {name: kernel for name, kernel in _DIFFERENTIABLE.items() if name != "scatter"}
    monkeypatch.setattr("gmnc.kernels.update._DIFFERENTIABLE", others)
    command = "message_passing.py --device cpu --net tiny --width 4 --against pyg,scatter,flat"
    monkeypatch.setattr("sys.argv", command.split())
    assert message_passing.main() == 0
    found = capsys.readouterr().out
    assert "pyg failed: OutOfMemoryError: too large" in found
    assert "scatter failed: ValueError: unknown kernel 'scatter'" in found
    assert "auto against flat: forward" in found
    monkeypatch.setattr(message_passing, "fused", lambda *_: lambda e, terms: (e * 2, terms.dst * 1, terms.src * 1))
    assert message_passing.main() == 1
    assert "auto is wrong" in capsys.readouterr().err


@pytest.mark.parametrize("limit", [1, 30, 10**6])
def test_errors_are_found_in_pieces(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exact.pieces", lambda where: pieces(where, limit))
    where = layout([(1, 5, 7, 1), (7, 1, 1, 1), (2, 0, 3, 1), (1, 3, 5, 2), (4, 3, 2, 9)], 19, 5)[0].dense
    e = torch.randn(where.edges, 4, dtype=torch.float64, requires_grad=True)
    given = terms(19, 5, 4, 4, 4, torch.float64)
    plain = torch.ones(len(where.blocks), 2)
    where.scale.copy_(plain)
    outputs = edge_update(e, given, where, residual=True, kernel="reference")
    weights = tuple(torch.randn_like(t) for t in outputs)
    gradients = torch.autograd.grad(outputs, [e, *given], weights)
    assert error_of_outputs(outputs, e, given, where) < 1e-12
    assert error_of_gradients(gradients, weights, e, given, where) < 1e-12
    for i in range(len(outputs)):
        wrong = [t.detach().clone() for t in outputs]
        wrong[i].view(-1)[-1] += wrong[i].abs().max()
        assert error_of_outputs(tuple(wrong), e, given, where) > 1e-2
    for i in range(len(gradients)):
        wrong = [t.detach().clone() for t in gradients]
        wrong[i].view(-1)[0] += wrong[i].abs().max()
        assert error_of_gradients(tuple(wrong), weights, e, given, where) > 1e-2


def tune(monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
    from tune import main

    command = "tune.py --net tiny --width 8 --dtype fp32 --columns 16 --rows 4 --warps 4 --repeats 1 --device cpu"
    monkeypatch.setattr("sys.argv", [*command.split(), *more])
    return main()


@pytest.mark.skipif(not find_spec("triton"), reason="no triton")
def test_tuning_prints_the_row_of_the_fastest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from gmnc.kernels import triton
    from gmnc.kernels.schedule import Geometry

    before = dict(triton.TUNING)
    seconds = [0.009, 0.007, 0.002, 0.003]

    def clock(work: Callable[[], None], *_: object) -> float:
        if len(seconds) % 2 == 0:
            # The first of each direction; in the interpreter it takes seconds.
            work()
        return seconds.pop()

    monkeypatch.setattr("tune.median_time", clock)
    assert tune(monkeypatch, "--stages", "1,2") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    (found,) = eval("{" + last + "}", vars(triton)).items()
    assert found == (("float32", 16), triton.Tuning(Geometry(16, 4, 64), (4, 2), (4, 1)))
    assert before == triton.TUNING


@pytest.mark.skipif(not find_spec("triton"), reason="no triton")
def test_tuning_goes_on_where_a_configuration_does_not_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def clock(work: Callable[[], None], *_: object) -> float:
        raise RuntimeError("out of resource: shared memory")

    monkeypatch.setattr("tune.median_time", clock)
    assert tune(monkeypatch, "--stages", "1") == 1
    assert "out of resource: shared memory" in capsys.readouterr().err


@pytest.mark.full
@pytest.mark.skipif(not find_spec("triton"), reason="no triton")
def test_programs_compile_for_a_gpu_that_is_not_there() -> None:
    """All that a layer launches, within the shared memory of an H100, and next to nothing spilled in bfloat16."""
    command = [sys.executable, str(BENCHMARKS / "resources.py"), "--dtype", "bf16", "--width", "64"]
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/", check=False)
    assert result.returncode == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()[1:]]
    programs = ["forward_dense", "forward_flat", "add_up", "backward_dense", "backward_flat"]
    assert [row[:2] for row in rows] == [[states, name] for states in ("1", "64") for name in programs]
    assert max(int(row[3]) for row in rows) <= 64


def test_networks_have_the_parameters_of_their_names() -> None:
    """Parameters by torchvision and by transformers, plus the running statistics, one edge each, and links."""
    edges = {name: NETWORKS[name]().edges for name in ("small", "resnet18", "resnet50")}
    assert 1_000_000 < edges["small"] < 1_100_000
    for name, parameters in (("resnet18", 11_689_512), ("resnet50", 25_557_032)):
        assert parameters < edges[name] < 1.01 * parameters


@pytest.mark.full
def test_streaming_measures_less_than_the_states_of_all_edges() -> None:
    from streaming import measured

    text = "(float[1, 512] x) => (float[1, 512] y) { a = MatMul(x, w) r = Relu(a) y = MatMul(r, v) }"
    given = blocks(gmnc.compile(build(text, {"w": (512, 512), "v": (512, 512)})))
    state = given.num_edges * 64 * 4
    streamed, whole = (GMN(hidden_channels=64, num_layers=2, edge_chunk=chunk) for chunk in (2**14, 0))
    measured(streamed, given, backward=True)
    seconds, memory = measured(streamed, given, backward=True)
    assert seconds > 0
    assert memory < 0.5 * state
    assert measured(whole, given, backward=True)[1] > state
