"""The parameter graph. Knows neither ONNX nor torch."""

from .builder import GraphBuilder
from .errors import GmncError, GraphError, LoadError, LoweringError, PluginError, StorageWarning, UnsupportedError
from .graph import (
    NODE_KINDS,
    REPARAMETRIZE,
    AccountEntry,
    EdgeBlock,
    LinkBlock,
    NodeGroup,
    OpaqueOp,
    ParameterGraph,
    Port,
    Problem,
    Via,
)
from .views import Origin, Parameter, ParameterView, Storage

__all__ = [
    "NODE_KINDS",
    "REPARAMETRIZE",
    "AccountEntry",
    "EdgeBlock",
    "GmncError",
    "GraphBuilder",
    "GraphError",
    "LinkBlock",
    "LoadError",
    "LoweringError",
    "NodeGroup",
    "OpaqueOp",
    "Origin",
    "Parameter",
    "ParameterGraph",
    "ParameterView",
    "PluginError",
    "Port",
    "Problem",
    "Storage",
    "StorageWarning",
    "UnsupportedError",
    "Via",
]
