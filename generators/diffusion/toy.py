"""A diffusion one can look at: points in the plane, their way into noise, and the way back by a fitted denoiser.

The process, loss and sampler are those of the Ornstein-Uhlenbeck generator (Le 2024, arXiv:2412.10948).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from generators.diffusion.nets import ResidualMLP
from generators.diffusion.process import beta, gamma, ou_times
from generators.diffusion.sampling import ou_ancestral
from generators.training import build, train


@dataclass(frozen=True)
class Ways:
    """times (k + 1,), from 0; forward, reverse (k + 1, n, 2): where points are at those times, on both ways."""

    times: np.ndarray
    forward: np.ndarray
    reverse: np.ndarray


def ways(
    x0: np.ndarray, *, n: int = 500, steps: int = 4_000, visits: int = 200, width: int = 64, seed: int
) -> Ways:  # fmt: skip
    """Forward from the first n points of x0 (m, 2), which should be standardised; reverse from n points of noise.

    The denoiser is fitted to all of x0 in `steps` steps; `visits` of the 800 times are stopped at. On the CPU, so that
    a seed gives the same ways everywhere.
    """
    times = ou_times(800)
    net = _denoiser(x0.astype(np.float32), times, steps, width, seed)
    stops = times[np.unique(np.round(np.linspace(0, len(times) - 1, visits)).astype(int))]
    dice = torch.Generator().manual_seed(seed)
    back: list[np.ndarray] = []

    def eps(x: Tensor, t: float) -> Tensor:
        back.append(x.numpy().copy())
        return _eps(net, x, x.new_full((len(x),), t), float(times[-1]))

    last = ou_ancestral(eps, torch.randn((n, x0.shape[1]), generator=dice), stops, bounds=None, dice=dice)
    return Ways(np.concatenate([[0.0], stops]), _forward(x0[:n], stops, seed), np.stack([last.numpy(), *back[::-1]]))


def _forward(x0: np.ndarray, stops: np.ndarray, seed: int) -> np.ndarray:
    """One way of each point: X_t = gamma(dt) X_s + beta(dt) Z from stop to stop."""
    rng = np.random.default_rng(seed)
    x = [x0]
    for dt in np.diff(stops, prepend=0.0):
        x.append(gamma(dt) * x[-1] + beta(dt) * rng.standard_normal(x0.shape))
    return np.stack(x)


def _denoiser(x0: np.ndarray, times: np.ndarray, steps: int, width: int, seed: int) -> nn.Module:
    grid = torch.from_numpy(times.astype(np.float32))
    g, b = (torch.from_numpy(v.astype(np.float32)) for v in (gamma(times), beta(times)))

    def loss(net: nn.Module, rows: tuple[Tensor, ...], dice: torch.Generator) -> Tensor:
        (x,) = rows
        k = torch.randint(len(grid), (len(x),), generator=dice)
        noise = torch.randn(x.shape, generator=dice)
        xt = g[k, None] * x + b[k, None] * noise
        return ((_eps(net, xt, grid[k], float(grid[-1])) - noise) ** 2).mean()

    net = build(lambda: ResidualMLP(x0.shape[1], classes=1, width=width, depth=2), seed=seed)
    return train(net, loss, (torch.from_numpy(x0),), seed=seed, steps=steps, lr=3e-3, where="cpu")


def _eps(net: nn.Module, x: Tensor, t: Tensor, end: float) -> Tensor:
    """The network behind the skip that is exact for a standard Gaussian: beta(t) x + gamma(t) F(x, t)."""
    g = torch.exp(-t)[:, None]
    return torch.sqrt(1 - g**2) * x + g * net(x, t / end, torch.zeros(len(x), dtype=torch.int64))
