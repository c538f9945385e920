"""Mutation tests of the rules of lowering and symmetry: what the code does without each, and a test that then fails.

PYTHONPATH=tests python -m support.mutations > docs/rules-matter.md
    writes the table
PYTHONPATH=tests python -m support.mutations --run
    applies each to the code, runs its test, prints outcomes as JSON
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from support.mutants import (
    KINDS,
    OPERANDS,
    PINS,
    ROLES,
    SLOTS,
    TIES,
    VIAS,
    Change,
    always_the_first,
    any_order,
    as_it_comes,
    by_number,
    commutative,
    constantly,
    first_of_several,
    first_operand,
    first_place,
    if_broadcast,
    left_factor,
    links_without_vias,
    no_bits,
    no_coordinates,
    not_periodic,
    of_any_factor,
    one_row,
    outside_vias,
    paired_backwards,
    slots_as_they_come,
    stacked,
    unchanged,
    unpinned,
    without_step,
    without_tables,
    without_values,
)
from support.paths import TESTS

__all__ = ["MUTATIONS", "Mutation", "Outcome", "table"]


@dataclass(frozen=True, slots=True)
class Mutation:
    """One mutation: `change` replaces the function `target` ("module:name" in gmnc) by one without the rule.

    test: the test that then fails.
    """

    rule: str
    without: str
    target: str
    change: Change
    test: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """exit: of pytest, 1 for tests that failed. failure: the type of error and the start of its text."""

    exit: int
    failure: str


_CLOSURE, _COLOURS = "symmetry.incidence:Incidence.__init__", "symmetry.isomorphism:colours"
_HOLD = "symmetry/test_networks_symmetry.py::test_claimed_symmetries_hold"
_KNOWN = "symmetry/test_networks_symmetry.py::test_known_groups"
_TELL = "whole/test_tell_apart.py::test_what_changes_the_output_changes_the_graph"
_RULE = "frontend/rules/test_rules.py::test_rule"
_TWINS = "frontend/rules/test_twins.py::test_what_differs_between_branches_keeps_their_weights_apart"
_COPIES = "frontend/rules/test_regressions.py::test_copies_of_a_neuron_that_become_different_are_told_apart"
_VIA = "ir.builder:GraphBuilder.via"

_WEIGHTS = "frontend/test_computed_weights.py"
LOWERING = [
    Mutation("A parameter is what the file stores", "linear expressions are not distributed",
             "frontend.rewriting.linearity:distribute", constantly(0),
             f"{_WEIGHTS}::test_a_linear_expression_has_the_graph_of_its_activations[a product]"),
    Mutation("A parameter is what the file stores", "vias of edges omit the function of the parameter",
             "frontend.primitives.state:State._reparametrized", unchanged(1),
             f"{_WEIGHTS}::test_functions_of_one_element_are_traces_of_its_edge[Softplus]"),
    Mutation("A parameter is what the file stores", "a matrix that weights are computed from counts as single numbers",
             "frontend.plan:_matrices_among", constantly({}),
             f"{_WEIGHTS}::test_expressions_that_are_not_linear_have_the_right_symmetries[a product of entries]"),
    Mutation("A parameter is what the file stores", "computations without a rule pin nothing",
             "frontend.compile:_pin_ends_of_opaque", constantly(None),
             f"{_WEIGHTS}::test_a_computed_weight_that_no_rule_knows_pins_what_it_touches_and_says_so"),
    Mutation("A parameter is what the file stores", "recurrent cells with computed weights are not expanded",
             "frontend.rewriting.cells:expand_cells", constantly(False),
             "frontend/test_computed_operands.py::test_a_cell_whose_weights_are_computed_has_the_symmetries_of_its_units"
             "[low rank]"),
    Mutation("A function of one neuron stays on it", "branches of one neuron make a join",
             "frontend.primitives.combine:_same_nodes", constantly(None),
             "frontend/test_hand_counted.py::test_a_function_of_one_neuron_adds_nothing"),
    Mutation("A function of one neuron stays on it", "composite functions are not recognised",
             "frontend.primitives.functions:FunctionVias._recognise", constantly(None),
             "frontend/test_hand_counted.py::test_a_function_of_one_neuron_adds_nothing"),
    Mutation("A function of one neuron stays on it", "decomposed normalisations are not recognised",
             "frontend.rewriting.idioms:recognise", constantly(0),
             "frontend/test_hand_counted.py::test_groupnorm_as_op_and_written_out_agree"),
    Mutation("Shared weights see one neuron", "the weight sees the first of several neurons",
             "frontend.primitives.joins:shared_neuron", first_place, f"{_HOLD}[linear_view_conv-dynamo]"),
    Mutation("Shared weights see one neuron", "links of the joined tuple have no slots",
             "frontend.primitives.joins:shared_neuron", any_order, f"{_HOLD}[linear_view_conv-dynamo]"),
    Mutation("Shared weights see one neuron", "concatenation along a free axis makes no join",
             "frontend.lowering:GraphLowering.concat", stacked,
             "frontend/test_hand_counted_blocks.py::test_class_token_and_position_table"),
    Mutation("An axis is free or neural by its labels", "positions of a contracted free axis have no slots",
             "frontend.primitives.contraction:_slots", no_coordinates, f"{_TELL}[a kernel flipped-dynamo]"),
    Mutation("An axis is free or neural by its labels", "repeated neurons make no parallel edges",
             "frontend.primitives.labels:periodic", not_periodic,
             "frontend/test_hand_counted.py::test_convolution_flatten_linear"),
    Mutation("An axis is free or neural by its labels", "a weight shared by several neurons sees the first one only",
             "frontend.primitives.contraction:_source", first_of_several,
             "frontend/test_hand_counted.py::test_mixer_block"),
    Mutation("An axis is free or neural by its labels", "each position of an input is a feature",
             "frontend.discovery:FeatureDiscovery._share", constantly(None),
             "frontend/test_hand_counted.py::test_convolution_batchnorm_pool_linear"),
    Mutation("Free axes are ordered", "labelled axes that meet an unlabelled one have no positions",
             "frontend.primitives.joins:_marked_against_free", unchanged(2), f"{_HOLD}[mixer-dynamo]"),
    Mutation("Free axes are ordered", "operators that depend on the order do not pin",
             "frontend.primitives.reductions:order", unpinned,
             "frontend/rules/test_regressions.py::test_an_average_over_everything_with_padding_is_not_global"),
    Mutation("Free axes are ordered", "pinned neurons have no `Place` step",
             _VIA, without_step("Place"), f"{_COPIES}[running sums]"),
    Mutation("Free axes are ordered", "operators that depend on the order neither pin nor add `Place`",
             "frontend.primitives.state:State.ordered", unchanged(1),
             "frontend/rules/test_regressions.py::test_of_equal_entries_the_first_wins[ArgMax]"),
    Mutation("Free axes are ordered", "lowering pins nothing",
             "frontend.primitives.state:State.pin", constantly(None), "frontend/test_hand_counted.py::test_mlp_2_3_1"),
    Mutation("Moves of positions are in the via", "they are not",
             "frontend.primitives.moves:Moves.append", unchanged(1),
             f"{_TWINS}[softmax in another shape of the grid]"),
    Mutation("Moves of positions are in the via", "they are, without the positions that they select",
             "frontend.primitives.moves:describe_move", constantly(""),
             "frontend/rules/test_regressions.py::test_a_flattened_value_under_a_token_keeps_its_places"),
    Mutation("Moves of positions are in the via", "elementwise functions are not put before moves",
             "frontend.primitives.moves:Moves.under", as_it_comes,
             "frontend/test_hand_counted.py::test_a_function_of_numbers_goes_before_or_after_movement_of_places"),
    Mutation("Moves of positions are in the via", "broadcasting is not a move",
             "frontend.primitives.joins:_spread", unchanged(2), f"{_TWINS}[broadcast over rows or columns]"),
    Mutation("Moves of positions are in the via", "the order of slots is not normalised",
             "frontend.primitives.grid:runs", slots_as_they_come,
             "frontend/rules/test_twins.py::test_weights_over_rows_or_columns[mixers]"),
    Mutation("Moves of positions are in the via", "each stacked position is a member of its own",
             "frontend.primitives.grid:stacked", unchanged(1),
             "frontend/test_hand_counted.py::test_places_of_one_neuron_are_summed_as_one"),
    Mutation("Axes of the grid are in the via", "the axis that an operator mixes over is not",
             "frontend.primitives.reductions:_over", by_number,
             f"{_TWINS}[softmax over axes of one number in two layouts]"),
    Mutation("Axes of the grid are in the via", "the group of neurons that an operator mixes over is not",
             "frontend.primitives.reductions:_over", of_any_factor,
             "frontend/rules/test_twins.py::test_an_op_along_either_of_two_sets_of_neurons[softmax]"),
    Mutation("Axes of the grid are in the via", "the layout of grid axes in a value is not",
             "frontend.primitives.reductions:layout", constantly({}), f"{_TWINS}[one axis resized in two layouts]"),
    Mutation("Axes of the grid are in the via", "the axis of a concatenation is not",
             _VIA, without_step("Along"),
             f"{_TWINS}[softmax over rows of what is stacked in rows or columns]"),
    Mutation("Axes of the grid are in the via", "the axis of a joined tuple is not",
             _VIA, without_step("Tuple"), f"{_TWINS}[softmax over places or over what a weight is shared by]"),
    Mutation("Axes of the grid are in the via", "the axes that products are summed over are not",
             _VIA, without_step("Sum"), f"{_TWINS}[products summed over columns or over all places]"),
    Mutation("Coupling has a scope", "every coupling counts as one over a whole group",
             "frontend.primitives.reductions:_whole", constantly(True), f"{_HOLD}[groupnorm-dynamo]"),
    Mutation("Coupling has a scope", "every node group counts as one that moves as a whole",
             "frontend.primitives.indivisible:IndivisibleGroups.contains", constantly(True),
             f"{_RULE}[Softmax-two-depthwise-added]"),
    Mutation("Coupling has a scope", "the scopes of one neuron are not distinguished",
             "frontend.primitives.state:State.scopes", always_the_first, f"{_COPIES}[softmax in parts]"),
    Mutation("Coupling has a scope", "operators that depend on the order have no scope",
             _VIA, without_step("Scope"), f"{_TWINS}[one place of running sums]"),
    Mutation("One element, one edge", "hubs are not linked to the neurons that share them",
             "frontend.primitives.add_parameters:_link_hubs", constantly(None), f"{_HOLD}[llama-dynamo]"),
    Mutation("One element, one edge", "elements that a gather repeats have several edges",
             "frontend.primitives.add_parameters:_without_repeats", lambda old: lambda *parts: parts,
             "frontend/test_hand_counted.py::test_a_vector_gathered_with_repeats"),
    Mutation("Nothing that varies along a neural axis is ignored", "constant tables along neurons are ignored",
             "frontend.primitives.elementwise:_attach", without_tables, f"{_RULE}[Mul-table-on-neurons]"),
    Mutation("Nothing that varies along a neural axis is ignored", "vias omit the attached edge blocks",
             "frontend.primitives.add_parameters:add_parameters", outside_vias,
             "frontend/rules/test_regressions.py::test_two_scales_of_one_neuron_are_told_apart"),
    Mutation("Nothing that varies along a neural axis is ignored", "links have no vias",
             "ir.builder:GraphBuilder.add_links", links_without_vias, f"{_HOLD}[llama-dynamo]"),
    Mutation("Nothing that varies along a neural axis is ignored", "positions with weights of their own look alike",
             "frontend.primitives.grid:spread", if_broadcast, f"{_RULE}[Conv-groups-of-positions]"),
    Mutation("Nothing that varies along a neural axis is ignored", "copies that meet different elements look alike",
             "frontend.primitives.add_parameters:_apart", unchanged(1), f"{_COPIES}[a bias]"),
    Mutation("A join is one node per tuple of signals", "the first operand passes through",
             "frontend.primitives.joins:join", first_operand, f"{_HOLD}[resnet-dynamo]"),
    Mutation("A join is one node per tuple of signals", "every operator counts as commutative",
             "frontend.primitives.joins:join", commutative,
             "frontend/rules/test_rules.py::test_changes_show[Sub-activations]"),
    Mutation("A product-sum ties its operands", "the left factor passes through",
             "frontend.primitives.products:_product", left_factor, f"{_HOLD}[attention_qkv-dynamo]"),
    Mutation("A reduction has nodes of its own", "the first entry passes through",
             "frontend.primitives.joins:gathered", first_place, f"{_HOLD}[experts-dynamo]"),
]  # fmt: skip

SYMMETRY = [
    Mutation("Only linear functions on edges absorb scales", "all functions on edges absorb scales",
             "symmetry.scaling_equations:ScalingEquations._absorbs", constantly(True),
             f"{_WEIGHTS}::test_scales_and_signs_respect_functions_of_parameters"),
    Mutation("Kinds are preserved", "swap closure ignores them", _CLOSURE, KINDS,
             "symmetry/test_symmetry.py::test_kinds_and_roles_differ[kind]"),
    Mutation("Kinds are preserved", "colour refinement ignores them", _COLOURS, KINDS,
             "symmetry/test_symmetry.py::test_kinds_and_roles_differ[kind]"),
    Mutation("Roles are preserved", "swap closure ignores them", _CLOSURE, ROLES,
             "symmetry/test_symmetry.py::test_kinds_and_roles_differ[role]"),
    Mutation("Roles are preserved", "colour refinement ignores them", _COLOURS, ROLES,
             "symmetry/test_symmetry.py::test_kinds_and_roles_differ[role]"),
    Mutation("Vias are preserved", "swap closure ignores them", _CLOSURE, VIAS,
             "symmetry/test_symmetry.py::test_a_via_that_differs_rejects"),
    Mutation("Vias are preserved", "colour refinement ignores them", _COLOURS, VIAS,
             "whole/test_tell_apart.py::test_other_functions_of_the_same_parameters[resnet, GELU for ReLU-dynamo]"),
    Mutation("Slots are preserved", "swap closure ignores them", _CLOSURE, SLOTS,
             "symmetry/test_symmetry.py::test_slots_of_links_tell_positions_apart"),
    Mutation("Slots are preserved", "colour refinement ignores them",
             _COLOURS, SLOTS, f"{_TELL}[a kernel flipped-dynamo]"),
    Mutation("Operand indices are preserved", "swap closure ignores them", _CLOSURE, OPERANDS,
             "symmetry/test_symmetry.py::test_products_are_not_commutative_in_their_operands"),
    Mutation("Operand indices are preserved", "colour refinement ignores them", _COLOURS, OPERANDS,
             "frontend/rules/test_rules.py::test_changes_show[Sub-activations]"),
    Mutation("Pinned nodes are fixed", "swap closure ignores them", _CLOSURE, PINS, f"{_HOLD}[perceptron-dynamo]"),
    Mutation("Pinned nodes are fixed", "colour refinement ignores them", _COLOURS, PINS,
             "whole/test_tell_apart.py::test_ports_keep_their_order"),
    Mutation("The fingerprint depends on values", "colour refinement ignores them",
             "symmetry.isomorphism:_bits", no_bits,
             f"{_TELL}[channels of the stem alone-dynamo]"),
    Mutation("Weight sharing is preserved", "colour refinement ignores it", _COLOURS, TIES,
             "symmetry/test_fingerprint.py::test_shared_weights_differ_from_equal_ones"),
    Mutation("Weight sharing is preserved", "swap closure ignores it", _CLOSURE, TIES, f"{_KNOWN}[llama-dynamo]"),
    Mutation("Weight sharing is preserved", "moving an element at one site forces nothing at the others",
             "symmetry.ties:forced_pairs", constantly(set()),
             "symmetry/test_tied_rows.py::test_a_site_that_views_a_part_of_each_column"),
    Mutation("Repeated sources pair up in order of occurrence", "they pair up in reverse order",
             "symmetry.automorphism:_match", paired_backwards,
             "symmetry/test_symmetry.py::test_flatten_keeps_positions"),
    Mutation("A swap across batches moves whole batches", "all batches count as one",
             "symmetry.incidence:_merge", one_row, f"{_HOLD}[grouped-dynamo]"),
    Mutation("Constants along neurons distinguish them", "their values are ignored",
             "symmetry.incidence:Incidence._constant_arcs", without_values,
             f"{_RULE}[Mul-table-on-neurons]"),
    Mutation("Edge blocks in vias move with their signals", "this is not checked",
             "symmetry.closure:Closure._verify_vias", constantly(None), f"{_TWINS}[tables over rows or columns]"),
    Mutation("Every edge has its image", "closures are not checked",
             "symmetry.closure:Closure._verify", constantly(None),
             "symmetry/test_symmetry.py::test_a_closure_that_is_no_symmetry_is_not_kept"),
]  # fmt: skip

_INTRO = """# Every rule matters

