"""What a node of a cluster does: says what it runs, runs a cell as one machine does, gives back what it has made.

Where the store's folder is not seen, cells work in a scratch store of the node (in BENCH_SCRATCH, else the folder of
temporary files), mode 700. It is removed when the run ends; what a run that was killed has left stays, for it to go on
with, until a run of another store comes to the node.
"""

from __future__ import annotations

import fcntl
import importlib.metadata as metadata
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import generators
from bench import parcel
from bench.devices import devices
from bench.errors import BenchError
from bench.launch import Setting, Work
from bench.local import Local
from bench.machine import PACKAGES, code
from bench.store import Busy, Store, flock
from bench.whole import StoreError, reason

CLEAN_S = 10.0  # in which those at a scratch store may end
Agreement = Mapping[str, str]  # what -> version, on which the driver and all nodes must agree


@dataclass(frozen=True)
class Home:
    """The driver's store. mark: a file in it, where nodes are to work in it; "" where they are not. id: names it."""

    root: str
    mark: str
    id: str


@dataclass(frozen=True)
class Sent:
    """A cell on its way to a node. made: what there is of it already. modules: to be loaded once."""

    work: Work
    setting: Setting
    home: Home
    made: parcel.Parcel
    agreed: Agreement
    modules: tuple[str, ...]


@dataclass(frozen=True)
class Returned:
    """What comes back. how: "ended", "busy", or "refused" and "store" with why. files: what was made."""

    how: str
    files: parcel.Parcel
    why: str = ""


def agreement(names: set[str]) -> dict[str, str]:
    """What decides results on this machine: Python, packages, our code, the code of a user's own generators."""
    found = {"Python": ".".join(platform.python_version_tuple()[:2])}
    found |= {name: _version(name) for name in PACKAGES if name != "mlflow"}
    found["the code of bench"] = code()[:12]
    for name in sorted(names - set(generators.REGISTRY)):
        try:
            found[f"generator {name}"] = generators.version(name)
        except ValueError:
            found[f"generator {name}"] = "absent"
    return found


def look(agreed: Agreement, mark: str) -> tuple[str, bool, float | None]:
    """Why this node may not work for a driver ("": it may), whether it sees a file of the driver's store and is not
    told to keep to its own, and the memory of its smallest GPU, MiB."""
    _own_path()
    sees = not os.environ.get("BENCH_SCRATCH") and Path(mark).exists()
    return disagreement(agreed), sees, min((d.memory_mb for d in devices("all")), default=None)


def disagreement(agreed: Agreement) -> str:
    """In what this node differs; "" where it does not."""
    here = agreement({name.removeprefix("generator ") for name in agreed if name.startswith("generator ")})
    other = [f"{what} {here.get(what, 'absent')} (driver: {v})" for what, v in agreed.items() if here.get(what) != v]
    return f"other software than the driver's: {', '.join(other)}: install the same there" if other else ""


def run_there(sent: Sent, table: parcel.Parcel) -> Returned:
    """Run a cell on this node."""
    _own_path()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # what crashes may hold rows
    os.umask(0o077)
    where = platform.node()
    if why := disagreement(sent.agreed):
        return Returned("refused", {}, f"node {where}: {why}")
    if sent.home.mark:
        if not Path(sent.home.mark).exists():
            return Returned("refused", {}, f"node {where}: does not see the store {sent.home.root} as the others do")
        return Returned(_run(sent, Store(Path(sent.home.root))), {})
    try:
        with scratch(sent.home.id) as store:
            with store.alone("unpack"):
                parcel.unpack(store, table)
                parcel.unpack(store, sent.made)
            how = _run(sent, store)
            made = parcel.new(parcel.packed(store, sent.work.cell), sent.made)
            shutil.rmtree(store.samples(sent.work.cell.key), ignore_errors=True)
            return Returned(how, made)
    except (OSError, StoreError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        return Returned("store", {}, f"node {where}: scratch folder {base()}: {why} (BENCH_SCRATCH names another)")
    except BenchError as error:  # of the launcher: its disk is full
        return Returned("store", {}, f"node {where}: {error} (BENCH_SCRATCH names another folder)")


def clean(id: str) -> None:
    """Remove what this node keeps of a store, once nobody is at it; another run of that store removes it else."""
    end = time.monotonic() + CLEAN_S
    while not _removed(base() / id) and time.monotonic() < end:
        time.sleep(0.2)


def base() -> Path:
    """The folder of this user's scratch stores."""
    return Path(os.environ.get("BENCH_SCRATCH") or tempfile.gettempdir()) / f"bench-{os.getuid()}"


@contextmanager
def scratch(id: str) -> Iterator[Store]:
    """This node's scratch store for a store; those of others that nobody is at are removed."""
    base().mkdir(mode=0o700, parents=True, exist_ok=True)
    if base().stat().st_uid != os.getuid() or base().stat().st_mode & 0o077:
        raise StoreError("it is not this user's alone")
    for other in base().iterdir():
        if other.name != id:
            _removed(other)
    with flock(base() / id / "lock", fcntl.LOCK_SH):
        yield Store.open(base() / id / "store")


def _removed(folder: Path) -> bool:
    """Whether a scratch store is gone; it stays while somebody is at it."""
    if not folder.exists():
        return True
    try:
        with flock(folder / "lock", fcntl.LOCK_EX | fcntl.LOCK_NB):
            shutil.rmtree(folder, ignore_errors=True)
    except (Busy, OSError):
        return False
    return True


def _run(sent: Sent, store: Store) -> str:
    """How the cell ended, once it has: "ended" or "busy"."""
    setting = replace(sent.setting, store=store, data_dir=None, elsewhere=True)
    work = replace(sent.work, memory_mb=None)  # Ray has counted it
    local = Local(setting, sent.modules, workers=1, devices=devices("all"))
    try:
        local.start(work)
        while True:
            for ending in local.wait():
                if ending.how != "again":
                    return ending.how
                local.start(work)
    finally:
        local.stop()


def _own_path() -> None:
    """Our rooms first on the path, whatever lies where the driver was started; and no child loads Ray's own script."""
    root = str(Path(__file__).parent.parent)
    if root in sys.path[1:]:
        sys.path.remove(root)
    if sys.path[0] != root:
        sys.path.insert(0, root)
    if hasattr(sys.modules["__main__"], "__file__"):
        del sys.modules["__main__"].__file__  # which multiprocessing would run again in every child


def _version(name: str) -> str:
    """The public part of a package's version: builds for a CPU and a GPU are one."""
    try:
        return metadata.version(name).partition("+")[0]
    except metadata.PackageNotFoundError:
        return "absent"
