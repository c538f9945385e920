"""The parameter graph: a typed directed multigraph in which neurons are nodes and parameters are edges, compressed.

No array here is as long as the parameters: nodes come in contiguous groups, edges in dense bipartite blocks whose
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

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """Nodes of one kind with contiguous ids `start .. start + size - 1`.

    Attributes:
        kind: A `NodeKind`.
        start: The first node id.
        size: Number of nodes.
        depth: Length of the longest path from an input, counted in contractions.
        node: Name of the ONNX node that they come from.
        value: Name of the ONNX value whose features they are.
        scope: The exporter's name scope, e.g. the module path; "" if it left none.
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
    """One operation trace: a step, and the traces of the values it was applied to.

    A via id stands for everything that a node's value went through since the node was made, without a new node.

    Attributes:
        op: Name of a declared `Step`: an ONNX operator type, or the function that a chain of operators computes.
        attributes: (name, value) pairs, sorted.
        parents: Ids of the vias that the step was applied to: one; several where branches of one neuron meet; none for
            entry 0 of the table, the empty trace.
        blocks: Indices of the edge blocks whose parameters the step attaches.
        sizes: Sizes of the grid, where they tell steps of one graph apart. They depend on the input's size and not on
            the network, so comparisons of graphs ignore them.
    """

    op: str
    attributes: tuple[tuple[str, object], ...] = ()
    parents: tuple[int, ...] = ()
    blocks: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class EdgeBlock:
    """B dense bipartite blocks of edges, one parameter element each: (b, n, k, s) is src[b, k] -> dst[b, n] in slot s.

    A node that occurs several times in src[b] stands for several positions, in order of occurrence. Arrays may be
    broadcast views.

    Attributes:
        dst: int32 [B, N], target nodes.
        src: int32 [B, K], source nodes.
        view: The elements [B, N, K, S] that the edges carry.
        role: An `EdgeRole`, a role with a suffix such as ".scale", or the name of a step.
        slots: int32 [S, <=3], coordinates of the slots: kernel index, position, row.
        via: int32 [B, K], what src[b, k] went through before it meets the parameter.
        tied: Whether the elements already have edges at another site (a shared initializer).
        constant: Whether the view is of a constant and not of a parameter (a rotary table, a mask); not in the account.
        node: Name of the ONNX node.
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
    """n edges src[i] -> dst[i] without a parameter.

    Attributes:
        dst: int32 [n], target nodes.
        src: int32 [n], source nodes.
        role: A `LinkRole`, or the name of a step.
        via: int32 [n], what src[i] went through.
        operand: int32 [n], index among the operands of an operator that is not commutative; None if it is.
        slot: int32 [n, <=3], coordinates of the position, where positions are joined; else None.
        node: Name of the ONNX node.
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
    """A named input or output of the network.

    Attributes:
        name: Name of the ONNX value.
        nodes: int32 [n], its nodes in the order of the value's elements; each (node, via) pair once.
        via: int32 [n], what each node went through.
    """

    name: str
    nodes: np.ndarray
    via: np.ndarray


@dataclass(frozen=True, slots=True)
class AccountEntry:
    """Elements of a tensor that are on no edge.

    Attributes:
        name: Name of the tensor.
        count: Number of elements.
        where: "opaque" for elements under an opaque operator, else the reason why they are not parameters.
    """

    name: str
    count: int
    where: str


