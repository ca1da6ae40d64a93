"""Generators that break one promise of the contract, for the tests of `bench doctor`."""

import numpy as np

from fakes import Nothing


class Unseeded(Nothing):
    """Ignores its seed."""

    def sample(self, n, *, seed):
        return super().sample(n, seed=int(np.random.default_rng().integers(2**31)))


class Vandal(Nothing):
    """Changes the table it is given."""

    def fit(self, train):
        super().fit(train)
        train.iloc[:, 0] = 0.0
