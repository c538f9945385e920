"""The classifiers of a zoo: five architecture families, whose networks are built from recipes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..ir import GmncError
from .images import CLASSES, SIZE

__all__ = ["ACTIVATIONS", "FAMILIES", "Family", "Recipe", "build"]

_GROUPS, _HEADS, _PATCH = 2, 2, 2


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hyperparameters of a classifier's architecture.

    Attributes:
        family: A key of `FAMILIES`, which lists the values of the other fields.
        width: Channels of a layer.
        depth: Number of layers or blocks.
        norm: Kind of normalisation.
        activation: A key of `ACTIVATIONS`.
        dropout: Probability, before the last layer.
    """

    family: str
    width: int
    depth: int
    norm: str = "none"
    activation: str = "relu"
    dropout: float = 0.0

    @property
    def architecture(self) -> str:
        """Name of the architecture; without dropout, which the graph does not show."""
        return f"{self.family}-w{self.width}-d{self.depth}-{self.norm}-{self.activation}"


@dataclass(frozen=True, slots=True)
class Family:
    """An architecture family, of networks that map images [B, 1, 14, 14] to logits [B, 10].

    Attributes:
        make: Builds a network from a recipe.
        widths: Widths that a zoo draws from.
        depths: Depths that a zoo draws from.
        norms: Norms that a zoo draws from.
    """

    make: Callable[[Recipe], nn.Module]
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    norms: tuple[str, ...]


ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


def build(recipe: Recipe) -> nn.Module:
    """The network of a recipe, with weights from torch's global generator.

    Raises `GmncError` for an unknown family, norm or activation, and an odd width.
    """
    family = FAMILIES.get(recipe.family)
    for what, value, known in (
        ("family", recipe.family, FAMILIES),
        ("activation", recipe.activation, ACTIVATIONS),
        ("norm", recipe.norm, family.norms if family else ()),
    ):
        if value not in known:
            raise GmncError(f"unknown {what} {value!r}: choose from {', '.join(known)}")
    if recipe.width < 2 or recipe.width % 2 or recipe.depth < 1:
        raise GmncError("a network needs an even width of at least 2 and a depth of at least 1")
    assert family is not None
    return family.make(recipe)


class _ChannelsLast(nn.Module):
    """Applies a channels-first layer to channels-last input."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.transpose(1, -1)).transpose(1, -1)


def _norm(recipe: Recipe, dimensions: int) -> nn.Module:
    """Normalisation of channels; `dimensions`: number of axes after them."""
    width = recipe.width
    if recipe.norm == "batch":
        return nn.BatchNorm2d(width) if dimensions == 2 else nn.BatchNorm1d(width)
    if recipe.norm == "group":
        return nn.GroupNorm(_GROUPS, width)
    return nn.LayerNorm(width) if recipe.norm == "layer" else nn.Identity()


def _act(recipe: Recipe) -> nn.Module:
    return ACTIVATIONS[recipe.activation]()


class _Pooled(nn.Module):
    """A body, mean (or max) pooling over the given axes, dropout, and a linear layer."""

    def __init__(self, body: nn.Module, recipe: Recipe, axes: tuple[int, ...], greatest: bool = False) -> None:
        super().__init__()
        self.body, self.axes, self.greatest = body, axes, greatest
        self.dropout = nn.Dropout(recipe.dropout)
        self.head = nn.Linear(recipe.width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return self.head(self.dropout(x.amax(self.axes) if self.greatest else x.mean(self.axes)))


def _cnn2d(recipe: Recipe) -> nn.Module:
    """3 x 3 convolutions; the first and the third halve the image."""
    layers: list[nn.Module] = []
    for number in range(recipe.depth):
        stride = 1 if number % 2 else 2
        conv = nn.Conv2d(recipe.width if number else 1, recipe.width, 3, stride=stride, padding=1)
        layers += [conv, _norm(recipe, 2), _act(recipe)]
    return _Pooled(nn.Sequential(*layers), recipe, (2, 3))


def _cnn1d(recipe: Recipe) -> nn.Module:
    """Convolutions along the columns, with rows of pixels as channels."""
    layers: list[nn.Module] = [nn.Flatten(1, 2)]
    for number in range(recipe.depth):
        conv = nn.Conv1d(recipe.width if number else SIZE, recipe.width, 5 if number == 0 else 3, padding="same")
        layers += [conv, _norm(recipe, 1), _act(recipe)]
    return _Pooled(nn.Sequential(*layers), recipe, (2,))


class _Patches(nn.Module):
    """Embeddings of 2 x 2 patches [B, 49, C], plus (or times) an embedding of their position."""

    def __init__(self, width: int, scaled: bool = False) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, width, _PATCH, stride=_PATCH)
        self.position = nn.Parameter((1.0 if scaled else 0.1) * torch.randn((SIZE // _PATCH) ** 2, width))
        self.scaled = scaled

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        return x * self.position if self.scaled else x + self.position


class _SetLayer(nn.Module):
    """A linear map of each element plus one of the mean of all (Zaheer et al. 2017)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.own, self.all = nn.Linear(width, width), nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.own(x) + self.all(x.mean(1, keepdim=True))


