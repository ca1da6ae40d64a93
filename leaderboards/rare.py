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
HALF = [column for column, (_, end) in COLUMNS.items() if end == "/half"]
ALONE, MOVED = "alone", "moved"  # rows beside the steps
NEEDED = ("boost_recall_score", "boost_precision_score", "boost_f1_score", "boost_auprc")


def tables(board: Board, dataset: str) -> str:
    """A table per judge, or "" where a suite does not ask for all four scores.

    Rows: train alone, the controls, then each generator with positives added up to 5, 50, 100 and 200 % of what lacks
    for balance.
    """
    frame = board.by_name[dataset]
    frame = frame[frame["metric"].str.startswith(NEEDED)]
    values = frame[frame["value"].notna()]
    if set(NEEDED) - {m.partition("/")[0] for m in values["metric"]}:
        return ""
    whole = [
        g for g in board.order
        if board.whole(dataset, g) and (values["generator"] == g).any() and not board.shared_study(dataset, g)
    ]  # fmt: skip
    if not whole:
        return ""
    shown = _shown(values[values["generator"].isin(whole)], first=whole[0])
    parts = []
    for judge, name in JUDGES.items():
        rows = [
            [text, *(shown.get((judge, generator, step, column), "–") for column in COLUMNS)]
            for text, generator, step in _rows(whole)
        ]
        if any(cell != "–" for row in rows for cell in row[1:]):
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


def _rows(generators: list[str]) -> list[tuple[str, str, str]]:
    """(text, generator, step) of each row; what needs no generator is the same everywhere, taken from the first."""
    one = generators[0]
    rows = [("*train alone*", one, ALONE), ("*threshold moved*", one, MOVED)]
    rows += [(f"*{text}*", one, control) for control, text in FREE.items()]
    return rows + [(f"{g}, {ratio} %", g, str(ratio)) for g in generators for ratio in RATIOS]


def _shown(values: pd.DataFrame, first: str) -> dict[tuple[str, str, str, str], str]:
    """Mean and interval, as text, by (judge, generator, step, column); all intervals at once."""
    names = pd.DataFrame([(*m.split("/"), "", "", "", "")[:5] for m in values["metric"]], index=values.index)
    ends = {(metric, end.strip("/")): column for column, (metric, end) in COLUMNS.items()}
    plain = names[3].where(names[3] != "gain", "")
    cells = values.assign(
        judge=names[1], step=names[2], gain=(names[3] == "gain") | (names[4] == "gain"),
        column=[ends.get(key, "") for key in zip(names[0], plain, strict=True)],
    )  # fmt: skip
    cells = cells[cells["column"] != ""]
    own = cells[~cells["gain"]]
    keys = ["generator", "judge", "column", "replicate"]
    alone = own[own["step"] == "0"]
    errors = cells[cells["gain"]].set_index([*keys, "step"])["se"]
    gains = own[own["step"] != "0"].join(alone.set_index(keys)["value"].rename("base"), on=keys)
    gains = gains.assign(value=gains["value"] - gains["base"]).drop(columns="se").join(errors, on=[*keys, "step"])
    both = alone[alone["generator"] == first]
    still = both[both["column"].isin(HALF)]
    moved = _best(values, names, first).merge(
        still[["judge", "column", "replicate", "value"]], on=["judge", "column", "replicate"], suffixes=("", "_still")
    )
    moved = moved.assign(value=moved["value"] - moved["value_still"], se=float("nan"), step=MOVED)
    everything = pd.concat([gains, moved, both.assign(step=ALONE)], ignore_index=True)
    found = intervals(everything, ["judge", "generator", "step", "column"], "value", "se")
    return {
        key: "–" if pd.isna(mean) else f"{round(mean, 3) + 0.0:{'' if key[2] == ALONE else '+'}.3f}{_half(mean, low)}"
        for key, mean, low in zip(found.index, found["mean"], found["low"], strict=True)
    }


def _best(values: pd.DataFrame, names: pd.DataFrame, generator: str) -> pd.DataFrame:
    """Train alone at the moved threshold, in the columns that are shown at 0.5."""
    here = (names[2] == "0") & (names[3] == "best") & (values["generator"] == generator)
    columns = {metric: column for column, (metric, end) in COLUMNS.items() if column in HALF}
    found = values[here].assign(judge=names[1][here], column=names[0][here].map(columns))
    return found[found["column"].notna()]


def _half(mean: float, low: float) -> str:
    return "" if pd.isna(low) else f" ±{mean - low:.3f}"
