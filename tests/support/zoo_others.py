"""Small convolutional and other networks without attention, for `networks.NETWORKS`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from support.zoo_attention import mlp
from torch import Tensor, nn


class BasicBlock(nn.Module):
    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        projects = stride != 1 or width != out
        self.skip = (
            nn.Sequential(nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out)) if projects else None
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.skip is None else self.skip(x)))


def resnet() -> nn.Module:
    """Stem, a plain residual block, a strided projected one, pooled classifier."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
        BasicBlock(8, 8, 1), BasicBlock(8, 12, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5),
    )  # fmt: skip


def perceptron() -> nn.Module:
    """8-16-16-3."""
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))


def grouped() -> nn.Module:
    """A convolution in 2 groups, a depthwise one, pooled classifier."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, padding=1, groups=2), nn.ReLU(),
        nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4),
    )  # fmt: skip


class ConvNeXt(nn.Module):
    def __init__(self, dim: int = 8) -> None:
        super().__init__()
        self.stem, self.depthwise = nn.Conv2d(3, dim, 2, 2), nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm, self.mlp = nn.LayerNorm(dim), mlp(dim, 4 * dim)
        self.gamma, self.head = nn.Parameter(torch.ones(dim)), nn.Linear(dim, 5)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        y = self.gamma * self.mlp(self.norm(self.depthwise(x).permute(0, 2, 3, 1)))
        return self.head((x + y.permute(0, 3, 1, 2)).mean([2, 3]))


class DenseNet(nn.Module):
    """Two dense layers of growth 4 and a transition."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.layers = nn.ModuleList(self.unit(6 + 4 * i, 4, 3) for i in range(2))
        self.transition, self.pool, self.head = self.unit(14, 7, 1), nn.AvgPool2d(2), nn.Linear(7, 5)

    @staticmethod
    def unit(width: int, out: int, kernel: int) -> nn.Module:
        conv = nn.Conv2d(width, out, kernel, padding=kernel // 2, bias=False)
        return nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), conv)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        for layer in self.layers:
            x = torch.cat([x, layer(x)], dim=1)
        return self.head(self.pool(self.transition(x)).mean([2, 3]))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.middle = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 10, 3, padding=1)
        self.up, self.merge = nn.ConvTranspose2d(10, 6, 2, 2), nn.Conv2d(12, 7, 3, padding=1)
        self.out = nn.Conv2d(7, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        skip = F.relu(self.down(image))
        x = F.relu(self.middle(F.max_pool2d(skip, 2)))
        return self.out(F.relu(self.merge(torch.cat([skip, self.up(x)], dim=1))))


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.squeeze, self.excite, self.out = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1), nn.Conv2d(8, 5, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = F.hardswish(self.norm(self.conv(image)))
        gate = torch.sigmoid(self.excite(F.silu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))
        return self.out(x * gate)


class ShuffleNet(nn.Module):
    """A split unit with channel shuffle, then a grouped convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.branch = nn.Sequential(
            nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
            nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), nn.BatchNorm2d(4),
            nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        )  # fmt: skip
        self.grouped, self.head = nn.Conv2d(8, 12, 1, groups=2), nn.Linear(12, 5)

    def forward(self, image: Tensor) -> Tensor:
        left, right = self.stem(image).chunk(2, dim=1)
        x = torch.cat([left, self.branch(right)], dim=1)
        b, c, h, w = x.shape
        x = x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
        return self.head(F.relu(self.grouped(x)).mean([2, 3]))


class Siren(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 16), nn.Linear(16, 16)])
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.sin(30.0 * layer(x))
        return self.out(x)


class Mixer(nn.Module):
    def __init__(self, dim: int = 10, tokens: int = 4) -> None:
        super().__init__()
        self.patch, self.norm1, self.norm2 = nn.Conv2d(3, dim, 4, 4), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.mix_tokens, self.mix_channels, self.head = mlp(tokens, 6), mlp(dim, 20), nn.Linear(dim, 7)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch(image).flatten(2).transpose(1, 2)
        x = x + self.mix_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.mix_channels(self.norm2(x))
        return self.head(x.mean(1))


class MixtureOfExperts(nn.Module):
    """Dense mixture: softmax gate, one network per expert, weighted sum."""

    def __init__(self, experts: int = 3, dim: int = 6, hidden: int = 9) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, experts)
        self.experts = nn.ModuleList(mlp(dim, hidden) for _ in range(experts))
        self.out = nn.Linear(dim, 4)

    def forward(self, x: Tensor) -> Tensor:
        share = F.softmax(self.gate(x), dim=-1)
        answers = torch.stack([expert(x) for expert in self.experts], dim=1)
        return self.out((answers * share[:, :, None]).sum(1))


class StackedExperts(nn.Module):
    """The same mixture with all experts in one tensor, by einsum."""

    def __init__(self, experts: int = 3, dim: int = 6, hidden: int = 9) -> None:
        super().__init__()
        self.gate, self.out = nn.Linear(dim, experts), nn.Linear(dim, 4)
        self.up, self.down = (
            nn.Parameter(torch.zeros(experts, dim, hidden)),
            nn.Parameter(torch.zeros(experts, hidden, dim)),
        )

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.relu(torch.einsum("bd,edh->beh", x, self.up))
        return self.out(torch.einsum("beh,ehd,be->bd", hidden, self.down, F.softmax(self.gate(x), dim=-1)))


class DeepSets(nn.Module):
    """Two equivariant layers, f(x_i) + g(mean_j x_j), and an invariant head."""

    def __init__(self) -> None:
        super().__init__()
        self.own = nn.ModuleList([nn.Linear(3, 8), nn.Linear(8, 6)])
        self.all = nn.ModuleList([nn.Linear(3, 8, bias=False), nn.Linear(8, 6, bias=False)])
        self.out = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        for own, every in zip(self.own, self.all, strict=True):
            x = F.relu(own(x) + every(x.mean(1, keepdim=True)))
        return self.out(x.sum(1))


def groupnorm() -> nn.Module:
    """Group, instance and plain convolutions: scopes over a part of the channels."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU(),
        nn.Conv2d(8, 6, 3, padding=1), nn.InstanceNorm2d(6, affine=True), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4),
    )  # fmt: skip


class TriPlane(nn.Module):
    """Features of a point are sampled from three learned planes and summed."""

    def __init__(self, channels: int = 4, side: int = 5) -> None:
        super().__init__()
        self.planes, self.mlp = nn.Parameter(torch.zeros(3, channels, side, side)), mlp(channels, 9)

    def forward(self, points: Tensor) -> Tensor:
        grids = torch.stack([points[..., [0, 1]], points[..., [0, 2]], points[..., [1, 2]]], dim=1)[0]
        features = F.grid_sample(self.planes, grids[:, None], align_corners=True)
        return self.mlp(features.squeeze(2).sum(0).t())


class LinearViewConv(nn.Module):
    """A convolution whose windows slide over neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.conv, self.head = nn.Linear(5, 12), nn.Conv1d(3, 7, 2), nn.Linear(21, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv(F.relu(self.lift(x)).view(-1, 3, 4)))
        return self.head(y.flatten(1))
