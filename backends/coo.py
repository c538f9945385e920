"""The parameter graph in coordinate (COO) format: PyG `Data`, or the same tensors without PyG."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from ..ir import EdgeBlock, GmncError, LinkBlock, NodeKind, ParameterGraph
from ..ir.printable import counted
from .edge_types import TYPE_COLUMNS, EdgeTypes, edge_types
from .op_tokens import op_tokens

if TYPE_CHECKING:
    import torch

__all__ = ["NODE_COLUMNS", "TYPE_COLUMNS", "CooGraph", "coo", "node_features"]

NODE_COLUMNS = ("kind", "depth", "pinned", "index", "input", "input_index", "output", "output_index", "output_via")
"""Columns of the node features. kind: index in `gmnc.ir.NodeKind`. depth: of the node's group. pinned: 0 or 1.
index: index in the group + 1 if pinned, else 0. input, output: index of the graph input or output + 1, 0 if none.
input_index, output_index: the node's first index in that port + 1. output_via: id of the via from the node to that
output, 0 if none."""

_INT32_MAX = 2**31 - 1
_KIND_IDS = {str(kind): number for number, kind in enumerate(NodeKind)}


@dataclass(frozen=True, slots=True)
class CooGraph:
    """What `coo` returns without PyG.

    Attributes:
        x: Node features, int32 [N, 9].
        edge_index: Source and destination of each edge, int [2, E].
        edge_attr: Value of the parameter or constant, float [E, 1].
        edge_type: Row of `edge_type_attr`, int32 [E].
        edge_param: Parameter element on each edge, int [E]; negative for none.
        edge_type_attr: Edge types, int32 [T, 9].
        type_op_bag: Bag of operator tokens of each edge type, int32 [T].
        node_op_bag: Bag of operator tokens of each node, int32 [N].
        op_tokens: Hashed tokens of all bags, int64.
        op_bag_sizes: Number of tokens of each bag, int64.
        block_offsets: First edge of each block, and the end, int64.
        parameter_offsets: First element of each parameter, and the end, int64 [P + 1].
        parameter_names: Name of each parameter.
        via_names: Text of each via id.
    """

    x: torch.Tensor
    edge_index: torch.Tensor
    edge_attr: torch.Tensor
    edge_type: torch.Tensor
    edge_param: torch.Tensor
    edge_type_attr: torch.Tensor
    type_op_bag: torch.Tensor
    node_op_bag: torch.Tensor
    op_tokens: torch.Tensor
    op_bag_sizes: torch.Tensor
    block_offsets: torch.Tensor
    parameter_offsets: torch.Tensor
    parameter_names: tuple[str, ...]
    via_names: tuple[str, ...]

    @property
    def num_nodes(self) -> int:
        """Number of nodes, N."""
        return len(self.x)

    @property
    def num_edges(self) -> int:
        """Number of edges, E."""
        return self.edge_index.shape[1]

    def to(self, device: torch.device | str | int, non_blocking: bool = False) -> CooGraph:
        """Move every tensor to a device.

        Args:
            device: Target, as in `torch.Tensor.to`.
            non_blocking: Copy asynchronously from pinned memory, as in `torch.Tensor.to`.

        Returns:
            The moved graph; this one stays as it is.
        """
        return self._with({n: t.to(device, non_blocking=non_blocking) for n, t in self._tensors()})

    def pin_memory(self) -> CooGraph:
        """Copy every tensor to page-locked memory, as `torch.Tensor.pin_memory`; `DataLoader` calls this."""
        return self._with({n: t.pin_memory() for n, t in self._tensors()})

    def _with(self, tensors: dict[str, Any]) -> CooGraph:
        return replace(self, **tensors)

    def _tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        named = ((f.name, getattr(self, f.name)) for f in fields(self))
        return ((n, t) for n, t in named if not isinstance(t, tuple))

    def __repr__(self) -> str:
        return (
            f"CooGraph({counted(self.num_nodes, 'node')}, {counted(self.num_edges, 'edge')} of "
            f"{counted(len(self.edge_type_attr), 'type')}, {counted(len(self.parameter_names), 'parameter')}, "
            f"{str(self.edge_attr.dtype).removeprefix('torch.')} on {self.edge_attr.device})"
        )


def coo(
    graph: ParameterGraph,
    *,
    links: bool = True,
    reverse: bool = False,
    dtype: torch.dtype | None = None,
    index_dtype: torch.dtype | None = None,
    pyg: bool | None = None,
) -> Any:
    """Convert a graph to flat tensors with one entry per edge.

    Edges are ordered: parameter blocks (in the order of `graph.edges`, each in C order of `[B, N, K, S]`), constant
    blocks, links. With int32 ids an edge takes 20 bytes.

    `torch.save` writes the result and `torch.load(weights_only=True)` reads it, once `gmnc.backends.blocks` (for PyG
    data: `gmnc.backends.pyg`) has been imported.

    Args:
        graph: The graph.
        links: Include the edges without a parameter: links and constant blocks.
        reverse: Append the reverse of every edge, with an edge type whose last column is 1.
        dtype: Dtype of `edge_attr`: float64, float32 (default), float16 or bfloat16.
        index_dtype: Type of node and parameter ids, int32 or int64; by default int32 if they fit. Torch's scatter
            operators need int64. Give all graphs of one `DataLoader` the same two dtypes: its workers cast values
            and ids to those of the first graph of a batch.
        pyg: Return a PyG `Data` (True) or a `CooGraph` (False); by default `Data` if torch_geometric is installed.

    Returns:
        A `gmnc.backends.pyg.ParameterData` (a PyG `Data`) or a `CooGraph`, with these fields for N nodes, E edges, T
        edge types and P parameters. A PyG `Batch` offsets all ids except role ids.

        * `x` int [N, 9]: node features, see `NODE_COLUMNS`.
        * `edge_index` int [2, E]: source, destination.
        * `edge_attr` float [E, 1]: value of the parameter or constant, 0 for links.
        * `edge_type` int32 [E]: row of `edge_type_attr`.
        * `edge_param` int [E]: the parameter element on the edge, negative for none; element i of parameter p is
          `parameter_offsets[p] + i`. Tied edges share an element.
        * `edge_type_attr` int32 [T, 9]: `TYPE_COLUMNS`, then `reversed`.
        * `type_op_bag` int32 [T], `node_op_bag` int32 [N], `op_tokens` int64, `op_bag_sizes` int64: the operations
          between an edge's source and destination, or before an output, as bags of hashed tokens; see
          `gmnc.backends.op_tokens`.
        * `block_offsets` int64: first edge of each block in the order above, and the end; forward edges only.
        * `parameter_offsets` int64 [P + 1], `parameter_names`: every tensor of `graph.parameters`, in order.
        * `via_names`: text of each via id in `edge_type_attr` and `output_via`. Role ids are the same in every graph;
          `gmnc.ir.role_name` names them.

    Raises:
        GmncError: PyG is requested but not installed, a dtype is not supported, ids do not fit into `index_dtype`, or
            a tensor of the model cannot be read.
    """
    import torch

    installed = find_spec("torch_geometric") is not None
    if pyg and not installed:
        raise GmncError("coo(pyg=True) needs torch_geometric: install gmnc[pyg], or omit pyg for plain tensors")
    found = _tensors(graph, links, reverse, dtype or torch.float32, index_dtype)
    if pyg or (pyg is None and installed):
        from .pyg import ParameterData

        return ParameterData(**found, num_nodes=graph.num_nodes)
    return CooGraph(**found)


def node_features(graph: ParameterGraph) -> np.ndarray:
    """Compute the features of every node.

    Args:
        graph: The graph.

    Returns:
        int32 [num_nodes, 9], columns as in `NODE_COLUMNS`.
    """
    x = np.zeros((graph.num_nodes, len(NODE_COLUMNS)), dtype=np.int32)
    for group in graph.groups:
        run = slice(group.start, group.stop)
        x[run, 0], x[run, 1] = _KIND_IDS[group.kind], group.depth
        x[run, 3] = np.arange(1, group.size + 1)
    x[:, 2] = graph.pinned
    x[:, 3] *= graph.pinned
    for column, ports in ((4, graph.inputs), (6, graph.outputs)):
        # In reverse, so that a node's first port and first index are written last.
        for number, port in reversed(list(enumerate(ports, 1))):
            nodes = port.nodes[::-1]
            x[nodes, column], x[nodes, column + 1] = number, np.arange(len(nodes), 0, -1)
            if column == 6:
                x[nodes, 8] = port.via[::-1]
    return x


def _tensors(
    graph: ParameterGraph, links: bool, reverse: bool, dtype: torch.dtype, index_dtype: torch.dtype | None
) -> dict[str, Any]:
    import torch

    types = edge_types(graph)
    found = op_tokens(graph, types)
    order: list[int] = [i for i, b in enumerate(graph.edges) if not b.constant]
    if links:
        order += [i for i, b in enumerate(graph.edges) if b.constant]
    sizes = [graph.edges[i].size for i in order] + [b.size for b in graph.links if links]
    offsets = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)
    starts = np.cumsum([0] + [p.size for p in graph.parameters.values()], dtype=np.int64)
    out = _Arrays.empty(
        int(offsets[-1]),
        reverse,
        _value_dtype(dtype),
        _index(index_dtype, graph.num_nodes),
        _index(index_dtype, starts[-1]),
    )
    where = dict(zip(graph.parameters, starts.tolist(), strict=False))
    jobs = [
        job
        for i, at in zip(order, offsets.tolist(), strict=False)
        for job in _block_jobs(graph, graph.edges[i], types.blocks[i], out.part(at, graph.edges[i].size), where)
    ]
    for block, ids, at in zip(graph.links if links else (), types.links, offsets.tolist()[len(order) :], strict=False):
        jobs.append(_link_job(block, ids, out.part(at, block.size)))
    _run(jobs, torch.get_num_threads())
    if reverse:
        _run(out.reverse_jobs(int(offsets[-1]), len(types.rows)), torch.get_num_threads())
    return {
        "x": torch.from_numpy(node_features(graph)),
        **out.tensors(dtype),
        "edge_type_attr": torch.from_numpy(_type_rows(types, reverse)),
        "type_op_bag": torch.from_numpy(np.tile(found.of_type, 1 + reverse)),
        "node_op_bag": torch.from_numpy(found.of_node),
        "op_tokens": torch.from_numpy(found.tokens),
        "op_bag_sizes": torch.from_numpy(found.sizes),
        "block_offsets": torch.from_numpy(offsets),
        "parameter_offsets": torch.from_numpy(starts),
        "parameter_names": tuple(graph.parameters),
        "via_names": tuple(graph.via_text(i) for i in range(len(graph.vias))),
    }


@dataclass(frozen=True, slots=True)
class _Arrays:
    """The per-edge arrays: index [2, E], value [E], type int32 [E], param [E]."""

    index: np.ndarray
    value: np.ndarray
    type: np.ndarray
    param: np.ndarray

    @classmethod
    def empty(cls, edges: int, reverse: bool, value: np.dtype, index: np.dtype, param: np.dtype) -> _Arrays:
        total = edges * (1 + reverse)
        return cls(
            np.empty((2, total), index), np.empty(total, value), np.empty(total, np.int32), np.empty(total, param)
        )

    def part(self, start: int, size: int) -> _Arrays:
        run = slice(start, start + size)
        return _Arrays(self.index[:, run], self.value[run], self.type[run], self.param[run])

    def reverse_jobs(self, edges: int, types: int) -> list[Callable[[], object]]:
        first, second = self.part(0, edges), self.part(edges, edges)
        return [
            lambda: np.copyto(second.index, first.index[::-1]),
            lambda: np.copyto(second.value, first.value),
            lambda: np.add(first.type, np.int32(types), out=second.type),
            lambda: np.copyto(second.param, first.param),
        ]

    def tensors(self, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        import torch

        value = self.value.view(np.int16) if self.value.dtype == ml_dtypes.bfloat16 else self.value
        return {
            "edge_index": torch.from_numpy(self.index),
            "edge_attr": torch.from_numpy(value).view(dtype)[:, None],
            "edge_type": torch.from_numpy(self.type),
            "edge_param": torch.from_numpy(self.param),
        }


def _block_jobs(
    graph: ParameterGraph, block: EdgeBlock, types: np.ndarray, out: _Arrays, starts: dict[str, int]
) -> Iterator[Callable[[], object]]:
    """Jobs that fill one block, one broadcast write per array, without temporaries of the block's size."""
    b, n, k, s = block.shape
    if block.size == 0:
        return
    shape = (b, n, k * s)

    def by_source(per_slot: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.broadcast_to(per_slot, (len(per_slot), k, s))).reshape(-1, 1, k * s)

    yield lambda: np.copyto(out.index[0].reshape(shape), by_source(block.src[:, :, None]), casting="same_kind")
    yield lambda: np.copyto(out.index[1].reshape(shape), block.dst[:, :, None], casting="same_kind")
    yield lambda: np.copyto(out.type.reshape(shape), by_source(types))
    yield lambda: np.copyto(out.value.reshape(block.shape), graph.values(block), casting="unsafe")
    if block.constant:
        yield lambda: out.param.fill(_no_parameter(out.param))
        return
    view, start = block.view, starts[block.view.name]
    index = view.index
    if index is not None:
        yield lambda: np.add(index, start, out=out.param.reshape(block.shape), casting="unsafe")
        return
    to_b, to_n, to_k, to_s = view.strides
    rows = (start + view.offset + np.arange(b)[:, None] * to_b + np.arange(n) * to_n)[:, :, None]
    inner = (np.arange(k)[:, None] * to_k + np.arange(s) * to_s).reshape(-1)
    kind = out.param.dtype
    yield lambda: np.add(rows.astype(kind), inner.astype(kind), out=out.param.reshape(shape))


