"""Ornstein-Uhlenbeck diffusion over the matrix view (Le 2024, arXiv:2412.10948), class-conditional on the target.

The process, time grid and eps-loss are the paper's; its released code's faults are not repeated (reverse step with
times mixed up, noise at the last step, clipping before the backward pass, time index off by one). Where this differs on
purpose: one class-conditional network learns all classes, so that the rare one borrows from the others; features are
scaled by ranks; the network is a residual MLP F behind a skip, eps = beta(t) x + gamma(t) F(x, t, y), which is exact
for independent unit-variance features whatever F's width (the paper adds x itself); sampling may stride over the grid.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from generators.base import Generator, Log, quiet
from generators.diffusion.nets import ResidualMLP
from generators.diffusion.process import beta, gamma, ou_times
from generators.diffusion.sampling import ou_ancestral
from generators.encode import Matrix
from generators.training import build, device, train, weights_of, with_weights

BATCH = 4_096  # subjects sampled at once
LEAST_BINARY_SPREAD = 0.3  # a rare flag divided by its own sd is a spike that the noise at time T does not cover


class OU(Generator):
    """Ornstein-Uhlenbeck diffusion; every feature, binary ones too, is a number in the diffusion.

    steps, batch, lr: training. width, depth, dropout: network. grid: times of Algorithm B.1. sample_steps: how many of
    them sampling visits. scale: how numbers are scaled ("quantile", "robust", "standard"). cover: share of subjects
    whose whole length fits the grid of a longitudinal table.
    """

    def __init__(
        self, steps: int = 2_000, batch: int = 256, lr: float = 1e-3, width: int = 128, depth: int = 3,
        dropout: float = 0.0, grid: int = 800, sample_steps: int = 100, scale: str = "quantile", cover: float = 0.995,
    ) -> None:  # fmt: skip
        self.steps = steps
        self.batch = batch
        self.lr = lr
        self.width = width
        self.depth = depth
        self.dropout = dropout
        self.grid = grid
        self.sample_steps = sample_steps
        self.scale = scale
        self.cover = cover

    @classmethod
    def suggest(cls, trial: Any) -> dict[str, Any]:
        """Rate, size, regularisation and scaling."""
        return {
            "lr": trial.suggest_float("lr", 2e-4, 5e-3, log=True),
            "width": trial.suggest_categorical("width", [64, 128, 256]),
            "depth": trial.suggest_int("depth", 2, 5),
            "dropout": trial.suggest_float("dropout", 0.0, 0.3),
            "scale": trial.suggest_categorical("scale", ["quantile", "robust", "standard"]),
        }

    def fit(
        self, train: pd.DataFrame, *, target: str | None = None, static: Sequence[str] = (),
        describe: Mapping[str, str] | None = None, seed: int, log: Log = quiet,
    ) -> Self:  # fmt: skip
        """Learn eps(x_t, t, y) on all classes; a class is drawn by the square root of its size."""
        view = Matrix.fit(train, static=static, scale=self.scale, cover=self.cover, without=[target] if target else [])
        first = train if train.index.nlevels == 1 else train[train.index.get_level_values("time") == 0]
        y = first[target].to_numpy(dtype=bool).astype(np.int64) if target else np.zeros(len(first), np.int64)
        x = view.transform(train)
        least = np.ones(x.shape[1], np.float32)
        for f in view.features:
            least[f.start : f.stop] = 1e-3 if f.kind == "number" else LEAST_BINARY_SPREAD
        self.center_, self.spread_ = x.mean(axis=0), np.maximum(x.std(axis=0), least)
        x = (x - self.center_) / self.spread_
        self.low_, self.high_ = x.min(axis=0), x.max(axis=0)
        self.view_, self.target_, self.rate_ = view, target, float(y.mean())
        self.weights_ = self._train(x, y, seed, log)
        return self

    def sample(self, n: int, *, given: Mapping[str, object] | None = None, seed: int) -> pd.DataFrame:
        """n subjects, classes in train's proportion; given the target, of one class; other conditions by rejection."""
        self._needs_fit("weights_")
        given = dict(given or {})
        rng = np.random.default_rng(seed)
        y = (rng.permutation(n) < round(n * self.rate_)).astype(np.int64)
        if given:
            if set(given) != {self.target_}:
                return self.reject(n, given, seed=seed)
            y[:] = bool(given[self.target_])  # type: ignore[index]
        at = device()
        net = with_weights(self._net(len(self.center_)), self.weights_).to(at)
        dice = torch.Generator().manual_seed(int(rng.integers(2**62)))
        low, high = (torch.from_numpy(b).to(at) for b in (self.low_, self.high_))
        visited = np.unique(np.round(np.linspace(0, self.grid - 1, min(self.sample_steps, self.grid))).astype(int))
        times = ou_times(self.grid)[visited]
        parts = []
        for part in torch.from_numpy(y).split(BATCH):
            label = part.to(at)

            def eps(x: Tensor, t: float, label: Tensor = label) -> Tensor:
                return float(beta(t)) * x + float(gamma(t)) * net(x, x.new_full((len(x),), t / self._end), label)

            noise = torch.randn((len(part), len(self.center_)), generator=dice).to(at)
            parts.append(ou_ancestral(eps, noise, times, bounds=(low, high), dice=dice).cpu().numpy())
        x = np.concatenate(parts) * self.spread_ + self.center_
        held = {self.target_: pd.Series(y == 1)} if self.target_ else {}
        return self.view_.inverse(x, held=held)

    @property
    def _end(self) -> float:
        return float(ou_times(self.grid)[-1])

    def _net(self, d: int) -> nn.Module:
        return ResidualMLP(d, classes=2, width=self.width, depth=self.depth, dropout=self.dropout)

    def _train(self, x: np.ndarray, y: np.ndarray, seed: int, log: Log) -> dict[str, np.ndarray]:
        times = ou_times(self.grid)
        g, b, share = (torch.from_numpy(v.astype(np.float32)) for v in (gamma(times), beta(times), times / times[-1]))

        def loss(net: nn.Module, rows: tuple[Tensor, ...], dice: torch.Generator) -> Tensor:
            x0, label = rows
            k = torch.randint(self.grid, (len(x0),), generator=dice, device=dice.device).cpu()
            noise = torch.randn(x0.shape, generator=dice, device=dice.device)
            g_k, b_k = g[k, None].to(x0), b[k, None].to(x0)
            xt = g_k * x0 + b_k * noise
            eps = b_k * xt + g_k * net(xt, share[k].to(x0), label)
            return ((eps - noise) ** 2).mean()

        sizes = np.bincount(y, minlength=2)
        chance = torch.from_numpy(1 / np.sqrt(sizes[y]))
        net = build(lambda: self._net(x.shape[1]), seed=seed)
        data = (torch.from_numpy(x), torch.from_numpy(y))
        net = train(net, loss, data, seed=seed, steps=self.steps, batch=self.batch, lr=self.lr, weights=chance, log=log)
        return weights_of(net)
