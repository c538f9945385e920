"""A zoo of small torch networks, and how many parameter edges each must give.

A few thousand parameters each. Axes that mean different things differ in length, and all tensors hold distinct random
values, since exporters merge equal ones. The batch size of the examples is 1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from support.zoo_attention import GPT, Decoder, Llama, PackedAttention, QKVAttention, Swin, TorchAttention, ViT
from support.zoo_others import (
    ConvNeXt,
    DeepSets,
    DenseNet,
    LinearViewConv,
    Mixer,
    MixtureOfExperts,
    ShuffleNet,
    Siren,
    SqueezeExcite,
    StackedExperts,
    TriPlane,
    UNet,
    grouped,
    groupnorm,
    perceptron,
    resnet,
)
from torch import Tensor, nn

Example = tuple[nn.Module, tuple[Tensor, ...]]


def _image(size: int) -> tuple[Tensor]:
    return (torch.randn(1, 3, size, size),)


def _ids(vocabulary: int, length: int) -> tuple[Tensor]:
    return (torch.randint(0, vocabulary, (1, length)),)


_MAKERS: dict[str, Callable[[], Example]] = {
    "perceptron": lambda: (perceptron(), (torch.randn(1, 8),)),
    "resnet": lambda: (resnet(), _image(16)),
    "vit": lambda: (ViT(PackedAttention(12, 3, fused=False), PackedAttention(12, 3, fused=True)), _image(8)),
    "vit_torch_mha": lambda: (ViT(TorchAttention(12, 3)), _image(8)),
    "swin": lambda: (Swin(), _image(16)),
    "convnext": lambda: (ConvNeXt(), _image(16)),
    "grouped": lambda: (grouped(), _image(8)),
    "densenet": lambda: (DenseNet(), _image(8)),
    "unet": lambda: (UNet(), _image(8)),
    "squeeze_excite": lambda: (SqueezeExcite(), _image(8)),
    "shufflenet": lambda: (ShuffleNet(), _image(8)),
    "siren": lambda: (Siren(), (torch.randn(1, 2),)),
    "gpt": lambda: (GPT(), _ids(11, 6)),
    "llama": lambda: (Llama(), _ids(13, 5)),
    "llama_computed": lambda: (Llama(computed=True), _ids(13, 5)),
    "mixer": lambda: (Mixer(), _image(8)),
    "experts": lambda: (MixtureOfExperts(), (torch.randn(1, 6),)),
    "experts_stacked": lambda: (StackedExperts(), (torch.randn(1, 6),)),
    "decoder": lambda: (Decoder(), _image(8)),
    "deepsets": lambda: (DeepSets(), (torch.randn(1, 5, 3),)),
    "groupnorm": lambda: (groupnorm(), _image(8)),
    "triplane": lambda: (TriPlane(), (torch.rand(1, 6, 3) * 1.6 - 0.8,)),
    "linear_view_conv": lambda: (LinearViewConv(), (torch.randn(1, 5),)),
    "attention_qkv": lambda: (QKVAttention(8, 2), (torch.randn(1, 5, 8),)),
}


def randomise(module: nn.Module) -> nn.Module:
    """Distinct random values in every parameter and running statistic; evaluation mode."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
        for child in module.modules():
            if isinstance(child, nn.BatchNorm2d):
                child.weight.uniform_(0.5, 1.5)
                for statistic in (child.running_mean, child.running_var):
                    assert statistic is not None
                    statistic.uniform_(0.5, 1.5)
    return module.eval()


def _seeded(name: str, make: Callable[[], Example]) -> Callable[[], Example]:
    def build() -> Example:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(sum(map(ord, name)))
            module, inputs = make()
            return randomise(module), inputs

    return build


NETWORKS: dict[str, Callable[[], Example]] = {name: _seeded(name, make) for name, make in _MAKERS.items()}


def _gelu_for_relu() -> Example:
    module, inputs = NETWORKS["resnet"]()
    module[2] = nn.GELU()
    return module, inputs


def _stride_1_for_2() -> Example:
    module, inputs = NETWORKS["resnet"]()
    for convolution in (module[5].conv1, module[5].skip[0]):
        convolution.stride = (1, 1)
    return module, inputs


# Networks of the zoo with the same parameters that compute something else.
VARIANTS: dict[str, Callable[[], Example]] = {
    "resnet, GELU for ReLU": _gelu_for_relu,
    "resnet, stride 1 for 2": _stride_1_for_2,
}


def expected_edges(module: nn.Module) -> int:
    """Parameters (a tied one once), BatchNorm's running statistics, and rotary tables, which vary over neurons.

    Of a table that is computed in the file its frequencies count. Integer buffers (BatchNorm's counter, Swin's offsets)
    and masks, which vary over positions alone, do not.
    """
    counted = ("running_mean", "running_var", "cos", "sin", "frequency")
    buffers = [buffer for name, buffer in module.named_buffers() if name.split(".")[-1] in counted]
    return sum(tensor.numel() for tensor in (*module.parameters(), *buffers))