def _no_parameter(param: np.ndarray) -> int:
    """The `edge_param` of an edge without a parameter: it stays negative when batching adds offsets.

    The workers of a PyG `DataLoader` cast all graphs to the dtype of the first. The int64 value is therefore one that
    becomes the int32 value when its upper half is dropped.
    """
    none = int(np.iinfo(np.int32).min)
    return none if param.dtype == np.int32 else int(np.iinfo(np.int64).min) + 2**32 + none


def _link_job(block: LinkBlock, types: np.ndarray, out: _Arrays) -> Callable[[], object]:
    def fill() -> None:
        out.index[0], out.index[1] = block.src, block.dst
        out.type[:] = types
        out.value.fill(0)
        out.param.fill(_no_parameter(out.param))

    return fill


def _run(jobs: list[Callable[[], object]], threads: int) -> None:
    """Run all jobs in threads; NumPy releases the GIL while it copies."""
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for future in [pool.submit(job) for job in jobs]:
            future.result()


def _type_rows(types: EdgeTypes, reverse: bool) -> np.ndarray:
    forward = np.pad(types.rows, ((0, 0), (0, 1)))
    if not reverse:
        return forward
    backward = forward.copy()
    backward[:, -1] = 1
    return np.concatenate([forward, backward])


def _index(dtype: torch.dtype | None, limit: int) -> np.dtype:
    """NumPy dtype of ids up to `limit`."""
    import torch

    if dtype not in (None, torch.int32, torch.int64):
        raise GmncError(f"index_dtype must be torch.int32 or torch.int64, not {dtype}")
    if dtype == torch.int32 and limit > _INT32_MAX:
        raise GmncError(f"ids up to {limit} do not fit into int32: omit index_dtype, or use torch.int64")
    if dtype is None:
        dtype = torch.int32 if limit <= _INT32_MAX else torch.int64
    return np.dtype(np.int32 if dtype == torch.int32 else np.int64)


def _value_dtype(dtype: torch.dtype) -> np.dtype:
    import torch

    known = {
        torch.float64: np.float64,
        torch.float32: np.float32,
        torch.float16: np.float16,
        torch.bfloat16: ml_dtypes.bfloat16,
    }
    if dtype not in known:
        raise GmncError(f"dtype must be float64, float32, float16 or bfloat16, not {dtype}")
    return np.dtype(known[dtype])
