"""Attribute inference (Yan et al. 2022): what the nearest synth subjects give away of people one knows something about.

The attack: over the columns the attacker knows, the nearest synth subjects by range-scaled city-block distance (ties
kept); the mode of each unknown column among them. On members and, as its control, on as many others.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from metrics import Score, Undefined, near, pairwise, resample
from metrics.privacy import FEWEST, few, null_score, shuffled
from metrics.tables import Tables, scale

KNOWN_CODES = 256
TOLERANCE = 0.1  # of train's IQR: a guessed number that is no farther from the true one is right


@dataclass(frozen=True)
class Guessed:
    """Of people and attributes (n, attributes) bool: right about a positive, wrong about a negative, missed.

    weight (attributes,): entropy in train over its sum. A category or number that is guessed wrong is both wrong and
    missed.
    """

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    weight: np.ndarray

    def f1(self, who: np.ndarray | slice, w: np.ndarray) -> np.ndarray:
        """Weighted F1 (draws,) over some people, weights w (draws, people); one with no tp, fp, fn counts 0."""
        tp, fp, fn = (w @ part[who].astype(np.float32) for part in (self.tp, self.fp, self.fn))
        return (2 * tp / np.maximum(2 * tp + fp + fn, 1e-12) * self.weight).sum(axis=1)


def air_excess(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """Attribute inference on train subjects minus on as many holdout subjects."""
    found = _air(t, seed)
    if isinstance(found, Undefined):
        return {"": found}
    guessed, train, held = found
    k = len(guessed.tp) // 2
    who = shuffled(k, seed).astype(np.float32)
    null = guessed.f1(slice(None), who) - guessed.f1(slice(None), 1 - who)
    excess = train - held
    return {"": Score(float(excess[0]), resample.spread(excess), 2 * k), "null": null_score(null, 2 * k)}


def air_train(t: Tables, *, seed: int) -> Score | Undefined:
    """Attribute inference on train subjects: entropy-weighted F1 over unknown attributes."""
    found = _air(t, seed)
    return (
        found if isinstance(found, Undefined) else Score(float(found[1][0]), resample.spread(found[1]), near.count(t))
    )


def air_holdout(t: Tables, *, seed: int) -> Score | Undefined:
    """Attribute inference on holdout subjects, who were never in the data."""
    found = _air(t, seed)
    return (
        found if isinstance(found, Undefined) else Score(float(found[2][0]), resample.spread(found[2]), near.count(t))
    )


def _air(t: Tables, seed: int) -> tuple[Guessed, np.ndarray, np.ndarray] | Undefined:
    """What was guessed of members and others, and the F1 on either under bootstrap weights (1 + B,)."""

    def make() -> tuple[Guessed, np.ndarray, np.ndarray] | Undefined:
        k = near.count(t)
        if k < FEWEST:
            return few(k)
        people = [t.flat(name).iloc[near.picked(t, name, k, seed)] for name in ("train", "holdout")]
        found = guess(t, pd.concat(people, ignore_index=True))
        if isinstance(found, Undefined):
            return found
        w = [resample.weights(k, seed=seed + i) for i in range(2)]
        return found, found.f1(slice(k), w[0]), found.f1(slice(k, None), w[1])

    return t.once(("air", seed), make)


def guess(t: Tables, people: pd.DataFrame) -> Guessed | Undefined:
    """The attack on some people: nearest synth subjects over the known columns, their mode for each unknown one."""
    known, unknown = _known(t)
    if not known:
        return Undefined("the attacker knows no column")
    if not unknown:
        return Undefined("no column is unknown to the attacker")
    train, synth = t.flat("train"), t.flat("synth")
    weight = np.array([_entropy(train[c]) for c in unknown])
    if weight.sum() == 0:
        return Undefined("no unknown column varies in train")
    a, b, heights = _ranged(people, train, known), _ranged(synth, train, known), _heights(train, known)
    flags = np.array([str(train[c].dtype) == "bool" for c in unknown])
    yes_no = [c for c, flag in zip(unknown, flags, strict=True) if flag]
    votes, truth = synth[yes_no].to_numpy(dtype=np.float32), people[yes_no].to_numpy(dtype=bool)
    others = [(j, _values(synth[c], train[c]), _values(people[c], train[c])) for j, c in enumerate(unknown)
              if not flags[j]]  # fmt: skip
    tp, fp, fn = (np.zeros((len(people), len(unknown)), bool) for _ in range(3))
    for rows, distance in pairwise.manhattan(a, b, heights):
        nearest = csr_array(distance <= distance.min(axis=1, keepdims=True) + 1e-5, dtype=np.float32)
        # all flags at once: the mode of 0 and 1 is the majority, 0 where even
        yes, real = 2 * (nearest @ votes) > nearest.sum(axis=1)[:, None], truth[rows]
        tp[rows, flags], fp[rows, flags], fn[rows, flags] = yes & real, yes & ~real, ~yes & real
        for j, drawn, true in others:
            right = _right(_mode(nearest, drawn), true[rows], train[unknown[j]])
            tp[rows, j], fp[rows, j], fn[rows, j] = right, ~right, ~right
    return Guessed(tp, fp, fn, weight / weight.sum())


def _known(t: Tables) -> tuple[list[str], list[str]]:
    """Columns the attacker knows and does not.

    With codes: the quasi columns and train's min(256, half) most frequent codes, against all other codes and sensitive
    columns. Without: all columns that are not sensitive, against the sensitive ones (the target where none is named).
    """
    flat = t.flat("train")
    if t.shape in ("codes", "visits"):
        often = flat[t.ever].mean().sort_values(ascending=False, kind="stable").index
        first = list(often[: min(KNOWN_CODES, len(often) // 2)])
        known = [c for c in (*t.quasi, *first) if c in flat.columns]
        return known, [
            c for c in dict.fromkeys((*t.ever, *t.sensitive, t.target)) if c in flat.columns and c not in known
        ]
    hidden = [c for c in (t.sensitive or (t.target,)) if c in flat.columns]
    return [c for c in flat.columns if c not in hidden], hidden


def _ranged(table: pd.DataFrame, train: pd.DataFrame, known: list[str]) -> np.ndarray:
    """Known columns (n, p) for city-block distances: numbers less train's median over its range, categories
    one-hot / 2, gaps flagged."""
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
            x = np.where(gone, 0.0, (x - middle) / ((high - low) or 1.0))
            parts.append(x[:, None].astype(np.float32))
            if reference.isna().any():
                parts.append(gone[:, None].astype(np.float32))
    return np.concatenate(parts, axis=1)


def _heights(train: pd.DataFrame, known: list[str]) -> np.ndarray:
    """Of each column of `_ranged` that holds two values, 0 and another, the other; 0 for numbers."""
    found: list[float] = []
    for name in known:
        dtype = train[name].dtype
        if isinstance(dtype, pd.CategoricalDtype):
            found += [0.5] * (len(dtype.categories) + 1)
        elif str(dtype) == "bool":
            found.append(1)
        else:
            found += [0, *[1] * bool(train[name].isna().any())]
    return np.array(found, dtype=np.float32)


def _values(column: pd.Series, train: pd.Series) -> np.ndarray:
    """An attribute's values as numbers: 0/1, level numbers of train (-1 missing or new), or the number itself."""
    if isinstance(train.dtype, pd.CategoricalDtype):
        return pd.Index(list(train.cat.categories)).get_indexer(column.astype("object")).astype(float)
    return column.to_numpy(dtype=float, na_value=np.nan)


