"""A diffusion one can look at: points in the plane, their way into noise, and the way back by a fitted denoiser.

The process, loss and sampler are those of the Ornstein-Uhlenbeck generator (Le 2024, arXiv:2412.10948).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from generators.diffusion.ou_nets import ResidualEps, eps_loss
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
    data = (torch.from_numpy(x0.astype(np.float32)), torch.zeros(len(x0), dtype=torch.int64))
    net = build(lambda: ResidualEps(x0.shape[1], times, groups=1, width=width, depth=2), seed=seed)
    loss = partial(eps_loss, untold=-1, drop=0.0)
    net = train(net, loss, data, seed=seed, steps=steps, lr=3e-3, where="cpu")
    stops = times[np.unique(np.round(np.linspace(0, len(times) - 1, visits)).astype(int))]
    dice = torch.Generator().manual_seed(seed)
    back: list[np.ndarray] = []

    def eps(x: Tensor, t: float) -> Tensor:
        back.append(x.numpy().copy())
        return net(x, torch.full((len(x),), int(np.searchsorted(times, t))), torch.zeros(len(x), dtype=torch.int64))

    last = ou_ancestral(eps, torch.randn((n, x0.shape[1]), generator=dice), stops, bounds=None, dice=dice)
    return Ways(np.concatenate([[0.0], stops]), _forward(x0[:n], stops, seed), np.stack([last.numpy(), *back[::-1]]))


def _forward(x0: np.ndarray, stops: np.ndarray, seed: int) -> np.ndarray:
    """One way of each point: X_t = gamma(dt) X_s + beta(dt) Z from stop to stop."""
    rng = np.random.default_rng(seed)
    x = [x0]
    for dt in np.diff(stops, prepend=0.0):
        x.append(gamma(dt) * x[-1] + beta(dt) * rng.standard_normal(x0.shape))
    return np.stack(x)
