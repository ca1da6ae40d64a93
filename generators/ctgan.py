"""The ctgan library's CTGAN (Xu et al. 2019, arXiv:1907.00503), as the peer that gan's "table" face is checked against.

An extra: the library is under the Business Source Licence, which allows evaluation but not its sale as a service, and
needs pandas before 3. It saves itself by pickle only, so that this row has no `save`: a cell that is drawn from again
is fitted again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd

from generators import REGISTRY, absence
from generators.base import NotFitted, Unsupported, reject
from generators.encode import Matrix


class CTGAN:
    """The library's CTGAN at its own defaults; epochs, batch, its `pac` and both rates may be set.

    A longitudinal table is laid out as one row a subject. Flags and categories are its discrete columns; a gap is a
    flag beside its number.
    """

    def __init__(
        self, epochs: int = 300, batch: int = 500, pack: int = 10, generator_lr: float = 2e-4, critic_lr: float = 2e-4,
        cover: float = 0.995,
    ) -> None:  # fmt: skip
        self.epochs = epochs
        self.batch = batch
        self.pack = pack
        self.generator_lr = generator_lr
        self.critic_lr = critic_lr
        self.cover = cover

    @classmethod
    def suggest(cls, trial: Any) -> dict[str, Any]:
        """Epochs, batch and rates."""
        return {
            "epochs": trial.suggest_categorical("epochs", [100, 300]),
            "batch": trial.suggest_categorical("batch", [200, 500, 1_000]),
            "generator_lr": trial.suggest_float("generator_lr", 5e-5, 2e-3, log=True),
            "critic_lr": trial.suggest_float("critic_lr", 5e-5, 2e-3, log=True),
        }

    def fit(self, train: pd.DataFrame, *, static: Sequence[str] = (), seed: int) -> Self:
        """Fit the library's model. Raises Unsupported where the library is not installed."""
        lacking = absence(REGISTRY["ctgan"])
        if lacking:
            raise Unsupported(lacking)
        from ctgan import CTGAN as Peer

        self._view = Matrix.fit(train, static=static, cover=self.cover)
        rows = self._rows(self._view.transform(train))
        self._peer = Peer(
            epochs=self.epochs, batch_size=self.batch, pac=self.pack, generator_lr=self.generator_lr,
            discriminator_lr=self.critic_lr, verbose=False,
        )  # fmt: skip
        self._peer.set_random_state(seed)
        self._peer.fit(rows, [str(i) for i, f in enumerate(self._view.features) if f.kind != "number"])
        return self

    def sample(self, n: int, *, given: Mapping[str, object] | None = None, seed: int) -> pd.DataFrame:
        """n subjects; conditions are met by rejection."""
        if not hasattr(self, "_peer"):
            raise NotFitted("CTGAN has not been fitted")
        if given:
            return reject(lambda k, s: self.sample(k, seed=s), n, given, seed=seed)
        self._peer.set_random_state(seed)
        return self._view.inverse(self._matrix(self._peer.sample(n)))

    def _rows(self, x: np.ndarray) -> pd.DataFrame:
        """A matrix (n, p) as the library wants it: a column a feature, one-hot groups as levels."""
        parts = {
            str(i): x[:, f.start] if f.kind == "number" else x[:, f.start : f.stop].round().astype(int).argmax(axis=1)
            if f.kind == "onehot" else x[:, f.start].round().astype(int)
            for i, f in enumerate(self._view.features)
        }  # fmt: skip
        return pd.DataFrame(parts)

    def _matrix(self, rows: pd.DataFrame) -> np.ndarray:
        """What `_rows` made, back."""
        features = self._view.features
        x = np.zeros((len(rows), features[-1].stop), np.float32)
        for i, f in enumerate(features):
            values = rows[str(i)].to_numpy()
            if f.kind == "onehot":
                x[np.arange(len(rows)), f.start + values.astype(int)] = 1
            else:
                x[:, f.start] = values
        return x
