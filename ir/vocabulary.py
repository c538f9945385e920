"""The vocabulary of parameter graphs: node kinds, edge and link roles, and steps of vias, each declared once.

A *step* is a parameter-free operation on a node's value. Its declaration says whether it is homogeneous or odd and what
it mixes; the symmetry search, drawings, encoders and docs/vocabulary.md all read it from here. `GraphBuilder` accepts
declared names only; plug-ins declare their steps with `register_step`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any
from zlib import crc32

from .errors import GmncError, VocabularyError

__all__ = [
    "DEQUANTIZE",
    "NUM_ROLES",
    "REPARAMETRIZE",
    "Attachment",
    "Combine",
    "EdgeRole",
    "LinkRole",
    "Matrices",
    "NodeKind",
    "Step",
    "declared_step",
    "declared_steps",
    "edge_role_id",
    "is_added",
    "is_edge_role",
    "is_link_role",
    "keep_steps",
    "link_role_id",
    "register_step",
    "role_name",
]


class NodeKind(StrEnum):
    """What a node is. Append only: the index of a kind is its id in tensors."""

    INPUT = "input"  # a feature of a network input
    NEURON = "neuron"  # an output feature of a weight
    PARAM = "param"  # the source of a parameter that is attached to nodes, not multiplied with a value
    HUB = "hub"  # a parameter element that several neurons share
    SUM = "sum"  # a contraction over products of two activations
    PRODUCT = "product"  # a product of two activations
    JOIN = "join"  # the result of an operator on a tuple of different signals
    REDUCE = "reduce"  # a symmetric function of a group of neurons
    GATE = "gate"  # a gate of a recurrent cell
    TOKEN = "token"  # a row of a lookup table
    SPLIT = "split"  # one result of a function of a whole group, or an inner node of a decision tree
    OPAQUE = "opaque"  # an operator of unknown structure


class EdgeRole(StrEnum):
    """What a parameter does at its target. Append only: the index of a role determines its id in tensors.

    A role in CamelCase is the step whose operand the parameter is.
    """

    WEIGHT = "weight"
    BIAS = "bias"
    SCALE = "scale"
    ZERO_POINT = "zero_point"
    POSITION = "position"  # a position table
    EMBEDDING = "embedding"  # a lookup table
    RECURRENT = "recurrent"  # from the previous time step
    PEEPHOLE = "peephole"  # from an LSTM's cell state to its gates
    SOURCE = "source"  # a parameter whose elements are themselves the values of nodes
    VALUE = "value"  # what a LabelEncoder maps a key to
    NORM_SCALE = "norm.scale"
    NORM_BIAS = "norm.bias"
    NORM_MEAN = "norm.mean"  # running mean
    NORM_VAR = "norm.var"  # running variance
    CENTRE = "centre"  # a support vector of a radial kernel
    PROTOTYPE = "prototype"
    THRESHOLD = "threshold"  # of a decision tree's split
    MEMBER = "member"  # an element of a split's set
    LEAF = "leaf"  # the weight of a decision tree's leaf
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
    SUM = "Sum"  # of older stores: Sum is lowered as Add; the place in the list keeps the numbers of later roles
    SWIGLU = "SwiGLU"
    WHERE = "Where"


class LinkRole(StrEnum):
    """What a link means. Append only: the index of a role determines its id in tensors.

    A role in CamelCase is a step: the target is its result on the sources.
    """

    HUB = "hub"  # from a shared parameter element to a neuron that uses it
    SHARED = "shared"  # from what a shared weight sees at one position to the node for all positions
    PAIR = "pair"  # from a node of one of the axes that a value varies over
    COPY = "copy"  # from a node to one of its copies along an axis
    TOKEN = "token"  # from the index to the row that it looks up
    SUM = "sum"  # from a product to the contraction
    PRODUCT = "product"  # from a factor to the product
    REDUCE = "reduce"  # from a neuron to a reduction over its group
    SCOPE = "scope"  # from a neuron to the part of its group that is normalised together
    SPLIT = "split"  # from the node of a whole group to one of its results
    GATE = "gate"  # from a gate of a recurrent cell
    STATE = "state"  # from the state of a recurrent cell
    RESET = "reset"  # from a GRU's reset gate
    RECURRENT = "recurrent"  # from the previous time step
    INITIAL = "initial"  # from the initial value of a loop-carried value
    CARRY = "carry"  # from the loop body's output to the carried value
    LENGTH = "length"  # from the length of a sequence
    TRUE = "true"  # from a split of a decision tree to the branch taken if it holds
    FALSE = "false"  # from a split of a decision tree to the other branch
    OPAQUE = "opaque"  # into or out of an operator of unknown structure
    OPAQUE_JOIN = "opaque_join"  # from an operand of a function of all operands, in order
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
    BY_DATA = "ByData"
    COMPLEX = "Complex"


SUFFIXES = ("", ".scale", ".zero_point", ".table")
"""Suffixes of an edge role: the scale or zero point of a quantised parameter, a table that its function takes."""

_LINK = "link "
_LINKS_FROM = 256
NUM_ROLES = 512
"""Ids of roles that gmnc declares are smaller; those of plug-ins' roles are not."""


