"""Distinct values are those of NumPy, ascending, and no view of what they were taken from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from gmnc.ir.arrays import distinct


@given(arrays(st.sampled_from([np.int32, np.int64]), array_shapes(min_dims=0, min_side=0), elements=st.integers(-5, 5)))
def test_as_numpy_has_them(numbers: np.ndarray) -> None:
    found = distinct(numbers)
    assert found.dtype == numbers.dtype
    assert np.array_equal(found, np.unique(numbers))


@pytest.mark.parametrize("numbers", [[1, 2, 3], [3, 2, 3]], ids=["ascending", "not"])
def test_no_view(numbers: list[int]) -> None:
    given = np.array(numbers)
    assert not np.shares_memory(distinct(given), given)
