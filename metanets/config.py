"""The configuration of a graph metanetwork, and its validation when read from a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..files.fields import FieldError, flag, integer, maybe, number, one_of, table, text
from ..ir import GmncError
from ..kernels import ACTIVATIONS

__all__ = ["HEADS", "NODE_ACTIVATIONS", "READOUTS", "GMNConfig", "stored_config"]

HEADS, READOUTS = ("invariant", "equivariant"), ("edges", "all")
NODE_ACTIVATIONS = ("relu", "silu", "tanh")
"""Activations of MLPs; edge updates take any of `gmnc.kernels.ACTIVATIONS`."""

_FIELDS = {
    "out_channels": integer(1, 1 << 20), "head": text, "hidden_channels": integer(1, 1 << 13),
    "mlp_channels": maybe(integer(0, 1 << 13)), "num_layers": integer(-(2**31), 1000), "reverse": flag,
    "global_node": flag, "norm": flag, "dropout": number(0, 1), "act": one_of(*NODE_ACTIVATIONS),
    "edge_act": maybe(one_of(*ACTIVATIONS)), "fan_in": flag, "value_features": integer(1, 64), "relative": flag,
    "readout": text, "checkpoint": flag, "edge_chunk": integer(most=2**62), "hash_buckets": integer(1, 1 << 24),
    "op_embedding_std": number(0, 1e6),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class GMNConfig:
    """Hyperparameters of a `GMN`; invalid values raise `GmncError`.

    Attributes:
        out_channels: Width C of the output.
        head: ``invariant`` gives one row [C] per graph: the mean over parameter edges, through an MLP. ``equivariant``
            gives one row [C] per edge.
        hidden_channels: Width of all node, edge and global states.
        mlp_channels: Width of all hidden layers and so of messages; None or 0 for `hidden_channels`.
        num_layers: Number of message-passing layers, at least 1; the last one updates edges only.
        reverse: Sum messages into both ends of an edge, not into its destination only.
        global_node: Add one state per graph, which all its edges and nodes read and update.
        norm: LayerNorm on node states and on summed messages.
        dropout: Probability, after the activation of each MLP.
        act: Activation of MLPs.
        edge_act: Activation of edge updates; None for `act`.
        fan_in: Multiply weights by their number of sources, divide sums by it, and average over blocks and node groups
            instead of edges and nodes. Duplicating neurons and dividing their outgoing weights then keeps the output.
        value_features: Features per parameter value, each at a different scale; 1 for the value itself.
        relative: Add features of a value relative to its tensor's root mean square.
        readout: Input of the invariant head. ``edges`` is the mean over parameter edges; ``all`` appends the mean over
            blocks of an MLP of the block's mean and standard deviation, the mean over nodes, and the global state.
        checkpoint: Keep only the states between layers, and recompute each layer in the backward pass.
        edge_chunk: Keep no edge states; recompute them from the values, this many edges at a time, in every layer and
            in the backward pass. L layers then cost as much as L (L + 1) / 2. 0 turns it off.
        hash_buckets: Rows of the embedding tables of hashed operator tokens.
        op_embedding_std: Standard deviation at initialisation of the operator-token embeddings; 0 makes tokens that
            do not occur in training contribute nothing.
    """

    out_channels: int = 1
    head: str = "invariant"
    hidden_channels: int = 64
    mlp_channels: int | None = None
    num_layers: int = 3
    reverse: bool = True
    global_node: bool = False
    norm: bool = True
    dropout: float = 0.0
    act: str = "silu"
    edge_act: str | None = None
    fan_in: bool = False
    value_features: int = 1
    relative: bool = False
    readout: str = "edges"
    checkpoint: bool = False
    edge_chunk: int = 0
    hash_buckets: int = 4096
    op_embedding_std: float = 1.0

    def __post_init__(self) -> None:
        _check_fields(asdict(self))
        if self.head not in HEADS:
            raise GmncError(f"unknown head {self.head!r}: choose {' or '.join(HEADS)}")
        if self.readout not in READOUTS:
            raise GmncError(f"unknown readout {self.readout!r}: choose {' or '.join(READOUTS)}")
        if self.num_layers < 1:
            raise GmncError("a metanetwork needs at least one layer")
        if self.fan_in and self.relative:
            raise GmncError("relative values depend on the width of a network: choose fan_in or relative")

    @property
    def inner_channels(self) -> int:
        """Width of hidden layers: `mlp_channels`, or else `hidden_channels`."""
        return self.mlp_channels or self.hidden_channels


def stored_config(value: Any) -> dict[str, Any]:
    """The fields of a `GMNConfig` in a file's header; raises `FieldError` for unknown names and wrong types."""
    found = table({}, _FIELDS)(value)
    for name in found:
        if name not in _FIELDS:
            raise FieldError(f"an option of this version of gmnc ({', '.join(_FIELDS)})", name)
    return found


def _check_fields(given: Mapping[str, Any]) -> None:
    try:
        table({}, _FIELDS)(dict(given))
    except FieldError as error:
        raise GmncError(f"gmn: option {error}") from error
