"""`gmnc inspect --after PASS` and `--list-passes`: the model between two rewriting passes, as text or as plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .session import errors_to_exit_codes, is_store, say

if TYPE_CHECKING:
    import onnx_ir

__all__ = ["list_passes", "listing_after", "text_of"]


def list_passes(wanted: bool) -> None:
    """Print the name and the summary of every pass, in order, and exit."""
    if not wanted:
        return
    with errors_to_exit_codes():
        from ..frontend.passes import PASSES

        width = max(len(p.name) for p in PASSES)
        for p in PASSES:
            say(f"{p.name:<{width}}  {p.summary}")
    raise typer.Exit


def listing_after(
    path: Path, name: str, dims: Mapping[str, int], inputs: Mapping[str, tuple[int, ...]], fold_weights: bool
) -> dict[str, Any]:
    """The JSON of `gmnc inspect --after PASS`: the model as rewritten up to this pass.

    Args:
        path: An ONNX file.
        name: The name of the pass.
        dims: Sizes of symbolic dimensions by name.
        inputs: Shapes of graph inputs by name.
        fold_weights: Fold computed weights before the first pass.

    Returns:
        Plain data.

    Raises:
        GmncError: The pass is unknown, or the model cannot be read.
    """
    from ..frontend.compile import load_model, resolve_registry
    from ..frontend.faults import errors_in_file
    from ..frontend.fold import folded
    from ..frontend.passes import model_after, passes_up_to
    from ..ir import LoadError

    passes_up_to(name)
    if is_store(path):
        raise LoadError(f"{path}: a store holds no model for --after; give the ONNX file that it was compiled from")
    model, _, where = load_model(path, dims, inputs)
    rules = resolve_registry(None)
    with errors_in_file(where):
        if fold_weights:
            model = folded(model, dims, inputs, rules)
        network = model_after(model, name, dims, inputs, rules)
    initializers = [_value(v) for v in network.graph.initializers.values()]
    opsets = {domain or "ai.onnx": version for domain, version in network.opset_imports.items()}
    return {"model": str(path), "pass": name, "opsets": opsets, "initializers": initializers, **_graph(network.graph)}


def _graph(graph: onnx_ir.Graph) -> dict[str, Any]:
    return {
        "inputs": [_value(v) for v in graph.inputs],
        "nodes": [_node(node) for node in graph],
        "outputs": [v.name for v in graph.outputs],
    }


def _value(value: onnx_ir.Value) -> dict[str, Any]:
    """Name, NumPy dtype ("" if unknown or no tensor) and shape (None if unknown)."""
    from ..frontend.model.protos import dtype_name

    shape = None if value.shape is None else [d if isinstance(d, int) else d.value for d in value.shape]
    return {"name": value.name, "dtype": "" if value.dtype is None else dtype_name(value.dtype), "shape": shape}


def _node(node: onnx_ir.Node) -> dict[str, Any]:
    return {
        "name": node.name,
        "domain": node.domain,
        "op": node.op_type,
        "inputs": [None if v is None else v.name for v in node.inputs],
        "outputs": [_value(v) for v in node.outputs],
        "attributes": {name: _attribute(a) for name, a in node.attributes.items()},
    }


def _attribute(attribute: onnx_ir.Attr) -> Any:
    """An attribute as plain data: tensors by dtype and shape, graphs like the main graph."""
    import onnx_ir

    kind = onnx_ir.AttributeType
    if attribute.type is kind.GRAPH:
        return _graph(attribute.as_graph())
    if attribute.type is kind.GRAPHS:
        return [_graph(g) for g in attribute.as_graphs()]
    if attribute.type is kind.TENSOR:
        tensor = attribute.as_tensor()
        return {"dtype": str(tensor.dtype).lower(), "shape": list(tensor.shape.numpy())}
    if attribute.type in (kind.INT, kind.FLOAT, kind.STRING):
        return attribute.value
    if attribute.type in (kind.INTS, kind.FLOATS, kind.STRINGS):
        return list(attribute.value)
    return str(attribute.value)


def text_of(listing: Mapping[str, Any]) -> Iterator[str]:
    """The lines of a listing, similar to ONNX's text syntax."""
    from ..ir.printable import printable

    for line in _text(listing):
        yield printable(line)


def _text(listing: Mapping[str, Any]) -> Iterator[str]:
    for name in ("inputs", "initializers"):
        for value in listing[name]:
            yield f"{name[:-1]} {_typed(value)}"
    yield from _lines(listing, "")
    yield f"output {', '.join(listing['outputs'])}"


def _lines(graph: Mapping[str, Any], indent: str) -> Iterator[str]:
    for node in graph["nodes"]:
        bodies: list[tuple[str, Mapping[str, Any]]] = []
        settings = []
        for name, value in node["attributes"].items():
            found = value if isinstance(value, list) else [value]
            graphs = [g for g in found if isinstance(g, dict) and "nodes" in g]
            bodies += [(name, g) for g in graphs]
            if not graphs:
                settings.append(f"{name} = {_setting(value)}")
        op = f"{node['domain']}.{node['op']}" if node["domain"] else node["op"]
        operands = ", ".join("" if v is None else v for v in node["inputs"])
        marks = f"<{', '.join(settings)}>" if settings else ""
        yield f"{indent}{', '.join(map(_typed, node['outputs']))} = {op}{marks}({operands})"
        for name, body in bodies:
            yield f"{indent}  {name} ({', '.join(map(_typed, body['inputs']))}) => ({', '.join(body['outputs'])})"
            yield from _lines(body, f"{indent}    ")


def _typed(value: Mapping[str, Any]) -> str:
    shape = "" if value["shape"] is None else f"[{', '.join('?' if d is None else str(d) for d in value['shape'])}]"
    return f"{value['name']}: {value['dtype'] or '?'}{shape}" if value["dtype"] or shape else str(value["name"])


def _setting(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['dtype']}[{', '.join(map(str, value['shape']))}]"
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    return f'"{value}"' if isinstance(value, str) else str(value)
