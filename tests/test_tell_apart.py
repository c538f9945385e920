"""What changes the network must change its graph, and what does not must leave it isomorphic.

Each change is first put to ONNX Runtime: it alters the output, or it does not.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from tiny import deepsets, packed_attention, separate_attention

import gmnc
from gmnc.ir import isomorphic
from gmnc.testing import build, disagreement, random_inputs, run, values, with_values


def assert_differ(a: onnx.ModelProto, b: onnx.ModelProto) -> None:
    inputs = random_inputs(a)
    assert disagreement(run(a, inputs), run(b, inputs)) > 1e-4
    assert not isomorphic(gmnc.compile(a), gmnc.compile(b))


def assert_same(a: onnx.ModelProto, b: onnx.ModelProto) -> None:
    inputs = random_inputs(a)
    assert disagreement(run(a, inputs), run(b, inputs)) < 1e-5
    assert isomorphic(gmnc.compile(a), gmnc.compile(b))


def permuted(proto: onnx.ModelProto, names: str, order: list[int]) -> onnx.ModelProto:
    """The attention model with the columns of these projections (letters of q, k, v) in another order."""
    new: dict[str, np.ndarray] = {}
    for t in names:
        new |= {f"w{t}": values(proto, f"w{t}")[:, order], f"b{t}": values(proto, f"b{t}")[order]}
    return with_values(proto, **new)


def convolutional(activation: str = "Relu", stride: int = 1) -> onnx.ModelProto:
    """Residual stream of 3 channels through two branches; BatchNorm; every channel permutation is consistent."""
    return build(
        f"""(float[1, 2, 6, 6] x) => (float[1, 2] y) {{
            s = Conv(x, stem)
            a = Conv<pads = [1, 1, 1, 1]>(s, inner)
            n = BatchNormalization(a, gamma, beta, mean, var)
            r = {activation}(n)
            j = Add(r, s)
            c = Conv<strides = [{stride}, {stride}]>(j, last)
            t = Tanh(c)
            g = GlobalAveragePool(t)
            f = Flatten(g)
            y = Gemm<transB = 1>(f, head)
        }}""",
        {"stem": (3, 2, 1, 1), "inner": (3, 3, 3, 3), "last": (3, 3, 2, 2), "head": (2, 3)}
        | dict.fromkeys(["gamma", "beta", "mean", "var"], (3,)),
    )


def test_queries_and_values_swapped() -> None:
    proto = separate_attention()
    swapped = {"wq": "wv", "wv": "wq", "bq": "bv", "bv": "bq"}
    assert_differ(proto, with_values(proto, **{new: values(proto, old) for new, old in swapped.items()}))


def test_attention_dimensions_across_heads() -> None:
    proto = separate_attention()
    assert_differ(proto, permuted(proto, "qk", [0, 2, 1, 3]))


@pytest.mark.parametrize("packed", [False, True], ids=["separate", "packed"])
def test_queries_and_keys_jointly_inside_a_head(packed: bool) -> None:
    if not packed:
        proto = separate_attention()
        assert_same(proto, permuted(proto, "qk", [1, 0, 2, 3]))
        assert_differ(proto, permuted(proto, "q", [1, 0, 2, 3]))
        return
    proto = packed_attention()
    order = [1, 0, 2, 3, 5, 4, 6, 7, 8, 9, 10, 11]
    assert_same(proto, with_values(proto, wqkv=values(proto, "wqkv")[:, order], bqkv=values(proto, "bqkv")[order]))


def test_whole_heads() -> None:
    proto = separate_attention()
    heads = [2, 3, 0, 1]
    moved = with_values(permuted(proto, "qkv", heads), wo=values(proto, "wo")[heads])
    assert_same(proto, moved)


@pytest.mark.parametrize("statistic", ["mean", "var"])
def test_running_statistics(statistic: str) -> None:
    proto = convolutional()
    assert_differ(proto, with_values(proto, **{statistic: values(proto, statistic) * 2}))


def test_scale_and_variance_swapped() -> None:
    proto = convolutional()
    assert_differ(proto, with_values(proto, gamma=values(proto, "var"), var=values(proto, "gamma")))


def test_activation_and_stride() -> None:
    assert_differ(convolutional(), convolutional(activation="Gelu"))
    assert_differ(convolutional(), convolutional(stride=2))


def test_channels_along_a_residual_stream() -> None:
    proto = convolutional()
    order = [2, 0, 1]
    vectors = {name: values(proto, name)[order] for name in ("gamma", "beta", "mean", "var")}
    stem, inner = values(proto, "stem")[order], values(proto, "inner")[order][:, order]
    moved = with_values(proto, stem=stem, inner=inner, last=values(proto, "last")[:, order], **vectors)
    assert_same(proto, moved)
    assert_differ(proto, with_values(proto, stem=stem))


def test_maps_of_a_deepsets_layer_swapped() -> None:
    assert_differ(deepsets(), deepsets(swapped=True))


def test_kernel_flipped() -> None:
    proto = convolutional()
    assert_differ(proto, with_values(proto, last=values(proto, "last")[:, :, ::-1, ::-1]))


def test_one_value() -> None:
    proto = convolutional()
    head = values(proto, "head")
    head[0, 0] = np.nextafter(head[0, 0], np.float32(2))
    assert not isomorphic(gmnc.compile(proto), gmnc.compile(with_values(proto, head=head)))
