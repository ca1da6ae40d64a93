"""A frame of records as one JSON file, from which boards are rendered again and which regression checks compare with.

One line per cell, so that a change of it can be read in a diff. Numbers have eight significant digits: boards are
rendered from what the file holds, not from what was computed, and are the same bytes wherever that is done.
"""

import gc
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leaderboards import COLUMNS

FORMAT = 1
DIGITS = 8
SCORE = ("metric", "value", "se", "undefined")
CELL = tuple(c for c in COLUMNS if c not in SCORE)
NUMBERS = ("value", "se", "n_train", "n_holdout")
KEY = ("dataset", "generator", "replicate", "metric")
Cell = Mapping[str, Any]  # the columns of CELL, and "scores": by metric (value, se), or why it is undefined


class ScoresError(ValueError):
    """A file of scores that cannot be read; the message names the file and what is wrong with it."""


def to_text(frame: pd.DataFrame, **about: Any) -> str:
    """The file's text. frame: see leaderboards/__init__.py. about: further facts, such as suite and title."""
    return text_of(_cells(frame), **about)


def text_of(cells: Iterable[Cell], **about: Any) -> str:
    """As `to_text`, of cells in the order of the frame."""
    return text_of_lines(map(line, cells), **about)


def text_of_lines(lines: Iterable[str], **about: Any) -> str:
    """As `to_text`, of what `line` makes of each cell."""
    all_lines = ",\n".join(lines)
    head = json.dumps({"format": FORMAT, **about}, ensure_ascii=False)
    return f'{head[:-1]}, "cells": [\n{all_lines}\n]}}\n'


