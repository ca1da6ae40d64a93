"""A Gaussian per class of the target over the matrix view; no network, no gradient, nothing iterated.

A number is Gaussian on the scale of its normal scores (the nonparanormal: Liu, Lafferty and Wasserman 2009, JMLR
10:2295), a flag is a Gaussian beyond a cut, a category the largest of its levels' Gaussians (latent Gaussians for mixed
data: Fan, Liu, Ning and Zou 2017, doi:10.1111/rssb.12168). Cuts are set per class, so that its shares are train's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from generators.base import Generator, Log, Unsupported, quiet
from generators.classical import Design
from generators.columns import interpolate, labels
from generators.encode import Matrix

FULL = 1_000  # features up to which all correlations are held; beyond, their largest factors
FEW = 5  # subjects at any step beside those at one, in the mean that interpolation goes around
INTERPOLATED = 0.1  # weight of a value read off its neighbours in time, beside a measured one's 1
HIGHEST = 0.99  # of a latent correlation
STEPS = 40  # of the integral behind a tetrachoric correlation, and of the calibration of a category
CALIBRATED = 10_000  # draws that a category is calibrated on
QUANTILES = 1_000
BLOCK = 8_192  # subjects at once


class Gaussian(Generator):
    """Class-conditional Gaussian with full covariance; a table without a target is one class.

    shared: a class of n subjects has the share n / (n + shared · p) of its correlations over p features from itself and
    the rest from all classes, each around its own mean (after Friedman 1989, doi:10.1080/01621459.1989.10478752).
    shrinkage: the share of all correlations that is taken for noise; below 0 that of Ledoit and Wolf 2004,
    doi:10.1016/S0047-259X(03)00096-4. rank: factors that stand for the correlations of more than 1,000 features. cover:
    share of subjects whose whole length fits the grid of a longitudinal table.
    """

    def __init__(self, shared: float = 1.0, shrinkage: float = -1.0, rank: int = 200, cover: float = 0.995) -> None:
        self.shared = shared
        self.shrinkage = shrinkage
        self.rank = rank
        self.cover = cover

    @classmethod
    def suggest(cls, trial: Any) -> dict[str, Any]:
        """How much a class has of its own, and how many factors there are where features are many."""
        return {
            "shared": trial.suggest_float("shared", 0.1, 10.0, log=True),
            "rank": trial.suggest_int("rank", 25, 400, log=True),
        }

    def fit(
        self, train: pd.DataFrame, *, target: str | None = None, static: Sequence[str] = (),
        describe: Mapping[str, str] | None = None, seed: int, log: Log = quiet,
    ) -> Self:  # fmt: skip
        """Moments and correlations of each class. In closed form, so that `log` has nothing to tell."""
        rng = np.random.default_rng(seed)
        held = [target] if target else []
        self.view_ = Matrix.fit(train, static=static, scale="quantile", cover=self.cover, without=held)
        y = labels(train, target)
        design = Design(self.view_)
        x, seen, known, even = self._observe(design, self.view_.transform(train), rng)
        mean, deviation = moments(x, np.where(seen, 1.0, INTERPOLATED * known), y)
        cut = _cut(design)
        deviation[:, cut] = np.sqrt(mean[:, cut] * (1 - mean[:, cut]))
        rows = np.where(known, (x - mean[y]) / np.maximum(deviation, 1e-6)[y], 0)
        self.target_, self.sizes_ = target, np.bincount(y, minlength=2)
        with np.errstate(divide="ignore"):
            center, spread = np.where(cut, ndtri(np.where(cut, mean, 0.5)), mean), np.where(cut, 1, deviation)
        self.factors_ = {}
        for c in np.flatnonzero(self.sizes_):
            gain = even.copy()
            gain[cut] = weakening(mean[c, cut])
            factors = self._factors(design, rows, known, y == c, mean[c], gain, int(rng.integers(2**31)))
            for low, high in design.groups:
                u = _gaussians(factors[low:high], CALIBRATED, rng)
                center[c, low:high] = calibrate(mean[c, low:high], u)
            self.factors_[str(c)] = np.ascontiguousarray(factors, np.float32)
        self.center_, self.spread_ = center.astype(np.float32), spread.astype(np.float32)  # (2, p)
        return self

    def _observe(
        self, design: Design, matrix: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The view with normal scores for numbers (n, p), what was measured, what is known from other steps too, and
        the evenness of the numbers (p,)."""
        stats = design.statistics(matrix, rng)
        masks, x = stats[:, : design.masks] > 0, stats[:, design.masks : design.masks + design.p].astype(float)
        seen = masks[:, design.mask]
        gaps = design.number[design.gaps]
        seen[:, gaps] &= x[:, gaps + 1] < 0.5
        known = seen.copy()
        even = np.ones(design.p)
        for name in dict.fromkeys(design.column):
            at = design.number[design.column == name]
            even[at] = evenness(matrix[:, at][seen[:, at]], x[:, at][seen[:, at]])
            n = seen[:, at].sum(axis=0)
            sums = (x[:, at] * seen[:, at]).sum(axis=0)
            usual = (sums + FEW * sums.sum() / max(n.sum(), 1)) / (n + FEW)  # (l,), so that a trend is no gap's fault
            known[:, at] = seen[:, at].any(axis=1, keepdims=True)
            x[:, at] = interpolate(x[:, at] - usual, seen[:, at]) + usual
        self.lengths_ = np.zeros(0)
        if design.length >= 0:
            length = x[:, design.length]
            self.lengths_ = np.quantile(length, np.linspace(0, 1, QUANTILES + 1), method="nearest")
            order = np.lexsort((rng.random(len(x)), length))
            x[order, design.length] = ndtri((np.arange(len(x)) + 0.5) / len(x))
        return x, seen, known, even

    def _factors(
        self, design: Design, rows: np.ndarray, known: np.ndarray, mine: np.ndarray, mean: np.ndarray,
        gain: np.ndarray, seed: int,
    ) -> np.ndarray:  # fmt: skip
        """L (p, k) of one class, whose latent Gaussians are L g + noise of each feature's own, of variance 1 in all.

        gain (p,): what a correlation with the Gaussian behind a feature is of one with the feature.
        """
        n, p = rows.shape
        own = mine.sum() / (mine.sum() + self.shared * p)
        if p > FULL:
            return self._largest(rows * np.sqrt(own * mine / mine.sum() + (1 - own) / n)[:, None], gain, seed)
        every, part = ((rows[w].T @ rows[w]) / _together(known[w]) for w in (np.ones(n, bool), mine))
        r = own * part + (1 - own) * every
        r *= 1 - (ledoit_wolf(rows, every) if self.shrinkage < 0 else self.shrinkage)
        np.fill_diagonal(r, 1)
        return root(latent(design, r, mean, gain, mine.sum() + (1 - own) * (n - mine.sum())))

    def _largest(self, rows: np.ndarray, gain: np.ndarray, seed: int) -> np.ndarray:
        """The largest factors of rows (n, p), by the gain (p,)."""
        from sklearn.decomposition import TruncatedSVD

        svd = TruncatedSVD(max(1, min(self.rank, *(s - 1 for s in rows.shape))), random_state=seed).fit(rows)
        factors = gain[:, None] * svd.components_.T * svd.singular_values_
        length = np.linalg.norm(factors, axis=1, keepdims=True)
        return factors * np.minimum(1, HIGHEST / np.maximum(length, 1e-9))

    def sample(self, n: int, *, given: Mapping[str, object] | None = None, seed: int) -> pd.DataFrame:
        """n subjects, classes in train's proportion; given the target, of one class; other conditions by rejection.

        Raises Unsupported for a class that train does not have.
        """
        self._needs_fit("factors_")
        given = dict(given or {})
        if given and set(given) != {self.target_}:
            return self.reject(n, given, seed=seed)
        rng = np.random.default_rng(seed)
        y = (rng.permutation(n) < round(n * self.sizes_[1] / self.sizes_.sum())).astype(int)
        if given:
            y[:] = bool(given[str(self.target_)])
        design = Design(self.view_)
        x = np.zeros((n, design.p), np.float32)
        for c in np.unique(y):
            if self.sizes_[c] == 0:
                raise Unsupported(f"no chance of {self.target_}={bool(c)}: train never has it")
            for part in np.split(np.flatnonzero(y == c), range(BLOCK, (y == c).sum(), BLOCK)):
                u = _gaussians(self.factors_[str(c)], len(part), rng)
                x[part] = self._decide(design, self.center_[c] + self.spread_[c] * u)
        held = {self.target_: pd.Series(y == 1)} if self.target_ else {}
        return self.view_.inverse(x, held=held)

    def _decide(self, design: Design, z: np.ndarray) -> np.ndarray:
        """Matrix rows of latent Gaussians z (n, p): flags, categories and lengths decided."""
        x = z.copy()
        x[:, design.binary] = z[:, design.binary] > 0
        for low, high in design.groups:
            x[:, low:high] = np.arange(high - low) == z[:, low:high].argmax(axis=1)[:, None]
        if design.length >= 0:
            x[:, design.length] = self.lengths_[np.round(ndtr(z[:, design.length]) * QUANTILES).astype(int)]
        return x


