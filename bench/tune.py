"""Tuning: the same budget for every generator, judged on an inner split of train, never on holdout.

Trial 0 is the generator's defaults. Each trial fits, samples and is scored in a forked child, so that one that fails,
hangs, grows or dies is recorded and the study goes on. Trials in a row that differ only in how they sample share one
fit. Of the trials that keep the bounds on privacy the best is taken; where there is none, the defaults, with a mark.
"""

from __future__ import annotations

import hashlib
import importlib.metadata as metadata
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import generators
import metrics
from bench.apart import Ask, Outcome, apart, give_threads
from bench.cell import Cell
from bench.errors import Away, BenchError
from bench.objective import DRAWS, FEW, Inner, Objective, wanted
from bench.shared import Shared, split_key
from bench.space import defaults
from bench.store import Store
from bench.trial import Trial
from bench.whole import read_json, write_json

if TYPE_CHECKING:
    import optuna
    import pandas as pd

    from bench.datasets.data import Data
    from bench.datasets.source import Source
    from bench.study import Study

MEMORY_SHARE = 0.9  # of a cell's limit that a trial may take, so that the trial ends and not the cell
LATE = "late-"  # begins the names of files of trials that could not be told
Told = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Place:
    """Where a study is kept and what its trials may take. url: of a database, "" for a journal in the store."""

    store: Store
    url: str = ""
    memory_mb: float = float("inf")
    log: int | None = None  # file descriptor of what trials print


def tuned(cell: Cell, place: Place, source: Source, data: Data, told: Told = lambda row: None) -> dict[str, Any]:
    """The tuned parameters of a cell, from the store where they are there; a study that was cut off is taken up again.

    Gives the study as it is kept (`_result`). told(row) hears of each trial that this process ends.
    """
    from bench.datasets.split import split

    store, cell = place.store, cell.study
    saved = store.study_result(cell.key)
    if saved:
        return saved
    parts = split(data, seed=cell.seed("split"), how=cell.split, positives=source.train_positives)
    work = Work(cell, place, source, data, parts.train, json.loads(cell.tune))  # which never sees the holdout
    give_threads(1)  # the children that are forked from here take back what the process was given
    try:
        result = work.run(told)
    finally:
        give_threads(int(os.environ.get("OMP_NUM_THREADS", "0")) or os.cpu_count() or 1)
        shutil.rmtree(work.fits, ignore_errors=True)
    store.save_study_result(cell.key, result)
    return result


