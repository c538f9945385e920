"""The operands and attributes of com.microsoft operators that their rules were written for.

ONNX Runtime extends its operators without a new version, so a rule must refuse whatever is not listed here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

__all__ = ["SIGNATURES", "unknown"]

_CONV = "auto_pad dilations group kernel_shape pads strides"
_HEADS = "num_heads scale mask_filter_value"
_MOE = (
    "k activation_type activation_alpha activation_beta normalize_routing_weights swiglu_fusion swiglu_limit "
    "swiglu_limit_after_activation use_sparse_mixer"
)
_TABLE = {
    "Attention": (
        7, f"{_HEADS} unidirectional qkv_hidden_sizes do_rotary rotary_embedding_dim past_present_share_buffer",
    ),
    "BiasAdd": (3, ""),
    "BiasGelu": (2, ""),
    "BiasSplitGelu": (2, ""),
    "CausalConvWithState": (
        4, "activation channels_last dilation input_channel_offset input_channels ndim state_channels_last "
        "state_length state_update_capacity state_window",
    ),
    "DecoderMaskedMultiHeadAttention": (11, f"{_HEADS} past_present_share_buffer output_qk"),
    "DequantizeLinear": (3, "axis"),
    "DynamicQuantizeLSTM": (
        12, "activation_alpha activation_beta activations clip direction hidden_size input_forget",
    ),
    "DynamicQuantizeMatMul": (5, ""),
    "EmbedLayerNormalization": (9, "epsilon mask_index_type"),
    "FastGelu": (2, ""),
    "FusedConv": (4, f"{_CONV} activation activation_params"),
    "FusedGemm": (3, "activation activation_alpha activation_beta activation_gamma alpha beta transA transB"),
    "FusedMatMul": (2, "alpha transA transB transBatchA transBatchB"),
    "GatherBlockQuantized": (4, "bits block_size gather_axis quantize_axis"),
    "Gelu": (1, ""),
    "GroupNorm": (3, "activation channels_last epsilon groups"),
    "GroupQueryAttention": (
        17, "num_heads kv_num_heads scale softcap do_rotary rotary_interleaved local_window_size smooth_softmax causal "
        "qk_output qk_norm_epsilon q_norm_epsilon k_norm_epsilon sliding_window_cache kv_cache_bit_width k_quant_type "
        "v_quant_type",
    ),
    "LayerNormalization": (3, "axis epsilon stash_type"),
    "MatMulBnb4": (3, "K N block_size quant_type training_mode transB"),
    "MatMulIntegerToFloat": (7, ""),
    "MatMulNBits": (6, "K N accuracy_level bits block_size weight_prepacked"),
    "MoE": (8, _MOE),
    "MultiHeadAttention": (10, f"{_HEADS} unidirectional"),
    "NhwcConv": (3, _CONV),
    "QAttention": (9, f"{_HEADS} unidirectional do_rotary past_present_share_buffer"),
    "QEmbedLayerNormalization": (18, "epsilon"),
    "QGemm": (9, "alpha transA transB"),
    "QLinearAdd": (8, ""),
    "QLinearAveragePool": (5, "auto_pad ceil_mode channels_last count_include_pad kernel_shape pads strides"),
    "QLinearConcat": (1 << 16, "axis"),
    "QLinearConv": (9, f"{_CONV} channels_last"),
    "QLinearGlobalAveragePool": (5, "channels_last"),
    "QLinearLeakyRelu": (5, "alpha"),
    "QLinearMul": (8, ""),
    "QLinearSigmoid": (5, ""),
    "QLinearSoftmax": (5, "axis opset"),
    "QLinearWhere": (9, ""),
    "QMoE": (21, f"{_MOE} expert_weight_bits block_size"),
    "QuantizeLinear": (3, "axis"),
    "QuickGelu": (1, "alpha"),
    "RotaryEmbedding": (4, "interleaved is_packed_batching num_heads rotary_embedding_dim scale"),
    "SimplifiedLayerNormalization": (2, "axis epsilon stash_type"),
    "SkipLayerNormalization": (5, "epsilon"),
    "SkipSimplifiedLayerNormalization": (4, "epsilon"),
    "Trilu": (2, "upper"),
}  # fmt: skip

SIGNATURES: Mapping[str, tuple[int, frozenset[str]]] = {
    op: (operands, frozenset(names.split())) for op, (operands, names) in _TABLE.items()
}
"""By operator: the maximal number of operands, and the names of attributes."""


def unknown(domain: str, op: str, inputs: Sequence[object | None], attributes: Collection[str]) -> str:
    """Why a node has an operand or attribute that its rule does not cover; empty if it has none."""
    if domain != "com.microsoft" or op not in SIGNATURES:
        return ""
    operands, names = SIGNATURES[op]
    if new := sorted(set(attributes) - names):
        return f"its attribute {new[0]!r} is not known"
    more = [i for i, value in enumerate(inputs) if i >= operands and value is not None]
    return f"its operand {more[0]} is not known" if more else ""
