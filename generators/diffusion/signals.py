"""Any table as signals x (n, c, l): what a convolution over time reads and a Gaussian diffusion draws.

A longitudinal table's channels are its varying columns, one mask channel per number with gaps, and its static features
held constant over the length. A flat table's features are the length of a single channel. Every channel (of a flat
table every place) has a normaliser of its own, fitted on train: numbers by their ranks, then all to mean 0 and standard
deviation 1. Where a number is missing, its channel runs on between the values beside the gap (from the first and the
last one outwards), and its mask says so; a subject without any value holds train's median, and a channel of its own may
say that there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

from generators.columns import Column, interpolate
from generators.encode import Series

LEAST_BINARY_SPREAD = 0.3  # a rare flag divided by its own sd is a spike that no noise covers
FEW = 20  # subjects like the average of all that each class has beside its own


@dataclass(frozen=True)
class Signals:
    """kinds: of each channel, or of each place of a flat table: "number", "gap" (the mask of the number before it),
    "bool" or "category". center, spread: (c, 1) of a longitudinal table, (1, l) of a flat one. never: masks of numbers
    that some subjects have no value of; a last channel each says of whom."""

    view: Series
    kinds: tuple[str, ...]
    center: np.ndarray
    spread: np.ndarray
    never: tuple[int, ...] = ()

    @classmethod
    def fit(
        cls, table: pd.DataFrame, *, static: Sequence[str] = (), without: Sequence[str] = (), cover: float = 1.0,
        absences: bool = False,
    ) -> Self:  # fmt: skip
        """Fit on train; arguments as in Series.fit. absences: a channel for each number of a longitudinal table that
        some subjects have no value of: hour by hour, a mask that is set throughout is hard to draw."""
        view = Series.fit(table, static=static, scale="quantile", cover=cover, without=without)
        kinds = [kind for column in _columns(view) for kind in _kinds(column)]
        if view.layout.steps and not view.layout.same_length:
            kinds.append("number")  # the length, last of the static features
        zero, one = np.zeros(1, np.float32), np.ones(1, np.float32)
        never: tuple[int, ...] = ()
        if absences and view.layout.steps:
            varying = sum(c.width for c in view.layout.varying)
            masks = tuple(f for f in range(varying) if kinds[f] == "gap")
            x = cls(view, tuple(kinds), zero, one, masks).transform(table)
            often = x[:, x.shape[1] - len(masks) :, 0].mean(axis=0)
            never = tuple(f for f, share in zip(masks, often, strict=True) if 0 < share < 1)
            kinds += ["bool"] * len(never)
        shape, along = ((-1, 1), (0, 2)) if view.layout.steps else ((1, -1), 0)
        least = np.array([1e-3 if kind == "number" else LEAST_BINARY_SPREAD for kind in kinds])
        x = cls(view, tuple(kinds), zero, one, never).transform(table)
        spread = np.maximum(x.std(axis=along).ravel(), least).astype(np.float32)
        return cls(view, tuple(kinds), x.mean(axis=along).reshape(shape), spread.reshape(shape), never)

    def transform(self, table: pd.DataFrame) -> np.ndarray:
        """Signals (n, c, l) float32 of a table's subjects, in the order they come."""
        grid, static = self.view.transform(table)  # (n, l, c), (n, s)
        x = np.ascontiguousarray(grid.transpose(0, 2, 1))
        if self.view.layout.steps:
            self._bridge(x, table)
            after = np.arange(x.shape[2]) >= self.view.layout.lengths(table)[:, None]  # (n, l)
            absent = ((x[:, self.never] > 0.5) | after[:, None]).all(axis=2)
            still = np.hstack([static, absent.astype(np.float32)])
            x = np.concatenate([x, np.repeat(still[:, :, None], x.shape[2], axis=2)], axis=1)
        return ((x - self.center) / self.spread).astype(np.float32)

    def inverse(self, x: np.ndarray, *, held: Mapping[str, pd.Series] | None = None) -> pd.DataFrame:
        """The table of signals; a static feature is the mean of its channel. held: as in Series.inverse."""
        x = x * self.spread + self.center
        if not self.view.layout.steps:
            return self.view.inverse(x.transpose(0, 2, 1), x[:, 0, :0], held=held)
        varying, end = sum(c.width for c in self.view.layout.varying), x.shape[1] - len(self.never)
        for f, absent in zip(self.never, x[:, end:].mean(axis=2).T > 0.5, strict=True):
            x[absent, f] = 1
        return self.view.inverse(x[:, :varying].transpose(0, 2, 1), x[:, varying:end].mean(axis=2), held=held)

    def still(self) -> np.ndarray:
        """Which channels are constant over the length (c, 1): those of static features; none of a flat table."""
        layout = self.view.layout
        varying = sum(c.width for c in layout.varying) if layout.steps else len(self.center)
        return np.arange(len(self.center))[:, None] >= varying

    def levels(self) -> list[tuple[int, int]]:
        """From where to where the levels of each category stand: among the channels, or the places of a flat table."""
        found, at = [], 0
        for column in _columns(self.view):
            if column.kind == "category" and column.width > 1:
                found.append((at, at + column.width))
            at += column.width
        return found

    def values(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which features have two values, and the low and the high one, shaped as `center` (of a number, of no use)."""
        two = np.array([kind != "number" for kind in self.kinds]).reshape(self.center.shape)
        return two, -self.center / self.spread, (1 - self.center) / self.spread

    def log_odds(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Of each place of signals x (n, c, l), classes y (n,), each class's log-odds (2, c, l) of the high one of two
        values."""
        _, low, high = self.values()
        is_high = x > (low + high) / 2
        share = (len(x) * by_class(is_high, y) + 0.5) / (len(x) + 1)
        return np.log(share / (1 - share)).astype(np.float32)

    def features(self, x: np.ndarray) -> np.ndarray:
        """x (n, c, l) by feature (features, n, places): a channel with its l places; of a flat table a place with one.

        Shares memory with x.
        """
        return x.transpose(1, 0, 2) if self.view.layout.steps else x.transpose(2, 0, 1)

    def gaps(self, x: np.ndarray, f: int) -> np.ndarray:
        """Where feature f of x (n, c, l) is a number that its mask hides (n, places)."""
        if self.kinds[f : f + 2] != ("number", "gap"):
            return np.zeros(self.features(x)[f].shape, bool)
        scale = self.spread.ravel()[f + 1], self.center.ravel()[f + 1]
        return self.features(x)[f + 1] * scale[0] + scale[1] > 0.5

    def lend(self, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """x (n, c, l) where a subject without any value of a number has those of another of its class y (n,).

        What no mask shows is nobody's: a line at the median there would teach that such lines are common.
        """
        x = x.copy()
        for f, kind in enumerate(self.kinds):
            none = self.gaps(x, f).all(axis=1)
            for label in np.unique(y) if kind == "number" and none.any() else ():
                lacking, having = np.flatnonzero(none & (y == label)), np.flatnonzero(~none & (y == label))
                if len(having):
                    feature = self.features(x)[f]
                    feature[lacking] = feature[rng.choice(having, len(lacking))]
        return x

    def _bridge(self, x: np.ndarray, table: pd.DataFrame) -> None:
        """Fill the gaps of x (n, c, l), in place, between the values beside them."""
        lengths = self.view.layout.lengths(table)
        there = np.arange(x.shape[2]) < lengths[:, None]  # (n, l)
        at = 0
        for column in self.view.layout.varying:
            if column.kind == "number":
                seen = there & (x[:, at + 1] < 0.5) if column.missing else there
                x[:, at] = interpolate(x[:, at], seen)
            at += column.width


def by_class(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The mean (2, ...) of x (n, ...) over each class of y (n,), drawn to the mean of all by FEW subjects' weight."""
    sums = np.stack([x[y == k].sum(axis=0) for k in (0, 1)])
    n = np.bincount(y, minlength=2).reshape(2, *(1,) * (x.ndim - 1))
    return ((sums + FEW * x.mean(axis=0)) / (n + FEW)).astype(np.float32)


def _columns(view: Series) -> list[Column]:
    return [*view.layout.varying, *view.static] if view.layout.steps else view.static


def _kinds(column: Column) -> list[str]:
    if column.kind == "number":
        return ["number", "gap"][: column.width]
    return [column.kind] * column.width
