"""Damaged ONNX files: networks that hold everything, with bytes or fields changed, and a process to try them.

`PYTHONPATH=tests python -m support.hostile 20000` tries that many and prints what went wrong; `1 --first 137
--keep FILE` in place of the number replays one and keeps its file. Case n is the same every time.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import os
import random
import re
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from support.enlarging import enlarged
from support.paths import EXAMPLES

__all__ = [
    "BYTES", "MEMORY", "SECONDS", "Outcome", "attempt", "case", "judged", "mutated", "resident", "seeds", "supervised",
    "tried",
]  # fmt: skip

Files = Callable[[int], bytes]
Commands = Sequence[Sequence[str]]

SECONDS, MEMORY = 10.0, 2 << 30
"""What one file may take: seconds of processor time, and bytes of memory at most in the process that reads it."""
_KINDS = (
    "Conv", "BatchNormalization", "LSTM", "GRU", "Loop", "Scan", "If", "SequenceMap", "Attention", "Einsum", "Resize",
    "TreeEnsembleRegressor", "QLinearConv", "DequantizeBits", "DequantizeLinear", "Gather", "Reshape", "Where",
)  # fmt: skip
_NUMBERS = (0, 1, -1, 2, 3, 7, 127, 2**31 - 1, -(2**31), 2**31, 10**9, 2**62, 2**63 - 1, -(2**63))
_FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 3.4e38, float("inf"), float("-inf"), float("nan"))
_TEXTS = (
    b"", b"x", b"y", b"\xff\xfe", b"a" * 5000, b"../../etc/passwd", b"Loop", b"If", b"Add", b"", b"ai.onnx.ml",
    b"\x1b[2J", b"a\x00b", b"\xc2\x9b31m", b"\xe2\x80\xaex", b"\xef\xbf\xbe", b"$x^$", b"...", b"ij,jk->ik", b"->",
)  # fmt: skip
_COMMANDS = (("compile", "--json"),)
# What may be printed: text and newlines. Everything else steers a terminal.
_STEERING = re.compile("[^\n -~\u00a1-\u200a\u2010-\u2027\u2030-\u205f\u2070-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Outcome:
    """What reading one file came to. problem: empty if it went as it must."""

    number: int
    problem: str


def seeds() -> dict[str, bytes]:
    """Networks, twenty or more, that hold, between them, every kind of node, body, weight and storage."""
    from support.cases import CASES, build
    from support.sparse_networks import network

    found = {f"example-{p.stem}": p.read_bytes() for p in sorted(EXAMPLES.glob("*.onnx"))}
    found["sparse"] = network("weight", "sparse").SerializeToString()
    found["sparse-constant"] = network("weight", "constant").SerializeToString()
    for kind in _KINDS:
        chosen = next(c for c in CASES if c.op == kind)
        found[chosen.id] = build(chosen).SerializeToString()
    return found


def case(number: int, given: dict[str, bytes]) -> bytes:
    """The damaged file of that number: its seed in turn, one to four changes."""
    rng = random.Random(number)
    names = sorted(given)
    data = given[names[number % len(names)]]
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = mutated(data, rng)
    return data


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One change, of bytes or of a field of the model where it is still one."""
    if rng.random() < 0.35:
        return rng.choice(BYTES)(bytearray(data), rng)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        return rng.choice(BYTES)(bytearray(data), rng)
    if rng.random() < 0.2 and len(model.graph.node):
        enlarged(model, rng)
        return model.SerializeToString()
    fields = list(_fields(model))
    if not fields:
        return rng.choice(BYTES)(bytearray(data), rng)
    _change(*rng.choice(fields), rng)
    return model.SerializeToString()


def _flip(data: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 1, 4, 32))):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _cut(data: bytearray, rng: random.Random) -> bytes:
    return bytes(data[: rng.randrange(len(data) + 1)])


