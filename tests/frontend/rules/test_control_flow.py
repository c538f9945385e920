"""Control flow: names and places of what lies in branches and loops, and what is left of those that do not run."""

from __future__ import annotations

import math
import re

import numpy as np
import onnx
import pytest
from support.corpus import corpus_file

import gmnc
from gmnc.backends.onnx import write
from gmnc.ir import LoweringError
from gmnc.testing import assert_sound, build, count, disagreement, random_inputs, run, verify, with_values

_SAME_NAMES = """(float[2, 3] x, bool c) => (float[2, 4] y) {
    h = Relu(x)
    y = If(c) <
        then_branch = t () => (float[2, 4] o) <float[3, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}> {
            s = MatMul(h, w) o = Tanh(s) },
        else_branch = e () => (float[2, 4] o) <float[3, 4] w = {12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1}> {
            s = MatMul(h, w) o = Sin(s) }>
}"""


def test_branches_may_use_the_same_names() -> None:
    model = build(_SAME_NAMES)
    before = model.SerializeToString()
    graph = gmnc.compile(model)
    assert model.SerializeToString() == before
    assert graph.num_parameter_edges == graph.num_parameters == 24
    assert not graph.opaque
    new = {name: p.load() + 1 for name, p in graph.parameters.items()}
    again = gmnc.compile(write(graph, new))
    assert {n: p.load().tolist() for n, p in again.parameters.items()} == {n: v.tolist() for n, v in new.items()}


def test_what_a_known_condition_rules_out_is_dead() -> None:
    model = build(
        _SAME_NAMES.replace("bool c)", "bool unused)").replace("h = Relu", "c = Constant<value = bool {1}>() h = Relu")
    )
    graph = gmnc.compile(model)
    assert [(e.count, e.where) for e in graph.account] == [(12, "dead")]
    assert graph.num_parameter_edges == 12
    assert {v.op for v in graph.vias} >= {"Relu", "Tanh"}
    assert "Sin" not in {v.op for v in graph.vias}


def test_a_branch_that_does_not_fit_the_shapes_is_dead() -> None:
    text = """(float[1, N] x, bool c) => (float[1, 2] y) {
        y = If(c) <then_branch = t () => (float[1, 2] o) { o = MatMul(x, w3) },
                   else_branch = e () => (float[1, 2] p) { p = MatMul(x, w5) }>
    }"""
    model = build(text, {"w3": (3, 2), "w5": (5, 2)})
    for size, dead in ((3, "w5"), (5, "w3")):
        graph = gmnc.compile(model, dims={"N": size})
        assert [(e.name, e.where) for e in graph.account] == [(dead, "dead")]


def test_branches_of_different_shapes_are_opaque_but_their_weights_are_not() -> None:
    text = """(float[2, 3] x, bool c) => (float[N, M] y) {
        y = If(c) <then_branch = t () => (float[2, 4] o) { o = MatMul(x, w4) },
                   else_branch = e () => (float[2, 5] p) { p = MatMul(x, w5) }>
    }"""
    graph = gmnc.compile(build(text, {"w4": (3, 4), "w5": (3, 5)}))
    assert graph.num_parameter_edges == graph.num_parameters == 27
    assert ["different shapes" in o.reason for o in graph.opaque] == [True]


@pytest.mark.full
@pytest.mark.skipif(not corpus_file("silero_vad").exists(), reason="no corpus beside the repository")
def test_a_network_in_each_branch() -> None:
    path = corpus_file("silero_vad")
    shapes = {"input": (1, 256), "state": (2, 1, 128)}
    graph = gmnc.compile(path, inputs=shapes)
    assert graph.num_parameter_edges == graph.num_parameters - 4
    assert not graph.opaque
    feeds = {"input": 0.1 * np.ones(shapes["input"], np.float32), "state": np.zeros(shapes["state"], np.float32)}
    report = verify(path, trials=2, inputs={**feeds, "sr": np.array(8000)})
    assert report.sound, report


_CELL = """a = MatMul(xt, w) b = MatMul(hp, r) c = Add(a, b) d = Add(c, wb) e = Add(d, rb)
    i0, o0, f0, g0 = Split<axis = 1, num_outputs = 4>(e)
    i1 = Sigmoid(i0) o1 = Sigmoid(o0) f1 = Sigmoid(f0) g1 = Tanh(g0)
    k0 = Mul(f1, cp) k1 = Mul(i1, g1) cn = Add(k0, k1) tc = Tanh(cn) hn = Mul(o1, tc)"""
