"""Torch networks through three exporters: every parameter is one edge, nothing is opaque, the graphs are isomorphic."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from support.exports import Compiled, How, by_export, by_network, exported
from support.networks import NETWORKS, expected_edges

import gmnc
from gmnc.symmetry import isomorphic
from gmnc.testing import assert_same_up_to_symmetry

FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16}

# What the optimizing exporter does to parameters, so that its graph is another one: convolution and BatchNorm merged;
# the head's transposed copy no longer tied; the gathered bias table spelled out; attention among queries computed.
REWRITTEN = {
    "resnet": "BatchNorm folded",
    "squeeze_excite": "BatchNorm folded",
    "shufflenet": "BatchNorm folded",
    "llama": "tie lost",
    "llama_computed": "tie lost",
    "swin": "bias table gathered",
    "decoder": "queries computed",
}
# the same network at operator sets where activations and norms come as operators, and where they are written out
OPSETS: dict[str, list[tuple[How, int]]] = {
    "vit": [("torchscript", 14), ("torchscript", 20), ("dynamo", 18), ("dynamo", 23), ("dynamo-optimized", 18)],
    "gpt": [("torchscript", 14), ("torchscript", 20), ("dynamo", 18), ("dynamo", 23), ("dynamo-optimized", 23)],
    "llama": [("torchscript", 14)],
    "groupnorm": [("torchscript", 14), ("dynamo", 18), ("dynamo", 23), ("dynamo-optimized", 23)],
    "mixer": [("torchscript", 14), ("torchscript", 20)],
    "convnext": [("torchscript", 14), ("dynamo", 18)],
}


def float_elements(model: onnx.ModelProto) -> int:
    return sum(int(np.prod(t.dims)) for t in model.graph.initializer if t.data_type in FLOATS)


@pytest.mark.parametrize(("name", "how"), by_export())
def test_every_parameter_is_one_edge(name: str, how: How, compiled: Compiled) -> None:
    graph = compiled(name, how)
    graph.check()
    assert graph.opaque == ()
    assert not graph.unsupported
    assert graph.num_parameters == (
        graph.num_parameter_edges + sum(graph.not_parameters().values()) + graph.num_opaque_parameters
    )
    if how == "dynamo-optimized" and name in REWRITTEN:
        kept = float_elements(exported(name, how)) - sum(graph.not_parameters().values())
        assert graph.num_parameter_edges == kept
    else:
        assert graph.num_parameter_edges == expected_edges(NETWORKS[name]()[0])


@pytest.mark.full
@pytest.mark.parametrize("name", by_network())
def test_plain_exporters_agree(name: str, compiled: Compiled) -> None:
    assert_same_up_to_symmetry(compiled(name, "dynamo"), compiled(name, "torchscript"))


@pytest.mark.full
@pytest.mark.parametrize("name", by_network(name for name in NETWORKS if name not in REWRITTEN))
def test_optimizing_exporter_agrees(name: str, compiled: Compiled) -> None:
    assert_same_up_to_symmetry(compiled(name, "dynamo"), compiled(name, "dynamo-optimized"))


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "how", "opset"), [(name, how, opset) for name, cases in OPSETS.items() for how, opset in cases]
)
def test_operator_sets_agree(name: str, how: How, opset: int, compiled: Compiled) -> None:
    assert_same_up_to_symmetry(compiled(name, "dynamo"), compiled(name, how, opset))


@pytest.mark.parametrize("name", by_network(["resnet", "vit", "llama"]))
def test_values_tell_graphs_apart(name: str, compiled: Compiled) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(exported(name, "dynamo"))
    tensor = max((t for t in model.graph.initializer if t.data_type in FLOATS), key=lambda t: np.prod(t.dims))
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.reshape(-1)[0] += 0.5
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    changed = gmnc.compile(model)
    alike, equal = (isomorphic(compiled(name, "dynamo"), changed, values=v) for v in (False, True))
    assert alike
    assert not equal
