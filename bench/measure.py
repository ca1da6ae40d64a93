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
from statistics import fmean, median
from typing import Any

import generators
from bench.collect import records, spent
from bench.datasets import open_dataset
from bench.errors import BenchError
from bench.estimate import LEAST_MB, LEAST_S, Estimates, Size
from bench.machine import environment
from bench.place import Place
from bench.space import defaults
from bench.store import Store
from bench.suite import Suite, resolved_suite
from bench.sweep import sweep
from bench.whole import write_json
from metrics import METRICS

SIZES = {
    "codes": ["sim-ehr[codes=100,rows=1000]", "sim-ehr[codes=100,rows=2000]", "sim-ehr[codes=100,rows=4000]",
              "sim-ehr[rows=1000]"],
    "visits": ["sim-visits[codes=40,rows=300]", "sim-visits[codes=40,rows=600]", "sim-visits[codes=40,rows=1200]",
               "sim-visits[codes=80,rows=300]"],
    "series": ["sim-icu[rows=500]", "sim-icu[rows=1000]", "sim-icu[rows=2000]", "narrow-icu"],
    "table": ["sim-fraud[rows=1000]", "sim-fraud[rows=2000]", "sim-fraud[rows=4000]", "narrow-fraud"],
}  # fmt: skip
# tables of which there is no narrower cut: some columns are left out
NARROW = {
    "narrow-icu": ("sim-icu[rows=500]", ["SBP", "DBP", "MBP", "RR"]),
    "narrow-fraud": ("sim-fraud[rows=1000]", [f"F{i:02}" for i in range(1, 16)]),
}
CUT: dict[str, dict[str, Any]] = {
    "ctgan": {"epochs": 10, "batch": 500},
    "gan": {"steps": 60, "batch": 200, "width": 256, "depth": 2},
    "bart": {"most_steps": 40, "batch": 32, "width": 128, "depth": 2},
    "ou": {"steps": 200, "batch": 256, "width": 128, "depth": 3, "sample_steps": 25},
    "tardiff": {"steps": 20, "batch": 64, "width": 32, "blocks": 1, "sample_steps": 3},
    "ehr-d3pm": {"steps": 80, "batch": 256, "width": 256, "depth": 3, "sample_steps": 20},
    "healthforge": {"ae_steps": 80, "steps": 80, "texts": 100, "batch": 256, "width": 64, "depth": 3,
                    "sample_steps": 20},
}  # fmt: skip
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


LINEAR = {"fit": ("steps", "ae_steps", "most_steps", "epochs", "texts"), "sample": ("sample_steps",)}
WITH_STEPS = ("epochs", "least_steps")  # what decides most_steps besides
PHASES = ("fit", "sample", "minority")
LEAST_METRIC_S = 0.01
LEAST_SHARE = 0.02  # of a network's work that grows with its steps, as far as can be told
ALIKE = 0.1  # logarithms of widths that differ by less are of one width
EXPONENTS = (1.0, 1.25, 1.5, 1.75, 2.0)  # up to all pairs of subjects: nothing here does more
CLEARLY = 0.05  # by which another exponent must lower the relative error to be taken instead of 1


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


def twin(shape: str) -> str:
    """Another draw of the first size of a shape: what is measured there side by side is compared with nothing else."""
    return f"{SIZES[shape][0][:-1]},draw=1]"


def twice(name: str) -> dict[str, Any]:
    """A network's measured parameters, with twice of all that its work is linear in."""
    return {k: 2 * v if k in LINEAR["fit"] + LINEAR["sample"] else v for k, v in CUT[name].items()}


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


# --- figures ---


