"""ai.onnx.ml: scalers, encoders and other functions of one feature, whose parameters and tables are attributes."""

from __future__ import annotations

import numpy as np

from ..context import LoweringContext
from ..errors import Unsupported
from ..primitives.values import Op, Value
from .linear_models import digest, parameter
from .registry import rule

__all__: list[str] = []

_DOMAIN = "ai.onnx.ml"


@rule("Scaler", domain=_DOMAIN, weights=(1, 2))
def scaler(ctx: LoweringContext, op: Op) -> Value:
    """(x - offset) * scale per feature of the last axis (Scaler since 1)."""
    y = op.input(0)
    for name, step in (("offset", "Sub"), ("scale", "Mul")):
        vector = parameter(op, name)
        if vector is not None:
            y = ctx.elementwise(step, y, vector)
    return y


@rule("Imputer", domain=_DOMAIN, weights=(1,))
def imputer(ctx: LoweringContext, op: Op) -> Value:
    """Replace entries equal to a given number by another number, one per feature or one for all (Imputer since 1)."""
    x, vector = op.input(0), parameter(op, "imputed_value_floats")
    whole = op.attr("imputed_value_int64s") or ()
    if vector is None and whole:
        vector = ctx.constant(np.array(whole, np.int64), f"{op.name}.imputed_value_int64s")
    if vector is None or vector.shape not in ((1,), x.shape[-1:]):
        raise Unsupported(f"it has neither 1 nor {x.shape[-1] if x.shape else 0} imputed values")
    replaced = op.attr("replaced_value_int64" if whole else "replaced_value_float", 0)
    return ctx.elementwise("Imputer", x, vector, replaced=f"{float(replaced):.9g}")


@rule("Normalizer", domain=_DOMAIN)
def normalizer(ctx: LoweringContext, op: Op) -> Value:
    """Each row divided by its max, L1 or L2 norm (Normalizer since 1)."""
    x = op.input(0)
    return ctx.normalize_over(x, [x.rank - 1], "Normalizer", {"norm": str(op.attr("norm", "MAX"))})


@rule("Binarizer", domain=_DOMAIN)
def binarizer(ctx: LoweringContext, op: Op) -> Value:
    """1 above the threshold, 0 elsewhere (Binarizer since 1)."""
    threshold = float(f"{float(op.attr('threshold', 0.0)):.9g}")
    x, above = op.input(0), lambda v: np.where(v > threshold, 1, 0)
    return ctx.unary(x, "Binarizer", {"threshold": threshold}, above)


@rule("ArrayFeatureExtractor", domain=_DOMAIN, moves=True)
def extractor(ctx: LoweringContext, op: Op) -> Value:
    """Entries of the last axis at known indices (ArrayFeatureExtractor since 1)."""
    x, places = op.input(0), op.known(1).reshape(-1)
    if x.rank == 0:
        raise Unsupported("its input is a scalar")
    picked = ctx.call("Gather", x, ctx.constant(places, op.input(1).name), axis=x.rank - 1)
    return ctx.move(picked, lambda a: a.reshape(op.shape()), op.shape())


@rule("FeatureVectorizer", domain=_DOMAIN, weights=None)
def vectorizer(ctx: LoweringContext, op: Op) -> Value:
    """Columns of several inputs, concatenated as floats (FeatureVectorizer since 1)."""
    inputs = [ctx.as_activation(v) for v in op.inputs if v is not None]
    if any(v.rank not in (1, 2) for v in inputs):
        raise Unsupported("an input has axes other than rows and features")
    inputs = [v if v.rank == 2 else ctx.reshaped(v, (1, *v.shape)) for v in inputs]
    if [v.shape[1] for v in inputs] != list(op.attr("inputdimensions", ())):
        raise Unsupported("inputdimensions do not match the columns of its inputs")
    return ctx.concat(inputs, 1)


@rule("OneHotEncoder", domain=_DOMAIN)
def one_hot_encoder(ctx: LoweringContext, op: Op) -> Value:
    """A function of the entry and of the position along a new free axis (OneHotEncoder since 1)."""
    cats = op.attr("cats_int64s") or op.attr("cats_strings")
    y = _mapped(ctx, op, {"cats": digest(cats), "zeros": int(op.attr("zeros", 1))})
    return y.unsqueezed(y.rank, op.shape()[-1])


def _mapped(ctx: LoweringContext, op: Op, attributes: dict[str, object]) -> Value:
    return ctx.unary(op.input(0), op.type, attributes)


@rule("CategoryMapper", domain=_DOMAIN)
def category_mapper(ctx: LoweringContext, op: Op) -> Value:
    """A table of integers and strings, in either direction (CategoryMapper since 1)."""
    names = ("cats_int64s", "cats_strings", "default_int64", "default_string")
    return _mapped(ctx, op, {"table": digest(*(op.attr(n) for n in names))})


@rule("LabelEncoder", domain=_DOMAIN, weights=(1, 2))
def label_encoder(ctx: LoweringContext, op: Op) -> Value:
    """A table from keys to values; float values are parameters (LabelEncoder since 1)."""
    values, keys = parameter(op, "values_floats"), parameter(op, "keys_floats")
    hidden = ("values_floats",) if values is not None else ()
    table = {n: v for n, v in sorted(op.attributes.items()) if n not in (*hidden, "values_tensor")}
    tensor = op.attr("values_tensor") if values is None else None
    parts = [(n, v.tolist() if isinstance(v, np.ndarray) else v) for n, v in table.items()]
    y = _mapped(ctx, op, {"table": digest(parts, None if tensor is None else tensor.tolist())})
    if keys is not None:
        ctx.unused(keys, "key of a table")
    if values is None:
        return y
    rows = ctx.weight(values).reshape(-1, 1)
    found = ctx.gather_rows(rows, y, (*y.shape, 1), "value")
    return ctx.reshaped(found, op.shape())


@rule("DictVectorizer", "CastMap", domain=_DOMAIN)
def dictionary(ctx: LoweringContext, op: Op) -> Value:
    """A function of the map and of the position along a free axis of columns (DictVectorizer, CastMap since 1)."""
    words = op.attr("string_vocabulary") or op.attr("int64_vocabulary") or ()
    names = ("cast_to", "map_form", "max_map")
    y = _mapped(ctx, op, {"words": digest(words), **{n: op.attr(n) for n in names if op.attr(n) is not None}})
    rank = len(op.shape())
    return y.relabelled(tuple(f.reshape((1,) * rank) for f in y.factors), op.shape())


@rule("ZipMap", domain=_DOMAIN)
def zip_map(ctx: LoweringContext, op: Op) -> Value:
    """Each row as a map from labels to its entries, whose order matters (ZipMap since 1)."""
    x = op.input(0)
    names = op.attr("classlabels_int64s") or op.attr("classlabels_strings")
    return ctx.order(x, [x.rank - 1], "ZipMap", {"labels": digest(names)}, x.shape)
