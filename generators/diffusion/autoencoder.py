"""An autoencoder of the matrix view whose decoder gives a distribution per feature, so that decoding is a draw.

Flags are Bernoulli, one-hot groups categorical, numbers Gaussian with one learned spread a feature; the loss is the
negative log-likelihood, so that no weight between kinds is needed. `balanced` is HealthForge's published loss instead:
one scalar weight on all ones and ten times the squared error of numbers.

Flags drawn one by one scatter their number: where every record has three codes, a decoder that is unsure which draws
one to five. `counted` makes the number of flags a feature, and `so_many` draws that many.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from generators.encode import Feature

HALVINGS, EDGE = 30, 30.0  # of the range in which a shift of the logits is sought, and how far beyond theirs it reaches


class Autoencoder(nn.Module):
    """x (b, p) -> z (b, latent) -> parameters of each feature (b, p).

    Encoder p -> hidden -> hidden -> latent with a residual block at the end; decoder latent -> hidden -> hidden -> p;
    GELU and layer normalisation throughout. jitter: spread of the noise put on z in training, in units of z's own.
    """

    def __init__(self, p: int, *, hidden: int, latent: int, jitter: float, dropout: float) -> None:
        super().__init__()
        self.jitter = jitter

        def layer(a: int, b: int) -> nn.Sequential:
            return nn.Sequential(nn.Linear(a, b), nn.GELU(), nn.LayerNorm(b), nn.Dropout(dropout))

        self.encoder = nn.Sequential(layer(p, hidden), layer(hidden, hidden), nn.Linear(hidden, latent))
        self.residual = nn.Sequential(nn.Linear(latent, latent), nn.GELU(), nn.LayerNorm(latent))
        self.level = nn.LayerNorm(latent, elementwise_affine=False)
        self.decoder = nn.Sequential(layer(latent, hidden), layer(hidden, hidden), nn.Linear(hidden, p))
        self.log_spread = nn.Parameter(torch.zeros(p))

    def encode(self, x: Tensor) -> Tensor:
        """Latents (b, latent), of unit spread within a row."""
        z = self.encoder(x)
        return self.level(z + self.residual(z))

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Parameters (b, p) of each feature of x, decoded from its latent with noise (b, latent) on it."""
        z = self.encode(x)
        return self.decoder(z if noise is None else z + self.jitter * noise)


class Likelihood:
    """What the decoder's output says of each feature of a matrix view, on one device."""

    def __init__(self, features: Sequence[Feature], device: torch.device) -> None:
        def at(kind: str) -> Tensor:
            return torch.tensor([f.start for f in features if f.kind == kind], dtype=torch.int64, device=device)

        self.binary, self.number = at("binary"), at("number")
        self.groups = [(f.start, f.stop) for f in features if f.kind in ("onehot", "count")]
        self.counts = features[-1].kind == "count"

    def nats(self, out: Tensor, x: Tensor, log_spread: Tensor) -> Tensor:
        """-log p(x | out) of each row (b,), in nats."""
        total = bce(out[:, self.binary], x[:, self.binary], reduction="none").sum(1)
        for start, stop in self.groups:  # a group without a level (past a subject's last row) says nothing
            total = total - (torch.log_softmax(out[:, start:stop], 1) * x[:, start:stop]).sum(1)
        spread = log_spread[self.number].clamp(min=-5)
        gap = (x[:, self.number] - out[:, self.number]) * torch.exp(-spread)
        return total + (gap.square() / 2 + spread + 0.9189385).sum(1)

    def balanced(self, out: Tensor, x: Tensor, weight: float) -> Tensor:
        """HealthForge's published loss: mean weighted cross-entropy of all flags and levels + 10 mean squared error."""
        flags = torch.cat([self.binary, *(torch.arange(a, b, device=x.device) for a, b in self.groups)])
        loss = bce(out[:, flags], x[:, flags], pos_weight=x.new_full((), weight))
        if len(self.number):
            loss = loss + 10 * (out[:, self.number] - x[:, self.number]).square().mean()
        return loss

    def decoded(self, out: Tensor, log_spread: Tensor, dice: torch.Generator | None) -> Tensor:
        """Rows (b, p) drawn from the parameters; the likeliest ones where dice is None."""
        x = torch.zeros_like(out)
        for start, stop in self.groups:
            logits = out[:, start:stop]
            if dice is not None:
                roll = torch.rand(logits.shape, generator=dice, device=out.device).clamp(1e-12, 1 - 1e-7)
                logits = logits - (-roll.log()).log()
            x[torch.arange(len(x), device=x.device), start + logits.argmax(1)] = 1
        logits = out[:, self.binary]
        if self.counts and dice is not None:
            start, stop = self.groups[-1]
            x[:, self.binary] = so_many(logits, x[:, start:stop].argmax(1), dice)
        else:
            p = torch.sigmoid(logits)
            hit = p > 0.5 if dice is None else p > torch.rand(p.shape, generator=dice, device=p.device)
            x[:, self.binary] = hit.to(x)
        mean = out[:, self.number]
        if dice is not None:
            spread = torch.exp(log_spread[self.number].clamp(min=-5))
            mean = mean + spread * torch.randn(mean.shape, generator=dice, device=out.device)
        x[:, self.number] = mean
        return x


def counted(x: np.ndarray, features: Sequence[Feature]) -> tuple[np.ndarray, list[Feature]]:
    """The matrix with one group more, as many levels as a row may have flags; unchanged where there are no flags."""
    flags = [f.start for f in features if f.kind == "binary"]
    if not flags:
        return x, list(features)
    count = x[:, flags].sum(axis=1).astype(np.int64)
    group = np.eye(count.max() + 1, dtype=np.float32)[count]
    p = x.shape[1]
    return np.concatenate([x, group], axis=1), [*features, Feature(p, p + group.shape[1], "count", "")]


def so_many(logits: Tensor, count: Tensor, dice: torch.Generator) -> Tensor:
    """Flags (b, d) with exactly `count` (b,) ones a row, each with its own chance.

    All logits of a row are shifted alike until the chances add up to its count; then systematic sampling in random
    order (Madow 1949) gives every flag its chance and the row its count.
    """
    count = count.clamp(max=logits.shape[1]).double()[:, None]
    low, high = -logits.amax(1, keepdim=True) - EDGE, -logits.amin(1, keepdim=True) + EDGE
    for _ in range(HALVINGS):
        shift = (low + high) / 2
        few = torch.sigmoid(logits + shift).sum(1, keepdim=True) < count
        low, high = torch.where(few, shift, low), torch.where(few, high, shift)
    p = torch.sigmoid(logits + high).double()
    order = torch.rand(p.shape, generator=dice, device=p.device).argsort(1)
    line = p.gather(1, order).cumsum(1)
    line = line * (count / line[:, -1:].clamp(min=1e-12))
    before = torch.nn.functional.pad(line, (1, 0))[:, :-1]
    offset = torch.rand(count.shape, generator=dice, device=p.device).double()
    hit = torch.floor(line + offset) > torch.floor(before + offset)
    return torch.zeros_like(logits).scatter(1, order, hit.to(logits))


def weight_of_ones(x: np.ndarray, features: Sequence[Feature]) -> float:
    """Zeros per one over all flags and levels of a matrix: the published scalar weight."""
    flags = [j for f in features if f.kind != "number" for j in range(f.start, f.stop)]
    ones = float(x[:, flags].sum())
    return max(len(x) * len(flags) - ones, 1.0) / max(ones, 1.0)
