"""How cells are started: two workers against one, here and through Ray; what Ray costs a cell; memory of a long run."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from conftest import TESTS, environment, write

sys.path.insert(0, str(TESTS / "bench"))
from rays import Rays

CELLS = int(os.environ.get("BENCH_CELLS", "1000"))  # of a generator that does nothing
AT_WORK = 12  # cells that keep a core at work
LOCAL, RAY = 1.8, 1.5  # times the throughput of one worker that two must reach
FLAT_MB = 20.0  # that the parent may grow by, from a tenth of the cells to all
BUSY = """
name = "busy"
datasets = ["sim-fraud[rows=400]"]
generators = [{ name = "fakes:Works", params = { rounds = 60 } }]
metrics = ["tvd_gap"]
replicates = %d
"""
NOTHING = BUSY.replace("busy", "nothing").replace(
    '{ name = "fakes:Works", params = { rounds = 60 } }', '"fakes:Nothing"'
)


Run = Callable[..., subprocess.CompletedProcess[str]]


def here(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """A run by the local launcher."""
    return subprocess.run([sys.executable, "-m", "bench", "run", "--no-track", *args], cwd=folder, env=environment(),
                          check=False, capture_output=True, text=True)  # fmt: skip


def per_cell(run: Run, folder: Path, suite: str, cells: tuple[int, int], workers: int) -> float:
    """Seconds of one more cell, from runs of two lengths: what a run takes once falls out."""
    seconds = []
    for n in cells:
        write(folder / str(n) / "suite.toml", suite % n)
        start = time.monotonic()
        done = run(folder / str(n), "--suite", "suite.toml", "--workers", str(workers))
        assert done.returncode == 0, done.stdout + done.stderr
        seconds.append(time.monotonic() - start)
    return (seconds[1] - seconds[0]) / (cells[1] - cells[0])


def report(benchmark, **facts: object) -> None:
    """Into pytest-benchmark's own account; what is timed is whole runs."""
    benchmark.extra_info |= facts
    benchmark.pedantic(lambda: None, rounds=1)


@pytest.fixture(scope="module")
def rays() -> Iterator[Rays]:
    """Two nodes of one core each, on this machine's two; what they load once is loaded."""
    with tempfile.TemporaryDirectory(prefix="rays-") as place:
        (Path(place) / "scratch").mkdir()
        cluster = Rays(Path(place) / "ray", nodes=2, BENCH_SCRATCH=f"{place}/scratch")
        yield cluster
        cluster.stop()


def two_to_one(run: Run, folder: Path, benchmark) -> float:
    """How many times the throughput of one worker two have, on cells that keep a core at work."""
    if (os.cpu_count() or 1) < 2:
        pytest.skip("this machine has one core: two workers need two")
    taken = {workers: per_cell(run, folder / str(workers), BUSY, (2, AT_WORK), workers) for workers in (1, 2)}
    ratio = taken[1] / taken[2]
    report(benchmark, seconds_a_cell=taken, throughput_of_two_to_one=ratio)
    print(f"\n{taken[1]:.2f} s a cell with one worker, {taken[2]:.2f} s with two: {ratio:.2f} times the throughput")
    return ratio


def test_two_workers_against_one_here(benchmark, tmp_path: Path) -> None:
    assert two_to_one(here, tmp_path, benchmark) >= LOCAL


def test_two_workers_against_one_through_ray(benchmark, rays: Rays, tmp_path: Path) -> None:
    assert two_to_one(rays.run, tmp_path, benchmark) >= RAY


def test_what_ray_costs_a_cell(benchmark, rays: Rays, tmp_path: Path) -> None:
    local, ray = (per_cell(run, tmp_path / name, NOTHING, (5, 45), 1) for name, run in (("l", here), ("r", rays.run)))
    report(benchmark, seconds_a_cell_here=local, seconds_a_cell_through_ray=ray)
    print(f"\na cell that does nothing: {local:.3f} s here, {ray:.3f} s through Ray: {ray - local:+.3f} s")
    assert ray < 3 * local


def test_a_long_run_takes_no_more_memory(benchmark, tmp_path: Path) -> None:
    """The parent's memory after a tenth of the cells and at the end."""
    write(tmp_path / "suite.toml", NOTHING % CELLS)
    command = [sys.executable, "-m", "bench", "run", "--suite", "suite.toml", "--no-track"]
    seen, start = list[float](), time.monotonic()
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        parent = psutil.Process(process.pid)
        for line in process.stdout or ():
            if line.startswith("["):
                seen.append(parent.memory_info().rss / 2**20)
    assert process.returncode == 0
    assert len(seen) == CELLS
    early = max(seen[: CELLS // 10])
    grown = max(seen) - early
    report(benchmark, early_mb=early, grown_mb=grown, seconds_a_cell=(time.monotonic() - start) / CELLS)
    print(f"\n{CELLS} cells: {early:.0f} MiB after a tenth, {grown:+.1f} MiB at most after")
    assert grown < FLAT_MB
