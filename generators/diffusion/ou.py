"""Ornstein-Uhlenbeck diffusion over the matrix view (Le 2024, arXiv:2412.10948), class-conditional on the target.

The process, time grid and eps-loss are the paper's; its released code's faults are not repeated (reverse step with
times mixed up, noise at the last step, clipping before the backward pass, time index off by one). Subjects fall into
groups: the target's classes, the rare one perhaps cut into clusters. The paper learns the rare class alone
(`learn = "minority"`) with its own network (`net = "published"`). The defaults differ on purpose: one network is told
the group and learns all of them, so that the rare one borrows from the others, and it is a residual MLP F behind a
skip, eps = beta(t) x + gamma(t) F(x, t, group); sampling is by Heun's method, in few strides over the grid.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from generators.base import Generator, Log, classes, quiet
from generators.columns import labels
from generators.diffusion.clusters import EMBEDDINGS, clusters
from generators.diffusion.ou_nets import NETS, PublishedEps, ResidualEps, eps_loss, guided
from generators.diffusion.process import OU_GRIDS, ou_grid, strided
from generators.diffusion.sampling import OU_SAMPLERS
from generators.encode import Matrix
from generators.training import build, device, dice_on, train, weights_of, with_weights

BATCH = 4_096  # subjects sampled at once
LEAST_BINARY_SPREAD = 0.3  # a rare flag divided by its own sd is a spike that the noise at time T does not cover
CHOICES = {
    "scale": ("quantile", "robust", "standard"), "net": NETS, "times": OU_GRIDS, "learn": ("all", "minority"),
    "embed": EMBEDDINGS,
}  # fmt: skip


class OU(Generator):
    """Ornstein-Uhlenbeck diffusion; every feature, binary ones too, is a number in the diffusion.

    steps, batch, lr: training, of each network. width, depth, dropout: network. net: "residual", or "published", the
    paper's MLP of two layers, whatever depth says. amount: a number column that "published" takes as sinusoids, "" for
    none. scale: how numbers are scaled ("quantile", "robust", "standard"). grid: steps of the time grid. times:
    "b1" (Algorithm B.1), "uniform" or "logsnr"; all end at the same time. sampler: "heun" or "ddim" (on the
    probability-flow ODE; Heun's method takes two predictions a step), or "ancestral" (published: the exact reverse
    kernel, which narrows what is drawn unless it visits the whole grid). sample_steps: how many of the grid's times
    sampling visits, evenly in number and log-SNR. learn: "all" (one network, told the group) or "minority" (a network
    per group that sees no other, and another one for the common class). cfg: classifier-free guidance,
    (1 + cfg) eps(x | group) - cfg eps(x), where one network learns all. drop: how often training then hides the group.
    clusters: groups that the rare class is cut into by k-means, 0 for none; embed: in what space, "pca" or "umap".
    cover: share of subjects whose whole length fits the grid of a longitudinal table.
    """

    AT_SAMPLE = ("sampler", "sample_steps")

    def __init__(
        self, steps: int = 2_000, batch: int = 256, lr: float = 1e-3, width: int = 128, depth: int = 3,
        dropout: float = 0.0, net: str = "residual", amount: str = "", scale: str = "quantile", grid: int = 800,
        times: str = "b1", sampler: str = "heun", sample_steps: int = 25, learn: str = "all", cfg: float = 0.0,
        drop: float = 0.1, clusters: int = 0, embed: str = "pca", cover: float = 0.995,
    ) -> None:  # fmt: skip
        self.steps = steps
        self.batch = batch
        self.lr = lr
        self.width = width
        self.depth = depth
        self.dropout = dropout
        self.net = net
        self.amount = amount
        self.scale = scale
        self.grid = grid
        self.times = times
        self.sampler = sampler
        self.sample_steps = sample_steps
        self.learn = learn
        self.cfg = cfg
        self.drop = drop
        self.clusters = clusters
        self.embed = embed
        self.cover = cover

    @classmethod
    def suggest(cls, trial: Any) -> dict[str, Any]:
        """Rate, size, regularisation, scaling, and how far samples are pushed towards their class."""
        return {
            "lr": trial.suggest_float("lr", 2e-4, 5e-3, log=True),
            "width": trial.suggest_categorical("width", [64, 128, 256]),
            "depth": trial.suggest_int("depth", 2, 5),
            "dropout": trial.suggest_float("dropout", 0.0, 0.3),
            "scale": trial.suggest_categorical("scale", ["quantile", "robust", "standard"]),
            "times": trial.suggest_categorical("times", ["b1", "logsnr"]),
            "cfg": trial.suggest_categorical("cfg", [0.0, 0.5, 1.0]),
        }

    def fit(
        self, train: pd.DataFrame, *, target: str | None = None, static: Sequence[str] = (),
        describe: Mapping[str, str] | None = None, seed: int, log: Log = quiet,
    ) -> Self:  # fmt: skip
        """Learn eps(x_t, t, group). Unsupported where "umap" is not installed, ValueError on an unknown choice."""
        self._check(CHOICES)
        view = Matrix.fit(train, static=static, scale=self.scale, cover=self.cover, without=[target] if target else [])
        group = labels(train, target)
        y = group == 1
        self.view_, self.target_ = view, target
        x = view.transform(train)
        if self.clusters and y.any():
            scaled = (x[y] - x[y].mean(axis=0)) / self._spread(x[y])
            group[y] = 1 + clusters(scaled, self.clusters, embed=self.embed, seed=seed)
        self.sizes_ = np.bincount(group, minlength=2)  # the common class, then the rare one or its clusters
        alone = self.learn == "minority"
        parts = {str(g): group == g for g in np.flatnonzero(self.sizes_)} if alone else {"all": group >= 0}
        told = np.zeros_like(group) if alone else group
        self.learned_ = {
            name: self._learn(x[rows], told[rows], seed + i, log) for i, (name, rows) in enumerate(parts.items())
        }
        return self

    def sample(self, n: int, *, given: Mapping[str, object] | None = None, seed: int) -> pd.DataFrame:
        """n subjects, classes in train's proportion; given the target, of one class; other conditions by rejection.

        The rare class's clusters come in train's proportion too. Unsupported for a class that train lacks.
        """
        self._needs_fit("learned_")
        self._check({"sampler": tuple(OU_SAMPLERS)})
        given = dict(given or {})
        if given and set(given) != {self.target_}:
            return self.reject(n, given, seed=seed)
        rng = np.random.default_rng(seed)
        y = classes(n, self.sizes_[1:].sum() / self.sizes_.sum(), self.target_, given, rng) == 1
        group = self._groups(y, rng)
        dice = dice_on(device(), int(rng.integers(2**62)))
        x = np.zeros((n, self.view_.features[-1].stop), np.float32)
        for name, learned in self.learned_.items():
            rows = np.arange(n) if name == "all" else np.flatnonzero(group == int(name))
            told = group[rows] if name == "all" else np.zeros(len(rows), np.int64)
            x[rows] = self._draw(learned, told, dice)
        held = {self.target_: pd.Series(y)} if self.target_ else {}
        return self.view_.inverse(x, held=held)

    def _groups(self, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Groups (n,) of subjects of these classes: the rare one's clusters in train's proportion, in random order."""
        group = y.astype(np.int64)
        if len(self.sizes_) > 2:
            ends = np.round(np.cumsum(self.sizes_[1:]) / self.sizes_[1:].sum() * y.sum())
            group[y] = 1 + np.searchsorted(ends, rng.permutation(int(y.sum())), side="right")
        return group

    # --- one network: what it has learned is its weights and the scale, least and greatest value of its features ---

    def _learn(self, x: np.ndarray, group: np.ndarray, seed: int, log: Log) -> dict[str, Any]:
        """Train a network on rows x (n, d); a group is drawn by the square root of its size."""
        center, spread = x.mean(axis=0), self._spread(x)
        x = (x - center) / spread
        chance = torch.from_numpy(1 / np.sqrt(np.bincount(group)[group]))
        hides, groups = bool(self.cfg) and self.learn == "all", int(group.max()) + 1
        net = build(lambda: self._net(x.shape[1], groups + hides), seed=seed)
        loss = partial(eps_loss, untold=groups if hides else -1, drop=self.drop)
        data = (torch.from_numpy(x), torch.from_numpy(group))
        net = train(net, loss, data, seed=seed, steps=self.steps, batch=self.batch, lr=self.lr, weights=chance, log=log)
        return {
            "weights": weights_of(net), "groups": groups, "hides": hides, "center": center, "spread": spread,
            "low": x.min(axis=0), "high": x.max(axis=0),
        }  # fmt: skip

    def _draw(self, learned: Mapping[str, Any], group: np.ndarray, dice: torch.Generator) -> np.ndarray:
        """Features (n, d) of subjects of these groups."""
        at, d = device(), len(learned["center"])
        net = with_weights(self._net(d, learned["groups"] + learned["hides"]), learned["weights"]).to(at)
        low, high = (torch.from_numpy(learned[b]).to(at) for b in ("low", "high"))
        grid = ou_grid(self.times, self.grid)
        visited = strided(grid, self.sample_steps)
        parts = [np.zeros((0, d), np.float32)]
        for part in torch.from_numpy(group).split(BATCH) if len(group) else ():
            label = part.to(at)

            def eps(x: Tensor, t: float, label: Tensor = label) -> Tensor:
                k = torch.full((len(x),), int(np.searchsorted(grid, t)), device=x.device)
                told = net(x, k, label)
                if self.cfg == 0 or not learned["hides"]:
                    return told
                return guided(told, net(x, k, torch.full_like(label, learned["groups"])), self.cfg)

            noise = torch.randn((len(part), d), generator=dice, device=at)
            drawn = OU_SAMPLERS[self.sampler](eps, noise, grid[visited], bounds=(low, high), dice=dice)
            parts.append(drawn.cpu().numpy())
        return np.concatenate(parts) * learned["spread"] + learned["center"]

    def _net(self, d: int, groups: int) -> nn.Module:
        grid = ou_grid(self.times, self.grid)
        if self.net == "residual":
            return ResidualEps(d, grid, groups=groups, width=self.width, depth=self.depth, dropout=self.dropout)
        return PublishedEps(
            d, grid, groups=groups, width=self.width, dropout=self.dropout, amount=self._place_of(self.amount)
        )

    def _place_of(self, column: str) -> int:
        """Where a number column lies in the matrix, -1 for none. ValueError where there is no such column."""
        numbers = {f.column: f.start for f in reversed(self.view_.features) if f.kind == "number"}
        if column and column not in numbers:
            raise ValueError(f"amount = '{column}' is no number column; known: {', '.join(sorted(numbers)) or 'none'}")
        return numbers.get(column, -1)

    def _spread(self, x: np.ndarray) -> np.ndarray:
        """What features are divided by: their standard deviation, and no less than keeps a rare flag in reach."""
        least = np.ones(x.shape[1], np.float32)
        for f in self.view_.features:
            least[f.start : f.stop] = 1e-3 if f.kind == "number" else LEAST_BINARY_SPREAD
        return np.maximum(x.std(axis=0), least)

    def _check(self, choices: Mapping[str, Sequence[str]]) -> None:
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} = '{getattr(self, name)}' is not known; known: {', '.join(known)}")
