"""Output shapes of `ai.onnx.ml` operators; ONNX infers few of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import onnx_ir

from ..dialect import Shaped

__all__ = ["output_shapes"]

Inputs = Sequence[Shaped | None]
Outputs = list[Shaped | None]


def output_shapes(node: onnx_ir.Node, inputs: Inputs) -> Outputs:
    """Shape and dtype of each output of an operator of the domain `ai.onnx.ml`, None where unknown."""
    function = _SHAPES.get(node.op_type)
    if function is None or not inputs or inputs[0] is None:
        return [None] * len(node.outputs)
    try:
        return function(node, inputs, *inputs[0])
    except (IndexError, TypeError):
        # An operand has a rank that the operator does not accept.
        return [None] * len(node.outputs)


def _like_first(node: onnx_ir.Node, inputs: Inputs, shape: tuple[int, ...], dtype: str) -> Outputs:
    return [(shape, dtype)]


def _floats(node: onnx_ir.Node, inputs: Inputs, shape: tuple[int, ...], dtype: str) -> Outputs:
    return [(shape, "float32")]


def _rows(shape: tuple[int, ...]) -> int:
    return shape[0] if len(shape) > 1 else 1


def _regressor(node: onnx_ir.Node, inputs: Inputs, shape: tuple[int, ...], dtype: str) -> Outputs:
    targets = node.attributes.get_int("n_targets", node.attributes.get_int("targets", 1))
    return [((_rows(shape), targets), dtype if node.op_type == "TreeEnsemble" else "float32")]


def _classifier(node: onnx_ir.Node, inputs: Inputs, shape: tuple[int, ...], dtype: str) -> Outputs:
    """Labels [rows] and scores [rows, classes]; an SVM without probabilities scores pairs of classes."""
    numbers = _length(node, "classlabels_int64s") or _length(node, "classlabels_ints")
    classes = columns = numbers or _length(node, "classlabels_strings")
    if not classes:
        return [None, None]
    pairwise = node.op_type == "SVMClassifier" and _length(node, "vectors_per_class") and not _length(node, "prob_a")
    if pairwise and classes > 2:
        columns = classes * (classes - 1) // 2
    rows = _rows(shape)
    return [((rows,), "int64" if numbers else "string"), ((rows, columns), "float32")]


def _length(node: onnx_ir.Node, name: str) -> int:
    attribute = node.attributes.get(name)
    if attribute is None:
        return 0
    return math.prod(attribute.as_tensor().shape.numpy()) if name.endswith("tensor") else len(attribute.value)


def _extractor(node: onnx_ir.Node, inputs: Inputs, shape: tuple[int, ...], dtype: str) -> Outputs:
    if inputs[1] is None:
        raise TypeError
    return [((*(shape[:-1] or (1,)), math.prod(inputs[1][0])), dtype)]


def _vectorizer(node: onnx_ir.Node, inputs: Inputs, shape: tuple[int, ...], dtype: str) -> Outputs:
    sizes = node.attributes["inputdimensions"].as_ints()
    return [((_rows(shape), sum(sizes)), "float32")]


def _one_hot(node: onnx_ir.Node, inputs: Inputs, shape: tuple[int, ...], dtype: str) -> Outputs:
    return [((*shape, _length(node, "cats_int64s") or _length(node, "cats_strings")), "float32")]


def _label_encoder(node: onnx_ir.Node, inputs: Inputs, shape: tuple[int, ...], dtype: str) -> Outputs:
    for name, kind in (("values_int64s", "int64"), ("values_floats", "float32"), ("values_strings", "string")):
        if _length(node, name):
            return [(shape, kind)]
    tensor = node.attributes.get("values_tensor")
    if tensor is not None:
        stored = tensor.as_tensor().dtype
        return [(shape, "string" if stored == onnx_ir.DataType.STRING else stored.numpy().name)]
    return [(shape, "int64" if dtype == "string" else "string")]


def _category_mapper(node: onnx_ir.Node, inputs: Inputs, shape: tuple[int, ...], dtype: str) -> Outputs:
    return [(shape, "int64" if dtype == "string" else "string")]


def _dictionary(node: onnx_ir.Node, inputs: Inputs, shape: tuple[int, ...], dtype: str) -> Outputs:
    """One column per word of the vocabulary."""
    return [((1, _length(node, "int64_vocabulary") or _length(node, "string_vocabulary")), "float32")]


def _cast_map(node: onnx_ir.Node, inputs: Inputs, shape: tuple[int, ...], dtype: str) -> Outputs:
    """Only the sparse form has a known size: a dense map becomes one column per entry."""
    if node.attributes.get_string("map_form", "DENSE") != "SPARSE":
        return [None]
    kinds = {"TO_FLOAT": "float32", "TO_INT64": "int64", "TO_STRING": "string"}
    kind = kinds.get(node.attributes.get_string("cast_to", "TO_FLOAT"))
    return [None if kind is None else ((1, node.attributes.get_int("max_map", 1)), kind)]


def _no_tensor(node: onnx_ir.Node, inputs: Inputs, shape: tuple[int, ...], dtype: str) -> Outputs:
    return [((), "")]


_SHAPES: Mapping[str, Callable[[onnx_ir.Node, Inputs, tuple[int, ...], str], Outputs]] = {
    "ArrayFeatureExtractor": _extractor,
    "Binarizer": _like_first,
    "CastMap": _cast_map,
    "CategoryMapper": _category_mapper,
    "DictVectorizer": _dictionary,
    "FeatureVectorizer": _vectorizer,
    "Imputer": _like_first,
    "LabelEncoder": _label_encoder,
    "LinearClassifier": _classifier,
    "LinearRegressor": _regressor,
    "Normalizer": _floats,
    "OneHotEncoder": _one_hot,
    "SVMClassifier": _classifier,
    "SVMRegressor": _regressor,
    "Scaler": _floats,
    "TreeEnsemble": _regressor,
    "TreeEnsembleClassifier": _classifier,
    "TreeEnsembleRegressor": _regressor,
    "ZipMap": _no_tensor,
}
