"""Weights that a router picks, contracted with activations: computed for all experts, of which a gate picks one.

The axis of experts comes first, so that it broadcasts against whatever is computed outside. Which choice each entry of
a value belongs to is known by number, so that the gate meets the results of its own choice. It is applied where the
results of a contraction are read by something else than further contractions with weights of the same choices:
nothing is ever summed over experts without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import onnx_ir

from ..errors import Unsupported
from ..primitives.functions import FUNCTIONS
from .codes import Codes, Index, Router, runs
from .editor import remove_dead
from .moves import MOVES
from .per_expert import Form, Forms
from .shaped import ShapedEditor

__all__ = ["Gathered"]

_CONTRACTIONS = frozenset({"MatMul", "Gemm", "Einsum"})
_LETTERS = "abcdefghijklmnopqrstuvwxyABCDEFGHIJKLMNOPQRSTUVWXY"


@dataclass(slots=True)
class Gathered:
    """Rewrites what is contracted with the weights that one router picks, or several together.

    Attributes:
        codes: The codes of indices.
        forms: Values as they are for every expert.
        weights: Values that are gathered weights, moved or combined with constants.
        products: Products with activations, which are contractions once they are summed.
    """

    codes: Codes
    forms: Forms
    weights: set[onnx_ir.Value] = field(default_factory=set)
    products: set[onnx_ir.Value] = field(default_factory=set)

    @staticmethod
    def behind(router: Router, codes: Codes) -> Iterator[Gathered]:
        """One for each combination of routers by which something is gathered, of which `router` is one."""
        indices = [codes.index(node.inputs[place]) for node, place in codes.readers(router) if place == 1]
        for routers in {index.key: index.routers for index in indices if index is not None}.values():
            yield Gathered(codes, Forms(codes, routers))

    def rewrite(self) -> bool:
        """Replace the results of contractions with gathered weights; returns whether there are any."""
        if self.codes.editor.opset < 12:
            return False
        nodes = list(self.codes.editor.graph)
        meeting = [node for node in nodes if self._meets(node)]
        for node in self._inner(nodes, set(meeting)):
            try:
                self.forms.visit(node)
            except (Unsupported, ValueError, IndexError):
                continue
        found = False
        for node in reversed(meeting):
            result, form = node.outputs[0], self.forms.made.get(node.outputs[0])
            if form is not None and (result.uses() or result.is_graph_output()):
                found = self._replaced(node, form) or found
        remove_dead([form.value for form in self.forms.made.values()])
        return found

    @property
    def write(self) -> ShapedEditor:
        """The editor of the graph."""
        return self.codes.write

    def _meets(self, node: onnx_ir.Node) -> bool:
        """Whether a node contracts gathered weights with an activation; notes which values are gathered weights."""
        if node.graph is None or self.codes.overridden(node):
            return False
        if node.domain not in ("", "ai.onnx"):
            return False
        inside = [v for v in node.inputs if v is not None and v in self.weights]
        outside = [v for v in node.inputs if v is not None and v not in self.weights]
        if not inside:
            if self.forms.table(node) is not None:
                self.weights.add(node.outputs[0])
            return node.op_type in ("ReduceSum", "ReduceMean") and node.inputs[0] in self.products
        if all(self.codes.editor.is_constant(v) for v in outside):
            if node.op_type in MOVES or node.op_type in FUNCTIONS:
                self.weights.update(node.outputs)
            return False
        if node.op_type == "Mul":
            self.products.add(node.outputs[0])
        return node.op_type in _CONTRACTIONS

    def _inner(self, nodes: Iterable[onnx_ir.Node], meeting: set[onnx_ir.Node]) -> list[onnx_ir.Node]:
        """The contractions, and what lies between gathered weights and them, in order."""
        behind, after = set(self.weights), []
        for node in nodes:
            if node in meeting or any(v in behind for v in node.inputs) or any(v in behind for v in node.outputs):
                behind.update(node.outputs)
                after.append(node)
        inner, wanted = [], set(meeting)
        for node in reversed(after):
            if node in wanted:
                inner.append(node)
                wanted.update(p for v in node.inputs if v in behind and v is not None and (p := v.producer()))
        return inner[::-1]

    def _replaced(self, node: onnx_ir.Node, form: Form) -> bool:
        try:
            picked = self._picked(node, form)
        except Unsupported:
            return False
        self.write.replace(node, picked)
        return True

    def _picked(self, node: onnx_ir.Node, form: Form) -> onnx_ir.Value:
        """A result for every expert, summed over those that were chosen: times the code of the choice."""
        write, made, tail = self.write, self.write.shape(node.outputs[0]), self.forms.tail(form)
        # Axes on which several routers' choices alternate are taken apart, so that each router has its own place.
        apart = [runs(form.numbers, a) if n > 1 else [made[a]] for a, n in enumerate(form.numbers.shape)]
        sizes = [n for part in apart for n in part]
        if len(sizes) > 20:
            raise Unsupported("too many axes")
        full = [tail[a] == made[a] for a, part in enumerate(apart) for _ in part]
        varying = [form.numbers.shape[a] > 1 for a, part in enumerate(apart) for _ in part]
        index = Index(
            self.forms.routers, form.numbers.reshape([n for n, varies in zip(sizes, varying, strict=True) if varies])
        )
        code = write.as_type(node, self.codes.code(index), form.value)
        every = write.reshaped(
            node, form.value, (self.forms.count, *(n for n, own in zip(sizes, full, strict=True) if own))
        )
        terms = ["".join(c for c, own in zip(_LETTERS, has, strict=False) if own) for has in (varying, full)]
        both = [own or varies for own, varies in zip(full, varying, strict=True)]
        out = "".join(c for c, own in zip(_LETTERS, both, strict=False) if own)
        shape = [n for n, own in zip(sizes, both, strict=True) if own]
        equation = f"{terms[0]}Z,Z{terms[1]}->{out}"
        found = write.like(node, "Einsum", code, [every], shape, equation=equation)
        few = [made[a] if form.numbers.shape[a] > 1 or tail[a] == made[a] else 1 for a in range(len(made))]
        return write.expanded(node, write.reshaped(node, found, few), made)
