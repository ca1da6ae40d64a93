"""The generator contract, run on any generator: the same checks that the tests run over REGISTRY.

Each check is a function (Patient) -> None that raises Broken with one line, or Unsupported where the generator says a
combination cannot work.
"""

from __future__ import annotations

import atexit
import inspect
import json
import multiprocessing as mp
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from multiprocessing.pool import Pool
from pathlib import Path
from typing import TYPE_CHECKING, Any

import generators
from bench.ask import draw
from bench.datasets import open_dataset
from bench.datasets.law import LawError, check_like, subjects
from bench.datasets.split import split
from bench.errors import BenchError
from bench.run import fit, hand_over
from generators.base import Generator, NotFitted, Unsupported

if TYPE_CHECKING:
    import pandas as pd

    from bench.datasets.data import Data

# one small simulated table of each shape
TABLES = {
    "codes": "sim-ehr[codes=12,rows=200]",
    "table": "sim-fraud[rows=1200]",
    "series": "sim-icu[rows=100]",
    "visits": "sim-visits[codes=8,rows=120]",
}
N = 60


class Broken(BenchError):
    """A generator breaks its contract."""


@dataclass
class Patient:
    """A generator on one table."""

    name: str
    dataset: str
    params: dict[str, Any]

    @cached_property
    def data(self) -> Data:
        """The table and its roles."""
        return open_dataset(self.dataset, None).load()

    @cached_property
    def train(self) -> pd.DataFrame:
        """What the generator sees."""
        return split(self.data, seed=0, positives=open_dataset(self.dataset, None).train_positives).train

    @cached_property
    def fitted(self) -> Any:
        """Fitted with seed 0."""
        return self.fit()

    def make(self) -> Any:
        """A new one."""
        return generators.make(self.name, **self.params, **hand_over(self.name, open_dataset(self.dataset, None)))

    def fit(self) -> Any:
        """A new one, fitted with seed 0."""
        return fit(self.make(), self.train, self.data, seed=0, log=lambda step, **values: None)

    @property
    def target(self) -> str:
        """The target's name."""
        return self.data.roles.target

    def check(self, samples: object, n: int, what: str) -> None:
        """Samples obey train's law."""
        try:
            check_like(samples, self.train, n, static=self.data.roles.static, what=what)
        except LawError as error:
            raise Broken(str(error)) from error


def stores_parameters(p: Patient) -> None:
    """The constructor stores each parameter under its own name and takes no other."""
    made = p.make()
    if not isinstance(made, Generator):
        return
    for name in inspect.signature(type(made)).parameters:
        if not hasattr(made, name):
            raise Broken(f"the constructor does not store its parameter '{name}'")


def needs_fit(p: Patient) -> None:
    """A generator of ours says NotFitted before fit."""
    made = p.make()
    if not isinstance(made, Generator):
        return
    try:
        made.sample(3, seed=0)
    except NotFitted:
        return
    raise Broken("sample before fit does not raise NotFitted")


def leaves_train_alone(p: Patient) -> None:
    """fit returns the generator, and train is as it was."""
    import pandas as pd

    table = p.train.copy()
    made = p.make()
    offered = {"target": p.target, "static": p.data.roles.static, "describe": p.data.roles.describe, "seed": 0}
    known = inspect.signature(made.fit).parameters
    back = made.fit(table, **{k: v for k, v in offered.items() if k in known})
    if isinstance(made, Generator) and back is not made:
        raise Broken("fit does not return the generator")
    try:
        pd.testing.assert_frame_equal(table, p.train)
    except AssertionError as error:
        raise Broken("fit or its result changes the table it was given") from error


def obeys_the_law(p: Patient) -> None:
    """Samples have train's columns, dtypes and levels, the number of subjects asked for, and no new gaps."""
    for n in (1, N, 2 * len(subjects(p.train)) + 1):
        p.check(p.fitted.sample(n, seed=1), n, f"a sample of {n}")


def follows_the_seed(p: Patient) -> None:
    """The same seed gives the same table, another seed another one."""
    one, same, other = (p.fitted.sample(N, seed=s) for s in (1, 1, 2))
    if not one.equals(same):
        raise Broken("the same seed gives different tables")
    if one.equals(other):
        raise Broken("different seeds give the same table")


def meets_conditions(p: Patient) -> None:
    """given={target: value} gives subjects of that class only."""
    for value in (True, False):
        samples = draw(p.fitted, 20, given={p.target: value}, seed=3)
        p.check(samples, 20, f"a sample given {p.target}={value}")
        if not (samples[p.target] == value).all():
            raise Broken(f"a sample given {p.target}={value} holds others")


