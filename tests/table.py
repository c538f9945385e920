"""Writes docs/networks.md: what the networks of the tests lower to, measured as it is written.

python tests/table.py > docs/networks.md
"""

from __future__ import annotations

from pathlib import Path

from corpus import CORPUS, LIGHT
from exports import HOWS, exported
from networks import NETWORKS, expected_edges

import gmnc
from gmnc.ir import ParameterGraph, isomorphic
from gmnc.testing import verify

INTRO = """# Networks that the tests lower

Made by `python tests/table.py > docs/networks.md`; every number is measured while the page is written.

## Written in torch, exported three ways

`dynamo` is `torch.onnx.export(dynamo=True, optimize=False)`, `optimized` the same with the optimizer on, `torchscript`
the older exporter. *Parameters* are those of the torch module, BatchNorm buffers and float tables included. *Edges* are
parameter edges (one per element; tied further sites apart). *Alike* says which exports give isomorphic graphs with
equal values by colour refinement; where the optimizer folds BatchNorm into convolutions, or computes constants ahead,
it has other parameters, and other edges. *Error* is the greatest relative change of an output in ONNX Runtime when
the weights are permuted by random products of all claimed symmetries (*generators*).
"""

OTHERS = """
## Made by others

Files out of public Python wheels, and the `light_*` models of the onnx wheel, whose weights ConstantOfShape makes.
*Accounted* are elements that have no edge, by reason; *opaque* are those of operators without a rule.
"""


def main() -> None:
    print(INTRO)
    print("| network | parameters | dynamo | optimized | torchscript | nodes | links | alike | generators | error |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in NETWORKS:
        print(torch_row(name), flush=True)
    print(OTHERS)
    print("| model | elements | edges | tied | nodes | links | accounted |")
    print("|---|---|---|---|---|---|---|")
    for path in (*CORPUS, *LIGHT):
        print(file_row(path), flush=True)


def torch_row(name: str) -> str:
    graphs = {how: gmnc.compile(exported(name, how)) for how in HOWS}
    first = graphs[HOWS[0]]
    alike = [how for how in HOWS[1:] if isomorphic(first, graphs[how])]
    report = verify(exported(name, HOWS[0]))
    edges = " | ".join(f"{graphs[how].num_parameter_edges:,}{tied(graphs[how])}" for how in HOWS)
    words = "all three" if len(alike) == 2 else f"dynamo, {alike[0]}" if alike else "none"
    module, _ = NETWORKS[name]()
    return (
        f"| {name} | {expected_edges(module):,} | {edges} | {first.num_nodes:,} | {first.num_links:,} | {words} "
        f"| {report.generators} | {report.max_error:.0e} |"
    )


def tied(graph: ParameterGraph) -> str:
    return f" (+ {graph.num_tied_edges:,} tied)" if graph.num_tied_edges else ""


def file_row(path: Path) -> str:
    graph = gmnc.compile(path)
    reasons = [f"{count:,} {reason}" for reason, count in graph.not_parameters().items()]
    if graph.opaque:
        operators = sorted({o.op for o in graph.opaque})
        reasons.append(f"{graph.num_opaque_parameters:,} opaque ({', '.join(operators)})")
    return (
        f"| {path.stem} | {graph.num_parameters:,} | {graph.num_parameter_edges:,} | {graph.num_tied_edges:,} "
        f"| {graph.num_nodes:,} | {graph.num_links:,} | {', '.join(reasons)} |"
    )


if __name__ == "__main__":
    main()
