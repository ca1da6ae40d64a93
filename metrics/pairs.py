"""Fidelity of column pairs: correlations and joint tables of the flat view, synth against holdout.

Each needs one matrix product per table. Standard errors are a delete-group jackknife over holdout subjects: what a
group adds to the products is taken away, so that nothing is multiplied twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from metrics import Score, Undefined, pairwise, resample
from metrics.tables import Tables

HALVINGS = 8

# --- correlations ---


def cmd(t: Tables, *, seed: int) -> Score | Undefined:
    """Mean over off-diagonal pairs of |cor_S − cor_H| (Pearson, encoded columns).

    Columns constant in holdout are left out; one constant in synth counts as correlation 0.
    """
    return _correlations(t, seed, "mean")


def cmd_frobenius(t: Tables, *, seed: int) -> Score | Undefined:
    """‖cor_S − cor_H‖_F / d on the same columns."""
    return _correlations(t, seed, "frobenius")


def cmd_denoised(t: Tables, *, seed: int) -> Score | Undefined:
    """Σ w_jk (cor_S − cor_H)² / Σ w_jk less its sampling noise, w_jk = √(p_j p_k): 0 on average for a fresh draw.

    p is the share in train of a two-valued column's rarer value, ½ for others. In the place of the square stands the
    product of the differences between two halves of synth and two halves of holdout, whose noises are independent; mean
    over eight ways to halve.
    """
    return _correlations(t, seed, "denoised")


def _correlations(t: Tables, seed: int, which: str) -> Score | Undefined:
    found = t.once(("correlations", seed), lambda: _compare(t, seed))
    if isinstance(found, Undefined):
        return found
    values = found[which]
    return Score(float(values[0]), resample.jackknife(values[1:]), t.n("holdout"))


def _compare(t: Tables, seed: int) -> dict[str, np.ndarray] | Undefined:
    """Each statistic on all of holdout, then with each group of its subjects left out (1 + groups,)."""
    held, synth = t.matrix("holdout"), t.matrix("synth")
    varies = held.std(axis=0) > 1e-6
    if varies.sum() < 2:
        return Undefined("fewer than two columns vary in holdout")
    return compare(held[:, varies], synth[:, varies], t.matrix("train")[:, varies], seed=seed)


def compare(held: np.ndarray, synth: np.ndarray, train: np.ndarray, *, seed: int) -> dict[str, np.ndarray]:
    """ "mean", "frobenius" and "denoised" of two matrices (m, d), (n, d); train's columns give the weights."""
    share = _rarer(train)
    shift = np.where(share < 0.5, 0, held.mean(axis=0))  # rare flags stay 0, so that products stay thin
    held, synth = (held - shift).astype(np.float64), (synth - shift).astype(np.float64)
    u = np.sqrt(share)
    weight = np.outer(u, u)
    np.fill_diagonal(weight, 0)
    d, total = len(u), weight.sum()
    mine, whole = _Moments.of(synth), _Moments.of(held)
    cor_s = mine.correlations()
    group = resample.groups(len(held), seed=seed)
    found: dict[str, list[float]] = {"mean": [], "frobenius": [], "denoised": []}
    for left in _leave_out(whole, held, group):
        gap = np.abs(left.correlations() - cor_s)
        np.fill_diagonal(gap, 0)
        found["mean"].append(gap.sum() / (d * (d - 1)))
        np.square(gap, out=gap)
        found["frobenius"].append(np.sqrt(gap.sum()) / d)
        found["denoised"].append((weight * gap).sum() / total)
    noise = found["denoised"][0] - _halved(synth, held, mine, whole, weight, seed) / total
    return {name: np.array(values) - (noise if name == "denoised" else 0) for name, values in found.items()}


