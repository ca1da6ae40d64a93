"""EHR-D3PM (Han et al. 2024, arXiv:2404.12314): multinomial diffusion over tokens, guided without retraining.

Flags are tokens of two levels, categories and binned numbers have their own number of levels, all in one model. No code
of the paper is public; what it leaves open (sizes, schedule, guidance strengths) is chosen here by measurement. What
differs by default, each a parameter: noise (the paper's is "uniform"), the denoiser (the paper's is a transformer with
one token per code), and the skip, by which the network only corrects train's shares while what xt says of its own place
is added exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from generators.base import Generator, Log, Unsupported, quiet, reject
from generators.diffusion.guidance import langevin
from generators.diffusion.multinomial import Kernel
from generators.diffusion.nets import CodeTransformer, VectorDenoiser
from generators.diffusion.places import HIDDEN2, Denoiser, Places, Process, ancestral, times
from generators.encode import Tokens
from generators.training import Loss, build, device, dice_on, quicker, train, weights_of, with_weights

GUIDANCES = ("clamp", "langevin", "cfg")
BUDGET = {"cpu": 2**25, "cuda": 2**27}  # numbers of one activation while sampling
PASSES, LEAST_STEPS, MOST_STEPS = 160, 1_200, 16_000
SLACK = 2e-3  # an earlier fit, at a high rate, may bound as well and yet draw 13 % too many codes
SHOWN = 0.5  # classifier-free: share of subjects whose training step is told some of their flags


class EHRD3PM(Generator):
    """Multinomial diffusion over tokens.

    steps (0: 160 passes over train, but 1,200 to 16,000), batch, lr, weight_decay, dropout, ema, patience,
    auxiliary (weight of the cross-entropy beside the exact loss): training. net: "mlp" (a residual MLP over the whole
    vector) or "transformer" (over codes), of this width and depth; heads, rank (Linformer's; 0 for full attention) and
    codes_per_token belong to the transformer. noise: "uniform", "marginal", "absorbing". schedule: "cosine", "linear".
    total: time steps of the chain. sample_steps: how many of them sampling takes. skip: see the module. bins: of
    numbers. cover: share of subjects whose whole length fits the grid of a longitudinal table. faster: torch.compile.

    guidance: how `given` is met. "clamp" holds the given places fixed; "langevin" moves the last layer by `inner` steps
    of size eta towards p(given | layer), with lam on the divergence, tau on the noise and guidance_scale on the
    condition, and needs noise = "uniform", since what absorbing noise has shown does not change any more; "cfg" trains
    a conditional network beside the unconditional one and extrapolates by guidance_scale.
    """

    # lam and tau: two fits each on sim-ehr (condition I25) and diabetes130 (428), codes=60, rows=3000, scale 2,
    # 1,000 draws. Share that meets the condition; mean |log odds error| of the other flags; c2st of those who meet it:
    #   lam  .01: tau 0 .270 .549 .432; tau .01 .261 .528 .426; tau .1 .279 .524 .448; tau .3 .308 .597 .544
    #   lam  .1:  tau 0 .236 .497 .377; tau .1 .233 .475 .369
    #   lam 1:    tau 0 .163 .478 .112; tau .1 .152 .435 .140; unguided .154 meet it
    # Noise up to .1 costs nothing. For a share as high, lam .1 and 1 distort more than lam .01 at a smaller scale does
    # (scale 1, tau .1: .209 .396 .246).
    AT_SAMPLE = ("sample_steps", "guidance_scale", "eta", "lam", "tau", "inner")

    def __init__(
        self, steps: int = 0, batch: int = 256, lr: float = 1e-3, weight_decay: float = 0.0, dropout: float = 0.0,
        ema: float = 0.0, auxiliary: float = 0.0, patience: int = 10, net: str = "mlp", width: int = 256,
        depth: int = 3, heads: int = 4, rank: int = 32, codes_per_token: int = 1, noise: str = "absorbing",
        schedule: str = "cosine", total: int = 1_000, sample_steps: int = 100, skip: bool = True, bins: int = 32,
        cover: float = 0.995, faster: bool = False, guidance: str = "clamp", guidance_scale: float = 1.0,
        eta: float = 10.0, lam: float = 0.01, tau: float = 0.1, inner: int = 5,
    ) -> None:  # fmt: skip
        self.steps = steps
        self.batch = batch
        self.lr = lr
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.ema = ema
        self.auxiliary = auxiliary
        self.patience = patience
        self.net = net
        self.width = width
        self.depth = depth
        self.heads = heads
        self.rank = rank
        self.codes_per_token = codes_per_token
        self.noise = noise
        self.schedule = schedule
        self.total = total
        self.sample_steps = sample_steps
        self.skip = skip
        self.bins = bins
        self.cover = cover
        self.faster = faster
        self.guidance = guidance
        self.guidance_scale = guidance_scale
        self.eta = eta
        self.lam = lam
        self.tau = tau
        self.inner = inner

    @classmethod
    def suggest(cls, trial: Any) -> dict[str, Any]:
        """Rate, size and regularisation."""
        return {
            "lr": trial.suggest_float("lr", 2e-4, 5e-3, log=True),
            "width": trial.suggest_categorical("width", [128, 256, 512]),
            "depth": trial.suggest_int("depth", 2, 5),
            "dropout": trial.suggest_float("dropout", 0.0, 0.4),
            "noise": trial.suggest_categorical("noise", ["uniform", "marginal", "absorbing"]),
        }

    def fit(
        self, train: pd.DataFrame, *, target: str | None = None, static: Sequence[str] = (),
        describe: Mapping[str, str] | None = None, seed: int, log: Log = quiet,
    ) -> Self:  # fmt: skip
        """Learn p(x0 | xt) of every token; the target is one of them."""
        if self.guidance not in GUIDANCES:
            raise ValueError(f"guidance '{self.guidance}': expected one of {', '.join(GUIDANCES)}")
        view = Tokens.fit(train, static=static, bins=self.bins, cover=self.cover)
        tokens = view.transform(train)
        places = Places.fit(tokens, view.sizes, noise=self.noise, schedule=self.schedule)
        net = build(lambda: self._net(places), seed=seed)
        self.weights_ = self._train(net, places, places.split(tokens), seed, log)
        self.view_, self.places_ = view, places
        return self

    def sample(self, n: int, *, given: Mapping[str, object] | None = None, seed: int) -> pd.DataFrame:
        """n subjects; those drawn under guidance that do not meet `given` are drawn again."""
        self._needs_fit("weights_")
        if not given:
            return self._draw(n, {}, seed)
        return reject(lambda k, s: self.guide(k, given, seed=s), n, given, seed=seed)

    def guide(self, n: int, given: Mapping[str, object], *, seed: int) -> pd.DataFrame:
        """n subjects guided towards `given` that need not meet it. Numbers and varying columns do not guide."""
        self._needs_fit("weights_")
        front = {b.column.name: (i, b) for i, b in enumerate(self.view_.static)}
        tokens = {}
        for column, value in given.items():
            if column not in front or front[column][1].column.kind == "number":
                continue
            place, bins = front[column]
            levels = bins.column.levels
            if bins.column.kind == "category" and value not in levels:
                raise Unsupported(f"{column} = {value}: known levels are {', '.join(levels)}")
            tokens[place] = levels.index(str(value)) if bins.column.kind == "category" else int(bool(value))
        return self._draw(n, tokens, seed)

    # --- training ---

    def _net(self, places: Places) -> Guided:
        if self.net not in ("mlp", "transformer"):
            raise ValueError(f"net '{self.net}': expected mlp or transformer")
        d2, d = len(places.two), len(places.more)
        shape: dict[str, Any] = {
            "hides": places.hides, "width": self.width, "depth": self.depth, "dropout": self.dropout,
            "classes": d2 if self.guidance == "cfg" else 0,
        }  # fmt: skip
        net: nn.Module
        if self.net == "mlp":
            net = VectorDenoiser(d2, d, places.k, **shape)
        else:
            net = CodeTransformer(
                d2, d, places.k, heads=self.heads, rank=self.rank, together=self.codes_per_token, **shape
            )
        return Guided(net, self.width, d2)

    def _loss(self, places: Places) -> Loss:
        process = places.on(device())

        def loss(net: nn.Module, rows: tuple[Tensor, ...], dice: torch.Generator) -> Tensor:
            x2, x = rows
            b, at = len(x2), x2.device
            # one time for each of b equal parts of the grid, in random order: less noise than b free draws
            part = torch.randperm(b, generator=dice, device=at) + torch.rand(b, generator=dice, device=at)
            t = (part / b * self.total).floor().clamp(max=self.total - 1) + 1
            kernel = Kernel.between((t - 1) / self.total, t / self.total, self.schedule)
            xt2, xt = process.noised(x2, x, kernel, dice)
            out2, out, flags = net(xt2, xt, t / self.total, self._shown(x2, dice))
            u2, u = process.beliefs(out2.float(), out.float(), xt2, xt, kernel, skip=self.skip)
            bound = self.total * process.loss(u2, u, x2, x, xt2, xt, kernel).mean()
            if not net.training:
                return bound
            extra = self.auxiliary and process.cross_entropy(u2, u, x2, x, xt2, xt, kernel).mean()
            # a flag in sight needs no reading: what is learned is p(c | the rest)
            unseen = (xt2 == HIDDEN2).float() if places.hides else torch.ones_like(xt2)
            read = binary_cross_entropy_with_logits(flags.float(), x2, unseen, reduction="sum")
            # a tenth: the bound sums over places, the reading of flags is a mean, and one norm clips both
            return (bound + self.auxiliary * extra) / 10 + read / unseen.sum().clamp(min=1)

        return loss

    def _train(
        self, net: nn.Module, places: Places, data: tuple[Tensor, Tensor], seed: int, log: Log
    ) -> dict[str, np.ndarray]:
        steps = self.steps or min(max(PASSES * len(data[0]) // self.batch, LEAST_STEPS), MOST_STEPS)
        net = train(
            net, self._loss(places), data, seed=seed, steps=steps, batch=self.batch, lr=self.lr,
            weight_decay=self.weight_decay, ema=self.ema, patience=self.patience, slack=SLACK, faster=self.faster,
            log=log,
        )  # fmt: skip
        return weights_of(net)

    def _shown(self, x2: Tensor, dice: torch.Generator) -> Tensor | None:
        """For classifier-free guidance: one to three flags a subject has, as 1, for some subjects; one flag as -1."""
        if self.guidance != "cfg":
            return None
        roll = torch.rand(x2.shape, generator=dice, device=x2.device)
        have = torch.where(x2 > 0, roll, -1.0)
        best = have.topk(min(3, x2.shape[1]), dim=1)
        many = torch.randint(1, 4, (len(x2), 1), generator=dice, device=x2.device)
        keep = (torch.arange(best.values.shape[1], device=x2.device) < many) & (best.values >= 0)
        shown = torch.zeros_like(x2).scatter(1, best.indices, keep.float())
        lack = torch.where(x2 > 0, -1.0, roll).argmax(1, keepdim=True)
        some = torch.rand((len(x2), 1), generator=dice, device=x2.device)
        shown = shown.scatter_add(1, lack, -(some < SHOWN / 4).float())
        return shown * (some < SHOWN)

    # --- sampling ---

    def _draw(self, n: int, tokens: Mapping[int, int], seed: int) -> pd.DataFrame:
        at = device()
        places, process = self.places_, self.places_.on(at)
        net = with_weights(build(lambda: self._net(places), seed=0), self.weights_).to(at)
        dice = dice_on(at, seed)
        slots = max(self.width * (len(places.two) + len(places.more) if self.net == "transformer" else 4), 1)
        most = max(256, min(8_192, BUDGET[at.type] // max(slots, len(places.two) + places.share.size)))
        parts = []
        for k in [most] * (n // most) + ([n % most] if n % most else []):
            known, denoise = self._towards(net, process, tokens, k, dice)  # type: ignore[arg-type]
            visited = times(self.sample_steps, self.total)
            x2, x = ancestral(denoise, process, k, visited, dice=dice, known=known)
            parts.append(places.join(x2, x))
        return self.view_.inverse(np.concatenate(parts), seed=seed)

    def _towards(
        self, net: Guided, process: Process, tokens: Mapping[int, int], n: int, dice: torch.Generator
    ) -> tuple[Any, Denoiser]:
        """What ancestral sampling needs to meet the given tokens: what to hold fixed, and how to denoise."""
        places, at = self.places_, process.pi2.device
        order2, order = places.two.tolist(), places.more.tolist()
        flags = {order2.index(p): v for p, v in tokens.items() if p in order2}
        levels = {order.index(p): v for p, v in tokens.items() if p in order}
        held = flags if self.guidance == "clamp" else {}
        guided = {} if self.guidance == "clamp" else flags

        def beliefs(outs: tuple[Tensor, Tensor], x2: Tensor, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            kernel = Kernel.between(torch.zeros_like(t), t, places.schedule)
            return process.beliefs(*outs, x2, x, kernel, skip=self.skip)

        # a coin's chance may be rounded as in training; guidance takes differences and slopes, and is not rounded
        precision: Any = nullcontext() if guided else quicker(at)
        place = torch.tensor(list(guided), dtype=torch.int64, device=at)
        sign = torch.tensor([2.0 * v - 1 for v in guided.values()], device=at)

        def plain(x2: Tensor, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            with precision:
                out2, out = net.net(x2, x, t)
            return beliefs((out2.float(), out.float()), x2, x, t)

        def by_langevin(x2: Tensor, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            z = net.net.latent(x2, x, t)
            kernel = Kernel.between(torch.zeros_like(t), t, places.schedule)

            def posterior(y: Tensor) -> tuple[Tensor, Tensor]:
                return process.x0_posterior(*beliefs(net.net.head(y), x2, x, t), x2, x, kernel)

            unseen = x2[:, place] == HIDDEN2 if places.hides else torch.ones_like(x2[:, place])
            y = langevin(
                z, posterior, lambda y: (unseen * logsigmoid(sign * net.flags(y)[:, place])).sum(1),
                scale=self.guidance_scale, eta=self.eta, lam=self.lam, tau=self.tau, steps=self.inner, dice=dice,
            )  # fmt: skip
            return beliefs(net.net.head(y), x2, x, t)

        def classifier_free(x2: Tensor, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            shown = torch.zeros_like(x2)
            for place, value in guided.items():
                shown[:, place] = 1.0 if value else -1.0
            with_it, without = beliefs(net.net(x2, x, t, shown), x2, x, t), plain(x2, x, t)
            s = self.guidance_scale
            return (1 + s) * with_it[0] - s * without[0], (1 + s) * with_it[1] - s * without[1]

        def known(x2: Tensor, x: Tensor, kernel: Kernel | None) -> tuple[Tensor, Tensor]:
            x2, x = x2.clone(), x.clone()
            for place, value in held.items():
                x2[:, place] = self._seen(value, process.pi2[place], kernel, n, dice)
            for place, value in levels.items():
                x[:, place] = value
            return x2, x

        denoise: Denoiser = plain
        if guided:
            denoise = by_langevin if self.guidance == "langevin" else classifier_free
        return (known if held or levels else None), denoise

    def _seen(self, value: int, pi: Tensor, kernel: Kernel | None, n: int, dice: torch.Generator) -> Tensor:
        """A known flag as it looks at the kernel's time: noised, but for absorbing noise, which leaves it in sight."""
        seen = torch.full((n,), float(value), device=pi.device)
        if kernel is None or self.noise == "absorbing":
            return seen
        lost = torch.rand(n, generator=dice, device=pi.device) < kernel.b_t[:, 0]
        return torch.where(lost, (torch.rand(n, generator=dice, device=pi.device) < pi).float(), seen)


class Guided(nn.Module):
    """A denoiser, and a head that reads each flag of x0 off its last layer; it learns without moving the denoiser."""

    def __init__(self, net: nn.Module, width: int, d2: int) -> None:
        super().__init__()
        self.net: Any = net
        self.classifier = nn.Linear(width, d2)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(
        self, x2: Tensor, x: Tensor, t: Tensor, condition: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs (b, d2), (b, d, k) and flags' logits (b, d2)."""
        z = self.net.latent(x2, x, t, condition)
        return *self.net.head(z), self.flags(z.detach())

    def flags(self, z: Tensor) -> Tensor:
        """Logits (b, d2) of each flag."""
        return self.classifier(self.net.pooled(z))
