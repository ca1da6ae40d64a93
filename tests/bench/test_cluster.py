"""A Ray cluster of three nodes on loopback: the same boards as one machine's, kills, refusals, what nodes keep."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rays import Rays

from canaries import IN_HOLDOUT, IN_TRAIN, OWN, PEOPLE, leaks, people, seen
from conftest import ROOT, environment, write
from test_end_to_end import BAD, REASONS, SLOW, boards, records, wait_for

pytestmark = pytest.mark.xdist_group("ray")
KILLS = int(os.environ.get("BENCH_KILLS", "1"))  # of a node, and as many of a driver
ONE = ("--workers", "1")  # where it matters not on how many nodes
TUNED = """
name = "tuned"
datasets = ["breast-cancer[rows=300]"]
generators = ["copycat", { name = "fakes:Paced", params = { seconds = 0.1 } },
              { name = "fakes:Arms", label = "none", params = { noise = 0.0 } },
              { name = "fakes:Arms", label = "much", params = { noise = 0.5 } }]
metrics = ["ks_gap", "tvd_gap"]
[tune]
trials = 3
objective = "ks_gap"
privacy = {}
"""


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder with a short name: sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="rays-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def rays(place: Path) -> Iterator[Rays]:
    """Nodes that work in folders of their own."""
    scratch = place / "scratch"
    scratch.mkdir()
    cluster = Rays(place / "ray", BENCH_SCRATCH=str(scratch), FITS=str(place / "fits"))
    yield cluster
    cluster.stop()


def local(folder: Path, suite: str, **env: str) -> dict[str, bytes]:
    """The boards of a suite by the local launcher."""
    done = subprocess.run([sys.executable, "-m", "bench", "run", "--suite", suite, "--no-track"], cwd=folder,
                          env=environment(**env), capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    return boards(folder / "bench-store", Path(suite).stem)


@pytest.fixture(scope="module")
def slow(tmp_path_factory) -> dict[str, bytes]:
    """The slow suite's boards by the local launcher."""
    folder = tmp_path_factory.mktemp("slow")
    write(folder / "slow.toml", SLOW)
    return local(folder, "slow.toml")


def kept(place: Path) -> list[Path]:
    """What the nodes keep."""
    return list((place / "scratch").glob("bench-*/*"))


