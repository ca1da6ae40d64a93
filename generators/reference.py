"""Reference generators: floors, ceilings and alarms. On every board, never ranked.

`copycat` hands out train itself (the ceiling of fidelity and utility, the alarm of privacy), `marginal` draws every
column on its own (the floor of joint scores), `uniform` knows only levels and ranges (the floor of one-column scores),
and `oracle` draws afresh from a simulation's known process (the ceiling of everything).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd

from generators.base import Generator, Log, Unsupported, quiet
from generators.columns import Column, Layout, first_rows


class Copycat(Generator):
    """Train's subjects in random order, without replacement: whole passes, then a remainder."""

    def fit(
        self, train: pd.DataFrame, *, target: str | None = None, static: Sequence[str] = (),
        describe: Mapping[str, str] | None = None, seed: int, log: Log = quiet,
    ) -> Self:  # fmt: skip
        """Keep the table."""
        self.train_ = train
        return self

    def sample(self, n: int, *, given: Mapping[str, object] | None = None, seed: int) -> pd.DataFrame:
        """n of train's subjects; given a condition, of those who meet it (random oversampling)."""
        self._needs_fit("train_")
        first = first_rows(self.train_)
        held = np.ones(len(first), bool)
        for column, value in (given or {}).items():
            held &= first[column].to_numpy() == value
        who = first.index.get_level_values("subject").to_numpy()[held]
        if len(who) == 0:
            raise Unsupported(f"train has no subject with {', '.join(given or {})} as asked")
        rng = np.random.default_rng(seed)
        order = np.concatenate([rng.permutation(who) for _ in range(-(-n // len(who)))])[:n]
        return _pick(self.train_, order)


class Marginal(Generator):
    """Every column drawn on its own from train's values.

    Longitudinal: length and each static column per subject, every other cell from its column over all rows.
    """

    def fit(
        self, train: pd.DataFrame, *, target: str | None = None, static: Sequence[str] = (),
        describe: Mapping[str, str] | None = None, seed: int, log: Log = quiet,
    ) -> Self:  # fmt: skip
        """Keep each column's values, in an order of its own so that no row of train is kept."""
        self.layout_ = Layout.fit(train, static)
        rng = np.random.default_rng(seed)
        first = first_rows(train)
        self.static_ = _shuffled(first[[c.name for c in self.layout_.static]], rng)
        self.varying_ = _shuffled(train[[c.name for c in self.layout_.varying]], rng)
        self.lengths_ = rng.permutation(self.layout_.lengths(train)) if self.layout_.steps else np.zeros(0, np.int64)
        return self

    def sample(self, n: int, *, given: Mapping[str, object] | None = None, seed: int) -> pd.DataFrame:
        """n independent rows. A static column named by `given` is set: columns are independent, so that is exact."""
        self._needs_fit("layout_")
        return _independent(
            self.layout_, n, given, seed,
            static=lambda c, k, rng: self.static_[c.name].take(rng.integers(len(self.static_), size=k)),
            varying=lambda c, k, rng: self.varying_[c.name].take(rng.integers(len(self.varying_), size=k)),
            lengths=lambda k, rng: rng.choice(self.lengths_, k),
        )  # fmt: skip


class Uniform(Generator):
    """Every column on its own, uniform over its levels or its range; a gap counts as one more level, or as half."""

    def fit(
        self, train: pd.DataFrame, *, target: str | None = None, static: Sequence[str] = (),
        describe: Mapping[str, str] | None = None, seed: int, log: Log = quiet,
    ) -> Self:  # fmt: skip
        """Keep levels and ranges only."""
        self.layout_ = Layout.fit(train, static)
        return self

    def sample(self, n: int, *, given: Mapping[str, object] | None = None, seed: int) -> pd.DataFrame:
        """n independent rows. A static column named by `given` is set."""
        self._needs_fit("layout_")
        steps = self.layout_.steps
        return _independent(
            self.layout_, n, given, seed, static=_uniform, varying=_uniform,
            lengths=lambda k, rng: np.full(k, steps) if self.layout_.same_length else rng.integers(1, steps + 1, k),
        )  # fmt: skip


class Oracle(Generator):
    """A fresh draw from a simulation's known process, which the harness hands over as `redraw(n, given, seed)`."""

    def __init__(self, redraw: Callable[..., pd.DataFrame] | None = None) -> None:
        self.redraw = redraw

    def fit(
        self, train: pd.DataFrame, *, target: str | None = None, static: Sequence[str] = (),
        describe: Mapping[str, str] | None = None, seed: int, log: Log = quiet,
    ) -> Self:  # fmt: skip
        """Nothing to learn; Unsupported on data whose process is not known."""
        if self.redraw is None:
            raise Unsupported("the process behind this dataset is not known")
        self.ready_ = True
        return self

    def sample(self, n: int, *, given: Mapping[str, object] | None = None, seed: int) -> pd.DataFrame:
        """n fresh subjects from the process."""
        self._needs_fit("ready_")
        if self.redraw is None:
            raise Unsupported("the process behind this dataset is not known")
        return self.redraw(n, given, seed)


Draw = Callable[[Column, int, np.random.Generator], pd.Series]


def _independent(
    layout: Layout, n: int, given: Mapping[str, object] | None, seed: int, *, static: Draw, varying: Draw,
    lengths: Callable[[int, np.random.Generator], np.ndarray],
) -> pd.DataFrame:  # fmt: skip
    rng = np.random.default_rng(seed)
    fixed: dict[str, Any] = dict(given or {})
    long = lengths(n, rng) if layout.steps else None
    columns = {c.name: static(c, n, rng) for c in layout.static}
    for name, value in fixed.items():
        if name not in columns:
            raise Unsupported(f"a condition on '{name}', which changes within a subject")
        columns[name] = pd.Series([value] * n).astype(columns[name].dtype)
    rows = int(long.sum()) if long is not None else 0
    return layout.assemble(columns, {c.name: varying(c, rows, rng) for c in layout.varying}, long, n)


def _uniform(column: Column, n: int, rng: np.random.Generator) -> pd.Series:
    if column.kind == "bool":
        return pd.Series(rng.random(n) < 0.5)
    if column.kind == "category":
        return column.from_codes(rng.integers(0, len(column.levels) + column.missing, n))
    gone = rng.random(n) < 0.5 if column.missing else np.zeros(n, bool)
    return column.number(rng.uniform(column.low, column.high, n), gone)


def _shuffled(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return pd.DataFrame({c: table[c].array[rng.permutation(len(table))] for c in table.columns})


def _pick(table: pd.DataFrame, who: np.ndarray) -> pd.DataFrame:
    """The subjects in the given order, repeats allowed, numbered afresh."""
    if table.index.nlevels == 1:
        return _numbered(table.loc[who])
    place, subjects = pd.factorize(table.index.get_level_values("subject"))
    counts = np.bincount(place)
    starts = np.cumsum(counts) - counts
    at = pd.Index(subjects).get_indexer(who)
    rows = np.concatenate([np.arange(starts[i], starts[i] + counts[i]) for i in at])
    picked = table.iloc[rows].copy(deep=False)
    number = np.repeat(np.arange(len(at)), counts[at])
    picked.index = pd.MultiIndex.from_arrays([number, picked.index.get_level_values("time")], names=["subject", "time"])
    return picked


def _numbered(table: pd.DataFrame) -> pd.DataFrame:
    """A flat table with rows numbered 0, 1, ... (repeated subjects become different ones)."""
    table = table.copy(deep=False)
    table.index = pd.RangeIndex(len(table), name="subject")
    return table
