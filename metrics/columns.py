"""Fidelity of one column at a time. Standard errors are a bootstrap over holdout subjects."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from metrics import Score, Undefined, resample
from metrics.tables import Tables, scale


def ks(t: Tables, *, seed: int) -> Score | Undefined:
    """Mean over numeric columns of the Kolmogorov-Smirnov distance; missing values left out."""
    found = [_ks(*pair) for pair in _columns(t, seed, "number") if min(pair[1].size, pair[3].size)]
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


def wasserstein(t: Tables, *, seed: int) -> Score | Undefined:
    """Mean over numeric columns of W1 over train's scale (IQR, else sd, else 1); missing values left out."""
    pairs = _columns(t, seed, "number")
    found = [_wasserstein(*pair) for pair in pairs if min(pair[1].size, pair[3].size)]
    return _mean(found, t, "no numeric column with values in both tables")


def _wasserstein(w: np.ndarray, held: np.ndarray, scale: float, synth: np.ndarray) -> np.ndarray:
    """∫ |F_H − F_S| over the merged values, for every row of weights."""
    at = np.unique(np.concatenate([held, synth]))
    if len(at) == 1:
        return np.zeros(len(w))
    order = np.argsort(held, kind="stable")
    upto = np.searchsorted(held[order], at[:-1], side="right")
    mass = np.concatenate([np.zeros((len(w), 1)), np.cumsum(w[:, order], axis=1, dtype=np.float64)], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        ecdf = mass[:, upto] / mass[:, -1:]
    other = np.searchsorted(np.sort(synth), at[:-1], side="right") / len(synth)
    return np.abs(ecdf - other) @ np.diff(at) / scale


def tvd(t: Tables, *, seed: int) -> Score | Undefined:
    """Mean over category and bool columns of total variation; missing is a level of its own."""
    flags = [c for c in t["train"].columns if str(t["train"][c].dtype) == "bool"]
    found = _share_gaps(t, seed, flags, lambda table: table)
    for w, held, levels, synth in _columns(t, seed, "level"):
        share = np.bincount(synth, minlength=levels) / len(synth)
        member = np.eye(levels, dtype=np.float32)[held]
        held_share = (w @ member).astype(float)
        found.append(np.abs(held_share / held_share.sum(axis=1, keepdims=True) - share).sum(axis=1) / 2)
    return _mean(found, t, "no category or bool column")


def missing(t: Tables, *, seed: int) -> Score | Undefined:
    """Mean absolute difference of missing rates over the columns that have gaps in any of the three tables."""
    tables = [t[name] for name in ("train", "holdout", "synth")]
    gaps = [c for c in tables[0].columns if any(table[c].isna().any() for table in tables)]
    return _mean(_share_gaps(t, seed, gaps, lambda table: table.isna()), t, "no column has missing values")


def _share_gaps(
    t: Tables, seed: int, names: list[str], mark: Callable[[pd.DataFrame], pd.DataFrame]
) -> list[np.ndarray]:
    """Per column |share in holdout − in synth| of what `mark` makes true, under bootstrap weights (1 + B,).

    All columns at once: marks are summed per subject, then weighted. Static columns count once a subject.
    """
    w = resample.weights(t.n("holdout"), seed=seed)
    found: list[np.ndarray] = []
    for static in (True, False):
        columns = [c for c in names if (c in t.static) == static]
        if not columns:
            continue
        held, synth = (mark(_rows(t[name][columns], static)) for name in ("holdout", "synth"))
        place = pd.factorize(held.index.get_level_values("subject"))[0]
        first = np.flatnonzero(np.r_[True, np.diff(place) > 0])
        sums = np.add.reduceat(held.to_numpy(dtype=np.float32), first, axis=0)  # (m, columns)
        share = (w @ sums).astype(float) / (w @ np.bincount(place).astype(np.float32))[:, None]
        found += list(np.abs(share - synth.to_numpy(dtype=np.float32).mean(axis=0, dtype=float)).T)
    return found


def _columns(t: Tables, seed: int, what: str) -> Iterator[tuple[np.ndarray, np.ndarray, Any, np.ndarray]]:
    """Per category ("level") or number: bootstrap weights of holdout's values, the values, number of levels or scale,
    synth's values.

    Static columns count once a subject, others once a row; a row has its subject's weight.
    """
    per_subject = resample.weights(t.n("holdout"), seed=seed)
    train = t["train"]
    for name in train.columns:
        dtype = train[name].dtype
        if str(dtype) == "bool" or isinstance(dtype, pd.CategoricalDtype) != (what == "level"):
            continue
        held, synth, known = (_rows(t[x][name], name in t.static) for x in ("holdout", "synth", "train"))
        place = pd.factorize(held.index.get_level_values("subject"))[0]
        if what == "level":
            yield per_subject[:, place], _levels(held), len(dtype.categories) + 1, _levels(synth)
        else:
            values = [x.dropna().to_numpy(dtype=float) for x in (held, synth)]
            yield per_subject[:, place[held.notna()]], values[0], _scale(known), values[1]


def _rows(table: Any, static: bool) -> Any:
    """A table's or a column's rows; of a static one in a longitudinal table, the first of each subject."""
    if table.index.nlevels == 1 or not static:
        return table
    return table[table.index.get_level_values("time") == 0].droplevel("time")


def _levels(column: pd.Series) -> np.ndarray:
    codes = column.cat.codes.to_numpy().astype(np.int64)
    return np.where(codes < 0, len(column.cat.categories), codes)


def _mean(found: list[np.ndarray], t: Tables, otherwise: str) -> Score | Undefined:
    if not found:
        return Undefined(otherwise)
    values = np.mean(found, axis=0)
    return Score(float(values[0]), resample.spread(values), t.n("holdout"))


def _scale(train: pd.Series) -> float:
    seen = train.dropna().to_numpy(dtype=float)
    return scale(seen)[1] if len(seen) else 1.0
