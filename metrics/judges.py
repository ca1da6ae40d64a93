"""Downstream models with fixed hyperparameters. A judge is a function (x, y, seed, weight) -> fitted model."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

Fit = Callable[..., Any]
FOREST_ROWS = 10_000  # a tree of the forest sees at most so many


def threads() -> int:
    """Threads a judge may use: what the process was given, else one."""
    return int(os.environ.get("OMP_NUM_THREADS", "1"))


def xgboost(
    x: np.ndarray, y: np.ndarray, *, seed: int, weight: np.ndarray | None = None, trees: int = 200, depth: int = 4,
    rate: float = 0.1,
) -> Any:  # fmt: skip
    """Gradient-boosted trees; gaps (NaN) are handled by the trees."""
    from xgboost import XGBClassifier

    model = XGBClassifier(
        n_estimators=trees, max_depth=depth, learning_rate=rate, tree_method="hist", max_bin=64, n_jobs=threads(),
        random_state=seed,
    )  # fmt: skip
    return model.fit(x, y, sample_weight=weight)


def forest(x: np.ndarray, y: np.ndarray, *, seed: int, weight: np.ndarray | None = None) -> Any:
    """A random forest of 50 trees with leaves of five subjects or more; gaps (NaN) are handled by the trees."""
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(
        50, min_samples_leaf=5, max_samples=FOREST_ROWS if len(x) > FOREST_ROWS else None, n_jobs=threads(),
        random_state=seed,
    )  # fmt: skip
    return model.fit(x, y, sample_weight=weight)


def logistic(x: np.ndarray, y: np.ndarray, *, seed: int, weight: np.ndarray | None = None) -> Any:
    """L2-penalised logistic regression (C = 0.1) on scaled features."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=0.1, max_iter=5_000, tol=1e-3).fit(x, y, sample_weight=weight)


# judge -> (fit, whether it wants scaled features without gaps)
JUDGES: dict[str, tuple[Fit, bool]] = {"xgb": (xgboost, False), "rf": (forest, False), "lr": (logistic, True)}


def probability(
    fit: Fit, x: np.ndarray, y: np.ndarray, new: np.ndarray, *, seed: int, weight: np.ndarray | None = None
) -> np.ndarray:
    """Probability of the positive class for rows `new` (m,), by a judge fitted on (x, y).

    A class the fitted rows lack has probability 0: its holdout rows stay in the score.
    """
    if y.all() or not y.any():
        return np.full(len(new), float(y.all()))
    return fit(x, y, seed=seed, weight=weight).predict_proba(new)[:, 1].astype(float)


def alike(y: np.ndarray) -> np.ndarray:
    """Weights (n,) under which both classes count the same, of mean 1."""
    share = y.mean()
    return np.where(y, 0.5 / max(share, 1e-12), 0.5 / max(1 - share, 1e-12))
