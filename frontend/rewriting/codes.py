"""One-hot codes of the indices that a router chose: ArgMax, ArgMin and TopK as masks over what they choose from.

An index that is only compared with the numbers of the entries, or looks up tables made for it, names entries and
counts nothing: entries may trade places with all that belongs to them. Its code (1 at the entry, 0 elsewhere) says the
same without numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx_ir

from ..budget import MAX_LABELS
from ..errors import Unsupported
from ..model.keys import DOMAIN
from .editor import GraphEditor
from .moves import MOVES, movement
from .patterns.matching import Facts, operands
from .shaped import ShapedEditor
from .ties import all_distinct

__all__ = ["ROUTERS", "Codes", "Index", "Router", "runs", "thin"]

ROUTERS = frozenset({"ArgMax", "ArgMin", "TopK"})
"""The operators that routers are."""

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
        if node.domain not in ("", "ai.onnx") or node.op_type not in ROUTERS:
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
    """An index that a router chose, or several that choose among as many entries, moved and joined.

    Attributes:
        routers: The routers.
        numbers: Which entry of the routers' indices, one after the other, each entry is: int64, of the shape of the
            index.
        shift: What was added to each entry, None if nothing was: int64, of the shape of the index.
    """

    routers: tuple[Router, ...]
    numbers: np.ndarray
    shift: np.ndarray | None = None

    @property
    def count(self) -> int:
        """The number of entries that are chosen from."""
        return self.routers[0].count

    @property
    def key(self) -> tuple[onnx_ir.Value, ...]:
        """What two indices of the same routers share."""
        return tuple(r.index for r in self.routers)


@dataclass(slots=True)
class Codes:
    """Finds indices and makes their codes, which are inserted in front of the router: any node may read them."""

    editor: GraphEditor
    overridden: Callable[[onnx_ir.Node], bool]
    _made: dict[Hashable, onnx_ir.Value] = field(default_factory=dict)

    @property
    def facts(self) -> Facts:
        """What is known about the values of the graph."""
        return Facts(self.editor.known)

    @property
    def write(self) -> ShapedEditor:
        """The editor of the graph."""
        return ShapedEditor(self.editor)

    def router(self, node: onnx_ir.Node) -> Router | None:
        """The router that a node is, unless a rule from outside lowers it or its scores may be equal."""
        found = Router.of(node, self.facts)
        if found is None or node.graph is not self.editor.graph or self.overridden(node):
            return None
        clear = not self.editor.is_constant(found.scores) and all_distinct(found.scores, found.axis, self.editor)
        return found if clear else None

    def index(self, value: onnx_ir.Value | None) -> Index | None:
        """The index that a value is, None if it is no router's or was changed."""
        node = None if value is None else value.producer()
        if node is None or value is None:
            return None
        router = self.router(node)
        if router is not None:
            size = math.prod(router.shape)
            numbers = np.arange(size).reshape(router.shape) if size <= MAX_LABELS else None
            return None if value is not router.index or numbers is None else Index((router,), numbers)
        if node.op_type in ("Add", "Sub") and not node.domain:
            return self._shifted(node)
        if not self._keeps(node) or value is not node.outputs[0]:
            return None
        joined = node.inputs if node.op_type == "Concat" else node.inputs[:1]
        parts = [part for v in joined if (part := self.index(v)) is not None]
        if len(joined) > 1 and any(part.shift is not None for part in parts):
            return None
        if len(parts) < len(joined) or len({part.count for part in parts}) != 1:
            return None
        if node.op_type == "Cast" and not self._counts(node, parts[0].count):
            return None
        if len(parts) > 1:
            return self._joined(parts, node.attributes.get_int("axis", 0))
        try:
            move = movement(node, self.facts)
            numbers, shift = move(parts[0].numbers), None if parts[0].shift is None else move(parts[0].shift)
        except (Unsupported, ValueError, IndexError):
            return None
        return Index(parts[0].routers, numbers, shift) if numbers.size <= MAX_LABELS else None

    def _shifted(self, node: onnx_ir.Node) -> Index | None:
        """An index to which known integers are added, as where several tables lie in one."""
        for value, other in operands(node):
            numbers, index = self.facts.data(other), self.index(value)
            turned = node.op_type == "Sub" and value is not node.inputs[0]
            if index is None or numbers is None or numbers.dtype.kind not in "iu" or turned or self.overridden(node):
                continue
            shift = (-1 if node.op_type == "Sub" else 1) * numbers.astype(np.int64)
            shape = np.broadcast_shapes(index.numbers.shape, shift.shape)
            if math.prod(shape) > MAX_LABELS:
                return None
            before = np.zeros((), np.int64) if index.shift is None else index.shift
            return Index(index.routers, np.broadcast_to(index.numbers, shape), np.broadcast_to(before + shift, shape))
        return None

    def _joined(self, parts: list[Index], axis: int) -> Index | None:
        """Indices one after the other along an axis."""
        routers = {router.index: router for part in parts for router in part.routers}
        starts, size = {}, 0
        for index, router in routers.items():
            starts[index] = size
            size += math.prod(router.shape)
        if size > MAX_LABELS:
            return None
        found = []
        for part in parts:
            places = [starts[r.index] + np.arange(math.prod(r.shape)) for r in part.routers]
            found.append(np.concatenate(places)[part.numbers])
        return Index(tuple(routers.values()), np.concatenate(found, axis=axis))

    def _keeps(self, node: onnx_ir.Node) -> bool:
        """Whether a node moves indices and changes no number."""
        if node.domain not in ("", "ai.onnx") or node.op_type not in MOVES or self.overridden(node):
            return False
        return node.op_type not in ("Max", "Min", "Sum", "Mean") or len(node.inputs) == 1

    def _are_columns(self, node: onnx_ir.Node) -> bool:
        """Whether a Concat joins columns of index tuples, which nothing but gathers read."""
        made = node.outputs[0]
        return bool(made.uses()) and not made.is_graph_output() and all(
            use.node.op_type == "GatherND" and use.idx == 1 for use in made.uses()
        )  # fmt: skip

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
                if _is_for_shape(use.node):
                    continue
                first = use.idx == 0 or use.node.op_type in ("Concat", "Add", "Sub")
                if first and self.index(use.node.outputs[0]) is not None:
                    waiting += use.node.outputs
                elif use.node.op_type == "Concat" and self._are_columns(use.node):
                    yield from ((reader.node, reader.idx) for reader in use.node.outputs[0].uses())
                else:
                    yield use.node, use.idx

    def code(self, index: Index) -> onnx_ir.Value:
        """The code of an index: [*its shape, entries]."""
        shape, count, write, node = index.numbers.shape, index.count, self.write, self._last(index)
        key = (index.key, shape, index.numbers.tobytes())
        if (made := self._cached(key)) is not None:
            return made
        size = sum(math.prod(r.shape) for r in index.routers)
        few = thin(index.numbers)
        every, digits = self._every(index), _digits(few, size)
        parts = _selection(few, index.routers[0].shape) if digits is None and len(index.routers) == 1 else None
        if parts is not None:
            value = self._selected(index.routers[0], parts, few.shape)
        elif digits is None:
            flat = write.reshaped(node, every, (size, count))
            picks = write.constant(node, "entries", few.astype(np.int64))
            value = write.like(node, "Gather", flat, [picks], (*few.shape, count), axis=0)
        else:
            # In the order in which the routers' entries count, then as the axes of the index lie.
            sizes, order = digits
            lying = write.reshaped(node, every, (*(sizes[a] for a in order), count))
            turned = write.transposed(node, lying, [*np.argsort(order).tolist(), len(order)])
            value = write.reshaped(node, turned, (*few.shape, count))
        self._made[key] = value = write.expanded(node, value, (*shape, count))
        return value

    def _selected(
        self, router: Router, parts: tuple[list[np.ndarray], list[int]], shape: tuple[int, ...]
    ) -> onnx_ir.Value:
        """The code of some entries along each axis of the router's own index, in another order of axes."""
        write, node, value = self.write, router.node, self._base(router)
        lines, order = parts
        for axis, line in enumerate(lines):
            now = write.shape(value)
            if len(line) != now[axis] or (line != np.arange(now[axis])).any():
                listed = write.constant(node, "entries", line)
                value = write.like(
                    node, "Gather", value, [listed], (*now[:axis], len(line), *now[axis + 1 :]), axis=axis
                )
        return write.reshaped(node, write.transposed(node, value, [*order, len(order)]), (*shape, router.count))

    def _cached(self, key: Hashable) -> onnx_ir.Value | None:
        """What was made for a key, unless it was removed since, as nothing read it any more."""
        value = self._made.get(key)
        node = None if value is None else value.producer()
        return value if node is not None and node.graph is not None else None

    def _last(self, index: Index) -> onnx_ir.Node:
        """The router that comes last in the graph."""
        nodes = {router.node for router in index.routers}
        return next(node for node in reversed(self.editor.graph) if node in nodes) if len(nodes) > 1 else nodes.pop()

    def _every(self, index: Index) -> onnx_ir.Value:
        """The code of the only router's own index, or those of all routers, one after the other."""
        if len(index.routers) == 1:
            return self._base(index.routers[0])
        if (made := self._cached((index.key, "every"))) is not None:
            return made
        write, node, count = self.write, self._last(index), index.count
        flat = [write.reshaped(r.node, self._base(r), (math.prod(r.shape), count)) for r in index.routers]
        flat = [flat[0], *(write.as_type(node, code, flat[0]) for code in flat[1:])]
        size = sum(math.prod(r.shape) for r in index.routers)
        value = write.like(node, "Concat", flat[0], flat[1:], (size, count), axis=0)
        self._made[(index.key, "every")] = value
        return value

    def _base(self, router: Router) -> onnx_ir.Value:
        """The code of the router's own index."""
        key = (router.index, "own")
        if (made := self._cached(key)) is not None:
            return made
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
        key = (router.index, "mask")
        if (made := self._cached(key)) is not None:
            return made
        settings = {"k": router.k, "axis": router.axis, "largest": int(router.largest), "mask": 1}
        shape, kind = self.write.shape(router.scores), self.editor.known[router.scores].dtype
        self._made[key] = made = self.write.made(router.node, "Chosen", [router.scores], shape, kind, settings, DOMAIN)
        return made


