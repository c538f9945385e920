"""Small networks whose parameter graphs are counted by hand.

Everywhere: one `param` node per attached parameter tensor, with one edge to every neuron it acts on; one edge per
element of every weight; nodes of outputs are the last neurons themselves.
"""

from __future__ import annotations

import onnx
import pytest
from support.tiny import deepsets, lower

from gmnc.ir import ParameterGraph
from gmnc.symmetry import isomorphic
from gmnc.testing import build, count


def test_mlp_2_3_1() -> None:
    graph = lower(
        build(
            """(float[1, 2] x) => (float[1, 1] y) {
                a = Gemm<transB = 1>(x, w1, b1)
                h = Relu(a)
                y = Gemm<transB = 1>(h, w2, b2)
            }""",
            {"w1": (3, 2), "b1": (3,), "w2": (1, 3), "b2": (1,)},
        )
    )
    # neurons 3 + 1; a source for each of the two biases; weights 3 x 2 + 1 x 3, biases 3 + 1; nothing meets: no link
    assert count(graph) == {
        "nodes": {"input": 2, "neuron": 4, "param": 2},
        "edges": {"weight": 9, "bias": 4},
    }
    inputs, outputs = graph.inputs[0].nodes, graph.outputs[0].nodes
    assert graph.pinned[inputs].all()
    assert graph.pinned[outputs].all()
    assert graph.pinned.sum() == 3


@pytest.mark.parametrize(
    ("written_out", "op"),
    [
        ("s = Sigmoid(a) h = Mul(a, s)", "h = Swish(a)"),
        ("s = HardSigmoid<alpha = 0.16666667>(a) h = Mul(s, a)", "h = HardSwish(a)"),
        ("s = Softplus(a) t = Tanh(s) h = Mul(a, t)", "h = Mish(a)"),
        ("s = Div(a, root) e = Erf(s) o = Add(e, one) m = Mul(a, o) h = Mul(m, half)", "h = Gelu(a)"),
    ],
    ids=["SiLU", "HardSwish", "Mish", "GELU"],
)
def test_a_function_of_one_neuron_adds_nothing(written_out: str, op: str) -> None:
    numbers = {"root": 1.4142135, "one": 1.0, "half": 0.5}
    literals = " ".join(f"{n} = Constant<value_float = {v}>()" for n, v in numbers.items() if n in written_out)
    weights = {"w1": (2, 3), "w2": (3, 1)}
    text = "(float[1, 2] x) => (float[1, 1] y) {{ a = MatMul(x, w1) {} y = MatMul(h, w2) }}"
    graph = lower(build(text.format(f"{literals} {written_out}"), weights, opset=24))
    # however a is combined with itself, there are 3 neurons between input and output, and no link
    assert count(graph) == {"nodes": {"input": 2, "neuron": 3 + 1}, "edges": {"weight": 6 + 3}}
    assert isomorphic(graph, lower(build(text.format(op), weights, opset=24)))


def test_convolution_batchnorm_pool_linear() -> None:
    graph = lower(
        build(
            """(float[1, 1, 8] x) => (float[1, 2] y) {
                c = Conv(x, w, b)
                n = BatchNormalization(c, gamma, beta, mean, var)
                p = GlobalAveragePool(n)
                f = Flatten(p)
                y = Gemm<transB = 1>(f, w2, b2)
            }""",
            {"w": (3, 1, 2), "w2": (2, 3), "b2": (2,)} | dict.fromkeys(["b", "gamma", "beta", "mean", "var"], (3,)),
        )
    )
    # weights 3 channels x 1 x kernel 2, and 2 x 3; sources: 2 biases, 4 vectors of the norm; pooling adds nothing
    assert count(graph) == {
        "nodes": {"input": 1, "neuron": 5, "param": 6},
        "edges": {"weight": 12, "bias": 5, "norm.scale": 3, "norm.bias": 3, "norm.mean": 3, "norm.var": 3},
    }
    shapes = sorted(block.shape for block in graph.edges if block.role == "weight")
    assert shapes == [(1, 2, 3, 1), (1, 3, 1, 2)]


def test_grouped_and_depthwise_convolution() -> None:
    graph = lower(
        build(
            """(float[1, 4, 7, 7] x) => (float[1, 6, 3, 3] y) {
                g = Conv<group = 2>(x, w1, b1)
                y = Conv<group = 6>(g, w2)
            }""",
            {"w1": (6, 2, 3, 3), "b1": (6,), "w2": (6, 1, 3, 3)},
        )
    )
    # grouped: 2 groups of 3 x 2 x 9; depthwise: 6 channels of 1 x 1 x 9
    assert count(graph) == {
        "nodes": {"input": 4, "neuron": 12, "param": 1},
        "edges": {"weight": 108 + 54, "bias": 6},
    }
    assert sorted(b.shape for b in graph.edges if b.role == "weight") == [(2, 3, 2, 9), (6, 1, 1, 9)]


