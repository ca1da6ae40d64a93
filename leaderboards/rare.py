"""Rare events: what drawn positives gain a judge, beside the controls that need no generator (Le 2024).

Everything is paired: a gain is a method's score less that of the same judge fitted on train alone, replicate by
replicate, and its interval is over replicates.
"""

import pandas as pd
from tabulate import tabulate

from leaderboards.intervals import intervals
from leaderboards.rank import Board

JUDGES = {"xgb": "XGBoost", "rf": "random forest"}
RATIOS = (5, 50, 100, 200)
FREE = {"weighted": "classes weighted alike", "oversampled": "train's positives repeated"}
COLUMNS = {  # column -> (metric, how its suffix ends); recall and precision at a threshold of 0.5
    "recall": ("boost_recall_score", "/half"),
    "precision": ("boost_precision_score", "/half"),
    "F1": ("boost_f1_score", "/half"),
    "F1, threshold moved": ("boost_f1_score", "/best"),
    "AUPRC": ("boost_auprc", ""),
}
NEEDED = ("boost_recall_score", "boost_precision_score", "boost_f1_score", "boost_auprc")


def tables(board: Board, dataset: str) -> str:
    """A table per judge, or "" where a suite does not ask for all four scores.

    Rows: train alone, the controls, then each generator with positives added up to 5, 50, 100 and 200 % of what lacks
    for balance.
    """
    frame = board.frame[(board.frame["dataset"] == dataset) & board.frame["metric"].str.startswith(NEEDED)]
    values = frame[frame["value"].notna()]
    if set(NEEDED) - {m.partition("/")[0] for m in values["metric"]}:
        return ""
    whole = [g for g in board.order if _done(board, dataset, g) and (values["generator"] == g).any()]
    parts = []
    for judge, name in JUDGES.items():
        found = {(g, m): rows.set_index("replicate") for (g, m), rows in values.groupby(["generator", "metric"])}
        rows = _rows(found, whole, judge) if whole else []
        if rows:
            heads = [f"{name}: gain of", *(f"{c} ↑" for c in COLUMNS)]
            parts.append(tabulate(rows, heads, tablefmt="github", disable_numparse=True))
    if not parts:
        return ""
    said = (
        "Rare events: gain over a judge fitted on train alone, paired by replicate; first row: that judge itself. The "
        "threshold is 0.5, or moved inside train to where F1 is best (there the gain is over train alone with its own "
        "threshold moved). Per cent: positives added, of what lacks for balance."
    )
    return "\n\n".join([said, *parts])


def _rows(found: dict[tuple[str, str], pd.DataFrame], generators: list[str], judge: str) -> list[list[str]]:
    """The table of a judge; what needs no generator is the same in every cell and taken from the first."""
    one = generators[0]

    def full(metric: str, step: object, end: str) -> str:
        return f"{metric}/{judge}/{step}{end}"

    def gains(generator: str, step: object) -> list[str]:
        pairs = [(full(m, step, end), full(m, 0, end)) for m, end in COLUMNS.values()]
        return [_gain(found, generator, *pair) for pair in pairs]

    if (one, full("boost_auprc", 0, "")) not in found:
        return []
    alone = [_shown(found[one, full(m, 0, end)]) for m, end in COLUMNS.values()]
    half = [(m, end) for m, end in COLUMNS.values() if end == "/half"]
    moved = [_gain(found, one, full(m, 0, "/best"), full(m, 0, end)) for m, end in half]
    rows = [["*train alone*", *alone], ["*threshold moved*", *moved, "–", "–"]]
    rows += [[f"*{text}*", *gains(one, control)] for control, text in FREE.items()]
    return rows + [[f"{g}, {ratio} %", *gains(g, ratio)] for g in generators for ratio in RATIOS]


def _gain(found: dict[tuple[str, str], pd.DataFrame], generator: str, metric: str, base: str) -> str:
    """Mean and interval of metric less base; with one replicate the error is the metric's own, where it has one."""
    if (generator, metric) not in found or (generator, base) not in found:
        return "–"
    rows = found[generator, metric]
    own = found.get((generator, f"{metric}/gain"))
    error = own["se"] if own is not None else float("nan")
    return _shown(rows.assign(value=rows["value"] - found[generator, base]["value"], se=error), sign="+")


def _shown(rows: pd.DataFrame, sign: str = "") -> str:
    found = intervals(rows.assign(all=0), ["all"], "value", "se").iloc[0]
    if pd.isna(found["mean"]):
        return "–"
    half = "" if pd.isna(found["low"]) else f" ±{found['mean'] - found['low']:.3f}"
    return f"{round(found['mean'], 3) + 0.0:{sign}.3f}{half}"


def _done(board: Board, dataset: str, generator: str) -> bool:
    mine = board.cells[(board.cells["dataset"] == dataset) & (board.cells["generator"] == generator)]
    return not mine.empty and bool((mine["status"] == "done").all())
