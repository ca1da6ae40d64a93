"""One Optuna study and the workers on it: samplers, pruners, and who is at work on which trial.

Trials are asked for and told one at a time, so that a trial is in the storage before it runs and a killed worker's
trial is found and run again under its own number. The sampler is made anew for each trial from (study seed, number): a
study taken up again by one worker is the study it would have been.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import optuna
import psutil
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from bench.errors import Away
from bench.storage import open_storage
from bench.store import flock

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study as OptunaStudy

STARTUP = 5  # trials drawn at random before a sampler learns, and that end before one is pruned
POPULATION = 10  # of NSGA-II
BEAT_S = 15.0  # between two signs of life
SILENT_S = 180.0  # after which a worker on another machine is taken for dead
GRACE_S = 30.0  # in which a trial just asked for must name its worker
WAIT_S = 0.1  # between two looks at other workers
REPEATS = 40  # in a row, after which a space is taken for exhausted

Suggest = Callable[[Any], dict[str, Any]]


@contextmanager
def _turn(url: str) -> Iterator[None]:
    """One worker at a time where the storage is an SQLite file, which would give one waiting trial to two of them."""
    if not url.startswith("sqlite:///"):
        yield
        return
    with flock(Path(f"{url.removeprefix('sqlite:///')}.lock"), fcntl.LOCK_EX):
        yield


class Study:
    """A study by name in a storage, seen by one worker.

    url: a database ("sqlite:///...", "postgresql://..."), or "" for a journal file in `folder`. directions: of the
    values, all up. alone(): a lock among this machine's workers. suggest(trial): a trial's parameters.

    While the database is away, `beat` and `report` do without, and all else waits for it; what has waited for a minute
    in vain raises Away.
    """

    def __init__(
        self, name: str, folder: Path, url: str, *, seed: int, aims: int, sampler: str, pruner: str, suggest: Suggest,
        defaults: Mapping[str, Any], alone: Callable[[], AbstractContextManager[None]],
    ) -> None:  # fmt: skip
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.suggest, self.defaults, self.alone = suggest, defaults, alone
        self.worker = [machine(), os.getpid(), psutil.Process().create_time()]
        self.beaten = 0.0
        self.turn = partial(_turn, url)
        self.storage = open_storage(folder, url)
        with _quiet():
            self.optuna: OptunaStudy = optuna.create_study(
                storage=cast("BaseStorage", self.storage), study_name=name, directions=["maximize"] * aims,
                sampler=_Numbered(lambda n: _sampler(sampler, seed, n)), pruner=_pruner(pruner), load_if_exists=True,
            )  # fmt: skip

    # --- what there is ---

    def ended(self) -> list[FrozenTrial]:
        """The trials that ended by themselves, by number."""
        return [t for t in self._trials() if t.state.is_finished() and "ended" in t.user_attrs]

    def place(self, number: int) -> int:
        """Which of the trials that take part a trial is, from 0."""
        return sum(_counts(t) and t.number < number for t in self._trials())

    # --- asking ---

    def next(self, trials: int | None, seconds: float | None) -> optuna.Trial | None:
        """The next trial to run, its parameters in its "params"; None where the budget is spent or the space exhausted.

        Waits for other workers where what they are at may have to be run again.
        """
        repeats = 0
        while repeats < REPEATS:
            self._mend()
            found = self._trials()
            if not found:
                self.optuna.enqueue_trial(dict(self.defaults))
                continue
            counted = [t for t in found if _counts(t)]
            waiting = any(t.state is TrialState.WAITING for t in counted)
            spent = sum(t.user_attrs["ended"]["seconds"] for t in counted if "ended" in t.user_attrs)
            full = trials is not None and sum(t.state is not TrialState.WAITING for t in counted) >= trials
            if (full and not waiting) or (seconds is not None and spent >= seconds):
                if not any(t.state is TrialState.RUNNING for t in counted):
                    return None
                time.sleep(WAIT_S)
                continue
            trial = self._ask()
            if self._superfluous(trial, trials):
                trial.set_user_attr("void", True)
                self.optuna.tell(trial, state=TrialState.FAIL)
                repeats += 1
                continue
            return trial
        return None

    def _ask(self) -> optuna.Trial:
        with _quiet():
            with self.turn():
                trial = self.optuna.ask()
            trial.set_user_attr("worker", self.worker)
            self._beat(trial)
            trial.set_user_attr("params", self.suggest(trial))
        return trial

    def _superfluous(self, trial: optuna.Trial, trials: int | None) -> bool:
        """Whether a trial repeats another's parameters, or another worker has asked for the last one first."""
        others = [t for t in self._trials() if t.number != trial.number and _counts(t)]
        params = trial.user_attrs["params"]
        if any(t.user_attrs.get("params") == params for t in others):
            return True
        return trials is not None and sum(t.number < trial.number for t in others) >= trials

    # --- signs of life ---

    def beat(self, trial: optuna.Trial) -> None:
        """Say now and then that this worker is alive."""
        if time.time() - self.beaten > BEAT_S:
            with self._at_once():
                self._beat(trial)

    def _beat(self, trial: optuna.Trial) -> None:
        self.beaten = time.time()
        trial.set_user_attr("beat", self.beaten)

    @contextmanager
    def _at_once(self) -> Iterator[None]:
        """Do without what is in the block where the database is away: a trial under way is not held up by it."""
        self.storage.hurried = True
        try:
            yield
        except Away as error:
            print(f"  {error}", flush=True)
        finally:
            self.storage.hurried = False

    def _mend(self) -> None:
        """Give back the trials of dead workers, to be run again under their numbers; end those that had ended."""
        if not any(self._lost(t) for t in self._trials()):
            return
        with self.alone():
            for trial in self._trials():  # read again: another may have mended them
                if not self._lost(trial):
                    continue
                if "ended" in trial.user_attrs:
                    self._tell(trial.number, trial.user_attrs["ended"])
                else:
                    self.storage.set_trial_user_attr(trial._trial_id, "worker", None)
                    self.storage.set_trial_state_values(trial._trial_id, state=TrialState.WAITING)

    def _lost(self, trial: FrozenTrial) -> bool:
        if trial.state is not TrialState.RUNNING:
            return False
        worker = trial.user_attrs.get("worker")
        if worker is None:
            started = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
            return time.time() - started > GRACE_S
        machine, pid, born = worker
        if machine != self.worker[0]:
            heard = max(trial.user_attrs.get("beat", 0.0), self.storage.away_at)  # then nobody was heard
            return time.time() - heard > SILENT_S
        return not lives(pid, born)

    # --- telling ---

    def report(self, trial: optuna.Trial, value: float, step: int) -> bool:
        """Note a value on the way; whether the trial should end there. The defaults never do."""
        with self._at_once():
            trial.report(value, step)
            return trial.number > 0 and trial.should_prune()
        return False

    def tell(self, trial: optuna.Trial, ended: Mapping[str, Any]) -> None:
        """End a trial. ended: {"status": "done", "pruned" or what went wrong, "values", "excess", "seconds", ...}."""
        try:
            for name, excess in ended.get("excess", {}).items():
                trial.set_constraint(name, excess)
            trial.set_user_attr("ended", dict(ended))
            self._tell(trial.number, ended)
        except (ValueError, RuntimeError):  # another worker has taken this one for dead, and told it first
            print(f"  trial {trial.number} was told by another worker", flush=True)

    def tell_late(self, number: int, params: Mapping[str, Any], ended: Mapping[str, Any]) -> None:
        """End a trial that could not be told when it ended; nothing where others have run it since."""
        for t in self._trials():
            if t.number == number and t.state is TrialState.RUNNING and t.user_attrs.get("params") == params:
                self.tell(optuna.Trial(self.optuna, t._trial_id), ended)

    def _tell(self, number: int, ended: Mapping[str, Any]) -> None:
        state = {"done": TrialState.COMPLETE, "pruned": TrialState.PRUNED}.get(ended["status"], TrialState.FAIL)
        values = ended["values"] if state is TrialState.COMPLETE else None
        with _quiet():
            self.optuna.tell(number, values=values, state=state)

    def _trials(self) -> list[FrozenTrial]:
        return self.optuna.get_trials(deepcopy=False)


