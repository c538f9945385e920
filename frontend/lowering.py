"""Lowering: the algebra that builds the parameter graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..ir import OpaqueOp, Parameter
from .algebra import Algebra
from .attaching import Part, attach
from .contraction import Spec, contract
from .elements import Arena, Elements
from .functions import COMMUTATIVE, FUNCTIONS
from .joins import Operand, combine, independent, join, shared_neuron
from .labels import compress, map_via, nodes_of, port, varying, vias_of
from .products import product_sum
from .reductions import couple, order, reduce
from .state import State, align
from .values import Op, Value

__all__ = ["Lowering"]

_ATTACHED_ROLES = {"Add": "bias", "Sub": "bias", "Mul": "scale", "Div": "scale"}
_NORMS = {"Standardize", "RMSNormalize"}
_FORBIDDEN = -99
_UNIFORM_LIMIT = 1 << 22


class Lowering(Algebra):
    """Builds nodes, blocks and links as rules call its primitives.

    fold: makes the `Parameter` of a computed constant by name. fates: why elements without an edge have none, by
    tensor or value name.
    """

    def __init__(self, state: State, fold: Callable[[str], Parameter]) -> None:
        self.state = state
        self.fates: dict[str, str] = {}
        self.opaque_ops: list[OpaqueOp] = []
        self._fold = fold
        self.folded: dict[str, Elements] = {}

    def source(self, value: Value, classes: np.ndarray) -> tuple[np.ndarray, ...]:
        """Neurons where a parameter or known constant starts a stream, one per feature, with its elements as edges."""
        ids = self.state.nodes("neuron", int(classes.max()) + 1 if classes.size else 0, 0)
        labels = port(ids)[classes] if classes.size else classes
        part = Part(self._constant_elements(value), "source", value.elements is None)
        self._source_edges(labels, part)
        if part.constant:
            self.state.pin(labels)
        return (labels,)

    def _source_edges(self, labels: np.ndarray, part: Part) -> None:
        """Every element of a source is an edge onto the neuron of its feature, in the slot of its place there."""
        attach(self.state, (labels,), [part], "Source", {})

    def input(self, name: str, classes: np.ndarray) -> tuple[np.ndarray, ...]:
        """Nodes of a graph input, one per feature; pinned."""
        ids = self.state.builder.nodes("input", int(classes.max()) + 1 if classes.size else 0, 0, value=name)
        self.state.builder.pin(ids)
        return (port(ids)[classes],)

    def independent(self, factors: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Join factors that vary along one axis."""
        return independent(self.state, factors)

    def weight(self, value: Value) -> Elements:
        """The elements of a constant; a computed one (or a known one made by the program) is folded once."""
        if value.elements is not None:
            return value.elements
        if value.name not in self.folded:
            if value.data is not None:
                parameter = Parameter(value.name, value.shape, str(value.data.dtype), "folded", _holder(value.data))
            else:
                parameter = self._fold(value.name)
            self.state.builder.parameters[value.name] = parameter
            self.folded[value.name] = Arena({value.name: parameter.size}).tensor(value.name, value.shape)
        return self.folded[value.name]

    def stream(self, value: Value) -> Value:
        """A constant in a data slot that was not planned as a stream: a known number, one pinned node."""
        if value.is_activation:
            return value
        if value.elements is not None:
            classes = np.arange(int(np.prod(value.shape, dtype=np.int64))).reshape(value.shape)
            return value.relabelled(self.source(value, compress(classes)))
        node = self.state.ports("hub", 1, 0, pinned=True)
        if value.data is not None and _uniform(value.data) is not None:
            number = float(np.asarray(_uniform(value.data), dtype=np.float64))
            via = self.state.builder.via("Constant", (("value", number),))
            node = port(nodes_of(node), via)
        return value.relabelled((node.reshape((1,) * value.rank),))

    def from_attribute(self, op: Op, name: str, numbers: np.ndarray) -> Value:
        """Register `<node>.<attribute>` as a parameter tensor."""
        full = f"{op.name}.{name}"
        self.state.builder.parameters[full] = Parameter(
            full, numbers.shape, str(numbers.dtype), "attribute", _holder(numbers)
        )
        return Value(
            full, numbers.shape, str(numbers.dtype), elements=Arena({full: numbers.size}).tensor(full, numbers.shape)
        )

    def passes(
        self, x: Value, op: str, attributes: dict[str, Any], function: Callable[..., Any] | None = None
    ) -> Value:
        """Labels stay, the via grows by the step."""

        def step(via: int) -> int:
            return self.state.functions.step((via,), function, op, attributes)

        return x.relabelled(tuple(map_via(f, step) for f in x.factors))

    def elementwise(self, op: Op, inputs: Sequence[Value | None]) -> Value:
        """Join or pass the activations, bind literals into the function, attach what varies."""
        shape = op.shape()
        lifted = [None if v is None else self._lift(v, shape) for v in self._fill_weights(inputs)]
        literals, attached = self._split_constants(lifted)
        active = [i for i, v in enumerate(lifted) if v is not None and v.is_activation]
        attributes = _describe(op, literals, attached, len(inputs))
        function = None if attached else _bind(op, literals, len(inputs))
        ordered = op.type not in COMMUTATIVE

        def step(vias: tuple[int, ...]) -> int:
            return self.state.functions.step(vias, function, op.type, attributes)

        def touch(operand: int, via: int) -> int:
            place = {"place": operand} if ordered and operand >= 0 else {}
            return self.state.builder.via(op.type, {**attributes, **place}.items(), (via,))

        first = lifted[active[0]]
        assert first is not None
        if len(active) == 1:
            factors = first.factors
            if not attached:
                factors = tuple(map_via(f, lambda v: step((v,))) for f in factors)
        else:
            operands = [Operand(v.factors, v.shape) for v in (lifted[i] for i in active) if v is not None]
            bound = (lambda v: touch(-1, v)) if literals else None
            factors = combine(self.state, operands, op.type.lower(), ordered, step, touch, bound)
        for value in attached.values():
            factors = self._attach_or_place(factors, value, op.type, attributes)
        return op.result(factors)

    def attach(
        self, x: Value, constants: Sequence[tuple[Value, str, int]], op: str, attributes: dict[str, Any]
    ) -> Value:
        """Vectors along one axis of `x` each, all in one step of the via; a zero bias of the program's is none."""
        parts = []
        for value, role, axis in constants:
            if role == "bias" and value.data is not None and not value.filled and not np.any(value.data):
                continue
            shape = [1] * x.rank
            shape[axis] = int(np.prod(value.shape, dtype=np.int64))
            parts.append(Part(self.weight(value).reshape(*shape), role))
        return x.relabelled(attach(self.state, x.factors, parts, op, attributes)) if parts else x

    def contract(self, x: Value, weight: Elements, spec: Spec, shape: tuple[int, ...], role: str = "weight") -> Value:
        """New neurons over `spec.out`."""
        return x.relabelled(contract(self.state, x.factors, weight, spec, role), shape)

    def product_sum(self, x: Value, y: Value, letters: tuple[str, str, str], shape: tuple[int, ...]) -> Value:
        """Product and sum nodes."""
        factors = product_sum(self.state, x.factors, y.factors, letters, (x.shape, y.shape))
        return x.relabelled(factors, shape)

    def reduce(self, x: Value, axes: Sequence[int], op: str, attributes: dict[str, Any]) -> Value:
        """Reduce nodes where labels vary along the axes."""
        shape = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
        return x.relabelled(reduce(self.state, x.factors, axes, op, attributes), shape)

    def couple(self, x: Value, axes: Sequence[int], op: str, attributes: dict[str, Any]) -> Value:
        """Labels pass; scopes get a node each where they are parts of a group."""
        return x.relabelled(couple(self.state, x.factors, axes, op, attributes))

    def order(
        self, x: Value, axes: Sequence[int], op: str, attributes: dict[str, Any], shape: tuple[int, ...]
    ) -> Value:
        """Labelled axes are pinned."""
        return x.relabelled(order(self.state, x.factors, axes, op, attributes, shape), shape)

    def gather_rows(self, table: Elements, x: Value, shape: tuple[int, ...], role: str = "embedding") -> Value:
        """Table rows are pinned `token` nodes, linked from what picks them; their entries are edges to new neurons."""
        state = self.state
        labels = self._one_label(x)
        rows = table.shape[0]
        width = int(np.prod(table.shape[1:], dtype=np.int64))
        depth = state.depth(labels)
        tokens = state.nodes("token", rows, depth, pinned=True)
        state.links(tokens, np.broadcast_to(labels.reshape(-1)[:1], (rows,)), "token")
        neurons = state.nodes("neuron", width, depth + 1)
        elements = table.move(lambda a: a.reshape(1, rows, width, 1).transpose(0, 2, 1, 3))
        state.edges(neurons[None], tokens[None], np.zeros((1, 1), np.int32), elements, role)
        factor = port(neurons).reshape((1,) * x.rank + table.shape[1:])
        return x.relabelled((compress(factor),), shape)

    def concat(self, inputs: Sequence[Value], axis: int, op: Op) -> Value:
        """Movement along a labelled axis (or of single entries), a join of the operands along a free one."""
        values = [self.stream(v) for v in inputs if v.shape[axis] > 0]
        if len(values) == 1:
            return op.result(values[0].factors)
        labelled = any(axis in varying(f) for v in values for f in v.factors)
        if labelled or all(v.shape[axis] == 1 for v in values):
            return op.result(self._stack(values, axis))
        operands = [Operand(v.factors, _with(v.shape, axis, 1)) for v in values]

        def step(vias: tuple[int, ...]) -> int:
            return vias[0] if len(set(vias)) == 1 else self.state.builder.via("Concat", (), vias)

        return op.result(combine(self.state, operands, "concat", True, step, lambda _, via: via))

    def mix(
        self, inputs: Sequence[Value], op: str, shape: tuple[int, ...], keep: dict[int, int], places: Sequence[int] = ()
    ) -> Value:
        """Per kept label of the first operand, one join node of it and of everything in the others, in places."""
        state = self.state
        first = inputs[0]
        letters = "abcdefghijklmnop"[: first.rank]
        labels = self._tuple(first)
        away = tuple(a for a in range(first.rank) if a not in keep.values() and labels.shape[a] > 1)
        if away:
            labels = shared_neuron(state, labels, away)
        target = "".join(letters[keep[a]] if a in keep else "-" for a in range(len(shape)))
        base = align(labels, letters, target.replace("-", "")).reshape(
            [labels.shape[keep[a]] if a in keep else 1 for a in range(len(shape))]
        )
        others = [self._one_label(v).reshape((1,) * len(shape)) for v in inputs[1:]]
        return first.relabelled((join(state, [base, *others], op.lower(), ordered=True),), shape)

    def opaque(self, op: Op, reason: str) -> list[Value | None]:
        """Operands pinned and linked to one node, which feeds one fresh pinned node per output."""
        state = self.state
        self.opaque_ops.append(OpaqueOp(op.type, op.domain, op.name, reason))
        ports = [np.zeros(0, dtype=np.int64)]
        for value in op.inputs:
            if value is None:
                continue
            for factor in value.factors:
                state.pin(factor)
                ports.append(np.unique(factor))
            if not value.factors and (value.elements is not None or value.pending):
                self.fates[value.name] = "opaque"
        sources = np.concatenate(ports)
        depth = state.depth(sources)
        middle = state.nodes("opaque", 1, depth, pinned=True)
        state.links(np.repeat(middle, len(sources)), sources, "opaque", operand=np.arange(len(sources)))
        outputs: list[Value | None] = []
        for index, result in enumerate(op.results):
            if result is None:
                outputs.append(None)
                continue
            node = state.ports("opaque", 1, depth, pinned=True)
            via = state.builder.via(op.type, (("output", index),))
            state.links(nodes_of(node), port(middle, via), "opaque", operand=np.array([index]))
            shape = result.shape or ()
            outputs.append(Value(result.name, shape, result.dtype, (node.reshape((1,) * len(shape)),)))
        return outputs

    def _one_label(self, x: Value) -> np.ndarray:
        """All labels of a value as one port: its only one, or a join of all places in order."""
        labels = self._tuple(x)
        if labels.size > 1:
            labels = shared_neuron(self.state, labels, tuple(range(labels.ndim)))
        return labels

    def _tuple(self, x: Value) -> np.ndarray:
        if len(x.factors) == 1:
            return x.factors[0]
        return join(self.state, x.factors, "pair", ordered=False)

    def _stack(self, values: Sequence[Value], axis: int) -> tuple[np.ndarray, ...]:
        factors = [self._tuple(v) for v in values]
        others = np.broadcast_shapes(*(_with(f.shape, axis, 1) for f in factors))
        parts = [np.broadcast_to(f, _with(others, axis, v.shape[axis])) for f, v in zip(factors, values, strict=True)]
        return (compress(np.concatenate(parts, axis=axis)),)

    def _lift(self, value: Value, shape: tuple[int, ...]) -> Value:
        """Leading axes of size 1 up to the rank of `shape`."""
        lead = len(shape) - value.rank
        if lead <= 0:
            return value
        ones = (1,) * lead
        if value.is_activation:
            return value.relabelled(tuple(f.reshape(ones + f.shape) for f in value.factors), ones + value.shape)
        data = None if value.data is None else value.data.reshape(ones + value.shape)
        elements = None if value.elements is None else value.elements.reshape(*ones, *value.shape)
        return replace(value, shape=ones + value.shape, data=data, elements=elements)

    def _fill_weights(self, values: Sequence[Value | None]) -> list[Value | None]:
        """A vector of ConstantOfShape along neurons stands for a weight that the model has no numbers for."""
        neural = {a - f.ndim for v in values if v is not None for f in v.factors for a in varying(f)}
        out: list[Value | None] = []
        for value in values:
            wide = [] if value is None else [a - value.rank for a, n in enumerate(value.shape) if n > 1]
            if value is not None and value.filled and len(wide) == 1 and wide[0] in neural:
                value = replace(value, data=None, elements=self.weight(value))
            out.append(value)
        return out

    def _split_constants(self, values: Sequence[Value | None]) -> tuple[dict[int, Any], dict[int, Value]]:
        """Operands that are one number everywhere, and those that vary or are parameters."""
        literals: dict[int, Any] = {}
        attached: dict[int, Value] = {}
        for i, value in enumerate(values):
            if value is None or value.is_activation:
                continue
            number = None if value.data is None else _uniform(value.data)
            if number is not None:
                literals[i] = number
            else:
                attached[i] = value
        return literals, attached

    def _role(self, op: str, factors: tuple[np.ndarray, ...]) -> str:
        """The role of what `op` attaches; right after a normalisation it is a norm's vector."""
        for factor in factors:
            last, before = self._last_two(int(vias_of(factor).reshape(-1)[0]))
            if op == "Mul" and last in _NORMS:
                return "norm.scale"
            if op == "Add" and (last in _NORMS or (last == "Mul" and before in _NORMS)):
                return "norm.bias"
        return _ATTACHED_ROLES.get(op, op.lower())

    def _last_two(self, via: int) -> tuple[str, str]:
        """The names of the last step and of the one before it."""
        entry = self.state.builder.vias[via]
        return entry.op, self.state.builder.vias[entry.parents[0]].op if entry.parents else ""

    def _constant_elements(self, value: Value) -> Elements:
        """Elements of a constant of any sort, in its shape; a known one becomes a table of the graph's constants."""
        if value.data is None:
            elements = self.weight(value)
            return elements if elements.shape == value.shape else elements.reshape(*value.shape)
        name = value.name or f"{self.state.site.value}.constant"
        data = value.data
        self.state.builder.constants[name] = Parameter(name, data.shape, str(data.dtype), "folded", _holder(data))
        return Arena({name: data.size}).tensor(name, data.shape)

    def _attach_or_place(
        self, factors: tuple[np.ndarray, ...], value: Value, op: str, attributes: dict[str, Any]
    ) -> tuple[np.ndarray, ...]:
        """Attach, unless the constant is the program's (a mask) and varies along free axes only: it needs no edge."""
        elements = self._constant_elements(value)
        axes = {a for a, n in enumerate(value.shape) if n > 1}
        if value.data is not None:
            axes = {a for a in axes if _varies(value.data, a)}
        if axes and not any(axes & set(varying(f)) for f in factors) and self._is_mask(value, elements, op):
            if value.data is None:
                self.fates[value.name] = "positional constant"
            return tuple(map_via(f, lambda v: self.state.builder.via(op, attributes.items(), (v,))) for f in factors)
        part = Part(elements, self._role(op, factors), value.data is not None)
        return attach(self.state, factors, [part], op, attributes)

    def _is_mask(self, value: Value, elements: Elements, op: str) -> bool:
        """A known constant, or a float tensor that only keeps (0 or 1) and forbids (a large negative number or 0)."""
        if value.data is not None:
            return True
        if op not in ("Add", "Mul") or elements.array.size > _UNIFORM_LIMIT:
            return False
        numbers = self._read(elements)
        allowed = (numbers == 0) | ((numbers == 1) if op == "Mul" else (numbers <= _FORBIDDEN))
        return bool(allowed.all()) and bool((numbers == 0).any()) and bool((numbers != 0).any())

    def _read(self, elements: Elements) -> np.ndarray:
        """The numbers of a small tensor, flat."""
        parts = []
        for _, view in elements.reshape(1, 1, 1, -1).views():
            parts.append(view.read(self.state.builder.parameters[view.name].load()).reshape(-1))
        return np.concatenate(parts)


