"""TarDiff (Deng et al. 2025, arXiv:2504.17613): diffusion over signals, guided by the influence on a downstream model.

Schedule, class-conditional U-Net, eps-loss and Algorithm 1 are the paper's; its released code's faults are not repeated
(one normaliser over all channels; a batch's mean gradient in the place of each subject's; a step shrunk to nothing by
scaling it twice; guidance set and downstream model sharing rows). Where this differs on purpose: gaps are carried as
mask channels, and static features as channels, so that every table can be drawn; the network corrects the best linear
guess at what is behind the noise, and says of a flag how likely it is (`predict`); a step draws what the linear guess
leaves unknown of a number (`variance`); the last step matches what is drawn to train's distribution, feature by feature
(`calibrate`); the downstream models are cross-fitted, each with the gradient of the other's part of train; and the
scale of guidance is relative to the noise of a step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from generators.base import Generator, Log, Unsupported, classes, quiet
from generators.columns import labels
from generators.diffusion import marginals
from generators.diffusion.guides import (
    FEWEST,
    NETS,
    SETS,
    WAYS,
    Guide,
    directions,
    fit_guides,
    load_guides,
    scaled,
    typical,
)  # fmt: skip
from generators.diffusion.linear import Corrected, moments
from generators.diffusion.process import beta, gamma, ou_reverse
from generators.diffusion.signals import Signals
from generators.diffusion.timesnet import main_frequencies
from generators.diffusion.unet import UNet
from generators.training import build, device, dice_on, train, weights_of, with_weights

BATCH = {"cpu": 128, "cuda": 4_096}  # subjects sampled at once: few where caches are small
LONGEST = 64  # places of the U-Net's finest level; a longer signal is folded
CALIBRATION = 1_000  # subjects drawn to calibrate with
MOST_OFTEN = 10  # classes are shown alike in training, but no subject more than so many times as often as by chance


def betas(steps: int, low: float = 5e-4, high: float = 0.1) -> np.ndarray:
    """Variances of the steps: linear in their roots.

    >>> round(float(np.prod(1 - betas(200))), 5)
    0.0006
    """
    return np.linspace(low**0.5, high**0.5, steps) ** 2


def evenly(steps: int, n: int, dice: torch.Generator) -> Tensor:
    """n steps (n,) of a grid, one from each n-th of it: every batch sees the whole chain, so that losses vary less."""
    shares = (torch.arange(n, device=dice.device) + torch.rand(n, generator=dice, device=dice.device)) / n
    return (shares * steps).long().clamp(max=steps - 1)


def against(s: Tensor, axis: int) -> Tensor:
    """Log-odds of each of k alternatives along an axis, of log-weights s, against all the others together.

    >>> against(torch.tensor([0.5, 0.3, 0.2]).log(), 0).exp().double().numpy().round(3).tolist()
    [1.0, 0.429, 0.25]
    """
    s = s.movedim(axis, -1)
    itself = torch.eye(s.shape[-1], dtype=torch.bool, device=s.device)
    others = s[..., None, :].masked_fill(itself, -torch.inf).logsumexp(dim=-1)
    return (s - others).movedim(-1, axis)


@dataclass(frozen=True)
class Known:
    """What is known of signals, on one device, shaped as `Signals.center`: whether a feature has two values, the low
    and the high one, whether it is constant over the length; and each class's log-odds of the high one (2, c, l)."""

    two: Tensor
    low: Tensor
    high: Tensor
    still: Tensor
    odds: Tensor


