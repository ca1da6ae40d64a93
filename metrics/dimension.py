"""Dimension-wise prediction (Choi et al. 2017): each of the 30 highest-entropy codes from all other columns.

The regressions of one table share their inputs, so that they are solved together: one product a step for all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from metrics import Score, Undefined, near, resample
from metrics.tables import Tables

TARGETS = 30
PENALTY = 10.0  # 1 / C of scikit-learn's LogisticRegression


def f1(t: Tables, *, seed: int) -> Score | Undefined:
    """Mean over codes of F1 on holdout of the model fitted on holdout − of the one fitted on synth, positive class.

    Holdout is cut into two random halves. A model of one half and a model of as many synth subjects predict the other
    half; the mean over both halves is signed and is 0 on average where synth is as good as fresh subjects.
    """
    return _gap(t, seed, _f1)


def auroc(t: Tables, *, seed: int) -> Score | Undefined:
    """The same with AUROC, over the codes that a half of holdout has both with and without."""
    return _gap(t, seed, resample.auroc)


def _gap(t: Tables, seed: int, value: Callable[..., np.ndarray]) -> Score | Undefined:
    halves = t.once(("dimension", seed), lambda: _predict(t, seed))
    if isinstance(halves, Undefined):
        return halves
    w = resample.weights(t.n("holdout"), seed=seed)
    gaps = []
    for half in halves:
        for y, of_held, of_synth in zip(half.y.T, half.held.T, half.synth.T, strict=True):
            if y.any() and not y.all():
                gaps.append(value(y, of_held, w[:, half.rows]) - value(y, of_synth, w[:, half.rows]))
    if not gaps:
        return Undefined("holdout has no code both with and without")
    seen = np.isfinite(gaps)  # a draw without a positive of a code says nothing of it
    values = np.where(seen, gaps, 0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    return Score(float(values[0]), resample.spread(values), t.n("holdout"))


def _f1(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> np.ndarray:
    flagged = p >= 0.5
    tp, fp, fn = (w @ (part.astype(np.float32)) for part in (flagged & y, flagged & ~y, ~flagged & y))
    return 2 * tp / np.maximum(2 * tp + fp + fn, 1e-12)


@dataclass(frozen=True)
class _Half:
    """Rows of a half of holdout, their codes (rows, targets) bool, and the codes' probabilities by the models of the
    other half and of synth."""

    rows: np.ndarray
    y: np.ndarray
    held: np.ndarray
    synth: np.ndarray


def _predict(t: Tables, seed: int) -> list[_Half] | Undefined:
    chosen = _chosen(t)
    if isinstance(chosen, Undefined):
        return chosen
    order = np.random.default_rng([seed, 4]).permutation(t.n("holdout"))
    halves = [np.sort(order[i::2]) for i in range(2)]
    x, y = t.matrix("holdout"), _codes(t, "holdout", chosen)
    found = []
    for i, (rows, other) in enumerate((halves, halves[::-1])):
        key = ("dimension", "holdout", i, seed)
        (held,) = t.once_for_all(key, partial(_fitted, t, "holdout", other, chosen))
        (synth,) = _fitted(t, "synth", near.picked(t, "synth", len(other), seed + i), chosen)
        found.append(_Half(rows, y[rows], probability(x[rows], held), probability(x[rows], synth)))
    return found


def of_train(t: Tables) -> tuple[np.ndarray, np.ndarray] | Undefined:
    """Train's codes (n, targets) bool and their probability by the models fitted on those same rows."""
    chosen = _chosen(t)
    if isinstance(chosen, Undefined):
        return chosen
    everyone = np.arange(t.n("train"))
    (models,) = t.once_for_all(("dimension", "train"), partial(_fitted, t, "train", everyone, chosen))
    return _codes(t, "train", chosen), probability(t.matrix("train"), models)


def _chosen(t: Tables) -> list[str] | Undefined:
    """The codes of the highest entropy in train, ties in the order of the columns."""
    p = t.flat("train")[t.ever].mean()
    p = p[(p > 0) & (p < 1)]
    if p.empty or t.flat("train").shape[1] < 2:
        return Undefined("no code varies in train")
    entropy = -p * np.log(p) - (1 - p) * np.log(1 - p)
    return list(entropy.sort_values(ascending=False, kind="stable").index[:TARGETS])


def _codes(t: Tables, name: str, chosen: list[str]) -> np.ndarray:
    return t.flat(name)[chosen].to_numpy(dtype=bool)


def _fitted(t: Tables, name: str, rows: np.ndarray, chosen: list[str]) -> tuple[np.ndarray]:
    """The models (p + 1, targets) of some rows of a table; none reads its own code."""
    own = np.array([[column == code for code in chosen] for column in t.columns])  # (p, targets)
    return (logistic(t.matrix(name)[rows], _codes(t, name, chosen)[rows], without=own),)


def logistic(x: np.ndarray, y: np.ndarray, *, without: np.ndarray, iterations: int = 100) -> np.ndarray:
    """K ridge-penalised logistic regressions at once: coefficients (p + 1, K), the last row the intercepts.

    x (n, p), y (n, K) bool. without (p, K): inputs a model must not use. Minimises ½‖w‖² · PENALTY + Σ loss, as
    scikit-learn's LogisticRegression(C=0.1), by L-BFGS over all of them.
    """
    from scipy.optimize import minimize

    inputs, truth = _thin(x), y.astype(np.float64)
    p, k = x.shape[1], y.shape[1]
    allowed = np.vstack([~without, np.ones((1, k), bool)])

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(p + 1, k)
        z = inputs @ w[:p] + w[p]
        value = (np.logaddexp(0, z) - truth * z).sum() + PENALTY / 2 * (w[:p] ** 2).sum()
        error = 1 / (1 + np.exp(-z)) - truth
        slope = np.vstack([inputs.T @ error + PENALTY * w[:p], error.sum(axis=0)]) * allowed
        return float(value), slope.ravel()

    start = np.zeros((p + 1, k))
    rate = (truth.sum(axis=0) + 0.5) / (len(truth) + 1)
    start[p] = np.log(rate / (1 - rate))
    settings = {"maxiter": iterations, "ftol": 1e-8, "gtol": 1e-3 * len(x) ** 0.5}
    return minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options=settings).x.reshape(p + 1, k)


def probability(x: np.ndarray, models: np.ndarray) -> np.ndarray:
    """Probabilities (m, K)."""
    return 1 / (1 + np.exp(-(_thin(x) @ models[:-1] + models[-1])))


def _thin(x: np.ndarray) -> Any:
    """As a sparse array where x is mostly zeros."""
    if np.count_nonzero(x) > 0.1 * x.size:
        return x.astype(np.float64)
    from scipy.sparse import csr_array

    return csr_array(x.astype(np.float64))
