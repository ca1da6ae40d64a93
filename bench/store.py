"""The store: every path of it, what lies there, and who holds it.

    store.json                      its format
    data/                           mode 700: whatever may hold a row of a table
      tables/NAME-IDENTITY/         parsed datasets; readings-KEY/: what was gathered once from a large table of events
      sha256.json                   of large data files, while they stay as they are
      fits/FIT_KEY/                 fitted generators; beside each what it cost (.json) and its lock
      trials/KEY/                   the last trial's fit, while a study is at work
      samples/KEY/                  synth.parquet, and minority.parquet where a metric reads it
      shared/SPLIT_KEY/             judges fitted on train, as what they say of holdout
      locks/                        of what processes wait for each other
      logs/KEY.log                  all a cell's process printed, tracebacks included
    cells/KEY/                      cell.json, scores.json, record.json, cost.json, lock
    studies/KEY/                    study.journal (Optuna's), objective.json, tuned.json, lock; late-N.json: how a
                                    trial ended that could not be told while its database was away
    boards/SUITE/                   scores.json, what is rendered of it, report.html, pictures/; views/: aggregates of
                                    samples that the report shows
    mlflow.db, mlflow-artifacts/    the MLflow mirror

Everything is written whole or not at all (bench/whole.py). Locks are the kernel's (flock), so that a killed process
leaves none.
"""

from __future__ import annotations

import fcntl
import glob
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from bench.cell import Cell, Record
from bench.datasets.digest import remember_in
from bench.errors import BenchError
from bench.whole import (
    Damaged,
    StoreError,
    check_stage,
    read_json,
    read_parquet,
    reason,
    sha256,
    stage,
    write_bytes,
    write_json,
    write_text,
)

if TYPE_CHECKING:
    from bench.datasets.data import Data
    from bench.datasets.source import Source

FORMAT = 1
HEAD, TAIL = 8192, 64  # bytes of a record that hold what stands before its scores, and what stands after them


class Busy(BenchError):
    """Another process is at work on this cell."""


