"""Unpacks sequences and optionals with known entries: their readers read the entries directly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np
import onnx_ir

from ..budget import MAX_SEQUENCE_ENTRIES
from ..inference.shapes import ValueInfo
from ..model.keys import DOMAIN, REASON
from ..model.protos import schema_of
from .editor import GraphEditor

__all__ = ["unpack"]

Entry = Callable[[], onnx_ir.Value]
"""An entry of a sequence, created on first use."""


def unpack(model: onnx_ir.Model, known: dict[onnx_ir.Value, ValueInfo], keep: Callable[[onnx_ir.Node], bool]) -> bool:
    """Rewrite the readers of sequences and optionals with known entries, in place; returns whether there were any.

    A sequence has known entries if it was constructed, split from a tensor, or derived from such sequences
    by insertions and erasures at known indices or by SequenceMap. known: the result of `shapes.infer`. keep: whether a
    node stays, since it has a rule that is not built in.
    """
    if not any(node.op_type in _READERS or node.op_type in _MAKERS for node in model.graph):
        return False
    work = _Unpacking(GraphEditor(model.graph, known, set()))
    opset = model.graph.opset_imports.get("", 1)
    for node in list(model.graph):
        if keep(node) or (not node.domain and schema_of(node.op_type, opset, "") is None):
            continue
        if node.op_type in _READERS and not node.domain:
            value = _READERS[node.op_type](work, node)
            if value is not None:
                work.replace(node, [value])
        elif node.op_type in _MAKERS and node.domain in ("", DOMAIN):
            entries = _MAKERS[node.op_type](work, node)
            if entries is not None and len(entries) <= MAX_SEQUENCE_ENTRIES:
                work.entries[node.outputs[0]] = entries
    return work.changed


class _Unpacking:
    """The state of the pass. entries: those of each sequence; an optional has none or one."""

    def __init__(self, editor: GraphEditor) -> None:
        self.editor = editor
        self.entries: dict[onnx_ir.Value, list[Entry]] = {}
        self.changed = False

    def of(self, node: onnx_ir.Node, index: int = 0) -> list[Entry] | None:
        """The entries of an operand."""
        value = node.inputs[index] if index < len(node.inputs) else None
        return None if value is None else self.entries.get(value)

    def replace(self, node: onnx_ir.Node, values: Sequence[onnx_ir.Value]) -> None:
        """Replace the outputs of a node by values, and remove it."""
        for index, value in enumerate(values):
            self.editor.replace_output(node, index, value)
        self.editor.graph.remove(node)
        self.changed = True

    def place(self, node: onnx_ir.Node, index: int, count: int) -> int | None:
        """The index that an operand gives among `count` entries, from 0; None if it is unknown or out of range."""
        place = self.editor.number(node.inputs[index])
        return None if place is None or not -count <= place < count else place % count


def _entry(value: onnx_ir.Value) -> Entry:
    return lambda: value


def _construct(work: _Unpacking, node: onnx_ir.Node) -> list[Entry] | None:
    return [_entry(v) for v in node.inputs if v is not None]


def _same(work: _Unpacking, node: onnx_ir.Node) -> list[Entry] | None:
    return work.of(node)


def _insert(work: _Unpacking, node: onnx_ir.Node) -> list[Entry] | None:
    """SequenceInsert; the index is from -n to n for n entries, the end by default."""
    entries, new = work.of(node), node.inputs[1]
    if entries is None or new is None:
        return None
    place: int | None = len(entries)
    if len(node.inputs) > 2 and node.inputs[2] is not None and work.editor.number(node.inputs[2]) != place:
        place = work.place(node, 2, len(entries))
    return None if place is None else [*entries[:place], _entry(new), *entries[place:]]


def _erase(work: _Unpacking, node: onnx_ir.Node) -> list[Entry] | None:
    entries = work.of(node)
    if not entries:
        return None
    place: int | None = len(entries) - 1
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        place = work.place(node, 1, len(entries))
    return None if place is None else entries[:place] + entries[place + 1 :]


def _split(work: _Unpacking, node: onnx_ir.Node) -> list[Entry] | None:
    """SplitToSequence; without sizes into single entries, from which keepdims = 0 removes the axis."""
    x, given = node.inputs[0], node.inputs[1] if len(node.inputs) > 1 else None
    entry = None if x is None else work.editor.known.get(x)
    sizes = np.array(1) if given is None else work.editor.data(given)
    if entry is None or not entry.shape or sizes is None:
        return None
    axis = node.attributes.get_int("axis", 0) % len(entry.shape)
    length, size = entry.shape[axis], max(int(sizes.reshape(-1).max(initial=1)), 1)
    if length > size * MAX_SEQUENCE_ENTRIES or axis in entry.by_data:
        return None
    if sizes.ndim == 0:
        sizes = np.array([min(size, length - at) for at in range(0, length, size)])
    keep = given is not None or bool(node.attributes.get_int("keepdims", 1))
    if sizes.sum() != length:
        return None
    return _pieces(work, node, entry, axis, sizes.tolist()) if keep else _rows(work, node, entry, axis)


def _pieces(work: _Unpacking, node: onnx_ir.Node, whole: ValueInfo, axis: int, sizes: list[int]) -> list[Entry]:
    """Parts along an axis, by one Split."""
    editor = work.editor

    @cache
    def made() -> Sequence[onnx_ir.Value]:
        attributes: dict[str, int | Sequence[int]] = {"axis": axis}
        inputs = [node.inputs[0]]
        if editor.opset < 13:
            attributes["split"] = sizes
        else:
            inputs.append(editor.literal(f"{node.name}.sizes", np.array(sizes)))
        parts = editor.add(node, "Split", inputs, attributes, count=len(sizes))
        for part, size in zip(parts, sizes, strict=True):
            editor.known[part] = ValueInfo((*whole.shape[:axis], size, *whole.shape[axis + 1 :]), whole.dtype)
        return parts

    return [lambda i=i: made()[i] for i in range(len(sizes))]  # type: ignore[misc]


def _rows(work: _Unpacking, node: onnx_ir.Node, whole: ValueInfo, axis: int) -> list[Entry]:
    """Single entries along an axis, without that axis."""

    def row(place: int) -> Entry:
        @cache
        def made() -> onnx_ir.Value:
            number = work.editor.literal(f"{node.name}.place", np.array(place))
            made = work.editor.add(node, "Gather", [node.inputs[0], number], {"axis": axis})[0]
            work.editor.known[made] = ValueInfo((*whole.shape[:axis], *whole.shape[axis + 1 :]), whole.dtype)
            return made

        return made

    return [row(place) for place in range(whole.shape[axis])]


def _choice(work: _Unpacking, node: onnx_ir.Node) -> None:
    """Turn a choice of two sequences of equal length (see `branches`) into a sequence of choices."""
    one, other = work.of(node), work.of(node, 1)
    if one is None or other is None or len(one) != len(other):
        return
    chosen = [work.editor.choice(node, node.inputs[2], a(), b()) for a, b in zip(one, other, strict=True)]
    op = "Optional" if _is_optional(node.inputs[0]) else "SequenceConstruct"
    work.replace(node, [work.editor.add(node, op, chosen)[0]])


def _map(work: _Unpacking, node: onnx_ir.Node) -> None:
    """SequenceMap: inline the body once per entry, and construct sequences from its results."""
    entries, body, results = work.of(node), node.attributes["body"].as_graph(), []
    if not entries or not work.editor.has_room(body, len(entries)):
        node.meta[REASON] = "the entries of the sequence are not known, or too many", "construct it inside the model"
        return
    work.editor.expect_outputs(node, len(body.outputs))
    for place in range(len(entries)):
        operands = []
        for index, value in enumerate(node.inputs):
            own = work.of(node, index)
            if value is None or (own is not None and place >= len(own)):
                return
            operands.append(value if own is None else own[place]())
        results.append(work.editor.inline(body.clone(allow_outer_scope_values=True), node, operands))
    columns = zip(*results, strict=True)
    work.replace(node, [work.editor.add(node, "SequenceConstruct", pieces)[0] for pieces in columns])


def _at(work: _Unpacking, node: onnx_ir.Node) -> onnx_ir.Value | None:
    """SequenceAt: the entry at a known index; else a Gather from all entries if these have one shape and type."""
    entries, editor = work.of(node), work.editor
    if not entries:
        return None
    if editor.data(node.inputs[1]) is not None:
        place = work.place(node, 1, len(entries))
        return None if place is None else entries[place]()
    values = [entry() for entry in entries]
    if not all(editor.have_one_type(values[0], v) for v in values):
        return None
    stack = editor.add(node, "Concat", [editor.unsqueezed(node, v, 0) for v in values], {"axis": 0})
    return editor.add(node, "Gather", [*stack, node.inputs[1]], {"axis": 0})[0]


def _length(work: _Unpacking, node: onnx_ir.Node) -> onnx_ir.Value | None:
    entries = work.of(node)
    return None if entries is None else work.editor.literal(f"{node.name}.length", np.array(len(entries)))


def _joined(work: _Unpacking, node: onnx_ir.Node) -> onnx_ir.Value | None:
    """ConcatFromSequence; a new axis is an axis of the result."""
    entries = work.of(node)
    if not entries:
        return None
    values, axis = [entry() for entry in entries], node.attributes.get_int("axis", 0)
    if node.attributes.get_int("new_axis", 0):
        values = [work.editor.unsqueezed(node, v, axis) for v in values]
    return work.editor.add(node, "Concat", values, {"axis": axis})[0]


def _element(work: _Unpacking, node: onnx_ir.Node) -> onnx_ir.Value | None:
    entries = work.of(node)
    if entries is not None and _is_optional(node.inputs[0]):
        return entries[0]() if entries else None
    return node.inputs[0] if _is_there(work, node) else None


def _has_element(work: _Unpacking, node: onnx_ir.Node) -> onnx_ir.Value | None:
    value = node.inputs[0] if node.inputs else None
    entries = work.of(node)
    there = None
    if value is None or (entries is not None and _is_optional(value)):
        there = bool(entries)
    elif _is_there(work, node):
        there = True
    return None if there is None else work.editor.literal(f"{node.name}.there", np.array(there))


def _is_there(work: _Unpacking, node: onnx_ir.Node) -> bool:
    """Whether the operand is a tensor or a sequence, not an optional."""
    value = node.inputs[0]
    entry = None if value is None else work.editor.known.get(value)
    return entry is not None and (bool(entry.dtype) or work.of(node) is not None)


def _is_optional(value: onnx_ir.Value | None) -> bool:
    while value is not None and (node := value.producer()) is not None:
        if node.op_type != "Identity":
            return node.op_type == "Optional"
        value = node.inputs[0]
    return False


_MAKERS: Mapping[str, Callable[[_Unpacking, onnx_ir.Node], list[Entry] | None]] = {
    "SequenceConstruct": _construct,
    "SequenceEmpty": _construct,
    "SequenceInsert": _insert,
    "SequenceErase": _erase,
    "SequenceMap": _map,
    "SplitToSequence": _split,
    "Optional": _construct,
    "Identity": _same,
    "Choice": _choice,
}
_READERS: Mapping[str, Callable[[_Unpacking, onnx_ir.Node], onnx_ir.Value | None]] = {
    "SequenceAt": _at,
    "SequenceLength": _length,
    "ConcatFromSequence": _joined,
    "OptionalGetElement": _element,
    "OptionalHasElement": _has_element,
}
