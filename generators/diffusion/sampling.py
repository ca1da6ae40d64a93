"""Samplers: free functions over a denoiser."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from generators.diffusion.process import beta, gamma, ou_reverse

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
