"""A suite: which generators run on which datasets and how, from TOML, checked whole; the one enumerator of cells."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

import generators
import metrics
from bench.ask import prompts_of
from bench.cell import Cell, canonical
from bench.datasets import open_dataset
from bench.datasets.name import base
from bench.datasets.own import first_fault, read_toml
from bench.datasets.source import Source
from bench.errors import BenchError, unknown
from bench.objective import BALANCED, BOUNDS, check_aims, check_bounds
from bench.reuse import Tuned

TRIALS = 20  # of a study whose suite states no budget
UNTUNED = " untuned"  # ends the label of a row without tuning beside a tuned one


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetUse(_Strict):
    """One dataset of a suite: a name with cuts or the path of a TOML, how it is split, what is asked beside samples.

    conditions: lists of flags that subjects drawn for a condition should all have. prompts: which of the dataset's
    prompt files (bench/prompts/) is put to generators that take prompts; "" for none.
    """

    name: str
    split: Literal["random", "time"] = "random"
    conditions: tuple[tuple[str, ...], ...] = ()
    prompts: Literal["", "building", "final"] = ""


class GeneratorUse(_Strict):
    """One generator of a suite; `label` tells variants of one generator apart."""

    name: str
    label: str = ""
    params: dict[str, Any] = {}


class Limits(_Strict):
    """What one cell may take; a cell that takes more is killed and its row says so."""

    time_s: float = Field(default=3_600, gt=0)
    memory_mb: float = Field(default=8_192, gt=0)


class Tune(_Strict):
    """How generators are tuned, with the same budget for each that has a space.

    trials, time_s: the budget of a study, in trials, in seconds that its trials take, or both. trial_s: what a trial
    may take. per: a study for each "replicate", or for each "dataset" on replicate 0 alone. sampler, pruner: Optuna's.
    objective: "balanced" (the mean of fidelity and utility), a family, a ranked metric, or two of them. privacy: metric
    -> what it may not exceed. draws: samples that scores are averaged over; 0: three where train is small, else one.
    untuned: also run every generator without tuning. reuse: NAME of leaderboards/tuned/, or a path; no study is run.

    A string stands for all of it: "from:NAME", "per-replicate", "per-dataset".
    """

    trials: int | None = Field(default=None, gt=0)
    time_s: float | None = Field(default=None, gt=0)
    trial_s: float | None = Field(default=None, gt=0)
    per: Literal["replicate", "dataset"] = "replicate"
    sampler: Literal["tpe", "random", "qmc", "gp", "cmaes", "nsga2"] = "tpe"
    pruner: Literal["none", "median", "hyperband"] = "none"
    objective: tuple[str, ...] = (BALANCED,)
    privacy: dict[str, float] = BOUNDS
    draws: int = Field(default=0, ge=0)
    untuned: bool = True
    reuse: str = ""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        """What a string stands for; an objective may be one name."""
        if isinstance(value, str) and value.startswith("from:"):
            return {"reuse": value.removeprefix("from:")}
        if value in ("per-replicate", "per-dataset"):
            return {"per": value.removeprefix("per-"), "trials": TRIALS}
        if isinstance(value, str):
            raise ValueError(f'"{value}": expected a table, "from:NAME", "per-replicate" or "per-dataset"')
        if isinstance(value, dict) and isinstance(value.get("objective"), str):
            return {**value, "objective": [value["objective"]]}
        return value

    @property
    def said(self) -> str:
        """The budget in words."""
        if self.reuse:
            return f"parameters of {self.reuse}"
        amounts = [f"{self.trials} trials"] if self.trials else []
        amounts += [f"{self.time_s:,.0f} s"] if self.time_s else []
        each = f", {self.trial_s:,.0f} s a trial" if self.trial_s else ""
        return f"{' or '.join(amounts)} per {self.per}{each}"

    @property
    def plan(self) -> dict[str, Any]:
        """What decides a study's result, as a cell keeps it."""
        return {**self.model_dump(exclude={"untuned", "reuse"}), "objective": list(self.objective)}


