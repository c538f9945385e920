"""Recurrent cells, with every attribute and operand that ONNX Runtime runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from support.cases.case import Case, varied

__all__ = ["GATES", "cell", "recurrent_cases", "run_over_time"]

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def cell(op: str, output: str = "Y", attributes: str = "", **operands: str) -> str:
    """One cell of 4 hidden units over x, whose output `output` is o; operands by the names of the schema."""
    named = {"B": "b", **operands}
    order = ("B", "sequence_lens", "initial_h", "initial_c", "P")
    inputs = ["x", "w", "r", *(named.get(name, "") for name in order)]
    while not inputs[-1]:
        inputs.pop()
    outputs = ", ".join(
        "o" if name == output else f"unused{name}" for name in ("Y", "Y_h", "Y_c")[: 2 + (op == "LSTM")]
    )
    text = ", ".join(name or '""' for name in inputs)
    return f"{outputs} = {op}<hidden_size = 4{', ' * bool(attributes)}{attributes}>({text})"


def run_over_time(
    op: str, name: str, body: str, variants: Sequence[str] = (), alike: Sequence[str] = (), inputs: str = "",
    directions: int = 1, output: str = "Y", **options: Any,
) -> Case:  # fmt: skip
    """x0 [4, 2, 2] -> x [4, 2, 3] -> body -> o -> y."""
    axes = "N, N, N, N" if output == "Y" else "N, N, N"
    head = f"(float[4, 2, 2] x0{inputs}) => (float[{axes}] y) {{\n x = MatMul(x0, wx)"
    texts = [f"{head}\n {text}\n y = MatMul(o, wo)\n}}" for text in (body, *variants, *alike)]
    gates, used = GATES[op], "\n".join(texts)
    floats = {
        "wx": (2, 3), "w": (directions, 4 * gates, 3), "r": (directions, 4 * gates, 4), "b": (directions, 8 * gates),
        "p": (directions, 12), "h0": (directions, 2, 4), "c0": (directions, 2, 4), "wo": (4, 2),
        **options.pop("floats", {}),
    }  # fmt: skip
    kept = {n: s for n, s in floats.items() if re.search(rf"\b{n}\b", used)}
    split = 1 + len(variants)
    return Case(op, name, texts[0], kept, variants=tuple(texts[1:split]), alike=tuple(texts[split:]), **options)


def recurrent_cases() -> Iterator[Case]:
    for op in GATES:
        yield from _directions(op)
        yield from _operands(op)
        yield from _attributes(op)
    yield from _own()
    yield from _channels_in_the_batch()


def _directions(op: str) -> Iterator[Case]:
    """Forward at every opset; backward as the same cell between two reversals; both."""
    plain = cell(op)
    backward = cell(op, attributes='direction = "reverse"')
    forward = run_over_time(op, "forward", plain, variants=(backward,))
    yield from varied(forward, (7, 14, 20, 22))
    turned = f"""xr = Slice(x, last, before, axis, step)
        {cell(op).replace("(x,", "(xr,").replace("o,", "t,", 1)}
        o = Slice(t, last, before, axis, step)"""
    ints = {"last": [3], "before": [-9], "axis": [0], "step": [-1]}
    yield run_over_time(op, "backward", backward, variants=(plain,), alike=(turned,), ints=ints)
    yield run_over_time(op, "both", cell(op, attributes='direction = "bidirectional"'), directions=2)
    yield run_over_time(op, "last", cell(op, "Y_h"), output="Y_h")
    both = cell(op, "Y_h", 'direction = "bidirectional"')
    yield run_over_time(op, "last-both", both, output="Y_h", directions=2)


def _operands(op: str) -> Iterator[Case]:
    yield run_over_time(op, "no-bias", cell(op, B=""), variants=(cell(op),))
    learned = cell(op, initial_h="h0")
    yield run_over_time(op, "learned-start", learned, variants=(cell(op),))
    given = cell(op, initial_h="hx")
    yield run_over_time(op, "given-start", given, variants=(cell(op),), inputs=", float[1, 2, 4] hx")
    repeated = f"hx = Expand(h1, shape)\n {given}"
    yield run_over_time(op, "one-start-for-all", repeated, floats={"h1": (1, 1, 1)}, ints={"shape": [1, 2, 4]})
    zeros = f"hz = ConstantOfShape(shape)\n {cell(op, initial_h='hz')}"
    yield run_over_time(op, "zero-start", cell(op), alike=(zeros,), ints={"shape": [1, 2, 4]})
    lengths = cell(op, sequence_lens="n")
    yield run_over_time(op, "lengths", lengths, inputs=", int32[2] n")
    whole, short = (f"n = Constant<value = int32[2] {{4, {n}}}>()\n {lengths}" for n in (4, 2))
    yield run_over_time(op, "known-lengths", short, variants=(cell(op),))
    yield run_over_time(op, "full-lengths", cell(op), alike=(whole,))


def _attributes(op: str) -> Iterator[Case]:
    """Clipping and activations; the defaults written out change nothing."""
    clipped = cell(op, attributes="clip = 0.4")
    yield run_over_time(op, "clip", clipped, variants=(cell(op), cell(op, attributes="clip = 0.2")))
    default = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}[op]
    written = cell(op, attributes=_activations(default))
    yield run_over_time(op, "activations", cell(op), alike=(written,), variants=tuple(_others(op, default)))
    one, other = (cell(op, attributes=_activations(("HardSigmoid",) * len(default), numbers)) for numbers in (0.3, 0.4))
    yield run_over_time(op, "activation-numbers", one, variants=(other,))


def _activations(names: Sequence[str], alpha: float | None = None) -> str:
    quoted = ", ".join(f'"{name}"' for name in names)
    numbers = "" if alpha is None else f", activation_alpha = [{', '.join([str(alpha)] * len(names))}]"
    return f"activations = [{quoted}]{numbers}"


def _others(op: str, default: Sequence[str]) -> Iterator[str]:
    """The cell with another activation in each place."""
    for place in range(len(default)):
        names = [*default[:place], "Softsign", *default[place + 1 :]]
        yield cell(op, attributes=_activations(names))


def _own() -> Iterator[Case]:
    """What only one of the cells has."""
    plain = cell("LSTM")
    yield run_over_time("LSTM", "peepholes", cell("LSTM", P="p"), variants=(plain,))
    both = cell("LSTM", attributes='direction = "bidirectional"', P="p", initial_h="h0", initial_c="c0")
    yield run_over_time("LSTM", "everything-both", both, directions=2)
    yield run_over_time("LSTM", "coupled", cell("LSTM", attributes="input_forget = 1"), variants=(plain,))
    yield run_over_time("LSTM", "last-cell", cell("LSTM", "Y_c"), output="Y_c", variants=(cell("LSTM", "Y_h"),))
    tied = cell("LSTM", initial_h="h0", initial_c="h0")
    untied = cell("LSTM", initial_c="h0")
    yield run_over_time("LSTM", "one-start-for-both", tied, variants=(untied, cell("LSTM", initial_h="h0")))
    after = cell("GRU", attributes="linear_before_reset = 1")
    yield run_over_time("GRU", "linear-before-reset", after, variants=(cell("GRU"),))
    both = cell("GRU", attributes='linear_before_reset = 1, direction = "bidirectional"', initial_h="h0")
    yield run_over_time("GRU", "linear-before-reset-both", both, directions=2)


def _channels_in_the_batch() -> Iterator[Case]:
    """One cell for 3 channels that are summed after it: they can trade places unless they start or end apart."""
    floats = {"k": (3, 2, 1), "w": (1, 12, 1), "r": (1, 12, 4), "b": (1, 24), "wo": (4, 2)}
    starts: dict[str, tuple[str, str, str, dict[str, tuple[int, ...]]]] = {
        "alike": ("", "", cell("GRU", "Y_h"), {}),
        "one-start": ("", "h = Expand(h1, shape)", cell("GRU", "Y_h", initial_h="h"), {"h1": (1, 1, 4)}),
        "learned-starts": ("", "", cell("GRU", "Y_h", initial_h="h0"), {"h0": (1, 3, 4)}),
        "given-starts": (", float[1, 3, 4] h", "", cell("GRU", "Y_h", initial_h="h"), {}),
        "computed-starts": (
            ", float[1, 2] g", "m = MatMul(g, wg)\n h = Reshape(m, shape)", cell("GRU", "Y_h", initial_h="h"),
            {"wg": (2, 12)},
        ),
        "known-lengths": (
            "", "n = Constant<value = int32[3] {6, 2, 4}>()", cell("GRU", "Y_h", sequence_lens="n"), {},
        ),
    }  # fmt: skip
    for name, (given, before, body, more) in starts.items():
        text = f"""(float[1, 2, 6] x0{given}) => (float[1, 2] y) {{
            c = Conv(x0, k)
            x = Transpose<perm = [2, 1, 0]>(c)
            {before}
            {body}
            s = ReduceSum<keepdims = 0>(o, one)
            y = MatMul(s, wo)
        }}"""
        ints = {"one": [1], "shape": [1, 3, 4]}
        yield Case("GRU", f"channels-{name}", text, {**floats, **more}, ints)
