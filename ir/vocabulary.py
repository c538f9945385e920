"""The vocabulary of parameter graphs: kinds of nodes, roles of edges and links, steps of vias, each declared once.

A *step* is what a value goes through between two nodes: an object that says how it treats a change of scale (degree)
and of sign (parity), and over what it mixes. Laws, pictures, encoders and the tables of the documentation read it from
here. `GraphBuilder` takes declared names only; rules from elsewhere declare theirs with `register_step`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any
from zlib import crc32

from .errors import GmncError, VocabularyError

__all__ = [
    "NUM_ROLES",
    "REPARAMETRIZE",
    "Attachment",
    "Combine",
    "EdgeRole",
    "LinkRole",
    "NodeKind",
    "Step",
    "declared_step",
    "edge_role_id",
    "is_edge_role",
    "is_link_role",
    "link_role_id",
    "register_step",
    "role_name",
    "steps",
]


class NodeKind(StrEnum):
    """What a node is. Append only: the place of a kind is its id in tensors."""

    INPUT = "input"  # an entry of a network input along a labelled axis
    NEURON = "neuron"  # made by a weight
    PARAM = "param"  # stands for the source of a parameter that is attached, not multiplied
    HUB = "hub"  # a parameter that several neurons share
    SUM = "sum"  # a sum of products
    PRODUCT = "product"  # a product of two neurons
    JOIN = "join"  # what an operator makes of several neurons
    REDUCE = "reduce"  # a symmetric function of a group of neurons
    GATE = "gate"  # a gate of a recurrent cell
    TOKEN = "token"  # a row of a table that is looked up
    SPLIT = "split"  # one result of a function of a whole group
    OPAQUE = "opaque"  # an operator of unknown structure


class EdgeRole(StrEnum):
    """What a parameter does at its target. Append only: the place of a role gives its id in tensors.

    Roles that are steps (`Clip`) are of operands of that operator which are parameters.
    """

    WEIGHT = "weight"
    BIAS = "bias"
    SCALE = "scale"
    ZERO_POINT = "zero_point"
    POSITION = "position"
    EMBEDDING = "embedding"
    RECURRENT = "recurrent"
    PEEPHOLE = "peephole"
    SOURCE = "source"
    VALUE = "value"
    NORM_SCALE = "norm.scale"
    NORM_BIAS = "norm.bias"
    NORM_MEAN = "norm.mean"
    NORM_VAR = "norm.var"
    CENTRE = "centre"
    PROTOTYPE = "prototype"
    THRESHOLD = "threshold"
    MEMBER = "member"
    LEAF = "leaf"
    CLIP = "Clip"
    EQUAL = "Equal"
    GREATER = "Greater"
    GREATER_OR_EQUAL = "GreaterOrEqual"
    IMPUTER = "Imputer"
    LESS = "Less"
    LESS_OR_EQUAL = "LessOrEqual"
    MAX = "Max"
    MEAN = "Mean"
    MIN = "Min"
    MOD = "Mod"
    MOVING_AVERAGE = "MovingAverage"
    NORMALIZE_BY = "NormalizeBy"
    POW = "Pow"
    PRELU = "PRelu"
    SINK = "Sink"
    SUM = "Sum"
    SWIGLU = "SwiGLU"
    WHERE = "Where"


class LinkRole(StrEnum):
    """What a link without a parameter means. Append only: the place of a role gives its id in tensors.

    Roles that are steps (`Add`): the target is what that operator makes of its sources.
    """

    HUB = "hub"  # a shared parameter and a neuron that has it
    SHARED = "shared"  # a place of a neuron that one weight sees at several places
    PAIR = "pair"  # one label of several that a value has
    COPY = "copy"
    TOKEN = "token"  # the index that looks a row up
    SUM = "sum"
    PRODUCT = "product"
    REDUCE = "reduce"
    SCOPE = "scope"  # a member of what is normalised together
    SPLIT = "split"
    GATE = "gate"
    STATE = "state"
    RESET = "reset"
    RECURRENT = "recurrent"
    INITIAL = "initial"
    CARRY = "carry"
    LENGTH = "length"
    TRUE = "true"
    FALSE = "false"
    OPAQUE = "opaque"
    OPAQUE_JOIN = "opaque_join"
    ADD = "Add"
    AND = "And"
    BIT_SHIFT = "BitShift"
    BITWISE_AND = "BitwiseAnd"
    BITWISE_OR = "BitwiseOr"
    BITWISE_XOR = "BitwiseXor"
    CLIP = "Clip"
    COL2IM = "Col2Im"
    COMPRESS = "Compress"
    CONCAT = "Concat"
    DEFORM_CONV = "DeformConv"
    DIV = "Div"
    EQUAL = "Equal"
    GATHER = "Gather"
    GATHER_ELEMENTS = "GatherElements"
    GATHER_ND = "GatherND"
    GREATER = "Greater"
    GREATER_OR_EQUAL = "GreaterOrEqual"
    GRID_SAMPLE = "GridSample"
    LESS = "Less"
    LESS_OR_EQUAL = "LessOrEqual"
    MASK_LENGTHS = "MaskLengths"
    MASK_PLACES = "MaskPlaces"
    MAX = "Max"
    MAX_UNPOOL = "MaxUnpool"
    MEAN = "Mean"
    MIN = "Min"
    MOD = "Mod"
    MUL = "Mul"
    NORMALIZE_BY = "NormalizeBy"
    OR = "Or"
    POW = "Pow"
    PRELU = "PRelu"
    PUT = "Put"
    ROI_ALIGN = "RoiAlign"
    SCATTER = "Scatter"
    SCATTER_ELEMENTS = "ScatterElements"
    SCATTER_ND = "ScatterND"
    SUB = "Sub"
    SUM_OF = "Sum"
    TENSOR_SCATTER = "TensorScatter"
    WHERE = "Where"
    WHILE = "While"
    XOR = "Xor"


SUFFIXES = ("", ".scale", ".zero_point", ".table")
"""What may follow an edge role: a scale or zero point of the parameter's stored form, a table its function takes."""

