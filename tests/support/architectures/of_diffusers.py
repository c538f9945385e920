"""Architectures of `diffusers`: narrow U-Nets, autoencoders and diffusion transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .common import Architecture, Field, Made

__all__ = ["ARCHITECTURES"]

STAGES: dict[str, Any] = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
CODER: dict[str, Any] = STAGES | {
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "latent_channels": 4,
}
HEADS: dict[str, Any] = {"attention_head_dim": 6, "num_attention_heads": 4}


def network(kind: str, inputs: Callable[[], tuple[Tensor, ...]], **sizes: Any) -> Architecture:
    """An architecture by the name of its class; `inputs` makes the inputs in the order of its arguments."""

    def make() -> Made:
        import diffusers

        return Field(getattr(diffusers, kind)(**sizes), "sample"), inputs()

    return Architecture("diffusers", make)


def picture() -> tuple[Tensor, ...]:
    return (torch.randn(1, 3, 16, 16),)


def noisy() -> tuple[Tensor, ...]:
    """A picture and its time."""
    return (*picture(), torch.tensor([3.0]))


def captioned() -> tuple[Tensor, ...]:
    """Latents, their time, and a text of five vectors."""
    return torch.randn(1, 4, 8, 8), torch.tensor([3.0]), torch.randn(1, 5, 12)


def labelled() -> tuple[Tensor, ...]:
    """Latents, their time and their class."""
    return torch.randn(1, 4, 8, 8), torch.tensor([3]), torch.tensor([2])


def sd3() -> tuple[Tensor, ...]:
    """Latents, a text, its pooled vector, a time."""
    return torch.randn(1, 4, 8, 8), torch.randn(1, 5, 12), torch.randn(1, 10), torch.tensor([3.0])


def flux() -> tuple[Tensor, ...]:
    """Patches, a text, its pooled vector, a time, the positions of patches and of words."""
    return (torch.randn(1, 6, 4), torch.randn(1, 5, 12), torch.randn(1, 10), torch.tensor([0.3]), torch.rand(6, 3),
            torch.rand(5, 3))  # fmt: skip


ARCHITECTURES = {
    "unet": network(
        "UNet2DModel",
        noisy,
        sample_size=16,
        **STAGES,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    ),
    "unet_text": network(
        "UNet2DConditionModel",
        captioned,
        sample_size=8,
        **STAGES,
        cross_attention_dim=12,
        attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ),
    "autoencoder_kl": network("AutoencoderKL", picture, **CODER),
    "vq_model": network("VQModel", picture, **CODER | {"latent_channels": 3}, num_vq_embeddings=7),
    "dit": network(
        "DiTTransformer2DModel",
        labelled,
        **HEADS,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=10,
    ),
    "sd3": network(
        "SD3Transformer2DModel",
        sd3,
        **HEADS,
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        joint_attention_dim=12,
        caption_projection_dim=24,
        pooled_projection_dim=10,
        pos_embed_max_size=8,
    ),
    "flux": network(
        "FluxTransformer2DModel",
        flux,
        attention_head_dim=8,
        num_attention_heads=2,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        joint_attention_dim=12,
        pooled_projection_dim=10,
        axes_dims_rope=(2, 2, 4),
    ),
}
