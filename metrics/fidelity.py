"""Fidelity: is synth like holdout, rows the generator never saw? One function per metric; formulas as in METRICS.

Standard errors are over holdout subjects: bootstrap where the statistic is linear in their weights, a delete-group
jackknife (20 groups) where it is not (correlations, kernels).
"""

from functools import partial

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from metrics import Score, Undefined, judges, pairwise, resample
from metrics.tables import Tables

MMD_ROWS = 20_000
MCAD_BINS = 20


# --- prevalence of codes ---


def prevalence_pearson(t: Tables, *, seed: int) -> Score | Undefined:
    """Pearson correlation over codes of column means in synth and holdout."""
    return _prevalence(t, seed, ranks=False)


def prevalence_spearman(t: Tables, *, seed: int) -> Score | Undefined:
    """Spearman correlation over codes of column means in synth and holdout: the harder of the two."""
    return _prevalence(t, seed, ranks=True)


def _prevalence(t: Tables, seed: int, *, ranks: bool) -> Score | Undefined:
    def means() -> tuple[np.ndarray, np.ndarray]:
        w = resample.weights(t.n("holdout"), seed=seed)
        held = w @ t.flat("holdout")[t.ever].to_numpy(dtype=np.float32) / t.n("holdout")  # (1 + B, d)
        return held.astype(float), t.flat("synth")[t.ever].to_numpy(dtype=np.float32).mean(axis=0, dtype=float)

    held, synth = t.once(("prevalence", seed), means)
    if ranks:
        # equal counts must tie: float noise of the mean is rounded away before ranking
        held, synth = (rankdata(np.round(p, 9), axis=-1) for p in (held, synth))
    a, b = held - held.mean(axis=1, keepdims=True), synth - synth.mean()
    size = np.sqrt((a**2).sum(axis=1) * (b**2).sum())
    if size[0] == 0:
        return Undefined("all codes have the same prevalence in synth or holdout")
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (a @ b) / size
    return Score(float(r[0]), resample.spread(r), t.n("holdout"))


def mcad(t: Tables, *, seed: int) -> Score | Undefined:
    """Medical concept abundance: codes per subject in 20 equal-width bins over holdout's range, ½ Σ |share − share|."""
    held = t.flat("holdout")[t.ever].to_numpy().sum(axis=1)
    synth = t.flat("synth")[t.ever].to_numpy().sum(axis=1)
    if held.min() == held.max():
        return Undefined("every holdout subject has the same number of codes")
    edges = np.linspace(held.min(), held.max(), MCAD_BINS + 1)[1:-1]
    member = np.eye(MCAD_BINS, dtype=np.float32)[np.searchsorted(edges, held, side="right")]
    share = np.bincount(np.searchsorted(edges, synth, side="right"), minlength=MCAD_BINS) / len(synth)
    w = resample.weights(len(held), seed=seed)
    gaps = np.abs((w @ member).astype(float) / len(held) - share).sum(axis=1) / 2
    return Score(float(gaps[0]), resample.spread(gaps), len(held))


# --- joint scores ---


def cmd(t: Tables, *, seed: int) -> Score | Undefined:
    """Mean over off-diagonal pairs of |corr_S − corr_H| (Pearson, encoded columns).

    Columns constant in holdout are left out; one constant in synth counts as correlation 0.
    """
    held, synth = t.matrix("holdout").astype(np.float64), t.matrix("synth").astype(np.float64)
    varies = held.std(axis=0) > 1e-12
    if varies.sum() < 2:
        return Undefined("fewer than two columns vary in holdout")
    held, synth = held[:, varies], synth[:, varies]
    middle = held.mean(axis=0)
    held, synth = held - middle, synth - middle
    corr_s = _correlation(len(synth), synth.sum(axis=0), synth.T @ synth)
    total, cross = held.sum(axis=0), held.T @ held
    off = ~np.eye(len(cross), dtype=bool)
    value = np.abs(_correlation(len(held), total, cross) - corr_s)[off].mean()
    group = resample.groups(len(held), seed=seed)
    without = []
    for g in range(group.max() + 1):
        part = held[group == g]
        corr = _correlation(len(held) - len(part), total - part.sum(axis=0), cross - part.T @ part)
        without.append(np.abs(corr - corr_s)[off].mean())
    return Score(float(value), resample.jackknife(np.array(without)), len(held))


def _correlation(n: int, total: np.ndarray, cross: np.ndarray) -> np.ndarray:
    """Correlations (d, d) from sums and cross products of n rows; 0 beside a column that does not vary."""
    mean = total / n
    cov = cross / n - np.outer(mean, mean)
    sd = np.sqrt(np.maximum(np.diag(cov), 0))
    sd = np.where(sd > 1e-9 * np.maximum(1, np.abs(mean)), sd, np.inf)
    return cov / sd[:, None] / sd


