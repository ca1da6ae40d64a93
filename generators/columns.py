"""What train says of a table's columns and of its grid: enough to encode them and to decode with the right dtypes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

MAX_DECIMALS = 6
QUANTILES = 1_000
LAST = 10  # values between the last two quantiles, at the least


@dataclass(frozen=True)
class Column:
    """What train says of one column; enough to encode it and to decode it with the right dtype.

    kind: bool, category (nominal or ordinal) or number. center, scale: of a number, in its own units.
    quantiles: train's quantiles at `shares` where numbers are mapped to a normal. decimals: -1 where not rounded.
    """

    name: str
    kind: str
    dtype: str
    levels: tuple[str, ...] = ()
    ordered: bool = False
    missing: bool = False
    low: float = 0.0
    high: float = 0.0
    center: float = 0.0
    scale: float = 1.0
    decimals: int = -1
    quantiles: np.ndarray | None = None
    shares: np.ndarray | None = None

    @classmethod
    def fit(cls, values: pd.Series, scale: str = "standard") -> Self:
        """Read a column. scale: "standard" (mean, sd), "robust" (median, IQR) or "quantile" (ranks to a normal)."""
        name, dtype, missing = str(values.name), values.dtype, bool(values.isna().any())
        if isinstance(dtype, pd.CategoricalDtype):
            return cls(name, "category", "category", tuple(dtype.categories), bool(dtype.ordered), missing)
        if str(dtype) == "bool":
            return cls(name, "bool", "bool")
        x = values.dropna().to_numpy(dtype=float)
        if len(x) == 0:
            return cls(name, "number", str(dtype), missing=missing)
        center, spread = (float(np.mean(x)), float(np.std(x)))
        if scale == "robust":
            low, middle, high = np.quantile(x, [0.25, 0.5, 0.75])
            center, spread = float(middle), float(high - low) / 1.349 or spread
        shares = quantile_shares(len(x)) if scale == "quantile" else None
        return cls(
            name, "number", str(dtype), missing=missing, low=float(x.min()), high=float(x.max()), center=center,
            scale=spread or 1.0, decimals=_decimals(x, str(dtype)), shares=shares,
            quantiles=None if shares is None else np.quantile(x, shares),
        )  # fmt: skip

    @property
    def width(self) -> int:
        """How many features the column takes."""
        return 1 if self.kind == "bool" else max(len(self.levels), 1) + self.missing

    def encode(self, values: pd.Series) -> np.ndarray:
        """Values (n,) as features (n, width): 0/1, one-hot, or the scaled number and its missing flag."""
        out = np.zeros((len(values), self.width), np.float32)
        if self.kind == "bool":
            out[:, 0] = values.to_numpy(dtype=bool)
        elif self.kind == "category":
            codes = self._codes(values)
            rows = np.flatnonzero(codes < self.width)
            out[rows, codes[rows]] = 1
        else:
            x = values.to_numpy(dtype=float, na_value=np.nan)
            gone = np.isnan(x)
            out[:, 0] = np.where(gone, 0.0, self._scaled(x))
            if self.missing:
                out[:, 1] = gone
        return out

    def decode(self, features: np.ndarray) -> pd.Series:
        """Features (n, width) as a column of train's dtype; numbers stay inside train's range."""
        if self.kind == "bool":
            return pd.Series(features[:, 0] > 0.5)
        if self.kind == "category":
            return self.from_codes(features.argmax(axis=1) if self.width else np.full(len(features), -1))
        gone = features[:, 1] > 0.5 if self.missing else np.zeros(len(features), bool)
        return self.number(self._unscaled(features[:, 0].astype(float)), gone)

    def from_codes(self, codes: np.ndarray) -> pd.Series:
        """A category column from level numbers; len(levels) stands for missing."""
        codes = np.where(codes >= len(self.levels), -1, codes)
        return pd.Series(pd.Categorical.from_codes(codes, list(self.levels), ordered=self.ordered))

    def number(self, x: np.ndarray, gone: np.ndarray) -> pd.Series:
        """A numeric column of train's dtype: clipped to train's range, rounded to its decimals, missing where gone."""
        x = np.clip(np.where(np.isfinite(x), x, self.center), self.low, self.high)
        if self.decimals >= 0:
            x = np.round(x, self.decimals)
        if self.dtype.startswith("float"):
            return pd.Series(np.where(gone, np.nan, x).astype(self.dtype))
        column = pd.Series(np.round(x)).astype("Int64")
        return column.mask(gone).astype(self.dtype) if gone.any() else column.astype(self.dtype)

    def _codes(self, values: pd.Series) -> np.ndarray:
        codes = values.cat.codes.to_numpy().astype(np.int64)
        return np.where(codes < 0, len(self.levels), codes)

    def _scaled(self, x: np.ndarray) -> np.ndarray:
        if self.quantiles is None or self.shares is None:
            return (x - self.center) / self.scale
        from scipy.special import ndtri

        # the middle of a run of equal quantiles, so that a value held by many subjects is not pushed to one side
        up = np.interp(x, self.quantiles, self.shares)
        down = np.interp(-x, -self.quantiles[::-1], self.shares[::-1])
        return ndtri(np.clip((up + down) / 2, 1e-7, 1 - 1e-7))

    def _unscaled(self, z: np.ndarray) -> np.ndarray:
        if self.quantiles is None or self.shares is None:
            return z * self.scale + self.center
        from scipy.special import ndtr

        return np.interp(ndtr(z), self.shares, self.quantiles)


@dataclass(frozen=True)
class Layout:
    """Which columns a table has, in its order, and how a longitudinal one lies on its grid.

    static, varying: columns per subject and per row (a flat table has static ones only). steps: length of the grid,
    0 for a flat table. same_length: every subject has exactly `steps` rows.
    """

    order: tuple[str, ...]
    static: tuple[Column, ...]
    varying: tuple[Column, ...]
    steps: int
    same_length: bool

    @classmethod
    def fit(cls, table: pd.DataFrame, static: Sequence[str] = (), scale: str = "standard", cover: float = 1.0) -> Self:
        """Read a table; `scale` as in Column.fit."""
        longitudinal = table.index.nlevels == 2
        first = first_rows(table)
        at_rest = [c for c in table.columns if not longitudinal or c in static]
        varying = [c for c in table.columns if c not in at_rest]
        steps, same = 0, True
        if longitudinal:
            lengths = _lengths(table)
            steps = int(np.quantile(lengths, cover, method="higher"))
            same = bool((lengths == steps).all())
        return cls(
            tuple(table.columns),
            tuple(Column.fit(first[c], scale) for c in at_rest),
            tuple(Column.fit(table[c], scale) for c in varying),
            steps,
            same,
        )

    def cells(self, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """For each row of a longitudinal table, the subject's place and the step; rows past the grid are left out."""
        place, _ = pd.factorize(table.index.get_level_values("subject"))
        return place, table.index.get_level_values("time").to_numpy()

    def lengths(self, table: pd.DataFrame) -> np.ndarray:
        """Rows of each subject on the grid (n,)."""
        return np.minimum(_lengths(table), self.steps)

    def assemble(
        self, static: Mapping[str, pd.Series], varying: Mapping[str, pd.Series], lengths: np.ndarray | None, n: int
    ) -> pd.DataFrame:
        """A table of n subjects from decoded columns: static (n,), varying (sum of lengths,)."""
        if lengths is None:
            return pd.DataFrame({c: static[c].array for c in self.order}, index=pd.RangeIndex(n, name="subject"))
        subject = np.repeat(np.arange(n), lengths)
        time = np.arange(len(subject)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        columns = {c: static[c].take(subject).array if c in static else varying[c].array for c in self.order}
        return pd.DataFrame(columns, index=pd.MultiIndex.from_arrays([subject, time], names=["subject", "time"]))


def interpolate(x: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """x (n, l) with what is not seen read off its neighbours in time, the nearest at the ends; 0 where none is seen.

    >>> interpolate(np.array([[0.0, 2.0, 0.0, 4.0, 0.0]]), np.array([[False, True, False, True, False]]))
    array([[2., 2., 3., 4., 4.]])
    """
    steps = np.arange(x.shape[1])
    before = np.maximum.accumulate(np.where(seen, steps, -1), axis=1)
    after = np.minimum.accumulate(np.where(seen, steps, len(steps))[:, ::-1], axis=1)[:, ::-1]
    some = seen.any(axis=1, keepdims=True)
    low = np.where(before < 0, after, before) * some
    high = np.where(after == len(steps), before, after) * some
    at_low, at_high = (np.take_along_axis(x, at, axis=1) for at in (low, high))
    share = (steps - low) / np.maximum(high - low, 1)
    return (at_low + (at_high - at_low) * share) * some


def first_rows(table: pd.DataFrame) -> pd.DataFrame:
    """One row per subject: the row itself, or the first of a longitudinal subject."""
    return table if table.index.nlevels == 1 else table[table.index.get_level_values("time") == 0]


def labels(table: pd.DataFrame, target: str | None) -> np.ndarray:
    """Classes (n,) int64 of a table's subjects, in the order they come; all 0 without a target."""
    first = first_rows(table)
    return first[target].to_numpy(dtype=bool).astype(np.int64) if target else np.zeros(len(first), np.int64)


def _lengths(table: pd.DataFrame) -> np.ndarray:
    place, _ = pd.factorize(table.index.get_level_values("subject"))
    return np.bincount(place)


def quantile_shares(n: int) -> np.ndarray:
    """The shares at which n values have their quantiles taken: evenly, and at both ends closer and closer.

    Of many values a whole thousandth lies beyond the last even quantile, and a line from there to the largest value
    makes a tail that is far too heavy.
    """
    tail = [1 / QUANTILES]
    while n * tail[-1] / 2 >= LAST:
        tail.append(tail[-1] / 2)
    ends = np.array(tail[:0:-1])
    return np.concatenate([[0], ends, np.linspace(0, 1, QUANTILES + 1)[1:-1], 1 - ends[::-1], [1]])


def _decimals(x: np.ndarray, dtype: str) -> int:
    """The fewest decimals (up to 6) that write every value as exactly as its dtype holds it; -1 where none do."""
    held = np.abs(x).astype(np.float32 if dtype.lower() == "float32" else np.float64)
    error = np.maximum(1e-9, np.spacing(held).astype(float))
    for decimals in range(MAX_DECIMALS + 1):
        if np.allclose(x, np.round(x, decimals), rtol=0, atol=error):
            return decimals
    return -1
