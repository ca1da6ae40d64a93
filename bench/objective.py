"""What a trial is worth: fidelity and utility on an inner split of train, and the privacy it may not give up for them.

Scores are normalised as on a board (METRICS: normalised score, resolution): 0 at the floor reference, 1 at the ceiling,
both measured on the same inner split; one that cannot tell good from bad there is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil
from statistics import fmean
from typing import TYPE_CHECKING, Any

import generators
import metrics
from bench.errors import BenchError, unknown

if TYPE_CHECKING:
    import pandas as pd

    from bench.datasets.data import Data
    from bench.datasets.law import Roles
    from bench.shared import Shared

BOUNDS = {"mia_distance_auroc_gap": 0.2, "copy_risk": 0.05}  # what a trial may not exceed, unless a suite says others
PARTS = {
    "fidelity": ("c2st_auroc_gap", "cmd_denoised_distance"),
    "utility": ("tstr_auprc",),
    "privacy": ("mia_distance_auroc_gap",),
}
BALANCED = "balanced"  # the mean of fidelity and utility
FEW = 2_000  # subjects of the inner train under which sampling is cheap
UNDEFINED = 10.0  # stands for a measure of privacy that a sample does not have: worse than any has
DRAWS = 3  # samples that a trial's scores are averaged over where it is
SMALL = 500  # subjects of a draw that is scored while a fit is under way,
SMALL_POSITIVES = 20  # or more, where it takes more to have so many positives


def check_aims(aims: Sequence[str]) -> None:
    """Raise BenchError for an objective that is not known, or more than two."""
    if not 1 <= len(aims) <= 2 or len(set(aims)) < len(aims):
        raise BenchError(f"objective {list(aims)}: expected one, or two that differ")
    ranked = [m.name for m in metrics.METRICS.values() if m.ranked and not m.minority]
    for aim in aims:
        if aim not in (BALANCED, *PARTS, *ranked):
            raise unknown("objective", aim, [BALANCED, *PARTS, *ranked])


def check_bounds(bounds: Mapping[str, float]) -> None:
    """Raise BenchError for a bound on what is no measure of privacy."""
    private = [m.name for m in metrics.METRICS.values() if m.family == "privacy"]
    for name in bounds:
        if name not in private:
            raise unknown("measure of privacy", name, private)


@dataclass(frozen=True)
class Inner:
    """An inner split of train, the same for every generator of a replicate."""

    train: pd.DataFrame
    holdout: pd.DataFrame
    roles: Roles
    seed: int
    shared: Shared | None = None

    @classmethod
    def of(cls, train: pd.DataFrame, data: Data, *, seed: int, how: str, shared: Shared | None = None) -> Inner:
        """Split train as its dataset was split."""
        from bench.datasets.law import subjects
        from bench.datasets.split import split

        order = None if data.order is None else data.order.loc[subjects(train)]
        parts = split(replace(data, table=train, order=order), seed=seed, how=how)
        return cls(parts.train, parts.holdout, data.roles, seed, shared)

    @property
    def n(self) -> int:
        """Subjects of the inner train."""
        from bench.datasets.law import subjects

        return len(subjects(self.train))

    def small(self) -> Inner:
        """Few of its subjects, with the shares of both classes: for draws that are scored in passing."""
        from bench.datasets.data import Data, cut_rows
        from bench.datasets.law import per_subject, subjects

        rate = float(per_subject(self.train, self.roles.target).mean())
        most = max(SMALL, ceil(SMALL_POSITIVES / rate))
        parts = [
            cut_rows(Data(t, self.roles), min(most, len(subjects(t))), self.seed).table
            for t in (self.train, self.holdout)
        ]
        return replace(self, train=parts[0], holdout=parts[1], shared=None)

    def score(self, synth: pd.DataFrame, names: Sequence[str]) -> dict[str, metrics.Score]:
        """The scores of a sample of `n` subjects that are defined, by metric. Raises BenchError where it breaks train's
        law."""
        from bench.datasets.law import check_like
        from metrics.tables import Tables

        check_like(synth, self.train, self.n, static=self.roles.static, what="samples")
        tables = Tables(self.train, self.holdout, synth, roles=asdict(self.roles), shared=self.shared)
        found = metrics.score(tables, names, seed=self.seed)
        return {k: v for k, v in found.items() if k in names and isinstance(v, metrics.Score)}


@dataclass(frozen=True)
class Scale:
    """Where a score is 0 and 1 on an inner split, and the distance between in standard errors."""

    floor: float
    ceiling: float
    resolution: float

    @property
    def usable(self) -> bool:
        """Whether it can tell good from bad."""
        from leaderboards.rank import LEAST_RESOLUTION

        return self.resolution >= LEAST_RESOLUTION

    def __call__(self, value: float) -> float:
        """The normalised value, clipped as on a board."""
        from leaderboards.rank import CLIP

        return min(max((value - self.floor) / (self.ceiling - self.floor), CLIP[0]), CLIP[1])


@dataclass(frozen=True)
class Objective:
    """Aims, the scales of their scores, and the bounds on privacy; unchecked: bounds that cannot be measured here."""

    aims: tuple[str, ...]
    bounds: Mapping[str, float]
    scales: Mapping[str, Scale]
    unchecked: tuple[str, ...] = ()

    @classmethod
    def on(cls, inner: Inner, aims: Sequence[str], bounds: Mapping[str, float]) -> Objective:
        """Measure the references on an inner split. Raises BenchError where no score of an aim has resolution."""
        scales, unchecked = measured(inner, wanted(aims), list(bounds))
        kept = {name: bound for name, bound in bounds.items() if name not in unchecked}
        made = cls(tuple(aims), kept, scales, unchecked)
        for aim in aims:
            if not made._families(aim):
                raise BenchError(f"no score of {aim} can tell good from bad on the inner split of {inner.n} subjects")
        return made

    @classmethod
    def read(cls, saved: Mapping[str, Any]) -> Objective:
        """An objective from what `asdict` wrote."""
        scales = {name: Scale(**scale) for name, scale in saved["scales"].items()}
        return cls(tuple(saved["aims"]), saved["bounds"], scales, tuple(saved["unchecked"]))

    @property
    def names(self) -> list[str]:
        """Every metric that a trial is scored by."""
        return list(dict.fromkeys([*self.aimed, *self.bounds]))

    @property
    def aimed(self) -> list[str]:
        """The metrics of the aims."""
        return [n for n in wanted(self.aims) if n in self.scales and self.scales[n].usable]

    @property
    def left_out(self) -> list[str]:
        """Scores of the aims that have no resolution here."""
        return [n for n in wanted(self.aims) if n not in self.aimed]

    def values(self, scores: Mapping[str, float]) -> list[float]:
        """The value of each aim: the mean over its families of the mean over their normalised scores.

        Raises BenchError where a score is undefined: a mean over fewer would not be the same objective.
        """
        lacks = [n for n in self.aimed if n not in scores]
        if lacks:
            raise BenchError(f"{lacks[0]} is undefined on the sample")
        return [
            fmean(fmean(self.scales[n](scores[n]) for n in family) for family in self._families(aim))
            for aim in self.aims
        ]

    def excess(self, scores: Mapping[str, float]) -> dict[str, float]:
        """By how much each bound on privacy is exceeded; not above 0 where it holds. An undefined score exceeds it."""
        return {name: scores.get(name, UNDEFINED) - bound for name, bound in self.bounds.items()}

    def _families(self, aim: str) -> list[list[str]]:
        found = [[n for n in family if n in self.aimed] for family in parts(aim)]
        return [family for family in found if family]


def parts(aim: str) -> list[tuple[str, ...]]:
    """The metrics of an aim, family by family."""
    if aim == BALANCED:
        return [PARTS["fidelity"], PARTS["utility"]]
    return [PARTS.get(aim, (aim,))]


def wanted(aims: Sequence[str]) -> list[str]:
    """The metrics of all aims."""
    return list(dict.fromkeys(n for aim in aims for family in parts(aim) for n in family))


def measured(inner: Inner, names: Sequence[str], bounds: Sequence[str]) -> tuple[dict[str, Scale], tuple[str, ...]]:
    """The scale of each metric, from the references on an inner split (none where a reference has no score), and which
    of the bounds cannot be measured even on copycat."""
    from leaderboards.rank import CEILING, NULL

    rows = {n: metrics.METRICS[n] for n in names}
    other = {n: NULL if m.null is not None else str(m.floor) for n, m in rows.items()}
    references = [who for who in dict.fromkeys([CEILING, *other.values()]) if who != metrics.CHANCE]
    found = {who: _reference(who, inner, [*names, *(bounds if who == CEILING else ())]) for who in references}
    found[metrics.CHANCE] = _chance(inner, names)
    scales = {}
    for n, m in rows.items():
        top, low = found[CEILING].get(n), found[other[n]].get(n)
        if top is None or low is None:
            continue
        floor, ceiling, error = (low.value, top.value, top.se) if m.null is None else (top.value, m.null, low.se)
        if (ceiling > floor if m.up else ceiling < floor) and error is not None:
            scales[n] = Scale(floor, ceiling, abs(ceiling - floor) / max(error, 1e-12))
    return scales, tuple(b for b in bounds if b not in found[CEILING])


def _chance(inner: Inner, names: Sequence[str]) -> dict[str, metrics.Score]:
    """The scores of a guess: an AUROC of ½, an average precision of the inner holdout's prevalence."""
    from bench.datasets.law import per_subject

    y = per_subject(inner.holdout, inner.roles.target)
    return {n: metrics.Score(0.5 if n.endswith("_auroc") else float(y.mean()), 0.0, len(y)) for n in names}


def _reference(name: str, inner: Inner, names: Sequence[str]) -> dict[str, metrics.Score]:
    model = generators.make(name)
    model.fit(inner.train, target=inner.roles.target, static=inner.roles.static, seed=inner.seed)
    return inner.score(model.sample(inner.n, seed=inner.seed), names)


def mean_scores(draws: Sequence[Mapping[str, metrics.Score]]) -> dict[str, float]:
    """Means over draws of the scores that each of them has."""
    return {name: fmean(d[name].value for d in draws) for name in draws[0] if all(name in d for d in draws)}