def _is_for_shape(node: onnx_ir.Node) -> bool:
    """Whether nothing but the shape of what a node reads or makes matters."""
    if node.op_type in ("Shape", "Size"):
        return True
    uses = [use.node for value in node.outputs for use in value.uses()]
    made = any(value.is_graph_output() for value in node.outputs)
    return bool(uses) and not made and all(n.op_type in ("Shape", "Size") for n in uses)


def thin(numbers: np.ndarray) -> np.ndarray:
    """The array with size 1 along axes on which it does not vary."""
    for axis, size in enumerate(numbers.shape):
        first = numbers.take([0], axis=axis)
        if size > 1 and (numbers == first).all():
            numbers = first
    return numbers


def runs(numbers: np.ndarray, axis: int) -> list[int]:
    """The sizes of the nested runs of even steps of which an axis consists, the outermost first."""
    parts = _line(np.moveaxis(numbers, axis, 0).reshape(numbers.shape[axis], -1)[:, 0])
    return [numbers.shape[axis]] if parts is None else [n for n, _ in parts]


def _digits(numbers: np.ndarray, count: int) -> tuple[list[int], list[int]] | None:
    """How 0, 1, ..., count - 1 lie in an array: its shape with axes taken apart, and these in the order of their steps.

    None if they do not all lie in it once, as in a mixed radix.
    """
    if numbers.size != count:
        return None
    sizes: list[int] = []
    steps: list[int] = []
    for axis, size in enumerate(numbers.shape):
        parts = _line(np.moveaxis(numbers, axis, 0).reshape(size, -1)[:, 0])
        if parts is None:
            return None
        sizes += [n for n, _ in parts]
        steps += [step for _, step in parts]
    order = sorted(range(len(sizes)), key=lambda a: -steps[a])
    lying = numbers.reshape(sizes).transpose(order).reshape(-1)
    return (sizes, order) if (lying == np.arange(count)).all() else None


