"""Networks that hold pictures and sines: fitting, rendering, editing, embedding, and the files of all that."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import gmnc
from gmnc.backends.blocks import blocks
from gmnc.backends.onnx import write
from gmnc.cli import app
from gmnc.ir import GmncError
from gmnc.metanets import metanetwork
from gmnc.tasks import inr_edit, inr_ssl
from gmnc.tasks.experiment import Settings, run
from gmnc.tasks.images import SIZE
from gmnc.tasks.members import Zoo
from gmnc.tasks.neural_fields import DigitSirens, SineSirens, pixels, sine_points
from gmnc.tasks.population import Population, Standardiser
from gmnc.tasks.probes import Probes
from gmnc.tasks.siren import FitOptions, Siren, fit, initial_values, pixel_grid, render
from gmnc.tasks.training import Options
from gmnc.tasks.zoo import Member, make_zoo

SMALL = Siren((2, 6, 5, 1), 5.0)
GMN = {"hidden_channels": 16, "num_layers": 2, "value_features": 4}


def rendered(path: Path, points: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"points": points.numpy()})[0]


@cache
def pictures() -> list[Member]:
    return list(DigitSirens().members(0, range(64)))


@cache
def sines() -> list[Member]:
    return list(SineSirens().members(0, range(32)))


class FakeZoo:
    """As `gmnc.tasks.members.Zoo`."""

    def __init__(self, made: list[Member], folder: Path) -> None:
        self.folder = folder
        self.table = {name: np.array([m.row[name] for m in made]) for name in made[0].row}
        self.table["file"] = np.array([f"{number}.onnx" for number in range(len(made))])
        self.members = members(made)
        for file, member in zip(self.table["file"], made, strict=True):
            write(member.graph, member.values, folder / str(file))


def members(made: list[Member]) -> list[gmnc.backends.blocks.Blocks]:
    like = blocks(made[0].graph)
    return [like.with_values(member.values) for member in made]


def random_population(count: int = 3) -> Population:
    values = initial_values(SMALL, [(number,) for number in range(count)])
    like = blocks(gmnc.compile(SMALL.onnx()))
    return Population([like.with_values({n: v[i] for n, v in values.items()}) for i in range(count)])


def test_a_file_computes_what_is_rendered(tmp_path: Path) -> None:
    values = initial_values(SMALL, [(0,), (1,)])
    found = render(values, pixel_grid(SIZE))
    for number in range(2):
        write(gmnc.compile(SMALL.onnx()), {n: v[number].numpy() for n, v in values.items()}, tmp_path / "a.onnx")
        np.testing.assert_allclose(rendered(tmp_path / "a.onnx", pixel_grid(SIZE)), found[number].numpy(), atol=1e-5)
    assert not torch.allclose(found[0], found[1], atol=0.01)


def test_the_grid_goes_row_by_row() -> None:
    assert pixel_grid(2).tolist() == [[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]]


def test_networks_are_fitted_apart_from_one_another() -> None:
    begin = initial_values(SMALL, [(number,) for number in range(3)])
    targets = torch.stack([(i * pixel_grid(8)).sum(1, keepdim=True) for i in (0.2, 0.5, -0.5)])
    how = FitOptions(60, 0.02)
    together, errors = fit(SMALL, begin, pixel_grid(8), targets, how)
    alone, error = fit(SMALL, {n: v[1:2] for n, v in begin.items()}, pixel_grid(8), targets[1:2], how)
    for name, value in alone.items():
        torch.testing.assert_close(value[0], together[name][1], rtol=1e-3, atol=1e-3)
    before = (render(begin, pixel_grid(8)) - targets).square().mean((1, 2))
    assert (errors < before / 10).all()
    assert float(error[0]) == pytest.approx(float(errors[1]), rel=0.05, abs=1e-5)


def test_members_hold_their_pictures() -> None:
    population = Population(members(pictures()))
    seen = render(population.tensors(population.values), pixel_grid(SIZE))[..., 0].numpy()
    images = pixels()[0]
    for member, picture in zip(pictures(), seen, strict=True):
        wanted = images[int(member.row["image"])]
        assert float(np.mean((picture - wanted) ** 2)) == pytest.approx(float(member.row["mse"]), rel=0.01, abs=1e-6)
        assert float(member.row["psnr"]) > 25
    assert len({member.row["image"] for member in pictures()}) == 64
    assert images.min() == -1
    assert images.max() <= 1


def test_members_hold_their_sines_two_of_each() -> None:
    population = Population(members(sines()))
    seen = render(population.tensors(population.values), sine_points())[..., 0].double()
    for number, member in enumerate(sines()):
        wanted = float(member.row["a"]) * torch.sin(float(member.row["b"]) * sine_points()[:, 0].double())
        assert float((seen[number] - wanted).square().mean()) < 0.02
        assert member.row["function"] == number // 2
    assert not torch.allclose(population.values[0], population.values[1], atol=0.1)


def test_a_member_does_not_depend_on_which_others_are_asked_for() -> None:
    (again,) = SineSirens().members(0, [5])
    assert again.row == sines()[5].row
    for name, value in again.values.items():
        assert np.array_equal(value, sines()[5].values[name])


@pytest.mark.full
def test_a_zoo_on_disk_holds_the_same_members(tmp_path: Path) -> None:
    assert make_zoo(tmp_path / "zoo", 4, kind="sine") == 4
    assert make_zoo(tmp_path / "zoo", 4, kind="sine") == 0
    zoo = Zoo.open(tmp_path / "zoo")
    assert zoo.table["function"].tolist() == [0, 0, 1, 1]
    for number, member in enumerate(sines()[:4]):
        assert float(zoo.table["a"][number]) == member.row["a"]
        for name, value in zoo.values(number).items():
            assert np.array_equal(value, member.values[name])
    train = ["train", "inr-ssl", "--zoo", str(zoo.folder), "--out", str(tmp_path / "run")]
    for more, message in (
        (["--split", "tenth"], "inr-ssl has only the split full"),
        (["--examples", "2"], "inr-ssl trains on all members"),
        (["--probes", "2"], "inr-ssl has none; choose accuracy"),
        (["--model", "none"], "inr-ssl has none; choose accuracy"),
    ):
        refused = CliRunner().invoke(app, [*train, *more])
        assert refused.exit_code == 2
        assert message in refused.output


def test_values_of_a_population_and_their_blocks_agree() -> None:
    population = random_population()
    made = population.blocks(population.values)
    assert torch.equal(made.values, population.values.reshape(-1))
    # Each edge says which value it reads: what a head says of edges comes back at that value.
    edges = made.rows()[made.layout.per_edge.row]
    found = population.per_value(population.values, edges)[..., 0]
    assert torch.equal(found[:, 1:], population.values[:, 1:])
    assert not found[:, 0].any()


@pytest.mark.parametrize("small", [True, False])
def test_per_value_is_the_same_for_few_and_for_many_edges(small: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made = random_population().blocks(random_population().values)
    edges = torch.randn(made.num_edges, 3, generator=torch.manual_seed(0))
    monkeypatch.setattr(type(made.layout), "small", small)
    found = made.per_parameter(edges)
    at = 0
    for own in found:
        for tensor in own.values():
            torch.testing.assert_close(tensor.reshape(-1, 3), edges[at : at + tensor[..., 0].numel()])
            at += tensor[..., 0].numel()
    assert at == made.num_edges


def test_dilation_is_the_greatest_of_nine() -> None:
    picture = torch.full((1, SIZE, SIZE), -1.0)
    picture[0, 0, 5] = picture[0, 8, 8] = 1.0
    wanted = torch.full((1, SIZE, SIZE), -1.0)
    wanted[0, 0:2, 4:7] = wanted[0, 7:10, 7:10] = 1.0
    assert torch.equal(inr_edit.dilated(picture.reshape(1, -1)), wanted.reshape(1, -1))


def test_the_loss_is_the_mean_over_pixels_summed_over_members() -> None:
    population = random_population()
    images = np.random.default_rng(0).uniform(-1, 1, (3, SIZE * SIZE)).astype(np.float32)
    parts = {name: np.arange(3) for name in ("train", "valid", "test")}
    task = inr_edit.Dilation(population, images, parts, seed=0, max_members=2)
    seen = render(population.tensors(population.values), pixel_grid(SIZE))[..., 0].numpy()
    square = np.pad(images.reshape(3, SIZE, SIZE), ((0, 0), (1, 1), (1, 1)), constant_values=-9)
    target = np.max([square[:, y : y + SIZE, x : x + SIZE] for y in range(3) for x in range(3)], axis=0).reshape(3, -1)
    wanted = ((seen - target) ** 2).mean(1)
    total, count = task.loss(nn.Identity(), np.array([2, 0]))
    assert count == 2
    assert float(total) == pytest.approx(wanted[0] + wanted[2], rel=1e-5)
    assert task.evaluate(nn.Identity(), "test")["mse"] == pytest.approx(wanted.mean(), rel=1e-5)
    assert [len(items) for items in task.batches(0)] == [2, 1]


def permuted(population: Population, values: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """The neurons of the first hidden layer in another order."""
    tensors = {n: t.clone() for n, t in population.tensors(values).items()}
    for name in ("layers.0.weight", "layers.0.bias"):
        tensors[name] = tensors[name][:, order]
    tensors["layers.1.weight"] = tensors["layers.1.weight"][:, :, order]
    return torch.cat([values[:, :1], *(t.flatten(1) for t in tensors.values())], dim=1)


@pytest.mark.parametrize(("name", "probes"), [("gmn", 0), ("gmn", 5), ("nfn", 0), ("deepsets", 0)])
def test_an_edit_does_not_depend_on_the_order_of_neurons(name: str, probes: int) -> None:
    population = random_population()
    torch.manual_seed(0)
    options: Mapping[str, object] = GMN if name == "gmn" else {"hidden_channels": 8}
    model = metanetwork(name, 1, population.like, "equivariant", **options)
    editor = inr_edit.Editor(model, population, Standardiser(population, range(3)), probes=probes).eval()
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    with torch.no_grad():
        edited = editor(population.values)
        other = editor(permuted(population, population.values, order))
    torch.testing.assert_close(other, permuted(population, edited, order), rtol=1e-4, atol=1e-4)
    assert (edited - population.values)[:, 1:].abs().max() > 1e-4
    assert not (edited - population.values)[:, 0].any()


def test_probes_are_what_neurons_give_at_their_nodes() -> None:
    population = random_population()
    tensors = population.tensors(population.values)
    probes = Probes(population, 2, 3)
    features = probes(population.values).reshape(3, population.like.num_nodes, 3)
    hidden = torch.sin(probes.points @ tensors["layers.0.weight"].mT + tensors["layers.0.bias"][:, None])
    second = torch.sin(hidden @ tensors["layers.1.weight"].mT + tensors["layers.1.bias"][:, None])
    last = render(tensors, probes.points)
    to, _, _, rows, _ = population.like.layout.per_edge
    for name, given in (("layers.0", hidden), ("layers.1", second), ("layers.2", last)):
        first = next(s.start for s in population.segments if s.name == f"{name}.bias")
        expected = probes.read(given.mT)
        for neuron in range(expected.shape[1]):
            # The node that the neuron's own bias leads to.
            node = to[rows == first + neuron]
            torch.testing.assert_close(features[:, node.item()], expected[:, neuron])
    nfn = metanetwork("nfn", 1, population.like, "equivariant", hidden_channels=8)
    with pytest.raises(GmncError, match="only gmn takes"):
        inr_edit.Editor(nfn, population, Standardiser(population, range(3)), probes=2)


@pytest.mark.parametrize("options", [GMN, {**GMN, "probes": 0}])
def test_an_edit_beats_no_edit_and_its_files_hold_it(tmp_path: Path, options: dict[str, int]) -> None:
    for name in ("zoo", "run"):
        (tmp_path / name).mkdir()
    zoo = FakeZoo(pictures(), tmp_path / "zoo")
    settings = Settings("inr-edit", "zoo", members=16, metanet=options)
    editor = inr_edit.experiment(settings, zoo).model
    assert isinstance(editor, inr_edit.Editor)
    assert (editor.probes is None) == ("probes" in options)
    result = run(lambda s: inr_edit.experiment(s, zoo), settings, Options(4, 1e-2), tmp_path / "run")
    assert result["metrics"]["mse"] < 0.8 * result["no_op"]["mse"]
    assert result["constant"]["mse"] < result["no_op"]["mse"]
    tests = np.flatnonzero(zoo.table["test"])
    assert result["members"]["test"] == len(tests)
    for shown in result["edited"]:
        image = pixels()[0][zoo.table["image"][shown["member"]]]
        target = inr_edit.dilated(torch.from_numpy(image)[None])[0].numpy()
        seen = rendered(tmp_path / "run" / shown["file"], pixel_grid(SIZE))[:, 0]
        assert shown["member"] in tests
        assert float(np.mean((seen - target) ** 2)) == pytest.approx(shown["mse"], rel=1e-4)
        np.testing.assert_allclose(shown["edited"], seen, atol=1e-3)
    mean = np.mean([shown["mse"] for shown in result["edited"]])
    if len(tests) <= len(result["edited"]):
        assert float(mean) == pytest.approx(result["metrics"]["mse"], rel=1e-3)


def test_members_of_a_group_are_never_parted() -> None:
    group = np.repeat(np.arange(50), 3)
    tested = group >= 40
    found = inr_edit.split_groups(group, tested, 0)
    assert np.array_equal(found["test"], np.flatnonzero(tested))
    assert sorted(np.concatenate(list(found.values())).tolist()) == list(range(150))
    assert not set(group[found["train"]]) & set(group[found["valid"]])
    assert len(found["valid"]) == 12
    with pytest.raises(GmncError, match="too few"):
        inr_edit.split_groups(group[:3], tested[:3], 0)


def test_the_contrast_by_hand() -> None:
    east, north = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    # Of the three others, one is at cosine 1 and two at 0, for each of four views.
    first = torch.cat([east, north])
    expected = 4 * float(np.log(np.exp(1 / 0.5) + 2) - 1 / 0.5)
    assert float(inr_ssl.info_nce(first, 5 * first, 0.5)) == pytest.approx(expected, rel=1e-6)
    crossed = 4 * float(np.log(np.exp(1 / 0.5) + 2))
    assert float(inr_ssl.info_nce(first, first.flip(0), 0.5)) == pytest.approx(crossed, rel=1e-6)


def test_signs_of_neurons_do_not_change_the_function() -> None:
    population = random_population()
    torch.manual_seed(0)
    signs = [torch.randint(0, 2, (3, width)) * 2.0 - 1 for width in (6, 5)]
    other = inr_ssl.flipped(population, population.values, signs)
    before, after = (render(population.tensors(v), pixel_grid(SIZE)) for v in (population.values, other))
    torch.testing.assert_close(after, before)
    assert not torch.allclose(other, population.values)


def test_the_regression_finds_a_linear_map() -> None:
    generator = torch.manual_seed(0)
    known, asked = (torch.randn(n, 5, generator=generator) for n in (60, 7))
    matrix = torch.randn(5, 2, generator=generator)
    found = inr_ssl.regression(known, known @ matrix + 3, asked)
    torch.testing.assert_close(found, (asked @ matrix + 3).double(), rtol=1e-2, atol=1e-2)


def test_embeddings_of_sines_learn_to_tell_functions_apart(tmp_path: Path) -> None:
    zoo = FakeZoo(sines(), tmp_path)
    settings = Settings("inr-ssl", "zoo", members=16, metanet=GMN)
    result = run(lambda s: inr_ssl.experiment(s, zoo), settings, Options(8, 1e-2), tmp_path / "run")
    losses = [row["loss"] for row in result["history"]]
    assert losses[-1] < losses[0]
    assert result["members"] == {"train": 24, "valid": 2, "test": 6}
    assert np.isfinite(result["metrics"]["mse"])
    assert result["mean_of_training"]["mse"] > 0


class Nearly(nn.Module):
    """Embeddings that are all but one vector."""

    def forward(self, graph: gmnc.backends.blocks.Blocks) -> torch.Tensor:
        return 10 + 1e-3 * graph.values.view(graph.num_graphs, -1)[:, 1:9]


def test_the_contrast_sees_small_differences_of_embeddings() -> None:
    population = random_population(6)
    torch.manual_seed(0)
    encoder = inr_ssl.Encoder(Nearly(), population, Standardiser(population, range(6)), 8)
    seen = nn.functional.normalize(encoder(population.values), dim=1)
    assert (seen @ seen.t()).min() < 0.9


@pytest.mark.parametrize("wrong", [-1, "many"])
def test_a_wrong_number_of_probes_is_refused(tmp_path: Path, wrong: object) -> None:
    with pytest.raises(GmncError, match="probes: a number of points of at least 0"):
        inr_edit.experiment(Settings("inr-edit", "zoo", metanet={"probes": wrong}), FakeZoo(pictures(), tmp_path))


def test_a_zoo_of_another_kind_is_refused(tmp_path: Path) -> None:
    zoo = FakeZoo(sines()[:2], tmp_path)
    with pytest.raises(GmncError, match="--kind inr"):
        inr_edit.experiment(Settings("inr-edit", "zoo"), zoo)
    zoo.table.pop("function")
    with pytest.raises(GmncError, match="--kind sine"):
        inr_ssl.experiment(Settings("inr-ssl", "zoo"), zoo)
    other = blocks(gmnc.compile(SMALL.onnx()))
    with pytest.raises(GmncError, match="another architecture"):
        Population([zoo.members[0], other])
