"""What a cell will take, from figures measured by `python -m bench.measure` and stored in costs.json.

Seconds of a phase are (floor + base * (subjects / measured)^a) * (width / measured)^b, width being the values of one
subject; those of a network grow with its steps and with its batch, width and depth besides. Memory is a constant and so
much for each value of the table, which is too much where work is done in blocks. What is assumed: threads save nothing;
a trial of a study costs what the cell does on 80 % of its train, whatever it varies; conditions, prompts and guidance
cost nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from math import prod
from typing import TYPE_CHECKING, Any

from bench.cell import Cell
from metrics import METRICS

if TYPE_CHECKING:
    from bench.datasets.source import Source
    from bench.store import Store

TRAIN = 0.8  # of a dataset's subjects
LEAST_S = 0.05  # a phase; less cannot be told by watching a process from outside
LEAST_MB = 8e-6  # a value of the table, MiB: one copy of it as a float
OTHERS = 4  # columns beside codes, of a dataset cut to so many codes: age, sex, target and one more
# rows of a subject, where the name or the counts of the dataset do not say
LENGTHS = {"sim-visits": 2.3, "sim-icu": 24, "cinc2012": 48, "cinc2019": 24, "mimic3-mortality": 24, "mimic3-stay": 24,
           "eicu-mortality": 288, "eicu-stay": 288}  # fmt: skip
# steps that are 0 by default: passes over train, in batches, kept between a least and a most
PASSES: Mapping[str, Mapping[str, tuple[int, int, int]]] = {
    "gan": {"steps": (150, 2_000, 6_000)},
    "ehr-d3pm": {"steps": (160, 1_200, 16_000)},
    "healthforge": {"ae_steps": (80, 2_000, 12_000), "steps": (80, 3_000, 12_000)},
}


@dataclass(frozen=True)
class Estimate:
    """Of one cell. seconds: from load to score, on one core, with all trials where it has a study of its own. fit_s:
    the part that cells which share its fit do not pay again. memory_mb: at its peak; least_mb: the same, were it too
    high by the factor that held-out cells were at worst."""

    seconds: float
    fit_s: float
    memory_mb: float
    least_mb: float


@dataclass(frozen=True)
class Size:
    """Of a dataset's table. n: subjects. width: values of one subject."""

    n: float
    width: float


def load(store: Store | None = None) -> Estimates:
    """The estimates by the stored figures. store: where parsed tables may lie, whose true sizes are taken."""
    return Estimates(_saved(), store)


@cache
def _saved() -> dict[str, Any]:
    return json.loads((files("bench") / "costs.json").read_text(encoding="utf-8"))


