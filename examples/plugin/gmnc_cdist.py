"""A lowering rule for CDist of com.microsoft: distances of the rows of one matrix to the rows of another."""

from __future__ import annotations

from gmnc.frontend import LoweringContext, Op, Spec, Unsupported, Value, rule
from gmnc.ir import Step, register_step

__all__ = ["cdist"]

register_step(Step("CDist", "the distance to a prototype", ("metric",)))


def distances(op: Op) -> list[tuple[tuple[int, ...], str]]:
    """[M, N] for operands [M, K] and [N, K]."""
    a, b = op.input(0), op.input(1)
    return [((a.shape[0], b.shape[0]), a.dtype)]


@rule("CDist", domain="com.microsoft", weights=(1,), shapes=distances)
def cdist(ctx: LoweringContext, op: Op) -> Value:
    """Distance of each row of A [M, K] to each row of B [N, K]: B is a weight with one neuron per row."""
    a, b = op.input(0), op.input(1)
    if b.is_activation:
        raise Unsupported("both operands depend on the input", "only rows that are parameters are lowered")
    made = ctx.contract(a, ctx.weight(b), Spec("mk", "nk", "mn"), op.shape(), role="prototype")
    return ctx.unary(made, "CDist", {"metric": op.attr("metric", "sqeuclidean")})
