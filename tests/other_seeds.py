"""Move every seed of NumPy and torch in a test process, so that a test that holds by luck fails.

`move` is called by conftest.py where the environment variable TEST_SEEDS is a number; the same number gives the same
draws again. Processes that a test starts keep their seeds.
"""

from typing import Any

import numpy as np
import torch
from numpy.random import SeedSequence, default_rng

STEP = 1_000_003  # more than any seed in a test, so that moved seeds are new ones


def move(number: int) -> None:
    """Replace what takes a seed by what takes another."""

    def moved(seed: int) -> int:
        return seed + STEP * number

    def moved_rng(seed: Any = None) -> np.random.Generator:
        plain = isinstance(seed, int | np.integer | list | tuple | np.ndarray)
        return default_rng([*np.atleast_1d(seed), STEP * number] if plain else seed)

    class MovedSequence(SeedSequence):
        def __init__(self, entropy: Any = None, **more: Any) -> None:
            plain = isinstance(entropy, int | np.integer)
            super().__init__([entropy, STEP * number] if plain else entropy, **more)

    class MovedGenerator(torch.Generator):
        def manual_seed(self, seed: int) -> torch.Generator:
            return super().manual_seed(moved(seed))

    class Default:
        """torch's own generator, whose seeds are moved."""

        def __getattr__(self, name: str) -> Any:
            return getattr(own, name)

        def manual_seed(self, seed: int) -> torch.Generator:
            return own.manual_seed(moved(seed))

    own, own_seed = torch.default_generator, torch.manual_seed
    np.random.default_rng, np.random.SeedSequence = moved_rng, MovedSequence
    torch.Generator, torch.default_generator = MovedGenerator, Default()
    torch.manual_seed = torch.random.manual_seed = lambda seed: own_seed(moved(seed))
