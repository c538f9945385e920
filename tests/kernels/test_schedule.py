"""The tables of the fused kernel: every edge is done once, sums are complete, memory traffic is near the floor."""

from __future__ import annotations

import itertools
import sys

import pytest
import torch
from support.kernel_cases import LARGE, SHAPES, layout, placed, terms
from support.paths import BENCHMARKS

from gmnc.kernels import Layout, edge_update, schedule
from gmnc.kernels.schedule import DenseTask, FlatTask, Geometry, Launch, Sums

NODES, TYPES = 19, 5
SMALL = Geometry(columns=16, rows=3, tiles=2)


def edges_of(launches: list[Launch], where: Layout, geometry: Geometry) -> list[int]:
    """Rows of the edges that the programs go through, in their order."""
    blocks, found = list(where), []
    for launch in launches:
        for task in map(DenseTask._make, launch.dense.tolist()):
            block = blocks[task.block]
            width = block.k * block.s
            for n in range(task.row, min(task.row + geometry.rows, block.n)):
                start = block.edge + (task.entry * block.n + n) * width
                found += range(start + task.column, start + min(task.column + geometry.columns, width))
        for task in map(FlatTask._make, launch.flat.tolist()):
            start = blocks[task.block].edge + task.first
            found += range(start, start + task.edges)
    return found


def added_up(sums: Sums, values: torch.Tensor) -> torch.Tensor:
    """What the two steps give."""
    order, starts, targets = (t.tolist() for t in sums)
    runs = [values[order[a:b]].sum() for a, b in itertools.pairwise(starts)]
    return torch.stack([sum(runs[a:b], values.new_zeros(())) for a, b in itertools.pairwise(targets)])


@pytest.mark.parametrize("shapes", [*SHAPES.values(), *LARGE.values()])
def test_every_edge_is_in_one_program(shapes: list[tuple[int, int, int, int]]) -> None:
    where, _ = layout(shapes, NODES, TYPES)
    launches = schedule.schedule(where, NODES, TYPES, SMALL)
    assert sorted(edges_of(launches, where, SMALL)) == list(range(where.edges))


@pytest.mark.parametrize("longest", [2, 1000])
def test_sums_are_complete(monkeypatch: pytest.MonkeyPatch, longest: int) -> None:
    """With a partial sum of 1 for each edge it covers, targets get the number of their edges."""
    monkeypatch.setattr(schedule, "LONGEST", longest)
    where, _ = layout(SHAPES["several"] + SHAPES["two runs"], NODES, TYPES)
    (launch,) = schedule.schedule(where, NODES, TYPES, SMALL)
    rows, columns = torch.zeros(launch.parts), torch.zeros(launch.parts)
    blocks = list(where)
    for task in map(DenseTask._make, launch.dense.tolist()):
        block = blocks[task.block]
        down = min(task.row + SMALL.rows, block.n) - task.row
        across = min(task.column + SMALL.columns, block.k * block.s) - task.column
        rows[task.row_sums : task.row_sums + down] += across
        columns[task.column_sums : task.column_sums + across] += down
    for task in map(FlatTask._make, launch.flat.tolist()):
        rows[task.sums : task.sums + task.edges] += 1
        columns[task.sums : task.sums + task.edges] += 1
    dst, src, types, *_ = where.per_edge
    for sums, values, ids in ((launch.dst, rows, dst), (launch.src, columns, src), (launch.type, columns, types)):
        count = TYPES if ids is types else NODES
        assert added_up(sums, values).tolist() == torch.bincount(ids, minlength=count).tolist()


@pytest.mark.full
@pytest.mark.parametrize(("flat", "longest"), [(50, 1000), (1000, 3)])
def test_many_launches_and_long_sums(monkeypatch: pytest.MonkeyPatch, flat: int, longest: int) -> None:
    pytest.importorskip("triton", reason="no triton")
    monkeypatch.setattr(schedule, "MOST_FLAT", flat)
    monkeypatch.setattr(schedule, "LONGEST", longest)
    where, rows = layout(SHAPES["several"] + SHAPES["two runs"], NODES, TYPES)
    e = torch.randn(rows, 3, dtype=torch.float64, requires_grad=True)
    given = terms(NODES, TYPES, 3, 4, 3, torch.float64)
    results = []
    for kernel in ("reference", "triton"):
        there, state, moved = placed(kernel, where, e, given)
        outputs = edge_update(state, moved, there, residual=True, activation="tanh", kernel=kernel)
        gradients = torch.autograd.grad([o.square().sum() for o in outputs], [state, *moved])
        results.append([t.cpu() for t in (*outputs, *gradients)])
    assert all(torch.allclose(a, b, rtol=1e-10, atol=1e-10) for a, b in zip(*results, strict=True))
    launches = schedule.schedule(where, NODES, TYPES, SMALL)
    assert len(launches) == (1 if flat == 1000 else 3)


def test_traffic_of_a_resnet50_is_near_the_floor() -> None:
    """Bytes of partial sums, written once and read once or twice, against 2 and 3 passes over the edge state."""
    sys.path.append(str(BENCHMARKS))
    from layouts import NETWORKS

    from gmnc.kernels.triton import TUNING

    net = NETWORKS["resnet50"]()
    where = net.layout()
    (launch,) = schedule.schedule(where, net.nodes, net.types, TUNING["bfloat16", 64].geometry)
    state, number = 64 * 2, 64 * 4
    one_pass = where.edges * state
    read = [len(s.order) * number for s in (launch.dst, launch.src, launch.type)]
    forward = 2 * one_pass + launch.parts * number + sum(read[:2])
    programs = len(launch.dense) + len(launch.flat)
    backward = 3 * one_pass + launch.parts * number + sum(read) + 2 * programs * 2 * 64 * 64 * 4
    assert forward < 1.1 * 2 * one_pass
    assert forward + backward < 1.12 * 5 * one_pass