def mmd(t: Tables, *, seed: int) -> Score | Undefined:
    """Unbiased MMD² of synth and holdout, RBF kernel whose bandwidth is the median distance within train.

    All rows up to 20,000 a side, else a seeded sample of them; the score's n says how many.
    """
    bandwidth = pairwise.median_distance(t.matrix("train"), seed=seed)
    if bandwidth == 0:
        return Undefined("the median distance within train is 0")
    gamma = 1 / (2 * bandwidth**2)
    held, synth = (_at_most(t.matrix(name), MMD_ROWS, seed) for name in ("holdout", "synth"))
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
    held, synth = (_at_most(t.raw(name), size, seed) for name in ("holdout", "synth"))
    x = np.concatenate([held, synth])
    y = np.arange(2 * size) >= size
    w = np.concatenate([resample.weights(size, seed=seed), np.ones((1 + resample.DRAWS, size), np.float32)], axis=1)
    judge, folds = partial(judges.xgboost, trees=100, rate=0.15), []
    for fit, test in StratifiedKFold(5, shuffle=True, random_state=seed).split(x, y):
        score = judges.probability(judge, x[fit], y[fit], x[test], seed=seed)
        folds.append(2 * resample.auroc(y[test], score, w[:, test]) - 1)
    gaps = np.mean(folds, axis=0)
    return Score(float(gaps[0]), resample.spread(gaps), size)


# --- one column at a time ---


def ks(t: Tables, *, seed: int) -> Score | Undefined:
    """Mean over numeric columns of the Kolmogorov-Smirnov distance; missing values left out."""
    found = [_ks(*pair) for pair in _columns(t, seed, "if") if min(pair[1].size, pair[3].size)]
    return _mean(found, t, "no numeric column with values in both tables")


def _ks(w: np.ndarray, held: np.ndarray, _: object, synth: np.ndarray) -> np.ndarray:
    order = np.argsort(held, kind="stable")
    held, w = held[order], w[:, order]
    at, start = np.unique(held, return_index=True)
    ecdf = np.cumsum(np.add.reduceat(w, start, axis=1, dtype=np.float64), axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        ecdf /= ecdf[:, -1:]
    synth = np.sort(synth)
    upto, before = (np.searchsorted(synth, at, side=s) / len(synth) for s in ("right", "left"))
    step_before = np.concatenate([np.zeros((len(w), 1)), ecdf[:, :-1]], axis=1)
    # between two values of holdout its ECDF is flat, so synth's is farthest from it at either end of the gap
    ends = np.abs(ecdf[:, -1] - 1)
    return np.maximum.reduce([np.abs(ecdf - upto).max(axis=1), np.abs(step_before - before).max(axis=1), ends])


def tvd(t: Tables, *, seed: int) -> Score | Undefined:
    """Mean over category and bool columns of total variation; missing is a level of its own."""
    found = []
    for w, held, levels, synth in _columns(t, seed, "level"):
        share = np.bincount(synth, minlength=levels) / len(synth)
        member = np.eye(levels, dtype=np.float32)[held]
        held_share = (w @ member).astype(float)
        found.append(np.abs(held_share / held_share.sum(axis=1, keepdims=True) - share).sum(axis=1) / 2)
    return _mean(found, t, "no category or bool column")


def missing(t: Tables, *, seed: int) -> Score | Undefined:
    """Mean absolute difference of missing rates over the columns that have gaps in any of the three tables."""
    found = []
    for w, held, _, synth in _columns(t, seed, "gap"):
        rate = (w @ held.astype(np.float32)).astype(float) / w.sum(axis=1)
        found.append(np.abs(rate - synth.mean()))
    return _mean(found, t, "no column has missing values")


def _columns(t: Tables, seed: int, what: str) -> list[tuple[np.ndarray, np.ndarray, int, np.ndarray]]:
    """Per column of one kind: bootstrap weights of holdout's values, the values, number of levels, synth's values.

    Static columns count once a subject, others once a row; a row has its subject's weight.
    """
    per_subject = resample.weights(t.n("holdout"), seed=seed)
    held, synth, train = t["holdout"], t["synth"], t["train"]
    out = []
    for name in train.columns:
        parts = [_once_each(table[name]) if name in t.static else table[name] for table in (held, synth, train)]
        place = pd.factorize(parts[0].index.get_level_values("subject"))[0]
        dtype = train[name].dtype
        levelled = isinstance(dtype, pd.CategoricalDtype) or str(dtype) == "bool"
        if what == "gap":
            if any(p.isna().any() for p in parts):
                gaps = [p.isna().to_numpy() for p in parts]
                out.append((per_subject[:, place], gaps[0], 2, gaps[1]))
        elif what == "level" and levelled:
            levels = 2 if str(dtype) == "bool" else len(dtype.categories) + 1
            codes = [_levels(p) for p in parts]
            out.append((per_subject[:, place], codes[0], levels, codes[1]))
        elif what == "if" and not levelled:
            seen = parts[0].notna().to_numpy()
            values = [p.dropna().to_numpy(dtype=float) for p in parts]
            out.append((per_subject[:, place[seen]], values[0], 0, values[1]))
    return out


def _once_each(column: pd.Series) -> pd.Series:
    if column.index.nlevels == 1:
        return column
    return column[column.index.get_level_values("time") == 0].droplevel("time")


def _levels(column: pd.Series) -> np.ndarray:
    if str(column.dtype) == "bool":
        return column.to_numpy().astype(np.int64)
    codes = column.cat.codes.to_numpy().astype(np.int64)
    return np.where(codes < 0, len(column.cat.categories), codes)


def _mean(found: list[np.ndarray], t: Tables, otherwise: str) -> Score | Undefined:
    if not found:
        return Undefined(otherwise)
    values = np.mean(found, axis=0)
    return Score(float(values[0]), resample.spread(values), t.n("holdout"))


def _at_most(x: np.ndarray, rows: int, seed: int) -> np.ndarray:
    """At most so many rows, a seeded sample where there are more."""
    if len(x) <= rows:
        return x
    return x[np.sort(np.random.default_rng([seed, rows]).permutation(len(x))[:rows])]