def _mode(nearest: csr_array, values: np.ndarray) -> np.ndarray:
    """For each row of nearest (rows, m) the commonest of the marked values, the smallest among equals."""
    row, column = nearest.nonzero()
    pairs = pd.DataFrame({"row": row, "value": values[column]})
    counts = pairs.groupby(["row", "value"], dropna=False).size().reset_index(name="count")
    counts = counts.sort_values(["row", "count", "value"], ascending=[True, False, True], kind="stable")
    return counts.drop_duplicates("row")["value"].to_numpy()


def _right(said: np.ndarray, true: np.ndarray, train: pd.Series) -> np.ndarray:
    """Whether guesses are right: a category is equal, a number within a tenth of train's IQR (else sd, else 1), a gap
    guessed where there is one.

    A tolerance relative to the value itself would depend on where the column has its zero.
    """
    if isinstance(train.dtype, pd.CategoricalDtype):
        return said == true
    both_gone = np.isnan(said) & np.isnan(true)
    seen = train.dropna().to_numpy(dtype=float)
    tolerance = TOLERANCE * (scale(seen)[1] if len(seen) else 1.0)
    with np.errstate(invalid="ignore"):
        return both_gone | (np.abs(said - true) <= tolerance)


def _entropy(column: pd.Series) -> float:
    """Entropy in nats of a column in train; a number is cut at its deciles first."""
    if column.dtype.kind in "iuf" and column.nunique() > 10:
        column = pd.qcut(column, 10, duplicates="drop", labels=False)
    share = column.value_counts(normalize=True, dropna=False).to_numpy(dtype=float)
    share = share[share > 0]
    return float(-(share * np.log(share)).sum())
