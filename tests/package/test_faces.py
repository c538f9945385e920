"""What each room offers to others: the names of its face, pinned, and the picture of the rooms."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import ROOT

FACES = {
    "backends": """
        blocks checkpoints coo draw networkx onnx store
    """,
    "cli": """
        app main
    """,
    "files": "FileState MappedFile inside make_folder read_tensors replacing sweep target write_bytes write_json",
    "frontend": """
        LabelledModel LowerToParameterGraph LoweringContext Op Registry Rule Spec Unsupported Value builtin compile
        from_torch installed label_values rule
    """,
    "ir": """
        AccountEntry DEQUANTIZE Deferred EdgeBlock EdgeRole GmncError GraphBuilder GraphError Held LinkBlock
        LinkRole LoadError LoweringError ModelSource NodeGroup NodeKind OpaqueOp Origin Parameter ParameterGraph
        ParameterView PluginError Port Problem REPARAMETRIZE Step Storage StorageWarning UnsupportedError Via
        VocabularyError declared_steps edge_role_id link_role_id register_step role_name
    """,
    "kernels": """
        ACTIVATIONS Block COLUMN COLUMNS Chunk EdgeTable Fused Layout Terms block_table edge_update kernels register
    """,
    "metanets": """
        DMC DeepSets GMN GMNConfig HEADS NAMES NFN READOUTS StatNN header load metanetwork mlp save statistics
    """,
    "symmetry": """
        Automorphism Factor Interchangeable KINDS Mixing Mixings Product Rejection Rescaling Rescalings Space
        Symmetries SymmetryFamily apply checked_kinds colours compose describe fingerprint interchangeable isomorphic
        plural product swap symmetries verify_exact
    """,
    "tasks": """
        Experiment History OnProgress Options Prediction Predictor SHIPPED Settings Task WithProbeResponses Zoo
        accuracy fit inr_edit inr_ssl load_result make_zoo probe_images probe_responses process_group rank read_index
        report run
    """,
    "testing": """
        BruteForce Failure Llama Report assert_exact assert_isomorphic assert_same_up_to_symmetry assert_sound
        brute_force build count disagreement networks random_inputs run values verify with_values
    """,
    "transforms": """
        Alignment Correspondence Difference FamilyReport LayerDistance Line Matching Merged NothingToPrune Proof Prune
        Pruned Scrambled TensorDistance align correspondence diff distance fingerprints match merge prove prune scramble
    """,
}


@pytest.mark.parametrize("room", FACES)
def test_the_public_names_of_a_room_are_pinned(room: str) -> None:
    module = importlib.import_module(f"gmnc.{room}")
    assert sorted(module.__all__) == sorted(FACES[room].split())
    for name in module.__all__:
        assert getattr(module, name) is not None


def test_every_room_has_a_pinned_face() -> None:
    rooms = {p.parent.name for p in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks", "examples", "docs"}
    assert set(FACES) == rooms


def test_the_picture_of_the_rooms_is_current() -> None:
    """Otherwise: python docs/rooms.py > docs/rooms.svg"""
    made = subprocess.run([sys.executable, ROOT / "docs" / "rooms.py"], check=True, capture_output=True, text=True)
    assert (ROOT / "docs" / "rooms.svg").read_text(encoding="utf-8") == made.stdout


def only_for_types(file: Path) -> list[tuple[str, str]]:
    """(module, name) of what a file imports from the package for its annotations alone."""
    package = ["gmnc", *file.relative_to(ROOT).parent.parts]
    found = []
    for block in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING":
            for node in (n for n in ast.walk(block) if isinstance(n, ast.ImportFrom) and n.level):
                base = [*package[: len(package) - node.level + 1], *(node.module.split(".") if node.module else [])]
                found += [(".".join(base), alias.name) for alias in node.names]
    return found


def test_no_cycle_hides_behind_type_checking() -> None:
    files = [p for room in FACES for p in (ROOT / room).rglob("*.py") if p.name != "__init__.py"]
    names = [(file, *found) for file in files for found in only_for_types(file)]
    assert names
    for file, module, name in names:
        assert not inspect.isfunction(getattr(importlib.import_module(module), name)), f"{file}: {module}.{name}"
