"""Every implementation of `edge_update` against the reference in float64: outputs, gradients, odd shapes, dtypes."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
from support.kernel_cases import KERNELS, LARGE, SHAPES, device_of, layout, placed, terms
from support.tiers import first, some
from torch._subclasses.fake_tensor import FakeTensorMode

from gmnc.kernels import COLUMN, COLUMNS, Layout, Terms, block_table, cpu, edge_update, register, schedule, update
from gmnc.kernels.update import _FUSED

NODES, TYPES = 19, 5
OTHERS = KERNELS[1:]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 32 edges on the CPU; strips of 16 columns and 4 rows in Triton, and sums of more than 8 in two steps."""
    monkeypatch.setattr(cpu, "TILE", 32)
    monkeypatch.setattr(schedule, "LONGEST", 8)
    if find_spec("triton"):
        from gmnc.kernels import triton

        for key, row in triton.TUNING.items():
            monkeypatch.setitem(triton.TUNING, key, row._replace(geometry=schedule.Geometry(16, 4, 2)))


def run(
    kernel: str, where: Layout, e: torch.Tensor, with_terms: Terms, residual: bool = False, activation: str = "silu"
) -> list[torch.Tensor]:
    """Outputs and the gradients of all inputs, for a fixed random weighting of the outputs."""
    device = device_of(kernel)
    moved = Terms(*(t.to(device) for t in with_terms))
    outputs = edge_update(
        e.to(device), moved, where.to(device), activation=activation, residual=residual, kernel=kernel
    )
    outputs = [o.cpu() for o in outputs]
    rng = torch.Generator().manual_seed(7)
    loss = sum((o.double() * torch.randn(o.shape, generator=rng, dtype=torch.float64)).sum() for o in outputs)
    gradients = torch.autograd.grad(loss, [e, *with_terms], allow_unused=True)
    given = (torch.zeros_like(x) if g is None else g for g, x in zip(gradients, [e, *with_terms], strict=True))
    return [*(o.detach() for o in outputs), *given]


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> bool:
    scale = expected.abs().max().item() if expected.numel() else 0.0
    return bool((found.double() - expected.double()).abs().max().item() <= tolerance * max(scale, 1)) if scale else True


def agrees(kernel: str, shapes: list[tuple[int, int, int, int]], d: int, residual: bool) -> None:
    where, rows = layout(shapes, NODES, TYPES)
    e = torch.randn(rows, d, dtype=torch.float64, requires_grad=True)
    with_terms = terms(NODES, TYPES, d, 8, d if residual else 3, torch.float64)
    expected = run("reference", where, e, with_terms, residual)
    for found, wanted in zip(run(kernel, where, e, with_terms, residual), expected, strict=True):
        assert found.shape == wanted.shape
        assert close(found, wanted, 1e-11)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("kernel", OTHERS)
@pytest.mark.parametrize("shapes", some(["convolution", "empty", "several"], SHAPES))
@pytest.mark.parametrize(("d", "residual"), some([(6, True)], [(1, False), (6, True)]))
def test_agrees_with_the_reference(kernel: str, shapes: str, d: int, residual: bool) -> None:
    agrees(kernel, SHAPES[shapes], d, residual)


@pytest.mark.parametrize("kernel", OTHERS)
@pytest.mark.parametrize("shapes", LARGE)
@pytest.mark.parametrize(("d", "residual"), [(1, False), (6, True)])
def test_agrees_with_the_reference_where_tiles_are_full(kernel: str, shapes: str, d: int, residual: bool) -> None:
    if kernel == "triton" and not torch.cuda.is_available():
        pytest.skip("minutes in the interpreter, which has the same shapes with small tiles")
    agrees(kernel, LARGE[shapes], d, residual)


