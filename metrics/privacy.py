"""Privacy: what an attack achieves on members beyond what it achieves on people who were never in the data.

Members are train subjects, others holdout subjects, in equal numbers (metrics/near.py). Risks are stored signed: with a
synth that is independent of train they average 0. `/null` is the same attack with members and others shuffled: its
mean, and as its error its spread.
"""

from collections.abc import Callable

import numpy as np
from scipy.stats import rankdata

from metrics import Score, Undefined, near, pairwise, resample
from metrics.tables import Tables

FEWEST = 20
FEWEST_FOR_TPR = 500
FPR = 0.01
LEAST_DISTANCE = 1e-3  # of the median distance, so that a copy has a logarithm
SHUFFLES = 100
NNAA_ROWS = 20_000  # subjects a side, at most: the search grows with their square

# --- membership ---


def mia_distance(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """2·AUROC − 1 of −(distance to the nearest synth subject), members against others."""
    k = near.count(t)
    if k < FEWEST:
        return {"": few(k)}
    return _auroc_gap(-_to_synth(t, seed)[:, 0], seed)


def mia_density(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """2·AUROC − 1 of the mean over j = 1..5 of log d_j(x, reference) − log d_j(x, synth), members against others.

    d_j is the distance to the j-th nearest subject, no less than a thousandth of the reference's median. The reference
    is a third of the others, the attack is tried on the other two thirds and as many members.
    """
    k = near.count(t)
    if 2 * k // 3 < FEWEST:
        return {"": few(2 * k // 3)}
    return _auroc_gap(_density(t, seed), seed)


def mia_tpr(t: Tables, *, seed: int) -> Score | Undefined:
    """True-positive rate at 1 % false positives, the larger of the two attacks, minus its mean over 100 shuffles.

    Between two points of the ROC curve the rate is interpolated. Undefined under 500 others.
    """
    kept = near.kept(t, seed)
    k = int(kept.sum()) // 2
    if k < FEWEST_FOR_TPR:
        return Undefined(f"{k} attacked subjects who are no members, fewer than {FEWEST_FOR_TPR}")
    attacks = [score[kept] if len(score) > 2 * k else score for score in attack_scores(t, seed=seed).values()]
    member = np.arange(2 * k) < k
    w = attack_weights(k, seed)
    values = np.max([_tpr(a, member[None, :] * w, ~member[None, :] * w) for a in attacks], axis=0)
    who = shuffled(k, seed)
    null = np.max([_tpr(a, who, ~who) for a in attacks], axis=0)
    return Score(float(values[0] - null.mean()), resample.spread(values), 2 * k)


def attack_scores(t: Tables, *, seed: int) -> dict[str, np.ndarray]:
    """What each of the two attacks says of those it is tried on, more where it takes a subject for a member.

    "distance" (2k,) and "density" (2j,), j of the same k; the first half of each are members.
    """
    return {"distance": -_to_synth(t, seed)[:, 0], "density": _density(t, seed)}


def mir_f1(t: Tables, *, seed: int) -> Score | Undefined:
    """F1 of "member if squared distance to the nearest synth subject ≤ θ", θ learned on a held-back tenth."""
    return _mir(t, seed, lambda tp, fp, k: 2 * tp / (tp + fp + k)).get("", few(near.count(t)))


def mir_excess(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """That F1 minus the F1 of as many flags dealt at random: (TP − FP) / (flags + members)."""
    return _mir(t, seed, lambda tp, fp, k: (tp - fp) / (tp + fp + k))


def _mir(t: Tables, seed: int, value: Callable[..., np.ndarray]) -> dict[str, Score | Undefined]:
    k = near.count(t)
    if k < FEWEST:
        return {"": few(k)}
    distance, member = _to_synth(t, seed)[:, 0], np.arange(2 * k) < k
    learn = max(2, k // 10)
    rng = np.random.default_rng([seed, 10])
    tenth = np.zeros(2 * k, bool)
    for start in (0, k):
        tenth[start + rng.permutation(k)[:learn]] = True
    flagged = distance[~tenth] <= _threshold(distance[tenth], member[tenth])
    k -= learn
    w = attack_weights(k, seed).astype(float)
    yes, no = w[:, :k] @ flagged[:k], w[:, k:] @ flagged[k:]
    values = value(yes, no, k)
    dealt = shuffled(k, seed).astype(float) @ flagged
    return {
        "": Score(float(values[0]), resample.spread(values), 2 * k),
        "null": null_score(value(dealt, flagged.sum() - dealt, k), 2 * k),
    }


def _threshold(distance: np.ndarray, member: np.ndarray) -> float:
    """The distance that gives the largest excess on these subjects; -1 (flag nobody) where none gives any."""
    candidates = np.unique(distance)
    order = np.sort(distance[member]), np.sort(distance[~member])
    tp, fp = (np.searchsorted(part, candidates, side="right") for part in order)
    excess = (tp - fp) / (tp + fp + member.sum())
    best = int(np.argmax(excess))
    return float(candidates[best]) if excess[best] > 0 else -1.0


def _to_synth(t: Tables, seed: int) -> np.ndarray:
    """Squared distances of the attacked to their nearest synth subjects (2k, 5)."""
    return near.found(t, "attacked", "synth", seed)[0]


def _density(t: Tables, seed: int) -> np.ndarray:
    """The density attack's score of those it is tried on."""
    kept = near.kept(t, seed)
    reference, synth = near.found(t, "attacked", "reference", seed)[0][kept], _to_synth(t, seed)[kept]
    least = LEAST_DISTANCE * max(float(np.median(np.sqrt(reference))), 1e-9)
    k = min(reference.shape[1], synth.shape[1])
    logs = [np.log(np.maximum(np.sqrt(d[:, :k]), least)).mean(axis=1) for d in (reference, synth)]
    return logs[0] - logs[1]


def _auroc_gap(score: np.ndarray, seed: int) -> dict[str, Score | Undefined]:
    k = len(score) // 2
    member = np.arange(2 * k) < k
    gap = 2 * resample.auroc(member, score, attack_weights(k, seed)) - 1
    # AUROC under shuffled membership is a sum of ranks
    null = 2 * ((shuffled(k, seed) @ rankdata(score) - k * (k + 1) / 2) / k**2) - 1
    return {"": Score(float(gap[0]), resample.spread(gap), 2 * k), "null": null_score(null, 2 * k)}


def _tpr(score: np.ndarray, member: np.ndarray, other: np.ndarray) -> np.ndarray:
    """True-positive rate at 1 % false positives (draws,), from weights of members and of others (draws, n)."""
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(score[order]) != 0, True])
    out = []
    for yes, no in zip(member[:, order].astype(float), other[:, order].astype(float), strict=True):
        tpr, fpr = (np.r_[0.0, np.cumsum(part)[ends] / part.sum()] for part in (yes, no))
        last = np.searchsorted(fpr, FPR, side="right") - 1  # the curve is vertical up to its last point at this rate
        if fpr[last] == FPR or last + 1 == len(fpr):
            out.append(tpr[last])
        else:
            share = (FPR - fpr[last]) / (fpr[last + 1] - fpr[last])
            out.append(tpr[last] + share * (tpr[last + 1] - tpr[last]))
    return np.array(out)


# --- nearest neighbours ---


def nnaa(t: Tables, *, seed: int) -> Score | Undefined:
    """[AA(holdout, synth) − ½] − [AA(train, synth) − ½], each with as many synth as real subjects (Yale et al. 2020).

    AA(R, S) = ½ [share of R farther from S than from the rest of R + share of S farther from R than from the rest of
    S], ties half: about ½ where R and S are alike, near 0 where S copies R. A seeded sample of the larger table makes
    sizes equal, at most NNAA_ROWS subjects. Of n subjects alike, the nearest of n is S's and the nearest of n − 1 is
    R's: for ½ stands what follows from that, (n − 1) / (2 n − 1).
    """
    k, n = (min(t.n(real), t.n("synth"), NNAA_ROWS) for real in ("holdout", "train"))
    if min(k, n) < FEWEST:
        return few(min(k, n))
    held_groups, train_groups = (resample.groups(size, seed=seed) for size in (k, n))

    def value(g: int) -> float:
        held = _accuracy(t, ("holdout", k), ("synth", k), seed, held_groups == g)
        return held - _accuracy(t, ("train", n), ("synth", n), seed, train_groups == g)

    return _jackknifed(value, held_groups, k + n)


def _accuracy(t: Tables, real: near.Part, synth: near.Part, seed: int, out: np.ndarray) -> float:
    """AA of equally many real and synth subjects less its mean where they are alike; those of `out` (size,) are left
    out on both sides."""
    shares, n = [], int((~out).sum())
    for a, b in ((real, synth), (synth, real)):
        across, own = (near.nearest(t, a, x, seed, out=out) for x in (b, a))
        shares.append(_closer(own, across)[~out].mean())
    return float(np.mean(shares)) - (n - 1) / (2 * n - 1)


def dcr_share(t: Tables, *, seed: int) -> Score | Undefined:
    """Share of synth closer to k train subjects than to k holdout subjects, ties half, minus ½."""
    k = near.count(t)
    if k < FEWEST:
        return few(k)
    groups, drawn = resample.groups(k, seed=seed), resample.groups(t.n("synth"), seed=seed)

    def value(g: int) -> float:
        distances = (near.nearest(t, "synth", part, seed, out=groups == g) for part in ("members", "others"))
        return float(_closer(*distances)[drawn != g].mean() - 0.5)

    return _jackknifed(value, groups, t.n("synth"))


def _closer(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """1 where a is the smaller distance, ½ where they tie: two equal distances may be rounded to either side."""
    step = 1.5 * 10.0**-pairwise.DECIMALS
    return (a < b - step) + 0.5 * (np.abs(a - b) <= step)


def _jackknifed(value: Callable[[int], float], groups: np.ndarray, n: int) -> Score:
    """value(-1), with its error from value(g): each group of subjects left out of every part at once."""
    left = [value(g) for g in range(int(groups.max()) + 1)]
    return Score(value(-1), resample.jackknife(np.array(left)), n)


def copies(t: Tables, *, seed: int) -> Score:
    """Share of synth subjects that are found in train minus share of holdout subjects that are."""
    known = set(_keys(t, "train"))
    found = [np.array([key in known for key in _keys(t, name)]) for name in ("synth", "holdout")]
    shares = [resample.weights(len(f), seed=seed + i) @ f / len(f) for i, f in enumerate(found)]
    values = shares[0] - shares[1]
    return Score(float(values[0]), resample.spread(values), t.n("synth"))


def _keys(t: Tables, name: str) -> list[bytes]:
    """The content of each subject."""
    x = np.ascontiguousarray(t.matrix(name))
    return [row.tobytes() for row in x]


# --- shared by attacks ---


def few(k: int) -> Undefined:
    """Too few subjects for an attack."""
    return Undefined(f"{k} members and others: fewer than {FEWEST}")


def attack_weights(k: int, seed: int) -> np.ndarray:
    """Bootstrap weights of k members and k others, each drawn among themselves."""
    return np.concatenate([resample.weights(k, seed=seed), resample.weights(k, seed=seed + 1)], axis=1)


def shuffled(k: int, seed: int) -> np.ndarray:
    """Who is called a member in each shuffle (SHUFFLES, 2k) bool, k of them."""
    rng = np.random.default_rng([seed, 11])
    return rng.permuted(np.tile(np.arange(2 * k) < k, (SHUFFLES, 1)), axis=1)


def null_score(values: np.ndarray, n: int) -> Score:
    """The mean of a shuffled attack, with its spread as error."""
    return Score(float(values.mean()), float(values.std(ddof=1)), n)
