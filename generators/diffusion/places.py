"""A subject's tokens as multinomial diffusion sees them: places with two levels, and places with more.

`Places` holds what train says of each (its levels and their shares), `Process` runs multinomial.py on both kinds at
once: noising, loss, the step from t to s. A denoiser is a function (x2, x, t) -> (u2, u) of log-beliefs before xt is
taken into account; see multinomial.py. Where noise is "absorbing" a level beyond the last means hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import cross_entropy, one_hot

from generators.diffusion import multinomial as mn
from generators.diffusion.multinomial import Kernel

Denoiser = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
HIDDEN2 = 2.0
NEVER = -1e4  # log of no chance at all, for levels that a place does not have


@dataclass(frozen=True)
class Places:
    """two, more: which tokens have two levels, and which have others (d2,), (d,).

    share2, share: train's shares of level 1 (d2,), and of each level (d, k), padded with 0. noise, schedule: see
    multinomial.py.
    """

    two: np.ndarray
    more: np.ndarray
    share2: np.ndarray
    share: np.ndarray
    noise: str
    schedule: str

    @classmethod
    def fit(cls, tokens: np.ndarray, sizes: np.ndarray, *, noise: str, schedule: str) -> Self:
        """Read tokens (n, d) whose place j has sizes[j] levels. A level that train lacks counts as half a subject."""
        for name, value, known in (("noise", noise, mn.NOISES), ("schedule", schedule, mn.SCHEDULES)):
            if value not in known:
                raise ValueError(f"{name} '{value}': expected one of {', '.join(known)}")
        two, more = np.flatnonzero(sizes == 2), np.flatnonzero(sizes != 2)
        n, k = len(tokens), int(sizes[more].max()) if len(more) else 1
        share = np.zeros((len(more), k), np.float32)
        for j, place in enumerate(more):
            counts = np.bincount(tokens[:, place], minlength=sizes[place])
            share[j, : sizes[place]] = np.maximum(counts, 0.5) / np.maximum(counts, 0.5).sum()
        share2 = np.clip(tokens[:, two].sum(axis=0), 0.5, n - 0.5) / n
        return cls(two, more, share2.astype(np.float32), share, noise, schedule)

    @property
    def hides(self) -> bool:
        """True where noise hides levels."""
        return self.noise == "absorbing"

    @property
    def k(self) -> int:
        """Levels of the largest place."""
        return self.share.shape[1]

    def split(self, tokens: np.ndarray) -> tuple[Tensor, Tensor]:
        """Tokens (n, d) as x2 (n, d2) float32 and x (n, d) int64."""
        return torch.from_numpy(tokens[:, self.two].astype(np.float32)), torch.from_numpy(tokens[:, self.more])

    def join(self, x2: Tensor, x: Tensor) -> np.ndarray:
        """The inverse of `split`."""
        tokens = np.zeros((len(x2), len(self.two) + len(self.more)), np.int64)
        tokens[:, self.two], tokens[:, self.more] = x2.cpu().numpy() > 0.5, x.cpu().numpy()
        return tokens

    def on(self, device: torch.device) -> Process:
        """The process with its constants on a device."""
        return Process(self, device)


class Process:
    """The process over places. pi2, pi: the noise's shares; prior2, prior: train's shares as log-beliefs."""

    def __init__(self, places: Places, device: torch.device) -> None:
        share2, share = torch.from_numpy(places.share2), torch.from_numpy(places.share)
        self.places = places
        self.prior2 = torch.logit(share2).to(device)
        self.prior = torch.where(share > 0, share.clamp(min=1e-30).log(), NEVER).to(device)
        if places.noise == "uniform":
            share2 = torch.full_like(share2, 0.5)
            share = (share > 0) / (share > 0).sum(1, keepdim=True).clamp(min=1)
        self.pi2, self.pi = share2.to(device), share.to(device)

    def noised(self, x2: Tensor, x: Tensor, kernel: Kernel, dice: torch.Generator) -> tuple[Tensor, Tensor]:
        """A draw of xt given x0."""
        if not self.places.hides:
            return mn.noised2(x2, kernel, self.pi2, dice), mn.noised(x, kernel, self.pi, dice)
        hidden2 = torch.rand(x2.shape, generator=dice, device=x2.device) >= kernel.a_t
        hidden = torch.rand(x.shape, generator=dice, device=x.device) >= kernel.a_t
        return torch.where(hidden2, HIDDEN2, x2), torch.where(hidden, self.places.k, x)

    def start(self, n: int, dice: torch.Generator) -> tuple[Tensor, Tensor]:
        """n draws of pure noise."""
        at = self.pi2.device
        if self.places.hides:
            full2 = torch.full((n, len(self.pi2)), HIDDEN2, device=at)
            return full2, torch.full((n, len(self.pi)), self.places.k, dtype=torch.int64, device=at)
        x2 = (torch.rand((n, len(self.pi2)), generator=dice, device=at) < self.pi2).float()
        return x2, mn.drawn(self.pi.expand(n, -1, -1), dice)

    def beliefs(
        self, out2: Tensor, out: Tensor, x2: Tensor, x: Tensor, kernel: Kernel, *, skip: bool
    ) -> tuple[Tensor, Tensor]:
        """A network's output as log-beliefs (u2, u) before xt is taken into account.

        skip: the output corrects train's shares, and what xt says of its own place is added exactly by the posterior.
        Else (the published form) the output is the log of p(x0 | xt), and the latter is taken away from it.
        """
        if skip:
            return out2 + self.prior2, out + self.prior
        out = torch.where(self.prior > NEVER, out, NEVER)
        if self.places.hides:
            return out2, out
        own = mn.evidence(x, kernel.a_t, kernel.b_t, self.pi)
        return out2 - mn.evidence2(x2, kernel.a_t, kernel.b_t, self.pi2), out.scatter_add(
            -1, x[..., None], -own[..., None].to(out)
        )

    def x0_posterior(self, u2: Tensor, u: Tensor, x2: Tensor, x: Tensor, kernel: Kernel) -> tuple[Tensor, Tensor]:
        """Add the evidence of xt to log-beliefs.

        Returns log p(x0 | xt) up to a constant of each place: logits (b, d2) of two levels, log weights (b, d, k) of
        more. kernel: from 0 to t. Absorbing noise leaves a place either hidden, without evidence, or certain.
        """
        if self.places.hides:
            certain = NEVER * (1 - one_hot(x, self.places.k + 1)[..., :-1].to(u))
            seen2, seen = x2 != HIDDEN2, x != self.places.k
            return torch.where(seen2, NEVER * (1 - 2 * x2), u2), torch.where(seen[..., None], certain, u)
        own = mn.evidence(x, kernel.a_t, kernel.b_t, self.pi)[..., None]
        u2 = u2 + mn.evidence2(x2, kernel.a_t, kernel.b_t, self.pi2)
        return u2, u.scatter_add(-1, x[..., None], own.to(u))

    def loss(self, u2: Tensor, u: Tensor, x02: Tensor, x0: Tensor, xt2: Tensor, xt: Tensor, kernel: Kernel) -> Tensor:
        """KL of the step from t to s, summed over a subject's places (b,), in nats."""
        if self.places.hides:
            return self.cross_entropy(u2, u, x02, x0, xt2, xt, kernel) * ((kernel.b_t - kernel.b_s) / kernel.b_t)[:, 0]
        kl = mn.kl2(u2, x02, xt2, kernel, self.pi2).sum(1)
        return kl + mn.kl(u, x0, xt, kernel, self.pi).sum(1) if u.shape[1] else kl

    def cross_entropy(
        self, u2: Tensor, u: Tensor, x02: Tensor, x0: Tensor, xt2: Tensor, xt: Tensor, kernel: Kernel
    ) -> Tensor:
        """-log p(x0 | xt), summed over a subject's places (b,), in nats; a place in sight is certain."""
        if self.places.hides:
            two = bce(u2, x02, (xt2 == HIDDEN2).to(u2), reduction="none").sum(1)
            if not u.shape[1]:
                return two
            return two + (cross_entropy(u.transpose(1, 2), x0, reduction="none") * (xt == self.places.k)).sum(1)
        logit2, logits = self.x0_posterior(u2, u, xt2, xt, kernel)
        two = bce(logit2, x02, reduction="none").sum(1)
        return two + cross_entropy(logits.transpose(1, 2), x0, reduction="none").sum(1) if u.shape[1] else two

    def step(
        self, u2: Tensor, u: Tensor, xt2: Tensor, xt: Tensor, kernel: Kernel, dice: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """A draw of xs given xt and beliefs."""
        roll2 = torch.rand(xt2.shape, generator=dice, device=xt2.device)
        if not self.places.hides:
            chance = torch.sigmoid(mn.posterior2(u2, xt2, kernel, self.pi2))
            return (roll2 < chance).float(), mn.drawn(mn.posterior(u, xt, kernel, self.pi), dice)
        shown = kernel.b_step / kernel.b_t * kernel.a_s  # (a_s - a_t) / (1 - a_t)
        roll = torch.rand(xt.shape, generator=dice, device=xt.device)
        value2 = (torch.rand(xt2.shape, generator=dice, device=xt2.device) < torch.sigmoid(u2)).float()
        x2 = torch.where((xt2 == HIDDEN2) & (roll2 < shown), value2, xt2)
        x = torch.where((xt == self.places.k) & (roll < shown), mn.drawn(torch.softmax(u, -1), dice), xt)
        return x2, x


def times(steps: int, total: int) -> np.ndarray:
    """The times that sampling visits, steps + 1 of the grid 0, 1, ..., total, from the last down to 0, as shares."""
    return np.unique(np.round(np.linspace(0, total, min(steps, total) + 1)))[::-1] / total


@torch.no_grad()
def ancestral(
    denoise: Denoiser, process: Process, n: int, visited: np.ndarray, *, dice: torch.Generator,
    known: Callable[[Tensor, Tensor, Kernel | None], tuple[Tensor, Tensor]] | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Draw n subjects by jumps along the visited times, from 1 to 0: x2 (n, d2), x (n, d).

    known(x2, x, kernel) puts back what is given, noised to the time the kernel ends at (kernel None: not noised).
    """
    x2, x = process.start(n, dice)
    at = x2.device
    for t, s in pairwise(visited.tolist()):
        now = torch.full((1,), t, device=at)  # one time for all: what depends on it alone is computed once
        kernel = Kernel.between(torch.full_like(now, s), now, process.places.schedule)
        if known is not None:
            x2, x = known(x2, x, kernel)
        u2, u = denoise(x2, x, now)
        x2, x = process.step(u2, u, x2, x, kernel, dice)
    return known(x2, x, None) if known is not None else (x2, x)
