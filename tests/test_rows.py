"""Row by row: what picks, puts, samples and convolves by rows of the batch has one graph for every number of rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from exports import How, export
from networks import randomise
from torch import Tensor, nn
from torch.nn import functional as F

import gmnc
from gmnc.ir import fingerprint
from gmnc.testing import assert_isomorphic, assert_sound, build

Example = Callable[[int], tuple[Tensor, ...]]


class Pictures(nn.Module):
    """Of pictures [rows, 2, 6, 6], what `filtered` makes of them is read out."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel, self.bias = nn.Parameter(torch.zeros(4, 2, 3, 3)), nn.Parameter(torch.zeros(4))
        self.out = nn.Linear(4, 2)

    def filtered(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.filtered(x)).mean((2, 3)))


class Mixture(Pictures):
    """A kernel for every row, mixed from three (conditional convolution)."""

    def __init__(self) -> None:
        super().__init__()
        self.experts, self.route = nn.Parameter(torch.zeros(3, 72)), nn.Linear(2, 3)

    def filtered(self, x: Tensor) -> Tensor:
        kernel = torch.sigmoid(self.route(x.mean((2, 3)))) @ self.experts
        rows = x.reshape(1, -1, 6, 6)
        return F.conv2d(rows, kernel.view(-1, 2, 3, 3), padding=1, groups=x.shape[0]).view(-1, 4, 6, 6)


class Modulated(Pictures):
    """A kernel whose input channels every row scales, normalised by row (StyleGAN 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.style = nn.Linear(2, 2)

    def filtered(self, x: Tensor) -> Tensor:
        kernel = self.kernel[None] * self.style(x.mean((2, 3)))[:, None, :, None, None]
        kernel = kernel * torch.rsqrt((kernel * kernel).sum((2, 3, 4), keepdim=True) + 1e-8)
        rows = x.reshape(1, -1, 6, 6)
        return F.conv2d(rows, kernel.view(-1, 2, 3, 3), padding=1, groups=x.shape[0]).view(-1, 4, 6, 6)


class Repeated(Pictures):
    """One kernel and one bias, copied for every row."""

    def filtered(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        y = F.conv2d(x.reshape(1, -1, 6, 6), self.kernel.repeat(n, 1, 1, 1), self.bias.repeat(n), groups=n)
        return y.view(-1, 4, 4, 4)


class RepeatedTransposed(Pictures):
    """The same, transposed."""

    def filtered(self, x: Tensor) -> Tensor:
        n, kernel = x.shape[0], self.kernel.transpose(0, 1)
        y = F.conv_transpose2d(x.reshape(1, -1, 6, 6), kernel.repeat(n, 1, 1, 1), self.bias.repeat(n), groups=n)
        return y.view(-1, 4, 8, 8)


class Warped(Pictures):
    """Sampled at places that every row computes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shift = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(2, 18)

    def filtered(self, x: Tensor) -> Tensor:
        grid = torch.tanh(self.shift(x.mean((2, 3)))).view(-1, 3, 3, 2)
        return F.grid_sample(torch.relu(self.first(x)), grid, align_corners=False)


class Sampled(Pictures):
    """Sampled at places that are the same for all rows."""

    def filtered(self, x: Tensor) -> Tensor:
        line = torch.linspace(-1, 1, 5)
        grid = torch.stack([line[:, None].expand(5, 5), line.expand(5, 5)], -1)[None].expand(x.shape[0], -1, -1, -1)
        return F.grid_sample(F.conv2d(x, self.kernel, self.bias), grid, align_corners=False)


class Expanded(nn.Module):
    """A weight and a bias that are expanded to every row."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(3, 4)), nn.Parameter(torch.zeros(4))
        self.out = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        h = torch.bmm(x, self.weight.expand(n, -1, -1)) + self.bias.expand(n, 1, -1)
        h = torch.tanh(torch.baddbmm(self.bias.repeat(n, 1, 1), h, (self.weight.T @ self.weight).repeat(n, 1, 1)))
        return self.out(torch.relu(h))


class Tokens(nn.Module):
    """Tokens [rows, 7], of which one per row is read out."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.first, self.out = nn.Embedding(11, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def picked(self, h: Tensor, tokens: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.picked(torch.tanh(self.first(self.table(tokens))), tokens))


class Numbered(Tokens):
    """By the number of the row and the place of the largest token (CLIP)."""

    def picked(self, h: Tensor, tokens: Tensor) -> Tensor:
        return h[torch.arange(h.shape[0]), tokens.to(torch.int32).argmax(-1)]


class Gathered(Tokens):
    """By a gather along the places."""

    def picked(self, h: Tensor, tokens: Tensor) -> Tensor:
        last = ((tokens != 0).sum(-1) - 1).clamp(min=0)
        return torch.gather(h, 1, last.view(-1, 1, 1).expand(-1, 1, 6)).squeeze(1)


class Routed(nn.Module):
    """The two largest of four features, put back where they come from."""

    def __init__(self) -> None:
        super().__init__()
        self.route, self.value, self.out = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        most, places = self.route(x).topk(2, -1)
        gate = torch.zeros(x.shape[0], 4).scatter(1, places, torch.softmax(most, -1))
        return self.out(gate * self.value(x))