class Combine(StrEnum):
    """How factors of several operands combine to the factor of the result."""

    ALIKE = "alike"  # all operands and the result have the same factor (sum, maximum, concatenation)
    PRODUCT = "product"  # the factors multiply
    QUOTIENT = "quotient"  # the first factor is divided by the second


class Matrices(StrEnum):
    """Matrices that mix the values of several neurons, at each position alike; each kind contains those below it."""

    ALL = "all"  # every invertible matrix
    ORTHOGONAL = "orthogonal"  # those that keep the norm
    CENTRED = "centred"  # orthogonal matrices that map the all-ones vector to itself, so that they keep the mean too


@dataclass(frozen=True, slots=True)
class Attachment:
    """How the parameters that a step attaches absorb a rescaling of its value.

    With x the logarithm of the value's factor before the step and y after it, a parameter's factor has the logarithm
    a x + b y. For signs, logarithms are taken to base -1, modulo 2.

    Attributes:
        unchanged: Whether the step forces y = x.
        default: (a, b) of every role that `by_role` does not list.
        by_role: (role, (a, b)) pairs.
    """

    unchanged: bool
    default: tuple[int, int]
    by_role: tuple[tuple[str, tuple[int, int]], ...] = ()

    def coefficients(self, role: str) -> tuple[int, int]:
        """(a, b) of a parameter with this edge role."""
        return dict(self.by_role).get(role, self.default)


Attributes = Mapping[str, Any]
Number = float | None
Law = Number | Callable[[Attributes], Number]
"""A degree or parity, None for none, or a function of the via's attributes that returns it."""
MixingLaw = Matrices | None | Callable[[Attributes], Matrices | None]
"""Matrices, None for none, or a function of the via's attributes that returns them."""


