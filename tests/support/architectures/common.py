"""What all architectures share: their description, how a network of one is made, and how its values are drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["Architecture", "Field", "Made", "image", "perturb", "tokens"]

Made = tuple[nn.Module, tuple[Tensor, ...]]
LEARNED = ("running_mean", "running_var", "e_score_correction_bias")
"""How the names of buffers end that training changes."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """A network of a public package, in a tiny configuration.

    Attributes:
        package: The package that has it, as it is imported.
        make: Makes the module, and inputs for it. Imports the package.
    """

    package: str
    make: Callable[[], Made]


class Field(nn.Module):
    """A model whose result is one field of what it returns: `logits`, say; "" if it returns a tensor."""

    def __init__(self, model: nn.Module, field: str, **options: object) -> None:
        super().__init__()
        self.model, self.field, self.options = model, field, options

    def forward(self, *inputs: Tensor) -> Tensor:
        found = self.model(*inputs, **self.options)
        if isinstance(found, tuple):
            return found[0]
        return getattr(found, self.field) if self.field else found


def tokens(length: int = 5, vocabulary: int = 40) -> tuple[Tensor, ...]:
    """One text of random tokens, none of them 0, which often stands for padding."""
    return (torch.randint(1, vocabulary, (1, length)),)


def image(size: int = 32, channels: int = 3) -> tuple[Tensor, ...]:
    """One random image."""
    return (torch.randn(1, channels, size, size),)


@torch.no_grad()
def perturb(module: nn.Module) -> None:
    """Change every parameter and learned buffer at random, so that none is equal to another, to 0 or to 1 by chance."""
    torch.manual_seed(1)
    statistics = [(n, b) for n, b in module.named_buffers() if n.endswith(LEARNED)]
    for name, values in [*module.named_parameters(), *statistics]:
        values.mul_(1 + 0.4 * (torch.rand_like(values) - 0.5))
        if not name.endswith("running_var"):
            values.add_(0.1 * torch.randn_like(values))
