"""Writes docs/networks.md: what the networks of the tests lower to, measured as it is written.

PYTHONPATH=tests python -m support.table > docs/networks.md
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from support.corpus import CORPUS, GIVEN, LIGHT
from support.exports import HOWS, exported
from support.networks import NETWORKS, expected_edges

import gmnc
from gmnc.ir import ParameterGraph
from gmnc.symmetry import isomorphic
from gmnc.testing import Report, verify

CONTROLS = ("detected", "tried")

INTRO = """# Networks that the tests lower

Made by `PYTHONPATH=tests python -m support.table > docs/networks.md`; every number is measured while the page is
written.

## Written in torch, exported three ways

`dynamo` is `torch.onnx.export(dynamo=True, optimize=False)`, `optimized` the same with the optimizer on, `torchscript`
the older exporter. *Parameters* are those of the torch module, BatchNorm buffers and float tables included. *Edges* are
parameter edges (one per element; tied further sites apart). *Alike* says which exports give isomorphic graphs with
equal values by colour refinement; where the optimizer folds BatchNorm into convolutions, or computes constants ahead,
it has other parameters, and other edges. *Error* is the greatest relative change of an output in ONNX Runtime when
the weights are permuted by random products of all claimed symmetries (*generators*), over all three exports.
*Controls* are permutations that are no symmetries: how many of those tried changed an output.
"""

OTHERS = """
## Made by others

Files out of public Python wheels, and the `light_*` models of the onnx wheel, whose weights ConstantOfShape makes.
*Accounted* are elements that have no edge, by reason; *opaque* are those of operators without a rule. Symmetries of
the `light_*` models, all of whose weights are equal, are not checked.
"""


def main() -> None:
    print(INTRO)
    print(f"| network | parameters | {' | '.join(HOWS)} | nodes | links | alike | generators | error | controls |")
    print("|---" * 11 + "|")
    for name in NETWORKS:
        print(torch_row(name), flush=True)
    print(OTHERS)
    print("| model | elements | edges | tied | nodes | links | accounted | generators | error | controls |")
    print("|---" * 10 + "|")
    for path in (*CORPUS, *LIGHT):
        print(file_row(path), flush=True)


def torch_row(name: str) -> str:
    graphs = {how: gmnc.compile(exported(name, how)) for how in HOWS}
    first = graphs[HOWS[0]]
    alike = [how for how in HOWS[1:] if isomorphic(first, graphs[how])]
    reports = [verify(exported(name, how)) for how in HOWS]
    edges = " | ".join(f"{graphs[how].num_parameter_edges:,}{tied(graphs[how])}" for how in HOWS)
    words = "all three" if len(alike) == 2 else f"dynamo, {alike[0]}" if alike else "none"
    module, _ = NETWORKS[name]()
    return (
        f"| {name} | {expected_edges(module):,} | {edges} | {first.num_nodes:,} | {first.num_links:,} | {words} "
        f"| {checked(reports)} |"
    )


def tied(graph: ParameterGraph) -> str:
    return f" (+ {graph.num_tied_edges:,} tied)" if graph.num_tied_edges else ""


def checked(reports: Sequence[Report]) -> str:
    """Generators of the first, worst error and controls of all; or why there is nothing to say."""
    first = reports[0]
    if any(r.sound is None for r in reports):
        return f"{first.generators} | {'; '.join(first.skipped)} | "
    assert all(r.holds for r in reports), reports
    error, detected, tried = max(r.max_error for r in reports), *(sum(getattr(r, n) for r in reports) for n in CONTROLS)
    return f"{first.generators} | {error:.0e} | {detected} of {tried}"


def file_row(path: Path) -> str:
    report = verify(path, inputs=GIVEN.get(path.stem)) if path in CORPUS else None
    graph = gmnc.compile(path)
    reasons = [f"{count:,} {reason}" for reason, count in graph.not_parameters().items()]
    if graph.opaque:
        operators = sorted({o.op for o in graph.opaque})
        reasons.append(f"{graph.num_opaque_parameters:,} opaque ({', '.join(operators)})")
    return (
        f"| {path.stem} | {graph.num_parameters:,} | {graph.num_parameter_edges:,} | {graph.num_tied_edges:,} "
        f"| {graph.num_nodes:,} | {graph.num_links:,} | {', '.join(reasons)} "
        f"| {checked([report]) if report else ' | | '} |"
    )


if __name__ == "__main__":
    main()
