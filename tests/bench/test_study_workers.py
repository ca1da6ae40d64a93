"""Several processes on one study, with each storage; kills; a PostgreSQL server that the test starts."""

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.store import Store
from conftest import environment
from test_end_to_end import wait_for

TRIALS = 6
STUDY = ("tune", "breast-cancer[rows=300]", "fakes:Paced", "--trials", str(TRIALS), "--objective", "ks_gap")


def start(folder: Path, store: str = "store", **env: str) -> subprocess.Popen[str]:
    """A worker on the study; each fit adds lines to the folder's file `fits`."""
    return subprocess.Popen(
        [sys.executable, "-m", "bench", *STUDY, "--param", "seconds=0.4", "--store", store], cwd=folder, text=True,
        env=environment(FITS=str(folder / "fits"), **env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
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


def share(folder: Path, url: str = "") -> list[str]:
    """Two workers on one study, one of them killed in a trial and started again. Gives the fits that ended."""
    env = {"BENCH_STUDIES": url} if url else {}
    stores = ("one", "two") if url else ("store", "store")  # a database needs no common store
    first, second = (start(folder, store, **env) for store in stores)

    def both_at_work() -> bool:  # or, on a busy machine where that was not seen, near the end
        ended = len(fits(folder, "end"))
        return (len(fits(folder, "start")) - ended == 2 and ended >= 2) or ended >= TRIALS - 2

    wait_for(both_at_work, 60)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    third = start(folder, stores[0], **env)
    for process in (second, third):
        finish(process)
    found = trials(folder, stores[0])
    assert found == trials(folder, stores[1])
    assert len(found) == TRIALS
    assert found[0][1] == {"noise": 1.0, "pick": "a"}  # the defaults, once
    ended = fits(folder, "end")
    assert sorted(set(ended)) == sorted(f"{p['noise']} {p['pick']}" for _, p, _ in found)
    return ended


def test_two_workers_share_a_journal(tmp_path: Path) -> None:
    assert len(share(tmp_path)) == TRIALS  # none lost, none run twice


def test_two_workers_share_a_sqlite_file(tmp_path: Path) -> None:
    assert len(share(tmp_path, f"sqlite:///{tmp_path}/studies.db")) == TRIALS


def test_two_workers_share_a_postgresql_database(tmp_path: Path, postgresql: str) -> None:
    assert len(share(tmp_path, postgresql)) == TRIALS
    for log in tmp_path.glob("*/data/logs/*.log"):
        assert "hunter2" not in log.read_text()


@pytest.fixture
def postgresql(tmp_path: Path) -> Iterator[str]:
    """URL of a database of a server that ends with the test; skips where there is no PostgreSQL."""
    pytest.importorskip("psycopg", reason="no psycopg here: pip install 'synth-health-bench[postgres]'")
    places = [Path(p).parent for p in [shutil.which("initdb")] if p]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if not places:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    folder = Path("/tmp") / f"bench-pg-{os.getpid()}"  # a socket's path must be short
    folder.mkdir(mode=0o755)
    as_user: dict = {}
    if os.geteuid() == 0:  # a server refuses to run as root
        try:
            who = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user `postgres`")
        os.chown(folder, who.pw_uid, who.pw_gid)
        as_user = {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}

    def run(program: str, *args: str) -> None:
        subprocess.run(
            [str(places[0] / program), *args], check=True, cwd="/", stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, **as_user,
        )  # fmt: skip

    try:
        (folder / "password").write_text("hunter2\n")
        run("initdb", "-D", f"{folder}/db", "-U", "bench", "-A", "scram-sha-256", f"--pwfile={folder}/password")
        port = str(20_000 + os.getpid() % 20_000)
        run("pg_ctl", "-D", f"{folder}/db", "-w", "-l", f"{folder}/log", "-o",
            f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off", "start")  # fmt: skip
        yield f"postgresql://bench:hunter2@127.0.0.1:{port}/postgres"
        run("pg_ctl", "-D", f"{folder}/db", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_run_waits_while_others_tune(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    with store.tuning("k", together=True), store.tuning("k", together=True):
        assert store.busy("cell", "", "k")
    assert not store.busy("cell", "", "k")
    with store.tuning("k"):
        assert store.busy("cell", "", "k")
        store.save_study_result("k", {"trials": []})
        assert not store.busy("cell", "", "k")  # what has ended is there for all
