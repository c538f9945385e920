"""Files: read without being trusted or copied, written whole or not at all.

* `reading`: files that stay memory-mapped and must not change meanwhile; paths that must stay in their folder.
* `writing`: every file that the package writes.
* `fields`: checks of JSON from files of others.
"""

from .reading import FileState, MappedFile, inside
from .writing import make_folder, replacing, sweep, target, write_bytes, write_json

__all__ = [
    "FileState",
    "MappedFile",
    "inside",
    "make_folder",
    "replacing",
    "sweep",
    "target",
    "write_bytes",
    "write_json",
]