class Suite(_Strict):
    """A suite's TOML.

    samples: subjects to draw, 0 for as many as train. threads: of each cell, part of its key. native: only datasets of
    the shapes that a generator was made for; else all, and boards mark the others.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    about: str = ""
    datasets: tuple[DatasetUse, ...] = Field(min_length=1)
    generators: tuple[GeneratorUse, ...] = Field(min_length=1)
    metrics: tuple[str, ...] = ()
    replicates: int = Field(default=1, gt=0)
    samples: int = Field(default=0, ge=0)
    native: bool = False
    threads: int = Field(default=1, gt=0)
    limits: Limits = Limits()
    tune: Tune | None = None

    @field_validator("datasets", "generators", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        """A plain string stands for a table with that name."""
        return [{"name": v} if isinstance(v, str) else v for v in value] if isinstance(value, list) else value

    @property
    def metric_names(self) -> list[str]:
        """The metrics asked for, families resolved; all where the suite names none. TSTR AUPRC brings the prevalence
        along, which is its floor."""
        asked = metrics.names(self.metrics or None)
        return metrics.names([*asked, "prevalence_holdout"]) if "tstr_auprc" in asked else asked


def known_suites() -> list[str]:
    """Names of the suites that come with the package."""
    return sorted(p.name.removesuffix(".toml") for p in files("bench.suites").iterdir() if p.name.endswith(".toml"))


def find_suite(name: str) -> Suite:
    """A suite by name, or by the path of a TOML. Raises BenchError on anything unknown, malformed or impossible."""
    if name.endswith(".toml") or "/" in name:
        path = Path(name)
    elif name in known_suites():
        path = Path(str(files("bench.suites") / f"{name}.toml"))
    else:
        raise unknown("suite", name, known_suites())
    return resolved_suite(read_toml(path), path)


def resolved_suite(content: dict[str, Any], source: Path) -> Suite:
    """A suite from what a TOML holds, checked; source: the file, as errors name it."""
    try:
        suite = Suite.model_validate(content)
    except ValidationError as error:
        raise first_fault(error, source, _known_keys(error)) from error
    try:
        _check(suite)
    except (BenchError, ValueError) as error:
        raise BenchError(f"{source.name}: {error}") from error
    return suite


def _known_keys(error: ValidationError) -> list[str]:
    where = error.errors()[0]["loc"]
    models: dict[str, type[BaseModel]] = {
        "datasets": DatasetUse,
        "generators": GeneratorUse,
        "limits": Limits,
        "tune": Tune,
    }
    model = models.get(str(where[0]), Suite) if len(where) > 1 else Suite
    return list(model.model_fields)


def _check(suite: Suite) -> None:
    """Names and settings that exist and can work together; datasets need not be here."""
    suite.metric_names  # noqa: B018  raises on an unknown metric
    names: dict[str, str] = {}
    for use in suite.datasets:
        source = open_dataset(use.name, None)
        if use.split == "time" and not source.ordered:
            raise BenchError(f"dataset '{use.name}': split = 'time', but it has no time order")
        _prompts(use)
        name = str(source.name)
        if name in names:
            raise BenchError(
                f"datasets '{names[name]}' and '{use.name}' have one name, '{name}', and would be averaged as "
                "replicates: leave one out, or give a TOML another `name`"
            )
        names[name] = use.name
    for gen in suite.generators:
        generators.check(gen.name, gen.params)
        _check_label(gen)
    labels = [g.label or g.name for g in suite.generators]
    if suite.tune is not None and suite.tune.untuned:
        labels += [label + UNTUNED for label in labels]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice:
        raise BenchError(f"generator '{twice}' stands twice: give one a label")
    if suite.tune is not None:
        _check_tuning(suite.tune)


def _check_label(gen: GeneratorUse) -> None:
    """Raise BenchError where a label is the name of another generator, or renames a reference: boards read scales off
    the rows that have the references' names."""
    if gen.label in ("", gen.name):
        return
    if gen.label in generators.REGISTRY:
        raise BenchError(
            f"generator '{gen.name}': label '{gen.label}' is the name of another: give it a label of its own"
        )
    if generators.find(gen.name).family == "reference":
        raise BenchError(
            f"generator '{gen.name}': label '{gen.label}': a reference keeps its name: leave the label out"
        )


