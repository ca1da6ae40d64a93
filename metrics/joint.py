"""Fidelity of whole subjects: kernels, classifiers, coverage."""

from functools import partial

import numpy as np

from metrics import Score, Undefined, judges, near, pairwise, resample
from metrics.tables import Tables

MMD_ROWS = 20_000
GRID = np.linspace(0, 1, 101)


def mmd(t: Tables, *, seed: int) -> Score | Undefined:
    """Unbiased MMD² of synth and holdout, RBF kernel whose bandwidth is the median distance within train.

    All rows up to 20,000 a side, else a seeded sample of them; the score's n says how many.
    """
    bandwidth = pairwise.median_distance(t.matrix("train"), seed=seed)
    if bandwidth == 0:
        return Undefined("the median distance within train is 0")
    gamma = 1 / (2 * bandwidth**2)
    held, synth = (t.matrix(name)[near.picked(t, name, MMD_ROWS, seed)] for name in ("holdout", "synth"))
    if len(held) < 3 or len(synth) < 2:
        return Undefined(f"{len(held)} holdout and {len(synth)} synth subjects are too few")
    group = resample.groups(len(held), seed=seed)
    g = int(group.max()) + 1
    hh = pairwise.kernel_sums(held, held, gamma, group, g)  # (g, g)
    hs = pairwise.kernel_sums(held, synth, gamma, group, g)[:, 0]
    ss = float(pairwise.kernel_sums(synth, synth, gamma, np.zeros(len(synth), int), 1)[0, 0])
    m, n = len(synth), len(held)
    within = (ss - m) / (m * (m - 1))  # the diagonal is 1 each

    def value(own: float, across: float, k: int) -> float:
        return within + (own - k) / (k * (k - 1)) - 2 * across / (k * m)

    sizes = np.bincount(group)
    without = [
        value(hh.sum() - 2 * hh[i].sum() + hh[i, i], hs.sum() - hs[i], n - int(sizes[i]))
        for i in range(g)
        if n - sizes[i] > 1
    ]
    return Score(value(hh.sum(), hs.sum(), n), resample.jackknife(np.array(without)), n)


def c2st(t: Tables, *, seed: int) -> Score | Undefined:
    """2·AUROC − 1 of gradient-boosted trees that tell synth from holdout, mean of 5 folds; sizes made equal."""
    from sklearn.model_selection import StratifiedKFold

    size = min(t.n("holdout"), t.n("synth"))
    if size < 10:
        return Undefined(f"{size} subjects a side are too few for five folds")
    held, synth = (t.raw(name)[near.picked(t, name, size, seed)] for name in ("holdout", "synth"))
    x = np.concatenate([held, synth])
    y = np.arange(2 * size) >= size
    w = np.concatenate([resample.weights(size, seed=seed), np.ones((1 + resample.DRAWS, size), np.float32)], axis=1)
    judge, folds = partial(judges.xgboost, trees=100, rate=0.15), []
    for fit, test in StratifiedKFold(5, shuffle=True, random_state=seed).split(x, y):
        score = judges.probability(judge, x[fit], y[fit], x[test], seed=seed)
        folds.append(2 * resample.auroc(y[test], score, w[:, test]) - 1)
    gaps = np.mean(folds, axis=0)
    return Score(float(gaps[0]), resample.spread(gaps), size)


def alpha_precision(t: Tables, *, seed: int) -> Score | Undefined:
    """1 − 2 ∫ |P_α − α| dα: P_α is the share of synth within the α-quantile of holdout's distances to its centre."""
    held, synth = t.matrix("holdout"), t.matrix("synth")
    if len(held) < 2:
        return Undefined(f"{len(held)} holdout subject is too few")
    centre = held.mean(axis=0)
    radius, other = (np.sqrt(((x - centre) ** 2).sum(axis=1, dtype=np.float64)) for x in (held, synth))
    order = np.argsort(radius, kind="stable")
    inside = np.searchsorted(np.sort(other), radius[order] + 1e-6, side="right") / len(other)  # P at each α
    w = resample.weights(len(held), seed=seed)[:, order].astype(np.float64)
    alpha = np.cumsum(w, axis=1) / len(held)
    values = 1 - 2 * (w * np.abs(inside - alpha)).sum(axis=1) / len(held)
    return Score(float(max(0.0, values[0])), resample.spread(values), len(held))


def beta_recall(t: Tables, *, seed: int) -> Score | Undefined:
    """1 − 2 ∫ |R_β − β| dβ: R_β is the share of holdout subjects whose nearest synth subject is no farther than their
    nearest fellow and lies within the β-quantile of synth's distances to its centre; of several nearest ones, the share
    that does."""
    held, synth = t.matrix("holdout"), t.matrix("synth")
    if len(held) < 2:
        return Undefined(f"{len(held)} holdout subject is too few")
    fellow, _ = pairwise.neighbours(held, held, 1, same=True)
    nearest, _ = pairwise.nearest(held, synth)
    covered = np.flatnonzero(nearest <= fellow[:, 0])
    radius = np.sqrt(((synth - synth.mean(axis=0)) ** 2).sum(axis=1, dtype=np.float64))
    rank = np.searchsorted(np.sort(radius), radius - 1e-6, side="left") / len(synth)
    inside = (rank[:, None] <= GRID).astype(np.float32)  # (n, β)
    reached = np.zeros((len(held), len(GRID)), np.float32)
    for rows, tied in pairwise.tied(held[covered], synth):
        reached[covered[rows]] = tied.astype(np.float32) @ inside / tied.sum(axis=1, keepdims=True)
    share = resample.weights(len(held), seed=seed) @ reached / len(held)
    values = 1 - 2 * np.abs(share - GRID).mean(axis=1)
    return Score(float(max(0.0, values[0])), resample.spread(values), len(held))
