"""Finds the map between a graph's parameters and a checkpoint's entries."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import numpy as np

from ...ir import GmncError, ParameterGraph
from ..values import array_of, dtype_of
from .by_value import Pool, as_bits, pieces, whole
from .folded import folded_norms
from .mismatch import MatchError, Mismatch
from .name_map import Copy, NameMap
from .names import matched_names
from .noted import Noted, noted
from .scopes import folded_from, modules_of

__all__ = ["COUNTERS", "digest", "fits", "left_out", "match"]

COUNTERS = ("num_batches_tracked",)
"""Buffers that no network computes with, by the last part of their names."""


def match(
    graph: ParameterGraph,
    entries: Mapping[str, Any],
    *,
    exported: bool,
    keep: Iterable[str] = (),
    ignore: Iterable[str] = (),
    where: str = "the checkpoint",
) -> NameMap:
    """Find the map, or say everything that is in the way of one.

    Args:
        graph: A compiled graph.
        entries: Arrays or torch tensors of a checkpoint, by name.
        exported: Whether the ONNX file was exported from this checkpoint, so that equal values tell.
        keep: Patterns (`fnmatch`) of parameters that keep the value of the file.
        ignore: Patterns of entries that are not read.
        where: The checkpoint, for messages.

    Returns:
        The map. Every parameter of the graph that has an edge is in it, and every entry of floats is read, tied or
        ignored.

    Raises:
        MatchError: There is no such map, or more than one.
        GmncError: Names match after each of several prefixes, or an entry holds no numbers.
    """
    ignored = tuple(ignore)
    held = {name: value for name, value in entries.items() if not left_out(name, ignored)}
    search = _Search(graph, held, exported, tuple(keep), noted(graph), where)
    search.by_name()
    if exported:
        search.by_value()
    search.rest()
    search.leftovers()
    if search.mismatch:
        raise MatchError(where, search.mismatch)
    return search.finish(ignored)


def left_out(name: str, patterns: Iterable[str]) -> bool:
    """Whether an entry is not read, by its name."""
    return name.rpartition(".")[2] in COUNTERS or any(fnmatchcase(name, p) for p in patterns)


def digest(array: np.ndarray) -> str:
    """A hash of the values, shape and dtype of an array."""
    head = f"{array.dtype.name}{list(array.shape)}".encode()
    return hashlib.blake2b(head + np.ascontiguousarray(array).tobytes(), digest_size=12).hexdigest()


def fits(found: np.dtype, stored: str) -> bool:
    """Whether values of a dtype can be values of a parameter: floats of floats, integers of integers."""
    kind = _kind(found)
    return kind != "other" and kind == _kind_of(stored)


@cache
def _kind(dtype: np.dtype) -> str:
    if dtype == np.bool_:
        return "boolean"
    if "float" in dtype.name:
        return "float"
    return "integer" if "int" in dtype.name else "other"


@cache
def _kind_of(stored: str) -> str:
    return _kind(dtype_of(stored))


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)


@dataclass
class _Search:
    """The state of one search; `named` and `copies` grow, `left` shrinks."""

    graph: ParameterGraph
    entries: Mapping[str, Any]
    exported: bool
    keep: tuple[str, ...]
    noted: Noted
    where: str
    mismatch: Mismatch = field(default_factory=Mismatch)
    copies: dict[str, tuple[Copy, ...]] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    tied: dict[str, str] = field(default_factory=dict)
    fixed: dict[str, str] = field(default_factory=dict)
    _arrays: dict[str, np.ndarray] = field(default_factory=dict)
    _pools: dict[str, Pool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.left = dict(self.graph.parameters)
        for name in self.graph.parameters:
            if any(fnmatchcase(name, p) for p in self.keep) or name in self.noted.kept:
                self.kept.append(name)
                del self.left[name]
        opaque = {e.name for e in self.graph.account if e.where == "opaque"}
        on_edges = {b.view.name for b in self.graph.edges if not b.constant}
        held = {name for name in self.noted.held if not left_out(name, ())}
        self.needed = on_edges | opaque | held
        self.modules = modules_of(self.graph) if self.exported else {}
        self.folded: dict[str, list[str]] = {}
        self.other: dict[str, str] = {}
        """Parameters whose entry of that name has other values."""
        self.wrong: set[str] = set()
        """Entries that are reported with their parameter."""

    def array(self, entry: str) -> np.ndarray:
        if entry not in self._arrays:
            self._arrays[entry] = array_of(self.entries[entry], entry)
        return self._arrays[entry]

    def by_name(self) -> None:
        """Parameters whose entry is known by its name."""
        aliases = {a: p for a, p in self.noted.tied.items() if a not in self.left and p in self.left}
        folded = folded_from(self.graph)
        sources = {source for listed in folded.values() for source in listed}
        pairs = matched_names(self.entries, {*self.left, *aliases, *sources})
        names = {name: entry for entry, name in pairs.items()}
        self.folded = {name: [names[s] for s in listed if s in names] for name, listed in folded.items()}
        for alias, name in aliases.items():
            if alias in names:
                names.setdefault(name, names[alias])
        for name in [n for n in self.left if n in names]:
            self._named(name, names[name])

    def _named(self, name: str, entry: str) -> None:
        parameter, array = self.left[name], self.array(entry)
        if not fits(array.dtype, parameter.dtype):
            self.wrong.add(entry)
            self.mismatch.misshapen.append(f"{name}: {parameter.dtype} in the file, {entry} is {array.dtype}")
            del self.left[name]
        elif self.exported and parameter.storage is None and parameter.size > 0:
            found = self._same(name, entry)
            if found:
                self._take(name, (found,))
            else:
                self.other[name] = entry
        elif array.shape == parameter.shape or _squeezed(array.shape) == _squeezed(parameter.shape):
            self._take(name, (Copy.whole(entry, parameter.shape),))
        else:
            self.wrong.add(entry)
            text = f"{name}: {list(parameter.shape)} in the file, {entry} is {list(array.shape)}"
            self.mismatch.misshapen.append(text)
            del self.left[name]

    def _same(self, name: str, entry: str) -> Copy | None:
        """How the entry that the name points to is the parameter, by value."""
        target, bits = self._bits(name), self._pool(name).bits[entry]
        if target.size != bits.size:
            return None
        if _squeezed(target.shape) == _squeezed(bits.shape) and np.array_equal(target.reshape(-1), bits.reshape(-1)):
            return Copy.whole(entry, target.shape)
        found = whole(target, bits, entry)
        return found[0] if len(found) == 1 else None

    def by_value(self) -> None:
        """Parameters that the exporter renamed, moved or put together."""
        for name in [*self.left]:
            bits = self._bits(name)
            same = bits.size > 0 and bits.min() == bits.max()
            # Single numbers, and the zeros and ones of a program, equal many an entry by chance.
            if bits.size < 2 or self.left[name].storage is not None or (same and not self._may_be_an_entry(name)):
                continue
            found, decided = self._wholes(name, bool(same))
            if found and not decided and name not in self.needed:
                # A table of the program (a symmetric mask): it holds for checkpoints that have the same.
                self.fixed |= {c.entry: digest(self.array(c.entry)) for c in found}
            elif found and not decided:
                rivals = list(dict.fromkeys(c.entry for c in found))
                why = "equal values" if len(rivals) > 1 else "all of its elements are equal" if same else "symmetric"
                self.mismatch.ambiguous.append(f"{name}: {', '.join(rivals)} ({why})")
                del self.left[name]
            elif found or (copies := pieces(bits, self._pool(name))):
                self._take(name, (found[0],) if found else copies or ())

    def _may_be_an_entry(self, name: str) -> bool:
        """Whether a tensor of equal elements is more than zeros or ones of the program."""
        return name in self.needed or bool(self.folded.get(name))

    def _wholes(self, name: str, same: bool) -> tuple[list[Copy], bool]:
        """Entries that are the parameter, in some order of axes, and whether modules, ties or values decide for one.

        same: whether all elements are equal, so that values tell nothing.
        """
        target, pool, sources = self._bits(name), self._pool(name), self.folded.get(name)
        alike = [entry for entry in pool.alike(target) if not sources or entry in sources]
        found = [copy for entry in alike for copy in whole(target, pool.bits[entry], entry)]
        rivals = list(dict.fromkeys(copy.entry for copy in found))
        open_ = len(rivals) > 1 or (same and not sources)
        for module in self.modules.get(name, ()) if open_ else ():
            inside = [e for e in rivals if f".{e.rpartition('.')[0]}".endswith(f".{module}")]
            if inside:
                rivals, open_ = inside, len(inside) > 1
                break
        if open_ and not same and all(self._shared(rivals[0], other) for other in rivals[1:]):
            rivals, open_ = rivals[:1], False
        left = [copy for copy in found if copy.entry in rivals]
        return left, not open_ and len(left) == 1

    def _shared(self, a: str, b: str) -> bool:
        """Whether two entries are one tensor in memory, as tied weights of a module are."""
        left, right = self.array(a), self.array(b)
        same = left.__array_interface__["data"] == right.__array_interface__["data"]
        return same and left.shape == right.shape and left.strides == right.strides

    def rest(self) -> None:
        """Parameters without an entry: numbers of the program keep their values."""
        self.other = {name: entry for name, entry in self.other.items() if name in self.left}
        self.wrong |= set(self.other.values())
        for name, parameter in self.left.items():
            sources = [
                e for e in self.folded.get(name, ()) if e not in self.fixed and _kind(self.array(e).dtype) == "float"
            ]
            if name in self.other:
                self.mismatch.computed.append(f"{name}: the file has other values than {self.other[name]}")
            elif sources:
                self.mismatch.computed.append(f"{name}: computed from {', '.join(sources)}")
            elif name in self.needed and parameter.size:
                self.mismatch.unmatched.append(f"{name}: {list(parameter.shape)} {parameter.dtype}")
            else:
                self.kept.append(name)

    def leftovers(self) -> None:
        """Entries that no parameter reads."""
        read = {copy.entry for copies in self.copies.values() for copy in copies}
        by_shape: dict[tuple[object, ...], list[str]] = {}
        for entry in read:
            by_shape.setdefault((self.array(entry).shape, self.array(entry).dtype), []).append(entry)
        extra: list[str] = []
        for entry in self.entries:
            if entry in read or entry in self.fixed or entry in self.wrong:
                continue
            array = self.array(entry)
            twins = by_shape.get((array.shape, array.dtype), ())
            twin = next((e for e in twins if np.array_equal(as_bits(self.array(e)), as_bits(array))), None)
            if _kind(array.dtype) in ("integer", "boolean"):
                if self.exported:
                    self.fixed[entry] = digest(array)
                elif not self._as_in_file(entry, array):
                    extra.append(entry)
            elif twin is not None:
                self.tied[entry] = twin
            elif not self._as_in_file(entry, array, default=False):
                extra.append(entry)
        self._explain(extra)

    def _as_in_file(self, entry: str, array: np.ndarray, default: bool = True) -> bool:
        """Whether the file has the entry as a constant of this value; `default` if it does not have the name."""
        graphs = () if self.graph.model is None else self.graph.model.graphs()
        found = [v.const_value for g in graphs if (v := g.initializers.get(entry)) is not None]
        constant = self.graph.constants.get(entry)
        arrays = [t.numpy() for t in found if t is not None] + ([] if constant is None else [constant.load()])
        return all(a.shape == array.shape and np.array_equal(a, array) for a in arrays) if arrays else default

    def _explain(self, extra: list[str]) -> None:
        """Report extra entries, those of folded normalisations apart."""
        floats = {e: self.array(e) for e in self.entries if _kind(self.array(e).dtype) == "float"}
        left = {n: np.asarray(p.load()) for n, p in self.left.items() if p.size and n in self.needed}
        norms = folded_norms(extra, floats, left if self.exported else {})
        if self.other and not self.copies and not norms:
            text = f"all {len(self.other)} tensors of equal names differ"
            raise GmncError(f"the ONNX file was not exported from {self.where}: {text}")
        self.mismatch.computed.extend(norms.values())
        for entry in extra:
            if entry.rpartition(".")[0] not in norms:
                array = self.array(entry)
                self.mismatch.extra.append(f"{entry}: {list(array.shape)} {array.dtype}")

    def finish(self, ignored: tuple[str, ...]) -> NameMap:
        """The map."""
        read = [copy.entry for copies in self.copies.values() for copy in copies]
        return NameMap(
            self.copies, {name: self.graph.parameters[name].shape for name in self.copies},
            {entry: self.array(entry).shape for entry in dict.fromkeys([*read, *self.tied, *self.fixed])},
            tuple(self.kept), self.tied, self.fixed, ignored,
        )  # fmt: skip

    def _take(self, name: str, copies: tuple[Copy, ...]) -> None:
        self.copies[name] = copies
        del self.left[name]

    def _bits(self, name: str) -> np.ndarray:
        return as_bits(np.asarray(self.graph.parameters[name].load()))

    def _pool(self, name: str) -> Pool:
        """The entries in the dtype of a parameter."""
        kind = self.graph.parameters[name].dtype
        if kind not in self._pools:
            usable = {e: self.array(e) for e in self.entries if fits(self.array(e).dtype, kind)}
            with np.errstate(over="ignore", invalid="ignore"):
                cast = {e: a if a.dtype == dtype_of(kind) else a.astype(dtype_of(kind)) for e, a in usable.items()}
            self._pools[kind] = Pool(cast)
        return self._pools[kind]
