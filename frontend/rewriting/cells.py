"""LSTM, GRU and RNN with computed weights, expanded to Scan, so that products with the weights can be distributed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

import onnx.parser
import onnx_ir

from ..inference.shapes import ValueInfo
from ..model.keys import CELL_DOMAIN

__all__ = ["expand_cells"]

_OPERANDS = ("x", "w", "r", "b", "lengths", "h0", "c0", "p")
_RESULTS = ("y", "y_h", "y_c")
_WEIGHTS = (1, 2, 3, 7)
_ACTIVATIONS = {name.lower(): name for name in ("Relu", "Sigmoid", "Softplus", "Softsign", "Tanh")}
_OLDEST = 13


def expand_cells(
    model: onnx_ir.Model,
    known: Mapping[onnx_ir.Value, ValueInfo],
    mixed: Set[onnx_ir.Value],
    keep: Callable[[onnx_ir.Node], bool],
) -> bool:
    """Turn recurrent nodes with computed weights into calls of local functions, which the next normalisation inlines.

    Nodes with sequences of several lengths, with parametrised activations, or before opset 13 stay as they are.

    Args:
        model: A normalised model.
        known: The result of `shapes.infer`.
        mixed: The values with entries that depend on several parameter elements (see `plan.mixed_values`).
        keep: Whether a node stays, since it has a rule that is not built in.

    Returns:
        Whether any node was rewritten.
    """
    opset = model.graph.opset_imports.get("", 1)
    written = 0
    for node in list(model.graph):
        if node.domain or node.op_type not in _CELLS or not any(_operand(node, i) in mixed for i in _WEIGHTS):
            continue
        if opset < _OLDEST or keep(node):
            continue
        statements = _statements(node, known, opset)
        if statements is None:
            continue
        written += 1
        name = f"{node.op_type}{written}"
        operands, results = ", ".join(_OPERANDS[: len(node.inputs)]), ", ".join(_RESULTS[: len(node.outputs)])
        head = f'<domain: "{CELL_DOMAIN}", opset_import: ["" : {opset}]> {name}'
        text = f"{head} ({operands}) => ({results}) {{ {statements} }}"
        function = onnx_ir.serde.deserialize_function(onnx.parser.parse_function(text))
        model.functions[function.identifier()] = function
        node.domain, node.op_type = CELL_DOMAIN, name
        node.attributes.clear()
    if written:
        model.graph.opset_imports[CELL_DOMAIN] = 1
    return written > 0


def _operand(node: onnx_ir.Node, index: int) -> onnx_ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


class _Text:
    """Statements in ONNX's textual syntax, with unique names."""

    def __init__(self, opset: int, numbers: Iterator[int] | None = None) -> None:
        self.opset = opset
        self.lines: list[str] = []
        self.numbers = numbers or itertools.count()

    def new(self, expression: str) -> str:
        """Add a statement that assigns an expression; returns the new name."""
        name = f"v{next(self.numbers)}"
        self.lines.append(f"{name} = {expression}")
        return name

    def numbers_of(self, *numbers: int) -> str:
        """A constant vector of integers."""
        return self.new(f"Constant<value = int64[{len(numbers)}] {{{', '.join(map(str, numbers))}}}>()")

    def entry(self, value: str, number: int, axis: int = 0) -> str:
        """One entry along an axis."""
        return self.new(f"Gather<axis = {axis}>({value}, {self.new(f'Constant<value = int64 {{{number}}}>()')})")

    def split(self, value: str, count: int) -> list[str]:
        """Equal parts along the first axis."""
        if count == 1:
            return [value]
        names = [f"v{next(self.numbers)}" for _ in range(count)]
        marks = f", num_outputs = {count}" if self.opset >= 18 else ""
        self.lines.append(f"{', '.join(names)} = Split<axis = 0{marks}>({value})")
        return names