@pytest.fixture(scope="module")
def ran(rays: Rays, place: Path, tmp_path_factory) -> Path:
    """The store of the slow suite, run whole on three nodes that do not see it; nothing is changed there."""
    folder = tmp_path_factory.mktemp("ran")
    write(folder / "slow.toml", SLOW)
    done = rays.run(folder, "--suite", "slow.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "3 at a time, 1 thread each, on 3 nodes of a Ray cluster, which work in folders of their own" in done.stdout
    assert not kept(place)
    return folder / "bench-store"


def test_a_suite_whose_nodes_do_not_see_the_store(ran: Path, rays: Rays, slow, tmp_path: Path) -> None:
    store = ran
    assert boards(store, "slow") == slow
    assert (store / "data").stat().st_mode & 0o077 == 0
    assert len(list(store.glob("data/samples/*/synth.parquet"))) == 6
    assert all("] score" in log.read_text() for log in store.glob("data/logs/sim*.log"))
    costs = [json.loads(p.read_text())["phases"] for p in store.glob("cells/*Slow*/cost.json")]
    assert all(phases["fit"]["seconds"] > 0.9 for phases in costs)
    write(tmp_path / "slow.toml", SLOW)
    assert "0 to run" in rays.run(tmp_path, "--suite", "slow.toml", "--store", str(store)).stdout


def test_failures_are_rows_and_are_not_tried_again(rays: Rays, tmp_path: Path) -> None:
    suite = BAD.replace('"fakes:Sleeps", "fakes:EatsMemory", ', "")
    write(tmp_path / "bad.toml", suite)
    assert rays.run(tmp_path, "--suite", "bad.toml", *ONE).returncode == 1
    store = tmp_path / "bench-store"
    found, board = records(store), (store / "boards/bad/board.md").read_text()
    for label in set(found) - {"copycat", "marginal"}:
        status, line = REASONS[label]
        assert found[label]["status"] == status
        assert line in board
    assert len(found) == 10
    assert found["copycat"]["status"] == found["marginal"]["status"] == "done"
    logs = [log.read_text() for log in store.glob("data/logs/*Raises*.log")]
    assert [log.count("] fit") for log in logs] == [1]


def test_tuned_cells_and_shared_fits(rays: Rays, place: Path, tmp_path: Path) -> None:
    for way in ("here", "there"):
        write(tmp_path / way / "tuned.toml", TUNED)
    expected = local(tmp_path / "here", "tuned.toml", FITS=str(tmp_path / "fits"))
    done = rays.run(tmp_path / "there", "--suite", "tuned.toml", *ONE)
    assert done.returncode == 0, done.stdout + done.stderr
    store = tmp_path / "there/bench-store"
    assert boards(store, "tuned") == expected
    assert len(list(store.glob("studies/*/study.journal"))) == len(list(store.glob("studies/*/tuned.json"))) == 3


def test_new_scores_alone_are_made_where_the_samples_are_sent(ran: Path, rays: Rays, slow, tmp_path: Path) -> None:
    write(tmp_path / "slow.toml", SLOW)
    store = shutil.copytree(ran, tmp_path / "bench-store")
    for path in store.glob("cells/*/scores.json"):
        path.unlink()
    before = {p: p.stat().st_mtime_ns for p in store.glob("data/samples/*/*")}
    done = rays.run(tmp_path, "--suite", "slow.toml", *ONE)
    assert "6 to run" in done.stdout
    assert boards(store, "slow") == slow
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert all(log.read_text().count("] fit") == 1 for log in store.glob("data/logs/*Slow*.log"))


# --- kills ---


@pytest.mark.parametrize("seed", range(KILLS))
def test_killing_a_node_loses_nothing(seed: int, rays: Rays, slow, tmp_path: Path) -> None:
    write(tmp_path / "slow.toml", SLOW)
    dice = random.Random(seed)
    process = rays.begin(tmp_path, "--suite", "slow.toml")
    wait_for(lambda: list(tmp_path.glob("bench-store/cells/*")), 60)
    time.sleep(dice.uniform(0, 8))
    node = dice.choice((1, 2))
    rays.kill(node)
    try:
        said, _ = process.communicate(timeout=200)
    finally:
        rays.start(node)
    assert process.returncode == 0, said
    assert boards(tmp_path / "bench-store", "slow") == slow


@pytest.mark.parametrize("seed", range(KILLS))
def test_killing_the_driver_loses_nothing(seed: int, rays: Rays, place: Path, slow, tmp_path: Path) -> None:
    write(tmp_path / "slow.toml", SLOW)
    process = rays.begin(tmp_path, "--suite", "slow.toml")
    wait_for(lambda: (tmp_path / "bench-store/store.json").exists(), 60)
    time.sleep(random.Random(100 + seed).uniform(0, 12))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = rays.run(tmp_path, "--suite", "slow.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert boards(tmp_path / "bench-store", "slow") == slow
    assert not kept(place)


def test_an_interrupt_leaves_nothing_on_the_nodes(rays: Rays, place: Path, tmp_path: Path) -> None:
    write(tmp_path / "slow.toml", SLOW)
    process = rays.begin(tmp_path, "--suite", "slow.toml")
    wait_for(lambda: kept(place), 60)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not kept(place)


def test_two_runs_at_once_share_the_work(rays: Rays, place: Path, slow, tmp_path: Path) -> None:
    write(tmp_path / "slow.toml", SLOW)
    both = [rays.begin(tmp_path, "--suite", "slow.toml", *ONE) for _ in range(2)]
    said = [process.communicate(timeout=200)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert boards(tmp_path / "bench-store", "slow") == slow
    logs = [log.read_text() for log in (tmp_path / "bench-store/data/logs").glob("*Slow*.log")]
    assert [log.count("] fit") for log in logs] == [1, 1]  # none was trained twice
    assert not kept(place)


def test_what_a_killed_driver_left_on_the_nodes_goes_with_the_next_run(rays: Rays, place: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name / "slow.toml", SLOW)
    process = rays.begin(tmp_path / "one", "--suite", "slow.toml")
    wait_for(lambda: kept(place), 60)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert kept(place)
    assert rays.run(tmp_path / "two", "--suite", "slow.toml", "--generators", "copycat", *ONE).returncode == 0
    assert not kept(place)


# --- what cannot be ---


def test_a_node_with_other_code_is_refused(place: Path, rays: Rays, tmp_path: Path) -> None:
    """A fourth node, whose code has one more comment."""
    for room in ("bench", "generators", "metrics", "leaderboards"):
        shutil.copytree(ROOT / room, tmp_path / "other" / room, ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "other/metrics/fidelity.py").open("a") as file:
        file.write("# changed\n")
    write(tmp_path / "slow.toml", SLOW)
    rays.start(3, PYTHONPATH=f"{tmp_path / 'other'}{os.pathsep}{ROOT / 'tests'}")
    try:
        done = rays.run(tmp_path, "--suite", "slow.toml")
    finally:
        rays.kill(3)
    assert done.returncode == 2
    line = done.stderr.strip()
    assert line.startswith("bench: error: node 127.0.0.5: other software than the driver's: the code of bench ")
    assert "\n" not in line
    assert not list((tmp_path / "bench-store").glob("cells/*/record.json"))


def test_a_generator_that_the_nodes_lack_is_refused(rays: Rays, tmp_path: Path) -> None:
    write(tmp_path / "lib/mine.py", "from fakes import Nothing\n\n\nclass Mine(Nothing):\n    pass\n")
    write(tmp_path / "mine.toml", SLOW.replace("fakes:Slow", "mine:Mine"))
    path = f"{rays.environment()['PYTHONPATH']}{os.pathsep}{tmp_path / 'lib'}"
    done = rays.run(tmp_path, "--suite", "mine.toml", PYTHONPATH=path)
    assert done.returncode == 2
    assert "other software than the driver's: generator mine:Mine absent (driver: " in done.stderr


def test_a_cell_that_fits_on_no_node_says_so(rays: Rays, tmp_path: Path) -> None:
    write(tmp_path / "wide.toml", SLOW.replace("replicates = 2", "threads = 2"))
    done = rays.run(tmp_path, "--suite", "wide.toml")
    assert done.returncode == 1
    assert "DoesNotFit: it needs 2 cores and" in done.stdout
    assert "the largest of 3 has 1 cores" in done.stdout


def test_nobody_at_the_address(bench) -> None:
    done = bench("run", "--suite", "smoke", "--launcher", "ray", "--address", "127.0.0.2:1", "--no-track")
    assert done.returncode == 2
    assert "--address 127.0.0.2:1: no Ray cluster answers there (Connection refused)" in done.stderr


def test_a_full_disk_at_the_driver_stops_the_run_and_loses_nothing(
    small_disk: Path, ran: Path, rays: Rays, slow, tmp_path: Path
) -> None:
    write(tmp_path / "slow.toml", SLOW)
    fill, store = small_disk / "fill", shutil.copytree(ran, small_disk / "s")
    args = ("--suite", "slow.toml", "--store", str(store), *ONE)
    for folder in ("cells", "data/fits", "data/samples"):  # as if copycat alone had run
        for path in (p for p in (store / folder).iterdir() if "copycat" not in p.name and p.is_dir()):
            shutil.rmtree(path)
    kept = {p: p.read_bytes() for p in store.glob("cells/*copycat*/record.json")}
    fill.write_bytes(b"x" * (os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize - 60_000))
    done = rays.run(tmp_path, *args)
    assert done.returncode == 2, done.stdout
    assert done.stderr.strip() == f"bench: error: store {store}: No space left on device"
    assert {p: p.read_bytes() for p in kept} == kept
    fill.unlink()
    assert rays.run(tmp_path, *args).returncode == 0
    assert boards(store, "slow") == slow


# --- privacy ---


def test_nothing_of_a_table_reaches_rays_own_logs(rays: Rays, place: Path, tmp_path: Path) -> None:
    """Careless generators print rows and raise with them, on nodes that keep what Ray's workers say."""
    write(tmp_path / "inputs/people.toml", OWN.format(name="people") + PEOPLE)
    people().to_csv(tmp_path / "inputs/people.csv", index=False)
    suite = """
name = "careless"
datasets = [{ name = "inputs/people.toml", split = "time" }]
generators = ["copycat", "careless:Raises", "careless:Chains", "careless:Names", "careless:Chatty", "careless:Exits"]
metrics = ["ks_gap"]
"""
    write(tmp_path / "careless.toml", suite)
    done = rays.run(tmp_path, "--suite", "careless.toml", *ONE)
    assert "copycat" in done.stdout
    assert not seen((done.stdout + done.stderr).encode(), IN_TRAIN + IN_HOLDOUT)
    store = tmp_path / "bench-store"
    assert seen(b"".join(p.read_bytes() for p in store.glob("data/logs/*.log")), IN_TRAIN)  # they did tell
    assert not leaks(tmp_path, IN_TRAIN + IN_HOLDOUT, apart=[store / "data", tmp_path / "inputs"])
    assert not leaks(rays.folder, IN_TRAIN + IN_HOLDOUT)
    assert not kept(place)
