"""A bias of integers that is added to an integer product, as ONNX Runtime's first quantiser writes it."""

from __future__ import annotations

from math import factorial, log10

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import gmnc
from gmnc.testing import assert_sound

RNG = np.random.default_rng(0)
SCALES = {"wz": np.int8(0), "ws": np.float32(0.02)}
DENSE = {
    "w": RNG.integers(-60, 60, (3, 4)).astype(np.int8), "b": RNG.integers(-500, 500, 4).astype(np.int32),
    "v": RNG.normal(size=(4, 2)).astype(np.float32), **SCALES,
}  # fmt: skip
IMAGE = {
    "w": RNG.integers(-60, 60, (4, 3, 2, 2)).astype(np.int8), "b": RNG.integers(-500, 500, 4).astype(np.int32),
    "v": RNG.normal(size=(2, 4, 1, 1)).astype(np.float32), "sizes": np.int64([1, 4, 1, 1]), **SCALES,
}  # fmt: skip
FLOATS = "f = Cast<to = 1>(t) e = Mul(s, ws) g = Mul(f, e) r = Relu(g)"
NETWORKS = {
    "dense": (
        f"""(float[2, 3] x) => (float[2, 2] y) {{ q, s, z = DynamicQuantizeLinear(x) c = MatMulInteger(q, w, z, wz)
            t = Add(b, c) {FLOATS} y = MatMul(r, v) }}""",
        DENSE,
        12 + 4 + 8,
    ),
    "image": (
        f"""(float[1, 3, 5, 5] x) => (float[1, 2, 4, 4] y) {{ q, s, z = DynamicQuantizeLinear(x)
            c = ConvInteger(q, w, z, wz) a = Reshape(b, sizes) t = Add(c, a) {FLOATS} y = Conv(r, v) }}""",
        IMAGE,
        48 + 4 + 8,
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_bias_is_a_parameter_that_moves_with_its_channel(name: str) -> None:
    """Four hidden channels in 4! orders; scale and zero point of w are two further parameters."""
    text, values, elements = NETWORKS[name]
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 20]> agraph {text}')
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), n) for n, a in values.items())
    graph = gmnc.compile(model)
    assert (graph.num_parameter_edges, len(graph.opaque)) == (elements + 2, 0)
    assert graph.parameters["b"].size == 4
    assert gmnc.symmetries(graph).log10_size == pytest.approx(log10(factorial(4)))
    assert_sound(model)