@dataclass
class Estimates:
    """Estimates by the figures of a costs.json; those of cells that differ in replicate alone are made once."""

    saved: Mapping[str, Any]
    store: Store | None = None
    known: dict[Any, Estimate | None] = field(default_factory=dict)
    sizes: dict[str, Size | None] = field(default_factory=dict)

    def of(self, cell: Cell, source: Source, metric_names: Sequence[str]) -> Estimate | None:
        """None where nothing is known: a generator of a user's own, or a dataset of unknown size."""
        plan = _plan(cell.tune)
        study = bool(plan) and "from" not in plan and not (cell.replicate and plan["per"] == "dataset")
        asked = (cell.dataset, cell.generator, cell.params, cell.tune, cell.samples, study, tuple(metric_names))
        if asked not in self.known:
            self.known[asked] = self._of(cell, source, metric_names, study)
        return self.known[asked]

    @property
    def said(self) -> str:
        """Where the estimates come from and how good they are, in a sentence."""
        machine, off = self.saved["machine"], self.saved["factors"]
        return (
            f"estimates are of one core of {machine['processor']}, measured {machine['date']}; half of {off['cells']} "
            f"cells held out took within a factor of {off['seconds_median']:g} of their time and "
            f"{off['memory_median']:g} of their memory, all within {off['seconds_worst']:g} and {off['memory_worst']:g}"
        )

    def size(self, cell: Cell, source: Source) -> Size | None:
        """The size of a cell's table, None where it is not known."""
        if cell.dataset not in self.sizes:
            parsed = _parsed(self.store, source) if self.store and cell.data else None
            self.sizes[cell.dataset] = parsed or _documented(source)
        return self.sizes[cell.dataset]

    def _of(self, cell: Cell, source: Source, metric_names: Sequence[str], study: bool) -> Estimate | None:
        name, shape, size = cell.generator, source.row.shape, self.size(cell, source)
        figures = self.saved["figures"]
        mine = figures["generators"].get(name, {}).get(shape)
        if size is None or mine is None:
            return None
        plan = _plan(cell.tune)
        params = {**plan.get("params", {}), **json.loads(cell.params)}
        drawn = cell.samples / (TRAIN * size.n) if cell.samples else 1.0
        fit = self._phase(name, shape, "fit", params, size)
        seconds = self._curve(shape, figures["shapes"][shape]["prepare"], size) + fit
        seconds += drawn * self._phase(name, shape, "sample", params, size)
        if any(METRICS[m].minority for m in metric_names):
            seconds += self._phase(name, shape, "minority", params, _most_minority(size))
        seconds += self._scoring(shape, metric_names, size)
        if study:
            seconds += self._study(plan, name, shape, params, size)
        memory = [
            base + each * size.n * size.width for base, each in (mine["memory"], figures["shapes"][shape]["memory"])
        ]
        return Estimate(seconds, fit, max(memory), max(memory) / self.saved["factors"]["memory_worst"])

    def _study(self, plan: Mapping[str, Any], name: str, shape: str, params: Mapping[str, Any], whole: Size) -> float:
        """Seconds of a study: its trials, or its budget of time where that is less."""
        from bench.objective import DRAWS, FEW, wanted

        size = Size(TRAIN * whole.n, whole.width)
        draws = plan["draws"] or (DRAWS if TRAIN * size.n < FEW else 1)
        scores = self._scoring(shape, [*wanted(plan["objective"]), *plan["privacy"]], size)
        sample = self._phase(name, shape, "sample", params, size)
        trial = self._phase(name, shape, "fit", params, size) + draws * (sample + scores)
        trial = min(trial, plan["trial_s"] or trial)
        trials = (plan["trials"] or float("inf")) * trial
        return min(trials, plan["time_s"] or trials)

    def _scoring(self, shape: str, metric_names: Sequence[str], size: Size) -> float:
        """Metrics whose names begin alike share work, which the first of them is measured with and any of them pays."""
        rows = self.saved["figures"]["shapes"][shape]["metrics"]
        took = {name: self._curve(shape, row, size) for name, row in rows.items()}
        total = 0.0
        for start in {name.split("_")[0] for name in metric_names}:
            group = [s for name, s in took.items() if name.split("_")[0] == start]
            asked = [took[name] for name in metric_names if name in took and name.split("_")[0] == start]
            total += sum(asked) + max(group) - max(asked) if asked else 0.0
        return total

    def _phase(self, name: str, shape: str, phase: str, params: Mapping[str, Any], size: Size) -> float:
        row = self.saved["figures"]["generators"][name][shape]
        seconds = self._curve(shape, row[phase], size)
        if "grows" not in row:
            return seconds
        like = "fit" if phase == "fit" else "sample"
        grows = row["grows"][like]
        return seconds * (1 - grows + grows * self._effort(name, like, params, TRAIN * size.n))

    def _curve(self, shape: str, row: Sequence[float], size: Size) -> float:
        at, (floor, base, a, b) = self.saved["figures"]["shapes"][shape], row
        return (floor + base * (size.n / at["n"]) ** a) * (size.width / at["width"]) ** b

    def _effort(self, name: str, phase: str, params: Mapping[str, Any], n_train: float) -> float:
        """How many times the work of the measured parameters a network has to do."""
        row = self.saved["figures"]["params"][name]
        now = {**row["defaults"], **params}
        for key, (passes, least, most) in PASSES.get(name, {}).items():
            now[key] = now[key] or min(max(passes * n_train / now["batch"], least), most)
        if name == "bart":
            now["most_steps"] = min(max(now["epochs"] * n_train / now["batch"], now["least_steps"]), now["most_steps"])
        times = {key: now[key] / value for key, value in row["measured"].items()}
        parts = row[phase]["parts"]
        linear = sum(part * times[key] for key, part in parts.items()) if parts else 1.0
        return linear * prod(times[key] ** power for key, power in row[phase]["powers"].items())


@cache
def _plan(tune: str) -> dict[str, Any]:
    return json.loads(tune) if tune else {}


def _most_minority(size: Size) -> Size:
    """The size at which no more positives are asked for."""
    from bench.ask import MOST_MINORITY

    return Size(min(size.n, MOST_MINORITY / (2 * TRAIN)), size.width)


def _documented(source: Source) -> Size | None:
    """The size of a registered dataset as its row says it, cut as its name says."""
    row, cuts = source.row, {**source.row.params, **dict(source.name.cuts)}
    n, columns, _ = row.size
    if not n or not columns or cuts.get("level", "category") != "category":
        return None
    if "sets" in cuts:
        n = n * len(str(cuts["sets"])) // len(str(row.params["sets"]))
    rows, codes = int(cuts.get("rows", 0)), int(cuts.get("codes", 0))
    n = rows if source.simulated else min(rows or n, n)
    columns = codes + OTHERS if codes else columns
    expected = row.expected
    people = expected.get("patients", 0)
    visits = expected.get("encounters", 0) or expected.get("admissions", 0)
    length = LENGTHS.get(row.name, visits / people if row.shape == "visits" and people and visits else 1.0)
    return Size(n, columns * length)


def _parsed(store: Store, source: Source) -> Size | None:
    """The size of a table that the store holds, from the parquet file's own account."""
    path = store.table_folder(source) / "table.parquet"
    if not path.exists():
        return None
    import pyarrow.parquet as pq

    try:
        about = pq.read_metadata(path)
    except (OSError, ValueError):
        return None  # damaged, as the cell that reads it will say
    names = [about.schema.column(i).name for i in range(about.num_columns)]
    at = names.index("subject")
    n = 1 + max(about.row_group(i).column(at).statistics.max for i in range(about.num_row_groups))
    columns = about.num_columns - len({"subject", "time"} & set(names))
    return Size(n, columns * about.num_rows / n)
