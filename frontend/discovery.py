"""Discovery: how many nodes an input needs, namely one per feature that the weights distinguish.

Every element of an input (and of a parameter that is lowered as an activation) gets its own label. The network is
interpreted with the same rules as in lowering, but a primitive that shares a weight over positions unifies their
labels. The classes that are left are the features. Values behind the first weight do not matter and have no labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..ir import EdgeRole, LoweringError
from ..ir.arrays import distinct
from .budget import MAX_LABELS, MAX_POSITIONS, check_limit
from .context import elementwise_result, reduced_shape
from .errors import SMALLER
from .primitives.aligned import own_axes, placed
from .primitives.contraction import Spec, fitted
from .primitives.elements import Elements
from .primitives.elementwise import broadcast_shape
from .primitives.interface import DataMovement, Rows
from .primitives.labels import compress, nodes_of, to_labels, unlabelled
from .primitives.movement import apply_movement
from .primitives.recurrence import Units
from .primitives.sparse import SparseLayer
from .primitives.stacking import resized
from .primitives.values import Op, Value
from .tracing import Tracing

__all__ = ["MAX_FULLY_LABELLED", "MAX_SOURCE_LABELS", "FeatureDiscovery"]

Pairs = tuple[np.ndarray, np.ndarray]


MAX_FULLY_LABELLED = MAX_LABELS
"""Elements of all sources together that get a label each; larger sources are labelled one axis at a time."""

MAX_SOURCE_LABELS = MAX_LABELS
"""Labels of all sources and merged values together, eight bytes each."""


_MAX_MERGED = 64
"""Labels on which one entry may depend together; beyond it, what the entry depends on is not tracked."""


class FeatureDiscovery(Tracing):
    """Propagates element labels up to the first weight and collects which elements are one feature."""

    def __init__(self, along: Mapping[str, Sequence[int]] | None = None) -> None:
        """along: the axes along which the labels of a source vary, for sources that are not labelled fully."""
        self.count = 0
        self._starts: list[int] = []
        self.shapes: dict[str, tuple[int, tuple[int, ...]]] = {}
        self.large: dict[str, tuple[int, ...]] = {}
        self._along = along or {}
        self._strong: list[Pairs] = []
        self._weak: list[Pairs] = []
        self._made: list[tuple[np.ndarray, list[np.ndarray]]] = []
        self._distinguished: list[np.ndarray] = []
        self._cyclic = False

    def source(self, name: str, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
        """One label per element of a source; one for the whole source if there would be too many (see `large`).

        Raises `LoweringError` if even the labels along the chosen axes exceed the limit.
        """
        if name not in self.shapes:
            labelled = self._labelled(name, shape)
            self.shapes[name] = (self.count, labelled)
            self._new(math.prod(labelled))
        start, shape = self.shapes[name]
        return (compress(to_labels(np.arange(start, start + math.prod(shape))).reshape(shape)),)

    def _new(self, size: int) -> np.ndarray:
        """So many new elements, of one origin."""
        self._starts.append(self.count)
        self.count += size
        return np.arange(self._starts[-1], self.count)

    def _labelled(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the labels of a source."""
        along = self._along.get(name)
        if along is None and self.count + math.prod(shape) > MAX_FULLY_LABELLED:
            self.large[name] = shape
            along = ()
        labelled = shape if along is None else tuple(n if a in along else 1 for a, n in enumerate(shape))
        self._check_room(name, shape, math.prod(labelled))
        return labelled

    def _check_room(self, name: str, shape: tuple[int, ...], more: int) -> None:
        """Raise `LoweringError` if so many more labels exceed the limit."""
        if self.count + more > MAX_SOURCE_LABELS:
            raise LoweringError(
                f"{name!r} of shape {list(shape)}: more than {MAX_SOURCE_LABELS:,} elements would need a label each; "
                f"{SMALLER}: sizes seldom change the graph"
            )

    def classes(self) -> dict[str, np.ndarray]:
        """The feature of each element, by source: int64 numbers from 0, compressed to the axes on which they differ."""
        parent = np.arange(self.count, dtype=np.int64)
        distinguished = np.zeros(self.count, dtype=bool)
        for ids in self._distinguished:
            distinguished[ids] = True
        parent = self._solve(parent, self._strong)
        for pair in self._weak:
            roots = distinct(parent[np.concatenate(pair)])
            if not np.isin(parent[distinguished], roots).any():
                parent = self._solve(parent, [pair])
        out = {}
        for name, (start, shape) in self.shapes.items():
            size = math.prod(shape)
            _, first, inverse = np.unique(parent[start : start + size], return_index=True, return_inverse=True)
            rank = np.argsort(np.argsort(first))
            out[name] = compress(rank[inverse].reshape(shape))
        return out

    def _solve(self, parent: np.ndarray, pairs: list[Pairs]) -> np.ndarray:
        """Unify the pairs, and then the operands of merged entries that were unified."""
        for left, right in pairs:
            parent = _unify(parent, left, right)
        while True:
            before, parent = parent, self._unify_operands(parent)
            if not self._cyclic or (before == parent).all():
                return parent

    def _unify_operands(self, parent: np.ndarray) -> np.ndarray:
        for made, operands in reversed(self._made):
            for operand in operands:
                for part in self._by_origin(operand):
                    own = np.flatnonzero(part >= 0)
                    _, first, inverse = np.unique(parent[made[own]], return_index=True, return_inverse=True)
                    parent = _unify(parent, part[own], part[own][first][inverse])
        return parent

    def _by_origin(self, ids: np.ndarray) -> Iterator[np.ndarray]:
        """The elements of each source or merged value, with -1 in place of all others.

        Elements of two sources are never one feature, though they meet one weight at two positions: if they were,
        so would all that meets either, as do the features of a class token beside values chosen by one index.
        """
        origins = np.searchsorted(self._starts, ids, side="right")
        found = distinct(origins[origins > 0])
        if len(found) <= 1:
            yield ids
        else:
            yield from (np.where(origins == origin, ids, -1) for origin in found)

    def _share(self, x: Value, axes: Sequence[int], weak: bool = False) -> None:
        """Unify positions along `axes`: a weight is shared over them."""
        for ids in (ids for factor in x.factors for ids in self._by_origin(nodes_of(factor))):
            whole = bool((ids >= 0).all())
            for axis in axes:
                if ids.shape[axis] > 1:
                    greatest = ids.max(axis=axis, keepdims=True)
                    twin = np.broadcast_to(greatest, ids.shape)
                    use = (ids >= 0) & (twin >= 0)
                    (self._weak if weak else self._strong).append((ids[use], twin[use]))
                    # If there are no gaps, one entry per line represents it from here on.
                    ids = greatest if whole else ids

    def _distinguish(self, x: Value, axes: Sequence[int]) -> None:
        """Record that a weight distinguishes entries along `axes`."""
        for factor in x.factors:
            if any(factor.shape[a] > 1 for a in axes):
                ids = nodes_of(factor).reshape(-1)
                self._distinguished.append(ids[ids >= 0])

    def _merge(self, operands: list[np.ndarray]) -> np.ndarray:
        """Labels of entries that depend on several labels: new elements that remember their operands."""
        tracked = [o for o in operands if (o >= 0).any()]
        if not tracked:
            return unlabelled(operands[0].ndim)
        labels = np.broadcast_arrays(*tracked) if len(tracked) > 1 else tracked
        if len(labels) > 1:
            self._check_room("a value", labels[0].shape, 0 if labels[0].size <= MAX_FULLY_LABELLED else labels[0].size)
        if len(labels) == 1 or all((o == labels[0]).all() for o in labels):
            return compress(labels[0])
        self._check_room("a value", labels[0].shape, labels[0].size)
        made = self._new(labels[0].size)
        self._made.append((made, [nodes_of(o).reshape(-1) for o in labels]))
        return compress(to_labels(made).reshape(labels[0].shape))

    def ignores(self, op: Op) -> bool:
        """Whether no operand has labels."""
        return not any((f >= 0).any() for v in op.inputs if v is not None for f in v.factors)

    def moved(self, x: Value, function: DataMovement, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
        """Labels move with their entries; they do not depend on positions of a grid."""
        return self.independent(
            [compress(apply_movement(function, np.broadcast_to(f, x.shape), shape)) for f in x.factors]
        )

    def independent(self, factors: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Merge all factors into one label tensor."""
        if len(factors) <= 1:
            return tuple(factors)
        return (self._merge(list(factors)),)

    def paired(self, value: Value, groups: int = 0) -> tuple[np.ndarray, ...]:
        """Rows and columns of a weight are always distinguished, so they need no labels."""
        return (unlabelled(value.rank),)

    def as_activation(self, value: Value) -> Value:
        """Constants have no labels."""
        if value.is_activation:
            return value
        return value.relabelled((unlabelled(value.rank),))

    def elementwise(self, name: str, /, *operands: Value | None, **attributes: Any) -> Value:
        """Merge the labels of the activations; constants distinguish the entries along which they vary."""
        shape = broadcast_shape(operands)
        labels = []
        for value in operands:
            if value is not None and value.is_activation:
                lift = (1,) * (len(shape) - value.rank)
                labels += [f.reshape(lift + f.shape) for f in value.factors]
        out = elementwise_result(operands, (self._merge(labels),))
        for value in operands:
            if value is not None and not value.is_activation and (value.data is None or value.data.size > 1):
                lead = len(shape) - value.rank
                self._distinguish(out, [lead + a for a, n in enumerate(value.shape) if n > 1])
        return out

    def add_parameters(
        self, x: Value, constants: Sequence[tuple[Value, str, int]], op: str, attributes: dict[str, Any]
    ) -> Value:
        """Vectors distinguish the entries along their axis."""
        self._distinguish(x, [axis for _, _, axis in constants])
        return x

    def contract(
        self, x: Value, weight: Elements, spec: Spec, shape: tuple[int, ...], role: str = EdgeRole.WEIGHT
    ) -> Value:
        """Positions that share the weight are one feature; the result has no labels."""
        sizes = dict(zip(spec.w, fitted(weight, spec, shape).shape, strict=True))
        apart = [i for i, t in enumerate(spec.x) if t in spec.w and (t not in spec.out or sizes[t] > 1)]
        self._share(x, [i for i in range(x.rank) if i not in apart])
        self._distinguish(x, apart)
        return x.relabelled((unlabelled(len(shape)),), shape)

    def sparse(self, x: Value, layers: Sequence[SparseLayer]) -> Value:
        """Rows share the layers, so they are one feature; the result has no labels."""
        self._share(x, [0])
        self._distinguish(x, [1])
        return x.relabelled((unlabelled(2),), (x.shape[0], layers[-1].size))

    def recur(
        self,
        x: Value,
        cell: Sequence[Units],
        initial: Mapping[str, Value],
        lengths: Value | None,
        outputs: Sequence[str],
    ) -> list[Value]:
        """Time steps and rows of the batch share the weights."""
        self._share(x, (0, 1))
        self._distinguish(x, (2,))
        for start in initial.values():
            self._share(start, (0,))
            self._distinguish(start, (1,))
        if lengths is not None:
            self._share(lengths, (0,))
        size = {units.name: units.size for units in cell}
        return [x.relabelled((unlabelled(2),), (x.shape[1], size[name])) for name in outputs]

    def step(self, x: Value, axis: int, attributes: dict[str, Any]) -> Value:
        """All entries along the axis are one feature."""
        self._share(x, (axis,))
        first = (slice(None),) * axis + (0,)
        return x.relabelled(tuple(f[first] for f in x.factors), (*x.shape[:axis], *x.shape[axis + 1 :]))

    def carry(self, name: str, initial: Value) -> Value:
        """New elements."""
        size = math.prod(initial.shape)
        self._check_room(name, initial.shape, size)
        made = self._new(size).reshape(initial.shape)
        return initial.relabelled((compress(to_labels(made)),))

    def close(self, carry: Value, initial: Value, end: Value) -> None:
        """Carried elements that are one feature are one in the initial value and at the end, too."""
        made, *operands = (np.broadcast_to(self.independent(v.factors)[0], carry.shape) for v in (carry, initial, end))
        self._made.append((nodes_of(made).reshape(-1), [nodes_of(o).reshape(-1) for o in operands]))
        self._cyclic = True

    def product_sum(self, x: Value, y: Value, letters: tuple[str, str, str], shape: tuple[int, ...]) -> Value:
        """Rows that are multiplied alike count as positions of one feature unless a weight distinguishes them."""
        for value, own, other, partner in ((x, letters[0], letters[1], y), (y, letters[1], letters[0], x)):
            mute = not any((f >= 0).any() for f in partner.factors)
            alone = [i for i, t in enumerate(own) if t not in other or (mute and t not in letters[2])]
            self._share(value, alone, weak=True)
        return x.relabelled((unlabelled(len(shape)),), shape)

    def reduce(self, x: Value, axes: Sequence[int], op: str, attributes: dict[str, Any]) -> Value:
        """Entries that are reduced together count as one feature unless a weight distinguishes them."""
        self._share(x, axes, weak=True)
        shape = reduced_shape(x.shape, axes)
        factors = []
        for factor in x.factors:
            inside = [a for a in axes if factor.shape[a] > 1]
            rows = np.moveaxis(factor, inside, range(len(inside)))
            flat = rows.reshape(-1, *rows.shape[len(inside) :])
            keep = tuple(1 if a in inside else n for a, n in enumerate(factor.shape))
            factors.append(
                self._merge([r.reshape(keep) for r in flat]) if len(flat) <= _MAX_MERGED else unlabelled(x.rank)
            )
        return x.relabelled(tuple(factors), shape)

    def order(
        self, x: Value, axes: Sequence[int], op: str, attributes: dict[str, Any], shape: tuple[int, ...],
        mixed: bool = True,
    ) -> Value:  # fmt: skip
        """Positions that are sorted, resized or windowed are one feature."""
        self._share(x, axes)
        factors = []
        for factor in x.factors:
            first = tuple(slice(0, 1) if a in axes else slice(None) for a in range(x.rank))
            factors.append(factor[first])
        return x.relabelled(tuple(factors), shape)

    def gather_rows(self, table: Elements, x: Value, shape: tuple[int, ...], role: str = EdgeRole.EMBEDDING) -> Value:
        """All positions look up the same table."""
        self._share(x, range(x.rank))
        return x.relabelled((unlabelled(len(shape)),), shape)

    def concat(self, inputs: Sequence[Value], axis: int) -> Value:
        """Concatenate the labels."""
        parts = []
        for value in inputs:
            value = self.as_activation(value)
            parts.append(np.broadcast_to(self.independent(value.factors)[0], value.shape))
        shape = resized(inputs[0].shape, axis, sum(v.shape[axis] for v in inputs))
        check_limit(math.prod(shape), MAX_POSITIONS, "entries in a row")
        return inputs[0].relabelled((compress(np.concatenate(parts, axis=axis)),), shape)

    def join_all(
        self, inputs: Sequence[Value], op: str, shape: tuple[int, ...], keep: dict[int, int],
        places: Sequence[int] = (), rows: Rows | None = None,
    ) -> Value:  # fmt: skip
        """Positions of each operand are one feature, except along the axes that are kept; these are merged."""
        for other in inputs[1:]:
            self._share(other, places)
        first = inputs[0]
        own = own_axes(rows or {}, keep, len(inputs))
        self._share(first, [a for a in range(first.rank) if a not in own[0].values()])
        sizes = [v.shape[b] for v, axes in zip(inputs, own, strict=True) for b in axes.values()]
        if math.prod(sizes) > MAX_FULLY_LABELLED:
            return first.relabelled((unlabelled(len(shape)),), shape)
        parts: list[np.ndarray] = []
        for value, axes in zip(inputs, own, strict=True):
            for factor in value.factors:
                # The operand takes part as a whole along its other axes.
                sizes = [1 if a in axes.values() else n for a, n in enumerate(factor.shape)]
                if math.prod(sizes) > _MAX_MERGED:
                    return first.relabelled((unlabelled(len(shape)),), shape)
                for at in np.ndindex(*sizes):
                    entry = tuple(slice(None) if a in axes.values() else slice(i, i + 1) for a, i in enumerate(at))
                    parts.append(placed(factor[entry], axes, len(shape)))
        return first.relabelled((self._merge(parts),), shape)

    def mixed(self, op: Op) -> None:
        """Each operand counts as one feature unless a weight distinguishes its entries."""
        for value in {v.name: v for v in op.inputs if v is not None and v.is_activation}.values():
            self._share(value, range(value.rank), weak=True)


def _unify(parent: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Union of the classes of each pair, by label propagation with pointer jumping."""
    while True:
        a, b = parent[left], parent[right]
        differ = a != b
        if not differ.any():
            return parent
        low = np.minimum(a, b)[differ]
        np.minimum.at(parent, np.maximum(a, b)[differ], low)
        while True:
            jumped = parent[parent]
            if (jumped == parent).all():
                break
            parent = jumped
