"""Dimension-wise prediction (Choi et al. 2017): each of the 30 highest-entropy codes from all other columns.

The regressions of one table share their inputs, so that they are solved together: one product a step for all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from metrics import Score, Undefined, resample
from metrics.tables import Tables

TARGETS = 30
PENALTY = 10.0  # 1 / C of scikit-learn's LogisticRegression


def f1(t: Tables, *, seed: int) -> Score | Undefined:
    """Mean over codes of |F1 on holdout of the model fitted on train − of the one fitted on synth|, positive class."""
    return _gap(t, seed, _f1)


def auroc(t: Tables, *, seed: int) -> Score | Undefined:
    """The same with AUROC, over the codes that holdout has both with and without."""
    return _gap(t, seed, resample.auroc)


def _gap(t: Tables, seed: int, value: Callable[..., np.ndarray]) -> Score | Undefined:
    found = t.once("dimension", lambda: _predict(t))
    if isinstance(found, Undefined):
        return found
    w = resample.weights(t.n("holdout"), seed=seed)
    gaps = []
    for y, of_train, of_synth in zip(found.y.T, found.train.T, found.synth.T, strict=True):
        if y.any() and not y.all():
            gaps.append(np.abs(value(y, of_train, w) - value(y, of_synth, w)))
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
class _Predicted:
    """Holdout's codes (m, targets) bool, and their probability by the models of train and of synth."""

    y: np.ndarray
    train: np.ndarray
    synth: np.ndarray


def _predict(t: Tables) -> _Predicted | Undefined:
    chosen = _chosen(t)
    if isinstance(chosen, Undefined):
        return chosen
    held = t.matrix("holdout")
    models = [_models(t, name, chosen) for name in ("train", "synth")]
    return _Predicted(_codes(t, "holdout", chosen), *(probability(held, m) for m in models))


def of_train(t: Tables) -> tuple[np.ndarray, np.ndarray] | Undefined:
    """Train's codes (n, targets) bool and their probability by the models fitted on those same rows."""
    chosen = _chosen(t)
    if isinstance(chosen, Undefined):
        return chosen
    return _codes(t, "train", chosen), probability(t.matrix("train"), _models(t, "train", chosen))


def _chosen(t: Tables) -> list[str] | Undefined:
    """The codes of the highest entropy in train, ties by name."""
    p = t.flat("train")[t.ever].mean().sort_index()
    p = p[(p > 0) & (p < 1)]
    if p.empty or t.flat("train").shape[1] < 2:
        return Undefined("no code varies in train")
    entropy = -p * np.log(p) - (1 - p) * np.log(1 - p)
    return list(entropy.sort_values(ascending=False, kind="stable").index[:TARGETS])


def _codes(t: Tables, name: str, chosen: list[str]) -> np.ndarray:
    return t.flat(name)[chosen].to_numpy(dtype=bool)


def _models(t: Tables, name: str, chosen: list[str]) -> np.ndarray:
    own = np.array([[column == code for code in chosen] for column in t.columns])  # (p, targets)

    def make() -> np.ndarray:
        return logistic(t.matrix(name), _codes(t, name, chosen), without=own)

    key = ("dimension", name)
    return t.once_for_all(key, lambda: (make(),))[0] if name == "train" else t.once(key, make)


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