class TarDiff(Generator):
    """Class-conditional diffusion of signals with target-oriented guidance.

    steps, batch, lr, ema, loss ("l1" or "l2", of numbers): training. predict: what the network says. "eps" is
    published. "v": of a number gamma eps - beta x0, which is as exact where little signal is left as where there is
    much, from a linear guess on; of a flag, a level or a mask what its context adds to the log-odds of its class and of
    its own noisy values, which are known. width, blocks, dropout: U-Net (published: 64 channels, 20,000 steps of 256;
    the defaults fit a CPU). grid: steps of the diffusion. sample_steps: how many of them sampling visits. sampler:
    "ddpm" (ancestral; flags, levels and masks are drawn at every step) or "ddim". variance: what a step of "ddpm" knows
    of a number's x0: its mean alone ("none", published), which narrows what is drawn, or also the variance that the
    linear guess has ("linear"; under "eps", which has no such guess, as "none"). calibrate: match numbers' marginals
    to train's (under "eps" all marginals). cover: share of subjects whose whole length fits the grid of a longitudinal
    table.

    guidance_scale: 0 for none; by how many standard deviations of the step's noise the mean moves: in the unit
    "typical" that of a subject with a J of median size, others in proportion to theirs (at most ten times); in the unit
    "relative" everybody's alike; "raw" is the paper's w, which knows no noise. guide: what moves it: "influence" (J),
    and two controls, "random" (J of a random G of the same norm) and "label" (the gradient of log p(y | x)). guide_at:
    whether it is taken at the noisy "xt" (Algorithm 1) or at the predicted "x0". guide_net: downstream model,
    "timesnet" or "conv". guide_set: whose gradients G is the mean of: "all", "minority", "majority", "balanced" (both
    classes count alike). guide_share: what share of each class is asked.
    """

    AT_SAMPLE = ("guidance_scale", "guidance_unit", "guide", "guide_at", "guide_net", "guide_set")

    def __init__(
        self, steps: int = 2_500, batch: int = 64, lr: float = 2e-3, ema: float = 0.999, loss: str = "l2",
        predict: str = "v", width: int = 32, blocks: int = 1, dropout: float = 0.0, grid: int = 200,
        sample_steps: int = 25, sampler: str = "ddpm", variance: str = "linear", calibrate: bool = True,
        cover: float = 0.995, guidance_scale: float = 0.0, guidance_unit: str = "typical", guide: str = "influence",
        guide_at: str = "x0", guide_net: str = "timesnet", guide_set: str = "all", guide_share: float = 1.0,
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
        self.variance = _one_of("variance", variance, ("none", "linear"))
        self.calibrate = calibrate
        self.cover = cover
        self.guidance_scale = guidance_scale
        self.guidance_unit = _one_of("guidance_unit", guidance_unit, ("relative", "typical", "raw"))
        self.guide = _one_of("guide", guide, WAYS)
        self.guide_at = _one_of("guide_at", guide_at, ("x0", "xt"))
        self.guide_net = _one_of("guide_net", guide_net, NETS)
        self.guide_set = _one_of("guide_set", guide_set, SETS)
        self.guide_share = guide_share

    @classmethod
    def suggest(cls, trial: Any) -> dict[str, Any]:
        """Rate, regularisation, loss, what guides, by whose gradients and how far."""
        return {
            "lr": trial.suggest_float("lr", 3e-4, 3e-3, log=True),
            "dropout": trial.suggest_float("dropout", 0.0, 0.3),
            "loss": trial.suggest_categorical("loss", ["l1", "l2"]),
            "guide": trial.suggest_categorical("guide", ["influence", "label"]),
            "guide_set": trial.suggest_categorical("guide_set", ["all", "minority"]),
            "guidance_scale": trial.suggest_categorical("guidance_scale", [0.0, 0.003, 0.01, 0.03]),
        }

    def fit(
        self, train: pd.DataFrame, *, target: str | None = None, static: Sequence[str] = (),
        describe: Mapping[str, str] | None = None, seed: int, log: Log = quiet,
    ) -> Self:  # fmt: skip
        """Learn to see x0 behind the noise; then downstream models with their G, where there is a target with enough
        subjects; then how what is drawn must be bent to train's marginals."""
        self.signals_ = Signals.fit(
            train, static=static, without=[target] if target else [], cover=self.cover, absences=True
        )
        y = labels(train, target)
        x = self.signals_.lend(self.signals_.transform(train), y, np.random.default_rng(seed))
        self.target_, self.rate_ = target, float(y.mean())
        self.low_, self.high_ = x.min(axis=0), x.max(axis=0)
        self.odds_ = self.signals_.log_odds(x, y)
        self.still_, self.levels_ = self.signals_.still(), self.signals_.levels()
        self.moments_ = moments(x, y, seed=seed) if self.predict == "v" else {}
        self.weights_ = self._train(x, y, seed, log)
        self.frequencies_ = main_frequencies(x)
        self.guides_ = fit_guides(x, y, share=self.guide_share, seed=seed)
        self.typical_ = {
            net: {
                which: {way: typical(self._guides(net, which), way, x, y, seed=seed) for way in WAYS} for which in SETS
            }
            for net in self.guides_
        }
        self.maps_ = self._maps(x, y, seed) if self.calibrate else []
        return self

    def sample(self, n: int, *, given: Mapping[str, object] | None = None, seed: int) -> pd.DataFrame:
        """n subjects, classes in train's proportion; given the target, of one class; other conditions by rejection.

        Guided and unguided sampling start from the same noise. Unsupported for a class that train lacks, and for
        guidance where train had too few subjects of a class to fit a downstream model.
        """
        self._needs_fit("weights_")
        given = dict(given or {})
        if given and set(given) != {self.target_}:
            return self.reject(n, given, seed=seed)
        rng = np.random.default_rng(seed)
        y = classes(n, self.rate_, self.target_, given, rng)
        if self.guidance_scale and not self.guides_:
            raise Unsupported(f"guidance needs a target with {2 * FEWEST} subjects of each class in train")
        x = self.draw(y, seed=int(rng.integers(2**62)))
        if self.maps_:
            x = marginals.bend(self.signals_, x, self.maps_)
        return self.signals_.inverse(x, held={self.target_: pd.Series(y == 1)} if self.target_ else {})

    def draw(self, y: np.ndarray, *, seed: int, guided: bool = True) -> np.ndarray:
        """Signals (n, c, l) of classes y (n,), as the diffusion draws them."""
        at = device()
        net = with_weights(self._net(*self.low_.shape), self.weights_).to(at)
        guides = self._guides(self.guide_net, self.guide_set) if guided and self.guidance_scale else []
        guides = [g.to(at) for g in guides]
        bounds = tuple(torch.from_numpy(b).to(at) for b in (self.low_, self.high_))
        dice = dice_on(at, seed)
        parts = []
        for part in torch.from_numpy(y).split(BATCH[at.type]):
            noise = torch.randn((len(part), *self.low_.shape), generator=dice, device=at)
            parts.append(self._reverse(net, noise, part.to(at), bounds, guides, dice).cpu().numpy())
        return np.concatenate(parts)

    @torch.no_grad()
    def _reverse(
        self, net: Any, x: Tensor, y: Tensor, bounds: tuple[Tensor, ...], guides: list[Guide],
        dice: torch.Generator,
    ) -> Tensor:  # fmt: skip
        """The chain from noise x (b, c, l) to time 0; the mean of every step but the last is moved by w J."""
        times, known = self._times(), self._known(x.device)
        steps = np.unique(np.round(np.linspace(0, self.grid - 1, min(self.sample_steps, self.grid))).astype(int))
        chain = [0.0, *times[steps].tolist()]
        for k in range(len(chain) - 1, 0, -1):
            t, to = chain[k], chain[k - 1]
            g, b = float(gamma(t)), float(beta(t))
            out = net(x, x.new_full((len(x),), (steps[k - 1] + 1) / self.grid), y)
            x0 = self._clean(out, x, y, g, b, known).clamp(*bounds)
            scale, weight, sigma = ou_reverse(t, to)
            move = self._move(guides, x, x0, y, t, to, sigma) if guides and to > 0 else None
            if self.sampler == "ddim":
                x = float(gamma(to)) * x0 + float(beta(to)) * (x - g * x0) / b
            else:
                if to > 0:
                    x0 = self._decided(x0, dice, known)
                    if self.predict == "v" and self.variance == "linear":
                        noise = torch.randn(x.shape, generator=dice, device=x.device).to(x)
                        x0 = torch.where(known.two, x0, x0 + net.posterior_noise(noise, g, b, y))
                noise = torch.randn(x.shape, generator=dice, device=x.device).to(x)
                x = scale * (x - weight * (x - g * x0) / b) + sigma * noise
            x = x if move is None else x + move
        return x

    def _known(self, at: torch.device) -> Known:
        return Known(*(torch.from_numpy(v).to(at) for v in (*self.signals_.values(), self.still_, self.odds_)))

    def _clean(self, out: Tensor, x: Tensor, y: Tensor, g: float, b: float, known: Known) -> Tensor:
        """x0 as the network's output says of x, of classes y, signal g = gamma(t) and noise b = beta(t)."""
        if self.predict == "eps":
            return (x - b * out) / g
        chance = self._logit(out, x, y, g, b, known).sigmoid()
        return torch.where(known.two, known.low + (known.high - known.low) * chance, g * x - b * out)

    def _decided(self, x0: Tensor, dice: torch.Generator, known: Known) -> Tensor:
        """x0 with one of its two values, drawn by what is expected of it, where a feature is a flag, a level or a mask:
        the step's kernel is then exact for each of them, however long the step. Of a category one level is drawn; what
        is constant over the length is drawn once for all of it."""
        if self.predict == "eps":
            return x0
        chance = (x0 - known.low) / (known.high - known.low)
        u = torch.rand(x0.shape, generator=dice, device=x0.device).to(x0)
        u = torch.where(known.still, u[:, :, :1], u)
        drawn = u < chance
        axis = self._axis()
        for start, end in self.levels_:
            share, of_it = chance.narrow(axis, start, end - start), drawn.narrow(axis, start, end - start)
            top = (share / share.sum(dim=axis, keepdim=True).clamp(min=1e-12)).cumsum(dim=axis)
            level = (u.narrow(axis, start, 1) >= top).sum(dim=axis, keepdim=True).clamp(max=end - start - 1)
            of_it.zero_().scatter_(axis, level, True)
        return torch.where(known.two, torch.where(drawn, known.high, known.low), x0)

    def _logit(
        self, out: Tensor, x: Tensor, y: Tensor, g: float | Tensor, b: float | Tensor, known: Known
    ) -> Tensor:  # fmt: skip
        """Log-odds that a feature of two values has the high one, by Bayes: its class's, its context's and its own.

        What is constant over the length has the evidence of all its places; a level has it against the other levels'.
        """
        low, high, still = known.low, known.high, known.still
        own = g * (high - low) * (x - g * (high + low) / 2) / b**2
        own = torch.where(still, own.sum(dim=2, keepdim=True), own)
        out = torch.where(still, out.mean(dim=2, keepdim=True), out)
        odds = known.odds[y]
        logit, weight = odds + own, nn.functional.logsigmoid(odds) + own
        for start, end in self.levels_:
            level = (self._axis(), start, end - start)
            logit.narrow(*level).copy_(against(weight.narrow(*level), self._axis()))
        return logit + out

    def _axis(self) -> int:
        """Along which axis of signals (b, c, l) the features stand."""
        return 1 if self.signals_.center.shape[1] == 1 else 2

    def _move(
        self, guides: list[Guide], x: Tensor, x0: Tensor, y: Tensor, t: float, to: float, sigma: float
    ) -> Tensor:  # fmt: skip
        """What guidance adds to the mean of a step (b, c, l)."""
        j = directions(guides, self.guide, x0 if self.guide_at == "x0" else x, y)
        if self.guidance_unit != "raw":
            usual = self.typical_[self.guide_net][self.guide_set][self.guide]
            return self.guidance_scale * sigma * scaled(j, self.guidance_unit, usual)
        if self.guide_at == "x0":  # d mean / d x0 of q(x_s | x_t, x0)
            j = j * float(gamma(to) * beta(t - to) ** 2 / beta(t) ** 2)
        return self.guidance_scale * j

    def _times(self) -> np.ndarray:
        """The grid as times of an Ornstein-Uhlenbeck process, whose kernels are DDPM's: alpha_bar = e^(-2 t)."""
        return -0.5 * np.cumsum(np.log1p(-betas(self.grid)))

    def _net(self, c: int, length: int) -> nn.Module:
        unet = partial(
            UNet, c, length, classes=2, width=self.width, blocks=self.blocks, dropout=self.dropout,
            fold=-(-length // LONGEST),
        )  # fmt: skip
        if self.predict == "eps":
            return unet()
        times, (two, _, _) = self._times(), self.signals_.values()
        return Corrected(unet(beside=c), self.moments_, gamma(times), beta(times), ~two)

    def _train(self, x: np.ndarray, y: np.ndarray, seed: int, log: Log) -> dict[str, np.ndarray]:
        times, known = self._times(), self._known(device())
        g, b = (torch.from_numpy(v.astype(np.float32)).to(device()) for v in (gamma(times), beta(times)))

        def loss(net: nn.Module, rows: tuple[Tensor, ...], dice: torch.Generator) -> Tensor:
            x0, label = rows
            k = evenly(self.grid, len(x0), dice)
            noise = torch.randn(x0.shape, generator=dice, device=dice.device)
            g_k, b_k = g[k, None, None].to(x0), b[k, None, None].to(x0)
            x = g_k * x0 + b_k * noise
            out = net(x, (k + 1).to(x0) / self.grid, label).float()
            gap = out - (noise if self.predict == "eps" else g_k * noise - b_k * x0)
            each = gap.abs() if self.loss == "l1" else gap.square()
            if self.predict == "v":
                logit = self._logit(out, x, label, g_k, b_k, known)
                is_high = (x0 > (known.low + known.high) / 2).to(x0)
                each = torch.where(known.two, binary_cross_entropy_with_logits(logit, is_high, reduction="none"), each)
            return each.mean()

        sizes = np.bincount(y, minlength=2)
        net = build(lambda: self._net(x.shape[1], x.shape[2]), seed=seed)
        data = (torch.from_numpy(x), torch.from_numpy(y))
        net = train(
            net, loss, data, seed=seed, steps=self.steps, batch=self.batch, lr=self.lr, ema=self.ema,
            weights=torch.from_numpy(1 / np.maximum(sizes, len(y) / MOST_OFTEN)[y]), validation=0.05, log=log,
        )  # fmt: skip
        return weights_of(net)

    def _guides(self, net: str, which: str) -> list[Guide]:
        c, length = self.low_.shape
        return load_guides(
            self.guides_, net=net, which=which, rate=self.rate_, c=c, length=length, frequencies=self.frequencies_
        )  # fmt: skip

    def _maps(self, x: np.ndarray, y: np.ndarray, seed: int) -> list[np.ndarray]:
        """The maps from what is drawn unguided to train, the classes together: maps of each class apart would differ
        by chance, and a classifier trained on what is drawn would learn that."""
        mine = y[np.random.default_rng(seed).permutation(len(y))[:CALIBRATION]]
        drawn = self.draw(np.resize(mine, max(len(mine), 100)), seed=seed, guided=False)
        return marginals.learn(self.signals_, drawn, x, flags=self.predict == "eps")


def _one_of(name: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise ValueError(f"{name} = '{value}': known are {', '.join(known)}")
    return value
