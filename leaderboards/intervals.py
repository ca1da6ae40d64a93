"""95 % intervals of means over replicates, for all scores of a frame at once.

J replicates have overlapping splits: with J > 1 the interval is Student's t with variance s² (1/J + m/n) for m holdout
and n train subjects (Nadeau and Bengio 2003); with J = 1 it is the score's own standard error over the holdout. The two
are never added. Where neither is known there is a mean and no interval.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import norm, t


def standard_error(spread: np.ndarray, own: np.ndarray, replicates: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Standard errors of means over replicates, NaN where unknown.

    spread: standard deviation over replicates (ddof 1). own: a single replicate's standard error. share: holdout
    subjects per train subject, m / n.

    >>> standard_error(np.array([0.1]), np.array([np.nan]), np.array([3]), np.array([0.25])).round(4)
    array([0.0764])
    """
    return np.where(replicates > 1, spread * np.sqrt(1 / np.maximum(replicates, 1) + share), own)


def quantile(replicates: np.ndarray) -> np.ndarray:
    """How many standard errors the 95 % interval reaches to either side.

    >>> quantile(np.array([1, 3])).round(3)
    array([1.96 , 4.303])
    """
    replicates = np.asarray(replicates)
    known = {j: float(t.ppf(0.975, j - 1) if j > 1 else norm.ppf(0.975)) for j in np.unique(replicates)}
    return np.array([known[j] for j in replicates], dtype=float)


def pooled(means: ArrayLike, errors: ArrayLike, replicates: ArrayLike) -> dict[str, float]:
    """mean, se, low, high of a mean over datasets that count equally, whatever their replicates.

    means, errors, replicates (k,): of each dataset. The degrees of freedom are Welch and Satterthwaite's.

    >>> {k: round(v, 3) for k, v in pooled([0.4, 0.6], [0.1, 0.1], [3, 3]).items()}
    {'mean': 0.5, 'se': 0.071, 'low': 0.304, 'high': 0.696}
    """
    mean = float(np.asarray(means, float).mean())
    se, df = (float(x) for x in satterthwaite(np.asarray(errors, float), np.asarray(replicates)))
    half = float(t.ppf(0.975, df)) * se
    return {"mean": mean, "se": se, "low": mean - half, "high": mean + half}


def satterthwaite(errors: np.ndarray, replicates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standard errors of means over k datasets, and their degrees of freedom (Welch and Satterthwaite).

    errors, replicates: (k, ...). A dataset with one replicate has an error that is taken as known.
    """
    v = errors**2
    sums = v.sum(axis=0)
    parts = (v**2 / np.where(replicates > 1, replicates - 1.0, np.inf)).sum(axis=0)
    return np.sqrt(sums) / len(v), np.where(parts > 0, sums**2 / np.where(parts > 0, parts, 1), np.inf)


def intervals(frame: pd.DataFrame, keys: list[str], value: str, error: str) -> pd.DataFrame:
    """Per group of `keys`: mean, se, low, high, replicates. A group with a missing value has none of them."""
    groups = frame.assign(_share=frame["n_holdout"] / frame["n_train"]).groupby(keys, sort=False)
    found = groups.agg(
        mean=(value, "mean"), spread=(value, "std"), own=(error, "first"), share=("_share", "first"),
        replicates=(value, "size"), known=(value, "count"),
    )  # fmt: skip
    whole = (found["known"] == found["replicates"]).to_numpy()
    j = found["replicates"].to_numpy()
    mean = found["mean"].where(whole).to_numpy(float)
    spread, own, share = (found[c].to_numpy(float) for c in ("spread", "own", "share"))
    se = standard_error(spread, own, j, share)
    se = np.where(whole, se, np.nan)
    half = quantile(j) * se
    out = {"mean": mean, "se": se, "low": mean - half, "high": mean + half, "replicates": j}
    return pd.DataFrame(out, index=found.index)


def holm(p: Iterable[float]) -> np.ndarray:
    """p values corrected for their number by Holm (1979); NaN stays, and does not count.

    >>> holm([0.01, 0.04, 0.03, float("nan")]).round(3)
    array([0.03, 0.06, 0.06,  nan])
    """
    out = np.array(list(p), dtype=float)
    known = np.flatnonzero(~np.isnan(out))
    order = known[np.argsort(out[known], kind="stable")]
    out[order] = np.minimum(np.maximum.accumulate(out[order] * np.arange(len(order), 0, -1)), 1)
    return out
