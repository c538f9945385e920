"""The parameter graph: a typed directed multigraph of neurons and parameters in compressed form.

Nothing here is as long as the parameters: nodes come in contiguous groups, edges in dense bipartite blocks whose
values are lazy views of the model's tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from . import printer
from .check import check
from .files import CARRIED
from .views import Parameter, ParameterView

__all__ = [
    "AccountEntry",
    "EdgeBlock",
    "LinkBlock",
    "NodeGroup",
    "OpaqueOp",
    "ParameterGraph",
    "Port",
    "Problem",
    "Via",
]

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """A contiguous run of nodes of one `NodeKind`: ids `start .. start + size - 1`.

    depth: longest path in contractions from an input. node, value: names of the ONNX node and value that made it.
    scope: the exporter's name scope ("" if it left none).
    """

    kind: str
    start: int
    size: int
    depth: int
    node: str = ""
    value: str = ""
    scope: str = ""

    @property
    def stop(self) -> int:
        """One past the last node id."""
        return self.start + self.size


@dataclass(frozen=True, slots=True)
class Via:
    """One entry of the via table: the last parameter-free step that a value went through since its node was made.

    op: ONNX operator type, or the name of the elementwise function that a chain of them amounts to.
    attributes: sorted (name, value) pairs. parents: via ids that it was applied to (one; several where branches of
    one neuron meet; none for entry 0, "nothing yet"). blocks: indices of the edge blocks attached in this step.
    sizes: of grids; they tell steps of one graph apart and say nothing of the network, so graphs are compared without.
    """

    op: str
    attributes: tuple[tuple[str, object], ...] = ()
    parents: tuple[int, ...] = ()
    blocks: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class EdgeBlock:
    """B dense bipartite blocks of parameter edges: entry (b, n, k, s) is an edge src[b, k] -> dst[b, n] in slot s.

    dst: int32 [B, N]; src: int32 [B, K]; via: int32 [B, K], what src[b, k] went through before the weight;
    slots: int32 [S, <=3] coordinates (kernel index, position, row). Arrays may be broadcast views.
    A node that occurs several times in a row of src stands for several places: occurrence order is the place.
    tied: these elements already have edges elsewhere (a shared initializer's second site).
    constant: the view is of a constant that is no parameter (a rotary table, a mask): outside the account.
    """

    dst: np.ndarray
    src: np.ndarray
    view: ParameterView
    role: str
    slots: np.ndarray
    via: np.ndarray
    tied: bool = False
    constant: bool = False
    node: str = ""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, N, K, S)."""
        return self.view.shape

    @property
    def size(self) -> int:
        """Number of edges."""
        return self.view.size


@dataclass(frozen=True, slots=True)
class LinkBlock:
    """Edges without a parameter: src[i] -> dst[i].

    dst, src, via: int32 [n]. operand: int32 [n] place among the operands of an op that is not commutative, else None.
    slot: int32 [n, <=3] place where positions were joined, else None.
    """

    dst: np.ndarray
    src: np.ndarray
    role: str
    via: np.ndarray
    operand: np.ndarray | None = None
    slot: np.ndarray | None = None
    node: str = ""

    @property
    def size(self) -> int:
        """Number of links."""
        return len(self.dst)


@dataclass(frozen=True, slots=True)
class Port:
    """A named input or output of the network: which nodes it is made of, and what they went through last.

    nodes, via: int32 [n], in the order of the value's elements (distinct pairs only).
    """

    name: str
    nodes: np.ndarray
    via: np.ndarray


@dataclass(frozen=True, slots=True)
class AccountEntry:
    """`count` elements of tensor `name` that are not on an edge. where: "opaque", or the reason (no parameter)."""

    name: str
    count: int
    where: str


@dataclass(frozen=True, slots=True)
class OpaqueOp:
    """A node whose structure is not known: its operands are pinned and it links through one node."""

    op: str
    domain: str
    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One diagnostic: an operator that was not lowered, with where it stands and what to do.

    rule: the rule that refused this form of it; "" where there is no rule at all.
    """

    op: str
    domain: str
    opset: int
    node: str
    reason: str
    hint: str = ""
    rule: str = ""


@dataclass(frozen=True, eq=False)
class ParameterGraph:
    """A neural network as a graph: neurons are nodes, every parameter is one edge.

    pinned: bool [num_nodes]; a pinned node carries its index within its group and no symmetry may move it.
    parameters: every tensor whose elements the account covers. constants: folded tables that are no parameters but
    vary over neurons; only blocks marked `constant` view them.
    paired: bool [num_nodes]; nodes that share a value with nodes of another axis (a token and a channel), so that what
    happens to it cannot be told from one of them. None where that is not known.
    model: the object that `backends.onnx.write` writes values back into; opaque to the IR.
    """

    name: str
    groups: tuple[NodeGroup, ...]
    pinned: np.ndarray
    edges: tuple[EdgeBlock, ...]
    links: tuple[LinkBlock, ...]
    vias: tuple[Via, ...]
    parameters: Mapping[str, Parameter]
    constants: Mapping[str, Parameter]
    account: tuple[AccountEntry, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    opaque: tuple[OpaqueOp, ...] = ()
    unsupported: tuple[Problem, ...] = ()
    model: object = field(default=None, repr=False)
    paired: np.ndarray | None = None
    _derived: dict[object, Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def num_nodes(self) -> int:
        """Number of nodes."""
        return len(self.pinned)

    @property
    def num_parameter_edges(self) -> int:
        """Number of edges that carry a parameter, one per element; edges of tied blocks apart."""
        return sum(b.size for b in self.edges if not b.tied and not b.constant)

    @property
    def num_tied_edges(self) -> int:
        """Number of further edges of elements that are used at a second site."""
        return sum(b.size for b in self.edges if b.tied and not b.constant)

    @property
    def num_links(self) -> int:
        """Number of edges without a parameter (those of constants that are no parameter included)."""
        return sum(b.size for b in self.links) + sum(b.size for b in self.edges if b.constant)

    @property
    def num_parameters(self) -> int:
        """Number of elements of all parameter tensors, accounted or not."""
        return sum(p.size for p in self.parameters.values())

    def not_parameters(self) -> dict[str, int]:
        """Elements that are no parameter, by reason."""
        totals: dict[str, int] = {}
        for entry in self.account:
            if entry.where != "opaque":
                totals[entry.where] = totals.get(entry.where, 0) + entry.count
        return totals

    @property
    def num_opaque_parameters(self) -> int:
        """Elements that lie under an opaque op."""
        return sum(e.count for e in self.account if e.where == "opaque")

    @cached_property
    def group_starts(self) -> np.ndarray:
        """int64 [number of groups]: first node id of each group."""
        return np.array([g.start for g in self.groups], dtype=np.int64)

    def group_of(self, nodes: np.ndarray) -> np.ndarray:
        """Group index of each node id, same shape."""
        return np.searchsorted(self.group_starts, nodes, side="right") - 1

    def values(self, block: EdgeBlock) -> np.ndarray:
        """The parameter values [B, N, K, S] of a block; a view of the (memory-mapped) tensor where possible."""
        table = self.constants if block.constant else self.parameters
        return block.view.read(table[block.view.name].load())

    def via_text(self, via: int) -> str:
        """A via id in words, e.g. ``BatchNormalization > Relu > MaxPool[kernel=3x3]`` ("" for none)."""
        return printer.via_text(self, via)

    def derived(self, key: object, make: Callable[[], Made]) -> Made:
        """What follows from the graph, made on first use and kept with it: a graph never changes.

        Args:
            key: Names it, hashable.
            make: Makes it.

        Returns:
            What `make` returned the first time.
        """
        if key not in self._derived:
            self._derived[key] = make()
        found: Made = self._derived[key]
        return found

    def check(self) -> None:
        """Verify every invariant (ids in range, shapes agree, one edge per element, the account closes).

        Raises `GraphError` that names the block and the broken rule.
        """
        check(self)

    def __reduce__(self) -> tuple[Any, ...]:
        # What is derived from the graph is found again where it arrives, and its model is read there on first use.
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.init and f.name != "model"}
        return _arrived, ({**own, "parameters": dict(self.parameters), "constants": dict(self.constants)}, self._sent())

    def _sent(self) -> object:
        """The model as it travels, None if it does not."""
        if "model" not in self.__dict__:
            return self.__dict__.get("_model")
        carried = getattr(self.model, "meta", {}).get(CARRIED)
        return None if carried is None else carried(self.model)

    def __copy__(self) -> ParameterGraph:
        return replace(self)

    def __repr__(self) -> str:
        return f"<{printer.headline(self)}>"

    def __str__(self) -> str:
        return printer.summary(self)


class _OnFirstUse:
    """Gives the model of a graph that came from another process, once it is asked for, and puts it into the graph."""

    def __get__(self, graph: ParameterGraph | None, owner: type) -> Any:
        if graph is None:
            return None
        sent: Any = graph.__dict__.get("_model")
        graph.__dict__["model"] = found = None if sent is None else sent.open()
        return found


# The default of the field stays None, and what an instance holds comes before this.
setattr(ParameterGraph, "model", _OnFirstUse())  # noqa: B010


def _arrived(own: dict[str, Any], sent: object) -> ParameterGraph:
    """A graph of its fields, and of its model as it travels."""
    graph = ParameterGraph(**own)
    del graph.__dict__["model"]
    graph.__dict__["_model"] = sent
    return graph