def _halved(
    synth: np.ndarray, held: np.ndarray, mine: "_Moments", whole: "_Moments", weight: np.ndarray, seed: int
) -> float:
    """Σ w (cor_S1 − cor_H1) (cor_S2 − cor_H2), mean over HALVINGS ways to halve both."""
    rng = np.random.default_rng([seed, HALVINGS])
    values = []
    for _ in range(HALVINGS):
        gaps = []
        parts = [_Moments.of(x[rng.permutation(len(x))[: len(x) // 2]]) for x in (synth, held)]
        for s, h in (parts, (mine.minus(parts[0]), whole.minus(parts[1]))):
            gap = s.correlations()
            gap -= h.correlations()
            gaps.append(gap)
        gaps[0] *= gaps[1]
        values.append(float((weight * gaps[0]).sum()))
    return float(np.mean(values))


@dataclass(frozen=True)
class _Moments:
    """Of n rows: sums (d,) and cross products (d, d)."""

    n: int
    total: np.ndarray
    cross: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray) -> "_Moments":
        return cls(len(x), x.sum(axis=0), pairwise.cross(x))

    def minus(self, other: "_Moments") -> "_Moments":
        return _Moments(self.n - other.n, self.total - other.total, self.cross - other.cross)

    @property
    def mean(self) -> np.ndarray:
        return self.total / self.n

    @property
    def sd(self) -> np.ndarray:
        """inf for a column that does not vary: its correlations are 0."""
        sd = np.sqrt(np.maximum(np.diag(self.cross) / self.n - self.mean**2, 0))
        return np.where(sd > 1e-9 * np.maximum(1, np.abs(self.mean)), sd, np.inf)

    def correlations(self) -> np.ndarray:
        out = self.cross / self.n
        out -= np.outer(self.mean, self.mean)
        out /= self.sd[:, None]
        out /= self.sd
        return out


def _leave_out(whole: _Moments, x: np.ndarray, group: np.ndarray) -> Iterator[_Moments]:
    """The moments of all of x, then of x without each group."""
    yield whole
    for g in range(int(group.max()) + 1):
        yield whole.minus(_Moments.of(x[group == g]))


def _rarer(train: np.ndarray) -> np.ndarray:
    """Share of the rarer value of each two-valued column of train (at least half a subject), ½ for the others."""
    low, high = train.min(axis=0), train.max(axis=0)
    two = ((train == low) | (train == high)).all(axis=0)
    share = (train == high).mean(axis=0)
    return np.where(two, np.clip(np.minimum(share, 1 - share), 0.5 / len(train), 0.5), 0.5)


# --- joint tables ---


def pair_tvd(t: Tables, *, seed: int) -> Score | Undefined:
    """Mean over column pairs of ½ Σ |share_S − share_H| over the cells of their joint table.

    Numbers are cut at train's deciles (each value its own cell where there are at most ten); a gap is a cell.
    """
    cells = _Cells(t.flat("train"))
    if cells.d < 2:
        return Undefined("fewer than two columns")
    held, synth = cells.of(t.flat("holdout")), cells.of(t.flat("synth"))
    share_s = (pairwise.cross(synth) / len(synth)).astype(np.float32)
    whole = pairwise.cross(held).astype(np.float32)
    group = resample.groups(len(held), seed=seed)
    values = [cells.distance(whole / len(held) - share_s)]
    for g in range(int(group.max()) + 1):
        part = held[group == g]
        left = whole - pairwise.cross(part).astype(np.float32)
        left /= len(held) - len(part)
        left -= share_s
        values.append(cells.distance(left))
    return Score(values[0], resample.jackknife(np.array(values[1:])), len(held))


class _Cells:
    """Columns as indicator columns: one for a flag, one per cell for all others, flags first."""

    def __init__(self, train: pd.DataFrame) -> None:
        self.flags = [c for c in train.columns if str(train[c].dtype) == "bool"]
        self.others = {c: _edges(train[c]) for c in train.columns if c not in self.flags}
        self.d = train.shape[1]

    def of(self, table: pd.DataFrame) -> np.ndarray:
        """The indicators (n, flags + cells) float32."""
        parts = [table[self.flags].to_numpy(dtype=np.float32)]
        for name, edges in self.others.items():
            codes, k = _cut(table[name], edges)
            parts.append(np.eye(k, dtype=np.float32)[codes])
        return np.concatenate(parts, axis=1)

    def distance(self, gap: np.ndarray) -> float:
        """The mean over pairs of total variation; gap: difference of the joint shares of indicators."""
        b = len(self.flags)
        one = np.diag(gap).copy()  # difference of each indicator's own share
        total = 0.0
        for start in range(0, b, 64):  # rows at a time, so that the steps stay in cache; each pair once
            stop = min(start + 64, b)
            rows = slice(start, stop)
            total += _flags(gap[rows, rows], one[rows], one[rows]) + 2 * _flags(
                gap[rows, stop:b], one[rows], one[stop:b]
            )
            mixed = gap[rows, b:]
            total += 2 * (_sum(mixed) + _sum(one[b:] - mixed))
        total += _sum(gap[b:, b:])
        total -= 2 * _sum(one[:b]) + _sum(one[b:])  # a column with itself
        return max(0.0, float(total / 2 / (self.d * (self.d - 1))))


def _flags(yes: np.ndarray, one: np.ndarray, other: np.ndarray) -> float:
    """Σ |difference| over the four cells of flag pairs, from that of both (r, c) and of each alone (r,), (c,)."""
    left = one[:, None] - yes
    total = _sum(yes) + _sum(left)
    left += other  # minus the cell of neither
    return total + _sum(left) + _sum(yes - other)


def _sum(x: np.ndarray) -> float:
    return float(np.abs(x).sum())


def _edges(train: pd.Series) -> np.ndarray | list[object]:
    """Levels of a category; upper edges of a number's cells."""
    if isinstance(train.dtype, pd.CategoricalDtype):
        return list(train.cat.categories)
    x = np.unique(train.dropna().to_numpy(dtype=float))
    if len(x) > 10:
        x = np.unique(np.quantile(train.dropna().to_numpy(dtype=float), np.linspace(0.1, 1, 10)))
    return x[:-1]


def _cut(column: pd.Series, edges: np.ndarray | list[object]) -> tuple[np.ndarray, int]:
    """The cell of each value and how many cells there are; the last one is the gap."""
    if isinstance(edges, list):
        codes = pd.Index(edges).get_indexer(column.astype("object"))
        return np.where(codes < 0, len(edges), codes), len(edges) + 1
    x = column.to_numpy(dtype=float, na_value=np.nan)
    return np.where(np.isnan(x), len(edges) + 1, np.searchsorted(edges, x, side="left")), len(edges) + 2
