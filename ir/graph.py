"""The parameter graph: a typed directed multigraph in which neurons are nodes and parameters are edges, compressed.

No array here is as long as the parameters: nodes come in contiguous groups, edges in dense bipartite blocks whose
values are lazy views of the model's tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Protocol, TypeVar

import numpy as np

from . import printer
from .check import check
from .diagnostics import AccountEntry, OpaqueOp, Problem
from .views import Parameter, ParameterView

__all__ = [
    "EdgeBlock",
    "LinkBlock",
    "ModelSource",
    "NodeGroup",
    "ParameterGraph",
    "Port",
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


class ModelSource(Protocol):
    """Where a graph's values come from and are written back to; made by the front end, picklable."""

    @property
    def model(self) -> Any:
        """The `onnx_ir.Model`, whose type this room does not know."""

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of the files that values are read from."""

    @property
    def original(self) -> Any:
        """The serialized model as it was read, bytes or a memory map; None if it was built in memory."""

    def check(self) -> None:
        """Check that the files of external data are those that were loaded.

        Raises:
            LoadError: A file is missing or has changed.
        """

    def parse(self, proto: Any) -> Any:
        """Convert an `onnx.ModelProto` to an `onnx_ir.Model` in the way that the original was.

        Args:
            proto: The protobuf model.

        Returns:
            The model.
        """


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
        source: The model that it was compiled from, into which `backends.onnx.write` writes values.
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
    source: ModelSource | None = field(default=None, repr=False)
    paired: np.ndarray | None = None
    _derived: dict[object, Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def model(self) -> Any:
        """The `onnx_ir.Model` that the graph was compiled from; None if there is none, as for a graph from a store."""
        return None if self.source is None else self.source.model

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of the files that values are read from: the model's file and its external data."""
        return () if self.source is None else self.source.files

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
        # What is derived stays behind: the receiver computes it again.
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        given |= {"parameters": dict(self.parameters), "constants": dict(self.constants)}
        return ParameterGraph, tuple(given.values())

    def __copy__(self) -> ParameterGraph:
        return replace(self)

    def __repr__(self) -> str:
        return f"<{printer.headline(self)}>"

    def __str__(self) -> str:
        return printer.summary(self)
