"""Splits: disjoint subjects, stratified by the target or cut in time order."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.datasets.data import Data
from bench.datasets.law import per_subject, subjects, take
from bench.errors import BenchError

HOLDOUT = 0.2


@dataclass(frozen=True)
class Split:
    """Disjoint subjects of one table: train is what a generator sees, holdout what it never sees."""

    train: pd.DataFrame
    holdout: pd.DataFrame


def split(data: Data, *, seed: int, how: str = "random", positives: int = 0) -> Split:
    """Cut a dataset 80/20 by subject.

    how: "random" stratifies by the target and differs by seed; "time" puts the latest 20 % of subjects in the holdout,
    whatever the seed. positives: how many train keeps, drawn by the seed, 0 for all; the holdout is the same whatever
    their number. Raises BenchError where a class is too small to be in both parts, train has fewer positives, or there
    is no time order.
    """
    who = np.sort(subjects(data.table).to_numpy())
    target = per_subject(data.table, data.roles.target).loc[who].to_numpy()
    if how == "time":
        if data.order is None:
            raise BenchError(
                "split = 'time': this dataset has no time order; datasets with one: creditcard, or `order` in yours"
            )
        late = data.order.loc[who].rank(method="first").to_numpy() > round(len(who) * (1 - HOLDOUT))
        train, holdout = who[~late], who[late]
    else:
        from sklearn.model_selection import train_test_split

        if min(target.sum(), len(target) - target.sum()) < 2:
            raise BenchError(
                f"target '{data.roles.target}' has {int(target.sum())} positives of {len(target)}: too few to split"
            )
        train, holdout = train_test_split(who, test_size=HOLDOUT, stratify=target, random_state=seed)
    if positives:
        train = _fewer(train, target[np.searchsorted(who, train)], positives, seed)
    parts = Split(take(data.table, pd.Index(train)), take(data.table, pd.Index(holdout)))
    for name, part in vars(parts).items():
        if per_subject(part, data.roles.target).nunique() < 2:
            raise BenchError(
                f"target '{data.roles.target}' has one class in the {name} part: too few rows or positives"
            )
    return parts


def _fewer(train: np.ndarray, target: np.ndarray, positives: int, seed: int) -> np.ndarray:
    """Train's subjects with so many positives of theirs, drawn by the seed, and all others."""
    have = train[target]
    if len(have) < positives:
        raise BenchError(f"train_positives={positives}: train has {len(have)} positives")
    kept = np.random.default_rng(seed).permutation(np.sort(have))[:positives]
    return np.concatenate([train[~target], kept])
