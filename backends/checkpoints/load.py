"""Values of a graph's parameters from a checkpoint."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import ml_dtypes
import numpy as np

from ...files.tensors import read_tensors, unwrapped
from ...ir import GmncError, ParameterGraph
from ..values import array_of, checked
from .by_value import as_bits
from .matching import digest, fits, left_out, match
from .mismatch import MatchError, Mismatch
from .name_map import NameMap
from .names import matched_names

__all__ = ["ConversionWarning", "Source", "entries_of", "load_values", "match_names", "named"]

Source = str | os.PathLike[str] | Mapping[str, Any]
"""A file of tensors, or a mapping of names to arrays or tensors."""


class ConversionWarning(UserWarning):
    """Values of a checkpoint have another floating-point type than the graph and were converted."""


def load_values(
    graph: ParameterGraph,
    source: Source,
    *,
    names: NameMap | str | os.PathLike[str] | None = None,
    like: Source | None = None,
    keep: Iterable[str] = (),
    ignore: Iterable[str] = (),
    key: str | None = None,
) -> dict[str, np.ndarray]:
    """Read the values of a graph's parameters from a checkpoint.

    Names are matched exactly or up to a prefix that all have (`module.`, `model.`, `_orig_mod.`). With `like`, tensors
    that the exporter renamed, transposed, sliced or packed are found by their values; nothing is guessed where values
    are equal. For many checkpoints, make the map once, with `match_names`.

    Every parameter that has an edge needs an entry, and every entry of floats a parameter. Integers and booleans that
    the file does not hold are left out; with `like`, or a map, they must be those of that checkpoint. Floats are
    converted between floating-point types, with a `ConversionWarning`; integers must fit.

    Args:
        graph: A compiled graph.
        source: A file that `gmnc.files.read_tensors` reads (.safetensors, .pt, .pth, .bin, .ckpt, .npz, .onnx, a store,
            an index of shards), or a mapping of names to arrays or tensors, such as a `state_dict`.
        names: The map, or a JSON file of it, instead of the arguments below.
        like: The checkpoint that the ONNX file was exported from.
        keep: Patterns (`fnmatch`) of parameters that keep the value of the file.
        ignore: Patterns of entries that are not read.
        key: Where the state is in a torch file that holds several.

    Returns:
        Arrays by parameter name, in its shape and dtype, as `gmnc.write` and `Blocks.with_values` take them; views of
        the memory-mapped file where it stores them so.

    Raises:
        MatchError: The checkpoint does not fit; it lists everything that is in the way.
        LoadError: A file cannot be read.
        GmncError: `names` and arguments that make a map are both given.
    """
    entries, where = entries_of(source, key), _where(source)
    if names is not None and (like is not None or [*keep, *ignore]):
        raise GmncError("give names, or like, keep and ignore, from which a map is made")
    if names is None and like is None:
        names = match(graph, entries, exported=False, keep=keep, ignore=ignore, where=where)
    elif names is None:
        assert like is not None
        names = match_names(graph, like, keep=keep, ignore=ignore, key=key)
    names = names if isinstance(names, NameMap) else NameMap.load(names)
    return _values(graph, names, entries, where)


def match_names(
    graph: ParameterGraph,
    like: Source,
    *,
    keep: Iterable[str] = (),
    ignore: Iterable[str] = (),
    key: str | None = None,
) -> NameMap:
    """Find how the parameters of a graph are stored in checkpoints, from the one that its ONNX file was exported from.

    Args:
        graph: A compiled graph.
        like: That checkpoint.
        keep: Patterns (`fnmatch`) of parameters that keep the value of the file.
        ignore: Patterns of entries that are not read.
        key: Where the state is in a torch file that holds several.

    Returns:
        The map, for all checkpoints of the architecture; `save` writes it as JSON.

    Raises:
        MatchError: Tensors are missing, left over, or explained in more than one way.
        LoadError: The file cannot be read.
    """
    entries = entries_of(like, key)
    return match(graph, entries, exported=True, keep=keep, ignore=ignore, where=_where(like))


def entries_of(source: Source, key: str | None = None) -> dict[str, Any]:
    """The tensors of a checkpoint.

    Args:
        source: A file or a mapping.
        key: Where the state is, in a file or mapping that holds several.

    Returns:
        Arrays or torch tensors by name.

    Raises:
        LoadError: The file cannot be read, or there is no state.
        GmncError: It is neither a path nor a mapping.
    """
    if isinstance(source, Mapping):
        own = {name: value for name, value in source.items() if not isinstance(value, Mapping)}
        return own if own and len(own) == len(source) else unwrapped(source, "the mapping", key)
    if not isinstance(source, str | os.PathLike):
        kind = type(source).__name__
        raise GmncError(
            f"a path, or a mapping of names to tensors such as module.state_dict(), is needed, not a {kind}"
        )
    return read_tensors(source, key)


def _where(source: Source) -> str:
    return "the mapping" if isinstance(source, Mapping) else os.fspath(source)


def named(graph: ParameterGraph, names: NameMap, entries: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The entries under the names of a map, if they differ from it by a prefix.

    Args:
        graph: The graph.
        names: The map.
        entries: Tensors of a checkpoint by its names.
        where: The checkpoint, for messages.

    Returns:
        The tensors by the map's names.

    Raises:
        MatchError: Entries are missing or left over.
    """
    held = {name: value for name, value in entries.items() if not left_out(name, names.ignored)}
    if held.keys() == names.entries.keys():
        return held
    pairs = matched_names(held, names.entries)
    found = {pairs.get(name, name): value for name, value in held.items()}
    mismatch = Mismatch(
        unmatched=[name for name in names.entries if name not in found and name not in names.fixed],
        extra=[name for name, value in found.items() if name not in names.entries and not _unread(graph, name, value)],
    )
    if mismatch:
        raise MatchError(where, mismatch)
    return {name: value for name, value in found.items() if name in names.entries}


