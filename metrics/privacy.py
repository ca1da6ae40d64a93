"""Privacy: what an attack achieves on members beyond what it achieves on people who were never in the data.

Members are train subjects, non-members holdout subjects, in equal numbers. Excesses are stored signed: with a synth
that is independent of train they average 0.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from metrics import Score, Undefined, pairwise, resample
from metrics.tables import Tables

KNOWN_CODES = 256
FEWEST = 20


# --- membership ---


def mia_distance(t: Tables, *, seed: int) -> Score | Undefined:
    """2·AUROC − 1 of −(distance to the nearest synth subject), members against non-members."""
    near, member = _distances(t, seed)
    if len(member) < 2 * FEWEST:
        return _few(len(member) // 2)
    gap = 2 * resample.auroc(member, -near, _attack_weights(len(member) // 2, seed)) - 1
    return Score(float(gap[0]), resample.spread(gap), len(member))


def mir_f1(t: Tables, *, seed: int) -> Score | Undefined:
    """F1 of "member if squared distance to the nearest synth subject ≤ θ", θ learned on a held-back tenth."""
    return _mir(t, seed)[0]


def mir_excess(t: Tables, *, seed: int) -> Score | Undefined:
    """That F1 minus the F1 of as many flags dealt at random: (TP − FP) / (flags + members)."""
    return _mir(t, seed)[1]


def _mir(t: Tables, seed: int) -> tuple[Score | Undefined, Score | Undefined]:
    near, member = _distances(t, seed)
    k = len(member) // 2
    if k < FEWEST:
        return _few(k), _few(k)
    tenth = np.zeros(2 * k, bool)
    learn = max(2, k // 10)
    rng = np.random.default_rng([seed, 10])
    for start in (0, k):
        tenth[start + rng.permutation(k)[:learn]] = True
    theta = _threshold(near[tenth], member[tenth])
    near, member = near[~tenth], member[~tenth]
    w = _attack_weights(k - learn, seed).astype(float)
    tp, fp = w @ ((near <= theta) & member), w @ ((near <= theta) & ~member)
    f1, excess = 2 * tp / (tp + fp + k - learn), (tp - fp) / (tp + fp + k - learn)
    n = len(member)
    return Score(float(f1[0]), resample.spread(f1), n), Score(float(excess[0]), resample.spread(excess), n)


def _threshold(near: np.ndarray, member: np.ndarray) -> float:
    """The distance that gives the largest excess on these subjects; -1 (flag nobody) where none gives any."""
    candidates = np.unique(near)
    flags = near[None, :] <= candidates[:, None]
    tp, fp = (flags & member).sum(axis=1), (flags & ~member).sum(axis=1)
    excess = (tp - fp) / (tp + fp + member.sum())
    best = int(np.argmax(excess))
    return float(candidates[best]) if excess[best] > 0 else -1.0


def _distances(t: Tables, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Squared distance to the nearest synth subject (2k,), members first, and who is a member."""

    def make() -> tuple[np.ndarray, np.ndarray]:
        members, others = _attacked(t, seed)
        rows = np.concatenate([t.matrix("train")[members], t.matrix("holdout")[others]])
        return pairwise.nearest(rows, t.matrix("synth"))[0], np.arange(len(rows)) < len(members)

    return t.once(("distances", seed), make)


