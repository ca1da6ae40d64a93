"""The plan of 100,000 cells and the board of 20,000 records, and what both stand on against plain ways.

Limits are of the real commands on two cores that do nothing else; ratios are of processor time.
"""

import hashlib
import json
import random
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.cell import Cell, Record
from bench.collect import frame, records
from bench.store import Store
from bench.suite import Suite, cells, find_suite
from conftest import ROOT, environment, write
from generators import REGISTRY

PLAN_S, BOARD_S = 5.0, 10.0
SURVEY = ROOT / "leaderboards" / "boards" / "survey" / "scores.json"  # of real records
SIMULATED = ("sim-ehr", "sim-visits", "sim-icu", "sim-fraud")
REFERENCES = ("copycat", "marginal", "uniform", "oracle")


def toml(name: str, datasets: list[str], generators: list[tuple[str, str, str]], rest: str) -> str:
    """A suite's text; generators: name, label, parameters."""
    lines = [f'{{ name = "{n}", label = "{label}", params = {{ {params} }} }}' for n, label, params in generators]
    return f'name = "{name}"\ndatasets = {json.dumps(datasets)}\ngenerators = [{", ".join(lines)}]\n{rest}\n'


def long_suite(folder: Path) -> Path:
    """25 datasets × 20 labels × 200 replicates, half of the labels tuned."""
    datasets = [f"sim-ehr[rows={1_000 + i}]" for i in range(25)]
    plain = [(name, "", "") for name in REFERENCES] + [("marginal", f"marginal-{i}", "") for i in range(6)]
    tuned = [("ou", f"ou-{i}", f"steps = {100 + i}, sample_steps = 20") for i in range(10)]
    rest = "replicates = 200\ntune = { trials = 5, untuned = false }"
    return write(folder / "long.toml", toml("long", datasets, plain + tuned, rest))


def wide_suite(folder: Path) -> Path:
    """20 datasets × 20 labels × 50 replicates with the metrics of the suite survey."""
    survey = find_suite("survey")
    datasets = [f"{base}[rows={1_000 + i}]" for base in SIMULATED for i in range(5)]
    params = {g.name: ", ".join(f"{k} = {v}" for k, v in g.params.items()) for g in survey.generators}
    named = [(name, "", given) for name, given in params.items()]
    again = [(name, f"{name}-2", given) for name, given in params.items() if name not in REFERENCES][:7]
    rest = f"replicates = 50\nmetrics = {json.dumps(survey.metrics)}"
    return write(folder / "wide.toml", toml("wide", datasets, named + again, rest))


def fill(store: Store, suite: Suite) -> int:
    """A record of each cell: the scores of the committed survey's record of the same generator, with noise."""
    rng = random.Random(0)
    saved = json.loads(SURVEY.read_text())["cells"]
    like = {(c["dataset"].split("[")[0], c["generator"], c["replicate"]): c for c in saved}
    phase = {"cpu_s": 0.1, "peak_memory_mb": 170.0, "seconds": 0.2}
    every = [cell for cell, _, _ in cells(suite, None)]
    for cell in every:
        one = like[cell.dataset.split("[")[0], cell.generator, cell.replicate % 3]
        facts = {k: one[k] for k in ("n_train", "n_holdout", "subset")} | {"tuned": None}
        facts |= {"n_synth": 1_600, "n_parameters": 1_000, "params": {}}
        scores = {name: noisy(score, rng) for name, score in one["scores"].items()}
        store.cell(cell.key).mkdir(parents=True)
        store.save_record(Record(cell, "done", None, scores, facts))
        store.save_note(cell.key, "cost", {"phases": dict.fromkeys(("load", "fit", "sample", "score"), phase)})
    return len(every)


def noisy(score: Any, rng: random.Random) -> Mapping[str, Any]:
    if isinstance(score, str):
        return {"undefined": score}
    value, se = score
    return {"value": value + rng.gauss(0, 0.01), "se": se and se * rng.uniform(0.9, 1.1), "n": 400}


