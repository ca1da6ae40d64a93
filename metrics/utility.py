"""Utility: what a downstream model fitted on synth is worth on holdout. Thresholds are chosen inside the training rows.

Each (table, judge, seed) is fitted once; standard errors are a bootstrap over holdout subjects.
"""

from collections.abc import Callable

import numpy as np

from metrics import Score, Undefined, judges, resample
from metrics.tables import Tables

RATIOS = (0, 5, 50, 100, 200)  # % of the balance gap
MOST_MINORITY = 50_000
Curve = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def trtr_auroc(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """Fitted on train, AUROC on holdout: the ceiling, in the same run."""
    return _judged(t, "train", resample.auroc, seed)


def trtr_auprc(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """Fitted on train, average precision on holdout."""
    return _judged(t, "train", resample.auprc, seed)


def tstr_auroc(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """Fitted on synth, AUROC on holdout."""
    return _judged(t, "synth", resample.auroc, seed)


def tstr_auprc(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """Fitted on synth, average precision on holdout."""
    return _judged(t, "synth", resample.auprc, seed)


def boost_recall(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """Recall after augmentation; suffix judge/ratio/threshold, and /gain for the paired difference to ratio 0."""
    return _boosted(t, seed, lambda tp, fp, fn: tp / np.maximum(tp + fn, 1e-12))


def boost_precision(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """Precision after augmentation; 0 where nothing is flagged."""
    return _boosted(t, seed, lambda tp, fp, fn: tp / np.maximum(tp + fp, 1e-12))


def boost_f1(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """F1 of the positive class after augmentation."""
    return _boosted(t, seed, lambda tp, fp, fn: 2 * tp / np.maximum(2 * tp + fp + fn, 1e-12))


def _judged(t: Tables, source: str, curve: Curve, seed: int) -> dict[str, Score | Undefined]:
    """The mean over judges under "", and each judge under its name."""
    y = t.y("holdout")
    if y.all() or not y.any():
        return {"": Undefined("holdout has one class")}
    w = resample.weights(len(y), seed=seed)
    each = {name: curve(y, _predicted(t, source, name, seed), w) for name in _names(t)}
    out: dict[str, Score | Undefined] = {"": _score(np.mean(list(each.values()), axis=0), len(y))}
    return out | {name: _score(values, len(y)) for name, values in each.items()}


def _names(t: Tables) -> list[str]:
    """On series gradient-boosted trees over the summaries; elsewhere logistic regression too; and judges handed in."""
    return [name for name in judges.JUDGES if t.shape != "series" or name == "xgb"] + list(t.judges)


def _predicted(t: Tables, source: str, name: str, seed: int) -> np.ndarray:
    """Probability of the positive class on holdout (m,), by a judge fitted on a table."""

    def make() -> np.ndarray:
        fit, scaled = judges.JUDGES.get(name) or (judges.handed(t.judges[name]), False)
        x, new = t.features(source, scaled=scaled), t.features("holdout", scaled=scaled)
        return judges.probability(fit, x, t.y(source), new, seed=seed)

    return t.once(("predicted", source, name, seed), make)


def _boosted(t: Tables, seed: int, value: Callable[..., np.ndarray]) -> dict[str, Score | Undefined]:
    reason = _no_boost(t)
    if reason:
        return {"": Undefined(reason)}
    y = t.y("holdout")
    w = resample.weights(len(y), seed=seed).astype(float)
    out: dict[str, Score | Undefined] = {}
    for threshold in ("half", "best"):
        none: np.ndarray | None = None
        for ratio in RATIOS:
            score, best = t.once(("boost", ratio, seed), lambda ratio=ratio: _augmented(t, ratio, seed))
            flagged = score >= (best if threshold == "best" else 0.5)
            values = value(w @ (flagged & y), w @ (flagged & ~y), w @ (~flagged & y))
            none = values if none is None else none
            out[f"xgb/{ratio}/{threshold}"] = _score(values, len(y))
            if ratio:
                out[f"xgb/{ratio}/{threshold}/gain"] = _score(values - none, len(y))
    return out


def _no_boost(t: Tables) -> str | None:
    y = t.y("train")
    if "minority" not in t:
        return t.no_minority
    if 2 * y.sum() >= len(y):
        return f"the positive class is not the rare one: {int(y.sum())} of {len(y)} in train"
    if not t.y("holdout").any():
        return "holdout has no positive"
    return None


def _augmented(t: Tables, ratio: int, seed: int) -> tuple[np.ndarray, float]:
    """Holdout probabilities of trees fitted on train plus synthetic positives, and the F1-best threshold.

    The threshold comes from a quarter of train's own rows, judged by trees fitted on the other three quarters with the
    synthetic positives added in the same proportion.
    """
    from sklearn.model_selection import train_test_split

    x, y = t.features("train"), t.y("train")
    gap = len(y) - 2 * int(y.sum())
    extra = t.features("minority")[: min(round(gap * ratio / 100), MOST_MINORITY)]

    def fitted(rows: np.ndarray, more: np.ndarray, new: np.ndarray) -> np.ndarray:
        both, label = np.concatenate([x[rows], more]), np.concatenate([y[rows], np.ones(len(more), bool)])
        return judges.probability(judges.xgboost, both, label, new, seed=seed)

    everyone = np.arange(len(y))
    score = fitted(everyone, extra, t.features("holdout"))
    if y.sum() < 4:
        return score, 0.5
    inner, outer = train_test_split(everyone, test_size=0.25, stratify=y, random_state=seed)
    return score, _best_threshold(y[outer], fitted(inner, extra[: round(0.75 * len(extra))], x[outer]))


def _best_threshold(y: np.ndarray, score: np.ndarray) -> float:
    """The threshold with the highest F1; the highest one among equals."""
    order = np.argsort(-score, kind="stable")
    tp = np.cumsum(y[order])
    f1 = 2 * tp / (np.arange(1, len(y) + 1) + y.sum())
    last = np.r_[np.diff(score[order]) < 0, True]  # a threshold flags all rows of equal score
    return float(score[order][np.argmax(np.where(last, f1, -1))])


def _score(values: np.ndarray, n: int) -> Score | Undefined:
    if not np.isfinite(values[0]):
        return Undefined("no value on this holdout")
    return Score(float(values[0]), resample.spread(values), n)
