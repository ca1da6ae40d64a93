"""Fidelity of one column at a time. Standard errors are a bootstrap over holdout subjects."""

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


def _columns(t: Tables, seed: int, what: str) -> list[tuple[np.ndarray, np.ndarray, Any, np.ndarray]]:
    """Per column of one kind: bootstrap weights of holdout's values, the values, number of levels or scale, synth's
    values.

    Static columns count once a subject, others once a row; a row has its subject's weight.
    """
    per_subject = resample.weights(t.n("holdout"), seed=seed)
    held, synth, train = t["holdout"], t["synth"], t["train"]
    out: list[tuple[np.ndarray, np.ndarray, Any, np.ndarray]] = []
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
        elif what == "number" and not levelled:
            seen = parts[0].notna().to_numpy()
            values = [p.dropna().to_numpy(dtype=float) for p in parts]
            out.append((per_subject[:, place[seen]], values[0], _scale(parts[2]), values[1]))
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


def _scale(train: pd.Series) -> float:
    seen = train.dropna().to_numpy(dtype=float)
    return scale(seen)[1] if len(seen) else 1.0
