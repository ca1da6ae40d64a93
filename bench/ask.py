"""What is asked of a fitted generator beside a plain sample: a minority, subjects under conditions, answers to prompts.

Each lands in the cell's samples folder as a table, or as a reason in `about.json`, and comes back as what metrics take.
"""

from __future__ import annotations

import inspect
import json
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr, ValidationError

from bench.cell import Cell
from bench.datasets.own import first_fault, read_toml
from bench.errors import told, unknown
from bench.whole import read_parquet
from generators import REGISTRY
from generators.base import Unsupported, reject

if TYPE_CHECKING:
    import pandas as pd

    from bench.datasets.data import Data
    from bench.datasets.source import Source
    from metrics.tables import Condition, Prompt

MOST_MINORITY = 50_000
NOT_ASKED = "no metric of the suite reads drawn positives"
MOST_TRUTH = 5_000  # subjects of a known process that a condition's samples are compared with
PER_CONDITION = 1_000
PER_PROMPT = 100

Number = StrictInt | StrictFloat
Expected = bool | str | tuple[Number, Number] | tuple[StrictStr, ...]


class Asked(BaseModel):
    """One prompt: a text, and what it says of a subject.

    expect: column -> a value to equal, [low, high] to lie between, or a list of levels of which one; a name that is no
    column -> a list of codes of which one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    text: str = Field(min_length=1)
    expect: Mapping[str, Expected] = Field(min_length=1)


class _Prompts(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    prompts: tuple[Asked, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Answers:
    """What a cell has drawn beside its plain sample, as `metrics.tables.Tables` takes it."""

    minority: pd.DataFrame | None
    no_minority: str
    conditions: dict[str, Condition]
    no_conditions: dict[str, str]
    prompts: tuple[Prompt, ...]
    no_prompts: str


def prompts_of(dataset: str, which: Literal["building", "final"]) -> str:
    """The prompts of a dataset as JSON. Raises BenchError where it has none, or its file is malformed."""
    path = Path(str(files("bench") / "prompts" / f"{dataset}.{which}.toml"))
    if not path.exists():
        known = sorted(p.name.split(".")[0] for p in path.parent.glob(f"*.{which}.toml"))
        raise unknown("dataset with prompts", dataset, known)
    try:
        read = _Prompts.model_validate(read_toml(path))
    except ValidationError as error:
        raise first_fault(error, path, list(Asked.model_fields)) from error
    return json.dumps([p.model_dump() for p in read.prompts], sort_keys=True)


def draw(generator: Any, n: int, *, given: Mapping[str, object], seed: int) -> pd.DataFrame:
    """n subjects that satisfy a condition; by rejection where the generator's `sample` does not take `given`."""
    if "given" in taken(generator.sample, {"given": given}):
        return generator.sample(n, given=given, seed=seed)
    return reject(lambda k, s: generator.sample(k, seed=s), n, given, seed=seed)