def moments(x: np.ndarray, weight: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations of both classes (2, p) of rows x (n, p) by weights (n, p) and classes y (n,).

    Each class has one subject like the average of all beside its own, so that a class of one has a spread.
    """
    every = (weight * x).sum(axis=0) / np.maximum(weight.sum(axis=0), 1e-9)
    n = np.stack([weight[y == c].sum(axis=0) for c in (0, 1)])
    mean = np.stack([(weight * x)[y == c].sum(axis=0) for c in (0, 1)])
    mean = (mean + every) / (n + 1)
    square = weight * (x - mean[y]) ** 2
    within = square.sum(axis=0) / np.maximum(weight.sum(axis=0), 1e-9)
    variance = np.stack([square[y == c].sum(axis=0) for c in (0, 1)])
    return mean, np.sqrt((variance + within) / (n + 1))


def ledoit_wolf(rows: np.ndarray, r: np.ndarray) -> float:
    """The weight of the diagonal that is nearest to the truth in mean square; rows (n, p) standardised, r (p, p)."""
    n, p = rows.shape
    error = ((rows**2).sum(axis=1) ** 2).sum() / n**2 - (r**2).sum() / n
    apart = (r**2).sum() - np.trace(r) ** 2 / p
    return float(np.clip(error / apart, 0, 1)) if apart > 0 else 1.0


def latent(design: Design, r: np.ndarray, mean: np.ndarray, gain: np.ndarray, n: float) -> np.ndarray:
    """Correlations of the Gaussians behind features that correlate by r (p, p), of rates mean (p,), from n subjects.

    By the gain (p,) for a number, which for a flag makes it the biserial correlation. Two flags: the tetrachoric one,
    the covariance first drawn to zero by as much as half a subject more in the smallest cell would. The levels of one
    category keep theirs.
    """
    out = r * np.multiply.outer(gain, gain)
    cut = np.flatnonzero(_cut(design) & (mean > 0) & (mean < 1))
    p = mean[cut]
    expected = n * np.multiply.outer(np.minimum(p, 1 - p), np.minimum(p, 1 - p))
    sd = np.sqrt(p * (1 - p))
    out[np.ix_(cut, cut)] = tetrachoric(
        r[np.ix_(cut, cut)] * np.multiply.outer(sd, sd) * expected / (expected + 0.5), ndtri(1 - p)
    )
    for low, high in design.groups:
        out[low:high, low:high] = r[low:high, low:high]
    out = np.clip(out, -HIGHEST, HIGHEST)
    np.fill_diagonal(out, 1)
    return out


def evenness(values: np.ndarray, scores: np.ndarray) -> float:
    """What a correlation with a Gaussian is of one with its scores (k,), spread at random among equal values (k,).

    1 / Var E[score | value], 1 where all values differ; at most 10.
    """
    if len(values) == 0:
        return 1.0
    _, which, count = np.unique(values, return_inverse=True, return_counts=True)
    sums = np.bincount(which, scores)
    explained = (sums**2 / count).sum() / max((scores**2).sum(), 1e-9)
    return float(1 / max(explained, 0.1)) if len(count) > 1 else 1.0


def weakening(p: np.ndarray) -> np.ndarray:
    """By how much a cut of chance p (k,) weakens a Gaussian's correlation with another: sqrt(p (1 − p)) / φ(cut)."""
    density = np.exp(-(ndtri(np.clip(p, 1e-12, 1 - 1e-12)) ** 2) / 2) / np.sqrt(2 * np.pi)
    return np.sqrt(p * (1 - p)) / density


def tetrachoric(covariance: np.ndarray, cut: np.ndarray) -> np.ndarray:
    """Correlations (k, k) of Gaussians whose flags, 1 beyond cut (k,), have this covariance (k, k).

    That covariance is the integral of the bivariate density at the cuts over the correlation (Plackett 1954,
    doi:10.1093/biomet/41.3-4.351), here over its arc sine, and followed until it is reached.
    """
    sign = np.sign(covariance)
    left = np.abs(covariance)
    mixed, squares = sign * np.multiply.outer(cut, cut), np.add.outer(cut**2, cut**2) / 2
    step = np.arcsin(HIGHEST) / STEPS
    angle = np.zeros_like(left)
    for k in range(STEPS):
        middle = (k + 0.5) * step
        gain = np.exp((mixed * np.sin(middle) - squares) / np.cos(middle) ** 2) / (2 * np.pi) * step
        share = np.clip(left / np.maximum(gain, 1e-300), 0, 1)
        angle += share * step
        left = left - share * gain
    return sign * np.sin(angle)


def root(r: np.ndarray) -> np.ndarray:
    """L (p, p) with rows of length 1 and L Lᵀ = r, or as near as dropping the negative eigenvalues comes.

    The symmetric root then: eigenvectors alone have a sign and an order that differ from machine to machine.
    """
    try:
        return np.linalg.cholesky(r)
    except np.linalg.LinAlgError:
        value, vector = np.linalg.eigh(r)
        factors = (vector * np.sqrt(np.maximum(value, 0))) @ vector.T
        return factors / np.linalg.norm(factors, axis=1, keepdims=True)


def calibrate(share: np.ndarray, u: np.ndarray) -> np.ndarray:
    """What to add to the levels' Gaussians u (n, k) so that each is the largest in its share (k,) of rows."""
    with np.errstate(divide="ignore"):
        wanted, shift = np.log(share), ndtri(share)
    if len(share) == 1:
        return np.zeros(1)
    possible = share > 0
    for _ in range(STEPS):
        won = np.bincount((u + shift).argmax(axis=1), minlength=len(share)) / len(u)
        shift[possible] += 0.5 * (wanted - np.log(np.maximum(won, 0.5 / len(u))))[possible]
    return shift


def _cut(design: Design) -> np.ndarray:
    """Which features (p,) are decided by a cut: flags and levels."""
    cut = np.ones(design.p, bool)
    cut[design.number] = False
    if design.length >= 0:
        cut[design.length] = False
    return cut


def _together(known: np.ndarray) -> np.ndarray | int:
    """Subjects of whom both features of a pair are known (p, p); how many there are where all is known (n, p)."""
    if known.all():
        return len(known)
    there = known.astype(np.float32)
    return np.maximum(there.T @ there, 1)


def _gaussians(factors: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """n draws (n, p) of variance 1 with these common factors (p, k)."""
    own = np.sqrt(np.maximum(1 - (factors**2).sum(axis=1), 0)).astype(np.float32)
    common = rng.standard_normal((n, factors.shape[1]), np.float32) @ factors.T.astype(np.float32)
    return common + own * rng.standard_normal((n, len(factors)), np.float32)
