"""What a function of gmnc becomes once a rule is taken out of it: see `mutations`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from gmnc.frontend.primitives.joins import Operand, gathered
from gmnc.frontend.primitives.labels import compress, map_via, periodic
from gmnc.frontend.primitives.stacking import stack
from gmnc.ir import ParameterGraph

__all__ = [
    "KINDS",
    "OPERANDS",
    "PINS",
    "ROLES",
    "SLOTS",
    "TIES",
    "VIAS",
    "Change",
    "always_the_first",
    "any_order",
    "as_it_comes",
    "by_number",
    "commutative",
    "constantly",
    "each",
    "first_of_several",
    "first_operand",
    "first_place",
    "if_broadcast",
    "left_factor",
    "links_without_vias",
    "no_bits",
    "no_coordinates",
    "not_periodic",
    "of_any_factor",
    "one_row",
    "outside_vias",
    "paired_backwards",
    "slots_as_they_come",
    "stacked",
    "unchanged",
    "unpinned",
    "without_step",
    "without_tables",
    "without_values",
]

Change = Callable[[Any], Any]
"""Makes of a function what it is without the rule."""


def constantly(value: Any) -> Change:
    return lambda old: lambda *args, **keywords: value


def unchanged(place: int) -> Change:
    """The function returns its argument at this place."""
    return lambda old: lambda *args, **keywords: args[place]


def blind_to(**missing: Callable[[ParameterGraph], Any]) -> Change:
    """A function of a graph sees another one; missing: fields of the graph, and what becomes of them."""

    def change(old: Any) -> Any:
        def blind(*args: Any, **keywords: Any) -> Any:
            seen = (
                replace(a, **{n: f(a) for n, f in missing.items()}) if isinstance(a, ParameterGraph) else a
                for a in args
            )
            return old(*seen, **keywords)

        return blind

    return change


def each(field: str, **new: Callable[[Any], Any]) -> Callable[[ParameterGraph], Any]:
    """All groups, edges, links or ports of a graph with other attributes, made from what they are."""
    return lambda graph: tuple(replace(part, **{n: f(part) for n, f in new.items()}) for part in getattr(graph, field))


def _zero(name: str) -> Callable[[Any], Any]:
    return lambda part: np.zeros_like(getattr(part, name))


def _none(part: Any) -> None:
    return None


KINDS = blind_to(groups=each("groups", kind=lambda g: "neuron"))
ROLES = blind_to(edges=each("edges", role=lambda b: ""), links=each("links", role=lambda b: ""))
VIAS = blind_to(**{field: each(field, via=_zero("via")) for field in ("edges", "links", "outputs")})
SLOTS = blind_to(edges=each("edges", slots=_zero("slots")), links=each("links", slot=_none))
OPERANDS = blind_to(links=each("links", operand=_none))
PINS = blind_to(pinned=lambda g: np.zeros_like(g.pinned), inputs=lambda g: (), outputs=lambda g: ())
TIES = blind_to(edges=each("edges", tied=lambda b: False))


def _first(labels: np.ndarray, axes: Any) -> np.ndarray:
    return compress(labels[tuple(slice(0, 1) if a in axes else slice(None) for a in range(labels.ndim))])


def first_place(old: Any) -> Any:
    return lambda state, labels, axes, *args, **keywords: _first(labels, axes)


def any_order(old: Any) -> Any:
    return lambda state, labels, axes, role="shared", beside=(): gathered(state, labels, axes, "join", role, ())


def stacked(old: Any) -> Any:
    def concat(self: Any, inputs: Any, axis: int) -> Any:
        values = [self.as_activation(v) for v in inputs if v.shape[axis] > 0]
        operands = [Operand((self._tuple(v),), v.shape) for v in values]
        labels, shape = stack(self.state, operands, axis, [v.shape[axis] for v in values])
        return values[0].relabelled(self.moved(values[0].relabelled((labels,), shape), lambda a: a, shape), shape)

    return concat


def no_coordinates(old: Any) -> Any:
    return lambda sizes: np.zeros_like(old(sizes))


def not_periodic(old: Any) -> Any:
    return lambda labels: (1, labels.shape[-1], 1)


def first_of_several(old: Any) -> Any:
    def source(state: Any, involved: Any, kept: Any) -> Any:
        if involved or (len(kept) == 1 and kept[0].size == 1):
            return old(state, involved, kept)
        return kept[0].reshape(-1)[:1].reshape((1,) * kept[0].ndim), kept

    return source


def without_step(op: str) -> Change:
    """Steps of this name are left out of vias."""

    def change(old: Any) -> Any:
        def via(self: Any, name: str, attributes: Any, parents: tuple[int, ...] = (), *rest: Any, **named: Any) -> int:
            return parents[0] if name == op else old(self, name, attributes, parents, *rest, **named)

        return via

    return change


def as_it_comes(old: Any) -> Any:
    return lambda self, vias, step: step(vias)


def slots_as_they_come(old: Any) -> Any:
    def runs(moves: Any, labels: np.ndarray, *args: Any) -> Any:
        tile, distinct, run = periodic(labels)
        return labels[:, : distinct * run : run], (tile, run)

    return runs


def by_number(old: Any) -> Any:
    return lambda state, factors, factor, axes, attributes, shape: {n: v for n, v in attributes.items() if n != "axes"}


def of_any_factor(old: Any) -> Any:
    """Names the axes alike for all factors."""

    def over(state: Any, factors: Any, factor: Any, axes: Any, attributes: Any, shape: Any) -> Any:
        varies = next((f for f in factors if any(f.shape[a] > 1 for a in axes)), factor)
        return old(state, (varies,), varies, axes, attributes, shape)

    return over


def if_broadcast(old: Any) -> Any:
    def spread(moves: Any, labels: Any, shape: Any, axes: Any, new_shape: Any, keep: Any, grid: Any) -> Any:
        same = shape == new_shape and list(axes) != list(grid)
        return labels if same else old(moves, labels, shape, axes, new_shape, keep, grid)

    return spread


def always_the_first(old: Any) -> Any:
    return lambda self, labels: np.zeros(len(labels), dtype=np.int64)


def unpinned(old: Any) -> Any:
    return lambda state, factors, axes, op, attributes, old, shape: tuple(
        map_via(f, lambda v: state.builder.via(op, attributes.items(), (v,))) for f in factors
    )


def without_tables(old: Any) -> Any:
    def attach(state: Any, constants: Any, account_reasons: Any, factors: Any, value: Any, step: Any) -> Any:
        if value.data is None:
            return old(state, constants, account_reasons, factors, value, step)
        return tuple(map_via(f, step.mark) for f in factors)

    return attach


def outside_vias(old: Any) -> Any:
    def attach(state: Any, factors: Any, *args: Any) -> Any:
        old(state, factors, *args)
        return factors

    return attach


def links_without_vias(old: Any) -> Any:
    def add_links(self: Any, dst: Any, src: Any, role: str, via: Any = 0, *args: Any, **keywords: Any) -> None:
        old(self, dst, src, role, 0, *args, **keywords)

    return add_links


def commutative(old: Any) -> Any:
    return lambda state, operands, role, ranks=(), kind="join": old(state, operands, role, (), kind)


def first_operand(old: Any) -> Any:
    def join(state: Any, operands: Any, *args: Any, **keywords: Any) -> np.ndarray:
        return compress(np.broadcast_to(operands[0], np.broadcast_shapes(*(o.shape for o in operands))))

    return join


def left_factor(old: Any) -> Any:
    return lambda state, members: members[0][1]


def paired_backwards(old: Any) -> Any:
    def match(nodes: np.ndarray, targets: np.ndarray, *vias: np.ndarray) -> np.ndarray:
        back = [v if i == 0 else v[::-1] for i, v in enumerate(vias)]
        return len(nodes) - 1 - old(nodes, targets[::-1], *back)

    return match


def one_row(old: Any) -> Any:
    return lambda block: (np.zeros(block.shape[0], dtype=np.int64), False)


def without_values(old: Any) -> Any:
    def arcs(self: Any, block: Any) -> Any:
        return old(self, replace(block, view=replace(block.view, offset=0, strides=(0, 0, 0, 0), index=None)))

    return arcs


def no_bits(old: Any) -> Any:
    return lambda values: np.zeros(np.shape(values), dtype=np.uint64)
