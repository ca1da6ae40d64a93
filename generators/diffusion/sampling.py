"""Samplers: free functions over a denoiser. Random numbers are drawn where x lies: `dice` is on its device."""

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from generators.diffusion.process import beta, gamma, ou_reverse, signal

Denoiser = Callable[[Tensor, float], Tensor]
Bounds = tuple[Tensor, Tensor] | None


# --- Ornstein-Uhlenbeck: from x (b, d) at times[-1] down to time 0; each gives (b, d) ---
# eps(x, t) predicts the noise. times: increasing; any subset of the training grid is a valid chain. bounds: lowest and
# highest x0 per feature, (d,) or (b, d); a predicted x0 beyond them is clipped and eps follows it.


@torch.inference_mode()
def ou_ancestral(eps: Denoiser, x: Tensor, times: np.ndarray, *, bounds: Bounds, dice: torch.Generator) -> Tensor:
    """Draw from the exact reverse kernel at every step; no noise at the last.

    The kernel is exact for a known x0; what is left unknown of it adds no variance, so long strides narrow the modes.
    """
    for t, to in _steps(times):
        scale, weight, sigma = ou_reverse(t, to)
        x = scale * (x - weight * _bounded(eps, x, t, bounds))
        if sigma > 0:
            x = x + sigma * torch.randn(x.shape, generator=dice, device=x.device).to(x)
    return x


@torch.inference_mode()
def ou_ddim(eps: Denoiser, x: Tensor, times: np.ndarray, *, bounds: Bounds, dice: torch.Generator) -> Tensor:
    """DDIM (Song et al. 2021, eta = 0): gamma(t') x0 + beta(t') eps, without noise.

    It is Euler's method on the probability-flow ODE dX/dt = -X + eps / beta, written for x / gamma over beta / gamma,
    where it reads d(x / gamma) / d(beta / gamma) = eps.
    """
    for t, to in _steps(times):
        x = _along(x, t, to, _bounded(eps, x, t, bounds))
    return x


@torch.inference_mode()
def ou_heun(eps: Denoiser, x: Tensor, times: np.ndarray, *, bounds: Bounds, dice: torch.Generator) -> Tensor:
    """Heun's method on the same ODE: two predictions a step, one at the last, where the slope at time 0 is unknown."""
    for t, to in _steps(times):
        slope = _bounded(eps, x, t, bounds)
        ahead = _along(x, t, to, slope)
        x = _along(x, t, to, (slope + _bounded(eps, ahead, to, bounds)) / 2) if to > 0 else ahead
    return x


OU_SAMPLERS = {"ancestral": ou_ancestral, "ddim": ou_ddim, "heun": ou_heun}


def _steps(times: np.ndarray) -> Iterator[tuple[float, float]]:
    """(t, t') from the last time down to 0."""
    down = [*times[::-1].tolist(), 0.0]
    return pairwise(down)


def _along(x: Tensor, t: float, to: float, eps: Tensor) -> Tensor:
    """x at t moved to t' along a constant eps: gamma' (x - beta eps) / gamma + beta' eps."""
    return float(gamma(to) / gamma(t)) * (x - float(beta(t)) * eps) + float(beta(to)) * eps


def _bounded(eps: Denoiser, x: Tensor, t: float, bounds: Bounds) -> Tensor:
    noise = eps(x, t)
    if bounds is None:
        return noise
    x0 = ((x - float(beta(t)) * noise) / float(gamma(t))).clamp(*bounds)
    return (x - float(gamma(t)) * x0) / float(beta(t))


# --- variance-preserving by its log signal-to-noise ratio ---


@torch.inference_mode()
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
