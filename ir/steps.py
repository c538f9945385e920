"""The table of steps that gmnc's own rules use, by theme; `vocabulary.Step` documents the columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .vocabulary import Attachment, Combine, Law, Matrices, MixingLaw, Number, Step

__all__ = ["STEPS"]

_FLOOR = 1e-6
"""The largest epsilon that counts as a mere guard against division by zero."""

_ALIKE = (Combine.ALIKE, Combine.ALIKE)
_EXTREME = (Combine.ALIKE, None)
_PRODUCT = (Combine.PRODUCT, Combine.PRODUCT)
_QUOTIENT = (Combine.QUOTIENT, Combine.QUOTIENT)

# How attached parameters absorb factors: a bias takes the value's factor, a scale takes the quotient of the factors
# after and before it, a slope takes none.
_TERM = Attachment(True, (1, 0))
_FACTOR = Attachment(False, (-1, 1))
_FIXED = Attachment(True, (0, 0))
_STATISTICS = Attachment(
    False, (0, 0), (("norm.scale", (-1, 1)), ("norm.bias", (0, 1)), ("norm.mean", (1, 0)), ("norm.var", (0, 0)))
)


def _step(
    name: str,
    summary: str,
    attributes: str = "",
    degree: Law = None,
    parity: Law = None,
    mixes_over: str = "",
    **more: Any,
) -> Step:
    return Step(name, summary, tuple(attributes.split()), degree, parity, mixes_over, **more)


def _linear(
    name: str, summary: str, attributes: str = "", mixes_over: str = "", commutes: MixingLaw = Matrices.ALL
) -> Step:
    return _step(name, summary, attributes, 1, 1, mixes_over, commutes=commutes)


def _odd(name: str, summary: str, attributes: str = "") -> Step:
    return _step(name, summary, attributes, None, 1)


def _even(name: str, summary: str, attributes: str = "") -> Step:
    return _step(name, summary, attributes, None, 0)


def _positive(name: str, summary: str, attributes: str = "", mixes_over: str = "") -> Step:
    """Homogeneous of degree 1, neither odd nor even."""
    return _step(name, summary, attributes, 1, None, mixes_over)


def _norm(name: str, summary: str, attributes: str = "", mixes_over: str = "") -> Step:
    """Homogeneous of degree 1 and even, as a norm is."""
    return _step(name, summary, attributes, 1, 0, mixes_over)


def _square(name: str, summary: str, attributes: str = "", mixes_over: str = "") -> Step:
    return _step(name, summary, attributes, 2, 0, mixes_over)


def _other(name: str, summary: str, attributes: str = "", mixes_over: str = "", **more: Any) -> Step:
    """Neither homogeneous nor odd nor even."""
    return _step(name, summary, attributes, None, None, mixes_over, **more)


def _bounds_parity(a: Mapping[str, Any]) -> Number:
    low, high = a.get("operand1", a.get("min")), a.get("operand2", a.get("max"))
    return 1 if isinstance(low, float) and isinstance(high, float) and low == -high else None


def _exponent(a: Mapping[str, Any]) -> Number:
    exponent = a.get("operand1")
    return exponent if isinstance(exponent, float) else None


def _exponent_parity(a: Mapping[str, Any]) -> Number:
    exponent = _exponent(a)
    return None if exponent is None or exponent != int(exponent) else int(exponent) % 2


def _quotient(a: Mapping[str, Any]) -> Number:
    """Degree 1 if divided by a constant, -1 if it divides one."""
    return 1 if "operand1" in a else -1 if "operand0" in a else None


def _quotient_parity(a: Mapping[str, Any]) -> Number:
    return None if _quotient(a) is None else 1


def _unless_over_neurons(a: Mapping[str, Any]) -> Matrices | None:
    """Every matrix if a linear step combines positions only."""
    return None if any("neurons" in str(axis) for axis in a.get("over", ("neurons",))) else Matrices.ALL


def _euclidean(a: Mapping[str, Any]) -> Matrices | None:
    """Orthogonal matrices keep the 2-norm, and no other."""
    return Matrices.ORTHOGONAL if a.get("p") == 2 else None


def _linear_padding(a: Mapping[str, Any]) -> Matrices | None:
    return None if _unless_filled(a) is None else Matrices.ALL


def _linear_resampling(a: Mapping[str, Any]) -> Matrices | None:
    return None if _unless_outside(a) is None else Matrices.ALL


def _unless_filled(a: Mapping[str, Any]) -> Number:
    return None if any(name.startswith("operand") for name in a) else 1


def _unless_outside(a: Mapping[str, Any]) -> Number:
    return None if a.get("outside") else 1


def _region_degree(a: Mapping[str, Any]) -> Number:
    return None if a.get("mode") == "max" else 1


def _top_k_degree(a: Mapping[str, Any]) -> Number:
    return 0 if a.get("output") else 1


def _unless_epsilon(a: Mapping[str, Any]) -> Number:
    """Degree 0, as normalisation cancels the scale; none with an epsilon, up to which it does not."""
    return None if a.get("epsilon") else 0


def _unless_floor(a: Mapping[str, Any]) -> Number:
    """Degree 0 if epsilon is a negligible lower bound of the norm, not a term that is added to it."""
    return 0 if a.get("epsilon", 0.0) <= _FLOOR else None


STEPS: tuple[Step, ...] = (
    # Linear functions and data movement.
    _linear("Scale", "a x with a constant a", "factor"),
    _linear("Neg", "-x"),
    _other("Affine", "a x + b with constants a and b", "factor shift"),
    _other("Shift", "x + b with a constant b", "by number"),
    _other("Constant", "a constant, whatever the input", "value"),
    _linear(
        "Move",
        "data movement on the grid: reshape, transpose, slice, gather by constant indices",
        "at axes from number to",
    ),
    _linear("Place", "the index of an entry along an ordered axis", "number"),
    _linear("Copy", "the index of one of several copies", "number"),
    _linear("Along", "the axis of the grid along which operands were concatenated", "axis"),
    _linear("Tuple", "several positions of one neuron as a tuple", "along", mixes_over="positions"),
    _linear("Window", "the positions under a kernel", "grid", mixes_over="positions"),
    _other("Windows", "the positions under a pooling window", "kernel_shape to", mixes_over="positions"),
    _linear("Batch", "one example of a batch"),
    _linear("Last", "the last entry along the sequence", "grid", mixes_over="positions"),
    _linear("Lengths", "masked beyond the sequence length", "grid lengths", mixes_over="positions", commutes=None),
    _other("Parts", "an axis split into parts", "grid"),
    _linear("Trilu", "the upper or lower triangle, zero elsewhere", "axes grid k upper", mixes_over="positions"),
    _other("Diagonal", "the diagonal", "axes grid"),
    _linear("ReverseSequence", "each sequence reversed", "axes batch grid lengths", mixes_over="positions"),
    _other("Frames", "overlapping frames along an axis", "grid length onesided step", mixes_over="positions"),
    _other("Source", "the values of a parameter or stored table", "along"),
    _step(
        "Sum",
        "the sum of branches, or over positions",
        "axes",
        degree=1,
        parity=1,
        mixes_over="positions",
        branches=_ALIKE,
        links=_ALIKE,
        attached=(_TERM, _TERM),
        commutes=Matrices.ALL,
        additive=True,
        commutative=True,
    ),
    _other("Complement", "1 - x"),
    _other("BitCast", "the bits reinterpreted as another type", "to"),
    # Elementwise functions.
    _odd("Tanh", "tanh(x)"),
    _odd("Sin", "sin(x)"),
    _odd("Tan", "tan(x)"),
    _odd("Asin", "arcsin(x)"),
    _odd("Atan", "arctan(x)"),
    _odd("Sinh", "sinh(x)"),
    _odd("Asinh", "arsinh(x)"),
    _odd("Atanh", "artanh(x)"),
    _odd("Erf", "the error function"),
    _odd("Softsign", "x / (1 + |x|)"),
    _odd("Shrink", "soft or hard shrinkage", "bias lambd"),
    _odd("ScaledTanh", "alpha tanh(beta x)", "alpha beta"),
    _odd("Round", "rounding to the nearest integer, ties to even"),
    _even("Cos", "cos(x)"),
    _even("Cosh", "cosh(x)"),
    _other("Acos", "arccos(x)"),
    _other("Acosh", "arcosh(x)"),
    _positive("Relu", "max(x, 0)"),
    _positive("LeakyRelu", "x, or alpha x for x < 0", "alpha"),
    _step(
        "PRelu",
        "x, or a x for x < 0, with a learned slope a",
        "along operand0 operand1",
        degree=1,
        attached=(_FIXED, None),
    ),
    _other("Relu6", "min(max(x, 0), 6)"),
    _other("ThresholdedRelu", "x if x > alpha, else 0", "alpha"),
    _other("Elu", "x, or alpha (exp(x) - 1) for x < 0", "alpha"),
    _other("Celu", "x, or alpha (exp(x / alpha) - 1) for x < 0", "alpha"),
    _other("Selu", "gamma Elu(x)", "alpha gamma"),
    _other("Gelu", "x Phi(x)"),
    _other("GeluTanh", "x Phi(x), tanh approximation"),
    _other("QuickGelu", "x sigmoid(1.702 x)"),
    _other("Silu", "x sigmoid(x)"),
    _other("Swish", "x sigmoid(alpha x)", "alpha"),
    _other("Mish", "x tanh(softplus(x))"),
    _other("HardSwish", "x HardSigmoid(x)"),
    _other("HardSigmoid", "alpha x + beta, clipped to [0, 1]", "alpha beta"),
    _other("Sigmoid", "1 / (1 + exp(-x))"),
    _other("Softplus", "log(1 + exp(x))"),
    _other("SoftCap", "cap tanh(x / cap)", "cap"),
    _other("SwiGLU", "Swish(x) times a second value", "alpha operand0"),
    _norm("Abs", "|x|"),
    _square("Square", "x^2"),
    _step("Sqrt", "the square root", degree=0.5),
    _step("Reciprocal", "1 / x", degree=-1, parity=1),
    _step("Sign", "-1, 0 or 1", "zero", degree=0, parity=1),
    _other("Exp", "exp(x)"),
    _other("Log", "log(x)"),
    _other("Floor", "the floor"),
    _other("Ceil", "the ceiling"),
    _other("Dropout", "entries set to zero at random", "operand0 operand1 place"),
    _other("Cast", "conversion to another type", "to"),
    _other("Not", "not x"),
    _other("BitwiseNot", "every bit flipped"),
    _other("IsInf", "whether it is infinite", "detect_negative detect_positive"),
    _other("IsNaN", "whether it is not a number"),
    _other("Binarizer", "1 above a threshold, else 0", "threshold"),
    _other("PostTransform", "a classifier's link function from scores to outputs", "function"),
    _other("Kernel", "the kernel function of a support vector machine", "coef0 degree gamma type"),
    # Operators of several operands: branches of one neuron, signals joined at a new node, or attached parameters.
    _step(
        "Add",
        "a sum",
        "along beta operand table",
        branches=_ALIKE,
        links=_ALIKE,
        attached=(_TERM, _TERM),
        additive=True,
        commutative=True,
    ),
    _step(
        "Sub",
        "a difference",
        "operand0 operand1 place",
        branches=_ALIKE,
        links=_ALIKE,
        attached=(_TERM, _TERM),
        additive=True,
    ),
    _step("Mean", "a mean", branches=_ALIKE, links=_ALIKE, attached=(_TERM, _TERM), additive=True, commutative=True),
    _step(
        "Max",
        "the maximum",
        "along operand",
        branches=_EXTREME,
        links=_EXTREME,
        attached=(_TERM, None),
        commutative=True,
    ),
    _step(
        "Min",
        "the minimum",
        "operand",
        branches=_EXTREME,
        links=_EXTREME,
        attached=(_TERM, None),
        commutative=True,
    ),
    _step(
        "Mul",
        "a product",
        "along operand place table",
        degree=1,
        parity=1,
        branches=_PRODUCT,
        links=_PRODUCT,
        attached=(_FACTOR, _FACTOR),
        commutative=True,
    ),
    _step(
        "Div",
        "a quotient",
        "operand0 operand1 place",
        degree=_quotient,
        parity=_quotient_parity,
        branches=_QUOTIENT,
        links=_QUOTIENT,
    ),
    _step("Concat", "concatenation", branches=_ALIKE, links=_ALIKE, additive=True),
    _step(
        "Where",
        "a choice by a condition",
        "along operand0 operand1 operand2 places table",
        links=_ALIKE,
    ),
    _step("Pow", "x^y", "operand0 operand1", degree=_exponent, parity=_exponent_parity),
    _other("Mod", "the remainder of a division", "fmod operand0 operand1"),
    _step("Clip", "clipping to two bounds", "max min operand0 operand1 operand2", parity=_bounds_parity),
    _other("And", "x and y", "operand", commutative=True),
    _other("Or", "x or y", commutative=True),
    _other("Xor", "x xor y", commutative=True),
    _other("Equal", "x = y", "operand table", commutative=True),
    _other("Greater", "x > y", "operand0 operand1"),
    _other("GreaterOrEqual", "x >= y", "operand0 operand1"),
    _other("Less", "x < y", "operand0 operand1 table"),
    _other("LessOrEqual", "x <= y", "operand0 operand1"),
    _other("BitShift", "bit shift", "direction operand1 table"),
    _other("BitwiseAnd", "bitwise and", "operand1"),
    _other("BitwiseOr", "bitwise or", "operand1"),
    _other("BitwiseXor", "bitwise xor", "operand1"),
    _step(
        "BatchNormalization", "normalisation with running statistics", "epsilon", attached=(_STATISTICS, _STATISTICS)
    ),
    _other("Imputer", "missing values replaced", "operand1 replaced"),
    _other("MovingAverage", "the running statistics of training mode", "momentum operand0"),
    _other(
        "NormalizeBy", "division by a norm that is computed elsewhere", "epsilon operand1 operand2 operand3 operand4"
    ),
    _other("Platt", "Platt scaling: a fitted sigmoid of a score"),
    _other("Sink", "softmax with an attention sink", "operand1"),
    _linear(
        "Reparametrize", "the function of the stored element that an edge carries", "function linear", commutes=None
    ),
    # Normalisation, softmax and reductions over neurons or positions.
    _step(
        "Standardize",
        "(x - mean) / standard deviation",
        "epsilon over parts scope",
        degree=_unless_epsilon,
        parity=1,
        couples=(True, True),
        mixes_over="neurons",
        commutes=Matrices.CENTRED,
    ),
    _step(
        "RMSNormalize",
        "x / root mean square",
        "epsilon over parts scope",
        degree=_unless_epsilon,
        parity=1,
        couples=(True, False),
        mixes_over="neurons",
        commutes=Matrices.ORTHOGONAL,
    ),
    _step(
        "LpNormalize",
        "x / p-norm",
        "epsilon over p parts scope",
        degree=_unless_floor,
        parity=1,
        couples=(True, False),
        mixes_over="neurons",
        commutes=_euclidean,
    ),
    _other(
        "LRN",
        "local response normalisation over neighbouring channels",
        "alpha beta bias grid size",
        mixes_over="neurons",
    ),
    _other("Normalizer", "x / norm or maximum of the row", "norm over", mixes_over="neurons"),
    _other("Softmax", "exp(x) / sum of exp", "over parts scope", mixes_over="neurons"),
    _other("LogSoftmax", "the logarithm of the softmax", "over parts scope", mixes_over="neurons"),
    _other("SoftmaxZero", "softmax, 0 where all entries are masked", "over parts scope", mixes_over="neurons"),
    _other("Hardmax", "1 at the maximum, else 0", "axes grid", mixes_over="neurons"),
    _other("Scope", "the index of one of several normalisations over the same neurons", "number"),
    _linear("ReduceMean", "the mean", "over", mixes_over="neurons", commutes=_unless_over_neurons),
    _linear("ReduceSum", "the sum", "over", mixes_over="neurons", commutes=_unless_over_neurons),
    _norm("ReduceLp", "the p-norm", "over p", "neurons"),
    _positive("ReduceMax", "the maximum", "over", mixes_over="neurons"),
    _positive("ReduceMin", "the minimum", "over", mixes_over="neurons"),
    _other("ReduceProd", "the product", "over", mixes_over="neurons"),
    _norm("ReduceL1", "the sum of absolute values", "over", mixes_over="neurons"),
    _norm("ReduceL2", "the Euclidean norm", "over", mixes_over="neurons"),
    _square("ReduceSumSquare", "the sum of squares", "over", mixes_over="neurons"),
    _other("ReduceLogSum", "the logarithm of the sum", "over", mixes_over="neurons"),
    _other("ReduceLogSumExp", "the logarithm of the sum of exponentials", "over", mixes_over="neurons"),
    _other("ReduceVar", "the variance", "over", mixes_over="neurons"),
    _other("ReduceInvStdDev", "one over the standard deviation", "epsilon over", mixes_over="neurons"),
    _step("ArgMax", "the index of the maximum", "axis grid labels last over", degree=0, mixes_over="neurons"),
    _step("ArgMin", "the index of the minimum", "axis grid last over", degree=0, mixes_over="neurons"),
    _step(
        "TopK",
        "the k greatest entries, or their indices",
        "axis grid k largest output over sorted",
        degree=_top_k_degree,
        parity=None,
        mixes_over="neurons",
    ),
    _other(
        "Ranked",
        "whether an entry has each rank among the k greatest",
        "k largest over parts scope",
        mixes_over="neurons",
    ),
    _other(
        "Chosen",
        "an entry if it is among the k greatest, or whether it is",
        "k largest mask over parts scope",
        mixes_over="neurons",
    ),
    _linear("CumSum", "cumulative sums", "axes exclusive grid reverse", mixes_over="positions"),
    _other("CumProd", "cumulative products", "axes exclusive grid reverse", mixes_over="positions"),
    _other("Det", "the determinant", "over", mixes_over="neurons"),
    _other("Route", "a router's weights of the experts it chooses", "k normalised over", mixes_over="neurons"),
    # Pooling, resampling and windows over positions.
    _linear(
        "Conv",
        "the windows of a convolution",
        "auto_pad dilations grid kernel_shape pads strides",
        mixes_over="positions",
    ),
    _linear(
        "ConvTranspose",
        "the windows of a transposed convolution",
        "grid output_padding strides transposed",
        mixes_over="positions",
    ),
    _linear(
        "AveragePool",
        "the mean over a window",
        "auto_pad count_include_pad grid kernel_shape pads strides",
        mixes_over="positions",
    ),
    _positive(
        "MaxPool",
        "the maximum over a window",
        "auto_pad ceil_mode dilations grid kernel_shape pads strides",
        mixes_over="positions",
    ),
    _norm("LpPool", "the norm over a window", "auto_pad grid kernel_shape p pads strides", mixes_over="positions"),
    _other(
        "MaxPoolIndices",
        "the index of a window's maximum",
        "kernel_shape of storage_order strides",
        mixes_over="positions",
    ),
    _other(
        "MaxUnpool", "values put back where the maximum was", "grids kernel_shape strides to", mixes_over="positions"
    ),
    _positive(
        "MaxRoiPool", "the maximum over each region", "pooled_shape regions spatial_scale", mixes_over="positions"
    ),
    _step(
        "RoiAlign",
        "regions resampled to one size",
        "coordinate_transformation_mode grids mode output_height output_width regions rows sampling_ratio "
        "spatial_scale",
        degree=1,
        parity=_region_degree,
        mixes_over="positions",
    ),
    _step(
        "Pad",
        "padding",
        "axes grid mode operand1 pads",
        degree=_unless_filled,
        parity=_unless_filled,
        mixes_over="positions",
        commutes=_linear_padding,
    ),
    _step(
        "Resize",
        "resampling to another grid",
        "antialias axes coordinates cubic_coeff_a grid mode nearest_mode ratio",
        degree=_unless_outside,
        parity=_unless_outside,
        mixes_over="positions",
        commutes=_linear_resampling,
    ),
    _linear(
        "GridSample",
        "sampling at given coordinates",
        "align_corners grid grids mode padding_mode places",
        mixes_over="positions",
        commutes=None,
    ),
    _other("AffineGrid", "sampling coordinates of an affine map", "align_corners over to", mixes_over="positions"),
    _other("DeformConv", "sampling at positions shifted by offsets", "grids offset_group pads", mixes_over="positions"),
    _other("Col2Im", "the sum of overlapping windows", "block grids strides to", mixes_over="positions"),
    _other(
        "ByData", "as many entries as the network computes", "axes grid grids of part settings", mixes_over="positions"
    ),
    _other("Complex", "a complex number of a real and an imaginary part", "grids", mixes_over="positions"),
    _other("DFT", "the discrete Fourier transform", "axis grid inverse length onesided", mixes_over="positions"),
    _other("STFT", "the short-time Fourier transform", "grid length onesided step", mixes_over="positions"),
    # Gather and scatter.
    _other("Gather", "slices looked up by an index", "axis batch grid grids table", mixes_over="positions"),
    _other("GatherElements", "entries looked up by one index each", "axis batch grid grids to", mixes_over="positions"),
    _other("GatherND", "slices looked up by index tuples", "axis batch grid grids", mixes_over="positions"),
    _other("Compress", "entries selected by a condition", "axis batch grid grids", mixes_over="positions"),
    _other("OneHot", "a one-hot code of an index", "axis depth grid off on", mixes_over="positions"),
    _other("Scatter", "slices written at indices", "axis grid grids reduction", mixes_over="positions"),
    _other("ScatterElements", "entries written at one index each", "axis grid grids reduction", mixes_over="positions"),
    _other("ScatterND", "slices written at index tuples", "axis grid grids reduction", mixes_over="positions"),
    _other("TensorScatter", "a cache updated at given positions", "axis grid mode operand2", mixes_over="positions"),
    _other("Put", "a part of a row overwritten", "grid operand2", mixes_over="positions"),
    _other("Places", "the indices of nonzero entries", mixes_over="positions"),
    # Attention masks.
    _other("CausalMask", "attention scores of later positions masked", "window", mixes_over="positions"),
    _other("Mask", "attention scores masked by a table", "operand1 table", mixes_over="positions"),
    _other("MaskLengths", "attention scores beyond the sequence length masked", "operand1", mixes_over="positions"),
    _other("MaskPlaces", "attention scores of given positions masked", "grids kind", mixes_over="positions"),
    # Loops.
    _other("Iteration", "the iteration number"),
    _step("While", "a result of a loop with a data-dependent trip count"),
    _other("Step", "the slice that an iteration reads along an axis", "axis backward loop", mixes_over="positions"),
    _other(
        "Stack", "the slices that iterations write, stacked along an axis", "axis backward grid", mixes_over="positions"
    ),
    # Quantisation.
    _other("Quantize", "quantisation with a fixed scale", "grid scale type zero_point"),
    _other(
        "Dequantize",
        "dequantisation",
        "bits exponent_bias exponent_bits function grid has_inf mantissa_bits narrow rounding_mode saturate scale "
        "scale_of_rounding signed type zero_point zero_point_of_rounding",
    ),
    _other("DynamicQuantize", "quantisation with the scale of its own range", "over parts scope", mixes_over="neurons"),
    _other("DynamicQuantizeScale", "that scale", "over", mixes_over="neurons"),
    _other("DynamicQuantizeZeroPoint", "that zero point", "over", mixes_over="neurons"),
    _other("Quant", "quantisation to a number of bits and back", "bits grid narrow signed"),
    _other("BipolarQuant", "quantisation to -1 or 1 and back", "grid"),
    _other(
        "FloatQuant",
        "rounding to a float of few bits",
        "exponent_bias exponent_bits grid has_inf has_nan has_subnormal "
        "mantissa_bits max_float max_value rounding_mode saturating saturation scale",
    ),
    _other("Regrid", "the stored integers with a second scale", "number"),
    # Classical models.
    _other("Branch", "the comparison of a decision tree's split", "missing mode"),
    _other("TreeEnsemble", "the aggregate of a tree ensemble's leaves", "aggregate grid", mixes_over="neurons"),
    _other("BothClasses", "the scores of both classes from one score"),
    _other("PairwiseCoupling", "class probabilities from pairs of classes", mixes_over="neurons"),
    _other("CastMap", "a map as a dense row", "cast_to map_form max_map words"),
    _other("CategoryMapper", "categories to integers", "grid table"),
    _other("LabelEncoder", "keys to values", "grid table"),
    _other("DictVectorizer", "a map as a dense row, by a vocabulary", "words"),
    _other("OneHotEncoder", "a one-hot code of a category", "cats zeros"),
    _other("ZipMap", "a map from class labels to scores", "labels"),
    # Unknown structure.
    _other(
        "OpaqueJoin",
        "one result of an operator that depends on every entry of its operands, in order",
        "op operands output shapes",
        mixes_over="neurons",
    ),
    _other("Opaque", "one result of an operator without a rule", "op output", mixes_over="neurons"),
)
