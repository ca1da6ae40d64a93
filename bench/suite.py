"""A suite: which generators run on which datasets and how, from TOML, checked whole; the one enumerator of cells."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

import generators
import metrics
from bench.ask import prompts_of
from bench.cell import Cell
from bench.datasets import open_dataset
from bench.datasets.name import base
from bench.datasets.own import first_fault, read_toml
from bench.datasets.source import Source
from bench.errors import BenchError, unknown


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
    """The tuning budget, the same for every generator that has a space: trials, and seconds after which none begins."""

    trials: int = Field(gt=0)
    time_s: float = Field(default=float("inf"), gt=0)


class Suite(_Strict):
    """A suite's TOML. `samples`: subjects to draw, 0 for as many as train; `threads`: of each cell, part of its key."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    about: str = ""
    datasets: tuple[DatasetUse, ...] = Field(min_length=1)
    generators: tuple[GeneratorUse, ...] = Field(min_length=1)
    metrics: tuple[str, ...] = ()
    replicates: int = Field(default=1, gt=0)
    samples: int = Field(default=0, ge=0)
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
        """The metrics asked for, families resolved; all where the suite names none."""
        return metrics.names(self.metrics or None)


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
    try:
        suite = Suite.model_validate(read_toml(path))
    except ValidationError as error:
        raise first_fault(error, path, _known_keys(error)) from error
    try:
        _check(suite)
    except (BenchError, ValueError) as error:
        raise BenchError(f"{path.name}: {error}") from error
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
    for use in suite.datasets:
        source = open_dataset(use.name, None)
        if use.split == "time" and not source.ordered:
            raise BenchError(f"dataset '{use.name}': split = 'time', but it has no time order")
        _prompts(use)
    for gen in suite.generators:
        generators.check(gen.name, gen.params)
    labels = [g.label or g.name for g in suite.generators]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice:
        raise BenchError(f"generator '{twice}' stands twice: give one a label")
    names = [d.name for d in suite.datasets]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise BenchError(f"dataset '{twice}' stands twice")


def cells(suite: Suite, data_dir: Path | None) -> Iterator[tuple[Cell, Source, str]]:
    """Every cell of a suite with its dataset and, where it cannot run here, the reason; dataset by dataset."""
    for use in suite.datasets:
        source = open_dataset(use.name, data_dir)
        absent = source.absence() or ""
        identity = "" if absent else source.identity
        prompts = _prompts(use)
        conditions = json.dumps([dict.fromkeys(c, True) for c in use.conditions]) if use.conditions else ""
        for replicate in range(suite.replicates):
            for gen in suite.generators:
                row = generators.find(gen.name)
                later = [p for p in sorted(gen.params) if p in generators.at_sample(gen.name)]
                tunable = suite.tune is not None and row.family != "reference"
                cell = Cell(
                    dataset=str(source.name),
                    source=use.name,
                    data=identity,
                    split=use.split,
                    generator=gen.name,
                    label=gen.label or gen.name,
                    version=generators.version(gen.name),
                    params=json.dumps(gen.params, sort_keys=True),
                    replicate=replicate,
                    samples=suite.samples,
                    threads=suite.threads,
                    tune=json.dumps(suite.tune.model_dump(), sort_keys=True) if tunable and suite.tune else "",
                    conditions=conditions,
                    prompts=prompts,
                    at_sample=json.dumps(later) if later else "",
                )
                yield cell, source, absent or _impossible(row, source)


def _prompts(use: DatasetUse) -> str:
    return prompts_of(base(use.name), use.prompts) if use.prompts else ""


def _impossible(row: generators.Row, source: Source) -> str:
    if "redraw" in row.handed and not source.simulated:
        return "the process behind this dataset is not known"
    return generators.absence(row)
