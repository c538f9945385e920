"""The store's format: docs/store-format.md suffices to read a file, and old files stay readable."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file
from support.equality import same
from support.paths import ROOT, TESTS
from support.stored_graph import version_2

import gmnc
from gmnc.backends import store
from gmnc.ir import (
    AccountEntry,
    EdgeBlock,
    LinkBlock,
    NodeGroup,
    OpaqueOp,
    Parameter,
    ParameterGraph,
    ParameterView,
    Port,
    Problem,
    Via,
)
from gmnc.symmetry import isomorphic

STORES = TESTS / "backends" / "stores"
EVERY_FIELD, NETWORK, MODEL = (STORES / n for n in ("version-2.safetensors", "network-2.safetensors", "network.onnx"))
PAGE = (ROOT / "docs" / "store-format.md").read_text(encoding="utf-8")
CLASSES = {
    c.__name__: c
    for c in (
        *(ParameterGraph, NodeGroup, EdgeBlock, ParameterView, LinkBlock, Via, Parameter, AccountEntry, Port),
        *(OpaqueOp, Problem),
    )
}


def rows(section: str) -> dict[str, str]:
    """First and second column of a section's table of the page, in order."""
    body = re.split(r"^#+ ", PAGE.split(f"{section}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    found = re.findall(r"^\| `([\w.]+)` \| (.*?) \|", body, flags=re.MULTILINE)
    assert found, section
    return dict(found)


SECTIONS = dict(re.findall(r"^### `(\w+)`: `(\w+)`$", PAGE, flags=re.MULTILINE))
FORMS = {name: rows(f"### `{name}`: `{of}`") for name, of in SECTIONS.items()}
FORMS |= {"constants": FORMS["parameters"], "outputs": FORMS["inputs"], "": rows("## Fields")}


def header(path: Path) -> dict[str, Any]:
    with safe_open(path, "np") as file:
        return json.loads(file.metadata()["gmnc"])


class Reader:
    """Reads a store by the tables of the page, with no other knowledge of the format."""

    def __init__(self, path: Path) -> None:
        self.tensors, self.tables = load_file(path), header(path)

    def field(self, name: str) -> list[dict[str, Any]]:
        return [self.entry(name, given) for given in self.tables[name]]

    def entry(self, section: str, given: Any) -> dict[str, Any]:
        """The fields of a row or an object, by name."""
        forms = FORMS[section]
        by_name = given if isinstance(given, dict) else dict(zip(forms, given, strict=True))
        assert list(by_name) == list(forms), section
        found = {name: self.value(name, form, by_name[name]) for name, form in forms.items() if form != "row"}
        for name in (n for n, form in forms.items() if form == "row"):
            part = self.entry(name, by_name[name])
            found |= {name: part} if name == "view" else part
        return found

    def value(self, name: str, form: str, given: Any) -> Any:
        if given is None:
            assert form.endswith("or null"), (name, form)
            return None
        if form.startswith("array"):
            pool = self.tensors[f"structure/{form.split()[1]}"]
            offset, stored, shape = given
            return np.broadcast_to(pool[offset : offset + int(np.prod(stored))].reshape(stored), shape)
        if form.startswith("list"):
            return tuple((n, plain(v)) for n, v in given) if "pairs" in form else tuple(given)
        assert isinstance(given, {"text": str, "integer": int, "boolean": bool}[form]), (name, form)
        return given


def plain(value: Any) -> Any:
    """A via's attribute."""
    if isinstance(value, list):
        return tuple(map(plain, value))
    return bytes.fromhex(value["bytes"]) if isinstance(value, dict) else value


def agree(read: Mapping[str, Any], given: Any) -> None:
    """What was read has the values of the graph's attributes of the same names."""
    for name, value in read.items():
        own = getattr(given, name)
        if isinstance(value, dict):
            agree(value, own)
        elif isinstance(value, np.ndarray):
            assert np.array_equal(value, own), name
        else:
            assert value == own, name


@pytest.mark.parametrize("path", [EVERY_FIELD, NETWORK], ids=lambda p: p.stem)
def test_the_page_suffices_to_read_a_store(path: Path) -> None:
    reader, graph = Reader(path), store.load(path)
    assert list(reader.tables) == list(FORMS[""])
    assert (reader.tables["version"], reader.tables["name"]) == (2, graph.name)
    for name in ("groups", "edges", "links", "vias", "account", "inputs", "outputs", "opaque", "unsupported"):
        read = reader.field(name)
        assert len(read) == len(getattr(graph, name))
        for entry, own in zip(read, getattr(graph, name), strict=True):
            agree(entry, own)
    for kind, own in (("parameter", graph.parameters), ("constant", graph.constants)):
        read = reader.field(f"{kind}s")
        assert [entry["name"] for entry in read] == list(own)
        for entry in read:
            agree(entry, own[entry["name"]])
            assert np.array_equal(reader.tensors[f"{kind}/{entry['name']}"], own[entry["name"]].load())
    paired = reader.value("paired", FORMS[""]["paired"], reader.tables["paired"])
    assert (paired is None) == (graph.paired is None)
    assert paired is None or np.array_equal(paired, graph.paired)
    assert np.array_equal(reader.tensors["structure/pinned"], graph.pinned)


def test_every_attribute_of_a_graph_has_a_row() -> None:
    """A field that is added to a class needs a row, with those that are stored or, and why, with those that are not."""
    stored = {"ParameterGraph": {*FORMS[""]} - {"version"}}
    for section, name in SECTIONS.items():
        parts = {field for field, form in FORMS[section].items() if form != "row" or field == "view"}
        stored[name] = stored.get(name, set()) | parts
    for attribute in rows("## Not stored"):
        name, _, field = attribute.partition(".")
        stored[name].add(field)
    assert stored.keys() == CLASSES.keys()
    for name, known in stored.items():
        assert {f.name for f in fields(CLASSES[name]) if f.init} == known, name


def test_the_page_is_of_this_version() -> None:
    assert f"describes **version {store.VERSION}**" in PAGE
    assert header(EVERY_FIELD)["version"] == header(NETWORK)["version"] == store.VERSION


def test_a_store_of_version_2_reads_as_the_graph_that_was_saved() -> None:
    """The file is never rewritten: a later version of gmnc reads it as this one did."""
    same(store.load(EVERY_FIELD), version_2())


def test_the_file_has_a_value_for_every_field() -> None:
    parts: dict[type, list[Any]] = {}
    graph = version_2()
    views = [block.view for block in graph.edges]
    for part in (*graph.groups, *graph.edges, *views, *graph.links, *graph.vias, *graph.opaque, *graph.unsupported):
        parts.setdefault(type(part), []).append(part)
    for kind, alike in parts.items():
        for field in fields(kind):
            values = [getattr(p, field.name) for p in alike]
            assert any(len(v) if isinstance(v, np.ndarray | tuple) else v for v in values if v is not None), field.name


def test_a_store_of_version_2_is_the_network_that_it_came_from() -> None:
    graph = store.load(NETWORK)
    initializers = {i.name: onnx.numpy_helper.to_array(i) for i in onnx.load(MODEL).graph.initializer}
    assert graph.parameters.keys() == initializers.keys()
    for name, value in initializers.items():
        assert graph.parameters[name].load().tobytes() == value.tobytes()
        assert graph.parameters[name].load().shape == value.shape
    # 3 x 2 x 9 + 3, four statistics of 3 channels, 3 x 3, 2 x 3 + 2
    assert (graph.num_parameters, graph.num_parameter_edges) == (86, 86)
    assert ([p.name for p in graph.inputs], [p.name for p in graph.outputs]) == (["x"], ["y"])
    assert isomorphic(graph, gmnc.compile(MODEL))


@pytest.mark.parametrize("path", [EVERY_FIELD, NETWORK], ids=lambda p: p.stem)
def test_what_is_written_today_is_what_was_written(path: Path, tmp_path: Path) -> None:
    """Otherwise the version has to rise, and the page, these files and what `load` says of version 2 with it."""
    store.save(store.load(path), tmp_path / "again.safetensors")
    assert header(tmp_path / "again.safetensors") == header(path)
    before, after = load_file(path), load_file(tmp_path / "again.safetensors")
    assert before.keys() == after.keys()
    for name, array in before.items():
        same(after[name], array)


def test_a_kind_of_node_that_this_version_lacks_is_named(tmp_path: Path) -> None:
    data = EVERY_FIELD.read_bytes()
    (tmp_path / "later.safetensors").write_bytes(data.replace(b'\\"neuron\\"', b'\\"zeuron\\"'))
    with pytest.raises(gmnc.GmncError, match="zeuron"):
        store.load(tmp_path / "later.safetensors")
