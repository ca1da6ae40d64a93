"""Fidelity in time: channels of a grid, and visits. Standard errors over holdout subjects: bootstrap or jackknife."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from metrics import Score, Undefined, resample
from metrics.tables import Tables

COMMONEST = 100

# --- series ---


def autocorrelation(t: Tables, *, seed: int) -> Score | Undefined:
    """Mean over channels and lags 1..l/4 of |ρ_S − ρ_H|, ρ the correlation of steps that far apart, both seen.

    Pairs of steps are pooled over subjects and places.
    """
    lags = max(1, _steps(t) // 4)
    if _steps(t) < 2:
        return Undefined("one step has no autocorrelation")
    return _by_subject(t, seed, lambda x: _sums([(x[:, :-k], x[:, k:]) for k in range(1, lags + 1)]))


def cross_correlation(t: Tables, *, seed: int) -> Score | Undefined:
    """Mean over channel pairs of |ρ_S − ρ_H| at the same step, where both are seen."""
    c = len(_channels(t))
    if c < 2:
        return Undefined("fewer than two channels")
    first, second = np.triu_indices(c, 1)
    return _by_subject(t, seed, lambda x: _sums([(x[:, :, first], x[:, :, second])]))


def _by_subject(t: Tables, seed: int, sums: Callable[[np.ndarray], np.ndarray]) -> Score | Undefined:
    """Mean |ρ_S − ρ_H| of correlations made from sums over subjects; sums(x) gives (n, 6, pairs)."""
    if not _channels(t):
        return Undefined("no numeric channel")
    held, synth = sums(_grid(t, "holdout")), sums(_grid(t, "synth"))
    total, other = held.sum(axis=0), _pooled(synth.sum(axis=0))
    group = resample.groups(len(held), seed=seed)
    parts = [total, *(total - held[group == g].sum(axis=0) for g in range(int(group.max()) + 1))]
    defined = np.isfinite(_pooled(total))
    if not defined.any():
        return Undefined("no pair of values varies in holdout")
    # one that synth does not define (a constant, never seen together) counts as 0, as in cmd
    gaps = [np.abs(np.nan_to_num(_pooled(p)) - np.nan_to_num(other))[defined].mean() for p in parts]
    return Score(float(gaps[0]), resample.jackknife(np.array(gaps[1:])), len(held))


def _sums(pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Per subject Σ1, Σx, Σy, Σx², Σy², Σxy over the steps where both are seen: (n, 6, columns of all pairs)."""
    found = []
    for x, y in pairs:
        both = ~(np.isnan(x) | np.isnan(y))
        x, y = np.where(both, x, 0), np.where(both, y, 0)
        found.append(np.stack([v.sum(axis=1) for v in (both, x, y, x * x, y * y, x * y)], axis=1))
    return np.concatenate(found, axis=2)


def _pooled(sums: np.ndarray) -> np.ndarray:
    """Correlations from such sums (6, columns); NaN where one side does not vary."""
    with np.errstate(invalid="ignore", divide="ignore"):
        n, x, y, xx, yy, xy = sums
        cov, var_x, var_y = xy / n - x * y / n**2, xx / n - (x / n) ** 2, yy / n - (y / n) ** 2
        return np.where((var_x > 1e-9) & (var_y > 1e-9), cov / np.sqrt(var_x * var_y), np.nan)


def _channels(t: Tables) -> list[str]:
    """Varying columns that are numbers or flags."""
    table = t["train"]
    return [c for c in table.columns if c not in t.static and not isinstance(table[c].dtype, pd.CategoricalDtype)]


def _steps(t: Tables) -> int:
    return int(t["train"].index.get_level_values("time").max()) + 1


def _grid(t: Tables, name: str) -> np.ndarray:
    """(n, l, c): each channel less train's mean over train's sd, NaN where nothing is seen."""

    def make() -> np.ndarray:
        table, train, channels = t[name], t["train"], _channels(t)
        place = pd.factorize(table.index.get_level_values("subject"))[0]
        step = table.index.get_level_values("time").to_numpy()
        inside = step < _steps(t)
        out = np.full((t.n(name), _steps(t), len(channels)), np.nan)
        for j, column in enumerate(channels):
            x, seen = (v[column].to_numpy(dtype=float, na_value=np.nan) for v in (table, train))
            known = seen[~np.isnan(seen)]
            middle, size = (known.mean(), known.std() or 1.0) if len(known) else (0.0, 1.0)
            out[place[inside], step[inside], j] = (x[inside] - middle) / size
        return out

    return t.once(("grid", name), make)


