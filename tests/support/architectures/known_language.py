"""Language models: log10 of the number of permutations, derived by hand.

In all of them, the 24 features of the residual stream can be permuted (24!), if every layer's weights and norms, the
embedding and the head are permuted alike. Tokens and logits stay.

A rotary table is stored as a vector of frequencies, which all layers use. Exchanging two of its frequencies, and the
pairs of features that they rotate in all queries and keys of all layers, changes nothing: (pairs)! once per network.
"""

from __future__ import annotations

from math import log10

from .counting import HIDDEN, STREAM, attention, blocks, ways

__all__ = ["KNOWN"]


def grouped(*dims: int) -> float:
    """Four query heads of 6 features share two heads of keys and values; queries and keys are rotated.

    The two groups trade places: 2!. The two query heads of a group do: 2! each. The 6 values of each group: 6!.

    Args:
        dims: How many features of queries and keys are alike in other ways, if any: 2 that are not rotated, say.
    """
    return ways(2) + 2 * (ways(2) + ways(6, *dims))


def llama(layer: float) -> float:
    """Two layers of grouped attention, each with something behind it, on a stream; three rotary pairs."""
    return ways(STREAM) + 2 * (grouped() + layer) + ways(3)


def mamba_layer() -> float:
    """48 channels (both halves of in_proj, conv1d, dt_proj, A_log, D, out_proj): 48!.

    4 states (columns of A_log, the rows of x_proj that give B and C): 4!. 5 features between x_proj and dt_proj: 5!.
    """
    return ways(48, 4, 5)


def mamba2_layer() -> float:
    """8 heads of 6 channels in 2 groups of 4 heads; a group shares its B and C, of 5 states each.

    Groups: 2!. Heads of a group: 4! each (with dt_bias, A_log, D). Channels of a head: 6! each (x, gate, conv1d, norm,
    out_proj). States of a group: 5! each (B with C, and their channels of conv1d).
    """
    return ways(2) + 2 * ways(4, 5) + 8 * ways(6)


def rwkv() -> float:
    """Per layer: 24 channels of time mixing (key, value, receptance, decay, first, output), 40 of channel mixing."""
    return ways(STREAM) + 2 * ways(24, HIDDEN)


def xlstm() -> float:
    """Per block: 4 heads (with their gates), each with 3 features of queries and keys, and 6 of values.

    With a value go its norm and its output gate. The gated perceptron has 24 * 2.667 features, rounded up to 64.
    """
    return ways(STREAM) + 2 * (attention(4, 3, 6) + ways(64))


def recurrent_gemma() -> float:
    """Two layers of recurrences, then one of attention, each with a gated perceptron of 20 neurons.

    A recurrence has 24 channels (convolution, decay, gate of the branch); its gates are matrices of 4 blocks of 6.
    Four query heads share one of keys and values: 4! 6!. Two pairs are rotated and two features are not: 2! 2!.
    """
    return ways(STREAM) + 2 * blocks(4, 6) + 3 * ways(20) + ways(4, 6) + ways(2, 2)


def jamba() -> float:
    """A layer of Mamba (B, C and dt normalised) and a perceptron; one of attention without rotation, and experts."""
    return ways(STREAM) + mamba_layer() + ways(HIDDEN) + grouped(6) + experts()


def bamba() -> float:
    """A layer of Mamba-2, one of attention, each with a perceptron; two pairs are rotated and two features are not."""
    return ways(STREAM) + mamba2_layer() + grouped(2) + 2 * ways(HIDDEN) + ways(2)


def experts(neurons: int = HIDDEN) -> float:
    """Four experts trade places with their rows of the router: 4!. So do the neurons of each."""
    return blocks(4, neurons)


def deepseek_v3() -> float:
    """Attention through 14 latent features of queries and 10 of keys and values, each normalised: 14! 10!.

    Four heads with 6 features of queries and keys that are not rotated, and 5 of values: 4! (6! 5!)^4. The rotated ones
    are two pairs, the same key for all heads; their frequencies: 2! per network. The first layer has a perceptron: 40!.
    The second has two groups of two experts of 12 neurons, of which one group is chosen by its two best scores: 2! 2!^2
    12!^4 (with the rows and corrections of the router), and a shared expert: 12!.
    """
    mixer = ways(14, 10) + attention(4, 6, 5)
    return ways(STREAM) + 2 * mixer + ways(2) + ways(HIDDEN) + ways(2, 2, 2) + 5 * ways(12)


def plain(neurons: int = HIDDEN) -> float:
    """Two layers of attention by 4 heads, of 6 features each of queries and keys, and of values, and a perceptron."""
    return ways(STREAM) + 2 * (attention(4, 6, 6) + ways(neurons))


def rotated(heads: int, values: int, neurons: int, beside: int, pairs: int) -> float:
    """Two layers whose heads rotate `pairs` pairs of queries and keys, and `beside` features not."""
    return ways(STREAM) + 2 * (attention(heads, values, beside) + ways(neurons)) + ways(pairs)


