"""The whole way of a suite: which cells are left, running them, the board, the mirror, the exit code."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import metrics
from bench import show
from bench.cell import Cell, Record
from bench.collect import records, write_boards
from bench.datasets.name import base
from bench.errors import BenchError, unknown
from bench.launch import run_cells
from bench.store import Store
from bench.suite import Suite

RETRY = ("failed", "timeout", "skipped")


def sweep(
    suite: Suite, store: Store, data_dir: Path | None, *, workers: int, retry: Sequence[str], datasets: Sequence[str],
    labels: Sequence[str], uri: str | None, track: bool, studies: str = "",
) -> int:  # fmt: skip
    """Run what is missing of a suite. Gives the exit code: 0 where no cell failed and one is done, else 1.

    studies: URL of a database for tuning, "" for files in the store.
    """
    if studies:
        from bench.study import check_storage

        check_storage(studies)
    for status in retry:
        if status not in RETRY:
            raise unknown("status to retry", status, RETRY)
    found = chosen(records(suite, store, data_dir), datasets, labels)
    cells = [cell for cell, _, record in found if due(store, cell, record, suite.metric_names, retry)]
    again = [cell for cell, _, record in found if cell in cells and record is not None and record.fault is not None]
    store.forget(cell.key for cell in again)
    if retry:
        store.mend(again)
    at_once = workers or max(1, (os.cpu_count() or 1) // suite.threads)
    _tell(suite, found, len(cells), at_once)

    def bring(paths: dict[str, Path] | None = None) -> None:
        from bench.track import sync

        sync(suite, store, data_dir, paths or rendered(suite, store, data_dir), uri=uri)

    mirror = _background(bring) if track else None
    if cells:
        for cell, *_ in found:
            store.tidy(cell.key)
        for cell in cells:
            store.add(cell)
        if mirror:
            mirror.start()
        progress = show.Progress(cells, at_once)
        run_cells(
            cells, store, data_dir=data_dir, metric_names=suite.metric_names, workers=at_once, threads=suite.threads,
            time_s=suite.limits.time_s, memory_mb=suite.limits.memory_mb, report=progress.report, studies=studies,
        )  # fmt: skip
    paths = rendered(suite, store, data_dir)
    if mirror:
        mirror.finish(lambda: bring(paths))
    ended = [record for _, _, record in chosen(records(suite, store, data_dir), datasets, labels)]
    return _close(paths, ended)


def rendered(suite: Suite, store: Store, data_dir: Path | None) -> dict[str, Path]:
    """Draw a suite's studies and render its boards. Gives the boards' paths."""
    if suite.tune is not None:
        from bench.draw import draw_studies

        draw_studies(suite, store, data_dir)
    return write_boards(suite, store, data_dir)


def due(store: Store, cell: Cell, record: Record | None, metric_names: list[str], retry: Sequence[str]) -> bool:
    """True for a cell that has work left: no record, one to retry, or scores that are missing or out of date."""
    if record is None:
        return True
    if record.fault is not None:
        possible = bool(record.fault.phase)  # a cell that cannot run here at all has no phase
        return possible and (record.status in retry or record.fault.outside)
    kept = store.note(cell.key, "scores") or {}
    return any(name not in kept or kept[name]["version"] != metrics.METRICS[name].version for name in metric_names)


def plan_rows(suite: Suite, store: Store, data_dir: Path | None) -> list[tuple[str, str, int, int, int, str]]:
    """Per dataset and generator: cells, stored, to run, and why some cannot run here."""
    rows: dict[tuple[str, str], list[Any]] = {}
    for cell, _, record in records(suite, store, data_dir):
        row = rows.setdefault((cell.dataset, cell.label), [0, 0, 0, ""])
        impossible = record is not None and record.fault is not None and not record.fault.phase
        todo = not impossible and due(store, cell, record, suite.metric_names, ())
        row[0] += 1
        row[1] += not impossible and not todo
        row[2] += todo
        row[3] = record.reason if record is not None and record.fault is not None else row[3]
    return [(*key, *row) for key, row in rows.items()]


def chosen(found: list[Any], datasets: Sequence[str], labels: Sequence[str]) -> list[Any]:
    """The cells of the named datasets and generators; all where none is named."""
    for kind, asked, known in (
        ("dataset of this suite", datasets, {base(c.dataset) for c, _, _ in found}),
        ("generator of this suite", labels, {c.label for c, _, _ in found}),
    ):
        for name in asked:
            if name not in known:
                raise unknown(kind, name, known)
    return [
        item for item in found
        if (not datasets or base(item[0].dataset) in datasets) and (not labels or item[0].label in labels)
    ]  # fmt: skip


def _tell(suite: Suite, found: list[Any], todo: int, workers: int) -> None:
    """The resolved suite, before anything runs."""
    datasets = list(dict.fromkeys(c.dataset for c, _, _ in found))
    labels = list(dict.fromkeys(c.label for c, _, _ in found))
    skipped = sum(1 for _, _, r in found if r and r.fault and not r.fault.phase)
    show.out.print(f"[bold]suite {suite.name}[/]  {suite.about}")
    show.out.print(f"  datasets    {show.one_line(', '.join(datasets))}")
    show.out.print(f"  generators  {', '.join(labels)}")
    limits = f"{suite.limits.time_s:,.0f} s and {suite.limits.memory_mb:,.0f} MiB a cell"
    tuning = suite.tune.said if suite.tune else "none"
    show.out.print(f"  replicates  {suite.replicates}    tuning  {tuning}    limits  {limits}")
    show.out.print(
        f"  cells       {len(found)}: {len(found) - todo - skipped} stored, {todo} to run "
        f"({workers} at a time, {suite.threads} thread{'s' * (suite.threads > 1)} each), {skipped} cannot run here"
    )


def _background(bring: Any) -> Any:
    from bench.track import Background

    return Background(bring, show.warn)


def _close(paths: dict[str, Path], ended: list[Record | None]) -> int:
    """Say where everything is and how it went."""
    states = [r.status if r else "missing" for r in ended]
    said = ", ".join(
        f"{states.count(s)} {s}" for s in ("done", "failed", "timeout", "skipped", "missing") if s in states
    )
    show.out.print(f"{said}\nboard: {paths['board.md']}  cost: {paths['cost.md']}")
    if not set(states) - {"skipped", "missing"}:
        reasons = sorted({r.reason for r in ended if r and r.reason})
        raise BenchError(f"nothing is done: {'; '.join(reasons[:2])}")
    return 0 if all(s in ("done", "skipped") for s in states) else 1
