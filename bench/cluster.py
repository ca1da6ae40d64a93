"""Cells on a Ray cluster, each a task: the driver's side, and the only file that imports ray. bench/there.py is the
nodes' side.

Where every node sees the store's folder, tasks work in it. Else the parsed dataset comes through the object store, put
there once, and what a cell has made goes back the same way. A cell whose node or worker is lost is started anew; one
that fails by itself is not. No node works whose code, packages or Python differ from the driver's.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import socket
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from bench import parcel
from bench.cell import Fault, Record
from bench.devices import SHARE, gpu_estimate, peak_mb
from bench.errors import BenchError, untold
from bench.launch import Ending, Kind, Setting, Work, writing
from bench.local import modules
from bench.store import Busy
from bench.tables_apart import Tables
from bench.there import Home, Returned, Sent, agreement, clean, look, run_there
from bench.whole import reason

LOST_MOST = 5  # times that a cell is lost before it is left
WAIT_S = 0.05  # between two looks at what has ended
NODES_S = 3.0  # between two looks at which nodes there are
LOOK_S = 60.0  # in which a node must say what it runs
CLEAN_S = 20.0  # in which nodes remove what they keep
STEPS = 20  # parts of a GPU that are given out
MIB = 2**20


@dataclass(frozen=True)
class Node:
    """What a node of the cluster has. gpu_mb: memory of its smallest GPU; shared: whether it sees the store."""

    cpus: float
    gpus: float
    memory_mb: float
    gpu_mb: float | None
    shared: bool


@dataclass(frozen=True)
class Task:
    """A cell that is out. locks: on what it makes, where its node does not take them itself."""

    work: Work
    locks: ExitStack
    start: float


class Cluster:
    """Tasks on the nodes of a Ray cluster. A launcher (bench/launch.py).

    address: HOST:PORT of a cluster that this machine is a node of; "": RAY_ADDRESS, or a cluster of this machine alone.
    workers: cells at a time; 0: as many as the cores take. Raises BenchError where the cluster cannot be reached, or a
    node runs other software.
    """

    def __init__(self, setting: Setting, works: Sequence[Work], *, address: str = "", workers: int = 0) -> None:
        self.setting, self.workers = setting, workers
        self.tasks: dict[Any, Task] = {}
        self.over: list[Ending] = []  # cells that ended before they could be sent
        self.lost: Counter[str] = Counter()
        self.modules = tuple(sorted(modules(w.cell for w in works)))
        self.agreed = agreement({w.cell.generator for w in works})
        self.gpu_mb: dict[Kind, float] = {}  # what cells of a kind have taken of a GPU
        self.nodes: dict[str, Node] = {}
        self.looks: dict[str, Any] = {}  # what nodes have been asked, by node
        self.looked = 0.0
        root = setting.store.root
        self.mark = root / f".shared-{uuid4().hex}"
        self.id = hashlib.sha256(f"{socket.gethostname()}\0{root}".encode()).hexdigest()[:16]
        self.ray = connect(address)
        self.call = self.ray.remote(max_retries=0)(run_there)
        self.tables = Tables(setting, works)
        self.refs: dict[str, Any] = {}  # datasets in the object store
        try:
            with writing(setting.store):
                self.mark.touch()
            self._meet(LOOK_S)
            self.shared = all(node.shared for node in self.nodes.values())
            if setting.studies.startswith("sqlite:") and not self.shared:
                raise BenchError("--studies sqlite: nodes that do not see the store's folder need postgresql://...")
        except BaseException:
            self.stop()
            raise

    # --- what there is room for ---

    @property
    def running(self) -> int:
        """How many cells are out."""
        return len(self.tasks) + len(self.over)

    @property
    def full(self) -> bool:
        """Whether all cores are taken, or as many as were asked for."""
        self._meet()
        return len(self.tasks) >= max(1, min(self.slots, self.workers or self.slots))

    @property
    def slots(self) -> int:
        """How many cells the cores of all nodes take."""
        return sum(int(node.cpus // self.setting.threads) for node in self.nodes.values())

    @property
    def said(self) -> str:
        """The cluster in words."""
        gpus = sum(node.gpus for node in self.nodes.values())
        where = "the store's folder" if self.shared else "folders of their own"
        nodes = f"{len(self.nodes)} node{'s' * (len(self.nodes) > 1)}"
        return f"{nodes} of a Ray cluster{f' with {gpus:.0f} GPUs' if gpus else ''}, which work in {where}"

    def never(self, work: Work) -> str:
        """Why no node can take a cell; "" where one can."""
        nodes, needs = list(self.nodes.values()), work.least_mb or 0.0
        if not nodes or any(n.cpus >= self.setting.threads and n.memory_mb >= needs for n in nodes):
            return ""
        most = max(nodes, key=lambda n: (n.cpus, n.memory_mb))
        return (
            f"it needs {self.setting.threads} cores and {needs:,.0f} MiB at least of one node, the largest of "
            f"{len(nodes)} has {most.cpus:.0f} cores and {most.memory_mb:,.0f} MiB"
        )

    def has_room(self, work: Work) -> bool:
        """Whether the cluster has the memory, and the GPU for a cell that uses one, beside what is out; and the cell's
        dataset, which is begun to be read where it is not there."""
        out = [work, *(t.work for t in self.tasks.values())]
        nodes = self.nodes.values()
        return (
            sum(map(self._memory_mb, out)) <= sum(n.memory_mb for n in nodes)
            and sum(map(self._gpus, out)) <= sum(n.gpus for n in nodes)
            and self.tables.ready(work)
        )

    def making(self) -> set[str]:
        """Keys of the fits and the studies of cells that are out, as long as they are not in the store."""
        store = self.setting.store
        fits = {t.work.fit for t in self.tasks.values() if not store.fit(t.work.fit).exists()}
        return fits | {t.work.study for t in self.tasks.values()} - {""}

    def _memory_mb(self, work: Work) -> float:
        """What a cell asks a node for: what it is expected to take, where nothing is known the limit; no more than
        that, or than a whole node."""
        most = max((n.memory_mb for n in self.nodes.values()), default=math.inf)
        return min(self.setting.memory_mb if work.memory_mb is None else work.memory_mb, self.setting.memory_mb, most)

    def _gpus(self, work: Work) -> float:
        """The share of a GPU that a cell asks for."""
        sizes = [n.gpu_mb for n in self.nodes.values() if n.gpus]
        if not work.gpu or not sizes:
            return 0.0
        needs = self.gpu_mb.get(work.kind, gpu_estimate(work.memory_mb))
        if needs is None or None in sizes:
            return 1.0
        return min(1.0, math.ceil(STEPS * needs / (SHARE * min(s for s in sizes if s))) / STEPS)

    # --- starting and ending ---

    def start(self, work: Work) -> None:
        """Send a cell out."""
        now, store, locks = time.monotonic(), self.setting.store, ExitStack()
        if fault := self.tables.fault(work):
            with writing(self.setting.store):
                store.save_record(Record(work.cell, "failed", fault))
            self.over.append(Ending(work, "ended"))
            return
        try:
            if not self.shared:
                locks.enter_context(store.lock(work.cell.key))
                if not store.fit(work.fit).exists():
                    locks.enter_context(store.fitting(work.fit))
                if work.study and not store.study_result(work.study):
                    locks.enter_context(store.tuning(work.study))
        except Busy:
            locks.close()
            self.over.append(Ending(work, "busy"))
            return
        home = Home(str(store.root), str(self.mark) if self.shared else "", self.id)
        made = {} if self.shared else parcel.packed(store, work.cell)
        sent = Sent(work, self.setting, home, made, self.agreed, self.modules)
        ref = self.call.options(
            name="cell", num_cpus=self.setting.threads, num_gpus=self._gpus(work),
            memory=int(self._memory_mb(work) * MIB),
        ).remote(sent, self._table(work))  # fmt: skip
        self.tasks[ref] = Task(work, locks, now)

    def _table(self, work: Work) -> Any:
        """The cell's dataset in the object store; nothing where nodes read it from the store."""
        if self.shared:
            return {}
        folder = self.tables.folder(work)
        if folder.name not in self.refs:
            self.refs[folder.name] = self.ray.put(parcel.table(self.setting.store, folder))
        return self.refs[folder.name]

    def wait(self) -> list[Ending]:
        """The cells that have ended; what they made is in the store. Raises BenchError where it cannot be kept, or
        where a node runs other software."""
        over, self.over = self.over, []
        self.tables.listen()
        if not self.tasks:
            time.sleep(0 if over else WAIT_S)
            return over
        ready, _ = self.ray.wait(list(self.tasks), num_returns=1, timeout=0 if over else WAIT_S)
        return [*over, *(self._end(ref) for ref in ready)]

    def _end(self, ref: Any) -> Ending:
        task = self.tasks.pop(ref)
        work, store = task.work, self.setting.store
        seconds = time.monotonic() - task.start
        try:
            back = self._returned(ref)
            if back is None:
                return self._lost(work, seconds)
            if back.how in ("refused", "store"):
                raise BenchError(back.why)
            with writing(self.setting.store):
                parcel.unpack(store, back.files)
        finally:
            task.locks.close()
        if back.how == "ended":
            self._measure(work)
            if self.tables.done(work):
                self.refs.pop(self.tables.folder(work).name, None)
        return Ending(work, back.how, seconds)

    def _returned(self, ref: Any) -> Returned | None:
        """What a task gave back; None where its node or its worker is lost."""
        try:
            return self.ray.get(ref)
        except self.ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, BenchError):  # the store's disk is full there
                raise BenchError(str(error.cause)) from error
            name, place = untold(error.cause if isinstance(error.cause, Exception) else error)
            raise BenchError(f"a node of the cluster cannot run cells: {name}, {place}") from error
        except self.ray.exceptions.RayError:
            return None

    def _lost(self, work: Work, seconds: float) -> Ending:
        self.lost[work.cell.key] += 1
        if self.lost[work.cell.key] < LOST_MOST:
            return Ending(work, "again", seconds)
        why = f"its node or its worker was lost {LOST_MOST} times"
        with writing(self.setting.store):
            self.setting.store.save_record(Record(work.cell, "failed", Fault("start", "Lost", why, outside=True)))
        return Ending(work, "ended", seconds)

    def _measure(self, work: Work) -> None:
        """Keep what a cell took of its GPU, for others of its kind."""
        taken = peak_mb((self.setting.store.note(work.cell.key, "cost") or {}).get("phases", {}))
        if taken is not None:
            self.gpu_mb[work.kind] = max(taken, self.gpu_mb.get(work.kind, 0.0))

    def stop(self) -> None:
        """End all that is out, have the nodes remove what they keep, and leave the cluster."""
        for ref, task in self.tasks.items():
            with suppress(Exception):
                self.ray.cancel(ref, force=True)
            task.locks.close()
        self.tables.stop()
        with suppress(Exception):
            asked = [self._ask(node, clean, self.id) for node in self._alive()]
            self.ray.wait(asked, num_returns=len(asked), timeout=CLEAN_S)
        self.mark.unlink(missing_ok=True)
        self.ray.shutdown()

    # --- nodes ---

    def _alive(self) -> dict[str, dict[str, Any]]:
        return {n["NodeID"]: n for n in self.ray.nodes() if n["Alive"]}

    def _ask(self, node: str, function: Any, *args: Any) -> Any:
        """Have a node do something beside its cells."""
        there = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node_id=node, soft=False)
        return self.ray.remote(max_retries=0)(function).options(num_cpus=0, scheduling_strategy=there).remote(*args)

    def _meet(self, wait_s: float = 0.0) -> None:
        """Learn which nodes there are; a new one counts once it has said what it runs. wait_s: for it. Raises
        BenchError where that is other software, or nobody has answered by then."""
        now = time.monotonic()
        if now - self.looked < NODES_S:
            return
        self.looked, alive = now, self._alive()
        self.nodes = {id: node for id, node in self.nodes.items() if id in alive}
        for id in alive:
            if id not in self.nodes and id not in self.looks:
                self.looks[id] = self._ask(id, look, self.agreed, str(self.mark))
        asked = list(self.looks.values())
        ready = self.ray.wait(asked, num_returns=len(asked), timeout=wait_s)[0] if asked else []
        for id, ref in list(self.looks.items()):
            if ref in ready:
                del self.looks[id]
                if id in alive:
                    self._admit(id, alive[id], ref)
        if wait_s and not self.nodes:
            raise BenchError(f"no node of the cluster has answered within {wait_s:.0f} s")

    def _admit(self, id: str, node: dict[str, Any], ref: Any) -> None:
        try:
            why, shared, gpu_mb = self.ray.get(ref)
        except self.ray.exceptions.RayTaskError as error:
            raise BenchError(
                f"node {node['NodeManagerAddress']}: bench cannot be run there ({type(error.cause).__name__}): install "
                "the same version on every node"
            ) from error
        except self.ray.exceptions.RayError:
            return  # it is gone
        if why:
            raise BenchError(f"node {node['NodeManagerAddress']}: {why}")
        has = node["Resources"]
        memory = has.get("memory", 0) / MIB
        self.nodes[id] = Node(has.get("CPU", 0), has.get("GPU", 0), memory, gpu_mb, shared)


def connect(address: str) -> Any:
    """The ray module, connected. Raises BenchError where it is not installed or nobody answers."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise BenchError("--launcher ray: needs a package: pip install 'synth-health-bench[ray]'") from error
    address = address or os.environ.get("RAY_ADDRESS", "")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if not address:
        ray.init(include_dashboard=False, **quiet)
        return ray
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or "/" in host:
        raise BenchError(f"--address {address}: expected HOST:PORT")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
        here: dict[str, Any] = {"_node_ip_address": host} if host.startswith("127.") else {}
        ray.init(address=address, **here, **quiet)
    except (OSError, RuntimeError, ValueError, AssertionError) as error:
        raise BenchError(f"--address {address}: no Ray cluster answers there ({reason(error)})") from error
    return ray
