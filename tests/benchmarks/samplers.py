"""Measure the samplers of the diffusion generators: one fit, sampled in many ways, scored on three splits.

    BENCH_DATA=DIR PYTHONPATH=.:tests python tests/benchmarks/samplers.py RESULTS.jsonl [GENERATOR ...]
    PYTHONPATH=.:tests python tests/benchmarks/samplers.py RESULTS.jsonl --table

The first line measures: it appends a line to RESULTS.jsonl for each fit and each draw, and measures only what is not in
the file, so that it may be ended and started again. A fit with a draw missing is made again. The second line prints the
tables of docs/samplers.md. Seconds are CPU seconds of this process for 1,000 subjects.
"""

import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

import metrics
from bench.datasets import open_dataset
from bench.datasets.data import Data
from bench.datasets.split import Split, split
from exact import correlation_kept, flag_sd_kept, sd_kept
from generators import make
from generators.columns import labels
from generators.diffusion import healthforge, ou
from metrics.tables import Tables

SPLITS = 3
SCORES = ["c2st_auroc_gap", "tstr_auroc"]
TIMES = "times"  # an arm's parameter: what else decides the times or log-SNRs that are visited
EVEN, LOG_SNR, FROM_ONE = "even in number", "even in log-SNR", "from u = 1"


@dataclass(frozen=True)
class Plan:
    """Fits of a generator with these parameters on datasets; draws of each arm: label -> parameters of sampling."""

    generator: str
    datasets: tuple[str, ...]
    draws: int
    fit: Mapping[str, Any]
    arms: Mapping[str, Mapping[str, Any]]


OU_ARMS = {
    f"ancestral 100, {EVEN} (former default)": {"sampler": "ancestral", "sample_steps": 100, TIMES: EVEN},
    f"ancestral 50, {EVEN}": {"sampler": "ancestral", "sample_steps": 50, TIMES: EVEN},
    f"heun 25, {EVEN}": {"sampler": "heun", "sample_steps": 25, TIMES: EVEN},
    f"heun 25, {LOG_SNR}": {"sampler": "heun", "sample_steps": 25, TIMES: LOG_SNR},
    "heun 25": {"sampler": "heun", "sample_steps": 25},
}
PLANS = (
    Plan("ou", ("breast-cancer",), 4, {"steps": 1_000}, OU_ARMS),
    Plan("ou", ("sim-fraud[rows=4000]", "mammography[rows=5000]"), 2, {"steps": 1_000}, OU_ARMS),
    Plan("ou", ("sim-icu[rows=1000]",), 2, {"steps": 1_000}, OU_ARMS),
    Plan(
        "tardiff", ("sim-icu[rows=1000]", "cinc2012[rows=1000,sets=a]"), 2, {"steps": 800, "width": 16},
        {
            "ddpm 25, none (former default)": {"variance": "none"},
            "ddpm 25, linear": {"variance": "linear"},
        },
    ),
    Plan(
        "healthforge", ("sim-ehr[codes=60,rows=3000]",),
        2, {"ae_steps": 1_500, "steps": 1_500, "texts": 0, "objective": "v"},
        {
            "v .1, 50": {"v": 0.1, "sample_steps": 50},
            "v .1, 100 (former default)": {"v": 0.1},
            "v .8, 50": {"v": 0.8, "sample_steps": 50},
            "v .8, 100": {"v": 0.8},
        },
    ),
    Plan(
        "healthforge", ("sim-ehr[codes=60,rows=3000]",),
        2, {"ae_steps": 1_500, "steps": 1_500, "texts": 0, "objective": "eps"},
        {
            f"eps, v .1, 100, {FROM_ONE} (former)": {"v": 0.1, TIMES: FROM_ONE},
            "eps, v .1, 100": {"v": 0.1},
            "eps, v .8, 100": {"v": 0.8},
        },
    ),
    Plan(
        "ehr-d3pm", ("sim-ehr[codes=60,rows=3000]",), 2, {"steps": 1_200},
        {f"absorbing, {n}": {"sample_steps": n} for n in (50, 100)},
    ),
)  # fmt: skip