@dataclass(frozen=True, slots=True)
class Step:
    """The declaration of a parameter-free operation f on a node's value.

    Fields that are pairs hold the law for scales first and the law for signs second.

    Attributes:
        name: Its name, in vias and as a role of edges and links: CamelCase, as ONNX names operators.
        summary: What it computes, in a few words.
        attributes: Names of the attributes that its vias may carry.
        degree: d with f(c x) = c^d f(x) for every c > 0, if f is homogeneous.
        parity: p with f(-x) = (-1)^p f(x), 1 for odd and 0 for even functions.
        mixes_over: What the result depends on besides the value's own entry: "" (nothing), "positions" (other positions
            of the same neuron) or "neurons".
        branches: How factors combine where branches of one neuron meet in it; None for no law.
        links: How factors combine where signals of several neurons meet in it, at a new node; None for no law.
        attached: How parameters that it attaches absorb factors; None for no law.
        couples: Whether all neurons that it mixes must have the same factor.
        commutes: The matrices with which the step, taken by several neurons at once, commutes: those that mix all
            neurons, or some of them. Linear functions of one operand commute with all.
        additive: Whether the result is linear in all of its operands together, where several meet (a sum, a
            concatenation).
        commutative: Whether branches of one neuron that meet in it may trade places.

    Raises:
        VocabularyError: if the name is not CamelCase, or another field is not of the form described here.
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
    commutes: MixingLaw = None
    additive: bool = False
    commutative: bool = False

    def __post_init__(self) -> None:
        """Validate every field."""
        if not isinstance(self.name, str) or not self.name.isidentifier() or not self.name[0].isupper():
            raise VocabularyError(f"step names are CamelCase, as ONNX operator names are: {self.name!r} is not")
        names = self.attributes
        coupled = _is_pair(self.couples, lambda flag: isinstance(flag, bool))
        wanted = {
            "summary": ("a string", isinstance(self.summary, str)),
            "attributes": ("a tuple of names", isinstance(names, tuple) and all(isinstance(n, str) for n in names)),
            "degree": ("a finite number, None or a function", _is_law(self.degree, math.isfinite)),
            "parity": ("0, 1, None or a function", _is_law(self.parity, (0, 1).__contains__)),
            "mixes_over": ("'', 'positions' or 'neurons'", self.mixes_over in ("", "positions", "neurons")),
            "branches": ("a pair of Combine or None", _is_pair(self.branches, _one_of(Combine))),
            "links": ("a pair of Combine or None", _is_pair(self.links, _one_of(Combine))),
            "attached": ("a pair of Attachment or None", _is_pair(self.attached, _one_of(Attachment))),
            "couples": ("a pair of booleans", coupled),
        }
        for field, (form, holds) in wanted.items():
            if not holds:
                raise VocabularyError(f"step {self.name}: {field} is {getattr(self, field)!r}, not {form}")


def _is_law(law: object, allowed: Callable[[float], bool]) -> bool:
    number = isinstance(law, int | float) and not isinstance(law, bool)
    return law is None or callable(law) or (number and allowed(law))  # type: ignore[arg-type]


def _is_pair(value: object, allowed: Callable[[object], bool]) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(allowed, value))


def _one_of(kind: type) -> Callable[[object], bool]:
    return lambda value: value is None or isinstance(value, kind)


REPARAMETRIZE = "Reparametrize"
"""The last step of the via of an edge that carries a function of its parameter, given by the attribute `function`."""

DEQUANTIZE = "Dequantize"
"""The last step of the via of an edge whose parameter has edges for its scale and zero point, which the via names.

