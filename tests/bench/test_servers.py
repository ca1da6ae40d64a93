"""Servers that die, hang and come back during a run: PostgreSQL under studies, MLflow, and PostgreSQL under that."""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import PASSWORD, MLflow, PostgreSQL, mlflow_server, postgresql_server

from bench.errors import Away, BenchError
from bench.store import Store
from bench.study import Study, check_storage
from bench.suite import find_suite
from bench.track import SETTINGS, sync
from conftest import environment, write
from test_end_to_end import BOARDS, boards, records, wait_for

TRIALS = 5
TUNED = f"""
name = "tuned"
datasets = ["breast-cancer[rows=300]"]
generators = ["marginal", "held:Held"]
metrics = ["ks_gap"]
[tune]
untuned = false
trials = {TRIALS}
objective = "ks_gap"
"""
TRACKED = """
name = "{name}"
datasets = ["breast-cancer[rows=300]"]
generators = ["copycat", "marginal", "held:Held"]
metrics = ["ks_gap", "tvd_gap"]
"""


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    with postgresql_server() as server:
        yield server


@pytest.fixture(scope="module")
def mlflow(postgresql: PostgreSQL, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflow]:
    with mlflow_server(postgresql.add("mlflow"), tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@contextlib.contextmanager
def study(name: str, folder: Path, url: str) -> Iterator[Study]:
    found = Study(
        name, folder, url, seed=7, aims=1, sampler="random", pruner="none", defaults={"x": 0.5},
        suggest=lambda trial: {"x": trial.suggest_float("x", 0.0, 1.0)}, alone=contextlib.nullcontext,
    )  # fmt: skip
    yield found
    found.storage.kept._backend.engine.dispose()


class Folder:
    """A folder with a suite; the fits of its generator `held:Held` are held up from the start."""

    def __init__(self, path: Path, suite: str) -> None:
        self.path, self.hold, self.fits = path, path / "hold", path / "fits"
        write(path / "suite.toml", suite)
        self.hold.touch()
        self.fits.touch()

    def start(self, *args: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "bench", *args], cwd=self.path, text=True, stdout=subprocess.PIPE,
            env=environment(HOLD=str(self.hold), FITS=str(self.fits), **env), stderr=subprocess.PIPE,
        )  # fmt: skip

    def ends(self, process: subprocess.Popen[str]) -> tuple[int, str, str]:
        said, warned = process.communicate(timeout=200)
        assert PASSWORD not in said + warned
        return process.returncode, said, warned

    def count(self, what: str) -> int:
        return sum(line.startswith(what) for line in self.fits.read_text().splitlines())

    def wait_for_fit(self, number: int) -> None:
        wait_for(lambda: self.count("start") == number and self.count("end") == number - 1, 120)

    def holds_no_password(self) -> bool:
        files = [p for p in self.path.rglob("*") if p.is_file()]
        return all(PASSWORD.encode() not in p.read_bytes() for p in files)


# --- PostgreSQL under studies ---


def test_a_database_that_dies_in_mid_run_costs_nothing_that_was_done(tmp_path: Path, postgresql: PostgreSQL) -> None:
    folder = Folder(tmp_path, TUNED)
    command = ("run", "--suite", "suite.toml", "--no-track", "--studies", postgresql.url)
    run = folder.start(*command, PATIENCE_S="2")
    folder.wait_for_fit(1)
    postgresql.kill()
    folder.hold.unlink()  # the trial ends, and cannot be told
    code, said, warned = folder.ends(run)
    assert (code, warned) == (1, "")
    assert "1 done, 1 failed" in said
    found = records(tmp_path / "bench-store")
    assert found["marginal"]["status"] == "done"
    fault = found["held:Held"]["fault"]
    where = f"postgresql://127.0.0.1:{postgresql.port}/postgres"
    assert fault == {
        "phase": "tune", "type": "Away", "outside": True,
        "message": f"study storage {where}: cannot be reached for 2 s (connection refused); its trials are kept: "
        "run again once it can be",
    }  # fmt: skip

    code, said, warned = folder.ends(folder.start(*command))  # while it is still away
    assert (code, said) == (2, "")
    assert warned.splitlines() == [f"bench: error: study storage {where}: cannot be reached (connection refused); its "
                                   "trials are kept: run again once it can be"]  # fmt: skip

    postgresql.start()
    folder.hold.touch()
    run = folder.start(*command)
    folder.wait_for_fit(2)  # the first is not run again
    postgresql.kill()
    folder.hold.unlink()
    wait_for(lambda: folder.count("end") == 2)
    time.sleep(2.0)  # so that it is missed
    postgresql.start()  # within the minute that is waited for it
    code, said, warned = folder.ends(run)
    assert (code, warned) == (0, "")
    assert "2 done" in said
    assert folder.count("start") == folder.count("end") == TRIALS + 1  # the trials and the cell's own
    ended = records(tmp_path / "bench-store")["held:Held"]["facts"]["tuned"]["trials"]
    assert sum(ended.values()) == ended["done"] + ended.get("infeasible", 0) == TRIALS
    assert folder.holds_no_password()


