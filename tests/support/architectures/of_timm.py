"""Architectures of `timm`: two or three narrow blocks."""

from __future__ import annotations

from typing import Any

from .common import Architecture, Made, image

__all__ = ["ARCHITECTURES"]

NONE: dict[str, Any] = {}
PATCHES: dict[str, Any] = {"img_size": 32, "patch_size": 8, "num_classes": 5}
TRANSFORMER: dict[str, Any] = PATCHES | {"embed_dim": 24, "depth": 2, "num_heads": 4}
STAGES: dict[str, Any] = {"depths": (1, 1, 1, 1), "dims": (8, 12, 16, 20), "num_classes": 5}


def network(module: str, kind: str, size: int = 32, classes: dict[str, Any] = NONE, **sizes: Any) -> Architecture:
    """An architecture by the names of its module in `timm.models` and of its class.

    Args:
        module: The module.
        kind: The class.
        size: Of the image.
        classes: Arguments that are classes of the module, by name.
        sizes: Further arguments.
    """

    def make() -> Made:
        import importlib

        found = importlib.import_module(f"timm.models.{module}")
        net = getattr(found, kind)(**{name: getattr(found, layer) for name, layer in classes.items()}, **sizes)
        for part in net.modules():
            if hasattr(part, "fused_attn"):
                part.fused_attn = False  # attention with more than four axes has no fused form in ONNX
        return net, image(size)

    return Architecture("timm", make)


ARCHITECTURES = {
    "vit_timm": network("vision_transformer", "VisionTransformer", **TRANSFORMER),
    "eva02": network("eva", "Eva", **TRANSFORMER | {"num_heads": 3}, use_rot_pos_emb=True, swiglu_mlp=True),
    "mlp_mixer": network("mlp_mixer", "MlpMixer", **PATCHES, num_blocks=2, embed_dim=24),
    "resmlp": network(
        "mlp_mixer", "MlpMixer", classes={"block_layer": "ResBlock"}, **PATCHES, num_blocks=2, embed_dim=24, mlp_ratio=4
    ),
    "gmlp": network(
        "mlp_mixer",
        "MlpMixer",
        classes={"block_layer": "SpatialGatingBlock", "mlp_layer": "GatedMlp"},
        **PATCHES,
        num_blocks=2,
        embed_dim=24,
        mlp_ratio=4,
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
        patch_size=4,
        embed_dims=(8, 12, 16, 20),
        serial_depths=(1, 1, 1, 1),
        parallel_depth=0,
        num_heads=4,
        mlp_ratios=(2, 2, 2, 2),
        crpe_window={3: 1, 5: 1, 7: 2},
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
    ),
    "focalnet": network("focalnet", "FocalNet", depths=(1, 1), embed_dim=8, num_classes=5),
    "davit": network(
        "davit", "DaVit", depths=(1, 1), embed_dims=(8, 12), num_heads=(2, 3), window_size=4, num_classes=5
    ),
    "ghostnet": network(
        "ghostnet",
        "GhostNet",
        cfgs=[[[3, 32, 32, 0, 1]], [[3, 48, 48, 0, 2]], [[5, 64, 48, 0.25, 2]]],
        width=0.3,
        num_classes=5,
    ),
    "resnetv2": network(
        "resnetv2",
        "ResNetV2",
        layers=(1, 1),
        channels=(8, 16),
        stem_chs=8,
        num_classes=5,
        classes={"norm_layer": "BatchNormAct2d"},
    ),
    "inception_next": network(
        "inception_next", "MetaNeXt", depths=(1, 1), dims=(16, 24), mlp_ratios=(2, 2), num_classes=5
    ),
}
