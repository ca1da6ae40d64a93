"""Which cell comes next, and what is known of how long cells take."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bench.cell import Cell
from bench.datasets import open_dataset
from bench.launch import Setting, Work
from bench.local import Child, Local
from bench.queue import ENOUGH, Queue
from bench.store import Store

FRAUD = open_dataset("sim-fraud[rows=1200]", None)
CELL = Cell("sim-fraud[rows=1200]", "sim-fraud[rows=1200]", "d1", "random", "ou", "ou", "1", '{"steps": 5}', 0,
            at_sample='["steps"]')  # fmt: skip
ARM = replace(CELL, params='{"steps": 9}', label="more")  # with the same fit
OTHER = replace(CELL, replicate=1)


class Room:
    """A launcher's account of what there is room for."""

    full, running = False, 0

    def __init__(self, memory_mb: float = 1e9) -> None:
        self.memory_mb = memory_mb

    def never(self, work: Work) -> str:
        return "too large" if work.memory_mb == 1e12 else ""

    def has_room(self, work: Work) -> bool:
        return (work.memory_mb or 0) <= self.memory_mb

    def making(self) -> set[str]:
        return set()


def work(name: str, seconds: float | None = None, memory_mb: float | None = None) -> Work:
    cell = replace(CELL, params="{}", at_sample="", generator=name, label=name)
    return Work(cell, FRAUD, cell.fit_key, "", seconds, memory_mb)


def local(store: Store, *children: Child) -> Local:
    launcher = Local(Setting(store, None, (), 1, 60, 1e9), (), workers=9)
    launcher.children = list(children)
    return launcher


def order(queue: Queue, launcher: object) -> list[str]:
    return [w.cell.label for w in iter(lambda: queue.next(launcher), None)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path)


def test_long_cells_come_first_and_before_them_those_of_which_nothing_is_known(store: Store) -> None:
    queue = Queue([work("short", 1.0), work("unknown"), work("long", 100.0), work("middle", 10.0)], store)
    assert order(queue, Room()) == ["unknown", "long", "middle", "short"]
    assert not queue


def test_a_cell_without_room_does_not_hold_up_the_others(store: Store) -> None:
    queue = Queue([work("large", 100.0, 9_000.0), work("small", 1.0, 10.0), work("vast", 50.0, 1e12)], store)
    assert order(queue, Room(memory_mb=100.0)) == ["vast", "small"]  # and what never fits comes to be told so
    assert order(queue, Room()) == ["large"]


def test_no_cell_is_started_that_would_end_too_late(store: Store) -> None:
    cells = [work("long", 100.0), work("short", 1.0), work("unknown")]
    queue = Queue(cells, store, budget_s=50.0, longest_s=3_600.0)
    assert order(queue, Room()) == ["short"]
    assert queue.over
    known = Queue(cells, store, budget_s=50.0, longest_s=20.0)  # nothing takes longer than the limit
    assert order(known, Room()) == ["unknown", "short"]


def test_a_cell_that_has_ended_says_how_long_its_like_take(store: Store) -> None:
    again = replace(work("unknown"), cell=replace(work("unknown").cell, replicate=1))
    queue = Queue([again], store, budget_s=50.0, longest_s=3_600.0)
    assert order(queue, Room()) == []
    queue.ended(work("unknown"), 2.0)
    assert queue.left_s(2) == 1.0
    assert order(queue, Room()) == ["unknown"]


def test_estimates_are_corrected_by_how_they_have_held(store: Store) -> None:
    queue = Queue([work("last", 10.0)], store, budget_s=1_000.0)
    assert queue.left_s(1) == 10.0
    for i in range(ENOUGH):  # five times as fast as expected
        queue.ended(work(f"g{i}", 10.0), 2.0)
    assert queue.left_s(1) == pytest.approx(2.0)


def test_the_time_left_is_unknown_where_most_cells_are(store: Store) -> None:
    assert Queue([work("a", 1.0), work("b"), work("c")], store).left_s(1) is None
    assert Queue([work("a", 1.0), work("b", 3.0), work("c")], store).left_s(1) == pytest.approx(6.0)


def test_a_cell_put_back_waits_again(store: Store) -> None:
    queue = Queue([work("a", 2.0), work("b", 1.0)], store)
    first = queue.next(Room())
    assert first is not None
    queue.put_back(first, first=False)
    assert order(queue, Room()) == ["b", "a"]


# --- what cells share ---


def arm(cell: Cell) -> Work:
    return Work(cell, FRAUD, cell.fit_key, "")


@contextmanager
def held(store: Store, fit: str, mark: Path) -> Iterator[None]:
    """Another process makes a fit, and is killed."""
    pid = os.fork()
    if pid == 0:
        with store.fitting(fit):
            mark.touch()
            time.sleep(60)
    while not mark.exists():
        time.sleep(0.01)
    yield
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_other_cells_are_started_while_a_fit_is_made(store: Store, tmp_path: Path) -> None:
    first, second, other = arm(CELL), arm(ARM), arm(OTHER)
    fitting = local(store, Child(first, None, None, 0.0, phase="fit"))
    assert Queue([second, other], store).next(fitting) is other
    assert Queue([second], store).next(fitting) is None
    assert Queue([second], store).next(local(store, Child(first, None, None, 0.0, phase="sample"))) is second
    with held(store, CELL.fit_key, tmp_path / "held"):
        assert Queue([second, other], store).next(local(store)) is other  # a fit that another run is making
    assert Queue([second], store).next(local(store)) is second  # nothing is left of a killed process
    store.fit(CELL.fit_key).mkdir(parents=True)
    assert Queue([second], store).next(fitting) is second  # what is stored is not made


def test_another_cell_of_a_study_waits_until_it_is_tuned(store: Store) -> None:
    tuned = [replace(arm(c), study="study") for c in (CELL, OTHER)]
    for phase, expected in (("tune", None), ("fit", tuned[1])):
        at_work = local(store, Child(tuned[0], None, None, 0.0, phase=phase))
        assert Queue([tuned[1]], store).next(at_work) is expected
