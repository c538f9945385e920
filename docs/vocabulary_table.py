"""Writes the vocabulary of parameter graphs as a page.

python docs/vocabulary_table.py > docs/vocabulary.md
"""

from __future__ import annotations

from collections.abc import Iterator

from gmnc.ir import EdgeRole, LinkRole, NodeKind, Step, steps
from gmnc.ir.vocabulary import SUFFIXES, edge_role_id, link_role_id

__all__ = ["page"]

_HEAD = """# The vocabulary of parameter graphs

Made by `python docs/vocabulary_table.py > docs/vocabulary.md`, from `gmnc/ir/vocabulary.py` and `gmnc/ir/steps.py`.

A graph is built of these names alone; `GraphBuilder` refuses others, and rules of plug-ins declare theirs with
`gmnc.ir.register_step`. The ids are those in tensors (`gmnc.coo`, `gmnc.blocks`) and are the same in every graph.
"""

_STEPS = """## Steps

What a value goes through between two nodes, as the entries of a *via* name it. *degree*: d with f(c x) = c^d f(x) for
every c > 0. *parity*: odd or even. *mixes over*: what else takes part. `*`: it depends on the attributes. An empty cell
says that there is none.

| step | computes | degree | parity | mixes over | attributes |
|---|---|---|---|---|---|"""


def page() -> Iterator[str]:
    """The lines of the page."""
    yield _HEAD
    yield f"## Kinds of nodes\n\n{_ids({str(k): i for i, k in enumerate(NodeKind)})}\n"
    suffixes = ", ".join(f"`{suffix}`" for suffix in SUFFIXES[1:])
    yield f"## Roles of edges\n\nEach may be followed by {suffixes}, with the next ids.\n"
    yield f"{_ids({str(r): edge_role_id(r) for r in EdgeRole})}\n"
    yield f"## Roles of links\n\nIn CamelCase: the target is what that operator makes.\n\n{_ids(_links())}\n"
    yield _STEPS
    yield from map(_row, steps())


def _links() -> dict[str, int]:
    return {str(role): link_role_id(role) for role in LinkRole}


def _ids(numbers: dict[str, int]) -> str:
    return ", ".join(f"`{name}` {number}" for name, number in numbers.items())


def _row(step: Step) -> str:
    degree = "*" if callable(step.degree) else "" if step.degree is None else f"{step.degree:g}"
    parity = "*" if callable(step.parity) else "" if step.parity is None else "odd" if step.parity % 2 else "even"
    attributes = " ".join(f"`{name}`" for name in step.attributes)
    cells = (f"`{step.name}`", step.summary.replace("|", "\\|"), degree, parity, step.mixes_over, attributes)
    return f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")


if __name__ == "__main__":
    print("\n".join(page()))