def _holder(data: np.ndarray) -> Callable[[], np.ndarray]:
    return lambda: np.ascontiguousarray(data)


def _with(shape: tuple[int, ...], axis: int, size: int) -> tuple[int, ...]:
    return (*shape[:axis], size, *shape[axis + 1 :])


def _varies(data: np.ndarray, axis: int) -> bool:
    return data.strides[axis] != 0 and not bool((data == data.take([0], axis=axis)).all())


def _uniform(data: np.ndarray) -> Any:
    """The number that all entries are, or None."""
    if data.size == 0:
        return None
    first = data[(0,) * data.ndim]
    if all(s == 0 or n == 1 for n, s in zip(data.shape, data.strides, strict=True)):
        return first
    return first if data.size <= _UNIFORM_LIMIT and bool((data == first).all()) else None


def _describe(op: Op, literals: dict[int, Any], attached: dict[int, Value], operands: int) -> dict[str, Any]:
    """Attributes of the step's via: the op's own, its literals, and which operand was attached where it matters."""
    ordered = op.type not in COMMUTATIVE
    out = {name: value for name, value in op.attributes.items() if isinstance(value, int | float | str)}
    for i, number in literals.items():
        out[f"operand{i}" if ordered else "operand"] = float(f"{float(number):.6g}")
    if ordered and operands > 1:
        out |= {f"operand{i}": "table" if v.data is not None else "parameter" for i, v in attached.items()}
    return out


def _bind(op: Op, literals: dict[int, Any], operands: int) -> Callable[..., np.ndarray] | None:
    """The op as a function of its activations, in order, with its literals and attributes bound."""
    function = FUNCTIONS.get(op.type)
    if function is None:
        return None
    keywords = {n: v for n, v in op.attributes.items() if n not in ("consumed_inputs", "axis", "broadcast")}
    missing = {i for i in range(operands) if i < len(op.inputs) and op.inputs[i] is None}

    def bound(*active: np.ndarray) -> np.ndarray:
        rest = iter(active)
        arguments = [
            None if i in missing else np.float64(literals[i]) if i in literals else next(rest) for i in range(operands)
        ]
        return function(*arguments, **keywords)

    return bound