def figures(points: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """What estimates are made of, from the points alone."""
    shapes: dict[str, Any] = {}
    made: dict[str, Any] = {"shapes": shapes, "generators": {}, "params": {}}
    base = points["cells"]
    for shape in SIZES:
        here = [p for p in points["scores"] if p["shape"] == shape]
        at = {k: here[0][k] for k in ("n", "width")}
        shapes[shape] = {
            **at,
            "prepare": _curve([_middle(base, p) for p in here], "prepare", at),
            "metrics": {m: _curve(here, m, at) for m in here[0]["seconds"]},
            "memory": _line(here),
        }
        for name in dict.fromkeys(p["generator"] for p in base):
            mine = [p for p in base if p["generator"] == name and p["shape"] == shape]
            if mine:
                rows = {phase: _curve(mine, phase, at) for phase in PHASES}
                grows = {"grows": _grows(name, shape, points["twins"])} if name in CUT else {}
                made["generators"].setdefault(name, {})[shape] = {**rows, **grows, "memory": _line(mine)}
    for name in CUT:
        if name in made["generators"]:
            grows = made["generators"][name][generators.find(name).native[0]]["grows"]
            made["params"][name] = _effects(name, points["twins"], grows)
    return made


def _middle(base: Sequence[Mapping[str, Any]], at: Mapping[str, Any]) -> dict[str, Any]:
    """A point of the median over generators of what goes before a fit, of one table."""
    same = [p["seconds"]["prepare"] for p in base if p["shape"] == at["shape"] and p["n"] == at["n"]
            and abs(math.log(p["width"] / at["width"])) < ALIKE]  # fmt: skip
    return {**at, "seconds": {"prepare": median(same)}}


def _curve(points: Sequence[Mapping[str, Any]], what: str, at: Mapping[str, float]) -> list[float]:
    """[floor, base, a, b] of seconds = (floor + base * (n / at n)^a) * (width / at width)^b: the first three by least
    squares of relative errors over the points of one width, b by how the other width differs at the least n."""
    least = LEAST_S if what in ("prepare", *PHASES) else LEAST_METRIC_S
    took = [(p["n"] / at["n"], p["width"] / at["width"], max(p["seconds"][what], least)) for p in points]
    line = sorted((n, s) for n, w, s in took if abs(math.log(w)) < ALIKE)
    found = [(_error(line, floor, base, a), floor, base, a) for a in EXPONENTS for floor, base in [_linear(line, a)]]
    steeper = min(found)
    _, floor, base, a = found[0] if found[0][0] < steeper[0] + CLEARLY else steeper
    other = [math.log(s / line[0][1]) / math.log(w) for _, w, s in took if abs(math.log(w)) >= ALIKE]
    return [round(x, 4) for x in (floor, base, a, _within(other[0]) if other else 1.0)]


def _linear(line: Sequence[tuple[float, float]], a: float) -> tuple[float, float]:
    """Floor and base, neither below 0, of the least relative errors."""
    rows = [(1 / s, n**a / s) for n, s in line]
    ff, fb, bb = (sum(r[i] * r[j] for r in rows) for i, j in ((0, 0), (0, 1), (1, 1)))
    f, b = (sum(r[i] for r in rows) for i in (0, 1))
    if len(line) == 1 or ff * bb - fb * fb <= 0:
        return 0.0, b / bb
    floor, base = (f * bb - b * fb) / (ff * bb - fb * fb), (b * ff - f * fb) / (ff * bb - fb * fb)
    return (0.0, b / bb) if floor < 0 else (f / ff, 0.0) if base < 0 else (floor, base)


def _error(line: Sequence[tuple[float, float]], floor: float, base: float, a: float) -> float:
    return math.sqrt(fmean(((floor + base * n**a) / s - 1) ** 2 for n, s in line))


def _within(exponent: float) -> float:
    return min(max(exponent, 0.0), EXPONENTS[-1])


def _line(points: Sequence[Mapping[str, Any]]) -> list[float]:
    """[MiB without a table, MiB of each value]: the slope of least squares, and the line of it above all points."""
    values = [p["n"] * p["width"] for p in points]
    mean_v, mean_m = fmean(values), fmean(p["memory_mb"] for p in points)
    spread = sum((v - mean_v) ** 2 for v in values)
    slope = sum((v - mean_v) * (p["memory_mb"] - mean_m) for v, p in zip(values, points, strict=True)) / spread
    slope = max(slope, LEAST_MB)
    return [round(max(p["memory_mb"] - slope * v for v, p in zip(values, points, strict=True)), 1), round(slope, 8)]


def _grows(name: str, shape: str, points: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Which share of a network's fit and sample grows with its steps and the like; all of it where there are none."""
    one, two = (_on_twin(name, shape, params, points)["seconds"] for params in (CUT[name], twice(name)))
    return {
        phase: round(min(max(two[phase] / max(one[phase], LEAST_S) - 1, 0.0), 1.0), 3)
        if set(linear) & set(CUT[name])
        else 1.0
        for phase, linear in LINEAR.items()
    }


def _effects(name: str, points: Sequence[Mapping[str, Any]], grows: Mapping[str, float]) -> dict[str, Any]:
    """How a network's work answers to its parameters: the parts that are linear in steps and the like, of what grows
    with any of them, and powers of the others. Measured on the first shape it was made for."""
    shape = generators.find(name).native[0]
    known = {k: v for k, v in defaults(name).items() if k in {*CUT[name], *WITH_STEPS}}
    row: dict[str, Any] = {"measured": CUT[name], "defaults": known}
    base = _on_twin(name, shape, CUT[name], points)["seconds"]
    for phase, linear in LINEAR.items():
        linears = [k for k in CUT[name] if k in linear]
        others = [k for k in CUT[name] if k not in LINEAR["fit"] + LINEAR["sample"]]
        times = {
            k: _on_twin(name, shape, {**CUT[name], k: 2 * CUT[name][k]}, points)["seconds"][phase]
            / max(base[phase], LEAST_S)
            for k in others + (linears if len(linears) > 1 else [])
        }
        parts = {k: max(times[k] - 1, 0.0) if len(linears) > 1 else 1.0 for k in linears}
        total = sum(parts.values())
        fixed = 1 - max(grows[phase], LEAST_SHARE)
        powers = {k: _within(math.log2(max(times[k] - fixed, LEAST_SHARE) / (1 - fixed))) for k in others}
        row[phase] = {
            "parts": {k: round(v / total if total else 1 / len(parts), 3) for k, v in parts.items()},
            "powers": {k: round(v, 3) for k, v in powers.items()},
        }
    return row


def _on_twin(
    name: str, shape: str, params: Mapping[str, Any], points: Sequence[Mapping[str, Any]]
) -> Mapping[str, Any]:
    """A network's point on the twin of a shape, with these parameters."""
    for point in points:
        if (point["generator"], point["shape"], point["params"]) == (name, shape, params):
            return point
    raise BenchError(f"no cell of {name} with {json.dumps(params)} on {twin(shape)} is done: see its log in the store")


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
