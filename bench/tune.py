"""Optuna: the same budget for every generator that has a space; judged on an inner split of train, never on holdout.

Trial 0 is the generator's defaults. The objective is the mean of what c2st (1 - gap, at most 1) and TSTR average
precision (over TRTR's) reach on the inner holdout. A trial that fails is recorded as failed and the study goes on.
Trials in a row that differ only in how they sample share one fit: a study of such parameters costs one fit and draws.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import generators
import metrics
from bench.cell import Cell
from bench.datasets.split import split
from bench.errors import BenchError
from bench.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from bench.datasets.data import Data
    from bench.datasets.source import Source


def tuned(cell: Cell, store: Store, source: Source, data: Data, train: pd.DataFrame) -> dict[str, Any]:
    """The cell's tuned parameters and its trials; kept in the store, and taken up again after a kill.

    Gives {"params", "trials": [{"number", "params", "value", "state", "seconds"}], "budget"}. Raises BenchError where
    no trial was finished.
    """
    saved = store.note(cell.key, "tuned")
    if saved:
        return saved
    fixed, budget = json.loads(cell.params), json.loads(cell.tune)
    study, seed = _study(cell, store), cell.seed("tune")
    inner = split(replace(data, table=train, order=None), seed=seed)
    start = time.monotonic()
    fits = store.trials(cell.key)
    shutil.rmtree(fits, ignore_errors=True)  # of a study that was killed

    def objective(trial: Any) -> float:
        cls: Any = generators.load_class(generators.find(cell.generator).load)
        params = {**cls.suggest(trial), **fixed}
        trial.set_user_attr("params", params)
        try:
            generator = _fitted(cell.generator, params, source, data, inner.train, seed, fits)
            value = _value(generator, data, inner, seed)
        except Exception as error:
            trial.set_user_attr("error", type(error).__name__)  # tells a failed trial from one whose process was killed
            raise
        return value

    while True:
        ended = _mend(study, _defaults(cell.generator, fixed))
        if len(ended) >= budget["trials"] or time.monotonic() - start >= budget["time_s"]:
            break
        # each trial has a sampler of its own seed, so that a study taken up again is the study it would have been
        study.sampler = _sampler(seed + len(ended))
        study.optimize(objective, n_trials=1, catch=(Exception,))
        print(f"  trial {study.trials[-1].number} {study.trials[-1].state.name} {study.trials[-1].value}", flush=True)
    shutil.rmtree(fits, ignore_errors=True)
    if not any(t.value is not None for t in ended):
        raise BenchError(f"tuning: none of {len(ended)} trials was finished")
    result = {
        "params": study.best_trial.user_attrs["params"],
        "budget": budget,
        "trials": [
            {
                "number": t.number,
                "params": t.params,
                "value": t.value,
                "state": t.state.name,
                "seconds": t.duration.total_seconds() if t.duration else None,
            }
            for t in ended
        ],
    }
    store.save_note(cell.key, "tuned", result)
    return result


def has_space(name: str) -> bool:
    """True where a generator's class suggests parameters."""
    import optuna

    cls = generators.load_class(generators.find(name).load)
    return hasattr(cls, "suggest") and bool(cls.suggest(optuna.create_study(sampler=_sampler(0)).ask()))


def _study(cell: Cell, store: Store) -> Any:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(store.cell(cell.key) / "study.journal")))
    return optuna.create_study(storage=storage, study_name=cell.key, direction="maximize", load_if_exists=True)


def _sampler(seed: int) -> Any:
    import optuna

    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=5)


def _defaults(name: str, fixed: dict[str, Any]) -> dict[str, Any]:
    """Constructor defaults of the parameters, as the first trial to run."""
    parameters = inspect.signature(generators.load_class(generators.find(name).load)).parameters
    return {k: p.default for k, p in parameters.items() if p.default is not p.empty and k not in fixed}


def _mend(study: Any, defaults: dict[str, Any]) -> list[Any]:
    """The trials that ended by themselves. One left behind by a killed process is failed and asked for again."""
    from optuna.trial import TrialState

    ended = []
    for trial in study.trials:
        lost = trial.state is TrialState.FAIL and "error" not in trial.user_attrs
        if trial.state is TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
        elif not lost and trial.state.is_finished():
            ended.append(trial)
    waiting = any(t.state is TrialState.WAITING for t in study.trials)
    if not ended and not waiting:
        study.enqueue_trial(defaults)
    return ended


def _fitted(
    name: str, params: Mapping[str, Any], source: Source, data: Data, train: pd.DataFrame, seed: int, folder: Path
) -> Any:  # fmt: skip
    """A trial's generator, fitted. The last fit is kept in a folder, for trials that differ only in how they sample."""
    from bench.run import can_be_kept, fit, hand_over, keep

    generator = generators.make(name, **params, **hand_over(name, source))
    later = generators.at_sample(name)
    read = json.dumps({k: v for k, v in params.items() if k not in later}, sort_keys=True)
    kept = folder / hashlib.sha256(read.encode()).hexdigest()[:20]
    if kept.exists():
        return generator.load(kept)
    generator = fit(generator, train, data, seed=seed)
    if later and can_be_kept(generator):
        shutil.rmtree(folder, ignore_errors=True)
        keep(generator, kept, name)
    return generator


def _value(generator: Any, data: Data, inner: Any, seed: int) -> float:
    from bench.datasets.law import check_like, subjects
    from metrics.tables import Tables

    n = len(subjects(inner.train))
    synth = generator.sample(n, seed=seed + 1)
    check_like(synth, inner.train, n, static=data.roles.static, what="samples")
    tables = Tables(inner.train, inner.holdout, synth, roles=asdict(data.roles))
    got = metrics.score(tables, ["c2st_auroc_gap", "trtr_auprc", "tstr_auprc"], seed=seed)
    scores = {k: v.value for k, v in got.items() if isinstance(v, metrics.Score)}
    parts = []
    if "c2st_auroc_gap" in scores:
        parts.append(min(1.0, 1 - scores["c2st_auroc_gap"]))
    if "tstr_auprc" in scores and scores["trtr_auprc"] > 0:
        parts.append(scores["tstr_auprc"] / scores["trtr_auprc"])
    if not parts:
        raise BenchError("neither c2st nor TSTR is defined on the inner split")
    return float(sum(parts) / len(parts))
