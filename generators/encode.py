"""Fitted, invertible views of a table: matrix, tokens, series. Whatever a generator's native view, any shape has it.

A view is fitted on train and turns subjects into arrays and back. Missing values are carried (a flag beside a number, a
level of its own in a category or token), a number's decimals are kept, and a view inverts exactly on its support
(numbers up to float32, numeric tokens inside their bin).

A longitudinal table becomes static columns plus a grid: subject i's row at time t goes to cell (i, t); cells past a
subject's last row are zero. Where lengths differ, the length is one more static feature, and it alone decides how many
rows come back. `cover` < 1 cuts the grid to the length that this share of subjects fits into.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

from generators.columns import Column, Layout, first_rows


@dataclass(frozen=True)
class Feature:
    """One feature, or the one-hot group, of a matrix: columns start to stop.

    kind: "binary", "onehot" or "number"; a model may add what is no column of a table ("count" in autoencoder.py).
    """

    start: int
    stop: int
    kind: str
    column: str


@dataclass(frozen=True)
class Series:
    """Subjects as a grid (n, l, c) float32 and static features (n, s) float32.

    Channels are the encoded varying columns, one missing flag per number that has gaps. The last static feature is the
    length as a share of l, where lengths differ. A flat table's features are the length axis: (n, p, 1) and (n, 0).
    """

    layout: Layout
    without: tuple[str, ...] = ()

    @classmethod
    def fit(
        cls, table: pd.DataFrame, *, static: Sequence[str] = (), scale: str = "standard", cover: float = 1.0,
        without: Sequence[str] = (),
    ) -> Self:  # fmt: skip
        """Fit on train. without: static columns that `transform` leaves out and `inverse` is handed."""
        return cls(Layout.fit(table, static, scale, cover), tuple(without))

    @property
    def static(self) -> list[Column]:
        """The static columns the view encodes."""
        return [c for c in self.layout.static if c.name not in self.without]

    def transform(self, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Grid and static features of a table's subjects, in the order they come."""
        first = first_rows(table)
        static = _stack([c.encode(first[c.name]) for c in self.static], len(first))
        if self.layout.steps == 0:
            return static[:, :, None], np.zeros((len(first), 0), np.float32)
        if not self.layout.same_length:
            share = self.layout.lengths(table) / self.layout.steps
            static = np.column_stack([static, share.astype(np.float32)])
        place, step = self.layout.cells(table)
        inside = step < self.layout.steps
        rows = _stack([c.encode(table[c.name]) for c in self.layout.varying], len(table))
        grid = np.zeros((len(first), self.layout.steps, rows.shape[1]), np.float32)
        grid[place[inside], step[inside]] = rows[inside]
        return grid, static

    def inverse(
        self, grid: np.ndarray, static: np.ndarray, *, held: Mapping[str, pd.Series] | None = None
    ) -> pd.DataFrame:
        """The table of a grid and static features. held: the columns named by `without`, one value a subject."""
        n = len(grid)
        features = grid[:, :, 0] if self.layout.steps == 0 else static
        columns = {name: values.reset_index(drop=True) for name, values in (held or {}).items()}
        at = 0
        for column in self.static:
            columns[column.name] = column.decode(features[:, at : at + column.width])
            at += column.width
        if self.layout.steps == 0:
            return self.layout.assemble(columns, {}, None, n)
        steps = self.layout.steps
        lengths = np.full(n, steps)
        if not self.layout.same_length:
            lengths = np.clip(np.round(features[:, at] * steps), 1, steps).astype(int)
        rows = grid[np.arange(steps) < lengths[:, None]]  # (sum of lengths, c)
        varying, at = {}, 0
        for column in self.layout.varying:
            varying[column.name] = column.decode(rows[:, at : at + column.width])
            at += column.width
        return self.layout.assemble(columns, varying, lengths, n)