_START = "z = Constant<value = float[1, 4] {0, 0, 0, 0}>()"
_STATES = "float[1, 4] hp, float[1, 4] cp", "float[1, 4] hn, float[1, 4] cn"


def _step(number: int) -> str:
    """The cell as nodes of step `number`, which reads the states of the one before."""
    hidden, cell = (f"hn_{number - 1}", f"cn_{number - 1}") if number else ("z", "z")
    own = re.sub(r"\b([a-gik][0-9]?|o[01]|tc|[hc]n|xt)\b(?!\()", rf"\1_{number}", _CELL)
    text = own.replace("hp", hidden).replace("cp", cell)
    return f"t{number} = Constant<value_int = {number}>() xt_{number} = Gather(x, t{number}) {text}"


LSTM = {
    "op": """u0 = Constant<value_ints = [0]>() u1 = Constant<value_ints = [1]>()
        wt = Transpose(w) rt = Transpose(r) w3 = Unsqueeze(wt, u0) r3 = Unsqueeze(rt, u0)
        b1 = Concat<axis = 0>(wb, rb) b2 = Unsqueeze(b1, u0)
        o4, yh, yc = LSTM<hidden_size = 4>(x, w3, r3, b2) o = Squeeze(o4, u1)""",
    "scan": f"""{_START} h, c, o = Scan<num_scan_inputs = 1, body = g ({_STATES[0]}, float[1, 3] xt) =>
        ({_STATES[1]}, float[1, 4] row) {{ {_CELL} row = Identity(hn) }}>(z, z, x)""",
    "loop": f"""{_START} m = Constant<value_int = 3>() t = Constant<value = bool {{1}}>()
        h, c, o = Loop<body = g (int64 i, bool go, {_STATES[0]}) => (bool on, {_STATES[1]}, float[1, 4] row) {{
        xt = Gather(x, i) {_CELL} row = Identity(hn) on = Identity(go) }}>(m, t, z, z)""",
    "unrolled": f"""{_START} {_step(0)} {_step(1)} {_step(2)} u0 = Constant<value_ints = [0]>()
        r0 = Unsqueeze(hn_0, u0) r1 = Unsqueeze(hn_1, u0) r2 = Unsqueeze(hn_2, u0) o = Concat<axis = 0>(r0, r1, r2)""",
}


def _lstm(form: str) -> onnx.ModelProto:
    text = f"(float[3, 1, 2] x0) => (float[3, 1, 2] y) {{ x = MatMul(x0, wx) {LSTM[form]} y = MatMul(o, wo) }}"
    return build(text, {"wx": (2, 3), "w": (3, 16), "r": (4, 16), "wb": (16,), "rb": (16,), "wo": (4, 2)})


@pytest.mark.parametrize("form", LSTM)
def test_an_lstm_is_the_same_however_it_is_written(form: str) -> None:
    plain, graph = gmnc.compile(_lstm("op")), gmnc.compile(_lstm(form))
    assert not graph.opaque
    for name, parameter in plain.parameters.items():
        edges = [sum(b.size for b in g.edges if b.view.name == name and not b.tied) for g in (plain, graph)]
        assert edges == [parameter.size, parameter.size]
    # The same permutations of parameters are symmetries.
    found = gmnc.symmetries(graph)
    assert found.log10_size == pytest.approx(math.log10(math.factorial(3) * math.factorial(4)), abs=0.31)
    values = {name: p.load() for name, p in graph.parameters.items()}
    moved = found.sample(np.random.default_rng(1)).apply(values)
    assert {"wx", "w", "r", "wb", "rb", "wo"} <= set(moved)
    inputs = random_inputs(_lstm("op"))
    before = run(_lstm("op"), inputs)
    for other in LSTM:
        after = run(with_values(_lstm(other), **moved), inputs)
        assert disagreement(before, after) < 1e-5


def test_a_scan_by_hand() -> None:
    # a carried node per hidden unit, and for each what input and state bring, and their sum; bias from one node
    model = build(
        f"""(float[3, 1, 2] x) => (float[3, 1, 2] y) {{ {_START}
            last, o = Scan<num_scan_inputs = 1,
                body = g (float[1, 4] h, float[1, 2] xt) => (float[1, 4] n, float[1, 4] row) {{
                a = MatMul(xt, w) b = MatMul(h, r) c = Add(a, b) d = Add(c, v) n = Tanh(d) row = Identity(n) }}>(z, x)
            y = MatMul(o, wo)
        }}""",
        {"w": (2, 4), "r": (4, 4), "v": (4,), "wo": (4, 2)},
    )
    assert count(gmnc.compile(model)) == {
        "nodes": {"input": 2, "join": 4 + 4, "neuron": 4 + 4 + 2, "hub": 1, "param": 1},
        "edges": {"weight": 2 * 4 + 4 * 4 + 4 * 2, "bias": 4},
        "links": {"Add": 8, "initial": 4, "carry": 4},
    }


