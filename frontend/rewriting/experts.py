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
from .codes import ROUTERS, Codes
from .editor import GraphEditor
from .gathered import Gathered
from .lookups import Lookups
from .shaped import ShapedEditor
from .ties import all_distinct

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
    if not any(node.op_type in ROUTERS for node in model.graph):
        return 0
    editor = GraphEditor(model.graph, known, set())
    codes = Codes(editor, overridden)
    lookups, found = Lookups(codes), 0
    for node in list(model.graph):
        router = codes.router(node)
        found += router is not None and lookups.compare(router)
        _leave_out_unread(node)
        if node.op_type == "TopK" and node.domain in ("", "ai.onnx") and node.graph is not None:
            found += _replaced(node, editor, overridden)
        router = codes.router(node)
        if router is not None:
            found += sum(gathered.rewrite() for gathered in list(Gathered.behind(router, codes)))
            found += lookups.resolve(router)
            _leave_out_unread(node)
    return found


def _replaced(node: onnx_ir.Node, editor: GraphEditor, overridden: Callable[[onnx_ir.Node], bool]) -> bool:
    """Give what depends on a TopK all experts in place of the chosen ones, where that is understood."""
    region = Region.of(node, editor, overridden)
    try:
        if region is None or node.inputs[0] is None or not region.explore():
            return False
        if not all_distinct(node.inputs[0], region.where[node.outputs[0]].axis, editor):
            return False
    except Unsupported:
        return False
    _Dense(region, editor).rewrite()
    return True


def _leave_out_unread(node: onnx_ir.Node) -> None:
    """Leave out indices that nobody reads: the values of a TopK alone do not depend on the order of the entries."""
    if node.op_type == "TopK" and not node.domain and len(node.outputs) > 1:
        indices = node.outputs[1]
        if not indices.uses() and not indices.is_graph_output():
            indices.name = ""


@dataclass(frozen=True, slots=True)
class _Dense:
    """Rewrites what depends on one router."""

    region: Region
    editor: GraphEditor

    @property
    def write(self) -> ShapedEditor:
        """The editor, with the shapes of what it adds."""
        return ShapedEditor(self.editor)

    def rewrite(self) -> None:
        """Replace the router, the gathers and the sizes; record the new shapes."""
        known = self.editor.known
        old = {value: self.region.shape(value) for value in self.region.where}
        for value, at in self.region.where.items():
            known[value] = ValueInfo(self.region.scaled(old[value], at), known[value].dtype)
        for node, shape in self.region.shapes.items():
            node.replace_input_with(1, self.write.constant(node, "shape", np.array(shape, np.int64)))
            node.attributes.pop("allowzero", None)
        for node, data in self.region.indices.items():
            node.replace_input_with(1, self.write.constant(node, "indices", data))
        for node, index in self.region.spread:
            node.replace_input_with(index, self._copied(node, index))
        for node, (terms, out, letter) in self.region.merged.items():
            self._replace(node, self._apart(node, terms, out, letter, old))
        for node, weights in self.region.gathers.items():
            self._replace(node, self.write.reshaped(node, weights, self.region.shape(node.outputs[0])))
        settings = {
            "k": self.region.chosen,
            "axis": self.region.where[self.region.router.outputs[0]].axis,
            "largest": self.region.router.attributes.get_int("largest", 1),
        }
        scores = self.region.router.inputs[0]
        for node in self.region.masks:
            self._replace(node, self._chosen(node, [scores], {**settings, "mask": 1}))
        for node in self.region.placed:
            self._replace(node, self._placed(node, self._chosen(node, [scores], {**settings, "mask": 1})))
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

    def _placed(self, node: onnx_ir.Node, mask: onnx_ir.Value) -> onnx_ir.Value:
        """What belongs to the chosen experts where they are, the rest as it was."""
        shape = self.region.shape(node.outputs[0])
        self.editor.known[mask] = ValueInfo(shape, self.editor.known[node.outputs[0]].dtype)
        to = {"to": int(onnx_ir.DataType.BOOL)}
        chosen = self.write.made(node, "Cast", [mask], shape, "bool", to)
        dtype = self.editor.known[node.outputs[0]].dtype
        return self.write.made(node, "Where", [chosen, node.inputs[2], node.inputs[0]], shape, dtype)

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
                sizes = (shape[axis] // (self.region.experts * at.inner), self.region.experts, at.inner)
                if weight:
                    sizes = (1, self.region.experts, 1)
                elif shape[axis] == 1:  # broadcast
                    sizes = (1, 1, 1)
                value = self.write.reshaped(node, value, (*shape[:axis], *sizes, *shape[axis + 1 :]))
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
        made = self.write.made(
            node, node.op_type, inputs, (*shape[: at.axis], *split, *shape[at.axis + 1 :]),
            self.editor.known[result].dtype, attributes,
        )  # fmt: skip
        return self.write.reshaped(node, made, shape)

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
        thin = self.write.reshaped(node, value, (*shape[: own.axis], 1, self.region.experts, 1, *shape[own.axis + 1 :]))
        wide = (*shape[: own.axis], *apart, *shape[own.axis + 1 :])
        every = self.write.made(
            node, "Expand", [thin, self.write.constant(node, "size", np.array(wide, np.int64))], wide, dtype
        )
        return self.write.reshaped(node, every, (*shape[: own.axis], size, *shape[own.axis + 1 :]))
