"""`python -m bench.measure`: measure what cells cost on this machine, and write the points and what follows from them.

Every generator runs on every shape of table at n, 2n and 4n subjects of one width and at n of another width, with few
training steps; each network besides with one parameter doubled at a time. One cell at a time, one thread each. Seconds
are the processor's, which other work on the machine does not blow up; where there is a GPU they are the clock's, so
that the machine should be idle then.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import platform
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any

import generators
from bench.collect import records, spent
from bench.cost_figures import CUT, LINEAR, PHASES, SIZES, figures, twice, twin
from bench.datasets import open_dataset
from bench.errors import BenchError
from bench.estimate import Estimates, Size
from bench.machine import environment
from bench.place import Place
from bench.store import Store
from bench.suite import Suite, resolved_suite
from bench.sweep import sweep
from bench.whole import write_json
from metrics import METRICS

# tables of which there is no narrower cut: some columns are left out
NARROW = {
    "narrow-icu": ("sim-icu[rows=500]", ["SBP", "DBP", "MBP", "RR"]),
    "narrow-fraud": ("sim-fraud[rows=1000]", [f"F{i:02}" for i in range(1, 16)]),
}
HELD: dict[str, dict[str, Any]] = {
    "ctgan": {"epochs": 30},
    "gan": {"steps": 300},
    "bart": {"most_steps": 200, "width": 64, "depth": 1},
    "ou": {"steps": 600, "sample_steps": 50},
    "tardiff": {"steps": 100, "width": 16, "sample_steps": 10},
    "ehr-d3pm": {"steps": 300, "width": 96, "sample_steps": 50},
    "healthforge": {"ae_steps": 300, "steps": 300, "sample_steps": 50, "texts": 200},
}
CHEAP = ["prevalence_holdout", "condition_rate_score"]  # no time to speak of; the second asks for a minority
SCORED = ("marginal", "gaussian")  # what the costs of scoring are measured on: the second, as of most cells of a split


def content(name: str, datasets: Sequence[str], rows: Sequence[Any], metric_names: Sequence[str] = ()) -> Suite:
    """A suite of the measurement."""
    saved = {"name": name, "datasets": list(datasets), "generators": list(rows), "metrics": list(metric_names),
             "limits": {"time_s": 600, "memory_mb": 8000}}  # fmt: skip
    return resolved_suite(saved, Path(f"{name}.toml"))


def grid(shape: str, folder: Path) -> Suite:
    """Every generator that can run here, at every size of a shape."""
    return content(f"grid-{shape}", tables(shape, folder), every(CUT), CHEAP)


def doubled(name: str) -> Suite:
    """A network on the twin of its first shape, with one parameter doubled at a time: those that do more than multiply
    the steps, and of the latter all where there are several."""
    alone = [k for linear in LINEAR.values() for k in CUT[name] if [c for c in CUT[name] if c in linear] == [k]]
    rows = [
        {"name": name, "label": f"{name} {k}", "params": {**CUT[name], k: 2 * v}}
        for k, v in CUT[name].items()
        if k not in alone
    ]
    return content(f"doubled-{name}", [twin(generators.find(name).native[0])], rows, CHEAP[:1])


def more(shape: str) -> Suite:
    """Every network on the twin of a shape, as measured and with twice the steps and the like."""
    rows = [
        row
        for name in networks()
        for row in ({"name": name, "params": CUT[name]}, {"name": name, "label": f"{name} more", "params": twice(name)})
    ]
    return content(f"more-{shape}", [twin(shape)], rows, CHEAP[:1])


def scored(shape: str, folder: Path) -> Suite:
    """Every metric at every size of a shape."""
    return content(f"scored-{shape}", tables(shape, folder), SCORED, list(METRICS))


def held() -> list[Suite]:
    """Cells of other sizes and with other parameters, which the figures are held against."""
    names = ["fidelity", "privacy", "tstr_auroc", "boost_auprc"]
    some = ["sim-ehr[codes=60,rows=3000]", "sim-visits[codes=30,rows=1800]", "sim-icu[rows=1500]", "breast-cancer"]
    rows = [row for row in every(HELD) if generators.find(row["name"]).family != "reference"]
    large = ["sim-ehr[rows=16000]", "sim-icu[rows=8000]", "sim-fraud[rows=40000]"]
    return [
        content("held-large", large, SCORED[-1:], names),
        content("held", some, rows, names).model_copy(update={"native": True}),
    ]


def every(params: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every generator that can run here, with these parameters."""
    rows = [row for row in generators.REGISTRY.values() if not generators.absence(row)]
    return [{"name": row.name, "params": params.get(row.name, {})} for row in rows]


def networks() -> list[str]:
    """Those of CUT that can run here."""
    return [name for name in CUT if not generators.absence(generators.find(name))]


def tables(shape: str, folder: Path) -> list[str]:
    """The datasets of a shape, those made here as their TOML."""
    return [str(narrow(name, folder)) if name in NARROW else name for name in SIZES[shape]]


def narrow(name: str, folder: Path) -> Path:
    """A simulated table without some of its columns, as a user's own dataset. Gives its TOML."""
    whole, drop = NARROW[name]
    path = folder / f"{name}.toml"
    if not path.exists():
        source = open_dataset(whole, None)
        data = source.load()
        data.table.reset_index().to_parquet(folder / f"{name}.parquet")
        said: dict[str, Any] = {"file": f"{name}.parquet", "target": data.roles.target, "subject": "subject",
                                "drop": drop, "shape": source.row.shape}  # fmt: skip
        if data.table.index.nlevels == 2:
            said |= {"time": "time", "static": list(data.roles.static)}
        path.write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in said.items()))
    return path


