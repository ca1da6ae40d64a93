"""A generator whose fits a test holds up, in cells that may wait for a database for as long as the test says."""

import os
import time
from pathlib import Path

import bench.storage
from fakes import Paced

bench.storage.PATIENCE_S = float(os.environ.get("PATIENCE_S", bench.storage.PATIENCE_S))


class Held(Paced):
    """Its fits do not end while there is the file that HOLD names."""

    def fit(self, train, *, seed):
        self._note("start")
        while Path(os.environ["HOLD"]).exists():
            time.sleep(0.02)
        self._note("end")
        self.train_ = train
        return self
