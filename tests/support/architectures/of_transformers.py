"""Language models of `transformers`: hidden size 24 and two layers where the architecture lets one choose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .common import Architecture, Field, Made, tokens

__all__ = ["ARCHITECTURES", "MULTI", "PADDING", "network"]

Inputs = Callable[[], tuple[Tensor, ...]]
TEXT: dict[str, Any] = {"vocab_size": 40, "hidden_size": 24, "num_hidden_layers": 2}
ATTENTION: dict[str, Any] = TEXT | {"num_attention_heads": 4, "intermediate_size": 40}
GROUPED: dict[str, Any] = ATTENTION | {"num_key_value_heads": 2}
THREE: dict[str, Any] = ATTENTION | {"num_attention_heads": 3, "num_key_value_heads": 3}
"""Heads of 8 features, of which a quarter or a half can be rotated."""
GPT: dict[str, Any] = {"vocab_size": 40, "n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 16}
PADDING: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
MULTI: dict[str, Any] = {"d_model": 24, "vocab_size": 40, "encoder_layers": 1, "decoder_layers": 1} | {
    f"{part}_{name}": value
    for part in ("encoder", "decoder")
    for name, value in (("attention_heads", 4), ("ffn_dim", 40))
}


def network(
    model: str, field: str = "logits", inputs: Inputs = tokens, experts: str | None = None, **sizes: Any
) -> Architecture:
    """An architecture by the name of its class.

    Args:
        model: The class.
        field: Which field of its result the network returns.
        inputs: Makes the inputs.
        experts: How mixtures of experts are computed; the default, a grouped product, has no form in ONNX.
        sizes: Arguments of its configuration.
    """

    def make() -> Made:
        import transformers

        kind = getattr(transformers, model)
        config = kind.config_class(**sizes)
        if experts:
            config._experts_implementation = experts
        options = {"use_cache": False} if inputs is tokens and hasattr(config, "use_cache") else {}
        return Field(kind(config), field, **options), inputs()

    return Architecture("transformers", make)


def pairs() -> tuple[Tensor, ...]:
    """Tokens, a mask that hides none, and tokens for a decoder."""
    return torch.randint(1, 40, (1, 5)), torch.ones(1, 5, dtype=torch.int64), torch.randint(1, 40, (1, 4))


def masked() -> tuple[Tensor, ...]:
    """Tokens, and a mask that hides none."""
    return *tokens(), torch.ones(1, 5, dtype=torch.int64)


def gathered(model: str, **sizes: Any) -> Architecture:
    """A mixture of experts whose weights are gathered for each token."""
    return network(model, experts="batched_mm", **sizes)


STATE = {
    "mamba": network("MambaForCausalLM", **TEXT, state_size=4, time_step_rank=5),
    "falcon_mamba": network("FalconMambaForCausalLM", **TEXT, state_size=4, time_step_rank=5),
    "mamba2": network("Mamba2ForCausalLM", **TEXT, state_size=5, num_heads=8, head_dim=6, n_groups=2, chunk_size=4),
    "rwkv": network("RwkvForCausalLM", **TEXT, attention_hidden_size=24, intermediate_size=40),
    "xlstm": network(
        "xLSTMForCausalLM",
        vocab_size=40,
        hidden_size=24,
        num_blocks=2,
        num_heads=4,
        chunk_size=4,
        chunkwise_kernel="chunkwise--native_autograd",
        sequence_kernel="native_sequence__native",
        step_kernel="native",
        mode="inference",
    ),
    "recurrent_gemma": network(
        "RecurrentGemmaForCausalLM",
        **GROUPED | {"num_key_value_heads": 1, "num_hidden_layers": 3},
        lru_width=24,
        attention_window_size=8,
        head_dim=6,
    ),
    "jamba": gathered(
        "JambaForCausalLM",
        **GROUPED,
        num_experts=4,
        num_experts_per_tok=2,
        expert_layer_period=2,
        expert_layer_offset=1,
        attn_layer_period=2,
        attn_layer_offset=1,
        mamba_d_state=4,
        mamba_d_conv=4,
        mamba_expand=2,
        mamba_dt_rank=5,
        use_mamba_kernels=False,
    ),
    "bamba": network(
        "BambaForCausalLM",
        **GROUPED,
        mamba_n_heads=8,
        mamba_d_head=6,
        mamba_n_groups=2,
        mamba_d_state=5,
        mamba_expand=2,
        mamba_chunk_size=4,
        attn_layer_indices=[1],
    ),
}
EXPERTS = {
    "mixtral": gathered("MixtralForCausalLM", **GROUPED, num_local_experts=4, num_experts_per_tok=2),
    "qwen2_moe": gathered(
        "Qwen2MoeForCausalLM",
        **GROUPED,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=12,
        shared_expert_intermediate_size=16,
    ),
    "qwen3_moe": gathered(
        "Qwen3MoeForCausalLM", **GROUPED, head_dim=6, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=12
    ),
    "olmoe": gathered("OlmoeForCausalLM", **GROUPED, num_experts=4, num_experts_per_tok=2),
    "deepseek_v3": gathered(
        "DeepseekV3ForCausalLM",
        **ATTENTION,
        num_key_value_heads=4,
        n_routed_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=12,
        n_shared_experts=1,
        n_group=2,
        topk_group=1,
        first_k_dense_replace=1,
        kv_lora_rank=10,
        q_lora_rank=14,
        qk_nope_head_dim=6,
        qk_rope_head_dim=4,
        v_head_dim=5,
    ),
    "gpt_oss": gathered("GptOssForCausalLM", **GROUPED, head_dim=6, num_local_experts=4, num_experts_per_tok=2),
    "switch_transformers": network(
        "SwitchTransformersEncoderModel",
        "last_hidden_state",
        masked,
        vocab_size=40,
        d_model=24,
        d_kv=6,
        d_ff=40,
        num_layers=2,
        num_heads=4,
        num_experts=3,
        num_sparse_encoder_layers=1,
    ),
}
DECODERS = {
    "gpt2": network("GPT2LMHeadModel", **GPT),
    "gpt_neo": network(
        "GPTNeoForCausalLM",
        vocab_size=40,
        hidden_size=24,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        max_position_embeddings=16,
        window_size=3,
    ),
    "gptj": network("GPTJForCausalLM", **GPT, rotary_dim=4),
    "codegen": network("CodeGenForCausalLM", **GPT, rotary_dim=4),
    "gpt_neox": network("GPTNeoXForCausalLM", **THREE),
    "gpt_bigcode": network("GPTBigCodeForCausalLM", **GPT),
    "llama": network("LlamaForCausalLM", **GROUPED),
    "mistral": network("MistralForCausalLM", **GROUPED, sliding_window=4),
    "qwen2": network("Qwen2ForCausalLM", **GROUPED),
    "qwen3": network("Qwen3ForCausalLM", **GROUPED, head_dim=6),
    "gemma": network("GemmaForCausalLM", **GROUPED, head_dim=6),
    "gemma2": network("Gemma2ForCausalLM", **GROUPED, head_dim=6),
    "phi": network("PhiForCausalLM", **THREE),
    "phi3": network("Phi3ForCausalLM", **GROUPED, **PADDING),
    "olmo2": network("Olmo2ForCausalLM", **GROUPED),
    "stablelm": network("StableLmForCausalLM", **THREE),
    "starcoder2": network("Starcoder2ForCausalLM", **GROUPED),
    "cohere": network("CohereForCausalLM", **GROUPED),
    "granite": network("GraniteForCausalLM", **GROUPED),
    "falcon": network("FalconForCausalLM", **TEXT, num_attention_heads=4),
    "bloom": network("BloomForCausalLM", vocab_size=40, hidden_size=24, n_layer=2, n_head=4),
    "mpt": network("MptForCausalLM", vocab_size=40, d_model=24, n_layers=2, n_heads=4, max_seq_len=16),
    "opt": network(
        "OPTForCausalLM", **TEXT, num_attention_heads=4, ffn_dim=40, word_embed_proj_dim=24, max_position_embeddings=16
    ),
}
ENCODERS = {
    "bert": network("BertForMaskedLM", **ATTENTION, max_position_embeddings=16),
    "roberta": network("RobertaForMaskedLM", **ATTENTION, max_position_embeddings=16),
    "electra": network("ElectraForMaskedLM", **ATTENTION, embedding_size=16, max_position_embeddings=16),
    "albert": network("AlbertForMaskedLM", **ATTENTION, embedding_size=16, max_position_embeddings=16),
    "distilbert": network(
        "DistilBertForMaskedLM", vocab_size=40, dim=24, n_layers=2, n_heads=4, hidden_dim=40, max_position_embeddings=16
    ),
    "deberta_v2": network(
        "DebertaV2ForMaskedLM",
        **ATTENTION,
        max_position_embeddings=32,
        type_vocab_size=0,
        relative_attention=True,
        position_buckets=8,
        pos_att_type=["c2p", "p2c"],
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        position_biased_input=False,
    ),
    "mpnet": network("MPNetForMaskedLM", **ATTENTION, max_position_embeddings=16),
    "modernbert": network("ModernBertForMaskedLM", **ATTENTION, **PADDING, cls_token_id=1, sep_token_id=2),
    "squeezebert": network("SqueezeBertForMaskedLM", **ATTENTION, embedding_size=24, max_position_embeddings=16),
    "fnet": network("FNetForMaskedLM", **TEXT, intermediate_size=40, max_position_embeddings=16),
    "nystromformer": network(
        "NystromformerForMaskedLM",
        **ATTENTION,
        max_position_embeddings=16,
        segment_means_seq_len=4,
        num_landmarks=4,
        conv_kernel_size=3,
    ),
    "xlnet": network("XLNetLMHeadModel", vocab_size=40, d_model=24, n_layer=2, n_head=4, d_inner=40),
    "t5": network(
        "T5EncoderModel",
        "last_hidden_state",
        attn_implementation="eager",
        vocab_size=40,
        d_model=24,
        d_kv=6,
        d_ff=40,
        num_layers=2,
        num_heads=4,
    ),
    "t5_full": network(
        "T5ForConditionalGeneration",
        attn_implementation="eager",
        inputs=pairs,
        vocab_size=40,
        d_model=24,
        d_kv=6,
        d_ff=40,
        num_layers=1,
        num_heads=4,
        use_cache=False,
    ),
    "bart": network(
        "BartForConditionalGeneration", inputs=pairs, **MULTI, **PADDING, max_position_embeddings=16, use_cache=False
    ),
    "marian": network(
        "MarianMTModel",
        inputs=pairs,
        **MULTI,
        **PADDING,
        decoder_start_token_id=1,
        max_position_embeddings=16,
        use_cache=False,
    ),
    "clip_text": network("CLIPTextModel", "last_hidden_state", **ATTENTION, **PADDING, max_position_embeddings=16),
}
ARCHITECTURES = STATE | EXPERTS | DECODERS | ENCODERS
