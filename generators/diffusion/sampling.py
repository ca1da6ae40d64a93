"""Samplers: free functions over a denoiser."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from generators.diffusion.process import beta, gamma, ou_reverse, signal

Denoiser = Callable[[Tensor, float], Tensor]


@torch.no_grad()
def ou_ancestral(
    eps: Denoiser, x: Tensor, times: np.ndarray, *, bounds: tuple[Tensor, Tensor] | None, dice: torch.Generator
) -> Tensor:
    """Run the reverse Ornstein-Uhlenbeck chain from x (b, d) at times[-1] down to time 0; gives (b, d).

    eps(x, t) predicts the noise. times: increasing; any subset of the training grid is a valid chain. bounds: lowest
    and highest x0 per feature; a predicted x0 beyond them is clipped and eps follows it.
    """
    chain = [0.0, *times.tolist()]
    for k in range(len(chain) - 1, 0, -1):
        t = chain[k]
        noise = eps(x, t)
        if bounds is not None:
            x0 = ((x - float(beta(t)) * noise) / float(gamma(t))).clamp(*bounds)
            noise = (x - float(gamma(t)) * x0) / float(beta(t))
        scale, weight, sigma = ou_reverse(t, chain[k - 1])
        x = scale * (x - weight * noise)
        if sigma > 0:
            x = x + sigma * torch.randn(x.shape, generator=dice).to(x)
    return x


@torch.no_grad()
def ddpm_ancestral(predict: Denoiser, z: Tensor, lams: np.ndarray, *, v: float, dice: torch.Generator) -> Tensor:
    """Run a variance-preserving chain from z (b, d) along rising lambdas; gives x (b, d).

    predict(z, lam) -> x, the denoised. The step from lam to a higher lam' is N(mu, s²), mu = e (alpha' / alpha) z +
    (1 - e) alpha' x with e = exp(lam - lam'), and s² lies between the two variances that are exact for x certain and
    for x standard normal: ((1 - e) sigma'²)^(1 - v) ((1 - e) sigma²)^v (Ho & Salimans 2022, sec. 2). No noise at last.
    """
    for k, lam in enumerate(lams):
        x = predict(z, float(lam))
        if k == len(lams) - 1:
            return x
        (a, s), (a2, s2) = signal(lam), signal(lams[k + 1])
        e = float(np.exp(lam - lams[k + 1]))
        spread = ((1 - e) * float(s2) ** 2) ** ((1 - v) / 2) * ((1 - e) * float(s) ** 2) ** (v / 2)
        z = e * float(a2 / a) * z + (1 - e) * float(a2) * x
        z = z + spread * torch.randn(z.shape, generator=dice, device=z.device)
    return z
