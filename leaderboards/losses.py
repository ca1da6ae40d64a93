"""Tests of losses between means over few replicates: Student's t with moderated spreads, corrected by Holm.

Spreads are moderated by empirical Bayes, the levels of a metric's spreads being those of its datasets.
"""

import numpy as np
import pandas as pd
from scipy.special import digamma, nctdtrinc, polygamma
from scipy.stats import t as student

from leaderboards.intervals import holm

# Of any false alarm in a check: a gate that cries once in twenty clean changes is switched off. With 0.05 simulated
# checks do, and up to thrice as often where noise is skewed (tests/leaderboards/test_compare.py has the simulation).
ALPHA = 0.01
POWER = 0.9  # with which the smallest visible loss is seen
LEAST = 3  # spreads that a level of spreads is learned from


def weigh(
    loss: np.ndarray, spread: np.ndarray, df: np.ndarray, n_was: np.ndarray, n_now: np.ndarray, dataset: np.ndarray,
    metric: np.ndarray,
) -> pd.DataFrame:  # fmt: skip
    """Test losses (k,) of means over n_was and n_now replicates: se, df, t, p, p_gain, tolerance, visible.

    spread, df: variance of one replicate, pooled over both sides, and its degrees of freedom. p, p_gain: of a loss and
    of an improvement, after Holm over all k. tolerance: the loss that is flagged at Holm's first step. visible: the
    loss flagged there with POWER, by the noncentral t. Where a spread of zero cannot be moderated, any change counts.
    """
    spread, df = moderated(spread, df, dataset, metric)
    se = np.sqrt(spread * (1 / n_was + 1 / n_now))
    sure = np.where(loss == 0, 0.0, np.copysign(np.inf, loss))
    t = np.divide(loss, se, out=sure, where=se > 0)
    df = np.where(df > 0, np.minimum(df, 1e6), 1.0)  # a million: normal to all digits shown
    critical = student.isf(ALPHA / len(loss), df)
    found = {
        "se": se, "df": df, "t": t, "p": holm(student.sf(t, df)), "p_gain": holm(student.cdf(t, df)),
        "tolerance": critical * se, "visible": nctdtrinc(df, 1 - POWER, critical) * se,
    }  # fmt: skip
    return pd.DataFrame(found)


def moderated(
    spread: np.ndarray, df: np.ndarray, dataset: np.ndarray, metric: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior variances and degrees of freedom (k,) of variances (k,) with df (k,): Smyth 2004, SAGMB 3(1):3.

    The prior of a metric has a level per dataset, as replicates of small datasets vary more whatever the generator; a
    dataset with fewer than LEAST variances above zero takes the level of all. A metric with fewer is left as it is.
    """
    after, more = spread.copy(), df.astype(float)
    for name in np.unique(metric):
        mine = np.flatnonzero(metric == name)
        s2, d = spread[mine], df[mine]
        level, d0 = prior(s2, d, np.zeros(len(mine), dtype=int))
        finer, d0_finer = prior(s2, d, np.unique(dataset[mine], return_inverse=True)[1])
        level, d0 = np.where(np.isnan(finer), level, finer), np.where(np.isnan(finer), d0, d0_finer)
        known = ~np.isnan(level)
        after[mine] = np.where(known, (d0 * level + d * s2) / (d0 + d), s2)
        more[mine] = np.where(known, d0 + d, d)
    return after, more


def prior(spread: np.ndarray, df: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Level s0² and degrees of freedom d0 (k,) of the prior of each variance's group: Smyth 2004, section 6.2.

    Variances of zero, whose logarithm says nothing, are left out of the fit. NaN for a group with fewer than LEAST. A
    group is small here, where genes are thousands: d0 also counts the error of the group's own level.
    """
    usable = (spread > 0) & (df > 0)
    n = np.bincount(group[usable], minlength=group.max() + 1)
    known, usable = n >= LEAST, usable & (n[group] >= LEAST)
    level, d0 = np.full(len(n), np.nan), np.full(len(n), np.nan)
    if usable.any():
        half, of = df[usable] / 2, group[usable]
        e = np.log(spread[usable]) - digamma(half) + np.log(half)
        means = np.bincount(of, e, minlength=len(n)) / np.maximum(n, 1)
        evar = ((e - means[of]) ** 2).sum() / (len(e) - known.sum())
        noise = float(polygamma(1, half).mean())
        excess = max(evar - noise, 0.0)  # variance of a true log variance about its level: trigamma(d0 / 2)
        d0[known] = [2 * _trigamma_inverse(excess + (excess + noise) / m) for m in n[known]]
        level[known] = np.exp(means[known] + digamma(d0[known] / 2) - np.log(d0[known] / 2))
    return level[group], d0[group]


def _trigamma_inverse(x: float) -> float:
    """The y with trigamma(y) = x, by Newton on 1 / trigamma, which is convex: Smyth 2004, appendix."""
    y = 0.5 + 1 / x
    for _ in range(50):
        tri = float(polygamma(1, y))
        step = tri * (1 - tri / x) / float(polygamma(2, y))
        y += step
        if -step / y < 1e-10:
            break
    return y
