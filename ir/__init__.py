"""The parameter graph, the intermediate representation of gmnc. Imports neither ONNX nor torch.

To read it, take the modules in this order:

1. `graph`: the data structures. `ParameterGraph` holds node groups, edge blocks, link blocks and the via table;
   `diagnostics` what is reported of parts of the model that have no edges.
2. `views`: how an edge block refers to elements of a stored tensor without copying them.
3. `vocabulary`: the names that a graph is built of, kinds of nodes, roles of edges and links, steps of vias. `steps` is
   the table of steps.
4. `builder`: `GraphBuilder`, through which the front end makes graphs.
5. `check`: the invariants of a graph, verified after every lowering.
6. `printer`: graphs as text.

`arrays` (distinct ids, occurrences, connected components), `printable` (safe text) and `errors` are helpers that all
rooms use. docs/parameter-graph.md explains the concepts and has a glossary.
"""

from .builder import GraphBuilder
from .diagnostics import AccountEntry, OpaqueOp, Problem
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
from .graph import EdgeBlock, LinkBlock, ModelSource, NodeGroup, ParameterGraph, Port, Via
from .views import Deferred, Held, Origin, Parameter, ParameterView, Storage
from .vocabulary import (
    DEQUANTIZE,
    REPARAMETRIZE,
    EdgeRole,
    LinkRole,
    NodeKind,
    Step,
    declared_steps,
    edge_role_id,
    link_role_id,
    register_step,
    role_name,
)

__all__ = [
    "DEQUANTIZE",
    "REPARAMETRIZE",
    "AccountEntry",
    "Deferred",
    "EdgeBlock",
    "EdgeRole",
    "GmncError",
    "GraphBuilder",
    "GraphError",
    "Held",
    "LinkBlock",
    "LinkRole",
    "LoadError",
    "LoweringError",
    "ModelSource",
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
    "declared_steps",
    "edge_role_id",
    "link_role_id",
    "register_step",
    "role_name",
]
