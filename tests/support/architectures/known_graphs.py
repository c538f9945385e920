"""Graph neural networks: log10 of the number of permutations, derived by hand. Inputs and outputs stay."""

from __future__ import annotations

from .counting import attention, ways

__all__ = ["KNOWN"]


def gat() -> float:
    """Three heads of 5 channels (weights, both attention vectors, bias, the next layer): 3! 5!^3.

    The second layer's 2 heads are averaged: 2!. Their channels are the outputs.
    """
    return attention(3, 5) + ways(2)


def transformer_conv() -> float:
    """As GAT, but queries and keys have features of their own (5, then 3); the skip connection goes with the values."""
    return attention(3, 5, 5) + attention(2, 3)


def arma() -> float:
    """The mean of two stacks, in each layer: 2! 2!. All steps of a stack read its root weights in one basis: 8!."""
    return ways(8) + ways(2, 2)


SIMPLE = (
    "gcn", "sage", "sage_max", "cheb", "graph_conv", "tag", "sg", "res_gated", "le", "cluster_gcn", "film", "rgcn",
)  # fmt: skip
KNOWN: dict[str, float] = {
    # The 8 channels between the layers.
    **dict.fromkeys(SIMPLE, ways(8)),
    # Two perceptrons of 7 and 6 neurons, and 8 channels between them.
    **dict.fromkeys(("gin", "gine", "edge_conv"), ways(7, 8, 6)),
    "gat": gat(),
    "gatv2": gat(),
    "transformer_conv": transformer_conv(),
    "arma": arma(),
    # The networks that make the weights have 6 and 5 neurons.
    "nnconv": ways(6, 8, 5),
}