@pytest.mark.parametrize("layers", [3, 70])
def test_stored_weights_of_layers_are_parameters(layers: int) -> None:
    numbers = ", ".join(str(7 * i % 120 - 60) for i in range(layers * 16))
    model = build(
        f"""(float[2, 3] x) => (float[2, 2] y) {{
            h = MatMul(x, wx) m = Constant<value_int = {layers}>() t = Constant<value = bool {{1}}>()
            o = Loop<body = g (int64 i, bool c, float[2, 4] p) => (bool c1, float[2, 4] n) {{
                q = Constant<value = int8[{layers}, 4, 4] {{{numbers}}}>() k = Gather(q, i)
                d = DequantizeLinear<axis = 1>(k, s) e = MatMul(p, d) n = Tanh(e) c1 = Identity(c) }}>(m, t, h)
            y = MatMul(o, wo)
        }}""",
        {"wx": (3, 4), "s": (4,), "wo": (4, 2)},
    )
    report = verify(model, trials=1)
    assert report.sound
    assert report.graph is not None
    assert report.graph.num_parameter_edges == report.graph.num_parameters == 12 + layers * 16 + 4 + 8


@pytest.mark.parametrize("body", ["attributes", "quantised"])
def test_parameters_of_other_kinds_in_bodies(body: str) -> None:
    numbers = [0.1 * (i + 1) for i in range(20)]
    inner = {
        "attributes": f"r = ai.onnx.ml.LinearRegressor<targets = 4, coefficients = {numbers[:16]}, "
        f"intercepts = {numbers[16:]}>(p) n = Tanh(r)",
        "quantised": f"q = Constant<value = int8[4, 4] {{{', '.join(map(str, range(-8, 8)))}}}>() "
        "d = DequantizeLinear<axis = 1>(q, s) e = MatMul(p, d) n = Tanh(e)",
    }[body]
    model = onnx.parser.parse_model(f"""<ir_version: 9, opset_import: ["" : 20, "ai.onnx.ml" : 3]>
        agraph (float[2, 4] h, float[4] s) => (float[2, 4] y) {{
            m = Constant<value_int = 3>() t = Constant<value = bool {{1}}>()
            y = Loop<body = g (int64 i, bool c, float[2, 4] p) => (bool c1, float[2, 4] n) {{
                {inner} c1 = Identity(c) }}>(m, t, h)
        }}""")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(numbers[:4], np.float32), "s"))
    del model.graph.input[1]
    report = verify(model, trials=1)
    assert report.sound is not False, report
    assert report.round_trip == "bit-exact"
    assert report.graph is not None
    assert not report.graph.opaque
    in_use = report.graph.num_parameters - (4 if body == "attributes" else 0)
    assert report.graph.num_parameter_edges == in_use == 20


def test_a_loop_that_grows_without_end_is_opaque() -> None:
    text = """(float[1, 3] x, int64 m) => (float[N, 3] y) { t = Constant<value = bool {1}>()
        y = Loop<body = g (int64 i, bool c, float[A, 3] h) => (bool c1, float[B, 3] n) {
            a = MatMul(x, w) n = Concat<axis = 0>(h, a) c1 = Identity(c) }>(m, t, x)
    }"""
    [opaque] = gmnc.compile(build(text, {"w": (3, 3)})).opaque
    assert opaque.op == "Loop"
    assert "iterations differ in form, and their number is unknown" in opaque.reason


def test_what_is_in_a_loop_that_never_runs_is_dead() -> None:
    for trips, start in ((0, 1), (3, 0)):
        text = f"""(float[2, 3] x) => (float[2, 3] y, float[N, M, K] rows) {{
            m = Constant<value_int = {trips}>() t = Constant<value = bool {{{start}}}>() h = MatMul(x, v)
            o, r = Loop<body = g (int64 i, bool c, float[2, 3] p) => (bool c1, float[2, 3] n, float[2, 3] q) {{
                a = MatMul(p, w) n = Tanh(a) q = Relu(n) c1 = Identity(c) }}>(m, t, h)
            y = Sin(o) rows = Identity(r)
        }}"""
        model = build(text, {"v": (3, 3), "w": (3, 3)})
        report = verify(model, trials=1)
        graph = report.graph
        assert report.sound
        assert graph is not None
        assert not graph.opaque
        assert graph.num_parameter_edges == 9
        assert [(e.name, e.where) for e in graph.account] == [("w", "dead")]