# samplers whose spread alone is tabled, at these numbers of steps
LAWS: tuple[tuple[str, Mapping[str, Any], tuple[int, ...]], ...] = (
    ("ou", {"sampler": "heun"}, (10, 15, 25, 50, 100)),
    ("ou", {"sampler": "heun", TIMES: EVEN}, (25, 50, 100)),
    ("ou", {"sampler": "heun", TIMES: LOG_SNR}, (25, 50, 100)),
    ("ou", {"sampler": "ddim"}, (25, 50, 100, 400)),
    ("ou", {"sampler": "ancestral"}, (25, 50, 100, 400)),
    ("ou", {"sampler": "ancestral", TIMES: EVEN}, (50, 100, 800)),
    ("tardiff", {"variance": "linear"}, (10, 25, 50)),
    ("tardiff", {"variance": "none"}, (10, 25, 50, 100)),
    ("tardiff", {"sampler": "ddim"}, (10, 25, 50)),
    ("healthforge", {"v": 0.1}, (50, 100, 1_000)),
    ("healthforge", {"v": 0.8}, (25, 50, 100)),
    ("healthforge", {"v": 0.8, "objective": "eps"}, (25, 50, 100)),
    ("ehr-d3pm", {"noise": "absorbing"}, (10, 25, 50, 100)),
    ("ehr-d3pm", {"noise": "uniform"}, (25, 50, 100)),
    ("ehr-d3pm", {"noise": "marginal"}, (25, 50, 100)),
)


@contextmanager
def visiting(how: str) -> Iterator[None]:
    """Choose times (OU) or log-SNRs (HealthForge) in another way; "" for the generators' own."""

    def even(times: np.ndarray, n: int) -> np.ndarray:
        return np.unique(np.linspace(len(times) - 1, 0, min(n, len(times))).round().astype(int))

    def by_log_snr(times: np.ndarray, n: int) -> np.ndarray:
        logsnr = -np.log(np.expm1(2 * times))
        return np.unique(np.abs(logsnr - np.linspace(logsnr[0], logsnr[-1], n)[:, None]).argmin(axis=1))

    def from_one(self: healthforge.HealthForge) -> np.ndarray:
        return healthforge.logsnr_cosine(np.arange(self.sample_steps, 0, -1) / self.sample_steps)

    kept = ou.strided, healthforge.HealthForge._lambdas
    try:
        ou.strided = {EVEN: even, LOG_SNR: by_log_snr}.get(how, ou.strided)
        if how == FROM_ONE:
            healthforge.HealthForge._lambdas = from_one  # type: ignore[method-assign]
        yield
    finally:
        ou.strided, healthforge.HealthForge._lambdas = kept  # type: ignore[method-assign]


@cache
def opened(name: str) -> Data:
    return open_dataset(name, Path(os.environ["BENCH_DATA"])).load()


