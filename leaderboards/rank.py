"""Normalised scores, their resolution, family means and ranks (METRICS: normalised score, resolution, uncertainty).

Per ranked metric and dataset a score is 0 at its floor (a reference, or chance) and 1 at copycat; for privacy 0 at
copycat and 1 at the permutation null. A score whose resolution on a dataset is under 3 is left out of that dataset's
family mean.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from leaderboards.intervals import intervals, pooled
from metrics import CHANCE, METRICS

FAMILIES = ("fidelity", "utility", "privacy")
LEAST_RESOLUTION = 3.0
CLIP = (-1.0, 1.5)  # of a normalised score in a mean, so that one collapsed score does not hide the others
CEILING, NULL = "copycat", "marginal"  # marginal keeps no one's row: an attack on it is at its null, with its error
PREVALENCE = "prevalence_holdout"  # the average precision of a guess
CELL = ["dataset", "generator", "metric"]


@dataclass(frozen=True)
class Board:
    """A frame of records (see leaderboards/__init__.py) and all that follows from it, each computed once."""

    frame: pd.DataFrame

    @cached_property
    def cells(self) -> pd.DataFrame:
        """One row per cell: dataset, generator, replicate, status, reason and what is known of both."""
        return self.frame.drop_duplicates(["dataset", "generator", "replicate"])

    @cached_property
    def datasets(self) -> list[str]:
        """Names, in frame order."""
        return list(self.frame["dataset"].unique())

    @cached_property
    def generators(self) -> list[str]:
        """Names, in frame order."""
        return list(self.frame["generator"].unique())

    @cached_property
    def by_name(self) -> dict[str, pd.DataFrame]:
        """Dataset -> its rows of the frame."""
        return dict(iter(self.frame.groupby("dataset", sort=False)))

    @cached_property
    def cells_of(self) -> dict[str, pd.DataFrame]:
        """Generator -> its rows of `cells`."""
        return dict(iter(self.cells.groupby("generator", sort=False)))

    @cached_property
    def statuses(self) -> dict[tuple[str, str], list[str]]:
        """(dataset, generator) -> how each of its cells ended."""
        return {key: list(s) for key, s in self.cells.groupby(["dataset", "generator"], sort=False)["status"]}

    def of_shape(self, shape: str) -> "Board":
        """What ranks generators on the datasets of one shape; scores are taken from this board, not from its frame,
        which has cells alone."""
        part = Board(self.cells[self.cells["shape"] == shape])
        for name in ("cells", "normalised", "each"):
            table = getattr(self, name)
            vars(part)[name] = table[table["dataset"].isin(part.datasets)]
        return part

    def off(self, dataset: str, generator: str) -> str:
        """How the first cell of a generator on a dataset that is not done ended; "" where all are done."""
        return next((s for s in self.statuses[dataset, generator] if s != "done"), "")

    def whole(self, dataset: str, generator: str) -> bool:
        """Whether every cell of a generator on a dataset is done."""
        return (dataset, generator) in self.statuses and not self.off(dataset, generator)

    def shared_study(self, dataset: str, generator: str) -> bool:
        """Whether several replicates have the parameters that a study of the first one found: its train holds holdout
        rows of the others, so that they stand in no paired interval."""
        return (dataset, generator) in self._shared

    @cached_property
    def _shared(self) -> set[tuple[str, str]]:
        tuned = self.cells[self.cells["tuning"].notna()]
        names = zip(tuned["dataset"], tuned["generator"], tuned["tuning"], strict=True)
        shared = {(d, g) for d, g, tuning in names if tuning and tuning["per"] == "dataset"}
        return {key for key in shared if len(self.statuses[key]) > 1}

    @cached_property
    def unranked(self) -> pd.Series:
        """Whether a generator has no rank: references, and untuned rows beside tuned ones. Index: generator."""
        mine = self.cells.groupby("generator", sort=False)
        return mine["reference"].any() | (mine["untuned_of"].first() != "")

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Mean and interval over replicates of every score; index (dataset, generator, metric), in frame order."""
        return intervals(self.frame, CELL, "value", "se")

    @cached_property
    def means(self) -> dict[tuple[str, str, str], tuple[float, float]]:
        """(dataset, generator, metric) -> mean and standard error, of the scores that have a value."""
        known = self.summary[self.summary["mean"].notna()]
        return dict(zip(known.index, zip(known["mean"], known["se"], strict=True), strict=True))

    @cached_property
    def halves(self) -> dict[tuple[str, str, str], float]:
        """(dataset, generator, metric) -> half the width of its interval, NaN where that is not known; as `means`."""
        known = self.summary[self.summary["mean"].notna()]
        return dict(zip(known.index, known["mean"] - known["low"], strict=True))

    @cached_property
    def scales(self) -> pd.DataFrame:
        """floor, ceiling, resolution and usable of every ranked score; index (dataset, metric).

        resolution = |ceiling − floor| / standard error of the ceiling, 0 where the floor is no worse than the ceiling.
        """
        rows = {}
        for dataset in self.datasets:
            for metric in METRICS.values():
                scale = self._scale(dataset, metric.name) if metric.ranked else None
                if scale is not None:
                    rows[dataset, metric.name] = scale
        names = ["floor", "ceiling", "resolution"]
        table = pd.DataFrame.from_dict(rows, orient="index", columns=names, dtype=float)
        table.index = pd.MultiIndex.from_tuples(rows, names=["dataset", "metric"]) if rows else _no_scales()
        return table.assign(usable=table["resolution"] >= LEAST_RESOLUTION)

    def _scale(self, dataset: str, name: str) -> tuple[float, float, float] | None:
        metric = METRICS[name]
        copycat = self._reference(dataset, CEILING, name)
        if metric.floor == CHANCE and name.endswith("_auroc"):
            other: tuple[float, float] | None = (0.5, 0.0)
        elif metric.floor == CHANCE:
            other = self._reference(dataset, CEILING, PREVALENCE)
        else:
            other = self._reference(dataset, NULL if metric.null is not None else str(metric.floor), name)
        if copycat is None or other is None:
            return None
        if metric.null is not None:
            floor, ceiling, error = copycat[0], metric.null, other[1]
        else:
            floor, ceiling, error = other[0], copycat[0], copycat[1]
        better = ceiling > floor if metric.up else ceiling < floor
        if not better or np.isnan(error):
            return floor, ceiling, 0.0 if not better else np.nan
        return floor, ceiling, abs(ceiling - floor) / error if error > 0 else np.inf

    def _reference(self, dataset: str, reference: str, metric: str) -> tuple[float, float] | None:
        """Mean and standard error of a reference's score; None where it has none, and where the row of that name is
        another generator's."""
        return self.means.get((dataset, reference, metric)) if reference in self.references else None

    @cached_property
    def references(self) -> set[str]:
        """Names of the rows whose generator is a reference."""
        return set(self.cells.loc[self.cells["reference"].to_numpy(dtype=bool), "generator"])

    @cached_property
    def normalised(self) -> pd.DataFrame:
        """The frame's rows of usable scores, with `family`, `score` (0 floor, 1 ceiling, clipped) and `score_se`.

        The error of a clipped score is half of what is left of one error to either side after clipping.
        """
        scales = self.scales[self.scales["usable"].to_numpy(dtype=bool)]
        rows = self.frame.merge(scales[["floor", "ceiling"]], left_on=["dataset", "metric"], right_index=True)
        width = rows["ceiling"] - rows["floor"]
        score, se = (rows["value"] - rows["floor"]) / width, rows["se"] / width.abs()
        return rows.assign(
            family=rows["metric"].map({m.name: m.family for m in METRICS.values()}),
            score=score.clip(*CLIP),
            score_se=((score + se).clip(*CLIP) - (score - se).clip(*CLIP)) / 2,
        )

    @cached_property
    def families(self) -> pd.DataFrame:
        """Per generator and family mean, se, low, high, gap, rank, over datasets that count equally.

        A family mean with a gap (a cell that is not done, a score undefined where another generator has one) has no
        value and ranks last; `gap` says why. Unranked rows have no rank. Index: generator; columns: (family, field).
        """
        unranked = self.unranked.reindex(self.generators)
        columns: dict[tuple[str, str], pd.Series] = {}
        for family in FAMILIES:
            here = self.by_dataset[self.by_dataset["family"] == family]
            mine = dict(iter(here.groupby("generator", sort=False)))
            means = {g: _mean(mine.get(g, here[:0])) for g in self.generators}
            found = pd.DataFrame.from_dict(means, orient="index")
            ranks = found["mean"].where(~unranked).rank(ascending=False, method="min")
            found["rank"] = ranks.where(ranks.notna() | unranked, float((~unranked).sum()))
            columns |= {(family, field): found[field] for field in found.columns}
        return pd.DataFrame(columns)

    @cached_property
    def each(self) -> pd.DataFrame:
        """One row per (family, dataset, generator, replicate): the mean `score` over the family's usable metrics, its
        `score_se`, n_train, n_holdout. Errors of the scores of a cell, which share their holdout, are taken as fully
        correlated, the cautious reading."""
        keys = ["family", "dataset", "generator", "replicate"]
        columns = ["score", "score_se", "n_train", "n_holdout"]
        return self.normalised.groupby(keys, sort=False)[columns].mean().reset_index()

    @cached_property
    def by_dataset(self) -> pd.DataFrame:
        """Per family, dataset with a usable score, and generator: mean, se, low, high, replicates, gap.

        A gap says why there is no mean: a cell that is not done, a score undefined where another generator has one.
        """
        found = intervals(self.each, ["family", "dataset", "generator"], "score", "score_se")
        names = ["family", "dataset", "metric"]
        asked = self.normalised[names].drop_duplicates().groupby(names[:2], sort=False)["metric"].agg(set)
        known = self.normalised[self.normalised["value"].notna()]
        held = known.groupby(["dataset", "generator", "metric"])["replicate"].nunique().to_dict()
        gaps = {}
        for (family, dataset), metrics in asked.items():
            for g in self.generators:
                many = len(self.statuses.get((dataset, g), ()))
                off = self.off(dataset, g) if many else "not run"
                lacks = sorted(m for m in metrics if held.get((dataset, g, m), 0) < many)
                why = off or (f"{lacks[0]} undefined" if lacks else "")
                gaps[family, dataset, g] = f"{why} on {dataset}" if why else ""
        table = found.reindex(pd.MultiIndex.from_tuples(gaps, names=found.index.names) if gaps else found.index[:0])
        table["gap"] = list(gaps.values())
        table.loc[table["gap"] != "", ["mean", "se", "low", "high"]] = np.nan
        return table.reset_index()

    @cached_property
    def order(self) -> list[str]:
        """Generators by name, which ranks none before another; after them untuned rows in the order of the tuned ones,
        then references by name."""
        ranked = sorted(g for g in self.generators if not self.unranked[g])
        beside = self.cells.groupby("generator")["untuned_of"].first()
        untuned = [name for other in ranked for name in beside.index[beside == other]]
        return [*ranked, *untuned, *sorted(set(self.generators) - {*ranked, *untuned})]


def _mean(mine: pd.DataFrame) -> dict[str, float | str]:
    """A generator's mean over datasets that count equally, from its rows of `by_dataset`."""
    gap = next((why for why in mine["gap"] if why), "" if len(mine) else "no score with resolution")
    if gap:
        return {"mean": np.nan, "se": np.nan, "low": np.nan, "high": np.nan, "gap": gap}
    return {**pooled(mine["mean"], mine["se"], mine["replicates"]), "gap": ""}


def _no_scales() -> pd.MultiIndex:
    return pd.MultiIndex.from_arrays([[], []], names=["dataset", "metric"])
