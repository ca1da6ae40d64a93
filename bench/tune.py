"""Tuning: the same budget for every generator, judged on an inner split of train, never on holdout.

Trial 0 is the generator's defaults. Each trial fits, samples and is scored in a forked child, so that one that fails,
hangs, grows or dies is recorded and the study goes on. Trials in a row that differ only in how they sample share one
fit. Of the trials that keep the bounds on privacy the best is taken; where there is none, the defaults, with a mark.
"""

from __future__ import annotations

import hashlib
import importlib.metadata as metadata
import inspect
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import generators
import metrics
from bench.apart import Ask, Outcome, apart, give_threads
from bench.cell import Cell
from bench.errors import BenchError
from bench.objective import DRAWS, FEW, Inner, Objective, mean_scores
from bench.shared import Shared, split_key
from bench.store import Store, write_json
from generators.base import StopFit

if TYPE_CHECKING:
    import optuna
    import pandas as pd

    from bench.datasets.data import Data
    from bench.datasets.source import Source
    from bench.study import Study

MEMORY_SHARE = 0.9  # of a cell's limit that a trial may take, so that the trial ends and not the cell
LOOKS = (2, 4, 8, 16, 32)  # calls of a fit's `log` at which a small draw is scored, where a pruner reads it
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
    store, study_cell = place.store, cell.study
    saved = store.study_result(study_cell.key)
    if saved:
        return saved
    plan = json.loads(cell.tune)
    from bench.datasets.split import split

    train = split(
        data, seed=study_cell.seed("split"), how=cell.split, positives=source.train_positives
    ).train  # nothing below is given the holdout
    work = _Work(study_cell, place, source, data, train, plan)
    give_threads(1)  # the children that are forked from here take back what the process was given
    try:
        result = work.run(told)
    finally:
        give_threads(int(os.environ.get("OMP_NUM_THREADS", "0")) or os.cpu_count() or 1)
        shutil.rmtree(work.fits, ignore_errors=True)
    store.save_study_result(study_cell.key, result)
    return result


def space(name: str) -> list[dict[str, Any]]:
    """A generator's tuning space: parameter, kind, low, high, log, choices, default. Empty where it has none."""
    defaults, kinds = _defaults(name), {"FloatDistribution": "float", "IntDistribution": "int"}
    return [
        {
            "parameter": parameter,
            "kind": kinds.get(type(d).__name__, "choice"),
            "choices": list(getattr(d, "choices", ())),
            **{k: getattr(d, k, None) for k in ("low", "high", "log")},
            "default": defaults.get(parameter),
        }
        for parameter, d in distributions(name).items()
    ]


def importances(name: str, trials: list[dict[str, Any]]) -> dict[str, float]:
    """How much of the variation of the first aim each parameter accounts for (fANOVA), over trials that have a value.

    Empty where they are fewer than five or all alike.
    """
    import optuna

    scored = [t for t in trials if t["values"]]
    values = {t["values"][0] for t in scored}
    if len(scored) < 5 or len(values) < 2:
        return {}
    ranges = distributions(name)
    study = optuna.create_study(direction="maximize")
    for t in scored:
        study.add_trial(
            optuna.create_trial(
                params=t["params"], distributions={k: ranges[k] for k in t["params"]}, value=t["values"][0]
            )
        )
    try:
        found = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
        )
    except (ValueError, RuntimeError):  # a parameter that is not in every trial
        return {}
    return {k: float(v) for k, v in found.items()}


def distributions(name: str) -> dict[str, Any]:
    """Optuna's distribution of each parameter of a generator's tuning space. Empty where it has none."""
    import optuna

    cls: Any = generators.load_class(generators.find(name).load)
    if not hasattr(cls, "suggest"):
        return {}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found: dict[str, Any] = {}
    for _ in range(20):  # a space may branch
        trial = study.ask()
        cls.suggest(trial)
        found |= trial.distributions
    return found


def _defaults(name: str) -> dict[str, Any]:
    """Constructor defaults of a generator's parameters."""
    parameters = inspect.signature(generators.load_class(generators.find(name).load)).parameters
    return {k: p.default for k, p in parameters.items() if p.default is not p.empty}


