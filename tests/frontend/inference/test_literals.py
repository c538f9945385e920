"""One-element constants: numbers of the program against learned scalars, as exporters name them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir
import pytest
import torch
from support.corpus import CORPUS, corpus_file

import gmnc
from gmnc.frontend.inference.literals import is_literal
from gmnc.frontend.reading.load import load
from gmnc.frontend.rewriting.normalise import normalise


class _Scaled(torch.nn.Module):
    """A learned temperature, a literal, and a bias of one element."""

    def __init__(self) -> None:
        super().__init__()
        self.t = torch.nn.Parameter(torch.tensor(0.7))
        self.alpha = torch.nn.Parameter(torch.tensor([0.3]))
        self.dense = torch.nn.Linear(3, 1)
        torch.nn.init.constant_(self.dense.bias, 0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.dense(x) * self.t + 0.25) ** 2.5 * self.alpha


@pytest.mark.parametrize("exporter", ["dynamo", "dynamo optimised", "torchscript"])
def test_what_torch_exports(exporter: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    options = {"dynamo": exporter != "torchscript"} | ({"optimize": "opt" in exporter} if "dynamo" in exporter else {})
    torch.onnx.export(_Scaled().eval(), (torch.ones(2, 3),), path, verbose=False, **options)
    graph = normalise(load(path)).graph
    ones = [v for v in graph.initializers.values() if v.dtype == onnx_ir.DataType.FLOAT and v.const_value.size == 1]
    learned = sorted(float(v.const_value.numpy().reshape(-1)[0]) for v in ones if not is_literal(v))
    literals = {float(v.const_value.numpy().reshape(-1)[0]) for v in ones if is_literal(v)}
    assert np.allclose(learned, [0.1, 0.3, 0.7])
    assert literals == {0.25, 2.5}


def _value(name: str, shape: list[int], op: str = "Mul", slot: int = 1) -> onnx_ir.Value:
    value = onnx_ir.Value(name=name, const_value=onnx_ir.Tensor(np.ones(shape, np.float32), name=name))
    inputs: list[onnx_ir.Value | None] = [None] * slot + [value]
    onnx_ir.Node("", op, inputs)
    return value


@pytest.mark.parametrize(
    "name", ["val_12", "/a/Constant_3_output_0", "const_fold_opt__41", "m/add/y:0", "helper.constant.7"]
)
def test_made_up_names(name: str) -> None:
    assert is_literal(_value(name, []))
    assert is_literal(_value(name, [1]))
    assert not is_literal(_value(name, [2]))
    assert not is_literal(_value(name, [1], "Conv", 2))


@pytest.mark.parametrize(
    "name",
    [
        "t",
        "alpha",
        "y",
        "scale",
        "blocks.0.gamma",
        "logit_scale",
        "const_gain",
        "onnx::MatMul_147",
        "m/conv/BiasAdd/ReadVariableOp:0",
    ],
)
def test_names_of_modules(name: str) -> None:
    assert not is_literal(_value(name, []))


@pytest.mark.skipif(not CORPUS, reason="the networks of the corpus are not there")
def test_networks_made_by_others() -> None:
    def ones(name: str) -> dict[str, bool]:
        graph = normalise(load(corpus_file(name))).graph
        values = graph.initializers.values()
        return {
            str(v.name): is_literal(v) for v in values if v.const_value.size == 1 and v.dtype == onnx_ir.DataType.FLOAT
        }

    assert all(ones("magika").values())
    assert not ones("surfaces_gbr_surrogate")["intercepts2"]
    pitch = ones("basic_pitch")
    assert {n for n, literal in pitch.items() if literal} == {n for n in pitch if "normalized_log_1" in n}
    assert onnx.__version__


def test_what_torch_does_not_list_among_its_parameters_it_made() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Softplus(), torch.nn.Linear(5, 2)).eval()
    model = torch.onnx.export(net, (torch.randn(2, 3),), dynamo=True, verbose=False).model_proto
    assert gmnc.compile(model).num_parameter_edges == sum(p.numel() for p in net.parameters())
