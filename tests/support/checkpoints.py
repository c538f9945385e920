"""Networks and their states, for tests of checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import onnx
import onnxruntime
import torch
from support.networks import NETWORKS, randomise
from torch import nn

import gmnc
from gmnc.ir import ParameterGraph

COMPUTED = {"resnet", "squeeze_excite", "shufflenet", "llama_computed", "decoder"}
"""Networks of which `dynamo-optimized` stores functions of several entries."""


State = dict[str, torch.Tensor]


def states(name: str) -> tuple[nn.Module, tuple[torch.Tensor, ...], State, State]:
    """A network of the zoo, which has the second of two states: that which was exported, and another one."""
    module, inputs = NETWORKS[name]()
    before = {n: t.clone() for n, t in module.state_dict().items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        randomise(module)
    return module, inputs, before, module.state_dict()


def outputs(model: bytes, inputs: tuple[torch.Tensor, ...]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    given = zip(session.get_inputs(), inputs, strict=True)
    return session.run(None, {i.name: x.numpy() for i, x in given})


class Net(nn.Module):
    """A tied weight, a buffer that no state has, a counter, a learned number."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(7, 4)
        self.norm = nn.BatchNorm1d(5)
        self.scale = nn.Parameter(torch.tensor(0.7))
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.tokens.weight
        self.register_buffer("table", torch.rand(5, 4), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.norm(self.tokens(x) + self.table) * self.scale))


IDS = torch.arange(5)[None]


@cache
def net() -> tuple[Net, ParameterGraph]:
    torch.manual_seed(0)
    module = Net().eval()
    return module, gmnc.from_torch(module, IDS)


def changed(module: nn.Module) -> State:
    """Another state of a module, in which tensors that were one still are."""
    made: dict[int, torch.Tensor] = {}
    return {
        n: made.setdefault(t.data_ptr(), torch.rand_like(t) + 0.5 if t.is_floating_point() else t + 3)
        for n, t in module.state_dict().items()
    }


def wrapped(prefix: str) -> Callable[[State], State]:
    return lambda state: {f"{prefix}{name}": value for name, value in state.items()}


class Wide(nn.Module):
    """Integers that the network reads, an unused head, and rows of a table that are not read."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Embedding(32, 6)
        self.rnn = nn.LSTM(6, 5, batch_first=True, bidirectional=True)
        self.q, self.k, self.v = (nn.Linear(10, 10, bias=False) for _ in range(3))
        self.aux = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.rnn(x + self.positions(torch.arange(4)))[0]
        packed = nn.functional.linear(x, torch.cat([self.q.weight, self.k.weight, self.v.weight]))
        q, k, v = packed.split(10, -1)
        return torch.softmax(q @ k.transpose(-1, -2), -1) @ v


def renamed(tensors: dict[str, np.ndarray]) -> ParameterGraph:
    """A perceptron of two layers whose weights are stored transposed under names of an exporter."""
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "val_1"], ["a"]), onnx.helper.make_node("Add", ["a", "val_2"], ["b"]),
        onnx.helper.make_node("Relu", ["b"], ["c"]), onnx.helper.make_node("MatMul", ["c", "val_3"], ["d"]),
        onnx.helper.make_node("Add", ["d", "val_4"], ["y"]),
    ]  # fmt: skip
    value = onnx.helper.make_tensor_value_info
    held = [onnx.numpy_helper.from_array(np.ascontiguousarray(a), n) for n, a in tensors.items()]
    ends = [[value(n, 1, [2, k])] for n, k in (("x", 4), ("y", 4))]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "g", *ends, held), opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9
    )
    return gmnc.compile(model)


def layers(zero_bias: bool = False, square: bool = False, ones: bool = False) -> tuple[State, ParameterGraph]:
    torch.manual_seed(2)
    hidden = 4 if square else 5
    state = {
        "a.weight": torch.randn(hidden, 4), "a.bias": torch.randn(hidden), "b.weight": torch.randn(4, hidden),
        "b.bias": torch.randn(4),
    }  # fmt: skip
    if zero_bias:
        state |= {"a.bias": torch.zeros(hidden), "b.bias": torch.zeros(4)}
    if ones:
        state["a.weight"] = torch.eye(4)
    pairs = {
        "val_1": state["a.weight"].T,
        "val_2": state["a.bias"],
        "val_3": state["b.weight"].T,
        "val_4": state["b.bias"],
    }
    return state, renamed({n: t.numpy() for n, t in pairs.items()})
