"""Elementwise functions of one neuron, and the recognition of known activations in chains of them.

Exporters write the same activation in many ways (`x * sigmoid(x)`, three forms of GELU, a scale as Mul or Div). A
chain of elementwise steps on one neuron is a scalar function, so it is recognised by its values at probe points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from ...ir import GraphBuilder

__all__ = ["ASSOCIATIVE", "COMMUTATIVE", "FUNCTIONS", "PREDICATES", "Function", "FunctionVias", "Steps"]

Function = Callable[..., np.ndarray]
_Name = tuple[str, dict[str, object]]

_erf = np.vectorize(math.erf, otypes=[np.float64])
_POSITIVE = np.array([0.003, 0.04, 0.3, 0.77, 1.0, 1.6, 2.2, 2.9, 3.1, 4.4, 5.9, 6.5, 11.0, 21.0, 150.0, 1e3])
PROBES = np.concatenate([-_POSITIVE[::-1] * 1.07, [0.0], _POSITIVE])
_ONE = int(np.flatnonzero(PROBES == 1)[0])  # where all known functions are finite


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x)


def _gelu(x: np.ndarray, approximate: str = "none") -> np.ndarray:
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + _erf(x / math.sqrt(2)))


def _elu(x: np.ndarray, alpha: float = 1.0) -> np.ndarray:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _selu(
    x: np.ndarray, alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875
) -> np.ndarray:
    return gamma * _elu(x, alpha)


def _celu(x: np.ndarray, alpha: float = 1.0) -> np.ndarray:
    return np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(np.minimum(x, 0) / alpha))


def _hard_sigmoid(x: np.ndarray, alpha: float = 0.2, beta: float = 0.5) -> np.ndarray:
    return np.clip(alpha * x + beta, 0, 1)


def _clip(x: np.ndarray, low: Any = None, high: Any = None, **bounds: float) -> np.ndarray:
    low, high = bounds.get("min", low), bounds.get("max", high)
    return np.clip(x, -np.inf if low is None else low, np.inf if high is None else high)


def _shrink(x: np.ndarray, bias: float = 0.0, lambd: float = 0.5) -> np.ndarray:
    return np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0))


def _mod(x: np.ndarray, y: np.ndarray, fmod: int = 0) -> np.ndarray:
    return np.fmod(x, y) if fmod else np.mod(x, y)


def _swish(x: np.ndarray, alpha: float = 1.0) -> np.ndarray:
    return x * _sigmoid(alpha * x)


def _of_all(function: Function) -> Function:
    """An associative function of two arrays as a function of any number."""
    return lambda *xs: reduce(function, xs)


FUNCTIONS: dict[str, Function] = {
    "Abs": np.abs,
    "Acos": np.arccos,
    "Acosh": np.arccosh,
    "Add": _of_all(np.add),
    "And": _of_all(np.logical_and),
    "Asin": np.arcsin,
    "Asinh": np.arcsinh,
    "Atan": np.arctan,
    "Atanh": np.arctanh,
    "Ceil": np.ceil,
    "Celu": _celu,
    "Clip": _clip,
    "Cos": np.cos,
    "Cosh": np.cosh,
    "Div": np.true_divide,
    "Elu": _elu,
    "Equal": np.equal,
    "Erf": _erf,
    "Exp": np.exp,
    "Floor": np.floor,
    "Gelu": _gelu,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda x: x * _hard_sigmoid(x, 1 / 6, 0.5),
    "IsInf": lambda x, detect_negative=1, detect_positive=1: np.isinf(x),
    "IsNaN": np.isnan,
    "LeakyRelu": lambda x, alpha=0.01: np.where(x > 0, x, alpha * x),
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Log": np.log,
    "Max": _of_all(np.maximum),
    "Mean": lambda *xs: sum(xs) / len(xs),
    "Min": _of_all(np.minimum),
    "Mish": lambda x: x * np.tanh(_softplus(x)),
    "Mod": _mod,
    "Mul": _of_all(np.multiply),
    "Neg": np.negative,
    "Not": np.logical_not,
    "Or": _of_all(np.logical_or),
    "Pow": np.power,
    "Reciprocal": lambda x: 1 / x,
    "Relu": lambda x: np.maximum(x, 0),
    "Round": np.round,
    "Selu": _selu,
    "Shrink": _shrink,
    "Sigmoid": _sigmoid,
    "Sign": np.sign,
    "Sin": np.sin,
    "Sinh": np.sinh,
    "Softplus": _softplus,
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Sqrt": np.sqrt,
    "Sub": np.subtract,
    "Sum": _of_all(np.add),
    "Swish": _swish,
    "Tan": np.tan,
    "Tanh": np.tanh,
    "ThresholdedRelu": lambda x, alpha=1.0: np.where(x > alpha, x, 0),
    "Where": np.where,
    "Xor": _of_all(np.logical_xor),
}

ASSOCIATIVE = {"Add", "Mul", "Max", "Min", "Sum", "And", "Or", "Xor"}
COMMUTATIVE = ASSOCIATIVE | {"Mean", "Equal"}
PREDICATES = {"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "And", "Or", "Xor", "IsNaN", "IsInf"}

_NAMED: tuple[tuple[str, Function], ...] = (
    ("Relu", FUNCTIONS["Relu"]),
    ("Relu6", lambda x: np.clip(x, 0, 6)),
    ("Sigmoid", _sigmoid),
    ("Tanh", np.tanh),
    ("Gelu", _gelu),
    ("GeluTanh", lambda x: _gelu(x, "tanh")),
    ("QuickGelu", lambda x: _swish(x, 1.702)),
    ("Silu", _swish),
    ("Mish", FUNCTIONS["Mish"]),
    ("HardSwish", FUNCTIONS["HardSwish"]),
    ("HardSigmoid", lambda x: _hard_sigmoid(x, 1 / 6, 0.5)),
    ("Softplus", _softplus),
    ("Softsign", FUNCTIONS["Softsign"]),
    ("Elu", _elu),
    ("Selu", _selu),
    ("Square", np.square),
    ("Reciprocal", FUNCTIONS["Reciprocal"]),
    ("Abs", np.abs),
    ("Exp", np.exp),
    ("Log", np.log),
    ("Sqrt", np.sqrt),
)


@dataclass(frozen=True, slots=True)
class Steps:
    """Functions of one number, one after the other, each with its name and attributes as a step of a via."""

    parts: Sequence[tuple[Function, str, dict[str, object]]]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The last number, float64 of the shape of `x`."""
        return reduce(lambda y, part: part[0](y), self.parts, x)


