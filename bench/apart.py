"""Work done in a forked child, watched: a child that fails, hangs, grows or dies takes nothing with it.

The parent must not have started threads of a numeric library (OpenMP's do not survive a fork): it keeps to one thread
while it starts children, and each child takes back what the process was given.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import psutil

from bench.errors import BenchError, untold

BESIDE_S = 600.0  # after which work beside other work is done here
LOOK_S = 0.05  # between two looks at a child
MIB = 2**20
Ask = Callable[[Any], Any]


@dataclass(frozen=True)
class Outcome:
    """How a child's work ended: "done" with its value, "failed" or "timeout".

    why: the message of an error of ours, or the class of another's, whose message may hold values of a table.
    """

    status: str
    value: Any = None
    why: str = ""
    seconds: float = 0.0


def apart(
    work: Callable[[Ask], Any],
    *,
    time_s: float = float("inf"),
    memory_mb: float = float("inf"),
    answer: Callable[[Any], Any] = lambda question: None,
    idle: Callable[[], None] = lambda: None,
    log: int | None = None,
) -> Outcome:
    """Do work(ask) in a forked child and give what it gives, pickled.

    ask(question) in the child is answered by answer(question) here. idle() is called at every look. time_s, memory_mb:
    the child is killed beyond them. log: file descriptor that takes what the child prints.
    """
    ours, theirs = mp.Pipe()
    life, held = os.pipe()  # nobody but this process holds its end: it closes when this process dies
    start = time.monotonic()
    process = mp.get_context("fork").Process(target=_child, args=(work, theirs, (ours, held), life, log), daemon=False)
    with forking():
        process.start()
    theirs.close()
    os.close(life)
    found: Outcome | None = None
    try:
        while found is None:
            wait([ours, process.sentinel], timeout=LOOK_S)
            idle()
            said, silent = _heard(ours)
            passed = time.monotonic() - start
            if said is not None and said[0] == "ask":
                ours.send(answer(said[1]))
            elif said is not None:
                found = Outcome("done", said[1]) if said[0] == "done" else Outcome("failed", None, said[1])
            elif silent:
                process.join()
                found = Outcome("failed", None, _death(process.exitcode))
            elif passed > time_s:
                found = Outcome("timeout", None, f"over {time_s:,.0f} s")
            elif memory_mb < float("inf") and resident(process.pid) > memory_mb:
                found = Outcome("failed", None, f"over {memory_mb:,.0f} MiB")
    finally:
        end(process.pid)
        process.join()
        ours.close()
        os.close(held)
    return Outcome(found.status, found.value, found.why, time.monotonic() - start)


def in_two(work: Callable[[Any], Any], first: Any, second: Any, *, worth: bool) -> tuple[Any, Any]:
    """work(first) and work(second); where that is worth a process, the second in a child beside the first."""
    if not worth or (os.cpu_count() or 1) < 2 or threading.active_count() > 1:
        return work(first), work(second)
    begun = threading.Event()
    with ThreadPoolExecutor(1) as beside:
        child = beside.submit(apart, lambda ask: work(second), idle=begun.set, time_s=BESIDE_S)
        begun.wait()  # for the fork, beside which nothing else may be going on
        mine, out = work(first), child.result()
    return mine, out.value if out.status == "done" else work(second)


@contextmanager
def forking() -> Iterator[None]:
    """Python 3.12 warns of a fork beside threads; ours only wait, and hold no lock."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def resident(pid: int | None) -> float:
    """Resident memory of a process and its descendants, MiB."""
    total = 0
    for process in _family(pid):
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue
    return total / MIB


def end(pid: int | None) -> None:
    """Kill a process and its descendants."""
    for process in _family(pid):
        try:
            process.kill()
        except psutil.Error:
            continue


def print_to(descriptor: int) -> None:
    """Send all that this process prints to a file descriptor."""
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115


def give_threads(n: int) -> None:
    """Let the numeric libraries that are loaded use so many threads from here on."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(n)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(n)


def _family(pid: int | None) -> list[psutil.Process]:
    try:
        me = psutil.Process(pid)
        return [*me.children(recursive=True), me]
    except psutil.Error:
        return []


def _heard(pipe: Connection) -> tuple[tuple[str, Any] | None, bool]:
    """What a child has said, if anything, and whether it is past saying more."""
    try:
        return (pipe.recv() if pipe.poll() else None), False
    except (EOFError, OSError):
        return None, True


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        return f"the process died of {signal.Signals(-code).name}"
    return f"the process ended with code {code}"


def _child(
    work: Callable[[Ask], Any], pipe: Connection, parents: tuple[Connection, int], life: int, log: int | None
) -> None:
    parents[0].close()
    os.close(parents[1])
    if log is not None:
        print_to(log)

    def die_with_parent() -> None:
        os.read(life, 1)
        end(os.getpid())

    threading.Thread(target=die_with_parent, daemon=True).start()
    give_threads(int(os.environ.get("OMP_NUM_THREADS", "0")) or os.cpu_count() or 1)

    def ask(question: Any) -> Any:
        pipe.send(("ask", question))
        return pipe.recv()

    try:
        pipe.send(("done", work(ask)))
    except BaseException as error:  # whatever a generator raises: the parent must hear of it
        traceback.print_exc()
        pipe.send(("failed", str(error) if isinstance(error, BenchError) else untold(error)[0]))
    sys.stdout.flush()
    os._exit(0)  # nothing of a user's code may hold the process up
