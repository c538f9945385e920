"""Residual blocks and attention whose parameter graphs are counted by hand, as in test_hand_counted."""

from __future__ import annotations

from support.tiny import lower, packed_attention, separate_attention

from gmnc.testing import build, count


def test_residual_block() -> None:
    graph = lower(
        build(
            """(float[1, 2, 5, 5] x) => (float[1, 2, 5, 5] y) {
                s = Conv(x, stem)
                a = Conv<pads = [1, 1, 1, 1]>(s, inner)
                j = Add(a, s)
                r = Relu(j)
                y = Conv(r, head)
            }""",
            {"stem": (3, 2, 1, 1), "inner": (3, 3, 3, 3), "head": (2, 3, 1, 1)},
        )
    )
    # 3 channels of the stream each meet one of the branch: 3 joins with 2 links
    assert count(graph) == {
        "nodes": {"input": 2, "neuron": 3 + 3 + 2, "join": 3},
        "edges": {"weight": 6 + 81 + 6},
        "links": {"Add": 6},
    }


def test_residual_block_with_projection() -> None:
    graph = lower(
        build(
            """(float[1, 3, 6, 6] x) => (float[1, 2, 3, 3] y) {
                a = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(x, w1, b1)
                h = Relu(a)
                c = Conv<pads = [1, 1, 1, 1]>(h, w2)
                p = Conv<strides = [2, 2]>(x, skip)
                j = Add(c, p)
                y = Conv(j, head)
            }""",
            {"w1": (5, 3, 3, 3), "b1": (5,), "w2": (4, 5, 3, 3), "skip": (4, 3, 1, 1), "head": (2, 4, 1, 1)},
        )
    )
    # neurons 5 in the branch, 4 at its end, 4 of the projection, 2 out; 4 joins with 2 links
    assert count(graph) == {
        "nodes": {"input": 3, "neuron": 5 + 4 + 4 + 2, "param": 1, "join": 4},
        "edges": {"weight": 135 + 180 + 12 + 8, "bias": 5},
        "links": {"Add": 8},
    }


# 2 heads of 2: q.k is a product per head and dimension (4), with 2 links each, and a sum per head (2) with a link from
# each of its 2 products; attention times v is a product per head and dimension of v (4), with a link from the sum of
# its head and one from v; positions are free, so the sum over them needs no node
ATTENTION_NODES = {"input": 4, "neuron": 12 + 4, "product": 8, "sum": 2}
ATTENTION_LINKS = {"product": 8 + 8, "sum": 4}


def test_attention_with_packed_qkv() -> None:
    assert count(lower(packed_attention())) == {
        "nodes": ATTENTION_NODES | {"param": 2},
        "edges": {"weight": 48 + 16, "bias": 12 + 4},
        "links": ATTENTION_LINKS,
    }


def test_attention_with_separate_qkv() -> None:
    assert count(lower(separate_attention())) == {
        "nodes": ATTENTION_NODES | {"param": 4},
        "edges": {"weight": 4 * 16, "bias": 4 * 4},
        "links": ATTENTION_LINKS,
    }


def test_class_token_and_position_table() -> None:
    graph = lower(
        build(
            """(float[1, 2, 3] x) => (float[1, 3, 2] y) {
                a = MatMul(x, embed)
                b = Add(a, bias)
                c = Concat<axis = 1>(token, b)
                d = Add(c, table)
                y = MatMul(d, head)
            }""",
            {"embed": (3, 4), "bias": (4,), "token": (1, 1, 4), "table": (1, 3, 4), "head": (4, 2)},
        )
    )
    # 4 embedding neurons, 4 of the token, 2 out. The concatenation joins each dimension of the token with that of the
    # sequence: 4 joins, 2 links. The table has 3 positions (slots) for each of the 4 dimensions
    assert count(graph) == {
        "nodes": {"input": 3, "neuron": 4 + 4 + 2, "param": 3, "join": 4},
        "edges": {"weight": 12 + 8, "bias": 4, "source": 4, "position": 12},
        "links": {"Concat": 8},
    }
    [table] = [block for block in graph.edges if block.role == "position"]
    assert table.shape == (4, 1, 1, 3)
