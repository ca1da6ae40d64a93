"""What a trial costs beyond its fit, sample and scores, and what a second worker brings."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

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
    """Without a fit to speak of: the wall time of the study less what its trials say they worked, by trial."""
    empty = time.perf_counter()
    study(tmp_path / "warm", 0.0, 1)
    whole = time.perf_counter() - empty
    runs = iter(range(99))
    trials = benchmark.pedantic(lambda: study(tmp_path / str(next(runs)), 0.0, 1), rounds=3)
    inside = [t["seconds"] - sum(t["phases"].values()) for t in trials]
    benchmark.extra_info |= {"fork and pipe, s": sum(inside) / len(inside), "a study of 12 with its start, s": whole}
    assert sum(inside) / len(inside) < MOST_S


@pytest.mark.parametrize("workers", [1, 2])
def test_trials_per_minute(workers: int, benchmark, tmp_path: Path) -> None:
    """Fits of one second that leave the core idle, as on a GPU."""
    runs = iter(range(99))
    benchmark.pedantic(lambda: study(tmp_path / str(next(runs)), 1.0, workers), rounds=1)
    benchmark.extra_info["trials per minute"] = 12 * 60 / benchmark.stats["mean"]
