"""Where a suite's cells run, what each is expected to take there, and the launcher that starts them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import generators
from bench.cell import Cell
from bench.datasets.source import Source
from bench.devices import devices
from bench.errors import BenchError, unknown
from bench.estimate import Estimate, load
from bench.launch import Launcher, Setting, Work
from bench.store import Store

LAUNCHERS = ("local", "ray")


@dataclass(frozen=True)
class Place:
    """launcher: one of LAUNCHERS. workers: cells at a time; 0: as many as the cores take. gpus: of this machine
    (bench/devices.py). address: of a Ray cluster. budget_s: no cell begins that is expected to end later."""

    launcher: str = "local"
    workers: int = 0
    gpus: str = "all"
    address: str = ""
    budget_s: float = float("inf")

    def check(self) -> None:
        """Raise BenchError where a setting is not known, or two do not go together."""
        if self.launcher not in LAUNCHERS:
            raise unknown("launcher", self.launcher, LAUNCHERS)
        if self.address and self.launcher != "ray":
            raise BenchError(f"--address {self.address}: goes with --launcher ray")
        if self.gpus != "all" and self.launcher == "ray":
            raise BenchError(f"--gpus {self.gpus}: is for this machine; a Ray cluster gives out its GPUs itself")

    def open(self, setting: Setting, works: Sequence[Work]) -> tuple[Launcher, int, str]:
        """The launcher, how many cells it runs at a time, and what it is in words."""
        if self.launcher == "ray":
            from bench.cluster import Cluster

            cluster = Cluster(setting, works, address=self.address, workers=self.workers)
            slots = max(1, min(cluster.slots, self.workers or cluster.slots))
            return cluster, slots, f"on {cluster.said}"
        from bench.local import Local, modules

        gpus = devices(self.gpus)
        workers = self.workers or max(1, (os.cpu_count() or 1) // setting.threads)
        local = Local(setting, modules(w.cell for w in works), workers=workers, devices=gpus)
        return local, workers, f"on {len(gpus)} GPU{'s' * (len(gpus) > 1)}" if gpus else ""


def works(cells: Iterable[tuple[Cell, Source]], store: Store, metric_names: Sequence[str]) -> list[Work]:
    """Cells with what each is expected to take."""
    estimates = load(store)
    return [_work(cell, source, estimates.of(cell, source, metric_names), store) for cell, source in cells]


def _work(cell: Cell, source: Source, expected: Estimate | None, store: Store) -> Work:
    gpu = generators.find(cell.generator).gpu and not store.samples(cell.key).exists()  # else it is only scored
    bare = Work(cell, source, cell.fit_key, cell.study.key if cell.searched else "", gpu=gpu)
    if expected is None:
        return bare
    return replace(bare, seconds=expected.seconds, memory_mb=expected.memory_mb, least_mb=expected.least_mb)
