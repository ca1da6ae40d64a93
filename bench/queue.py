"""Which cell comes next: long ones first, none that would wait for another's work, none that would end too late."""

from __future__ import annotations

import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterable

from bench.launch import Kind, Launcher, Work
from bench.store import Store

ENOUGH = 3  # cells that have ended before estimates are corrected by how long they took


class Pace:
    """How long cells take: the mean of those of their kind that have ended, else the estimate, corrected by how
    estimates have held in this run."""

    def __init__(self) -> None:
        self.seconds: dict[Kind, list[float]] = defaultdict(list)
        self.ratios: list[float] = []
        self.ratio = 1.0  # that estimates are corrected by

    def ended(self, work: Work, seconds: float) -> None:
        """A cell took so long."""
        self.seconds[work.kind].append(seconds)
        if work.seconds:
            self.ratios.append(seconds / work.seconds)
        if len(self.ratios) >= ENOUGH:
            self.ratio = statistics.median(self.ratios)

    def expected(self, work: Work) -> float | None:
        """Seconds a cell will take; None where nothing is known."""
        if known := self.seconds.get(work.kind):
            return statistics.fmean(known)
        return None if work.seconds is None else work.seconds * self.ratio


class Queue:
    """Cells that wait, the longest first; those of which nothing is known before them.

    budget_s: no cell is started that is expected to end later than so many seconds from now. longest_s: what a cell of
    which nothing is known is expected to take.
    """

    def __init__(
        self, works: Iterable[Work], store: Store, *, budget_s: float = float("inf"),
        longest_s: float = float("inf"),
    ) -> None:  # fmt: skip
        self.waiting = sorted(works, key=lambda w: -(w.seconds if w.seconds is not None else float("inf")))
        self.store, self.longest_s, self.pace = store, longest_s, Pace()
        self.like = {w.kind: w for w in self.waiting}
        self.left = Counter(w.kind for w in self.waiting)
        self.ends = time.monotonic() + budget_s
        self.late = 0  # cells that were left because of the time, when last looked at

    def __bool__(self) -> bool:
        return bool(self.waiting)

    @property
    def over(self) -> bool:
        """Whether no cell that waits would end in time."""
        return self.late == len(self.waiting)

    def next(self, launcher: Launcher) -> Work | None:
        """The first cell that can start: there is room, nobody holds it, and nobody is at its study or fit."""
        if launcher.full:
            return None
        making = launcher.making()
        left_s = self.ends - time.monotonic()
        self.late = 0
        for i, work in enumerate(self.waiting):
            if left_s < float("inf") and self._too_late(work, left_s):
                self.late += 1
            elif (
                (launcher.never(work) or launcher.has_room(work))
                and not {work.fit, work.study} & making
                and not self.store.busy(work.cell.key, work.fit, work.study)
            ):
                self.left[work.kind] -= 1
                return self.waiting.pop(i)
        return None

    def put_back(self, work: Work, *, first: bool) -> None:
        """A cell that has not ended waits again, before all others or after them."""
        self.left[work.kind] += 1
        self.waiting.insert(0 if first else len(self.waiting), work)

    def ended(self, work: Work, seconds: float) -> None:
        """A cell has ended after so long."""
        self.pace.ended(work, seconds)

    def left_s(self, at_once: int) -> float | None:
        """Expected seconds until all that wait have ended; None where nothing is known of most of them."""
        expected = {kind: self.pace.expected(self.like[kind]) for kind, count in self.left.items() if count}
        known = {kind: seconds for kind, seconds in expected.items() if seconds is not None}
        n = sum(self.left[kind] for kind in known)
        if 2 * n < len(self.waiting):
            return None
        mean = sum(self.left[kind] * seconds for kind, seconds in known.items()) / max(n, 1)
        return mean * len(self.waiting) / at_once

    def _too_late(self, work: Work, left_s: float) -> bool:
        expected = self.pace.expected(work)
        return (self.longest_s if expected is None else expected) > left_s
