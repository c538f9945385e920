"""Spaces: neurons whose values can be mixed by matrices, and what mixing them does to the parameters.

If the values x of d neurons are reached by weights alone and read by weights alone, x -> M x changes nothing that the
network computes: the weights in front become M W, those behind W M^-1. `space_search` finds such neurons.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from ..ir.errors import GraphError
from ..ir.graph import EdgeBlock, ParameterGraph
from ..ir.vocabulary import Matrices

__all__ = ["Action", "Ones", "Space", "apply_matrix", "gram", "mean_axis", "random_matrix"]

_CHUNK = 1 << 22
"""Number of elements that are converted to float64 at a time."""


@dataclass(frozen=True, slots=True)
class Ones:
    """A vector that multiplies the values of a space and is taken into the weights behind it, to be 1 afterwards.

    Attributes:
        block: Its edge block.
        axis: The axis of the block's view [B, N, K, S] along which it lies, 0 or 1.
        batch: Index along B if the axis is another one, else 0.
        places: int64 [d], indices along the axis, in the order of the space's neurons.
    """

    block: int
    axis: int
    batch: int
    places: np.ndarray


@dataclass(frozen=True, slots=True)
class Action:
    """What mixing the values does to one edge block along one axis of its view [B, N, K, S].

    Attributes:
        block: The edge block.
        axis: The axis: 0 or 1 for targets, 2 for sources.
        batch: Index along B if the axis is another one, else 0.
        places: int64 [occurrences, d], indices along the axis, in the order of the space's neurons.
        dual: Whether it is multiplied by the transposed inverse of the matrix, not by the matrix itself.
        ones: Indices of vectors among `Space.ones` by which it is multiplied before the matrix.
        power: 1, or -1 if it is divided by them.
    """

    block: int
    axis: int
    batch: int
    places: np.ndarray
    dual: bool
    ones: tuple[int, ...] = ()
    power: int = 1


@dataclass(frozen=True, slots=True)
class Space:
    """Neurons whose values can be mixed.

    Attributes:
        nodes: int64 [rows, d]; the same matrix mixes the nodes of each row, or its transposed inverse does.
        matrices: The matrices that may mix them.
        actions: What they do to the parameters.
        ones: Vectors that are set to 1.
    """

    nodes: np.ndarray
    matrices: Matrices
    actions: tuple[Action, ...]
    ones: tuple[Ones, ...]

    @property
    def parts(self) -> tuple[Action | Ones, ...]:
        """Everything that is done to edge blocks."""
        return (*self.actions, *self.ones)

    @property
    def size(self) -> int:
        """The number d of neurons that are mixed."""
        return int(self.nodes.shape[1])

    @property
    def dimension(self) -> int:
        """The dimension of the group of matrices: d^2, d (d - 1) / 2, or (d - 1) (d - 2) / 2 if the mean is kept."""
        d = self.size
        return {Matrices.ALL: d * d, Matrices.ORTHOGONAL: comb(d, 2), Matrices.CENTRED: comb(d - 1, 2)}[self.matrices]

    @property
    def group(self) -> str:
        """The name of the group: GL(d) or O(d); orthogonal matrices that keep the mean form an O(d - 1)."""
        if self.matrices is Matrices.ALL:
            return f"GL({self.size})"
        return f"O({self.size - (self.matrices is Matrices.CENTRED)})"


def random_matrix(space: Space, rng: np.random.Generator) -> np.ndarray:
    """A random matrix of a space's group.

    Args:
        space: The space.
        rng: Source of randomness.

    Returns:
        float64 [d, d]: uniformly distributed if orthogonal; else with singular values from 0.7 to 1.4, so that its
        inverse rounds no worse than itself.
    """
    d = space.size
    if space.matrices is Matrices.ALL:
        stretch = np.exp2(rng.uniform(-0.5, 0.5, d))
        return np.asarray((_orthogonal(d, rng) * stretch) @ _orthogonal(d, rng))
    if space.matrices is Matrices.ORTHOGONAL:
        return _orthogonal(d, rng)
    inner = np.eye(d)
    inner[1:, 1:] = _orthogonal(d - 1, rng)
    return np.asarray(mean_axis(d) @ inner @ mean_axis(d))


def mean_axis(d: int) -> np.ndarray:
    """The reflection that exchanges the first unit vector and the direction of the all-ones vector, [d, d]."""
    normal = np.full(d, d**-0.5)
    normal[0] -= 1.0
    size = float(normal @ normal)
    return np.eye(d) - (2 * np.outer(normal, normal) / size if size else 0)


def _orthogonal(d: int, rng: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(rng.standard_normal((d, d)))
    return np.asarray(q * np.sign(np.diag(r)))


def apply_matrix(
    graph: ParameterGraph,
    space: Space,
    matrix: np.ndarray,
    new: dict[str, np.ndarray],
    values: Mapping[str, np.ndarray],
) -> None:
    """Mix the values of a space: change the parameters around it.

    Args:
        graph: The graph.
        space: One of its spaces.
        matrix: A matrix of its group, [d, d].
        new: Parameter tensors that have changed already, by name; changed in place and extended.
        values: All others.

    Raises:
        GraphError: if a vector that a value is divided by contains 0.
    """
    dual = np.linalg.inv(matrix).T if space.matrices is Matrices.ALL else matrix

    def tensor(block: int) -> np.ndarray:
        name = graph.edges[block].view.name
        if name not in new:
            new[name] = np.array(values[name], copy=True, order="C")
        return new[name]

    vectors = [_vector(graph, one, tensor(one.block)) for one in space.ones]
    for action in space.actions:
        if not graph.edges[action.block].tied:
            factor = np.prod([vectors[i] for i in action.ones], axis=0) if action.ones else None
            _mix(graph, action, dual if action.dual else matrix, factor, tensor(action.block))
    for one in space.ones:
        if not graph.edges[one.block].tied:
            graph.edges[one.block].view.write(
                tensor(one.block), np.ones((), np.float32), _at(one.axis, one.batch, one.places)
            )


def gram(
    graph: ParameterGraph,
    space: Space,
    x: Mapping[str, np.ndarray],
    y: Mapping[str, np.ndarray],
    dual: bool,
    known: np.ndarray | None = None,
) -> np.ndarray:
    """Inner products between the parameters at each neuron of a space in two networks.

    Args:
        graph: The graph.
        space: One of its spaces.
        x: Parameters of the first network by name.
        y: Those of the second one.
        dual: Whether to take those that the transposed inverse of a matrix multiplies, not those that it multiplies.
        known: bool [num_nodes], the nodes at the other ends whose parameters count; all by default.

    Returns:
        float64 [d, d]: of neuron i in the first network and neuron j in the second one; vectors that are taken into the
        weights count there.
    """
    total = np.zeros((space.size, space.size))
    vectors = [
        [_vector(graph, one, values[graph.edges[one.block].view.name]) for one in space.ones] for values in (x, y)
    ]
    for action in space.actions:
        block = graph.edges[action.block]
        if block.tied or action.dual != dual:
            continue
        for places in action.places:
            rows = []
            for values, own in zip((x, y), vectors, strict=True):
                at = _at(action.axis, action.batch, places)
                old = block.view.read(values[block.view.name], at).astype(np.float64)
                if action.ones:
                    factor = np.prod([own[i] for i in action.ones], axis=0)
                    expanded = np.expand_dims(factor, [a for a in range(4) if a != action.axis])
                    old = _scaled(old, expanded, action.power, block.view.name)
                if known is not None:
                    old = np.where(_ends(block, action, places, known), old, 0)
                rows.append(np.moveaxis(old, action.axis, 0).reshape(space.size, -1))
            total += rows[0] @ rows[1].T
    return total


def _ends(block: EdgeBlock, action: Action, places: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Whether the other end of each parameter of an action is known, broadcastable to what it reads."""
    dst, src = known[block.dst][:, :, None, None], known[block.src][:, None, :, None]
    if action.axis == 0:
        return src[places]
    here = slice(action.batch, action.batch + 1)
    return (src if action.axis == 1 else dst)[here]