def test_small_tiles_are_exceeded_in_every_direction(small_tiles: None) -> None:
    """Strips, runs of rows, batch entries and flat runs, of the Triton kernel; columns, rows and slots on the CPU."""
    layouts = [layout(shapes, NODES, TYPES)[0] for shapes in SHAPES.values()]
    geometry = schedule.Geometry(16, 4, 2)
    pieces = [piece for where in layouts for piece in schedule.schedule(where, NODES, TYPES, geometry)]
    dense, flat = (torch.cat([getattr(piece, name) for piece in pieces]) for name in ("dense", "flat"))
    assert (dense[:, 1:4].amax(0) > 0).all()
    assert flat[:, 1].max() >= 32
    assert any(len(sums.starts) > len(sums.targets) for piece in pieces for sums in (piece.dst, piece.src, piece.type))
    boxes = [tile for where in layouts for block in where for _, tiles in cpu._tiles(block) for tile in tiles]
    for axis in range(4):
        assert max(tile[axis].start for tile in boxes) > 0


@pytest.mark.parametrize("kernel", OTHERS)
@pytest.mark.parametrize("state", [torch.float32, torch.bfloat16, torch.float16])
def test_lower_precision_stays_near(kernel: str, state: torch.dtype) -> None:
    where, rows = layout(SHAPES["several"], NODES, TYPES)
    e = torch.randn(rows, 4, dtype=torch.float64).to(state).requires_grad_()
    with_terms = terms(NODES, TYPES, 4, 8, 4, torch.float32)
    exact = [t.detach().double().requires_grad_() for t in (e, *with_terms)]
    expected = run("reference", where, exact[0], Terms(*exact[1:]), residual=True)
    found = run(kernel, where, e, with_terms, residual=True)
    assert found[0].dtype == state
    for one, wanted in zip(found, expected, strict=True):
        assert close(one, wanted, TOLERANCE[state])


@pytest.mark.parametrize("kernel", OTHERS)
@pytest.mark.parametrize("activation", ["relu", "silu", "tanh"])
def test_activations(kernel: str, activation: str) -> None:
    where, rows = layout(SHAPES["several"], NODES, TYPES)
    e = torch.randn(rows, 4, dtype=torch.float64, requires_grad=True)
    with_terms = terms(NODES, TYPES, 4, 8, 3, torch.float64)
    expected = run("reference", where, e, with_terms, activation=activation)
    for found, wanted in zip(run(kernel, where, e, with_terms, activation=activation), expected, strict=True):
        assert close(found, wanted, 1e-11)