def from_text(text: str, name: str = "scores") -> tuple[pd.DataFrame, dict[str, Any]]:
    """The frame and the further facts. Raises ScoresError where the text is not of this format; name: the file's."""
    try:
        with _no_collector():
            saved = json.loads(text)
            if not isinstance(saved, dict) or "cells" not in saved:
                raise ScoresError(f"{name}: not a file of scores: no 'cells' in it")
            if saved.get("format") != FORMAT:
                raise ScoresError(f"{name}: format {saved.get('format')}, this version reads {FORMAT}")
            frame = frame_of(saved.pop("cells"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ScoresError):
            raise
        raise ScoresError(f"{name}: not a file of scores that `bench board` writes") from error
    return frame, {k: v for k, v in saved.items() if k != "format"}


def frame_of(cells: Sequence[Cell]) -> pd.DataFrame:
    """The frame of cells; a column at a time, for there may be millions of rows."""
    metrics: list[str] = []
    values: list[float | None] = []
    errors: list[float | None] = []
    reasons: list[str] = []
    many = []
    for cell in cells:
        scores = cell["scores"] or {"": ""}
        for metric, found in scores.items():
            value, se, why = (None, None, found) if isinstance(found, str) else (*found, "")
            metrics.append(metric)
            values.append(value)
            errors.append(se)
            reasons.append(why)
        many.append(len(scores))
    table = pd.DataFrame([[cell[c] for c in CELL] for cell in cells], columns=CELL)
    rows = table.take(np.repeat(np.arange(len(table)), many)).reset_index(drop=True)
    value, se = (np.array(column, dtype=float) for column in (values, errors))
    rows = rows.assign(metric=metrics, value=value, se=se, undefined=reasons)
    return rows[COLUMNS].astype(dict.fromkeys(NUMBERS, float))


def read(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The frame and the further facts of a file. Raises ScoresError."""
    try:
        return from_text(path.read_text(encoding="utf-8"), path.name)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not text in UTF-8"
        raise ScoresError(f"{path}: {why}") from error


def read_table(path: Path) -> pd.DataFrame:
    """The frame of a user's own long table of scores, CSV or parquet: dataset, generator, replicate, metric, value.

    Further columns are not read. A blank value is an undefined score. Raises ScoresError.
    """
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (OSError, ValueError) as error:  # pandas' parsing errors are ValueErrors
        why = error.strerror if isinstance(error, OSError) and error.strerror else "not a table"
        raise ScoresError(f"{path}: {why}, expected a CSV or parquet file of scores") from error
    lacks = [c for c in (*KEY, "value") if c not in table]
    if lacks:
        raise ScoresError(f"{path}: no column '{lacks[0]}', expected dataset, generator, replicate, metric, value")
    if table.empty:
        raise ScoresError(f"{path}: no rows, expected one per dataset, generator, replicate and metric")
    value, replicate = (pd.to_numeric(table[c], errors="coerce") for c in ("value", "replicate"))
    faults = {
        "value is no finite number": (value.isna() & table["value"].notna()) | np.isinf(value),
        "replicate is no whole number from 0": replicate.isna() | (replicate % 1 != 0) | (replicate < 0),
        **{f"{c} is blank": table[c].isna() for c in ("dataset", "generator", "metric")},
    }
    for fault, bad in faults.items():
        if bad.any():
            raise ScoresError(f"{path}: row {int(bad.to_numpy().argmax()) + 1}: {fault}")
    table = table.assign(value=value.astype(float), replicate=replicate.astype(int))
    twice = table.duplicated(list(KEY))
    if twice.any():
        raise ScoresError(f"{path}: row {int(twice.to_numpy().argmax()) + 1}: this score stands there before")
    texts = {c: table[c].astype(str) for c in ("dataset", "generator", "metric")}
    undefined = np.where(table["value"].isna(), f"no value in {path.name}", "")
    blank = {"shape": "", "subset": "", "untuned_of": "", "tuning": None, "se": np.nan, "n_train": np.nan}
    return table.assign(
        **blank, **texts, n_holdout=np.nan, arm_of=texts["generator"], native=True, reference=False, status="done",
        reason="", undefined=undefined,
    )[COLUMNS].reset_index(drop=True)  # fmt: skip


@contextmanager
def _no_collector() -> Iterator[None]:
    """Spares the collector, which would look at millions of new lists again and again, and free none."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


def _cells(frame: pd.DataFrame) -> list[Cell]:
    cells: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in frame.to_dict("records"):
        key = (row["dataset"], row["generator"], row["replicate"])
        if key not in cells:
            cells[key] = {k: row[k] for k in CELL} | {"scores": {}}
        if row["metric"]:
            known = pd.notna(row["value"])
            cells[key]["scores"][row["metric"]] = (row["value"], row["se"]) if known else row["undefined"]
    return list(cells.values())


def line(cell: Cell) -> str:
    """A cell as JSON."""
    common = json.dumps({k: _plain(cell[k]) for k in CELL}, ensure_ascii=False)
    found = cell["scores"]
    numbers = iter(_numbers([x for s in found.values() if not isinstance(s, str) for x in s]))
    scores = [
        f"{_quoted(metric)}: " + (_quoted(s) if isinstance(s, str) else f"[{next(numbers)}, {next(numbers)}]")
        for metric, s in found.items()
    ]
    return f'{common[:-1]}, "scores": {{{", ".join(scores)}}}}}'


@cache
def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _numbers(values: Sequence[float | None]) -> list[str]:
    """Numbers as JSON, as `json.dumps` writes what `_plain` makes of each; formatted at once, most are so."""
    known = [np.nan if v is None else v for v in values]
    texts = (f"%.{DIGITS}g " * len(known) % tuple(known)).split()
    return [
        text if ("." in text and "e" not in text) or (text.isdigit() and int(text) == v) else json.dumps(_plain(v))
        for text, v in zip(texts, known, strict=True)
    ]


def _plain(value: Any) -> Any:
    """A value as JSON can hold it, numbers to eight significant digits."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "item"):  # numpy's
        value = value.item()
    if isinstance(value, float):
        if pd.isna(value):
            return None
        return int(value) if value.is_integer() and abs(value) < 1e15 else float(f"{value:.{DIGITS}g}")
    return value