def survives_saving(p: Patient) -> None:
    """Sampling after load equals sampling before save, and nothing was pickled."""
    if not callable(getattr(p.fitted, "save", None)):
        return
    with tempfile.TemporaryDirectory() as folder:
        p.fitted.save(Path(folder))
        strange = [f.name for f in Path(folder).iterdir() if f.suffix not in (".json", ".safetensors", ".parquet")]
        if strange and p.name in generators.REGISTRY:
            raise Broken(f"save wrote {strange[0]}: expected JSON, safetensors and parquet only")
        loaded = p.make().load(Path(folder))
        if not loaded.sample(N, seed=1).equals(p.fitted.sample(N, seed=1)):
            raise Broken("sampling after load differs from sampling before")


def repeats_elsewhere(p: Patient) -> None:
    """A second process with the same seeds draws the same table."""
    here = fingerprint(p.fitted.sample(N, seed=1))
    there = _other_process().apply(_elsewhere, (p.name, p.dataset, p.params))
    if here != there:
        raise Broken("another process draws a different table from the same seeds")


def shares_fits(p: Patient) -> None:
    """fit does without the parameters in AT_SAMPLE and learns the same, and load leaves them as they are."""
    names = generators.at_sample(p.name)
    made = p.make()
    if not names or not callable(getattr(made, "save", None)):
        return
    for name in names:
        if name not in vars(made):
            raise Broken(f"the constructor does not store '{name}', which AT_SAMPLE names")
    held = {name: vars(made).pop(name) for name in names}
    try:
        fit(made, p.train, p.data, seed=0, log=lambda step, **values: None)
    except AttributeError as error:
        if error.name not in names:
            raise
        raise Broken(f"fit reads '{error.name}', which AT_SAMPLE names") from error
    with tempfile.TemporaryDirectory() as folder:
        p.fitted.save(Path(folder))
        other = p.make()
        vars(other).update({name: (name, "kept") for name in names})
        other.load(Path(folder))
    for name in names:
        if vars(other)[name] != (name, "kept"):
            raise Broken(f"load changes '{name}', which AT_SAMPLE names")
    for one in (made, other):
        vars(one).update(held)
        if not one.sample(N, seed=1).equals(p.fitted.sample(N, seed=1)):
            raise Broken("a fit made without the parameters in AT_SAMPLE, or loaded beside others, draws another table")


def has_a_lawful_space(p: Patient) -> None:
    """What `suggest` suggests are constructor parameters, and each default lies in its range."""
    cls = generators.load_class(generators.find(p.name).load)
    if not hasattr(cls, "suggest"):
        return
    import optuna

    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    parameters = inspect.signature(cls).parameters
    for name in cls.suggest(trial):
        if name not in parameters:
            raise Broken(f"suggest names '{name}', which is no constructor parameter")
    for name, space in trial.distributions.items():
        if not space._contains(space.to_internal_repr(parameters[name].default)):
            raise Broken(f"the default of '{name}' lies outside its tuning space")


CHECKS: tuple[Callable[[Patient], None], ...] = (
    stores_parameters,
    needs_fit,
    leaves_train_alone,
    obeys_the_law,
    follows_the_seed,
    meets_conditions,
    survives_saving,
    repeats_elsewhere,
    shares_fits,
    has_a_lawful_space,
)


def examine(name: str, params: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Run every check on every shape: (shape, check, "pass" | "unsupported" | "fail", why)."""
    for shape, dataset in TABLES.items():
        patient = Patient(name, dataset, params)
        for check in CHECKS:
            try:
                check(patient)
                yield shape, check.__name__, "pass", ""
            except Unsupported as error:
                yield shape, check.__name__, "unsupported", str(error)
            except Exception as error:  # a user's code may raise anything, and the simulated data hold no secret
                yield shape, check.__name__, "fail", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def fingerprint(table: pd.DataFrame) -> str:
    """A hash of a table's content, in order."""
    import pandas as pd

    return f"{list(table.columns)} {int(pd.util.hash_pandas_object(table).sum()):x}"


@cache
def _other_process() -> Pool:
    """One further process for all checks: a model library takes seconds to load."""
    pool = mp.get_context("spawn").Pool(1)
    atexit.register(pool.terminate)
    return pool


def _elsewhere(name: str, dataset: str, params: dict[str, Any]) -> str:
    return fingerprint(Patient(name, dataset, json.loads(json.dumps(params))).fitted.sample(N, seed=1))