class Clipped(nn.Module):
    """A number that is put where a mask is true."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(2, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        h[h > 0.1] = 0.5
        return self.out(h)


def floats(*shape: int) -> Example:
    return lambda n: (torch.rand(n, *shape),)


def tokens(n: int) -> tuple[Tensor, ...]:
    return (torch.randint(1, 11, (n, 7), generator=torch.Generator().manual_seed(0)),)


NETWORKS: dict[type[nn.Module], Example] = {
    **dict.fromkeys((Mixture, Modulated, Repeated, RepeatedTransposed, Warped, Sampled), floats(2, 6, 6)),
    Expanded: floats(5, 3),
    **dict.fromkeys((Numbered, Gathered), tokens),
    Routed: floats(3),
    Clipped: floats(2),
}  # fmt: skip


@pytest.mark.parametrize("how", ["dynamo", "torchscript"])
@pytest.mark.parametrize("make", NETWORKS)
def test_the_number_of_rows_makes_no_odds(make: type[nn.Module], how: How) -> None:
    torch.manual_seed(0)
    module, example = randomise(make()), NETWORKS[make]
    one, *others = (export(module, example(n), how) for n in (1, 2, 5))
    graph = gmnc.compile(one)
    assert not graph.opaque
    for other in others:
        assert_isomorphic(other, graph, values=True)
        assert gmnc.compile(other).num_parameter_edges == graph.num_parameter_edges
    assert_sound(others[0])


# Tanh features [rows, 3] of x [rows, 2] are picked from, or put into, and read out.
ROWS = """(float[{0}, 2] x) => (float[A, B] y) {{
    a = MatMul(x, w) h = Tanh(a) {1}
    y = MatMul(p, v)
}}"""
PLACES = "z = Reshape(h, split) k = ArgMax<axis = 1, keepdims = 0>(z)"
PICKED = {
    "row and place": "u = Unsqueeze(t, last) i = Concat<axis = -1>(n, u) p = GatherND(z, i)",
    "all rows in one": "f = Reshape(z, flat) s = Add(t, starts) p = Gather<axis = 0>(f, s)",
}


def picking(body: str, rows: int, **changed: object) -> onnx.ModelProto:
    ints = {
        "n": np.arange(rows)[:, None], "last": [-1], "starts": 3 * np.arange(rows), "split": [rows, 3, 1],
        "flat": [-1, 1], "row": [rows], **changed,
    }  # fmt: skip
    text = ROWS.format(rows, f"{PLACES} t = Reshape(k, row) {body}")
    return build(text, {"w": (2, 3), "v": (1, 2)}, ints)


@pytest.mark.parametrize("body", PICKED)
def test_numbered_rows(body: str) -> None:
    assert_isomorphic(picking(PICKED[body], 4), picking(PICKED[body], 1), values=True)
    assert_sound(picking(PICKED[body], 4))


@pytest.mark.parametrize(
    ("body", "changed"),
    [
        ("row and place", {"n": np.array([[0], [2], [1], [3]])}),
        ("row and place", {"n": np.array([[0], [1], [2], [2]])}),
        ("all rows in one", {"starts": np.array([0, 3, 6, 8])}),
        ("all rows in one", {"starts": np.array([3, 0, 6, 9])}),
    ],
)
def test_rows_that_read_another_one_are_told_apart(body: str, changed: dict[str, object]) -> None:
    found = fingerprint(gmnc.compile(picking(PICKED[body], 4, **changed)), values=False)
    assert found != fingerprint(gmnc.compile(picking(PICKED[body], 4)), values=False)
    assert_sound(picking(PICKED[body], 4, **changed))


def test_an_index_that_may_leave_its_row_is_left_alone() -> None:
    text = """(float[{0}, 2] x, int64[{0}] t) => (float[A, B] y) {{
        a = MatMul(x, w) h = Tanh(a) z = Reshape(h, split) f = Reshape(z, flat)
        s = Add(t, starts) p = Gather<axis = 0>(f, s) y = MatMul(p, v)
    }}"""
    models = [
        build(
            text.format(n), {"w": (2, 3), "v": (1, 2)},
            {"split": [n, 3, 1], "flat": [-1, 1], "starts": 3 * np.arange(n)},
        )
        for n in (1, 4)
    ]  # fmt: skip
    assert fingerprint(gmnc.compile(models[0])) != fingerprint(gmnc.compile(models[1]))
    assert_sound(models[1])


def test_kernels_of_their_own_for_each_row_are_told_apart() -> None:
    """Groups that are no copies of each other belong to the network, not to its batch."""
    text = """(float[1, 4, 5] x) => (float[1, 2, 3] y) { a = Conv<group = 2>(x, w) y = Relu(a) }"""
    graph = gmnc.compile(build(text, {"w": (2, 2, 3)}, {}))
    assert graph.num_parameter_edges == 12
    assert_sound(build(text, {"w": (2, 2, 3)}, {}))


def test_what_lends_its_shape_alone_makes_no_odds() -> None:
    text = """(float[2, 3] x) => (float[2, 2] y) {{
        a = MatMul(x, w) h = Tanh(a) {0} y = MatMul(e, v)
    }}"""
    lent = "o = Sort_of(h) s = Shape(o) e = Expand(h, s)".replace("Sort_of", "Softmax<axis = 0>")
    models = [build(text.format(body), {"w": (3, 4), "v": (4, 2)}, {}) for body in (lent, "e = Identity(h)")]
    assert_isomorphic(*models, values=True)
