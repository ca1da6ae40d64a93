"""A conditional Wasserstein GAN with gradient penalty (Gulrajani et al. 2017, arXiv:1704.00028), in three faces.

"codes" is after EMR-WGAN (Zhang et al. 2020, doi:10.1093/jamia/ocz161) and medGAN (Choi et al. 2017, arXiv:1703.06490):
a batch-normalised residual generator whose chances are drawn from, a layer-normalised critic that sees its batch's
mean. "table" is after CTGAN (Xu et al. 2019, arXiv:1907.00503): Gumbel-softmax levels, training by sampling over the
levels, a critic of packs. "series" is convolutions over time, on request over TimeGAN's supervised embedding (Yoon et
al. 2019). All are told the class, draw from averaged weights, and stop where a classifier tells an inner part of train
least from what is drawn.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from generators.adversarial import InnerC2ST, steepness
from generators.base import Generator, Log, StopFit, Unsupported, classes, quiet
from generators.columns import labels
from generators.diffusion import marginals
from generators.diffusion.signals import Signals
from generators.encode import Matrix
from generators.gan_nets import Embedding, RowCritic, RowGenerator, SignalCritic, SignalGenerator, rebuilt
from generators.levels import Levels, Picks
from generators.modes import Coded, Heads
from generators.training import build, device, dice_pair, follow, sent, train, weights_of, with_weights

FACES = ("codes", "table", "series")
TEMPERATURE = 0.2  # of Gumbel-softmax
HELD, MOST_HELD, LEAST_HELD = 0.1, 2_000, 50  # subjects that end the training: share of train, at most, at least
PASSES, LEAST_STEPS, MOST_STEPS = 150, 2_000, 6_000
EVALUATIONS, PATIENCE = 12, 4
SETTLE = 8  # batches that the averaged generator's normalisation is taken over
CALIBRATED = 4_000  # subjects drawn to calibrate with
ENOUGH = 100  # subjects of a class whose own shares are matched
BLOCK = 2_048  # subjects drawn at once


class GAN(Generator):
    """Class-conditional WGAN-GP.

    face: "codes", "table" or "series"; "auto" takes "series" for a longitudinal table, "codes" for a flat one whose
    columns are mostly flags, else "table". steps (of the generator; 0: those in which it draws 150 rows for one of
    train, but 2,000 to 6,000), batch, lr, penalty (weight of the gradient's), ema: training. critic_steps: of the
    critic per one of the generator. pack: rows that the critic judges together ("codes", "table"). width: of layers;
    series have a quarter as many channels. depth: layers of rows. noise: numbers that a subject is drawn from. modes:
    of a number, at most ("codes", "table"). embed: latent channels of TimeGAN's embedding, 0 for none ("series").
    calibrate: match each column's marginal to train's. cover: share of subjects whose whole length fits the grid of a
    longitudinal table.
    """

    def __init__(
        self, face: str = "auto", steps: int = 0, batch: int = 200, lr: float = 5e-4, critic_steps: int = 2,
        pack: int = 1, penalty: float = 10.0, ema: float = 0.999, width: int = 256, depth: int = 2, noise: int = 128,
        modes: int = 10, embed: int = 0, calibrate: bool = True, cover: float = 0.995,
    ) -> None:  # fmt: skip
        if face not in ("auto", *FACES):
            raise ValueError(f"face = '{face}': known are auto, {', '.join(FACES)}")
        self.face = face
        self.steps = steps
        self.batch = batch
        self.lr = lr
        self.critic_steps = critic_steps
        self.pack = pack
        self.penalty = penalty
        self.ema = ema
        self.width = width
        self.depth = depth
        self.noise = noise
        self.modes = modes
        self.embed = embed
        self.calibrate = calibrate
        self.cover = cover

    @classmethod
    def suggest(cls, trial: Any) -> dict[str, Any]:
        """Rate, batch, how far the critic is ahead, width and depth."""
        return {
            "lr": trial.suggest_float("lr", 1e-4, 2e-3, log=True),
            "batch": trial.suggest_categorical("batch", [100, 200, 500]),
            "critic_steps": trial.suggest_int("critic_steps", 1, 5),
            "width": trial.suggest_categorical("width", [64, 128, 256]),
            "depth": trial.suggest_int("depth", 1, 3),
            "pack": trial.suggest_categorical("pack", [1, 10]),
        }

    def fit(
        self, train: pd.DataFrame, *, target: str | None = None, static: Sequence[str] = (),
        describe: Mapping[str, str] | None = None, seed: int, log: Log = quiet,
    ) -> Self:  # fmt: skip
        """Both networks against each other; Unsupported for the face "series" on a flat table."""
        rng = np.random.default_rng(seed)
        self.face_ = self._chosen(train)
        self.maps_ = list[np.ndarray]()
        self.target_ = target
        y = labels(train, target)
        self.rate_ = float(y.mean())
        without = [target] if target else []
        if self.face_ == "series":
            self.view_: Signals | Coded = Signals.fit(
                train, static=static, without=without, cover=self.cover, absences=True
            )
            signals = self.view_.lend(self.view_.transform(train), y, rng)
            self.low_, self.high_ = signals.min(axis=0), signals.max(axis=0)
            x = self._unit(signals)
        else:
            matrix = Matrix.fit(train, static=static, scale="quantile", cover=self.cover, without=without)
            wide = matrix.transform(train)
            self.view_ = Coded.fit(matrix, wide, rng, modes=self.modes)
            x = self.view_.encode(wide, rng)
        self.size_ = list(x.shape[1:])
        self.levels_ = Levels.fit(x, y, self._segments()) if self.face_ == "table" else None
        steps = self.steps or int(np.clip(PASSES * len(x) // self.batch, LEAST_STEPS, MOST_STEPS))
        self.embedding_ = self._embed(x, steps, seed) if self.embed and self.face_ == "series" else {}
        self.weights_ = self._train(x, y, steps, seed, log)
        self.added_ = np.zeros((2, self.size_[0]), np.float32)
        if self.calibrate:
            net = with_weights(self._generator(), self.weights_).to(device())
            some = np.resize(rng.permutation(y)[:CALIBRATED], max(min(len(y), CALIBRATED), 100))
            self.added_ = self._lacking(net, x, y, seed)
            self.maps_ = self._maps(self._drawn(net, some, seed, self.added_), x)
        return self

    def sample(self, n: int, *, given: Mapping[str, object] | None = None, seed: int) -> pd.DataFrame:
        """n subjects, classes in train's proportion; given the target, of one class; other conditions by rejection.

        Raises Unsupported for a class that train does not have.
        """
        self._needs_fit("weights_")
        given = dict(given or {})
        if given and set(given) != {self.target_}:
            return self.reject(n, given, seed=seed)
        rng = np.random.default_rng(seed)
        y = classes(n, self.rate_, self.target_, given, rng)
        net = with_weights(self._generator(), self.weights_)
        x = self._drawn(net.to(device()), y, int(rng.integers(2**62)), self.added_)
        held = {self.target_: pd.Series(y == 1)} if self.target_ else {}
        view = self.view_.view if isinstance(self.view_, Coded) else self.view_
        return view.inverse(self._bent(x, self.maps_), held=held)

    # --- what the faces differ in ---

    def _chosen(self, train: pd.DataFrame) -> str:
        flat = train.index.nlevels == 1
        if self.face == "series" and flat:
            raise Unsupported("face 'series' draws grids over time; this table is flat")
        if self.face != "auto":
            return self.face
        if not flat:
            return "series"
        return "codes" if np.mean([d == np.dtype(bool) for d in train.dtypes]) > 0.5 else "table"

    def _segments(self) -> list[tuple[str, int, int, str]]:
        if isinstance(self.view_, Coded):
            return self.view_.segments()
        one_of = {at: (start, stop) for start, stop in self.view_.levels() for at in range(start, stop)}
        found = list[tuple[str, int, int, str]]()
        for at, kind in enumerate(self.view_.kinds):
            if at in one_of and at > one_of[at][0]:
                continue
            start, stop = one_of.get(at, (at, at + 1))
            found.append(("number" if kind == "number" else "level" if at in one_of else "flag", start, stop, ""))
        return found

    def _generator(self) -> nn.Module:
        told = self._told_width()
        if self.face_ != "series":
            return RowGenerator(self.noise, told, self.size_[0], width=self.width, depth=self.depth)
        c, length = self.size_
        return SignalGenerator(self.noise, told, self.embed or c, length, width=max(self.width // 4, 1))

    def _critic(self) -> nn.Module:
        told = self._told_width()
        if self.face_ == "series":
            return SignalCritic(told, self.embed or self.size_[0], self.size_[1], width=max(self.width // 4, 1))
        return RowCritic(told, self.size_[0], width=self.width, depth=self.depth, pack=self.pack)

    def _told_width(self) -> int:
        return 1 + (len(self.levels_.places) if self.levels_ else 0)

    def _faked(self, heads: Heads, logits: Tensor, still: Tensor, dice: torch.Generator) -> Tensor:
        """Rows or signals, soft, that the critic sees."""
        if self.face_ != "series":
            return heads.soft(logits, dice, temperature=TEMPERATURE)
        if self.embed:
            return logits.tanh()
        return _by_place(lambda p: heads.soft(p, dice, temperature=0.0), _level(logits, still))

    def _still(self, at: torch.device) -> Tensor:
        """Which channels of signals are constant over the length (c, 1); none of rows."""
        return torch.from_numpy(self.view_.still()).to(at) if isinstance(self.view_, Signals) else torch.zeros(0)

    @torch.inference_mode()
    def _said(self, net: nn.Module, y: Tensor, dice: torch.Generator, noise: torch.Generator) -> Tensor:
        """Logits (b, q) of rows or (b, c, l) of signals of classes y (b,), which are the host's, as is `dice`."""
        at, told = next(net.parameters()).device, y[:, None].float()
        if self.levels_:
            told = torch.cat([told, self.levels_.usual(y, dice)], dim=1)
        z = torch.randn(len(y), self._noise(net), generator=noise, device=at)
        logits = net.eval()(z, sent(told, at))
        if self.face_ != "series":
            return logits
        if self.embedding_:
            logits = self._embedding().to(at).outward(logits.tanh())
        return _level(logits, self._still(at))

    @torch.inference_mode()
    def _drawn(self, net: nn.Module, y: np.ndarray, seed: int, added: np.ndarray) -> np.ndarray:
        """Rows (n, q) or signals (n, c, l) of classes y (n,), decided; `added` to logits, class by class (2, q)."""
        at = next(net.parameters()).device
        dice, noise = dice_pair(at, seed)
        heads, parts = Heads(self._segments()).to(at), [np.zeros((0, *self.size_), np.float32)]
        more, still = torch.from_numpy(added).to(at), self._still(at)
        for part in torch.from_numpy(y).split(BLOCK):
            logits, here = self._said(net, part, dice, noise), sent(part, at)
            if self.face_ != "series":
                parts.append(heads.drawn(logits + more[here], noise).cpu().numpy())
                continue
            drawn = _by_place(lambda p: heads.drawn(p, noise), logits + more[here][:, :, None])
            parts.append(torch.where(still, drawn[:, :, :1], drawn).cpu().numpy())
        return np.concatenate(parts)

    def _lacking(self, net: nn.Module, x: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
        """What to add to logits (2, q) so that flags and levels are as common as in train's x, in both classes alike
        where one of them is small."""
        at = next(net.parameters()).device
        dice, noise = dice_pair(at, seed)
        heads, apart = Heads(self._segments()).to(at), min(np.bincount(y, minlength=2))
        out = np.zeros((2, self.size_[0]), np.float32)
        for c in (0, 1) if apart >= ENOUGH else (-1,):
            here = np.flatnonzero(y == c) if c >= 0 else np.arange(len(y))
            who = torch.from_numpy(np.resize(y[here], max(min(len(here), CALIBRATED), 100)))
            logits = torch.cat([self._said(net, part, dice, noise) for part in who.split(BLOCK)])
            wanted = x[here].mean(axis=0)
            if self.face_ == "series":
                logits = logits.transpose(1, 2).reshape(-1, logits.shape[1])
                wanted = wanted.mean(axis=1)
            added = heads.lacking(logits, torch.from_numpy(wanted).to(logits)).cpu().numpy()
            out[slice(None) if c < 0 else c] = added
        return out

    def _noise(self, net: nn.Module) -> int:
        return self.noise + getattr(net, "places", 0)

    def _unit(self, signals: np.ndarray) -> np.ndarray:
        """Signals with flags, levels and masks as 0 and 1."""
        two, low, high = self.view_.values()  # type: ignore[union-attr]
        return np.where(two, (signals - low) / (high - low), signals).astype(np.float32)

    def _signals(self, x: np.ndarray) -> np.ndarray:
        """What `_unit` made, back; numbers inside train's range."""
        two, low, high = self.view_.values()  # type: ignore[union-attr]
        return np.where(two, low + (high - low) * x, x.clip(self.low_, self.high_)).astype(np.float32)

    def _maps(self, drawn: np.ndarray, x: np.ndarray) -> list[np.ndarray]:
        """Of each number the map from what is drawn to train's x."""
        if isinstance(self.view_, Signals):
            return marginals.learn(self.view_, self._signals(drawn), self._signals(x), flags=False)
        made, real, maps = self.view_.decode(drawn), self.view_.decode(x), []
        for f in self.view_.numbers():
            pair = [m[self.view_.there(f, m), f.start] for m in (made, real)]
            maps.append(marginals.quantile_map(*pair) if min(map(len, pair)) else np.zeros((2, 0)))
        return maps

    def _bent(self, x: np.ndarray, maps: Sequence[np.ndarray]) -> np.ndarray:
        """What is drawn as signals, or as a matrix (n, p), its numbers mapped where there are maps."""
        if isinstance(self.view_, Signals):
            return marginals.bend(self.view_, self._signals(x), list(maps)) if maps else self._signals(x)
        x = self.view_.decode(x)
        for f, knots in zip(self.view_.numbers(), maps, strict=False):
            if knots.size:
                x[:, f.start] = marginals.mapped(x[:, f.start], knots)
        return x

    def _embed(self, x: np.ndarray, steps: int, seed: int) -> dict[str, np.ndarray]:
        """TimeGAN's first two stages in one: to latent signals and back, and their next step."""
        segments = self._segments()

        def loss(net: nn.Module, rows: tuple[Tensor, ...], dice: torch.Generator) -> Tensor:
            h = net.inward(rows[0])  # type: ignore[operator]
            back = net.outward(h)  # type: ignore[operator]
            return rebuilt(segments, back, rows[0]) + net.supervised(h)  # type: ignore[operator]

        net = build(lambda: Embedding(self.size_[0], self.embed), seed=seed)
        data = (torch.from_numpy(x),)
        return weights_of(train(net, loss, data, seed=seed, steps=max(1, steps // 3), batch=self.batch))

    def _embedding(self) -> Embedding:
        net = Embedding(self.size_[0], self.embed)
        with_weights(net, self.embedding_)
        return net.requires_grad_(False)

    # --- training ---

    def _train(self, x: np.ndarray, y: np.ndarray, steps: int, seed: int, log: Log) -> dict[str, np.ndarray]:
        at, rng = device(), np.random.default_rng(seed)
        dice, noise = dice_pair(at, seed)  # batches are picked on the host
        held = min(int(HELD * len(x)), MOST_HELD)
        order = rng.permutation(len(x))
        inner, outer = order[held:], order[:held]
        c2st = InnerC2ST(self._bent(x[outer], []), y[outer], seed) if held >= LEAST_HELD else None
        picks = Picks(x[inner], y[inner], self.levels_)
        generator = build(self._generator, seed=seed).to(at).train()
        critic = build(self._critic, seed=seed + 1).to(at).train()
        heads, still = Heads(self._segments()).to(at), self._still(at)
        embedding = self._embedding().to(at) if self.embedding_ else None
        average = copy.deepcopy(generator)
        settings: dict[str, Any] = {"lr": self.lr, "betas": (0.5, 0.9), "fused": True}
        forger = torch.optim.Adam(generator.parameters(), **settings)
        detective = torch.optim.Adam(critic.parameters(), **settings)
        falls = [torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.0, steps) for o in (forger, detective)]
        best, best_auroc, stale = copy.deepcopy(average.state_dict()), math.inf, 0
        batch = max(1, self.batch // self.pack) * self.pack
        every = max(1, steps // EVALUATIONS)
        for step in range(1, steps + 1):
            for _ in range(self.critic_steps):
                real, told, options = picks.draw(batch, dice)
                real, told = sent(real, at), sent(told, at)
                if embedding is not None:
                    real = embedding.inward(real)
                with torch.no_grad():
                    z = torch.randn(batch, self._noise(generator), generator=noise, device=at)
                    fake = self._faked(heads, generator(z, told), still, noise)
                apart = critic(fake, told).mean() - critic(real, told).mean()
                loss = apart + self.penalty * steepness(critic, real, fake, told, noise)
                detective.zero_grad(set_to_none=True)
                loss.backward()
                detective.step()
            z = torch.randn(batch, self._noise(generator), generator=noise, device=at)
            logits = generator(z, told)
            fake = self._faked(heads, logits, still, noise)
            loss = -critic(fake, told).mean()
            if self.levels_:
                loss = loss + self.levels_.missed(heads, logits, sent(options, at))
            if embedding is not None:
                loss = loss + embedding.supervised(fake)
            forger.zero_grad(set_to_none=True)
            loss.backward()
            forger.step()
            for fall in falls:
                fall.step()
            follow(average, generator, min(self.ema, (1 + step) / (10 + step)))
            if step % every and step < steps:
                continue
            gap = float(-apart.detach())
            if not math.isfinite(gap):
                raise FloatingPointError(f"training diverged: the critic's loss is {-gap} at step {step}")
            self._settle(average, picks, batch, seed)
            auroc = math.nan
            if c2st:
                added = (
                    self._lacking(average, x[inner], y[inner], seed)
                    if self.calibrate
                    else np.zeros((2, self.size_[0]), np.float32)
                )
                drawn = self._drawn(average, c2st.y, seed, added)
                auroc = c2st.auroc(self._bent(drawn, self._maps(drawn, x[inner]) if self.calibrate else []))
            stale = 0 if auroc < best_auroc or not c2st else stale + 1
            if stale == 0:
                best, best_auroc = copy.deepcopy(average.state_dict()), auroc
            try:
                log(step, loss=gap, validation=auroc)
            except StopFit:
                break
            if stale >= PATIENCE:
                break
        average.load_state_dict(best)
        return weights_of(average.to("cpu"))

    @torch.no_grad()
    def _settle(self, net: nn.Module, picks: Picks, batch: int, seed: int) -> None:
        """Take the batch normalisation of averaged weights afresh: that of the weights they average is another."""
        norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm1d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean
        at = next(net.parameters()).device
        dice, noise = dice_pair(at, seed)
        net.train()
        for _ in range(SETTLE):
            _, told, _ = picks.draw(batch, dice)
            net(torch.randn(batch, self._noise(net), generator=noise, device=at), sent(told, at))


def _level(logits: Tensor, still: Tensor) -> Tensor:
    """Logits (b, c, l), level where they are constant over the length (c, 1)."""
    return torch.where(still, logits.mean(dim=2, keepdim=True), logits)


def _by_place(turn: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A function of rows (b l, c), over signals x (b, c, l)."""
    b, c, length = x.shape
    return turn(x.transpose(1, 2).reshape(-1, c)).reshape(b, length, c).transpose(1, 2)