_LINKS_FROM = 256
NUM_ROLES = 512
"""One more than the greatest id of a role that gmnc declares; roles of plug-ins have greater ones."""


class Combine(StrEnum):
    """How a change of the operands is one of the result, where several values meet."""

    ALIKE = "alike"  # all change alike, and so does the result
    PRODUCT = "product"  # changes multiply
    QUOTIENT = "quotient"  # the second one divides


@dataclass(frozen=True, slots=True)
class Attachment:
    """How attached parameters follow a change: with x before the step and y after it, as logarithms, by a x + b y.

    Args:
        same: Whether y = x.
        every: (a, b) of every role but those in `amounts`.
        amounts: (a, b) by role.
    """

    same: bool
    every: tuple[int, int]
    amounts: tuple[tuple[str, tuple[int, int]], ...] = ()

    def amount(self, role: str) -> tuple[int, int]:
        """(a, b) of a parameter with this role."""
        return dict(self.amounts).get(role, self.every)


Attributes = Mapping[str, Any]
Number = float | None
Law = Number | Callable[[Attributes], Number]


@dataclass(frozen=True, slots=True)
class Step:
    """One kind of step: f, applied to a value.

    Args:
        name: As vias, and roles of joins, spell it: ONNX's CamelCase.
        summary: What it computes, in a few words.
        attributes: Names of the attributes that a via of it may carry.
        degree: d with f(c x) = c^d f(x) for c > 0; None where there is none. Or a function of the attributes.
        parity: p with f(-x) = (-1)^p f(x), 0 or 1; None where there is none. Or a function of the attributes.
        mixes_over: What else takes part: "" (nothing), "places" of the same neuron, "neurons".
        branches: For scale and for sign, the law where branches of one neuron meet in it; None for no law.
        links: The same where values of several neurons meet in it, at a new node.
        attached: For scale and for sign, how parameters attached by it follow; None for no law.
        couples: For scale and for sign, whether mixing over neurons needs the same change of all of them.
    """

    name: str
    summary: str
    attributes: tuple[str, ...] = ()
    degree: Law = None
    parity: Law = None
    mixes_over: str = ""
    branches: tuple[Combine | None, Combine | None] = (None, None)
    links: tuple[Combine | None, Combine | None] = (None, None)
    attached: tuple[Attachment | None, Attachment | None] = (None, None)
    couples: tuple[bool, bool] = (False, False)

    def __post_init__(self) -> None:
        """Raise `VocabularyError` for what can be no step."""
        if not self.name.isidentifier() or not self.name[0].isupper():
            raise VocabularyError(f"a step is named in CamelCase, as ONNX names operators, not {self.name!r}")
        if self.mixes_over not in ("", "places", "neurons"):
            raise VocabularyError(f"step {self.name}: mixes_over is '', 'places' or 'neurons', not {self.mixes_over!r}")


