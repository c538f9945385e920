"""Changes to a model that make it ask for much: great sizes, copies of copies, nested calls, axes, odd settings."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["enlarged"]

_GREAT = (33, 1000, 10**5, 10**6, 10**7, 2**31, 10**9, 2**40, 2**62, 2**63 - 1, -1, -(2**63))
_ODD = ("\x1b[31m", "\0", "i\0,j->ij", "\u00e9,j->j", "..", "->", "$x$", "\u202e", "\ufffe", "SAME_UPPER")


def enlarged(model: onnx.ModelProto, rng: random.Random) -> None:
    """One change, in place."""
    rng.choice(_CHANGES)(model, rng)


def _numbers(model: onnx.ModelProto, rng: random.Random) -> None:
    """A great number in a constant of whole numbers, or in a list of them."""
    tensors = [t for t in model.graph.initializer if t.data_type == TensorProto.INT64]
    tensors += [a.t for n in model.graph.node for a in n.attribute if a.t.data_type == TensorProto.INT64]
    lists = [a.ints for n in model.graph.node for a in n.attribute if len(a.ints)]
    if tensors and (not lists or rng.random() < 0.6):
        tensor, array = rng.choice(tensors), np.zeros(0, np.int64)
        with suppress(ValueError, TypeError):
            # Other changes may have left a tensor that is none.
            array = numpy_helper.to_array(tensor).copy()
        if array.size:
            array.reshape(-1)[rng.randrange(array.size)] = rng.choice(_GREAT)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    elif lists:
        values = rng.choice(lists)
        values[rng.randrange(len(values))] = rng.choice(_GREAT)


def _dimension(model: onnx.ModelProto, rng: random.Random) -> None:
    """An input of a great size."""
    dims = [d for i in model.graph.input for d in i.type.tensor_type.shape.dim]
    if dims:
        rng.choice(dims).dim_value = abs(rng.choice(_GREAT[:-1]))


def _between(model: onnx.ModelProto, rng: random.Random, nodes: Callable[[str, str], list[onnx.NodeProto]]) -> None:
    """Put nodes in front of one operand: `nodes(operand, result)`."""
    at = rng.randrange(len(model.graph.node))
    node = model.graph.node[at]
    if node.input:
        place = rng.randrange(len(node.input))
        made = nodes(node.input[place], "enlarged")
        node.input[place] = "enlarged"
        rest = list(model.graph.node)
        del model.graph.node[:]
        model.graph.node.extend([*rest[:at], *made, *rest[at:]])


def _doubled(model: onnx.ModelProto, rng: random.Random) -> None:
    """Copies of copies."""
    op, count = rng.choice(("Concat", "Add", "Sum", "Max")), rng.choice((12, 30, 100))
    more = {"axis": rng.choice((0, -1))} if op == "Concat" else {}

    def nodes(x: str, y: str) -> list[onnx.NodeProto]:
        names = [x, *(f"enlarged{i}" for i in range(count - 1)), y]
        return [helper.make_node(op, [names[i], names[i]], [names[i + 1]], **more) for i in range(count)]

    _between(model, rng, nodes)


def _copies(model: onnx.ModelProto, rng: random.Random) -> None:
    """Expand, Tile, ... by a great number."""
    op = rng.choice(("Expand", "Tile", "Reshape", "Pad", "CenterCropPad", "Unsqueeze", "Gather", "OneHot"))
    length = rng.choice((1, 1, 2, 33, 64))
    array = np.array([abs(rng.choice(_GREAT[:-1])) for _ in range(length)], np.int64)
    model.graph.initializer.append(numpy_helper.from_array(array, "great"))
    operands = ["great", "great"] if op == "OneHot" else ["great"]
    _between(model, rng, lambda x, y: [helper.make_node(op, [x, *operands], [y])])


def _called(model: onnx.ModelProto, rng: random.Random) -> None:
    """Functions of which each calls the next one twice, or itself."""
    count, imports = rng.choice((3, 10, 20, 200)), [helper.make_opsetid("", 18), helper.make_opsetid("enlarged", 1)]
    for i in range(count):
        callee = f"f{(i + 1) % count}" if rng.random() < 0.01 or i < count - 1 else "Relu"
        domain = "" if callee == "Relu" else "enlarged"
        nodes = [helper.make_node(callee, [a], [b], domain=domain) for a, b in ("xa", "ay")]
        model.functions.append(helper.make_function("enlarged", f"f{i}", ["x"], ["y"], nodes, imports))
    model.opset_import.append(helper.make_opsetid("enlarged", 1))
    _between(model, rng, lambda x, y: [helper.make_node("f0", [x], [y], domain="enlarged")])


def _settings(model: onnx.ModelProto, rng: random.Random) -> None:
    """An odd value of a setting, or a name."""
    node = rng.choice(model.graph.node)
    kinds = {onnx.AttributeProto.INT: "i", onnx.AttributeProto.STRING: "s"}
    found = [a for a in node.attribute if a.type in kinds]
    if found and rng.random() < 0.7:
        attribute = rng.choice(found)
        value = rng.choice(_GREAT) if attribute.type == onnx.AttributeProto.INT else rng.choice(_ODD).encode()
        setattr(attribute, kinds[attribute.type], value)
    else:
        setattr(node, rng.choice(("name", "op_type", "domain")), rng.choice(_ODD))


_CHANGES = (_numbers, _numbers, _dimension, _doubled, _copies, _called, _settings)
