"""What a run of a suite would do and cost: its cells by dataset and generator, and what cannot run here and why."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import generators
from bench.collect import records
from bench.estimate import Estimate, load
from bench.show import duration
from bench.store import Store
from bench.suite import Limits, Suite
from bench.sweep import due

MOST_ROWS = 60  # of a table by dataset and generator; a longer one is told by dataset
HEADS = ["dataset", "generator", "cells", "stored", "to run", "hours", "peak MiB", "why not"]


@dataclass
class Cost:
    """Of some cells. seconds: on one core, each cell no longer than its limit. longest_s, memory_mb: of the longest and
    of the largest. over: how many are expected to meet a limit. unknown: how many have no estimate."""

    seconds: float = 0.0
    longest_s: float = 0.0
    memory_mb: float = 0.0
    over: int = 0
    unknown: int = 0

    def count(self, estimate: Estimate | None, limits: Limits, *, fitted: bool) -> None:
        """Take in a cell. fitted: its fit is made by another."""
        if estimate is None:
            self.unknown += 1
            return
        seconds = estimate.seconds - (estimate.fit_s if fitted else 0.0)
        self.over += seconds > limits.time_s or estimate.memory_mb > limits.memory_mb
        self.seconds += min(seconds, limits.time_s)
        self.longest_s = max(self.longest_s, min(seconds, limits.time_s))
        self.memory_mb = max(self.memory_mb, estimate.memory_mb)

    def add(self, other: Cost) -> None:
        """Take in other cells."""
        self.seconds += other.seconds
        self.over += other.over
        self.unknown += other.unknown
        self.longest_s = max(self.longest_s, other.longest_s)
        self.memory_mb = max(self.memory_mb, other.memory_mb)


@dataclass
class Planned:
    """Some cells of a suite. cost: of those to run. absent: of those whose data are not here. why: reason -> labels of
    cells that cannot run here or have failed."""

    cells: int = 0
    stored: int = 0
    todo: int = 0
    cost: Cost = field(default_factory=Cost)
    absent: Cost = field(default_factory=Cost)
    why: dict[str, list[str]] = field(default_factory=dict)

    def add(self, other: Planned) -> None:
        """Take in other cells."""
        self.cells += other.cells
        self.stored += other.stored
        self.todo += other.todo
        self.cost.add(other.cost)
        self.absent.add(other.absent)
        for why, labels in other.why.items():
            self.why.setdefault(why, []).extend(labels)


@dataclass(frozen=True)
class Plan:
    """rows: (dataset, label) -> its cells. absent: datasets that are not here. unsized: datasets of unknown size.
    unmeasured: labels whose generators have no figures. lacking: label -> the package its generator is without.
    measured: where the estimates come from, in a sentence."""

    suite: Suite
    rows: dict[tuple[str, str], Planned]
    lacking: dict[str, str]
    absent: tuple[str, ...]
    unsized: tuple[str, ...]
    unmeasured: tuple[str, ...]
    measured: str

    def by(self, key: Callable[[str, str], str]) -> dict[str, Planned]:
        """Rows put together by a function of dataset and label."""
        out: dict[str, Planned] = {}
        for names, row in self.rows.items():
            out.setdefault(key(*names), Planned()).add(row)
        return out

    def table(self) -> list[tuple[Any, ...]]:
        """Rows of HEADS, with the last reason of each."""
        return [(*names, *_counts(row), next(reversed(row.why), "")) for names, row in self.rows.items()]

    def told(self) -> tuple[list[str], list[tuple[Any, ...]]]:
        """The same to be read: by dataset, with whom each reason is of, where the rows would be too many."""
        if len(self.rows) <= MOST_ROWS:
            return HEADS, self.table()
        labels, rows = Counter(dataset for dataset, _ in self.rows), []
        for name, row in self.by(lambda dataset, label: dataset).items():
            said = []
            for why, of in row.why.items():
                some = [label for label in of if label not in self.lacking]
                said += [why] if len(of) == labels[name] else [f"{', '.join(some)}: {why}"] if some else []
            rows.append((name, *_counts(row), "; ".join(said)))
        return HEADS[:1] + HEADS[2:], rows

    def by_generator(self) -> tuple[list[str], list[tuple[Any, ...]]]:
        """What each generator takes, the longest first, and why it can run nowhere."""
        rows = sorted(self.by(lambda dataset, label: label).items(), key=lambda item: -item[1].cost.seconds)
        heads = ["generator", "to run", "hours", "peak MiB", "over a limit", "no estimate", "why not"]
        return heads, [
            (name, r.todo, *_amounts(r.cost), r.cost.over, r.cost.unknown, self.lacking.get(name, ""))
            for name, r in rows
        ]

    def total(self) -> Iterator[str]:
        """All of it, in sentences."""
        whole, limits, threads = self.by(lambda dataset, label: "")[""], self.suite.limits, self.suite.threads
        cost, absent = whole.cost, whole.absent
        gone = whole.cells - whole.stored - whole.todo
        yield f"{whole.cells:,} cells: {whole.stored:,} stored, {whole.todo:,} to run, {gone:,} cannot run here"
        if cost.memory_mb:
            workers = max(1, (os.cpu_count() or 1) // threads)
            here = max(cost.seconds / workers, cost.longest_s)
            yield (
                f"to run: {duration(cost.seconds)} on one core, {duration(here)} here, {workers} at a time; "
                f"the longest cell {duration(cost.longest_s)}, the largest {cost.memory_mb:,.0f} MiB"
            )
        if cost.over:
            each = f"{limits.time_s:,.0f} s or {limits.memory_mb:,.0f} MiB"
            yield f"{cost.over:,} cells are expected to meet a limit, {each}, which ends them"
        if self.absent:
            yield (
                f"absent: {', '.join(self.absent)}; with them {duration(absent.seconds)} more on one core, "
                f"the longest cell {duration(absent.longest_s)}, the largest {absent.memory_mb:,.0f} MiB"
            )
        if cost.unknown or absent.unknown:
            why = [f"the size of {', '.join(self.unsized)} is not known"] if self.unsized else []
            why += [f"there are no figures of {', '.join(self.unmeasured)}"] if self.unmeasured else []
            yield f"{cost.unknown + absent.unknown:,} cells have no estimate: {'; '.join(why)}"
        yield self.measured


def plan(suite: Suite, store: Store, data_dir: Path | None) -> Plan:
    """What a run of a suite would do; nothing is run."""
    estimates, names = load(store), suite.metric_names
    arms = {name for name, times in Counter(gen.name for gen in suite.generators).items() if times > 1}
    rows: dict[tuple[str, str], Planned] = {}
    fits: set[str] = set()
    missing = {gen.name: generators.absence(generators.find(gen.name)) for gen in suite.generators}
    lacking: dict[str, str] = {}
    absent, unsized, unmeasured = set(), set(), set()
    for cell, source, record in records(suite, store, data_dir, scores=False):
        row = rows.setdefault((cell.dataset, cell.label), Planned())
        row.cells += 1
        if missing[cell.generator]:
            lacking[cell.label] = missing[cell.generator]
        if record is not None and record.fault is not None:
            row.why[record.reason] = [cell.label]
        fitted = False
        if cell.generator in arms:
            fitted = cell.fit_key in fits
            fits.add(cell.fit_key)
        if record is None or record.fault is None or record.fault.phase:
            if not due(store, cell, record, names, ()):
                row.stored += 1
                continue
            row.todo += 1
            cost = row.cost
        elif not cell.data and not missing[cell.generator] and not generators.find(cell.generator).handed:
            absent.add(cell.dataset)
            cost = row.absent
        else:
            continue
        estimate = estimates.of(cell, source, names)
        if estimate is None and estimates.size(cell, source) is None:
            unsized.add(cell.dataset)
        elif estimate is None:
            unmeasured.add(cell.label)
        cost.count(estimate, suite.limits, fitted=fitted)
    order = list(dict.fromkeys(dataset for dataset, _ in rows))
    return Plan(
        suite, rows, lacking, tuple(d for d in order if d in absent), tuple(d for d in order if d in unsized),
        tuple(sorted(unmeasured)), estimates.said,
    )  # fmt: skip


def _counts(row: Planned) -> tuple[Any, ...]:
    return row.cells, row.stored, row.todo, *_amounts(row.cost)


def _amounts(cost: Cost) -> tuple[float | None, int | None]:
    """Hours and MiB, None where nothing is known."""
    return (round(cost.seconds / 3600, 3), round(cost.memory_mb)) if cost.memory_mb else (None, None)