Generated by `PYTHONPATH=tests python -m support.mutations > docs/rules-matter.md`. Each row is a mutation test: a rule
of lowering or of the symmetry search, what the code does without it, the function that is replaced, and a test in
`tests/` that then fails. `tests/whole/test_mutations.py` applies each mutation and asserts that the test fails."""

MUTATIONS = {f"{m.rule}: {m.without}": m for m in (*LOWERING, *SYMMETRY)}


@contextlib.contextmanager
def applied(mutation: Mutation) -> Iterator[None]:
    """The code without the rule: the function is replaced in its home and wherever it has been imported by name."""
    module, _, path = mutation.target.partition(":")
    *owners, name = path.split(".")
    home = importlib.import_module(f"gmnc.{module}")
    for owner in owners:
        home = getattr(home, owner)
    old = getattr(home, name)
    new = mutation.change(old)
    users = [m for key, m in sys.modules.items() if key.startswith("gmnc.") and getattr(m, name, None) is old]
    with pytest.MonkeyPatch.context() as patch:
        for place in (home, *users):
            patch.setattr(place, name, new)
        yield


class _Recorder:
    def __init__(self) -> None:
        self.failures: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, call: pytest.CallInfo) -> Any:
        report = yield
        if report.failed and call.excinfo is not None:
            text = " ".join(str(call.excinfo.value).split())
            self.failures.append(f"{report.when}: {call.excinfo.typename}: {text[:120]}")
        return report


def outcome(key: str) -> tuple[str, Outcome]:
    """What the test says when the code lacks the rule; in a process of its own, which this spoils."""
    recorder, silence = _Recorder(), io.StringIO()
    test = str(TESTS / MUTATIONS[key].test)
    options = ["-q", "-x", "-m", "", "-p", "no:cacheprovider", "-p", "no:xdist"]
    try:
        with applied(MUTATIONS[key]), contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
            code = pytest.main([test, *options], [recorder])
    except (AttributeError, ModuleNotFoundError) as error:
        return key, Outcome(-1, f"the function has moved: {error}")
    return key, Outcome(int(code), next(iter(recorder.failures), silence.getvalue()[-300:]))


def outcomes(keys: Sequence[str]) -> Iterator[tuple[str, Outcome]]:
    """The outcome of each, in processes forked from this one, which has the test modules loaded."""
    files = sorted({str(TESTS / MUTATIONS[key].test.partition("::")[0]) for key in keys})
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main([*files, "-q", "--collect-only", "-m", "", "-p", "no:cacheprovider"])
    with multiprocessing.get_context("fork").Pool(maxtasksperchild=1) as pool:
        yield from pool.imap(outcome, keys, chunksize=1)


def table() -> str:
    """The page docs/rules-matter.md."""
    lines = [_INTRO]
    for title, mutations in (("Lowering", LOWERING), ("Symmetry", SYMMETRY)):
        lines += [f"\n## {title}\n", "| rule | without it | where | test that fails |", "|---|---|---|---|"]
        for m in mutations:
            lines.append(f"| {m.rule} | {m.without} | `{m.target}` | `{m.test}` |")
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        words = sys.argv[2:]
        for key, found in outcomes([k for k in MUTATIONS if not words or any(w in k for w in words)]):
            print(json.dumps([key, found.exit, found.failure]), flush=True)
    else:
        print(table())
