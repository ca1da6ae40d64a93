"""Denoisers."""

import math

import torch
from torch import Tensor, nn


class TimeEmbedding(nn.Module):
    """Sinusoids of a time in [0, 1] (b,), then two layers: (b, width)."""

    rates: Tensor

    def __init__(self, width: int, frequencies: int = 32) -> None:
        super().__init__()
        rates = torch.exp(torch.linspace(0, math.log(1_000), frequencies)) * math.pi / 2
        self.register_buffer("rates", rates)
        self.layers = nn.Sequential(nn.Linear(2 * frequencies, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        """t (b,) in [0, 1]."""
        angles = t[:, None] * self.rates  # (b, frequencies)
        return self.layers(torch.cat([angles.sin(), angles.cos()], dim=1))


class Block(nn.Module):
    """x + MLP(LN(x) scaled and shifted by the condition); the last layer starts at zero: a block starts as identity."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.condition = nn.Linear(width, 2 * width)
        last = nn.Linear(width, width)
        self.layers = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Dropout(dropout), last)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """x, c (b, width)."""
        scale, shift = self.condition(c).chunk(2, dim=1)
        return x + self.layers(self.norm(x) * (1 + scale) + shift)


class ResidualMLP(nn.Module):
    """eps(x, t, y) over a whole vector: x (b, d), t (b,) in [0, 1], class y (b,) int64; gives (b, d)."""

    def __init__(self, d: int, *, classes: int, width: int = 256, depth: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        self.time = TimeEmbedding(width)
        self.label = nn.Embedding(classes, width)
        self.enter = nn.Linear(d, width)
        self.blocks = nn.ModuleList([Block(width, dropout) for _ in range(depth)])
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, d))

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Predicted noise (b, d)."""
        c = self.time(t) + self.label(y)
        h = self.enter(x) + c
        for block in self.blocks:
            h = block(h, c)
        return self.leave(h)
