"""Runs a rule on a node: converts its operands and outputs, and attributes errors to the rule or to the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...ir import LoweringError, VocabularyError
from ...ir.printable import counted
from ..context import LoweringContext
from ..errors import Unsupported
from ..model.protos import schema_of
from ..primitives.values import Op, Result, Value
from .foreign import plugin_errors
from .registry import Rule, builtin

__all__ = ["run"]

_MISFITS = (ValueError, IndexError, KeyError, TypeError, AssertionError, ArithmeticError)


def run(rule: Rule, ctx: LoweringContext, op: Op, called: bool = False) -> list[Value | None]:
    """Lower a node by its rule; the outputs have the names and shapes of the node's.

    called: whether another rule called this one; errors of a built-in rule are then attributed to the caller.

    Raises:
        PluginError: A rule that is not built in raised an error, or did not return the outputs.
        LoweringError: A built-in rule met operands that do not fit together: the fault is the model's.
        Unsupported: The rule does not lower this form of the operator.
    """
    where = f"node {op.name!r} ({op.type})"
    if rule.foreign:
        with plugin_errors(rule, f"rule {rule.function}", where):
            return _outputs(op, _checked(op, rule.lower(ctx, _activated(rule, ctx, op))))
    try:
        return _outputs(op, rule.lower(ctx, _activated(rule, ctx, op)))
    except VocabularyError as error:
        raise Unsupported(str(error), "this is a bug in a built-in rule of gmnc: please report it") from error
    except _MISFITS as error:
        if called:
            raise ValueError(f"{op.type}, called by it: {error}") from error
        raise LoweringError(f"{where}: its operands do not fit together: {error}") from error


def _activated(rule: Rule, ctx: LoweringContext, op: Op) -> Op:
    """The node with data operands converted to activations."""
    data = rule.activations
    if all(i not in data or v is None or v.is_activation for i, v in enumerate(op.inputs)):
        return op
    values = (v if v is None or i not in data else ctx.as_activation(v) for i, v in enumerate(op.inputs))
    return replace(op, inputs=tuple(values))


def _checked(op: Op, made: object) -> object:
    """What a rule that is not built in returned, if it fits the node; raises `ValueError` otherwise.

    It may return more outputs than the node has if the operator has more, as rules that call a built-in one do.
    """
    values = made if isinstance(made, list | tuple) else [made]
    known = schema_of(op.type, op.opset, op.domain) or builtin().find(op.domain, op.type, op.opset)
    if len(values) > len(op.results) and known is None:
        raise ValueError(f"it returned {len(values)} values for the {counted(len(op.results), 'output')} of the node")
    for index, (result, value) in enumerate(zip(op.results, values, strict=False)):
        if result is None or result.shape is None or not result.dtype or not isinstance(value, Value):
            continue
        if value.shape != result.shape:
            raise ValueError(f"it returned a value of shape {value.shape} as output {index}, which has {result.shape}")
    return made


def _outputs(op: Op, made: object) -> list[Value | None]:
    """The values that a rule returned, one per output of the node."""
    values: Sequence[object] = made if isinstance(made, list | tuple) else [made]
    if len(values) < len(op.results):
        raise ValueError(
            f"it returned {len(values)} of {len(op.results)} outputs; return a list of all, with None for those that "
            "are not wanted"
        )
    return [
        None if result is None else _output(index, result, value)
        for index, (result, value) in enumerate(zip(op.results, values, strict=False))
    ]


def _output(index: int, result: Result, value: object) -> Value:
    if not isinstance(value, Value):
        raise TypeError(
            f"it returned {type(value).__name__} as output {index}, not a Value; return what a primitive of ctx returns"
        )
    # The shape of sequences, and of values that inference does not know, is that of the rule.
    shape = value.shape if result.shape is None or not result.dtype else result.shape
    for factor in value.factors:
        if factor.ndim != len(shape) or any(n not in (1, m) for n, m in zip(factor.shape, shape, strict=True)):
            raise ValueError(f"output {index} of shape {shape} has labels of shape {factor.shape}")
    if value.data is not None and value.data.shape != shape:
        value = replace(value, data=np.broadcast_to(value.data, shape))
    dtype = result.dtype if value.elements is None else value.dtype
    return Value(result.name, shape, dtype, value.factors, value.data, value.elements, copy_axes=value.copy_axes)
