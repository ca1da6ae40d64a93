"""Utility: what a downstream model fitted on synth is worth on holdout, which is tested on and nothing else.

Each (table, judge, seed) is fitted once; standard errors are a bootstrap over holdout subjects. A judge that even with
train does not clear its floor (AUROC 0.55, average precision 1.2 times the prevalence) is no judge on that dataset.
"""

from collections.abc import Callable

import numpy as np

from metrics import Score, Undefined, judges, resample
from metrics.tables import Tables

LEAST_AUROC, LEAST_LIFT = 0.55, 1.2
ALPHAS = (0.2, 0.4, 0.6, 0.8, 1.0)
PRECISION = 0.9
CALIBRATION_BINS = 10
Curve = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def trtr_auroc(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """Fitted on train, AUROC on holdout: the ceiling, in the same run."""
    return _judged(t, "train", resample.auroc, seed)


def trtr_auprc(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """Fitted on train, average precision on holdout."""
    return _judged(t, "train", resample.auprc, seed)


def trtr_weighted_auroc(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """Fitted on train with both classes weighted alike, AUROC on holdout: what reweighting alone does."""
    return _judged(t, "weighted", resample.auroc, seed)


def trtr_weighted_auprc(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """Fitted on train with both classes weighted alike, average precision on holdout."""
    return _judged(t, "weighted", resample.auprc, seed)


def tstr_auroc(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """Fitted on synth, AUROC on holdout."""
    return _judged(t, "synth", resample.auroc, seed)


def tstr_auprc(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """Fitted on synth, average precision on holdout."""
    return _judged(t, "synth", resample.auprc, seed)


def tstr_brier(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """Fitted on synth, mean squared difference of probability and outcome on holdout."""
    return _judged(t, "synth", lambda y, p, w: (w @ ((p - y) ** 2)) / w.sum(axis=1), seed)


def tstr_calibration(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """Fitted on synth, calibration error on holdout: Σ over ten bins of equal size of share · |mean p − rate|."""
    return _judged(t, "synth", _calibration, seed)


def recall_at_precision(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """Fitted on synth, the highest recall on holdout among the thresholds with a precision of 0.9 or more; 0 for none.

    A point of the precision-recall curve, not a threshold anyone could have chosen.
    """
    return _judged(t, "synth", _recall_at_precision, seed)


def tsrtr_auroc(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """XGBoost fitted on train and the first α·n subjects of synth, AUROC; suffix α, and /gain over α = 0."""
    return _joined(t, resample.auroc, seed)


def tsrtr_auprc(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """The same with average precision."""
    return _joined(t, resample.auprc, seed)


def prevalence(t: Tables, *, seed: int) -> Score:
    """Share of positives in holdout."""
    y = t.y("holdout")
    return Score(float(y.mean()), resample.spread(resample.weights(len(y), seed=seed) @ y / len(y)), len(y))


# --- curves: (y (m,) bool, p (m,), weights (k, m)) -> (k,) ---


def _calibration(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> np.ndarray:
    bins = np.minimum(np.argsort(np.argsort(p, kind="stable")) * CALIBRATION_BINS // len(p), CALIBRATION_BINS - 1)
    member = np.eye(CALIBRATION_BINS)[bins]
    return np.abs((w * (p - y)) @ member).sum(axis=1) / w.sum(axis=1)


def _recall_at_precision(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> np.ndarray:
    positive, negative = resample.by_threshold(y, p, w)
    tp, fp = (np.cumsum(part[:, ::-1], axis=1) for part in (positive, negative))
    with np.errstate(invalid="ignore", divide="ignore"):
        enough = np.nan_to_num(tp / (tp + fp)) >= PRECISION - 1e-9
        return np.where(enough, tp, 0).max(axis=1) / tp[:, -1]


# --- judging ---


def _judged(t: Tables, source: str, curve: Curve, seed: int) -> dict[str, Score | Undefined]:
    """The mean over judges under "", and each judge under its name."""
    reason = one_class(t)
    if reason:
        return {"": Undefined(reason)}
    y = t.y("holdout")
    w = resample.weights(len(y), seed=seed)
    out: dict[str, Score | Undefined] = {}
    able = []
    for name in names(t):
        why_not = unable(t, name, seed)
        if why_not and source != "train":
            out[name] = Undefined(why_not)
            continue
        values = curve(y, predicted(t, source, name, seed), w)
        out[name] = scored(values, len(y))
        if not why_not:
            able.append(values)
    if not able:
        return {"": Undefined("no judge clears its floor on train itself"), **out}
    return {"": scored(np.mean(able, axis=0), len(y)), **out}


def _joined(t: Tables, curve: Curve, seed: int) -> dict[str, Score | Undefined]:
    reason = one_class(t)
    if reason:
        return {"": Undefined(reason)}
    y = t.y("holdout")
    w = resample.weights(len(y), seed=seed)
    none = curve(y, predicted(t, "train", "xgb", seed), w)
    out: dict[str, Score | Undefined] = {}
    for alpha in ALPHAS:
        values = curve(y, t.once(("joined", alpha, seed), lambda alpha=alpha: _fit_joined(t, alpha, seed)), w)
        out |= {f"{alpha}": scored(values, len(y)), f"{alpha}/gain": scored(values - none, len(y))}
    return out


def _fit_joined(t: Tables, alpha: float, seed: int) -> np.ndarray:
    more = round(alpha * t.n("train"))
    x = np.concatenate([t.features("train"), t.features("synth")[:more]])
    y = np.concatenate([t.y("train"), t.y("synth")[:more]])
    return judges.probability(judges.xgboost, x, y, t.features("holdout"), seed=seed)


def one_class(t: Tables) -> str:
    """Why no curve can be drawn on holdout, or ""."""
    y = t.y("holdout")
    return "holdout has one class" if y.all() or not y.any() else ""


def names(t: Tables) -> list[str]:
    """On series gradient-boosted trees over the summaries; elsewhere all of JUDGES; and judges handed in."""
    return [name for name in judges.JUDGES if t.shape != "series" or name == "xgb"] + list(t.judges)


def unable(t: Tables, name: str, seed: int) -> str:
    """Why a judge is no judge on this dataset, or ""."""
    y, p = t.y("holdout"), predicted(t, "train", name, seed)
    one = np.ones((1, len(y)))
    auroc, auprc = float(resample.auroc(y, p, one)[0]), float(resample.auprc(y, p, one)[0])
    if auroc < LEAST_AUROC:
        return f"no judge here: its TRTR AUROC is {auroc:.2f}, under {LEAST_AUROC}"
    if auprc < LEAST_LIFT * y.mean():
        return f"no judge here: its TRTR average precision is {auprc:.3f} where {y.mean():.3f} is chance"
    return ""


def predicted(t: Tables, source: str, name: str, seed: int) -> np.ndarray:
    """Probability of the positive class on holdout (m,), by a judge fitted on a table ("weighted": on train)."""

    def make() -> np.ndarray:
        table = "train" if source == "weighted" else source
        y = t.y(table)
        weight = judges.alike(y) if source == "weighted" else None
        if name in t.judges:
            if y.all() or not y.any():
                return np.full(t.n("holdout"), float(y.all()))
            judge = t.judges[name]().fit(
                t[table], like=t["train"], target=t.target, static=t.static, weight=weight, seed=seed
            )
            return np.asarray(judge.predict(t["holdout"]), dtype=float)
        fit, scaled = judges.JUDGES[name]
        x, new = t.features(table, scaled=scaled), t.features("holdout", scaled=scaled)
        return judges.probability(fit, x, y, new, seed=seed, weight=weight)

    key = ("predicted", source, name, seed)
    return t.once(key, make) if source == "synth" else t.once_for_all(key, lambda: (make(),))[0]


def scored(values: np.ndarray, n: int) -> Score | Undefined:
    """The first of bootstrap values, with their spread."""
    if not np.isfinite(values[0]):
        return Undefined("no value on this holdout")
    return Score(float(values[0]), resample.spread(values), n)
