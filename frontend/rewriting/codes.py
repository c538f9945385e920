"""One-hot codes of the indices that a router chose: ArgMax, ArgMin and TopK as masks over what they choose from.

An index that is only compared with the numbers of the entries, or looks up tables made for it, names entries and
counts nothing: entries may trade places with all that belongs to them. Its code (1 at the entry, 0 elsewhere) says the
same without numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx_ir

from ..budget import MAX_LABELS
from ..errors import Unsupported
from ..model.keys import DOMAIN
from .editor import GraphEditor
from .moves import MOVES, movement
from .patterns.matching import Facts
from .shaped import ShapedEditor

__all__ = ["Codes", "Index", "Router", "thin"]

_EXACT = {"float16": 2**11, "bfloat16": 2**8, "float32": 2**24, "float64": 2**53}


@dataclass(frozen=True, slots=True)
class Router:
    """A node that chooses k of the entries along an axis of its scores.

    Attributes:
        node: ArgMax, ArgMin or TopK.
        index: Its output of indices.
        scores: What it chooses by.
        axis: The axis of the scores.
        count: The number of entries along it.
        k: How many are chosen.
        largest: Whether those of the largest scores are.
        shape: The shape of the index.
    """

    node: onnx_ir.Node
    index: onnx_ir.Value
    scores: onnx_ir.Value
    axis: int
    count: int
    k: int
    largest: bool
    shape: tuple[int, ...]

    @staticmethod
    def of(node: onnx_ir.Node, facts: Facts) -> Router | None:
        """The router that a node is, None if it is none or a size is unknown."""
        if node.domain not in ("", "ai.onnx") or node.op_type not in ("ArgMax", "ArgMin", "TopK"):
            return None
        place = 1 if node.op_type == "TopK" else 0
        scores = node.inputs[0]
        if scores is None or len(node.outputs) <= place or not node.outputs[place].name:
            return None
        index = node.outputs[place]
        entries, shape = facts.shape(scores), facts.shape(index)
        if not entries or shape is None or 0 in entries or 0 in shape:
            return None
        axis = node.attributes.get_int("axis", place - 1 if place == 0 else -1) % len(entries)
        largest = node.op_type == "ArgMax" or (place == 1 and bool(node.attributes.get_int("largest", 1)))
        k = shape[axis] if place else 1
        return Router(node, index, scores, axis, entries[axis], k, largest, shape)


@dataclass(frozen=True, slots=True)
class Index:
    """An index that a router chose, moved.

    Attributes:
        router: The router.
        numbers: Which entry of the router's index each entry is: int64, of the shape of the index.
    """

    router: Router
    numbers: np.ndarray


@dataclass(slots=True)
class Codes:
    """Finds indices and makes their codes, which are inserted in front of the router: any node may read them."""

    editor: GraphEditor
    overridden: Callable[[onnx_ir.Node], bool]
    _made: dict[tuple[onnx_ir.Value, tuple[int, ...], bytes], onnx_ir.Value] = field(default_factory=dict)

    @property
    def facts(self) -> Facts:
        """What is known about the values of the graph."""
        return Facts(self.editor.known)

    @property
    def write(self) -> ShapedEditor:
        """The editor of the graph."""
        return ShapedEditor(self.editor)

    def router(self, node: onnx_ir.Node) -> Router | None:
        """The router that a node of the main graph is, unless a rule from outside lowers it."""
        found = Router.of(node, self.facts)
        usable = found is not None and node.graph is self.editor.graph and not self.overridden(node)
        return found if usable and found is not None and not self.editor.is_constant(found.scores) else None

    def index(self, value: onnx_ir.Value | None) -> Index | None:
        """The index that a value is, None if it is no router's or was changed."""
        moves: list[onnx_ir.Node] = []
        while value is not None and (node := value.producer()) is not None:
            router = self.router(node)
            if router is not None:
                return self._along(router, moves[::-1]) if value is router.index else None
            if not self._keeps(node):
                return None
            moves.append(node)
            value = node.inputs[0] if node.inputs and value is node.outputs[0] else None
        return None

    def _along(self, router: Router, moves: list[onnx_ir.Node]) -> Index | None:
        if math.prod(router.shape) > MAX_LABELS:
            return None
        numbers = np.arange(math.prod(router.shape)).reshape(router.shape)
        try:
            for node in moves:
                if node.op_type == "Cast" and not self._counts(node, router.count):
                    return None
                numbers = movement(node, self.facts)(numbers)
                if numbers.size > MAX_LABELS:
                    return None
        except (Unsupported, ValueError, IndexError):
            return None
        return Index(router, numbers)

    def _keeps(self, node: onnx_ir.Node) -> bool:
        """Whether a node moves its first operand and changes no number."""
        if node.domain not in ("", "ai.onnx") or node.op_type not in MOVES or self.overridden(node):
            return False
        return node.op_type not in ("Max", "Min", "Sum", "Mean", "Concat") or len(node.inputs) == 1

    def _counts(self, node: onnx_ir.Node, count: int) -> bool:
        """Whether the type that a node casts to has all numbers below `count`."""
        known = self.editor.known.get(node.outputs[0])
        kind = "" if known is None else known.dtype
        if kind.startswith(("int", "uint")):
            return np.iinfo(kind).max >= count - 1
        return _EXACT.get(kind, 0) >= count

    def readers(self, router: Router) -> Iterator[tuple[onnx_ir.Node, int]]:
        """The nodes that read an index of the router, moved or not, with the operand; not those that read its shape."""
        waiting = [router.index]
        while waiting:
            value = waiting.pop()
            if value.is_graph_output():
                yield router.node, -1
            for use in value.uses():
                if use.node.op_type in ("Shape", "Size"):
                    continue
                if use.idx == 0 and self._keeps(use.node) and self.index(use.node.outputs[0]) is not None:
                    waiting += use.node.outputs
                else:
                    yield use.node, use.idx

    def code(self, index: Index) -> onnx_ir.Value:
        """The code of an index: [*its shape, entries]."""
        router, shape = index.router, index.numbers.shape
        count, write, node = router.count, self.write, router.node
        key = (router.index, shape, index.numbers.tobytes())
        if key in self._made:
            return self._made[key]
        few, order = thin(index.numbers), _order(index.numbers, math.prod(router.shape))
        every = self._base(router)
        if order is None:
            flat = write.reshaped(node, every, (math.prod(router.shape), count))
            picks = write.constant(node, "entries", few.astype(np.int64))
            value = write.like(node, "Gather", flat, [picks], (*few.shape, count), axis=0)
        else:
            # In the order in which the router's entries count, then as the axes of the index lie.
            lying = write.reshaped(node, every, (*(few.shape[a] for a in order), count))
            back = [*np.argsort(order).tolist(), len(order)]
            value = write.transposed(node, lying, back)
        self._made[key] = value = write.expanded(node, value, (*shape, count))
        return value

    def _base(self, router: Router) -> onnx_ir.Value:
        """The code of the router's own index."""
        key = (router.index, (), b"")
        if key in self._made:
            return self._made[key]
        write, node = self.write, router.node
        last = len(write.shape(router.scores)) - 1
        if router.k == 1:
            mask = write.moved_axis(node, self.mask(router), router.axis, last)
            value = write.reshaped(node, mask, (*router.shape, router.count))
        else:
            scores = write.moved_axis(node, router.scores, router.axis, last)
            entries = write.shape(scores)
            ranked = (*entries[:-1], router.k, entries[-1])
            settings = {"k": router.k, "largest": int(router.largest)}
            kind = self.editor.known[scores].dtype
            value = write.made(node, "Ranked", [scores], ranked, kind, settings, DOMAIN)
            value = write.moved_axis(node, value, last, router.axis)
        self._made[key] = value
        return value

    def mask(self, router: Router) -> onnx_ir.Value:
        """Which entries were chosen, of the shape of the scores."""
        key = (router.index, (), b"mask")
        if key not in self._made:
            settings = {"k": router.k, "axis": router.axis, "largest": int(router.largest), "mask": 1}
            shape, kind = self.write.shape(router.scores), self.editor.known[router.scores].dtype
            self._made[key] = self.write.made(router.node, "Chosen", [router.scores], shape, kind, settings, DOMAIN)
        return self._made[key]


def thin(numbers: np.ndarray) -> np.ndarray:
    """The array with size 1 along axes on which it does not vary."""
    for axis, size in enumerate(numbers.shape):
        first = numbers.take([0], axis=axis)
        if size > 1 and (numbers == first).all():
            numbers = first
    return numbers


def _order(numbers: np.ndarray, count: int) -> list[int] | None:
    """The axes in the order in which 0, 1, ..., count - 1 lie in an array, None if they lie otherwise."""
    few = thin(numbers)
    if few.size != count:
        return None
    steps = [int(few.take(1, axis=a).flat[0] - few.flat[0]) if n > 1 else 0 for a, n in enumerate(few.shape)]
    order = sorted(range(few.ndim), key=lambda a: -steps[a])
    lying = few.transpose(order).reshape(-1)
    return order if (lying == np.arange(count)).all() else None
