"""`bench score`: a synthetic table made by anything, from files, against train and holdout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import generators
import metrics
from bench.datasets.law import Roles, check, kind, subjects
from bench.datasets.own import has_columns, lawful_together, read_table
from bench.errors import BenchError
from bench.run import plain
from metrics.tables import Condition, Tables


def score_files(
    files: Mapping[str, Path], *, target: str, subject: str | None, time: str | None, static: Sequence[str],
    codes: Sequence[str], sensitive: Sequence[str], quasi: Sequence[str], drop: Sequence[str],
    metric_names: Sequence[str] | None, seed: int,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Full metric name -> {"value", "se", "n"} or {"undefined"}. files: train, holdout, synth and perhaps minority."""
    try:
        asked = metrics.names(metric_names)
    except ValueError as error:
        raise BenchError(str(error)) from error
    frames = {name: read_table(path) for name, path in files.items()}
    named = [target, *filter(None, (subject, time)), *static, *sensitive, *quasi, *drop, *codes]
    has_columns(frames["train"], [c for c in named if c != "all"], "train")
    indexes = {name: _index(frame, subject, time, name) for name, frame in frames.items()}
    apart = [*filter(None, (subject, time)), *drop]
    tables = lawful_together({name: frame.drop(columns=apart, errors="ignore") for name, frame in frames.items()})
    for name, table in tables.items():
        table.index = indexes[name]
        tables[name] = table.sort_index() if time else table
    flags = [c for c in tables["train"].columns if kind(tables["train"][c]) == "bool"]
    roles = Roles(
        target,
        tuple(dict.fromkeys((*static, target))) if time else (),
        tuple(c for c in flags if c != target and c not in static) if list(codes) == ["all"] else tuple(codes),
        tuple(sensitive) or (target,),
        tuple(quasi),
    )
    check(tables["train"], roles, what="train")
    for name, table in tables.items():
        check(table, what=name)
        if name != "train" and table[target].dtype != tables["train"][target].dtype:
            raise BenchError(f"{name}: target '{target}' is {table[target].dtype}, expected true/false or 0/1")
    positives = tables.get("minority")
    handed = Tables(
        tables["train"], tables["holdout"], tables["synth"], minority=positives,
        no_minority="no --minority table was given",
        judges=generators.judges("series") if time and not roles.codes else {},
        conditions={} if positives is None else {"target": Condition({target: True}, positives)},
        roles={"target": target, "static": roles.static, "codes": roles.codes, "sensitive": roles.sensitive,
               "quasi": roles.quasi},
    )  # fmt: skip
    for name in ("train", "holdout", "synth"):
        if len(subjects(tables[name])) < 2:
            raise BenchError(f"{name}: {len(subjects(tables[name]))} subjects are too few to score")
    return {name: plain(value) for name, value in metrics.score(handed, asked, seed=seed).items()}


def _index(frame: pd.DataFrame, subject: str | None, time: str | None, name: str) -> pd.Index:
    """The law's index of one file; where no column names the subject, rows are subjects (and cannot have times)."""
    if time is not None and subject is None:
        raise BenchError("--time needs --subject")
    for column in filter(None, (subject, time)):
        if column not in frame.columns:
            raise BenchError(f"{name}: lacks column '{column}'")
    if subject is None:
        return pd.RangeIndex(len(frame), name="subject")
    if time is None:
        return pd.Index(frame[subject].to_numpy(), name="subject")
    return pd.MultiIndex.from_arrays([frame[subject], frame[time]], names=["subject", "time"])