def _mix(
    graph: ParameterGraph, action: Action, matrix: np.ndarray, factor: np.ndarray | None, tensor: np.ndarray
) -> None:
    view, axis = graph.edges[action.block].view, action.axis
    shape = [1 if axis else len(matrix), *(len(matrix) if axis == a else view.shape[a] for a in (1, 2, 3))]
    for places in action.places:
        for part in _chunks(shape, axis):
            at = _at(axis, action.batch, places, part)
            old = view.read(tensor, at).astype(np.float64)
            if factor is not None:
                old = _scaled(old, np.expand_dims(factor, [a for a in range(4) if a != axis]), action.power, view.name)
            mixed = np.moveaxis(np.tensordot(matrix, old, (1, axis)), 0, axis)
            view.write(tensor, mixed.astype(tensor.dtype), at)


def _scaled(old: np.ndarray, factor: np.ndarray, power: int, name: str) -> np.ndarray:
    if power > 0:
        return np.asarray(old * factor)
    if ((factor == 0) & (old != 0)).any():
        raise GraphError(
            f"cannot mix neurons whose normalisation has a scale of 0 and a shift ({name!r}) that is not 0"
        )
    return np.divide(old, factor, out=np.zeros_like(old), where=factor != 0)


def _vector(graph: ParameterGraph, one: Ones, tensor: np.ndarray) -> np.ndarray:
    """The present values of a vector, float64 [d]."""
    at = _at(one.axis, one.batch, one.places)
    return np.asarray(graph.edges[one.block].view.read(tensor, at), dtype=np.float64).reshape(-1)


def _at(axis: int, batch: int, places: np.ndarray, other: slice = slice(None)) -> tuple[slice | np.ndarray, ...]:
    """An index into a view [B, N, K, S]: these places along an axis, and part of the longer one of N and K."""
    if axis == 0:
        return (places, slice(None), slice(None))
    here = slice(batch, batch + 1)
    return (here, places, other) if axis == 1 else (here, other, places)


def _chunks(shape: Sequence[int], axis: int) -> Iterator[slice]:
    """Parts of the other axis, so that no more than `_CHUNK` elements are read at a time."""
    if axis == 0:
        yield slice(None)
        return
    length = shape[3 - axis]
    step = max(1, _CHUNK * max(length, 1) // max(int(np.prod(shape)), 1))
    yield from (slice(start, start + step) for start in range(0, length, step))
