"""Idiom recognition: what only looks like an idiom stays as it is, and learned ones and zeros are kept."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir
import pytest
from onnx import helper, numpy_helper
from support.idiom_checks import Attributes, Graph, found, ops, recognised, standardised, untouched

from gmnc.frontend.rewriting.idioms import recognise
from gmnc.frontend.rewriting.normalise import normalise


class TestNoIdiom:
    """Each differs from an idiom in one point and must stay as it is."""

    def normalised(
        self, axes=(-1,), inner=(-1,), outer=(-1,), epsilon: object = 1e-5, extra=None, add="Add", power=2.0
    ) -> onnx.ModelProto:
        g = Graph((3, 4, 4))
        c = g.op("Sub", "x", g.reduce("ReduceMean", "x", axes))
        d = g.op("Sub", "x", g.reduce("ReduceMean", "x", inner))
        v = g.reduce("ReduceMean", g.op("Pow", d, g.literal(power)), outer)
        e = g.parameter("norm.eps", epsilon[0]) if isinstance(epsilon, list) else g.literal(epsilon)
        s = g.op("Sqrt", g.op(add, v, e))
        y = g.op("Div", c, s)
        return g.model(y, *({"centre": [c, d], "root": [s], "variance": [v]}.get(extra, [])))

    def test_the_plain_one_is_one(self) -> None:
        assert len(found(recognised(self.normalised()))) == 1

    @pytest.mark.parametrize("change", [
        {"axes": (-2,)}, {"inner": (-2,)}, {"outer": (-2,)}, {"outer": (-2, -1)}, {"epsilon": [1e-5]},
        {"epsilon": -1e-5}, {"extra": "centre"}, {"extra": "root"}, {"extra": "variance"}, {"add": "Mul"},
        {"power": 3.0},
    ])  # fmt: skip
    def test_another_axis_a_learned_epsilon_or_an_inner_value_seen_elsewhere(self, change: Attributes) -> None:
        untouched(self.normalised(**change))

    def test_centre_used_by_another_op(self) -> None:
        g = Graph((2, 3, 4))
        y = standardised(g, (-1,))
        c = next(n.output[0] for n in g.nodes if n.op_type == "Sub")
        untouched(g.model(g.op("Add", y, g.op("Neg", c))))

    def test_square_of_another_value(self) -> None:
        g = Graph((2, 3, 4))
        v = g.reduce("ReduceMean", g.op("Mul", "x", g.op("Neg", "x")), (-1,))
        untouched(g.model(g.op("Div", "x", g.op("Sqrt", g.op("Add", v, g.literal(9.0))))))

    def test_divided_by_one_less_than_the_number_of_elements(self) -> None:
        g = Graph((2, 3, 4))
        c = g.op("Sub", "x", g.reduce("ReduceMean", "x", (-1,)))
        v = g.op("Div", g.reduce("ReduceSum", g.op("Mul", c, c), (-1,)), g.literal(3))
        untouched(g.model(g.op("Div", c, g.op("Sqrt", g.op("Add", v, g.literal(1e-5))))))

    def test_literal_divided_by_the_sum(self) -> None:
        g = Graph((2, 3, 4))
        v = g.op("Div", g.literal(4), g.reduce("ReduceSum", g.op("Mul", "x", "x"), (-1,)))
        untouched(g.model(g.op("Div", "x", g.op("Sqrt", v))))

    def test_root_plus_epsilon(self) -> None:
        g = Graph((2, 3, 4))
        v = g.reduce("ReduceMean", g.op("Mul", "x", "x"), (-1,))
        untouched(g.model(g.op("Div", "x", g.op("Add", g.op("Sqrt", v), g.literal(1e-5)))))

    def test_reduced_axis_lines_up_with_another(self) -> None:
        g = Graph((4, 4))
        v = g.reduce("ReduceMean", g.op("Mul", "x", "x"), (1,), keepdims=0)
        untouched(g.model(g.op("Div", "x", g.op("Sqrt", v))))

    def test_squares_reshaped_before_they_are_averaged(self) -> None:
        g = Graph((4, 4))
        square = g.op("Reshape", g.op("Mul", "x", "x"), g.literal((2, 4, 2), np.int64))
        v = g.op("Reshape", g.reduce("ReduceMean", square, (1,)), g.literal((1, 4), np.int64))
        untouched(g.model(g.op("Div", "x", g.op("Sqrt", v))))

    def test_mean_turned_to_another_axis(self) -> None:
        g = Graph((4, 4))
        v = g.reduce("ReduceMean", g.op("Mul", "x", "x"), (1,))
        v = g.op("Reshape", v, g.literal((1, 4), np.int64))
        untouched(g.model(g.op("Div", "x", g.op("Sqrt", v))))

    def test_epsilon_that_adds_an_axis(self) -> None:
        g = Graph((3, 4))
        v = g.reduce("ReduceMean", g.op("Mul", "x", "x"), (1,))
        untouched(g.model(g.op("Div", "x", g.op("Sqrt", g.op("Add", v, g.literal([[[1e-5]]]))))))

    @pytest.mark.parametrize("change", ["axis", "value"])
    def test_difference_of_moments_of_another_axis_or_value(self, change: str) -> None:
        g = Graph((4, 4))
        c = g.op("Sub", "x", g.reduce("ReduceMean", "x", (1,)))
        axes, value = ((0,), "x") if change == "axis" else ((1,), g.op("Exp", "x"))
        m = g.reduce("ReduceMean", "x", axes)
        v = g.op("Sub", g.reduce("ReduceMean", g.op("Mul", value, value), axes), g.op("Mul", m, m))
        untouched(g.model(g.op("Div", c, g.op("Sqrt", g.op("Add", v, g.literal(9.0))))))

    def test_norm_of_another_value(self) -> None:
        g = Graph((3, 4))
        untouched(g.model(g.op("Div", "x", g.reduce("ReduceL2", g.op("Exp", "x"), (1,)))))

    def test_result_broader_than_the_operand(self) -> None:
        g = Graph((1, 4))
        n = g.op("Expand", g.reduce("ReduceL2", "x", (-1,)), g.literal([3, 4], np.int64))
        untouched(g.model(g.op("Div", "x", n)))

    @pytest.mark.parametrize("change", ["axis", "axes", "epsilon", "other", "swapped", "sum"])
    def test_not_quite_a_softmax(self, change: str) -> None:
        g = Graph((4, 4, 4))
        e = g.op("Exp", "x")
        other = g.op("Exp", g.op("Neg", "x")) if change == "other" else e
        total = g.reduce("ReduceSum", other, (1, 2) if change == "axes" else (-1,), 0 if change == "axis" else 1)
        total = g.op("Add", total, g.literal(1.0)) if change == "epsilon" else total
        y = g.op("Div", total, e) if change == "swapped" else g.op("Div", e, total)
        untouched(g.model(y, *([total] if change == "sum" else [])))

    def test_power_that_is_learned(self) -> None:
        g = Graph((2, 3, 4))
        v = g.reduce("ReduceMean", g.op("Pow", "x", g.parameter("pool.p", 2.0)), (-1,))
        untouched(g.model(g.op("Div", "x", g.op("Sqrt", v))))

    def test_clip_that_is_closed_above(self) -> None:
        g = Graph((2, 3, 4))
        n = g.op("Clip", g.reduce("ReduceL2", "x", (-1,)), g.literal(1e-6), g.literal(1.0))
        untouched(g.model(g.op("Div", "x", n)))


class TestUnitAffine:
    """Normalisation ops whose scale and bias the exporter had to make up."""

    def instance(
        self, scale: str, bias: str, ones: object = 1.0, zeros: object = 0.0, how: str = "initializer"
    ) -> onnx.ModelProto:
        g = Graph((2, 3, 4, 5), 17)
        values = {scale: np.full(3, ones, np.float32), bias: np.full(3, zeros, np.float32)}
        for name, value in values.items():
            if how == "initializer":
                g.parameter(name, value)
            elif how == "Constant":
                g.op("Constant", name=name, value=numpy_helper.from_array(value))
            else:
                g.op("Expand", g.literal(value[0]), g.op("Shape", "x", start=1, end=2), name=name)
        return g.model(g.op("InstanceNormalization", "x", scale, bias, epsilon=0.25))

    @pytest.mark.parametrize(("scale", "bias", "how"), [
        ("val_8", "val_11", "initializer"),
        ("/g/Constant_1_output_0", "/g/Constant_2_output_0", "Constant"),
        ("12", "13", "Constant"),
        ("a", "b", "Expand"),
    ])  # fmt: skip
    def test_made_up(self, scale: str, bias: str, how: str) -> None:
        model = recognised(self.instance(scale, bias, how=how))
        assert found(model) == [("Standardize", {"axes": (-2, -1), "epsilon": 0.25})]
        assert ops(model) == ["Standardize"]

    @pytest.mark.parametrize(("scale", "bias", "how"), [
        ("norm.weight", "norm.bias", "initializer"),
        ("norm.weight", "val_11", "initializer"),
        ("val_8", "norm.bias", "initializer"),
        ("instance_norm.w_0", "instance_norm.b_0", "Constant"),
        ("12", "13", "initializer"),
    ])  # fmt: skip
    def test_learned_but_still_ones(self, scale: str, bias: str, how: str) -> None:
        untouched(self.instance(scale, bias, how=how))

    @pytest.mark.parametrize(
        ("ones", "zeros"), [(2.0, 0.0), ([1.0, 1.0, 0.5], 0.0), (1.0, 1.0), (1.0, [0.0, 0.5, 0.0])]
    )
    def test_scale_that_is_not_one_or_bias_that_is_not_zero(self, ones: object, zeros: object) -> None:
        untouched(self.instance("val_8", "val_11", ones, zeros))

    def test_constant_that_was_folded_from_a_parameter(self) -> None:
        for source, count in (("x", 1), ("val_3", 1), ("norm.weight", 0)):
            model = normalise(onnx_ir.from_proto(self.instance("val_8", "val_11")))
            note = str(["val_2", source])
            model.graph.initializers["val_8"].metadata_props["pkg.onnxscript.optimizer.folded_from"] = note
            assert recognise(model) == count, source

    @pytest.mark.parametrize(("axis", "axes"), [(-1, (-1,)), (1, (-2, -1)), (-2, (-2, -1))])
    def test_layer_normalization(self, axis: int, axes: tuple[int, ...]) -> None:
        for scale, count in (("val_8", 1), ("norm.weight", 0)):
            g = Graph((2, 3, 4), 17)
            g.parameter(scale, np.ones(g.shape[axis:]))
            y = g.op("LayerNormalization", "x", scale, axis=axis, epsilon=0.25)
            model = recognised(g.model(y))
            assert found(model) == [("Standardize", {"axes": axes, "epsilon": 0.25})] * count

    def test_second_output_in_use(self) -> None:
        g = Graph((2, 3, 4), 17)
        g.parameter("val_8", np.ones(4))
        g.nodes.append(helper.make_node("LayerNormalization", ["x", "val_8"], ["y", "m"]))
        untouched(g.model("y", "m"))
