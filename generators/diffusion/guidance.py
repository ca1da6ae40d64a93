"""Guidance of a denoiser towards a condition: energy-guided Langevin steps in the last layer (EHR-D3PM sec. 4.3)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, logsigmoid

Beliefs = Callable[[Tensor], tuple[Tensor, Tensor]]


def divergence(u2: Tensor, u: Tensor, start2: Tensor, start: Tensor) -> Tensor:
    """KL(p(x0 | u) || p(x0 | start)) of each subject (b,), in nats: logits (b, d2), log-beliefs (b, d, k)."""
    p, not_p = torch.sigmoid(u2), torch.sigmoid(-u2)
    two = p * (logsigmoid(u2) - logsigmoid(start2)) + not_p * (logsigmoid(-u2) - logsigmoid(-start2))
    more = kl_div(log_softmax(start, -1), log_softmax(u, -1), reduction="none", log_target=True)
    return two.sum(1) + more.sum((1, 2))


def langevin(
    z: Tensor, beliefs: Beliefs, log_condition: Callable[[Tensor], Tensor], *, scale: float, eta: float, lam: float,
    tau: float, steps: int, dice: torch.Generator,
) -> Tensor:  # fmt: skip
    """y near the latent z (b, ...) with higher log p(c | y).

    y <- y - eta grad[lam KL(p(x0 | y) || p(x0 | z)) - scale log p(c | y)] + sqrt(2 eta tau) noise, `steps` times.
    beliefs(y): what the output layer makes of a latent. log_condition(y): log p(c | y), (b,).
    """
    y, start = z.detach(), [s.detach() for s in beliefs(z)]
    for _ in range(steps):
        with torch.enable_grad():
            y = y.detach().requires_grad_()
            energy = lam * divergence(*beliefs(y), start[0], start[1]) - scale * log_condition(y)
            (slope,) = torch.autograd.grad(energy.sum(), y)
        y = y.detach() - eta * slope
        if tau > 0:
            y = y + (2 * eta * tau) ** 0.5 * torch.randn(y.shape, generator=dice, device=y.device)
    return y