def test_convolution_flatten_linear() -> None:
    graph = lower(
        build(
            """(float[1, 1, 3, 3] x) => (float[1, 3] y) {
                c = Conv(x, w1, b1)
                f = Flatten(c)
                y = Gemm<transB = 1>(f, w2, b2)
            }""",
            {"w1": (2, 1, 2, 2), "b1": (2,), "w2": (3, 8), "b2": (3,)},
        )
    )
    # after 2 channels with 2 x 2 positions each: 3 x 2 neurons with 4 parallel edges
    assert count(graph) == {
        "nodes": {"input": 1, "neuron": 2 + 3, "param": 2},
        "edges": {"weight": 8 + 24, "bias": 2 + 3},
    }
    assert sorted(b.shape for b in graph.edges if b.role == "weight") == [(1, 2, 1, 4), (1, 3, 2, 4)]


def groupnorm(written_out: bool) -> onnx.ModelProto:
    norm = "n = GroupNormalization<num_groups = 2>(c, gamma, beta)"
    if written_out:
        norm = """r = Reshape(c, parts)
            unit = Constant<value_float = 1.0>()
            none = Constant<value_float = 0.0>()
            one = Expand(unit, groups)
            zero = Expand(none, groups)
            i = InstanceNormalization(r, one, zero)
            u = Reshape(i, back)
            g = Unsqueeze(gamma, last)
            b = Unsqueeze(beta, last)
            s = Mul(u, g)
            n = Add(s, b)"""
    return build(
        f"(float[1, 1, 4, 4] x) => (float[1, 2, 3, 3] y) {{ c = Conv(x, w) \n {norm} \n y = Conv(n, head) }}",
        {"w": (4, 1, 2, 2), "gamma": (4,), "beta": (4,), "head": (2, 4, 1, 1)},
        {"groups": [2], "parts": [0, 2, -1], "back": [1, 4, 3, 3], "last": [1, 2]},
        opset=21,
    )


@pytest.mark.parametrize("written_out", [False, True], ids=["op", "instance norm"])
def test_groupnorm_with_2_groups(written_out: bool) -> None:
    # 4 channels in 2 groups: a scope node per group, linked from its 2 channels; scale and shift per channel
    assert count(lower(groupnorm(written_out))) == {
        "nodes": {"input": 1, "neuron": 4 + 2, "param": 2, "reduce": 2},
        "edges": {"weight": 16 + 8, "norm.scale": 4, "norm.bias": 4},
        "links": {"scope": 4},
    }


def test_groupnorm_as_op_and_written_out_agree() -> None:
    assert isomorphic(lower(groupnorm(False)), lower(groupnorm(True)))


def test_tied_embedding_and_head() -> None:
    graph = lower(
        build(
            """(int64[1, 3] ids) => (float[1, 3, 5] y) {
                e = Gather(table, ids)
                t = Transpose<perm = [1, 0]>(table)
                y = MatMul(e, t)
            }""",
            {"table": (5, 2)},
        )
    )
    # a token per row, linked from the ids; 2 embedding neurons, 5 out. The table's 10 elements have their edge at the
    # embedding and a tied one at the head
    assert count(graph) == {
        "nodes": {"input": 1, "token": 5, "neuron": 2 + 5},
        "edges": {"embedding": 10},
        "tied": {"weight": 10},
        "links": {"token": 5},
    }
    assert graph.num_parameter_edges == graph.num_parameters == 10
    assert graph.pinned[[n for g in graph.groups if g.kind == "token" for n in range(g.start, g.stop)]].all()


def test_a_vector_gathered_with_repeats() -> None:
    graph = lower(
        build(
            """(float[1, 2] x) => (float[1, 1] y) {
                h = MatMul(x, w)
                u = Gather(v, places)
                a = Add(h, u)
                y = MatMul(a, o)
            }""",
            {"w": (2, 6), "v": (4,), "o": (6, 1)},
            {"places": [0, 1, 2, 0, 1, 3]},
        )
    )
    # elements 0 and 1 are shared by two neurons each: every element has one edge, to a hub, and each hub links to its
    # neurons, 6 in all
    assert count(graph) == {
        "nodes": {"input": 2, "neuron": 6 + 1, "param": 1, "hub": 4},
        "edges": {"weight": 12 + 6, "bias": 4},
        "links": {"hub": 6},
    }


def test_places_of_one_neuron_are_summed_as_one() -> None:
    graph = lower(
        build(
            """(float[1, 6, 3] x) => (float[1, 2] y) {
                h = MatMul(x, w)
                t = Tanh(h)
                f = Reshape(t, flat)
                s = ReduceSum(f, last)
                y = MatMul(s, o)
            }""",
            {"w": (3, 4), "o": (1, 2)},
            {"flat": [1, 24], "last": [1]},
        )
    )
    assert count(graph) == {
        "nodes": {"input": 3, "neuron": 4 + 2, "reduce": 1},
        "edges": {"weight": 12 + 2},
        "links": {"reduce": 4},
    }


