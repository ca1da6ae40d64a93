"""Cells in child processes of this machine: each a fork of a warm server, watched from outside.

The parent samples a child's memory, processor time and what it takes of its GPU, with all its descendants', keeps the
limits by killing its process group, and stores what it cost.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

import psutil

from bench.cell import Cell, Fault, Record
from bench.child import Told, live, server
from bench.devices import Device, Meter, Sharing, gpu_estimate, peak_mb
from bench.errors import BenchError
from bench.launch import Ending, Kind, Setting, Work, writing
from bench.machine import environment
from bench.store import Store
from generators import REGISTRY

PRELOAD = ["pandas", "pyarrow.parquet", "sklearn.linear_model", "sklearn.model_selection", "xgboost", "bench.cli",
           "bench.run", "metrics.joint", "metrics.pairs", "metrics.boost", "metrics.attributes"]  # fmt: skip
WATCH_S = 0.05  # between two looks at memory
FAMILY_S = 0.5  # between two looks for the group's further processes, and at its GPU
UP_TO_TUNE = ("start", "load", "split", "tune")
UP_TO_FIT = (*UP_TO_TUNE, "fit")
UP_TO_SAMPLES = (*UP_TO_FIT, "reload", "sample", "minority")
OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
HOST_SHARE = 0.9  # of this machine's memory that cells are planned into
MIB = 2**20


@dataclass
class Child:
    """A child under watch."""

    work: Work
    process: Any
    pipe: Connection
    start: float
    device: Device | None = None
    phase: str = "start"
    since: float = 0.0
    phases: dict[str, dict[str, float]] = field(default_factory=dict)
    peak: float = 0.0  # MiB in this phase
    cpu: float = 0.0  # seconds so far
    cpu_before: float = 0.0  # when this phase began
    gpu_peak: float | None = None  # MiB in this phase
    gpu_busy: list[float] = field(default_factory=list)  # percent, in this phase
    gpu_before: float | None = None  # MiB of its device that others held when it began; None: not alone, or not known
    family: list[psutil.Process] = field(default_factory=list)
    family_at: float = 0.0
    killed: Fault | None = None
    killed_status: str = "failed"
    outcome: tuple[str, Any] | None = None


class Local:
    """`workers` children at a time. devices: GPUs, each child of a cell that uses one pinned to one; where there are
    some, all others see none. A launcher (bench/launch.py)."""

    def __init__(
        self, setting: Setting, modules: Iterable[str], *, workers: int, devices: Sequence[Device] = ()
    ) -> None:  # fmt: skip
        self.setting, self.workers = setting, workers
        self.meter = Meter()
        self.sharing = Sharing(list(devices), self.meter)
        self.memory_mb = HOST_SHARE * psutil.virtual_memory().total / MIB
        self.children: list[Child] = []
        self.again: set[str] = set()
        self.gpu_mb: dict[Kind, float] = {}  # what cells of a kind have taken of a GPU
        self.context = server(setting.threads, [*PRELOAD, *sorted(set(modules))])

    @property
    def running(self) -> int:
        """How many cells run."""
        return len(self.children)

    @property
    def full(self) -> bool:
        """Whether all workers are at work."""
        return len(self.children) >= self.workers

    def never(self, work: Work) -> str:
        """Why a cell can never run here; "" where it can."""
        return self.sharing.too_large(gpu_estimate(work.least_mb)) if self._wants_gpu(work) else ""

    def has_room(self, work: Work) -> bool:
        """Whether there is memory and, for a cell that uses one, a GPU for it now."""
        planned = sum(self._expected(c.work) for c in self.children)
        if self.children and planned + self._expected(work) > self.memory_mb:
            return False
        return not self._wants_gpu(work) or self.sharing.place(self._gpu_mb(work)) is not None

    def making(self) -> set[str]:
        """Keys of the fits and the studies that running cells are at."""
        store = self.setting.store
        fits = {c.work.fit for c in self.children if c.phase in UP_TO_FIT}
        studies = {c.work.study for c in self.children if c.phase in UP_TO_TUNE} - {""}
        return {key for key in fits if not store.fit(key).exists()} | studies

    def start(self, work: Work) -> None:
        """Start a cell."""
        s, device = self.setting, None
        if self._wants_gpu(work):
            device = self.sharing.place(self._gpu_mb(work))
        gpu = device.uuid if device else "" if self.sharing.devices else None
        ours, theirs = self.context.Pipe()
        now = time.monotonic()
        told = Told(work.cell, str(s.store.root), str(s.data_dir) if s.data_dir else None, tuple(s.metric_names),
                    s.studies, s.memory_mb, work.source if s.elsewhere else None, gpu)  # fmt: skip
        process = self.context.Process(target=live, args=(told, theirs), daemon=False)
        process.start()
        theirs.close()
        new = Child(work, process, ours, start=now, since=now, device=device)
        if device:
            alone = not self.sharing.held[device.id]
            new.gpu_before = self.meter.used_mb(device) if alone else None
            self.sharing.take(device, work.cell.key, self._gpu_mb(work))
        self.children.append(new)

    def wait(self) -> list[Ending]:
        """Watch for a moment, and give the cells that have ended. Raises BenchError where the store's disk is full."""
        self._listen(self.children)
        ended = []
        for child in list(self.children):
            self._watch(child)
            if child.process.is_alive():
                continue
            self._listen([child])
            self.children.remove(child)
            if child.device:
                self.sharing.give_back(child.device, child.work.cell.key)
            how = self._end(child)
            if (taken := peak_mb(child.phases)) is not None:
                self.gpu_mb[child.work.kind] = max(taken, self.gpu_mb.get(child.work.kind, 0.0))
            child.pipe.close()
            child.process.close()
            ended.append(Ending(child.work, how, time.monotonic() - child.start))
        return ended

    def stop(self) -> None:
        """Kill what runs."""
        for child in self.children:
            _kill(child)

    def _wants_gpu(self, work: Work) -> bool:
        return work.gpu and bool(self.sharing.devices)

    def _gpu_mb(self, work: Work) -> float | None:
        """What a cell will take of a GPU: what its like has taken, else the estimate."""
        return self.gpu_mb.get(work.kind, gpu_estimate(work.memory_mb))

    def _expected(self, work: Work) -> float:
        return min(work.memory_mb or 0.0, self.setting.memory_mb)

    def _listen(self, children: list[Child]) -> None:
        """Take in what children say, and keep what their fits cost; returns when one speaks or ends, or after a
        moment."""
        ready = wait([x for c in children for x in (c.pipe, c.process.sentinel) if not _closed(x)], timeout=WATCH_S)
        for c in children:
            while c.pipe in ready and not c.pipe.closed:
                try:
                    if not c.pipe.poll():
                        break
                    what, value, at = c.pipe.recv()
                except (EOFError, OSError):
                    c.pipe.close()
                    break
                if what == "phase":
                    self._enter(c, value, at)
                else:
                    _close_phase(c, at)
                    c.phase, c.since, c.outcome = "", at, (what, value)

    def _enter(self, c: Child, phase: str, at: float) -> None:
        _close_phase(c, at)
        if c.phase == "fit":  # made; kept now, so that it is known even where this cell goes no further
            with writing(self.setting.store):
                self.setting.store.save_fit_cost(c.work.cell, c.phases["fit"])
        if c.device and c.phase in UP_TO_SAMPLES and phase not in UP_TO_SAMPLES:
            self.sharing.give_back(c.device, c.work.cell.key, self._on_device(c))
        c.phase, c.since, c.peak, c.cpu_before = phase, at, 0.0, c.cpu
        c.gpu_peak, c.gpu_busy = None, []

    def _watch(self, c: Child) -> None:
        """Sample memory, processor time and the GPU, and keep the limits."""
        now = time.monotonic()
        if c.device and now - c.family_at > FAMILY_S:
            used, busy = self._on_device(c), self.meter.busy_percent(c.device)
            c.gpu_peak = used if c.gpu_peak is None else max(c.gpu_peak, used or 0.0)
            c.gpu_busy += [] if busy is None else [busy]
        memory, cpu = _used(c, now)
        c.peak, c.cpu = max(c.peak, memory), max(c.cpu, cpu)
        if c.killed:
            return
        if memory > self.setting.memory_mb:
            most = f"the limit is {self.setting.memory_mb:,.0f} MiB"
            c.killed = Fault(c.phase, "MemoryLimit", f"{memory:,.0f} MiB resident, {most}")
            _kill(c)
        elif now - c.start > self.setting.time_s:
            c.killed = Fault(c.phase, "TimeLimit", f"over the limit of {self.setting.time_s:,.0f} s")
            c.killed_status = "timeout"
            _kill(c)

    def _on_device(self, c: Child) -> float | None:
        """Memory of its device that a child holds, MiB: by its processes' numbers or, where a container hides them and
        it is alone there, what has been added since it began. None where that cannot be known."""
        if c.device is None:
            return None
        mine = self.meter.used_mb(c.device, [p.pid for p in c.family]) if c.family else None
        if mine is not None or c.gpu_before is None or len(self.sharing.held[c.device.id]) > 1:
            return mine
        now = self.meter.used_mb(c.device)
        return None if now is None else max(0.0, now - c.gpu_before)

    def _end(self, c: Child) -> str:
        """Store what a finished child cost and, where it could not itself, its record. "ended", or "busy" or "again"
        to start it anew."""
        key, store = c.work.cell.key, self.setting.store
        code = c.process.exitcode
        if c.outcome and c.outcome[0] == "busy":
            return "busy"
        if c.outcome and c.outcome[0] == "store":
            raise BenchError(str(c.outcome[1]))
        _close_phase(c, time.monotonic())
        fault = c.killed
        if fault is None and not c.outcome:
            if code is not None and -code in OUTSIDE:
                if key not in self.again:
                    self.again.add(key)
                    return "again"
                name = signal.Signals(-code).name
                fault = Fault(c.phase, "Killed", f"killed twice from outside ({name})", outside=True)
            elif code is not None and code < 0:
                fault = Fault(c.phase, "Crashed", f"the process died of {signal.Signals(-code).name}")
            else:
                fault = Fault(c.phase, "Exited", f"the process ended with code {code} and no record")
        with writing(store):
            if fault:
                store.save_record(Record(c.work.cell, c.killed_status if c.killed else "failed", fault))
            _save_cost(c, store)
        return "ended"


