"""A flat matrix in the form of CTGAN (Xu et al. 2019, arXiv:1907.00503): numbers by mode, flags and levels as chances.

A number is one of the normal distributions of a variational mixture, chosen at random by its chances, and how far the
value lies from that one's mean, in four of its standard deviations. What a network says is turned into rows by `Heads`,
for all columns at once.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from generators.encode import Feature, Matrix

LEAST_WEIGHT = 0.005  # of a mode that counts
SEEN, ITERATIONS = 2_000, 100  # values that a mixture is fitted to, and how long
NEARLY = 0.02  # nats a value: no better
SCALINGS, MOST_ADDED = 20, 4.0
FAR = 4.0  # standard deviations of a mode that are one


@dataclass(frozen=True)
class Coded:
    """Rows e (n, q) of a matrix view. center, spread: of each number's modes, one after the other in `weight`'s order.

    count: modes of each number.
    """

    view: Matrix
    count: tuple[int, ...]
    center: np.ndarray
    spread: np.ndarray
    weight: np.ndarray

    @classmethod
    def fit(cls, view: Matrix, x: np.ndarray, rng: np.random.Generator, *, modes: int) -> Self:
        """Fit a mixture of at most so many modes to every number of matrix x (n, p), missing values left out."""
        found = []
        none = np.zeros(0, np.float32)
        empty = cls(view, (), none, none, none)
        for f in empty.numbers():
            values = x[empty.there(f, x), f.start]
            found.append(mixture(rng.permutation(values)[:SEEN], modes=modes, seed=int(rng.integers(2**31))))
        parts = [np.concatenate([one[i] for one in found]) if found else np.zeros(0) for i in range(3)]
        return cls(view, tuple(len(one[0]) for one in found), *(p.astype(np.float32) for p in parts))

    def numbers(self) -> list[Feature]:
        """The numbers among the matrix view's features."""
        return [f for f in self.view.features if f.kind == "number"]

    def there(self, f: Feature, x: np.ndarray) -> np.ndarray:
        """Which rows of matrix x (n, p) have a value of number f: its flag, if any, stands next to it."""
        flag = any(g.start == f.stop and g.kind == "binary" and g.column == f.column for g in self.view.features)
        return x[:, f.stop] < 0.5 if flag else np.ones(len(x), bool)

    def segments(self) -> list[tuple[str, int, int, str]]:
        """(kind, start, stop, column) of what a row holds: "tanh", "mode", "level" (one-hot) or "flag"."""
        out, at, number = list[tuple[str, int, int, str]](), 0, iter(self.count)
        for f in self.view.features:
            if f.kind == "number":
                out.append(("tanh", at, at + 1, f.column))
                at += 1
                width, kind = next(number), "mode"
            else:
                width, kind = f.stop - f.start, "flag" if f.kind == "binary" else "level"
            out.append((kind, at, at + width, f.column))
            at += width
        return out

    def encode(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Rows (n, q) float32 of matrix x (n, p)."""
        parts, at = [], 0
        for f, k in zip(self.view.features, self._modes(), strict=True):
            if f.kind != "number":
                parts.append(x[:, f.start : f.stop])
                continue
            center, spread, weight = (v[at : at + k] for v in (self.center, self.spread, self.weight))
            z = (x[:, f.start, None] - center) / spread  # (n, k)
            log = np.log(weight / spread) - z**2 / 2
            mode = (log + rng.gumbel(size=log.shape)).argmax(axis=1)
            far = np.clip(z[np.arange(len(x)), mode] / FAR, -0.99, 0.99)
            parts += [far[:, None], np.eye(k)[mode]]
            at += k
        return np.concatenate([np.zeros((len(x), 0)), *parts], axis=1).astype(np.float32)

    def decode(self, e: np.ndarray) -> np.ndarray:
        """The matrix (n, p) of rows e (n, q)."""
        out, at, mode = np.zeros((len(e), self.view.features[-1].stop), np.float32), 0, 0
        for f, k in zip(self.view.features, self._modes(), strict=True):
            if f.kind != "number":
                width = f.stop - f.start
                out[:, f.start : f.stop] = e[:, at : at + width]
                at += width
                continue
            chosen = mode + e[:, at + 1 : at + 1 + k].argmax(axis=1)
            out[:, f.start] = e[:, at] * FAR * self.spread[chosen] + self.center[chosen]
            at, mode = at + 1 + k, mode + k
        return out

    def _modes(self) -> list[int]:
        """Modes of each feature, 0 of what is no number."""
        number = iter(self.count)
        return [next(number) if f.kind == "number" else 0 for f in self.view.features]


class Heads(nn.Module):
    """Logits (b, q) of segments as rows: soft (Gumbel-softmax, Jang et al. 2017, arXiv:1611.01144) or drawn.

    A segment is "tanh", "number" (left as it is), "flag", "level" or "mode" (one-hot).
    """

    bounded: Tensor
    free: Tensor
    alone: Tensor
    scaled: Tensor
    group: Tensor

    def __init__(self, segments: list[tuple[str, int, int, str]]) -> None:
        super().__init__()
        kind = np.concatenate([[s[0]] * (s[2] - s[1]) for s in segments]) if segments else np.zeros(0, str)
        group = np.concatenate([[i] * (s[2] - s[1]) for i, s in enumerate(segments)]) if segments else np.zeros(0)
        self.groups = len(segments)
        self.register_buffer("bounded", torch.from_numpy(kind == "tanh"), persistent=False)
        self.register_buffer("free", torch.from_numpy((kind == "tanh") | (kind == "number")), persistent=False)
        self.register_buffer("alone", torch.from_numpy(kind == "flag"), persistent=False)
        self.register_buffer("scaled", torch.from_numpy((kind == "flag") | (kind == "level")), persistent=False)
        self.register_buffer("group", torch.from_numpy(group.astype(np.int64)), persistent=False)

    def soft(self, logits: Tensor, dice: torch.Generator, *, temperature: float) -> Tensor:
        """Rows whose flags and levels are near 0 and 1, and have a gradient. temperature 0: plain chances."""
        at = (logits + self._noise(logits, dice)) / temperature if temperature else logits
        return self._numbers(logits, torch.where(self.alone, at.sigmoid(), self.log_chances(at).exp()))

    @torch.no_grad()
    def drawn(self, logits: Tensor, dice: torch.Generator) -> Tensor:
        """Rows whose flags are 0 or 1 and whose levels and modes are one, drawn by their chances."""
        noisy = logits + self._noise(logits, dice)
        top = noisy == self._most(noisy)[:, self.group]
        return self._numbers(logits, torch.where(self.alone, noisy > 0, top).to(logits))

    @torch.no_grad()
    def lacking(self, logits: Tensor, wanted: Tensor) -> Tensor:
        """What to add to logits (b, q) so that flags and levels have the mean chances `wanted` (q,): (q,), 0 elsewhere.

        Iterative scaling; no more than MOST_ADDED, where a network never says what train has.
        """
        added = torch.zeros_like(wanted)
        for _ in range(SCALINGS):
            mean = self.soft(logits + added, torch.Generator(), temperature=0.0).mean(dim=0)
            up = torch.where(
                self.alone, wanted.logit(1e-6) - mean.logit(1e-6), (wanted + 1e-6).log() - (mean + 1e-6).log()
            )
            added = torch.where(self.scaled, (added + up).clamp(-MOST_ADDED, MOST_ADDED), added)
        return added

    def log_chances(self, logits: Tensor) -> Tensor:
        """Log-chances of levels and modes (b, q)."""
        off = logits - self._most(logits)[:, self.group]
        sums = off.new_zeros(len(off), self.groups).index_add(1, self.group, off.exp())
        return off - sums.log()[:, self.group]

    def _numbers(self, logits: Tensor, others: Tensor) -> Tensor:
        """What numbers are by logits (b, q), beside the others."""
        return torch.where(self.bounded, logits.tanh(), torch.where(self.free, logits, others))

    def _most(self, logits: Tensor) -> Tensor:
        """The largest of each segment (b, segments), no part of a gradient."""
        index = self.group.expand(len(logits), -1)
        low = logits.new_full((len(logits), self.groups), -torch.inf)
        return low.scatter_reduce(1, index, logits.detach(), "amax")

    def _noise(self, logits: Tensor, dice: torch.Generator) -> Tensor:
        """Gumbel noise; of a flag, which has no other level, the difference of two."""
        u = torch.rand(logits.shape, generator=dice, device=dice.device).to(logits).clamp(1e-7, 1 - 1e-6)
        return torch.where(self.alone, u.log() - (-u).log1p(), -(-u.log()).log())


def mixture(values: np.ndarray, *, modes: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means, standard deviations and weights (k,) of a number's modes: a variational mixture with a Dirichlet prior.

    So many of 1, 2, 4, ... modes that twice as many would not tell every fifth value better: a mode more than is needed
    is a coin that a network must learn to guess.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import BayesianGaussianMixture

    kinds = len(np.unique(values))
    if kinds < 2:
        return np.array([float(values[0]) if kinds else 0.0]), np.ones(1), np.ones(1)
    fifth = np.arange(len(values)) % 5 == 0
    kept, told = (values[~fifth], values[fifth]) if len(values) >= 50 else (values, values)
    found: Any = None
    most, best = min(modes, kinds, len(kept)), -np.inf
    for k in [*(k for k in (1, 2, 4, 8, 16, 32) if k < most), most]:
        model = BayesianGaussianMixture(
            n_components=k, weight_concentration_prior_type="dirichlet_process", weight_concentration_prior=0.001,
            max_iter=ITERATIONS, random_state=seed,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(kept[:, None])
        score = float(model.score(told[:, None]))
        if score < best + NEARLY:
            break
        found, best = model, score
    counts = found.weights_ > LEAST_WEIGHT
    spread = np.sqrt(found.covariances_[counts, 0, 0])
    return found.means_[counts, 0], np.maximum(spread, 1e-3), found.weights_[counts] / found.weights_[counts].sum()