def test_a_database_that_hangs_is_away(tmp_path: Path, postgresql: PostgreSQL, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("PATIENCE_S", 0.5), ("ANSWER_S", 0.5), ("CONNECT_S", 2)):
        monkeypatch.setattr(f"bench.storage.{name}", seconds)
    with study("hangs", tmp_path, postgresql.url) as here:
        trial = here.next(3, None)
        assert trial is not None
        with postgresql.frozen():
            here.beaten = 0.0
            here.beat(trial)  # does without
            assert not here.report(trial, 0.5, 1)
            with pytest.raises(Away, match=r"timeout|no answer"):
                here.next(3, None)
        here.tell(trial, {"status": "done", "values": [0.5], "seconds": 0.0})
        assert [t.values for t in here.ended()] == [[0.5]]


def test_a_server_that_takes_connections_and_says_nothing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.storage.CONNECT_S", 2)  # the least that is heeded
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(BenchError, match="cannot be reached"):
        check_storage(f"postgresql://u:{PASSWORD}@127.0.0.1:{silent.getsockname()[1]}/d")


def test_silence_while_the_database_was_away_is_no_death(
    tmp_path: Path, postgresql: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    with study("s", tmp_path, postgresql.url) as there, study("s", tmp_path, postgresql.url) as here:
        there.worker = ["another", 1, 0.0]
        trial = there.next(3, None)
        assert trial is not None
        trial.set_user_attr("beat", time.time() - 1_000)  # as after an outage in which nobody could be heard
        here.storage.away_at = time.time() - 1
        second = here.next(3, None)
        here.storage.away_at = 0.0
        again = here.next(3, None)
        assert second is not None
        assert again is not None
        assert [second.number, again.number] == [1, 0]


# --- MLflow ---


def tracked(mlflow: MLflow, name: str) -> dict[str, str]:
    """bench.id -> id of the live runs of an experiment, each of which is whole and there once."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=mlflow.url)
    experiment = client.get_experiment_by_name(name)
    runs = client.search_runs([experiment.experiment_id], max_results=500)
    found = {run.data.tags["bench.id"]: run for run in runs}
    assert len(found) == len(runs)
    assert all(run.data.tags["bench.digest"] for run in runs)
    generators = ("copycat", "marginal", "held:Held")
    parents = {f"breast-cancer[rows=300]/{g}": found.pop(f"breast-cancer[rows=300]/{g}") for g in generators}
    board = found.pop("board")
    assert {a.path for a in client.list_artifacts(board.info.run_id)} >= {"board.md", "ranking.json", "scores.json"}
    assert sorted(run.data.tags["generator"] for run in found.values()) == sorted(generators)
    for run in found.values():
        parent = parents[f"breast-cancer[rows=300]/{run.data.tags['generator']}"]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert [a.path for a in client.list_artifacts(run.info.run_id)] == ["record.json"]
    return {key: run.info.run_id for key, run in {**parents, **found, "board": board}.items()}


@pytest.mark.filterwarnings("ignore")  # mlflow's own imports warn
def test_a_server_that_dies_in_mid_run_costs_a_warning(
    tmp_path: Path, mlflow: MLflow, postgresql: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    whole = Folder(tmp_path / "whole", TRACKED.format(name="whole1"))
    whole.hold.unlink()
    code, said, warned = whole.ends(whole.start("run", "--suite", "suite.toml", "--tracking-uri", mlflow.url))
    assert (code, warned) == (0, "")
    assert mlflow.url not in said  # MLflow would print a link for each run
    assert len(tracked(mlflow, "whole1")) == 7

    broken = Folder(tmp_path / "broken", TRACKED.format(name="broken"))
    run = broken.start("run", "--suite", "suite.toml", "--tracking-uri", mlflow.url)
    broken.wait_for_fit(1)
    mlflow.kill()
    broken.hold.unlink()
    code, said, warned = broken.ends(run)
    assert code == 0
    assert "3 done" in said
    assert len(warned.splitlines()) == 1
    assert f"MLflow at {mlflow.url}" in warned
    assert "nothing is lost" in warned
    as_without = boards(whole.path / "bench-store", "whole1")
    assert boards(broken.path / "bench-store", "broken") == {
        name: text.replace(b"whole1", b"broken") for name, text in as_without.items()
    }

    mlflow.start()
    replay = ("track", "suite.toml", "--tracking-uri", mlflow.url)
    watch, locks = (psycopg.connect(postgresql.at("mlflow"), autocommit=auto) for auto in (True, False))
    with contextlib.closing(watch), contextlib.closing(locks):
        before = watch.execute("select count(*) from runs").fetchone()
        locks.execute("lock table metrics in exclusive mode")  # a run is begun, and its metrics are not written
        track = broken.start(*replay)
        wait_for(lambda: watch.execute("select count(*) from runs").fetchone() > before, 60)
        postgresql.kill()  # under the server
    code, said, warned = broken.ends(track)
    assert (code, said) == (2, "")
    assert len(warned.splitlines()) == 1
    assert warned.startswith(f"bench: error: MLflow at {mlflow.url}: MlflowException: ")
    postgresql.start()
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    suite, store = find_suite(str(broken.path / "suite.toml")), Store(broken.path / "bench-store")
    paths = {name: store.board(suite.name) / name for name in (*BOARDS, "scores.json")}
    assert sync(suite, store, None, paths, uri=mlflow.url) == 7
    first = tracked(mlflow, "broken")
    assert len(first) == 7
    assert sync(suite, store, None, paths, uri=mlflow.url) == 0
    assert tracked(mlflow, "broken") == first
    assert whole.holds_no_password()
    assert broken.holds_no_password()
