"""The map between the parameters of a graph and the entries of checkpoints: which elements are copied where."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from typing import Any

import numpy as np

from ...files.fields import integer, listed, mapping, one_of, read_json, row, table, text
from ...files.writing import write_json
from ...ir import GmncError, LoadError

__all__ = ["Copy", "NameMap", "row_major"]

_LARGEST = 1 << 48
_MOST_IN_PARTS = 1 << 30


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides, in elements, of a C-ordered array.

    Args:
        shape: Its shape.

    Returns:
        One stride per axis.
    """
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


@dataclass(frozen=True, slots=True)
class Copy:
    """Elements of an entry that are elements of a parameter: one strided window of each, of one shape.

    Attributes:
        entry: Name of the entry.
        shape: Shape of both windows.
        start: Flat element number, in the entry, of the first element.
        steps: Strides in elements of the window in the entry.
        to_start: The same in the parameter.
        to_steps: The same in the parameter.
    """

    entry: str
    shape: tuple[int, ...]
    start: int
    steps: tuple[int, ...]
    to_start: int
    to_steps: tuple[int, ...]

    @staticmethod
    def whole(entry: str, shape: tuple[int, ...]) -> Copy:
        """All elements, in the same order.

        Args:
            entry: Name of the entry.
            shape: Shape of the parameter.

        Returns:
            The copy.
        """
        return Copy(entry, shape, 0, row_major(shape), 0, row_major(shape))

    def read(self, entry: np.ndarray) -> np.ndarray:
        """The window in an entry.

        Args:
            entry: Of any shape, in C order.

        Returns:
            A view of `shape`.
        """
        return _window(entry, self.shape, self.start, self.steps)

    def place(self, parameter: np.ndarray) -> np.ndarray:
        """The window in a parameter.

        Args:
            parameter: Of any shape, in C order.

        Returns:
            A view of `shape`.
        """
        return _window(parameter, self.shape, self.to_start, self.to_steps)

    def fills(self, shape: tuple[int, ...]) -> bool:
        """Whether the window is the whole parameter in its order.

        Args:
            shape: Shape of the parameter.

        Returns:
            Whether it is.
        """
        return self.shape == shape and self.to_start == 0 and self.to_steps == row_major(shape)


def _window(array: np.ndarray, shape: tuple[int, ...], start: int, steps: tuple[int, ...]) -> np.ndarray:
    flat = array.reshape(-1)
    strides = tuple(s * flat.itemsize for s in steps)
    return np.lib.stride_tricks.as_strided(flat[start:], shape, strides, writeable=flat.flags.writeable)