@dataclass(slots=True)
class _Step:
    """Writes the statements of one time step of a cell.

    inputs: the contribution of the input to each gate. recurrent: the weights [H, H] of each gate; biases, peepholes:
    [H], by gate. applied: the activation functions, in the order of the operator's attribute.
    """

    node: onnx_ir.Node
    text: _Text
    inputs: dict[str, str]
    recurrent: dict[str, str]
    biases: dict[str, str]
    peepholes: dict[str, str]
    applied: list[str]

    def around(self, gate: str, state: str) -> str:
        """The contribution of a state to a gate."""
        product = self.text.new(f"MatMul({state}, {self.recurrent[gate]})")
        return self.text.new(f"Add({product}, {self.biases[gate]})") if gate in self.biases else product

    def gate(self, gate: str, function: int, state: str = "h", cell: str = "") -> str:
        """A gate, from the input, a state, and `cell` through its peephole."""
        total = self.text.new(f"Add({self.inputs[gate]}, {self.around(gate, state)})")
        if cell and gate in self.peepholes:
            seen = self.text.new(f"Mul({self.peepholes[gate]}, {cell})")
            total = self.text.new(f"Add({total}, {seen})")
        return self.apply(function, total)

    def apply(self, function: int, value: str) -> str:
        """Clip a value and apply activation number `function`."""
        clip = self.node.attributes.get_float("clip", 0.0)
        if clip:
            low, high = (self.text.new(f"Constant<value = float {{{bound}}}>()") for bound in (-clip, clip))
            value = self.text.new(f"Clip({value}, {low}, {high})")
        return self.text.new(f"{self.applied[function]}({value})")

    def mixed(self, gate: str, new: str, old: str) -> str:
        """`(1 - gate) * new + gate * old`."""
        rest = self.complement(gate)
        return self.text.new(f"Add({self.text.new(f'Mul({rest}, {new})')}, {self.text.new(f'Mul({gate}, {old})')})")

    def complement(self, gate: str) -> str:
        """`1 - gate`."""
        return self.text.new(f"Sub({self.text.new('Constant<value = float {1.0}>()')}, {gate})")

    def flag(self, name: str) -> bool:
        """Whether an attribute of the node is set."""
        return bool(self.node.attributes.get_int(name, 0))


def _lstm(step: _Step) -> list[str]:
    taken = step.gate("i", 0, cell="c")
    kept = step.complement(taken) if step.flag("input_forget") else step.gate("f", 0, cell="c")
    new = step.gate("c", 1)
    old, more = step.text.new(f"Mul({kept}, c)"), step.text.new(f"Mul({taken}, {new})")
    cell = step.text.new(f"Add({old}, {more})")
    shown = step.gate("o", 0, cell=cell)
    return [step.text.new(f"Mul({shown}, {step.apply(2, cell)})"), cell]


def _gru(step: _Step) -> list[str]:
    update, reset = step.gate("z", 0), step.gate("r", 0)
    if step.flag("linear_before_reset"):
        seen = step.text.new(f"Mul({reset}, {step.around('h', 'h')})")
        new = step.apply(1, step.text.new(f"Add({step.inputs['h']}, {seen})"))
    else:
        new = step.gate("h", 1, step.text.new(f"Mul({reset}, h)"))
    return [step.mixed(update, new, "h")]


def _rnn(step: _Step) -> list[str]:
    return [step.gate("i", 0)]


@dataclass(frozen=True, slots=True)
class _Cell:
    """Gates and peepholes in the order in which ONNX stores them; states, with the operand of their initial values."""

    gates: str
    states: Mapping[str, int]
    activations: tuple[str, ...]
    step: Callable[[_Step], list[str]]
    peepholes: str = ""


_CELLS = {
    "LSTM": _Cell("iofc", {"h": 5, "c": 6}, ("Sigmoid", "Tanh", "Tanh"), _lstm, "iof"),
    "GRU": _Cell("zrh", {"h": 5}, ("Sigmoid", "Tanh"), _gru),
    "RNN": _Cell("i", {"h": 5}, ("Tanh",), _rnn),
}


