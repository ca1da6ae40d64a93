"""A child process that runs one cell: the fork server that it comes from, and its life.

The server has loaded what the cells will need, its thread settings made before that; a child is a fork of it, leads a
process group of its own, dies with the process that started it, and takes its cell's lock.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from bench.apart import print_to
from bench.cell import Cell
from bench.datasets.source import Source
from bench.store import Busy, Store


@dataclass(frozen=True)
class Told:
    """What a child is told: its cell and where everything is. source: where the dataset's files are elsewhere; its
    parsed table is in the store. gpu: CUDA_VISIBLE_DEVICES; None: as it is."""

    cell: Cell
    store: str
    data_dir: str | None
    metric_names: tuple[str, ...]
    studies: str = ""  # URL of the database of studies
    memory_mb: float = float("inf")
    source: Source | None = None
    gpu: str | None = None


def server(threads: int, preload: list[str]) -> Any:
    """The fork server's context; its environment is set before anything is imported there.

    The server looks for what it preloads before it learns our path, so our rooms go on PYTHONPATH, first.
    """
    os.environ |= thread_settings(threads)
    path = [str(Path(__file__).parent.parent), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(path))
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(preload)
    return context


def thread_settings(threads: int) -> dict[str, str]:
    """Environment of a process with so many threads: idle ones sleep instead of spinning."""
    libraries = ("OMP", "OPENBLAS", "MKL", "NUMEXPR")
    counts = {f"{lib}_NUM_THREADS": str(threads) for lib in libraries} | {"POLARS_MAX_THREADS": str(threads)}
    return counts | {"OMP_WAIT_POLICY": "PASSIVE"}


def live(told: Told, pipe: Connection) -> None:
    """The life of a child process: one cell, everything it prints in the cell's private log."""
    os.setsid()
    _die_with_parent()
    os.umask(0o077)
    if told.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = told.gpu
    store = Store(Path(told.store))
    log = os.open(store.log(told.cell.key), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    print_to(log)
    from bench.run import StoreFull, run_cell

    def say(what: str, value: Any) -> None:
        try:
            pipe.send((what, value, time.monotonic()))
        except OSError:
            os._exit(1)  # the parent is gone: what is not stored yet is lost, and no record is written for it

    try:
        with store.lock(told.cell.key):
            store.tidy(told.cell.key)
            data_dir = Path(told.data_dir) if told.data_dir else None
            record = run_cell(
                told.cell,
                store,
                data_dir=data_dir,
                metric_names=list(told.metric_names),
                phase=lambda p: say("phase", p),
                studies=told.studies,
                memory_mb=told.memory_mb,
                source=told.source,
            )
            say("record", record.status)
    except Busy:
        say("busy", "")
    except StoreFull as error:
        say("store", str(error))
    os._exit(0)  # nothing of a user's code may hold the process up


def _die_with_parent() -> None:
    """Kill this process's group when the parent ends: a killed parent leaves nothing running."""
    parent = mp.parent_process()
    if parent is not None:

        def watch() -> None:
            wait([parent.sentinel])
            os.killpg(0, signal.SIGKILL)

        threading.Thread(target=watch, daemon=True).start()
