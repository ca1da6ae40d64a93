"""A trial in a process of its own: fit, draw, score; and looks at a fit that is under way."""

from __future__ import annotations

import hashlib
import json
import os
import select
import shutil
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import generators
from bench.apart import Ask, forking, give_threads
from bench.objective import Objective, mean_scores
from generators.base import StopFit

if TYPE_CHECKING:
    from bench.tune import Work

LOOKS = (2, 4, 8, 16, 32)  # calls of a fit's `log` at which a small draw is scored, where a pruner reads it
LOOK_S = 120  # after which a look is given up


class Trial:
    """A trial in its own process: fit, draw, score. ask: reports a value on the way, and hears whether to stop."""

    def __init__(self, work: Work, params: dict[str, Any], objective: Objective, ask: Ask | None) -> None:
        self.work, self.params, self.objective, self.ask = work, params, objective, ask
        self.calls = 0
        self.pipe: int | None = None  # in a fork of this process that ends the fit where it is
        self.stopped = False
        self.phases: dict[str, float] = {}

    def run(self) -> tuple[dict[str, float], dict[str, float]]:
        """Mean scores over the draws, and seconds by phase."""
        start = time.monotonic()
        generator = self._fitted()
        self.phases["fit"] = time.monotonic() - start
        if self.stopped:
            return {}, {}
        found = []
        for i in range(self.work.draws):
            start = time.monotonic()
            synth = generator.sample(self.work.inner.n, seed=self.work.seed + 1 + i)
            drawn = time.monotonic()
            found.append(self.work.inner.score(synth, self.objective.names))
            self._add("sample", drawn - start)
            self._add("score", time.monotonic() - drawn)
        return mean_scores(found), {k: round(v, 3) for k, v in self.phases.items()}

    def _add(self, phase: str, seconds: float) -> None:
        self.phases[phase] = self.phases.get(phase, 0.0) + seconds

    def _fitted(self) -> Any:
        """The generator, fitted. The last fit is kept in a folder, for trials that differ only in how they sample."""
        from bench.run import can_be_kept, keep

        name, folder = self.work.cell.generator, self.work.fits
        generator = generators.make(name, **self.params, **self.work.handed)
        later = generators.at_sample(name)
        read = json.dumps({k: v for k, v in self.params.items() if k not in later}, sort_keys=True)
        kept = folder / hashlib.sha256(read.encode()).hexdigest()[:20]
        if kept.exists():
            return generator.load(kept)
        generator = self._fit(generator)
        if later and can_be_kept(generator) and not self.stopped:
            shutil.rmtree(folder, ignore_errors=True)
            keep(generator, kept, name)
        return generator

    def _fit(self, generator: Any) -> Any:
        from bench.run import fit

        inside = self.work
        try:
            fit(generator, inside.inner.train, inside.data, seed=inside.seed, log=self._log if self.ask else None)
            if self.pipe is not None:
                self._say(generator)
        finally:
            if self.pipe is not None:
                os._exit(0)
        return generator

    # --- looking in on a fit ---

    def _log(self, step: int, **values: float) -> None:
        """Score a small draw now and then: a fork of this process ends the fit where it is, and draws from that."""
        if self.pipe is not None:
            raise StopFit
        self.calls += 1
        if self.calls not in LOOKS or not _may_fork():
            return
        value = self._look()
        if self.pipe is not None:
            raise StopFit
        if value is not None and self.ask is not None and self.ask((value, self.calls)):
            self.stopped = True
            raise StopFit

    def _look(self) -> float | None:
        """The value of a small draw, None where it has none; in the fork it returns at once."""
        read, write = os.pipe()
        with forking():
            pid = os.fork()
        if pid == 0:
            os.close(read)
            self.pipe = write
            os.environ["OMP_NUM_THREADS"] = "1"
            give_threads(1)
            return None
        os.close(write)
        with os.fdopen(read) as said:
            heard = bool(select.select([said], [], [], LOOK_S)[0])
            if not heard:
                print(f"  a look took over {LOOK_S} s: no more of them", flush=True)
                self.calls = max(LOOKS)
                os.kill(pid, signal.SIGKILL)
            text = said.read() if heard else ""
        os.waitpid(pid, 0)
        return float(text) if text else None

    def _say(self, generator: Any) -> None:
        small = self.work.inner.small()
        synth = generator.sample(small.n, seed=self.work.seed + 1)
        scores = mean_scores([small.score(synth, self.objective.aimed)])
        os.write(int(self.pipe or 0), str(self.objective.values(scores)[0]).encode())


def _may_fork() -> bool:
    """Whether a process may be forked with what it has loaded: not with a GPU in use."""
    torch = sys.modules.get("torch")
    return torch is None or not torch.cuda.is_initialized()