# --- points ---


def measured_points(folder: Path, store: Store) -> dict[str, list[dict[str, Any]]]:
    """What the measured cells took: {"cells": of every generator at every size, "twins": of networks whose parameters
    are doubled, "scores": of every size}."""
    cells, twins, scores = [], [], []
    for shape in SIZES:
        cells += [point for *_, point in _taken(grid(shape, folder), store)]
        twins += [point for *_, point in _taken(more(shape), store)]
        for cell, size, _ in _taken(scored(shape, folder), store):
            if cell.generator == SCORED[-1]:
                cost = (store.note(cell.key, "cost") or {})["phases"]["score"]
                kept, busy = store.note(cell.key, "scores") or {}, cost[_clock()] / max(cost["seconds"], 1e-9)
                took = {m: round(v["seconds"] * busy, 4) for m, v in sorted(kept.items())}
                point = {"shape": shape, "n": size.n, "width": round(size.width, 2), "seconds": took}
                scores.append({**point, "memory_mb": cost["peak_memory_mb"]})
    for name in networks():
        twins += [point for *_, point in _taken(doubled(name), store)]
    return {"cells": cells, "twins": twins, "scores": scores}


def _taken(suite: Suite, store: Store) -> list[tuple[Any, Size, dict[str, Any]]]:
    """Each done cell of a suite with the size of its table and its point."""
    found, sizes = [], Estimates({}, store)
    for cell, source, record in records(suite, store, None):
        if record is None or record.status != "done":
            continue
        size = sizes.size(cell, source)
        phases, _ = spent(cell, store)
        if size is None or "fit" not in phases:
            continue
        took = {k: v[_clock()] for k, v in phases.items()}
        took["prepare"] = sum(took.pop(k) for k in ("start", "load", "split"))
        memory = max(v["peak_memory_mb"] for k, v in phases.items() if k != "score")
        point = {"generator": cell.generator, "shape": source.row.shape, "n": size.n, "width": round(size.width, 2),
                 "params": json.loads(cell.params), "memory_mb": memory,
                 "seconds": {k: round(took[k], 3) for k in ("prepare", *PHASES)}}  # fmt: skip
        found.append((cell, size, point))
    return found


def _clock() -> str:
    return "seconds" if environment()["gpus"] else "cpu_s"


# --- how good they are ---


def ratios(saved: Mapping[str, Any], store: Store) -> list[dict[str, Any]]:
    """Of each held-out cell that is done: what it took, what was estimated, in seconds and MiB."""
    estimates, found = Estimates(saved), []
    for suite in held():
        for cell, source, record in records(suite, store, None):
            estimate = estimates.of(cell, source, suite.metric_names)
            if record is None or record.status != "done" or estimate is None:
                continue
            phases = (store.note(cell.key, "cost") or {})["phases"].values()
            took, peak = sum(p[_clock()] for p in phases), max(p["peak_memory_mb"] for p in phases)
            found.append({"dataset": cell.dataset, "generator": cell.generator, "seconds": round(took, 2),
                          "estimated": round(estimate.seconds, 2), "memory_mb": round(peak),
                          "estimated_mb": round(estimate.memory_mb)})  # fmt: skip
    return found


def factors(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """By which factor the estimates miss, either way: the median and the worst, of seconds and of memory."""
    out: dict[str, float] = {"cells": len(rows)}
    for what, took, told in (("seconds", "seconds", "estimated"), ("memory", "memory_mb", "estimated_mb")):
        off = [math.exp(abs(math.log(r[told] / r[took]))) for r in rows]
        out |= {f"{what}_median": round(median(off), 2), f"{what}_worst": round(max(off), 2)}
    return out


def processor() -> str:
    """What the processor calls itself."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def main() -> None:
    """Measure, fit, hold against other cells, and write."""
    parser = argparse.ArgumentParser(prog="python -m bench.measure", description="Measure what cells cost here.")
    parser.add_argument("--out", type=Path, default=Path(str(files("bench") / "costs.json")), help="the file to write")
    parser.add_argument("--store", type=Path, required=True, help="where the measured cells are; what is there is kept")
    asked = parser.parse_args()
    store = Store.open(asked.store)
    suites = [make(shape, store.root) for shape in SIZES for make in (grid, scored)]
    suites += [*map(more, SIZES), *map(doubled, networks())]
    for suite in [*suites, *held()]:
        sweep(suite, store, None, place=Place(workers=1), retry=(), datasets=(), labels=(), uri=None, track=False)
    points = measured_points(store.root, store)
    try:
        figured = figures(points)
    except BenchError as error:
        raise SystemExit(f"bench.measure: error: {error}") from error
    rows = ratios({"figures": figured}, store)
    machine = {"date": datetime.date.today().isoformat(), "processor": processor(), **environment()}
    saved = {"machine": machine, "clock": _clock(), "points": points, "figures": figured, "held": rows}
    write_json(asked.out, {**saved, "factors": factors(rows)})


if __name__ == "__main__":
    main()
