"""SMOTE over whole tables: new rows interpolated between neighbours of one class, by imbalanced-learn.

SMOTE where all features are numbers, SMOTEN where all are categories, SMOTENC where both occur. A longitudinal subject
is one row (its statics and its grid), so that whole aligned subjects are interpolated. A missing value is a category
of its own beside the number. New rows only: counts are asked for every class, and train's own rows are cut off.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd

from generators.base import Generator, Log, Unsupported, quiet
from generators.columns import labels
from generators.encode import Matrix


class Smote(Generator):
    """SMOTE, SMOTENC or SMOTEN, chosen by the features (Chawla et al. 2002).

    k: neighbours to interpolate towards; lowered where a class has fewer. pool: subjects per class that are
    interpolated between, a random part of train where it has more; SMOTEN takes at most 4,000, since imbalanced-learn
    holds all its distances at once. cover: share of subjects whose whole length fits the grid of a longitudinal table.
    """

    AT_SAMPLE = ("k",)

    def __init__(self, k: int = 5, pool: int = 20_000, cover: float = 0.995) -> None:
        self.k = k
        self.pool = pool
        self.cover = cover

    @classmethod
    def suggest(cls, trial: Any) -> dict[str, Any]:
        """Neighbours only."""
        return {"k": trial.suggest_int("k", 1, 20)}

    def fit(
        self, train: pd.DataFrame, *, target: str | None = None, static: Sequence[str] = (),
        describe: Mapping[str, str] | None = None, seed: int, log: Log = quiet,
    ) -> Self:  # fmt: skip
        """Keep train's subjects as features, by class."""
        rng = np.random.default_rng(seed)
        self.view_ = Matrix.fit(train, static=static, cover=self.cover, without=[target] if target else [])
        y = labels(train, target) == 1
        features = self.view_.features
        x = self.view_.transform(train)
        design = [x[:, f.start] if f.stop - f.start == 1 else x[:, f.start : f.stop].argmax(axis=1) for f in features]
        categorical = np.array([f.kind != "number" for f in features])
        pool = min(self.pool, 4_000) if categorical.all() else self.pool
        keep = [rng.permutation(np.flatnonzero(y == c))[:pool] for c in (False, True)]
        self.x_ = np.column_stack(design).astype(np.float64)[np.concatenate(keep)]
        self.y_ = y[np.concatenate(keep)]
        self.target_ = target
        self.rate_ = float(y.mean())
        self.categorical_ = categorical
        return self

    def sample(self, n: int, *, given: Mapping[str, object] | None = None, seed: int) -> pd.DataFrame:
        """n new subjects, the classes in train's proportion or as `given` asks. Unsupported for a class of one row."""
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
        new, y = self._resample({False: n - wanted, True: wanted}, int(rng.integers(2**31)))
        order = rng.permutation(n)
        held = {self.target_: pd.Series(y[order])} if self.target_ else {}
        return self.view_.inverse(self._matrix(new[order]), held=held)

    def _resample(self, wanted: dict[bool, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
        """New design rows and their classes, in blocks of one class."""
        from imblearn.over_sampling import SMOTE, SMOTEN, SMOTENC

        x, y = self.x_, self.y_
        if not self.target_:  # imbalanced-learn wants two classes: the second is a copy that is never resampled
            x, y = np.concatenate([x, x]), np.repeat([False, True], len(x))
        sizes = {c: int((y == c).sum()) for c in (False, True)}
        asked = {c: k for c, k in wanted.items() if k > 0}
        for c in asked:
            if sizes[c] < 2:
                raise Unsupported(f"class {c} has {sizes[c]} subjects in train; SMOTE needs two")
        k = min([self.k, *(sizes[c] - 1 for c in asked)])
        strategy = {c: sizes[c] + more for c, more in asked.items()}
        settings = {"sampling_strategy": strategy, "k_neighbors": k, "random_state": seed}
        if self.categorical_.all():
            sampler = SMOTEN(**settings)
        elif self.categorical_.any():
            sampler = SMOTENC(categorical_features=np.flatnonzero(self.categorical_).tolist(), **settings)
        else:
            sampler = SMOTE(**settings)
        new, labels = sampler.fit_resample(x, y)
        return np.asarray(new[len(x) :], dtype=float), np.asarray(labels[len(x) :], dtype=bool)

    def _matrix(self, design: np.ndarray) -> np.ndarray:
        """Design rows back as the view's matrix: categories one-hot again."""
        features = self.view_.features
        x = np.zeros((len(design), features[-1].stop), np.float32)
        rows = np.arange(len(design))
        for j, f in enumerate(features):
            if f.stop - f.start == 1:
                x[:, f.start] = design[:, j]
            else:
                x[rows, f.start + design[:, j].astype(int)] = 1
        return x