def _check_tuning(tune: Tune) -> None:
    """A budget, and settings that go together."""
    if tune.reuse:
        others = sorted(tune.model_fields_set - {"reuse", "untuned"})
        if others:
            raise BenchError(
                f"tune: reuse = '{tune.reuse}' runs no study, so that '{others[0]}' has no place beside it"
            )
        Tuned.find(tune.reuse)
        return
    if tune.trials is None and tune.time_s is None:
        raise BenchError("tune: no budget: expected trials, time_s, or both")
    check_aims(tune.objective)
    check_bounds(tune.privacy)
    two = len(tune.objective) > 1
    if two and tune.pruner != "none":
        raise BenchError(f"tune: pruner = '{tune.pruner}': trials of two objectives cannot be pruned")
    if two and tune.sampler == "cmaes":
        raise BenchError("tune: sampler = 'cmaes': it takes one objective")
    if tune.sampler == "cmaes" and find_spec("cmaes") is None:
        raise BenchError("tune: sampler = 'cmaes': needs a package: pip install 'synth-health-bench[cmaes]'")


def cells(suite: Suite, data_dir: Path | None) -> Iterator[tuple[Cell, Source, str]]:
    """Every cell of a suite with its dataset and, where it cannot run here, the reason; dataset by dataset."""
    reused = Tuned.find(suite.tune.reuse) if suite.tune and suite.tune.reuse else None
    searched = canonical(suite.tune.plan) if suite.tune else ""
    untuned = suite.tune is not None and suite.tune.untuned
    rows = [(generators.find(gen.name), _said(gen)) for gen in suite.generators]
    for use in suite.datasets:
        source = open_dataset(use.name, data_dir)
        absent = source.absence() or ""
        where: dict[str, Any] = {
            "dataset": str(source.name),
            "source": use.name,
            "data": "" if absent else source.identity,
            "split": use.split,
            "samples": suite.samples,
            "threads": suite.threads,
            "conditions": json.dumps([dict.fromkeys(c, True) for c in use.conditions]) if use.conditions else "",
            "prompts": _prompts(use),
        }
        here = [
            (where | said, suite.tune is not None and _tunable(row), absent or _impossible(row, source))
            for row, said in rows
            if not suite.native or source.row.shape in row.native
        ]
        for replicate in range(suite.replicates):
            for said, tuned, why_not in here:
                cell = Cell(**said, replicate=replicate)
                if not tuned:
                    yield cell, source, why_not
                    continue
                plan = searched if reused is None else canonical(reused.plan(cell))
                yield replace(cell, tune=plan), source, why_not
                if untuned:
                    yield replace(cell, label=cell.label + UNTUNED, untuned_of=cell.label), source, why_not


def _said(gen: GeneratorUse) -> dict[str, Any]:
    """What a suite's line on a generator says of its cells."""
    later = [p for p in sorted(gen.params) if p in generators.at_sample(gen.name)]
    return {
        "generator": gen.name,
        "label": gen.label or gen.name,
        "version": generators.version(gen.name),
        "params": canonical(gen.params),
        "at_sample": json.dumps(later) if later else "",
    }


def _tunable(row: generators.Row) -> bool:
    return row.family != "reference" and generators.tunable(row.name)


def _prompts(use: DatasetUse) -> str:
    return prompts_of(base(use.name), use.prompts) if use.prompts else ""


def _impossible(row: generators.Row, source: Source) -> str:
    if "redraw" in row.handed and not source.simulated:
        return "the process behind this dataset is not known"
    return generators.absence(row)
