"""TimesNet (Wu et al. 2023, arXiv:2210.02186) as a classifier of signals: TarDiff's downstream model, and a judge.

A signal is folded along each of its main periods into a picture of (cycle, phase), convolved there, and the foldings
are added by the weights of their frequencies. Made for gradients of gradients: activations are smooth, no subject's
output depends on the others of a batch (no batch normalisation; periods fixed at fit by train's mean spectrum, their
weights each subject's own), so that one subject's influence is its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from generators.columns import labels
from generators.diffusion.signals import Signals
from generators.training import build, device, train

KERNELS = (1, 3, 5)
SMALL = 1e-8
MOST_STEPS = 4_000  # of training


class TimesNet(nn.Module):
    """The logit (b,) of the positive class for signals x (b, c, l). frequencies: cycles in the length, one a period."""

    def __init__(
        self, c: int, length: int, frequencies: Sequence[int], *, width: int = 16, depth: int = 2, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.enter = nn.Conv1d(c, width, 3, padding=1)
        self.place = nn.Parameter(0.02 * torch.randn(width, length))
        self.blocks = nn.ModuleList([TimesBlock(width, length, frequencies) for _ in range(depth)])
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(depth)])
        self.leave = nn.Sequential(nn.GELU(), nn.Dropout(dropout), nn.Flatten(), nn.Linear(width * length, 1))

    def forward(self, x: Tensor) -> Tensor:
        """x (b, c, l)."""
        h = self.enter(x) + self.place
        for block, norm in zip(self.blocks, self.norms, strict=True):
            h = norm(block(h).transpose(1, 2)).transpose(1, 2)
        return self.leave(h)[:, 0]


class TimesBlock(nn.Module):
    """h + the sum over periods of softmax(amplitude) · fold, two inception layers, unfold; h (b, w, l)."""

    waves: Tensor

    def __init__(self, width: int, length: int, frequencies: Sequence[int]) -> None:
        super().__init__()
        self.periods = [math.ceil(length / f) for f in frequencies]
        angles = 2 * math.pi * torch.arange(length)[:, None] * torch.tensor(list(frequencies)) / length
        self.register_buffer("waves", torch.stack([angles.cos(), angles.sin()], dim=-1))  # (l, k, 2)
        self.layers = nn.Sequential(Inception(width), nn.GELU(), Inception(width))

    def forward(self, h: Tensor) -> Tensor:
        """h (b, w, l)."""
        b, w, length = h.shape
        amplitude = (torch.einsum("bwl,lkp->bwkp", h, self.waves).square().sum(-1) + SMALL).sqrt().mean(1)  # (b, k)
        weight = torch.softmax(amplitude, dim=1)
        out = h
        for k, period in enumerate(self.periods):
            cycles = math.ceil(length / period)
            folded = nn.functional.pad(h, (0, cycles * period - length)).view(b, w, cycles, period)
            flat = self.layers(folded).reshape(b, w, -1)[:, :, :length]
            out = out + weight[:, k, None, None] * flat
        return out


class Inception(nn.Module):
    """The mean of convolutions of several sizes, as the one convolution whose kernel is the mean of theirs."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.kernels = nn.ParameterList([nn.Conv2d(width, width, k).weight for k in KERNELS])
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """x (b, w, cycles, phases)."""
        widest = KERNELS[-1]
        padded = [nn.functional.pad(k, [(widest - k.shape[-1]) // 2] * 4) for k in self.kernels]
        return nn.functional.conv2d(x, torch.stack(padded).mean(0), self.bias, padding=widest // 2)


class ConvNet(nn.Module):
    """Another architecture for the same: three strided convolutions and a mean over time; the logit (b,) of x."""

    def __init__(self, c: int, *, width: int = 32, dropout: float = 0.1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(c, width, 5, padding=2), nn.GELU(),
            nn.Conv1d(width, width, 5, stride=2, padding=2), nn.GELU(),
            nn.Conv1d(width, width, 5, stride=2, padding=2), nn.GELU(),
        )  # fmt: skip
        self.leave = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """x (b, c, l)."""
        return self.leave(self.layers(x).mean(-1))[:, 0]


def main_frequencies(x: np.ndarray, k: int = 3) -> list[int]:
    """The k strongest frequencies (cycles in the length, 1 or more) of the mean amplitude over signals x (n, c, l)."""
    length = x.shape[2]
    if length < 2:
        return [1]
    strength = np.abs(np.fft.rfft(x, axis=2)).mean(axis=(0, 1))
    strength[0] = -1.0
    return sorted(int(f) for f in np.argsort(-strength, kind="stable")[: min(k, len(strength) - 1)])


def classifier(name: str, c: int, length: int, frequencies: Sequence[int]) -> nn.Module:
    """An untrained classifier of signals (b, c, length): "timesnet" or "conv". ValueError names an unknown one."""
    if name == "timesnet":
        return TimesNet(c, length, frequencies)
    if name == "conv":
        return ConvNet(c)
    raise ValueError(f"unknown classifier '{name}'; known: timesnet, conv")


def logistic_loss(net: nn.Module, rows: tuple[Tensor, ...], dice: torch.Generator) -> Tensor:
    """Mean cross-entropy of logits against y (b,) in {0, 1}, each subject by its weight."""
    x, y, weight = rows
    each = nn.functional.binary_cross_entropy_with_logits(net(x), y.float(), reduction="none")
    return (each * weight).mean()


def fit_classifier(
    net: nn.Module, x: np.ndarray, y: np.ndarray, *, weight: np.ndarray | None = None, seed: int, epochs: int = 20,
    batch: int = 64, lr: float = 1e-3,
) -> nn.Module:  # fmt: skip
    """Train on signals x (n, c, l), classes y (n,); stops at the best loss on the 15 % held back."""
    rows = (
        x.astype(np.float32),
        y.astype(np.int64),
        (np.ones(len(y)) if weight is None else weight).astype(np.float32),
    )
    data = tuple(torch.from_numpy(r) for r in rows)
    epoch = max(1, len(y) // batch)
    return train(
        net, logistic_loss, data, seed=seed, steps=min(epochs * epoch, MOST_STEPS), batch=batch, lr=lr,
        weight_decay=1e-2, ema=0.99, validation=0.15, every=epoch, patience=4,
    )  # fmt: skip


class TimesNetJudge:
    """A downstream model of tables, which the harness hands to metrics: trained afresh on each."""

    net = "timesnet"

    def fit(
        self, table: pd.DataFrame, *, like: pd.DataFrame | None = None, target: str, static: Sequence[str] = (),
        weight: np.ndarray | None = None, seed: int,
    ) -> Self:  # fmt: skip
        """Learn the target of a lawful table. like: the table whose normalisers are used, this one where None.
        weight (n,): what each subject counts, in the order they come."""
        self.signals = Signals.fit(table if like is None else like, static=static, without=[target])
        x, y = self.signals.transform(table), labels(table, target)
        net = build(lambda: classifier(self.net, x.shape[1], x.shape[2], main_frequencies(x)), seed=seed)
        self.model = fit_classifier(net, x, y, weight=weight, seed=seed)
        return self

    def predict(self, table: pd.DataFrame) -> np.ndarray:
        """Probability (n,) of the positive class; another length than at fit is cut, or run on with the last value."""
        return probabilities(self.model, self.signals.transform(table))


class ConvJudge(TimesNetJudge):
    """The same with the other architecture."""

    net = "conv"


@torch.no_grad()
def probabilities(net: nn.Module, x: np.ndarray, batch: int = 1_024) -> np.ndarray:
    """Probability (n,) of the positive class for signals x."""
    at = device()
    net = net.to(at)
    parts = [torch.sigmoid(net(part.to(at))).cpu() for part in torch.from_numpy(x).split(batch)]
    net.to("cpu")
    return torch.cat(parts).numpy().astype(float)
