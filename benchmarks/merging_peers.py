"""What others offer to bring one network to another, for `merging.py`: git re-basin's algorithm, and rebasin's package.

`git_re_basin` follows algorithm 1 of Ainsworth, Hayase and Srinivasa 2023 and needs, as theirs does, a specification of
which axes of which parameters move together; ours are those of `merging_networks.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from merging_networks import NETWORKS
from scipy.optimize import linear_sum_assignment

__all__ = ["SPECIFIED", "git_re_basin", "rebasin"]

Values = Mapping[str, np.ndarray]
Specification = dict[str, list[tuple[str, int]]]
"""By permutation: the parameters, and the axis of each, that it moves."""

_NORM = ("weight", "bias", "running_mean", "running_var")
_SWEEPS = 100


def _of_mlp() -> Specification:
    layers = (1, 3, 5, 7)
    return {
        f"layer {i}": [(f"{a}.weight", 0), (f"{a}.bias", 0), (f"{b}.weight", 1)]
        for i, (a, b) in enumerate(itertools.pairwise(layers))
    }


def _of_resnet() -> Specification:
    def norm(name: str) -> list[tuple[str, int]]:
        return [(f"{name}.{p}", 0) for p in _NORM]

    found: Specification = {"stage 0": [("0.weight", 0), *norm("1")]}
    for block in (3, 4, 5):
        before, after = f"stage {max(block - 4, 0)}", f"stage {block - 3}"
        inner = f"{block}.inner"
        found[before].append((f"{inner}.0.weight", 1))
        found[inner] = [(f"{inner}.0.weight", 0), *norm(f"{inner}.1"), (f"{inner}.3.weight", 1)]
        out = found.setdefault(after, [])
        out += [(f"{inner}.3.weight", 0), *norm(f"{inner}.4")]
        if block > 3:
            found[before].append((f"{block}.bypass.0.weight", 1))
            out += [(f"{block}.bypass.0.weight", 0), *norm(f"{block}.bypass.1")]
    found["stage 2"].append(("8.weight", 1))
    return found


SPECIFIED: dict[str, Specification] = {"mlp": _of_mlp(), "resnet": _of_resnet()}


def git_re_basin(network: str, a: Values, b: Values, seed: int = 0) -> Values | None:
    """The parameters of B in the order of A.

    Args:
        network: The architecture.
        a: Parameters of the reference by name.
        b: Those of the other network.
        seed: Seed of the order in which layers are solved.

    Returns:
        The permuted parameters; None for networks without a specification.
    """
    specification = SPECIFIED.get(network)
    if specification is None:
        return None
    values, rng = dict(b), np.random.default_rng(seed)
    for _ in range(_SWEEPS):
        moved = False
        for name in rng.permutation(list(specification)):
            order, gain = _best(specification[name], a, values)
            if gain > 1e-12:
                moved = True
                for parameter, axis in specification[name]:
                    values[parameter] = values[parameter].take(order, axis=axis)
        if not moved:
            break
    return values


def _best(moved: Sequence[tuple[str, int]], a: Values, b: Values) -> tuple[np.ndarray, float]:
    """The best order of some neurons for the present order of all others, and what it gains."""
    size = a[moved[0][0]].shape[moved[0][1]]
    scores = np.zeros((size, size))
    for name, axis in moved:
        x, y = (np.moveaxis(v[name], axis, 0).reshape(size, -1).astype(np.float64) for v in (a, b))
        scores += x @ y.T
    order = linear_sum_assignment(scores, maximize=True)[1]
    return order, float(scores[np.arange(size), order].sum() - np.trace(scores))


def rebasin(network: str, a: Values, b: Values, example: torch.Tensor) -> Values | None:
    """What rebasin's package makes of B; None if it is not installed or fails, which it says.

    Args:
        network: The architecture.
        a: Parameters of the reference by name.
        b: Those of the other network.
        example: Inputs by which it traces the network.

    Returns:
        The permuted parameters.
    """
    try:
        from rebasin import PermutationCoordinateDescent
    except ImportError:
        return None
    nets = [NETWORKS[network].make().eval() for _ in range(2)]
    for net, values in zip(nets, (a, b), strict=True):
        net.load_state_dict({n: torch.as_tensor(np.array(values[n])) for n in net.state_dict() if n in values}, False)
    try:
        PermutationCoordinateDescent(*nets, example, logging_level="error").rebasin()
    except Exception as error:
        print(f"  {network}, rebasin: {type(error).__name__}: {str(error).splitlines()[0][:100]}", flush=True)
        return None
    state = nets[1].state_dict()
    return {n: state[n].numpy() if n in state else b[n] for n in b}
