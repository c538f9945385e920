"""The lowering context that builds the parameter graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

import numpy as np

from ..ir import EdgeRole, LinkRole, NodeKind, OpaqueOp, Parameter
from .budget import MAX_EXPANDED, MAX_LABELS, check_limit
from .context import LoweringContext, elementwise_result, reduced_shape
from .primitives.add_parameters import Addend, add_parameters
from .primitives.aligned import axis_names, join_aligned, own_axes
from .primitives.constants import Constants, uniform
from .primitives.contraction import Spec, contract, fitted
from .primitives.copied_nodes import copied, numbers_apart
from .primitives.copies import SINGLE, common_copies, is_copied, met_by_labels
from .primitives.elements import Elements
from .primitives.elementwise import elementwise, traced
from .primitives.grid import copied_axes, free_axes, moved
from .primitives.interface import DataMovement, Picks, Rows
from .primitives.joins import Factors, Operand, independent, join, shared_neuron
from .primitives.labels import compress, map_via, to_labels, varying
from .primitives.loop_carried import carry, close, read_by_step
from .primitives.opaque import opaque, opaque_join
from .primitives.pairing import matrix_axes, neuron_axes, paired, paired_by_group
from .primitives.products import product_sum
from .primitives.quantised import Packing, QuantScheme
from .primitives.recurrence import Units, recur
from .primitives.reductions import layout, normalize_over, order, reduce
from .primitives.shared_weights import is_one_of, own_nodes, settled, windows
from .primitives.sources import placed_source, rows_of_table
from .primitives.sparse import SparseLayer, sparse
from .primitives.stacking import joined_along, resized, stack
from .primitives.state import State
from .primitives.storage import QuantOperand, quantise, store
from .primitives.values import Op, Value

__all__ = ["GraphLowering"]


class GraphLowering(LoweringContext):
    """Builds nodes, blocks and links as rules call its primitives.

    evaluate: makes the table of a computed constant by name. account_reasons: why elements have no edge, by tensor or
    value name. carried: the partition of each loop-carried value into nodes (see `loop_carried`), by value name.
    finer: partitions that turned out too coarse, refined; if there are any, the lowering has to be repeated. kernels:
    names of constants from which the kernel of a convolution is computed. shared: names of parameters that several
    contractions read.
    """

    def __init__(
        self, state: State, evaluate: Callable[[str], Parameter], carried: Mapping[str, np.ndarray] | None = None,
        kernels: Set[str] = frozenset(), shared: Set[str] = frozenset(),
    ) -> None:  # fmt: skip
        self.state = state
        self.kernels, self.shared = kernels, shared
        self.carried = dict(carried or {})
        self.finer: dict[str, np.ndarray] = {}
        self.account_reasons: dict[str, str] = {}
        self.opaque_ops: list[OpaqueOp] = []
        self.constants = Constants(state, evaluate)

    def source(self, value: Value, classes: np.ndarray) -> tuple[np.ndarray, ...]:
        """Neurons of a parameter or constant that is lowered as an activation, one per feature; elements are edges."""
        ids = self.state.nodes(NodeKind.NEURON, int(classes.max()) + 1 if classes.size else 0, 0)
        labels = placed_source(self.state, to_labels(ids)[classes], value.shape) if classes.size else classes
        elements = self.weight(value)
        add_parameters(self.state, (labels,), value.shape, [Addend(elements, EdgeRole.SOURCE)], "Source", {})
        if elements.arena.constant:
            self.state.pin(labels)
        return (labels,)

    def paired(self, value: Value, groups: int = 0) -> tuple[np.ndarray, ...]:
        """A node per row and per column of a matrix that is lowered as an activation, with its elements as edges."""
        if sum(n > 1 for n in value.shape) < 2:
            return self.source(value, np.arange(math.prod(value.shape)).reshape(value.shape))
        axes = matrix_axes(value.shape, groups > 0)
        if groups > 1 and axes == (0, 1) and not value.shape[0] % groups and math.prod(value.shape[:2]) <= MAX_EXPANDED:
            return self.independent(paired_by_group(self.state, self.weight(value), value.shape, groups))
        return self.independent(paired(self.state, self.weight(value), value.shape, axes[:1], axes[1:]))

    def input(self, name: str, shape: tuple[int, ...], classes: np.ndarray) -> tuple[np.ndarray, ...]:
        """Nodes of a graph input, one per feature; pinned."""
        ids = self.state.builder.nodes(NodeKind.INPUT, int(classes.max()) + 1 if classes.size else 0, 0, value=name)
        self.state.builder.pin(ids)
        return (placed_source(self.state, to_labels(ids)[classes], shape),)

    def move(
        self, x: Value, function: DataMovement, shape: tuple[int, ...], by_shape: bool = False,
        picks: Picks | None = None,
    ) -> Value:  # fmt: skip
        """Labels move; entries that they show to be copies are known to be copies.

        Not so for indices: of positions that are alike one is lowered, and others may be picked by other numbers.
        """
        made = super().move(x, function, shape, by_shape, picks)
        if not made.is_activation or made.copy_axes or picks is not None:
            return made
        return replace(made, copy_axes=copied_axes(self.state.moves, made.factors, made.shape))

    def moved(self, x: Value, function: DataMovement, shape: tuple[int, ...]) -> Factors:
        """Labels move with their entries; the movement of positions along free axes is a step of the via."""

        def pair(factors: Factors) -> np.ndarray:
            return self._tuple(x.relabelled(factors))

        return self.independent(moved(self.state.moves, x.factors, x.shape, function, shape, pair))

    def independent(self, factors: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Join factors that vary along one axis."""
        return independent(self.state, factors)

    def weight(self, value: Value) -> Elements:
        """The elements of a constant; one that is not a parameter becomes a table of the graph."""
        return self.constants.weight(value)

    def stored(
        self,
        x: Value,
        quant_params: Sequence[QuantOperand],
        scheme: QuantScheme,
        value: str = "",
        packing: Packing | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> Elements:
        """Elements whose blocks get edges for scales and zero points; what a packed tensor has more is padding."""
        if packing is not None:
            self.account_reasons.setdefault(x.name, "padding")
        return store(self.state, self.constants, x, quant_params, scheme, value, packing, shape)

    def quantised(
        self, x: Value, quant_params: Sequence[QuantOperand] | None, attributes: Mapping[str, object]
    ) -> Elements:
        """Elements whose blocks get edges for the quantiser's scales too."""
        return quantise(self.state, self.constants, x, quant_params, attributes)

    def as_activation(self, value: Value) -> Value:
        """A constant as an activation: a program constant becomes one pinned node, others get neurons."""
        if value.is_activation:
            return value
        if value.data is None:
            check_limit(math.prod(value.shape), MAX_LABELS, "elements of a constant that are neurons")
            every = np.arange(math.prod(value.shape)).reshape(value.shape)
            return value.relabelled(self.source(value, compress(every)))
        number = uniform(value.data)
        one = np.zeros((1,) * value.rank, dtype=np.int64)
        copies = frozenset(a for a, n in enumerate(value.shape) if n > 1 and is_copied(value, a))
        if number is None:
            factors = self.source(value, one) if value.data.size else (one,)
            return replace(value.relabelled(factors), copy_axes=copies)
        node = self.state.constant_node()
        via = self.state.builder.via("Constant", (("value", float(f"{float(number):.6g}")),))
        return replace(value.relabelled((to_labels(node, via).reshape(one.shape),)), copy_axes=copies)

    def unused(self, value: Value, reason: str) -> None:
        """Record the reason for the account."""
        self.account_reasons[value.name] = reason

    def unary(self, x: Value, op: str, attributes: dict[str, Any], function: Callable[..., Any] | None = None) -> Value:
        """Labels stay, the via grows by the step."""
        if function is None:
            attributes = {**attributes, **layout(x.factors, x.shape)}

        def step(via: int) -> int:
            return self.state.step((via,), function, op, attributes)

        made = x.relabelled(tuple(map_via(f, step) for f in x.factors))
        return replace(made, copy_axes=x.copy_axes) if function is not None or op in SINGLE else made

    def elementwise(self, name: str, /, *operands: Value | None, **attributes: Any) -> Value:
        """Join the activations, bind literals into the function, add other constants as parameters."""
        names = [range(-v.rank, 0) if v is not None else () for v in operands]
        inputs: Sequence[Value | None] = self._apart(operands, names)
        inputs = self._apart([self._with_neurons(v, inputs) for v in inputs], names)
        factors = elementwise(self.state, self.constants, self.account_reasons, name, inputs, attributes)
        made = elementwise_result(operands, factors)
        copies = common_copies(inputs, names, {a - made.rank: a for a in range(made.rank)})
        return replace(made, copy_axes=copies) if copies else made

    def _with_neurons(self, value: Value | None, operands: Sequence[Value | None]) -> Value | None:
        """Convert a constant operand that has neurons of its own (see `neuron_axes`) to an activation."""
        if value is None or value.is_activation:
            return value
        axes = neuron_axes(value, operands, value.name in self.kernels)
        size = math.prod(value.shape[a] for a in axes)
        if len(axes) == 2:
            factors = paired(self.state, self.weight(value), value.shape, axes[:1], axes[1:])
            return value.relabelled(self.independent(factors))
        if not axes or size > MAX_EXPANDED:
            return value
        shape = [n if a in axes else 1 for a, n in enumerate(value.shape)]
        return value.relabelled(self.source(value, np.arange(size).reshape(shape)))

    def _apart(self, values: Sequence[Value | None], names: Sequence[Sequence[Hashable]]) -> list[Value | None]:
        """Remove copies along axes on which the labels of another value vary, so that they are broadcast instead.

        names: the names of the axes of each value, equal for aligned ones.
        """
        met = met_by_labels(values, names)
        return [v if v is None else self._once(v, axes) for v, axes in zip(values, met, strict=True)]

    def _once(self, x: Value, copies: Sequence[int]) -> Value:
        """One of the copies along these axes."""
        if not copies:
            return x
        cut = tuple(slice(0, 1) if a in copies else slice(None) for a in range(x.rank))
        shape = tuple(1 if a in copies else n for a, n in enumerate(x.shape))
        return replace(x.relabelled(self.moved(x, lambda a: a[cut], shape), shape), copy_axes=x.copy_axes - {*copies})

    def traced(self, op: Op) -> Value:
        """The function is recorded as the trace of the elements."""
        return Value(op.output(), op.shape(), op.dtype(), elements=traced(self.state, op))

    def add_parameters(
        self, x: Value, constants: Sequence[tuple[Value, str, int]], op: str, attributes: dict[str, Any]
    ) -> Value:
        """All vectors in one step of the via; a bias that is a program constant of zeros is dropped."""
        parts = []
        for value, role, axis in constants:
            if role == EdgeRole.BIAS and value.data is not None and not np.any(value.data):
                continue
            shape = [1] * x.rank
            shape[axis] = int(np.prod(value.shape, dtype=np.int64))
            parts.append(Addend(self.weight(value).reshape(*shape), role))
        return x.relabelled(add_parameters(self.state, x.factors, x.shape, parts, op, attributes)) if parts else x

    def contract(
        self, x: Value, weight: Elements, spec: Spec, shape: tuple[int, ...], role: str = EdgeRole.WEIGHT
    ) -> Value:
        """New neurons over `spec.out`.

        A value whose copies meet a weight each is read once; copies that meet rows of one weight get a node each.
        """
        x = self._once(x, [i for i, t in enumerate(spec.x) if i in x.copy_axes and t in spec.w and t in spec.out])
        weight, spec = settled(x.factors, weight, spec)
        own = own_nodes(self.state, x.factors, weight.shape, spec)
        if own:
            return self._contract_with_nodes(x, fitted(weight, spec, shape), spec, shape, own)
        copies = [i for i, t in enumerate(spec.x) if i in x.copy_axes and t in spec.w and t not in spec.out]
        if copies and len(x.factors) == 1 and x.factors[0].size == 1:
            x = replace(x, factors=(copied(self.state, x.factors[0], x.shape, copies),))
        if is_one_of(weight, self.shared):
            meets = [i for i, t in enumerate(spec.x) if t in spec.w and t not in spec.out]
            x = x.relabelled(tuple(numbers_apart(self.state, f, meets) for f in x.factors))
        copy_axes = frozenset(
            spec.out.index(spec.x[i]) for i in x.copy_axes if spec.x[i] in spec.out and spec.x[i] not in spec.w
        )
        made = x.relabelled(contract(self.state, x.factors, x.shape, weight, spec, shape, role), shape)
        return replace(made, copy_axes=copy_axes)

    def _contract_with_nodes(
        self, x: Value, weight: Elements, spec: Spec, shape: tuple[int, ...], own: Sequence[Sequence[int]]
    ) -> Value:
        """Contract with a weight that has nodes of its own along some axes (see `shared_weights`)."""
        value = Value("", weight.shape, x.dtype, elements=weight)
        every = {a for axes in own for a in axes}
        sizes = [n if a in every else 1 for a, n in enumerate(weight.shape)]
        if len(own) == 2:
            factors = paired(self.state, weight, weight.shape, *own)
        else:
            factors = self.source(value, np.arange(math.prod(sizes)).reshape(sizes))
        x, letters = windows(self.unary, x, weight.shape, spec, shape)
        return self.product_sum(x, value.relabelled(factors), (letters, spec.w, spec.out), shape)

    def sparse(self, x: Value, layers: Sequence[SparseLayer]) -> Value:
        """New nodes, layer by layer."""
        return x.relabelled(sparse(self.state, x.factors, x.shape, layers), (x.shape[0], layers[-1].size))

    def recur(
        self,
        x: Value,
        cell: Sequence[Units],
        initial: Mapping[str, Value],
        lengths: Value | None,
        outputs: Sequence[str],
    ) -> list[Value]:
        """Nodes per hidden unit, in a cycle."""
        counted = self._one_label(lengths) if lengths is not None and lengths.is_activation else None
        made = recur(self.state, x, cell, initial, lengths, counted, outputs)
        size = {units.name: units.size for units in cell}
        return [x.relabelled(f, (x.shape[1], size[n])) for n, f in zip(outputs, made, strict=True)]

    def step(self, x: Value, axis: int, attributes: dict[str, Any]) -> Value:
        """Labels that differ along the axis are joined; the step names the axis by its number in the grid."""
        factors = read_by_step(self.state, x.factors, x.shape, axis, attributes)
        return x.relabelled(factors, (*x.shape[:axis], *x.shape[axis + 1 :]))

    def carry(self, name: str, initial: Value) -> Value:
        """One join node per class known so far."""
        one = np.zeros((1,) * initial.rank, dtype=np.int64)
        labels = carry(self.state, self.carried.get(name, one), initial.factors)
        return Value(name, initial.shape, initial.dtype, (labels,))

    def close(self, carry: Value, initial: Value, end: Value) -> None:
        """Links from both, or a finer partition if the carried value needs more nodes."""
        operands = (Operand((self._tuple(v),), v.shape) for v in (carry, initial, end))
        finer = close(self.state, *operands)
        if finer is not None:
            self.finer[carry.name] = finer

    def product_sum(self, x: Value, y: Value, letters: tuple[str, str, str], shape: tuple[int, ...]) -> Value:
        """Product and sum nodes."""
        [x, y] = (v for v in self._apart((x, y), letters[:2]) if v is not None)
        factors = product_sum(self.state, x.factors, y.factors, letters, (x.shape, y.shape))
        copies = common_copies((x, y), letters[:2], {t: a for a, t in enumerate(letters[2])})
        return replace(x.relabelled(factors, shape), copy_axes=copies)

    def reduce(self, x: Value, axes: Sequence[int], op: str, attributes: dict[str, Any]) -> Value:
        """Reduce nodes where labels vary along the axes."""
        shape = reduced_shape(x.shape, axes)
        made = x.relabelled(reduce(self.state, x.factors, axes, op, attributes, x.shape), shape)
        return replace(made, copy_axes=x.copy_axes - {*axes})

    def normalize_over(self, x: Value, axes: Sequence[int], op: str, attributes: dict[str, Any]) -> Value:
        """Labels pass; scopes get a node each where they are parts of a group."""
        made = x.relabelled(normalize_over(self.state, x.factors, axes, op, attributes, x.shape))
        return replace(made, copy_axes=x.copy_axes - {*axes})

    def order(
        self, x: Value, axes: Sequence[int], op: str, attributes: dict[str, Any], shape: tuple[int, ...],
        mixed: bool = True,
    ) -> Value:  # fmt: skip
        """Labelled axes are pinned."""
        made = x.relabelled(order(self.state, x.factors, axes, op, attributes, x.shape, shape), shape)
        return replace(made, copy_axes=x.copy_axes - {*axes})

    def gather_rows(self, table: Elements, x: Value, shape: tuple[int, ...], role: str = EdgeRole.EMBEDDING) -> Value:
        """Table rows are pinned `token` nodes, linked from the indices; their entries are edges to new neurons."""
        return x.relabelled((rows_of_table(self.state, table, self._one_label(x), x.rank, role),), shape)

    def concat(self, inputs: Sequence[Value], axis: int) -> Value:
        """Movement along a labelled axis (or of single entries), a join of the operands along a free one."""
        whole = [self.as_activation(v) for v in inputs if v.shape[axis] > 0]
        first = whole[0]
        if len(whole) == 1:
            return first.relabelled(first.factors)
        names = [[*range(axis), ("along", i), *range(axis + 1, v.rank)] for i, v in enumerate(whole)]
        values = [v for v in self._apart(whole, names) if v is not None]
        beside = common_copies(values, names, {a: a for a in range(first.rank) if a != axis})
        labelled = any(axis in varying(f) for v in values for f in v.factors)
        if labelled or all(v.shape[axis] == 1 for v in values):
            copies = all(v.shape[axis] == 1 and _alike(v, values[0]) for v in values)
            rows = [self._once(v, [axis] if axis in v.copy_axes else []) for v in values]
            operands = [Operand((self._tuple(v),), v.shape) for v in rows]
            labels, shape = stack(self.state, operands, axis, [v.shape[axis] for v in values])
            made = self.moved(first.relabelled((labels,), shape), lambda a: a, shape)
            return replace(first.relabelled(made, shape), copy_axes=beside | ({axis} if copies else set()))

        shape = resized(first.shape, axis, sum(v.shape[axis] for v in whole))
        factors = joined_along(self.state, [Operand(v.factors, v.shape) for v in values], axis, shape)
        return replace(first.relabelled(factors, shape), copy_axes=beside)

    def select(self, mask: np.ndarray, name: str, x: Value, y: Value) -> Value:
        """The labels of the entries are selected."""
        both = self.concat([x.unsqueezed(0), y.unsqueezed(0)], 0)
        return self.move(both, lambda a: np.where(mask, a[0], a[1]), x.shape)

    def join_all(
        self, inputs: Sequence[Value], op: str, shape: tuple[int, ...], keep: dict[int, int],
        places: Sequence[int] = (), rows: Rows | None = None,
    ) -> Value:  # fmt: skip
        """One join node per kept label of the first operand, of it and of all labels of the others, by position."""
        rows = rows or {}
        own = own_axes(rows, keep, len(inputs))
        values = [v for v in self._apart(inputs, axis_names(own, inputs)) if v is not None]
        operands = [Operand((self._tuple(v),), v.shape) for v in values]
        made = inputs[0].relabelled((join_aligned(self.state, operands, own, op, len(shape)),), shape)
        entrywise = [{a: b for a, axes in rows.items() if (b := axes[i]) is not None} for i in range(len(inputs))]
        return replace(made, copy_axes=common_copies(values, axis_names(entrywise, values), {a: a for a in rows}))

    def opaque_join(self, op: Op, fresh: bool = False) -> list[Value | None]:
        """One join node of all labels of the operands, by position."""
        return opaque_join(self.state, op, self.as_activation, self._one_label, fresh)

    def opaque(self, op: Op, reason: str) -> list[Value | None]:
        """Operands pinned and linked to one node, which feeds one fresh pinned node per output."""
        self.opaque_ops.append(OpaqueOp(op.type, op.domain, op.name, reason))
        for value in op.inputs:
            if value is not None and not value.factors and (value.elements is not None or value.derived):
                self.account_reasons[value.name] = "opaque"
        return opaque(self.state, op)

    def _one_label(self, x: Value) -> np.ndarray:
        """One label for a value: its only one, or a join of all its positions in order."""
        labels = self._tuple(x)
        if labels.size > 1:
            beside = free_axes(x.factors, x.shape)
            labels = shared_neuron(self.state, labels, varying(labels), beside=beside)
        return labels

    def _tuple(self, x: Value) -> np.ndarray:
        if len(x.factors) == 1:
            return x.factors[0]
        return join(self.state, x.factors, LinkRole.PAIR)


def _alike(x: Value, y: Value) -> bool:
    """Whether two values have the same labels."""
    return len(x.factors) == len(y.factors) and all(map(np.array_equal, x.factors, y.factors))
