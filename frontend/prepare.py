"""From a model to the network that is lowered: passes over the model, until none finds anything more."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir

from .inference.shapes import ValueInfo, infer
from .interpret import finder, opset_of
from .model.attribute_weights import extend
from .plan import plan
from .rewriting.cells import write_out
from .rewriting.control import flatten
from .rewriting.dequantised import recognise as recognise_dequantised
from .rewriting.expand import expand
from .rewriting.idioms import recognise
from .rewriting.linearity import distribute
from .rewriting.normalise import normalise
from .rewriting.quantized_ops import unfold
from .rewriting.rows import by_row
from .rewriting.sequences import unpack
from .rules.registry import Registry, builtin

__all__ = ["prepare", "settled"]


def prepare(
    model: onnx_ir.Model, dims: Mapping[str, int], inputs: Mapping[str, tuple[int, ...]], rules: Registry
) -> tuple[onnx_ir.Model, dict[onnx_ir.Value, ValueInfo]]:
    """The network that is lowered, with what is known of its values.

    After `settled`, products with computed weights are taken apart, and idioms and numbered rows are recognised.
    """
    network, known = settled(model, dims, inputs, rules)
    find = finder(rules, network)
    mixed = plan(network, known, find).mixed
    if write_out(network, known, mixed, find):
        network, known = settled(network, dims, inputs, rules)
        mixed = plan(network, known, finder(rules, network)).mixed
    distribute(network, known, mixed)
    recognise(network, known)
    by_row(network, known)
    extend(network)
    return network, known


def settled(
    model: onnx_ir.Model, dims: Mapping[str, int], inputs: Mapping[str, tuple[int, ...]], rules: Registry
) -> tuple[onnx_ir.Model, dict[onnx_ir.Value, ValueInfo]]:
    """The normalised network with control flow flat and function bodies expanded; values keep their names."""
    network = normalise(model, keep=lambda function: _overrides(rules, model, function))
    while True:
        recognise_dequantised(network)
        unfold(network)
        misfits: set[onnx_ir.Graph] = set()
        find = finder(rules, network)
        known = infer(network, dims, inputs, find, misfits)
        changed = unpack(network, known) or flatten(network, known, misfits)
        if not changed and not expand(network, known, find):
            return network, known
        network = normalise(network)


def _overrides(rules: Registry, model: onnx_ir.Model, function: onnx_ir.Function) -> bool:
    """Whether a rule that is not built in takes the place of a local function's body."""
    key = (function.domain, function.name, opset_of(model, function.domain))
    rule = rules.find(*key)
    return rule is not None and rule is not builtin().find(*key)
