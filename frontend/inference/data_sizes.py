"""Sizes that depend on data: an axis of such a size gets a default size, and is marked.

Where the operand that gives a size (the target of Expand, the ends of Slice, ...) is computed from data, it is assumed
to be what the network computes from a default number in place of each integer that is not known; what counts entries
(NonZero, ...) counts all. Inference runs again with other numbers: the axes whose sizes differ are those that depend on
data (see `size_marks`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir

from ...ir import LoweringError
from .folding import fold
from .known_entries import DEEPEST, WHOLE, partly_known
from .value_info import MAX_SHAPE_DATA, ValueInfo

__all__ = ["SIZE_OPERANDS", "Assumed", "moving_axes"]

SIZE_OPERANDS: Mapping[str, tuple[int, ...]] = {
    "CenterCropPad": (1,),
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Tile": (1,),
    "TopK": (1,),
}
"""By operator: the operands that determine the shape of the result."""

_FIXED: tuple[frozenset[int], ...] = (frozenset(), frozenset({-1}), frozenset({1}), frozenset({1, -1}))
"""Axes, in turn, whose sizes turn out not to depend on data although the operator leaves that open."""


@dataclass(slots=True)
class Assumed:
    """Numbers assumed for integers that depend on data.

    Attributes:
        default: The first number; others differ from it and from each other if `apart`.
        guess: Whether sizes are assumed where operands that are not known give them.
        apart: Whether each unknown integer gets a number of its own.
        fixed: The axes that keep their sizes, counted from the start or the end.
        common: Whether all that is counted has one number.
        before: The shapes that a previous inference found for the outputs of `nodes`; open axes then get other sizes.
        nodes: The nodes with an output of an assumed size.
        numbers: What has been assumed, by value.
        counts: The number of each thing that is counted.
    """

    default: int
    guess: bool = True
    apart: bool = False
    fixed: frozenset[int] = frozenset()
    common: bool = False
    before: Mapping[onnx_ir.Value, tuple[int, ...]] = field(default_factory=dict)
    nodes: dict[onnx_ir.Node, None] = field(default_factory=dict)
    numbers: dict[onnx_ir.Value, np.ndarray | None] = field(default_factory=dict)
    counts: dict[onnx_ir.Value | None, int] = field(default_factory=dict)
    _drawn: int = 0

    @property
    def exact(self) -> bool:
        """Whether sizes that depend on different data are different."""
        return not self.fixed and not self.common

    def others(self, known: Mapping[onnx_ir.Value, ValueInfo]) -> Iterator[Assumed]:
        """Other numbers for what was assumed, to be tried in turn."""
        before = {v: known[v].shape for n in self.nodes for v in n.outputs if v in known}
        for fixed in _FIXED if self.guess else _FIXED[:1]:
            yield Assumed(self.default, self.guess, True, fixed, False, before)
        yield Assumed(self.default, self.guess, True, frozenset(), True, before)

    def counted(self, node: onnx_ir.Node, value: onnx_ir.Value, entry: ValueInfo, axes: frozenset[int]) -> ValueInfo:
        """An output of a node, with other sizes along axes whose sizes are counts."""
        axes |= entry.by_data
        if not axes:
            return entry
        self.nodes[node] = None
        shape = list(entry.shape)
        before = self.before.get(value, ())
        for axis in axes if len(before) == len(shape) else ():
            if shape[axis] == before[axis]:
                shape[axis] = self._another(node, shape[axis])
        return replace(entry, shape=tuple(shape), by_data=axes)

    def _another(self, node: onnx_ir.Node, size: int) -> int:
        """Another size, the same for all that counts the same thing."""
        what = None if self.common else _counts_of(node)
        number = self.counts.setdefault(what, len(self.counts))
        less = size - max(1, size // 3) - number
        return less if less > 0 else size + 1 + number

    def number(self) -> int:
        """The next number."""
        if not self.apart:
            return self.default
        self._drawn += 1
        return self.default - self._drawn if self.default > self._drawn else self.default + self._drawn

    def data(
        self, value: onnx_ir.Value, known: Mapping[onnx_ir.Value, ValueInfo], opset: int, depth: int = 0
    ) -> np.ndarray | None:
        """The data of a value, or what is assumed for it; None for a value that is not a few integers."""
        entry = known.get(value)
        if entry is None or entry.data is not None:
            return None if entry is None else entry.data
        if int(np.prod(entry.shape)) > MAX_SHAPE_DATA:
            return None
        if value not in self.numbers:
            made = self._computed(value, known, opset, depth)
            fits = made is not None and made.shape == entry.shape
            if not fits:
                made = self._drawn_for(entry) if entry.dtype in WHOLE else None
            self.numbers[value] = made
        return self.numbers[value]

    def _drawn_for(self, entry: ValueInfo) -> np.ndarray:
        count = int(np.prod(entry.shape))
        return np.array([self.number() for _ in range(count)], dtype=entry.dtype).reshape(entry.shape)

    def _computed(
        self, value: onnx_ir.Value, known: Mapping[onnx_ir.Value, ValueInfo], opset: int, depth: int
    ) -> np.ndarray | None:
        node = value.producer()
        if node is None or node.domain or depth > DEEPEST or not node.inputs:
            return None
        arrays: list[np.ndarray | None] = []
        for operand in node.inputs:
            array = None if operand is None else self.data(operand, known, opset, depth + 1)
            if operand is not None and array is None:
                return None
            arrays.append(array)
        try:
            results = fold(node, opset, arrays)
        except Exception:
            return None  # The assumed numbers do not suit the operator.
        return None if results is None else np.asarray(results[list(node.outputs).index(value)])

    def outputs(
        self,
        node: onnx_ir.Node,
        inputs: Sequence[ValueInfo | None],
        known: Mapping[onnx_ir.Value, ValueInfo],
        opset: int,
        infer: Callable[[list[ValueInfo | None]], list[ValueInfo | None]],
    ) -> list[ValueInfo | None] | None:
        """The outputs of a node whose size depends on data.

        Args:
            node: The node.
            inputs: Its operands.
            known: All that is known so far.
            opset: The opset of the node.
            infer: Infers the outputs from operands with data.

        Returns:
            The outputs; None if the node is none of these.
        """
        places = SIZE_OPERANDS.get(node.op_type) if not node.domain else None
        if places is None or any(v is not None and k is None for v, k in zip(node.inputs, inputs, strict=True)):
            return None
        given = {i: v for i in places if i < len(node.inputs) and (v := node.inputs[i]) is not None}
        numbers = {i: self.data(v, known, opset) for i, v in given.items()}
        if all(known[v].data is not None for v in given.values()) or any(a is None for a in numbers.values()):
            return None
        axes: frozenset[int] | None = None
        if node.op_type in _OPEN and not _fits(node, inputs, numbers.get(1), known, opset):
            shapes, axes = _OPEN[node.op_type](self, node, inputs, known, opset)
            found: list[ValueInfo | None] = [
                ValueInfo(
                    self._elsewhere(v, s, axes),
                    "int64" if k and node.op_type == "TopK" else inputs[0].dtype,  # type: ignore[union-attr]
                    by_data=axes,
                )
                for k, (v, s) in enumerate(zip(node.outputs, shapes, strict=False))
            ]
        else:
            assumed = [k and replace(k, data=numbers[i]) if i in numbers else k for i, k in enumerate(inputs)]
            found = [k and ValueInfo(k.shape, k.dtype) for k in infer(assumed)]
        if any(k is None for k in found):
            return None
        if node.op_type != "Reshape" or axes is None or axes:
            self.nodes[node] = None
        return found

    def _elsewhere(self, value: onnx_ir.Value, shape: tuple[int, ...], axes: frozenset[int]) -> tuple[int, ...]:
        """The shape, with another size than before along open axes that are not fixed."""
        before = self.before.get(value)
        if before is None:
            return shape
        fixed = {a % len(shape) for a in self.fixed if -len(shape) <= a < len(shape)}
        out = list(shape)
        for axis in axes:
            if axis in fixed:
                out[axis] = before[axis]
            elif out[axis] == before[axis]:
                out[axis] += -1 if out[axis] > 1 else 1
        return tuple(out)

    def named(self, shape: onnx_ir.Shape, size: Callable[..., int | None]) -> tuple[int, ...]:
        """The shape that an operator of unknown structure declares; unknown dimensions get a number."""
        return tuple(self.number() if (n := size(dim)) is None else n for dim in shape)


_Open = tuple[list[tuple[int, ...]], frozenset[int]]


def _slice(
    assumed: Assumed, node: onnx_ir.Node, inputs: Sequence[ValueInfo | None],
    known: Mapping[onnx_ir.Value, ValueInfo], opset: int,
) -> _Open:  # fmt: skip
    """As many entries as the assumed ends leave, or all where these leave none."""
    assert inputs[0] is not None
    shape = list(inputs[0].shape)
    operands = [*node.inputs[1:], None, None][:4]
    starts, ends, axes, steps = (None if v is None else assumed.data(v, known, opset) for v in operands)
    fixed = [partly_known(v, known, opset) for v in operands]
    assert starts is not None
    assert ends is not None
    if fixed[2] is not None and None in fixed[2]:
        return [tuple(shape)], frozenset(range(len(shape)))
    count = starts.size
    where = list(range(count)) if axes is None else [int(a) % len(shape) for a in axes.reshape(-1)]
    moves = [1] * count if steps is None else steps.reshape(-1).tolist()
    moving = set()
    for k, axis in enumerate(where):
        if any(f is not None and f[k] is None for f in fixed):
            moving.add(axis)
        start, end, step = int(starts.reshape(-1)[k]), int(ends.reshape(-1)[k]), int(moves[k]) or 1
        left = len(range(*slice(start, None if step < 0 and end < -shape[axis] else end, step).indices(shape[axis])))
        shape[axis] = left or (shape[axis] if axis in moving else 0)
    return [tuple(shape)], frozenset(moving)


def _pad(
    assumed: Assumed, node: onnx_ir.Node, inputs: Sequence[ValueInfo | None],
    known: Mapping[onnx_ir.Value, ValueInfo], opset: int,
) -> _Open:  # fmt: skip
    """Unknown widths count as 0."""
    assert inputs[0] is not None
    shape = list(inputs[0].shape)
    widths = partly_known(node.inputs[1], known, opset)
    chosen = partly_known(node.inputs[3], known, opset) if len(node.inputs) > 3 else None
    where = list(range(len(shape))) if chosen is None else [None if a is None else a % len(shape) for a in chosen]
    if widths is None or None in where or len(widths) != 2 * len(where):
        return [tuple(shape)], frozenset(range(len(shape)))
    moving = set()
    for k, axis in enumerate(where):
        assert axis is not None
        both = widths[k], widths[k + len(where)]
        if None in both:
            moving.add(axis)
        shape[axis] = max(shape[axis] + sum(w or 0 for w in both), 0)
    return [tuple(shape)], frozenset(moving)


def _split(
    assumed: Assumed, node: onnx_ir.Node, inputs: Sequence[ValueInfo | None],
    known: Mapping[onnx_ir.Value, ValueInfo], opset: int,
) -> _Open:  # fmt: skip
    """Parts of the assumed sizes."""
    assert inputs[0] is not None
    assert node.inputs[1] is not None
    shape, sizes = inputs[0].shape, assumed.data(node.inputs[1], known, opset)
    assert sizes is not None
    axis = node.attributes.get_int("axis", 0) % len(shape)
    parts = [(*shape[:axis], max(int(n), 1), *shape[axis + 1 :]) for n in sizes.reshape(-1)]
    return parts, frozenset({axis})


def _fits(
    node: onnx_ir.Node, inputs: Sequence[ValueInfo | None], numbers: np.ndarray | None,
    known: Mapping[onnx_ir.Value, ValueInfo], opset: int,
) -> bool:  # fmt: skip
    """Whether assumed numbers suit a Reshape of which several sizes are not known."""
    if node.op_type != "Reshape" or numbers is None or inputs[0] is None:
        return False
    entries = partly_known(node.inputs[1], known, opset) or []
    total, product = int(np.prod(inputs[0].shape)), int(np.prod([n for n in numbers.reshape(-1) if n != -1]))
    several = entries.count(None) > 1 or -1 in entries
    return several and product > 0 and (total % product == 0 if -1 in numbers else total == product)


def _reshape(
    assumed: Assumed, node: onnx_ir.Node, inputs: Sequence[ValueInfo | None],
    known: Mapping[onnx_ir.Value, ValueInfo], opset: int,
) -> _Open:  # fmt: skip
    """One size that is not known follows from the others; of several, all but the last one get a factor of the rest."""
    assert inputs[0] is not None
    shape, target = inputs[0].shape, partly_known(node.inputs[1], known, opset)
    assert target is not None
    allow = node.attributes.get_int("allowzero", 0)
    sizes = [shape[a] if n == 0 and not allow and a < len(shape) else n for a, n in enumerate(target)]
    open_axes = [a for a, n in enumerate(sizes) if n is None or n == -1]
    rest, known_part = int(np.prod(shape)), int(np.prod([n for n in sizes if n is not None and n != -1]))
    if not known_part or rest % known_part or not open_axes:
        raise LoweringError("the sizes do not fit")
    rest //= known_part
    for axis in open_axes[:-1]:
        sizes[axis] = next((n for n in range(2, rest + 1) if rest % n == 0), 1)
        rest //= sizes[axis] or 1
    sizes[open_axes[-1]] = rest
    several = frozenset(open_axes) if len(open_axes) > 1 else frozenset()
    return [tuple(n or 0 for n in sizes)], several


def _top(
    assumed: Assumed, node: onnx_ir.Node, inputs: Sequence[ValueInfo | None],
    known: Mapping[onnx_ir.Value, ValueInfo], opset: int,
) -> _Open:  # fmt: skip
    """As many entries as there are, at most."""
    assert inputs[0] is not None
    assert node.inputs[1] is not None
    shape, count = inputs[0].shape, assumed.data(node.inputs[1], known, opset)
    assert count is not None
    axis = node.attributes.get_int("axis", -1) % len(shape)
    chosen = min(max(int(count.reshape(-1)[0]), 1), shape[axis])
    return [(*shape[:axis], chosen, *shape[axis + 1 :])] * 2, frozenset({axis})


_OPEN: Mapping[str, Callable[..., _Open]] = {
    "Pad": _pad, "Reshape": _reshape, "Slice": _slice, "Split": _split, "TopK": _top,
}  # fmt: skip
"""Operators that may leave open whether the assumed numbers move entries along an axis."""


def moving_axes(node: onnx_ir.Node, known: Mapping[onnx_ir.Value, ValueInfo], opset: int) -> frozenset[int]:
    """The axes along which a Pad, Slice or Split may move entries by data."""
    inputs, assumed = [None if v is None else known.get(v) for v in node.inputs], Assumed(1)
    given = [v for i in SIZE_OPERANDS[node.op_type] if i < len(node.inputs) and (v := node.inputs[i]) is not None]
    if inputs[0] is None or any(assumed.data(v, known, opset) is None for v in given):
        return frozenset(range(0 if inputs[0] is None else len(inputs[0].shape)))
    return _OPEN[node.op_type](assumed, node, inputs, known, opset)[1]


def _counts_of(node: onnx_ir.Node) -> onnx_ir.Value | None:
    """The mask whose entries a node counts, else its first output."""
    place = 1 if node.op_type == "Compress" else 0
    if node.domain or node.op_type not in ("Compress", "NonZero"):
        return node.outputs[0]
    value = node.inputs[place]
    while value is not None and (made := value.producer()) is not None and not made.domain and made.op_type in _SAME:
        value = made.inputs[0]
    return value


_SAME = frozenset(["Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"])
