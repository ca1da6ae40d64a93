"""Scores as published, under names of their own, so that a published number can be confronted with the corrected one.

They carry no control and no standard error, and none of them is ranked. What each gets wrong stands in its row.
"""

import numpy as np

from metrics import Score, Undefined, attributes, dimension, near, pairwise
from metrics.tables import Tables

THETA = 5.0
KNOWN_FLAGS, VOTERS = 30, 400


def mir_yan(t: Tables, *, seed: int) -> Score:
    """Yan et al. 2022: member if the squared distance to the nearest synth subject is at most 5, over everyone."""
    train, held = (_nearest(t, name) for name in ("train", "holdout"))
    return _f1(train <= THETA, held <= THETA)


def air_yan(t: Tables, *, seed: int) -> Score | Undefined:
    """Yan et al. 2022: the attack of air_train on every subject of train, without its control."""
    found = attributes.guess(t, t.flat("train"))
    if isinstance(found, Undefined):
        return found
    n = t.n("train")
    return Score(float(found.f1(slice(None), np.ones((1, n), np.float32))[0]), None, n)


def mir_halo(t: Tables, *, seed: int) -> Score | Undefined:
    """HALO's code: member if the distance to the nearest synth subject is below the median, balanced."""
    k = near.count(t)
    if k < 2:
        return Undefined(f"{k} member is too few")
    distance = near.found(t, "attacked", "synth", seed)[0][:, 0]
    flagged = distance < np.median(distance)
    return _f1(flagged[:k], flagged[k:])


def mir_healthforge(t: Tables, *, seed: int) -> Score:
    """HealthForge's code: accuracy of "member if below the 5th percentile of all distances" over everyone."""
    train, held = (_nearest(t, name) for name in ("train", "holdout"))
    theta = np.quantile(np.concatenate([train, held]), 0.05)
    right = (train < theta).sum() + (held >= theta).sum()
    return Score(float(right / (len(train) + len(held))), None, len(train) + len(held))


def air_healthforge(t: Tables, *, seed: int) -> Score | Undefined:
    """HealthForge's code: accuracy over all cells of the votes of the 400 nearest, 30 highest-entropy flags known."""
    flags = np.array(t.flags)
    if len(flags) < 2:
        return Undefined("fewer than two flags")
    train, synth = (t.flat(name)[list(flags)].to_numpy(dtype=np.float32) for name in ("train", "synth"))
    p = train.mean(axis=0, dtype=float).clip(1e-9, 1 - 1e-9)
    order = np.argsort(p * np.log(p) + (1 - p) * np.log(1 - p), kind="stable")
    known = np.isin(np.arange(len(flags)), order[: min(KNOWN_FLAGS, len(flags) - 1)])
    _, voters = pairwise.neighbours(train[:, known], synth[:, known], VOTERS)
    right = 0.0
    for rows in pairwise.blocks(len(train), voters.shape[1] * int((~known).sum())):
        said = synth[:, ~known][voters[rows]].mean(axis=1) >= 0.5
        right += (said == (train[rows][:, ~known] > 0.5)).sum()
    return Score(float(right / (len(train) * (~known).sum())), None, len(train))


def dimension_healthforge(t: Tables, *, seed: int) -> Score | Undefined:
    """HealthForge's code: accuracy of the dimension-wise models of train on the rows they were fitted on."""
    found = dimension.of_train(t)
    if isinstance(found, Undefined):
        return found
    y, p = found
    return Score(float(((p >= 0.5) == y).mean()), None, len(y))


def _nearest(t: Tables, name: str) -> np.ndarray:
    """Squared distance of every subject to its nearest synth subject."""
    return t.once(("nearest", name), lambda: pairwise.nearest(t.matrix(name), t.matrix("synth"))[0])


def _f1(members: np.ndarray, others: np.ndarray) -> Score:
    """F1 of flags."""
    tp, fp, fn = members.sum(), others.sum(), (~members).sum()
    return Score(float(2 * tp / max(2 * tp + fp + fn, 1)), None, len(members) + len(others))
