"""Shapes and folded constants agree with what really runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases
from support.corpus import CORPUS, LIGHT
from support.tiers import first

import gmnc
from gmnc.frontend.inference.folding import fold
from gmnc.frontend.inference.shapes import ValueInfo, infer
from gmnc.frontend.reading.load import load
from gmnc.frontend.rewriting.normalise import normalise
from gmnc.ir import LoweringError


def _parse(signature: str, body: str, opset: int = 17) -> onnx_ir.Model:
    text = f'<ir_version: 9, opset_import: ["" : {opset}, "gmnc" : 1, "other" : 1]> g {signature} {{ {body} }}'
    return normalise(load(onnx.parser.parse_model(text)))


def _by_name(model: onnx_ir.Model, **options: Mapping[str, object]) -> dict[str, ValueInfo]:
    return {str(v.name): k for v, k in infer(model, **options).items()}  # type: ignore[arg-type]


def _show_everything(model: onnx_ir.Model, known: Mapping[str, ValueInfo]) -> None:
    """Make every value of the main graph of which something is known an output, without a declared shape."""
    graph = model.graph
    shown = {v.name for v in graph.outputs}
    for node in graph:
        graph.outputs.extend(o for o in node.outputs if o.name in known and o.name not in shown)
    model.ir_version = max(model.ir_version, 8)
    for value in graph.outputs:
        value.shape = None
        if value.type is None and known[str(value.name)].dtype:
            value.type = onnx_ir.TensorType(onnx_ir.DataType.from_numpy(np.dtype(known[str(value.name)].dtype)))


def _feed(value: onnx_ir.Value, known: ValueInfo) -> np.ndarray:
    rng = np.random.default_rng(0)
    if known.shape == () and known.dtype == "int64":
        return np.array(16000)
    if known.dtype.startswith(("int", "uint", "bool")):
        return rng.integers(0, 2, known.shape).astype(known.dtype)
    return rng.standard_normal(known.shape).astype(known.dtype)


# This network's first input has two nameless dimensions, of which one is the window that its reflecting pad needs.
_GIVEN = {"silero_vad": {"input": (1, 576), "state": (2, 1, 128)}}


@pytest.mark.parametrize("path", [*first(0, CORPUS), *first(2, LIGHT)], ids=lambda p: p.stem)
def test_agrees_with_onnxruntime(path: Path) -> None:
    given_shapes = _GIVEN.get(path.stem, {})
    known = _by_name(normalise(load(path)), inputs=given_shapes)
    model = normalise(load(path))
    unknown = {n.op_type for n in model.graph for o in n.outputs if o.name and o.name not in known}
    # The mask of an old Dropout has no shape by the schema.
    assert unknown <= {"Dropout"}
    _show_everything(model, known)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    data = onnx_ir.to_proto(model).SerializeToString()
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    values = session.run(names, {str(v.name): _feed(v, known[str(v.name)]) for v in model.graph.inputs})
    checked = 0
    for name, value in zip(names, values, strict=True):
        if not isinstance(value, np.ndarray):
            assert known[name].dtype == ""
            continue
        checked += 1
        assert known[name].shape == value.shape, name
        assert known[name].dtype in (value.dtype.name, "string"), name
        data_known = known[name].data
        if data_known is not None:
            np.testing.assert_allclose(data_known, value, rtol=1e-5, atol=1e-6, err_msg=name)
    assert checked > 0


@cache
def _node_cases() -> list[object]:
    return [c for c in collect_testcases(None) if c.model is not None]


@pytest.mark.full
def test_agrees_with_the_node_tests_of_onnx() -> None:
    """Shapes of all operators; axes whose sizes depend on the data of an input may have any size."""
    wrong, checked, unknown = [], 0, set()
    for case in _node_cases():
        arrays, expected = case.data_sets[0]
        model = normalise(load(case.model))
        inputs = dict(zip([i.name for i in case.model.graph.input], arrays, strict=False))
        shapes = {n: a.shape for n, a in inputs.items() if isinstance(a, np.ndarray)}
        known = infer(model, inputs=shapes)
        for value, array in zip(model.graph.outputs, expected, strict=True):
            if value not in known:
                unknown.add(value.producer().op_type)
            elif isinstance(array, np.ndarray) and known[value].dtype:
                checked += 1
                found = known[value]
                sizes = [
                    n if a in found.by_data else m
                    for a, (n, m) in enumerate(zip(array.shape, found.shape, strict=False))
                ]
                if (tuple(sizes), len(found.shape)) != (array.shape, array.ndim):
                    wrong.append((case.name, found.shape, array.shape))
                elif found.dtype not in (array.dtype.name, "string"):
                    wrong.append((case.name, known[value].shape, array.shape))
    assert checked > 1500
    assert unknown <= {"Unique", "Split", "ConstantOfShape", "ReduceSum", "Reshape", "Slice", "StringSplit", "Compress"}
    # A loop whose number of rounds is an input counts as one round.
    assert [name for name, *_ in wrong if "loop" not in name and "range" not in name] == []


@pytest.mark.full
def test_folding_agrees_with_the_node_tests_of_onnx() -> None:
    folded = set()
    for case in _node_cases():
        model = load(case.model)
        if len(model.graph) != 1 or model.functions:
            continue
        node = model.graph[0]
        arrays, expected = case.data_sets[0]
        inputs = dict(zip([v.name for v in model.graph.inputs], arrays, strict=False))
        operands = [None if v is None else inputs.get(v.name) for v in node.inputs]
        if not all(v is None or isinstance(a, np.ndarray) for v, a in zip(node.inputs, operands, strict=True)):
            continue
        results = fold(node, model.opset_imports.get(node.domain, 1), operands)
        if results is None:
            continue
        folded.add(node.op_type)
        named = [r for r, o in zip(results, node.outputs, strict=False) if o.name]
        for result, array in zip(named, expected, strict=False):
            assert result.shape == array.shape, case.name
            if array.dtype.kind in "fiu":
                assert result.dtype == array.dtype, case.name
                np.testing.assert_allclose(
                    result.astype(np.float64), array.astype(np.float64), rtol=1e-3, atol=1e-5, err_msg=case.name
                )
            elif array.dtype.kind == "b":
                np.testing.assert_array_equal(result, array, err_msg=case.name)
    assert len(folded) > 120


def test_symbolic_dimensions_get_sizes_and_can_be_given() -> None:
    model = _parse("(float[batch,3,h,w] x, float[h,n] z) => (float[a,b,c,d] y, float[e,f] u)", "y = Relu(x) u = Neg(z)")
    assert _by_name(model)["y"].shape == (1, 3, 32, 32)
    assert _by_name(model)["u"].shape[0] == 32
    given_dims = _by_name(model, dims={"h": 5, "batch": 2})
    assert (given_dims["y"].shape, given_dims["u"].shape[0]) == ((2, 3, 5, 32), 5)
    given_input = _by_name(model, inputs={"x": (1, 3, 7, 9)})
    assert (given_input["y"].shape, given_input["u"].shape[0]) == ((1, 3, 7, 9), 7)


def test_a_default_that_does_not_fit_is_replaced() -> None:
    constants = "s = Constant<value_ints = [1, 3, 56, 4, 56, 4]>()"
    model = _parse("(float[batch,3,h,w] x) => (float[a,b,c,d,e,f] y)", f"{constants} y = Reshape(x, s)")
    assert _by_name(model)["x"].shape == (1, 3, 224, 224)
    model = _parse("(float[batch,3,h] x, float[4,3,40] w) => (float[a,b,c] y)", "y = Conv(x, w)")
    assert _by_name(model)["y"].shape == (1, 4, 25)


def test_nothing_is_known_of_inputs_and_parameters() -> None:
    model = _parse(
        "(float[2,2] x) => (float[2,2] y)",
        """
        w = Constant<value = float[2,2] {1.0, 2.0, 3.0, 4.0}>()
        s = Constant<value_float = 0.5>()
        n = Neg(w)
        k = Mul(s, s)
        m = MatMul(x, n)
        y = Mul(m, k)
        """,
    )
    known = _by_name(model)
    assert [n for n, k in known.items() if k.data is not None] == ["s", "k"]
    assert known["k"].data == np.float32(0.25)


def test_stored_weights_are_no_data_but_indices_are() -> None:
    model = _parse(
        "(float[1,2] x) => (float[1,2] y, float[1,2] z)",
        """
        w = Constant<value = int8[2,2] {1, 2, 3, 4}>()
        t = Transpose(w)
        s = Constant<value = float {0.5}>()
        d = DequantizeLinear(t, s)
        y = MatMul(x, d)
        i = Constant<value = int64[2] {1, 0}>()
        z = Gather<axis = 1>(x, i)
        """,
    )
    known = _by_name(model)
    assert {n: known[n].data is not None for n in "wtdi"} == {"w": False, "t": False, "d": False, "i": True}


def test_masks_of_any_size_cost_nothing() -> None:
    model = _parse(
        "(float[1,8] x) => (bool[a,b,c] y)",
        """
        s = Constant<value_ints = [100000, 1000, 1000]>()
        c = ConstantOfShape<value = float[1] {1.0}>(s)
        f = Cast<to = 6>(c)
        g = Add(f, f)
        k = Constant<value = int32 {2}>()
        y = Equal(g, k)
        """,
    )
    data = _by_name(model)["y"].data
    assert data is not None
    assert data.shape == (100000, 1000, 1000)
    assert set(data.strides) == {0}
    assert data[0, 0, 0]


def test_operators_without_a_schema() -> None:
    model = _parse(
        "(float[2,3] x) => (float[2,3] y, float[4] z)", "y = gmnc.Standardize(x) u = other.Thing(x) z = Relu(u)"
    )
    known = _by_name(model)
    assert known["y"].shape == (2, 3)
    assert "u" not in known
    assert known["z"].shape == (4,)


def test_branches_and_loops() -> None:
    model = _parse(
        "(float[2,3] x, bool flag) => (float[a,b] y, float[c,d] v, float[e,f,g] scan)",
        """
        y = If(flag) <then_branch = t () => (float[a,b] o) { o = Transpose(x) },
                      else_branch = e () => (float[a,b] p) { q = Relu(x) p = Transpose(q) }>
        n = Constant<value_int = 5>()
        v, scan = Loop(n, flag, x)
            <body = l (int64 i, bool c, float[a,b] s) => (bool d, float[a,b] r, float[a,b] each) {
                d = Identity(c) r = Relu(s) each = Neg(r) }>
        """,
    )  # fmt: skip
    known = _by_name(model)
    assert [known[n].shape for n in ("y", "v", "scan", "r")] == [(3, 2), (2, 3), (5, 2, 3), (2, 3)]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.sampled_from(["Add", "Sub", "Mul", "Div", "Equal", "Less", "Max", "Mod", "Pow"]),
    st.sampled_from([np.int64, np.int32, np.float32]),
    st.integers(0, 2**32 - 1),
)
def test_zero_stride_arrays_fold_like_full_ones(shape: list[int], op: str, dtype: type, seed: int) -> None:
    rng = np.random.default_rng(seed)
    full = [rng.integers(1, 5, shape).astype(dtype) for _ in range(2)]
    wide = (70, *shape)
    arrays = [np.broadcast_to(full[0], wide), full[1]]
    node = onnx_ir.Node(
        "",
        op,
        [onnx_ir.Value(name="a"), onnx_ir.Value(name="b")],
        [onnx_ir.AttrInt64("fmod", 1)] if op == "Mod" else [],
    )
    lazy, eager = fold(node, 17, arrays), fold(node, 17, [arrays[0].copy(), full[1]])
    assert lazy is not None
    assert eager is not None
    np.testing.assert_array_equal(lazy[0], eager[0])
    assert lazy[0].dtype == eager[0].dtype


_MISFITS = {
    "MatMul": "(float[2,3] a, float[4,5] b) => (float[M,N] y) | y = MatMul(a, b)",
    "Gemm": "(float[2,3] a, float[3,5] b, float[4] c) => (float[M,N] y) | y = Gemm(a, b, c)",
    "Add": "(float[2,3] a, float[4] b) => (float[M,N] y) | y = Add(a, b)",
    "Conv channels": "(float[1,3,8,8] a, float[4,5,3,3] b) => (float[a,b,c,d] y) | y = Conv(a, b)",
    "Conv rank": "(float[1,3,8] a, float[4,3,3,3] b) => (float[a,b,c,d] y) | y = Conv(a, b)",
    "Conv window": "(float[1,3,2,2] a, float[4,3,3,3] b) => (float[a,b,c,d] y) | y = Conv(a, b)",
    "Concat": "(float[2,3] a, float[2,4,1] b) => (float[M,N] y) | y = Concat<axis = 0>(a, b)",
    "Reshape": "(float[2,3] a) => (float[M,N] y) | s = Constant<value_ints = [4, 5]>() y = Reshape(a, s)",
    "Transpose": "(float[2,3] a) => (float[M,N] y) | y = Transpose<perm = [0, 1, 2]>(a)",
    "LSTM": "(float[2,1,3] a, float[1,24,5] w, float[1,24,6] r) => (float y) | y = LSTM<hidden_size = 6>(a, w, r)",
    "Einsum": '(float[2,3] a, float[3,4] b) => (float[M,N] y) | y = Einsum<equation = "ij,ik->jk">(a, b)',
    "Relu operands": "(float[2,3] a) => (float[M,N] y) | y = Relu(a, a)",
    "folded Reshape": "(float[2] a) => (int64[M] y) | s = Shape(a) t = Constant<value_ints = [3]>() y = Reshape(s, t)",
}  # fmt: skip


@pytest.mark.parametrize("name", _MISFITS)
def test_shapes_that_contradict_each_other(name: str) -> None:
    signature, body = _MISFITS[name].split(" | ")
    op = name.removeprefix("folded ").split()[0]
    with pytest.raises(LoweringError, match=rf"^{op} node '{op}_\d+': inputs of shapes \[\[.*export it again$"):
        infer(_parse(signature, body))


def test_wrong_sizes_for_inputs() -> None:
    model = _parse("(float[n,3] x) => (float[n,3] y)", "y = Relu(x)")
    for wrong in ({"x": (1, 4)}, {"x": (3,)}):
        with pytest.raises(LoweringError, match="input"):
            infer(model, inputs=wrong)
    with pytest.raises(LoweringError, match="--input x="):
        infer(_parse("(float x) => (float[n,3] y)".replace("float x", "float[] x"), "y = Relu(x)"), inputs={})


def test_weights_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    x, y = (helper.make_tensor_value_info(n, 1, [1, 64]) for n in "xy")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)

    def refuse(name: str) -> Callable[[object], np.ndarray]:
        def read(self: object) -> np.ndarray:
            raise AssertionError(f"{name} was called")

        return read

    for name in ("numpy", "tobytes", "__array__"):
        monkeypatch.setattr(onnx_ir.LazyTensor, name, refuse(name))
    assert _by_name(normalise(load(path)))["y"].shape == (1, 64)


def _with_positions(rows: int) -> onnx.ModelProto:
    """Embeddings, and a table of positions of which the first ones are added."""
    model = onnx.parser.parse_model("""<ir_version: 9, opset_import: ["" : 18]>
        agraph (int64[batch, tokens] x) => (float[batch, tokens, 2] y) {
            e = Gather(words, x)
            s = Shape<start = 1, end = 2>(x)
            p = Slice(positions, zero, s)
            h = Add(e, p)
            r = Relu(h)
            y = MatMul(r, w)
        }""")
    rng = np.random.default_rng(0)
    for name, shape in (("words", (7, 4)), ("positions", (rows, 4)), ("w", (4, 2))):
        model.graph.initializer.append(numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name))
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "zero"))
    return model


@pytest.mark.parametrize("rows", [16, 32, 48, 500])
def test_a_guessed_length_is_that_of_the_table_it_cuts(rows: int) -> None:
    graph = gmnc.compile(_with_positions(rows))
    assert graph.num_parameter_edges == graph.num_parameters == 28 + 4 * rows + 8


def test_a_given_length_stays() -> None:
    graph = gmnc.compile(_with_positions(48), dims={"tokens": 20})
    assert [(e.name, e.count, e.where) for e in graph.account] == [("positions", 28 * 4, "never read")]
    graph = gmnc.compile(_with_positions(48), inputs={"x": (1, 20)})
    assert [(e.name, e.count) for e in graph.account] == [("positions", 28 * 4)]


def test_a_table_longer_than_any_mask_does_not_set_the_length() -> None:
    graph = gmnc.compile(_with_positions(5000))
    assert [(e.name, e.count) for e in graph.account] == [("positions", (5000 - 32) * 4)]
