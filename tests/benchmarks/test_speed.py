"""Claims of speed, as ratios against a plain reference in the same run: `pytest tests/benchmarks -n 0`."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics import roc_auc_score

from conftest import environment, write
from metrics import pairs, pairwise, resample
from metrics.tables import Tables


def seconds(run: Callable[[], object], times: int = 3) -> float:
    """The shortest of a few runs."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return min(found)


def test_neighbours_against_cdist(benchmark) -> None:
    rng = np.random.default_rng(0)
    a, b = ((rng.random((2_000, 600)) < 0.05).astype(np.float32) for _ in range(2))
    mine = benchmark(lambda: pairwise.nearest(a, b))
    plain = seconds(lambda: cdist(a, b, "sqeuclidean").min(axis=1), times=1)
    assert mine[0] == pytest.approx(cdist(a, b, "sqeuclidean").min(axis=1))
    assert plain > 5 * benchmark.stats["min"]


def test_bootstrap_of_auroc_against_a_loop(benchmark) -> None:
    rng = np.random.default_rng(1)
    y = rng.random(3_000) < 0.1
    s = rng.normal(size=3_000) + y
    w = resample.weights(3_000, seed=0)
    mine = benchmark(lambda: resample.auroc(y, s, w))
    plain = seconds(lambda: [roc_auc_score(y, s, sample_weight=one) for one in w], times=1)
    assert mine[7] == pytest.approx(roc_auc_score(y, s, sample_weight=w[7]))
    assert plain > 3 * benchmark.stats["min"]


def test_jackknife_of_correlations_against_recomputing(benchmark) -> None:
    """cmd with its error costs little more than cmd: each group's cross product is taken once."""
    import pandas as pd

    rng = np.random.default_rng(2)

    def codes(n: int) -> pd.DataFrame:
        table = pd.DataFrame(rng.random((n, 300)) < 0.05, columns=[f"c{i:03d}" for i in range(300)])
        return table.assign(y=rng.random(n) < 0.2).rename_axis("subject")

    t = Tables(codes(500), codes(3_000), codes(3_000), roles={"target": "y"})
    held, synth = t.matrix("holdout").astype(float), t.matrix("synth").astype(float)
    benchmark(lambda: pairs.cmd(t, seed=0))
    group = resample.groups(3_000, seed=0)

    def plain() -> None:
        other = np.corrcoef(synth.T)
        for g in range(20):
            np.abs(np.corrcoef(held[group != g].T) - other).mean()

    assert seconds(plain, times=1) > 1.5 * benchmark.stats["min"]


def bench(*args: str, cwd: Path) -> None:
    command = [sys.executable, "-m", "bench", *args]
    env = environment() | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=cwd, env=env, check=True, capture_output=True)


def suite(folder: Path, dataset: str, generator: str, replicates: int) -> None:
    write(
        folder / "s.toml",
        f'name = "s"\ndatasets = ["{dataset}"]\ngenerators = ["{generator}"]\n'
        f'metrics = ["tvd_gap"]\nreplicates = {replicates}\n',
    )


def phases(store: Path) -> list[dict[str, dict[str, float]]]:
    return [json.loads(path.read_text())["phases"] for path in store.glob("cells/*/cost.json")]


def test_a_cell_from_the_warm_server_against_a_cold_start(benchmark, tmp_path: Path) -> None:
    """What the harness itself costs a cell: a generator that does nothing and one metric, start to record."""
    suite(tmp_path, "sim-fraud[rows=1200]", "fakes:Nothing", replicates=10)
    run = ("run", "--suite", "s.toml", "--no-track", "--workers", "1")
    benchmark.pedantic(lambda: bench(*run, cwd=tmp_path), rounds=1)
    store = tmp_path / "bench-store"
    costs = sorted(sum(phase["seconds"] for phase in cell.values()) for cell in phases(store))
    warm = float(np.median(costs[:-1]))  # the first waits for the server
    key = next(store.glob("cells/*")).name
    cold = seconds(lambda: bench("cell", key, "--suite", "s.toml", cwd=tmp_path))
    benchmark.extra_info |= {"warm_s": warm, "cold_s": cold}
    assert cold > 5 * warm


WORK = """\
import time

from fakes import Nothing


class Works(Nothing):
    def fit(self, train):
        super().fit(train)
        work()


def work():
    start = time.perf_counter()
    kept = [{i: str(i)} for i in range(1_500_000)]
    print(time.perf_counter() - start, len(kept))


if __name__ == "__main__":
    work()
"""


def test_watching_from_outside_does_not_slow_a_fit(benchmark, tmp_path: Path) -> None:
    """The same work alone and under the harness's watch: a profiler inside would slow it 2 to 6 times."""
    write(tmp_path / "work.py", WORK)
    suite(tmp_path, "breast-cancer", "work:Works", replicates=1)
    env = environment() | {"OMP_NUM_THREADS": "1"}
    said = subprocess.run(
        [sys.executable, "work.py"], cwd=tmp_path, env=env, check=True, capture_output=True, text=True
    )
    alone = float(said.stdout.split()[0])
    benchmark.pedantic(lambda: bench("run", "--suite", "s.toml", "--no-track", cwd=tmp_path), rounds=1)
    (cost,) = phases(tmp_path / "bench-store")
    watched = cost["fit"]["seconds"]
    benchmark.extra_info |= {"alone_s": alone, "watched_s": watched}
    assert watched < 1.3 * alone
