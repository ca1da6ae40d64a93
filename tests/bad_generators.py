"""Generators that break one promise of the contract, for the tests of `bench doctor`."""

import numpy as np

from fakes import Nothing
from generators.base import Generator


class Unseeded(Nothing):
    """Ignores its seed."""

    def sample(self, n, *, seed):
        return super().sample(n, seed=int(np.random.default_rng().integers(2**31)))


class Vandal(Nothing):
    """Changes the table it is given."""

    def fit(self, train):
        super().fit(train)
        train.iloc[:, 0] = 0.0


class NamesNoParameter(Nothing):
    AT_SAMPLE = ("steps",)

    def __init__(self, scale=1.0):
        self.scale = scale


class NamesByAText(NamesNoParameter):
    AT_SAMPLE = "scale"


class ReadsAtFit(Generator):
    """Says that fit does not read its scale, and reads it."""

    AT_SAMPLE = ("scale",)

    def __init__(self, scale=1.0):
        self.scale = scale

    def fit(self, train, *, seed):
        self.train_ = train * self.scale if self.scale != 1 else train
        return self

    def sample(self, n, *, seed):
        return self.train_.sample(n, replace=True, random_state=seed).set_axis(range(n)).rename_axis("subject")


class TakesOver(ReadsAtFit):
    """Its load takes over parameters."""

    def fit(self, train, *, seed):
        self.train_ = train
        return self

    def load(self, folder):
        self.scale = 1.0
        return super().load(folder)


class Renames(TakesOver):
    def __init__(self, scale=1.0):
        self.factor = scale
