"""Guidance of a denoiser towards a condition: energy-guided Langevin steps in the last layer (EHR-D3PM sec. 4.3)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, logsigmoid

Posterior = Callable[[Tensor], tuple[Tensor, Tensor]]


def divergence(u2: Tensor, u: Tensor, start2: Tensor, start: Tensor) -> Tensor:
    """Return KL(p || q) of each subject (b,), in nats, summed over its places.

    p is given by logits u2 (b, d2) of places with two levels and log weights u (b, d, k) of the others; q by start2 and
    start.
    """
    p, not_p = torch.sigmoid(u2), torch.sigmoid(-u2)
    two = p * (logsigmoid(u2) - logsigmoid(start2)) + not_p * (logsigmoid(-u2) - logsigmoid(-start2))
    more = kl_div(log_softmax(start, -1), log_softmax(u, -1), reduction="none", log_target=True)
    return two.sum(1) + more.sum((1, 2))


def langevin(
    z: Tensor, posterior: Posterior, log_condition: Callable[[Tensor], Tensor], *, scale: float, eta: float, lam: float,
    tau: float, steps: int, dice: torch.Generator,
) -> Tensor:  # fmt: skip
    """Move the latent z (b, ...) towards higher log p(c | y) by Langevin steps (EHR-D3PM sec. 4.3).

    y <- y - eta grad[lam KL(p(x0 | y, xt) || p(x0 | z, xt)) - scale log p(c | y)] + sqrt(2 eta tau) noise, `steps`
    times. posterior(y): logits and log weights of p(x0 | y, xt), as `divergence` takes them, the evidence of xt
    included. log_condition(y): log p(c | y), (b,).

    For small eta the chain draws from exp(-energy / tau), the energy being what stands in brackets. With tau = 0 it
    descends to a minimum of the energy and draws nothing.
    """
    y, start = z.detach(), [s.detach() for s in posterior(z)]
    for _ in range(steps):
        with torch.enable_grad():
            y = y.detach().requires_grad_()
            energy = lam * divergence(*posterior(y), start[0], start[1]) - scale * log_condition(y)
            (slope,) = torch.autograd.grad(energy.sum(), y)
        y = y.detach() - eta * slope
        if tau > 0:
            y = y + (2 * eta * tau) ** 0.5 * torch.randn(y.shape, generator=dice, device=y.device)
    return y
