"""Normalised scores, their resolution, family means and ranks (METRICS: normalised score, resolution, uncertainty).

Per ranked metric and dataset a score is 0 at its floor reference and 1 at copycat; for privacy 0 at copycat and 1 at
the permutation null. A score whose resolution on a dataset is under 3 is left out of that dataset's family mean.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from leaderboards.intervals import intervals, quantile
from metrics import METRICS

FAMILIES = ("fidelity", "utility", "privacy")
LEAST_RESOLUTION = 3.0
CLIP = (-1.0, 1.5)  # of a normalised score in a mean, so that one collapsed score does not hide the others
CEILING, NULL = "copycat", "marginal"  # marginal keeps no one's row: an attack on it is at its null, with its error
CELL = ["dataset", "generator", "metric"]


@dataclass(frozen=True)
class Board:
    """A frame of records (see leaderboards/__init__.py) and all that follows from it, each computed once."""

    frame: pd.DataFrame

    @cached_property
    def cells(self) -> pd.DataFrame:
        """One row per cell: dataset, generator, replicate, status, reason and what is known of both."""
        return self.frame.drop_duplicates(["dataset", "generator", "replicate"])

    def whole(self, dataset: str, generator: str) -> bool:
        """Whether every cell of a generator on a dataset is done."""
        mine = self.cells[(self.cells["dataset"] == dataset) & (self.cells["generator"] == generator)]
        return not mine.empty and bool((mine["status"] == "done").all())

    def shared_study(self, dataset: str, generator: str) -> bool:
        """Whether several replicates have the parameters that a study of the first one found: its train holds holdout
        rows of the others, so that they stand in no paired interval."""
        mine = self.cells[(self.cells["dataset"] == dataset) & (self.cells["generator"] == generator)]
        return len(mine) > 1 and any(t and t["per"] == "dataset" for t in mine["tuning"])

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
    def scales(self) -> pd.DataFrame:
        """floor, ceiling, resolution and usable of every ranked score; index (dataset, metric).

        resolution = |ceiling − floor| / standard error of the ceiling, 0 where the floor is no worse than the ceiling.
        """
        rows = {}
        for dataset in self.frame["dataset"].unique():
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
        copycat = self.means.get((dataset, CEILING, name))
        other = self.means.get((dataset, NULL if metric.null is not None else str(metric.floor), name))
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
        generators = list(dict.fromkeys(self.frame["generator"]))
        unranked = self.unranked.reindex(generators)
        columns: dict[tuple[str, str], pd.Series] = {}
        for family in FAMILIES:
            found = pd.DataFrame.from_dict({g: self._family(g, family) for g in generators}, orient="index")
            ranks = found["mean"].where(~unranked).rank(ascending=False, method="min")
            found["rank"] = ranks.where(ranks.notna() | unranked, float((~unranked).sum()))
            columns |= {(family, field): found[field] for field in found.columns}
        return pd.DataFrame(columns)

    def _family(self, generator: str, family: str) -> dict[str, float | str]:
        rows = self.normalised[self.normalised["family"] == family]
        means, variances, replicates = [], [], [1]
        for dataset, there in rows.groupby("dataset", sort=False):
            here = there[there["generator"] == generator]
            gap = self._gap(str(dataset), generator, set(there["metric"]), here)
            if gap:
                return {"mean": np.nan, "se": np.nan, "low": np.nan, "high": np.nan, "gap": gap}
            # scores of one cell share their holdout: their errors are taken as fully correlated, the cautious reading
            keys = ["dataset", "replicate"]
            each = here.groupby(keys)[["score", "score_se", "n_train", "n_holdout"]].mean().reset_index()
            found = intervals(each, ["dataset"], "score", "score_se").iloc[0]
            means.append(found["mean"])
            variances.append(found["se"] ** 2)
            replicates.append(int(found["replicates"]))
        if not means:
            return {"mean": np.nan, "se": np.nan, "low": np.nan, "high": np.nan, "gap": "no score with resolution"}
        mean, se = float(np.mean(means)), float(np.sqrt(np.sum(variances)) / len(means))
        half = float(quantile(np.array([max(replicates)]))[0]) * se
        return {"mean": mean, "se": se, "low": mean - half, "high": mean + half, "gap": ""}

    def _gap(self, dataset: str, generator: str, asked: set[str], here: pd.DataFrame) -> str:
        """Why a generator has no family mean on a dataset, or ""."""
        cells = self.cells[(self.cells["dataset"] == dataset) & (self.cells["generator"] == generator)]
        off = cells.loc[cells["status"] != "done", "status"]
        if len(off):
            return f"{off.iloc[0]} on {dataset}"
        held = here[here["value"].notna()].groupby("metric")["replicate"].nunique()
        lacks = sorted(m for m in asked if held.get(m, 0) < cells["replicate"].nunique())
        return f"{lacks[0]} undefined on {dataset}" if lacks else ""

    @cached_property
    def places(self) -> pd.Series:
        """Mean rank over the families of every generator, NaN for unranked ones."""
        return self.families[[(f, "rank") for f in FAMILIES]].mean(axis=1, skipna=False)

    @cached_property
    def order(self) -> list[str]:
        """Generators by their mean rank over the families, ties by name; after them untuned rows in the order of the
        tuned ones, then references as they came."""
        ranked = sorted(self.places.dropna().index, key=lambda name: (self.places[name], name))
        beside = self.cells.groupby("generator")["untuned_of"].first()
        untuned = [name for other in ranked for name in beside.index[beside == other]]
        return [*ranked, *untuned, *[name for name in self.places.index if name not in (*ranked, *untuned)]]


def _no_scales() -> pd.MultiIndex:
    return pd.MultiIndex.from_arrays([[], []], names=["dataset", "metric"])
