"""The contract of a generator: table in, table out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from generators import state

Log = Callable[..., None]


class NotFitted(RuntimeError):
    """sample or save was asked of a generator that has not been fitted."""


class Unsupported(RuntimeError):
    """A combination that truly cannot work; the reason becomes a visible row of the board."""


class StopFit(Exception):
    """Raised by `log` to end a fit early; the generator keeps what it has learned so far."""


def quiet(step: int, **values: float) -> None:
    """A `log` that says nothing."""


class Generator(ABC):
    """Learns a table and draws new ones that obey the same law (see bench/datasets/law.py).

    The constructor only stores keyword hyperparameters, each under its own name; what `fit` learns ends in "_".
    A subclass needs `fit` and `sample`; saving, loading and conditions by rejection come from here.

    AT_SAMPLE: constructor parameters that `fit` never reads and `load` leaves alone, such as a guidance scale or the
    steps of a sampler. Cells that differ only in them share one fit.
    """

    AT_SAMPLE: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def fit(
        self,
        train: pd.DataFrame,
        *,
        target: str | None = None,
        static: Sequence[str] = (),
        describe: Mapping[str, str] | None = None,
        seed: int,
        log: Log = quiet,
    ) -> Self:
        """Learn a table.

        train: a lawful table, never changed. target: a bool column with one value per subject. static: columns that
        are constant within a subject (longitudinal tables). describe: column -> text. seed: fixes all randomness.
        log(step, **values) reports progress and may raise StopFit.
        """

    @abstractmethod
    def sample(self, n: int, *, given: Mapping[str, object] | None = None, seed: int) -> pd.DataFrame:
        """Draw n subjects, numbered 0 to n - 1, with train's columns, dtypes and index names.

        given: column -> value that every subject must have, the target as a rule. Raises NotFitted before fit and
        Unsupported where the condition cannot be met; `self.reject` is the plain way to meet one.
        """

    @classmethod
    def suggest(cls, trial: Any) -> dict[str, Any]:
        """The tuning space in Optuna's trial vocabulary; each name is a constructor parameter. Empty: not tuned."""
        return {}

    def reject(self, n: int, given: Mapping[str, object], *, seed: int, draws: int = 50) -> pd.DataFrame:
        """n subjects that satisfy `given`, picked from at most `draws` unconditional samples of at least n subjects."""
        return reject(lambda k, s: self.sample(k, seed=s), n, given, seed=seed, draws=draws)

    def save(self, folder: Path) -> None:
        """Write parameters and learned state: JSON, safetensors for arrays, parquet for tables; never pickle."""
        learned = self._learned()
        if not learned:
            raise NotFitted(f"{type(self).__name__} has not been fitted")
        state.write(folder, {"params": self._params(), "learned": learned})

    def load(self, folder: Path) -> Self:
        """Take over the learned state written by `save`; sampling then equals sampling before."""
        saved = state.read(folder)
        for name, value in saved["learned"].items():
            setattr(self, name, value)
        return self

    def _learned(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k.endswith("_") and not k.startswith("_")}

    def _params(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if not k.endswith("_") and isinstance(v, state.PLAIN)}

    def _needs_fit(self, name: str) -> None:
        if not hasattr(self, name):
            raise NotFitted(f"{type(self).__name__} has not been fitted")


def reject(
    draw: Callable[[int, int], pd.DataFrame], n: int, given: Mapping[str, object], *, seed: int, draws: int = 50
) -> pd.DataFrame:
    """n subjects of draw(k, seed) that satisfy `given`. Raises Unsupported where `draws` batches do not hold them."""
    kept: list[pd.DataFrame] = []
    have, drawn = 0, 0
    for batch_seed in np.random.SeedSequence(seed).generate_state(draws):
        table = draw(max(n, 500), int(batch_seed))
        drawn += max(n, 500)
        longitudinal = table.index.nlevels == 2
        first = table[table.index.get_level_values("time") == 0] if longitudinal else table
        held = np.ones(len(first), bool)
        for column, value in given.items():
            held &= first[column].to_numpy() == value
        who = first.index.get_level_values("subject")[held][: n - have]
        kept.append(renumber(table[table.index.get_level_values("subject").isin(who)], start=have))
        have += len(who)
        if have == n:
            return pd.concat(kept)
    raise Unsupported(f"found {have} of {n} subjects with {', '.join(given)} as asked in {drawn} draws")


def classes(
    n: int, rate: float, target: str | None, given: Mapping[str, object], rng: np.random.Generator
) -> np.ndarray:
    """Classes (n,) int64 in random order, a share `rate` of them 1; all of one class where the target is given.

    Raises Unsupported for a class that train does not have.
    """
    y = (rng.permutation(n) < round(n * rate)).astype(np.int64)
    if given:
        y[:] = bool(given[str(target)])
        if n and rate == 1 - y[0]:
            raise Unsupported(f"train has no subject with {target} = {bool(y[0])}")
    return y


def renumber(table: pd.DataFrame, *, start: int = 0) -> pd.DataFrame:
    """The table with subjects numbered start, start + 1, ... in the order they come."""
    number, _ = pd.factorize(table.index.get_level_values("subject"))
    table = table.copy(deep=False)
    if table.index.nlevels == 2:
        time = table.index.get_level_values("time")
        table.index = pd.MultiIndex.from_arrays([number + start, time], names=["subject", "time"])
    else:
        table.index = pd.Index(number + start, name="subject")
    return table
