"""PyG `Data` of a parameter graph; the only module that imports torch_geometric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch_geometric.data import Batch, Data

from ..ir import GmncError
from .coo import NODE_COLUMNS, TYPE_COLUMNS

__all__ = ["ParameterData"]

_INT32_MAX = 2**31 - 1
_OF_BATCH = ("_slice_dict", "_inc_dict", "_num_graphs", "_num_nodes")
"""Private fields of a PyG storage that `Batch.to_data_list` needs."""


class ParameterData(Data):
    """PyG `Data` of a parameter graph, with the fields of `gmnc.backends.coo.coo`.

    A `Batch` concatenates the tables of its graphs and offsets all ids accordingly. Its `parameter_offsets` and
    `block_offsets` have one section per graph, each with its own end; `parameter_names` is a list with one tuple per
    graph; `via_names` is one table for all graphs.
    """

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        if key == "edge_type":
            return len(self.edge_type_attr)
        if key in ("type_op_bag", "node_op_bag"):
            return len(self.op_bag_sizes)
        if key in ("edge_param", "parameter_offsets"):
            return int(self.parameter_offsets[-1])
        if key == "block_offsets":
            return len(self.edge_type)
        if key == "edge_type_attr":
            return self._by_column(value, TYPE_COLUMNS.index("via"))
        if key == "x":
            return self._by_column(value, NODE_COLUMNS.index("output_via"))
        return super().__inc__(key, value, *args, **kwargs)

    def _by_column(self, value: torch.Tensor, column: int) -> torch.Tensor:
        """Offsets of a table's columns in a batch: the number of vias for the column of via ids, 0 for the others."""
        found = value.new_zeros(value.shape[1])
        found[column] = len(self.via_names)
        return found

    @property
    def via_names(self) -> tuple[str, ...]:
        """Text of each via id; in a `Batch`, of all its graphs."""
        if "via_names" not in self._store:
            raise AttributeError("these data have no 'via_names'")
        return tuple(_flat(self._store["via_names"]))

    @property
    def edge_param(self) -> torch.Tensor:
        """The parameter element on each edge, int [E], negative for none.

        Raises:
            GmncError: A `Batch` has more parameter elements than its int32 ids can number.
        """
        if "edge_param" not in self._store:
            raise AttributeError("these data have no 'edge_param'")
        found: torch.Tensor = self._store["edge_param"]
        if isinstance(self, Batch) and found.dtype == torch.int32 and int(self.parameter_offsets[-1]) > _INT32_MAX:
            raise GmncError(
                "the graphs of the batch have more parameters than int32 can number: create them with "
                "coo(graph, index_dtype=torch.int64)"
            )
        return found

    def __reduce_ex__(self, protocol: Any) -> Any:
        # PyG's own reduction needs classes that `torch.load(weights_only=True)` rejects.
        if type(self) is ParameterData:
            return _data, (dict(self._store.items()),)
        if not isinstance(self, Batch):
            return super().__reduce_ex__(protocol)
        own = {name: value for name, value in self._store.__dict__.items() if name in _OF_BATCH}
        return _batch, (dict(self._store.items()), own)


def _flat(names: Any) -> Iterator[str]:
    """The names in nested lists, as a `Batch` has them."""
    if isinstance(names, str):
        yield names
        return
    for entry in names:
        yield from _flat(entry)


def _data(attributes: dict[str, Any]) -> ParameterData:
    """Rebuild pickled data."""
    return ParameterData.from_dict(attributes)


def _batch(attributes: Mapping[str, Any], own: Mapping[str, Any]) -> Batch:
    """Rebuild a pickled `Batch`."""
    made = Batch(_base_cls=ParameterData)
    for name, value in attributes.items():
        made._store[name] = value
    made._store.__dict__.update({name: own[name] for name in _OF_BATCH if name in own})
    return made


# Lets `torch.load(weights_only=True)` read them.
torch.serialization.add_safe_globals([ParameterData, _batch, _data])
