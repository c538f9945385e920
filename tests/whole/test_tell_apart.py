"""What changes a network must change its graph, and what does not must leave it isomorphic.

Each change is made on networks of the zoo as exporters write them, and is first put to ONNX Runtime: it alters the
output, or it does not.
"""

from __future__ import annotations

import numpy as np
import pytest
from support.changes import DIFFERENT, SAME, Change, changed, reordered, rows, transposition
from support.exports import HOWS, How, exported
from support.networks import VARIANTS

import gmnc
<<<<<<< HEAD
from gmnc.symmetry import isomorphic
from gmnc.testing import disagreement, random_inputs, run, with_values

Tensors = Mapping[str, np.ndarray]
PLAIN: tuple[How, ...] = ("dynamo", "torchscript")


@dataclass(frozen=True)
class Change:
    """edit: new tensors from those of the torch module, by name. hows: exports that have these tensors."""

    network: str
    edit: Callable[[Tensors], Tensors]
    hows: Sequence[How] = HOWS


def reordered(axes: Mapping[str, int], order: Sequence[int]) -> Callable[[Tensors], Tensors]:
    """Entries along an axis of each of these tensors, as far as the export has them, in another order."""
    return lambda t: {name: t[name].take(order, axis=axis) for name, axis in axes.items() if name in t}


def exchanged(*pairs: tuple[str, str]) -> Callable[[Tensors], Tensors]:
    return lambda t: {a: t[b] for pair in pairs for a, b in (pair, pair[::-1])}


def transposition(size: int, *pairs: tuple[int, int]) -> list[int]:
    order = list(range(size))
    for a, b in pairs:
        order[a], order[b] = b, a
    return order


def rows(*layers: str) -> dict[str, int]:
    return {f"{layer}.{kind}": 0 for layer in layers for kind in ("weight", "bias")}


# attention_qkv has 2 heads of 4 dimensions; vit packs q, k, v of 3 heads of 4 each, gpt of 2 heads of 4
PACKED = {f"blocks.0.attention.qkv.{kind}": 0 for kind in ("weight", "bias")}
# what the residual stream of 8 channels runs through; names of folded BatchNorms included
STEM = {f"{n}": 0 for n in ("0.weight", "0.weight_bias", "1.weight", "1.bias", "1.running_mean", "1.running_var")}
BRANCH = {"4.conv1.weight": 1, "4.conv2.weight": 0, "4.conv2.weight_bias": 0}
BRANCH |= {f"4.bn2.{n}": 0 for n in ("weight", "bias", "running_mean", "running_var")}
STREAM = STEM | BRANCH | {"5.conv1.weight": 1, "5.skip.0.weight": 1}

DIFFERENT = {
    "W_Q and W_V swapped": Change("attention_qkv", exchanged(("q.weight", "v.weight"), ("q.bias", "v.bias"))),
    "W_Q and W_V swapped, packed": Change("gpt", reordered(PACKED, [*range(16, 24), *range(8, 16), *range(8)])),
    "attention dimensions across heads": Change(
        "attention_qkv", reordered(rows("q", "k"), transposition(8, (1, 5)))
    ),
    "attention dimensions across heads, packed": Change(
        "vit", reordered(PACKED, transposition(36, (1, 5), (13, 17)))
    ),
    "queries alone": Change("attention_qkv", reordered(rows("q"), transposition(8, (0, 1)))),
    "running mean": Change("resnet", lambda t: {"4.bn1.running_mean": t["4.bn1.running_mean"] * 1.5}, PLAIN),
    "running variance": Change("resnet", lambda t: {"4.bn1.running_var": t["4.bn1.running_var"] * 1.5}, PLAIN),
    "scale and variance swapped": Change("resnet", exchanged(("4.bn1.weight", "4.bn1.running_var")), PLAIN),
    "channels of the stem alone": Change("resnet", reordered(STEM, transposition(8, (2, 5)))),
    "channels of the branch alone": Change("resnet", reordered(BRANCH, transposition(8, (2, 5)))),
    "the two maps of a DeepSets layer swapped": Change("deepsets", exchanged(("own.0.weight", "all.0.weight"))),
    "a kernel flipped": Change("resnet", lambda t: {"4.conv1.weight": t["4.conv1.weight"][..., ::-1, ::-1]}),
    "channels across groups": Change("grouped", reordered(rows("0"), transposition(8, (0, 4)))),
}  # fmt: skip
SAME = {
    "Q and K jointly inside one head": Change("attention_qkv", reordered(rows("q", "k"), transposition(8, (0, 1)))),
    "Q and K jointly inside one head, packed": Change(
        "vit", reordered(PACKED, transposition(36, (1, 2), (13, 14)))
    ),
    "values inside one head": Change(
        "attention_qkv", reordered({**rows("v"), "o.weight": 1}, transposition(8, (4, 6)))
    ),
    "whole heads": Change(
        "attention_qkv", reordered({**rows("q", "k", "v"), "o.weight": 1}, [4, 5, 6, 7, 0, 1, 2, 3])
    ),
    "channels along a residual stream": Change("resnet", reordered(STREAM, [3, 0, 6, 1, 2, 7, 5, 4])),
    "whole groups": Change(
        "grouped",
        lambda t: reordered(rows("0"), [4, 5, 6, 7, 0, 1, 2, 3])(t)
        | reordered({**rows("2"), "4.weight": 0, "7.weight": 1}, [*range(6, 12), *range(6)])(t),
    ),
}  # fmt: skip


