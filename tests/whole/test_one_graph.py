"""One network, one graph: the batch size of an export, and the length of its sequences, make no odds."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from support.exports import Compiled, How, by_export, export, exported
from support.networks import NETWORKS, randomise
from support.tiers import some
from torch import Tensor, nn

import gmnc
from gmnc.backends.blocks import blocks
from gmnc.frontend import entrywise
from gmnc.frontend.primitives.move_notation import describe_move
from gmnc.metanets import GMN
from gmnc.symmetry import fingerprint
from gmnc.testing import assert_isomorphic, assert_sound, build

# Files of which the optimizer has made another network: it stores a parameter, or what is computed from parameters
# alone, once for every entry of the batch.
STORED_PER_ENTRY = {"vit": "class token", "vit_torch_mha": "class token", "decoder": "queries"}
# It reads the first entry of the batch and no other.
FIRST_ENTRY = {"triplane"}
BATCHES: dict[str, tuple[int | None, dict[str, int]]] = {
    "2": (2, {}),
    "8": (8, {}),
    "symbolic": (None, {}),
    "symbolic, 4": (None, {"batch": 4}),
}


def is_another_network(name: str, how: How, which: str) -> bool:
    copied = how == "dynamo-optimized" and name in STORED_PER_ENTRY
    return (copied and (which in ("2", "8") or name == "decoder")) or (name in FIRST_ENTRY and which != "symbolic")


@pytest.mark.parametrize("which", some(["8"], BATCHES))
@pytest.mark.parametrize(("name", "how"), by_export())
def test_the_batch_size_makes_no_odds(name: str, how: How, which: str, compiled: Compiled) -> None:
    batch, dims = BATCHES[which]
    graph, one = gmnc.compile(exported(name, how, batch=batch), dims=dims), compiled(name, how)
    if is_another_network(name, how, which):
        assert fingerprint(graph, values=False) != fingerprint(one, values=False)
        return
    assert_isomorphic(graph, one, values=True)
    assert fingerprint(graph) == fingerprint(one)
    assert gmnc.symmetries(graph).log10_size == pytest.approx(gmnc.symmetries(one).log10_size)
    assert graph.num_parameter_edges == one.num_parameter_edges


# Images and sequences of other sizes than in `NETWORKS`.
SIZES: dict[str, tuple[int, ...]] = {
    "resnet": (1, 3, 24, 24),
    "convnext": (1, 3, 24, 24),
    "grouped": (1, 3, 12, 12),
    "densenet": (1, 3, 12, 12),
    "unet": (1, 3, 12, 16),
    "squeeze_excite": (2, 3, 12, 12),
    "shufflenet": (1, 3, 12, 12),
    "groupnorm": (1, 3, 12, 16),
    "decoder": (1, 3, 12, 16),
    "deepsets": (2, 7, 3),
    "triplane": (1, 9, 3),
    "attention_qkv": (2, 7, 8),
}


@pytest.mark.parametrize(("name", "how"), by_export(SIZES))
def test_neither_does_the_size_of_images_or_the_length_of_sequences(name: str, how: How, compiled: Compiled) -> None:
    module, _ = NETWORKS[name]()
    # The optimizer computes the queries of the decoder anew.
    other = gmnc.compile(export(module, (torch.rand(SIZES[name]),), how))
    assert_isomorphic(other, compiled(name, how), values=True)
    assert gmnc.symmetries(other).log10_size == pytest.approx(gmnc.symmetries(compiled(name, how)).log10_size)


def test_the_embedding_is_the_same(compiled: Compiled) -> None:
    torch.manual_seed(0)
    model = GMN(out_channels=5, hidden_channels=8, num_layers=2, hash_buckets=64, fan_in=True, global_node=True)
    for name in ("resnet", "vit", "llama"):
        one, eight = (model(blocks(compiled(name, batch=batch)))[0] for batch in (1, 8))
        assert torch.allclose(one, eight, rtol=1e-5)


class HeadsAlongBatch(nn.Module):
    """Attention with its heads one after the other along the batch, as the Set Transformer has it."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (torch.cat(f(x).split(4, 2), 0) for f in (self.q, self.k, self.v))
        y = torch.softmax(q @ k.transpose(1, 2) / 2.0, 2) @ v
        return self.o(torch.cat(y.split(x.size(0), 0), 2))


