"""The best linear guess at a signal behind noise, and a denoiser that corrects it.

Were train Gaussian, the guess would be all there is to know (Wiener's filter, one per time). A network that is handed
it has the correlations of every feature with every other from the start, and learns what is not linear.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from generators.diffusion.signals import by_class

RANK = 512  # directions of train that are told apart; the variance of the rest is one number
WIDEST = 4_096  # features whose covariance is taken whole; directions of more are found by random projections
LEAST = 1e-4  # variance


def moments(x: np.ndarray, y: np.ndarray, *, seed: int) -> dict[str, np.ndarray]:
    """Of signals x (n, c, l), classes y (n,): means (2, c, l), directions (r, c * l) that are orthonormal and both
    classes', each class's variances along them (2, r), and its variance in all other directions (2,)."""
    from sklearn.decomposition import PCA

    means = by_class(x, y)
    flat = (x - means[y]).reshape(len(x), -1)
    rank = max(0, min(RANK, min(flat.shape) - 1))
    directions = np.zeros((0, flat.shape[1]), np.float32)
    if rank:
        solver = "covariance_eigh" if flat.shape[1] <= WIDEST else "randomized"
        directions = PCA(rank, svd_solver=solver, random_state=seed).fit(flat).components_.astype(np.float32)
    along = flat @ directions.T
    outside = (flat**2).sum(axis=1, keepdims=True) - (along**2).sum(axis=1, keepdims=True)
    squares = np.hstack([along**2, np.maximum(outside, 0) / max(flat.shape[1] - rank, 1)])  # (n, r + 1)
    variances = np.maximum(by_class(squares, y), LEAST)
    return {"means": means, "directions": directions, "variances": variances[:, :rank], "rest": variances[:, rank]}


class Corrected(nn.Module):
    """v(x, t, y) of signals x (b, c, l) = g x0 + b noise: that of the linear guess at x0, and what `net` adds to it.

    net (2 c channels in, c out; t, y) reads the guess beside x. g, b (steps,): at time t = (k + 1) / steps those of
    place k. linear (c or 1, l or 1) bool: features that have a v; of the others the answer is what `net` says.
    """

    means: Tensor
    directions: Tensor
    variances: Tensor
    rest: Tensor
    g: Tensor
    b: Tensor
    linear: Tensor

    def __init__(
        self, net: nn.Module, moments: Mapping[str, Any], g: np.ndarray, b: np.ndarray, linear: np.ndarray
    ) -> None:  # fmt: skip
        super().__init__()
        self.net = net
        kept = {k: np.array(v, np.float32) for k, v in {**moments, "g": g, "b": b}.items()} | {"linear": linear}
        for name, value in kept.items():
            self.register_buffer(name, torch.from_numpy(value), persistent=False)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """(b, c, l)."""
        k = (t * len(self.g)).round().long() - 1
        g, b = self.g[k, None, None], self.b[k, None, None]
        guess = self.guess(x, g, b, y)
        out = self.net(torch.cat([x, guess], dim=1), t, y)
        return out + torch.where(self.linear, (g * x - guess) / b, 0.0)

    def guess(self, x: Tensor, g: Tensor, b: Tensor, y: Tensor) -> Tensor:
        """x0 (b, c, l) as a Gaussian with train's moments has it; g, b (b, 1, 1)."""
        means, variances, rest = self.means[y], self.variances[y], self.rest[y, None, None]
        away = x - g * means
        rest = g * rest / (g**2 * rest + b**2)
        gains = g[:, 0] * variances / (g[:, 0] ** 2 * variances + b[:, 0] ** 2)  # (b, r)
        with torch.autocast(x.device.type, enabled=False):  # what is cut off here is divided by b
            told = ((gains - rest[:, 0]) * (away.flatten(1) @ self.directions.T)) @ self.directions
        return means + rest * away + told.view_as(x)

    def posterior_noise(self, noise: Tensor, g: float, b: float, y: Tensor) -> Tensor:
        """Give standard normal noise (n, c, l) the covariance of x0 given x, as a Gaussian with train's moments has it.

        The covariance is the same for every x.
        """
        variances, rest = self.variances[y], self.rest[y, None, None]
        outside = b * (rest / (g**2 * rest + b**2)).sqrt()  # (n, 1, 1)
        along = b * (variances / (g**2 * variances + b**2)).sqrt()  # (n, r)
        inside = ((along - outside[:, 0]) * (noise.flatten(1) @ self.directions.T)) @ self.directions
        return outside * noise + inside.view_as(noise)
