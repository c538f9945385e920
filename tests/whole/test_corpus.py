"""Networks made by others: nothing opaque, and every parameter accounted for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.corpus import CORPUS, FOLDER, LIGHT, corpus_file
from support.tiers import first

import gmnc
from gmnc.ir import ParameterGraph

NONE = {"scalar literal", "threshold of a leaf", "hit rate: no result depends on it"}
LIGHT_MODELS = [path.stem for path in LIGHT if path.stem.startswith("light_")]


def assert_understood(graph: ParameterGraph) -> None:
    graph.check()
    assert graph.opaque == ()
    assert not graph.unsupported
    assert graph.num_opaque_parameters == 0
    assert graph.num_parameters == graph.num_parameter_edges + sum(graph.not_parameters().values())


@pytest.mark.parametrize("path", first(0, CORPUS), ids=lambda p: p.stem)
def test_every_parameter_is_on_an_edge(path: Path) -> None:
    """Without a word about sizes. What has no edge is no parameter: no result depends on it, or it is the program's."""
    graph = gmnc.compile(path)
    assert_understood(graph)
    assert graph.not_parameters().keys() <= NONE
    assert graph.num_parameter_edges >= 0.999 * (graph.num_parameters - sum(graph.not_parameters().values()))


def test_a_quantised_transformer_is_on_edges() -> None:
    """Stored as int8 behind Cast and Mul; as long as its table of positions, so that all of it is read."""
    path = corpus_file("minilm_l6_int8")
    if not path.exists():
        pytest.skip(f"the corpus of real networks is not at {FOLDER}")
    graph = gmnc.compile(path)
    assert_understood(graph)
    assert graph.not_parameters() == {"scalar literal": 6}
    stored = [p for p in graph.parameters.values() if p.storage is not None]
    assert {p.storage.dtype for p in stored if p.storage is not None} == {"int8"}
    assert sum(p.size for p in stored) > 0.99 * graph.num_parameters


def weights_in_use(path: Path) -> tuple[int, int]:
    """Elements that a light model's nodes read: of its float initializers, and of the tensors of ConstantOfShape."""
    graph = onnx.load(path).graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    stored = {name: array.size for name, array in arrays.items() if array.dtype == np.float32}
    made = {n.output[0]: int(arrays[n.input[0]].prod()) for n in graph.node if n.op_type == "ConstantOfShape"}
    read = {name for node in graph.node for name in node.input}
    stored_in_use, made_in_use = (sum(n for name, n in s.items() if name in read) for s in (stored, made))
    return stored_in_use, made_in_use


def test_the_wheel_has_nine_light_models() -> None:
    assert len(LIGHT_MODELS) == 9


@pytest.mark.parametrize("name", LIGHT_MODELS)
def test_light_models(name: str) -> None:
    [path] = [p for p in LIGHT if p.stem == name]
    graph = gmnc.compile(path)
    assert_understood(graph)
    stored, made = weights_in_use(path)
    assert graph.num_parameter_edges == stored
    # Vectors of one number are in the vias, kernels and matrices are edges that carry constants.
    constants = sum(b.size for b in graph.edges if b.constant)
    assert constants <= made
    assert constants > 0.9 * made
