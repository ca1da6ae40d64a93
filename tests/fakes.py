"""Generators that misbehave, each in one way; a suite names them as `fakes:Class` with this folder on PYTHONPATH."""

import ctypes
import os
import signal
import sys
import time

import numpy as np

from generators.base import Generator, StopFit


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


class Paced(Generator):
    """Notes the start and the end of each fit in the file that FITS names; better with less noise."""

    def __init__(self, noise=1.0, seconds=0.0, pick="a"):
        self.noise = noise
        self.seconds = seconds
        self.pick = pick

    @classmethod
    def suggest(cls, trial):
        return {"noise": trial.suggest_float("noise", 0.0, 2.0), "pick": trial.suggest_categorical("pick", ["a", "b"])}

    def fit(self, train, *, seed):
        self._note("start")
        time.sleep(self.seconds)
        self._note("end")
        self.train_ = train
        return self

    def sample(self, n, *, seed):
        rng = np.random.default_rng(seed)
        rows = self.train_.iloc[rng.integers(0, len(self.train_), n)].set_axis(range(n)).rename_axis("subject")
        numbers = rows.select_dtypes("float").columns
        rows[numbers] += self.noise * self.train_[numbers].std().to_numpy() * rng.normal(size=(n, len(numbers)))
        return rows

    def _note(self, what):
        if "FITS" in os.environ:
            with open(os.environ["FITS"], "a") as file:
                file.write(f"{what} {self.noise} {self.pick}\n")


class Fickle(Paced):
    """Ends as its parameter says."""

    def __init__(self, how="fine"):
        super().__init__(noise=0.1)
        self.how = how

    @classmethod
    def suggest(cls, trial):
        return {"how": trial.suggest_categorical("how", ["fine", "raises", "hangs", "dies", "grows"])}

    def fit(self, train, *, seed):
        if self.how == "raises":
            raise FloatingPointError("training diverged at 17.25")
        if self.how == "hangs":
            time.sleep(600)
        if self.how == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "grows":
            self.hoard = np.ones(2**27)  # 1 GiB
            time.sleep(600)
        return super().fit(train, seed=seed)


class Memorises(Generator):
    """A share of its rows are train's, the others have columns drawn one by one."""

    def __init__(self, copies=0.0):
        self.copies = copies

    @classmethod
    def suggest(cls, trial):
        return {"copies": trial.suggest_float("copies", 0.0, 1.0)}

    def fit(self, train, *, seed):
        self.train_ = train
        return self

    def sample(self, n, *, seed):
        rng = np.random.default_rng(seed)
        rows = self.train_.iloc[rng.permutation(len(self.train_))[:n]].copy()
        rest = rng.random(len(rows)) >= self.copies
        for column in rows.columns:
            rows.loc[rest, column] = self.train_[column].to_numpy()[rng.integers(0, len(self.train_), rest.sum())]
        return rows.set_axis(range(len(rows))).rename_axis("subject")


class Learns(Paced):
    """Less noise with every step, down to what `noise` says; tells `log` of each, and notes how many it took."""

    def fit(self, train, *, seed, log):
        self.train_, last = train, self.noise
        for step in range(1, 17):
            self.noise = last + 3.0 / step
            try:
                log(step, loss=self.noise)
            except StopFit:
                break
        self._note(f"step {step}")
        return self


class DrawsFewer(Paced):
    """Gives a quarter of the subjects asked for."""

    def sample(self, n, *, seed):
        return super().sample(n // 4, seed=seed)


class Works(Nothing):
    """Keeps a core at work for as long as its parameter says."""

    def __init__(self, rounds=60):
        self.rounds = rounds

    def fit(self, train):
        super().fit(train)
        for i in range(self.rounds):
            np.sort(np.random.default_rng(i).normal(size=500_000))


class OnGPU(Nothing):
    """Says in the file that GPUS names which device it was given and what it takes of it (tests/stand_ins)."""

    def __init__(self, takes=1_000):
        self.takes = takes

    def fit(self, train):
        super().fit(train)
        device = os.environ["CUDA_VISIBLE_DEVICES"]
        with open(os.environ["GPUS"], "a") as file:
            file.write(f"{device} {os.getpid()} {self.takes}\n")
        time.sleep(1.5)
        with open(os.environ["GPUS"]) as file:
            beside = [line for line in file if line.startswith(device) and os.path.exists(f"/proc/{line.split()[1]}")]
        with open(os.environ["GPUS"] + ".beside", "a") as file:
            file.write(f"{len(beside)}\n")