def _drop(data: bytearray, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return bytes(data[:at] + data[at + rng.randrange(1, 40) :])


def _repeat(data: bytearray, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    part = data[at : at + rng.randrange(1, 200)]
    return bytes(data[:at] + part * rng.choice((2, 3, 100)) + data[at + len(part) :])


def _overwrite(data: bytearray, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return bytes(data[:at] + rng.choice((b"\xff" * 10, b"\x00" * 8, b"\x80" * 9 + b"\x01")) + data[at + 8 :])


BYTES: tuple[Callable[[bytearray, random.Random], bytes], ...] = (_flip, _cut, _drop, _repeat, _overwrite)


def _fields(message: Message) -> Iterator[tuple[Message, FieldDescriptor]]:
    """Every field that is set, of every message within."""
    for field, value in message.ListFields():
        yield message, field
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in value if field.is_repeated else [value]:
                yield from _fields(inner)


def _change(message: Message, field: FieldDescriptor, rng: random.Random) -> None:
    if field.is_repeated:
        _change_list(getattr(message, field.name), field, rng)
    elif rng.random() < 0.2:
        message.ClearField(field.name)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        for inner in rng.choices(list(_fields(getattr(message, field.name))) or [(message, field)], k=1):
            if inner[1] is not field:
                _change(*inner, rng)
            else:
                message.ClearField(field.name)
    else:
        setattr(message, field.name, _value(getattr(message, field.name), field, rng))


def _change_list(values: Any, field: FieldDescriptor, rng: random.Random) -> None:
    if not len(values):
        return
    at, other = rng.randrange(len(values)), rng.randrange(len(values))
    action = rng.choice(("drop", "repeat", "swap", "value", "value", "many"))
    if action == "drop":
        del values[at]
    elif action == "swap":
        order = list(range(len(values)))
        order[at], order[other] = other, at
        kept = [values[i] for i in order]
        kept = [type(v).FromString(v.SerializeToString()) if isinstance(v, Message) else v for v in kept]
        del values[:]
        values.extend(kept)
    elif action in ("repeat", "many"):
        values.extend([values[at]] * (1 if action == "repeat" else rng.choice((3, 50))))
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        inner = list(_fields(values[at]))
        if inner:
            _change(*rng.choice(inner), rng)
    else:
        values[at] = _value(values[at], field, rng)


def _value(old: Any, field: FieldDescriptor, rng: random.Random) -> Any:
    if isinstance(old, bytes):
        return rng.choice((_flip, _cut, _drop, lambda d, r: b"", lambda d, r: bytes(d) * 3))(bytearray(old), rng)
    if isinstance(old, str):
        return rng.choice((*_TEXTS, old.encode() + b"_")).decode("utf-8", "replace")
    if isinstance(old, float):
        return rng.choice(_FLOATS)
    if field.enum_type is not None:
        return rng.choice([v.number for v in field.enum_type.values])
    narrow = field.type in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_UINT32)
    new = rng.choice((*_NUMBERS, old + 1, old - 1))
    if field.type in (FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_UINT64):
        new = abs(new)
    return max(-(2**31), min(new, 2**31 - 1)) if narrow else max(-(2**63), min(new, 2**63 - 1))


def _serve(files: Files, commands: Commands, pipe: Connection, numbers: range) -> None:
    """Try each file as a user would, in one process."""
    from typer.testing import CliRunner

    from gmnc.cli import app

    before = resident()
    resource.setrlimit(resource.RLIMIT_DATA, (before + 4 * MEMORY, before + 4 * MEMORY))
    runner = CliRunner()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        for number in numbers:
            path.write_bytes(files(number))
            pipe.send((number, None))
            problems = []
            for name, *options in commands:
                start = time.process_time()
                picture = ["-o", str(Path(folder) / "picture.svg")] if name == "draw" else []
                result = runner.invoke(app, [name, str(path), *options, *picture])
                problems.append(judged(result, before, time.process_time() - start))
            pipe.send((number, next((p for p in problems if p), "")))


def judged(result: Any, before: int, seconds: float, codes: tuple[int, ...] = (0, 2)) -> str:
    """What is wrong with how the command ended."""
    if result.exit_code not in codes or "internal error" in result.stderr:
        return f"exit code {result.exit_code}: {result.stderr.strip()[:300] or result.exception!r}"
    if result.exit_code == 2 and not (result.stderr + result.stdout).strip():
        return "exit code 2 without a message"
    if "Traceback" in result.stderr:
        return f"a traceback: {result.stderr.strip()[-300:]}"
    if steering := _STEERING.search(result.stdout + result.stderr):
        return f"it printed {steering.group()!r}"
    if seconds > SECONDS:
        return f"{seconds:.0f} s of processor time"
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    return f"{taken / 2**30:.1f} GiB of memory" if taken > MEMORY else ""


def resident() -> int:
    """Bytes of memory of this process, which starts with those of the one that it was forked from."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def attempt(first: int, count: int) -> Iterator[Outcome]:
    """Try the cases from `first` on."""
    given = seeds()
    return tried(lambda number: case(number, given), first, count)


def tried(files: Files, first: int, count: int, commands: Commands = _COMMANDS) -> Iterator[Outcome]:
    """Try files by their numbers with each command; a process that hangs or dies is replaced by another."""
    return supervised(partial(_serve, files, commands), first, count, SECONDS * len(commands))


def supervised(
    serve: Callable[[Connection, range], None], first: int, count: int, patience: float = SECONDS
) -> Iterator[Outcome]:
    """Try cases by their numbers in a process, which is replaced by another if it hangs or dies.

    serve: sends the number of each case before it tries it, and after it with what went wrong. patience: seconds of
    processor time for one case.
    """
    end = first + count
    while first < end:
        ours, theirs = mp.Pipe(duplex=False)
        process = mp.get_context("fork").Process(target=serve, args=(theirs, range(first, end)), daemon=True)
        process.start()
        theirs.close()
        problem = ""
        while first < end and not problem:
            try:
                # The first answer waits for imports as well.
                if not _answers(ours, process.pid or 0, SECONDS * 3):
                    problem = f"no answer in {SECONDS * 3:.0f} s of processor time"
                    break
                number, said = ours.recv()
            except EOFError:
                problem = f"the process died (exit code {process.exitcode})"
                break
            if said is None:
                if not _answers(ours, process.pid or 0, patience):
                    problem = f"no answer in {patience:.0f} s of processor time"
                continue
            problem = said
            if not said:
                yield Outcome(number, "")
                first = number + 1
        process.kill()
        process.join()
        if problem:
            yield Outcome(first, problem)
            first += 1


def _answers(pipe: Connection, process: int, seconds: float) -> bool:
    """Whether an answer comes before a process has had so many seconds of a processor, or 20 times as many pass."""
    start, until = _taken(process), time.monotonic() + 20 * seconds
    while not pipe.poll(0.5):
        if _taken(process) - start > seconds or time.monotonic() > until:
            return pipe.poll()
    return True


def _taken(process: int) -> float:
    """Seconds of processor time of a process."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="write the file of the first case here")
    options = parser.parse_args()
    if options.keep:
        options.keep.write_bytes(case(options.first, seeds()))
    failed = 0
    for outcome in attempt(options.first, options.count):
        if outcome.problem:
            failed += 1
            print(f"{outcome.number}: {outcome.problem}", flush=True)
    print(f"{options.count} files, {failed} problems")


if __name__ == "__main__":
    main()