Their roles have a suffix, such as `weight.scale`; those of the step of a quantised activation have none.
"""

_added: dict[str, Step] = {}


@cache
def _builtin() -> Mapping[str, Step]:
    from .steps import STEPS

    return {step.name: step for step in STEPS}


def declared_steps() -> Iterator[Step]:
    """Every declared step: gmnc's own by theme, then those of plug-ins.

    Returns:
        An iterator over them.
    """
    yield from _builtin().values()
    yield from _added.values()


def is_added(step: Step) -> bool:
    """Whether a step was declared by `register_step`, not by gmnc itself."""
    return step.name in _added


def declared_step(name: str) -> Step | None:
    """Look up a step.

    Args:
        name: Its name.

    Returns:
        The declaration, None if there is none.
    """
    return _builtin().get(name) or _added.get(name)


def register_step(step: Step) -> Step:
    """Declare a step, before a rule uses it. Declaring the same step again has no effect.

    Args:
        step: The step. Its name becomes a role of links and edges too. It counts as the same if its functions have
            the same code.

    Returns:
        The step.

    Raises:
        VocabularyError: if it is no `Step`, a different step has this name, or the id of its role is taken.
    """
    if not isinstance(step, Step):
        raise VocabularyError(f"{step!r} is not a Step: register_step(Step(name, summary, ...))")
    known = declared_step(step.name)
    if known is not None and _comparable(known) != _comparable(step):
        raise VocabularyError(f"another step {step.name} is declared already ({known.summary}): choose a new name")
    taken = {number: other.name for other in declared_steps() for number in _ids(other.name)}
    for number in _ids(step.name):
        if (other := taken.get(number, step.name)) != step.name:
            raise VocabularyError(f"role {step.name} has an id of the role {other}: choose another name")
    if known is None:
        _added[step.name] = step
    return step


def _comparable(step: Step) -> Step:
    """The step with its laws as values, so that a cell of a notebook that declares it can run again."""

    def plain(law: Law) -> Any:
        code = getattr(law, "__code__", None)
        if code is None:
            return law
        closure = tuple(cell.cell_contents for cell in law.__closure__ or ())  # type: ignore[union-attr]
        nested = tuple(c.co_code if hasattr(c, "co_code") else repr(c) for c in code.co_consts)
        return code.co_code, nested, code.co_names, law.__defaults__, closure  # type: ignore[union-attr]

    made = copy(step)
    for name in ("degree", "parity"):
        object.__setattr__(made, name, plain(getattr(step, name)))
    return made


def keep_steps(names: Iterable[str]) -> None:
    """Withdraw all steps of plug-ins but those of these names: a plug-in that is left out declares none.

    Args:
        names: The names.
    """
    for name in _added.keys() - set(names):
        del _added[name]


def is_edge_role(role: str) -> bool:
    """Whether edge blocks may have a role.

    Args:
        role: Its name.

    Returns:
        True if it is an `EdgeRole`, or a step of which the parameter is an operand, with or without a suffix.
    """
    base = _split(role)[0]
    return base in _EDGE_IDS or declared_step(base) is not None


def is_link_role(role: str) -> bool:
    """Whether link blocks may have a role.

    Args:
        role: Its name.

    Returns:
        True if it is a `LinkRole`, or a step that joins the sources.
    """
    return role in _LINK_IDS or declared_step(role) is not None


def edge_role_id(role: str) -> int:
    """The id of an edge role in tensors, the same in every graph.

    Args:
        role: An `EdgeRole`, with or without one of `SUFFIXES`, or a step of a plug-in.

    Returns:
        An id below `NUM_ROLES` for gmnc's own roles; for others a hash of the name, from `NUM_ROLES` on.
    """
    base, suffix = _split(role)
    return 4 * _EDGE_IDS[base] + suffix if base in _EDGE_IDS else _hashed(role)


def link_role_id(role: str) -> int:
    """The id of a link role in tensors, the same in every graph and different from those of edge roles.

    Args:
        role: A `LinkRole`, or a step of a plug-in.

    Returns:
        The id, see `edge_role_id`.
    """
    return _LINKS_FROM + _LINK_IDS[role] if role in _LINK_IDS else _hashed(_LINK + role)


def role_name(number: int) -> str:
    """The role that has an id.

    Args:
        number: An id, as `edge_role_id` and `link_role_id` return it.

    Returns:
        The name of the role.

    Raises:
        VocabularyError: if no declared role has this id.
    """
    if 0 <= number < 4 * len(_EDGE_IDS):
        return list(EdgeRole)[number // 4] + SUFFIXES[number % 4]
    if _LINKS_FROM <= number < _LINKS_FROM + len(_LINK_IDS):
        return str(list(LinkRole)[number - _LINKS_FROM])
    for step in declared_steps():
        if _hashed(_LINK + step.name) == number:
            return step.name
        for suffix in SUFFIXES:
            if _hashed(step.name + suffix) == number:
                return step.name + suffix
    raise VocabularyError(f"no declared role has the id {number}: load the plug-in that declares it")


def _split(role: str) -> tuple[str, int]:
    """(role without its suffix, index of the suffix)."""
    if role not in _EDGE_IDS:
        for number, suffix in enumerate(SUFFIXES[1:], 1):
            if role.endswith(suffix):
                return role.removesuffix(suffix), number
    return role, 0


def _ids(name: str) -> tuple[int, ...]:
    """The ids of the roles of a plug-in's step: as a link, and as an edge with every suffix."""
    return (_hashed(_LINK + name), *(_hashed(name + suffix) for suffix in SUFFIXES))


def _hashed(role: str) -> int:
    return NUM_ROLES + crc32(role.encode()) % (2**31 - NUM_ROLES)


_EDGE_IDS = {str(role): number for number, role in enumerate(EdgeRole)}
_LINK_IDS = {str(role): number for number, role in enumerate(LinkRole)}
if 4 * len(_EDGE_IDS) > _LINKS_FROM or len(_LINK_IDS) > NUM_ROLES - _LINKS_FROM:
    raise GmncError("more roles are declared than there are ids: raise _LINKS_FROM and NUM_ROLES")
