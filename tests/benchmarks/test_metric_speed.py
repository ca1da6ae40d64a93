"""Metrics against plain versions of the same definitions, in one run, with peak memory beside the time.

Sizes are small enough for CI's patience; BENCH_ROWS=20000 gives the figures the project quotes.
"""

import os
import threading
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import psutil
import pytest
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression

import metrics
from metrics import attributes, near, pairwise
from metrics.tables import Tables

ROWS = int(os.environ.get("BENCH_ROWS", "5000"))
CODES = 1_500


def draw(n: int, d: int, seed: int) -> pd.DataFrame:
    """Codes whose prevalences fall from 30 % to 0.1 %, driven by one latent severity, and a target."""
    rng = np.random.default_rng(seed)
    severity = rng.normal(size=(n, 1)).astype(np.float32)
    rates = 0.3 * np.exp(-np.linspace(0, 5.7, d)) * np.exp(0.7 * severity - 0.25)
    table = pd.DataFrame(rng.random((n, d), dtype=np.float32) < rates, columns=[f"c{j:04d}" for j in range(d)])
    return table.assign(y=rng.random(n) < 1 / (1 + np.exp(3 - severity[:, 0]))).rename_axis("subject")


def tables(n: int, d: int) -> Tables:
    """80 % train, 20 % holdout, as much synth as train."""
    train, held, synth = (draw(size, d, seed) for seed, size in enumerate((n * 4 // 5, n // 5, n * 4 // 5)))
    return Tables(train, held, synth, roles={"target": "y", "codes": [c for c in train.columns if c != "y"]})


def measured(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and the peak of resident memory above what was there before, MiB."""
    process, done = psutil.Process(), threading.Event()
    before = process.memory_info().rss
    peak = [before]

    def watch() -> None:
        while not done.wait(0.01):
            peak[0] = max(peak[0], process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    start = time.perf_counter()
    run()
    seconds = time.perf_counter() - start
    done.set()
    thread.join()
    return seconds, (peak[0] - before) / 2**20


def record(benchmark, mine: Callable[[], object]) -> float:
    """Run once under the benchmark; keeps seconds and peak memory."""
    found: list[tuple[float, float]] = []
    benchmark.pedantic(lambda: found.append(measured(mine)), rounds=1)
    seconds, peak = found[0]
    benchmark.extra_info |= {"rows": ROWS, "peak_mb": round(peak)}
    assert peak < 2_048
    return seconds


def test_neighbours_of_attribute_membership_and_share_against_cdist(benchmark) -> None:
    """AIR (city block over known codes), MIR (squared Euclid), dcr_share: at least ten times cdist."""
    t = tables(ROWS, CODES)
    people = pd.concat([t.flat("train").iloc[near.picked(t, "train", near.count(t), 0)], t.flat("holdout")])
    for name in ("train", "holdout", "synth"):
        t.matrix(name)
    mine = record(benchmark, lambda: metrics.score(t, ["air_train", "mir_f1", "dcr_share_risk"], seed=0))
    known, _ = attributes._known(t)
    synth = t.flat("synth")
    plain = 0.0
    for a, b, how in (
        (people[known], synth[known], "cityblock"),
        (people, synth, "sqeuclidean"),
        (synth, t.flat("train").iloc[: near.count(t)], "sqeuclidean"),
        (synth, t.flat("holdout"), "sqeuclidean"),
    ):
        x, y = a.to_numpy(dtype=float), b.to_numpy(dtype=float)
        start = time.perf_counter()
        for rows in np.array_split(np.arange(len(x)), max(1, len(x) // 500)):  # in blocks, as memory demands
            cdist(x[rows], y, how).argmin(axis=1)
        plain += time.perf_counter() - start
    benchmark.extra_info["times_faster"] = round(plain / mine, 1)
    assert plain > 10 * mine


def test_the_nearest_few_against_a_partial_sort(benchmark) -> None:
    d = np.random.default_rng(0).random((500, ROWS), dtype=np.float32)
    mine = record(benchmark, lambda: pairwise._smallest(d.copy(), near.K))
    start = time.perf_counter()
    np.argpartition(d, near.K - 1, axis=1)[:, : near.K]
    plain = time.perf_counter() - start
    benchmark.extra_info["times_faster"] = round(plain / mine, 1)
    assert plain > 3 * mine


def test_mmd_in_bounded_memory(benchmark) -> None:
    """All rows on either side; faster than the plain kernel matrices."""
    a, b = (draw(ROWS, CODES, seed).drop(columns="y").to_numpy(dtype=np.float32) for seed in (0, 1))
    group = np.arange(ROWS) % 20
    gamma = 1 / (2 * pairwise.median_distance(a, seed=0) ** 2)
    mine = record(benchmark, lambda: [pairwise.kernel_sums(a, x, gamma, group, 20) for x in (a, b)])
    few = min(ROWS, 2_000)
    start = time.perf_counter()
    for x in (a, b):
        np.exp(-gamma * cdist(a[:few].astype(float), x[:few].astype(float), "sqeuclidean")).sum()
    plain = (time.perf_counter() - start) * (ROWS / few) ** 2
    benchmark.extra_info["times_faster"] = round(plain / mine, 1)
    assert plain > 3 * mine


def test_pair_tables_against_one_pair_at_a_time(benchmark) -> None:
    t = tables(2_000, 200)
    mine = record(benchmark, lambda: metrics.score(t, ["pair_tvd_gap"], seed=0))
    held, synth = t.flat("holdout"), t.flat("synth")
    names = list(held.columns[:40])
    start = time.perf_counter()
    for i, one in enumerate(names):
        for two in names[i + 1 :]:
            p, q = (pd.crosstab(x[one], x[two], normalize=True) for x in (held, synth))
            (p - q).abs().to_numpy().sum()
    plain = (time.perf_counter() - start) * (201 * 200) / (40 * 39)
    benchmark.extra_info["times_faster"] = round(plain / mine)
    assert plain > 100 * mine


def test_dimension_prediction_against_one_regression_at_a_time(benchmark) -> None:
    t = tables(ROWS, 300)
    mine = record(benchmark, lambda: metrics.score(t, ["dimension_prediction_f1_gap"], seed=0))
    x, y = t.matrix("holdout")[::2], t.flat("holdout")[t.ever[:3]].to_numpy()[::2]
    start = time.perf_counter()
    for j in range(3):
        LogisticRegression(C=0.1, max_iter=500, tol=1e-4).fit(x, y[:, j])
    plain = (time.perf_counter() - start) / 3 * 120
    benchmark.extra_info["times_faster"] = round(plain / mine, 1)
    assert plain > 2 * mine


@pytest.mark.parametrize(("names", "power"), [
    (["mir_f1", "dcr_share_risk", "nnaa_risk"], 2.0), (["mmd_distance"], 2.0),
    (["cmd_distance", "pair_tvd_gap", "prevalence_pearson_score", "mcad_distance", "tvd_gap"], 1.0),
])  # fmt: skip
def test_cost_grows_as_its_row_says(names: list[str], power: float, benchmark) -> None:
    """Seconds at n, 2n, 4n: the exponent between the ends is no worse than stated, and a half for noise."""
    seconds = []
    for n in (ROWS, 2 * ROWS, 4 * ROWS):
        t = tables(n, 200)
        seconds.append(min(measured(lambda t=t, s=s: metrics.score(t, names, seed=s))[0] for s in range(2)))
    benchmark.pedantic(lambda: None, rounds=1)
    exponent = float(np.log(seconds[-1] / seconds[0]) / np.log(4))
    benchmark.extra_info |= {"seconds": [round(s, 3) for s in seconds], "exponent": round(exponent, 2)}
    assert exponent < power + 0.5