def _deepsets(recipe: Recipe) -> nn.Module:
    """Patches, scaled by their position, as a set."""
    layers: list[nn.Module] = [_Patches(recipe.width, scaled=True), _act(recipe)]
    for _ in range(recipe.depth):
        norm = _norm(recipe, 1)
        layers += [_SetLayer(recipe.width), _ChannelsLast(norm) if recipe.norm == "batch" else norm, _act(recipe)]
    return _Pooled(nn.Sequential(*layers), recipe, (1,), greatest=True)


class _Residual(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def _resnet(recipe: Recipe) -> nn.Module:
    """A stem that halves the image, then residual blocks of two 3 x 3 convolutions."""
    stem = nn.Conv2d(1, recipe.width, 3, stride=2, padding=1)
    layers: list[nn.Module] = [stem, _norm(recipe, 2), _act(recipe)]
    for _ in range(recipe.depth):
        convs = [nn.Conv2d(recipe.width, recipe.width, 3, padding=1) for _ in range(2)]
        body = nn.Sequential(convs[0], _norm(recipe, 2), _act(recipe), convs[1], _norm(recipe, 2))
        layers += [_Residual(body), _act(recipe)]
    return _Pooled(nn.Sequential(*layers), recipe, (2, 3))


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(2, (_HEADS, -1)).transpose(1, 2) for f in (self.query, self.key, self.value))
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
        return self.out((scores.softmax(3) @ v).transpose(1, 2).flatten(2))


def _vit(recipe: Recipe) -> nn.Module:
    """Patches through pre-norm blocks of attention and an MLP."""
    layers: list[nn.Module] = [_Patches(recipe.width)]
    for _ in range(recipe.depth):
        layers.append(_Residual(nn.Sequential(_norm(recipe, 1), _Attention(recipe.width))))
        wide = 2 * recipe.width
        mlp = (nn.Linear(recipe.width, wide), _act(recipe), nn.Linear(wide, recipe.width))
        layers.append(_Residual(nn.Sequential(_norm(recipe, 1), *mlp)))
    return _Pooled(nn.Sequential(*layers, _norm(recipe, 1)), recipe, (1,))


FAMILIES: dict[str, Family] = {
    "cnn2d": Family(_cnn2d, (6, 8, 10, 12, 16), (2, 3, 4), ("none", "batch", "group")),
    "cnn1d": Family(_cnn1d, (8, 12, 16, 20, 24), (2, 3, 4), ("none", "batch", "group")),
    "deepsets": Family(_deepsets, (8, 12, 16, 20, 24), (1, 2, 3), ("none", "batch", "layer")),
    "resnet": Family(_resnet, (4, 6, 8, 10, 12), (1, 2, 3), ("none", "batch", "group")),
    "vit": Family(_vit, (8, 10, 12, 16, 20), (1, 2), ("none", "layer")),
}
