"""A network with reference outputs, and their comparison with the outputs for changed parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..ir import ParameterGraph
from .precision import AMPLIFIED, NOISE, eps_of, tolerance_of
from .processes import NotRunnable, Runner, Stopped
from .runtime import Arrays, Network, disagreement, magnitude

__all__ = ["Errors", "NotRunnable", "Trial", "perturbed", "perturbed_values", "shuffled"]

Errors = dict[str, float]
"""Change of each output, relative to its largest magnitude."""

_DRAWS = 2
_HUGE = 1e6
_PARTS = 8


class Trial:
    """A network with distinct random weights, and its outputs for some inputs.

    Args:
        graph: The graph of the network.
        feeds: Arrays by input name, for each run.
        rng: Random generator.
        runner: What runs the network; by default this process.
        types: Float type of each output, see `precision.float_types`.
        tolerance: Allowed change of all outputs; by default it depends on their float types.

    Attributes:
        values: The weights of every parameter that has an edge, by name.
        base: The outputs for each of the feeds.
        names: The outputs that are compared.
        skipped: Why other outputs are not compared.
        tolerances: Allowed change of each output.
        fixed: Whether the tolerances are final.
    """

    def __init__(
        self,
        graph: ParameterGraph,
        feeds: Sequence[Mapping[str, np.ndarray]],
        rng: np.random.Generator,
        runner: Runner | None = None,
        types: Mapping[str, str] | None = None,
        tolerance: float | None = None,
    ) -> None:
        self.graph, self.feeds, self.rng = graph, feeds, rng
        self.network = Network(graph, runner)
        self.skipped: list[str] = []
        names = sorted({b.view.name for b in graph.edges if not b.constant})
        own = {n: graph.parameters[n].load() for n in names}
        self.values = perturbed_values(graph, own, rng)
        self.base, again = self._twice(self.values)
        if not all(_finite(v) for outputs in self.base for v in outputs.values()):
            self.values = own
            self.base, again = self._twice(own)
        self.fixed = tolerance is not None
        self.tolerances = {
            n: tolerance or tolerance_of(graph, _type(n, self.base[0][n], types or {})) for n in self.base[0]
        }
        self.names = self._compared(own, again)

    def errors(self, changes: Mapping[str, np.ndarray], written: bool = False) -> Errors:
        """Run with these parameters changed.

        Only the changed tensors are passed to a network in memory, if one is held; see `Network.run_changed`.

        Args:
            changes: Arrays by parameter name.
            written: Whether to write the model, and to compare the network in memory with it.

        Returns:
            The change of every compared output; infinite if the network no longer runs.

        Raises:
            Stopped: ONNX Runtime crashes or exceeds the time limit.
        """
        try:
            new = self.network.run_changed(self.values, changes, self.feeds, written)
        except Stopped:
            raise
        except NotRunnable:
            return dict.fromkeys(self.names, float("inf"))
        return _differences(self.base, new, self.names)

    def error(self, changes: Mapping[str, np.ndarray]) -> float:
        """The largest of the `errors`."""
        return max(self.errors(changes).values(), default=0.0)

    def excess(self, errors: Errors) -> float:
        """The largest error as a multiple of its output's tolerance; a claim holds below 1."""
        return max((e / self.tolerances[n] for n, e in errors.items()), default=0.0)

    def widen(self) -> None:
        """Raise the tolerances to the network's own amplification of rounding errors; has an effect once only.

        The noise is ten times that of rounding, so that a network whose activations are rounded to integers rounds some
        of them otherwise: that effect does not grow with the noise.
        """
        if self.fixed:
            return
        self.fixed = True
        for _ in range(_DRAWS):
            for name, error in self.conditioning().items():
                self.tolerances[name] = max(self.tolerances[name], AMPLIFIED * error)

    def allow_rounding(self, dtypes: Iterable[str]) -> None:
        """Raise the tolerances to those of outputs that are computed in these float types, to which weights round."""
        if not self.fixed:
            least = max((tolerance_of(self.graph, dtype) for dtype in dtypes), default=0.0)
            self.tolerances = {name: max(t, least) for name, t in self.tolerances.items()}

    def changed(self, changes: Mapping[str, np.ndarray]) -> int:
        """Number of elements that differ from `values`."""
        return sum(int((self.values[n] != v).sum()) for n, v in changes.items())

    def conditioning(self) -> Errors:
        """Errors when the weights change by ten times float32's rounding errors."""
        noise = {n: _noisy(v, self.rng) for n, v in self.values.items() if v.dtype.kind == "f"}
        return self.errors(noise)

    def reacting(self) -> float:
        """The share of parameter elements to which an output reacts, measured per tensor.

        With more than 8 tensors, they are changed in 8 groups of about equal size.
        """
        total = sum(v.size for v in self.values.values())
        moving = sum(
            sum(self.values[n].size for n in part)
            for part in self._parts()
            if self.excess(self.errors(perturbed_values(self.graph, {n: self.values[n] for n in part}, self.rng))) > 1
        )
        return moving / total if total else 0.0

    def _parts(self) -> Iterator[list[str]]:
        names = list(self.values)
        ends = np.cumsum([self.values[n].size for n in names])
        if len(names) <= _PARTS:
            yield from ([n] for n in names)
            return
        which = np.minimum(_PARTS * (ends - 1) // max(int(ends[-1]), 1), _PARTS - 1).tolist()
        yield from ([n for n, w in zip(names, which, strict=True) if w == part] for part in sorted(set(which)))

    def _twice(self, values: Mapping[str, np.ndarray]) -> tuple[list[Arrays], list[Arrays]]:
        """The outputs of two runs in one session; the network is then held in memory, if that is possible."""
        found = self.network.hold(values, [*self.feeds] * 2)
        return found[: len(self.feeds)], found[len(self.feeds) :]

    def _compared(self, own: Mapping[str, np.ndarray], again: list[Arrays]) -> set[str]:
        """The outputs that are reproducible and not all infinite or NaN. again: outputs of a second run."""
        changed = own if own is not self.values else perturbed_values(self.graph, own, self.rng)
        other = self.network.run_changed(self.values, changed, self.feeds)
        changes = _differences(self.base, other, self.tolerances)
        names = set()
        for name in self.base[0]:
            runs = [(a[name], b.get(name)) for a, b in zip(self.base, again, strict=True)]
            if any(b is None or disagreement({"": a}, {"": b}) > 0 for a, b in runs):
                self.skipped.append(f"output {name!r}: two runs with the same inputs differ")
            elif not any(_any_finite(a) for a, _ in runs):
                self.skipped.append(f"output {name!r}: it has no finite entries")
            else:
                names.add(name)
                if changes[name] == 0:
                    which = " that are on edges" if self.graph.num_opaque_parameters else ""
                    self.skipped.append(f"output {name!r}: it does not depend on the parameters{which}")
        for port in self.graph.outputs:
            if not any(n == port.name or n.startswith(f"{port.name}[") for n in self.base[0]):
                self.skipped.append(f"output {port.name!r}: it is neither a tensor nor a sequence of tensors")
        return names


def _type(name: str, value: np.ndarray, types: Mapping[str, str]) -> str:
    """The float type of an output; for an element of a sequence, that of the sequence."""
    own = value.dtype.name if "float" in value.dtype.name else "float32"
    return max((types.get(name, types.get(name.partition("[")[0], own)), own), key=eps_of)


def perturbed_values(
    graph: ParameterGraph, values: Mapping[str, np.ndarray], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Perturb parameter values with `perturbed`; quantised tensors keep their integers, on grids of perturbed scales.

    As an exception, int8 values are halved: x86 CPUs without VNNI add 8-bit products in pairs with 16-bit saturation,
    so results would depend on the order of the channels (the reason for ONNX Runtime's `reduce_range`).
    """
    stored = {n: s for n in values if (s := graph.parameters[n].storage) is not None}
    new = {n: v if n in stored else perturbed(v, rng) for n, v in values.items()}
    for name, storage in stored.items():
        quant_params = {s: new[s] if s in new else graph.parameters[s].load() for s in storage.quant_params}
        tensor = storage.load()
        new[name] = storage.decode(tensor // 2 if storage.dtype == "int8" else tensor, quant_params)
    return new


def perturbed(tensor: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Perturb a tensor so that equal values become distinct; a tensor of one sign keeps it."""
    if tensor.dtype.kind in "iub" or tensor.dtype.itemsize < 2:
        return tensor
    exact: Any = np.float64 if tensor.dtype == np.float64 else np.float32
    with np.errstate(over="ignore", invalid="ignore"):
        new = tensor * np.exp(exact(0.1) * rng.standard_normal(tensor.shape, dtype=exact))
        if not (tensor > 0).all() and not (tensor < 0).all():
            spread = float(np.std(tensor, dtype=np.float64))
            size = exact(0.05 * (spread if 0 < spread < _HUGE else 0.4))
            new = new + size * rng.standard_normal(tensor.shape, dtype=exact)
        cast = np.asarray(new).astype(tensor.dtype)
    return np.where(np.isfinite(cast), cast, tensor)


def shuffled(tensor: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A tensor of the same numbers in another order, of random signs."""
    return np.asarray(
        rng.permutation(tensor.reshape(-1)).reshape(tensor.shape) * rng.choice([-1, 1], tensor.shape)
    ).astype(tensor.dtype)


def _noisy(tensor: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    kind: Any = np.float64 if tensor.dtype == np.float64 else np.float32
    return np.asarray(tensor * (1 + kind(NOISE) * rng.standard_normal(tensor.shape, dtype=kind))).astype(tensor.dtype)


def _differences(base: Sequence[Arrays], new: Sequence[Arrays], names: Iterable[str]) -> Errors:
    """The change of each output; infinite if outputs come or go."""
    pairs = list(zip(base, new, strict=True))
    if any(a.keys() != b.keys() for a, b in pairs):
        return dict.fromkeys(names, float("inf"))
    largest = {n: max(magnitude(a[n]) for a in base) for n in names}
    return {n: max(disagreement({"": a[n]}, {"": b[n]}, largest[n]) for a, b in pairs) for n in sorted(names)}


def _finite(array: np.ndarray) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _any_finite(array: np.ndarray) -> bool:
    return array.dtype.kind != "f" or not array.size or bool(np.isfinite(array).any())