@dataclass(frozen=True)
class Matrix:
    """Subjects as rows of one matrix (n, p) float32: static features, then the grid of a longitudinal table."""

    series: Series

    @classmethod
    def fit(
        cls, table: pd.DataFrame, *, static: Sequence[str] = (), scale: str = "standard", cover: float = 1.0,
        without: Sequence[str] = (),
    ) -> Self:  # fmt: skip
        """Fit on train; arguments as in Series.fit."""
        return cls(Series.fit(table, static=static, scale=scale, cover=cover, without=without))

    def transform(self, table: pd.DataFrame) -> np.ndarray:
        """The matrix of a table's subjects, in the order they come."""
        grid, static = self.series.transform(table)
        return np.concatenate([static, grid.reshape(len(grid), -1)], axis=1)

    def inverse(self, x: np.ndarray, *, held: Mapping[str, pd.Series] | None = None) -> pd.DataFrame:
        """The table of a matrix."""
        layout = self.series.layout
        if layout.steps == 0:
            return self.series.inverse(x[:, :, None], x[:, :0], held=held)
        at = x.shape[1] - layout.steps * sum(c.width for c in layout.varying)
        return self.series.inverse(x[:, at:].reshape(len(x), layout.steps, -1), x[:, :at], held=held)

    @property
    def features(self) -> list[Feature]:
        """What the columns of the matrix are, left to right."""
        layout, found = self.series.layout, list[Feature]()

        def add(columns: Sequence[Column]) -> None:
            for c in columns:
                at = found[-1].stop if found else 0
                if c.kind == "number":
                    found.append(Feature(at, at + 1, "number", c.name))
                    if c.missing:
                        found.append(Feature(at + 1, at + 2, "binary", c.name))
                else:
                    found.append(Feature(at, at + c.width, "binary" if c.kind == "bool" else "onehot", c.name))

        add(self.series.static)
        if layout.steps and not layout.same_length:
            at = found[-1].stop if found else 0
            found.append(Feature(at, at + 1, "number", "length"))
        for _ in range(layout.steps):
            add(layout.varying)
        return found


@dataclass(frozen=True)
class Bins:
    """How one column's values become tokens 0..k-1; `edges` of a number's bins, or its few values themselves."""

    column: Column
    k: int
    edges: np.ndarray
    exact: bool

    @classmethod
    def fit(cls, values: pd.Series, bins: int) -> Self:
        """Read a column; a number with at most `bins` different values keeps each as its own token."""
        column = Column.fit(values)
        none = np.zeros(0)
        if column.kind == "bool":
            return cls(column, 2, none, True)
        if column.kind == "category":
            return cls(column, max(len(column.levels) + column.missing, 1), none, True)
        x = values.dropna().to_numpy(dtype=float)
        unique = np.unique(x)
        if len(unique) <= bins:
            return cls(column, max(len(unique), 1) + column.missing, unique, True)
        starts = np.unique(np.quantile(x, np.linspace(0, 1, bins + 1)[:-1], method="lower"))
        half = 0.5 * 10.0**-column.decimals if column.decimals >= 0 else 0.0  # rounding must not leave the bin
        edges = np.append(starts - half, column.high + half)
        return cls(column, len(starts) + column.missing, edges, False)

    def encode(self, values: pd.Series) -> np.ndarray:
        """Values (n,) as tokens (n,) int64; the last token of a column with gaps is the gap."""
        if self.column.kind == "bool":
            return values.to_numpy(dtype=bool).astype(np.int64)
        if self.column.kind == "category":
            return self.column._codes(values)
        x = values.to_numpy(dtype=float, na_value=np.nan)
        last = self.k - 1 - self.column.missing
        if self.exact:
            token = np.abs(x[:, None] - self.edges).argmin(axis=1) if len(self.edges) else np.zeros(len(x), int)
        else:
            token = np.searchsorted(self.edges, x, side="right") - 1
        return np.where(np.isnan(x), self.k - 1, np.clip(token, 0, last)).astype(np.int64)

    def decode(self, token: np.ndarray, rng: np.random.Generator) -> pd.Series:
        """Tokens (n,) as a column of train's dtype; a number falls uniformly inside its bin."""
        if self.column.kind == "bool":
            return pd.Series(token == 1)
        if self.column.kind == "category":
            return self.column.from_codes(token)
        gone = (token == self.k - 1) if self.column.missing else np.zeros(len(token), bool)
        if len(self.edges) == 0:
            return self.column.number(np.full(len(token), self.column.center), gone)
        if self.exact:
            return self.column.number(self.edges[np.clip(token, 0, len(self.edges) - 1)], gone)
        at = np.clip(token, 0, len(self.edges) - 2)
        x = self.edges[at] + rng.random(len(token)) * (self.edges[at + 1] - self.edges[at])
        return self.column.number(x, gone)


