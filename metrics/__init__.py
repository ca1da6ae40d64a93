"""METRICS: every score as one row. `score(tables, names, seed=...)` computes them.

A metric is a function (tables, *, seed) -> Score | Undefined | {suffix: Score | Undefined}. Its direction is the ending
of its name: `_score _auroc _auprc _f1` up, `_gap _error _distance _risk` down. Importing this package loads no library.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from math import isfinite
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metrics.tables import Tables

ALL = ("codes", "table", "series", "visits")
CODES = ("codes", "visits")
UP, DOWN = ("_score", "_auroc", "_auprc", "_f1"), ("_gap", "_error", "_distance", "_risk")


@dataclass(frozen=True)
class Score:
    """One number. se: its standard error over the holdout, None where the metric has none. n: subjects it rests on."""

    value: float
    se: float | None
    n: int

    def __post_init__(self) -> None:
        if not isfinite(self.value):
            raise ValueError(f"a score must be finite, got {self.value}; return Undefined with the reason")


@dataclass(frozen=True)
class Undefined:
    """A table gives no value, and why."""

    reason: str


@dataclass(frozen=True)
class Metric:
    """One row of METRICS.

    load: "module:function". family: fidelity, utility, privacy (ranked ones make the family means), control. low, high:
    range of possible values. shapes: where it is defined. floor: the reference generator it is 0 at when normalised
    (None: not normalised, not ranked). null: the value that means no risk, for privacy. version: raised with a change.
    """

    name: str
    load: str
    family: str
    low: float
    high: float
    shapes: tuple[str, ...]
    floor: str | None
    about: str
    reference: str
    null: float | None = None
    version: int = 1

    @property
    def up(self) -> bool:
        """True where more is better."""
        return self.name.endswith(UP)

    @property
    def ranked(self) -> bool:
        """True where it takes part in its family's mean."""
        return self.floor is not None