class FunctionVias:
    """Builds vias of elementwise steps; a chain that amounts to a scale, a shift or a known activation is replaced."""

    def __init__(self, builder: GraphBuilder) -> None:
        self._builder = builder
        self._suffix: dict[int, tuple[int, np.ndarray]] = {}
        with np.errstate(all="ignore"):
            self._values = np.array([f(PROBES) for _, f in _NAMED], dtype=np.float64)
            self._tolerances = np.where(np.isfinite(self._values), 1e-6 + 5e-4 * np.abs(self._values), 0)
        self._at_one = self._values[:, _ONE]

    def step(self, vias: tuple[int, ...], function: Function | None, op: str, attributes: dict[str, object]) -> int:
        """Append an elementwise step.

        Args:
            vias: The vias of its operands, which are branches from one neuron (one via for a unary step).
            function: The function of as many arrays, literals bound; None if it is not known. Of several steps, each
                is appended under its own name.
            op: The name of the step.
            attributes: Its attributes.

        Returns:
            The new via.
        """
        if isinstance(function, Steps):
            return reduce(lambda via, part: self.step((via,), *part), function.parts, vias[0])
        bases = {self._split(v)[0] for v in vias}
        if function is None or len(bases) != 1:
            return self._builder.via(op, attributes.items(), vias)
        base = bases.pop()
        with np.errstate(all="ignore"):
            samples = np.asarray(function(*(self._split(v)[1] for v in vias)), dtype=np.float64)
            name = self._recognise(samples)
        return self._canonical(base, samples, name, vias, op, attributes)

    def scale(self, via: int) -> tuple[int, float]:
        """Split off a trailing scale: (the via before it, the factor), or (via, 1.0) if there is none."""
        entry = self._builder.vias[via]
        if entry.op == "Scale":
            return entry.parents[0], float(dict(entry.attributes)["factor"])  # type: ignore[arg-type]
        return via, 1.0

    def _split(self, via: int) -> tuple[int, np.ndarray]:
        return self._suffix.get(via, (via, PROBES))

    def _canonical(
        self, base: int, samples: np.ndarray, name: _Name | None, vias: tuple[int, ...], op: str,
        attributes: dict[str, object],
    ) -> int:  # fmt: skip
        if name == ("Identity", {}):
            return base
        if name is not None:
            new = self._builder.via(name[0], name[1].items(), (base,))
        else:
            new = self._builder.via(op, attributes.items(), vias)
        self._suffix[new] = (base, samples)
        return new

    def _recognise(self, samples: np.ndarray) -> _Name | None:
        """The name and attributes of the known function with these values at the probes, else None."""
        if samples.shape != PROBES.shape:
            return None
        shift = float(samples[len(PROBES) // 2])
        factor = float(samples[-1] - shift) / float(PROBES[-1])
        if np.isfinite(factor) and np.isfinite(shift) and factor != 0:
            rtol, atol = 1e-5, 1e-6 * max(1.0, abs(shift))
            one, line = float(samples[_ONE]), factor + shift
            # Few functions agree with a line, or with a known function, even at one probe.
            if abs(one - line) <= 2 * (atol + rtol * abs(line)):
                numbers = factor * PROBES + shift
                if (np.abs(samples - numbers) <= atol + rtol * np.abs(numbers)).all():
                    return _affine(factor, shift)
        for i in np.flatnonzero(np.abs(samples[_ONE] - self._at_one) <= 1e-5 + 1e-3 * np.abs(self._at_one)).tolist():
            # As np.isclose, which takes ten times as long on so few numbers.
            near = (np.abs(samples - self._values[i]) <= self._tolerances[i]) | (samples == self._values[i])
            if (near | (np.isnan(samples) & np.isnan(self._values[i]))).all():
                return _NAMED[i][0], {}
        return None


def _affine(factor: float, shift: float) -> _Name:
    factor, shift = (float(f"{v:.5g}") for v in (factor, shift))
    if abs(shift) < 1e-12:
        return ("Identity", {}) if factor == 1 else ("Scale", {"factor": factor})
    if factor == 1:
        return "Shift", {"by": shift}
    return "Affine", {"factor": factor, "shift": shift}
