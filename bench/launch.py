"""How cells are started: one loop, and the interface of what starts them.

bench/local.py starts them in child processes of this machine, with or without GPUs, bench/cluster.py on a Ray cluster.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bench.cell import Cell, Fault, Record
from bench.datasets.source import Source
from bench.errors import BenchError
from bench.store import Store
from bench.whole import reason

if TYPE_CHECKING:
    from bench.queue import Queue

IDLE_S = 0.2  # between two looks where all that is left is held by others
Kind = tuple[str, str]  # dataset and label
Report = Callable[[str, Cell, Record | None, float], None]


@dataclass(frozen=True)
class Setting:
    """What all cells of a run are started with. studies: URL of a database for tuning, "" for none. elsewhere: the
    files of datasets are not where cells run; their parsed tables are in the store."""

    store: Store
    data_dir: Path | None
    metric_names: tuple[str, ...]
    threads: int
    time_s: float
    memory_mb: float
    studies: str = ""
    elsewhere: bool = False


@dataclass(frozen=True)
class Work:
    """A cell to run. fit, study: the keys of what it makes, study "" where it has none. seconds, memory_mb: expected;
    least_mb: memory that it needs even where the estimate is as far off as any; None where nothing is known. gpu:
    whether it can use one."""

    cell: Cell
    source: Source
    fit: str
    study: str
    seconds: float | None = None
    memory_mb: float | None = None
    least_mb: float | None = None
    gpu: bool = False

    @property
    def kind(self) -> Kind:
        """What cells of one time and one size have in common."""
        return self.cell.dataset, self.cell.label


@dataclass(frozen=True)
class Ending:
    """A cell that runs no more. how: "ended" where it has its record, else "busy" where another process holds what it
    needs, or "again" where it was lost and is to be started anew."""

    work: Work
    how: str
    seconds: float = 0.0


class Launcher(Protocol):
    """Starts cells and says which have ended; what a cell has made is in the store by then."""

    @property
    def running(self) -> int:
        """How many cells run."""

    @property
    def full(self) -> bool:
        """Whether no further cell could start now, whichever it is."""

    def never(self, work: Work) -> str:
        """Why a cell can never run here; "" where it can."""

    def has_room(self, work: Work) -> bool:
        """Whether a cell could start now."""

    def making(self) -> set[str]:
        """Keys of the fits and the studies that running cells are at, which no other may begin."""

    def start(self, work: Work) -> None:
        """Start a cell."""

    def wait(self) -> list[Ending]:
        """The cells that have ended; returns after a moment at the latest. Raises BenchError where no more can be
        kept."""

    def stop(self) -> None:
        """End all that runs."""


def run_cells(queue: Queue, launcher: Launcher, store: Store, report: Report) -> None:
    """Run cells until each has a record or the queue's time is up.

    report(event, cell, record, seconds): "start" and "end" of each cell. A cell that another process holds, or whose
    study or fit is under way for another cell, is waited for while others are run. Raises BenchError where the store's
    disk is full.
    """

    def ended(work: Work, seconds: float) -> None:
        queue.ended(work, seconds)
        report("end", work.cell, store.record(work.cell.key), seconds)

    try:
        while queue or launcher.running:
            while (work := queue.next(launcher)) is not None:
                report("start", work.cell, None, 0.0)
                if why := launcher.never(work):
                    _refuse(work, why, store)
                    ended(work, 0.0)
                else:
                    launcher.start(work)
            if not launcher.running:
                if queue.over:
                    break
                time.sleep(IDLE_S)
            for ending in launcher.wait():
                if ending.how == "ended":
                    ended(ending.work, ending.seconds)
                else:
                    queue.put_back(ending.work, first=ending.how == "again")
    finally:
        with suppress(Exception):
            launcher.stop()


@contextmanager
def writing(store: Store) -> Iterator[None]:
    """Raises BenchError where the store cannot be written."""
    try:
        yield
    except OSError as error:
        raise BenchError(f"store {store.root}: {reason(error)}") from error


def _refuse(work: Work, why: str, store: Store) -> None:
    """The record of a cell that does not fit; from outside, so that a run on another machine takes it up."""
    with writing(store):
        store.save_record(Record(work.cell, "failed", Fault("start", "DoesNotFit", why, outside=True)))