class _Work:
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
        self.fits = place.store.trials(cell.key) / str(os.getpid())
        self.spent = 0.0

    def run(self, told: Told) -> dict[str, Any]:
        """Every trial that is left, and what came of the study."""
        try:
            objective = self._objective()
        except BenchError as error:
            return self._untuned(str(error))
        study = self._study()
        while True:
            if self._over(study):
                break
            trial = study.next(self.plan["trials"], self.plan["time_s"])
            if trial is None:
                break
            ended = self._attempt(trial, study, objective)
            study.tell(trial, ended)
            told(_row(trial.number, trial.params, ended))
        return self._result(study, objective)

    def _study(self) -> Study:
        from bench.study import Study

        cls: Any = generators.load_class(generators.find(self.cell.generator).load)
        store, key = self.place.store, self.cell.key
        return Study(
            key, store.study(key), self.place.url, seed=self.seed, aims=len(self.plan["objective"]),
            sampler=self.plan["sampler"], pruner=self.plan["pruner"],
            suggest=lambda trial: {**cls.suggest(trial), **self.fixed},
            defaults={k: v for k, v in _defaults(self.cell.generator).items() if k not in self.fixed},
            alone=lambda: store.alone(f"study-{key}"),
        )  # fmt: skip

    def _objective(self) -> Objective:
        """Measured once for all generators of a replicate; in a child, so that this process stays fit to be forked."""
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
        return Objective.read(json.loads(path.read_text()))

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
            lambda ask: _Trial(self, params, objective, ask if looks else None).run(),
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
        rows = [_row(t.number, t.params, t.user_attrs["ended"], t.user_attrs["params"]) for t in study.ended()]
        best = chosen(rows)
        mark = ""
        if self._over(study):
            best, mark = None, "the defaults take longer than the budget allows a trial"
        elif best is None:
            done = any(r["state"] == "infeasible" for r in rows)
            mark = "no trial keeps the bounds on privacy" if done else "no trial was finished"
        return {
            "params": best["read"] if best else self.fixed,
            "mark": mark,
            "best": best["number"] if best else None,
            "default": next((r["values"] for r in rows if r["number"] == 0), None),
            "value": best["values"] if best else None,
            "trials": [{k: v for k, v in r.items() if k != "read"} for r in rows],
            "spent_s": round(sum(r["seconds"] for r in rows), 3),
            "scales": {name: asdict(scale) for name, scale in objective.scales.items()},
            "left_out": objective.left_out,
            "unchecked": list(objective.unchecked),
            **self._asked(),
        }

    def _untuned(self, why: str) -> dict[str, Any]:
        nothing: dict[str, Any] = {"best": None, "default": None, "value": None, "trials": [], "spent_s": 0.0}
        return {"params": self.fixed, "mark": why, **nothing, "scales": {}, "left_out": [], "unchecked": [],
                **self._asked()}  # fmt: skip

    def _asked(self) -> dict[str, Any]:
        names = ("synth-health-bench", "optuna")
        versions = {name: metadata.version(name) for name in names}
        versions |= {m: str(metrics.METRICS[m].version) for m in sorted(metrics.METRICS)}
        return {"plan": self.plan, "draws": self.draws, "n": self.inner.n, "versions": versions}


