"""Several processes on one study, with each storage; kills; a PostgreSQL server that the test starts."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from servers import PASSWORD, postgresql_server

from bench.store import Store
from conftest import environment
from test_end_to_end import wait_for

TRIALS = 6


def start(folder: Path, store: str = "store", generator: str = "fakes:Paced", **env: str) -> subprocess.Popen[str]:
    """A worker on the study; each fit adds lines to the folder's file `fits`."""
    return subprocess.Popen(
        [sys.executable, "-m", "bench", "tune", "breast-cancer[rows=300]", generator, "--trials", str(TRIALS),
         "--objective", "ks_gap", "--param", "seconds=0.4", "--store", store],
        cwd=folder, text=True, env=environment(FITS=str(folder / "fits"), **env), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    return said


def fits(folder: Path, what: str) -> list[str]:
    """The parameters of the fits that started, or ended."""
    lines = (folder / "fits").read_text().splitlines() if (folder / "fits").exists() else []
    return [line.removeprefix(f"{what} ") for line in lines if line.startswith(what)]


def trials(folder: Path, store: str = "store") -> list[tuple[int, dict, list[float]]]:
    """Number, parameters and values of the study's trials."""
    (path,) = (folder / store / "studies").glob("*/tuned.json")
    saved = json.loads(path.read_text())
    assert saved["mark"] == ""
    return [(t["number"], t["params"], t["values"]) for t in saved["trials"]]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study by one worker that nobody disturbs."""
    folder = tmp_path_factory.mktemp("unbroken")
    said = finish(start(folder))
    assert said.count("trial") >= TRIALS
    assert len(fits(folder, "end")) == TRIALS
    return folder


def test_a_study_whose_worker_was_killed_is_the_study_it_would_have_been(unbroken: Path, tmp_path: Path) -> None:
    for kills, done in enumerate((1, 3)):  # each in a fit
        process = start(tmp_path)
        wait_for(
            lambda k=kills, d=done: (len(fits(tmp_path, "start")), len(fits(tmp_path, "end"))) == (d + k + 1, d), 60
        )
        process.send_signal(signal.SIGKILL)
        process.communicate()
    finish(start(tmp_path))
    assert trials(tmp_path) == trials(unbroken)
    ended = fits(tmp_path, "end")
    assert len(ended) == len(set(ended)) == TRIALS  # none lost, none run twice
    assert len(fits(tmp_path, "start")) == TRIALS + 2  # those that were killed began again
    assert not list((tmp_path / "store/data/trials").glob("*/*"))


def test_a_study_that_has_ended_is_not_run_again(unbroken: Path) -> None:
    before = fits(unbroken, "start")
    assert f"{TRIALS} trials" in finish(start(unbroken))
    assert fits(unbroken, "start") == before


def share(folder: Path, workers: int, url: str = "") -> None:
    """Workers on one study, all in a trial at the same time; one is killed there, and started again.

    url: of a database, so that each worker has a store of its own; "" for a journal in the store they share.
    """
    held, held_for_good = folder / "held", folder / "held_for_good"
    held.touch()
    held_for_good.touch()
    env = {"BENCH_STUDIES": url} if url else {}
    stores = [f"store{i}" if url else "store" for i in range(workers)]

    def join(store: str, hold: Path) -> subprocess.Popen[str]:
        return start(folder, store, "held:Held", HOLD=str(hold), **env)

    killed, *others = (join(store, held if i else held_for_good) for i, store in enumerate(stores))
    wait_for(lambda: len(fits(folder, "start")) == workers, 120)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    held.unlink()
    for process in (*others, join(stores[0], held)):
        finish(process)
    found = trials(folder, stores[0])
    assert all(trials(folder, store) == found for store in stores)
    assert [number for number, _, _ in found] == list(range(TRIALS))
    assert found[0][1] == {"noise": 1.0, "pick": "a"}  # the defaults, once
    assert sorted(fits(folder, "end")) == sorted(f"{p['noise']} {p['pick']}" for _, p, _ in found)  # none twice
    assert len(fits(folder, "start")) == TRIALS + 1  # the one that was killed began again


def test_two_workers_share_a_journal(tmp_path: Path) -> None:
    share(tmp_path, 2)


def test_two_workers_share_a_sqlite_file(tmp_path: Path) -> None:
    share(tmp_path, 2, f"sqlite:///{tmp_path}/studies.db")


def test_four_workers_share_a_postgresql_database(tmp_path: Path) -> None:
    with postgresql_server() as server:
        import psycopg

        share(tmp_path, 4, server.url)
        with psycopg.connect(server.url) as connection:
            states = connection.execute("select number, state from trials order by number").fetchall()
    numbers = [number for number, _ in states]
    assert numbers == list(range(len(numbers)))
    assert [state for _, state in states].count("COMPLETE") == TRIALS
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes()


def test_a_run_waits_while_others_tune(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    with store.tuning("k", together=True), store.tuning("k", together=True):
        assert store.busy("cell", "", "k")
    assert not store.busy("cell", "", "k")
    with store.tuning("k"):
        assert store.busy("cell", "", "k")
        store.save_study_result("k", {"trials": []})
        assert not store.busy("cell", "", "k")  # what has ended is there for all