def _attacked(t: Tables, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Equal numbers of train and holdout subjects: the smaller table whole, a seeded sample of the other."""
    k = min(t.n("train"), t.n("holdout"))
    rng = np.random.default_rng([seed, k])
    return tuple(np.sort(rng.permutation(t.n(name))[:k]) for name in ("train", "holdout"))  # type: ignore[return-value]


def _attack_weights(k: int, seed: int) -> np.ndarray:
    """Bootstrap weights of k members and k non-members, each drawn among themselves."""
    return np.concatenate([resample.weights(k, seed=seed), resample.weights(k, seed=seed + 1)], axis=1)


def _few(k: int) -> Undefined:
    return Undefined(f"{k} members and non-members: fewer than {FEWEST}")


# --- attributes ---


@dataclass(frozen=True)
class _Attack:
    """What the F1 needs: who is a member (2k,), tp, fp, fn (2k, attributes) bool, weight (attributes,)."""

    member: np.ndarray
    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    weight: np.ndarray


def air_excess(t: Tables, *, seed: int) -> Score | Undefined:
    """Attribute inference on train subjects minus on as many holdout subjects."""
    found = _air(t, seed)
    return found if isinstance(found, Undefined) else found[2]


def air_train(t: Tables, *, seed: int) -> Score | Undefined:
    """Attribute inference on train subjects: entropy-weighted F1 over unknown attributes."""
    found = _air(t, seed)
    return found if isinstance(found, Undefined) else found[0]


def air_holdout(t: Tables, *, seed: int) -> Score | Undefined:
    """Attribute inference on holdout subjects, who were never in the data."""
    found = _air(t, seed)
    return found if isinstance(found, Undefined) else found[1]


def _air(t: Tables, seed: int) -> tuple[Score, Score, Score] | Undefined:
    attack = t.once(("air", seed), lambda: _infer(t, seed))
    if isinstance(attack, Undefined):
        return attack
    k = int(attack.member.sum())
    draws = resample.weights(k, seed=seed), resample.weights(k, seed=seed + 1)
    on = [_weighted_f1(attack, side, w) for side, w in zip((attack.member, ~attack.member), draws, strict=True)]
    scores = [Score(float(v[0]), resample.spread(v), k) for v in on]
    excess = on[0] - on[1]
    return scores[0], scores[1], Score(float(excess[0]), resample.spread(excess), 2 * k)


def _weighted_f1(attack: _Attack, side: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Entropy-weighted F1 (1 + B,) over one side's subjects; an attribute nobody has or is said to have counts 0."""
    tp, fp, fn = (w @ part[side].astype(np.float32) for part in (attack.tp, attack.fp, attack.fn))
    f1 = 2 * tp / np.maximum(2 * tp + fp + fn, 1e-12)
    return (f1 * attack.weight).sum(axis=1)


def _infer(t: Tables, seed: int) -> _Attack | Undefined:
    """The attack: nearest synth subjects over the known columns (ties kept), their mode for each unknown attribute."""
    known, unknown = _known(t)
    if not known:
        return Undefined("the attacker knows no column")
    if not unknown:
        return Undefined("no column is unknown to the attacker")
    members, others = _attacked(t, seed)
    if len(members) < FEWEST:
        return _few(len(members))
    train, synth = t.flat("train"), t.flat("synth")
    people = pd.concat([train.iloc[members], t.flat("holdout").iloc[others]], ignore_index=True)
    weight = np.array([_entropy(train[c]) for c in unknown])
    if weight.sum() == 0:
        return Undefined("no unknown column varies in train")
    a, b, binary = _ranged(people, train, known), _ranged(synth, train, known), _binary(train, known)
    tp, fp, fn = (np.zeros((len(people), len(unknown)), bool) for _ in range(3))
    columns = [(_values(synth[c], train[c]), _values(people[c], train[c])) for c in unknown]
    flags = np.array([str(train[c].dtype) == "bool" for c in unknown])
    votes = np.column_stack([columns[j][0] for j in np.flatnonzero(flags)]).astype(np.float32) if flags.any() else None
    truth = np.column_stack([columns[j][1] for j in np.flatnonzero(flags)]).astype(bool) if flags.any() else None
    for rows, distance in pairwise.manhattan(a, b, binary):
        near = distance <= distance.min(axis=1, keepdims=True) + 1e-5
        if votes is not None and truth is not None:  # all flags at once: a mode of 0/1 is a majority, 0 where even
            yes = near.astype(np.float32) @ votes * 2 > near.sum(axis=1, keepdims=True)
            real = truth[rows]
            cells = np.ix_(np.arange(rows.start, rows.stop), np.flatnonzero(flags))
            tp[cells], fp[cells], fn[cells] = yes & real, yes & ~real, ~yes & real
        for j in np.flatnonzero(~flags):
            right = _right(_mode(near, columns[j][0]), columns[j][1][rows], train[unknown[j]])
            tp[rows, j], fp[rows, j], fn[rows, j] = right, ~right, ~right
    member = np.arange(len(people)) < len(members)
    return _Attack(member, tp, fp, fn, weight / weight.sum())


def _known(t: Tables) -> tuple[list[str], list[str]]:
    """Columns the attacker knows and does not.

    With codes: the quasi columns and train's min(256, half) most frequent codes, against all other codes and sensitive
    columns. Without: all columns that are not sensitive, against the sensitive ones (the target where none is named).
    """
    flat = t.flat("train")
    if t.shape in ("codes", "visits"):
        often = flat[t.ever].mean().sort_index().sort_values(ascending=False, kind="stable").index
        first = list(often[: min(KNOWN_CODES, len(often) // 2)])
        known = [c for c in (*t.quasi, *first) if c in flat.columns]
        return known, [
            c for c in dict.fromkeys((*t.ever, *t.sensitive, t.target)) if c in flat.columns and c not in known
        ]
    hidden = [c for c in (t.sensitive or (t.target,)) if c in flat.columns]
    return [c for c in flat.columns if c not in hidden], hidden


def _ranged(table: pd.DataFrame, train: pd.DataFrame, known: list[str]) -> np.ndarray:
    """Known columns (n, p) for city-block distances: numbers by train's range, categories one-hot / 2, gaps flagged."""
    parts = []
    for name in known:
        values, reference = table[name], train[name]
        if isinstance(reference.dtype, pd.CategoricalDtype):
            levels = list(reference.cat.categories)
            codes = pd.Index(levels).get_indexer(values.astype("object"))
            parts.append(np.eye(len(levels) + 1, dtype=np.float32)[codes] / 2)
        elif str(reference.dtype) == "bool":
            parts.append(values.to_numpy(dtype=np.float32)[:, None])
        else:
            seen = reference.dropna().to_numpy(dtype=float)
            low, high = (seen.min(), seen.max()) if len(seen) else (0.0, 1.0)
            x = values.to_numpy(dtype=float, na_value=np.nan)
            gone = np.isnan(x)
            middle = np.median(seen) if len(seen) else 0.0
            parts.append((np.where(gone, middle, x) / ((high - low) or 1.0))[:, None].astype(np.float32))
            if reference.isna().any():
                parts.append(gone[:, None].astype(np.float32))
    return np.concatenate(parts, axis=1)


def _binary(train: pd.DataFrame, known: list[str]) -> np.ndarray:
    """Which columns of `_ranged` hold 0 and 1 only."""
    marks: list[bool] = []
    for name in known:
        dtype = train[name].dtype
        if isinstance(dtype, pd.CategoricalDtype):
            marks += [False] * (len(dtype.categories) + 1)
        elif str(dtype) == "bool":
            marks.append(True)
        else:
            marks += [False] + [True] * bool(train[name].isna().any())
    return np.array(marks)


def _values(column: pd.Series, train: pd.Series) -> np.ndarray:
    """An attribute's values as numbers: 0/1, level numbers of train (-1 missing or new), or the number itself."""
    if isinstance(train.dtype, pd.CategoricalDtype):
        return pd.Index(list(train.cat.categories)).get_indexer(column.astype("object")).astype(float)
    return column.to_numpy(dtype=float, na_value=np.nan)


def _mode(near: np.ndarray, values: np.ndarray) -> np.ndarray:
    """For each row of near (rows, m) the commonest of the marked values, the smallest among equals."""
    row, column = np.nonzero(near)
    pairs = pd.DataFrame({"row": row, "value": values[column]})
    counts = pairs.groupby(["row", "value"], dropna=False).size().reset_index(name="count")
    counts = counts.sort_values(["row", "count", "value"], ascending=[True, False, True], kind="stable")
    return counts.drop_duplicates("row")["value"].to_numpy()


def _right(said: np.ndarray, true: np.ndarray, train: pd.Series) -> np.ndarray:
    """A category must be equal; a number within a tenth of the true one; a gap is right where there is one."""
    if isinstance(train.dtype, pd.CategoricalDtype):
        return said == true
    both_gone = np.isnan(said) & np.isnan(true)
    with np.errstate(invalid="ignore"):
        return both_gone | (np.abs(said - true) <= 0.1 * np.abs(true))


def _entropy(column: pd.Series) -> float:
    """Entropy in nats of a column in train; a number is cut at its deciles first."""
    if column.dtype.kind in "iuf" and column.nunique() > 10:
        column = pd.qcut(column, 10, duplicates="drop", labels=False)
    share = column.value_counts(normalize=True, dropna=False).to_numpy(dtype=float)
    share = share[share > 0]
    return float(-(share * np.log(share)).sum())
