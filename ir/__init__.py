"""The parameter graph. Knows neither ONNX nor torch."""

from .builder import GraphBuilder
from .errors import (
    GmncError,
    GraphError,
    LoadError,
    LoweringError,
    PluginError,
    StorageWarning,
    UnsupportedError,
    VocabularyError,
)
from .graph import (
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
from .vocabulary import REPARAMETRIZE, EdgeRole, LinkRole, NodeKind, Step, register_step, steps

__all__ = [
    "REPARAMETRIZE",
    "AccountEntry",
    "EdgeBlock",
    "EdgeRole",
    "GmncError",
    "GraphBuilder",
    "GraphError",
    "LinkBlock",
    "LinkRole",
    "LoadError",
    "LoweringError",
    "NodeGroup",
    "NodeKind",
    "OpaqueOp",
    "Origin",
    "Parameter",
    "ParameterGraph",
    "ParameterView",
    "PluginError",
    "Port",
    "Problem",
    "Step",
    "Storage",
    "StorageWarning",
    "UnsupportedError",
    "Via",
    "VocabularyError",
    "register_step",
    "steps",
]
