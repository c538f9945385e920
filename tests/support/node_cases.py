"""ONNX's own test cases of single operators, and the networks they make when inputs become initializers."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

import gmnc
from gmnc.testing import verify

__all__ = ["NodeCase", "Outcome", "Variant", "collect", "examine", "operators", "sample", "variants"]

_FLOATS = frozenset(
    getattr(TensorProto, name)
    for name in (
        "FLOAT",
        "FLOAT16",
        "DOUBLE",
        "BFLOAT16",
        "FLOAT8E4M3FN",
        "FLOAT8E4M3FNUZ",
        "FLOAT8E5M2",
        "FLOAT8E5M2FNUZ",
    )
)


FAILED_ONCE = {
    "test_attention_4d_attn_mask_3d_causal",
    "test_batchnorm_epsilon",
    "test_optional_get_element_optional_tensor",
    "test_reduce_l1_empty_set_expanded",
    "test_reduce_log_sum_exp_keepdims_example_expanded",
    "test_center_crop_pad_crop_axes_hwc_expanded",
    "test_swiglu",
    "test_linear_attention_delta",
}


@dataclass(frozen=True, eq=False)
class NodeCase:
    """A model and one set of its inputs, by name. operators: (domain, name, since-version) of what it is a case of."""

    name: str
    model: onnx.ModelProto
    inputs: dict[str, Any]
    operators: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True)
class Variant:
    """A case in which the inputs `promoted` are initializers. inputs: arrays of the others."""

    name: str
    model: onnx.ModelProto
    inputs: dict[str, np.ndarray]
    promoted: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What came of one variant.

    opaque: (operator, reason) of what is opaque. complaint: what is wrong, "" if nothing. sound: what `verify` says,
    None where ONNX Runtime does not run it or nothing is claimed.
    """

    variant: str
    opaque: tuple[tuple[str, str], ...]
    complaint: str
    sound: bool | None = None


@functools.cache
def collect() -> tuple[NodeCase, ...]:
    """Every case of `onnx.backend.test.case.node`."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    own = {case.name: operators(case.model) for case in found}
    return tuple(_case(case, own) for case in found)


def _case(case: Any, own: dict[str, tuple[tuple[str, str, int], ...]]) -> NodeCase:
    """An expanded function counts for the operator that it is the body of."""
    whole = re.sub(r"_expanded(_ver\d+)?$", "", case.name)
    names = [v.name for v in case.model.graph.input]
    values = [_array(v) for v in case.data_sets[0][0]]
    return NodeCase(case.name, case.model, dict(zip(names, values, strict=True)), own.get(whole, own[case.name]))


def _array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else value


def operators(model: onnx.ModelProto) -> tuple[tuple[str, str, int], ...]:
    """The distinct operators of a model's main graph with the versions that its opset gives them."""
    opsets = {_plain(o.domain): o.version for o in model.opset_import}
    found = {(_plain(n.domain), n.op_type): None for n in model.graph.node}
    return tuple((d, op, _since(d, op, opsets.get(d, 1))) for d, op in found)


def _plain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _since(domain: str, op: str, opset: int) -> int:
    try:
        return int(onnx.defs.get_schema(op, opset, domain).since_version)
    except onnx.defs.SchemaError:
        return opset


def sample() -> tuple[NodeCase, ...]:
    """One case per operator and version, the first, and those that failed once."""
    chosen: dict[tuple[str, str, int], NodeCase] = {}
    for case in collect():
        for key in case.operators:
            chosen.setdefault(key, case)
    once = [case for case in collect() if case.name in FAILED_ONCE]
    return tuple(dict.fromkeys([*chosen.values(), *once]))


def variants(case: NodeCase) -> Iterator[Variant]:
    """The case as it is, with each float input alone as initializer, and with all but the first."""
    floats = [
        v.name
        for v in case.model.graph.input
        if v.type.tensor_type.elem_type in _FLOATS and isinstance(case.inputs[v.name], np.ndarray | np.generic)
    ]
    yield _promoted(case, ())
    for name in floats:
        yield _promoted(case, (name,))
    if len(floats) > 2:
        yield _promoted(case, tuple(floats[1:]))


def _promoted(case: NodeCase, names: tuple[str, ...]) -> Variant:
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    graph = model.graph
    kept = [v for v in graph.input if v.name not in names]
    del graph.input[:]
    graph.input.extend(kept)
    graph.initializer.extend(numpy_helper.from_array(np.asarray(case.inputs[n]), n) for n in names)
    rest = {n: v for n, v in case.inputs.items() if n not in names and v is not None}
    return Variant(f"{case.name}[{','.join(names)}]", model, rest, names)


def examine(variant: Variant, trials: int = 1) -> Outcome:
    """Compile, check every invariant and the account, and verify on the case's own inputs (not for 0 trials)."""
    tensors = {n: np.asarray(v) for n, v in variant.inputs.items() if not isinstance(v, list)}
    try:
        graph = gmnc.compile(variant.model, inputs={n: v.shape for n, v in tensors.items()})
        graph.check()
    except Exception as error:
        return Outcome(variant.name, (), f"{type(error).__name__}: {error}")
    opaque = tuple((o.op if not o.domain else f"{o.domain}::{o.op}", o.reason) for o in graph.opaque)
    if graph.num_parameter_edges + sum(e.count for e in graph.account) != graph.num_parameters:
        return Outcome(variant.name, opaque, "the account is not closed")
    if trials == 0 or not _drawable(variant.model):
        return Outcome(variant.name, opaque, "")
    try:
        report = verify(variant.model, trials=trials, controls=1, inputs=tensors)
    except Exception as error:
        return Outcome(variant.name, opaque, f"verify: {type(error).__name__}: {error}")
    return Outcome(variant.name, opaque, "\n".join(map(str, report.failures)), report.sound)


def _drawable(model: onnx.ModelProto) -> bool:
    """Whether all inputs are tensors, so that ONNX Runtime can be fed."""
    return all(v.type.HasField("tensor_type") for v in model.graph.input)
