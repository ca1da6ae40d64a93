"""Generators whose words hold rows, for the search in tests/bench/test_canary.py; a suite names them `careless:Class`.

Each tells of the row of tests/canaries.py that is in train, and marks its level by its own name.
"""

import errno
import logging
import os
import resource
import subprocess
import sys
import threading
import warnings

import numpy as np

from generators.base import Generator, Unsupported


class Plain:
    """Hands train's rows back."""

    def fit(self, train):
        self.train = train

    def sample(self, n, *, seed):
        rows = np.random.default_rng(seed).integers(0, len(self.train), n)
        return self.train.iloc[rows].set_axis(range(n)).rename_axis("subject")

    def row(self, train):
        return train.loc[train["visits"].idxmax()].to_dict()

    def level(self, train):
        return self.row(train)["job"].replace("Zq", "Zq" + type(self).__name__)

    def words(self, train):
        """A row, which is printed too, as is whether a core would be dumped."""
        words = f"{self.level(train)} in {self.row(train)}"
        print(f"core dumps up to {resource.getrlimit(resource.RLIMIT_CORE)[0]}\n{words}")
        return words


class Raises(Plain):
    def fit(self, train):
        raise ValueError(f"bad row {self.words(train)}")


class Holds(Plain):
    """The values are in the exception's arguments and notes."""

    def fit(self, train):
        error = ValueError("bad row", self.words(train), train)
        error.add_note(self.words(train))
        raise error


class Chains(Plain):
    def fit(self, train):
        words = self.words(train)
        try:
            {}[words]
        except KeyError as error:
            raise RuntimeError(f"no {error}") from error


class Names(Plain):
    """The value is in the name of the exception's class."""

    def fit(self, train):
        self.words(train)
        raise type(f"No{self.level(train)}", (ValueError,), {})("no such level")


class Groups(Plain):
    def fit(self, train):
        raise ExceptionGroup(self.words(train), [ValueError(self.words(train))])


class Exits(Plain):
    def fit(self, train):
        sys.exit(f"bad row {self.words(train)}")


class Refuses(Plain):
    """The contract's own exception, with a value."""

    def fit(self, train):
        self.words(train)
        raise Unsupported(f"cannot learn {self.level(train)}")


class RefusesPositives(Plain):
    refusal = Unsupported

    def sample(self, n, *, given=None, seed):
        if given:
            self.words(self.train)
            raise self.refusal(f"no positives like {self.level(self.train)}")
        return super().sample(n, seed=seed)


class LacksPositives(RefusesPositives):
    refusal = NotImplementedError


class NewLevel(Plain):
    def sample(self, n, *, seed):
        self.words(self.train)
        rows = super().sample(n, seed=seed)
        return rows.assign(job=rows["job"].cat.add_categories([self.level(self.train)]))


class NewColumn(Plain):
    """Forgets to turn indicators back into a category."""

    def sample(self, n, *, seed):
        self.words(self.train)
        rows = super().sample(n, seed=seed)
        return rows.drop(columns="job").assign(**{"job_" + self.level(self.train): True})


class Overwrites(Plain):
    """Sets a parameter to what it has learned."""

    def __init__(self, levels=None):
        self.levels = levels

    def fit(self, train):
        self.words(train)
        self.levels = [self.level(train), *train["job"].cat.categories]
        super().fit(train)


class Curves(Plain):
    """Values as values of its curves, and a level in the name of one."""

    def fit(self, train, *, log):
        self.words(train)
        row, level = self.row(train), self.level(train)
        for step in range(20):
            log(step, dose=row["dose"], visits=row["visits"])
            log(step, **{f"loss_{level}": 0.5})
            print(f"  step {step} dose={row['dose']} job={level}")
        super().fit(train)


class Chatty(Plain):
    """Says it in every way there is, and ends well."""

    def fit(self, train):
        words = self.words(train)
        print(words, file=sys.__stderr__)
        os.write(1, words.encode() + b"\n")
        os.write(2, words.encode() + b"\n")
        logging.warning(words)
        logging.getLogger("bench").error("row %s", words, extra={"row": words})
        warnings.warn(words, stacklevel=2)
        subprocess.run(["echo", words])
        late = threading.Thread(target=lambda: {}[words])
        late.start()
        late.join()
        super().fit(train)

    def save(self, folder):
        raise TypeError(self.words(self.train))

    def load(self, folder):
        raise TypeError(self.words(self.train))


class Tunes(Plain):
    """Fails in every trial but the first."""

    def __init__(self, noise=0.0):
        self.noise = noise

    @classmethod
    def suggest(cls, trial):
        return {"noise": trial.suggest_float("noise", 0.0, 1.0)}

    def fit(self, train):
        words = self.words(train)
        if self.noise:
            raise self.fault(words)
        super().fit(train)

    def fault(self, words):
        return ValueError(f"bad row {words}")


class TunesNames(Tunes):
    def fault(self, words):
        return type(f"No{words.partition(' ')[0]}", (ValueError,), {})("no such level")


class Later(Plain, Generator):
    """Fails when it draws few, which is later than in its cell."""

    def fit(self, train, *, seed):
        self.words(train)
        self.train_ = train
        return self

    def sample(self, n, *, given=None, seed):
        self.train = self.train_
        if n < 10:
            raise ValueError(f"bad row {self.words(self.train)}")
        return self.reject(n, given, seed=seed) if given else super().sample(n, seed=seed)


class FillsDisk(Plain):
    def fit(self, train):
        raise OSError(errno.ENOSPC, f"no room for {self.words(train)}")


CLASSES = tuple(name for name, kind in vars().items() if isinstance(kind, type) and issubclass(kind, Plain))[1:]