@dataclass(frozen=True)
class Tokens:
    """Subjects as rows of tokens (n, d) int64: static columns, the length where lengths differ, then the grid.

    `sizes` (d,) says how many values each place can take. Cells past a subject's last row hold one more, "absent".
    """

    layout: Layout
    static: tuple[Bins, ...]
    varying: tuple[Bins, ...]

    @classmethod
    def fit(cls, table: pd.DataFrame, *, static: Sequence[str] = (), bins: int = 32, cover: float = 1.0) -> Self:
        """Fit on train; numbers with more than `bins` values are cut at their quantiles."""
        layout, first = Layout.fit(table, static, cover=cover), first_rows(table)
        return cls(
            layout,
            tuple(Bins.fit(first[c.name], bins) for c in layout.static),
            tuple(Bins.fit(table[c.name], bins) for c in layout.varying),
        )

    @property
    def sizes(self) -> np.ndarray:
        """Values of each place (d,)."""
        same, steps = self.layout.same_length, self.layout.steps
        front = [b.k for b in self.static] + ([] if same else [steps])
        return np.array(front + [b.k + (not same) for b in self.varying] * steps, dtype=np.int64)

    def transform(self, table: pd.DataFrame) -> np.ndarray:
        """The tokens of a table's subjects, in the order they come."""
        first, steps = first_rows(table), self.layout.steps
        front = [b.encode(first[b.column.name])[:, None] for b in self.static]
        if steps == 0:
            return np.concatenate(front, axis=1)
        if not self.layout.same_length:
            front.append(self.layout.lengths(table)[:, None] - 1)
        place, step = self.layout.cells(table)
        inside = step < steps
        grid = np.tile(np.array([b.k for b in self.varying], dtype=np.int64), (len(first), steps, 1))  # all absent
        grid[place[inside], step[inside]] = np.column_stack([b.encode(table[b.column.name]) for b in self.varying])[
            inside
        ]
        return np.concatenate([*front, grid.reshape(len(first), -1)], axis=1)

    def inverse(self, tokens: np.ndarray, *, seed: int) -> pd.DataFrame:
        """The table of a token matrix. "Absent" inside a subject's length counts as the column's first token."""
        rng, n, steps = np.random.default_rng(seed), len(tokens), self.layout.steps
        static = {b.column.name: b.decode(tokens[:, i], rng) for i, b in enumerate(self.static)}
        if steps == 0:
            return self.layout.assemble(static, {}, None, n)
        at = len(self.static) + (not self.layout.same_length)
        lengths = np.full(n, steps) if self.layout.same_length else np.clip(tokens[:, at - 1] + 1, 1, steps)
        rows = tokens[:, at:].reshape(n, steps, -1)[np.arange(steps) < lengths[:, None]]
        varying = {}
        for j, b in enumerate(self.varying):
            varying[b.column.name] = b.decode(np.where(rows[:, j] >= b.k, 0, rows[:, j]), rng)
        return self.layout.assemble(static, varying, lengths, n)


def _stack(blocks: list[np.ndarray], n: int) -> np.ndarray:
    return np.concatenate([np.zeros((n, 0), np.float32), *blocks], axis=1)
