"""The one place that imports torch_geometric."""

from __future__ import annotations

from typing import Any

from torch_geometric.data import Data

__all__ = ["ParameterData"]


class ParameterData(Data):
    """PyG `Data` of a parameter graph whose types and styles stay right in a `Batch`: their tables are concatenated."""

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        if key == "edge_type":
            return len(self.edge_type_attr)
        if key in ("type_style", "node_style"):
            return len(self.style_lengths)
        return super().__inc__(key, value, *args, **kwargs)