def _selection(numbers: np.ndarray, shape: tuple[int, ...]) -> tuple[list[np.ndarray], list[int]] | None:
    """Which entries along each axis of an array of 0, 1, ... are picked, and the order of its axes afterwards.

    None if the axes of what is picked are not those of the array.
    """
    places = [thin(place) for place in np.unravel_index(numbers, shape)]
    axes = [[a for a, n in enumerate(place.shape) if n > 1] for place in places]
    used = [a for own in axes for a in own]
    if any(len(own) > 1 for own in axes) or len(set(used)) < len(used):
        return None
    order = sorted(range(len(shape)), key=lambda axis: axes[axis] or [-1])
    return [place.reshape(-1).astype(np.int64) for place in places], order


def _line(numbers: np.ndarray) -> list[tuple[int, int]] | None:
    """Sizes and steps of nested runs of even steps, the outermost first; None if numbers do not lie like this."""
    if len(numbers) == 1:
        return [(1, 0)]
    steps = np.diff(numbers)
    breaks = np.flatnonzero(steps != steps[0])
    run = int(breaks[0]) + 1 if len(breaks) else len(numbers)
    if len(numbers) % run:
        return None
    runs = numbers.reshape(-1, run)
    if (runs - runs[:, :1] != runs[0] - runs[0, 0]).any():
        return None
    inner = [(run, int(steps[0]))]
    if run == len(numbers):
        return inner
    outer = _line(runs[:, 0])
    return None if outer is None else outer + inner
