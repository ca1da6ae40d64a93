"""Work in a forked child: what comes back, and that nothing else does."""

import multiprocessing as mp
import os
import signal
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from bench.apart import apart, forking, in_two, resident


def test_a_value_comes_back_and_the_parent_is_untouched() -> None:
    here = [1]

    def work(ask):
        here.append(2)
        return {"pid": os.getpid(), "here": here}

    found = apart(work)
    assert found.status == "done"
    assert found.value["here"] == [1, 2]
    assert found.value["pid"] != os.getpid()
    assert here == [1]


def test_questions_are_answered() -> None:
    asked = []

    def answer(question):
        asked.append(question)
        return question * 10

    assert apart(lambda ask: [ask(1), ask(2)], answer=answer).value == [10, 20]
    assert asked == [1, 2]


def test_an_error_is_told_by_its_class_and_printed_to_the_log(tmp_path: Path) -> None:
    def work(ask):
        print("before")
        raise FloatingPointError("secret 17.25")

    log = os.open(tmp_path / "log", os.O_CREAT | os.O_WRONLY)
    found = apart(work, log=log)
    assert (found.status, found.why) == ("failed", "FloatingPointError")
    assert "before" in (tmp_path / "log").read_text()
    assert "secret 17.25" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("work", "limits", "status", "why"),
    [
        (lambda ask: time.sleep(60), {"time_s": 0.3}, "timeout", "over 0 s"),
        (lambda ask: [np.ones(2**27), time.sleep(60)], {"memory_mb": 900}, "failed", "over 900 MiB"),
        (lambda ask: os.kill(os.getpid(), signal.SIGKILL), {}, "failed", "the process died of SIGKILL"),
        (lambda ask: os._exit(3), {}, "failed", "the process ended with code 3"),
    ],
)
def test_a_child_that_does_not_end_well(work, limits: dict, status: str, why: str) -> None:
    if "memory_mb" in limits:
        limits = {"memory_mb": resident(os.getpid()) + 512}
        why = f"over {limits['memory_mb']:,.0f} MiB"
    found = apart(work, **limits)
    assert (found.status, found.why) == (status, why)
    assert found.seconds < 20
    assert not psutil.Process().children()


def test_a_childs_children_end_with_it() -> None:
    def work(ask):
        if os.fork() == 0:
            time.sleep(60)
        time.sleep(60)

    apart(work, time_s=0.5)
    assert not psutil.Process().children(recursive=True)


def test_a_child_ends_with_its_parent() -> None:
    """Even where the parent is killed and the child is deaf."""
    reader, writer = os.pipe()

    def middle(ask):
        def work(ask):
            os.write(writer, f"{os.getpid()}\n".encode())
            time.sleep(60)

        apart(work)

    apart(middle, time_s=1.0)  # kills the one in the middle and what it has started
    pid = int(os.read(reader, 20))
    killed = mp.get_context("fork").Process(target=lambda: middle(None))
    with forking():
        killed.start()
    lone = int(os.read(reader, 20))
    killed.kill()
    killed.join()
    end = time.monotonic() + 10
    while any(psutil.pid_exists(p) and psutil.Process(p).status() != "zombie" for p in (pid, lone)):
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("worth", [True, False])
def test_work_in_two(worth: bool) -> None:
    """Where it is worth it the second part is done by a child; what fails there is done here."""
    here = os.getpid()

    def work(items: list[int]) -> tuple[int, list[int]]:
        if 7 in items and os.getpid() != here:
            raise ValueError("not in a child")
        return os.getpid(), [2 * i for i in items]

    (first, one), (second, two) = in_two(work, [1, 2], [3], worth=worth)
    assert (one, two) == ([2, 4], [6])
    assert first == here
    assert (second != here) is worth
    assert in_two(work, [1], [7], worth=worth) == ((here, [2]), (here, [14]))
