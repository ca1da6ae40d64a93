"""How cells are started: each in a child process of a warm fork server, watched from outside.

The fork server has loaded what the cells will need, its thread settings made before that; a child is a fork of it,
leads a process group of its own, dies with this process, and takes its cell's lock. The parent samples the group's
resident memory, keeps the limits by killing the group, and stores what the cell cost.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import psutil

from bench.apart import print_to
from bench.cell import Cell, Fault, Record
from bench.errors import BenchError
from bench.machine import environment
from bench.store import Busy, Store
from bench.whole import reason
from generators import REGISTRY

PRELOAD = ["pandas", "pyarrow.parquet", "sklearn.linear_model", "sklearn.model_selection", "xgboost", "bench.cli",
           "bench.run", "metrics.joint", "metrics.pairs", "metrics.boost", "metrics.attributes"]  # fmt: skip
WATCH_S = 0.05  # between two looks at memory
FAMILY_S = 0.5  # between two looks for the group's further processes
UP_TO_TUNE = ("start", "load", "split", "tune")
UP_TO_FIT = (*UP_TO_TUNE, "fit")
OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
MIB = 2**20


@dataclass(frozen=True)
class Work:
    """What a child is told: its cell and where everything is."""

    cell: Cell
    store: str
    data_dir: str | None
    metric_names: tuple[str, ...]
    studies: str = ""  # URL of the database of studies
    memory_mb: float = float("inf")


@dataclass
class Running:
    """A child under watch."""

    work: Work
    process: Any
    pipe: Connection
    start: float
    phase: str = "start"
    since: float = 0.0
    phases: dict[str, dict[str, float]] = field(default_factory=dict)
    peak: float = 0.0  # MiB in this phase
    cpu: float = 0.0  # seconds so far
    cpu_before: float = 0.0  # when this phase began
    family: list[psutil.Process] = field(default_factory=list)
    family_at: float = 0.0
    killed: Fault | None = None
    killed_status: str = "failed"
    outcome: tuple[str, Any] | None = None


Report = Callable[[str, Cell, Record | None, float], None]


def run_cells(
    cells: Iterable[Cell],
    store: Store,
    *,
    data_dir: Path | None,
    metric_names: list[str],
    workers: int,
    threads: int,
    time_s: float,
    memory_mb: float,
    report: Report,
    studies: str = "",
) -> None:
    """Run cells, `workers` at a time, until each has a record. studies: URL of a database for tuning, "" for none.

    report(event, cell, record, seconds): "start" and "end" of each cell. A cell that another process holds, or whose
    study or fit is under way for another cell, is waited for while others are run. A child killed from outside is
    started once more. Raises BenchError where the store's disk is full.
    """
    folder, names = str(data_dir) if data_dir else None, tuple(metric_names)
    waiting = [Work(c, str(store.root), folder, names, studies, memory_mb) for c in cells]
    ours = {REGISTRY[w.cell.generator].load.split(":")[0] for w in waiting if w.cell.generator in REGISTRY}
    context = _server(threads, [*PRELOAD, *sorted(ours)])
    running: list[Running] = []
    again: set[str] = set()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                work = _next(waiting, running, store)
                if work is None:
                    break
                report("start", work.cell, None, 0.0)
                running.append(_start(context, work))
            _listen(running, store)
            for child in list(running):
                _watch(child, time_s, memory_mb)
                if child.process.is_alive():
                    continue
                running.remove(child)
                _listen([child], store)
                outcome = _end(child, store, again)
                if outcome == "busy":
                    waiting.append(child.work)
                elif outcome == "again":
                    waiting.insert(0, child.work)
                else:
                    report("end", child.work.cell, store.record(child.work.cell.key), time.monotonic() - child.start)
            if not running and waiting:
                time.sleep(0.2)  # all that is left is held by others
    finally:
        for child in running:
            _kill(child)


def _server(threads: int, preload: list[str]) -> Any:
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


def _next(waiting: list[Work], running: list[Running], store: Store) -> Work | None:
    """The first cell nobody holds, and whose study and fit nobody is at; None where there is none."""
    making = {c.work.cell.fit_key for c in running if c.phase in UP_TO_FIT}
    making = {key for key in making if not store.fit(key).exists()}
    making |= {_study(c.work.cell) for c in running if c.phase in UP_TO_TUNE} - {""}
    for i, work in enumerate(waiting):
        fit, study = work.cell.fit_key, _study(work.cell)
        if not {fit, study} & making and not store.busy(work.cell.key, fit, study):
            return waiting.pop(i)
    return None


def _study(cell: Cell) -> str:
    """The key of the study that looks for a cell's parameters, "" for none."""
    return cell.study.key if cell.searched else ""


def _start(context: Any, work: Work) -> Running:
    ours, theirs = context.Pipe()
    now = time.monotonic()
    process = context.Process(target=child, args=(work, theirs), daemon=False)
    process.start()
    theirs.close()
    return Running(work, process, ours, start=now, since=now)


