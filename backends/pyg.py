"""The one place that imports torch_geometric."""

from __future__ import annotations

from typing import Any

from torch_geometric.data import Data

__all__ = ["ParameterData"]


class ParameterData(Data):
    """PyG `Data` of a parameter graph whose `edge_type` stays right in a `Batch`: the type tables are concatenated."""

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        if key == "edge_type":
            return len(self.edge_type_attr)
        return super().__inc__(key, value, *args, **kwargs)
