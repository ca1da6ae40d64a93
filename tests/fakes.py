"""Generators that misbehave, each in one way; a suite names them as `fakes:Class` with this folder on PYTHONPATH."""

import ctypes
import os
import sys
import time

import numpy as np

from generators.base import Generator


class Nothing:
    """Learns nothing and hands train's subjects back: the least a generator can do."""

    def fit(self, train):
        self.train = train

    def sample(self, n, *, seed):
        rows = np.random.default_rng(seed).integers(0, len(self.train), n)
        return self.train.iloc[rows].set_axis(range(n)).rename_axis("subject")


class Raises(Nothing):
    def fit(self, train):
        raise RuntimeError("this generator always fails")


class TellsTheValue(Nothing):
    """Raises with a value of the table in its message, as careless code does."""

    def fit(self, train):
        print("printed", train.iloc[0, 0])
        raise KeyError(f"canary-{train.iloc[0, 0]}")


class Sleeps(Nothing):
    def fit(self, train):
        time.sleep(600)


class EatsMemory(Nothing):
    def fit(self, train):
        self.hoard = []
        while True:
            self.hoard.append(np.ones(2_000_000))
            time.sleep(0.01)


class Crashes(Nothing):
    def fit(self, train):
        ctypes.string_at(0)


class Exits(Nothing):
    def fit(self, train):
        os._exit(7)


class ExitsPolitely(Nothing):
    def fit(self, train):
        sys.exit(3)


class LacksAColumn(Nothing):
    def sample(self, n, *, seed):
        return super().sample(n, seed=seed).iloc[:, 1:]


class WrongDtype(Nothing):
    def sample(self, n, *, seed):
        table = super().sample(n, seed=seed)
        return table.assign(**{table.columns[0]: table.iloc[:, 0].astype("float32")})


class GivesNaN(Nothing):
    def sample(self, n, *, seed):
        table = super().sample(n, seed=seed)
        table.iloc[0, 0] = np.nan
        return table


class GivesTooFew(Nothing):
    def sample(self, n, *, seed):
        return super().sample(n - 1, seed=seed)


class Slow(Nothing):
    """Takes a moment in each phase, so that a test can kill it there."""

    def fit(self, train):
        super().fit(train)
        time.sleep(1.0)

    def sample(self, n, *, seed):
        time.sleep(0.02)
        return super().sample(n, seed=seed)


class Arms(Generator):
    """Notes each fit in the file that FITS names; its arms differ in the noise they add when they draw."""

    AT_SAMPLE = ("noise",)

    def __init__(self, noise=0.0, depth=1, seconds=0.0):
        self.noise = noise
        self.depth = depth
        self.seconds = seconds

    @classmethod
    def suggest(cls, trial):
        return {"depth": trial.suggest_int("depth", 1, 9)}

    def fit(self, train, *, seed):
        with open(os.environ["FITS"], "a") as file:
            file.write(f"{self.depth} {seed}\n")
        time.sleep(self.seconds)
        self.train_, self.shift_ = train, float(np.random.default_rng(seed).normal())
        return self

    def sample(self, n, *, seed):
        self._needs_fit("train_")
        rng = np.random.default_rng(seed)
        rows = self.train_.iloc[rng.integers(0, len(self.train_), n)].set_axis(range(n)).rename_axis("subject")
        numbers = rows.select_dtypes("float").columns
        rows[numbers] += self.noise * (self.shift_ + rng.normal(size=(n, len(numbers))))
        return rows


class Tunes(Arms):
    """Arms whose noise is tuned."""

    @classmethod
    def suggest(cls, trial):
        return {"noise": trial.suggest_float("noise", 0.0, 1.0)}


class TunesUnsaved(Tunes):
    """The same, of a user who has written no `save`."""

    save = None