def missing(plan: Plan, dataset: str, at: int, lines: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Return the arms and draws of a split that have no line."""
    done = {(r["arm"], r["draw"]) for r in lines if belongs(r, plan, dataset) and r["split"] == at}
    return [(arm, draw) for arm in plan.arms for draw in range(plan.draws) if (arm, draw) not in done]


def belongs(line: Mapping[str, Any], plan: Plan, dataset: str) -> bool:
    """Return whether a line of the results is of a plan's fit on a dataset."""
    return (line["generator"], line["dataset"], line["fit"]) == (plan.generator, dataset, dict(plan.fit))


def measure(plan: Plan, dataset: str, at: int, results: Path) -> None:
    """Fit once, draw and score every arm that has no line, and append the lines."""
    todo = missing(plan, dataset, at, read(results))
    if not todo:
        return
    data = opened(dataset)
    parts = split(data, seed=at)
    roles = {"target": data.roles.target, "static": data.roles.static}
    fit = {"calibrate": False} if plan.generator == "tardiff" else {}
    started = time.process_time()
    made = make(plan.generator, **plan.fit, **fit).fit(parts.train, **roles, seed=at)
    print(f"{plan.generator} {dataset} {at}: fitted in {time.process_time() - started:.0f} s", flush=True)
    for arm in dict.fromkeys(arm for arm, _ in todo):
        params = dict(plan.arms[arm])
        with visiting(str(params.pop(TIMES, ""))):
            now: Any = sampled_by(made, plan, params, parts, at)
            for draw in [d for a, d in todo if a == arm]:
                line = {"generator": plan.generator, "dataset": dataset, "fit": dict(plan.fit), "split": at, "arm": arm,
                        "draw": draw, **drawn(now, data, parts, draw)}  # fmt: skip
                with results.open("a") as file:
                    file.write(json.dumps(line) + "\n")


def sampled_by(made: Any, plan: Plan, params: Mapping[str, Any], parts: Split, at: int) -> Any:
    """Return the fitted generator with other parameters of sampling; TarDiff calibrated with them."""
    other: Any = make(plan.generator, **{**made._params(), **params})
    for name, value in made._learned().items():
        setattr(other, name, value)
    if plan.generator == "tardiff" and params.get("calibrate", True):
        y = labels(parts.train, made.target_)
        x = made.signals_.lend(made.signals_.transform(parts.train), y, np.random.default_rng(at))
        other.maps_ = other._maps(x, y, at)
    return other


def drawn(made: Any, data: Data, parts: Split, seed: int) -> dict[str, float]:
    """Return scores of one draw as large as train, and CPU seconds for 1,000 subjects."""
    n = parts.train.index.get_level_values("subject").nunique()
    started = time.process_time()
    synth = made.sample(n, seed=seed)
    seconds = 1_000 * (time.process_time() - started) / n
    tables = Tables(parts.train, parts.holdout, synth, roles=asdict(data.roles))
    found = metrics.score(tables, SCORES, seed=0)
    return {"seconds": seconds} | {name: getattr(found[name], "value", math.nan) for name in SCORES}


def read(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def kept(generator: str, params: Mapping[str, Any]) -> list[str]:
    """Return shares kept with exact denoisers: of sd 1, .5, .1; for flags, of sd at p = .5, .1 and of a correlation."""
    params = {k: v for k, v in params.items() if k not in ("calibrate",)}
    with visiting(str(params.pop(TIMES, ""))):
        if generator == "ehr-d3pm":
            return [f"{flag_sd_kept(p, **params):.3f}" for p in (0.5, 0.1)] + [f"{correlation_kept(**params):.3f}"]
        return [f"{sd_kept(generator, sd, **params):.3f}" for sd in (1.0, 0.5, 0.1)]


def spreads() -> Iterator[str]:
    """Write what samplers keep of a spread as Markdown, by their steps."""
    for generator in dict.fromkeys(name for name, _, _ in LAWS):
        yield f"\n`{generator}`\n\n| sampler | steps | {columns(generator)} |\n{'|---' * 5}|"
        for name, params, steps in LAWS:
            label = ", ".join(str(v) if isinstance(v, str) else f"{k} = {v}" for k, v in params.items())
            for n in steps if name == generator else ():
                yield f"| {label} | {n:,} | {' | '.join(kept(name, {**params, 'sample_steps': n}))} |"


def columns(generator: str) -> str:
    return "flag p = .5 | flag p = .1 | correlation" if generator == "ehr-d3pm" else "sd 1 | sd .5 | sd .1"


def scores(results: Path) -> Iterator[str]:
    """Write what was measured as Markdown: means over splits and draws, ± the standard error over splits, (splits)."""
    lines = read(results)
    for plan in PLANS:
        settings = ", ".join(f"{k} = {v}" for k, v in plan.fit.items())
        heads = " | ".join(f"{dataset} c2st | TSTR | s" for dataset in plan.datasets)
        yield f"\n`{plan.generator}` ({settings})\n\n| sampler | {columns(plan.generator)} | {heads} |"
        yield "|---" * (4 + 3 * len(plan.datasets)) + "|"
        for arm, params in plan.arms.items():
            law = {k: v for k, v in plan.fit.items() if k == "objective"}
            cells = kept(plan.generator, {**law, **params})
            for dataset in plan.datasets:
                mine = [r for r in lines if belongs(r, plan, dataset) and r["arm"] == arm]
                cells += [over_splits(mine, name) for name in SCORES]
                cells.append(f"{fmean(r['seconds'] for r in mine):.1f}" if mine else "")
            yield f"| {arm} | {' | '.join(cells)} |"


def over_splits(lines: list[dict[str, Any]], name: str) -> str:
    by_split: dict[int, list[float]] = {}
    for line in lines:
        by_split.setdefault(line["split"], []).append(line[name])
    means = [fmean(v) for v in by_split.values()]
    error = f" ± {stdev(means) / len(means) ** 0.5:.3f}" if len(means) > 1 else ""
    return f"{fmean(means):.3f}{error} ({len(means)})" if means else ""


def main() -> None:
    """Measure what is missing, or print the tables."""
    results, asked = Path(sys.argv[1]), sys.argv[2:]
    if asked == ["--table"]:
        print("\n".join([*scores(results), *spreads()]))
        return
    for at in range(SPLITS):
        for plan in PLANS:
            for dataset in plan.datasets if not asked or plan.generator in asked else ():
                measure(plan, dataset, at, results)


if __name__ == "__main__":
    main()
