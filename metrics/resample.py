"""Standard errors over the holdout: bootstrap weights, delete-group jackknife, and ranks under many weights at once."""

import numpy as np

DRAWS = 200
GROUPS = 20


def weights(n: int, *, seed: int, draws: int = DRAWS) -> np.ndarray:
    """Bootstrap weights (1 + draws, n) float32: a row of ones, then how often each subject is drawn."""
    rng = np.random.default_rng([seed, n])
    drawn = rng.multinomial(n, np.full(n, 1 / n), size=draws)
    return np.concatenate([np.ones((1, n), np.float32), drawn.astype(np.float32)])


def spread(values: np.ndarray) -> float | None:
    """The standard error that bootstrap values (1 + draws,) give, the first being the estimate itself."""
    rest = values[1:][np.isfinite(values[1:])]
    return float(rest.std(ddof=1)) if len(rest) > 1 else None


def groups(n: int, *, seed: int) -> np.ndarray:
    """A random group 0..GROUPS-1 for each of n subjects, of equal sizes but for one (fewer under 20 subjects)."""
    rng = np.random.default_rng([seed, n])
    return rng.permutation(np.arange(n) % min(GROUPS, n))


def jackknife(without: np.ndarray) -> float | None:
    """The standard error of a statistic from its values with each of g groups left out (g,)."""
    g = len(without)
    return float(np.sqrt((g - 1) / g * ((without - without.mean()) ** 2).sum())) if g > 1 else None


def auroc(y: np.ndarray, score: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Weighted AUROC, ties counted half. y (n,) bool, score (n,), w (k, n); gives (k,), NaN where a class is empty."""
    positive, negative = by_threshold(y, score, w)
    below = np.cumsum(negative, axis=1) - negative
    ranked = (positive * (below + negative / 2)).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return ranked / (positive.sum(axis=1) * negative.sum(axis=1))


def auprc(y: np.ndarray, score: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Weighted average precision. Arguments and result as in `auroc`; NaN where there is no positive."""
    positive, negative = by_threshold(y, score, w)
    tp = np.cumsum(positive[:, ::-1], axis=1)  # from the highest score down
    fp = np.cumsum(negative[:, ::-1], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.nan_to_num(tp / (tp + fp))
        return (precision * positive[:, ::-1]).sum(axis=1) / tp[:, -1]


def by_threshold(y: np.ndarray, score: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight of positives and negatives at each different score, lowest first: two arrays (k, thresholds)."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) > 0])
    sorted_w = w[:, order].astype(np.float64)
    hit = y[order]
    return np.add.reduceat(sorted_w * hit, starts, axis=1), np.add.reduceat(sorted_w * ~hit, starts, axis=1)
