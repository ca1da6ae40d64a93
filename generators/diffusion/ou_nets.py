"""Noise predictors of the Ornstein-Uhlenbeck diffusion: eps(x, k, group) at step k of a time grid, and their loss."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from generators.diffusion.nets import ResidualMLP
from generators.diffusion.process import beta, gamma

FREQUENCIES = 128  # of the published network's embeddings
AMOUNT_SCALE = 25.0
NETS = ("residual", "published")


class _OnGrid(nn.Module):
    """A network over steps k (b,) int64 of a grid: knows gamma and beta there; both are no part of its weights."""

    g: Tensor
    b: Tensor
    share: Tensor

    def __init__(self, times: np.ndarray) -> None:
        super().__init__()
        for name, value in (("g", gamma(times)), ("b", beta(times)), ("share", times / times[-1])):
            self.register_buffer(name, torch.from_numpy(value.astype(np.float32)), persistent=False)


class ResidualEps(_OnGrid):
    """eps = beta(t) x + gamma(t) F(x, t, group), F a residual MLP: exact for unit Gaussians whatever F's width."""

    def __init__(
        self, d: int, times: np.ndarray, *, groups: int, width: int = 128, depth: int = 3, dropout: float = 0.0
    ) -> None:
        super().__init__(times)
        self.net = ResidualMLP(d, classes=groups, width=width, depth=depth, dropout=dropout)

    def forward(self, x: Tensor, k: Tensor, group: Tensor) -> Tensor:
        """x (b, d), k and group (b,); gives (b, d)."""
        return self.b[k, None] * x + self.g[k, None] * self.net(x, self.share[k], group)


class PublishedEps(_OnGrid):
    """The paper's network: sinusoids of the step and of one number, `width` GELU, the same with a residual, plus x.

    amount: the feature that goes in as sinusoids and not as itself; -1 for none. groups > 1: an embedding of the group
    is added before the first GELU, which the paper, having one group, does not need. With 29 features, an amount and
    one group: 56,733 weights.
    """

    def __init__(
        self, d: int, times: np.ndarray, *, groups: int, width: int = 128, dropout: float = 0.0, amount: int = -1
    ) -> None:
        super().__init__(times)
        self.amount = amount
        plain = d - 1 + FREQUENCIES if amount >= 0 else d
        self.enter = nn.Linear(plain + FREQUENCIES, width)
        self.group = nn.Embedding(groups, width) if groups > 1 else None
        self.middle = nn.Linear(width, width)
        self.drop = nn.Dropout(dropout)
        self.leave = nn.Linear(width, d)

    def forward(self, x: Tensor, k: Tensor, group: Tensor) -> Tensor:
        """x (b, d), k and group (b,); gives (b, d)."""
        parts = [x, sinusoids(k.to(x))]
        if self.amount >= 0:
            others = [x[:, : self.amount], x[:, self.amount + 1 :]]
            parts = [*others, sinusoids(AMOUNT_SCALE * x[:, self.amount]), parts[1]]
        h = self.enter(torch.cat(parts, dim=1))
        if self.group is not None:
            h = h + self.group(group)
        h = nn.functional.gelu(h)
        h = h + self.drop(nn.functional.gelu(self.middle(h)))
        return x + self.leave(h)


def sinusoids(value: Tensor, frequencies: int = FREQUENCIES) -> Tensor:
    """sin and cos of a value (b,) at rates from 1 down to 1 / 10,000: (b, frequencies)."""
    half = frequencies // 2
    rates = torch.exp(torch.arange(half, device=value.device) * (-math.log(10_000) / (half - 1)))
    angles = value[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def eps_loss(net: nn.Module, rows: tuple[Tensor, ...], dice: torch.Generator, *, untold: int, drop: float) -> Tensor:
    """The mean squared error of eps at steps drawn evenly from the grid.

    rows: x0 (b, d) and group (b,). untold >= 0: with probability `drop` a row's group is replaced by it.
    """
    x0, group = rows
    k = torch.randint(len(net.g), (len(x0),), generator=dice, device=dice.device)  # type: ignore[arg-type]
    noise = torch.randn(x0.shape, generator=dice, device=dice.device)
    if untold >= 0:
        hidden = torch.rand(len(x0), generator=dice, device=dice.device) < drop
        group = torch.where(hidden, untold, group)
    xt = net.g[k, None] * x0 + net.b[k, None] * noise  # type: ignore[index]
    return ((net(xt, k, group) - noise) ** 2).mean()


def guided(told: Tensor, untold: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance: (1 + scale) eps(x | group) - scale eps(x), the group's own where scale is 0."""
    return told if scale == 0 else (1 + scale) * told - scale * untold