def sharing(*dims: int) -> float:
    """Two layers of 4 query heads that share one head of keys and values, and a perceptron of 96 neurons."""
    return ways(STREAM) + 2 * (ways(4, *dims) + ways(4 * STREAM))


def alibi() -> float:
    """As GPT-2, but each head has a slope of its own: heads stay."""
    return plain(4 * STREAM) - 2 * ways(4)


def electra() -> float:
    """The embedding has 16 features of its own, which the head shares."""
    return plain() + ways(16)


def albert() -> float:
    """As ELECTRA, with one layer that is used twice."""
    return ways(STREAM, 16) + attention(4, 6, 6) + ways(HIDDEN)


def mpnet() -> float:
    """As BERT, but both layers use one table of biases for the heads, so that heads trade places in both at once."""
    return plain() - ways(4)


def modernbert() -> float:
    """Heads rotate all of queries and keys, in layers of two kinds with a table of three frequencies each."""
    return ways(STREAM) + 2 * (attention(4, 6) + ways(HIDDEN)) + 2 * ways(3)


def squeezebert() -> float:
    """All layers but the one behind attention are in 4 groups of channels, which are the heads.

    Groups trade places in the stream, in the heads and in the perceptrons of all layers at once: 4!. Within a group:
    the 6 features of the stream; per layer 6 of queries and keys, 6 of values, and 10 of the perceptron's neurons.
    """
    return blocks(4, 6) + 2 * 4 * ways(6, 6, 10)


def fnet() -> float:
    """A Fourier transform mixes the stream, of which it keeps the real part; the embedding's features are free: 24!.

    The transform of 24 features commutes with multiplying their numbers by a unit u modulo 24, since u u = 1 for all 8
    units: x'[j] = x[u j] has the transform y'[k] = y[u k].
    """
    return ways(STREAM) + 2 * ways(HIDDEN) + log10(8)


def translator() -> float:
    """One layer each of an encoder and a decoder (which attends to both), whose streams share the embedding."""
    return ways(STREAM) + 3 * attention(4, 6, 6) + 2 * ways(HIDDEN)


def t5() -> float:
    """Two layers that use one table of biases for the heads; the stream is the output."""
    return 2 * (attention(4, 6, 6) + ways(HIDDEN)) - ways(4)


def switch_transformers() -> float:
    """As T5, with 3 experts in the second layer."""
    return t5() - ways(HIDDEN) + blocks(3, HIDDEN)


def clip() -> float:
    """Two layers; the stream is the output."""
    return 2 * (attention(4, 6, 6) + ways(HIDDEN))


LIKE_LLAMA = (
    "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi3", "olmo2", "starcoder2", "cohere", "granite",
)  # fmt: skip
LIKE_BERT = ("bert", "roberta", "distilbert", "deberta_v2", "nystromformer", "xlnet", "opt")
KNOWN: dict[str, float] = {
    **dict.fromkeys(LIKE_LLAMA, llama(ways(HIDDEN))),
    # The head's last hidden layer is in the basis of the embedding, to which it is tied.
    **dict.fromkeys(LIKE_BERT, plain()),
    "mamba": ways(STREAM) + 2 * mamba_layer(),
    "falcon_mamba": ways(STREAM) + 2 * mamba_layer(),
    "mamba2": ways(STREAM) + 2 * mamba2_layer(),
    "rwkv": rwkv(),
    "xlstm": xlstm(),
    "recurrent_gemma": recurrent_gemma(),
    "jamba": jamba(),
    "bamba": bamba(),
    "mixtral": llama(experts()),
    "olmoe": llama(experts()),
    "gpt_oss": llama(experts()),
    "qwen2_moe": llama(experts(12) + ways(16)),
    "qwen3_moe": llama(experts(12)),
    "deepseek_v3": deepseek_v3(),
    "gpt2": plain(4 * STREAM),
    "gpt_neo": plain(4 * STREAM),
    "gptj": rotated(4, 6, 4 * STREAM, beside=2, pairs=2),
    "codegen": rotated(4, 6, 4 * STREAM, beside=2, pairs=2),
    "gpt_neox": rotated(3, 8, HIDDEN, beside=6, pairs=1),
    "stablelm": rotated(3, 8, HIDDEN, beside=6, pairs=1),
    "phi": rotated(3, 8, HIDDEN, beside=4, pairs=2),
    "gpt_bigcode": sharing(6, 6),
    "falcon": sharing(6) + ways(3),
    "bloom": alibi(),
    "mpt": alibi(),
    "electra": electra(),
    "albert": albert(),
    "mpnet": mpnet(),
    "modernbert": modernbert(),
    "squeezebert": squeezebert(),
    "fnet": fnet(),
    "switch_transformers": switch_transformers(),
    "t5": t5(),
    "t5_full": translator(),
    "bart": translator(),
    "marian": translator(),
    "clip_text": clip(),
}