def test_a_function_of_numbers_goes_before_or_after_movement_of_places() -> None:
    def network(between: str) -> ParameterGraph:
        text = f"""(float[1, 3, 2] x) => (float[1, 3, 1] y) {{
            h = MatMul(x, w1)
            {between}
            y = MatMul(b, w2)
        }}"""
        return lower(build(text, {"w1": (2, 4), "w2": (4, 1)}, {"back": [2, 1, 0]}))

    before = network("a = Tanh(h) b = Gather<axis = 1>(a, back)")
    after = network("a = Gather<axis = 1>(h, back) b = Tanh(a)")
    assert isomorphic(before, after)
    assert not isomorphic(before, network("b = Tanh(h)"))


def test_linear_view_convolution() -> None:
    graph = lower(
        build(
            """(float[1, 2] x) => (float[1, 3, 2] y) {
                a = Gemm<transB = 1>(x, w1, b1)
                h = Relu(a)
                v = Reshape(h, view)
                y = Conv(v, w2)
            }""",
            {"w1": (6, 2), "b1": (6,), "w2": (3, 2, 2)},
            {"view": [1, 2, 3]},
        )
    )
    # windows of 2 slide over 3 places of 2 channels, each place a neuron of its own: a join per channel, linked from
    # its 3 places (slots), and the kernel's 3 x 2 x 2 weights leave from there
    assert count(graph) == {
        "nodes": {"input": 2, "neuron": 6 + 3, "param": 1, "join": 2},
        "edges": {"weight": 12 + 12, "bias": 6},
        "links": {"shared": 6},
    }
    [shared] = [link for link in graph.links if link.role == "shared"]
    assert shared.slot is not None
    assert sorted(shared.slot.reshape(-1).tolist()) == [0, 0, 1, 1, 2, 2]


def test_mixer_block() -> None:
    graph = lower(
        build(
            """(float[1, 2, 5] x) => (float[1, 2, 3] y) {
                e = MatMul(x, embed)
                t = Transpose<perm = [0, 2, 1]>(e)
                a = MatMul(t, w1)
                h = Relu(a)
                b = MatMul(h, w2)
                u = Transpose<perm = [0, 2, 1]>(b)
                z = Add(e, u)
                c = MatMul(z, w3)
                g = Relu(c)
                d = MatMul(g, w4)
                y = Add(z, d)
            }""",
            {"embed": (5, 3), "w1": (2, 4), "w2": (4, 2), "w3": (3, 6), "w4": (6, 3)},
        )
    )
    # Token mixing: the 2 tokens are free, so one join, linked from the 3 channels, feeds 4 hidden neurons by 2 slots
    # each; 2 neurons stand for the mixed tokens. The channels stay beside them as the other factor, so the first
    # residual meets itself there. Channel mixing 3 -> 6 -> 3; the second residual joins 3 channels with 3 new ones.
    # Both of its operands vary over tokens too: a node for each, linked from its 3 + 2 labels, says which tokens belong
    # to which channels, of which each is paired with it.
    assert count(graph) == {
        "nodes": {"input": 5, "neuron": 3 + 4 + 2 + 6 + 3, "join": 1 + 3 + 2 + 2 * 3},
        "edges": {"weight": 15 + 8 + 8 + 18 + 18},
        "links": {"shared": 3, "Add": 6, "pair": 2 * (3 + 2) + 2 * 3 * 2},
    }
    mixed = [block.shape for block in graph.edges if block.view.name == "w1"]
    assert mixed == [(1, 4, 1, 2)]


def test_deepsets_layer() -> None:
    # the maps f(x_i) and g(mean of x) leave the same 2 inputs, told apart by via; 3 joins with 2 links
    assert count(lower(deepsets())) == {
        "nodes": {"input": 2, "neuron": 3 + 3 + 1, "param": 1, "join": 3},
        "edges": {"weight": 6 + 6 + 3, "bias": 3},
        "links": {"Add": 6},
    }


def test_triplane_grid() -> None:
    graph = lower(
        build(
            """(float[3, 1, 5, 2] points) => (float[5, 4] y) {
                s = GridSample<mode = "linear">(planes, points)
                q = Squeeze(s, two)
                f = ReduceSum<keepdims = 0>(q, zero)
                t = Transpose<perm = [1, 0]>(f)
                y = Gemm<transB = 1>(t, w, b)
            }""",
            {"planes": (3, 2, 4, 4), "w": (4, 2), "b": (4,)},
            {"two": [2], "zero": [0]},
        )
    )
    # the grid is a source: 2 channels whose planes and places (3 x 4 x 4) are slots. Each plane is read at its own 2
    # coordinates, so the planes are positions of both operands: 2 inputs meet in one join, which meets each channel in
    # a join of 2 links; the sum over planes is over a free axis; 4 neurons out
    assert count(graph) == {
        "nodes": {"input": 2, "neuron": 2 + 4, "param": 2, "join": 1 + 2},
        "edges": {"source": 96, "weight": 8, "bias": 4},
        "links": {"shared": 2, "GridSample": 4},
    }
    [grid] = [block for block in graph.edges if block.role == "source"]
    assert grid.shape == (2, 1, 1, 48)