class Recurrent(nn.Module):
    """A bidirectional LSTM that starts at a learned state, then a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru = nn.LSTM(3, 5, bidirectional=True), nn.GRU(10, 4, batch_first=True)
        self.start, self.out = nn.Parameter(torch.zeros(2, 1, 5)), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        start = self.start.expand(-1, x.shape[0], -1)
        y, _ = self.lstm(x.transpose(0, 1), (start, torch.zeros_like(start)))
        return self.out(self.gru(y.transpose(0, 1))[0][:, -1])


class Padding(nn.Module):
    """Reflecting and constant padding; places that are picked by indices."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv1d(3, 6, 3), nn.Conv1d(6, 6, 3)
        self.out = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.one(nn.functional.pad(x, (1, 1), mode="reflect")))
        h = self.two(nn.functional.pad(h, (2, 0), value=0.5))
        rows = torch.arange(x.shape[0])[:, None]
        last = h[rows, :, torch.tensor([[7, 0]]).expand(x.shape[0], 2)]
        return self.out(last.sum(1))


@pytest.mark.full
@pytest.mark.parametrize("how", ["dynamo", "torchscript"])
@pytest.mark.parametrize("make", [HeadsAlongBatch, Recurrent, Padding])
def test_batches_that_are_merged_looped_over_padded_and_picked_from(make: type[nn.Module], how: How) -> None:
    torch.manual_seed(0)
    module = randomise(make())
    example = {HeadsAlongBatch: (7, 8), Recurrent: (6, 3), Padding: (3, 9)}[make]
    one, *others = (gmnc.compile(export(module, (torch.rand(n, *example),), how)) for n in (1, 2, 5))
    for other in others:
        assert_isomorphic(other, one, values=True)
        assert gmnc.symmetries(other).log10_size == pytest.approx(gmnc.symmetries(one).log10_size)
    if make is HeadsAlongBatch:
        assert gmnc.symmetries(one).log10_size == pytest.approx(math.log10(2 * math.factorial(4) ** 4))


MIXER = """(float[{0}, 4] x) => (float[N, 2] y) {{
    h = MatMul(x, w)
    r = Relu(h)
    {1}
    y = MatMul(m, v)
}}"""
ENTRYWISE = {
    "nothing": "m = Identity(r)",
    "softmax over features": "m = Softmax<axis = -1>(r)",
    "merged and split": """s = Reshape(r, split)
    t = Transpose<perm = [1, 0, 2]>(s)
    u = Transpose<perm = [1, 0, 2]>(t)
    m = Reshape(u, merged)""",
}
MIXED = {
    "mean": "a = ReduceMean(r, zero)\nm = Add(r, a)",
    "softmax": "m = Softmax<axis = 0>(r)",
    "another entry": "m = Gather<axis = 0>(r, turned)",
    "the first entry": "f = Gather<axis = 0>(r, first)\nm = Add(r, f)",
    "a number for each": "m = Add(r, each)",
    "other features for each": "m = GatherElements<axis = 1>(r, own)",
    "the transpose": "t = Transpose<perm = [1, 0]>(r)\nm = Add(r, t)",
    "an order": "m = CumSum(r, axis)",
}


def small(body: str, n: int) -> onnx.ModelProto:
    own = np.argsort(np.random.default_rng(0).random((n, 6)), axis=1)
    ints = {
        "zero": [0], "turned": [*range(1, n), 0], "first": [0], "own": own, "split": [n, 2, 3], "merged": [n, 6],
        "axis": np.array(0),
    }  # fmt: skip
    return build(MIXER.format(n, body), {"w": (4, 6), "v": (6, 2), "each": (n, 1)}, ints)


@pytest.mark.parametrize("body", ENTRYWISE)
def test_lines_that_go_through(body: str) -> None:
    assert_isomorphic(small(ENTRYWISE[body], 6), small(ENTRYWISE[body], 1), values=True)
    assert_sound(small(ENTRYWISE[body], 6))