def command(benchmark: Any, *args: str) -> str:
    """What the bench command prints; timed thrice, with the processor time of each run beside."""
    line = [sys.executable, "-m", "bench", *args]
    spent = []

    def run() -> str:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(line, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
        return done.stdout

    printed = benchmark.pedantic(run, rounds=3)
    benchmark.extra_info["processor, seconds"] = round(min(spent), 2)
    return printed


def faster(benchmark: Any, quick: Callable[[], Any], plain: Callable[[], Any]) -> tuple[float, Any, Any]:
    """How many times the processor time of the quick way the plain one takes, and what both give."""

    def timed(run: Callable[[], Any]) -> tuple[float, Any]:
        start = time.process_time()
        found = run()
        return time.process_time() - start, found

    (short, one), (long, other) = benchmark.pedantic(lambda: timed(quick), rounds=1), timed(plain)
    benchmark.extra_info |= {"seconds": round(short, 2), "plain, seconds": round(long, 2)}
    return long / short, one, other


def test_the_plan_of_100_000_cells(benchmark, tmp_path: Path) -> None:
    """By `bench plan`, nothing stored."""
    path = str(long_suite(tmp_path))
    found = command(benchmark, "plan", "--suite", path, "--store", str(tmp_path / "s"))
    assert "100,000 cells: 0 stored, 100,000 to run" in found
    assert benchmark.stats["min"] < PLAN_S


def plain_key(cell: Cell) -> str:
    """A cell's key as its definition reads."""
    absent = {k for k in ("conditions", "prompts", "at_sample") if not getattr(cell, k)}
    decides = {k: v for k, v in asdict(cell).items() if k not in {"label", "source", "untuned_of", *absent}}
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:10]
    name, label = (re.sub(r"[^A-Za-z0-9-]+", "-", text) for text in (cell.dataset, cell.label))
    return f"{name.strip('-')}.{label}.r{cell.replicate}.{digest}"


def test_keys_of_100_000_cells_against_plain_ones(benchmark, tmp_path: Path) -> None:
    every = [cell for cell, _, _ in cells(find_suite(str(long_suite(tmp_path))), None)]
    ratio, found, plain = faster(
        benchmark, lambda: [cell.key for cell in every], lambda: [plain_key(cell) for cell in every]
    )
    assert found == plain
    assert ratio > 2


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The path of a suite and of a store with all its 20,000 records."""
    folder = tmp_path_factory.mktemp("wide")
    path = wide_suite(folder)
    assert fill(Store.open(folder / "store"), find_suite(str(path))) == 20_000
    return path, folder / "store"


def test_the_board_of_20_000_records(benchmark, wide: tuple[Path, Path]) -> None:
    """By `bench board`, from the store to the printed board."""
    suite, store = map(str, wide)
    found = command(benchmark, "board", suite, "--store", store)
    assert "20 datasets × 20 generators × 50 replicates = 20000 cells: 20000 done" in found
    assert benchmark.stats["min"] < BOARD_S


def plain_frame(found: list[Any]) -> pd.DataFrame:
    """A frame of done records as a mapping per score; the first row of a generator has its name as its label."""
    rows = [
        {"dataset": cell.dataset, "shape": source.row.shape, "subset": "", "generator": cell.label,
         "arm_of": cell.generator, "untuned_of": "", "tuning": None,
         "native": source.row.shape in REGISTRY[cell.generator].native, "reference": cell.generator in REFERENCES,
         "replicate": cell.replicate, "status": record.status, "reason": record.reason, "metric": name,
         "value": s.get("value"), "se": s.get("se"), "undefined": s.get("undefined", ""),
         "n_train": record.facts["n_train"], "n_holdout": record.facts["n_holdout"]}
        for cell, source, record in found
        for name, s in record.scores.items()
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_a_frame_of_20_000_records_against_a_mapping_per_score(benchmark, wide: tuple[Path, Path]) -> None:
    suite = find_suite(str(wide[0]))
    found = records(suite, Store(wide[1]), None)
    ratio, quick, plain = faster(benchmark, lambda: frame(found, suite.metric_names), lambda: plain_frame(found))
    pd.testing.assert_frame_equal(plain, quick, check_dtype=False)
    assert ratio > 1.5


def test_records_without_scores_against_whole_ones(benchmark, wide: tuple[Path, Path]) -> None:
    """What `bench plan` and `bench status` read of a store."""
    suite, store = find_suite(str(wide[0])), Store(wide[1])
    ratio, found, whole = faster(
        benchmark, lambda: records(suite, store, None, scores=False), lambda: records(suite, store, None)
    )
    assert [(r.status, r.facts) for _, _, r in found] == [(r.status, r.facts) for _, _, r in whole]
    assert ratio > 1.5