def taken(function: Callable[..., Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the offered arguments that a function takes."""
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return dict(offered)
    return {k: v for k, v in offered.items() if k in parameters}


def check(cell: Cell, data: Data) -> None:
    """Raise BenchError where a condition names what is no flag of the dataset."""
    flags = [str(c) for c, dtype in data.table.dtypes.items() if str(dtype) == "bool"]
    for given in conditions(cell).values():
        for name in given:
            if name not in flags:
                raise unknown(f"condition on {cell.dataset}: flag", name, flags)


def ask(
    cell: Cell, generator: Any, data: Data, train: pd.DataFrame, folder: Path, *, minority: bool,
    shareable: bool
) -> dict[str, Any]:  # fmt: skip
    """Draw all that a cell asks for into a folder; gives what `about.json` says of it. minority: whether it asks for
    positives, which often are more than the plain sample."""
    from bench.datasets.law import check_like, per_subject

    target, static = data.roles.target, data.roles.static

    def kept(name: str, n: int, make: Callable[[], pd.DataFrame]) -> str:
        """Why there is no such table, or "" where it was drawn and written."""
        try:
            table = make()
            check_like(table, train, n, static=static, what=f"samples for {name}")
        except (Unsupported, NotImplementedError) as error:
            traceback.print_exc()
            return told(error, shareable=shareable, ours=cell.generator in REGISTRY)[1]
        table.to_parquet(folder / f"{name}.parquet")
        return ""

    y = per_subject(train, target)
    wanted = min(2 * (len(y) - 2 * int(y.sum())), MOST_MINORITY)
    about: dict[str, Any] = {"no_minority": "the positive class is not the rare one" if minority else NOT_ASKED}
    if wanted > 0 and minority:
        seed = cell.seed("minority")
        reason = kept("minority", wanted, lambda: draw(generator, wanted, given={target: True}, seed=seed))
        about["no_minority"] = f"no minority samples: {reason}" if reason else ""
    seed = cell.seed("guidance")

    def guided(given: Mapping[str, object]) -> pd.DataFrame:
        """Under guidance alone where the generator has it, so that the rate says something; else as `given`."""
        if callable(getattr(generator, "guide", None)):
            return generator.guide(PER_CONDITION, given, seed=seed)
        return draw(generator, PER_CONDITION, given=given, seed=seed)

    about["no_conditions"] = {
        name: kept(f"condition-{i}", PER_CONDITION, partial(guided, given))
        for i, (name, given) in enumerate(conditions(cell).items())
    }
    asked, n = _answerable(cell, train), PER_PROMPT
    about["no_prompts"] = ""
    if asked and "prompts" not in taken(generator.sample, {"prompts": []}):
        about["no_prompts"] = "the generator takes no prompts"
    elif asked:
        texts = [p.text for p in asked for _ in range(n)]
        reason = kept("prompts", len(texts), lambda: generator.sample(len(texts), prompts=texts, seed=seed))
        about["no_prompts"] = reason
    return about


def has_minority(folder: Path) -> bool:
    """True where `ask` was asked for positives, whether or not it could draw any."""
    return json.loads((folder / "about.json").read_text())["no_minority"] != NOT_ASKED


def answers(cell: Cell, source: Source, data: Data, train: pd.DataFrame, folder: Path) -> Answers:
    """What `ask` drew."""
    from bench.datasets.law import subjects
    from metrics.tables import Condition, Prompt

    about = json.loads((folder / "about.json").read_text())

    def condition(given: Mapping[str, Any], samples: pd.DataFrame) -> Condition:
        n = min(len(subjects(samples)), MOST_TRUTH)
        truth = source.redraw(n, given, cell.seed("score")) if source.simulated else None
        return Condition(given, samples, truth)

    found: dict[str, Condition] = {}
    minority = folder / "minority.parquet"
    positives = read_parquet(minority) if minority.exists() else None
    if positives is not None:
        found["target"] = condition({data.roles.target: True}, positives)
    for i, (name, given) in enumerate(conditions(cell).items()):
        if not about["no_conditions"][name]:
            found[name] = condition(given, read_parquet(folder / f"condition-{i}.parquet"))
    prompts: list[Prompt] = []
    if (folder / "prompts.parquet").exists():
        drawn = read_parquet(folder / "prompts.parquet")
        who = drawn.index.get_level_values("subject") // PER_PROMPT
        prompts = [Prompt(_expected(p), drawn[who == i]) for i, p in enumerate(_answerable(cell, train))]
    lacking = {name: reason for name, reason in about["no_conditions"].items() if reason}
    return Answers(positives, about["no_minority"], found, lacking, tuple(prompts), about["no_prompts"])


def conditions(cell: Cell) -> dict[str, dict[str, Any]]:
    """The conditions a cell asks for, by name: column -> value."""
    return {"+".join(given): given for given in json.loads(cell.conditions or "[]")}


def _answerable(cell: Cell, train: pd.DataFrame) -> list[Asked]:
    """The cell's prompts; where a cut has removed a column or all codes of a group, the prompt is left out."""
    asked = [Asked.model_validate(p) for p in json.loads(cell.prompts or "[]")]
    columns = set(train.columns)

    def known(name: str, value: Expected) -> bool:
        return name in columns or (isinstance(value, tuple) and not columns.isdisjoint(value))

    return [p for p in asked if all(known(k, v) for k, v in p.expect.items())]


def _expected(prompt: Asked) -> dict[str, Any]:
    """As metrics take it: lists of texts as sets."""
    return {
        k: frozenset(v) if isinstance(v, tuple) and all(isinstance(x, str) for x in v) else v
        for k, v in prompt.expect.items()
    }