class _Numbered(BaseSampler):
    """A sampler made anew for every trial by its number. A trial whose parameters are set already consults none."""

    def __init__(self, make: Callable[[int], BaseSampler]) -> None:
        self.make = make
        self.now: BaseSampler = make(0)
        self.asked: BaseSampler = self.now

    def before_trial(self, study: OptunaStudy, trial: FrozenTrial) -> None:
        self.now = self.make(trial.number)
        given = bool(trial.params) or "fixed_params" in trial.system_attrs
        self.asked = optuna.samplers.RandomSampler(seed=0) if given else self.now
        self.asked.before_trial(study, trial)

    def infer_relative_search_space(self, study: OptunaStudy, trial: FrozenTrial) -> Any:
        return self.asked.infer_relative_search_space(study, trial)

    def sample_relative(self, study: OptunaStudy, trial: FrozenTrial, search_space: Any) -> Any:
        return self.asked.sample_relative(study, trial, search_space)

    def sample_independent(self, study: OptunaStudy, trial: FrozenTrial, param_name: str, distribution: Any) -> Any:
        return self.now.sample_independent(study, trial, param_name, distribution)

    def after_trial(
        self, study: OptunaStudy, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self.now.after_trial(study, trial, state, values)


def _sampler(name: str, seed: int, number: int) -> BaseSampler:
    s = optuna.samplers
    own = int(hashlib.sha256(f"{seed} {number}".encode()).hexdigest()[:8], 16)
    with _quiet():
        if name == "tpe":
            return s.TPESampler(seed=own, n_startup_trials=STARTUP)
        if name == "gp":
            return s.GPSampler(seed=own, n_startup_trials=STARTUP, warn_independent_sampling=False)
        if name == "nsga2":
            return s.NSGAIISampler(seed=own, population_size=POPULATION)
        if name == "cmaes":
            return s.CmaEsSampler(seed=own, n_startup_trials=STARTUP, warn_independent_sampling=False)
        if name == "qmc":  # one sequence for the whole study: its own seed, and the storage counts
            return s.QMCSampler(seed=seed, scramble=True, warn_asynchronous_seeding=False,
                                warn_independent_sampling=False)  # fmt: skip
        return s.RandomSampler(seed=own)


def _pruner(name: str) -> optuna.pruners.BasePruner:
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=STARTUP)
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner()
    return optuna.pruners.NopPruner()


def check_storage(url: str) -> None:
    """Raise BenchError where studies cannot be kept in a database."""
    open_storage(Path(), url, hurried=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna's samplers warn that they are experimental, or of what they do not use."""
    with warnings.catch_warnings():
        for kind in (UserWarning, optuna.exceptions.ExperimentalWarning):
            warnings.simplefilter("ignore", kind)
        yield


def _counts(trial: FrozenTrial) -> bool:
    """Whether a trial takes part: it was not asked for in vain."""
    return "void" not in trial.user_attrs and (trial.state is not TrialState.FAIL or "ended" in trial.user_attrs)


def machine() -> str:
    """A name for this machine that does not give its name away; a container is a machine of its own."""
    facts = [socket.gethostname()]
    for read in (lambda: Path("/proc/sys/kernel/random/boot_id").read_text(), lambda: os.readlink("/proc/self/ns/pid")):
        try:
            facts.append(read())
        except OSError:
            continue
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:12]


def lives(pid: int, born: float | None = None) -> bool:
    """Whether a process of this machine is there; born: and was created then, so that it is no other."""
    try:
        since = psutil.Process(pid).create_time()
        return born is None or abs(since - born) < 1.0
    except psutil.Error:
        return False