def test_a_map_over_an_unknown_sequence_says_so() -> None:
    text = """(seq(float[2, 3]) x) => (seq(float[2, 4]) y) {
        y = SequenceMap<body = g (float[2, 3] e) => (float[2, 4] f) { f = MatMul(e, w) }>(x) }"""
    graph = gmnc.compile(build(text, {"w": (3, 4)}))
    assert [o.reason for o in graph.opaque] == ["the entries of the sequence are not known, or too many"]
    assert graph.num_opaque_parameters == graph.num_parameters == 12


def test_a_scan_over_a_batch_says_so() -> None:
    text = """(float[1, 3, 2] x) => (float[A, B, C] y) {
        z = Constant<value = float[1, 2] {0, 0}>()
        last, y = Scan<num_scan_inputs = 1, body = g (float[2] h, float[2] r) => (float[2] n, float[2] o) {
            n = Add(h, r) o = Identity(n) }>(, z, x)
    }"""
    [opaque] = gmnc.compile(build(text, opset=8)).opaque
    assert opaque.reason == "before opset 9 Scan runs over a batch"


@pytest.mark.skipif(not corpus_file("chars2vec_en300").exists(), reason="no corpus beside the repository")
def test_two_lstms_of_keras_as_loops() -> None:
    graph = gmnc.compile(corpus_file("chars2vec_en300"))
    assert not graph.opaque
    assert graph.num_parameter_edges == graph.num_parameters - 1
    assert len(gmnc.symmetries(graph).generators) == 299


def test_branches_with_different_numbers_of_outputs() -> None:
    text = """(float[1, 3] x, bool c) => (float[1, 3] y) {
        [choice] y = If(c) <then_branch = g () => (float[1, 3] t, float[1, 3] u) { t = Relu(x) u = Tanh(x) },
                            else_branch = h () => (float[1, 3] v) { v = Tanh(x) }>
    }"""
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 20]> agraph {text}')
    with pytest.raises(LoweringError, match="branches have different numbers of outputs"):
        gmnc.compile(model)


_ARITY = {
    "Loop without its condition": (
        """m = Constant<value_int = 3>() t = Constant<value = bool {1}>()
        y = Loop(m, t, x) <body = g (int64 i, bool c, float[1, 3] h) => (float[1, 3] n) { n = Tanh(h) }>""",
        r"Loop\): it carries 1 values, its body takes 3 and gives 1",
    ),
    "Loop with an output too many": (
        """m = Constant<value_int = 3>() t = Constant<value = bool {1}>()
        y, z = Loop(m, t, x) <body = g (int64 i, bool c, float[1, 3] h) => (bool d, float[1, 3] n) {
            n = Tanh(h) d = Identity(c) }>""",
        r"Loop\): it has 2 outputs, its body gives 1",
    ),
    "Scan with an output too few": (
        """y = Scan<num_scan_inputs = 1, body = g (float[3] r) => (float[3] n, float[3] o) {
            n = Tanh(r) o = Relu(r) }>(x)""",
        r"Scan\): it has 1 outputs, its body gives 2",
    ),
    "SequenceMap with an output too few": (
        """s = SplitToSequence<axis = 1>(x)
        t = SequenceMap<body = g (float[1, 1] r) => (float[1, 1] n, float[1, 1] o) { n = Tanh(r) o = Relu(r) }>(s)
        y = ConcatFromSequence<axis = 1>(t)""",
        r"SequenceMap\): it has 1 outputs, its body gives 2",
    ),
    "If with an output too many": (
        """y, z = If(c) <then_branch = g () => (float[1, 3] t) { t = Relu(x) },
                        else_branch = h () => (float[1, 3] v) { v = Tanh(x) }>""",
        r"If\): it has 2 outputs, its body gives 1",
    ),
}


@pytest.mark.parametrize("how", _ARITY)
def test_bodies_of_another_size_than_their_node(how: str) -> None:
    text, said = _ARITY[how]
    model = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : 20]> agraph (float[1, 3] x, bool c) => (float[1, 3] y) {{ {text} }}'
    )
    with pytest.raises(LoweringError, match=said):
        gmnc.compile(model)


