"""Symmetry groups that were derived by hand: log10 of the number of permutations, for each architecture.

Sizes are those of the configurations in this folder. In all language models, the 24 features of the residual stream can
be permuted (24!), if every layer's weights and norms, the embedding and the head are permuted alike. Tokens and logits
stay.

A rotary table is stored as a vector of frequencies, which all layers use. Exchanging two of its frequencies, and the
pairs of features that they rotate in all queries and keys of all layers, changes nothing: (pairs)! once per network.
"""

from __future__ import annotations

from math import lgamma, log

__all__ = ["KNOWN"]

STREAM, HIDDEN = 24, 40


def ways(*sizes: int) -> float:
    """log10 of the product of the factorials."""
    return sum(lgamma(n + 1) for n in sizes) / log(10)


def attention(heads: int, *dims: int) -> float:
    """Heads trade places, and within each head the features of every kind (queries with keys, values) do."""
    return ways(heads) + heads * ways(*dims)


def grouped() -> float:
    """Four query heads of 6 features share two heads of keys and values; queries and keys are rotated.

    The two groups trade places: 2!. The two query heads of a group do: 2! each. The 6 values of each group: 6!.
    """
    return ways(2) + 2 * (ways(2) + ways(6))


def llama(layer: float) -> float:
    """Two layers of grouped attention, each with something behind it, on a stream; three rotary pairs."""
    return ways(STREAM) + 2 * (grouped() + layer) + ways(3)


def mamba() -> float:
    """Per layer: 48 channels (both halves of in_proj, conv1d, dt_proj, A_log, D, out_proj): 48!.

    4 states (columns of A_log, the rows of x_proj that give B and C): 4!. 5 features between x_proj and dt_proj: 5!.
    """
    return ways(STREAM) + 2 * ways(48, 4, 5)


def mamba2() -> float:
    """Per layer: 8 heads of 6 channels in 2 groups of 4 heads; a group shares its B and C, of 5 states each.

    Groups: 2!. Heads of a group: 4! each (with dt_bias, A_log, D). Channels of a head: 6! each (x, gate, conv1d, norm,
    out_proj). States of a group: 5! each (B with C, and their channels of conv1d).
    """
    return ways(STREAM) + 2 * (ways(2) + 2 * ways(4, 5) + 8 * ways(6))


def rwkv() -> float:
    """Per layer: 24 channels of time mixing (key, value, receptance, decay, first, output), 40 of channel mixing."""
    return ways(STREAM) + 2 * ways(24, HIDDEN)


def xlstm() -> float:
    """Per block: 4 heads (with their gates), each with 3 features of queries and keys, and 6 of values.

    With a value go its norm and its output gate. The gated perceptron has 24 * 2.667 features, rounded up to 64.
    """
    return ways(STREAM) + 2 * (attention(4, 3, 6) + ways(64))


def mixtral() -> float:
    """Four experts trade places with their rows of the router: 4!. The 40 neurons of each: 40!."""
    return llama(ways(4) + 4 * ways(HIDDEN))


def qwen2_moe() -> float:
    """Four experts of 12 neurons, and one of 16 that all tokens use."""
    return llama(ways(4) + 4 * ways(12) + ways(16))


def deepseek_v3() -> float:
    """Attention through 14 latent features of queries and 10 of keys and values, each normalised: 14! 10!.

    Four heads with 6 features of queries and keys that are not rotated, and 5 of values: 4! (6! 5!)^4. The rotated ones
    are two pairs, the same key for all heads; their frequencies: 2! per network. The first layer has a perceptron: 40!.
    The second has two groups of two experts of 12 neurons, of which one group is chosen by its two best scores: 2! 2!^2
    12!^4 (with the rows and corrections of the router), and a shared expert: 12!.
    """
    mixer = ways(14, 10) + attention(4, 6, 5)
    return ways(STREAM) + 2 * mixer + ways(2) + ways(HIDDEN) + ways(2, 2, 2) + 5 * ways(12)


def deberta_v2() -> float:
    """Keys and queries of words and of relative positions are one: 4 heads of 6 and 6 features. The perceptrons: 40!.

    The embedding of relative positions is in the basis of the stream, as both go through the same weights. So is the
    last hidden layer, as the head is the embedding.
    """
    return ways(STREAM) + 2 * (attention(4, 6, 6) + ways(HIDDEN))


def gpt2() -> float:
    """Four heads of 6 and 6 features; perceptrons of 4 * 24 neurons."""
    return ways(STREAM) + 2 * (attention(4, 6, 6) + ways(4 * STREAM))


def vit() -> float:
    """Four heads of 6 and 6 features; the stream runs from patches to the classifier."""
    return ways(STREAM) + 2 * (attention(4, 6, 6) + ways(HIDDEN))


def bert() -> float:
    """As in ViT; the head's last hidden layer is in the basis of the embedding, to which it is tied."""
    return ways(STREAM) + 2 * (attention(4, 6, 6) + ways(HIDDEN))


def mpnet() -> float:
    """As BERT, but both layers use one table of biases for the heads, so that heads trade places in both at once."""
    return bert() - ways(4)


def mlp_mixer() -> float:
    """Per layer: 12 neurons that mix the patches, 96 that mix the features. The patches, places of the image, stay."""
    return ways(STREAM) + 2 * ways(STREAM // 2, 4 * STREAM)


def gat() -> float:
    """Three heads of 5 channels (weights, both attention vectors, bias, the next layer): 3! 5!^3.

    The second layer's 2 heads are averaged: 2!. Their channels are the outputs.
    """
    return attention(3, 5) + ways(2)


def transformer_conv() -> float:
    """As GAT, but queries and keys have features of their own (5, then 3); the skip connection goes with the values."""
    return attention(3, 5, 5) + attention(2, 3)


KNOWN: dict[str, float] = {
    "mamba": mamba(),
    "falcon_mamba": mamba(),
    "mamba2": mamba2(),
    "rwkv": rwkv(),
    "xlstm": xlstm(),
    "mixtral": mixtral(),
    "qwen2_moe": qwen2_moe(),
    "deepseek_v3": deepseek_v3(),
    "deberta_v2": deberta_v2(),
    "llama": llama(ways(HIDDEN)),
    "mistral": llama(ways(HIDDEN)),
    "qwen2": llama(ways(HIDDEN)),
    "gpt2": gpt2(),
    "vit_timm": gpt2(),
    "mlp_mixer": mlp_mixer(),
    "mpnet": mpnet(),
    "vit": vit(),
    "bert": bert(),
    "gcn": ways(8),
    "sage": ways(8),
    "sage_max": ways(8),
    "gin": ways(7, 8, 6),
    "gat": gat(),
    "gatv2": gat(),
    "transformer_conv": transformer_conv(),
}
