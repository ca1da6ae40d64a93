"""One cell from data to record: load, split, tune, fit, sample, check, save, score. The heart of the harness."""

from __future__ import annotations

import errno
import inspect
import json
import os
import shutil
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import generators
import metrics
from bench.ask import answers, ask, check, has_minority, taken
from bench.cell import Cell, Fault, Record
from bench.datasets import open_dataset
from bench.errors import Away, BenchError, told
from bench.shared import Shared, split_key
from bench.store import Busy, Store
from bench.whole import StoreError, check_stage, read_parquet, stage
from generators.base import Unsupported
from generators.state import PLAIN, count

if TYPE_CHECKING:
    import pandas as pd

    from bench.datasets.data import Data
    from bench.datasets.source import Source
    from bench.datasets.split import Split
    from bench.tune import Place

FULL_DISK = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO)
LEAST_FREE = 2**20  # bytes
Phase = Callable[[str], None]


class StoreFull(StoreError):
    """The store's disk cannot be written: no record can be kept, and the run must stop."""


def run_cell(
    cell: Cell, store: Store, *, data_dir: Path | None, metric_names: list[str], phase: Phase, studies: str = "",
    memory_mb: float = float("inf"), source: Source | None = None,
) -> Record:  # fmt: skip
    """Do what is missing of a cell and write its record. phase(name) is told of each phase as it begins.

    studies: URL of a database for its study, "" for a file in the store. memory_mb: the cell's limit, which trials
    keep under. source: its dataset, where that was opened on another machine and its table is in the store.

    Raises StoreFull where the disk is full or read-only, and Busy where another process is at the study or the fit that
    this cell shares; every other exception becomes a record.
    """
    from bench.tune import Place

    place = Place(store, studies, memory_mb)
    now = ["load"]

    def enter(name: str) -> None:
        now[0] = name
        print(f"[{time.strftime('%H:%M:%S')}] {name}", flush=True)
        phase(name)

    shareable = False
    try:
        enter("load")
        source = source or open_dataset(cell.source, data_dir)
        shareable = source.shareable
        record = _run(cell, place, source, metric_names, enter)
    except Busy:
        raise
    except Exception as error:
        if why := _full(error, store):
            raise StoreFull(f"store {store.root}: {why}") from error
        traceback.print_exc()
        status = "skipped" if isinstance(error, Unsupported) else "failed"
        name, text = told(error, shareable=shareable, ours=cell.generator in generators.REGISTRY)
        record = Record(cell, status, Fault(now[0], name, text, outside=isinstance(error, Away)))
    try:
        store.save_record(record)
    except OSError as error:
        raise StoreFull(f"store {store.root}: {error.strerror}") from error
    return record


def _full(error: Exception, store: Store) -> str:
    """Why the store's disk takes no more, "" where it does: libraries that write have their own exceptions for it."""
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        return os.strerror(error.errno)
    return os.strerror(errno.ENOSPC) if shutil.disk_usage(store.root).free < LEAST_FREE else ""


