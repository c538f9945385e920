"""Networks made by others: nothing opaque, and every parameter accounted for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import gmnc
from gmnc.ir import ParameterGraph

CORPUS = Path(__file__).parents[2] / "shared" / "corpus"
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
FEED_FORWARD = [
    "atspm_funcnet_head",
    "basic_pitch",
    "magika",
    "qonnx_espcn_subpixel_float",
    "qonnx_mnist_conv",
    "rapidocr_cls",
    "rapidocr_det",
    "surfaces_gbr_surrogate",
    "tashkeel_rawi_int8",
    "wakeword_embedding",
]
LIGHT_MODELS = sorted(path.stem for path in LIGHT.glob("light_*.onnx"))


def assert_understood(graph: ParameterGraph) -> None:
    graph.check()
    assert graph.opaque == ()
    assert not graph.unsupported
    assert graph.num_opaque_parameters == 0
    assert graph.num_parameters == graph.num_parameter_edges + sum(graph.not_parameters().values())


@pytest.mark.parametrize("name", FEED_FORWARD)
def test_corpus(name: str) -> None:
    path = CORPUS / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"the corpus of real networks is not at {CORPUS}")
    graph = gmnc.compile(path)
    assert_understood(graph)


def test_a_quantised_transformer_is_on_edges() -> None:
    """Stored as int8 behind Cast and Mul; as long as its table of positions, so that all of it is read."""
    path = CORPUS / "minilm_l6_int8.onnx"
    if not path.exists():
        pytest.skip(f"the corpus of real networks is not at {CORPUS}")
    names = ("input_ids", "attention_mask", "token_type_ids")
    graph = gmnc.compile(path, inputs=dict.fromkeys(names, (1, 512)))
    assert_understood(graph)
    assert graph.not_parameters() == {"scalar literal": 6}
    stored = [p for p in graph.parameters.values() if p.storage is not None]
    assert {p.storage.dtype for p in stored if p.storage is not None} == {"int8"}
    assert sum(p.size for p in stored) > 0.99 * graph.num_parameters


def weights_in_use(path: Path) -> int:
    """Elements that a light model's nodes read: of its float initializers, and of tensors made by ConstantOfShape."""
    graph = onnx.load(path).graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    sizes = {name: array.size for name, array in arrays.items() if array.dtype == np.float32}
    sizes |= {n.output[0]: int(arrays[n.input[0]].prod()) for n in graph.node if n.op_type == "ConstantOfShape"}
    read = {name for node in graph.node for name in node.input}
    return sum(size for name, size in sizes.items() if name in read)


def test_the_wheel_has_nine_light_models() -> None:
    assert len(LIGHT_MODELS) == 9


@pytest.mark.parametrize("name", LIGHT_MODELS)
def test_light_models(name: str) -> None:
    path = LIGHT / f"{name}.onnx"
    graph = gmnc.compile(path)
    assert_understood(graph)
    assert graph.num_parameter_edges == weights_in_use(path)
