"""Datasets parsed into the store beside a run: each in a child process, so that nothing waits but its own cells."""

from __future__ import annotations

import os
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.apart import print_to
from bench.cell import Fault
from bench.child import server
from bench.datasets.source import Source
from bench.errors import BenchError, told
from bench.launch import Setting, Work
from bench.run import FULL_DISK
from bench.store import Store
from bench.whole import reason

FULL = "full"  # said in the place of an exception's class


@dataclass
class Reading:
    """A dataset that is being read."""

    process: Any
    pipe: Connection


class Tables:
    """The parsed datasets of a run's cells."""

    def __init__(self, setting: Setting, works: Sequence[Work]) -> None:
        self.store = setting.store
        self.context = server(setting.threads, ["pandas", "pyarrow.parquet", "bench.datasets.law"])
        self.left = Counter(w.cell.data for w in works)
        self.readings: dict[str, Reading] = {}
        self.faults: dict[str, Fault] = {}

    def folder(self, work: Work) -> Path:
        """Where a cell's dataset is."""
        return self.store.table_folder(work.source)

    def ready(self, work: Work) -> bool:
        """Whether a cell's dataset is there, or cannot be read; where neither, it is begun to be read."""
        key = work.cell.data
        if key in self.faults or (key not in self.readings and self.folder(work).exists()):
            return True
        if key not in self.readings:
            ours, theirs = self.context.Pipe()
            process = self.context.Process(target=_read, args=(str(self.store.root), work.source, theirs))
            process.start()
            theirs.close()
            self.readings[key] = Reading(process, ours)
        return False

    def fault(self, work: Work) -> Fault | None:
        """Why a cell's dataset cannot be read, None where it can."""
        return self.faults.get(work.cell.data)

    def listen(self) -> None:
        """Take in which datasets have been read. Raises BenchError where the store's disk is full."""
        for key, reading in list(self.readings.items()):
            if reading.process.is_alive() and not reading.pipe.poll():
                continue
            try:
                said = reading.pipe.recv()
            except EOFError:
                said = ("Exited", "the process that read the dataset died")
            if said and said[0] == FULL:
                raise BenchError(said[1])
            if said:
                self.faults[key] = Fault("load", *said)
            reading.process.join()
            reading.pipe.close()
            del self.readings[key]

    def done(self, work: Work) -> bool:
        """One more of a dataset's cells has ended; whether it was the last."""
        self.left[work.cell.data] -= 1
        return not self.left[work.cell.data]

    def stop(self) -> None:
        """Read no further."""
        for reading in self.readings.values():
            reading.process.kill()


def _read(root: str, source: Source, pipe: Connection) -> None:
    """In a child: parse a dataset into the store; says what went wrong, or nothing."""
    store = Store(Path(root))
    os.umask(0o077)
    print_to(os.open(store.private / "logs" / "tables.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    try:
        store.table(source)
        pipe.send(())
    except Exception as error:
        traceback.print_exc()
        full = isinstance(error, OSError) and error.errno in FULL_DISK
        said = (FULL, f"store {root}: {reason(error)}") if full else None
        pipe.send(said or told(error, shareable=source.shareable, ours=True))
    os._exit(0)
