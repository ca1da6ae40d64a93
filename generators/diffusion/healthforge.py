"""HealthForge: an autoencoder of records, and diffusion in its latents under a sentence that describes the person.

After the public repository UofT-CSC490-F2025/health-forge. The method is kept: latents standardised, the log-SNR
cosine schedule, classifier-free guidance by a sentence embedding, ancestral sampling with interpolated variance. Its
faults are parameters that are off by default: a scalar weight on all ones (`balanced`) and a threshold
(`decode="threshold"`), which together draw too many codes. Added: latents jittered while the autoencoder learns, the
number of flags as a feature (`count`), the target as a class that may be asked for, the text as a token beside the
latent's. The published network attends over a latent of one piece; more pieces (`tokens`) give attention something to
do, and were measured to be worse.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from generators import language, text
from generators.base import Generator, Log, StopFit, Unsupported, quiet, reject
from generators.columns import labels
from generators.diffusion.autoencoder import Autoencoder, Likelihood, counted, weight_of_ones
from generators.diffusion.nets import LatentDenoiser
from generators.diffusion.process import logsnr_cosine, logsnr_line, signal
from generators.diffusion.sampling import ddpm_ancestral
from generators.encode import Matrix
from generators.training import build, device, dice_on, train, weights_of, with_weights

BATCH = 4_096  # subjects sampled at once
PASSES, LEAST_AE_STEPS, LEAST_STEPS, MOST_STEPS = 80, 2_000, 3_000, 12_000
ANY = 2  # the class of a subject of either


class HealthForge(Generator):
    """Latent diffusion over the matrix view, conditional on the target's class and on text.

    ae_steps, hidden, latent, jitter, ae_dropout: the autoencoder. steps, batch, lr, width, depth, dropout, ema: the
    denoiser (steps of either, 0: 80 passes over train, at least 2,000 and 3,000, at most 12,000). It attends over
    `tokens` pieces of the latent and the text. objective: "eps" or "v". scale: of classifier-free guidance by text.
    drop: how often text and class are left out in training. v: interpolation of the two variances of the ancestral
    step (published: .1, which narrows what is drawn). sample_steps: predictions of the chain. decode: "sample" or
    "threshold". balanced: the published loss of the autoencoder. count: whether the number of flags is a feature of its
    own, and so many are drawn.
    texts: the most subjects described to the network, 0 for none (no text is then understood). encoder: folder of a
    sentence encoder, "" for the packaged MiniLM. rewriter, judge: local path or hub name of language models that
    rewrite the sentences and judge the result; "" for none. cover: share of subjects whose whole length fits the grid
    of a longitudinal table.
    """

    AT_SAMPLE = ("scale", "v", "sample_steps", "decode")

    def __init__(
        self, ae_steps: int = 0, hidden: int = 256, latent: int = 16, jitter: float = 0.6, ae_dropout: float = 0.1,
        steps: int = 0, batch: int = 256, lr: float = 1e-3, width: int = 64, depth: int = 3, dropout: float = 0.0,
        ema: float = 0.0, tokens: int = 1, objective: str = "v", scale: float = 2.0, drop: float = 0.2,
        v: float = 0.8, sample_steps: int = 100, decode: str = "sample", balanced: bool = False, count: bool = True,
        texts: int = 2_000, encoder: str = "", rewriter: str = "", judge: str = "", cover: float = 0.995,
    ) -> None:  # fmt: skip
        self.ae_steps = ae_steps
        self.hidden = hidden
        self.latent = latent
        self.jitter = jitter
        self.ae_dropout = ae_dropout
        self.steps = steps
        self.batch = batch
        self.lr = lr
        self.width = width
        self.depth = depth
        self.dropout = dropout
        self.ema = ema
        self.tokens = tokens
        self.objective = objective
        self.scale = scale
        self.drop = drop
        self.v = v
        self.sample_steps = sample_steps
        self.decode = decode
        self.balanced = balanced
        self.count = count
        self.texts = texts
        self.encoder = encoder
        self.rewriter = rewriter
        self.judge = judge
        self.cover = cover

    @classmethod
    def suggest(cls, trial: Any) -> dict[str, Any]:
        """Size of the latent, its jitter, rate and size of the denoiser."""
        return {
            "latent": trial.suggest_categorical("latent", [16, 32, 64, 128]),
            "jitter": trial.suggest_float("jitter", 0.05, 1.0, log=True),
            "lr": trial.suggest_float("lr", 2e-4, 5e-3, log=True),
            "width": trial.suggest_categorical("width", [64, 128, 256]),
            "depth": trial.suggest_int("depth", 2, 5),
        }

    def fit(
        self, train: pd.DataFrame, *, target: str | None = None, static: Sequence[str] = (),
        describe: Mapping[str, str] | None = None, seed: int, log: Log = quiet,
    ) -> Self:  # fmt: skip
        """Learn the autoencoder, describe subjects, then learn the denoiser."""
        self._check()
        view = Matrix.fit(train, static=static, scale="quantile", cover=self.cover)
        y = labels(train, target) + (0 if target else ANY)
        x, self.features_ = view.transform(train), view.features
        if self.count:
            x, self.features_ = counted(x, self.features_)
        stopped = False

        def told(step: int, **values: float) -> None:
            nonlocal stopped
            try:
                log(step, **values)
            except StopFit:
                stopped = True
                raise

        self.ae_ = self._train_autoencoder(x, seed, told)
        z = self._encoded(x, seed)
        self.center_, self.spread_ = z.mean(axis=0), z.std(axis=0) + 1e-6
        self.sentences_ = text.Sentences.fit(train, target=target, static=static, describe=describe)
        words, who = self._described(train, seed) if self.texts else (np.zeros((0, 2, 1), np.float32), np.zeros(0, int))
        self.words_ = int(words.shape[2])
        z = ((z - self.center_) / self.spread_).astype(np.float32)
        later, done = _stop if stopped else log, self._steps(self.ae_steps, len(x), LEAST_AE_STEPS)
        self.weights_ = self._train_denoiser(z, y, words, who, seed, lambda step, **v: later(done + step, **v))
        self.view_, self.target_, self.rate_ = view, target, float((y == 1).mean())
        return self

    def sample(
        self, n: int, *, given: Mapping[str, object] | None = None, prompts: Sequence[str] | None = None, seed: int
    ) -> pd.DataFrame:  # fmt: skip
        """n subjects: classes in train's proportion, or as given, or each for its own of n prompts, or all for one.

        Prompts guide and promise nothing. ValueError where their number is neither 1 nor n or `given` is asked beside
        them, Unsupported where no texts were learned.
        """
        self._needs_fit("weights_")
        if prompts is not None:
            if given:
                raise ValueError("prompts and given were both asked for: expected one of them")
            if len(prompts) not in (1, n):
                raise ValueError(f"got {len(prompts)} prompts for {n} subjects: expected 1 or {n}")
            return self._draw(n, np.full(n, ANY), self._embedded(prompts), seed)
        given = dict(given or {})
        if not given or set(given) == {self.target_}:
            return self.guide(n, given, seed=seed)
        return reject(lambda k, s: self.guide(k, given, seed=s), n, given, seed=seed)

    def guide(self, n: int, given: Mapping[str, object], *, seed: int) -> pd.DataFrame:
        """n subjects guided towards `given`, the target as a class and the rest as text, that need not meet it."""
        self._needs_fit("weights_")
        rng = np.random.default_rng(seed)
        y = (rng.permutation(n) < round(n * self.rate_)).astype(np.int64) if self.target_ else np.full(n, ANY)
        rest = {k: v for k, v in given.items() if k != self.target_}
        if self.target_ in given:
            y[:] = bool(given[self.target_])  # type: ignore[index]
        elif rest:
            y[:] = ANY
        words = self._embedded([self.sentences_.condition(rest)]) if rest and self.words_ > 1 else None
        return self._draw(n, y, words, int(rng.integers(2**62)))

    # --- the autoencoder ---

    def _check(self) -> None:
        if self.objective not in ("eps", "v"):
            raise ValueError(f"objective '{self.objective}': expected one of eps, v")
        if self.latent % self.tokens:
            raise ValueError(f"latent {self.latent} cannot be cut into {self.tokens} tokens of one size")

    def _steps(self, asked: int, n: int, least: int) -> int:
        return asked or min(max(PASSES * n // self.batch, least), MOST_STEPS)

    def _autoencoder(self, p: int) -> Autoencoder:
        return Autoencoder(p, hidden=self.hidden, latent=self.latent, jitter=self.jitter, dropout=self.ae_dropout)

    def _train_autoencoder(self, x: np.ndarray, seed: int, log: Log) -> dict[str, np.ndarray]:
        law = Likelihood(self.features_, device())
        weight = weight_of_ones(x, self.features_)

        def loss(net: Any, rows: tuple[Tensor, ...], dice: torch.Generator) -> Tensor:
            (x,) = rows
            noise = torch.randn((len(x), self.latent), generator=dice, device=x.device)
            out = net(x, noise).float()
            return law.balanced(out, x, weight) if self.balanced else law.nats(out, x, net.log_spread).mean() / 10

        net = build(lambda: self._autoencoder(x.shape[1]), seed=seed)
        net = train(
            net, loss, (torch.from_numpy(x),), seed=seed, steps=self._steps(self.ae_steps, len(x), LEAST_AE_STEPS),
            batch=self.batch, lr=self.lr, weight_decay=0.01, log=log,
        )  # fmt: skip
        return weights_of(net)

    @torch.inference_mode()
    def _encoded(self, x: np.ndarray, seed: int) -> np.ndarray:
        """Latents (n, latent) with the jitter the decoder has learned to bear."""
        at = device()
        net: Any = with_weights(build(lambda: self._autoencoder(x.shape[1]), seed=0), self.ae_).to(at)
        z = torch.cat([net.encode(part.to(at)) for part in torch.from_numpy(x).split(BATCH)]).cpu().numpy()
        return z + self.jitter * np.random.default_rng(seed).standard_normal(z.shape).astype(np.float32)

    # --- text ---

    def _described(self, train: pd.DataFrame, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings (m, 2, w) of the whole and a short sentence of m subjects, and which subjects they are."""
        rng = np.random.default_rng(seed)
        subjects = train.index.get_level_values("subject").unique()
        who = np.sort(rng.permutation(len(subjects))[: self.texts])
        some = train[train.index.get_level_values("subject").isin(subjects[who])]
        whole, counts = language.labels(self.sentences_.of(some), rewriter=self.rewriter, judge=self.judge, seed=seed)
        self.rewritten_ = counts
        both = [language.embed(t, folder=self.encoder) for t in (whole, self.sentences_.short(some, seed=seed))]
        return np.stack(both, axis=1), who

    def _embedded(self, prompts: Sequence[str]) -> np.ndarray:
        if self.words_ == 1:
            raise Unsupported("this HealthForge was fitted with texts=0: it has learned no text")
        return language.embed(list(prompts), folder=self.encoder)

    # --- the denoiser ---

    def _denoiser(self) -> LatentDenoiser:
        return LatentDenoiser(
            self.latent, tokens=self.tokens, words=self.words_, classes=3, width=self.width, depth=self.depth,
            dropout=self.dropout,
        )  # fmt: skip

    def _train_denoiser(
        self, z: np.ndarray, y: np.ndarray, words: np.ndarray, who: np.ndarray, seed: int, log: Log
    ) -> dict[str, np.ndarray]:
        at = device()
        line = np.full(len(z), -1)
        line[who] = np.arange(len(who))
        table = torch.from_numpy(words).to(at)

        def loss(net: nn.Module, rows: tuple[Tensor, ...], dice: torch.Generator) -> Tensor:
            x, y, line = rows

            def roll() -> Tensor:
                return torch.rand(len(x), generator=dice, device=x.device)

            part = (torch.randperm(len(x), generator=dice, device=x.device) + roll()) / len(x)
            lam = _logsnr(part)[:, None]
            alpha, sigma = torch.sigmoid(lam).sqrt(), torch.sigmoid(-lam).sqrt()
            eps = torch.randn(x.shape, generator=dice, device=x.device)
            zt = alpha * x + sigma * eps
            told, kind = roll() >= self.drop, roll()
            shown = (line >= 0) & told & (self.words_ > 1)
            note = torch.zeros((len(x), max(self.words_, 1)), device=x.device)
            if self.words_ > 1:
                note = torch.where(shown[:, None], table[line.clamp(min=0), (kind < 0.7).long()], note)
            y = torch.where(roll() < torch.where(shown, 0.5, self.drop), ANY, y)
            out = net(zt, lam[:, 0], note, shown.float(), y).float()
            aim = eps if self.objective == "eps" else alpha * eps - sigma * x
            return (out - aim).square().mean()

        net = build(self._denoiser, seed=seed)
        data = (torch.from_numpy(z), torch.from_numpy(y), torch.from_numpy(line))
        steps = self._steps(self.steps, len(z), LEAST_STEPS)
        net = train(net, loss, data, seed=seed, steps=steps, batch=self.batch, lr=self.lr, ema=self.ema, log=log)
        return weights_of(net)

    def _lambdas(self) -> np.ndarray:
        """Return the log-SNRs (sample_steps,) that the chain visits, rising, evenly spaced in u and short of u = 0.

        Under "v" the first is at u = 1. Under "eps" the first is one step below 1, as in the source (u = .999 of 1,000
        steps). There an error of eps reaches the next mean 1.5 times as large; from u = 1 on, 347 times at 100 steps.
        """
        steps = self.sample_steps
        return logsnr_cosine(np.arange(steps, 0, -1) / (steps if self.objective == "v" else steps + 1))

    def _draw(self, n: int, y: np.ndarray, words: np.ndarray | None, seed: int) -> pd.DataFrame:
        if self.decode not in ("sample", "threshold"):
            raise ValueError(f"decode '{self.decode}': expected one of sample, threshold")
        at = device()
        net = with_weights(build(self._denoiser, seed=0), self.weights_).to(at)
        coder: Any = with_weights(build(lambda: self._autoencoder(self.features_[-1].stop), seed=0), self.ae_).to(at)
        law = Likelihood(self.features_, at)
        dice = dice_on(at, seed)
        lams = self._lambdas()
        center, spread = (torch.from_numpy(a.astype(np.float32)).to(at) for a in (self.center_, self.spread_))
        parts = []
        for rows in np.array_split(np.arange(n), max(1, math.ceil(n / BATCH))):
            label = torch.from_numpy(y[rows]).to(at)
            note, shown = torch.zeros((len(rows), max(self.words_, 1)), device=at), torch.zeros(len(rows), device=at)
            if words is not None:
                note, shown = torch.from_numpy(words[rows if len(words) > 1 else [0] * len(rows)]).to(at), shown + 1

            def clean(
                z: Tensor, lam: float, label: Tensor = label, note: Tensor = note, shown: Tensor = shown
            ) -> Tensor:
                at_lam = z.new_full((len(z),), lam)
                out = net(z, at_lam, note, shown, label)
                if words is not None and self.scale > 0:
                    plain = net(z, at_lam, torch.zeros_like(note), torch.zeros_like(shown), label)
                    out = (1 + self.scale) * out - self.scale * plain
                alpha, sigma = (float(v) for v in signal(lam))
                return (z - sigma * out) / alpha if self.objective == "eps" else alpha * z - sigma * out

            z = torch.randn((len(rows), self.latent), generator=dice, device=at)
            z = ddpm_ancestral(clean, z, lams, v=self.v, dice=dice)
            with torch.inference_mode():
                out = coder.decoder(z * spread + center)
                x = law.decoded(out, coder.log_spread, dice if self.decode == "sample" else None)
            parts.append(x.cpu().numpy())
        table = self.view_.inverse(np.concatenate(parts)[:, : self.view_.features[-1].stop])
        return self._with_class(table, y)

    def _with_class(self, table: pd.DataFrame, y: np.ndarray) -> pd.DataFrame:
        """The table with the target set to the class that was asked for."""
        if self.target_ and (y != ANY).all():
            place, _ = pd.factorize(table.index.get_level_values("subject"))
            table[self.target_] = y[place] == 1
        return table


def _logsnr(u: Tensor) -> Tensor:
    """`logsnr_cosine` of torch times."""
    a, b = logsnr_line()
    return -2 * torch.log(torch.tan(a * u.double() + b)).float()


def _stop(step: int, **values: float) -> None:
    raise StopFit