def chosen(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The best of the trials that keep the bounds: of two aims, the one of the highest mean. The earlier of equals."""
    feasible = [r for r in rows if r["state"] == "done"]
    return max(feasible, key=lambda r: (sum(r["values"]), -r["number"]), default=None)


def _row(
    number: int, params: Mapping[str, Any], ended: Mapping[str, Any], read: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A trial as it is kept: state "done", "infeasible", "pruned", "failed" or "timeout"; read: all its parameters."""
    state = ended["status"]
    if state == "done" and any(x > 0 for x in ended["excess"].values()):
        state = "infeasible"
    return {
        "number": number,
        "state": state,
        "values": ended.get("values"),
        "params": dict(params),
        "scores": ended.get("scores", {}),
        "seconds": ended["seconds"],
        "phases": ended.get("phases", {}),
        "why": ended["why"],
        "read": dict(read or {}),
    }


class _Trial:
    """A trial in its own process: fit, draw, score. ask: reports a value on the way, and hears whether to stop."""

    def __init__(self, work: _Work, params: dict[str, Any], objective: Objective, ask: Ask | None) -> None:
        self.work, self.params, self.objective, self.ask = work, params, objective, ask
        self.calls = 0
        self.pipe: int | None = None  # in a fork of this process that ends the fit where it is
        self.stopped = False
        self.phases: dict[str, float] = {}

    def run(self) -> tuple[dict[str, float], dict[str, float]]:
        """Mean scores over the draws, and seconds by phase."""
        start = time.monotonic()
        generator = self._fitted()
        self.phases["fit"] = time.monotonic() - start
        if self.stopped:
            return {}, {}
        found = []
        for i in range(self.work.draws):
            start = time.monotonic()
            synth = generator.sample(self.work.inner.n, seed=self.work.seed + 1 + i)
            drawn = time.monotonic()
            found.append(self.work.inner.score(synth, self.objective.names))
            self._add("sample", drawn - start)
            self._add("score", time.monotonic() - drawn)
        return mean_scores(found), {k: round(v, 3) for k, v in self.phases.items()}

    def _add(self, phase: str, seconds: float) -> None:
        self.phases[phase] = self.phases.get(phase, 0.0) + seconds

    def _fitted(self) -> Any:
        """The generator, fitted. The last fit is kept in a folder, for trials that differ only in how they sample."""
        from bench.run import can_be_kept, keep

        name, folder = self.work.cell.generator, self.work.fits
        generator = generators.make(name, **self.params, **self.work.handed)
        later = generators.at_sample(name)
        read = json.dumps({k: v for k, v in self.params.items() if k not in later}, sort_keys=True)
        kept = folder / hashlib.sha256(read.encode()).hexdigest()[:20]
        if kept.exists():
            return generator.load(kept)
        generator = self._fit(generator)
        if later and can_be_kept(generator) and not self.stopped:
            shutil.rmtree(folder, ignore_errors=True)
            keep(generator, kept, name)
        return generator

    def _fit(self, generator: Any) -> Any:
        from bench.run import fit

        inside = self.work
        try:
            fit(generator, inside.inner.train, inside.data, seed=inside.seed, log=self._log if self.ask else None)
            if self.pipe is not None:
                self._say(generator)
        finally:
            if self.pipe is not None:
                os._exit(0)
        return generator

    # --- looking in on a fit ---

    def _log(self, step: int, **values: float) -> None:
        """Score a small draw now and then: a fork of this process ends the fit where it is, and draws from that."""
        if self.pipe is not None:
            raise StopFit
        self.calls += 1
        if self.calls not in LOOKS or not _may_fork():
            return
        value = self._look()
        if self.pipe is not None:
            raise StopFit
        if value is not None and self.ask is not None and self.ask((value, self.calls)):
            self.stopped = True
            raise StopFit

    def _look(self) -> float | None:
        """The value of a small draw, None where it has none; in the fork it returns at once."""
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            self.pipe = write
            os.environ["OMP_NUM_THREADS"] = "1"
            give_threads(1)
            return None
        os.close(write)
        with os.fdopen(read) as said:
            text = said.read()
        os.waitpid(pid, 0)
        return float(text) if text else None

    def _say(self, generator: Any) -> None:
        small = self.work.inner.small()
        synth = generator.sample(small.n, seed=self.work.seed + 1)
        scores = mean_scores([small.score(synth, self.objective.aimed)])
        os.write(int(self.pipe or 0), str(self.objective.values(scores)[0]).encode())


def _may_fork() -> bool:
    """Whether a process may be forked with what it has loaded: not with a GPU in use."""
    import sys

    torch = sys.modules.get("torch")
    return torch is None or not torch.cuda.is_initialized()