# --- visits ---


def visits_ks(t: Tables, *, seed: int) -> Score:
    """Kolmogorov-Smirnov distance of visits per subject."""
    held, synth = (t.flat(name)["n_steps"].to_numpy() for name in ("holdout", "synth"))
    return _ks(held, synth, resample.weights(len(held), seed=seed), len(held))


def codes_per_visit_ks(t: Tables, *, seed: int) -> Score:
    """Kolmogorov-Smirnov distance of codes per visit; a visit has its subject's weight."""
    held, synth = (t[name][_codes(t)].to_numpy(dtype=bool).sum(axis=1) for name in ("holdout", "synth"))
    place = pd.factorize(t["holdout"].index.get_level_values("subject"))[0]
    return _ks(held, synth, resample.weights(t.n("holdout"), seed=seed)[:, place], t.n("holdout"))


def _ks(held: np.ndarray, synth: np.ndarray, w: np.ndarray, n: int) -> Score:
    """The largest difference of the distribution functions of two counts, for every row of weights."""
    top = int(max(held.max(), synth.max())) + 1
    mine = np.cumsum(w @ np.eye(top, dtype=np.float32)[held], axis=1).astype(float)
    mine /= np.maximum(mine[:, -1:], 1e-12)
    gaps = np.abs(mine - np.cumsum(np.bincount(synth, minlength=top)) / len(synth)).max(axis=1)
    return Score(float(gaps[0]), resample.spread(gaps), n)


def cooccurrence(t: Tables, *, seed: int) -> Score | Undefined:
    """R² of P(two codes in one visit) over pairs of train's 100 commonest codes, holdout's by synth's."""
    return _r2(t, seed, follows=False)


def transition(t: Tables, *, seed: int) -> Score | Undefined:
    """R² of P(one code in a visit, another or the same in the next) over the same codes."""
    return _r2(t, seed, follows=True)


def _r2(t: Tables, seed: int, *, follows: bool) -> Score | Undefined:
    """1 − Σ (p_H − p_S)² / Σ (p_H − mean p_H)²."""
    if len(_common(t)) < 2:
        return Undefined("fewer than two codes")
    counted = {name: _pair_counts(t, name, follows, seed) for name in ("holdout", "synth")}
    (held, places), (synth, others) = counted["holdout"], counted["synth"]
    if places.sum() == 0 or others.sum() == 0:
        return Undefined("no subject has two visits" if follows else "no visits")
    d = held.shape[1]
    kept = np.ones((d, d), bool) if follows else np.triu(np.ones((d, d), bool), 1)
    drawn = synth.sum(axis=0)[kept] / others.sum()

    def value(cells: np.ndarray, n: float) -> float:
        p = cells[kept] / n
        spread = ((p - p.mean()) ** 2).sum()
        return float(1 - ((p - drawn) ** 2).sum() / spread) if spread > 0 else np.nan

    whole = value(held.sum(axis=0), places.sum())
    if not np.isfinite(whole):
        return Undefined("all pairs are equally common in holdout")
    left = [value(held.sum(axis=0) - held[g], places.sum() - places[g]) for g in range(len(held))
            if places.sum() > places[g]]  # fmt: skip
    finite = np.array(left)[np.isfinite(left)]
    return Score(whole, resample.jackknife(finite), t.n("holdout"))


def _pair_counts(t: Tables, name: str, follows: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts of code pairs by jackknife group (groups, d, d), and of the places they could stand at (groups,)."""
    table = t[name]
    codes = table[_common(t)].to_numpy(dtype=np.float32)
    place = pd.factorize(table.index.get_level_values("subject"))[0]
    group = resample.groups(t.n(name), seed=seed)[place]
    first, second, at = codes, codes, group
    if follows:
        next_too = place[:-1] == place[1:]
        first, second, at = codes[:-1][next_too], codes[1:][next_too], group[:-1][next_too]
    g = int(group.max()) + 1
    cells = np.stack([first[at == i].T.astype(float) @ second[at == i] for i in range(g)])
    return cells, np.bincount(at, minlength=g).astype(float)


def _codes(t: Tables) -> list[str]:
    return [c for c in t.codes if c in t["train"].columns]


def _common(t: Tables) -> list[str]:
    """Train's 100 commonest codes, ties in the order of the columns."""
    share = t["train"][_codes(t)].mean()
    return list(share.sort_values(ascending=False, kind="stable").index[:COMMONEST])
