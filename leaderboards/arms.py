"""Arms, rows of one generator that differ in their parameters: what each gains a judge (TSTR), beside judges fitted on
train and beside the generator's first row. Everything is paired by replicate, and intervals are of the differences.
"""

import numpy as np
import pandas as pd
from tabulate import tabulate

from leaderboards.intervals import intervals
from leaderboards.rank import Board

FIRST = "first"
COLUMNS = [  # title, score, what is taken off it
    column
    for m in ("auroc", "auprc")
    for column in (
        (f"{m.upper()} ↑", f"tstr_{m}", ""),
        ("less TRTR", f"tstr_{m}", f"trtr_{m}"),
        ("less TRTR, weighted", f"tstr_{m}", f"trtr_weighted_{m}"),
        ("less {first}", f"tstr_{m}", FIRST),
    )
]
SCORES = {score for _, *two in COLUMNS for score in two} - {"", FIRST}
READ = ["generator", "arm_of", "reference", "replicate", "metric", "value", "se", "n_train", "n_holdout"]


def tables(board: Board, dataset: str) -> str:
    """A table per judge, their mean first, or "" where no generator has more than one row that was judged."""
    frame = board.by_name[dataset]
    wanted = [m for m in frame["metric"].unique() if m.partition("/")[0] in SCORES]
    if not wanted:
        return ""
    frame = frame.loc[frame["metric"].isin(wanted), READ]
    names = frame["metric"].str.partition("/")
    frame = frame.assign(score=names[0], judge=names[2])
    judged = frame[(frame["score"] == "tstr_auroc") & frame["value"].notna()]
    held = set(judged["generator"])
    whole = [g for g in board.order if g in held and board.whole(dataset, g) and not board.shared_study(dataset, g)]
    arms = judged[judged["generator"].isin(whole) & (judged["arm_of"] != judged["generator"])]
    if arms.empty:
        return ""
    each = _differences(frame[frame["generator"].isin(whole)])
    found = intervals(each, ["judge", "generator", "column"], "value", "se")
    found = found[found["mean"].notna()]
    texts = {
        key: _text(mean, mean - low, key[2])
        for key, mean, low in zip(found.index, found["mean"], found["low"], strict=True)
    }
    shown = [c for c in range(len(COLUMNS)) if (found.index.get_level_values("column") == c).any()]
    first = arms["arm_of"].iloc[0] if arms["arm_of"].nunique() == 1 else "its first"
    titles = [COLUMNS[c][0].format(first=first) for c in shown]
    judges = ["", *sorted(set(judged["judge"]) - {""})]
    references = set(frame.loc[frame["reference"], "generator"])
    parts = [
        "Arms: rows of one generator beside its first, and beside judges fitted on train (TRTR; weighted: with classes "
        "weighted alike), paired by replicate."
    ]
    for judge in judges if len(judges) > 2 else judges[:1]:
        rows = [[f"*{g}*" if g in references else g, *(texts.get((judge, g, c), "–") for c in shown)] for g in whole]
        head = f"TSTR, judged by {judge}" if judge else "TSTR, mean over judges"
        parts.append(tabulate(rows, [head, *titles], tablefmt="github", disable_numparse=True))
    return "\n\n".join(parts)


def _differences(frame: pd.DataFrame) -> pd.DataFrame:
    """Value and error of every column of COLUMNS, per judge, generator and replicate."""
    names = {c: pd.Index(frame[c].unique()) for c in ("score", "generator", "replicate", "judge")}
    at = {c: known.get_indexer(frame[c]) for c, known in names.items()}
    values = np.full([len(known) for known in names.values()], np.nan)
    values[tuple(at.values())] = frame["value"]
    arm = names["generator"].get_indexer(frame["arm_of"])
    parts = []
    for column, (_, own, other) in enumerate(COLUMNS):
        rows = frame["score"].to_numpy() == own
        if other == FIRST:
            rows &= (frame["arm_of"] != frame["generator"]).to_numpy()
        mine = frame[rows].assign(column=column)
        if other:
            score = names["score"].get_indexer([own if other == FIRST else other])[0]
            who = (arm if other == FIRST else at["generator"])[rows]
            off = np.where(
                (who < 0) | (score < 0), np.nan, values[score, who, at["replicate"][rows], at["judge"][rows]]
            )
            mine = mine.assign(value=mine["value"] - off, se=float("nan"))
        parts.append(mine)
    return pd.concat(parts, ignore_index=True)


def _text(mean: float, half: float, column: int) -> str:
    """A mean with half the width of its interval; a difference with its sign."""
    said = "" if pd.isna(half) else f" ±{half:.3f}"
    return f"{round(mean, 3) + 0.0:{'+' if COLUMNS[column][2] else ''}.3f}{said}"
