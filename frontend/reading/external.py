"""External data: files beside a model, which may not lie outside of its folder."""

from __future__ import annotations

import os

import onnx_ir as ir

from ...ir.errors import LoadError

__all__ = ["ExternalFiles"]


class ExternalFiles:
    """Checks external tensors against the files that hold them, and sets the folder that they are read from.

    where: the model, for messages. folder: the model's folder; "" where it has none (a model in memory);
    None to trust the folder that each tensor carries.
    """

    def __init__(self, where: str, folder: str | None) -> None:
        self.where = where
        self.folder = folder
        self._sizes: dict[tuple[str, str], int] = {}

    def check(self, tensor: ir.ExternalTensor) -> None:
        """Raise `LoadError` unless the tensor's bytes are there; point the tensor at its folder."""
        if self.folder == "":
            raise LoadError(
                f"{self.where}: tensor {tensor.name!r} lies in {os.fspath(tensor.location)!r}, but a model in memory "
                "has no folder; pass the path of the .onnx file, or load the external data first"
            )
        if self.folder is not None:
            tensor.base_dir = self.folder
        folder, location = os.fspath(tensor.base_dir), os.fspath(tensor.location)
        if isinstance(location, bytes):
            raise LoadError(f"{self.where}: tensor {tensor.name!r}: its file's name {location!r} is not text")
        size = self._sizes.get((folder, location))
        if size is None:
            size = self._sizes[folder, location] = self._size(tensor.name, folder, location)
        offset = tensor.offset or 0
        length = tensor.nbytes if tensor.length is None else tensor.length
        if length < tensor.nbytes:
            raise LoadError(
                f"{self.where}: tensor {tensor.name!r} has {length} bytes of external data, "
                f"its shape {list(tensor.shape)} of {tensor.dtype} needs {tensor.nbytes}"
            )
        if offset < 0 or length < 0:
            raise LoadError(
                f"{self.where}: tensor {tensor.name!r} lies at byte {offset}, {length} long, which cannot be; "
                "the file is damaged, export it again"
            )
        if offset + length > size:
            raise LoadError(
                f"{self.where}: tensor {tensor.name!r} ends at byte {offset + length} of external data file "
                f"{location!r}, which has {size}; the file is truncated or belongs to another model"
            )

    def _size(self, name: str, folder: str, location: str) -> int:
        """Bytes of a data file that exists and lies in the folder, symbolic links followed."""
        what = f"{self.where}: tensor {name!r}: external data file {location!r}"
        if not location:
            raise LoadError(f"{self.where}: tensor {name!r} is external, but names no file")
        if folder:
            base = os.path.realpath(folder)
            inside = os.path.normpath(os.path.join(base, location))
            real = os.path.realpath(inside)
            if os.path.isabs(location) or not _within(inside, base) or not _within(real, base):
                raise LoadError(f"{what} is outside of the model's folder; move it beside the model")
        path = os.path.join(folder, location)
        if not os.path.isfile(path):
            raise LoadError(f"{what} is missing; keep it beside the model")
        status = os.stat(path)
        if folder and status.st_nlink > 1:
            raise LoadError(f"{what} has several hard links, which onnx-ir refuses to map; copy the file")
        return status.st_size


def _within(path: str, base: str) -> bool:
    return os.path.commonpath([path, base]) == base
