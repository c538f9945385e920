"""Loop and Scan nodes: the body is inlined once, in a cycle, or unrolled if iterations differ in form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir

from ...ir import LoweringError
from ..budget import MAX_TRIPS
from ..errors import Unsupported
from ..inference.program_data import MOVEMENT
from ..inference.value_info import ValueInfo
from ..model.traversal import reads
from .editor import GraphEditor, origin
from .induction import counters, limit, program_values, read_by_step, same_number

__all__ = ["loop", "scan"]

_MOST_ROWS = 1 << 20
_SIZES = "give concrete sizes with --dim or --input"
_UNROLL = "export the model with this loop unrolled"


@dataclass(slots=True)
class _Loop:
    """A Loop or Scan in a common form.

    graph: the body. Its inputs are iteration number and condition (for a Loop), carried values, entries of `scanned`;
    its outputs are `lead` conditions, carried values, rows.
    initials: the initial carried values. scanned: (operand, axis, whether backward) of operands that are read entry by
    entry. rows: (axis, whether backward) of stacked results. deciders: values on which the number of iterations
    depends. trips: that number if it is known; an upper bound if it is not `exact`.
    """

    graph: onnx_ir.Graph
    initials: list[onnx_ir.Value]
    trips: int | None
    scanned: list[tuple[onnx_ir.Value, int, bool]] = field(default_factory=list)
    rows: list[tuple[int, bool]] = field(default_factory=list)
    deciders: list[onnx_ir.Value] = field(default_factory=list)
    lead: int = 0
    exact: bool = True

    def carried(self) -> list[onnx_ir.Value]:
        """The carried values as inputs of the body."""
        start = 2 * self.lead
        return list(self.graph.inputs[start : start + len(self.initials)])

    def ends(self) -> list[onnx_ir.Value]:
        """The carried values as outputs of the body."""
        return list(self.graph.outputs[self.lead : self.lead + len(self.initials)])


def loop(editor: GraphEditor, node: onnx_ir.Node) -> None:
    """Flatten a Loop node (since 1). Raises `Unsupported` if that is not possible."""
    graph = node.attributes["body"].as_graph()
    trips, start, *initials = node.inputs
    if len(graph.inputs) != 2 + len(initials) or len(graph.outputs) < 1 + len(initials):
        raise LoweringError(
            f"node {node.name!r} (Loop): it carries {len(initials)} values, its body takes {len(graph.inputs)} "
            f"and gives {len(graph.outputs)}; export the model again"
        )
    editor.expect_outputs(node, len(graph.outputs) - 1)
    iteration, condition = graph.inputs[:2]
    again = graph.outputs[0]
    count = editor.number(trips)
    carried = [v for v in initials if v is not None]
    if len(carried) < len(initials):
        raise Unsupported("a carried value is missing", "give every carried value an initial value")
    never = (count is not None and count <= 0) or editor.number(start) == 0
    new = _Loop(graph, carried, None, lead=1)
    new.rows = [(0, False)] * (len(graph.outputs) - 1 - len(carried))
    counted = trips is None and (start is None or editor.data(start) is not None)
    if counted:
        count = limit(editor, again, new.carried(), carried, new.ends())
        counted = count is not None
    new.trips = 0 if never else count if count is not None and count < _MOST_ROWS else None
    program = program_values(editor, graph, [iteration, condition], new.carried(), carried, new.ends())
    new.deciders = [v for v in (trips, start) if v is not None and editor.data(v) is None]
    new.exact = counted or origin(again) is condition or editor.number(again) == 1
    if not new.exact and again not in program:
        new.deciders.append(again)
    _flatten(editor, node, new, program)


def scan(editor: GraphEditor, node: onnx_ir.Node) -> None:
    """Flatten a Scan node (since 9). Raises `Unsupported` if that is not possible."""
    graph = node.attributes["body"].as_graph()
    editor.expect_outputs(node, len(graph.outputs))
    if editor.opset < 9:
        raise Unsupported("before opset 9 Scan runs over a batch", "convert the model to opset 9 or newer")
    operands = [v for v in node.inputs if v is not None]
    count = len(operands) - node.attributes["num_scan_inputs"].as_int()
    shapes = [entry.shape for v in operands[count:] if (entry := editor.known.get(v)) is not None]
    rows = graph.outputs[count:]
    if len(shapes) < len(node.inputs) - count or any(row not in editor.known for row in rows):
        raise Unsupported("the shapes of its inputs or outputs are not known", _SIZES)
    axes = [a % len(shape) for a, shape in zip(_ints(node, "scan_input_axes", shapes), shapes, strict=True)]
    ways = _ints(node, "scan_input_directions", shapes)
    new = _Loop(graph, operands[:count], shapes[0][axes[0]])
    new.scanned = [(v, a, way == 1) for v, a, way in zip(operands[count:], axes, ways, strict=True)]
    for value in [v for v, a, _ in new.scanned if a in editor.known[v].by_data]:
        new.deciders += editor.add(node, "Size", [value])
        editor.known[new.deciders[-1]] = ValueInfo((), "int64")
    new.exact = not new.deciders
    places, ways = _ints(node, "scan_output_axes", rows), _ints(node, "scan_output_directions", rows)
    ranks = [len(editor.known[row].shape) + 1 for row in rows]
    new.rows = [(a % rank, way == 1) for a, rank, way in zip(places, ranks, ways, strict=True)]
    _flatten(editor, node, new, set())


def _ints(node: onnx_ir.Node, name: str, of: Sequence[object]) -> Sequence[int]:
    attribute = node.attributes.get(name)
    return [0] * len(of) if attribute is None else list(attribute.as_ints())


def _flatten(editor: GraphEditor, node: onnx_ir.Node, new: _Loop, program: set[onnx_ir.Value]) -> None:
    """Inline the body once if all iterations have one form and read the same weights; else unroll it within the budget.

    It is also unrolled if shapes in the body are unknown: they may follow from the iteration number.
    """
    own = _own_weights(editor, new, program)
    steady = all(map(editor.have_one_type, new.initials, new.ends()))
    if new.trips == 0:
        results = _never(editor, node, new)
    elif own is None and not steady:
        raise Unsupported("iterations differ in form, and compute weights from weights of their own", _UNROLL)
    elif own or not steady or (_shapeless(editor, new) and _may_unroll(editor, new)):
        repeats = new.exact and not new.deciders and _may_unroll(editor, new)
        if not steady and not repeats:
            raise Unsupported("iterations differ in form, and their number is unknown or too large", _SIZES)
        results = _unrolled(editor, node, new) if repeats else _inlined_once(editor, node, new)
    else:
        results = _inlined_once(editor, node, new)
    for index, value in enumerate(results):
        editor.replace_output(node, index, value)


def _shapeless(editor: GraphEditor, new: _Loop) -> bool:
    """Whether the shape of any value of the body is unknown."""
    return any(value not in editor.known for node in new.graph for value in node.outputs if value.name)


def _never(editor: GraphEditor, node: onnx_ir.Node, new: _Loop) -> list[onnx_ir.Value]:
    """The results of a loop without iterations: the initial values, and tensors without rows."""
    empty = []
    for value, (axis, _) in zip(new.graph.outputs[new.lead + len(new.initials) :], new.rows, strict=True):
        entry = editor.known.get(value)
        if entry is None or entry.dtype in ("", "string"):
            raise Unsupported("there are no iterations, and the shapes of the rows are not known", _SIZES)
        shape = (*entry.shape[:axis], 0, *entry.shape[axis:])
        empty.append(editor.literal(f"{node.name}.rows", np.zeros(shape, np.dtype(entry.dtype))))
    return [*new.initials, *empty]


def _may_unroll(editor: GraphEditor, new: _Loop) -> bool:
    return new.trips is not None and new.trips <= MAX_TRIPS and editor.has_room(new.graph, new.trips)


def _own_weights(editor: GraphEditor, new: _Loop, program: set[onnx_ir.Value]) -> set[onnx_ir.Value] | None:
    """Values of the body that are weights of a single iteration; None if other weights are computed from them."""
    inputs = new.graph.inputs[len(new.graph.inputs) - len(new.scanned) :]
    own = {inner for inner, (v, _, _) in zip(inputs, new.scanned, strict=True) if editor.is_weight(v)}
    for node in new.graph:
        read = reads(node)
        if node.op_type == "Gather" and read[1] in program and editor.is_weight(read[0]):
            own.update(node.outputs)
        elif any(v in own for v in read) and all(v in own or v in program or editor.is_constant(v) for v in read):
            if node.op_type not in MOVEMENT:
                return None
            own.update(node.outputs)
    return own


def _unrolled(editor: GraphEditor, node: onnx_ir.Node, new: _Loop) -> list[onnx_ir.Value]:
    """The results of the unrolled loop; loop-invariant nodes are hoisted."""
    _hoist(editor, node, new.graph)
    carried, rows = list(new.initials), [[] for _ in new.rows]  # type: list[onnx_ir.Value], list[list[onnx_ir.Value]]
    name, trips = node.name or node.op_type, new.trips or 0
    for trip in range(trips):
        numbers = [np.array(trip), np.array(True)] if new.lead else []
        operands = [editor.literal(f"{name}.number", number) for number in numbers] + carried
        for value, axis, backward in new.scanned:
            place = editor.literal(f"{name}.place", np.array(trips - 1 - trip if backward else trip))
            operands += editor.add(node, "Gather", [value, place], {"axis": axis})
        made = editor.inline(new.graph.clone(allow_outer_scope_values=True), node, operands)[new.lead :]
        carried = made[: len(carried)]
        for row, value, (_, backward) in zip(rows, made[len(carried) :], new.rows, strict=True):
            row.insert(0 if backward else len(row), value)
    stacked: list[onnx_ir.Value] = []
    for row, (axis, _) in zip(rows, new.rows, strict=True):
        pieces = [editor.unsqueezed(node, value, axis) for value in row]
        stacked += editor.add(node, "Concat", pieces, {"axis": axis})
    return [*carried, *stacked]


def _hoist(editor: GraphEditor, node: onnx_ir.Node, graph: onnx_ir.Graph) -> None:
    """Move loop-invariant nodes out of the body."""
    inside = set(graph.inputs)
    outside = []
    for inner in graph:
        stays = not inner.inputs or any(v.is_graph_output() for v in inner.outputs)
        if stays or any(v in inside for v in reads(inner)):
            inside.update(inner.outputs)
        else:
            outside.append(inner)
    editor.move_nodes(graph, outside, node)


def _inlined_once(editor: GraphEditor, node: onnx_ir.Node, new: _Loop) -> list[onnx_ir.Value]:
    """The results of the loop with its body inlined once, between nodes of the dialect."""
    marks = {"loop": editor.loops}
    editor.loops += 1
    carried, ends = new.carried(), new.ends()
    numbers, counting = _numbers(editor, node, new, marks)
    places = zip(carried, new.initials, ends, strict=True)
    unchanged = {i: v for i, (inner, v, end) in enumerate(places) if origin(end) in (inner, origin(v))}
    changing = [i for i in range(len(carried)) if i not in unchanged and i not in counting]
    initials = [new.initials[i] for i in changing]
    carries = [editor.internal(node, "Carry", [v])[0] for v in initials]
    current = {**counting, **unchanged, **dict(zip(changing, carries, strict=True))}
    steps = [
        editor.internal(node, "Step", [v], {"axis": axis, "backward": int(way), **marks})[0]
        for v, axis, way in new.scanned
    ]
    again = new.graph.outputs[0]
    made = editor.inline(new.graph, node, [*numbers, *(current[i] for i in range(len(carried))), *steps])
    deciders = [made[0] if v is again else v for v in new.deciders]
    after = made[new.lead :]
    rows = after[len(carried) :]
    count = len(changing) + len(rows)
    # The lists may be empty, and onnx-ir cannot infer the type of an empty list.
    ways = {
        "axes": onnx_ir.AttrInt64s("axes", [axis for axis, _ in new.rows]),
        "backward": onnx_ir.AttrInt64s("backward", [int(way) for _, way in new.rows]),
    }
    attributes = {"carried": len(changing), "rows": len(rows), "trips": new.trips or 1, **ways, **marks}
    operands = [*carries, *initials, *(after[i] for i in changing), *rows, *deciders]
    results = editor.internal(node, "LoopEnd", operands, attributes, count) if count else []
    finals = {**dict(enumerate(after)), **unchanged, **dict(zip(changing, results, strict=False))}
    return [*(finals[i] for i in range(len(carried))), *results[len(changing) :]]


def _numbers(
    editor: GraphEditor, node: onnx_ir.Node, new: _Loop, marks: dict[str, int]
) -> tuple[list[onnx_ir.Value], dict[int, onnx_ir.Value]]:
    """The iteration number and the condition that the body reads, and the carried counters by index."""
    if not new.lead:
        return [], {}
    [iteration] = editor.internal(node, "Iteration", [])
    counting = counters(editor, node, iteration, new.carried(), new.initials, new.ends())
    same = [
        new.graph.inputs[0],
        *(new.carried()[i] for i, value in counting.items() if same_number(value) is iteration),
    ]
    read_by_step(editor, new.graph, same, {**marks, "trips": new.trips or 0})
    return [iteration, editor.literal(f"{node.name}.condition", np.array(True))], counting
