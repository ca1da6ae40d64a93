"""The whole way of a suite: which cells are left, running them, the board, the mirror, the exit code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import metrics
from bench import show
from bench.cell import Cell, Record
from bench.collect import records, write_boards
from bench.datasets.name import base
from bench.errors import BenchError, unknown
from bench.launch import Setting, run_cells, writing
from bench.place import Place, works
from bench.queue import Queue
from bench.store import Store
from bench.suite import Suite

RETRY = ("failed", "timeout", "skipped")
UNFINISHED = 3  # exit code of a run whose time was up


def sweep(
    suite: Suite, store: Store, data_dir: Path | None, *, place: Place, retry: Sequence[str], datasets: Sequence[str],
    labels: Sequence[str], uri: str | None, track: bool, studies: str = "",
) -> int:  # fmt: skip
    """Run what is missing of a suite. Gives the exit code: 0 where no cell failed and one is done, UNFINISHED where
    the budget of time was up first, else 1.

    studies: URL of a database for tuning, "" for files in the store.
    """
    place.check()
    if studies:
        from bench.study import check_storage

        check_storage(studies)
    for status in retry:
        if status not in RETRY:
            raise unknown("status to retry", status, RETRY)
    found = chosen(records(suite, store, data_dir, scores=False), datasets, labels)
    names = suite.metric_names
    todo = [item for item in found if due(store, item[0], item[2], names, retry)]
    again = [cell for cell, _, record in todo if record is not None and record.fault is not None]
    store.forget(cell.key for cell in again)
    if retry:
        store.mend(again)
    _tell(suite, found, len(todo))

    def bring(paths: dict[str, Path] | None = None) -> None:
        from bench.track import sync

        sync(suite, store, data_dir, paths or rendered(suite, store, data_dir), uri=uri)

    mirror = _background(bring) if track else None
    late = 0
    if todo:
        with writing(store):
            for cell, *_ in todo:
                store.tidy(cell.key)
                store.add(cell)
        late = _run(suite, store, data_dir, todo, place, studies, mirror)
    paths = rendered(suite, store, data_dir)
    if mirror:
        mirror.finish(lambda: bring(paths))
    ended = [record for _, _, record in chosen(records(suite, store, data_dir, scores=False), datasets, labels)]
    return _close(paths, ended, late)


def _run(
    suite: Suite, store: Store, data_dir: Path | None, todo: Sequence[Any], place: Place, studies: str, mirror: Any
) -> int:  # fmt: skip
    """Run cells. Gives how many were left because the budget of time was up."""
    setting = Setting(
        store, data_dir, tuple(suite.metric_names), suite.threads, suite.limits.time_s, suite.limits.memory_mb, studies
    )
    mine = works([(cell, source) for cell, source, _ in todo], store, suite.metric_names)
    launcher, slots, where = place.open(setting, mine)
    each = f"{suite.threads} thread{'s' * (suite.threads > 1)} each"
    show.out.print(f"  running     {slots} at a time, {each}{where and f', {where}'}")
    if mirror:
        mirror.start()
    queue = Queue(mine, store, budget_s=place.budget_s, longest_s=suite.limits.time_s)
    progress = show.Progress(len(mine), lambda: queue.left_s(slots))
    run_cells(queue, launcher, store, progress.report)
    return len(queue.waiting)


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
    kept = store.versions(cell.key)
    return any(kept.get(name) != metrics.METRICS[name].version for name in metric_names)


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


def _tell(suite: Suite, found: list[Any], todo: int) -> None:
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
        f"  cells       {len(found)}: {len(found) - todo - skipped} stored, {todo} to run, {skipped} cannot run here"
    )


def _background(bring: Any) -> Any:
    from bench.track import Background

    return Background(bring, show.warn)


def _close(paths: dict[str, Path], ended: list[Record | None], late: int) -> int:
    """Say where everything is and how it went. late: cells that were left because of the time."""
    states = [r.status if r else "missing" for r in ended]
    said = ", ".join(
        f"{states.count(s)} {s}" for s in ("done", "failed", "timeout", "skipped", "missing") if s in states
    )
    show.out.print(f"{said}\nboard: {paths['board.md']}  cost: {paths['cost.md']}")
    if late:
        show.out.print(f"{late} left: they would not have ended within the budget; run again to go on")
        return UNFINISHED
    if not set(states) - {"skipped", "missing"}:
        reasons = sorted({r.reason for r in ended if r and r.reason})
        raise BenchError(f"nothing is done: {'; '.join(reasons[:2])}")
    return 0 if all(s in ("done", "skipped") for s in states) else 1
