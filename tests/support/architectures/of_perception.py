"""Networks of `transformers` for images, videos, sound and time series."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .common import image
from .of_transformers import MULTI, PADDING, network

__all__ = ["ARCHITECTURES"]

VISION: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "image_size": 32,
    "patch_size": 8,
}
SPEECH: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "conv_dim": (16, 16),
    "conv_stride": (4, 4),
    "conv_kernel": (8, 4),
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
}


def sound() -> tuple[Tensor, ...]:
    return (torch.randn(1, 256),)


def spectrogram() -> tuple[Tensor, ...]:
    return (torch.randn(1, 8, 24),)


def frames() -> tuple[Tensor, ...]:
    return (torch.randn(1, 4, 3, 16, 16),)


def series() -> tuple[Tensor, ...]:
    return (torch.randn(1, 16, 3),)


ARCHITECTURES = {
    "vit": network("ViTForImageClassification", inputs=image, **VISION, num_labels=5),
    "deit": network("DeiTForImageClassification", inputs=image, **VISION, num_labels=5),
    "beit": network(
        "BeitForImageClassification",
        attn_implementation="eager",
        inputs=image,
        **VISION,
        num_labels=5,
        use_relative_position_bias=True,
    ),
    "dinov2": network("Dinov2ForImageClassification", inputs=image, **VISION, num_labels=5, mlp_ratio=2),
    "siglip": network("SiglipVisionModel", "pooler_output", image, **VISION),
    "clip_vision": network("CLIPVisionModel", "pooler_output", image, **VISION),
    "swin": network(
        "SwinForImageClassification",
        attn_implementation="eager",
        inputs=image,
        image_size=32,
        patch_size=4,
        embed_dim=8,
        depths=[2, 1],
        num_heads=[2, 4],
        window_size=4,
        num_labels=5,
    ),
    "swinv2": network(
        "Swinv2ForImageClassification",
        inputs=image,
        image_size=32,
        patch_size=4,
        embed_dim=8,
        depths=[2, 1],
        num_heads=[2, 4],
        window_size=4,
        num_labels=5,
    ),
    "convnextv2": network(
        "ConvNextV2ForImageClassification",
        inputs=image,
        hidden_sizes=[8, 12, 16, 20],
        depths=[1, 1, 1, 1],
        num_labels=5,
    ),
    "segformer": network(
        "SegformerForSemanticSegmentation",
        inputs=image,
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 12],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[2, 3],
        mlp_ratios=[2, 2],
        decoder_hidden_size=10,
        num_labels=5,
    ),
    "poolformer": network(
        "PoolFormerForImageClassification",
        inputs=image,
        hidden_sizes=[8, 12],
        depths=[1, 1],
        num_encoder_blocks=2,
        patch_sizes=[7, 3],
        strides=[4, 2],
        padding=[2, 1],
        num_labels=5,
    ),
    "mobilevit": network(
        "MobileViTForImageClassification",
        inputs=lambda: image(64),
        image_size=64,
        hidden_sizes=[8, 12, 16],
        neck_hidden_sizes=[8, 8, 12, 12, 16, 16, 20],
        num_attention_heads=2,
        num_labels=5,
    ),
    "resnet_hf": network(
        "ResNetForImageClassification",
        inputs=image,
        embedding_size=8,
        hidden_sizes=[8, 12],
        depths=[1, 1],
        layer_type="basic",
        num_labels=5,
    ),
    "pvt_v2": network(
        "PvtV2ForImageClassification",
        inputs=image,
        hidden_sizes=[8, 8, 12, 16],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 2, 2, 4],
        sr_ratios=[4, 2, 1, 1],
        mlp_ratios=[2, 2, 2, 2],
        num_labels=5,
    ),
    "levit": network(
        "LevitForImageClassification",
        inputs=lambda: image(64),
        image_size=64,
        hidden_sizes=[16, 24, 32],
        num_attention_heads=[2, 3, 4],
        depths=[1, 1, 1],
        key_dim=[4, 4, 4],
        drop_path_rate=0,
        num_labels=5,
    ),
    "timesformer": network(
        "TimesformerForVideoClassification", inputs=frames, **VISION | {"image_size": 16}, num_frames=4, num_labels=5
    ),
    "videomae": network(
        "VideoMAEForVideoClassification", inputs=frames, **VISION | {"image_size": 16}, num_frames=4, num_labels=5
    ),
    "whisper": network(
        "WhisperForAudioClassification",
        inputs=spectrogram,
        **MULTI,
        **PADDING,
        num_mel_bins=8,
        max_source_positions=12,
        max_target_positions=8,
        num_labels=5,
        classifier_proj_size=10,
        decoder_start_token_id=1,
    ),
    "wav2vec2": network(
        "Wav2Vec2ForSequenceClassification", inputs=sound, **SPEECH, num_labels=5, classifier_proj_size=10
    ),
    "hubert": network("HubertForSequenceClassification", inputs=sound, **SPEECH, num_labels=5, classifier_proj_size=10),
    "patchtst": network(
        "PatchTSTForRegression",
        "regression_outputs",
        series,
        num_input_channels=3,
        context_length=16,
        patch_length=4,
        patch_stride=4,
        d_model=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        ffn_dim=40,
        num_targets=2,
    ),
    "patchtsmixer": network(
        "PatchTSMixerForRegression",
        "regression_outputs",
        series,
        num_input_channels=3,
        context_length=16,
        patch_length=4,
        patch_stride=4,
        d_model=24,
        num_layers=2,
        num_targets=2,
    ),
}