def _run(cell: Cell, place: Place, source: Source, metric_names: list[str], enter: Phase) -> Record:
    store = place.store
    if source.identity != cell.data:
        raise BenchError(f"dataset {cell.dataset}: its files have changed since the suite was read; run again")
    data = store.table(source)
    check(cell, data)
    enter("split")
    from bench.datasets.split import split

    parts = split(data, seed=cell.seed("split"), how=cell.split, positives=source.train_positives)
    drawn = store.samples(cell.key)
    minority = any(metrics.METRICS[name].minority for name in metric_names)
    if not check_stage(drawn) or (minority and not has_minority(drawn)):
        _sample(cell, place, source, data, parts, minority, enter)
    enter("score")
    from metrics.tables import Tables

    about = json.loads((drawn / "about.json").read_text())
    tables = Tables(
        parts.train,
        parts.holdout,
        read_parquet(drawn / "synth.parquet"),
        roles=asdict(data.roles),
        judges=generators.judges(source.row.shape),
        shared=Shared(store.shared(split_key(cell))),
        **vars(answers(cell, source, data, parts.train, drawn)),
    )
    scores = score_cell(cell, store, tables, metric_names)
    row = generators.find(cell.generator)
    facts = {
        "shape": source.row.shape,
        "native": source.row.shape in row.native,
        "reference": row.family == "reference",
        "n_train": tables.n("train"),
        "n_holdout": tables.n("holdout"),
        "n_synth": tables.n("synth"),
        "prevalence": float(tables.y("holdout").mean()),
        "subset": data.facts.get("subset", ""),
        "n_parameters": about["n_parameters"],
        "params": about["params"],
        "tuned": tuning_facts(cell, store),
        "versions": {name: metrics.METRICS[name].version for name in metric_names},
    }
    return Record(cell, "done", None, scores, facts)


def _sample(
    cell: Cell, place: Place, source: Source, data: Data, parts: Split, minority: bool, enter: Phase
) -> None:  # fmt: skip
    """Tune, fit, sample and check; each stage kept as it is done. minority: whether positives are drawn beside."""
    from bench.datasets.law import check_like, subjects

    store = place.store
    params = _params(cell, place, source, data, enter)
    handed = hand_over(cell.generator, source)
    generator = fitted(cell, store, params, handed, data, parts.train, enter)
    enter("sample")
    n = cell.samples or len(subjects(parts.train))
    synth = generator.sample(n, seed=cell.seed("sample"))
    check_like(synth, parts.train, n, static=data.roles.static, what="samples")
    enter("minority")
    with stage(store.samples(cell.key)) as folder:
        synth.to_parquet(folder / "synth.parquet")
        about = {
            **ask(cell, generator, data, parts.train, folder, minority=minority, shareable=source.shareable),
            "n_parameters": count(generator),
            "params": resolved(generators.make(cell.generator, **params, **handed), params),
        }
        (folder / "about.json").write_text(json.dumps(about))


def _params(cell: Cell, place: Place, source: Source, data: Data, enter: Phase) -> dict[str, Any]:
    """The cell's parameters, looked for by its study where that has not ended. Raises Busy where another process is at
    it."""
    store = place.store
    if not cell.searched or store.study_result(cell.study.key):
        return settled(cell, store)
    from bench.tune import tuned

    enter("tune")
    with store.tuning(cell.study.key):
        return tuned(cell, place, source, data, _print_trial)["params"]


def settled(cell: Cell, store: Store) -> dict[str, Any]:
    """The cell's parameters as far as they are known: its own, and those that are reused or that its study found."""
    own = json.loads(cell.params)
    if not cell.tune:
        return own
    if not cell.searched:
        return {**json.loads(cell.tune)["params"], **own}
    return (store.study_result(cell.study.key) or {"params": own})["params"]


def fitted(
    cell: Cell, store: Store, params: Mapping[str, Any], handed: Mapping[str, Any], data: Data, train: pd.DataFrame,
    enter: Phase,
) -> Any:  # fmt: skip
    """The cell's generator, fitted: loaded where this cell or one that shares its fit has stored it, else fitted and
    stored. Raises Busy where another process is making that fit."""
    generator = generators.make(cell.generator, **params, **handed)
    if not can_be_kept(generator):
        enter("fit")
        return fit(generator, train, data, seed=cell.seed("fit"))
    folder = store.fit(cell.fit_key)
    with nullcontext() if folder.exists() else store.fitting(cell.fit_key):
        if folder.exists():  # asked again: it may have been made before the lock was ours
            enter("reload")
            check_stage(folder)
            return generator.load(folder)
        enter("fit")
        generator = fit(generator, train, data, seed=cell.seed("fit"))
        keep(generator, folder, cell.generator)
    return generator


