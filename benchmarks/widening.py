"""How far a metanetwork's output moves when a network is widened and computes the same function.

    python benchmarks/widening.py [--factor 8] [--steps 150]

Every hidden neuron is copied and the weights out of it are divided. One row for each metanetwork, random and trained to
tell the mean square of a network's first weights: the largest difference relative to the largest output, of 16
networks that it was not trained on, with plain sums and with `fan_in`. error: of the trained task there, relative to
guessing the mean. all means: with a global feature, and blocks, nodes and that feature in the readout.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

import gmnc
from gmnc.backends.blocks import Blocks, batch, blocks
from gmnc.metanets import GMN
from gmnc.testing import build

__all__ = ["moved", "networks", "trained", "widened"]

Weights = dict[str, np.ndarray]
INPUTS, HIDDEN, OUTPUTS = 3, 6, 2


def networks(count: int, seed: int) -> list[Weights]:
    """Random perceptrons with one hidden layer."""
    rng = np.random.default_rng(seed)
    shapes = {"w": (INPUTS, HIDDEN), "b": (HIDDEN,), "v": (HIDDEN, OUTPUTS)}
    return [{name: rng.standard_normal(shape) for name, shape in shapes.items()} for _ in range(count)]


def widened(net: Weights, factor: int) -> Weights:
    """The same function, with every hidden neuron `factor` times."""
    w, b, v = net["w"], net["b"], net["v"]
    return {"w": np.tile(w, (1, factor)), "b": np.tile(b, factor), "v": np.tile(v, (factor, 1)) / factor}


def tensors(nets: list[Weights]) -> Blocks:
    """Perceptrons of one shape, as a batch."""
    text = f"(float[1, {INPUTS}] x) => (float[1, {OUTPUTS}] y) {{ a = Gemm(x, w, b) r = Relu(a) y = MatMul(r, v) }}"
    one = blocks(gmnc.compile(build(text, {n: a.shape for n, a in nets[0].items()})), dtype=torch.float64)
    return batch([one] * len(nets)).with_values(*nets)


def targets(nets: list[Weights]) -> torch.Tensor:
    """The logarithm of the mean square of the first layer's weights, [G, 1], which widening keeps."""
    return torch.tensor([[np.log(np.square(n["w"]).mean())] for n in nets])


def trained(steps: int, seed: int = 0, **options: object) -> GMN:
    """A metanetwork after some steps of Adam on 128 networks; random if there are none."""
    torch.manual_seed(seed)
    model = GMN(out_channels=1, hidden_channels=16, num_layers=2, hash_buckets=64, **options).double()
    nets = networks(128, seed)
    given, wanted = tensors(nets), targets(nets)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(steps):
        loss = (model(given) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def moved(model: GMN, nets: list[Weights], factor: int) -> float:
    """Largest difference of the outputs, relative to the largest."""
    with torch.no_grad():
        before, after = (model(tensors(given)) for given in (nets, [widened(net, factor) for net in nets]))
    return float((after - before).abs().max() / before.abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--factor", type=int, default=8)
    parser.add_argument("--steps", type=int, default=150, help="of training")
    options = parser.parse_args()
    nets = networks(16, 1)
    print(f"{'':>24}{'error':>10}{'plain':>10}{'fan_in':>10}")
    everything = {"global_node": True, "readout": "all"}
    for name, steps, more in (
        ("random", 0, {}),
        ("trained", options.steps, {}),
        ("random, all means", 0, everything),
        ("trained, all means", options.steps, everything),
    ):
        models = [trained(steps, fan_in=fan_in, **more) for fan_in in (False, True)]
        with torch.no_grad():
            error = float((models[1](tensors(nets)) - targets(nets)).square().mean() / targets(nets).var())
        cells = "".join(f"{moved(model, nets, options.factor):>10.1e}" for model in models)
        print(f"{name:>24}{error:>10.2f}{cells}", flush=True)


if __name__ == "__main__":
    main()
