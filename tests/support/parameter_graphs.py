"""Small parameter graphs built by hand, and brute-force automorphisms of the fully expanded graph."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from gmnc.ir import GraphBuilder, Parameter, ParameterGraph, ParameterView, Port


class Net:
    """A `GraphBuilder` with one method per kind of layer; tensors hold their own flat element numbers."""

    def __init__(self) -> None:
        self.builder = GraphBuilder()

    def tensor(self, name: str, *shape: int) -> str:
        size = int(np.prod(shape))
        if name not in self.builder.parameters:
            data = np.arange(size, dtype=np.float32).reshape(shape)
            self.builder.parameters[name] = Parameter(name, shape, "float32", "initializer", lambda: data)
        return name

    def nodes(self, kind: str, size: int, value: str = "") -> np.ndarray:
        return self.builder.nodes(kind, size, value=value)

    def inputs(self, size: int) -> np.ndarray:
        ids = self.builder.nodes("input", size, value="x")
        self.builder.pin(ids)
        return ids

    def linear(self, src: np.ndarray, size: int, name: str, via: np.ndarray | int = 0, slots: int = 1) -> np.ndarray:
        """A dense layer onto new neurons: weight [size, len(src), slots]."""
        dst = self.nodes("neuron", size, name)
        self.dense(dst, src, name, via, slots)
        return dst

    def dense(self, dst: np.ndarray, src: np.ndarray, name: str, via: np.ndarray | int = 0, slots: int = 1) -> int:
        n, k = len(dst), len(src)
        self.tensor(name, n, k, slots)
        view = ParameterView(name, 0, (1, n, k, slots), (0, k * slots, slots, 1))
        return self.builder.add_edges(dst[None], src[None], view, "weight", via=via)

    def grouped(self, src: np.ndarray, size: int, groups: int, name: str, slots: int = 1) -> np.ndarray:
        """A grouped layer: weight [size, len(src) / groups, slots]."""
        dst = self.nodes("neuron", size, name)
        n, k = size // groups, len(src) // groups
        self.tensor(name, size, k, slots)
        view = ParameterView(name, 0, (groups, n, k, slots), (n * k * slots, k * slots, slots, 1))
        self.builder.add_edges(dst.reshape(groups, n), src.reshape(groups, k), view, "weight")
        return dst

    def attach(self, dst: np.ndarray, name: str, role: str = "bias", slots: int = 1, constant: bool = False) -> int:
        """A vector [len(dst), slots] from its param node."""
        n = len(dst)
        if constant:
            table = np.arange(n * slots, dtype=np.float32).reshape(n, slots) // (n // 2)
            self.builder.constants[name] = Parameter(name, (n, slots), "float32", "initializer", lambda: table)
        else:
            self.tensor(name, n, slots)
        source = np.broadcast_to(self.nodes("param", 1, name), (n, 1))
        view = ParameterView(name, 0, (n, 1, 1, slots), (slots, 0, 0, 1))
        return self.builder.add_edges(dst[:, None], source, view, role, constant=constant)

    def through(self, op: str, via: int = 0, blocks: tuple[int, ...] = ()) -> int:
        return self.builder.via(op, (), (via,), blocks)

    def join(self, *operands: np.ndarray, ordered: bool = False, kind: str = "join") -> np.ndarray:
        """One node per place, with a link from each operand."""
        dst = self.nodes(kind, len(operands[0]), kind)
        for place, src in enumerate(operands):
            operand = np.full(len(src), place) if ordered else None
            self.builder.add_links(dst, src, "shared" if kind == "join" else kind, operand=operand)
        return dst

    def reduce(self, members: np.ndarray, kind: str = "sum", role: str = "sum") -> np.ndarray:
        """One node per row of members, linked from all of the row."""
        dst = self.nodes(kind, len(members), kind)
        self.builder.add_links(np.repeat(dst, members.shape[1]), members, role)
        return dst

    def finish(self, outputs: np.ndarray, inputs: np.ndarray | None = None) -> ParameterGraph:
        self.builder.pin(outputs)
        ports = [Port("x", inputs, np.zeros(len(inputs), np.int32))] if inputs is not None else []
        return self.builder.finish("net", (), ports, [Port("y", outputs, np.zeros(len(outputs), np.int32))])


def mlp(*widths: int) -> ParameterGraph:
    net = Net()
    x = h = net.inputs(widths[0])
    for number, width in enumerate(widths[1:]):
        h = net.linear(h, width, f"w{number}", net.through("Relu") if number else 0)
        net.attach(h, f"b{number}")
    return net.finish(h, x)


def attention(heads: int, dims: int, table: bool = False) -> tuple[ParameterGraph, dict[str, np.ndarray]]:
    """Residual stream of 4, q, k, v, scores, values, output projection; a hub table shared by all heads if asked."""
    net = Net()
    x = net.inputs(3)
    stream = net.linear(x, 4, "embed")
    q, k, v = (net.linear(stream, heads * dims, name) for name in "qkv")
    if table:
        hubs = net.nodes("hub", dims)
        net.attach(hubs, "table", slots=3)
        for side in (q, k):
            net.builder.add_links(side, np.tile(hubs, heads), "hub")
    products = net.join(q, k, ordered=True, kind="product")
    scores = net.reduce(products.reshape(heads, dims))
    values = net.join(np.repeat(scores, dims), v, ordered=True, kind="product")
    out = net.linear(values, 4, "o")
    joined = net.join(stream, out)
    return net.finish(net.linear(joined, 2, "head"), x), {"stream": stream, "q": q, "k": k, "v": v, "out": out}


def expanded(graph: ParameterGraph) -> tuple[list[Hashable], list[list[tuple[Hashable, int]]]]:
    """(colour, labelled neighbours) per vertex: nodes first, then one vertex per edge, link and parameter element."""
    fixed = graph.pinned.copy()
    for port in (*graph.inputs, *graph.outputs):
        fixed[port.nodes] = True
    colour: list[Hashable] = []
    for group in graph.groups:
        colour += [(group.kind, i if fixed[i] else -1) for i in range(group.start, group.stop)]
    near: list[list[tuple[Hashable, int]]] = [[] for _ in colour]
    element: dict[tuple[str, int], int] = {}

    def vertex(label: Hashable, *ends: tuple[Hashable, int]) -> int:
        number = len(colour)
        colour.append(label)
        near.append([])
        for name, end in ends:
            near[number].append((name, end))
            near[end].append((("of", name), number))
        return number

    for block in graph.edges:
        values, elements = graph.values(block), block.view.elements()
        for b, n, k, s in np.ndindex(block.shape):
            ports = list(zip(block.src[b].tolist(), block.via[b].tolist(), strict=True))
            place = ports[:k].count(ports[k]), block.dst[b].tolist()[:n].count(block.dst[b, n])
            label = ("edge", block.role, *tuple(block.slots[s].tolist()), int(block.via[b, k]), place)
            ends = [("src", int(block.src[b, k])), ("dst", int(block.dst[b, n]))]
            if block.constant:
                vertex((*label, float(values[b, n, k, s])), *ends)
                continue
            key = block.view.name, int(elements[b, n, k, s])
            if key not in element:
                element[key] = vertex("element")
            vertex(label, *ends, ("value", element[key]))
    for link in graph.links:
        for i in range(link.size):
            slot = () if link.slot is None else tuple(link.slot[i].tolist())
            operand = -1 if link.operand is None else int(link.operand[i])
            label = ("link", link.role, int(link.via[i]), operand, slot)
            vertex(label, ("src", int(link.src[i])), ("dst", int(link.dst[i])))
    return colour, near


def brute_orbits(graph: ParameterGraph) -> list[list[int]]:
    """Node orbits (more than one node) of the full automorphism group, by refinement and backtracking."""
    colour, near = expanded(graph)
    base = _refine([_number(colour)], near)[0]
    nodes = range(graph.num_nodes)
    orbits: list[list[int]] = []
    for node in nodes:
        for orbit in orbits:
            if base[orbit[0]] == base[node] and _maps(base, near, [(orbit[0], node)]):
                orbit.append(node)
                break
        else:
            orbits.append([node])
    return [o for o in orbits if len(o) > 1]


def _maps(base: list[int], near: list[list[tuple[Hashable, int]]], chosen: Sequence[tuple[int, int]]) -> bool:
    """Whether an automorphism takes each first of `chosen` to its second."""
    sides = [list(base), list(base)]
    for number, pair in enumerate(chosen):
        for side, vertex in zip(sides, pair, strict=True):
            side[vertex] = -1 - number
    left, right = _refine(sides, near)
    if sorted(left) != sorted(right):
        return False
    cells: dict[int, list[int]] = {}
    for v, c in enumerate(left):
        cells.setdefault(c, []).append(v)
    open_cells = [(c, vs) for c, vs in cells.items() if len(vs) > 1]
    if not open_cells:
        image = {c: v for v, c in enumerate(right)}
        sigma = [image[c] for c in left]
        return all(
            sorted(((repr(name), sigma[u]) for name, u in near[v]))
            == sorted((repr(name), u) for name, u in near[sigma[v]])
            for v in range(len(left))
        )
    cell, members = min(open_cells, key=lambda item: len(item[1]))
    targets = [v for v, c in enumerate(right) if c == cell]
    return any(_maps(base, near, [*chosen, (members[0], t)]) for t in targets)


def _refine(sides: Sequence[list], near: list[list[tuple[Hashable, int]]]) -> list[list[int]]:
    """Colour refinement of several colourings of one graph with one numbering."""
    names: dict[Hashable, int] = {}
    edges = [[(names.setdefault(name, len(names)), u) for name, u in row] for row in near]
    classes = -1
    while True:
        found = len({c for side in sides for c in side})
        if found == classes:
            return [list(side) for side in sides]
        classes = found
        known: dict[Hashable, int] = {}
        sides = [
            [
                known.setdefault((c, tuple(sorted((n, side[u]) for n, u in row))), len(known))
                for c, row in zip(side, edges, strict=True)
            ]
            for side in sides
        ]


def _number(colours: list[Hashable]) -> list[int]:
    known: dict[Hashable, int] = {}
    return [known.setdefault(c, len(known)) for c in colours]


def random_graph(rng: np.random.Generator) -> ParameterGraph:
    """A random small network of dense and grouped layers, residuals, heads, scopes, hubs, tied weights and branches."""
    net = Net()
    x = net.inputs(2)
    stream = net.linear(x, 4, "stem")
    steps = ("dense", "grouped", "residual", "heads", "scope", "hub", "tied", "branches", "attach", "flatten")
    for number, step in enumerate(rng.choice(steps, 3)):
        stream = _extend(net, stream, str(step), f"{step}{number}", rng)
    return net.finish(net.linear(stream, 2, "head"), x)


def _extend(net: Net, stream: np.ndarray, step: str, name: str, rng: np.random.Generator) -> np.ndarray:
    via = net.through(str(rng.choice(["Relu", "Gelu"])))
    match step:
        case "dense":
            return net.linear(stream, 4, name, via)
        case "grouped":
            return net.grouped(stream, 4, int(rng.choice([2, 4])), name, 2)
        case "residual":
            return net.join(stream, net.linear(net.linear(stream, 2, name + "u", via), 4, name + "d"))
        case "heads":
            q, k = (net.linear(stream, 4, name + c) for c in "qk")
            scores = net.reduce(net.join(q, k, ordered=True, kind="product").reshape(2, 2))
            return net.linear(scores, 4, name)
        case "scope":
            net.reduce(rng.permutation(stream).reshape(2, 2), "reduce", "scope")
        case "hub":
            hubs = net.nodes("hub", 2, name)
            net.attach(hubs, name)
            net.builder.add_links(stream, np.tile(hubs, 2), "hub")
        case "tied":
            net.attach(stream, "shared")
            stream = net.linear(stream, 4, name, via)
            net.attach(stream, "shared")
        case "branches":
            return net.join(*(net.linear(stream, 4, name + c, via) for c in "ab"))
        case "attach":
            net.attach(stream, name, slots=2, constant=bool(rng.random() < 0.4))
        case "flatten":
            return net.linear(np.tile(stream, 2), 4, name, via)
    return stream
