"""Vital signs of ICU stays on a regular grid: which stays and readings count, and how a step gets its value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bench.datasets.data import Data, DataError
from bench.datasets.law import Roles

ADULT = 18
DAY_S = 86_400
LONG_STAY_S = 3 * DAY_S
TARGETS = {"died": "died in hospital", "long_stay": "stayed more than three days in the intensive care unit"}
SAME = (1.0, 0.0)
FAHRENHEIT = (5 / 9, -160 / 9)  # to degrees Celsius


@dataclass(frozen=True)
class Channel:
    """One vital sign.

    sources: where it stands (an item's number, a column's name) -> (factor, shift) that bring it to the channel's unit.
    low, high: values outside are impossible in that unit, and missing. text: description with unit.
    """

    name: str
    sources: Mapping[str, tuple[float, float]]
    low: float
    high: float
    text: str


def series(
    stays: pd.DataFrame,
    readings: Path,
    channels: Sequence[Channel],
    *,
    target: str,
    step_s: int,
    static: Mapping[str, str],
) -> Data:
    """The first day of every eligible stay, on a grid of step_s seconds; target: one of TARGETS.

    stays: one per patient, indexed by subject, with the static columns (name -> description; `age` among them), `died`
    ("boolean", missing where that is not known) and `length_s` (seconds in the unit). Eligible: adults, at least a
    day in the unit, outcome known, one reading or more. Facts say how many were left out, for the first reason that
    held.
    """
    facts: dict[str, int | str] = {"patients": len(stays)}
    reasons = {
        "left out: under 18, or age not known": ~(stays["age"] >= ADULT).fillna(False).astype(bool),
        "left out: under a day": ~(stays["length_s"] >= DAY_S),
        "left out: outcome not known": stays["died"].isna(),
    }
    left = np.ones(len(stays), bool)
    for why, out in reasons.items():
        facts[why] = int((left & out).sum())
        left &= ~out.to_numpy()
    stays = stays[left].sort_index()
    values, counts = grid(readings, stays.index.to_numpy(), channels, steps=DAY_S // step_s, step_s=step_s)
    read = ~np.isnan(values).all(axis=(1, 2))
    facts |= {"left out: no reading": int((~read).sum()), **counts}
    stays, values = stays[read].copy(), values[read]
    for name in stays.select_dtypes("category"):
        stays[name] = stays[name].cat.remove_unused_categories()
    if stays.empty:
        raise DataError("no stay of an adult of a day or longer with an outcome and readings")
    stays = stays.assign(died=stays["died"].astype(bool), long_stay=stays["length_s"] > LONG_STAY_S)

    steps = values.shape[1]
    index = pd.MultiIndex.from_product([stays.index, range(steps)], names=["subject", "time"])
    columns = {name: stays[name].repeat(steps).array for name in (*static, target)}
    columns |= {channel.name: values[:, :, c].ravel() for c, channel in enumerate(channels)}
    describe = {**static, target: TARGETS[target], **{c.name: c.text for c in channels}}
    unit = "hour" if step_s == 3_600 else f"{step_s // 60} minutes"
    roles = Roles(
        target, (*static, target), sensitive=(target,), quasi=tuple(static), describe=describe, time_unit=unit
    )
    facts |= {"stays": len(stays), "positives": int(stays[target].sum())}
    return Data(pd.DataFrame(columns, index=index), roles, facts=facts)


def grid(
    readings: Path, who: np.ndarray, channels: Sequence[Channel], *, steps: int, step_s: int
) -> tuple[np.ndarray, dict[str, int]]:
    """The mean of each channel's readings in each step, NaN where there is none; and how many readings there were.

    who: subjects, sorted, n. A reading at the start of a step belongs to it. Returns float32 (n, l, c) and
    {"readings", "impossible readings"}.
    """
    from bench.datasets.events import read_channel

    values = np.full((len(who), steps, len(channels)), np.nan, np.float32)
    cells = len(who) * steps
    facts = {"readings": 0, "impossible readings": 0}
    for c, channel in enumerate(channels):
        subject, second, value = read_channel(readings, c)
        known = np.isin(subject, who)
        possible = (value >= channel.low) & (value <= channel.high)
        facts["readings"] += int((known & possible).sum())
        facts["impossible readings"] += int((known & ~possible).sum())
        subject, second, value = (x[known & possible] for x in (subject, second, value))
        cell = np.searchsorted(who, subject) * steps + second // step_s
        count = np.bincount(cell, minlength=cells)
        total = np.bincount(cell, value, minlength=cells).astype(float)  # of nothing, bincount makes integers
        mean = np.divide(total, count, out=np.full(cells, np.nan), where=count > 0)
        values[:, :, c] = mean.reshape(len(who), steps)
    return values, facts
