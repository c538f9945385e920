"""Inner values of a network: ONNX Runtime runs it with them as further outputs."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir

from ..backends.onnx import write
from ..ir import GmncError, ParameterGraph, StorageWarning
from ..testing.processes import InProcess
from .proof import Feeds
from .similarity import Values

__all__ = ["batches", "computed_names", "first_rows", "probed"]

_AT_ONCE = 1 << 28
"""The bytes of inner values that one run may return."""


def batches(model: onnx_ir.Model, arrays: Mapping[str, np.ndarray]) -> Feeds:
    """Data as inputs of a network: at once, or in parts if the network takes a fixed number of rows.

    Args:
        model: The network.
        arrays: Arrays by input name, whose first axis numbers the samples where the network's does.

    Returns:
        Arrays by input name, for each run.

    Raises:
        GmncError: An input is missing, the network has no input of a given name, or the rows make no whole parts.
    """
    inputs = _inputs(model)
    for names, others, what in ((inputs, arrays, "lacks the input"), (arrays, inputs, "holds an unknown input")):
        wrong = next((n for n in names if n not in others), None)
        if wrong is not None:
            raise GmncError(f"the data {what} {wrong!r}; the network has the inputs {', '.join(inputs)}")
    fixed = {n: _rows(v) for n, v in inputs.items()}
    parts = {len(arrays[n]) / rows for n, rows in fixed.items() if rows and arrays[n].ndim}
    if not parts or parts == {1}:
        return [dict(arrays)]
    if len(parts) > 1 or not min(parts).is_integer():
        text = ", ".join(f"{n!r} takes {r} rows and got {len(arrays[n])}" for n, r in fixed.items() if r)
        raise GmncError(f"the data cannot be divided into inputs of the network: {text}")
    split = {n: np.split(a, int(min(parts))) if fixed[n] else [a] * int(min(parts)) for n, a in arrays.items()}
    return [{n: s[i] for n, s in split.items()} for i in range(int(min(parts)))]


def first_rows(model: onnx_ir.Model, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The first samples of some data, as many as a network takes at once.

    Args:
        model: The network.
        arrays: Arrays by input name.

    Returns:
        The arrays, with fewer rows where the network takes a fixed number of them.
    """
    rows = {n: _rows(v) for n, v in _inputs(model).items()}
    return {n: a[: rows[n]] if rows.get(n) and a.ndim else a for n, a in arrays.items()}


def _inputs(model: onnx_ir.Model) -> dict[str, onnx_ir.Value]:
    return {v.name or "": v for v in model.graph.inputs if v.name not in model.graph.initializers}


def _rows(value: onnx_ir.Value) -> int:
    """The size of the first axis of an input; 0 if it has none or any size will do."""
    first = value.shape[0] if value.shape is not None and len(value.shape) else 0
    return first if isinstance(first, int) else 0


def computed_names(graph: ParameterGraph) -> list[str]:
    """Names of the values that nodes of a network's main graph compute, in order."""
    return [v.name for node in graph.model.graph for v in node.outputs if v.name]


def probed(
    graph: ParameterGraph, values: Values, names: Sequence[str], feeds: Feeds
) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Compute inner values of a network.

    Args:
        graph: Its graph.
        values: Parameters that differ from those of its model.
        names: Names of values, see `computed_names`.
        feeds: Arrays by input name, for each run.

    Yields:
        The name of each value, and its arrays, one for each run. Values that are no tensors are left out.

    Raises:
        NotRunnable: ONNX Runtime does not run the network.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StorageWarning)
            write(graph, values, path, rounded=True)
        model = onnx.load(path, load_external_data=False)
        outputs = [o.name for o in model.graph.output]
        part, size = 1, 0
        left = list(names)
        while left:
            # The first value alone tells how many of its kind fit in one run.
            now, left = left[:part], left[part:]
            del model.graph.output[len(outputs) :]
            model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in now if n not in outputs)
            onnx.save(model, path)
            found = InProcess().run(path, feeds)
            for name in now:
                if all(name in each for each in found):
                    arrays = [each[name] for each in found]
                    size = max(size, sum(a.nbytes for a in arrays))
                    yield name, arrays
            part = max(1, min(4 * part, _AT_ONCE // max(size, 1)))
