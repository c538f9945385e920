"""Weights that are shared over an axis of neurons, as one matrix is by all heads.

If the labels of an activation vary along an axis that a weight contracts, or has an entry for, and along another over
which the weight is shared, then the neurons along the shared axis meet the same weight. Those that were made alike (the
heads of one projection) may trade places, so the weight gets nodes of its own, as a computed one does, and meets each
of them in a product. Positions that were made apart (the steps of a loop that is unrolled) are in order: they are
joined first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Set
from dataclasses import replace
from typing import Any

import numpy as np

from ..budget import MAX_SHARED, MAX_SHARED_LABELS
from .contraction import Spec, roles
from .elements import Elements
from .joins import Factors
from .labels import nodes_of, varying, vias_of
from .state import State
from .values import Value

__all__ = ["is_one_of", "outputs", "own_nodes", "settled", "windows"]


def is_one_of(weight: Elements, names: Set[str]) -> bool:
    """Whether a weight is (a part of) one of the parameters of these names."""
    array, arena = weight.array, weight.arena
    if not names or arena.constant or not array.size:
        return False
    number = arena.number_of(array) if array.dtype == np.int8 else int(array.flat[0])
    return arena.owner(number)[0] in names


def outputs(spec: Spec) -> dict[str, tuple[str, str]]:
    """The letters of the output position and of the kernel position, by the letter of the window."""
    out = [t for t in spec.out if t not in spec.x and t not in spec.w]
    kernel = [t for t in spec.w if t not in spec.x and t not in spec.out]
    return dict(zip(spec.window, zip(out, kernel, strict=True), strict=True))


def settled(factors: Factors, weight: Elements, spec: Spec) -> tuple[Elements, Spec]:
    """Take the axes along which a kernel stays where it is for what they are, if they have neurons: shared axes.

    Args:
        factors: Labels of the activation.
        weight: The elements of the weight.
        spec: The axes.

    Returns:
        The weight without these axes of its kernel, and the axes.
    """
    labelled = {spec.x[a] for f in factors for a in varying(f)}
    gone = [t for t in spec.still if t in labelled]
    if not gone:
        return weight, spec
    letters = outputs(spec)
    kernel = {letters[t][1] for t in gone}
    names = {letters[t][0]: t for t in gone}
    weight = weight.reshape(*(n for n, t in zip(weight.shape, spec.w, strict=True) if t not in kernel))
    return weight, replace(
        spec,
        w="".join(t for t in spec.w if t not in kernel),
        out="".join(names.get(t, t) for t in spec.out),
        window="".join(t for t in spec.window if t not in gone),
        still="".join(t for t in spec.still if t not in gone),
    )


def own_nodes(state: State, factors: Factors, weight: tuple[int, ...], spec: Spec) -> list[list[int]]:
    """The axes along which a weight gets nodes of its own.

    Args:
        state: The state of the lowering.
        factors: Labels of the activation.
        weight: The shape of the weight.
        spec: The axes.

    Returns:
        [the axes of its rows, which meet neurons of the activation, the axes of its columns, which are new], or [the
        axes of all]; nothing if the weight is contracted with neurons as they are.
    """
    contracted, batch = roles(spec, weight)
    met = {*contracted, *batch}
    over = {t for t in spec.x if t in spec.out and t not in batch}
    letters = [{spec.x[a] for a in varying(f)} for f in factors]
    labelled = set[str]().union(*letters)
    both = [f for f, own in zip(factors, letters, strict=True) if own & met and own & over]
    if len(both) != 1 or labelled & set(spec.window):
        return []
    shared = [a for a in varying(both[0]) if spec.x[a] in over]
    if both[0].size > MAX_SHARED_LABELS or math.prod(both[0].shape[a] for a in shared) > MAX_SHARED:
        return []
    if not any(_made_alike(state, both[0], a) for a in shared):
        return []
    wide = [(a, t) for a, (t, n) in enumerate(zip(spec.w, weight, strict=True)) if n > 1]
    entries = [a for a, t in wide if t in batch]
    rows = [a for a, t in wide if t in contracted and t in labelled]
    columns = [a for a, t in wide if t in spec.out and t not in spec.x]
    if not rows or not columns:
        fits = both[0].size * math.prod(weight[a] for a in columns) <= MAX_SHARED_LABELS
        return [[*entries, *rows, *columns]] if fits else []
    # Each entry of a batch of matrices has rows and columns of its own, so every element would need a node.
    return [] if entries else [rows, columns]


def windows(
    unary: Callable[[Value, str, dict[str, Any]], Value], x: Value, weight: tuple[int, ...], spec: Spec,
    out: tuple[int, ...],
) -> tuple[Value, str]:  # fmt: skip
    """An activation with an axis for each position of a kernel, and the letters of its axes.

    Args:
        unary: The primitive.
        x: The activation.
        weight: The shape of the weight.
        spec: The axes.
        out: The shape of the result.

    Returns:
        The activation and its letters; `x` itself if nothing slides.
    """
    if not spec.window:
        return x, spec.x
    letters = outputs(spec)
    positions = dict(zip(spec.out, out, strict=True))
    kernel = [weight[spec.w.index(letters[t][1])] for t in spec.window]
    to = [positions[letters[t][0]] for t in spec.window]
    axes = tuple(spec.x.index(t) - x.rank for t in spec.window)
    found = unary(x, "Windows", {"kernel_shape": tuple(kernel), "to": tuple(to), "axes": axes})
    moved = dict(zip(spec.window, to, strict=True))
    shape = (*(moved.get(t, n) for t, n in zip(spec.x, x.shape, strict=True)), *kernel)
    wide = tuple(f.reshape(*f.shape, *[1] * len(kernel)) for f in found.factors)
    names = [letters[t][0] if t in letters else t for t in spec.x]
    return x.relabelled(wide, shape), "".join([*names, *(letters[t][1] for t in spec.window)])


def _made_alike(state: State, labels: np.ndarray, axis: int) -> bool:
    """Whether the entries along an axis are of the same node groups, made alike, after the same steps."""
    rows = np.moveaxis(labels, axis, 0).reshape(labels.shape[axis], -1)
    groups, vias = state.builder.group_of(nodes_of(rows)), vias_of(rows)
    if (groups != groups[:1]).any() or (vias != vias[:1]).any():
        return False
    colours = np.sort(state.lineage.colours(nodes_of(rows)), axis=1)
    return bool((colours == colours[:1]).all())
