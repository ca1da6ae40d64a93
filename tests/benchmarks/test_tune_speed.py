"""What a trial costs beyond its fit, sample and scores, and what a second worker brings."""

import json
import subprocess
import sys
import time
from pathlib import Path

from conftest import environment

STUDY = ("tune", "breast-cancer[rows=300]", "fakes:Paced", "--trials", "12", "--objective", "ks_gap", "--json")
MOST_S = 0.2  # beyond fit, sample and score


def start(folder: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bench", *STUDY, "--param", f"seconds={seconds}"], cwd=folder, text=True,
        env=environment(OMP_NUM_THREADS="1"), stdout=subprocess.PIPE,
    )  # fmt: skip


def study(folder: Path, seconds: float, workers: int) -> list[dict]:
    """The trials of a study by some workers at once."""
    folder.mkdir()
    said = [p.communicate(timeout=300)[0] for p in [start(folder, seconds) for _ in range(workers)]]
    return json.loads(said[0])["trials"]


def test_a_trial_costs_little_beyond_its_work(benchmark, tmp_path: Path) -> None:
    """Fork, pipe and pickles: what a trial takes less what it says its fit, sample and scores took."""
    runs = iter(range(99))
    trials = benchmark.pedantic(lambda: study(tmp_path / str(next(runs)), 0.0, 1), rounds=2)
    beyond = sum(t["seconds"] - sum(t["phases"].values()) for t in trials) / len(trials)
    benchmark.extra_info["beyond its work, s"] = beyond
    assert beyond < MOST_S


def test_two_workers_against_one(benchmark, tmp_path: Path) -> None:
    """Fits of two seconds that leave the core idle, as on a GPU; each worker takes a few seconds to start."""
    benchmark.pedantic(lambda: study(tmp_path / "two", 2.0, 2), rounds=1)
    start = time.perf_counter()
    study(tmp_path / "one", 2.0, 1)
    one, two = time.perf_counter() - start, benchmark.stats["mean"]
    benchmark.extra_info |= {"trials per minute": 12 * 60 / two, "by one worker": 12 * 60 / one}
    assert one > 1.4 * two
