"""The steps that gmnc's own rules make, by theme; see `vocabulary.Step` for the columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .vocabulary import Attachment, Combine, Law, Number, Step

__all__ = ["STEPS"]

_FLOOR = 1e-6

_ALIKE = (Combine.ALIKE, Combine.ALIKE)
_EXTREME = (Combine.ALIKE, None)
_PRODUCT = (Combine.PRODUCT, Combine.PRODUCT)
_QUOTIENT = (Combine.QUOTIENT, Combine.QUOTIENT)

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


def _linear(name: str, summary: str, attributes: str = "", mixes_over: str = "") -> Step:
    return _step(name, summary, attributes, 1, 1, mixes_over)


def _odd(name: str, summary: str, attributes: str = "") -> Step:
    return _step(name, summary, attributes, None, 1)


def _even(name: str, summary: str, attributes: str = "") -> Step:
    return _step(name, summary, attributes, None, 0)


def _positive(name: str, summary: str, attributes: str = "", mixes_over: str = "") -> Step:
    """Homogeneous of degree 1, neither odd nor even."""
    return _step(name, summary, attributes, 1, None, mixes_over)


def _size(name: str, summary: str, attributes: str = "", mixes_over: str = "") -> Step:
    """A norm."""
    return _step(name, summary, attributes, 1, 0, mixes_over)


def _square(name: str, summary: str, attributes: str = "", mixes_over: str = "") -> Step:
    return _step(name, summary, attributes, 2, 0, mixes_over)


def _other(name: str, summary: str, attributes: str = "", mixes_over: str = "") -> Step:
    """Neither homogeneous nor odd nor even."""
    return _step(name, summary, attributes, None, None, mixes_over)


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
    """By a table, or a table by it."""
    return 1 if "operand1" in a else -1 if "operand0" in a else None


def _quotient_parity(a: Mapping[str, Any]) -> Number:
    return None if _quotient(a) is None else 1


def _unless_filled(a: Mapping[str, Any]) -> Number:
    return None if any(name.startswith("operand") for name in a) else 1


def _unless_outside(a: Mapping[str, Any]) -> Number:
    return None if a.get("outside") else 1


def _of_regions(a: Mapping[str, Any]) -> Number:
    return None if a.get("mode") == "max" else 1


def _of_top(a: Mapping[str, Any]) -> Number:
    return 0 if a.get("output") else 1


def _unless_epsilon(a: Mapping[str, Any]) -> Number:
    """The scale is cancelled, but only up to epsilon if there is one."""
    return None if a.get("epsilon") else 0


def _unless_floor(a: Mapping[str, Any]) -> Number:
    """Epsilon is a floor of the norm here, which nothing but zeros comes near."""
    return 0 if a.get("epsilon", 0.0) <= _FLOOR else None


STEPS: tuple[Step, ...] = (
    # Linear functions and moves of one value.
    _linear("Scale", "times a number of the program", "factor"),
    _linear("Neg", "-x"),
    _other("Affine", "a x + b with numbers a and b", "factor shift"),
    _other("Shift", "plus a number of the program", "by number"),
    _other("Constant", "a number of the program, of no input", "value"),
    _linear(
        "Move",
        "its entries went elsewhere on the grid (reshape, transpose, slice, gather by known indices)",
        "at axes from number to",
    ),
    _linear("Place", "which place of an ordered axis the entry has", "number"),
    _linear("Copy", "which of several copies it is", "number"),
    _linear("Along", "along which axis of the grid operands were concatenated", "axis"),
    _linear("Tuple", "several places of one neuron taken together", "along", mixes_over="places"),
    _linear("Window", "the places that a kernel covers", "grid", mixes_over="places"),
    _other("Windows", "the places that a pooling window covers", "kernel_shape to", mixes_over="places"),
    _linear("Batch", "one example of a batch"),
    _linear("Last", "the last entry along the sequence", "grid", mixes_over="places"),
    _linear("Lengths", "cut off where the sequence ends", "grid lengths", mixes_over="places"),
    _other("Parts", "an axis cut into parts", "grid"),
    _linear("Trilu", "entries above or below the diagonal replaced by zero", "axes grid k upper", mixes_over="places"),
    _other("Diagonal", "entries on a diagonal", "axes grid"),
    _linear("ReverseSequence", "reversed along the sequence", "axes batch grid lengths", mixes_over="places"),
    _other("Frames", "overlapping frames of a signal", "grid length onesided step", mixes_over="places"),
    _other("Source", "the values of a parameter or stored table", "along"),
    _step(
        "Sum",
        "a sum: of branches, or over places",
        "axes",
        degree=1,
        parity=1,
        mixes_over="places",
        branches=_ALIKE,
        links=_ALIKE,
        attached=(_TERM, _TERM),
    ),
    _other("Complement", "1 - x"),
    _other("BitCast", "its bits read as another type", "to"),
    # Functions of one number.
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
    _odd("Shrink", "towards zero by a bias, zero near zero", "bias lambd"),
    _odd("ScaledTanh", "alpha tanh(beta x)", "alpha beta"),
    _odd("Round", "to the nearest whole number"),
    _even("Cos", "cos(x)"),
    _even("Cosh", "cosh(x)"),
    _other("Acos", "arccos(x)"),
    _other("Acosh", "arcosh(x)"),
    _positive("Relu", "max(x, 0)"),
    _positive("LeakyRelu", "x, or alpha x below zero", "alpha"),
    _step(
        "PRelu",
        "x, or a learned multiple of it below zero",
        "along operand0 operand1",
        degree=1,
        attached=(_FIXED, None),
    ),
    _other("Relu6", "min(max(x, 0), 6)"),
    _other("ThresholdedRelu", "x above alpha, else zero", "alpha"),
    _other("Elu", "x, or alpha (exp(x) - 1) below zero", "alpha"),
    _other("Celu", "x, or alpha (exp(x / alpha) - 1) below zero", "alpha"),
    _other("Selu", "gamma Elu(x)", "alpha gamma"),
    _other("Gelu", "x Phi(x)"),
    _other("GeluTanh", "x Phi(x), by tanh"),
    _other("QuickGelu", "x sigmoid(1.702 x)"),
    _other("Silu", "x sigmoid(x)"),
    _other("Swish", "x sigmoid(alpha x)", "alpha"),
    _other("Mish", "x tanh(softplus(x))"),
    _other("HardSwish", "x HardSigmoid(x)"),
    _other("HardSigmoid", "a x + b, cut off at 0 and 1", "alpha beta"),
    _other("Sigmoid", "1 / (1 + exp(-x))"),
    _other("Softplus", "log(1 + exp(x))"),
    _other("SoftCap", "cap tanh(x / cap)", "cap"),
    _other("SwiGLU", "a gated pair of values", "alpha operand0"),
    _size("Abs", "|x|"),
    _square("Square", "x^2"),
    _step("Sqrt", "the square root", degree=0.5),
    _step("Reciprocal", "1 / x", degree=-1, parity=1),
    _step("Sign", "-1, 0 or 1", "zero", degree=0, parity=1),
    _other("Exp", "exp(x)"),
    _other("Log", "log(x)"),
    _other("Floor", "down to a whole number"),
    _other("Ceil", "up to a whole number"),
    _other("Dropout", "entries set to zero at random", "operand0 operand1 place"),
    _other("Cast", "as another type", "to"),
    _other("Not", "not x"),
    _other("BitwiseNot", "every bit flipped"),
    _other("IsInf", "whether it is infinite", "detect_negative detect_positive"),
    _other("IsNaN", "whether it is not a number"),
    _other("Binarizer", "1 above a threshold, else 0", "threshold"),
    _other("PostTransform", "from scores to what a classifier returns", "function"),
    _other("Kernel", "the kernel function of a support vector machine", "coef0 degree gamma type"),
    # Branches of one neuron that meet, operands joined at a new node, parameters attached.
    _step("Add", "a sum", "along beta operand table", branches=_ALIKE, links=_ALIKE, attached=(_TERM, _TERM)),
    _step(
        "Sub",
        "a difference",
        "operand0 operand1 place",
        branches=_ALIKE,
        links=_ALIKE,
        attached=(_TERM, _TERM),
    ),
    _step("Mean", "a mean of branches", branches=_ALIKE, links=_ALIKE, attached=(_TERM, _TERM)),
    _step("Max", "the greatest", "along operand", branches=_EXTREME, links=_EXTREME, attached=(_TERM, None)),
    _step("Min", "the least", "operand", branches=_EXTREME, links=_EXTREME, attached=(_TERM, None)),
    _step(
        "Mul",
        "a product",
        "along operand place table",
        degree=1,
        parity=1,
        branches=_PRODUCT,
        links=_PRODUCT,
        attached=(_FACTOR, _FACTOR),
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
    _step("Concat", "one beside the other", branches=_ALIKE, links=_ALIKE),
    _step(
        "Where",
        "one or the other, by a condition",
        "along operand0 operand1 operand2 places table",
        links=_ALIKE,
    ),
    _step("Pow", "x^y", "operand0 operand1", degree=_exponent, parity=_exponent_parity),
    _other("Mod", "the remainder of a division", "fmod operand0 operand1"),
    _step("Clip", "cut off at two bounds", "max min operand0 operand1 operand2", parity=_bounds_parity),
    _other("And", "x and y", "operand"),
    _other("Or", "x or y"),
    _other("Xor", "x or y, not both"),
    _other("Equal", "x = y", "operand table"),
    _other("Greater", "x > y", "operand0 operand1"),
    _other("GreaterOrEqual", "x >= y", "operand0 operand1"),
    _other("Less", "x < y", "operand0 operand1 table"),
    _other("LessOrEqual", "x <= y", "operand0 operand1"),
    _other("BitShift", "bits moved", "direction operand1 table"),
    _other("BitwiseAnd", "x and y, bit by bit", "operand1"),
    _other("BitwiseOr", "x or y, bit by bit", "operand1"),
    _other("BitwiseXor", "x or y, not both, bit by bit", "operand1"),
    _step("BatchNormalization", "normalised by stored statistics", "epsilon", attached=(_STATISTICS, _STATISTICS)),
    _other("Imputer", "a missing value replaced", "operand1 replaced"),
    _other("MovingAverage", "a running mean of training", "momentum operand0"),
    _other("NormalizeBy", "divided by a norm that is given", "epsilon operand1 operand2 operand3 operand4"),
    _other("Platt", "a score as a probability, by a fitted sigmoid"),
    _other("Sink", "a softmax with one more entry", "operand1"),
    _linear("Reparametrize", "the function of a stored element that an edge carries", "function linear"),
    # Normalisations, softmax and reductions over neurons or places.
    _step(
        "Standardize",
        "mean taken off, divided by the standard deviation",
        "epsilon over parts scope",
        degree=_unless_epsilon,
        parity=1,
        couples=(True, True),
        mixes_over="neurons",
    ),
    _step(
        "RMSNormalize",
        "divided by the root mean square",
        "epsilon over parts scope",
        degree=_unless_epsilon,
        parity=1,
        couples=(True, False),
        mixes_over="neurons",
    ),
    _step(
        "LpNormalize",
        "divided by a norm",
        "epsilon over p parts scope",
        degree=_unless_floor,
        parity=1,
        couples=(True, False),
        mixes_over="neurons",
    ),
    _other("LRN", "divided by the squares of neighbours", "alpha beta bias grid size", mixes_over="neurons"),
    _other("Normalizer", "divided by the norm or the maximum of a row", "norm over", mixes_over="neurons"),
    _other("Softmax", "exponentials over their sum", "over parts scope", mixes_over="neurons"),
    _other("LogSoftmax", "the logarithm of the softmax", "over parts scope", mixes_over="neurons"),
    _other("SoftmaxZero", "softmax, zero where all are masked", "over parts scope", mixes_over="neurons"),
    _other("Hardmax", "one at the greatest entry", "axes grid", mixes_over="neurons"),
    _other("Scope", "which of several normalisations over the same neurons", "number"),
    _linear("ReduceMean", "the mean", "over", mixes_over="neurons"),
    _linear("ReduceSum", "the sum", "over", mixes_over="neurons"),
    _size("ReduceLp", "the norm of order p", "over p", "neurons"),
    _positive("ReduceMax", "the greatest", "over", mixes_over="neurons"),
    _positive("ReduceMin", "the least", "over", mixes_over="neurons"),
    _other("ReduceProd", "the product", "over", mixes_over="neurons"),
    _size("ReduceL1", "the sum of absolute values", "over", mixes_over="neurons"),
    _size("ReduceL2", "the Euclidean norm", "over", mixes_over="neurons"),
    _square("ReduceSumSquare", "the sum of squares", "over", mixes_over="neurons"),
    _other("ReduceLogSum", "the logarithm of the sum", "over", mixes_over="neurons"),
    _other("ReduceLogSumExp", "the logarithm of the sum of exponentials", "over", mixes_over="neurons"),
    _other("ReduceVar", "the variance", "over", mixes_over="neurons"),
    _other("ReduceInvStdDev", "one over the standard deviation", "epsilon over", mixes_over="neurons"),
    _step("ArgMax", "the place of the greatest", "axis grid labels last over", degree=0, mixes_over="neurons"),
    _step("ArgMin", "the place of the least", "axis grid last over", degree=0, mixes_over="neurons"),
    _step(
        "TopK",
        "the greatest k entries, or their places",
        "axis grid k largest output sorted",
        degree=_of_top,
        parity=None,
        mixes_over="neurons",
    ),
    _linear("CumSum", "running sums", "axes exclusive grid reverse", mixes_over="places"),
    _other("CumProd", "running products", "axes exclusive grid reverse", mixes_over="places"),
    _other("Det", "the determinant", "over", mixes_over="neurons"),
    _other("Route", "the weights of the experts that a router chooses", "k normalised over", mixes_over="neurons"),
    # Pooling, sampling and windows over places.
    _linear(
        "Conv",
        "moved by a kernel of one weight per place",
        "auto_pad dilations grid kernel_shape pads strides",
        mixes_over="places",
    ),
    _linear(
        "ConvTranspose",
        "spread by a kernel of one weight per place",
        "grid output_padding strides transposed",
        mixes_over="places",
    ),
    _linear(
        "AveragePool",
        "the mean of a window",
        "auto_pad count_include_pad grid kernel_shape pads strides",
        mixes_over="places",
    ),
    _positive(
        "MaxPool",
        "the greatest of a window",
        "auto_pad ceil_mode dilations grid kernel_shape pads strides",
        mixes_over="places",
    ),
    _size("LpPool", "the norm of a window", "auto_pad grid kernel_shape p pads strides", mixes_over="places"),
    _other(
        "MaxPoolIndices",
        "where in the window the greatest was",
        "kernel_shape of storage_order strides",
        mixes_over="places",
    ),
    _other("MaxUnpool", "put back to where the greatest was", "grids kernel_shape strides to", mixes_over="places"),
    _positive("MaxRoiPool", "the greatest of each region", "pooled_shape regions spatial_scale", mixes_over="places"),
    _step(
        "RoiAlign",
        "regions resampled",
        "coordinate_transformation_mode grids mode output_height output_width regions rows sampling_ratio "
        "spatial_scale",
        degree=1,
        parity=_of_regions,
        mixes_over="places",
    ),
    _step(
        "Pad",
        "places added around",
        "axes grid mode operand1 pads",
        degree=_unless_filled,
        parity=_unless_filled,
        mixes_over="places",
    ),
    _step(
        "Resize",
        "resampled on another grid",
        "antialias axes coordinates cubic_coeff_a grid mode nearest_mode ratio",
        degree=_unless_outside,
        parity=_unless_outside,
        mixes_over="places",
    ),
    _linear(
        "GridSample",
        "sampled at given places",
        "align_corners grid grids mode padding_mode places",
        mixes_over="places",
    ),
    _other("AffineGrid", "places under an affine map", "align_corners over to", mixes_over="places"),
    _other("DeformConv", "places moved by offsets", "grids offset_group pads", mixes_over="places"),
    _other("Col2Im", "windows put back together", "block grids strides to", mixes_over="places"),
    _other("DFT", "the discrete Fourier transform", "axis grid inverse length onesided", mixes_over="places"),
    _other("STFT", "the short-time Fourier transform", "grid length onesided step", mixes_over="places"),
    # Looking up and putting.
    _other("Gather", "entries looked up by an index", "axis batch grid grids table", mixes_over="places"),
    _other("GatherElements", "entries looked up one by one", "axis batch grid grids to", mixes_over="places"),
    _other("GatherND", "slices looked up by several indices", "axis batch grid grids", mixes_over="places"),
    _other("Compress", "entries chosen by a condition", "axis batch grid grids", mixes_over="places"),
    _other("OneHot", "one at an index", "axis depth grid off on", mixes_over="places"),
    _other("Scatter", "entries put at indices", "axis grid grids reduction", mixes_over="places"),
    _other("ScatterElements", "entries put one by one", "axis grid grids reduction", mixes_over="places"),
    _other("ScatterND", "slices put at indices", "axis grid grids reduction", mixes_over="places"),
    _other("TensorScatter", "a cache updated at a place", "axis grid mode operand2", mixes_over="places"),
    _other("Put", "a part of a row replaced", "grid operand2", mixes_over="places"),
    _other("Places", "the places where entries differ from zero", mixes_over="places"),
    # Attention masks.
    _other("CausalMask", "scores of later places forbidden", "window", mixes_over="places"),
    _other("Mask", "scores forbidden by a table", "operand1 table", mixes_over="places"),
    _other("MaskLengths", "scores beyond the length forbidden", "operand1", mixes_over="places"),
    _other("MaskPlaces", "scores of given places forbidden", "grids kind", mixes_over="places"),
    # Loops.
    _other("Iteration", "the number of the iteration"),
    _step("While", "a result of a loop whose end the network decides"),
    _other("Step", "what an iteration reads along an axis", "axis backward loop", mixes_over="places"),
    _other("Stack", "what iterations write, stacked along an axis", "axis backward grid", mixes_over="places"),
    # Quantisation.
    _other("Quantize", "rounded to a grid of numbers", "grid scale type zero_point"),
    _other("Dequantize", "from a grid of numbers back to floats", "grid scale zero_point"),
    _other("DynamicQuantize", "rounded to a grid that its own range sets", "over parts scope", mixes_over="neurons"),
    _other("DynamicQuantizeScale", "the scale of that grid", "over", mixes_over="neurons"),
    _other("DynamicQuantizeZeroPoint", "the zero point of that grid", "over", mixes_over="neurons"),
    _other("Quant", "rounded and back, by a number of bits", "bits grid narrow signed"),
    _other("BipolarQuant", "rounded to -1 or 1 and back", "grid"),
    _other("Regrid", "stored numbers read on a second grid", "number"),
    # Classical models.
    _other("Branch", "which way a node of a tree goes", "missing mode"),
    _other("TreeEnsemble", "leaves added up", "aggregate grid", mixes_over="neurons"),
    _other("BothClasses", "scores of both classes from one"),
    _other("PairwiseCoupling", "class probabilities from pairs of classes", mixes_over="neurons"),
    _other("CastMap", "a map as a row of numbers", "cast_to map_form max_map words"),
    _other("CategoryMapper", "names to numbers", "grid table"),
    _other("LabelEncoder", "keys to values", "grid table"),
    _other("DictVectorizer", "a map as a row of numbers, by a vocabulary", "words"),
    _other("OneHotEncoder", "one at a category", "cats zeros"),
    _other("ZipMap", "scores as a map of labels", "labels"),
    # Of what nothing more is known.
    _other(
        "OpaqueJoin",
        "one result of an operator that depends on every entry of its operands, in order",
        "op operands output shapes",
        mixes_over="neurons",
    ),
    _other("Opaque", "one result of an operator without a rule", "op output", mixes_over="neurons"),
)
