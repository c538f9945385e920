"""Operators without a structure to lower, each with the reason: a join of all operands in order, or opaque."""

from __future__ import annotations

from ..context import LoweringContext
from ..errors import Unsupported
from ..primitives.values import Op, Value
from .registry import rule

__all__: list[str] = []

_DATA = "the size of the result and the choice of its entries depend on data"
_TEXT = "strings carry no parameters"
_PROGRAM = "numbers computed from a few settings"
_RANDOM = "random numbers: an input that the network draws itself"
_SEQUENCE = "a sequence or optional of unknown entries; if they are known, readers read them directly"
_TRAINING = "a training step, not part of a network"

_JOINED = {
    "NonZero": _DATA,
    "Unique": _DATA,
    "NonMaxSuppression": _DATA,
    "ImageDecoder": "decodes the bytes of an image",
    "StringConcat": _TEXT,
    "StringNormalizer": _TEXT,
    "StringSplit": _TEXT,
    "RegexFullMatch": _TEXT,
    "TfIdfVectorizer": "n-grams are counted over all entries",
    "BlackmanWindow": _PROGRAM,
    "HammingWindow": _PROGRAM,
    "HannWindow": _PROGRAM,
    "MelWeightMatrix": _PROGRAM,
    "Range": _PROGRAM,
    "ConstantOfShape": _PROGRAM,
    "Shape": "the shape of a value, folded where it is known",
    "Size": "the size of a value, folded where it is known",
}
_SEQUENCES = (
    "SequenceConstruct", "SequenceEmpty", "SequenceInsert", "SequenceErase", "SequenceAt", "SequenceLength",
    "SplitToSequence", "ConcatFromSequence", "Optional", "OptionalHasElement", "OptionalGetElement",
)  # fmt: skip
_DRAWN = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")


def _opaque_join(ctx: LoweringContext, op: Op) -> list[Value | None]:
    return ctx.opaque_join(op)


def _drawn(ctx: LoweringContext, op: Op) -> list[Value | None]:
    return ctx.opaque_join(op, fresh=True)


def _training(ctx: LoweringContext, op: Op) -> Value:
    raise Unsupported(_TRAINING, "export the network without its optimiser")


for _name, _reason in _JOINED.items():
    rule(_name, declared=_reason)(_opaque_join)
for _name in _SEQUENCES:
    rule(_name, declared=_SEQUENCE)(_opaque_join)
for _name in _DRAWN:
    rule(_name, declared=_RANDOM)(_drawn)
for _name in ("Adagrad", "Adam", "Gradient", "Momentum"):
    rule(_name, domain="ai.onnx.preview.training", declared=_TRAINING)(_training)
