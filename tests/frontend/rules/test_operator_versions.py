"""Every rule has been read against every version of its operator, and gives the same graph at each of them."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx
import pytest
from onnx import version_converter
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema
from support.cases.case import Case, build, image
from support.cases.elementwise import elementwise_cases
from support.cases.layers import layer_cases
from support.cases.movement import movement_cases
from support.cases.operators import operator_cases
from support.cases.recurrent import recurrent_cases
from support.paths import ROOT
from support.reviewed_versions import REVIEWED
from support.tiers import first

import gmnc
from gmnc.frontend import builtin
from gmnc.frontend.inference.signatures import SIGNATURES
from gmnc.frontend.rewriting.quantized_ops import KERNELS
from gmnc.ir import EdgeBlock
from gmnc.symmetry import isomorphic
from gmnc.testing import disagreement, random_inputs, run

FIRST = 7

# Operators of which no form is lowered, and attributes with which one is not.
REFUSED = {"PackedAttention", "PackedMultiHeadAttention", "DecoderMaskedSelfAttention"}
IN_OTHER_FORMS = {
    "QMoE": {
        "accuracy_level", "fc1_expert_weight_bits", "fc2_expert_weight_bits", "fc3_expert_weight_bits", "quant_type",
        "weights_prepacked",
    },
}  # fmt: skip


def _versions() -> dict[str, set[int]]:
    """For each operator its versions; of the default domain since opset 7, the one in force there included."""
    every: dict[str, set[int]] = defaultdict(set)
    for schema in onnx.defs.get_all_schemas_with_history():
        if not schema.deprecated:
            every[_name(schema.domain, schema.name)].add(schema.since_version)
    return {
        name: {v for v in found if "::" in name or v >= max((v for v in found if v <= FIRST), default=0)}
        for name, found in every.items()
    }


def _name(domain: str, op: str) -> str:
    return op if domain in ("", "ai.onnx") else f"{domain}::{op}"


def test_every_version_of_a_ruled_operator_has_been_reviewed() -> None:
    versions = _versions()
    ruled = {_name(rule.domain, rule.op) for rule in builtin()} & versions.keys()
    unread = {op: sorted(versions[op] - REVIEWED.get(op, set())) for op in ruled}
    assert not {op: found for op, found in unread.items() if found}
    unknown = {op: sorted(found - versions.get(op, set())) for op, found in REVIEWED.items()}
    assert not {op: found for op, found in unknown.items() if found}


def _first_cases() -> list[Case]:
    """One case per operator of the default domain, that of the lowest opset."""
    chosen: dict[str, Case] = {}
    for case in (*elementwise_cases(), *layer_cases(), *movement_cases(), *operator_cases(), *recurrent_cases()):
        if not case.domain and case.checked and (case.op not in chosen or case.opset < chosen[case.op].opset):
            chosen[case.op] = case
    return list(chosen.values())


@pytest.mark.parametrize("case", first(40, _first_cases()), ids=lambda c: c.op)
def test_graph_is_the_same_at_every_version(case: Case) -> None:
    """The network, converted by ONNX to the versions of its operator (and to the newest opset)."""
    model = build(case)
    graph = gmnc.compile(model)
    newest = onnx.defs.onnx_opset_version()
    for version in sorted({v for v in REVIEWED.get(case.op, ()) if v >= FIRST} | {newest}):
        try:
            converted = version_converter.convert_version(model, version)
        except (RuntimeError, version_converter.ConvertError):
            # ONNX has no adapter for some operators and directions.
            continue
        if not isomorphic(graph, gmnc.compile(converted)):
            # Some adapters of ONNX make a network that computes something else.
            inputs = random_inputs(model)
            assert disagreement(run(model, inputs), run(converted, inputs)) > 1e-4, f"opset {case.opset} to {version}"


@pytest.mark.parametrize(("mode", "order"), [("DCR", "3, 5, 1, 2, 4"), ("CRD", "1, 3, 5, 2, 4")])
def test_space_to_depth_in_both_orders(mode: str, order: str) -> None:
    """ONNX Runtime does not run SpaceToDepth since 28 yet: against the operators that it stands for."""
    short = f's = SpaceToDepth<blocksize = 2, mode = "{mode}">(h)\n o = Mul(s, scale)'
    written = (
        f"r = Reshape(h, first)\n q = Transpose<perm = [0, {order}]>(r)\n s = Reshape(q, last)\n o = Mul(s, scale)"
    )
    ints = {"first": [1, 4, 3, 2, 3, 2], "last": [1, 16, 3, 3]}
    met = []
    for body in (short, written):
        case = image("SpaceToDepth", mode, body, channels=16, floats={"scale": (16, 1, 1)}, ints=ints, opset=28)
        graph = gmnc.compile(build(case))
        numbers = np.arange(3 * 16).reshape(3, 16, 1, 1)
        blocks = [b for b in graph.edges if b.view.name == "ko"]
        met.append({(k, n) for b in blocks for k, n in zip(_sources(b), b.view.read(numbers).reshape(-1), strict=True)})
    assert met[0] == met[1]
    assert len(met[0]) == 3 * 16


def _sources(block: EdgeBlock) -> list[int]:
    """The source node of each edge, in the order of the view."""
    return np.broadcast_to(block.src[:, None, :, None], block.shape).reshape(-1).tolist()


def test_page_has_a_row_for_every_operator() -> None:
    """The page that `operator_table.py` writes knows of the operators and rules that there are now."""
    page = (ROOT / "docs" / "supported-operators.md").read_text()
    for schema in onnx.defs.get_all_schemas():
        assert schema.deprecated or f"\n| {schema.name} |" in page
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in page.splitlines() if line.startswith("| ")}
    for rule in builtin():
        if rule.op in rows and onnx.defs.has(rule.op, rule.domain):
            home = "declared" if rule.declared else f"`{rule.lower.__module__.rpartition('.')[2]}.py`"
            assert home in rows[rule.op], rule.op


def test_operators_of_onnx_runtime_are_as_they_were_read() -> None:
    """An operand or attribute that ONNX Runtime added is in the table once the rule has been read against it."""
    ours = {(r.domain, r.op) for r in builtin() if not r.declared} | set(KERNELS)
    seen = 0
    for schema in get_all_operator_schema():
        if schema.domain != "com.microsoft" or (schema.domain, schema.name) not in ours or schema.name in REFUSED:
            continue
        operands, attributes = SIGNATURES[schema.name]
        seen += 1
        new = set(schema.attributes) - attributes - IN_OTHER_FORMS.get(schema.name, set())
        assert not new, f"{schema.name}: {new}"
        assert len(schema.inputs) <= operands, schema.name
    assert seen > 40