def _listen(running: list[Running], store: Store) -> None:
    """Take in what children say, and keep what their fits cost; returns when one speaks or ends, or after a moment."""
    ready = wait([x for c in running for x in (c.pipe, c.process.sentinel) if not _closed(x)], timeout=WATCH_S)
    for c in running:
        while c.pipe in ready and not c.pipe.closed:
            try:
                if not c.pipe.poll():
                    break
                what, value, at = c.pipe.recv()
            except (EOFError, OSError):
                c.pipe.close()
                break
            if what == "phase":
                _close_phase(c, at)
                if c.phase == "fit":  # made; kept now, so that it is known even where this cell goes no further
                    with _writing(store):
                        store.save_fit_cost(c.work.cell, c.phases["fit"])
                c.phase, c.since, c.peak, c.cpu_before = value, at, 0.0, c.cpu
            else:
                _close_phase(c, at)
                c.phase, c.since, c.outcome = "", at, (what, value)


def _closed(x: Any) -> bool:
    return isinstance(x, Connection) and x.closed


def _close_phase(c: Running, at: float) -> None:
    if c.phase:
        c.phases[c.phase] = {
            "seconds": round(at - c.since, 3),
            "cpu_s": round(c.cpu - c.cpu_before, 2),
            "peak_memory_mb": round(c.peak, 1),
        }


def _watch(c: Running, time_s: float, memory_mb: float) -> None:
    """Sample memory and processor time, and keep the limits."""
    now = time.monotonic()
    used, cpu = _used(c, now)
    c.peak, c.cpu = max(c.peak, used), max(c.cpu, cpu)
    if c.killed:
        return
    if used > memory_mb:
        c.killed = Fault(c.phase, "MemoryLimit", f"{used:,.0f} MiB resident, the limit is {memory_mb:,.0f} MiB")
        _kill(c)
    elif now - c.start > time_s:
        c.killed = Fault(c.phase, "TimeLimit", f"over the limit of {time_s:,.0f} s")
        c.killed_status = "timeout"
        _kill(c)


def _used(c: Running, now: float) -> tuple[float, float]:
    """Resident memory of the child and its descendants, MiB, and the processor time they and their dead have taken."""
    try:
        if not c.family or now - c.family_at > FAMILY_S:
            me = psutil.Process(c.process.pid)
            c.family, c.family_at = [me, *me.children(recursive=True)], now
    except psutil.Error:
        return 0.0, 0.0
    memory, cpu = 0, 0.0
    for process in c.family:
        try:
            memory += process.memory_info().rss
            cpu += sum(process.cpu_times()[:4])  # its own and its ended children's, as user and as system
        except psutil.Error:
            continue
    return memory / MIB, cpu


def _kill(c: Running) -> None:
    """Kill the child's process group, or the child alone where it has not made one yet."""
    for kill in (os.killpg, os.kill):
        try:
            kill(c.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def _end(c: Running, store: Store, again: set[str]) -> str:
    """Store what a finished child cost and, where it could not itself, its record. "busy" or "again" to restart it."""
    key = c.work.cell.key
    code = c.process.exitcode
    if c.outcome and c.outcome[0] == "busy":
        return "busy"
    if c.outcome and c.outcome[0] == "store":
        raise BenchError(str(c.outcome[1]))
    _close_phase(c, time.monotonic())
    fault = c.killed
    if fault is None and not c.outcome:
        if code is not None and -code in OUTSIDE:
            if key not in again:
                again.add(key)
                return "again"
            fault = Fault(c.phase, "Killed", f"killed twice from outside ({signal.Signals(-code).name})", outside=True)
        elif code is not None and code < 0:
            fault = Fault(c.phase, "Crashed", f"the process died of {signal.Signals(-code).name}")
        else:
            fault = Fault(c.phase, "Exited", f"the process ended with code {code} and no record")
    with _writing(store):
        if fault:
            store.save_record(Record(c.work.cell, c.killed_status if c.killed else "failed", fault))
        _save_cost(c, store)
    return "ended"


@contextmanager
def _writing(store: Store) -> Iterator[None]:
    """Raises BenchError where the store cannot be written."""
    try:
        yield
    except OSError as error:
        raise BenchError(f"store {store.root}: {reason(error)}") from error


def _save_cost(c: Running, store: Store) -> None:
    """Seconds and peak memory of each phase; a phase not done this time keeps what it cost before."""
    key = c.work.cell.key
    before = (store.note(key, "cost") or {}).get("phases", {})
    store.save_note(key, "cost", {"phases": {**before, **c.phases}, "machine": environment()})


def child(work: Work, pipe: Connection) -> None:
    """The life of a child process: one cell, everything it prints in the cell's private log."""
    os.setsid()
    _die_with_parent()
    os.umask(0o077)
    store = Store(Path(work.store))
    log = os.open(store.log(work.cell.key), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    print_to(log)
    from bench.run import StoreFull, run_cell

    def say(what: str, value: Any) -> None:
        try:
            pipe.send((what, value, time.monotonic()))
        except OSError:
            os._exit(1)  # the parent is gone: what is not stored yet is lost, and no record is written for it

    try:
        with store.lock(work.cell.key):
            store.tidy(work.cell.key)
            data_dir = Path(work.data_dir) if work.data_dir else None
            record = run_cell(
                work.cell,
                store,
                data_dir=data_dir,
                metric_names=list(work.metric_names),
                phase=lambda p: say("phase", p),
                studies=work.studies,
                memory_mb=work.memory_mb,
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
