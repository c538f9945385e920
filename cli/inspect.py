"""`gmnc inspect`: the groups and blocks of a graph in depth order, or the model between two rewriting passes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Dims, FoldWeights, Inputs, Json, OnUnsupported, Policy, Quiet, parse_dims, parse_inputs
from .passes import list_passes, listing_after, text_of
from .session import cell, errors_to_exit_codes, first_rows, open_graph, output, print_json, progress, say, short

if TYPE_CHECKING:
    import numpy as np

    from ..ir import EdgeBlock, LinkBlock, NodeGroup, ParameterGraph, Port

__all__ = ["inspect_model", "listing"]

Source = Annotated[
    Path,
    typer.Argument(metavar="MODEL|STORE", help="An ONNX file, or a store written by gmnc compile.", show_default=False),
]
After = Annotated[
    str | None,
    typer.Option(
        "--after", metavar="PASS", help="Show the model as rewritten up to this pass instead.", show_default=False
    ),
]
ListPasses = Annotated[
    bool,
    typer.Option("--list-passes", help="List the passes, in order.", is_eager=True, callback=list_passes),
]


def inspect_model(
    model: Source,
    after: After = None,
    dim: Dims = None,
    input: Inputs = None,
    on_unsupported: Policy = OnUnsupported.opaque,
    fold_weights: FoldWeights = False,
    json: Json = False,
    quiet: Quiet = False,
    all_passes: ListPasses = False,
) -> None:
    """List the node groups and blocks of a MODEL or a STORE in depth order: shapes, roles and vias.

    Example: gmnc inspect graph.safetensors --json
    """
    with errors_to_exit_codes():
        dims, inputs = parse_dims(dim), parse_inputs(input)
        if after is not None:
            with progress(f"rewriting {model.name}", quiet):
                rewritten = listing_after(model, after, dims, inputs, fold_weights)
            if json:
                print_json(rewritten)
            else:
                for line in text_of(rewritten):
                    say(line)
            return
        with progress(f"reading {model.name}", quiet):
            found = listing(open_graph(model, dims, inputs, on_unsupported, fold_weights), model)
        if json:
            print_json(found)
        else:
            _print_tables(found)


def listing(graph: ParameterGraph, model: Path) -> dict[str, Any]:
    """The JSON of `gmnc inspect`: groups and blocks in depth order; ids are indices in the graph."""
    groups = [_group(graph, i, g) for i, g in enumerate(graph.groups)]
    blocks = [_edge_block(graph, b) for b in graph.edges] + [_link_block(graph, b) for b in graph.links]
    for block in blocks:
        block["depth"] = max((graph.groups[g].depth for g in block["dst"]), default=0)
    return {
        "model": str(model),
        "nodes": graph.num_nodes,
        "groups": sorted(groups, key=lambda g: g["depth"]),
        "blocks": sorted(blocks, key=lambda b: b["depth"]),
        "inputs": [_port(graph, p) for p in graph.inputs],
        "outputs": [_port(graph, p) for p in graph.outputs],
    }


def _group(graph: ParameterGraph, index: int, group: NodeGroup) -> dict[str, Any]:
    return {
        "id": index,
        "kind": group.kind,
        "start": group.start,
        "size": group.size,
        "depth": group.depth,
        "pinned": int(graph.pinned[group.start : group.stop].sum()),
        "node": group.node,
        "value": group.value,
        "scope": group.scope,
    }


def _edge_block(graph: ParameterGraph, block: EdgeBlock) -> dict[str, Any]:
    table = graph.constants if block.constant else graph.parameters
    return {
        "type": "edges",
        "role": block.role,
        "src": _groups(graph, block.src),
        "dst": _groups(graph, block.dst),
        "shape": list(block.shape),
        "edges": block.size,
        "slots": [int(n) for n in block.slots.max(axis=0, initial=0) + 1] if block.slots.size else [],
        "parameter": block.view.name,
        "dtype": table[block.view.name].dtype,
        "tied": block.tied,
        "constant": block.constant,
        "via": _vias(graph, block.via),
        "node": block.node,
    }


def _link_block(graph: ParameterGraph, link: LinkBlock) -> dict[str, Any]:
    return {
        "type": "links",
        "role": link.role,
        "src": _groups(graph, link.src),
        "dst": _groups(graph, link.dst),
        "shape": [link.size],
        "edges": link.size,
        "operands": [] if link.operand is None else _distinct(link.operand),
        "slots": [int(n) for n in link.slot.max(axis=0, initial=0) + 1] if link.slot is not None else [],
        "via": _vias(graph, link.via),
        "node": link.node,
    }


def _port(graph: ParameterGraph, port: Port) -> dict[str, Any]:
    return {"name": port.name, "nodes": len(port.nodes), "groups": _groups(graph, port.nodes),
            "via": _vias(graph, port.via)}  # fmt: skip


def _distinct(ids: np.ndarray) -> list[int]:
    import numpy as np

    return [int(i) for i in np.unique(ids)]


def _groups(graph: ParameterGraph, nodes: np.ndarray) -> list[int]:
    return _distinct(graph.group_of(nodes))


def _vias(graph: ParameterGraph, vias: np.ndarray) -> list[str]:
    """The distinct via chains; "" for a value taken directly from its node."""
    return [graph.via_text(v) for v in _distinct(vias)]


def _print_tables(found: dict[str, Any]) -> None:
    from rich import box
    from rich.table import Table

    from ..ir.printable import counted

    console = output()
    groups = Table("group", "kind", title="groups", box=box.SIMPLE_HEAD, title_justify="left")
    for name in ("size", "depth", "pinned"):
        groups.add_column(name, justify="right")
    groups.add_column("node", overflow="fold")
    groups.add_column("value", overflow="fold")
    for g in first_rows(found["groups"], "groups"):
        numbers = (g["size"], g["depth"], g["pinned"] or "")
        groups.add_row(f"g{g['id']}", g["kind"], *map(str, numbers), short(g["node"]), short(g["value"]))
    blocks = Table("from", "to", "role", "shape", title="blocks", box=box.SIMPLE_HEAD, title_justify="left")
    blocks.add_column("parameter or node", overflow="fold")
    blocks.add_column("via", overflow="fold")
    for b in first_rows(found["blocks"], "blocks"):
        marks = " tied" * b.get("tied", False) + " constant" * b.get("constant", False)
        role = f"{b['role']}{marks}" + " (link)" * (b["type"] == "links")
        shape = "×".join(map(str, b["shape"])) + (f" slots {'×'.join(map(str, b['slots']))}" if b["slots"] else "")
        via = " | ".join(v for v in b["via"] if v)
        cells = (_names(b["src"]), _names(b["dst"]), role, shape, b.get("parameter") or b["node"])
        blocks.add_row(*map(short, cells), cell(via))
    console.print(groups)
    console.print(blocks)
    for way in ("inputs", "outputs"):
        for port in found[way]:
            via = " | ".join(v for v in port["via"] if v)
            entries = counted(port["nodes"], "distinct entry", "distinct entries")
            text = f"{way[:-1]} {port['name']}: {_names(port['groups'])}, {entries}"
            console.print(cell(text + (f", via {via}" if via else "")), soft_wrap=True)


def _names(groups: list[int]) -> str:
    """Group ids in short form, with ranges such as g3-g7."""
    ranges: list[list[int]] = []
    for g in groups:
        if ranges and g == ranges[-1][1] + 1:
            ranges[-1][1] = g
        else:
            ranges.append([g, g])
    return ",".join(f"g{a}" if a == b else f"g{a}-g{b}" for a, b in ranges)