def modules(cells: Iterable[Cell]) -> set[str]:
    """The modules of ours that cells' generators live in, to be loaded once."""
    return {REGISTRY[c.generator].load.split(":")[0] for c in cells if c.generator in REGISTRY}


def _closed(x: Any) -> bool:
    return isinstance(x, Connection) and x.closed


def _close_phase(c: Child, at: float) -> None:
    if not c.phase:
        return
    cost = {"seconds": round(at - c.since, 3), "cpu_s": round(c.cpu - c.cpu_before, 2),
            "peak_memory_mb": round(c.peak, 1)}  # fmt: skip
    if c.gpu_peak is not None:
        cost["gpu_memory_mb"] = round(c.gpu_peak, 1)
    if c.gpu_busy:
        cost["gpu_percent"] = round(sum(c.gpu_busy) / len(c.gpu_busy), 1)
    c.phases[c.phase] = cost


def _used(c: Child, now: float) -> tuple[float, float]:
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


def _kill(c: Child) -> None:
    """Kill the child's process group, or the child alone where it has not made one yet."""
    for kill in (os.killpg, os.kill):
        try:
            kill(c.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def _save_cost(c: Child, store: Store) -> None:
    """What each phase took; a phase not done this time keeps what it cost before."""
    key = c.work.cell.key
    before = (store.note(key, "cost") or {}).get("phases", {})
    device = {"gpu": c.device.name} if c.device else {}
    store.save_note(key, "cost", {"phases": {**before, **c.phases}, "machine": environment(), **device})
