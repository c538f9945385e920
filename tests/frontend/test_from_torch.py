"""`from_torch` and the onnx-ir pass: two more ways into the compiler."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir
import pytest
import torch
from support.tiers import first

import gmnc
from gmnc.frontend.reading.load import load
from gmnc.ir import LoadError


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


def _values(graph: gmnc.ParameterGraph) -> dict[str, np.ndarray]:
    return {name: np.array(p.load()) for name, p in graph.parameters.items()}


def _train(module: torch.nn.Module, inputs: torch.Tensor) -> None:
    """One step that changes every parameter and every statistic, in place."""
    module.train()
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0, weight_decay=0.5)
    module(inputs).square().sum().backward()
    optimizer.step()


def _differ(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> set[str]:
    return {name for name in one if not np.array_equal(one[name], other[name])}


@pytest.mark.parametrize("dtype", first(1, [torch.bfloat16, torch.float32]))
def test_training_goes_on_and_the_graph_keeps_its_values(dtype: torch.dtype) -> None:
    module = _Net().to(dtype)
    inputs = torch.randn(4, 2, dtype=dtype)
    graph, live = (gmnc.from_torch(module, inputs, copy=copy) for copy in (True, False))
    before, mark = _values(graph), gmnc.fingerprint(graph)
    assert not _differ(before, _values(live))
    _train(module, inputs)
    assert not _differ(before, _values(graph))
    assert gmnc.fingerprint(graph) == mark
    # The norm's bias may have no gradient to speak of, but all else has moved.
    assert {"first.weight", "last.weight", "norm.running_mean"} <= _differ(before, _values(live))
    written = {v.name: v.const_value.numpy() for v in gmnc.backends.onnx.write(graph).graph.initializers.values()}
    assert all(np.array_equal(written[name], value) for name, value in before.items())


def test_a_snapshot_holds_a_tied_weight_once() -> None:
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = torch.nn.Embedding(1000, 64)
            self.head = torch.nn.Linear(64, 1000, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.tanh(self.embed(x)))

    graph = gmnc.from_torch(Tied(), torch.zeros(1, 3, dtype=torch.int64))
    arrays = [p.load() for p in graph.parameters.values() if p.size == 64_000]
    assert all(np.shares_memory(arrays[0], other) for other in arrays)


def test_a_module_without_values_has_a_graph() -> None:
    with torch.device("meta"):
        module = _Net()
    graph = gmnc.from_torch(module, torch.ones(4, 2, device="meta"))
    assert graph.num_parameter_edges == gmnc.from_torch(_Net(), torch.ones(4, 2)).num_parameter_edges


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


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(LoadError, match=r"a torch\.nn\.Module is needed, not a value of type int"):
        gmnc.from_torch(3, torch.zeros(1))  # type: ignore[arg-type]