def test_a_carried_value_of_a_billion_rows_is_an_error_that_says_so() -> None:
    """As for inputs: more labels than can be held are not tried."""
    text = """(float[1000000000, 4] x) => (float[1000000000, 4] y) {
        n = Constant<value_int = 3>()
        one = Constant<value_int = 1>()
        go = Cast<to = 9>(one)
        y = Loop(n, go, x) <body = inner (int64 i, bool d, float[N, 4] s) => (bool e, float[N, 4] t) {
            e = Identity(d)
            t = MatMul(s, w)
        }>
    }"""
    with pytest.raises(LoweringError, match=r"carry.*more than 8,388,608 elements"):
        gmnc.compile(build(text, {"w": (4, 4)}))


def test_a_loop_over_slices_that_only_its_number_tells_is_repeated() -> None:
    """A bag of embeddings, as torch exports it: where a bag ends is known once the iteration is."""
    text = """(int64[2, 3] x) => (float[2, 2] y) {
        f = Reshape(x, m1)
        e = Loop(n, tr) <body = b (int64 i, bool c) => (bool co, float[d] r) {
            co = Identity(c) s = Gather(off, i) t = Gather(end, i) su = Unsqueeze(s, z) tu = Unsqueeze(t, z)
            ix = Slice(f, su, tu, z) g = Gather(E, ix) r = ReduceMean<keepdims = 0>(g, z)
        }>
        h = Tanh(e) y = MatMul(h, v)
    }"""
    whole = {"m1": [-1], "off": [0, 3], "end": [3, 6], "z": [0], "n": 2}
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 20]> bag {text}')
    rng = np.random.default_rng(0)
    arrays = {"E": rng.random((7, 4), np.float32), "v": rng.random((4, 2), np.float32), "tr": np.array(True)}
    arrays |= {name: np.array(value, np.int64) for name, value in whole.items()}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in arrays.items())
    graph = gmnc.compile(model)
    assert graph.num_parameter_edges == 7 * 4 + 4 * 2
    assert gmnc.symmetries(graph).log10_size == pytest.approx(np.log10(24))
    assert assert_sound(model).detected


COUNTED = {
    "n = Constant<value_int = 3>() h, c = Loop(n, , x, first)": "Identity(go)",
    "h, c = Loop(, go, x, first)": "Less(k, three)",
    "h, c = Loop( , , x, first)": "LessOrEqual(k, two)",
    "h, c = Loop(, yes, x, first)": "Less(j, two)",
    "h, c = Loop(, yes , x, first)": "LessOrEqual(j, one)",
}


@pytest.mark.parametrize("call", COUNTED)
def test_a_loop_that_goes_on_while_it_counts_is_one_of_so_many_iterations(call: str) -> None:
    """As torch.onnx writes the loops of its function library."""
    text = f"""(float[2, 4] x) => (float[2, 2] y) {{
        first = Constant<value_int = 0>() one = Constant<value_int = 1>() two = Constant<value_int = 2>()
        three = Constant<value_int = 3>() yes = Constant<value = bool {{1}}>() go = Less(first, three)
        {call} <body = b (int64 i, bool e, float[2, 4] s, int64 j) => (bool f, float[2, 4] t, int64 k) {{
            m = Gather(w, j) a = MatMul(s, m) t = Tanh(a) k = Add(j, one) g = {COUNTED[call]} f = Identity(g)
        }}>
        y = MatMul(h, v)
    }}"""
    model = build(text, {"w": (3, 4, 4), "v": (4, 2)})
    graph = gmnc.compile(model)
    assert not graph.opaque
    assert graph.num_parameter_edges == 3 * 16 + 8
    assert gmnc.symmetries(graph).log10_size == pytest.approx(3 * math.log10(24))
    assert assert_sound(model).detected


def test_a_loop_that_counts_to_what_the_input_says_stays_open() -> None:
    text = """(float[2, 4] x, int64 end) => (float[2, 2] y) {
        first = Constant<value_int = 0>() one = Constant<value_int = 1>() yes = Constant<value = bool {1}>()
        h0 = MatMul(x, u)
        h, c = Loop(, yes, h0, first) <body = b (int64 i, bool e, float[2, 4] s, int64 j)
                                       => (bool f, float[2, 4] t, int64 k) {
            a = MatMul(s, w) t = Tanh(a) k = Add(j, one) f = Less(k, end)
        }>
        y = MatMul(h, v)
    }"""
    graph = gmnc.compile(build(text, {"u": (4, 4), "w": (4, 4), "v": (4, 2)}))
    assert graph.num_parameter_edges == 40
    assert gmnc.symmetries(graph).log10_size == pytest.approx(math.log10(24))
