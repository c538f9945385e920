"""ai.onnx.ml: scalers, encoders and the like; functions of one feature whose parameters and tables are attributes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..context import LoweringContext
from ..errors import Unsupported
from ..primitives.values import Op, Result, Value
from .gather import gather
from .linear_models import digest, parameter
from .registry import rule

__all__: list[str] = []

_DOMAIN = "ai.onnx.ml"


@rule("Scaler", domain=_DOMAIN, weights=(1, 2))
def scaler(ctx: LoweringContext, op: Op) -> Value:
    """(x - offset) * scale per feature of the last axis (Scaler since 1)."""
    y = ctx.as_activation(op.input(0))
    for name, step in (("offset", "Sub"), ("scale", "Mul")):
        vector = parameter(op, name)
        if vector is not None:
            made = Op(step, "", op.opset, op.name, (y, vector), op.results, {})
            y = ctx.elementwise(made, (y, vector))
    return op.result(y.factors)


@rule("Imputer", domain=_DOMAIN, weights=(1,))
def imputer(ctx: LoweringContext, op: Op) -> Value:
    """What equals one number becomes another one, of its feature or of all (Imputer since 1)."""
    x, vector = ctx.as_activation(op.input(0)), parameter(op, "imputed_value_floats")
    whole = op.attr("imputed_value_int64s") or ()
    if vector is None and whole:
        vector = Value(f"{op.name}.imputed_value_int64s", (len(whole),), "int64", data=np.array(whole, np.int64))
    if vector is None or vector.shape not in ((1,), x.shape[-1:]):
        raise Unsupported(f"its imputed values are not one, or {x.shape[-1] if x.shape else 0}")
    replaced = op.attr("replaced_value_int64" if whole else "replaced_value_float", 0)
    made = Op("Imputer", _DOMAIN, op.opset, op.name, (x, vector), op.results, {"replaced": f"{float(replaced):.9g}"})
    return op.result(ctx.elementwise(made, (x, vector)).factors)


@rule("Normalizer", domain=_DOMAIN)
def normalizer(ctx: LoweringContext, op: Op) -> Value:
    """Each row divided by its largest entry, sum or length (Normalizer since 1)."""
    x = ctx.as_activation(op.input(0))
    return op.result(ctx.normalize_over(x, [x.rank - 1], "Normalizer", {"norm": str(op.attr("norm", "MAX"))}).factors)


@rule("Binarizer", domain=_DOMAIN)
def binarizer(ctx: LoweringContext, op: Op) -> Value:
    """1 above the threshold, 0 elsewhere (Binarizer since 1)."""
    threshold = float(f"{float(op.attr('threshold', 0.0)):.9g}")
    x, above = ctx.as_activation(op.input(0)), lambda v: np.where(v > threshold, 1, 0)
    return op.result(ctx.unary(x, "Binarizer", {"threshold": threshold}, above).factors)


@rule("ArrayFeatureExtractor", domain=_DOMAIN, moves=True)
def extractor(ctx: LoweringContext, op: Op) -> Value:
    """Entries of the last axis at known places (ArrayFeatureExtractor since 1)."""
    x, places = op.input(0), op.known(1).reshape(-1)
    if x.rank == 0:
        raise Unsupported("its input is a scalar")
    index = Value(op.input(1).name, places.shape, "int64", data=places)
    shape = (*x.shape[:-1], len(places))
    picked = Op("Gather", "", 13, op.name, (x, index), (Result(x.name, shape, x.dtype),), {"axis": x.rank - 1})
    made = gather(ctx, picked)
    assert isinstance(made, Value)
    return ctx.move(made, lambda a: a.reshape(op.shape()), op)


@rule("FeatureVectorizer", domain=_DOMAIN, weights=None)
def vectorizer(ctx: LoweringContext, op: Op) -> Value:
    """Columns of several inputs side by side, as floats (FeatureVectorizer since 1)."""
    inputs = [ctx.as_activation(v) for v in op.inputs if v is not None]
    if any(v.rank not in (1, 2) for v in inputs):
        raise Unsupported("an input has other axes than rows and features")
    inputs = [v if v.rank == 2 else ctx.reshaped(v, (1, *v.shape)) for v in inputs]
    if [v.shape[1] for v in inputs] != list(op.attr("inputdimensions", ())):
        raise Unsupported("inputdimensions are not the numbers of columns of its inputs")
    return op.result(ctx.concat(inputs, 1, op).factors)


@rule("OneHotEncoder", domain=_DOMAIN)
def one_hot_encoder(ctx: LoweringContext, op: Op) -> Value:
    """A function of the entry and of the place along a new free axis (OneHotEncoder since 1)."""
    cats = op.attr("cats_int64s") or op.attr("cats_strings")
    y = _mapped(ctx, op, {"cats": digest(cats), "zeros": int(op.attr("zeros", 1))})
    return op.result(tuple(f[..., None] for f in y.factors))


def _mapped(ctx: LoweringContext, op: Op, attributes: dict[str, object]) -> Value:
    return ctx.unary(ctx.as_activation(op.input(0)), op.type, attributes)


@rule("CategoryMapper", domain=_DOMAIN)
def category_mapper(ctx: LoweringContext, op: Op) -> Value:
    """A table of numbers and names, read either way (CategoryMapper since 1)."""
    names = ("cats_int64s", "cats_strings", "default_int64", "default_string")
    return op.result(_mapped(ctx, op, {"table": digest(*(op.attr(n) for n in names))}).factors)


@rule("LabelEncoder", domain=_DOMAIN, weights=(1, 2))
def label_encoder(ctx: LoweringContext, op: Op) -> Value:
    """A table from keys to values; numbers among the values are parameters of their keys (LabelEncoder since 1)."""
    values, keys = parameter(op, "values_floats"), parameter(op, "keys_floats")
    hidden = ("values_floats",) if values is not None else ()
    table = {n: v for n, v in sorted(op.attributes.items()) if n not in (*hidden, "values_tensor")}
    tensor = op.attr("values_tensor") if values is None else None
    parts = [(n, v.tolist() if isinstance(v, np.ndarray) else v) for n, v in table.items()]
    y = _mapped(ctx, op, {"table": digest(parts, None if tensor is None else tensor.tolist())})
    if keys is not None:
        ctx.unused(keys, "key of a table")
    if values is None:
        return op.result(y.factors)
    rows = ctx.weight(values).reshape(-1, 1)
    found = ctx.gather_rows(rows, y, (*y.shape, 1), "value")
    return op.result(ctx.reshaped(found, op.shape()).factors)


@rule("DictVectorizer", "CastMap", domain=_DOMAIN)
def dictionary(ctx: LoweringContext, op: Op) -> Value:
    """A function of the map and of the place along a free axis of columns (DictVectorizer, CastMap since 1)."""
    words = op.attr("string_vocabulary") or op.attr("int64_vocabulary") or ()
    names = ("cast_to", "map_form", "max_map")
    y = _mapped(ctx, op, {"words": digest(words), **{n: op.attr(n) for n in names if op.attr(n) is not None}})
    rank = len(op.shape())
    return op.result(tuple(f.reshape((1,) * rank) for f in y.factors))


@rule("ZipMap", domain=_DOMAIN)
def zip_map(ctx: LoweringContext, op: Op) -> Value:
    """Each row as a map from labels to its entries: what an entry is depends on its place (ZipMap since 1)."""
    x = ctx.as_activation(op.input(0))
    names = op.attr("classlabels_int64s") or op.attr("classlabels_strings")
    y = ctx.order(x, [x.rank - 1], "ZipMap", {"labels": digest(names)}, x.shape)
    result = op.results[0]
    return replace(y, name=result.name if result else "", dtype="")
