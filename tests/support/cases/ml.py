"""Cases of the operators of ai.onnx.ml."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from support.cases.case import Case, image, table

__all__ = ["ml_cases"]

_SIX = ("0.5, 0.2, 0.1, 0.3, 0.7, 0.6", "1.5, 1.2, 1.1, 1.3, 1.7, 1.6")


def ml_cases() -> Iterator[Case]:
    """One or more cases per operator."""
    yield from _features()
    yield from _tables()
    yield from _linear()
    yield from _vectors()
    yield from _trees()


def _features() -> Iterator[Case]:
    scaler = "o = ai.onnx.ml.Scaler<offset = [{}], scale = [{}]>(h)"
    yield table("Scaler", "features", scaler.format(*_SIX), variants=[scaler.format(_SIX[1], _SIX[1])])
    yield table("Scaler", "one-for-all", scaler.format("0.5", "1.5"), variants=[scaler.format("0.5", "1.7")])
    imputer = "z = Relu(h)\n o = ai.onnx.ml.Imputer<imputed_value_floats = [{}], replaced_value_float = {}>(z)"
    yield table("Imputer", "features", imputer.format(_SIX[0], "0.0"),
                variants=[imputer.format(_SIX[1], "0.0"), imputer.format(_SIX[0], "1.0")])  # fmt: skip
    yield table("Imputer", "one-for-all", imputer.format("0.5", "0.0"), variants=[imputer.format("0.7", "0.0")])
    whole = "c = Cast<to = 7>(h)\n i = ai.onnx.ml.Imputer<imputed_value_int64s = [{}], replaced_value_int64 = 0>(c)\n"
    whole += " o = Cast<to = 1>(i)"
    yield table("Imputer", "integers", whole.format("5, 6, 7, 8, 9, 10"), symmetric=False,
                variants=[whole.format("6, 5, 7, 8, 9, 10")])  # fmt: skip
    norm = 'o = ai.onnx.ml.Normalizer<norm = "{}">(h)'
    yield table("Normalizer", "features", norm.format("L2"), variants=[norm.format("L1"), norm.format("MAX")])
    step = "o = ai.onnx.ml.Binarizer<threshold = {}>(h)"
    yield table("Binarizer", "features", step.format(0.3), variants=[step.format(-1.5)])
    pick = "o = ai.onnx.ml.ArrayFeatureExtractor(h, i)"
    yield table("ArrayFeatureExtractor", "features", pick, width=3, ints={"i": [[4, 0, 4]], "j": [[4, 0, 1]]},
                variants=[pick.replace(" i)", " j)")])  # fmt: skip
    beside = "o = ai.onnx.ml.FeatureVectorizer<inputdimensions = [6, 6]>({})"
    yield table("FeatureVectorizer", "two", beside.format("h, g"), width=12, variants=[beside.format("h, h")])
    yield table("FeatureVectorizer", "padded", "o = ai.onnx.ml.FeatureVectorizer<inputdimensions = [6, 7]>(h, g)",
                width=13, symmetric=False, opaque="inputdimensions")  # fmt: skip


def _tables() -> Iterator[Case]:
    choice = "a = ArgMax<axis = 1, keepdims = {}>(h)\n"
    hot = choice.format(0) + "o = ai.onnx.ml.OneHotEncoder<cats_int64s = [{}]>(a)"
    yield table("OneHotEncoder", "choice", hot.format("0, 1, 2, 3, 4, 5"), symmetric=False,
                variants=[hot.format("1, 0, 2, 3, 4, 5")])  # fmt: skip
    names = choice.format(1)
    names += "s = ai.onnx.ml.CategoryMapper<cats_int64s = [0, 1, 2, 3, 4, 5], cats_strings = [{}]>(a)\n"
    names += ' i = ai.onnx.ml.LabelEncoder<keys_strings = ["a", "b", "c"], values_int64s = [1, 2, 3]>(s)\n'
    names += " o = Cast<to = 1>(i)"
    letters = '"a", "b", "c", "c", "b", "a"'
    yield table("CategoryMapper", "names", names.format(letters), width=1, symmetric=False,
                variants=[names.format('"b", "a", "c", "c", "b", "a"')])  # fmt: skip
    encoder = choice.format(1) + "o = ai.onnx.ml.LabelEncoder<keys_int64s = [{}], values_floats = [{}]>(a)"
    yield table("LabelEncoder", "floats", encoder.format("0, 1, 2, 3, 4, 5", _SIX[0]), width=1, symmetric=False,
                variants=[encoder.format("1, 0, 2, 3, 4, 5", _SIX[0])])  # fmt: skip
    tensor = "c = ai.onnx.ml.Binarizer(h)\n o = ai.onnx.ml.LabelEncoder<keys_tensor = float[2] {{0.0, 1.0}}, "
    tensor += "values_tensor = float[2] {{0.25, {}}}, default_tensor = float[1] {{0.5}}>(c)"
    yield table("LabelEncoder", "tensors", tensor.format(1.5), symmetric=False, ml=4,
                variants=[tensor.format("1.5").replace("{0.0, 1.0}", "{1.0, 0.0}")])  # fmt: skip
    zipped = "(float[3, 4] x) => (float[3, 3] z, seq(map(int64, float)) y) {{ h = MatMul(x, w)\n z = MatMul(h, v)\n"
    zipped += "y = ai.onnx.ml.ZipMap<classlabels_int64s = [{}]>(z) }}"
    yield Case("ZipMap", "classes", zipped.format("5, 6, 7"), {"w": (4, 6), "v": (6, 3)}, domain="ai.onnx.ml",
               checked=False)  # fmt: skip


def _numbers(count: int, seed: int = 0) -> str:
    return ", ".join(f"{v:.3f}" for v in np.random.default_rng(seed).uniform(-1, 1, count))


def _linear() -> Iterator[Case]:
    line = f"o = ai.onnx.ml.LinearRegressor<targets = 2, coefficients = [{_numbers(12)}]{{}}>(h)"
    bias = ", intercepts = [0.3, -0.4]"
    yield table("LinearRegressor", "two", line.format(bias), width=2,
                variants=[line.format(""), line.format(bias + ', post_transform = "LOGISTIC"')])  # fmt: skip
    three = f"l, o = ai.onnx.ml.LinearClassifier<coefficients = [{_numbers(18)}], intercepts = [0.1, -0.2, 0.3], "
    three += 'classlabels_ints = [4, 5, 6], multi_class = 1, post_transform = "{}">(h)'
    yield table("LinearClassifier", "three", three.format("SOFTMAX"), width=3, variants=[three.format("LOGISTIC")])
    strings = three.format("NONE").replace("ints = [4, 5, 6]", 'strings = ["a", "b", "c"]')
    yield table("LinearClassifier", "strings", strings, width=3)
    two = f"l, o = ai.onnx.ml.LinearClassifier<coefficients = [{_numbers(6)}], intercepts = [0.1], "
    two += 'classlabels_ints = [0, 1], post_transform = "{}">(h)'
    yield table("LinearClassifier", "one-score", two.format("LOGISTIC"), width=2, variants=[two.format("NONE")])


def _vectors() -> Iterator[Case]:
    kernel = 'kernel_type = "{}", kernel_params = [{}]'
    same = [(name, "0.4, 0.5, 2") for name in ("POLY", "SIGMOID", "LINEAR")]
    kernels = [("RBF", "0.4, 0, 3"), ("RBF", "0.3, 0, 3"), *same]
    one = f"o = ai.onnx.ml.SVMRegressor<n_supports = 3, support_vectors = [{_numbers(18)}], "
    one += f"coefficients = [{_numbers(3, 1)}], rho = [0.3], {{}}>(h)"
    spelled = [one.format(kernel.format(*k)) for k in kernels]
    for name, body in zip(("radial", "", "polynomial", "sigmoid", "linear"), spelled, strict=True):
        if name:
            yield table("SVMRegressor", name, body, width=1, variants=[b for b in spelled if b != body])
    yield table("SVMRegressor", "one-class", spelled[0].replace("rho", "one_class = 1, rho"), width=1)
    flat = 'kernel_type = "LINEAR", kernel_params = [1.0, 0.0, 3.0]'
    plain = f"o = ai.onnx.ml.SVMRegressor<coefficients = [{_numbers(6)}], rho = [0.3], {flat}>(h)"
    yield table("SVMRegressor", "no-vectors", plain, width=1)
    many = "l, o = ai.onnx.ml.SVMClassifier<support_vectors = [{}], coefficients = [{}], rho = [{}], "
    many += f"vectors_per_class = [{{}}], {kernel.format('RBF', '0.4, 0, 3')}, {{}}>(h)"
    probable = f"prob_a = [{_numbers(3, 5)}], prob_b = [{_numbers(3, 6)}], classlabels_ints = [2, 1, 0]"
    three = (_numbers(30), _numbers(10, 1), _numbers(3, 2), "2, 1, 2")
    yield table("SVMClassifier", "pairs", many.format(*three, 'classlabels_strings = ["a", "b", "c"]'), width=3)
    yield table("SVMClassifier", "probabilities", many.format(*three, probable), width=3)
    four = (_numbers(36), _numbers(18, 1), _numbers(6, 2), "2, 1, 2, 1")
    yield table("SVMClassifier", "six-pairs", many.format(*four, "classlabels_ints = [0, 1, 2, 3]"), width=6)
    two = (_numbers(24), _numbers(4, 1), "0.2", "2, 2")
    yield table("SVMClassifier", "two", many.format(*two, "classlabels_ints = [0, 1]"), width=2)
    probable = "prob_a = [-0.8], prob_b = [0.1], classlabels_ints = [0, 1]"
    yield table("SVMClassifier", "two-probabilities", many.format(*two, probable), width=2)
    plain = f"l, o = ai.onnx.ml.SVMClassifier<coefficients = [{_numbers(18)}], rho = [0.1, 0.2, 0.3], "
    yield table("SVMClassifier", "no-vectors", f"{plain}{flat}, classlabels_ints = [0, 1, 2]>(h)", width=3)


_LISTED = """nodes_treeids = [0, 0, 0, 0, 0, 1, 1, 1, 1, 1], nodes_nodeids = [0, 1, 2, 3, 4, 0, 1, 2, 3, 4],
    nodes_featureids = [{0}, 1, 0, 0, 0, 2, 1, 0, 0, 0], nodes_truenodeids = [1, 3, 0, 0, 0, 1, 3, 0, 0, 0],
    nodes_falsenodeids = [2, 4, 0, 0, 0, 2, 4, 0, 0, 0], nodes_values = [{1}, 1.5, 0, 0, 0, 1.7, -0.1, 0, 0, 0],
    nodes_modes = ["{2}", "BRANCH_LT", "LEAF", "LEAF", "LEAF", "BRANCH_LEQ", "BRANCH_LT", "LEAF", "LEAF", "LEAF"],"""
_VOTES = """{0}_treeids = [0, 0, 0, 1, 1, 1], {0}_nodeids = [2, 3, 4, 2, 3, 4], {0}_ids = [{1}],
    {0}_weights = [0.3, -0.5, 0.7, {2}, 0.4, 0.9]"""


def _trees() -> Iterator[Case]:
    body = f"o = ai.onnx.ml.TreeEnsembleRegressor<{_LISTED}{_VOTES.format('target', '0, 1, 0, 0, 1, 0', '{3}')}, "
    body += "n_targets = 2{4}>(h)"
    plain = ("2", "1.6", "BRANCH_LEQ", "0.6", "")
    other = [("0", *plain[1:]), ("2", "2.9", *plain[2:]), ("2", "1.6", "BRANCH_GT", *plain[3:]),
             (*plain[:4], ', aggregate_function = "MAX"'), (*plain[:4], ", base_values = [0.5, -0.5]")]  # fmt: skip
    yield table("TreeEnsembleRegressor", "two-trees", body.format(*plain), width=2,
                variants=[body.format(*o) for o in other])  # fmt: skip
    turned = body.format(*plain).replace("(h)", "(t)").replace("o = ", "q = ").replace("n_targets = 2", "n_targets = 3")
    yield table("TreeEnsembleRegressor", "over-rows", f"t = Transpose(h)\n {turned}\n o = Transpose(q)")
    flat = body.format(*plain).replace("(h)", "(f)").replace("nodes_featureids = [2, 1,", "nodes_featureids = [37, 73,")
    flat = flat.replace("0, 0, 0, 2, 1, 0", "0, 0, 0, 37, 109, 0").replace("o = ", "q = ")
    # Two trees that differ in the place that they look at, and in nothing else.
    apart = flat.replace("37, 109, 0", "38, 73, 0")
    for name, trees in (("one-place", flat), ("two-places", apart)):
        yield image("TreeEnsembleRegressor", name, f"f = Flatten(h)\n {trees}\n o = Unsqueeze(q, axes)",
                    channels=2, domain="ai.onnx.ml", ints={"axes": [2, 3]})  # fmt: skip
    body = f'l, o = ai.onnx.ml.TreeEnsembleClassifier<{_LISTED.format(*plain)}{{}}, post_transform = "{{}}">(h)'
    three = _VOTES.format("class", "0, 1, 2, 0, 1, 2", "0.6") + ", classlabels_int64s = [7, 8, 9]"
    yield table("TreeEnsembleClassifier", "three", body.format(three, "SOFTMAX"), width=3,
                variants=[body.format(three, "LOGISTIC")])  # fmt: skip
    one = _VOTES.format("class", "0, 0, 0, 0, 0, 0", "0.6") + ', base_values = [0.2], classlabels_strings = ["n", "y"]'
    yield table("TreeEnsembleClassifier", "one-score", body.format(one, "LOGISTIC"), width=2)
    body = """o = ai.onnx.ml.TreeEnsemble<n_targets = 1, tree_roots = [0, 2], nodes_featureids = [{0}, 1, 2, 1],
        nodes_splits = float[4] {{1.6, 1.5, 1.7, -0.1}}, nodes_modes = uint8[4] {{0, 1, 0, {1}}},
        nodes_truenodeids = [1, 1, 3, 3], nodes_trueleafs = [0, 1, 0, 1], nodes_falsenodeids = [0, 2, 4, 5],
        nodes_falseleafs = [1, 1, 1, 1], leaf_targetids = [0, 0, 0, 0, 0, 0],
        leaf_weights = float[6] {{0.3, -0.5, 0.7, 0.6, 0.4, 0.9}}>(h)"""
    yield table("TreeEnsemble", "two-trees", body.format(2, 1), width=1, ml=5, variants=[body.format(0, 1)])
