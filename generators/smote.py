"""SMOTE and its variants over whole tables, by imbalanced-learn: new rows between neighbours of one class.

`sample` draws every class; `given` the target, one class, as its authors augment a rare one. A longitudinal subject is
one row (its statics and its grid), so that whole aligned subjects are interpolated. A missing value is a category of
its own beside the number. No row of train is handed on: what is new is cut off from what imbalanced-learn gives back
(that a new row may still equal one of train, of categories above all, is for the privacy metrics to see).
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd

from generators.base import Generator, Log, Unsupported, quiet
from generators.columns import labels
from generators.encode import Feature, Matrix

SMALL = 4_000  # subjects per class where time or memory grows with their square: SMOTEN, and the machine of "svm"
BORDER = ("borderline", "svm", "adasyn", "kmeans")
VARIANTS = ("auto", "smote", "smotenc", "smoten", *BORDER)
AGAIN = 10  # calls, for variants that give a few rows more or less than asked

_say = logging.getLogger(__name__).warning


class Smote(Generator):
    """Synthetic minority over-sampling (Chawla et al. 2002, doi:10.1613/jair.953), for every class.

    variant: "auto" takes SMOTE where all features are numbers, SMOTEN where all are categories, SMOTENC where both
    occur; each may be asked for by name. "borderline" (Han et al. 2005, doi:10.1007/11538059_91), "svm" (Nguyen et al.
    2011, doi:10.1504/IJKESDP.2011.039875), "adasyn" (He et al. 2008, doi:10.1109/IJCNN.2008.4633969) and "kmeans" (Last
    et al. 2017, arXiv:1711.00837) start from subjects near the other class, or from clusters where theirs is at least
    as common as in train; these, and "smote", interpolate categories as flags of which the largest wins. Where they
    find none to start from, plain SMOTE takes their place, and a log says so.

    k: neighbours to interpolate towards, lowered (and said so) where a class has fewer. m: neighbours that tell how
    near the other class is ("borderline", "svm"). clusters: of "kmeans". pool: subjects per class that are interpolated
    between, a random part of train where it has more. cover: share of subjects whose whole length fits the grid of a
    longitudinal table.
    """

    AT_SAMPLE = ("k", "variant", "m", "clusters")

    def __init__(
        self, k: int = 5, variant: str = "auto", m: int = 10, clusters: int = 8, pool: int = 20_000,
        cover: float = 0.995,
    ) -> None:  # fmt: skip
        if variant not in VARIANTS:
            raise ValueError(f"variant = '{variant}': known are {', '.join(VARIANTS)}")
        self.k = k
        self.variant = variant
        self.m = m
        self.clusters = clusters
        self.pool = pool
        self.cover = cover

    @classmethod
    def suggest(cls, trial: Any) -> dict[str, Any]:
        """Neighbours, and where to start from."""
        return {
            "k": trial.suggest_int("k", 1, 20),
            "variant": trial.suggest_categorical("variant", ["auto", "borderline", "svm", "adasyn", "kmeans"]),
        }

    def fit(
        self, train: pd.DataFrame, *, target: str | None = None, static: Sequence[str] = (),
        describe: Mapping[str, str] | None = None, seed: int, log: Log = quiet,
    ) -> Self:  # fmt: skip
        """Keep train's subjects as features, by class, in random order."""
        rng = np.random.default_rng(seed)
        self.view_ = Matrix.fit(train, static=static, cover=self.cover, without=[target] if target else [])
        y = labels(train, target) == 1
        keep = np.concatenate([rng.permutation(np.flatnonzero(y == c))[: self.pool] for c in (False, True)])
        self.x_, self.y_ = self.view_.transform(train)[keep], y[keep]
        self.target_ = target
        self.rate_ = float(y.mean())
        return self

    def sample(self, n: int, *, given: Mapping[str, object] | None = None, seed: int) -> pd.DataFrame:
        """n new subjects, the classes in train's proportion or as `given` asks.

        Raises Unsupported for a class of fewer than two subjects, and where a variant asked for by name does not suit
        the table's features.
        """
        self._needs_fit("x_")
        given = dict(given or {})
        wanted = round(n * self.rate_)
        if self.target_ in given:
            wanted = n if given.pop(self.target_) else 0
            if given:
                return self.reject(n, {self.target_: bool(wanted), **given}, seed=seed)
        elif given:
            return self.reject(n, given, seed=seed)
        rng = np.random.default_rng(seed)
        parts = [self._new(c, k, rng) for c, k in ((False, n - wanted), (True, wanted))]
        order = rng.permutation(n)
        held = {self.target_: pd.Series(np.arange(n)[order] >= n - wanted)} if self.target_ else {}
        return self.view_.inverse(np.concatenate(parts)[order], held=held)

    def _new(self, label: bool, n: int, rng: np.random.Generator) -> np.ndarray:
        """n new rows (n, p) of a class, as the view's matrix."""
        if n == 0:
            return np.zeros((0, self.x_.shape[1]), np.float32)
        features = self.view_.features
        categorical = np.array([f.kind != "number" for f in features])
        variant = self._chosen(categorical)
        x, y = self.x_, self.y_
        if variant in ("smoten", "svm"):
            keep = np.concatenate([np.flatnonzero(y == c)[:SMALL] for c in (False, True)])
            x, y = x[keep], y[keep]
        size = int((y == label).sum())
        if size < 2:
            raise Unsupported(f"class {label} has {size} subjects in train; SMOTE needs two")
        if size <= self.k:
            _say("class %s has %d subjects: %d neighbours instead of %d", label, size, size - 1, self.k)
        k = min(self.k, size - 1)
        if variant in BORDER and self.target_:
            found = self._from_the_border(variant, x, y, label, n, k, rng)
            if found is not None:
                return found
        coded = variant in ("smotenc", "smoten")
        design = _coded(x, features) if coded else x
        if not self.target_:  # imbalanced-learn wants two classes: the second is a copy that is never resampled
            design, y = np.concatenate([design, design]), np.repeat([False, True], len(x))
        sampler = _sampler(variant if coded else "smote", categorical, k)
        new = _resampled(sampler, design, y, label, n, rng)
        return _matrix(new, features) if coded else new.astype(np.float32)

    def _chosen(self, categorical: np.ndarray) -> str:
        """The variant for features that are categorical or not (d,). Unsupported for one that they do not suit."""
        if self.variant == "auto":
            return "smoten" if categorical.all() else "smotenc" if categorical.any() else "smote"
        if self.variant == "smoten" and not categorical.all():
            raise Unsupported(f"variant 'smoten' takes categories only; {(~categorical).sum()} features are numbers")
        if self.variant == "smotenc" and (categorical.all() or not categorical.any()):
            kind = "categories" if categorical.all() else "numbers"
            raise Unsupported(f"variant 'smotenc' takes categories and numbers; all features are {kind}")
        return self.variant

    def _from_the_border(
        self, variant: str, x: np.ndarray, y: np.ndarray, label: bool, n: int, k: int, rng: np.random.Generator
    ) -> np.ndarray | None:  # fmt: skip
        """n new rows of a class by a variant of BORDER; None where it finds no subject to start from, which is said."""
        size, m = int((y == label).sum()), min(self.m, len(y) - 1)
        share = size / len(y)
        sampler = _sampler(variant, np.zeros(0, bool), k, m=m, clusters=min(self.clusters, len(y)), share=share)
        parts, have = list[np.ndarray](), 0
        for _ in range(AGAIN):
            try:
                # ADASYN rounds each subject's part down, so that of a few rows none would be left
                new = _resampled(sampler, x, y, label, max(n - have, size), rng)
            except (ValueError, RuntimeError) as error:
                reason = str(error).partition(".")[0]
                _say("variant '%s' gives way to plain SMOTE in class %s: %s", variant, label, reason)
                return None
            parts.append(rng.permutation(new)[: n - have])
            have += len(parts[-1])
            if have == n:
                return np.concatenate(parts).astype(np.float32)
            if len(new) == 0:
                break
        _say("variant '%s' gives way to plain SMOTE in class %s: it found none to start from", variant, label)
        return None


