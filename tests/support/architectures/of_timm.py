"""Architectures of `timm`: two or three narrow blocks."""

from __future__ import annotations

from typing import Any

from .common import Architecture, Made, image

__all__ = ["ARCHITECTURES"]

PATCHES: dict[str, Any] = {"img_size": 32, "patch_size": 8, "num_classes": 5}
TRANSFORMER: dict[str, Any] = PATCHES | {"embed_dim": 24, "depth": 2, "num_heads": 4}
STAGES: dict[str, Any] = {"depths": (1, 1, 1, 1), "dims": (8, 12, 16, 20), "num_classes": 5}


def network(module: str, kind: str, size: int = 32, block: str = "", **sizes: Any) -> Architecture:
    """An architecture by the names of its module in `timm.models` and of its class.

    Args:
        module: The module.
        kind: The class.
        size: Of the image.
        block: The class of the blocks, where they are an argument.
        sizes: Further arguments.
    """

    def make() -> Made:
        import importlib

        found = importlib.import_module(f"timm.models.{module}")
        blocks = {"block_layer": getattr(found, block)} if block else {}
        return getattr(found, kind)(**blocks, **sizes), image(size)

    return Architecture("timm", make)


ARCHITECTURES = {
    "vit_timm": network("vision_transformer", "VisionTransformer", **TRANSFORMER),
    "eva02": network("eva", "Eva", **TRANSFORMER, use_rot_pos_emb=True, swiglu_mlp=True),
    "mlp_mixer": network("mlp_mixer", "MlpMixer", **PATCHES, num_blocks=2, embed_dim=24),
    "resmlp": network("mlp_mixer", "MlpMixer", block="ResBlock", **PATCHES, num_blocks=2, embed_dim=24, mlp_ratio=4),
    "gmlp": network(
        "mlp_mixer", "MlpMixer", block="SpatialGatingBlock", **PATCHES, num_blocks=2, embed_dim=24, mlp_ratio=4
    ),
    "convmixer": network("convmixer", "ConvMixer", dim=16, depth=2, kernel_size=3, patch_size=4, num_classes=5),
    "convit": network("convit", "ConVit", **TRANSFORMER | {"depth": 3}, local_up_to_layer=2),
    "xcit": network("xcit", "Xcit", **TRANSFORMER, cls_attn_layers=1),
    "cait": network("cait", "Cait", **TRANSFORMER, depth_token_only=1),
    "coat_lite": network(
        "coat",
        "CoaT",
        64,
        img_size=64,
        embed_dims=(8, 12, 16, 20),
        serial_depths=(1, 1, 1, 1),
        parallel_depth=0,
        num_heads=4,
        mlp_ratios=(2, 2, 2, 2),
        num_classes=5,
    ),
    "tnt": network("tnt", "TNT", **PATCHES, embed_dim=24, inner_dim=8, depth=2, num_heads_inner=2, num_heads_outer=4),
    "nest": network(
        "nest",
        "Nest",
        img_size=32,
        patch_size=4,
        num_levels=2,
        embed_dims=(8, 12),
        num_heads=(2, 3),
        depths=(1, 1),
        num_classes=5,
    ),
    "convnext_timm": network("convnext", "ConvNeXt", **STAGES),
    "edgenext": network(
        "edgenext",
        "EdgeNeXt",
        64,
        **STAGES,
        global_block_counts=(0, 1, 1, 1),
        heads=(4, 4, 4, 4),
        global_block_type=("None", "SplitTransposeBlock", "SplitTransposeBlock", "SplitTransposeBlock"),
    ),
    "focalnet": network("focalnet", "FocalNet", depths=(1, 1), embed_dim=8, num_classes=5),
    "davit": network(
        "davit", "DaVit", depths=(1, 1), embed_dims=(8, 12), num_heads=(2, 3), window_size=4, num_classes=5
    ),
    "ghostnet": network("ghostnet", "GhostNet", width=0.2, num_classes=5),
    "resnetv2": network("resnetv2", "ResNetV2", layers=(1, 1), channels=(8, 16), stem_chs=8, num_classes=5),
    "inception_next": network(
        "inception_next", "MetaNeXt", depths=(1, 1), dims=(16, 24), mlp_ratios=(2, 2), num_classes=5
    ),
}
