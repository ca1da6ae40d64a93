"""Generators and critics of the GAN: rows of a flat table (residual, as in CTGAN and EMR-WGAN) and signals (1-D conv).

A generator turns noise z (b, k) and what it is told, `told` (b, m), into logits; a critic gives each of its packs of
rows one number.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


class RowGenerator(nn.Module):
    """Logits (b, q): batch-normalised layers, each with what came into it beside what it adds (b, width + ...)."""

    def __init__(self, noise: int, told: int, q: int, *, width: int = 256, depth: int = 2) -> None:
        super().__init__()
        at, layers = noise + told, []
        for _ in range(depth):
            layers.append(nn.Sequential(nn.Linear(at, width), nn.BatchNorm1d(width), nn.ReLU()))
            at += width
        self.layers = nn.ModuleList(layers)
        self.leave = nn.Linear(at, q)

    def forward(self, z: Tensor, told: Tensor) -> Tensor:
        """z (b, noise), told (b, told); gives (b, q)."""
        x = torch.cat([z, told], dim=1)
        for layer in self.layers:
            x = torch.cat([layer(x), x], dim=1)
        return self.leave(x)


class RowCritic(nn.Module):
    """One number a pack of rows, which are judged together (PacGAN, Lin et al. 2018, arXiv:1712.04086).

    Every row stands beside its batch's mean (minibatch averaging, Choi et al. 2017, arXiv:1703.06490).
    """

    def __init__(self, told: int, q: int, *, width: int = 256, depth: int = 2, pack: int = 1) -> None:
        super().__init__()
        self.pack = pack
        at, layers = pack * (2 * q + told), list[nn.Module]()
        for _ in range(depth):
            layers += [nn.Linear(at, width), nn.LayerNorm(width), nn.LeakyReLU(0.2)]
            at = width
        self.net = nn.Sequential(*layers, nn.Linear(at, 1))

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """x (b, q), told (b, told); gives (b / pack,)."""
        x = torch.cat([x, x.mean(dim=0, keepdim=True).expand_as(x), told], dim=1)
        return self.net(x.reshape(len(x) // self.pack, -1))[:, 0]


class SignalGenerator(nn.Module):
    """Logits (b, c, l): from few places to all of them, doubling; noise of its own enters at every length."""

    def __init__(self, noise: int, told: int, c: int, length: int, *, width: int = 64) -> None:
        super().__init__()
        self.sizes = _halved(length)[::-1]
        self.width = width
        self.enter = nn.Linear(noise + told, 2 * width * self.sizes[0])
        at, layers = 2 * width, []
        for _ in self.sizes[1:]:
            layers.append(
                nn.Sequential(nn.Conv1d(at + 1 + told, width, 5, padding=2), nn.BatchNorm1d(width), nn.ReLU())
            )
            at = width
        self.layers = nn.ModuleList(layers)
        self.leave = nn.Sequential(nn.Conv1d(at + 1, width, 3, padding=1), nn.ReLU(), nn.Conv1d(width, c, 3, padding=1))
        self.places = sum(self.sizes[1:]) + length  # of noise beside z

    def forward(self, z: Tensor, told: Tensor) -> Tensor:
        """z (b, noise + places), told (b, told); gives (b, c, l)."""
        first = z.shape[1] - self.places
        fine, at = z[:, None, first:], 0
        x = self.enter(torch.cat([z[:, :first], told], dim=1)).reshape(len(z), 2 * self.width, self.sizes[0])
        for size, layer in zip(self.sizes[1:], self.layers, strict=True):
            x = nn.functional.interpolate(x, size=size, mode="linear", align_corners=False)
            x = layer(torch.cat([x, fine[:, :, at : at + size], told[:, :, None].expand(-1, -1, size)], dim=1))
            at += size
        return self.leave(torch.cat([x, fine[:, :, at:]], dim=1))


class SignalCritic(nn.Module):
    """One number a signal: the length halved by every layer, the batch's spread beside what is left of a signal."""

    def __init__(self, told: int, c: int, length: int, *, width: int = 64) -> None:
        super().__init__()
        sizes = _halved(length)
        at, layers = c + told, list[nn.Module]()
        for size in sizes[1:]:
            layers += [nn.Conv1d(at, width, 5, stride=2, padding=2), nn.LayerNorm([width, size]), nn.LeakyReLU(0.2)]
            at = width
        self.layers = nn.Sequential(*layers)
        flat = at * sizes[-1] + 2 * c + told  # and each channel's mean and spread, batch by batch
        self.leave = nn.Sequential(nn.Linear(flat, 2 * width), nn.LeakyReLU(0.2), nn.Linear(2 * width, 1))

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """x (b, c, l), told (b, told); gives (b,)."""
        batch = torch.cat([x.mean(dim=(0, 2)), x.var(dim=(0, 2), correction=0).add(1e-6).sqrt()])
        h = self.layers(torch.cat([x, told[:, :, None].expand(-1, -1, x.shape[2])], dim=1)).flatten(1)
        return self.leave(torch.cat([h, batch.expand(len(x), -1), told], dim=1))[:, 0]


class Embedding(nn.Module):
    """TimeGAN's (Yoon et al. 2019) three networks besides the adversaries, as convolutions: signals (b, c, l) to latent
    ones (b, k, l) and back, and the next step of a latent signal from those before it."""

    def __init__(self, c: int, k: int, *, width: int = 64) -> None:
        super().__init__()
        self.inward = nn.Sequential(nn.Conv1d(c, width, 3, padding=1), nn.ReLU(), nn.Conv1d(width, k, 1), nn.Tanh())
        self.outward = nn.Sequential(nn.Conv1d(k, width, 3, padding=1), nn.ReLU(), nn.Conv1d(width, c, 1))
        self.next = nn.GRU(k, width, batch_first=True)
        self.step = nn.Linear(width, k)

    def supervised(self, h: Tensor) -> Tensor:
        """Mean squared error of the next step, latent signals h (b, k, l); 0 where there is one step alone."""
        steps = h.transpose(1, 2)
        if steps.shape[1] < 2:
            return h.new_zeros(())
        guess = self.step(self.next(steps[:, :-1])[0])
        return (guess - steps[:, 1:]).square().mean()


def rebuilt(segments: Sequence[tuple[str, int, int, str]], logits: Tensor, x: Tensor) -> Tensor:
    """How badly signals x (b, c, l) are given back: squared error of numbers, cross-entropy of what is 0 or 1."""
    kind = np.concatenate([[s[0]] * (s[2] - s[1]) for s in segments])
    number = torch.from_numpy(kind == "number").to(x.device)
    off = (logits - x)[:, number].square().mean() if number.any() else x.new_zeros(())
    if number.all():
        return off
    return off + nn.functional.binary_cross_entropy_with_logits(logits[:, ~number], x[:, ~number])


def _halved(length: int) -> list[int]:
    """The length, halved (rounded up) down to four places or fewer.

    >>> _halved(48)
    [48, 24, 12, 6, 3]
    """
    sizes = [length]
    while sizes[-1] > 4:
        sizes.append(-(-sizes[-1] // 2))
    return sizes
