"""Small networks around one operator each: "weights, the operator, weights". What every lowering rule is checked on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

__all__ = ["DOMAINS", "Case", "boxes", "build", "image", "rows", "table", "varied"]

Shape = tuple[int, ...]
DOMAINS = ("com.microsoft", "onnx.brevitas", "qonnx.custom_op.general", "finn.custom_op.general", "com.microsoft.nchwc")


@dataclass(frozen=True)
class Case:
    """A network in ONNX text syntax that uses `op`, and what must hold of it.

    floats: shapes of float32 initializers; ints: values of int64 initializers.
    variants: bodies that compute something else, so their graphs must differ. alike: bodies that compute the same, so
    their graphs must be isomorphic.
    symmetric: whether some symmetry must be claimed. opaque: part of the reason, where it ends in an opaque node.
    checked: whether ONNX's checker knows the operator. runs: whether ONNX Runtime runs it on a CPU.
    ml: version of the domain ai.onnx.ml.
    """

    op: str
    name: str
    text: str
    floats: Mapping[str, Shape]
    ints: Mapping[str, Any] = field(default_factory=dict)
    opset: int = 20
    domain: str = ""
    variants: tuple[str, ...] = ()
    alike: tuple[str, ...] = ()
    symmetric: bool = True
    opaque: str = ""
    values: Mapping[str, np.ndarray] = field(default_factory=dict)
    checked: bool = True
    runs: bool = True
    ml: int = 3

    @property
    def id(self) -> str:
        return f"{self.op}-{self.name}"


def build(case: Case, text: str | None = None, seed: int = 0) -> onnx.ModelProto:
    """The case's network (or a variant of it) as a checked model with distinct random weights of both signs."""
    rng = np.random.default_rng(seed)
    imports = f'"" : {case.opset}' + f', "ai.onnx.ml" : {case.ml}' * (case.domain == "ai.onnx.ml")
    imports += "".join(f', "{d}" : 1' for d in DOMAINS if f"{d}." in (text or case.text))
    model = onnx.parser.parse_model(
        f"<ir_version: {9 if case.opset < 21 else 10}, opset_import: [{imports}]> agraph {text or case.text}"
    )
    for name, shape in case.floats.items():
        values = rng.uniform(0.3, 1.2, shape)
        if not name.startswith("pos"):
            values *= rng.choice([-1.0, 1.0], shape)
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    for name, value in case.ints.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, dtype=np.int64), name))
    for name, value in case.values.items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type.lower()}_{number}"
    if case.checked:
        onnx.checker.check_model(model, full_check=True)
    return model


def _network(head: str, body: str, tail: str) -> str:
    return f"{head}\n{body}\n{tail}"


def _case(
    op: str, name: str, head: str, body: str, tail: str, floats: Mapping[str, Shape], options: Mapping[str, Any]
) -> Case:
    options = dict(options)
    bodies = {key: tuple(_network(head, b, tail) for b in options.pop(key, ())) for key in ("variants", "alike")}
    every = {**floats, **options.pop("floats", {})}
    text = _network(head, body, tail)
    used = "\n".join([text, *bodies["variants"], *bodies["alike"]])
    kept = {n: s for n, s in every.items() if f"{n}," in used or f"{n})" in used}
    return Case(op, name, text, kept, **bodies, **options)


def rows(op: str, name: str, body: str, *, width: int = 6, rank: int = 3, **options: Any) -> Case:
    """x [1, 3, 4] -> h [1, 3, 6] (and g, likewise) -> body -> o [..., width] -> y; axis 1 is free, axis 2 neurons."""
    out = ", ".join(["?"] * rank)
    head = f"""(float[1, 3, 4] x) => (float[{out.replace("?", "N")}] y) {{
        xh = MatMul(x, wh)
        h = Add(xh, bh)
        g = MatMul(x, wg)"""
    floats = {"wh": (4, 6), "bh": (6,), "wg": (4, 6), "wo": (width, 2)}
    return _case(op, name, head, body, "y = MatMul(o, wo)\n}", floats, options)


def image(op: str, name: str, body: str, *, channels: int = 4, space: int = 2, **options: Any) -> Case:
    """x [1, 2, 6, 6] -> h [1, 4, 6, 6] (and g, likewise) -> body -> o [1, channels, ...] -> y; `space` spatial axes."""
    size = ", ".join(["6"] * space)
    free = ", ".join(["N"] * space)
    head = f"""(float[1, 2, {size}] x) => (float[1, 3, {free}] y) {{
        h = Conv<pads = [{", ".join(["1"] * 2 * space)}]>(x, kh, bh)
        g = Conv<pads = [{", ".join(["1"] * 2 * space)}]>(x, kg)"""
    kernel = (3,) * space
    floats = {"kh": (4, 2, *kernel), "bh": (4,), "kg": (4, 2, *kernel), "ko": (3, channels, *(1,) * space)}
    return _case(op, name, head, body, "y = Conv(o, ko)\n}", floats, options)


def boxes(op: str, name: str, body: str, *, width: int = 6, **options: Any) -> Case:
    """x [1, 3, 4] -> h and g as heads [1, 3, 2, 3] -> body -> o [1, 3, 2, 3] -> flattened -> y."""
    head = """(float[1, 3, 4] x) => (float[1, 3, 2] y) {
        xh = MatMul(x, wh)
        bxh = Add(xh, bh)
        h = Reshape(bxh, split)
        xg = MatMul(x, wg)
        g = Reshape(xg, split)"""
    floats = {"wh": (4, 6), "bh": (6,), "wg": (4, 6), "wo": (width, 2)}
    ints = {"split": [1, 3, 2, 3], "flat": [1, 3, width], **options.pop("ints", {})}
    tail = "f = Reshape(o, flat)\n y = MatMul(f, wo)\n}"
    return _case(op, name, head, body, tail, floats, {"ints": ints, **options})


def table(op: str, name: str, body: str, *, width: int = 6, **options: Any) -> Case:
    """x [3, 4] -> h [3, 6] (and g, likewise) -> body of an operator of ai.onnx.ml -> o [3, width] -> y."""
    head = """(float[3, 4] x) => (float[3, 2] y) {
        xh = MatMul(x, wh)
        h = Add(xh, bh)
        g = MatMul(x, wg)"""
    floats = {"wh": (4, 6), "bh": (6,), "wg": (4, 6), "wo": (width, 2)}
    return _case(op, name, head, body, "y = MatMul(o, wo)\n}", floats, {"domain": "ai.onnx.ml", **options})


def varied(case: Case, names: Sequence[int]) -> list[Case]:
    """The case at several opsets."""
    return [replace(case, name=f"{case.name}-opset{n}", opset=n) for n in names]