@dataclass(frozen=True, slots=True)
class OpaqueOp:
    """An operator of unknown structure: its operands are pinned and linked to one node that stands for it.

    Attributes:
        op: Operator type.
        domain: Operator domain.
        node: Name of the ONNX node.
        reason: Why it was not lowered.
    """

    op: str
    domain: str
    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class Problem:
    """A diagnostic for an operator that was not lowered.

    Attributes:
        op: Operator type.
        domain: Operator domain.
        opset: Opset version in which it is used.
        node: Path of the ONNX node.
        reason: What is not supported.
        hint: What to do about it.
        rule: The rule that refused this form of it; "" if there is no rule.
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
    """A neural network as a graph: neurons are nodes, every parameter element is one edge. Immutable.

    Attributes:
        name: The model's name.
        groups: The nodes, in id order.
        pinned: bool [num_nodes]; a pinned node carries its index within its group and no symmetry moves it.
        edges: Edges with parameters.
        links: Edges without.
        vias: The via table; entry 0 is the empty trace, and parents come before children.
        parameters: Every tensor that the account covers, by name.
        constants: Tables that vary over neurons without being parameters, by name; `constant` blocks view them.
        account: Elements of parameters that are on no edge.
        inputs: The network's inputs.
        outputs: The network's outputs.
        opaque: Operators of unknown structure.
        unsupported: Diagnostics for operators that were not lowered.
        model: What `backends.onnx.write` writes values back into; this room does not look at it.
        paired: bool [num_nodes]; nodes whose values vary over the nodes of a second axis too (a token and a channel),
            so that neither alone says what happens to a value. None if not known.
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
        """Number of edges that carry a parameter, one per element; without those of tied blocks."""
        return sum(b.size for b in self.edges if not b.tied and not b.constant)

    @property
    def num_tied_edges(self) -> int:
        """Number of edges of tied blocks: further uses of shared elements."""
        return sum(b.size for b in self.edges if b.tied and not b.constant)

    @property
    def num_links(self) -> int:
        """Number of edges without a parameter, including those of constant blocks."""
        return sum(b.size for b in self.links) + sum(b.size for b in self.edges if b.constant)

    @property
    def num_parameters(self) -> int:
        """Number of elements of all parameter tensors, on an edge or not."""
        return sum(p.size for p in self.parameters.values())

    def not_parameters(self) -> dict[str, int]:
        """Number of elements that are not parameters, by reason."""
        totals: dict[str, int] = {}
        for entry in self.account:
            if entry.where != "opaque":
                totals[entry.where] = totals.get(entry.where, 0) + entry.count
        return totals

    @property
    def num_opaque_parameters(self) -> int:
        """Number of elements under opaque operators."""
        return sum(e.count for e in self.account if e.where == "opaque")

    @cached_property
    def group_starts(self) -> np.ndarray:
        """The first node id of each group, int64 [groups]."""
        return np.array([g.start for g in self.groups], dtype=np.int64)

    def group_of(self, nodes: np.ndarray) -> np.ndarray:
        """The group of each node.

        Args:
            nodes: Node ids, any shape.

        Returns:
            Indices into `groups`, int64 of that shape.
        """
        return np.searchsorted(self.group_starts, nodes, side="right") - 1

    def values(self, block: EdgeBlock) -> np.ndarray:
        """Read the parameter values of a block.

        Args:
            block: One of `edges`.

        Returns:
            [B, N, K, S]; a view of the (memory-mapped) tensor unless the block's view has an index.
        """
        table = self.constants if block.constant else self.parameters
        return block.view.read(table[block.view.name].load())

    def via_text(self, via: int) -> str:
        """Spell out a via.

        Args:
            via: An id, an index into `vias`.

        Returns:
            The steps, oldest first, e.g. ``BatchNormalization > Relu > MaxPool[kernel_shape=3x3]``; "" for via 0.
        """
        return printer.via_text(self, via)

    def derived(self, key: object, make: Callable[[], T]) -> T:
        """Compute something from the graph once and cache it with the graph.

        Args:
            key: Hashable cache key.
            make: Computes the value, on the first call with this key.

        Returns:
            The cached value.
        """
        if key not in self._derived:
            self._derived[key] = make()
        found: T = self._derived[key]
        return found

    def check(self) -> None:
        """Verify every invariant: ids in range, shapes agree, one edge per element, the account closes.

        Raises:
            GraphError: naming the block and the broken invariant.
        """
        check(self)

    def __reduce__(self) -> tuple[Any, ...]:
        # The receiver recomputes what is derived and reads the model on first use.
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.init and f.name != "model"}
        return _arrived, ({**own, "parameters": dict(self.parameters), "constants": dict(self.constants)}, self._sent())

    def _sent(self) -> object:
        """The picklable form of the model, None if there is none."""
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
    """Opens the model of an unpickled graph on first access and stores it in the instance."""

    def __get__(self, graph: ParameterGraph | None, owner: type) -> Any:
        if graph is None:
            return None
        sent: Any = graph.__dict__.get("_model")
        graph.__dict__["model"] = found = None if sent is None else sent.open()
        return found


# Set after the dataclass is made, so that the field's default stays None; instance attributes take precedence.
setattr(ParameterGraph, "model", _OnFirstUse())  # noqa: B010


def _arrived(own: dict[str, Any], sent: object) -> ParameterGraph:
    """Unpickle a graph from its fields and the picklable form of its model."""
    graph = ParameterGraph(**own)
    del graph.__dict__["model"]
    graph.__dict__["_model"] = sent
    return graph
