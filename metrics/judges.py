"""Downstream models with fixed hyperparameters. A judge is a function of (x, y, seed) that gives a fitted model."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

Fit = Callable[..., Any]


def threads() -> int:
    """Threads a judge may use: what the process was given, else one."""
    return int(os.environ.get("OMP_NUM_THREADS", "1"))


def xgboost(x: np.ndarray, y: np.ndarray, *, seed: int, trees: int = 200, depth: int = 4, rate: float = 0.1) -> Any:
    """Gradient-boosted trees; gaps (NaN) are handled by the trees."""
    from xgboost import XGBClassifier

    model = XGBClassifier(
        n_estimators=trees, max_depth=depth, learning_rate=rate, tree_method="hist", n_jobs=threads(), random_state=seed
    )  # fmt: skip
    return model.fit(x, y)


def logistic(x: np.ndarray, y: np.ndarray, *, seed: int) -> Any:
    """L2-penalised logistic regression (C = 0.1) on scaled features."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=0.1, max_iter=500, tol=1e-3).fit(x, y)


def handed(cls: Any) -> Fit:
    """A judge of the harness's: a class with fit(x, y) and predict_proba(x)."""
    return lambda x, y, *, seed: cls().fit(x, y)


# judge -> (fit, whether it wants scaled features without gaps)
JUDGES: dict[str, tuple[Fit, bool]] = {"xgb": (xgboost, False), "lr": (logistic, True)}


def probability(fit: Fit, x: np.ndarray, y: np.ndarray, new: np.ndarray, *, seed: int) -> np.ndarray:
    """Probability of the positive class for rows `new` (m,), by a judge fitted on (x, y).

    A class the fitted rows lack has probability 0: its holdout rows stay in the score.
    """
    if y.all() or not y.any():
        return np.full(len(new), float(y.all()))
    return fit(x, y, seed=seed).predict_proba(new)[:, 1].astype(float)
