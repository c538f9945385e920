"""Networks for `symmetry.py`, each in three sizes: n, 2n and 4n of whatever makes it large."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

__all__ = ["FACTORS", "LARGE", "LOWERED", "NETWORKS", "SEARCHED", "VERIFIED", "missing", "write"]

Write = Callable[[Path, int], None]
FACTORS = (1, 2, 4)


def wide(path: Path, factor: int) -> None:
    """Six layers of 4,160 neurons and more; weights are made by ConstantOfShape, so the file is small."""
    sizes = [100, *[4160 * factor] * 6, 100]
    nodes, shapes = [], []
    for i, (k, n) in enumerate(pairwise(sizes)):
        shapes.append(helper.make_tensor(f"shape{i}", TensorProto.INT64, [2], [k, n]))
        nodes += [
            helper.make_node("ConstantOfShape", [f"shape{i}"], [f"w{i}"]),
            helper.make_node("MatMul", [f"h{i}", f"w{i}"], [f"a{i}"]),
            helper.make_node("Relu", [f"a{i}"], [f"h{i + 1}"]),
        ]
    _save(path, nodes, shapes, ("h0", [1, sizes[0]]), (f"h{len(sizes) - 1}", [1, sizes[-1]]))


def unrolled(path: Path, factor: int) -> None:
    """A recurrence over 16 and more columns of an image, a node per step, all with the same two weights."""
    steps, channels, height, width = 16 * factor, 32, 4, 32
    rng = np.random.default_rng(0)
    shapes = {"A": (channels, 3, 1, 1), "W": (channels * height, width), "R": (width, width), "U": (width, 2)}
    init = [numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), n) for n, s in shapes.items()]
    init.append(numpy_helper.from_array(np.zeros((1, width), np.float32), "s0"))
    init += [numpy_helper.from_array(np.array(t), f"t{t}") for t in range(steps)]
    nodes = [helper.make_node("Conv", ["x", "A"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    for t in range(steps):
        nodes += [
            helper.make_node("Gather", ["b", f"t{t}"], [f"c{t}"], axis=3),
            helper.make_node("Flatten", [f"c{t}"], [f"f{t}"]),
            helper.make_node("MatMul", [f"f{t}", "W"], [f"g{t}"]),
            helper.make_node("MatMul", [f"s{t}", "R"], [f"r{t}"]),
            helper.make_node("Add", [f"g{t}", f"r{t}"], [f"p{t}"]),
            helper.make_node("Tanh", [f"p{t}"], [f"s{t + 1}"]),
        ]
    nodes.append(helper.make_node("MatMul", [f"s{steps}", "U"], ["y"]))
    _save(path, nodes, init, ("x", [1, 3, height, steps]), ("y", [1, 2]))


class _CRNN(nn.Module):
    """Two convolutions, then an LSTM cell in either direction over the columns, unrolled."""

    def __init__(self, steps: int, width: int = 48) -> None:
        super().__init__()
        self.steps, self.width = steps, width
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d((2, 1)),
        )  # fmt: skip
        self.forth, self.back = nn.LSTMCell(128, width), nn.LSTMCell(128, width)
        self.head = nn.Linear(2 * width, 11)

    def scan(self, cell: nn.LSTMCell, columns: list[Tensor]) -> list[Tensor]:
        hidden = state = torch.zeros(columns[0].shape[0], self.width)
        found = []
        for column in columns:
            hidden, state = cell(column, (hidden, state))
            found.append(hidden)
        return found

    def forward(self, x: Tensor) -> Tensor:
        features = self.cnn(x).permute(0, 3, 1, 2).flatten(2)
        columns = [features[:, t] for t in range(self.steps)]
        forth, back = self.scan(self.forth, columns), self.scan(self.back, columns[::-1])[::-1]
        return torch.stack([self.head(torch.cat(pair, 1)) for pair in zip(forth, back, strict=True)], 1)


def crnn(path: Path, factor: int) -> None:
    """5, 10 and 20 steps."""
    _export(path, _CRNN(5 * factor), torch.randn(1, 1, 16, 10 * factor))


def timm(name: str) -> Write:
    """A network of timm on images of 32, 64 and 128 pixels."""

    def write(path: Path, factor: int) -> None:
        models: Any = importlib.import_module("timm")
        size = 32 * factor
        _export(path, models.create_model(name, num_classes=10, img_size=size), torch.randn(1, 3, size, size))

    return write


def deepseek_v3(path: Path, factor: int) -> None:
    """A tiny DeepSeek-V3 of 2, 4 and 8 layers, which share their rotary tables."""
    transformers: Any = importlib.import_module("transformers")
    config = transformers.DeepseekV3Config(
        vocab_size=40, hidden_size=24, num_hidden_layers=2 * factor, num_attention_heads=4, num_key_value_heads=4,
        intermediate_size=40, n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=12, n_shared_experts=1,
        n_group=2, topk_group=1, first_k_dense_replace=1, kv_lora_rank=10, q_lora_rank=14, qk_nope_head_dim=6,
        qk_rope_head_dim=4, v_head_dim=5, use_cache=False,
    )  # fmt: skip
    config._experts_implementation = "batched_mm"
    _export(path, _Logits(transformers.DeepseekV3ForCausalLM(config)), torch.randint(1, 40, (1, 5)))


class _Logits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        return self.model(ids).logits


def table(path: Path, factor: int) -> None:
    """A transformer with a position table of 512, 1,024 and 2,048 rows."""
    encoder(path, 4, width=128, tokens=512 * factor)


def concat(path: Path, factor: int) -> None:
    """4,000, 8,000 and 16,000 inputs, concatenated."""
    count = 4000 * factor
    names = [f"x{i}" for i in range(count)]
    weight = np.random.default_rng(0).standard_normal((count, 4)).astype(np.float32)
    nodes = [helper.make_node("Concat", names, ["c"], axis=1), helper.make_node("MatMul", ["c", "w"], ["y"])]
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 1]) for n in names]
    _save(path, nodes, [numpy_helper.from_array(weight, "w")], inputs, ("y", [1, 4]))


def chain(path: Path, factor: int) -> None:
    """25,000, 50,000 and 100,000 nodes, one after the other."""
    count = 25_000 * factor
    weight = numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h0"])]
    nodes += [helper.make_node(("Relu", "Tanh")[i % 2], [f"h{i}"], [f"h{i + 1}"]) for i in range(count - 1)]
    _save(path, nodes, [weight], ("x", [1, 4]), (nodes[-1].output[0], [1, 4]))


def unused(path: Path, factor: int) -> None:
    """25,000, 50,000 and 100,000 initializers that nothing reads."""
    stored = [numpy_helper.from_array(np.ones(3, np.float32), f"u{i}") for i in range(25_000 * factor)]
    stored.append(numpy_helper.from_array(np.eye(4, dtype=np.float32), "w"))
    _save(path, [helper.make_node("MatMul", ["x", "w"], ["y"])], stored, ("x", [1, 4]), ("y", [1, 4]))


def transformer(path: Path, factor: int) -> None:
    """2, 4 and 8 layers of width 512, without biases of attention: 25M parameters at the largest."""
    encoder(path, 2 * factor)


def transformer_int8(path: Path, factor: int) -> None:
    """3, 6 and 12 layers with int8 weights and dynamic activations: 38M parameters at the largest."""
    quantization: Any = importlib.import_module("onnxruntime.quantization")
    full = path.with_suffix(".float.onnx")
    encoder(full, 3 * factor)
    quantization.quantize_dynamic(full, path, per_channel=True, weight_type=quantization.QuantType.QInt8)


def encoder(path: Path, depth: int, width: int = 512, heads: int = 8, tokens: int = 16) -> None:
    """A transformer encoder with 1,000 tokens, learned positions and a head of 64 outputs."""
    rng = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    init: list[TensorProto] = []

    def stored(name: str, array: np.ndarray) -> str:
        init.append(numpy_helper.from_array(array if array.dtype.kind == "i" else array.astype(np.float32), name))
        return name

    def node(op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [output], name=f"{output}/{op}", **attributes))
        return output

    def linear(x: str, name: str, k: int, n: int) -> str:
        weight = stored(f"{name}.weight", 0.02 * rng.standard_normal((k, n)))
        product = node("MatMul", [x, weight], f"{name}.product")
        return node("Add", [product, stored(f"{name}.bias", 0.02 * rng.standard_normal(n))], f"{name}.out")

    def norm(x: str, name: str) -> str:
        scale = stored(f"{name}.weight", 1 + 0.1 * rng.standard_normal(width))
        bias = stored(f"{name}.bias", 0.1 * rng.standard_normal(width))
        return node("LayerNormalization", [x, scale, bias], f"{name}.out")

    split, merge = (stored("split", np.array([0, 0, heads, width // heads])), stored("merge", np.array([0, 0, width])))
    root = stored("root", np.array((width // heads) ** 0.5))
    table = stored("tokens", rng.standard_normal((1000, width)))
    x = node("Gather", [table, "ids"], "embedded")
    x = norm(node("Add", [x, stored("positions", rng.standard_normal((tokens, width)))], "placed"), "first")
    for layer in range(depth):
        p = f"layer{layer}."
        heads_of = {}
        for side, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
            parts = node("Reshape", [linear(x, p + side, width, width), split], f"{p}{side}.parts")
            heads_of[side] = node("Transpose", [parts], f"{p}{side}.heads", perm=order)
        scores = node("Div", [node("MatMul", [heads_of["q"], heads_of["k"]], f"{p}scores"), root], f"{p}scaled")
        read = node("MatMul", [node("Softmax", [scores], f"{p}weights"), heads_of["v"]], f"{p}read")
        read = node("Reshape", [node("Transpose", [read], f"{p}back", perm=[0, 2, 1, 3]), merge], f"{p}merged")
        x = norm(node("Add", [x, linear(read, f"{p}out", width, width)], f"{p}sum1"), f"{p}norm1")
        inner = node("Gelu", [linear(x, f"{p}up", width, 4 * width)], f"{p}inner")
        x = norm(node("Add", [x, linear(inner, f"{p}down", 4 * width, width)], f"{p}sum2"), f"{p}norm2")
    y = linear(x, "head", width, 64)
    _save(path, nodes, init, ("ids", [1, tokens]), (y, [1, tokens, 64]), TensorProto.INT64)


def trees(path: Path, factor: int, features: int = 8, patterns: int = 100) -> None:
    """500, 1,000 and 2,000 boosted trees with 15 splits each; trees of one pattern of features can be swapped."""
    rng = np.random.default_rng(0)
    count, splits, size = 500 * factor, 15, 31
    tested = rng.integers(0, features, (patterns, splits))
    place = np.tile(np.arange(size), count)
    tree = np.repeat(np.arange(count), size)
    inner = place < splits
    leaves = tree[~inner]
    node = helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["y"], name="trees", domain="ai.onnx.ml", n_targets=1,
        nodes_treeids=tree.tolist(), nodes_nodeids=place.tolist(),
        nodes_featureids=np.where(inner, tested[tree % patterns, np.minimum(place, splits - 1)], 0).tolist(),
        nodes_values=np.where(inner, rng.standard_normal(len(place)), 0.0).tolist(),
        nodes_modes=np.where(inner, "BRANCH_LEQ", "LEAF").tolist(),
        nodes_truenodeids=np.where(inner, 2 * place + 1, 0).tolist(),
        nodes_falsenodeids=np.where(inner, 2 * place + 2, 0).tolist(),
        target_treeids=leaves.tolist(), target_nodeids=place[~inner].tolist(),
        target_ids=[0] * len(leaves), target_weights=rng.standard_normal(len(leaves)).tolist(),
    )  # fmt: skip
    _save(path, [node], [], ("x", [1, features]), ("y", [1, 1]))


SEARCHED: Mapping[str, Write] = {
    "wide": wide,
    "unrolled": unrolled,
    "crnn": crnn,
    "deepseek_v3": deepseek_v3,
    **{name: timm(name) for name in ("coat_lite_tiny", "convit_tiny", "xcit_nano_12_p16_224")},
}
"""Networks whose symmetries are searched."""

VERIFIED: Mapping[str, Write] = {"transformer": transformer, "transformer_int8": transformer_int8, "trees": trees}
"""Networks that are verified."""

LOWERED: Mapping[str, Write] = {"table": table, "concat": concat, "chain": chain, "unused": unused}
"""Networks that are lowered."""

NETWORKS: Mapping[str, Write] = {**SEARCHED, **VERIFIED, **LOWERED}

LARGE = ("resnet50", "gpt2")
"""Networks of `large_networks` that are searched too, in one size."""

_PACKAGES = {"deepseek_v3": "transformers"} | {n: "timm" for n in SEARCHED if n.startswith(("coat", "convit", "xcit"))}


def missing(name: str) -> str | None:
    """The package that a network needs and that is not installed; None if there is none."""
    package = _PACKAGES.get(name)
    return package if package and find_spec(package) is None else None


def write(name: str, factor: int, folder: Path) -> Path:
    """Make `folder/name_factor.onnx`; kept if it is there already."""
    path = folder / f"{name}_{factor}.onnx"
    if not path.exists():
        torch.manual_seed(0)
        NETWORKS[name](path, factor)
    return path


def _export(path: Path, module: nn.Module, *inputs: Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(module.eval(), inputs, dynamo=True, optimize=False, verbose=False)
    assert program is not None
    program.save(str(path), external_data=False)


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    initializers: list[TensorProto],
    x: tuple[str, list[int]] | list[onnx.ValueInfoProto],
    y: tuple[str, list[int]],
    kind: int = TensorProto.FLOAT,
) -> None:
    inputs = x if isinstance(x, list) else [helper.make_tensor_value_info(x[0], kind, x[1])]
    output = helper.make_tensor_value_info(y[0], TensorProto.FLOAT, y[1])
    graph = helper.make_graph(nodes, path.stem, inputs, [output], initializers)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save_model(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
