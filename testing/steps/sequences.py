"""Computed indices, and sequences that are split, constructed, modified and concatenated."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..sketch import NotApplicable, Sketch, Tensor

__all__ = ["STEPS"]

_SEQUENCE = Tensor("", ())


def _place(sketch: Sketch, count: int) -> Tensor:
    """One or several computed indices below a limit."""
    x = sketch.pick(lambda t: 1 <= t.rank <= 3 and any(1 < n <= count for n in t.shape))
    axis = sketch.choice([a for a, n in enumerate(x.shape) if 1 < n <= count])
    places = sketch.node("ArgMax", x, axis=axis, keepdims=0)
    if places.rank and sketch.chance(50):
        places = sketch.node("ReduceMax", places, keepdims=0)
    return places


def _picked(sketch: Sketch) -> None:
    """Gather at computed indices along an axis."""
    x = sketch.pick(lambda t: max(t.shape, default=1) > 1)
    axis = sketch.axis(x)
    sketch.put(sketch.node("Gather", x, _place(sketch, x.shape[axis]), axis=axis))


def _pieces(sketch: Sketch) -> tuple[Tensor, list[Tensor]]:
    """A sequence, and values of the shapes of its elements."""
    x = sketch.pick(lambda t: max(t.shape, default=1) > 1)
    if sketch.chance(50):
        parts = [x, *(sketch.pick(lambda t: t.shape == x.shape) for _ in range(sketch.integer(0, 2)))]
        return sketch.node("SequenceConstruct", *parts, like=_SEQUENCE), parts
    axis = sketch.axis(x)
    n = x.shape[axis]
    sizes = [n // 2] * 2 if n % 2 == 0 and sketch.chance(60) else [1] * n
    parts = [Tensor("", (*x.shape[:axis], k, *x.shape[axis + 1 :])) for k in sizes]
    return sketch.node("SplitToSequence", x, sketch.integers(sizes), like=_SEQUENCE, axis=axis), parts


def _sequence(sketch: Sketch) -> None:
    sequence, parts = _pieces(sketch)
    first = parts[0]
    if sketch.chance(40):
        new = sketch.pick(lambda t: t.shape == first.shape)
        place = sketch.integers(sketch.integer(-len(parts), len(parts)))
        sequence = sketch.node("SequenceInsert", sequence, new, place, like=_SEQUENCE)
        parts = [*parts, new]
    if len(parts) > 1 and sketch.chance(30):
        place = sketch.integers(sketch.integer(-len(parts), len(parts) - 1))
        sequence = sketch.node("SequenceErase", sequence, place, like=_SEQUENCE)
        parts = parts[1:]
    if sketch.chance(30):
        sequence = _mapped(sketch, sequence, first)
    if sketch.chance(50):
        known = sketch.chance(60)
        place = sketch.integers(sketch.integer(-len(parts), len(parts) - 1)) if known else _place(sketch, len(parts))
        if place.rank:
            raise NotApplicable
        sketch.put(sketch.node("SequenceAt", sequence, place, like=first))
        return
    axis = sketch.integer(0, first.rank - 1)
    if sketch.chance(40):
        shape = (*first.shape[:axis], len(parts), *first.shape[axis:])
        sketch.put(sketch.node("ConcatFromSequence", sequence, like=Tensor("", shape), axis=axis, new_axis=1))
        return
    shape = (*first.shape[:axis], len(parts) * first.shape[axis], *first.shape[axis + 1 :])
    sketch.put(sketch.node("ConcatFromSequence", sequence, like=Tensor("", shape), axis=axis))


def _mapped(sketch: Sketch, sequence: Tensor, entry: Tensor) -> Tensor:
    """SequenceMap: a function of each element, with shared weights."""

    def draw(inputs: list[Tensor]) -> list[Tensor]:
        scaled = sketch.node("Mul", inputs[0], sketch.parameter(entry.shape[-1:]), like=entry)
        return [sketch.node(sketch.choice(["Tanh", "Sigmoid"]), scaled, like=entry)]

    return sketch.around("SequenceMap", [sequence], [_SEQUENCE], body=sketch.body([entry], draw))[0]


STEPS: Mapping[str, Callable[[Sketch], None]] = {"pick": _picked, "sequence": _sequence}
