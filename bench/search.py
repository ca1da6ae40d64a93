"""`bench tune`: one study alone, by one process or by several at once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import generators
from bench import show
from bench.datasets.name import base
from bench.errors import BenchError, unknown
from bench.store import Store
from bench.suite import Suite, cells, find_suite, resolved_suite
from bench.tune import Place, tuned


def settings(
    dataset: str, generator: str, *, suite: str, params: dict[str, Any], replicate: int, threads: int, **tune: Any
) -> Suite:  # fmt: skip
    """The suite whose study is asked for: one by name, or one of this dataset and generator alone."""
    if suite:
        return find_suite(suite)
    row = generators.find(generator)
    if row.family == "reference" or not generators.tunable(generator):
        raise BenchError(f"generator '{generator}' has no tuning space")
    return resolved_suite(
        {
            "name": "tune",
            "datasets": [dataset],
            "generators": [{"name": generator, "params": params}],
            "replicates": replicate + 1,
            "threads": threads,
            "tune": tune,
        },
        Path("bench tune"),
    )


def search(
    suite: Suite, dataset: str, label: str, replicate: int, store: Store, data_dir: Path | None, *, studies: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Run a study to its end and print its trials; trials' own output goes to the study's private log."""
    from bench.datasets import open_dataset

    cell = _cell(suite, dataset, label, replicate, data_dir)
    key = cell.study.key
    source = open_dataset(cell.source, data_dir)
    os.umask(0o077)
    log = os.open(store.log(key), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def told(row: dict[str, Any]) -> None:
        if not as_json:
            show.out.print(show.one_line(_said(row)))

    with store.tuning(key, together=True):
        found = tuned(cell, Place(store, studies, suite.limits.memory_mb, log), source, store.table(source), told)
    if as_json:
        print(json.dumps(found, indent=1))
        return
    params = json.dumps(found["params"])
    aims = " and ".join(suite.tune.objective) if suite.tune else ""
    where, n = f"{cell.dataset} · {cell.label} · replicate {cell.study.replicate}", len(found["trials"])
    show.out.print(f"\n{show.one_line(where)}: {n} trials, {found['spent_s']:,.0f} s")
    if found["mark"]:
        show.out.print(show.one_line(f"the defaults stay: {found['mark']}"))
    else:
        before = _values(found["default"]) if found["default"] else "without a value"
        over = " (over a bound on privacy)" if found["trials"][0]["state"] == "infeasible" else ""
        best = f"best trial {found['best']}: {aims} {_values(found['value'])}, the defaults {before}{over}; {params}"
        show.out.print(show.one_line(best))
    show.out.print(f"study: {store.study(key)}  log: {store.log(key)}", markup=False)


def _cell(suite: Suite, dataset: str, label: str, replicate: int, data_dir: Path | None) -> Any:
    """The cell of a suite that is tuned."""
    found = [(cell, why) for cell, _, why in cells(suite, data_dir) if cell.searched]
    if not found:
        raise BenchError(f"suite {suite.name}: nothing in it is tuned by a study")
    for kind, asked, known in (
        ("dataset of this suite", dataset, {n for c, _ in found for n in (c.dataset, c.source, base(c.dataset))}),
        ("tuned generator of this suite", label, {c.label for c, _ in found}),
    ):
        if asked not in known:
            raise unknown(kind, asked, known)
    if replicate >= suite.replicates:
        raise BenchError(f"replicate {replicate}: suite {suite.name} has 0 to {suite.replicates - 1}")
    cell, why = next(
        (c, why) for c, why in found
        if dataset in (c.dataset, c.source, base(c.dataset)) and c.label == label and c.replicate == replicate
    )  # fmt: skip
    if why:
        raise BenchError(f"{cell.dataset} · {label}: {why}")
    return cell


def _said(row: dict[str, Any]) -> str:
    value, params = _values(row["values"]) if row["values"] else "", json.dumps(row["params"])
    return f"trial {row['number']:>3} {row['state']:10} {value:8} {row['seconds']:6.1f} s  {params}  {row['why']}"


def _values(values: list[float]) -> str:
    return ", ".join(f"{v:.3f}" for v in values)
