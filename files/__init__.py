"""Files: read without being trusted or copied, written whole or not at all.

* `reading`: files that stay memory-mapped and must not change meanwhile; paths that must stay in their folder.
* `writing`: every file that the package writes.
* `tensors`: files of named tensors, as training leaves them; `npz` reads one kind.
* `fields`: checks of JSON from files of others.
"""

from .reading import FileState, MappedFile, inside
from .tensors import read_tensors
from .writing import make_folder, replacing, sweep, target, write_bytes, write_json

__all__ = [
    "FileState",
    "MappedFile",
    "inside",
    "make_folder",
    "read_tensors",
    "replacing",
    "sweep",
    "target",
    "write_bytes",
    "write_json",
]