def can_be_kept(generator: Any) -> bool:
    """Whether a generator, perhaps a user's own, has `save` and `load`."""
    return all(callable(getattr(generator, verb, None)) for verb in ("save", "load"))


def keep(generator: Any, folder: Path, name: str) -> None:
    """Store a fit; one of a user's own that cannot be saved is not."""
    try:
        with stage(folder) as new:
            generator.save(new)
    except (TypeError, NotImplementedError) as error:
        if name in generators.REGISTRY:
            raise
        print(f"the fit is not stored: {error}", flush=True)


def fit(generator: Any, train: pd.DataFrame, data: Data, *, seed: int, log: Callable[..., None] | None = None) -> Any:
    """Fit a generator of ours or of a user's: it is given those of our arguments that its `fit` takes."""
    offered = {
        "target": data.roles.target,
        "static": data.roles.static,
        "describe": data.roles.describe,
        "seed": seed,
        "log": log or _print_progress,
    }
    generator.fit(train.copy(), **taken(generator.fit, offered))
    return generator


def resolved(generator: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters a generator runs with: those given, and the defaults its constructor has stored."""
    names = inspect.signature(type(generator)).parameters
    stored = {n: getattr(generator, n) for n in names if isinstance(getattr(generator, n, None), PLAIN)}
    return {**{k: v for k, v in stored.items() if v is not None}, **params}


def hand_over(name: str, source: Source) -> dict[str, Any]:
    """What the harness supplies to the constructor of a generator that asks for it."""
    return {"redraw": source.redraw} if "redraw" in generators.find(name).handed else {}


def score_cell(cell: Cell, store: Store, tables: Any, metric_names: list[str]) -> dict[str, dict[str, Any]]:
    """Scores of a cell by full name; a metric is computed where it is not stored in its present version."""
    kept = store.note(cell.key, "scores") or {}
    for name in metric_names:
        version = metrics.METRICS[name].version
        if name in kept and kept[name]["version"] == version:
            continue
        start = time.perf_counter()
        found = metrics.score(tables, [name], seed=cell.seed("score"))
        seconds = round(time.perf_counter() - start, 3)
        print(f"  {name} {seconds} s", flush=True)
        kept[name] = {"version": version, "seconds": seconds, "scores": {k: plain(v) for k, v in found.items()}}
    store.save_note(cell.key, "scores", kept)
    return {
        full: value for name in sorted(kept) if name in metrics.METRICS for full, value in kept[name]["scores"].items()
    }


def plain(value: metrics.Score | metrics.Undefined) -> dict[str, Any]:
    """A score as it is stored: {"value", "se", "n"} or {"undefined": reason}."""
    if isinstance(value, metrics.Undefined):
        return {"undefined": value.reason}
    return asdict(value)


def tuning_facts(cell: Cell, store: Store) -> dict[str, Any] | None:
    """What a board says of a cell's tuning, None where there was none; without the seconds, which differ from run to
    run. default, value: of each aim, at the defaults and at the parameters taken."""
    if not cell.tune:
        return None
    plan = json.loads(cell.tune)
    if not cell.searched:
        return {k: plan[k] for k in ("from", "params", "mark", "per", "default", "value", "objective")}
    saved = store.study_result(cell.study.key) or {}
    facts = {k: saved.get(k) for k in ("params", "mark", "best", "default", "value", "left_out", "unchecked")}
    plan["trials_asked"] = plan.pop("trials")
    first = saved.get("trials") or [{"state": ""}]
    return {**plan, **facts, "trials": saved.get("states", {}), "default_state": first[0]["state"]}


def _print_trial(row: Mapping[str, Any]) -> None:
    print(f"  trial {row['number']} {row['state']} {row['values'] or row['why']} {row['seconds']} s", flush=True)


def _print_progress(step: int, **values: float) -> None:
    print(f"  step {step} " + " ".join(f"{k}={v:.4g}" for k, v in values.items()), flush=True)
