"""A network with known outputs, to put permuted parameters into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..backends.values import dtype_of
from ..ir import GmncError, ParameterGraph
from .runtime import Arrays, Network, disagreement

__all__ = ["NotRunnable", "Trial", "shaken", "shaken_values", "tolerance_of"]

ROUNDING_STEPS = 64
_ROUNDING = 3e-7
_HUGE = 1e6


class NotRunnable(GmncError):
    """ONNX Runtime does not run the network, or its outputs say nothing. Its text is the reason."""


class Trial:
    """A network with distinct random weights and its outputs for some inputs.

    values: the weights, by name, of every parameter that has an edge. base: the outputs for each of the feeds. names:
    outputs that are compared; `skipped` says why others are not.
    """

    def __init__(
        self, graph: ParameterGraph, feeds: Sequence[Mapping[str, np.ndarray]], rng: np.random.Generator
    ) -> None:
        self.graph, self.feeds, self.rng = graph, feeds, rng
        self.network = Network(graph)
        self.skipped: list[str] = []
        names = sorted({b.view.name for b in graph.edges if not b.constant})
        own = {n: graph.parameters[n].load() for n in names}
        self.values = shaken_values(graph, own, rng)
        self.base, again = self._twice(self.values)
        if not all(_finite(v) for outputs in self.base for v in outputs.values()):
            self.values = own
            self.base, again = self._twice(own)
        self.names = self._compared(own, again)

    def error(self, changes: Mapping[str, np.ndarray]) -> float:
        """Disagreement of the outputs when these parameters are put in; infinite if the network stops running."""
        try:
            new = self._attempt({**self.values, **changes})
        except NotRunnable:
            return float("inf")
        return max(
            (disagreement(self._kept(a), self._kept(b)) for a, b in zip(self.base, new, strict=True)), default=0.0
        )

    def changed(self, changes: Mapping[str, np.ndarray]) -> int:
        """How many elements differ from the values."""
        return sum(int((self.values[n] != v).sum()) for n, v in changes.items())

    def conditioning(self) -> float:
        """Error from changes of the weights of the size of rounding: what no comparison can do better than."""
        noise = {
            n: (v * (1 + _ROUNDING * self.rng.standard_normal(v.shape))).astype(v.dtype)
            for n, v in self.values.items()
            if v.dtype.kind == "f"
        }
        return self.error(noise)

    def _kept(self, outputs: Arrays) -> Arrays:
        return {n: v for n, v in outputs.items() if n in self.names}

    def _attempt(self, values: Mapping[str, np.ndarray], times: int = 1) -> list[Arrays]:
        try:
            return self.network.run(values, [*self.feeds] * times)
        except GmncError:
            raise
        except Exception as error:
            raise NotRunnable(_first_line(error)) from error

    def _twice(self, values: Mapping[str, np.ndarray]) -> tuple[list[Arrays], list[Arrays]]:
        """The outputs of two runs of one session."""
        found = self._attempt(values, times=2)
        return found[: len(self.feeds)], found[len(self.feeds) :]

    def _compared(self, own: Mapping[str, np.ndarray], again: list[Arrays]) -> set[str]:
        """Outputs that a comparison says something about. again: of a second run."""
        other = self._attempt(own if own is not self.values else shaken_values(self.graph, own, self.rng))
        names = set()
        for name in self.base[0]:
            runs = [(a[name], b[name], c[name]) for a, b, c in zip(self.base, again, other, strict=True)]
            if any(disagreement({"": a}, {"": b}) > 0 for a, b, _ in runs):
                self.skipped.append(f"output {name!r}: two runs with the same inputs differ")
            elif not any(_any_finite(a) for a, _, _ in runs):
                self.skipped.append(f"output {name!r}: nothing in it is finite")
            else:
                names.add(name)
                if all(disagreement({"": a}, {"": c}) == 0 for a, _, c in runs):
                    self.skipped.append(f"output {name!r}: it does not depend on the parameters")
        for port in self.graph.outputs:
            if port.name not in self.base[0]:
                self.skipped.append(f"output {port.name!r}: it is no tensor")
        return names


def tolerance_of(graph: ParameterGraph, outputs: Mapping[str, np.ndarray]) -> float:
    """How far outputs may differ: 64 rounding steps of the coarsest float type, times the square root of the depth.

    Types count if parameters on edges or outputs have them; float32 if none does. Rounding errors of independent
    layers add up like a random walk.
    """
    names = {graph.parameters[b.view.name].dtype for b in graph.edges if not b.constant}
    dtypes = {dtype_of(n) for n in names} | {v.dtype for v in outputs.values()}
    steps = [_eps(d) for d in dtypes if "float" in d.name] or [_eps(np.dtype(np.float32))]
    depth = max((g.depth for g in graph.groups), default=0)
    return ROUNDING_STEPS * max(steps) * max(depth, 1) ** 0.5


def shaken_values(
    graph: ParameterGraph, values: Mapping[str, np.ndarray], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """`shaken` values of parameters; what is stored on a grid keeps its place on a grid of shaken scales.

    But int8 is halved: x86 CPUs without VNNI add products of 8 bits in pairs of 16, which saturate in an order that
    permutations change (the reason of ONNX Runtime's `reduce_range`).
    """
    stored = {n: s for n in values if (s := graph.parameters[n].storage) is not None}
    new = {n: v if n in stored else shaken(v, rng) for n, v in values.items()}
    for name, storage in stored.items():
        sides = {s: new[s] if s in new else graph.parameters[s].load() for s in storage.sides}
        tensor = storage.load()
        new[name] = storage.decode(tensor // 2 if storage.dtype == "int8" else tensor, sides)
    return new


def shaken(tensor: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Values that differ from each other where the network's may be equal; the signs of a tensor of one sign stay."""
    if tensor.dtype.kind in "iub" or tensor.dtype.itemsize < 2:
        return tensor
    with np.errstate(over="ignore", invalid="ignore"):
        new = tensor * np.exp(0.1 * rng.standard_normal(tensor.shape))
        if not (tensor > 0).all() and not (tensor < 0).all():
            spread = float(np.std(tensor.astype(np.float64)))
            new = new + 0.05 * (spread if 0 < spread < _HUGE else 0.4) * rng.standard_normal(tensor.shape)
        cast = np.asarray(new).astype(tensor.dtype)
    return np.where(np.isfinite(cast), cast, tensor)


def _eps(dtype: np.dtype) -> float:
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype).eps)


def _finite(array: np.ndarray) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _any_finite(array: np.ndarray) -> bool:
    return array.dtype.kind != "f" or not array.size or bool(np.isfinite(array).any())


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
