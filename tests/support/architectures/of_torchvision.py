"""Architectures of `torchvision`, as narrow as their constructors allow."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from .common import Architecture, Made, image

__all__ = ["ARCHITECTURES"]

CLASSES = 5


def network(build: Callable[[Any], nn.Module], size: int = 32) -> Architecture:
    """build: makes the module from `torchvision.models`. size: of the image."""

    def make() -> Made:
        import torchvision.models

        return build(torchvision.models), image(size)

    return Architecture("torchvision", make)


def mobilenet_v3(models: Any) -> nn.Module:
    setting, last = models.mobilenetv3._mobilenet_v3_conf("mobilenet_v3_small", width_mult=0.2)
    return models.MobileNetV3(setting, last, num_classes=CLASSES)


def efficientnet(models: Any) -> nn.Module:
    setting, _ = models.efficientnet._efficientnet_conf("efficientnet_b0", width_mult=0.2, depth_mult=0.2)
    return models.EfficientNet(setting, 0.0, num_classes=CLASSES, last_channel=32)


def regnet(models: Any) -> nn.Module:
    sizes = models.regnet.BlockParams.from_init_params(depth=4, w_0=8, w_a=8.0, w_m=2.0, group_width=4, se_ratio=0.25)
    return models.RegNet(sizes, num_classes=CLASSES, stem_width=8)


def convnext(models: Any) -> nn.Module:
    block = models.convnext.CNBlockConfig
    return models.ConvNeXt([block(8, 12, 1), block(12, 16, 1), block(16, None, 1)], num_classes=CLASSES)


ARCHITECTURES = {
    "resnet18_narrow": network(
        lambda m: m.ResNet(m.resnet.Bottleneck, [1, 1, 1, 1], CLASSES, groups=2, width_per_group=4)
    ),
    "squeezenet": network(lambda m: m.SqueezeNet("1_1", num_classes=CLASSES), 64),
    "mobilenet_v2": network(lambda m: m.MobileNetV2(num_classes=CLASSES, width_mult=0.1)),
    "mobilenet_v3": network(mobilenet_v3),
    "mnasnet": network(lambda m: m.MNASNet(0.1, num_classes=CLASSES)),
    "shufflenet_v2": network(lambda m: m.ShuffleNetV2([1, 1, 1], [8, 8, 16, 24, 32], num_classes=CLASSES)),
    "densenet": network(lambda m: m.DenseNet(4, (2, 2), 8, num_classes=CLASSES)),
    "efficientnet": network(efficientnet),
    "regnet": network(regnet),
    "convnext": network(convnext),
    "swin_torchvision": network(
        lambda m: m.SwinTransformer([4, 4], 8, [2, 1], [2, 4], [4, 4], stochastic_depth_prob=0.0, num_classes=CLASSES)
    ),
    "vit_torchvision": network(lambda m: m.VisionTransformer(32, 8, 2, 4, 24, 40, num_classes=CLASSES)),
    "maxvit": network(
        lambda m: m.MaxVit(
            (32, 32), 8, 4, [8, 16], [1, 1], 4, 0.0, num_classes=CLASSES, norm_layer=partial(nn.BatchNorm2d)
        )
    ),
}