class Work:
    """One worker's way through one study."""

    def __init__(
        self, cell: Cell, place: Place, source: Source, data: Data, train: pd.DataFrame, plan: dict[str, Any]
    ) -> None:  # fmt: skip
        from bench.run import hand_over

        self.cell, self.place, self.data, self.plan = cell, place, data, plan
        self.fixed = json.loads(cell.params)
        self.handed = hand_over(cell.generator, source)
        self.seed = cell.seed("tune")
        shared = Shared(place.store.shared(f"{split_key(cell)}-inner"))
        self.inner = Inner.of(train, data, seed=cell.seed("inner"), how=cell.split, shared=shared)
        self.draws = plan["draws"] or (DRAWS if self.inner.n < FEW else 1)
        self.fits = self._own_folder()

    def run(self, told: Told) -> dict[str, Any]:
        """Every trial that is left, and what came of the study."""
        try:
            objective = self._objective()
        except BenchError as error:
            return self._untuned(str(error))
        study = self._study()
        self._tell_late(study)
        while True:
            if self._over(study):
                break
            trial = study.next(self.plan["trials"], self.plan["time_s"])
            if trial is None:
                break
            ended = self._attempt(trial, study, objective)
            self._tell(study, trial, ended)
            told(self._row(study.place(trial.number), trial.params, ended))
        return self._result(study, objective)

    def _tell(self, study: Study, trial: optuna.Trial, ended: dict[str, Any]) -> None:
        """End a trial; where the database is away, how it ended is kept in the store."""
        try:
            study.tell(trial, ended)
        except Away:
            late = {"number": trial.number, "params": trial.user_attrs["params"], "ended": ended}
            write_json(self.place.store.study(self.cell.key) / f"{LATE}{trial.number}.json", late)
            raise

    def _tell_late(self, study: Study) -> None:
        """Tell of the trials that ended while the database was away."""
        for path in sorted(self.place.store.study(self.cell.key).glob(f"{LATE}*.json")):
            study.tell_late(**read_json(path))
            path.unlink(missing_ok=True)

    def _own_folder(self) -> Path:
        """Where this worker keeps the fit of its last trial; what dead ones have left beside it is removed."""
        from bench.study import lives, machine

        every = self.place.store.trials(self.cell.key)
        for old in every.glob(f"{machine()}-*"):
            if not lives(int(old.name.rpartition("-")[2])):
                shutil.rmtree(old, ignore_errors=True)
        return every / f"{machine()}-{os.getpid()}"

    def _study(self) -> Study:
        from bench.study import Study

        cls: Any = generators.load_class(generators.find(self.cell.generator).load)
        store, key = self.place.store, self.cell.key
        return Study(
            key, store.study(key), self.place.url, seed=self.seed, aims=len(self.plan["objective"]),
            sampler=self.plan["sampler"], pruner=self.plan["pruner"],
            suggest=lambda trial: {**cls.suggest(trial), **self.fixed},
            defaults={k: v for k, v in defaults(self.cell.generator).items() if k not in self.fixed},
            alone=lambda: store.alone(f"study-{key}"),
        )  # fmt: skip

    def _objective(self) -> Objective:
        """Measured once for all generators of a replicate, and kept with the study; in a child, so that this process
        stays fit to be forked."""
        own = self.place.store.study(self.cell.key) / "objective.json"
        if not own.exists():
            own.parent.mkdir(parents=True, exist_ok=True)
            write_json(own, self._measured())
        return Objective.read(json.loads(own.read_text()))

    def _measured(self) -> dict[str, Any]:
        aims, bounds = self.plan["objective"], self.plan["privacy"]
        store, about = self.place.store, hashlib.sha256(json.dumps([aims, bounds]).encode()).hexdigest()[:12]
        folder = store.shared(f"{split_key(self.cell)}-inner")
        path = folder / f"objective-{about}.json"
        with store.alone(f"objective-{split_key(self.cell)}"):
            if not path.exists():
                out = self._apart(lambda ask: asdict(Objective.on(self.inner, aims, bounds)))
                if out.status != "done":
                    raise BenchError(out.why)
                folder.mkdir(parents=True, exist_ok=True)
                write_json(path, out.value)
        return json.loads(path.read_text())

    def _apart(self, work: Callable[[Ask], Any], **limits: Any) -> Outcome:
        return apart(work, memory_mb=MEMORY_SHARE * self.place.memory_mb, log=self.place.log, **limits)

    # --- one trial ---

    def _attempt(self, trial: optuna.Trial, study: Study, objective: Objective) -> dict[str, Any]:
        params = trial.user_attrs["params"]
        left = [self.plan["trial_s"]]
        if self.plan["time_s"] is not None:
            left.append(self.plan["time_s"] - self._spent(study))
        pruned = False

        def answer(look: tuple[float, int]) -> bool:
            nonlocal pruned
            pruned = study.report(trial, *look)
            return pruned

        looks = self.plan["pruner"] != "none" and len(objective.aims) == 1
        out = self._apart(
            lambda ask: Trial(self, params, objective, ask if looks else None).run(),
            time_s=min([x for x in left if x is not None], default=float("inf")), answer=answer,
            idle=lambda: study.beat(trial),
        )  # fmt: skip
        ended = {"status": out.status, "why": out.why, "seconds": round(out.seconds, 3)}
        if pruned:
            return {**ended, "status": "pruned"}
        if out.status != "done":
            return ended
        scores, phases = out.value
        try:
            values = objective.values(scores)
        except BenchError as error:
            return {**ended, "status": "failed", "why": str(error), "scores": scores, "phases": phases}
        return {**ended, "values": values, "excess": objective.excess(scores), "scores": scores, "phases": phases}

    def _spent(self, study: Study) -> float:
        return sum(t.user_attrs["ended"]["seconds"] for t in study.ended())

    def _over(self, study: Study) -> bool:
        """Whether the defaults ran into the budget: then there is nothing to tune within it."""
        return any(t.number == 0 and t.user_attrs["ended"]["status"] == "timeout" for t in study.ended())

    # --- what came of it ---

    def _result(self, study: Study, objective: Objective) -> dict[str, Any]:
        """{"params", "mark", "best", "trials": rows (`_row`), and what was asked and measured}."""
        ended = study.ended()
        rows = [self._row(i, t.params, t.user_attrs["ended"]) for i, t in enumerate(ended)]
        read = [t.user_attrs["params"] for t in ended]
        best = chosen(rows)
        mark = ""
        if self._over(study):
            best, mark = None, "the defaults take longer than the budget allows a trial"
        elif best is None:
            done = any(r["state"] == "infeasible" for r in rows)
            mark = "no trial keeps the bounds on privacy" if done else "no trial was finished"
        return {
            "params": read[best["number"]] if best else self.fixed,
            "mark": mark,
            "best": best["number"] if best else None,
            "default": next((r["values"] for r in rows if r["number"] == 0), None),
            "value": best["values"] if best else None,
            "trials": rows,
            "states": dict(Counter(r["state"] for r in rows)),
            "spent_s": round(sum(r["seconds"] for r in rows), 3),
            "scales": {name: asdict(scale) for name, scale in objective.scales.items()},
            "left_out": objective.left_out,
            "unchecked": list(objective.unchecked),
            **self._asked(),
        }

    def _untuned(self, why: str) -> dict[str, Any]:
        nothing: dict[str, Any] = {"best": None, "default": None, "value": None, "trials": [], "states": {}}
        nothing["spent_s"] = 0.0
        return {"params": self.fixed, "mark": why, **nothing, "scales": {}, "left_out": [], "unchecked": [],
                **self._asked()}  # fmt: skip

    def _row(self, number: int, params: Mapping[str, Any], ended: Mapping[str, Any]) -> dict[str, Any]:
        """A trial as it is kept: state "done", "infeasible", "pruned", "failed" or "timeout"; params: those tuned."""
        state = ended["status"]
        if state == "done" and any(x > 0 for x in ended["excess"].values()):
            state = "infeasible"
        return {
            "number": number,
            "state": state,
            "values": ended.get("values"),
            "params": {k: v for k, v in params.items() if k not in self.fixed},
            "scores": ended.get("scores", {}),
            "seconds": ended["seconds"],
            "phases": ended.get("phases", {}),
            "why": ended["why"],
        }

    def _asked(self) -> dict[str, Any]:
        names = ("synth-health-bench", "optuna")
        versions = {name: metadata.version(name) for name in names}
        scored = {*wanted(self.plan["objective"]), *self.plan["privacy"]}
        versions |= {m: str(metrics.METRICS[m].version) for m in sorted(scored)}
        return {"plan": self.plan, "draws": self.draws, "n": self.inner.n, "versions": versions}


def chosen(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The best of the trials that keep the bounds: of two aims, the one of the highest mean. The earlier of equals."""
    feasible = [r for r in rows if r["state"] == "done"]
    return max(feasible, key=lambda r: (sum(r["values"]), -r["number"]), default=None)
