"""`bench score`: a synthetic table made by anything, from files, against train and holdout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import generators
import metrics
from bench.datasets.law import Roles, check, kind, subjects
from bench.datasets.own import has_columns, index_of, lawful_together, read_table, refuse_identifiers
from bench.errors import BenchError
from bench.run import plain
from metrics.tables import Condition, Tables


def score_files(
    files: Mapping[str, Path], *, target: str, subject: str | None, time: str | None, static: Sequence[str],
    codes: Sequence[str], sensitive: Sequence[str], quasi: Sequence[str], drop: Sequence[str],
    metric_names: Sequence[str] | None, seed: int, keep: Sequence[str] = (),
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Full metric name -> {"value", "se", "n"} or {"undefined"}. files: train, holdout, synth and perhaps minority.

    keep: columns that are measurements although they differ in every row of train; BenchError where another one does.
    """
    try:
        asked = metrics.names(metric_names)
    except ValueError as error:
        raise BenchError(str(error)) from error
    named = [target, *filter(None, (subject, time)), *static, *sensitive, *quasi, *drop, *keep, *codes]
    frames = {name: read_table(path, named) for name, path in files.items()}
    has_columns(frames["train"], [c for c in named if c != "all"], "train")
    indexes = {name: _index(frame, subject, time, name) for name, frame in frames.items()}
    stepped = indexes["train"].nlevels == 2
    strange = next((name for name in files if indexes[name].nlevels != indexes["train"].nlevels), None)
    if strange:
        raise BenchError(
            f"{strange}: its index is {_names(indexes[strange])}, that of train is {_names(indexes['train'])}: "
            "expected the same, or --subject and --time"
        )
    apart = [*filter(None, (subject, time)), *drop]
    features = {n: f.drop(columns=apart, errors="ignore").reset_index(drop=True) for n, f in frames.items()}
    tables = lawful_together(features, keep=keep)
    for name, table in tables.items():
        table.index = indexes[name]
        tables[name] = table.sort_index() if stepped else table
    flags = [c for c in tables["train"].columns if kind(tables["train"][c]) == "bool"]
    roles = Roles(
        target,
        tuple(dict.fromkeys((*static, target))) if stepped else (),
        tuple(c for c in flags if c != target and c not in static) if list(codes) == ["all"] else tuple(codes),
        tuple(sensitive) or (target,),
        tuple(quasi),
    )
    check(tables["train"], roles, what="train")
    refuse_identifiers(tables["train"], (*keep, *sensitive, *quasi), "train")
    for name, table in tables.items():
        check(table, what=name)
        if name != "train" and table[target].dtype != tables["train"][target].dtype:
            raise BenchError(f"{name}: target '{target}' is {table[target].dtype}, expected true/false or 0/1")
    positives = tables.get("minority")
    handed = Tables(
        tables["train"], tables["holdout"], tables["synth"], minority=positives,
        no_minority="no --minority table was given",
        judges=generators.judges("series") if stepped and not roles.codes else {},
        conditions={} if positives is None else {"target": Condition({target: True}, positives)},
        roles={"target": target, "static": roles.static, "codes": roles.codes, "sensitive": roles.sensitive,
               "quasi": roles.quasi},
    )  # fmt: skip
    for name in ("train", "holdout", "synth"):
        if len(subjects(tables[name])) < 2:
            raise BenchError(f"{name}: {len(subjects(tables[name]))} subjects are too few to score")
    return {name: plain(value) for name, value in metrics.score(handed, asked, seed=seed).items()}


def _index(frame: pd.DataFrame, subject: str | None, time: str | None, name: str) -> pd.Index:
    """The law's index of one file. Raises BenchError where it lacks the columns of --subject or --time."""
    if time is not None and subject is None and frame.index.names != ["subject"]:
        raise BenchError("--time needs --subject")
    for column in filter(None, (subject, time)):
        if column not in frame.columns:
            raise BenchError(f"{name}: lacks column '{column}'")
    return index_of(frame, subject, time)


def _names(index: pd.Index) -> str:
    return " and ".join(f"'{name}'" for name in index.names)