@dataclass(frozen=True, slots=True)
class NameMap:
    """How the parameters of one architecture are found in its checkpoints.

    Attributes:
        parameters: The copies that make up each parameter, by its name.
        shapes: Shape of each of these parameters.
        entries: Shape of each entry that is read, by its name.
        kept: Parameters that keep the value of the ONNX file: numbers of the program.
        tied: Entries that the file does not hold, and the entry that each must equal in every checkpoint.
        fixed: Digests of integer and boolean entries that the file does not hold but may have been computed from, which
            must be the same in every checkpoint.
        ignored: Patterns (`fnmatch`) of entries that may be there and are not read.
    """

    parameters: Mapping[str, tuple[Copy, ...]]
    shapes: Mapping[str, tuple[int, ...]]
    entries: Mapping[str, tuple[int, ...]]
    kept: tuple[str, ...] = ()
    tied: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    def read(self, name: str, entries: Mapping[str, np.ndarray]) -> np.ndarray:
        """A parameter's values.

        Args:
            name: Its name.
            entries: Arrays by name, of the shapes in `entries`.

        Returns:
            An array of the parameter's shape and the entries' dtype; a view where one entry holds all of it.
        """
        copies, shape = self.parameters[name], self.shapes[name]
        if len(copies) == 1 and copies[0].fills(shape):
            only = copies[0]
            plain = only.start == 0 and only.steps == only.to_steps and entries[only.entry].size == math.prod(shape)
            return entries[only.entry].reshape(shape) if plain else only.read(entries[only.entry])
        made = np.empty(shape, np.result_type(*{entries[c.entry].dtype for c in copies}))
        for copy in copies:
            copy.place(made)[...] = copy.read(entries[copy.entry])
        return made

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the map as JSON.

        Args:
            path: The file.

        Raises:
            GmncError: It cannot be written.
        """
        write_json(path, {
            "gmnc": "names", "version": 1,
            "parameters": {
                name: [self.shapes[name], [astuple(copy) for copy in copies]]
                for name, copies in self.parameters.items()
            },
            "entries": dict(self.entries), "kept": self.kept, "tied": dict(self.tied), "fixed": dict(self.fixed),
            "ignored": self.ignored,
        })  # fmt: skip

    @staticmethod
    def load(path: str | os.PathLike[str]) -> NameMap:
        """Read a map that `save` wrote.

        Args:
            path: The file.

        Returns:
            The map.

        Raises:
            LoadError: The file is missing, damaged, or no such map.
        """
        found = read_json(path, _SCHEMA)
        parameters = {
            name: tuple(Copy(e, tuple(s), a, tuple(b), c, tuple(d)) for e, s, a, b, c, d in copies)
            for name, (_, copies) in found["parameters"].items()
        }
        made = NameMap(
            parameters, {name: tuple(shape) for name, (shape, _) in found["parameters"].items()},
            {name: tuple(shape) for name, shape in found["entries"].items()}, tuple(found["kept"]), found["tied"],
            found["fixed"], tuple(found["ignored"]),
        )  # fmt: skip
        try:
            made.check()
        except GmncError as error:
            raise LoadError(f"{path}: {error}; the file is damaged, make the map again") from error
        return made

    def check(self) -> None:
        """Verify that all windows are inside their tensors, and that each element of a parameter is copied once.

        Raises:
            GmncError: naming the parameter.
        """
        for name, copies in self.parameters.items():
            sizes = {c.entry: math.prod(self.entries.get(c.entry, (0,))) for c in copies}
            own = math.prod(self.shapes[name])
            inside = all(
                _inside(c.shape, c.start, c.steps, sizes[c.entry]) and _inside(c.shape, c.to_start, c.to_steps, own)
                for c in copies
            )
            if not inside or sum(math.prod(c.shape) for c in copies) != own:
                raise GmncError(f"the copies of {name!r} do not fit its {own} elements")
            if len(copies) == 1 and copies[0].fills(self.shapes[name]):
                continue
            if own > _MOST_IN_PARTS:
                raise GmncError(f"{name!r} has {own} elements, the limit for a tensor in parts is {_MOST_IN_PARTS}")
            seen = np.zeros(own, dtype=bool)
            for copy in copies:
                copy.place(seen)[...] = True
            if not seen.all():
                raise GmncError(f"the copies of {name!r} leave elements out")


def _inside(shape: tuple[int, ...], start: int, steps: tuple[int, ...], size: int) -> bool:
    """Whether a window lies within `size` elements; one without elements does."""
    if len(shape) != len(steps):
        return False
    if 0 in shape:
        return start <= size
    reach = [(n - 1) * s for n, s in zip(shape, steps, strict=True)]
    return start + sum(r for r in reach if r < 0) >= 0 and start + sum(r for r in reach if r > 0) < size


_size = integer(most=_LARGEST)
_step = integer(-_LARGEST, _LARGEST)
_sizes = listed(_size, most=32)
_steps = listed(_step, most=32)
_copy = row(text, _sizes, _size, _steps, _size, _steps)
_SCHEMA: Any = table(
    {
        "gmnc": one_of("names"),
        "version": integer(1, 1),
        "parameters": mapping(row(_sizes, listed(_copy))),
        "entries": mapping(_sizes),
        "kept": listed(text),
        "tied": mapping(text),
        "fixed": mapping(text),
        "ignored": listed(text),
    }
)
