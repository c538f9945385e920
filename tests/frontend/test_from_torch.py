"""`from_torch` and the onnx-ir pass: two more ways into the compiler."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir
import pytest
import torch

import gmnc
from gmnc.frontend.reading.load import load


class _Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(2, 3)
        self.norm = torch.nn.BatchNorm1d(3)
        self.last = torch.nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.norm(self.first(x))))


def test_every_parameter_by_its_name() -> None:
    module = _Net()
    graph = gmnc.from_torch(module, torch.ones(4, 2))
    expected = dict(module.named_parameters()) | dict(module.named_buffers())
    expected.pop("norm.num_batches_tracked")
    assert {b.view.name for b in graph.edges} == set(expected)
    assert graph.num_parameter_edges == sum(t.numel() for t in expected.values())
    for block in graph.edges:
        stored = graph.parameters[block.view.name].load()
        np.testing.assert_array_equal(stored, expected[block.view.name].detach().numpy())


def test_the_module_keeps_its_mode() -> None:
    module = _Net().train()
    module.first.eval()
    gmnc.from_torch(module, (torch.ones(4, 2),))
    assert (module.training, module.first.training, module.norm.training) == (True, False, True)


def test_what_torch_cannot_export_is_a_load_error() -> None:
    class Branching(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if x.sum() > 0 else x

    with pytest.raises(gmnc.GmncError, match="Branching"):
        gmnc.from_torch(Branching(), torch.ones(2))


def test_the_pass_leaves_the_model_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    torch.onnx.export(_Net().eval(), (torch.ones(4, 2),), path, dynamo=True, optimize=False, verbose=False)
    model = load(path)
    before = onnx_ir.to_proto(model).SerializeToString()
    lower = gmnc.LowerToParameterGraph(inputs={model.graph.inputs[0].name: (4, 2)})
    result = onnx_ir.passes.Sequential(lower)(model)
    assert result.model is model
    assert not result.modified
    assert onnx_ir.to_proto(model).SerializeToString() == before
    direct = lower(model)
    assert lower.graph is direct.graph
    assert direct.graph.num_parameter_edges == gmnc.compile(path).num_parameter_edges
