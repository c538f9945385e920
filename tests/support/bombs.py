"""Small files that ask for much: sizes, copies, chains, calls and names out of all proportion, each made in code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["bombs"]

SIZES = (10**6, 10**9, 10**11)
_TEXTS = ("\x1b[2J\x1b]0;title\x07", "\x9b31m", "\u202eabc", "a\nb", "\ufffe", "\x00", "$x^$", "[bold]")
Initials = dict[str, np.ndarray]


def bombs() -> dict[str, bytes]:
    """The files by what they try."""
    made: dict[str, onnx.ModelProto] = {}
    for kind, make in _SIZED.items():
        made.update((f"{kind} {size:.0e}", make(size)) for size in SIZES)
    for kind, chain in _CHAINED.items():
        made.update((f"{kind} x {count}", chain(count)) for count in (40, 3000))
    made.update((f"names {text!r}", _named(text)) for text in _TEXTS)
    made.update((f"functions {count}", calls(count)) for count in (11, 15, 60))
    made["recursion"] = recursion()
    squares = [_node("MatMul", [f"a{i}"] * 2, [f"a{i + 1}"]) for i in range(30)]
    made["powers"] = _model([*squares, _node("MatMul", ["x", "a30"], ["y"])], (1, 2), a0=_weight(2, 2))
    made["sparse tensors"] = _sparse(15000)
    made["outside indices"] = _sparse(1)
    made["outside indices"].graph.sparse_initializer[0].indices.data_location = onnx.TensorProto.EXTERNAL
    made["one name twice"] = _named_twice(60000)
    made.update((f"einsum {text!r}", _einsum(text)) for text in ("i\0,j->ij", "é->é", "..", "-", "1->1"))
    made.update(_odd())
    return {name: model.SerializeToString() for name, model in made.items()}


def _model(
    nodes: Iterable[onnx.NodeProto], x: Sequence[int | str] = (4,), opset: int = 18, functions: Any = (),
    name: str = "x", **initials: np.ndarray,
) -> onnx.ModelProto:  # fmt: skip
    graph = helper.make_graph(
        list(nodes), "bomb", [helper.make_tensor_value_info(name, TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, key) for key, array in initials.items()],
    )  # fmt: skip
    imports = [helper.make_opsetid(d, v) for d, v in (("", opset), ("ai.onnx.ml", 3), ("local", 1))]
    return helper.make_model(graph, functions=functions, opset_imports=imports, ir_version=9)


def _whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def _sparse(count: int) -> onnx.ModelProto:
    """Many sparse tensors without values."""
    model = _model([_node("Add", ["x", "w"], ["y"])], w=_weight(4))
    for i in range(count):
        sparse = model.graph.sparse_initializer.add(dims=[1])
        sparse.values.CopyFrom(onnx.TensorProto(name=f"s{i}", data_type=TensorProto.FLOAT, dims=[0]))
        sparse.indices.CopyFrom(onnx.TensorProto(data_type=TensorProto.INT64, dims=[0]))
    return model


def _named_twice(count: int) -> onnx.ModelProto:
    model = _model([_node("Add", ["x", "w"], ["y"])], w=_weight(4))
    for i in (*range(count), count - 1):
        model.graph.initializer.add(name=f"a{i}", data_type=TensorProto.FLOAT, dims=[0])
    return model


def _weight(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


_node = helper.make_node


def _one(op: str, operands: str, x: Sequence[int | str] = (4,), opset: int = 18, **more: Any) -> onnx.ModelProto:
    """A network of one node; more: arrays are initializers, the rest attributes."""
    arrays = {k: v for k, v in more.items() if isinstance(v, np.ndarray)}
    attributes = {k: v for k, v in more.items() if k not in arrays}
    names = ["" if n == "-" else n for n in operands.split()]
    return _model([_node(op, names, ["y"], **attributes)], x, opset, **arrays)


def _two(first: onnx.NodeProto, then: str, x: Sequence[int | str] = (1,), **arrays: np.ndarray) -> onnx.ModelProto:
    """What a node makes of constants, then put to the input."""
    return _model([first, _node(then, ["x", "m"], ["y"])], x, **arrays)


def _made(name: str, *shape: int) -> list[onnx.NodeProto]:
    """Numbers of the program in this shape, as floats."""
    count, start, one = int(np.prod(shape)), _whole(0)[0], _whole(1)[0]
    given = {"n": np.array(count), "a": start, "b": one, "s": _whole(*shape)}
    constants = [
        _node("Constant", [], [name + k], value=numpy_helper.from_array(np.asarray(v))) for k, v in given.items()
    ]
    return [
        *constants, _node("Range", [f"{name}a", f"{name}n", f"{name}b"], [f"{name}r"]),
        _node("Reshape", [f"{name}r", f"{name}s"], [f"{name}i"]), _node("Cast", [f"{name}i"], [name], to=1),
    ]  # fmt: skip


_SUMMED = (_node("ReduceSum", ["m"], ["q"], keepdims=0), _node("Add", ["x", "q"], ["y"]))


def _windows(size: int) -> onnx.ModelProto:
    """A window as large as the image around each of its places."""
    op = {SIZES[0]: "MaxPool", SIZES[1]: "AveragePool"}.get(size, "LpPool")
    pool = _node(op, ["r"], ["m"], kernel_shape=[255, 255], pads=[127] * 4)
    return _model([*_made("r", 1, 1, 256, 256), pool, *_SUMMED])


def _samples(size: int) -> onnx.ModelProto:
    """Many samples for each place of the result, or many grids of them."""
    image, number = _made("r", 1, 1, 256, 256), numpy_helper.from_array(_whole(0))
    if size == SIZES[0]:
        marks = {"output_height": 256, "output_width": 256, "sampling_ratio": 100}
        roi = [_node("Constant", [], ["k"], value=number), _node("RoiAlign", ["r", "b", "k"], ["m"], **marks)]
        return _model([*image, *_made("b", 1, 4), *roi, *_SUMMED])
    grids = [_node("GridSample", ["r", "g"], [f"o{i}"]) for i in range(8)]
    total = _node("Sum", [f"o{i}" for i in range(8)], ["m"])
    return _model([*image, *_made("g", 1, 256, 128, 2), *grids, total, *_SUMMED])


def _products(size: int) -> onnx.ModelProto:
    """An outer product of two long vectors."""
    product = _node("Einsum", ["r", "r"], ["m"], equation="i,j->ij")
    return _model([*_made("r", 16384 if size == SIZES[0] else 4096), product, *_SUMMED])


def _loop(count: int | None) -> onnx.ModelProto:
    """A loop that runs so often, or for ever."""
    kinds = {"i": TensorProto.INT64, "c": TensorProto.BOOL, "d": TensorProto.BOOL}
    i, c, v, d, o = (helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), None) for n in "icvdo")
    body = helper.make_graph([_node("Identity", ["c"], ["d"]), _node("Mul", ["v", "w"], ["o"])], "b", [i, c, v], [d, o])
    read = ["n" if count else "", "t", "x"]
    more = {"n": np.array(count)} if count else {}
    return _model([_node("Loop", read, ["y"], body=body)], w=_weight(4), t=np.array(True), **more)


_SIZED: dict[str, Callable[[int], onnx.ModelProto]] = {
    "Expand": lambda n: _one("Expand", "x s", (4, 1), s=_whole(4, n)),
    "Expand of a weight": lambda n: _two(
        _node("Expand", ["w", "s"], ["m"]), "MatMul", (4,), w=_weight(4, 1), s=_whole(4, n)
    ),
    "Tile": lambda n: _one("Tile", "x s", s=_whole(n)),
    "Tile of a weight": lambda n: _two(_node("Tile", ["w", "s"], ["m"]), "Mul", w=_weight(4), s=_whole(n)),
    "Pad": lambda n: _one("Pad", "x s", s=_whole(n, n)),
    "CenterCropPad": lambda n: _one("CenterCropPad", "x s", s=_whole(n)),
    "Split": lambda n: _model([_node("Split", ["x"], ["z", "y"], num_outputs=n)]),
    "ConstantOfShape": lambda n: _two(_node("ConstantOfShape", ["s"], ["m"]), "Add", s=_whole(n)),
    "a weight of ConstantOfShape": lambda n: _two(
        _node("ConstantOfShape", ["s"], ["m"]), "MatMul", (4,), s=_whole(4, n)
    ),
    "Resize": lambda n: _one("Resize", "x - - s", (1, 1, 4, 4), s=_whole(1, 1, n, 4)),
    "Upsample": lambda n: _one("Upsample", "x s", (1, 4), 9, s=np.array([1, n], np.float32)),
    "HannWindow": lambda n: _two(_node("HannWindow", ["s"], ["m"]), "Mul", s=np.array(n)),
    "window": lambda n: _one("MaxPool", "x", (1, 1, n), kernel_shape=[n]),
    "strides": lambda n: _one("MaxPool", "x", (1, 1, n), kernel_shape=[3], strides=[n]),
    "padding": lambda n: _one("Conv", "x w", (1, 1, 8), w=_weight(2, 1, 3), pads=[n, n]),
    "input": lambda n: _one("Relu", "x", (n,)),
    "input in a row": lambda n: _one("Slice", "x a b c a", (n,), a=_whole(-1), b=_whole(-(2**62)), c=_whole(0)),
    "outer product": lambda n: _one("Einsum", "x x", (n,), equation="i,j->ij"),
    "empty": lambda n: _one("Relu", "x", (2**62, 2**62, 0)) if n == SIZES[0] else _one("Relu", "x", (n, n, n)),
    "trees": lambda n: _one(
        "TreeEnsembleRegressor", "x", (1, 4), domain="ai.onnx.ml", n_targets=n, nodes_treeids=[0], nodes_nodeids=[0],
        nodes_featureids=[0], nodes_modes=["LEAF"], nodes_values=[0.0], nodes_truenodeids=[0], nodes_falsenodeids=[0],
        target_treeids=[0], target_nodeids=[0], target_ids=[0], target_weights=[1.0],
    ),
    "Range": lambda n: _model(
        [_node("Range", ["a", "n", "b"], ["r"]), _node("Cast", ["r"], ["m"], to=1), _node("Add", ["x", "m"], ["y"])],
        (1,), a=np.array(0), n=np.array(n), b=np.array(1),
    ),
    "EyeLike": lambda n: _model(
        [_node("ConstantOfShape", ["s"], ["c"]), _node("EyeLike", ["c"], ["m"]), _node("MatMul", ["x", "m"], ["y"])],
        s=_whole(4, n),
    ),
    "OneHot": lambda n: _model(
        [_node("Cast", ["x"], ["k"], to=7), _node("OneHot", ["k", "n", "v"], ["y"])], n=np.array(n), v=_weight(2)
    ),
    "windows of made numbers": lambda n: _windows(n),
    "samples of made numbers": lambda n: _samples(n),
    "products of made numbers": lambda n: _products(n),
    "windows of a weight": lambda n: _model(
        [_node("MaxPool", ["w"], ["m"], kernel_shape=[255, 255], pads=[127] * 4), _node("Mul", ["x", "m"], ["y"])],
        (1, 1, 256, 256), w=_weight(1, 1, 256, 256),
    ) if n == SIZES[0] else _one("Relu", "x"),
    "operands": lambda n: _model([_node("Sum", ["x"] * min(n // 10, 10**5), ["y"])]),
    "loop": lambda n: _loop(n),
    "endless loop": lambda n: _loop(None),
    "image": lambda n: _one("Conv", "x w", (1, 1, n // 64, 64), w=_weight(2, 1, 3, 3)),
    "rows of a table": lambda n: _two(_node("Gather", ["w", "k"], ["m"]), "Add", w=_weight(3, 2), k=_whole(*[0] * 40)),
}  # fmt: skip


def _chain(
    op: str, operands: str, count: int, last: Sequence[onnx.NodeProto] = (), before: onnx.NodeProto | None = None,
    **more: Any,
) -> onnx.ModelProto:  # fmt: skip
    """`count` nodes, each of which reads what the one before made in the place of "v".

    The first reads `first`, what `before` makes, or the input.
    """
    arrays = {k: v for k, v in more.items() if isinstance(v, np.ndarray)}
    start = before.output[0] if before is not None else "first" if "first" in arrays else "x"
    names = [start, *(f"v{i}" for i in range(1, count)), "end" if last else "y"]
    attributes = {k: v for k, v in more.items() if k not in arrays}
    nodes = [
        _node(op, [names[i] if o == "v" else o for o in operands.split()], [names[i + 1]], **attributes)
        for i in range(count)
    ]
    return _model([*([before] if before is not None else []), *nodes, *last], **arrays)


_CHAINED: dict[str, Callable[[int], onnx.ModelProto]] = {
    "doubling Concat": lambda n: _chain("Concat", "v v", n, axis=0),
    "doubling Concat of one neuron": lambda n: _chain(
        "Concat", "v v", n + 1, axis=0, before=_node("Gather", ["x", "k"], ["x0"]), k=_whole(0)
    ),
    "doubling Add": lambda n: _chain("Add", "v v", n),
    "doubling weights": lambda n: _chain(
        "Concat", "v v", n, [_node("Mul", ["x", "end"], ["y"])], axis=0, first=_weight(4)
    ),
    "doubling numbers": lambda n: _chain(
        "Concat", "v v", n, [_node("Cast", ["end"], ["f"], to=1), _node("Mul", ["x", "f"], ["y"])], axis=0,
        first=_whole(1, 2),
    ),
    "axes": lambda n: _chain("Unsqueeze", "v a", n, a=_whole(0)),
    "Relu": lambda n: _chain("Relu", "v", n),
    "Identity of a weight": lambda n: _chain("Identity", "v", n, [_node("Mul", ["x", "end"], ["y"])], first=_weight(4)),
    "Neg of a weight": lambda n: _chain("Neg", "v", n, [_node("Mul", ["x", "end"], ["y"])], first=_weight(4)),
    "Identity of a size": lambda n: _chain(
        "Identity", "v", n, [_node("Reshape", ["x", "end"], ["y"])], first=_whole(2, 2)
    ),
}  # fmt: skip


def _named(text: str) -> onnx.ModelProto:
    """A network in which everything is called so, with an operator that nobody knows."""
    nodes = [
        _node("Mul", [text, f"w{text}"], [f"h{text}"], name=text),
        _node(f"Odd{text}", [f"h{text}"], ["y"], name=f"n{text}", domain="local"),
    ]
    return _model(nodes, (4, f"d{text}"), name=text, **{f"w{text}": _weight(4, 1)})


def calls(count: int) -> onnx.ModelProto:
    """Functions of which each calls the next one twice."""
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
    functions = []
    for i in range(count):
        op, domain = ("Relu", "") if i == count - 1 else (f"f{i + 1}", "local")
        nodes = [_node(op, ["x"], ["a"], domain=domain), _node(op, ["a"], ["y"], domain=domain)]
        functions.append(helper.make_function("local", f"f{i}", ["x"], ["y"], nodes, imports))
    return _model([_node("f0", ["x"], ["y"], domain="local")], functions=functions)


def recursion() -> onnx.ModelProto:
    """Two functions that call each other."""
    imports = [helper.make_opsetid("local", 1)]
    functions = [
        helper.make_function("local", one, ["x"], ["y"], [_node(other, ["x"], ["y"], domain="local")], imports)
        for one, other in ("fg", "gf")
    ]
    return _model([_node("f", ["x"], ["y"], domain="local")], functions=functions)


def _einsum(equation: str) -> onnx.ModelProto:
    return _one("Einsum", "x", (4,), equation=equation)


def _odd() -> dict[str, onnx.ModelProto]:
    """Settings that ONNX's own inference hangs or dies on."""
    least = -(2**31)
    return {
        "GatherND": _one("GatherND", "x k", (2, 3), k=_whole(1), batch_dims=least),
        "LayerNormalization": _one("LayerNormalization", "x w", (2, 3), w=_weight(3), axis=least),
        "Concat": _one("Concat", "x x", (2, 3), axis=least),
        "outputs of Split": _model([_node("Split", ["x"], ["y", "a", "b"], num_outputs=1)]),
        "a shape of many axes": _one("Reshape", "x s", (4,), s=_whole(*[1] * 40)),
        "a weight of many axes": _one("Mul", "x w", (4,), w=_weight(*[1] * 33)),
    }