class Store:
    """One store folder. The only place that builds a path inside it."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        remember_in(self.private / "sha256.json")

    @classmethod
    def open(cls, root: Path) -> Store:
        """Make or take over a store. Raises StoreError where it is of another format or cannot be written."""
        store = cls(root)
        try:
            store.root.mkdir(parents=True, exist_ok=True)
            store.private.mkdir(mode=0o700, exist_ok=True)
            store.private.chmod(0o700)
            for folder in (store.root / "cells", store.private / "logs"):
                folder.mkdir(exist_ok=True)
            mark = store.root / "store.json"
            if mark.exists():
                found = json.loads(mark.read_text()).get("format")
                if found != FORMAT:
                    raise StoreError(f"store {root}: format {found}, this version reads {FORMAT}")
            else:
                write_json(mark, {"format": FORMAT})
            probe = store.root / f".probe-{uuid4().hex[:8]}"
            probe.write_bytes(b"x" * 4096)
            probe.unlink()
        except (OSError, ValueError) as error:
            raise StoreError(f"store {root}: cannot be written: {reason(error)}") from error
        return store

    # --- paths ---

    @property
    def private(self) -> Path:
        """The folder of everything that may hold rows."""
        return self.root / "data"

    @property
    def tracking_db(self) -> Path:
        """The SQLite file of the default MLflow store."""
        return self.root / "mlflow.db"

    @property
    def artifacts(self) -> Path:
        """Where MLflow puts artifacts by default."""
        return self.root / "mlflow-artifacts"

    def fit(self, fit_key: str) -> Path:
        """The fitted generator of the cells that share it."""
        return self.private / "fits" / fit_key

    def study(self, key: str) -> Path:
        """The study that tunes a cell, or several."""
        return self.root / "studies" / key

    def trials(self, key: str) -> Path:
        """Where a study keeps the fits of its last trials while it is at work."""
        return self.private / "trials" / key

    def samples(self, key: str) -> Path:
        """The samples of a cell."""
        return self.private / "samples" / key

    def shared(self, split_key: str) -> Path:
        """What cells of one split have in common (bench/shared.py)."""
        return self.private / "shared" / split_key

    def log(self, key: str) -> Path:
        """What a cell's process printed."""
        return self.private / "logs" / f"{key}.log"

    def cell(self, key: str) -> Path:
        """A cell's folder."""
        return self.root.joinpath("cells", key)

    def board(self, suite: str) -> Path:
        """A suite's boards."""
        return self.root / "boards" / suite

    def pictures(self, suite: str) -> Path:
        """A suite's pictures."""
        return self.board(suite) / "pictures"

    # --- cells ---

    def tidy(self, key: str) -> None:
        """Remove the halves of files that killed processes left of a cell. Who is writing one just now writes again."""
        for old in self.cell(key).glob(".*.part"):
            old.unlink(missing_ok=True)

    def add(self, cell: Cell) -> None:
        """Write down a cell so that `bench cell KEY` finds it; what its folder holds of another cell is removed."""
        self._clear(cell.key)
        path = self.cell(cell.key) / "cell.json"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, asdict(cell))

    def read_cell(self, key: str) -> Cell:
        """A cell that has been written down."""
        path = self.cell(key) / "cell.json"
        if not path.exists():
            raise StoreError(f"store {self.root}: no cell '{key}'")
        cell = Cell.read(read_json(path))
        _check_key(cell, key, path)
        return cell

    def keys(self, start: str) -> list[str]:
        """The keys of cells that begin so."""
        if not (self.root / "cells").exists():
            return []
        with os.scandir(self.root / "cells") as entries:
            return sorted(e.name for e in entries if e.name.startswith(start) and e.is_dir())

    def record(self, key: str, *, scores: bool = True) -> Record | None:
        """A cell's record, or None where it has none. scores: with them; they are most of a file of many kilobytes.

        Raises Damaged where it cannot be read, or is the record of another cell.
        """
        path = self.cell(key) / "record.json"
        if not path.exists():
            return None
        record = Record.read(read_json(path) if scores else _unscored(path))
        _check_key(record.cell, key, path)
        return record

    def versions(self, key: str) -> dict[str, int]:
        """Metric -> the version that a cell was scored with, of those metrics whose scores are kept."""
        path = self.cell(key) / "scores.json"
        return _versions(path) if path.exists() else {}

    def save_record(self, record: Record) -> None:
        """Write a cell's record."""
        write_json(self.cell(record.cell.key) / "record.json", asdict(record))

    def note(self, key: str, name: str) -> dict[str, Any] | None:
        """One of a cell's small JSON files (scores, tuned, cost), or None."""
        path = self.cell(key) / f"{name}.json"
        return read_json(path) if path.exists() else None

    def save_note(self, key: str, name: str, value: dict[str, Any]) -> None:
        """Write one of a cell's small JSON files."""
        write_json(self.cell(key) / f"{name}.json", value)

    def study_result(self, key: str) -> dict[str, Any] | None:
        """What came of a study, or None where it has not ended."""
        path = self.study(key) / "tuned.json"
        return read_json(path) if path.exists() else None

    def save_study_result(self, key: str, value: dict[str, Any]) -> None:
        """Write what came of a study."""
        self.study(key).mkdir(parents=True, exist_ok=True)
        write_json(self.study(key) / "tuned.json", value)

    def forget(self, keys: Iterable[str]) -> None:
        """Drop the records of cells, so that they are run again."""
        for key in keys:
            (self.cell(key) / "record.json").unlink(missing_ok=True)

    def _clear(self, key: str) -> None:
        """Empty a cell's folder where its record or its description is damaged or another cell's: the scores beside it
        may be another cell's too. A folder that another process holds is left to it."""
        try:
            self.record(key, scores=False)
            if (self.cell(key) / "cell.json").exists():
                self.read_cell(key)
        except Damaged:
            with suppress(Busy), self.lock(key):
                for path in self.cell(key).glob("*.json"):
                    path.unlink(missing_ok=True)

    def fit_cost(self, fit_key: str) -> dict[str, Any] | None:
        """{"cell": key of the cell that made a fit, "seconds", "peak_memory_mb"}, or None where that is not known."""
        path = self.private / "fits" / f"{fit_key}.json"
        return read_json(path) if path.exists() else None

    def save_fit_cost(self, cell: Cell, cost: Mapping[str, float]) -> None:
        """Write beside a fit what it cost the cell that made it; nothing where the fit is not stored."""
        if self.fit(cell.fit_key).exists():
            write_json(self.private / "fits" / f"{cell.fit_key}.json", {"cell": cell.key, **cost})

    def mend(self, cells: Iterable[Cell]) -> None:
        """Drop what is damaged of the stages of cells and of all tables, so that it is made again."""
        stages = list((self.private / "tables").glob("[!.]*"))
        for cell in cells:
            stages += [self.samples(cell.key), self.fit(cell.fit_key)]
        for folder in stages:
            try:
                check_stage(folder)
            except Damaged:
                shutil.rmtree(folder)

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold a cell alone. Raises Busy where another process holds it."""
        with flock(self.cell(key) / "lock", fcntl.LOCK_EX | fcntl.LOCK_NB):
            yield

    @contextmanager
    def alone(self, what: str) -> Iterator[None]:
        """Hold a name alone, waiting for whoever holds it."""
        with flock(self.private / "locks" / f"{what}.lock", fcntl.LOCK_EX):
            yield

    @contextmanager
    def fitting(self, fit_key: str) -> Iterator[None]:
        """Hold a fit alone while it is made. Raises Busy where another process is making it."""
        with flock(self.private / "fits" / f"{fit_key}.lock", fcntl.LOCK_EX | fcntl.LOCK_NB):
            yield

    @contextmanager
    def tuning(self, study_key: str, *, together: bool = False) -> Iterator[None]:
        """Hold a study, alone or together with others who do so too. Raises Busy where others are in the way."""
        with flock(self.study(study_key) / "lock", (fcntl.LOCK_SH if together else fcntl.LOCK_EX) | fcntl.LOCK_NB):
            yield

    def busy(self, key: str, fit_key: str = "", study_key: str = "") -> bool:
        """True while another process holds a cell or, where they are named too, makes that fit or is at that study."""
        study = self.tuning(study_key) if study_key and not self.study_result(study_key) else nullcontext()
        try:
            with self.lock(key), self.fitting(fit_key) if fit_key else nullcontext(), study:
                return False
        except Busy:
            return True

    # --- boards and tracking ---

    def save_board(self, suite: str, name: str, text: str) -> Path:
        """Replace one of a suite's boards."""
        path = self.board(suite) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
        return path

    def save_picture(self, suite: str, name: str, content: bytes) -> Path:
        """Replace one of a suite's pictures."""
        path = self.pictures(suite) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
        return path

    def pictured(self, suite: str, key: str) -> dict[str, str]:
        """The pictures of a cell in a suite: file name -> SHA-256."""
        return {p.name: sha256(p) for p in sorted(self.pictures(suite).glob(f"{glob.escape(key)}.*png"))}

    def kept_view(self, suite: str, key: str) -> dict[str, Any] | None:
        """What a report of a suite shows of a cell, or None where that is not kept."""
        path = self.board(suite) / "views" / f"{key}.json"
        return read_json(path) if path.exists() else None

    def keep_view(self, suite: str, key: str, view: Mapping[str, Any]) -> None:
        """Keep what a report of a suite shows of a cell."""
        path = self.board(suite) / "views" / f"{key}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, view)

    def synced(self, uri: str, suite: str) -> str:
        """The digest of what was last mirrored of a suite to a tracking server; "" for nothing."""
        path = self.root / "tracking.json"
        return read_json(path).get(uri, {}).get(suite, "") if path.exists() else ""

    def mark_synced(self, uri: str, suite: str, digest: str) -> None:
        """Remember what has been mirrored."""
        path = self.root / "tracking.json"
        saved = read_json(path) if path.exists() else {}
        saved.setdefault(uri, {})[suite] = digest
        write_json(path, saved)

    # --- datasets ---

    def table_folder(self, source: Source) -> Path:
        """Where the parsed copy of a dataset is."""
        return self.private / "tables" / f"{source.name.slug}-{source.identity}"

    def table(self, source: Source) -> Data:
        """A dataset from its parsed copy; read from its files and kept first, where there is none yet."""
        import pandas as pd

        from bench.datasets.data import Data
        from bench.datasets.law import Roles

        folder = self.table_folder(source)
        if not folder.exists():
            with self.alone("tables"):
                if not folder.exists():
                    self._keep(folder, source.load(self.readings))
        check_stage(folder)
        saved = read_json(folder / "roles.json")
        order = folder / "order.parquet"
        return Data(
            read_parquet(folder / "table.parquet"),
            Roles.read(saved["roles"]),
            pd.read_parquet(order)["order"] if order.exists() else None,
            saved["facts"],
        )

    @contextmanager
    def readings(self, key: str, write: Callable[[Path], None]) -> Iterator[Path]:
        """Readings gathered from a large table: several datasets share them."""
        folder = self.private / "tables" / f"readings-{key}"
        if not check_stage(folder):
            with stage(folder) as new:
                write(new / "readings.parquet")
        yield folder / "readings.parquet"

    def _keep(self, folder: Path, data: Data) -> None:
        with stage(folder) as new:
            data.table.to_parquet(new / "table.parquet")
            write_json(new / "roles.json", {"roles": asdict(data.roles), "facts": dict(data.facts)})
            if data.order is not None:
                data.order.rename("order").to_frame().to_parquet(new / "order.parquet")


