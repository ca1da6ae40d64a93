"""TarDiff (Deng et al. 2025, arXiv:2504.17613): diffusion over signals, guided by the influence on a downstream model.

Schedule, class-conditional U-Net, eps-loss and Algorithm 1 are the paper's; its released code's faults are not repeated
(one normaliser over all channels; a batch's mean gradient in the place of each subject's; a step shrunk to nothing by
scaling it twice; guidance set and downstream model sharing rows). Where this differs on purpose: gaps are carried as
mask channels, and static features as channels, so that every table can be drawn; the last step matches what is drawn
to train's distribution, feature by feature and class by class (`calibrate`); the downstream models are cross-fitted,
each with the gradient of the other's part of train; and the scale of guidance is relative to the noise of a step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from generators.base import Generator, Log, quiet
from generators.columns import labels
from generators.diffusion import influence, marginals, timesnet
from generators.diffusion.process import beta, gamma, ou_reverse
from generators.diffusion.signals import Signals
from generators.diffusion.unet import UNet
from generators.training import build, device, train, weights_of, with_weights

BATCH = 512  # subjects sampled at once
LONGEST = 64  # places of the U-Net's finest level; a longer signal is folded
LARGEST = 10.0  # a subject's J in the unit "typical", in typical ones
CALIBRATION = 1_000  # subjects drawn to calibrate with
FEWEST = 8  # subjects of each class, in each part of train, for a downstream model
WAYS = ("influence", "random", "label")
SETS = ("all", "minority", "majority", "balanced")


def betas(steps: int, low: float = 5e-4, high: float = 0.1) -> np.ndarray:
    """Variances of the steps: linear in their roots.

    >>> float(np.prod(1 - betas(200)).round(5))
    0.00062
    """
    return np.linspace(low**0.5, high**0.5, steps) ** 2


class TarDiff(Generator):
    """Class-conditional diffusion of signals with target-oriented guidance.

    steps, batch, lr, ema, loss ("l1" or "l2"): training. predict: what the network says, "eps" (published) or "v" =
    gamma eps - beta x0, which is as exact where there is little signal left as where there is much. width, blocks,
    dropout: U-Net (published: 64 channels, 20,000 steps of 256; the defaults fit a CPU). grid: diffusion steps.
    sample_steps: how many of them sampling visits; sampler: "ddim" or "ddpm". calibrate: match marginals to train's.
    cover: share of subjects whose whole length fits the grid of a longitudinal table.

    guidance_scale: 0 for none; it is in standard deviations of the step's noise that the mean moves by: each subject's
    by so many in the unit "relative"; in the unit "typical" a subject's with a J of median size, others in proportion
    to theirs (at most ten times); "raw" is the paper's w, which knows no noise. guide: what moves it: "influence" (J),
    and two controls, "random" (J of a random G of the same norm) and "label" (the gradient of log p(y | x)). guide_at:
    whether it is taken at the noisy "xt" (Algorithm 1) or at the predicted "x0". guide_net: downstream model,
    "timesnet" or "conv". guide_set, guide_share: which subjects G is the mean over: "all", "minority", "majority",
    "balanced", and what share of them.
    """

    AT_SAMPLE = ("guidance_scale", "guidance_unit", "guide", "guide_at")

    def __init__(
        self, steps: int = 2_500, batch: int = 64, lr: float = 2e-3, ema: float = 0.999, loss: str = "l2",
        predict: str = "v", width: int = 32, blocks: int = 1, dropout: float = 0.0, grid: int = 200,
        sample_steps: int = 25, sampler: str = "ddim", calibrate: bool = True, cover: float = 0.995,
        guidance_scale: float = 0.0, guidance_unit: str = "relative", guide: str = "influence", guide_at: str = "x0",
        guide_net: str = "timesnet", guide_set: str = "all", guide_share: float = 1.0,
    ) -> None:  # fmt: skip
        self.steps = steps
        self.batch = batch
        self.lr = lr
        self.ema = ema
        self.loss = _one_of("loss", loss, ("l1", "l2"))
        self.predict = _one_of("predict", predict, ("v", "eps"))
        self.width = width
        self.blocks = blocks
        self.dropout = dropout
        self.grid = grid
        self.sample_steps = sample_steps
        self.sampler = _one_of("sampler", sampler, ("ddim", "ddpm"))
        self.calibrate = calibrate
        self.cover = cover
        self.guidance_scale = guidance_scale
        self.guidance_unit = _one_of("guidance_unit", guidance_unit, ("relative", "typical", "raw"))
        self.guide = _one_of("guide", guide, WAYS)
        self.guide_at = _one_of("guide_at", guide_at, ("x0", "xt"))
        self.guide_net = _one_of("guide_net", guide_net, ("timesnet", "conv"))
        self.guide_set = _one_of("guide_set", guide_set, SETS)
        self.guide_share = guide_share

    @classmethod
    def suggest(cls, trial: Any) -> dict[str, Any]:
        """Rate, regularisation, loss and the strength of guidance."""
        return {
            "lr": trial.suggest_float("lr", 3e-4, 3e-3, log=True),
            "dropout": trial.suggest_float("dropout", 0.0, 0.3),
            "loss": trial.suggest_categorical("loss", ["l1", "l2"]),
            "guidance_scale": trial.suggest_categorical("guidance_scale", [0.0, 0.03, 0.1, 0.3]),
        }

    def fit(
        self, train: pd.DataFrame, *, target: str | None = None, static: Sequence[str] = (),
        describe: Mapping[str, str] | None = None, seed: int, log: Log = quiet,
    ) -> Self:  # fmt: skip
        """Learn eps(x_t, t, y); then two downstream models with their G, where there is a target with enough subjects;
        then how what is drawn must be bent to train's marginals."""
        self.signals_ = Signals.fit(train, static=static, without=[target] if target else [], cover=self.cover)
        y = labels(train, target)
        x = self.signals_.lend(self.signals_.transform(train), y, np.random.default_rng(seed))
        self.target_, self.rate_ = target, float(y.mean())
        self.low_, self.high_ = x.min(axis=0), x.max(axis=0)
        self.weights_ = self._train(x, y, seed, log)
        self.guides_ = self._guides(x, y, seed) if target else []
        self.typical_ = {way: self._typical(way, x, y, seed) for way in WAYS} if self.guides_ else {}
        self.bends_ = self._bends(x, y, seed) if self.calibrate else {}
        return self

    def sample(self, n: int, *, given: Mapping[str, object] | None = None, seed: int) -> pd.DataFrame:
        """n subjects, classes in train's proportion; given the target, of one class; other conditions by rejection.

        Guided and unguided sampling start from the same noise.
        """
        self._needs_fit("weights_")
        given = dict(given or {})
        rng = np.random.default_rng(seed)
        y = (rng.permutation(n) < round(n * self.rate_)).astype(np.int64)
        if given:
            if set(given) != {self.target_}:
                return self.reject(n, given, seed=seed)
            y[:] = bool(given[self.target_])  # type: ignore[index]
        x = self.draw(y, seed=int(rng.integers(2**62)))
        for label, maps in self.bends_.items():
            rows = y == int(label)
            x[rows] = marginals.bend(self.signals_, x[rows], maps)
        return self.signals_.inverse(x, held={self.target_: pd.Series(y == 1)} if self.target_ else {})

    def draw(self, y: np.ndarray, *, seed: int, guided: bool = True) -> np.ndarray:
        """Signals (n, c, l) of classes y (n,), as the diffusion draws them."""
        at = device()
        net = with_weights(self._net(*self.low_.shape), self.weights_).to(at)
        guides = [g.to(at) for g in self._loaded()] if guided and self.guidance_scale else []
        bounds = tuple(torch.from_numpy(b).to(at) for b in (self.low_, self.high_))
        dice = torch.Generator().manual_seed(seed)
        parts = []
        for part in torch.from_numpy(y).split(BATCH):
            noise = torch.randn((len(part), *self.low_.shape), generator=dice).to(at)
            parts.append(self._reverse(net, noise, part.to(at), bounds, guides, dice).cpu().numpy())
        return np.concatenate(parts)

    @torch.no_grad()
    def _reverse(
        self, net: nn.Module, x: Tensor, y: Tensor, bounds: tuple[Tensor, ...], guides: list["Guide"],
        dice: torch.Generator,
    ) -> Tensor:  # fmt: skip
        """The chain from noise x (b, c, l) to time 0; the mean of every step but the last is moved by w J."""
        times = self._times()
        steps = np.unique(np.round(np.linspace(0, self.grid - 1, min(self.sample_steps, self.grid))).astype(int))
        chain = [0.0, *times[steps].tolist()]
        for k in range(len(chain) - 1, 0, -1):
            t, to = chain[k], chain[k - 1]
            eps = self._eps(net(x, x.new_full((len(x),), (steps[k - 1] + 1) / self.grid), y), x, t)
            x0 = ((x - float(beta(t)) * eps) / float(gamma(t))).clamp(*bounds)
            eps = (x - float(gamma(t)) * x0) / float(beta(t))
            scale, weight, sigma = ou_reverse(t, to)
            move = self._move(guides, x, x0, y, t, to, sigma) if guides and to > 0 else None
            if self.sampler == "ddim":
                x = float(gamma(to)) * x0 + float(beta(to)) * eps
            else:
                x = scale * (x - weight * eps) + sigma * torch.randn(x.shape, generator=dice).to(x)
            x = x if move is None else x + move
        return x

    def _eps(self, out: Tensor, x: Tensor, t: float) -> Tensor:
        """The noise that the network's output says is in x."""
        return out if self.predict == "eps" else float(beta(t)) * x + float(gamma(t)) * out

    def _move(
        self, guides: list["Guide"], x: Tensor, x0: Tensor, y: Tensor, t: float, to: float, sigma: float
    ) -> Tensor:
        """What guidance adds to the mean of a step (b, c, l); the guides take turns over the subjects."""
        at, j = x0 if self.guide_at == "x0" else x, torch.zeros_like(x)
        for i, guide in enumerate(guides):
            j[i :: len(guides)] = guide.direction(self.guide, at[i :: len(guides)], y[i :: len(guides)])
        if self.guidance_unit == "relative":
            return self.guidance_scale * sigma * j / sizes(j)
        if self.guidance_unit == "typical":
            typical = self.typical_[self.guide]
            j = j * (LARGEST * typical / sizes(j)).clamp(max=1.0)
            return self.guidance_scale * sigma * j / typical
        if self.guide_at == "x0":  # d mean / d x0 of q(x_s | x_t, x0)
            j = j * float(gamma(to) * beta(t - to) ** 2 / beta(t) ** 2)
        return self.guidance_scale * j

    def _times(self) -> np.ndarray:
        """The grid as times of an Ornstein-Uhlenbeck process, whose kernels are DDPM's: alpha_bar = e^(-2 t)."""
        return -0.5 * np.cumsum(np.log1p(-betas(self.grid)))

    def _net(self, c: int, length: int) -> nn.Module:
        fold = -(-length // LONGEST)
        return UNet(c, length, classes=2, width=self.width, blocks=self.blocks, dropout=self.dropout, fold=fold)

    def _train(self, x: np.ndarray, y: np.ndarray, seed: int, log: Log) -> dict[str, np.ndarray]:
        times = self._times()
        g, b = (torch.from_numpy(v.astype(np.float32)) for v in (gamma(times), beta(times)))

        def loss(net: nn.Module, rows: tuple[Tensor, ...], dice: torch.Generator) -> Tensor:
            x0, label = rows
            k = torch.randint(self.grid, (len(x0),), generator=dice, device=dice.device).cpu()
            noise = torch.randn(x0.shape, generator=dice, device=dice.device)
            g_k, b_k = g[k, None, None].to(x0), b[k, None, None].to(x0)
            wanted = noise if self.predict == "eps" else g_k * noise - b_k * x0
            gap = net(g_k * x0 + b_k * noise, (k + 1).to(x0) / self.grid, label) - wanted
            return gap.abs().mean() if self.loss == "l1" else gap.square().mean()

        sizes = np.bincount(y, minlength=2)
        net = build(lambda: self._net(x.shape[1], x.shape[2]), seed=seed)
        data = (torch.from_numpy(x), torch.from_numpy(y))
        net = train(
            net, loss, data, seed=seed, steps=self.steps, batch=self.batch, lr=self.lr, ema=self.ema,
            weights=torch.from_numpy(1 / np.sqrt(sizes[y])), validation=0.05, log=log,
        )  # fmt: skip
        return weights_of(net)

    # --- guidance ---

    def _guides(self, x: np.ndarray, y: np.ndarray, seed: int) -> list[dict[str, Any]]:
        """Two downstream models, each fitted on a half of train, with G over the other; none for small classes."""
        rng = np.random.default_rng(seed)
        part = halves(y, rng)
        if min(np.bincount(2 * y + part, minlength=4)) < FEWEST:
            return []
        found = []
        for half in (0, 1):
            inside, outside = np.flatnonzero(part == half), np.flatnonzero(part != half)
            net = build(lambda: timesnet.classifier(self.guide_net, x), seed=seed + half)
            net = timesnet.fit_classifier(net, x[inside], y[inside], seed=seed + half)
            chosen = self._chosen(outside, y, rng)
            g = influence.mean_gradient(net, torch.from_numpy(x[chosen]), torch.from_numpy(y[chosen]))
            found.append({"net": weights_of(net), "g": {k: v.numpy() for k, v in g.items()}})
        self.frequencies_ = timesnet.main_frequencies(x, 3)
        return found

    def _chosen(self, rows: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The guidance set among these rows of train."""
        rows = rng.permutation(rows)
        rare = int(2 * y.sum() < len(y))
        small, large = rows[y[rows] == rare], rows[y[rows] != rare]
        sets = {"all": rows, "minority": small, "majority": large, "balanced": np.r_[small, large[: len(small)]]}
        chosen = sets[self.guide_set]
        return rng.permutation(chosen)[: max(1, round(self.guide_share * len(chosen)))]

    def _typical(self, way: str, x: np.ndarray, y: np.ndarray, seed: int) -> float:
        """The median over train's subjects of the root mean square of J."""
        rows = np.random.default_rng(seed).permutation(len(x))[:CALIBRATION]
        parts = [torch.from_numpy(rows[i::2]) for i in (0, 1)]
        found = [
            sizes(g.direction(way, torch.from_numpy(x)[part], torch.from_numpy(y)[part]))
            for g, part in zip(self._loaded(), parts, strict=True)
        ]
        return float(torch.cat(found).median())

    def _loaded(self) -> list["Guide"]:
        found = []
        for i, saved in enumerate(self.guides_):
            c, length = self.low_.shape
            net: nn.Module = (
                timesnet.TimesNet(c, length, self.frequencies_) if self.guide_net == "timesnet" else timesnet.ConvNet(c)
            )
            g = {k: torch.from_numpy(np.array(v)) for k, v in saved["g"].items()}
            found.append(Guide(with_weights(net, saved["net"]), g, i))
        return found

    # --- calibration ---

    def _bends(self, x: np.ndarray, y: np.ndarray, seed: int) -> dict[str, list[np.ndarray]]:
        """Per class, the maps from what is drawn unguided to train."""
        found = {}
        for label in np.unique(y):
            mine = x[y == label]
            n = max(min(len(mine), CALIBRATION), 100)
            drawn = self.draw(np.full(n, label), seed=seed + int(label), guided=False)
            found[str(label)] = marginals.learn(self.signals_, drawn, mine)
        return found


@dataclass
class Guide:
    """A downstream model with its G."""

    net: nn.Module
    g: influence.Weights
    number: int

    def to(self, at: torch.device) -> "Guide":
        """The same on a device."""
        return Guide(self.net.to(at), {k: v.to(at) for k, v in self.g.items()}, self.number)

    def direction(self, way: str, x: Tensor, y: Tensor) -> Tensor:
        """J (b, c, l) at x."""
        if way == "label":
            return influence.label_gradient(self.net, x, y)
        return influence.influence(self.net, self.g if way == "influence" else self._random(), x, y)

    def _random(self) -> influence.Weights:
        """A G in a random direction, as long as the true one, weight by weight."""
        dice = torch.Generator().manual_seed(self.number)
        out = {}
        for name, g in self.g.items():
            other = torch.randn(g.shape, generator=dice).to(g)
            out[name] = other * g.norm() / other.norm()
        return out


def sizes(j: Tensor) -> Tensor:
    """The root mean square (b, 1, 1) of each subject's signal."""
    return j.square().mean(dim=(1, 2), keepdim=True).sqrt().clamp(min=1e-20)


def halves(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """0 or 1 (n,): two halves at random, of each class."""
    part = np.zeros(len(y), int)
    for label in np.unique(y):
        part[rng.permutation(np.flatnonzero(y == label))[::2]] = 1
    return part


def _one_of(name: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise ValueError(f"{name} = '{value}': known are {', '.join(known)}")
    return value
