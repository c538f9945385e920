"""The masked original of a module that Torch-Pruning pruned, for `peers.py`."""

from __future__ import annotations

import copy

import torch
from peers_networks import Inputs, tensors
from torch import Tensor, nn

__all__ = ["masked_original"]

History = list[tuple[str, bool, list[int]]]


def kept_elements(module: nn.Module, inputs: Inputs, history: History) -> dict[str, Tensor]:
    """Which elements of its tensors a pruning leaves.

    Their numbers are put in their places, and the pruning is repeated.

    Args:
        module: The module before it was pruned.
        inputs: Its inputs.
        history: What was pruned, from `pruning_history` of Torch-Pruning.

    Returns:
        int64 by tensor, of the shape that is left.
    """
    from torch_pruning import DependencyGraph

    numbered = copy.deepcopy(module).double()
    graph = DependencyGraph().build_dependency(
        numbered, tuple(x.double() if x.is_floating_point() else x for x in inputs)
    )
    with torch.no_grad():
        for tensor in tensors(numbered).values():
            tensor.copy_(torch.arange(tensor.numel()).reshape(tensor.shape))
    graph.load_pruning_history(history)
    return {n: t.detach().long() for n, t in tensors(numbered).items()}


def masked_original(module: nn.Module, pruned: nn.Module, inputs: Inputs, history: History) -> tuple[nn.Module, bool]:
    """The module before pruning, with zeros for all elements that were removed.

    LayerNorm and GroupNorm take their statistics over what is left.

    Args:
        module: The module before it was pruned.
        pruned: The module after that.
        inputs: Its inputs.
        history: What was pruned, from `pruning_history` of Torch-Pruning.

    Returns:
        The masked module, and whether there is a statistic over what is left.
    """
    kept = kept_elements(module, inputs, history)
    masked = copy.deepcopy(module)
    with torch.no_grad():
        for name, tensor in tensors(masked).items():
            left = torch.zeros(tensor.numel(), dtype=torch.bool)
            left[kept[name].reshape(-1)] = True
            tensor.masked_fill_(~left.reshape(tensor.shape), 0)
    norms = [(n, m) for n, m in masked.named_modules() if isinstance(m, nn.LayerNorm | nn.GroupNorm)]
    spanning = [(n, m, kept[f"{n}.weight"]) for n, m in norms if m.weight is not None]
    spanning = [(n, m, left) for n, m, left in spanning if left.numel() < m.weight.numel()]
    for name, norm, left in spanning:
        small = copy.deepcopy(pruned.get_submodule(name))
        masked.set_submodule(name, _Left(small, left.reshape(-1), 1 if isinstance(norm, nn.GroupNorm) else -1))
    return masked, bool(spanning)


class _Left(nn.Module):
    """A normalisation of the entries that are left; the others become zeros."""

    def __init__(self, norm: nn.Module, left: Tensor, axis: int) -> None:
        super().__init__()
        self.norm, self.left, self.axis = norm, left, axis

    def forward(self, x: Tensor) -> Tensor:
        small = self.norm(x.index_select(self.axis, self.left))
        return torch.zeros_like(x).index_copy(self.axis, self.left, small)