@pytest.mark.parametrize("body", MIXED)
def test_what_mixes_entries_or_tells_them_apart_is_seen(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = fingerprint(gmnc.compile(small(MIXED[body], 6)), values=False)
    monkeypatch.setattr(entrywise.Entrywise, "kept", lambda self, values: {})
    assert found == fingerprint(gmnc.compile(small(MIXED[body], 6)), values=False)
    assert_sound(small(MIXED[body], 6))


Movement = Callable[[np.ndarray], np.ndarray]
MOVES: dict[str, tuple[tuple[int, ...], Movement]] = {
    "a b -> (a b)": ((4, 6), lambda a: a.reshape(-1)),
    "a b -> b a": ((4, 6), lambda a: a.T),
    "a -> * a": ((5,), lambda a: np.broadcast_to(a, (3, 5))),
    "a -> a *": ((5,), lambda a: np.broadcast_to(a[:, None], (5, 3))),
    "a -> (a *2)": ((5,), lambda a: np.repeat(a, 2)),
    "-> *": ((), lambda a: np.broadcast_to(a, (4,))),
    "a b -> a/4 b/2 a/1 b/1": ((8, 6), lambda a: a.reshape(2, 4, 3, 2).transpose(0, 2, 1, 3)),
    "a -> a[1:]": ((9,), lambda a: a[1:]),
    "a -> a[:-2]": ((9,), lambda a: a[:-1]),
    "a -> a[-1::-1]": ((9,), lambda a: a[::-1]),
    "a b -> b at a=-1": ((9, 4), lambda a: a[-1]),
    "a b -> (a[1:] b)": ((9, 4), lambda a: a[1:].reshape(-1)),
}


def words(size: tuple[int, ...], move: Movement) -> str | None:
    moved = move(np.arange(int(np.prod(size))).reshape(size))
    return describe_move(size, moved.shape, np.ascontiguousarray(moved).reshape(-1))


@pytest.mark.parametrize("text", MOVES)
def test_moves_in_words(text: str) -> None:
    assert words(*MOVES[text]) == text


def test_irregular_moves_have_no_words() -> None:
    assert words((8,), lambda a: np.roll(a, 3)) is None
    assert words((3, 3), np.diag) is None


def test_words_and_sizes_say_which_move_it_is() -> None:
    rng = np.random.default_rng(0)
    seen: dict[tuple[object, ...], bytes] = {}
    for _ in range(4000):
        size = tuple(rng.choice([2, 3, 4, 6, 8], rng.integers(0, 4)).tolist())
        array = np.arange(int(np.prod(size))).reshape(size)
        for _ in range(rng.integers(1, 4)):
            array = random_move(rng, array)
        text = describe_move(size, array.shape, np.ascontiguousarray(array).reshape(-1))
        if text is not None:
            key = (text, size, array.shape)
            assert seen.setdefault(key, array.tobytes()) == array.tobytes(), key
    assert len(seen) > 1000


def random_move(rng: np.random.Generator, array: np.ndarray) -> np.ndarray:
    if not array.ndim:
        return np.broadcast_to(array, (int(rng.integers(2, 4)),))
    array = np.moveaxis(array, int(rng.integers(array.ndim)), 0)
    n = len(array)
    kind = int(rng.integers(7))
    if kind == 0:
        array = array[:: int(rng.choice([1, 2, -1]))]
    elif kind == 1:
        array = array[int(rng.integers(n)) :]
    elif kind == 2:
        array = array[: int(rng.integers(1, n + 1))]
    elif kind == 3 and n % 2 == 0 and n > 2:
        array = array.reshape(2, n // 2, *array.shape[1:]).swapaxes(0, 1)
    elif kind == 4 and array.ndim > 1:
        array = array.reshape(-1, *array.shape[2:])
    elif kind == 5:
        array = np.repeat(array, 2, axis=0)
    elif array.ndim < 4:
        array = np.broadcast_to(array[:, None], (n, 2, *array.shape[1:]))
    array = np.moveaxis(array, 0, int(rng.integers(array.ndim))) if array.ndim else array
    return array.reshape([m for m in array.shape if m > 1])
