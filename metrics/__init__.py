"""Every score of the benchmark. `score(tables, names, seed=...)` computes them; METRICS (metrics/rows.py) lists them.

A metric is a function (tables, *, seed) -> Score | Undefined | {suffix: Score | Undefined}. Its direction is the ending
of its name: `_score _auroc _auprc _f1` up, `_gap _error _distance _risk` down. Importing this package loads no library.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from math import isfinite
from typing import TYPE_CHECKING, Any

from metrics.rows import CHANCE, COSTS, DOWN, METRICS, UP, Metric

if TYPE_CHECKING:
    from metrics.tables import Tables

__all__ = ["CHANCE", "COSTS", "DOWN", "METRICS", "UP", "Metric", "Score", "Undefined", "function", "names", "score"]


@dataclass(frozen=True)
class Score:
    """One number. se: its standard error over the holdout, None where the metric has none. n: subjects it rests on."""

    value: float
    se: float | None
    n: int

    def __post_init__(self) -> None:
        if not isfinite(self.value):
            raise ValueError(f"a score must be finite, got {self.value}; return Undefined with the reason")


@dataclass(frozen=True)
class Undefined:
    """A table gives no value, and why."""

    reason: str


def names(asked: Iterable[str] | None = None) -> list[str]:
    """Metric names; a family's name stands for its metrics. None: all but the published variants.

    ValueError names an unknown one and its nearest.
    """
    if asked is None:
        return [m.name for m in METRICS.values() if m.family != "published"]
    found: dict[str, None] = {}
    for name in asked:
        family = [m.name for m in METRICS.values() if m.family == name]
        if not family and name not in METRICS:
            near = get_close_matches(name, METRICS, n=1)
            hint = f" did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"unknown metric '{name}':{hint} known: {', '.join(METRICS)}, or a family")
        found |= dict.fromkeys(family or [name])
    return list(found)


def function(name: str) -> Any:
    """The function behind a row; its module is imported now."""
    module, _, attribute = METRICS[name].load.partition(":")
    return getattr(import_module(f"metrics.{module}"), attribute)


def score(tables: "Tables", asked: Iterable[str] | None = None, *, seed: int) -> dict[str, Score | Undefined]:
    """Scores by full name ("tstr_auroc", "tstr_auroc/xgb"). A metric not made for the shape is Undefined."""
    out: dict[str, Score | Undefined] = {}
    for name in names(asked):
        if tables.shape not in METRICS[name].shapes:
            out[name] = Undefined(f"not defined on {tables.shape}")
            continue
        got: Any = function(name)(tables, seed=seed)
        found = got if isinstance(got, dict) else {"": got}
        out |= {f"{name}/{suffix}" if suffix else name: value for suffix, value in found.items()}
    return out
