"""What a graph says of the parts of its model that are no edges: elements, operators, and why."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["AccountEntry", "OpaqueOp", "Problem"]


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