def _unread(graph: ParameterGraph, name: str, value: Any) -> bool:
    """Whether an entry that the map does not know is no float, or a number of the program as the file has it."""
    array = array_of(value, name)
    own = graph.parameters.get(name) or graph.constants.get(name)
    return array.dtype.kind in "iub" or (own is not None and np.array_equal(own.load(), array))


def _values(graph: ParameterGraph, names: NameMap, entries: Mapping[str, Any], where: str) -> dict[str, np.ndarray]:
    _check_graph(graph, names)
    found = named(graph, names, entries, where)
    arrays = {name: array_of(value, name) for name, value in found.items()}
    mismatch = Mismatch()
    wrong = set()
    for name, array in arrays.items():
        if array.shape != names.entries[name] and name not in names.fixed:
            mismatch.misshapen.append(f"{name}: {list(array.shape)}, expected {list(names.entries[name])}")
            wrong.add(name)
    for name, other in names.tied.items():
        if not wrong & {name, other} and not _equal(arrays[name], arrays[other]):
            mismatch.changed.append(f"{name} differs from {other}, and the file has one tensor for both")
    for name, known in names.fixed.items():
        if name in arrays and digest(arrays[name]) != known:
            mismatch.changed.append(f"{name} differs from the checkpoint that the file was exported from")
    values: dict[str, np.ndarray] = {}
    converted: Counter[tuple[str, str]] = Counter()
    for name, copies in names.parameters.items():
        if wrong.isdisjoint(copy.entry for copy in copies):
            parameter, made = graph.parameters[name], names.read(name, arrays)
            if not fits(made.dtype, parameter.dtype):
                mismatch.misshapen.append(f"{name}: {parameter.dtype} in the file, {copies[0].entry} is {made.dtype}")
                continue
            try:
                values[name] = checked(parameter, made)
            except GmncError as error:
                mismatch.misshapen.append(str(error))
                continue
            if made.dtype != values[name].dtype and made.dtype.name != parameter.dtype:
                converted[made.dtype.name, parameter.dtype] += 1
    if mismatch:
        raise MatchError(where, mismatch)
    if converted:
        _warn(converted, len(values))
    return values


def _check_graph(graph: ParameterGraph, names: NameMap) -> None:
    """Raises `GmncError` if the map is not of this graph."""
    read = graph.derived(
        "parameters with an edge", lambda: {b.view.name for b in graph.edges if not b.constant and b.size}
    )
    missing = [name for name in read if name not in names.parameters and name not in names.kept]
    other = [n for n, s in names.shapes.items() if n not in graph.parameters or graph.parameters[n].shape != s]
    if missing or other:
        raise GmncError(
            f"the map is of another graph: it does not agree on {', '.join(sorted([*missing, *other])[:5])}"
        )


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a is b or (a.dtype == b.dtype and np.array_equal(as_bits(a), as_bits(b)))


def _warn(converted: Mapping[tuple[str, str], int], total: int) -> None:
    """Warn once for all files of one kind: the text does not name the file."""
    parts = [f"{n} from {a} to {b}{'' if _exact(a, b) else ', rounded'}" for (a, b), n in converted.items()]
    text = f"of {total} tensors, converted {'; '.join(parts)}"
    warnings.warn(ConversionWarning(text), stacklevel=4)


def _exact(source: str, target: str) -> bool:
    """Whether a floating-point type (or an integer one, which must fit) has all values of another."""
    if "float" not in source:
        return True
    a, b = (ml_dtypes.finfo(np.dtype(getattr(ml_dtypes, kind, kind))) for kind in (source, target))
    return bool(a.nmant <= b.nmant and a.maxexp <= b.maxexp and a.minexp >= b.minexp)
