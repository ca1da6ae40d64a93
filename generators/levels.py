"""What the generator of tables is told: one flag or level a row (CTGAN's training by sampling, Xu et al. 2019), and the
batches of rows that have what is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from generators.modes import Heads

MOST_OFTEN = 10  # classes are shown alike, but no subject more than so many times as often as by chance


@dataclass(frozen=True)
class Levels:
    """Flags and levels that the generator of tables is told, one a row (CTGAN's training by sampling).

    places (k,): where in a row they stand. option_at (m,), option_value (m,): each option's place, counted in `places`,
    and 1, or -1 for a flag that is not set. column (m,): of each option. counts (2, m): of subjects,
    by class.
    """

    places: np.ndarray
    option_at: np.ndarray
    option_value: np.ndarray
    column: np.ndarray
    counts: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray, y: np.ndarray, segments: Sequence[tuple[str, int, int, str]]) -> Levels:
        """Of rows x (n, q) and classes y (n,)."""
        places, at, value, column = list[int](), list[int](), list[int](), list[int]()
        for i, (kind, start, stop, _) in enumerate(segments):
            if kind not in ("flag", "level"):
                continue
            for place in range(start, stop):
                for sign in (1, -1) if kind == "flag" else (1,):
                    at.append(len(places))
                    value.append(sign)
                    column.append(i)
                places.append(place)
        arrays = [np.array(v, np.int64) for v in (places, at, value, column)]
        found = cls(arrays[0], arrays[1], arrays[2], arrays[3], np.zeros((2, len(at)), np.int64))
        has = found.has(x)
        counts = np.stack([has[y == label].sum(axis=0) for label in (0, 1)]).astype(np.int64)
        return cls(found.places, found.option_at, found.option_value, found.column, counts)

    def has(self, x: np.ndarray) -> np.ndarray:
        """Which rows x (n, q) have which option (n, m)."""
        return (x[:, self.places[self.option_at]] > 0.5) == (self.option_value > 0)

    def told(self, options: Tensor) -> Tensor:
        """Options (b,) as what a network is told (b, k)."""
        out = torch.zeros(len(options), len(self.places))
        if len(self.places):
            at, value = torch.from_numpy(self.option_at)[options], torch.from_numpy(self.option_value)[options]
            out[torch.arange(len(options)), at] = value.float()
        return out

    def usual(self, y: Tensor, dice: torch.Generator) -> Tensor:
        """What to tell (b, k) of subjects of classes y (b,): any column, a level as often as their class has it."""
        if not len(self.places):
            return self.told(y)
        chance = self._by_column(self.counts.astype(float))  # (2, m)
        chance[chance.sum(axis=1) == 0] = 1  # a class that train does not have is not asked for
        options = torch.multinomial(torch.from_numpy(chance)[y.cpu()], 1, generator=dice)[:, 0]
        return self.told(options)

    def often(self) -> np.ndarray:
        """How often each option is trained on (m,): columns alike, levels by the logarithm of their counts."""
        return self._by_column(np.log1p(self.counts.sum(axis=0))[None])[0]

    def _by_column(self, weight: np.ndarray) -> np.ndarray:
        """Weights (r, m) of options, so that those of each column sum to one."""
        sums = np.stack([np.bincount(self.column, w, minlength=1) for w in weight])
        return weight / np.maximum(sums[:, self.column], 1e-12)

    def missed(self, heads: Heads, logits: Tensor, options: Tensor) -> Tensor:
        """The cross-entropy of what was told in logits (b, q)."""
        if not len(self.places):
            return logits.new_zeros(())
        value = torch.from_numpy(self.option_value).to(options)[options]
        place = torch.from_numpy(self.places[self.option_at]).to(options)[options][:, None]
        alone = heads.alone[place[:, 0]]
        flag = softplus(-value * logits.gather(1, place)[:, 0])
        return torch.where(alone, flag, -heads.log_chances(logits).gather(1, place)[:, 0]).mean()


class Picks:
    """Batches of rows x (n, ...) with their classes y (n,): at random, or by the levels of a table.

    A row is found by what it has: an option (all rows have the one, where there are no levels), then a class.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, levels: Levels | None) -> None:
        self.x, self.y, self.levels = torch.from_numpy(x), torch.from_numpy(y), levels
        some = levels if levels is not None and len(levels.places) else None
        has = some.has(x) if some else np.ones((len(x), 1), bool)
        often = some.often() if some else np.ones(1)
        option, row = np.nonzero(has.T)
        key = 2 * option + y[row]
        count = np.bincount(key, minlength=2 * len(often))
        size = np.bincount(y, minlength=2)
        share = count.reshape(-1, 2) / np.maximum(size, len(y) / MOST_OFTEN)
        chance = often[:, None] * share / np.maximum(share.sum(axis=1, keepdims=True), 1e-12)
        self.chance, self.count = torch.from_numpy(chance.ravel()), torch.from_numpy(count)
        self.start = self.count.cumsum(0) - self.count
        self.rows = torch.from_numpy(row[np.argsort(key, kind="stable")])

    def draw(self, batch: int, dice: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Rows (b, ...), what is told of them (b, told), and the options told (b,), 0 where there are none."""
        key = torch.multinomial(self.chance, batch, replacement=True, generator=dice)
        u = torch.rand(batch, generator=dice, dtype=torch.float64)
        rows = self.rows[self.start[key] + (u * self.count[key]).long()]
        told = self.y[rows][:, None].float()
        if self.levels:
            told = torch.cat([told, self.levels.told(key // 2)], dim=1)
        return self.x[rows], told, key // 2
