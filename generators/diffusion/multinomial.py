"""Multinomial diffusion over tokens: forward process, posteriors and loss for any noise distribution.

Symbols as in Hoogeboom et al. 2021 (arXiv:2102.05379) and EHR-D3PM (arXiv:2404.12314): x0 and xt are categorical,
q(xt | x0) = Cat(alpha_bar_t x0 + (1 - alpha_bar_t) pi), and pi, one distribution a place, is the noise.

All that a posterior needs of a denoiser is u, its log-belief in each level of x0 *before* the place's own xt is taken
into account: p(x0 = j | xt) ∝ exp(u_j) q(xt | x0 = j). For then q(xt | x0 = j) cancels from the sum over x0:

    p(xs = j | xt) ∝ q(xt | xs = j) [alpha_bar_s softmax(u)_j + (1 - alpha_bar_s) pi_j],   s < t

which is O(k) a place, divides by nothing, and holds for any jump from t to s. Functions ending in 2 are for places with
two levels, where one logit says it all: x (b, d) is 0 or 1 and pi (d,) the noise's share of ones. The others take x
(b, d) int64 and pi (d, k).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

NOISES = ("uniform", "marginal", "absorbing")
SCHEDULES = ("cosine", "linear")
TINY = 1e-12


@dataclass(frozen=True)
class Kernel:
    """The process from time s to a later t, each (b, 1): what is left of x0 at s and t, and of xs at t; and 1 - it.

    A `Kernel` from s = 0 has a_s = 1. Differences from 1 are kept beside the shares: at s = 1 / 1,000 they are 2e-6,
    which float32 would lose.
    """

    a_s: Tensor
    b_s: Tensor
    a_t: Tensor
    b_t: Tensor
    a_step: Tensor
    b_step: Tensor

    @classmethod
    def between(cls, s: Tensor, t: Tensor, schedule: str) -> Kernel:
        """s < t (b,) in [0, 1]; schedule: "cosine", alpha_bar = cos²(pi t / 2), or "linear", 1 - t."""
        (a_s, b_s), (a_t, b_t) = alpha_bar(s.double(), schedule), alpha_bar(t.double(), schedule)
        step = a_t / a_s
        parts = (a_s, b_s, a_t, b_t, step, (b_t - b_s) / a_s)
        return cls(*(p.float()[:, None] for p in parts))


def alpha_bar(t: Tensor, schedule: str) -> tuple[Tensor, Tensor]:
    """Share of x0 left at time t in [0, 1], and 1 - it.

    >>> [a.tolist() for a in alpha_bar(torch.tensor([0.0, 0.25, 1.0]), "linear")]
    [[1.0, 0.75, 0.0], [0.0, 0.25, 1.0]]
    """
    if schedule == "linear":
        return 1 - t, t
    if schedule == "cosine":
        b = torch.sin(t * (math.pi / 2)).square()
        return torch.where(t < 1, torch.cos(t * (math.pi / 2)).square(), 0.0), b
    raise ValueError(f"schedule '{schedule}': expected one of {', '.join(SCHEDULES)}")


# --- two levels ---


def noised2(x0: Tensor, kernel: Kernel, pi: Tensor, dice: torch.Generator) -> Tensor:
    """A draw of xt given x0 (b, d)."""
    chance = kernel.a_t * x0 + kernel.b_t * pi
    return (torch.rand(x0.shape, generator=dice, device=x0.device) < chance).to(x0)


def evidence2(xt: Tensor, a: Tensor, b: Tensor, pi: Tensor) -> Tensor:
    """log q(xt | x = 1) - log q(xt | x = 0) (b, d), where the share a of x is left in xt and b = 1 - a is noise."""
    mine = torch.where(xt > 0, pi, 1 - pi)
    return (2 * xt - 1) * torch.log1p(a / (b * mine).clamp(min=TINY))


def law2(p: Tensor, not_p: Tensor, kernel: Kernel, pi: Tensor) -> Tensor:
    """The logit (b, d) of xs = 1, before xt is seen, where x0 = 1 has chance p and x0 = 0 has not_p = 1 - p."""
    one, zero = kernel.a_s * p + kernel.b_s * pi, kernel.a_s * not_p + kernel.b_s * (1 - pi)
    return one.clamp(min=TINY).log() - zero.clamp(min=TINY).log()


def posterior2(u: Tensor, xt: Tensor, kernel: Kernel, pi: Tensor) -> Tensor:
    """The logit (b, d) of p(xs = 1 | xt)."""
    law = law2(torch.sigmoid(u), torch.sigmoid(-u), kernel, pi)
    return law + evidence2(xt, kernel.a_step, kernel.b_step, pi)


def kl2(u: Tensor, x0: Tensor, xt: Tensor, kernel: Kernel, pi: Tensor) -> Tensor:
    """KL(q(xs | xt, x0) || p(xs | xt)) of each place (b, d), in nats."""
    with torch.no_grad():
        own = evidence2(xt, kernel.a_step, kernel.b_step, pi)
        true = law2(x0, 1 - x0, kernel, pi) + own
    guess = law2(torch.sigmoid(u), torch.sigmoid(-u), kernel, pi) + own
    return torch.sigmoid(true) * (true - guess) + softplus(guess) - softplus(true)


# --- many levels ---


def noised(x0: Tensor, kernel: Kernel, pi: Tensor, dice: torch.Generator) -> Tensor:
    """A draw of xt given x0 (b, d)."""
    keep = torch.rand(x0.shape, generator=dice, device=x0.device) < kernel.a_t
    return torch.where(keep, x0, drawn(pi.expand(*x0.shape, -1), dice))


def drawn(p: Tensor, dice: torch.Generator) -> Tensor:
    """One level (b, d) of each distribution (b, d, k)."""
    edges = p.cumsum(-1)
    roll = torch.rand(p.shape[:-1], generator=dice, device=p.device) * edges[..., -1]
    return (roll[..., None] >= edges[..., :-1]).sum(-1)


def evidence(xt: Tensor, a: Tensor, b: Tensor, pi: Tensor) -> Tensor:
    """log q(xt | x = xt) less log q(xt | x = j) for any other j (b, d)."""
    return torch.log1p(a / (b * _at(pi, xt)).clamp(min=TINY))


def posterior(u: Tensor, xt: Tensor, kernel: Kernel, pi: Tensor) -> Tensor:
    """p(xs | xt) (b, d, k)."""
    law = kernel.a_s[..., None] * torch.softmax(u, -1) + kernel.b_s[..., None] * pi
    here = xt[..., None]
    weight = law * (kernel.b_step * _at(pi, xt))[..., None]
    weight = weight.scatter_add(-1, here, kernel.a_step[..., None] * law.gather(-1, here))
    return weight / weight.sum(-1, keepdim=True).clamp(min=TINY)


def kl(u: Tensor, x0: Tensor, xt: Tensor, kernel: Kernel, pi: Tensor) -> Tensor:
    """KL(q(xs | xt, x0) || p(xs | xt)) of each place (b, d), in nats.

    With m_j and n_j the true and the guessed law of xs before xt is seen, and A_j = q(xt | xs = j), it is
    sum_j A_j m_j / Z (log m_j - log n_j) - log Z + log Z', Z = sum A m, Z' = sum A n. A_j is the same for all j but xt.
    """
    other, here = kernel.b_step * _at(pi, xt), kernel.a_step  # A_j for j other than xt, and what xt itself has more
    m = kernel.b_s[..., None] * pi
    m = m.scatter_add(-1, x0[..., None], kernel.a_s[..., None].expand(*x0.shape, 1))
    n = kernel.a_s[..., None] * torch.softmax(u, -1) + kernel.b_s[..., None] * pi
    gain = m * (m.clamp(min=TINY).log() - n.clamp(min=TINY).log())
    z = (other + here * _at(m, xt)).clamp(min=TINY)
    z_guess = (other + here * _at(n, xt)).clamp(min=TINY)
    return (other * gain.sum(-1) + here * _at(gain, xt)) / z - z.log() + z_guess.log()


def _at(table: Tensor, x: Tensor) -> Tensor:
    """table's entry (b, d) at level x of each place; table (d, k) or (b, d, k)."""
    return table.expand(*x.shape, table.shape[-1]).gather(-1, x[..., None])[..., 0]