_INF = float("inf")
_YAN = "Yan et al. 2022, doi:10.1038/s41467-022-35295-1"
_ROWS = (
    Metric("prevalence_pearson_score", "fidelity:prevalence_pearson", "fidelity", -1, 1, CODES, "uniform",
           "Pearson correlation over codes of their prevalence in synth and holdout", "Yuan et al. 2023 (EHRDiff)"),
    Metric("prevalence_spearman_score", "fidelity:prevalence_spearman", "fidelity", -1, 1, CODES, "uniform",
           "Spearman correlation over codes of their prevalence in synth and holdout", "Han et al. 2024 (EHR-D3PM)"),
    Metric("mcad_distance", "fidelity:mcad", "fidelity", 0, 1, CODES, "marginal",
           "half the L1 distance of the 20-bin histograms of codes per subject", _YAN),
    Metric("cmd_distance", "fidelity:cmd", "fidelity", 0, 2, ALL, "marginal",
           "mean absolute difference of correlations over column pairs, synth against holdout", "METRICS: cmd"),
    Metric("mmd_distance", "fidelity:mmd", "fidelity", -1, 2, ALL, "marginal",
           "unbiased MMD², RBF kernel at train's median distance", "Gretton et al. 2012, JMLR 13:723"),
    Metric("ks_gap", "fidelity:ks", "fidelity", 0, 1, ALL, "uniform",
           "mean Kolmogorov-Smirnov distance over numeric columns", "scipy.stats.ks_2samp"),
    Metric("tvd_gap", "fidelity:tvd", "fidelity", 0, 1, ALL, "uniform",
           "mean total variation over category and bool columns", "METRICS: tvd"),
    Metric("missing_rate_gap", "fidelity:missing", "fidelity", 0, 1, ALL, "uniform",
           "mean absolute difference of missing rates over columns with gaps", "METRICS: missing"),
    Metric("c2st_auroc_gap", "fidelity:c2st", "fidelity", -1, 1, ALL, "marginal",
           "2 AUROC - 1 of gradient-boosted trees telling synth from holdout, 5-fold", "Lopez-Paz and Oquab 2017"),
    Metric("trtr_auroc", "utility:trtr_auroc", "control", 0, 1, ALL, None,
           "AUROC on holdout of judges fitted on train: the ceiling of TSTR", "METRICS: utility"),
    Metric("trtr_auprc", "utility:trtr_auprc", "control", 0, 1, ALL, None,
           "average precision on holdout of judges fitted on train", "METRICS: utility"),
    Metric("tstr_auroc", "utility:tstr_auroc", "utility", 0, 1, ALL, "marginal",
           "AUROC on holdout of judges fitted on synth; mean over judges, and each", "Esteban et al. 2017"),
    Metric("tstr_auprc", "utility:tstr_auprc", "utility", 0, 1, ALL, "marginal",
           "average precision on holdout of judges fitted on synth", "Esteban et al. 2017"),
    Metric("boost_recall_score", "utility:boost_recall", "utility", -1, 1, ALL, None,
           "recall on holdout after adding synthetic positives to train, and its gain over none", "Le 2024"),
    Metric("boost_precision_score", "utility:boost_precision", "utility", -1, 1, ALL, None,
           "precision on holdout after adding synthetic positives to train, and its gain over none", "Le 2024"),
    Metric("boost_f1_score", "utility:boost_f1", "utility", -1, 1, ALL, None,
           "F1 on holdout after adding synthetic positives to train, and its gain over none", "Le 2024"),
    Metric("air_excess_risk", "privacy:air_excess", "privacy", -1, 1, ALL, "copycat",
           "attribute inference on train minus on as many of holdout", _YAN, null=0.0),
    Metric("air_train", "privacy:air_train", "control", 0, 1, ALL, None, "attribute inference F1 on train", _YAN),
    Metric("air_holdout", "privacy:air_holdout", "control", 0, 1, ALL, None, "attribute inference F1 on holdout", _YAN),
    Metric("mir_excess_risk", "privacy:mir_excess", "privacy", -1, 1, ALL, "copycat",
           "membership inference F1 minus that of as many flags dealt at random", _YAN, null=0.0),
    Metric("mir_f1", "privacy:mir_f1", "control", 0, 1, ALL, None,
           "membership inference F1 at a threshold learned on a tenth", _YAN),
    Metric("mia_distance_auroc_gap", "privacy:mia_distance", "privacy", -1, 1, ALL, "copycat",
           "2 AUROC - 1 of nearness to synth, members against non-members", "METRICS: mia_distance", null=0.0),
)  # fmt: skip

METRICS: Mapping[str, Metric] = {row.name: row for row in _ROWS}

# What a cell costs: measured by the harness, kept apart from the scores. name -> what it is
COSTS: Mapping[str, str] = {
    "tune_s": "seconds of tuning",
    "fit_s": "seconds of fitting",
    "sample_s_per_1k": "seconds per 1,000 subjects sampled",
    "peak_memory_mb": "highest resident memory of the cell's processes up to sampling, MiB",
    "n_parameters": "numbers a fitted generator holds",
}


def names(asked: Iterable[str] | None = None) -> list[str]:
    """Metric names; a family's name stands for its metrics. ValueError names an unknown one and its nearest."""
    if asked is None:
        return list(METRICS)
    found: dict[str, None] = {}
    for name in asked:
        family = [m.name for m in METRICS.values() if m.family == name]
        if not family and name not in METRICS:
            near = get_close_matches(name, METRICS, n=1)
            hint = f" did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"unknown metric '{name}':{hint} known: {', '.join(METRICS)}, or a family")
        found |= dict.fromkeys(family or [name])
    return list(found)


def score(tables: "Tables", asked: Iterable[str] | None = None, *, seed: int) -> dict[str, Score | Undefined]:
    """Scores by full name ("tstr_auroc", "tstr_auroc/xgb"). A metric not made for the shape is Undefined."""
    out: dict[str, Score | Undefined] = {}
    for name in names(asked):
        row = METRICS[name]
        if tables.shape not in row.shapes:
            out[name] = Undefined(f"not defined on {tables.shape}")
            continue
        module, _, function = row.load.partition(":")
        got: Any = getattr(import_module(f"metrics.{module}"), function)(tables, seed=seed)
        found = got if isinstance(got, dict) else {"": got}
        out |= {f"{name}/{suffix}" if suffix else name: value for suffix, value in found.items()}
    return out