def _statements(node: onnx_ir.Node, known: Mapping[onnx_ir.Value, ValueInfo], opset: int) -> str | None:
    """The body of the function; None if the node stays as it is."""
    cell = _CELLS[node.op_type]
    x, r, lengths = (None if (v := _operand(node, i)) is None else known.get(v) for i in (0, 2, 4))
    ways = {"forward": (0,), "reverse": (1,), "bidirectional": (0, 1)}.get(
        node.attributes.get_string("direction", "forward")
    )
    batch_first = bool(node.attributes.get_int("layout", 0))
    if x is None or r is None or ways is None or (len(x.shape), len(r.shape)) != (3, 3) or x.dtype != "float32":
        return None
    steps, rows = (x.shape[1], x.shape[0]) if batch_first else x.shape[:2]
    if _operand(node, 4) is not None and (lengths is None or lengths.data is None or (lengths.data != steps).any()):
        return None
    applied = _applied(node, cell, len(ways))
    if applied is None:
        return None
    text = _Text(opset)
    seen = text.new("Transpose<perm = [1, 0, 2]>(x)") if batch_first else "x"
    made = [
        _direction(node, cell, text, seen, d, way, applied[d], (rows, r.shape[2]), batch_first)
        for d, way in enumerate(ways)
    ]
    for place, name in enumerate(_RESULTS[: len(node.outputs)]):
        # The axis of directions: before the batch, or after it.
        axis = int(batch_first) + (place == 0)
        where = text.numbers_of(axis)
        parts = [text.new(f"Unsqueeze({own[place]}, {where})") for own in made]
        text.lines.append(f"{name} = Concat<axis = {axis}>({', '.join(parts)})")
    return " ".join(text.lines)


def _applied(node: onnx_ir.Node, cell: _Cell, directions: int) -> list[list[str]] | None:
    """The activation functions of each direction; None if one of them has parameters."""
    given = node.attributes.get_strings("activations", ())
    names = [_ACTIVATIONS.get(name.lower(), "") for name in given or cell.activations * directions]
    each = len(cell.activations)
    if len(names) != each * directions or not all(names):
        return None
    return [names[d * each : (d + 1) * each] for d in range(directions)]


def _direction(
    node: onnx_ir.Node, cell: _Cell, text: _Text, x: str, number: int, way: int, applied: list[str],
    shape: tuple[int, int], batch_first: bool,
) -> list[str]:  # fmt: skip
    """The outputs of one direction: its first state at all steps, [T, B, H] or [B, T, H]; the final states."""
    gates, states = cell.gates, list(cell.states)
    weights = {
        name: [
            text.new(f"Transpose<perm = [1, 0]>({part})") for part in text.split(text.entry(name, number), len(gates))
        ]
        for name in ("w", "r")
    }
    biases = text.split(text.entry("b", number), 2 * len(gates)) if _operand(node, 3) is not None else []
    peepholes = text.split(text.entry("p", number), len(cell.peepholes)) if _operand(node, 7) is not None else []
    inputs = [text.new(f"MatMul({x}, {w})") for w in weights["w"]]
    if biases:
        inputs = [text.new(f"Add({i}, {b})") for i, b in zip(inputs, biases, strict=False)]
    starts = [_start(node, text, index, number, shape, int(batch_first)) for index in cell.states.values()]
    own = {gate: f"x_{gate}{number}" for gate in gates}
    body = _Text(text.opset, text.numbers)
    recurrent = dict(zip(gates, weights["r"], strict=True))
    around = dict(zip(gates, biases[len(gates) :], strict=False))
    seen = dict(zip(cell.peepholes, peepholes, strict=False))
    ends = cell.step(_Step(node, body, own, recurrent, around, seen, applied))
    row = body.new(f"Identity({ends[0]})")
    kind = f"float[{shape[0]}, {shape[1]}]"
    lasts, rows = [f"v{next(text.numbers)}" for _ in states], f"v{next(text.numbers)}"
    ways = ", ".join(str(way) for _ in gates)
    text.lines.append(
        f"{', '.join([*lasts, rows])} = Scan<num_scan_inputs = {len(gates)}, scan_input_directions = [{ways}], "
        f"scan_output_directions = [{way}], "
        f"body = step{number} ({_typed(kind, [*states, *own.values()])}) => ({_typed(kind, [*ends, row])}) "
        f"{{ {' '.join(body.lines)} }}>({', '.join([*starts, *inputs])})"
    )
    return [text.new(f"Transpose<perm = [1, 0, 2]>({rows})") if batch_first else rows, *lasts]


def _typed(kind: str, names: Sequence[str]) -> str:
    return ", ".join(f"{kind} {name}" for name in names)


def _start(node: onnx_ir.Node, text: _Text, index: int, number: int, shape: tuple[int, int], axis: int) -> str:
    """The initial value [B, H] of a state, zero by default."""
    if _operand(node, index) is not None:
        return text.entry(_OPERANDS[index], number, axis)
    return text.new(f"ConstantOfShape({text.numbers_of(*shape)})")