@contextmanager
def flock(path: Path, how: int) -> Iterator[None]:
    """Hold a file by the kernel's lock. Raises Busy where it is held and one is not to wait (LOCK_NB)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, how)
        except BlockingIOError as error:
            name = path.stem if path.suffix else path.parent.name
            raise Busy(f"{name}: another process is at work on it") from error
        yield


def _check_key(cell: Cell, key: str, path: Path) -> None:
    """Raise Damaged where a cell that was read from a folder is not the one that the folder is named after."""
    if cell.key != key:
        raise Damaged(f"{path} is damaged: it is of cell {cell.key}, expected {key}: `bench run` has it made again")


# --- parts of files, found by how `write_json` lays them out: keys in order, one a line, indented by their depth ---


def _unscored(path: Path) -> dict[str, Any]:
    """A record with no scores, from its head and its tail; from all of it where those do not hold the rest."""
    try:
        with path.open("rb") as stream:
            head, found, _ = stream.read(HEAD).partition(b'\n "scores": {')
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - TAIL))
            tail = stream.read().rpartition(b'\n "status": ')[2]
        if found:
            return json.loads(head + b'\n "scores": {},\n "status": ' + tail)
    except (OSError, ValueError):  # damaged, which reading it whole says
        pass
    return {**read_json(path), "scores": {}}


def _versions(path: Path) -> dict[str, int]:
    """Metric -> version, of a cell's kept scores."""
    try:
        parts = path.read_bytes().decode().split('\n "')[1:]
        return {p.partition('"')[0]: int(p.rpartition('\n  "version": ')[2].partition("\n")[0]) for p in parts}
    except (OSError, ValueError):
        return {name: kept["version"] for name, kept in read_json(path).items()}
