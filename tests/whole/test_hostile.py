"""Damaged files end with exit code 0 or 2 and a message, soon and in little memory.

`GMNC_HOSTILE=20000 pytest tests/whole/test_hostile.py` tries so many; `python -m support.hostile` in
`tests/` replays one by its number.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper
from support.bombs import bombs
from support.damaged import KINDS
from support.damaged import tried as damaged
from support.hostile import MEMORY, SECONDS, attempt, case, seeds, tried
from support.tiers import first

import gmnc
from gmnc.ir import LoadError
from gmnc.testing import build

GIVEN = int(os.environ.get("GMNC_HOSTILE", "0"))
COUNTS = [GIVEN] if GIVEN else first(1, [20, 150])


@pytest.mark.fuzz
@pytest.mark.parametrize("count", COUNTS)
def test_damaged_files_are_errors_with_a_message(count: int) -> None:
    problems = [f"{o.number}: {o.problem}" for o in attempt(0, count) if o.problem]
    assert not problems, "\n".join(problems)


# A small process in between, as the peak that is counted begins with that of the process that starts another.
_MEASURED = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as file:
    file.write(f"{used.ru_utime + used.ru_stime} {used.ru_maxrss}")
sys.exit(code)
"""


@pytest.mark.full
def test_small_files_that_ask_for_much_take_little() -> None:
    """With every command that reads a model; those for which other programs run are tested where these are."""
    made = bombs()
    names, commands = list(made), [["compile"], ["check"], ["inspect", "--json"], ["symmetries"], ["draw"]]
    outcomes = tried(lambda number: made[names[number]], 0, len(names), commands)
    problems = [f"{names[o.number]}: {o.problem}" for o in outcomes if o.problem]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    "name",
    first(1, ["ConstantOfShape 1e+09", "loop 1e+09", "endless loop 1e+06", "image 1e+09", "doubling Add x 3000"]),
)
def test_verify_of_small_files_that_ask_for_much_takes_little(name: str, tmp_path: Path) -> None:
    """Of the command and all that it starts."""
    path = tmp_path / "model.onnx"
    path.write_bytes(bombs()[name])
    command = [sys.executable, "-c", "from gmnc.cli import main; main()", "verify", path]
    report = tmp_path / "used"
    done = subprocess.run([sys.executable, "-c", _MEASURED, report, *command], capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert done.returncode in (0, 1, 2), said
    assert "Traceback" not in said
    seconds, kilobytes = (float(number) for number in report.read_text().split())
    assert seconds < SECONDS, said
    assert kilobytes * 1024 < MEMORY, said


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", KINDS if GIVEN else first(0, KINDS))
def test_damaged_files_of_other_kinds_are_errors_with_a_message(kind: str) -> None:
    """3,000 stores, and 500 each of the others, for 20,000 models."""
    if kind != "stores":
        pytest.importorskip("pyarrow", reason="an extra of the experiments: pip install 'gmnc[tasks]'")
    count = (GIVEN or 150) // (7 if kind == "stores" else 40)
    problems = [f"{o.number}: {o.problem}" for o in damaged(kind, 0, count) if o.problem]
    assert not problems, "\n".join(problems)


def test_a_number_replays_its_file() -> None:
    given = seeds()
    assert len(given) == 22
    files = {number: case(number, given) for number in range(60)}
    assert files == {number: case(number, given) for number in range(60)}
    assert len(set(files.values()) - set(given.values())) > 50


def unchecked(text: str, imports: str, **tensors: np.ndarray) -> onnx.ModelProto:
    """A network that ONNX's checker would refuse."""
    model = onnx.parser.parse_model(f"<ir_version: 9, opset_import: [{imports}]> g {text}")
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in tensors.items())
    return model


def test_a_weight_that_is_computed_from_the_input_is_opaque() -> None:
    """The scale of a packed weight is the input: nothing stands behind it that could be folded."""
    text = """(float[1, 20] a, float[6, 1] x) => (float[1, 6] y) {
        y = com.microsoft.MatMulNBits<K = 20, N = 6, bits = 4, block_size = 32>(a, v, x)
    }"""
    model = unchecked(text, '"": 20, "com.microsoft": 1', v=np.ones((6, 1, 16), np.uint8))
    graph = gmnc.compile(model)
    assert [o.op for o in graph.opaque] == ["DequantizeBits"]
    assert "'x' is used as a weight" in graph.opaque[0].reason


@pytest.mark.parametrize("shape", ["1000000000, 5", ", ".join(["4"] * 40)], ids=["a billion rows", "40 axes"])
def test_what_a_file_says_of_the_shapes_of_unknown_results_may_be_absurd(shape: str) -> None:
    text = f"""(float[2, 5] x, bool c) => (float[2, 2] y) {{
        o = If(c) <
            then_branch = t () => (float[{shape}] u) {{ u = my.Riddle(x) }},
            else_branch = e () => (float[2, 5] v) {{ v = Relu(x) }}>
        y = MatMul(o, w)
    }}"""
    model = unchecked(text, '"": 20, "my": 1', w=np.ones((5, 2), np.float32))
    if shape.startswith("4"):
        with pytest.raises(LoadError, match="value 'u' has 40 axes"):
            gmnc.compile(model)
    else:
        assert "Riddle" in {o.op for o in gmnc.compile(model).opaque}


def test_an_unknown_operator_may_read_a_large_value_many_times() -> None:
    """Labels of all entries are held a few times, not once for each operand and axis."""
    operands = ", ".join(["x"] * 50)
    model = build(f"(float[8, 8, 8, 8, 8, 8] x) => (float[1] y) {{ y = my.Riddle({operands}) }}", {}, domains={"my": 1})
    gmnc.compile(model)
    tracemalloc.start()
    gmnc.compile(model)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * 8 * 8**6


def test_a_sequence_operator_of_a_later_opset_is_unknown() -> None:
    model = unchecked("(float[2, 5] x) => (float[2, 5] y) { s = SequenceConstruct(x) y = SequenceMap(s) }", '"": 9')
    assert "SequenceMap" in {o.op for o in gmnc.compile(model).opaque}