@pytest.mark.parametrize("kernel", KERNELS)
def test_gradcheck(kernel: str) -> None:
    where, rows = layout([(2, 2, 3, 2), (2, 1, 1, 1), (1, 2, 2, 1), (1, 3, 1, 1)], 6, 3)
    e = torch.randn(rows, 2, dtype=torch.float64, requires_grad=True)
    where, e, with_terms = placed(kernel, where, e, terms(6, 3, 2, 4, 2, torch.float64))

    def update(e: torch.Tensor, *inner: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return edge_update(e, Terms(*inner), where, activation="tanh", residual=True, kernel=kernel)

    # Interpreted kernels are slow: their Jacobian is checked in random directions only, and gradients that are not
    # given, which the operation fills in before any kernel, are left to the cpu kernel.
    slow = kernel == "triton" and not torch.cuda.is_available()
    inputs = (e, *with_terms)
    assert torch.autograd.gradcheck(update, inputs, fast_mode=slow, check_undefined_grad=not slow)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("kernel", first(1, ["cpu", KERNELS[-1]]))
def test_the_operations_follow_the_rules_of_custom_operations(kernel: str) -> None:
    where, rows = layout([(1, 3, 4, 1), (3, 1, 1, 1), (1, 4, 33, 1)], NODES, TYPES)
    e = torch.randn(rows, 4, requires_grad=True)
    where, e, inner = placed(kernel, where, e, terms(NODES, TYPES, 4, 8, 4, torch.float32))
    tensors, numbers = _FUSED[kernel].plan(e, inner, where)
    tables = [where.blocks, where.scale, where.dst, where.src, where.types, *tensors]
    options = ([where.edges, *numbers], "relu", True)
    forward, backward = torch.ops.gmnc.edge_update.default, torch.ops.gmnc.edge_update_backward.default
    torch.library.opcheck(forward, (e, *inner, tables, *options, torch.float32, kernel))
    grads = [torch.randn_like(t) for t in edge_update(e, inner, where, residual=True, kernel=kernel)]
    given = [t.detach() for t in (e, *inner)]
    # The gradient of a gradient is refused, so it is not traced.
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(backward, (grads, given, tables, *options, kernel, True), test_utils=checks)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fake_tensors_have_the_shapes_types_and_strides_of_real_ones(kernel: str, dtype: torch.dtype) -> None:
    where, rows = layout([(1, 3, 4, 1), (3, 1, 1, 1)], NODES, TYPES)
    where, e, inner = placed(kernel, where, torch.randn(rows, 4).to(dtype), terms(NODES, TYPES, 4, 8, 3, torch.float32))
    real = edge_update(e, inner, where, kernel=kernel)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = edge_update(mode.from_tensor(e), Terms(*map(mode.from_tensor, inner)), where, kernel=kernel)
    for one, other in zip(fake, real, strict=True):
        assert (one.shape, one.dtype, one.stride()) == (other.shape, other.dtype, other.stride())


@pytest.mark.parametrize("kernel", KERNELS)
def test_is_compiled_as_one_graph(kernel: str) -> None:
    """Once a layout has been used; before that, the graph breaks where tables are made."""
    where, rows = layout([(1, 3, 4, 1), (3, 1, 1, 1)], NODES, TYPES)
    e = torch.randn(rows, 4, dtype=torch.float64, requires_grad=True)
    where, e, with_terms = placed(kernel, where, e, terms(NODES, TYPES, 4, 8, 4, torch.float64))

    def update(e: torch.Tensor, *inner: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return edge_update(e, Terms(*inner), where, residual=True, kernel=kernel)

    torch._dynamo.reset()
    expected = update(e, *with_terms)
    found = torch.compile(update, fullgraph=True, backend="aot_eager")(e, *with_terms)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    gradients = [
        torch.autograd.grad(sum(o.square().sum() for o in outputs), [e, *with_terms]) for outputs in (found, expected)
    ]
    assert all(close(a, b, 1e-12) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("kernel", KERNELS)
def test_tensors_may_be_parts_of_others(kernel: str) -> None:
    """Ids and states that stand in a larger tensor, or whose rows are not contiguous."""
    where, rows = layout([(2, 2, 3, 2), (4, 1, 1, 1), (1, 2, 2, 1)], NODES, TYPES)
    e = torch.randn(rows, 4, dtype=torch.float64)
    with_terms = terms(NODES, TYPES, 4, 8, 4, torch.float64)
    expected = run("reference", where, e.requires_grad_(), with_terms)
    inside = {
        f: torch.cat([t.new_full((5,), 999), t])[5:] for f in ("dst", "src", "types") for t in [getattr(where, f)]
    }
    larger = torch.cat([torch.full((3, 4), torch.nan, dtype=torch.float64), e.detach()])
    for part in (larger[3:], torch.cat([larger, larger], dim=1)[3:, :4]):
        found = run(kernel, replace(where, **inside), part.requires_grad_(), with_terms)
        assert all(close(a, b, 1e-11) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("kernel", [k for k in KERNELS if k in ("cpu", "flat")] + KERNELS[-1:])
def test_sums_are_the_same_bits_every_time(kernel: str) -> None:
    where, rows = layout(SHAPES["several"], 4, TYPES)
    e = torch.randn(rows, 8, requires_grad=True)
    with_terms = terms(4, TYPES, 8, 16, 8, torch.float32)
    first = run(kernel, where, e, with_terms)
    for _ in range(3):
        assert all(torch.equal(a, b) for a, b in zip(first, run(kernel, where, e, with_terms), strict=True))


def test_columns_have_the_names_of_a_block() -> None:
    """What every implementation reads a row of the table by."""
    where, _ = layout(SHAPES["several"], NODES, TYPES)
    assert where.blocks.shape == (len(SHAPES["several"]), len(COLUMNS))
    assert sorted(getattr(COLUMN, name) for name in COLUMNS) == list(range(len(COLUMNS)))
    for row, block in zip(where.blocks.tolist(), where, strict=True):
        assert {name: row[getattr(COLUMN, name)] for name in COLUMNS} == {n: getattr(block, n) for n in COLUMNS}
    assert torch.equal(block_table(list(where)), where.blocks)


def test_side_by_side() -> None:
    """Two layouts as one give what each gives alone."""
    parts = [layout(SHAPES[name], NODES, TYPES, seed) for seed, name in enumerate(("several", "grouped"))]
    states = [torch.randn(rows, 3, dtype=torch.float64) for _, rows in parts]
    own = [terms(NODES, TYPES, 3, 4, 3, torch.float64, seed) for seed in range(2)]
    second = parts[1][0].blocks.clone()
    second[:, COLUMN.value] += parts[0][1]
    both = Layout.concatenate([(parts[0][0], NODES, TYPES), (replace(parts[1][0], blocks=second), NODES, TYPES)])
    shared = own[0]._replace(**{f: torch.cat([getattr(t, f) for t in own]) for f in ("dst", "src", "type")})
    joined = edge_update(torch.cat(states), shared, both, kernel="reference")
    alone = [
        edge_update(e, t._replace(w_in=own[0].w_in, w_out=own[0].w_out, b_out=own[0].b_out), where, kernel="reference")
        for e, t, (where, _) in zip(states, own, parts, strict=True)
    ]
    for i, found in enumerate(joined):
        assert torch.allclose(found, torch.cat([outputs[i] for outputs in alone]))


def test_wrong_use_is_an_error() -> None:
    where, rows = layout(SHAPES["dense"], NODES, TYPES)
    e, good = torch.randn(rows, 4), terms(NODES, TYPES, 4, 8, 3, torch.float32)
    with pytest.raises(ValueError, match="unknown kernel 'fast'"):
        edge_update(e, good, where, kernel="fast")
    with pytest.raises(ValueError, match="unknown activation 'sign'"):
        edge_update(e, good, where, activation="sign")
    with pytest.raises(ValueError, match="do not fit w_in"):
        edge_update(e[:, :3], good, where)
    with pytest.raises(ValueError, match="a residual needs"):
        edge_update(e, good, where, residual=True)


def test_many_blocks_of_few_edges_go_edge_by_edge_on_any_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told by a tensor that says of itself that it is a GPU's, which is all that the choice looks at."""
    few, many = (layout([shape], NODES, TYPES)[0] for shape in ((1, 3, 4, 1), (1, 64, 64, 1)))
    given = terms(NODES, TYPES, 4, 8, 4, torch.float32)
    on_gpu = SimpleNamespace(is_cuda=True, dtype=torch.float32)
    monkeypatch.setitem(_FUSED, "triton", _FUSED["cpu"])
    monkeypatch.setattr(update, "_triton", lambda: SimpleNamespace(fits=lambda *_: True))
    found = [update._choose("auto", e, given, where) for e in (on_gpu, torch.zeros(1)) for where in (few, many)]
    assert found == ["flat", "triton", "flat", "cpu"]


def test_an_implementation_can_be_added() -> None:
    from gmnc.kernels.reference import forward

    register("mine", forward)
    where, rows = layout(SHAPES["dense"], NODES, TYPES)
    e, good = torch.randn(rows, 4), terms(NODES, TYPES, 4, 8, 3, torch.float32)
    found, expected = (edge_update(e, good, where, kernel=k) for k in ("mine", "reference"))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("first", [False, True])
def test_what_each_edge_reads_is_that_of_its_block(first: bool) -> None:
    where, _ = layout(SHAPES["several"] + SHAPES["grouped"] + SHAPES["empty"], NODES, TYPES)
    if first:
        # what the dense layout takes over must be what it would find itself
        assert where.per_edge
    for one in (where, where.dense):
        dst, src, types, rows, number = one.per_edge
        for at, block in enumerate(one):
            own = slice(block.edge, block.edge + block.size)
            ends = [t.long() for t in one.ids(block)]
            expected = (ends[0][:, :, None, None], ends[1][:, None, :, None], ends[2][:, None])
            for found, wanted in zip((dst, src, types), expected, strict=True):
                assert torch.equal(found[own], wanted.expand(block.shape).reshape(-1))
            grid = [torch.arange(n) * step for n, step in zip(block.shape, block.strides, strict=True)]
            wanted = block.value + sum(torch.meshgrid(*grid, indexing="ij"))
            assert torch.equal(rows[own], wanted.reshape(-1))
            assert (number[own] == at).all()
