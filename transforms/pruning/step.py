"""One node that is rewritten: its operands and results, their cuts, and what may be changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir

from ...frontend.inference.shapes import ValueInfo
from .cuts import Cut, Uncuttable, cut_of, same_cut, whole
from .stored import StoredCuts

__all__ = ["Cuts", "Step"]


@dataclass(slots=True, eq=False)
class Cuts:
    """The cuts of all values of a model while it is rewritten.

    Attributes:
        graph: The main graph.
        opset: The version of the standard operators.
        known: Shape, dtype and known data of the original values.
        nodes: The nodes of the graph of each entry, see `LabelledModel.nodes`.
        removed: bool [num_nodes], the nodes that leave the graph.
        block: int64 [num_nodes], a number for the group of positions that each node belongs to, -1 for none.
        stored: The cuts of stored tensors.
        of: The cut of each value so far.
        made: Cut copies of initializers, by name.
        copies: New initializers, by the name that each was made for.
        named: Values whose numbers name entries of an axis that is cut (choices of a router), with the indices that are
            left of it; they are numbered anew.
        names: The names of the original values.
        numbers: How many names were changed.
        now: The data that values with known data have after rewriting, None where that is not known.
    """

    graph: onnx_ir.Graph
    opset: int
    known: dict[onnx_ir.Value, ValueInfo]
    nodes: Mapping[str, tuple[np.ndarray, ...]]
    removed: np.ndarray
    block: np.ndarray
    stored: StoredCuts
    of: dict[onnx_ir.Value, Cut] = field(default_factory=dict)
    made: dict[str, list[tuple[Cut, onnx_ir.Value]]] = field(default_factory=dict)
    copies: dict[str, list[onnx_ir.Value]] = field(default_factory=dict)
    named: dict[onnx_ir.Value, np.ndarray] = field(default_factory=dict)
    now: dict[onnx_ir.Value, np.ndarray | None] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    numbers: int = 0

    def by_name(self) -> dict[str, Cut]:
        """The cuts of the original values and stored tensors, by name."""
        return {**self.stored.cuts, **{v.name or "": c for v, c in self.of.items() if v in self.known}}

    def labelled(self, value: onnx_ir.Value) -> Cut | None:
        """The cut of a value that has labels. Raises `Uncuttable` if what is left of it has no shape."""
        factors = self.nodes.get(value.name or "")
        if factors is None or value not in self.known:
            return None
        shape = self.known[value].shape
        gone = np.zeros((1,) * len(shape), bool)
        along: list[int] = []
        for factor in factors:
            mine = (factor >= 0) & self.removed[factor]
            gone = gone | mine
            if mine.any():
                along += _axes_inside(self.block[factor])
        try:
            return cut_of(gone, shape, along)
        except Uncuttable as reason:
            nodes = np.concatenate([f[(f >= 0) & self.removed[f]] for f in factors])
            raise Uncuttable(f"value {value.name!r}: {reason.reason}", nodes, reason.ragged) from reason

    def removed_of(self, value: onnx_ir.Value | None) -> np.ndarray:
        """The removed nodes that a value is made of, int64."""
        factors = self.nodes.get((value.name or "") if value is not None else "", ())
        return np.concatenate([np.zeros(0, np.int64), *(f[(f >= 0) & self.removed[f]] for f in factors)])

    def get(self, value: onnx_ir.Value | None) -> Cut | None:
        """The cut of an operand as it is read now; None if its shape is not known."""
        if value is None or value not in self.known:
            return None
        if value in self.of:
            return self.of[value]
        shape = self.known[value].shape
        if value.is_initializer() and value.graph is self.graph:
            return self.stored.of(value.name or "", shape)
        return whole(shape)

    def data(self, value: onnx_ir.Value) -> np.ndarray | None:
        """The data of a value after rewriting, None if it is not known."""
        if value in self.now:
            return self.now[value]
        if value.const_value is not None:
            return value.const_value.numpy()
        entry = self.known.get(value)
        return None if entry is None else entry.data

    def initializer(self, array: np.ndarray, stem: str, dtype: onnx_ir.DataType | None = None) -> onnx_ir.Value:
        """A new initializer."""
        name = stem
        while name in self.graph.initializers or name in self._taken():
            self.numbers += 1
            name = f"{stem}_cut{self.numbers}"
        tensor = (
            onnx_ir.Tensor(array, dtype=dtype, name=name) if dtype is not None else onnx_ir.tensor(array, name=name)
        )
        value = onnx_ir.Value(
            name=name, shape=onnx_ir.Shape(array.shape), type=onnx_ir.TensorType(tensor.dtype), const_value=tensor
        )
        self.graph.register_initializer(value)
        self.copies.setdefault(stem, []).append(value)
        return value

    def _taken(self) -> set[str]:
        if not self.names:
            self.names.update(v.name or "" for v in self.known)
        return self.names

    def shortened(self, value: onnx_ir.Value, cut: Cut) -> onnx_ir.Value:
        """The initializer of what is left of one."""
        for known, made in self.made.setdefault(value.name or "", []):
            if same_cut(known, cut):
                return made
        tensor = value.const_value
        assert tensor is not None
        made = self.initializer(cut.apply(tensor.numpy()), value.name or "constant", tensor.dtype)
        made.meta.update(value.meta)
        self.made[value.name or ""].append((cut, made))
        return made


def _axes_inside(blocks: np.ndarray) -> list[int]:
    """The axes along which all nodes are of one group, last ones first."""
    axes = [a for a in reversed(range(blocks.ndim)) if blocks.shape[a] > 1]
    return [a for a in axes if (blocks >= 0).any() and (blocks == blocks.take([0], axis=a)).all()]


@dataclass(slots=True, eq=False)
class Step:
    """A node that is rewritten.

    Attributes:
        all: The cuts of the model.
        node: The node.
        ins: The cuts of the operands, None where one is left out or has no known shape.
        outs: The cuts of the results; None where they have no labels, until the operator says.
    """

    all: Cuts
    node: onnx_ir.Node
    ins: list[Cut | None]
    outs: list[Cut | None]

    def attr(self, name: str, default: Any = None) -> Any:
        """The value of an attribute."""
        found = self.node.attributes.get(name)
        return default if found is None else found.value

    def set_attr(self, name: str, value: int | float | Sequence[int]) -> None:
        """Set an attribute to integers or a float."""
        if isinstance(value, int):
            self.node.attributes[name] = onnx_ir.AttrInt64(name, value)
        elif isinstance(value, float):
            self.node.attributes[name] = onnx_ir.AttrFloat32(name, value)
        else:
            self.node.attributes[name] = onnx_ir.AttrInt64s(name, list(value))

    def operand(self, index: int) -> onnx_ir.Value | None:
        """An operand, None if it is left out."""
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def required(self, index: int) -> onnx_ir.Value:
        """An operand that must be there. Raises `Uncuttable` if it is left out."""
        found = self.operand(index)
        if found is None:
            raise Uncuttable(f"operand {index} is left out")
        return found

    def cut(self, index: int) -> Cut:
        """The cut of a required operand. Raises `Uncuttable` if its shape is not known."""
        found = self.ins[index] if index < len(self.ins) else None
        if found is None:
            raise Uncuttable(f"the shape of operand {index} is not known")
        return found

    def out(self, index: int = 0) -> Cut:
        """The cut of a result. Raises `Uncuttable` if it is not known."""
        found = self.outs[index]
        if found is None:
            raise Uncuttable("its result is not understood")
        return found

    def data(self, index: int) -> np.ndarray | None:
        """The original data of an operand, if it is known."""
        value = self.operand(index)
        if value is None:
            return None
        entry = self.all.known.get(value)
        if entry is not None and entry.data is not None:
            return np.asarray(entry.data)
        return None if value.const_value is None else value.const_value.numpy()

    def use(self, index: int, cut: Cut) -> None:
        """Let an operand be what is left of it: cut an initializer, or pick the entries of a computed constant."""
        value, have = self.operand(index), self.ins[index] if index < len(self.ins) else None
        if value is None or have is None or same_cut(have, cut):
            return
        if value.is_initializer() and value.graph is self.all.graph:
            if have.any and (value.name or "") not in self.all.stored.partly:
                raise Uncuttable(f"operand {value.name!r} is cut in another way than its edges")
        elif (have.removed & ~cut.removed).any():
            raise Uncuttable(f"operand {value.name!r} is cut in another way than what it meets")
        elif not self._adapts(value, cut):
            self._pick(index, value, have, cut)
        self.ins[index] = cut

    def _adapts(self, value: onnx_ir.Value, cut: Cut) -> bool:
        """Whether a computed constant follows by itself. Raises `Uncuttable` if it becomes something else."""
        if value not in self.all.known:
            return False
        old, new = self.all.known[value].data, self.all.data(value)
        if old is not None and new is not None and np.array_equal(new, cut.apply(np.broadcast_to(old, cut.shape))):
            return True
        if old is not None and (new is None or not np.array_equal(old, new)):
            raise Uncuttable(f"the constant {value.name!r} follows sizes in another way than what it meets")
        return False

    def _is_uniform(self, value: onnx_ir.Value) -> bool:
        """Whether all entries of a value are known to be equal, as those of an initial state of zeros."""
        entry = self.all.known.get(value)
        return entry is not None and entry.data is not None and bool((entry.data == entry.data.reshape(-1)[:1]).all())

    def shape(self, index: int = 0) -> tuple[int, ...]:
        """The original shape of a result. Raises `Uncuttable` if it is not known."""
        entry = self.all.known.get(self.node.outputs[index])
        if entry is None:
            raise Uncuttable("the shape of its result is not known")
        return entry.shape

    def _pick(self, index: int, value: onnx_ir.Value, have: Cut, cut: Cut) -> None:
        """Put Gather nodes between a computed value and this node; entries that are copies, say, have one label."""
        for axis in cut.axes:
            if have.new[axis] == cut.new[axis]:
                continue
            if axis in cut.ragged and self._is_uniform(value):
                kept = np.arange(cut.new[axis])
            else:
                kept = np.searchsorted(have.indices(axis), cut.indices(axis))
            indices = self.all.initializer(kept, f"{value.name}_kept")
            node = onnx_ir.Node(
                "",
                "Gather",
                [value, indices],
                [onnx_ir.AttrInt64("axis", axis)],
                name=f"{self.node.name}_{index}_{axis}",
            )
            node.outputs[0].name = f"{self.node.outputs[0].name}_operand{index}_{axis}"
            graph = self.node.graph
            assert graph is not None
            graph.insert_before(self.node, node)
            value = node.outputs[0]
        self.node.replace_input_with(index, value)

    def set_operand(self, index: int, value: onnx_ir.Value) -> None:
        """Set an operand that the node may lack."""
        if index >= len(self.node.inputs):
            self.node.resize_inputs(index + 1)
        self.node.replace_input_with(index, value)

    def replace(self, op: str, inputs: Sequence[onnx_ir.Value | None], **attributes: int) -> None:
        """Put a node of another operator in place of this one."""
        old, graph = self.node, self.node.graph
        assert graph is not None
        made = onnx_ir.Node(
            "", op, inputs, [onnx_ir.AttrInt64(n, v) for n, v in attributes.items()], name=old.name, num_outputs=1
        )
        graph.insert_before(old, made)
        known = self.all.known.get(old.outputs[0])
        name, self.all.of[made.outputs[0]] = old.outputs[0].name, self.out()
        onnx_ir.convenience.replace_all_uses_with(old.outputs[0], made.outputs[0], replace_graph_outputs=True)
        graph.remove(old)
        made.outputs[0].name = name
        if known is not None:
            self.all.known[made.outputs[0]] = known
        self.node, self.ins, self.outs = made, [None] * len(inputs), [self.out()]

    def numbers(self, index: int, numbers: Mapping[int, int]) -> None:
        """Set entries of an operand of integers: in a copy of a constant, in parts of a concatenation, or later."""
        value = self.operand(index)
        if value is None or not numbers:
            return
        tensor = value.const_value
        if value.is_initializer() and tensor is not None:
            array = np.array(tensor.numpy())
            for at, number in numbers.items():
                array.reshape(-1)[at] = number
            if not np.array_equal(array, tensor.numpy()):
                self.node.replace_input_with(index, self.all.initializer(array, f"{value.name}", tensor.dtype))
            return
        now = self.all.data(value)
        if now is None or any(now.reshape(-1)[at] != number for at, number in numbers.items()):
            self._overwrite(index, value, numbers)

    def _overwrite(self, index: int, value: onnx_ir.Value, numbers: Mapping[int, int]) -> None:
        """Put a Where in front of a computed operand that sets some of its entries."""
        graph, entry = self.node.graph, self.all.known[value]
        assert graph is not None
        mask, array = np.zeros(entry.shape, bool), np.zeros(entry.shape, np.int64)
        for at, number in numbers.items():
            mask.reshape(-1)[at], array.reshape(-1)[at] = True, number
        stem = f"{self.node.name}_{index}"
        parts = [
            self.all.initializer(mask, f"{stem}_cut"),
            self.all.initializer(array.astype(entry.dtype), f"{stem}_sizes"),
        ]
        made = onnx_ir.Node("", "Where", [*parts, value], name=f"{stem}_where", num_outputs=1)
        made.outputs[0].name = f"{stem}_where"
        graph.insert_before(self.node, made)
        self.node.replace_input_with(index, made.outputs[0])
