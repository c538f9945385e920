"""Operators whose sizes depend on data become operators of default sizes, and joins with what determines the sizes.

What an axis of such a size holds is one array, whatever its length. The values that determine the length, or which
entries it holds, are operands of the node `ByData`; a shape that depends on data is the node `FromData`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
import onnx_ir

from ..inference.data_sizes import SIZE_OPERANDS, moving_axes
from ..inference.known_entries import partly_known
from ..inference.shapes import ValueInfo
from .editor import GraphEditor

__all__ = ["fix_sizes"]


def fix_sizes(model: onnx_ir.Model, known: dict[onnx_ir.Value, ValueInfo]) -> bool:
    """Rewrite the nodes of the main graph whose sizes depend on data, in place.

    Args:
        model: A normalised model.
        known: The result of `shapes.infer`; it gains the values that replace outputs.

    Returns:
        Whether any node was rewritten.
    """
    if not any(entry.by_data for entry in known.values()):
        return False
    fixing = _Fixing(GraphEditor(model.graph, known, set()), known, model.graph.opset_imports.get("", 1))
    for node in list(model.graph):
        if not node.domain:
            fixing.visit(node)
    return fixing.count > 0


@dataclass(slots=True)
class _Fixing:
    """Rewrites one node after another.

    origin: the rewritten node whose output a value replaces. sized: by rewritten node, operand 0 and the operands that
    determine its sizes. numbers: by value, the number of its shape. sums: by node that counts entries, their number.
    """

    editor: GraphEditor
    known: Mapping[onnx_ir.Value, ValueInfo]
    opset: int
    count: int = 0
    origin: dict[onnx_ir.Value, onnx_ir.Node] = field(default_factory=dict)
    sized: dict[onnx_ir.Node, tuple[onnx_ir.Value | None, list[onnx_ir.Value]]] = field(default_factory=dict)
    numbers: dict[onnx_ir.Value, int] = field(default_factory=dict)
    sums: dict[onnx_ir.Node, onnx_ir.Value] = field(default_factory=dict)

    def visit(self, node: onnx_ir.Node) -> None:
        """Rewrite a node if its sizes depend on data."""
        x = node.inputs[0] if node.inputs else None
        if x is None or self._is_literal(node):
            return
        if node.op_type in ("Shape", "Size", "EyeLike"):
            entry = self.known.get(node.outputs[0])
            if entry is not None and entry.data is None and self._by_data(x):
                number = self.numbers.setdefault(x, len(self.numbers))
                roots = self._roots(x)
                settings = str(node.attributes.get_int("k", 0)) if node.op_type == "EyeLike" else ""
                self._finish(node, [self.from_data(node, roots, entry, number, settings)], None, roots)
            return
        given = [node.inputs[i] for i in SIZE_OPERANDS.get(node.op_type, ()) if i < len(node.inputs)]
        deciders = [v for v in given if v is not None and v in self.known and self.known[v].data is None]
        outputs = [v for v in node.outputs if v.name]
        if not deciders or any(v not in self.known for v in outputs):
            return
        if not self._by_data(x) and not any(self.known[v].by_data for v in outputs):
            return
        made = _REWRITES.get(node.op_type, _from_all)(self, node, deciders)
        self._finish(node, made, x, deciders)

    def _is_literal(self, node: onnx_ir.Node) -> bool:
        """Replace the outputs of a node whose data is known by constants; sizes behind it may be unknown hereafter."""
        entries = [self.known.get(v) for v in node.outputs if v.name]
        if any(k is None or k.data is None or k.dtype not in ("int64", "int32", "bool") for k in entries):
            return False
        if all(v is None or v.is_initializer() for v in node.inputs) or any(v.is_graph_output() for v in node.outputs):
            return False
        for value, entry in zip([v for v in node.outputs if v.name], entries, strict=True):
            assert entry is not None
            assert entry.data is not None
            made = self.editor.literal(f"{value.name}.data", np.array(entry.data))
            self.editor.known[made] = entry
            value.replace_all_uses_with(made)
        self.editor.graph.remove(node, safe=True)
        return True

    def _finish(
        self, node: onnx_ir.Node, made: Sequence[onnx_ir.Value], x: onnx_ir.Value | None, deciders: list[onnx_ir.Value]
    ) -> None:
        self.count += 1
        self.sized[node] = x, deciders
        for index, value in enumerate(made):
            if node.outputs[index].name:
                self.origin[self.editor.replace_output(node, index, value)] = node
        self.editor.graph.remove(node, safe=True)

    def _by_data(self, value: onnx_ir.Value) -> frozenset[int]:
        entry = self.known.get(value)
        return frozenset() if entry is None else entry.by_data

    def _roots(self, value: onnx_ir.Value) -> list[onnx_ir.Value]:
        """The values that the sizes of a value depend on."""
        found: dict[onnx_ir.Value, None] = {}
        seen: set[onnx_ir.Value] = set()
        waiting = [value]
        while waiting:
            at = waiting.pop()
            if at in seen:
                continue
            seen.add(at)
            node = self.origin.get(at) or at.producer()
            if node is None:
                found[at] = None
            elif node in self.sized:
                x, deciders = self.sized[node]
                found.update(dict.fromkeys(deciders))
                waiting += [x] if x is not None and self._by_data(x) else []
            else:
                sources = [v for v in node.inputs if v is not None and self._by_data(v)]
                waiting += sources
                if not sources:
                    found[self._count(node) or at] = None
        return list(found)

    def _count(self, node: onnx_ir.Node) -> onnx_ir.Value | None:
        """How many entries NonZero or Compress keeps: the sum of the mask; None for other operators."""
        mask = node.inputs[_MASKS[node.op_type]] if not node.domain and node.op_type in _MASKS else None
        if mask is None:
            return None
        if node not in self.sums:
            [kept] = self.editor.add(node, "Cast", [mask], {"to": int(onnx_ir.DataType.BOOL)})
            [number] = self.editor.add(node, "Cast", [kept], {"to": int(onnx_ir.DataType.INT64)})
            [self.sums[node]] = self.editor.add(node, "ReduceSum", [number], {"keepdims": 0})
        return self.sums[node]

    def settings(self, node: onnx_ir.Node) -> str:
        """What is known of the operands that determine the size, and the attributes."""
        parts = [",".join("?" if k is None else str(k) for k in self._entries(node, i)) for i in _places(node)]
        parts += [f"{n}={a.value}" for n, a in sorted(node.attributes.items()) if n in ("mode", "axis", "largest")]
        return ";".join(parts)

    def _entries(self, node: onnx_ir.Node, place: int) -> list[int | None]:
        found = partly_known(node.inputs[place], self.known, self.opset)
        return [] if found is None else found

    def data(self, node: onnx_ir.Node, deciders: Sequence[onnx_ir.Value]) -> onnx_ir.Value:
        """One number that stands for what determines the sizes."""
        return self.from_data(node, deciders, ValueInfo((), "int64"), 0)

    def from_data(
        self, node: onnx_ir.Node, operands: Sequence[onnx_ir.Value], entry: ValueInfo, number: int, settings: str = ""
    ) -> onnx_ir.Value:
        """A value that is computed from all operands."""
        attributes = {
            "of": onnx_ir.AttrString("of", node.op_type), "dtype": onnx_ir.AttrString("dtype", entry.dtype),
            "shape": onnx_ir.AttrInt64s("shape", entry.shape), "number": onnx_ir.AttrInt64("number", number),
        }  # fmt: skip
        if settings:
            attributes["settings"] = onnx_ir.AttrString("settings", settings)
        return self.editor.internal(node, "FromData", operands, attributes)[0]

    def literal(self, node: onnx_ir.Node, numbers: Sequence[int]) -> onnx_ir.Value:
        """A vector of integers."""
        return self.editor.literal(f"{node.name}.sizes", np.array(numbers, np.int64))

    def again(self, node: onnx_ir.Node, sizes: Sequence[int]) -> Sequence[onnx_ir.Value]:
        """The node with known sizes."""
        attributes = {n: a for n, a in node.attributes.items() if n != "allowzero"}
        inputs = [node.inputs[0], self.literal(node, sizes), *node.inputs[2:]]
        return self.editor.add(node, node.op_type, inputs, attributes, count=len(node.outputs))


Rewrite = Callable[[_Fixing, onnx_ir.Node, Sequence[onnx_ir.Value]], Sequence[onnx_ir.Value]]


def _places(node: onnx_ir.Node) -> list[int]:
    return [i for i in SIZE_OPERANDS[node.op_type] if i < len(node.inputs) and node.inputs[i] is not None]


def _from_all(fixing: _Fixing, node: onnx_ir.Node, deciders: Sequence[onnx_ir.Value]) -> Sequence[onnx_ir.Value]:
    """A join of all operands in order: their entries are rearranged in an unknown way."""
    operands = [v for v in node.inputs if v is not None]
    return [
        fixing.from_data(node, operands, fixing.known[output], part, fixing.settings(node))
        for part, output in enumerate(node.outputs)
    ]


def _copies(fixing: _Fixing, node: onnx_ir.Node, deciders: Sequence[onnx_ir.Value]) -> Sequence[onnx_ir.Value]:
    """More or fewer entries of the same kind (Expand, Tile, TopK): which ones does not depend on data.

    An Expand along other axes than those that already have such sizes tells nothing about the sizes.
    """
    first = node.inputs[0]
    assert first is not None
    shape, x = fixing.known[node.outputs[0]].shape, fixing.known[first].shape
    sizes: Sequence[int] = shape
    if node.op_type == "Tile":
        sizes = [n // max(m, 1) for n, m in zip(shape, x, strict=True)]
    elif node.op_type == "TopK":
        sizes = [shape[node.attributes.get_int("axis", -1)]]
    made = fixing.again(node, sizes)
    before = fixing.known[first]
    kept = {a + len(shape) - len(x) for a in before.by_data if x[a] == shape[a + len(shape) - len(x)]}
    if node.op_type == "Expand" and fixing.known[node.outputs[0]].by_data <= kept:
        return made
    data, attributes = fixing.data(node, deciders), {"of": node.op_type, "settings": fixing.settings(node)}
    return [fixing.editor.internal(node, "ByData", [v, data], {**attributes, "part": k})[0] for k, v in enumerate(made)]


def _filled(fixing: _Fixing, node: onnx_ir.Node, deciders: Sequence[onnx_ir.Value]) -> Sequence[onnx_ir.Value]:
    """One number, more or less often (ConstantOfShape)."""
    sizes = fixing.literal(node, fixing.known[node.outputs[0]].shape)
    [made] = fixing.editor.add(node, node.op_type, [sizes], dict(node.attributes))
    attributes = {"of": node.op_type, "settings": fixing.settings(node)}
    return fixing.editor.internal(node, "ByData", [made, fixing.data(node, deciders)], attributes)


def _moved(fixing: _Fixing, node: onnx_ir.Node, deciders: Sequence[onnx_ir.Value]) -> Sequence[onnx_ir.Value]:
    """Entries move by data along some axes (Slice, Split, Pad, CenterCropPad)."""
    x = node.inputs[0]
    assert x is not None
    old, data = fixing.known[x].shape, fixing.data(node, deciders)
    made: list[onnx_ir.Value] = []
    constant = node.op_type == "Pad" and node.attributes.get_string("mode", "constant") == "constant"
    fill = node.inputs[2] if constant and len(node.inputs) > 2 else None
    for part, output in enumerate(node.outputs):
        entry = fixing.known[output]
        axes = [a for a, (n, m) in enumerate(zip(old, entry.shape, strict=True)) if n != m]
        along = entry.by_data | set(axes)
        if node.op_type != "CenterCropPad":
            along |= moving_axes(node, fixing.known, fixing.opset)
        lists = {"along": sorted(along), "axes": axes, "sizes": [entry.shape[a] for a in axes]}
        attributes: dict[str, onnx_ir.Attr | int | str] = {
            "of": node.op_type, "settings": fixing.settings(node), "part": part,
            **{name: onnx_ir.AttrInt64s(name, numbers) for name, numbers in lists.items()},
        }  # fmt: skip
        operands = [x, data] if fill is None else [x, data, fill]
        made += fixing.editor.internal(node, "ByData", operands, attributes)
    return made


def _resized(fixing: _Fixing, node: onnx_ir.Node, deciders: Sequence[onnx_ir.Value]) -> Sequence[onnx_ir.Value]:
    """Interpolation between entries (Resize); axes whose sizes are known to stay are left alone."""
    x, output, attributes = node.inputs[0], node.outputs[0], node.attributes
    region = node.inputs[1] if attributes.get_string("coordinate_transformation_mode", "") == _CROPS else None
    if region is not None or attributes.get_string("keep_aspect_ratio_policy", "stretch") != "stretch":
        return _from_all(fixing, node, deciders)
    assert x is not None
    old, new = fixing.known[x].shape, fixing.known[output].shape
    resized = [a % len(old) for a in attributes.get_ints("axes", range(len(old)))]
    sizes = partly_known(node.inputs[3], fixing.known, fixing.opset) if len(node.inputs) > 3 else None
    along = [a for a, n in zip(resized, sizes or [None] * len(resized), strict=True) if n != old[a]]
    axes = [a for a, (n, m) in enumerate(zip(old, new, strict=True)) if n != m]
    lists = {"along": sorted({*along, *axes}), "axes": axes, "sizes": [new[a] for a in axes]}
    how = [f"{n}={a.value}" for n, a in sorted(attributes.items()) if n != "axes"]
    made: dict[str, onnx_ir.Attr | int | str] = {
        "of": node.op_type, "settings": ";".join([fixing.settings(node), *how]),
        **{name: onnx_ir.AttrInt64s(name, numbers) for name, numbers in lists.items()},
    }  # fmt: skip
    return fixing.editor.internal(node, "ByData", [x, fixing.data(node, deciders)], made)


def _reshaped(fixing: _Fixing, node: onnx_ir.Node, deciders: Sequence[onnx_ir.Value]) -> Sequence[onnx_ir.Value]:
    """A reshape for any size if axes of such sizes stay apart; else a join of everything."""
    x, output = node.inputs[0], node.outputs[0]
    assert x is not None
    before, after = fixing.known[x], fixing.known[output]
    if not _for_any_size((before.shape, before.by_data), (after.shape, after.by_data)):
        return _from_all(fixing, node, deciders)
    return fixing.again(node, after.shape)


_Axes = tuple[tuple[int, ...], frozenset[int]]


def _for_any_size(before: _Axes, after: _Axes) -> bool:
    """Whether a reshape arranges entries in one way, whatever the sizes that depend on data are."""
    i = j = 0
    while i < len(before[0]) or j < len(after[0]):
        start = i, j
        i, j = min(i + 1, len(before[0])), min(j + 1, len(after[0]))
        while (left := prod(before[0][start[0] : i])) != (right := prod(after[0][start[1] : j])):
            if left < right and i < len(before[0]):
                i += 1
            elif left > right and j < len(after[0]):
                j += 1
            else:
                return False
        if not _alike(before, range(start[0], i), after, range(start[1], j)):
            return False
    return True


def _alike(before: _Axes, old: range, after: _Axes, new: range) -> bool:
    """Whether a group of axes becomes another one in one way for any size."""
    ends: list[tuple[int, int, int] | None] = []
    for (shape, by_data), axes in ((before, old), (after, new)):
        inside = [a for a in axes if a in by_data]
        if not inside:
            ends.append(None)
            continue
        run = range(inside[0], inside[-1] + 1)
        if any(a not in by_data and shape[a] != 1 for a in run):
            return False
        ends.append((prod(shape[axes.start : run.start]), prod(shape[run.stop : axes.stop]), len(inside)))
    one, other = ends
    if one is None or other is None:
        return one is other
    return other[2] == 1 and (one[0] == other[0] or one[1] == other[1])


_CROPS = "tf_crop_and_resize"

_MASKS = {"NonZero": 0, "Compress": 1}
"""The operand whose entries an operator counts."""

_REWRITES: Mapping[str, Rewrite] = {
    "CenterCropPad": _moved,
    "ConstantOfShape": _filled,
    "Expand": _copies,
    "Pad": _moved,
    "Reshape": _reshaped,
    "Resize": _resized,
    "Slice": _moved,
    "Split": _moved,
    "Tile": _copies,
    "TopK": _copies,
}
