"""What the programs of the Triton kernel take of a GPU that need not be there: registers, spilled bytes, shared memory.

    python benchmarks/resources.py --dtype bf16 --width 64 --capability 90

Compiles what one layer launches, with the row of `TUNING` in kernels/triton.py that it takes. Exit code 1: a program
needs more shared memory than a GPU of that capability has.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import checkout  # noqa: F401
import torch
import triton
from layouts import NETWORKS
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction
from tune import DTYPES

from gmnc.kernels import Terms, edge_update

SHARED = {80: 163 << 10, 90: 227 << 10}
"""Bytes that a program may have, by compute capability (CUDA C++ Programming Guide, technical specifications)."""
_POINTERS = {
    torch.float64: "*fp64", torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16",
    torch.int64: "*i64", torch.int32: "*i32",
}  # fmt: skip


def launched(width: int, states: int, dtype: torch.dtype) -> dict[str, tuple[JITFunction, dict[str, Any]]]:
    """The programs of a forward and a backward pass, with arguments by name, instead of running them."""
    found: dict[str, tuple[JITFunction, dict[str, Any]]] = {}
    run = JITFunction.run

    def record(self: JITFunction, *args: Any, grid: object, warmup: bool, **options: Any) -> None:
        found.setdefault(self.__name__, (self, dict(zip(self.arg_names, args, strict=False)) | options))

    net = NETWORKS["small"]()
    e = torch.zeros(net.edges, states, dtype=dtype, requires_grad=True)
    shapes = [(net.nodes, width), (net.nodes, width), (net.types, width), (states, width), (width, width), (width,)]
    terms = Terms(*(torch.zeros(s, dtype=dtype, requires_grad=True) for s in shapes))
    JITFunction.run = record
    try:
        outputs = edge_update(e, terms, net.layout(), residual=states == width, kernel="triton")
        torch.autograd.grad(outputs, [e, *terms], [torch.zeros_like(t) for t in outputs])
    finally:
        JITFunction.run = run
    return found


def compiled(program: JITFunction, given: dict[str, Any], capability: int) -> Any:
    """As the launch would compile it: arguments are aligned, and 1 is a constant."""
    signature, constants, attributes = {}, {}, {}
    for place, name in enumerate(program.arg_names):
        value = given[name]
        if isinstance(value, torch.Tensor):
            signature[name], attributes[(place,)] = _POINTERS[value.dtype], [["tt.divisibility", 16]]
        elif program.params[place].is_constexpr or value == 1:
            signature[name], constants[name] = "constexpr", value
        else:
            signature[name] = "i32"
            if value % 16 == 0:
                attributes[(place,)] = [["tt.divisibility", 16]]
    options = {name: given[name] for name in ("num_warps", "num_stages") if name in given}
    source = ASTSource(program, signature, constants, attributes)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def usage(kernel: Any) -> tuple[int, int]:
    """Registers of a thread, and the bytes of it that are in memory instead."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        command = [str(tool), "--dump-resource-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = dict(re.findall(r"(REG|STACK):(\d+)", text))
    return int(found["REG"]), int(found["STACK"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--dtype", default="bf16", choices=DTYPES)
    parser.add_argument("--capability", type=int, default=90, choices=SHARED)
    options = parser.parse_args()
    if os.environ.get("TRITON_INTERPRET") == "1":
        parser.error("compiles, so it needs an environment without TRITON_INTERPRET=1")
    print(f"{'states':>8}  {'program':<16}{'registers':>10}{'spilled':>9}{'shared':>9}")
    fits = True
    for states in (1, options.width):
        for name, (program, given) in launched(options.width, states, DTYPES[options.dtype]).items():
            kernel = compiled(program, given, options.capability)
            registers, spilled = usage(kernel)
            fits &= kernel.metadata.shared <= SHARED[options.capability]
            print(f"{states:>8}  {name:<16}{registers:>10}{spilled:>9}{kernel.metadata.shared:>9}", flush=True)
    return int(not fits)


if __name__ == "__main__":
    sys.exit(main())