REPARAMETRIZE = "Reparametrize"
"""The last step of the via of an edge that carries a function of its parameter: its attribute `function`."""

_added: dict[str, Step] = {}


@cache
def _builtin() -> Mapping[str, Step]:
    from .steps import STEPS

    return {step.name: step for step in STEPS}


def steps() -> Iterator[Step]:
    """Every declared step: gmnc's own by theme, then those of plug-ins."""
    yield from _builtin().values()
    yield from _added.values()


def declared_step(name: str) -> Step | None:
    """The step of this name; None if it is not declared."""
    return _builtin().get(name) or _added.get(name)


def register_step(step: Step) -> Step:
    """Declare a step that a rule makes, before any graph is built with it; again is the same as once.

    Args:
        step: The step. Its name may be the role of links and edges as well.

    Returns:
        The step.

    Raises:
        VocabularyError: if another step has this name, or another role the id of its role.
    """
    known = declared_step(step.name)
    if known is not None and known != step:
        raise VocabularyError(f"there is a step {step.name} already ({known.summary}), and it is another one")
    taken = {_hashed(other.name + suffix): other.name for other in steps() for suffix in SUFFIXES}
    for suffix in SUFFIXES:
        if (other := taken.get(_hashed(step.name + suffix), step.name)) != step.name:
            raise VocabularyError(f"the role {step.name} would have an id of the role {other}: name it otherwise")
    if known is None:
        _added[step.name] = step
    return step


def is_edge_role(role: str) -> bool:
    """Whether the role of an edge block is declared: as an `EdgeRole`, or as a step of which it is an operand."""
    base = _split(role)[0]
    return base in _EDGE_IDS or declared_step(base) is not None


def is_link_role(role: str) -> bool:
    """Whether the role of a link block is declared: as a `LinkRole`, or as the step that joins the sources."""
    return role in _LINK_IDS or declared_step(role) is not None


def edge_role_id(role: str) -> int:
    """The id of an edge role in tensors, the same in every graph.

    Args:
        role: An `EdgeRole`, one followed by ".scale", ".zero_point" or ".table", or a step of a plug-in.

    Returns:
        Less than `NUM_ROLES` for roles of gmnc's own; for others a number from there on that the name decides.
    """
    base, suffix = _split(role)
    return 4 * _EDGE_IDS[base] + suffix if base in _EDGE_IDS else _hashed(role)


def link_role_id(role: str) -> int:
    """The id of a link role in tensors, as `edge_role_id` for edges; no edge role has the same."""
    return _LINKS_FROM + _LINK_IDS[role] if role in _LINK_IDS else _hashed(role)


def role_name(number: int) -> str:
    """The role with this id.

    Raises:
        VocabularyError: if no declared role has it.
    """
    if number < _LINKS_FROM and number // 4 < len(_EDGE_IDS):
        return list(EdgeRole)[number // 4] + SUFFIXES[number % 4]
    if _LINKS_FROM <= number < _LINKS_FROM + len(_LINK_IDS):
        return str(list(LinkRole)[number - _LINKS_FROM])
    for step in steps():
        for suffix in SUFFIXES:
            if _hashed(step.name + suffix) == number:
                return step.name + suffix
    raise VocabularyError(f"no declared role has the id {number}: load the plug-in that declares it")


def _split(role: str) -> tuple[str, int]:
    """(role without its suffix, number of the suffix)."""
    if role not in _EDGE_IDS:
        for number, suffix in enumerate(SUFFIXES[1:], 1):
            if role.endswith(suffix):
                return role.removesuffix(suffix), number
    return role, 0


def _hashed(role: str) -> int:
    return NUM_ROLES + crc32(role.encode()) % (2**31 - NUM_ROLES)


_EDGE_IDS = {str(role): number for number, role in enumerate(EdgeRole)}
_LINK_IDS = {str(role): number for number, role in enumerate(LinkRole)}
if 4 * len(_EDGE_IDS) > _LINKS_FROM or len(_LINK_IDS) > NUM_ROLES - _LINKS_FROM:
    raise GmncError("more roles than ids")
