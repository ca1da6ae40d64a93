"""Rare-event augmentation (Le 2024): train with synthetic positives added, tested on holdout.

Suffixes: judge / ratio / threshold, ratio in % of the balance gap; and /gain, the paired difference to ratio 0. In the
place of the ratio stand two controls that need no generator: `weighted` (classes weighted alike) and `oversampled`
(train's own positives repeated until balance). Ratio 0 at the best threshold is the third, moving the threshold.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from metrics import Score, Undefined, judges, resample
from metrics.tables import Tables
from metrics.utility import one_class, scored

RATIOS = (0, 5, 50, 100, 200)  # % of the balance gap
CONTROLS = ("weighted", "oversampled")
MOST_MINORITY = 50_000
JUDGED = ("xgb", "rf")
FEWEST_POSITIVES = 4  # in train, for a threshold of its own


def recall(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """Recall after augmentation."""
    return _at_thresholds(t, seed, lambda tp, fp, fn: tp / np.maximum(tp + fn, 1e-12))


def precision(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """Precision after augmentation; 0 where nothing is flagged."""
    return _at_thresholds(t, seed, lambda tp, fp, fn: tp / np.maximum(tp + fp, 1e-12))


def f1(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """F1 of the positive class after augmentation."""
    return _at_thresholds(t, seed, lambda tp, fp, fn: 2 * tp / np.maximum(2 * tp + fp + fn, 1e-12))


def auroc(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """AUROC after augmentation."""
    return _curve(t, seed, resample.auroc)


def auprc(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """Average precision after augmentation."""
    return _curve(t, seed, resample.auprc)


def balanced_auroc(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """AUROC of judges fitted on synth alone: as drawn ("plain"), with classes weighted alike ("weighted"), and with
    drawn positives added until balance ("balanced")."""
    return _balanced(t, seed, resample.auroc)


def balanced_auprc(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """Average precision of the same."""
    return _balanced(t, seed, resample.auprc)


def _curve(t: Tables, seed: int, curve: Callable[..., np.ndarray]) -> dict[str, Score | Undefined]:
    y = t.y("holdout")
    w = resample.weights(len(y), seed=seed)
    return _each(t, seed, ("",), lambda score, best, threshold: curve(y, score, w))


def _balanced(t: Tables, seed: int, curve: Callable[..., np.ndarray]) -> dict[str, Score | Undefined]:
    reason = _impossible(t)
    if reason:
        return {"": Undefined(reason)}
    truth, x, y = t.y("holdout"), t.features("synth"), t.y("synth")
    w = resample.weights(len(truth), seed=seed)
    more = t.features("minority")[: max(len(y) - 2 * int(y.sum()), 0)]
    both, label = np.concatenate([x, more]), np.concatenate([y, np.ones(len(more), bool)])
    ways = {"plain": (x, y, None), "weighted": (x, y, judges.alike(y)), "balanced": (both, label, None)}

    def fitted(judge: str, way: str) -> np.ndarray:
        x, y, weight = ways[way]
        return judges.probability(judges.JUDGES[judge][0], x, y, t.features("holdout"), seed=seed, weight=weight)

    out: dict[str, Score | Undefined] = {}
    for judge in JUDGED:
        values = {
            way: curve(truth, t.once(("balanced", judge, way, seed), lambda j=judge, k=way: fitted(j, k)), w)
            for way in ways
        }
        for way, found in values.items():
            out[f"{judge}/{way}"] = scored(found, len(truth))
            if way != "plain":
                out[f"{judge}/{way}/gain"] = scored(found - values["plain"], len(truth))
    return out


def _at_thresholds(t: Tables, seed: int, value: Callable[..., np.ndarray]) -> dict[str, Score | Undefined]:
    """Values at 0.5 ("half") and at the F1-best threshold found inside train ("best")."""
    y = t.y("holdout")
    w = resample.weights(len(y), seed=seed).astype(float)

    def at(score: np.ndarray, best: float, threshold: str) -> np.ndarray:
        flagged = score >= (best if threshold == "best" else 0.5)
        return value(w @ (flagged & y), w @ (flagged & ~y), w @ (~flagged & y))

    return _each(t, seed, ("half", "best"), at)


def _each(
    t: Tables, seed: int, thresholds: tuple[str, ...], value: Callable[[np.ndarray, float, str], np.ndarray]
) -> dict[str, Score | Undefined]:
    reason = _impossible(t)
    if reason:
        return {"": Undefined(reason)}
    n = t.n("holdout")
    out: dict[str, Score | Undefined] = {}
    for judge in JUDGED:
        for threshold in thresholds:
            none: np.ndarray | None = None
            for step in (*RATIOS, *CONTROLS):
                once: Any = t.once_for_all if step in (0, *CONTROLS) else t.once
                score, best = once(("boost", judge, step, seed), lambda j=judge, s=step: _fitted(t, j, s, seed))
                values = value(score, float(best), threshold)
                none = values if none is None else none
                name = "/".join(filter(None, (judge, str(step), threshold)))
                out[name] = scored(values, n)
                if step:
                    out[f"{name}/gain"] = scored(values - none, n)
    return out


def _impossible(t: Tables) -> str:
    """Why nothing can be augmented, or ""."""
    y = t.y("train")
    if "minority" not in t:
        return t.no_minority
    if 2 * y.sum() >= len(y):
        return f"the positive class is not the rare one: {int(y.sum())} of {len(y)} in train"
    return one_class(t)


def _fitted(t: Tables, judge: str, step: Any, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Holdout probabilities of a judge fitted on augmented train, and its F1-best threshold ().

    The threshold comes from a quarter of train's own rows, judged by a model fitted on the other three quarters with
    the positives added in the same proportion.
    """
    from sklearn.model_selection import train_test_split

    x, y = t.features("train"), t.y("train")
    fit = judges.JUDGES[judge][0]
    everyone = np.arange(len(y))

    def predict(rows: np.ndarray, share: float, new: np.ndarray) -> np.ndarray:
        more = _extra(t, step, rows, share, seed)
        both, label = np.concatenate([x[rows], more]), np.concatenate([y[rows], np.ones(len(more), bool)])
        weight = judges.alike(label) if step == "weighted" else None
        return judges.probability(fit, both, label, new, seed=seed, weight=weight)

    score = predict(everyone, 1.0, t.features("holdout"))
    if y.sum() < FEWEST_POSITIVES:
        return score, np.array(0.5)
    inner, outer = train_test_split(everyone, test_size=0.25, stratify=y, random_state=seed)
    return score, np.array(_best_threshold(y[outer], predict(inner, 0.75, x[outer])))


def _extra(t: Tables, step: Any, rows: np.ndarray, share: float, seed: int) -> np.ndarray:
    """The positives to add to these rows of train."""
    x, y = t.features("train"), t.y("train")
    if step == "weighted":
        return x[:0]
    if step == "oversampled":
        positives = rows[y[rows]]
        gap = min(len(rows) - 2 * len(positives), MOST_MINORITY)
        whole = np.tile(np.random.default_rng(seed).permutation(positives), gap // max(len(positives), 1) + 1)
        return x[whole[:gap]]
    gap = len(y) - 2 * int(y.sum())
    return t.features("minority")[: round(share * min(round(gap * step / 100), MOST_MINORITY))]


def _best_threshold(y: np.ndarray, score: np.ndarray) -> float:
    """The threshold with the highest F1; the highest one among equals."""
    order = np.argsort(-score, kind="stable")
    tp = np.cumsum(y[order])
    value = 2 * tp / (np.arange(1, len(y) + 1) + y.sum())
    last = np.r_[np.diff(score[order]) < 0, True]  # a threshold flags all rows of equal score
    return float(score[order][np.argmax(np.where(last, value, -1))])
