"""Mixtures of experts whose weights are gathered by the router become dense: every expert runs, with a gate.

A router scores E experts and TopK chooses k of them; their weights are gathered, applied, and the k results summed.
Which expert a result comes from depends on data, but not how: over all experts, the same sum is one of E results, of
which those that are not chosen do not count. The pass replaces the axis of the k chosen experts by one of all E, in
every value from TopK to the sum. The network is lowered and never run, so the zeros need no computing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir

from ..errors import Unsupported
from ..inference.shapes import ValueInfo
from .choices import Region
from .editor import GraphEditor
from .patterns.matching import Facts, producer

__all__ = ["dense_experts"]


def dense_experts(
    model: onnx_ir.Model, known: dict[onnx_ir.Value, ValueInfo], overridden: Callable[[onnx_ir.Node], bool]
) -> int:
    """Rewrite the gathered experts of a normalised model in place.

    Args:
        model: The model.
        known: The result of `shapes.infer`, which gains the new values and the new shapes.
        overridden: Whether a rule from outside lowers a node, which then stays.

    Returns:
        How many routers were rewritten.
    """
    editor, found = GraphEditor(model.graph, known, set()), 0
    for node in list(model.graph):
        if node.op_type in ("OneHot", "Equal") and node.domain in ("", "ai.onnx") and not overridden(node):
            found += _ranks(node, editor)
    for node in model.graph:
        if node.op_type == "TopK" and not node.domain and len(node.outputs) > 1:
            _leave_out_unread(node.outputs[1])
    for node in list(model.graph):
        if node.op_type == "TopK" and node.domain in ("", "ai.onnx") and node.graph is model.graph:
            region = Region.of(node, editor, overridden)
            try:
                if region is not None and region.explore():
                    _Dense(region, editor).rewrite()
                    found += 1
            except Unsupported:
                continue
    return found


def _leave_out_unread(indices: onnx_ir.Value) -> None:
    """Leave out the indices that nobody reads: the values alone do not depend on the order of the entries."""
    if not indices.uses() and not indices.is_graph_output():
        indices.name = ""


def _ranks(node: onnx_ir.Node, editor: GraphEditor) -> bool:
    """Replace what says which entry each index of a TopK along the last axis is: OneHot, or Equal to 0, 1, 2, ..."""
    facts = Facts(editor.known)
    index = node.inputs[0]
    if node.op_type == "Equal":
        numbers = facts.data(node.inputs[1])
        rise = producer(index, "Unsqueeze")
        if rise is None or numbers is None or numbers.ndim < 1 or numbers.size != numbers.shape[-1]:
            return False
        if facts.integers(rise.inputs[1]) != (-1,) and facts.integers(rise.inputs[1]) != (
            len(facts.shape(index) or ()) - 1,
        ):
            return False
        if (numbers.reshape(-1) != np.arange(numbers.size)).any():
            return False
        index = rise.inputs[0]
    while index is not None and (cast := producer(index, "Cast", "Identity")) is not None:
        index = cast.inputs[0]
    router = producer(index, "TopK")
    shape, made = facts.shape(index), facts.shape(node.outputs[0])
    if router is None or index is not router.outputs[1] or shape is None or made is None:
        return False
    scores = router.inputs[0]
    entries = facts.shape(scores)
    last = router.attributes.get_int("axis", -1) in (-1, len(shape) - 1)
    along = node.op_type == "Equal" or node.attributes.get_int("axis", -1) in (-1, len(shape))
    if not last or not along or entries is None or made != (*shape, entries[-1]):
        return False
    settings = {"k": shape[-1], "largest": router.attributes.get_int("largest", 1)}
    [value] = editor.internal(node, "Ranked", [scores], settings)
    editor.known[value] = editor.known[node.outputs[0]]
    editor.replace_output(node, 0, value)
    editor.graph.remove(node, safe=True)
    return True


@dataclass(frozen=True, slots=True)
class _Dense:
    """Rewrites what depends on one router."""

    region: Region
    editor: GraphEditor

    def rewrite(self) -> None:
        """Replace the router, the gathers and the sizes; record the new shapes."""
        known = self.editor.known
        old = {value: self.region.shape(value) for value in self.region.where}
        for value, at in self.region.where.items():
            known[value] = ValueInfo(self.region.scaled(old[value], at), known[value].dtype)
        for node, shape in self.region.shapes.items():
            node.replace_input_with(1, self._constant(node, "shape", np.array(shape, np.int64)))
            node.attributes.pop("allowzero", None)
        for node, data in self.region.indices.items():
            node.replace_input_with(1, self._constant(node, "indices", data))
        for node, index in self.region.spread:
            node.replace_input_with(index, self._copied(node, index))
        for node, (terms, out, letter) in self.region.merged.items():
            self._replace(node, self._apart(node, terms, out, letter, old))
        for node, weights in self.region.gathers.items():
            self._replace(node, self._reshaped(node, weights, self.region.shape(node.outputs[0])))
        settings = {
            "k": self.region.chosen,
            "axis": self.region.where[self.region.router.outputs[0]].axis,
            "largest": self.region.router.attributes.get_int("largest", 1),
        }
        scores = self.region.router.inputs[0]
        for node in self.region.masks:
            self._replace(node, self._chosen(node, [scores], {**settings, "mask": 1}))
        for node in self.region.scores:
            self._replace(node, self._chosen(node, [node.inputs[0], scores], settings))
        if not self.region.router.outputs[0].uses():
            return
        self._replace(self.region.router, self._chosen(self.region.router, [scores], settings))

    def _chosen(
        self, node: onnx_ir.Node, inputs: Sequence[onnx_ir.Value | None], settings: Mapping[str, int]
    ) -> onnx_ir.Value:
        [made] = self.editor.internal(node, "Chosen", inputs, settings)
        return made

    def _constant(self, node: onnx_ir.Node, what: str, numbers: np.ndarray) -> onnx_ir.Value:
        value = self.editor.literal(f"{node.name}.{what}", numbers)
        self.editor.known[value] = ValueInfo(numbers.shape, str(numbers.dtype), numbers)
        return value

    def _made(
        self, node: onnx_ir.Node, op: str, inputs: Sequence[onnx_ir.Value | None], shape: Sequence[int], dtype: str,
        attributes: Mapping[str, onnx_ir.Attr | str] | None = None,
    ) -> onnx_ir.Value:  # fmt: skip
        [value] = self.editor.add(node, op, inputs, attributes)
        self.editor.known[value] = ValueInfo(tuple(shape), dtype)
        return value

    def _reshaped(self, node: onnx_ir.Node, value: onnx_ir.Value, shape: Sequence[int]) -> onnx_ir.Value:
        size = self._constant(node, "shape", np.array(shape, np.int64))
        return self._made(node, "Reshape", [value, size], shape, self.editor.known[value].dtype)

    def _replace(self, node: onnx_ir.Node, value: onnx_ir.Value) -> None:
        self.editor.known[value] = self.editor.known[node.outputs[0]]
        self.editor.replace_output(node, 0, value)
        if not any(v.uses() for v in node.outputs):
            self.editor.graph.remove(node, safe=True)

    def _apart(
        self, node: onnx_ir.Node, terms: Sequence[str], out: str, letter: str,
        old: Mapping[onnx_ir.Value, tuple[int, ...]],
    ) -> onnx_ir.Value:  # fmt: skip
        """A contraction beside an axis that holds more than the choices, with the choices on an axis of their own."""
        result = node.outputs[0]
        at = self.region.where[result]
        inputs: list[onnx_ir.Value | None] = []
        for value, term in zip(node.inputs, terms, strict=False):
            if value is not None and letter in term:
                axis, weight = term.index(letter), value in self.region.where and self.region.where[value].weight
                shape = self.region.shape(value)
                sizes = (
                    (1, self.region.experts, 1)
                    if weight
                    else (shape[axis] // (self.region.experts * at.inner), self.region.experts, at.inner)
                )
                value = self._reshaped(node, value, (*shape[:axis], *sizes, *shape[axis + 1 :]))
            inputs.append(value)
        attributes = dict(node.attributes)
        if node.op_type == "Einsum":
            fresh = "".join(
                [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" if c not in "".join(terms)][:3]
            )
            equation = ",".join(t.replace(letter, fresh) for t in terms) + "->" + out.replace(letter, fresh)
            attributes["equation"] = onnx_ir.AttrString("equation", equation)
        shape = self.region.shape(result)
        split = (shape[at.axis] // (self.region.experts * at.inner), self.region.experts, at.inner)
        made = self._made(
            node, node.op_type, inputs, (*shape[: at.axis], *split, *shape[at.axis + 1 :]),
            self.editor.known[result].dtype, attributes,
        )  # fmt: skip
        return self._reshaped(node, made, shape)

    def _copied(self, node: onnx_ir.Node, index: int) -> onnx_ir.Value:
        """Gathered weights that are added to a value with the choices: a copy for each entry."""
        value, at = node.inputs[index], self.region.where[node.outputs[0]]
        assert value is not None
        shape, own = self.region.shape(value), self.region.where[value]
        size = self.region.shape(node.outputs[0])[at.axis]
        if size == self.region.experts:
            return value
        apart = (size // (self.region.experts * at.inner), self.region.experts, at.inner)
        dtype = self.editor.known[value].dtype
        thin = self._reshaped(node, value, (*shape[: own.axis], 1, self.region.experts, 1, *shape[own.axis + 1 :]))
        wide = (*shape[: own.axis], *apart, *shape[own.axis + 1 :])
        every = self._made(node, "Expand", [thin, self._constant(node, "size", np.array(wide, np.int64))], wide, dtype)
        return self._reshaped(node, every, (*shape[: own.axis], size, *shape[own.axis + 1 :]))
