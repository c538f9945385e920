"""What is left of arrays."""

from __future__ import annotations

import numpy as np
import onnx_ir
import pytest

from gmnc.transforms.pruning.cuts import Uncuttable, cut_of
from gmnc.transforms.pruning.step import Cuts, Step
from gmnc.transforms.pruning.stored import StoredCuts


def test_a_box_keeps_indices() -> None:
    cut = cut_of(np.array([[False], [True], [False]]), (3, 4))
    assert cut.new == (2, 4)
    np.testing.assert_array_equal(cut.apply(np.arange(12).reshape(3, 4)), [[0, 1, 2, 3], [8, 9, 10, 11]])


def test_other_features_may_go_from_each_head() -> None:
    removed = np.array([[True, False, False], [False, False, True]])
    cut = cut_of(removed, (2, 3))
    assert (cut.new, cut.ragged) == ((2, 2), {1})
    np.testing.assert_array_equal(cut.apply(np.arange(6).reshape(2, 3)), [[1, 2], [3, 4]])
    with pytest.raises(Uncuttable):
        cut.indices(1)


def test_heads_and_features_may_go_together() -> None:
    removed = np.array([[True, False, False], [True, True, True], [False, False, True]])
    cut = cut_of(removed, (3, 3))
    assert cut.new == (2, 2)
    np.testing.assert_array_equal(cut.apply(np.arange(9).reshape(3, 3)), [[1, 2], [6, 7]])


def test_states_and_gates_of_two_directions_may_differ() -> None:
    """Recurrent weights [directions, gates, states] lose other rows and columns in each direction."""
    removed = np.zeros((2, 4, 2), bool)
    removed[0, :, 0] = removed[0, [0, 2]] = removed[1, :, 1] = removed[1, [1, 3]] = True
    cut = cut_of(removed, (2, 4, 2))
    assert (cut.new, cut.ragged) == ((2, 2, 1), {1, 2})
    np.testing.assert_array_equal(cut.apply(np.arange(16).reshape(2, 4, 2)).reshape(2, 2), [[3, 7], [8, 12]])


def test_what_has_no_shape_is_refused() -> None:
    with pytest.raises(Uncuttable):
        cut_of(np.array([[True, False], [False, False]]), (2, 2))


def test_an_operand_that_is_left_out_is_named() -> None:
    value = onnx_ir.Value(name="x")
    node = onnx_ir.Node("", "OneHot", [value, None])
    none = np.zeros(0, np.int64)
    cuts = Cuts(onnx_ir.Graph([value], [], nodes=[node]), 21, {}, {}, none > 0, none, StoredCuts())
    step = Step(cuts, node, [None, None], [None])
    assert step.required(0) is value
    for index in (1, 2):
        with pytest.raises(Uncuttable, match=f"operand {index} is left out"):
            step.required(index)
