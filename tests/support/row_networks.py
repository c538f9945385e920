"""Networks that pick, put, sample and convolve by rows of the batch, with examples of so many rows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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


class Sets(nn.Module):
    """Sets [rows, 6, 3], of whose features [rows, 6, 4] something is read out."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.queries, self.kernels = nn.Parameter(torch.zeros(3, 4)), nn.Parameter(torch.zeros(4, 1, 3))
        self.token = nn.Parameter(torch.zeros(4))

    def read(self, h: Tensor, x: Tensor) -> Tensor:
        raise NotImplementedError

    def attended(self, queries: Tensor, h: Tensor) -> Tensor:
        return torch.softmax(self.second(queries) @ h.transpose(1, 2), -1) @ h

    def slid(self, h: Tensor, kernels: Tensor) -> Tensor:
        n = h.shape[0]
        return F.conv1d(h.transpose(1, 2).reshape(1, -1, 6), kernels, groups=4 * n).view(n, 4, -1).amax(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.read(torch.tanh(self.first(x)), x))


class Neighbours(Sets):
    """The two nearest entries of each, looked up in all rows one after the other (EdgeConv)."""

    def read(self, h: Tensor, x: Tensor) -> Tensor:
        n = h.shape[0]
        near = (h @ h.transpose(1, 2)).topk(2, -1)[1] + 6 * torch.arange(n).view(-1, 1, 1)
        return h.reshape(6 * n, 4)[near.view(-1)].view(n, 6, 2, 4).amax(2)


class Clamped(Sets):
    """The last entry before a length that is computed."""

    def read(self, h: Tensor, x: Tensor) -> Tensor:
        return h[torch.arange(h.shape[0]), ((x[..., 0] > 0.5).sum(1) - 1).clamp(0, 5)]


class TimeFirst(Sets):
    """The rows are the second axis, and the second index."""

    def read(self, h: Tensor, x: Tensor) -> Tensor:
        return h.transpose(0, 1)[h[..., 0].argmax(1), torch.arange(h.shape[0])]


class Put(Sets):
    """One entry of each row is another one (a cache with places of its own)."""

    def read(self, h: Tensor, x: Tensor) -> Tensor:
        h = h.clone()
        h[torch.arange(h.shape[0]), x[..., 0].argmax(1)] = self.token * x[:, 0, :1]
        return h.sum(1)


class Token(Sets):
    """A learned vector stands in where a mask is true (wav2vec 2.0)."""

    def read(self, h: Tensor, x: Tensor) -> Tensor:
        h = h.clone()
        h[x[..., 0] > 0.5] = self.token
        return h.sum(1)


class ByIds(Sets):
    """Queries are looked up for every row, then pass a layer."""

    def read(self, h: Tensor, x: Tensor) -> Tensor:
        return self.attended(F.embedding(torch.arange(3).expand(h.shape[0], -1), self.queries), h)


class Stacked(Sets):
    """Queries are stacked."""

    def read(self, h: Tensor, x: Tensor) -> Tensor:
        return self.attended(torch.stack([self.queries] * h.shape[0]), h)


class Tiled(Sets):
    """Queries are repeated one after the other."""

    def read(self, h: Tensor, x: Tensor) -> Tensor:
        return self.attended(self.queries.repeat(h.shape[0], 1).view(-1, 3, 4), h)


class Widened(Sets):
    """Queries are widened by numbers."""

    def read(self, h: Tensor, x: Tensor) -> Tensor:
        return self.attended(self.queries * torch.ones(h.shape[0], 1, 1), h)


class Depthwise(Sets):
    """A kernel for every channel, copied for every row."""

    def read(self, h: Tensor, x: Tensor) -> Tensor:
        return self.slid(h, self.kernels.repeat(h.shape[0], 1, 1))


class OneKernel(Sets):
    """A kernel for all channels and rows."""

    def read(self, h: Tensor, x: Tensor) -> Tensor:
        return self.slid(h, self.kernels[:1].repeat(4 * h.shape[0], 1, 1))


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
    **dict.fromkeys((Neighbours, Clamped, TimeFirst, Put, Token, ByIds, Stacked, Tiled, Widened), floats(6, 3)),
    **dict.fromkeys((Depthwise, OneKernel), floats(6, 3)),
}  # fmt: skip
