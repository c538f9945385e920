"""Damaged ONNX files that are chosen by the code they reach: the changes of `hostile.py`, guided by atheris.

    pip install atheris
    PYTHONPATH=tests python -m support.guided [--minutes 15] [--out DIR]

Files that reach new code are kept in DIR and changed further. Whatever raises something other than a refusal with a
message, takes more than 10 seconds or more memory than any before it and than 2 GB, is kept as DIR/fault-N.onnx and
printed, once for each place in the code; `gmnc compile` of it shows the fault. Exit code 1 if there were any.
"""

from __future__ import annotations

import argparse
import atexit
import os
import random
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path

import atheris
from support.hostile import MEMORY, SECONDS, mutated, seeds

with atheris.instrument_imports(include=["gmnc"], enable_loader_override=False):
    import gmnc
    import gmnc.frontend.check  # the rest is imported when it is first used
    from gmnc.ir import GmncError

    gmnc.frontend.installed()

__all__ = ["Search"]


class Search:
    """Lowers files and keeps those that show a fault. faults: the file of each, by what and where it is."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.faults: dict[str, Path] = {}
        self._most = MEMORY + _peak()

    def attempt(self, data: bytes) -> None:
        """Lower one file."""
        start = time.process_time()
        fault = _fault(data)
        if time.process_time() - start > SECONDS:
            fault = fault or f"{time.process_time() - start:.0f} seconds"
        if _peak() > self._most:
            self._most = _peak()
            fault = fault or f"{_peak() / 2**30:.1f} GB of memory"
        if fault and fault not in self.faults:
            path = self.out / f"fault-{len(self.faults)}.onnx"
            path.write_bytes(data)
            self.faults[fault] = path
            print(f"{path}: {fault}", flush=True)


def _fault(data: bytes) -> str:
    """What was raised and where, "" if nothing but a refusal."""
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(data)
        file.flush()
        try:
            gmnc.compile(file.name).check()
        except GmncError as error:
            return "" if str(error).strip() else "a refusal without a message"
        except Exception as error:  # whatever it is, it is what is looked for
            place = traceback.extract_tb(error.__traceback__)
            own = [frame for frame in place if "site-packages" not in frame.filename]
            return f"{type(error).__name__} at {own[-1].filename}:{own[-1].lineno}"
    return ""


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def changed(data: bytes, most: int, seed: int) -> bytes:
    """One change of a field or of bytes, as `hostile.py` makes them."""
    try:
        return mutated(data, random.Random(seed))[:most]
    except UnicodeDecodeError:  # a text in it that is none can't be changed as one
        return atheris.Mutate(data, most)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--out", type=Path, default=Path("guided"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, data in seeds().items():
        (options.out / f"seed-{name}").write_bytes(data)
    search = Search(options.out)
    flags = {"max_total_time": round(options.minutes * 60), "timeout": 10 * round(SECONDS), "rss_limit_mb": 0}
    flags |= {"max_len": 1 << 20, "artifact_prefix": f"{options.out}/"}
    atexit.register(lambda: os._exit(bool(search.faults)))
    atheris.Setup([sys.argv[0], *(f"-{f}={v}" for f, v in flags.items()), str(options.out)], search.attempt,
                  custom_mutator=changed)  # fmt: skip
    atheris.Fuzz()


if __name__ == "__main__":
    main()
