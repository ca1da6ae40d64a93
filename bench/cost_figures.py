"""What estimates are made of, from measured points: curves of time and lines of memory (bench/measure.py)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

import generators
from bench.errors import BenchError
from bench.estimate import LEAST_MB, LEAST_S
from bench.space import defaults

SIZES = {
    "codes": ["sim-ehr[codes=100,rows=1000]", "sim-ehr[codes=100,rows=2000]", "sim-ehr[codes=100,rows=4000]",
              "sim-ehr[rows=1000]"],
    "visits": ["sim-visits[codes=40,rows=300]", "sim-visits[codes=40,rows=600]", "sim-visits[codes=40,rows=1200]",
               "sim-visits[codes=80,rows=300]"],
    "series": ["sim-icu[rows=500]", "sim-icu[rows=1000]", "sim-icu[rows=2000]", "narrow-icu"],
    "table": ["sim-fraud[rows=1000]", "sim-fraud[rows=2000]", "sim-fraud[rows=4000]", "narrow-fraud"],
}  # fmt: skip
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
LINEAR = {"fit": ("steps", "ae_steps", "most_steps", "epochs", "texts"), "sample": ("sample_steps",)}
WITH_STEPS = ("epochs", "least_steps")  # what decides most_steps besides
PHASES = ("fit", "sample", "minority")
LEAST_METRIC_S = 0.01
LEAST_SHARE = 0.02  # of a network's work that grows with its steps, as far as can be told
ALIKE = 0.1  # logarithms of widths that differ by less are of one width
EXPONENTS = (1.0, 1.25, 1.5, 1.75, 2.0)  # up to all pairs of subjects: nothing here does more
CLEARLY = 0.05  # by which another exponent must lower the relative error to be taken instead of 1


def twin(shape: str) -> str:
    """Another draw of the first size of a shape: what is measured there side by side is compared with nothing else."""
    return f"{SIZES[shape][0][:-1]},draw=1]"


def twice(name: str) -> dict[str, Any]:
    """A network's measured parameters, with twice of all that its work is linear in."""
    return {k: 2 * v if k in LINEAR["fit"] + LINEAR["sample"] else v for k, v in CUT[name].items()}


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
