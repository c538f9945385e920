"""Writes docs/supported-operators.md from the registry of rules and from what ONNX's own cases come to.

PYTHONPATH=tests python -m support.operator_table > docs/supported-operators.md
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import onnx
from support.cases import CASES, build
from support.node_cases import NodeCase, Outcome, collect, examine, variants
from support.reviewed_versions import REVIEWED

import gmnc
from gmnc.frontend import Rule, builtin
from gmnc.frontend.rewriting.quantized_ops import KERNELS
from gmnc.symmetry import isomorphic
from gmnc.testing import verify

INTRO = """# Operators

Made by `PYTHONPATH=tests python -m support.operator_table > docs/supported-operators.md`, from the registry of
rules and from the cases of single operators that ONNX brings (`onnx.backend.test.case.node`): every case is compiled
as it is, with each float input alone as an initializer, and with all but the first; every
invariant and the account are checked; and what is claimed is verified in ONNX Runtime where that runs the case.

* *versions*: those of the operator that the rule has been read against, from the one in force at opset 7 on.
* *lowered by*: the file of `frontend/rules/` with its rule; *function body*: it becomes the body that ONNX defines;
  *declared*: it has no structure to lower, for the reason given. Its result is then one node that everything enters in
  order, which no symmetry moves, or an opaque node.
* *lowered*: cases in which nothing is opaque, in all variants, of the cases that hold the operator. Operands that set
  axes, sizes or places count as they are in the case, which is mostly: as inputs of the network.
* *sound*: variants whose claims ONNX Runtime confirmed, of those that it ran.
"""

OTHERS = """
## Outside of ONNX

Operators of other domains, by the cases of `tests/support/cases/`, compiled and verified while the page is
written. *lowered*: cases in which nothing is opaque, of all. *written out*: spellings in plain operators whose graphs
are isomorphic to the operator's. *sound*: cases whose claims ONNX Runtime confirmed, of those that it ran.

| operator | lowered by | lowered | written out | sound | limits |
|---|---|---|---|---|---|
"""


@dataclass
class Tally:
    """What is known of one operator."""

    cases: int = 0
    lowered: int = 0
    sound: int = 0
    ran: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def main() -> None:
    outcomes = {case: [examine(v) for v in variants(case)] for case in collect()}
    tallies, whole = tallied(outcomes), sum(lowered(found) for found in outcomes.values())
    rules = {(rule.domain, rule.op): rule for rule in builtin()}
    print(INTRO)
    print(f"{whole:,} of {len(outcomes):,} cases are fully lowered ({whole / len(outcomes):.1%}).")
    domain = None
    for schema in sorted(onnx.defs.get_all_schemas(), key=lambda s: (s.domain, s.name)):
        if schema.domain != domain:
            domain = schema.domain
            print(f"\n## {domain or 'ai.onnx'}\n\n| operator | versions | lowered by | lowered | sound | limits |")
            print("|---|---|---|---|---|---|")
        if not schema.deprecated:
            print(row(schema, rules.get((domain, schema.name)), tallies[domain, schema.name]))
    print(OTHERS + "\n".join(others(rules)))


def others(rules: Mapping[tuple[str, str], Rule]) -> Iterator[str]:
    """Rows of the operators that ONNX does not define: those with rules, and those that are rewritten before."""
    made = dict.fromkeys(KERNELS, "a quantised kernel") | {key: file_of(rule) for key, rule in rules.items()}
    for domain, op in sorted(key for key in made if key[0] not in DOMAINS):
        cases = [c for c in CASES if f"{domain}.{op}<" in c.text or f"{domain}.{op}(" in c.text]
        reports = [verify(build(c), trials=1, controls=1) for c in cases]
        whole = sum(not r.graph.opaque for r in reports)
        ran = [r for r in reports if r.sound is not None]
        pairs = [(r, build(c, text)) for r, c in zip(reports, cases, strict=True) for text in c.alike]
        spelled = [isomorphic(r.graph, gmnc.compile(other)) for r, other in pairs]
        counts = [f"{sum(marks)}/{len(marks)}" if marks else "" for marks in (spelled, [r.sound for r in ran])]
        declared = rules[domain, op].declared if (domain, op) in rules else ""
        limits = declared or "; ".join(dict.fromkeys(r.graph.opaque[0].reason for r in reports if r.graph.opaque))
        lowered_by = f"{made[domain, op]} | {whole}/{len(cases)}" if cases else f"{made[domain, op]} | "
        yield f"| {domain}::{op} | {lowered_by} | {counts[0]} | {counts[1]} | {limits} |"


DOMAINS = {schema.domain for schema in onnx.defs.get_all_schemas()} | {"gmnc"}


def lowered(outcomes: Iterable[Outcome]) -> bool:
    return not any(o.opaque or o.complaint for o in outcomes)


def tallied(outcomes: Mapping[NodeCase, list[Outcome]]) -> Mapping[tuple[str, str], Tally]:
    tallies: dict[tuple[str, str], Tally] = defaultdict(Tally)
    for case, found in outcomes.items():
        for domain, op, _ in case.operators:
            tally = tallies[domain, op]
            tally.cases += 1
            tally.lowered += lowered(found)
            tally.sound += sum(o.sound is True and not o.complaint for o in found)
            tally.ran += sum(o.sound is not None for o in found)
            tally.reasons.update({reason(o) for o in found if o.opaque or o.complaint})
    return tallies


def reason(outcome: Outcome) -> str:
    """Why the first operator that is opaque is so."""
    if outcome.complaint:
        return outcome.complaint.splitlines()[0]
    op, why = outcome.opaque[0]
    return f"{op}: {why}"


def row(schema: onnx.defs.OpSchema, rule: Rule | None, tally: Tally) -> str:
    name = f"{schema.domain}::{schema.name}" if schema.domain else schema.name
    versions = ", ".join(map(str, sorted(REVIEWED.get(name, ())))) or str(schema.since_version)
    cases = f"{tally.lowered}/{tally.cases}" if tally.cases else ""
    sound = f"{tally.sound}/{tally.ran}" if tally.ran else ""
    limits = "; ".join(text for text, _ in tally.reasons.most_common(2)).replace("|", "\\|")
    if rule is not None and rule.declared:
        limits = rule.declared
    return f"| {schema.name} | {versions} | {means(schema, rule)} | {cases} | {sound} | {limits} |"


def means(schema: onnx.defs.OpSchema, rule: Rule | None) -> str:
    if rule is not None:
        return file_of(rule)
    if schema.has_function or schema.has_context_dependent_function:
        return "function body"
    return PREPARED.get(schema.name, "opaque")


def file_of(rule: Rule) -> str:
    return "declared" if rule.declared else f"`{rule.lower.__module__.rpartition('.')[2]}.py`"


PREPARED = {
    "Constant": "an initializer",
    "ConvInteger": "a quantised kernel",
    "MatMulInteger": "a quantised kernel",
    "QLinearConv": "a quantised kernel",
    "QLinearMatMul": "a quantised kernel",
    "If": "control flow made flat",
    "Loop": "control flow made flat",
    "Scan": "control flow made flat",
}
"""Operators that are rewritten before rules are looked for."""


if __name__ == "__main__":
    main()