def changed(change: Change, how: How) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The export, and the same with the change made on it."""
    model = exported(change.network, how)
    state = {n: t.numpy() for n, t in NETWORKS[change.network]()[0].state_dict().items()}
    own = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    turned = {name: found for name, value in state.items() if name not in own and (found := _transposed(value, own))}
    seen = own | {name: own[found].T for name, found in turned.items()}
    edited = change.edit(seen)
    assert edited
    return model, with_values(model, **{turned.get(n, n): v.T if n in turned else v for n, v in edited.items()})


def _transposed(value: np.ndarray, own: Tensors) -> str | None:
    """The initializer that an optimizer has made of a weight by transposing it."""
    return next((n for n, v in own.items() if value.ndim == 2 and np.array_equal(v, value.T)), None)
=======
from gmnc.ir import isomorphic
from gmnc.testing import disagreement, random_inputs, run
>>>>>>> d91d6f8 (Import what tests share from one package, tests/support)


@pytest.mark.parametrize(("name", "how"), [(name, how) for name, c in DIFFERENT.items() for how in c.hows])
def test_what_changes_the_output_changes_the_graph(name: str, how: How) -> None:
    a, b = changed(DIFFERENT[name], how)
    inputs = random_inputs(a)
    assert disagreement(run(a, inputs), run(b, inputs)) > 1e-4
    left, right = gmnc.compile(a), gmnc.compile(b)
    assert not isomorphic(left, right)
    assert gmnc.fingerprint(left) != gmnc.fingerprint(right)
    assert gmnc.fingerprint(left, values=False) == gmnc.fingerprint(right, values=False)


@pytest.mark.parametrize(("name", "how"), [(name, how) for name, c in SAME.items() for how in c.hows])
def test_what_keeps_the_output_keeps_the_graph(name: str, how: How) -> None:
    a, b = changed(SAME[name], how)
    inputs = random_inputs(a)
    assert disagreement(run(a, inputs), run(b, inputs)) < 1e-5
    left, right = gmnc.compile(a), gmnc.compile(b)
    assert isomorphic(left, right)
    assert gmnc.fingerprint(left) == gmnc.fingerprint(right)
    names = {t.name for t in a.graph.initializer}
    assert any(
        not np.array_equal(left.parameters[n].load(), right.parameters[n].load()) for n in names & {*left.parameters}
    )


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_other_functions_of_the_same_parameters(variant: str, how: How) -> None:
    a, b = exported("resnet", how), exported(variant, how)
    inputs = random_inputs(a)
    ours, theirs = (list(run(m, inputs).values()) for m in (a, b))
    assert disagreement({"": ours[0]}, {"": theirs[0]}) > 1e-4
    left, right = gmnc.compile(a), gmnc.compile(b)
    assert left.num_parameter_edges == right.num_parameter_edges
    assert not isomorphic(left, right, values=False)
    for values in (False, True):
        assert gmnc.fingerprint(left, values) != gmnc.fingerprint(right, values)


def test_ports_keep_their_order() -> None:
    """Features of the input and of the output are not alike, whatever the weights between them."""
    columns = Change("perceptron", reordered({"0.weight": 1}, transposition(8, (2, 5))))
    outputs = Change("perceptron", reordered(rows("4"), transposition(3, (0, 1))))
    for change in (columns, outputs):
        a, b = changed(change, "dynamo")
        inputs = random_inputs(a)
        assert disagreement(run(a, inputs), run(b, inputs)) > 1e-4
        assert gmnc.fingerprint(gmnc.compile(a)) != gmnc.fingerprint(gmnc.compile(b))
