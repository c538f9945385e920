"""What a torch user has at hand as new values: state dicts, tensors that require a gradient, of any type and place."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from support.tiers import first

import gmnc
from gmnc.backends.blocks import blocks
from gmnc.backends.onnx import write
from gmnc.ir import GmncError, ParameterGraph


class Net(torch.nn.Module):
    """Its state holds floats that have edges, a counter, indices and a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(2, 3)
        self.norm = torch.nn.BatchNorm1d(3)
        self.last = torch.nn.Linear(3, 1)
        self.register_buffer("order", torch.tensor([1, 0]))
        self.register_buffer("mask", torch.tensor([[True, True], [True, False]]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x[:, self.order].masked_fill(~self.mask, 0.0)
        return self.last(torch.relu(self.norm(self.first(x))))


@cache
def make(dtype: torch.dtype = torch.float32) -> tuple[Net, ParameterGraph]:
    module = Net().to(dtype)
    return module, gmnc.from_torch(module, torch.ones(2, 2, dtype=dtype))


def other(module: Net) -> dict[str, torch.Tensor]:
    """The state of a module like this one after training: its counter has moved on."""
    state = {n: torch.rand_like(t) if t.is_floating_point() else t.clone() for n, t in module.state_dict().items()}
    state["norm.num_batches_tracked"] += 17
    return state


def written(graph: ParameterGraph, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {v.name: v.const_value.numpy() for v in write(graph, values).graph.initializers.values()}


@pytest.mark.parametrize("dtype", first(1, [torch.bfloat16, torch.float16, torch.float32, torch.float64]))
def test_a_state_dict_is_taken_as_it_is(dtype: torch.dtype) -> None:
    module, graph = make(dtype)
    state = other(module)
    changed = blocks(graph).with_values(state)
    assert changed.values.dtype == dtype
    new = written(graph, state)
    for segment in changed.segments:
        assert torch.equal(
            changed.values[segment.start : segment.start + segment.size].reshape(segment.shape), state[segment.name]
        )
        assert new[segment.name].tobytes() == state[segment.name].view(torch.uint8).numpy().tobytes()
    assert {segment.name for segment in changed.segments} == {n for n, t in state.items() if t.is_floating_point()}


def test_parameters_that_require_a_gradient_are_written_without_it() -> None:
    module, graph = make()
    module.zero_grad()
    values = {name: p * 2 for name, p in module.named_parameters()}
    assert all(v.requires_grad for v in values.values())
    new = written(graph, values)
    assert all(np.array_equal(new[name], v.detach().numpy()) for name, v in values.items())
    changed = blocks(graph).with_values(values)
    changed.values.sum().backward()
    assert all(torch.equal(p.grad, torch.full_like(p, 2.0)) for p in module.parameters()), "blocks stay differentiable"


def test_indices_that_the_model_holds_cannot_be_changed_in_silence() -> None:
    module, graph = make()
    state = other(module)
    state["order"] = torch.tensor([0, 1])
    with pytest.raises(GmncError, match="'order'"):
        write(graph, state)


@pytest.mark.parametrize("values", [
    {"frist.weight": torch.zeros(3, 2)},
    {"first.weight": torch.zeros(3, 2), "frist.bias": torch.zeros(3)},
    {"frist.weight": torch.zeros(3, 2, dtype=torch.int64)},
])  # fmt: skip
def test_a_name_that_is_mistaken_is_an_error(values: dict[str, torch.Tensor]) -> None:
    _, graph = make()
    for take in (blocks(graph).with_values, lambda v: write(graph, v)):
        with pytest.raises(GmncError, match="frist"):
            take(values)


@pytest.mark.parametrize("kind", [
    np.float16, np.float64, np.int8, np.int64, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.int4,
])  # fmt: skip
def test_arrays_of_every_type_are_values_of_blocks(kind: type) -> None:
    _, graph = make()
    array = np.array([[1, -2], [3, 0], [2, -1]]).astype(kind)
    array.flags.writeable = False
    changed = blocks(graph).with_values({"first.weight": array})
    segment = next(s for s in changed.segments if s.name == "first.weight")
    assert changed.values[segment.start : segment.start + segment.size].tolist() == [1, -2, 3, 0, 2, -1]


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float64])
def test_tensors_of_every_float_type_are_written(kind: torch.dtype) -> None:
    _, graph = make()
    value = torch.tensor([[1, -2], [3, 0], [2, -1]], dtype=torch.float32).to(kind)
    assert written(graph, {"first.weight": value})["first.weight"].tolist() == [[1, -2], [3, 0], [2, -1]]
    assert written(graph, {"first.weight": value.T.contiguous().T})["first.weight"].tolist() == value.tolist()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(3, 2, device="meta"), "meta"),
        (torch.zeros(3, 2).to_sparse(), "sparse"),
        (torch.zeros(3, 2, dtype=torch.complex64), "complex64"),
        (np.zeros((3, 2), dtype=np.complex64), "complex64"),
        ("many", "holds no numbers"),
        (None, "holds no numbers"),
        ([[1.0], [2.0, 3.0]], "inhomogeneous"),
    ],
)
def test_what_has_no_numbers_of_this_kind_is_refused(value: Any, message: str) -> None:
    _, graph = make()
    for take in (blocks(graph).with_values, lambda v: write(graph, v)):
        with pytest.raises(GmncError, match=f"'first.weight'.*{message}"):
            take({"first.weight": value})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_values_on_a_gpu() -> None:
    module, graph = make()
    state = {n: t.cuda() for n, t in other(module).items()}
    there = {n: t.cpu() for n, t in state.items()}
    new = written(graph, state)
    assert all(np.array_equal(new[s.name], there[s.name].numpy()) for s in blocks(graph).segments)
    assert torch.equal(blocks(graph).with_values(state).values, blocks(graph).with_values(there).values)
    on_gpu = blocks(graph).to("cuda")
    assert torch.equal(on_gpu.with_values(there).values, on_gpu.with_values(state).values)
