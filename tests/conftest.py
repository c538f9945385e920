"""What any test may ask for by name, and how many threads it may use."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.exports import Compiled

if "PYTEST_XDIST_WORKER" in os.environ:
    # There is a worker for each core: more threads wait for each other. Torch reads this when it is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def compiled() -> Compiled:
    """`compiled(name, how)`: the graph of a network of the zoo through one exporter, made once in each process."""
    from support.exports import compiled

    return compiled