def _sampler(
    variant: str, categorical: np.ndarray, k: int, *, m: int = 10, clusters: int = 8, share: float = 0.0
) -> Any:  # fmt: skip
    """imbalanced-learn's sampler of a variant. share: of the class, for "kmeans"."""
    from imblearn.over_sampling import ADASYN, SMOTE, SMOTEN, SMOTENC, SVMSMOTE, BorderlineSMOTE, KMeansSMOTE

    if variant == "borderline":
        return BorderlineSMOTE(k_neighbors=k, m_neighbors=m)
    if variant == "svm":
        return SVMSMOTE(k_neighbors=k, m_neighbors=m)
    if variant == "adasyn":
        return ADASYN(n_neighbors=k)
    if variant == "kmeans":
        return KMeansSMOTE(k_neighbors=k, kmeans_estimator=clusters, cluster_balance_threshold=share)
    if variant == "smotenc":
        return SMOTENC(categorical_features=np.flatnonzero(categorical).tolist(), k_neighbors=k)
    return SMOTEN(k_neighbors=k) if variant == "smoten" else SMOTE(k_neighbors=k)


def _resampled(sampler: Any, x: np.ndarray, y: np.ndarray, label: bool, n: int, rng: np.random.Generator) -> np.ndarray:
    """About n new rows of a class from design rows x (m, d) of classes y (m,)."""
    strategy = {label: int((y == label).sum()) + n}
    sampler.set_params(sampling_strategy=strategy, random_state=int(rng.integers(2**31)))
    return np.asarray(sampler.fit_resample(x.astype(np.float64), y)[0][len(x) :], dtype=float)


def _coded(x: np.ndarray, features: Sequence[Feature]) -> np.ndarray:
    """Matrix rows (n, p) with one number a feature (n, d): a category's level."""
    one = [x[:, f.start] if f.stop - f.start == 1 else x[:, f.start : f.stop].argmax(axis=1) for f in features]
    return np.column_stack(one)


def _matrix(design: np.ndarray, features: Sequence[Feature]) -> np.ndarray:
    """What `_coded` gave, back as matrix rows: categories one-hot again."""
    x = np.zeros((len(design), features[-1].stop), np.float32)
    rows = np.arange(len(design))
    for j, f in enumerate(features):
        if f.stop - f.start == 1:
            x[:, f.start] = design[:, j]
        else:
            x[rows, f.start + design[:, j].astype(int)] = 1
    return x
