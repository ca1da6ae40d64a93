"""Arms, rows of one generator that differ in their parameters: what each gains a judge (TSTR), beside judges fitted on
train and beside the generator's first row. Everything is paired by replicate, and intervals are of the differences.
"""

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


def tables(board: Board, dataset: str) -> str:
    """A table per judge, their mean first, or "" where no generator has more than one row that was judged."""
    frame = board.frame[board.frame["dataset"] == dataset]
    names = frame["metric"].str.partition("/")
    frame = frame.assign(score=names[0], judge=names[2])
    judged = frame[(frame["score"] == "tstr_auroc") & frame["value"].notna()]
    whole = [
        g for g in board.order
        if (judged["generator"] == g).any() and board.whole(dataset, g) and not board.shared_study(dataset, g)
    ]  # fmt: skip
    arms = judged[judged["generator"].isin(whole) & (judged["arm_of"] != judged["generator"])]
    if arms.empty:
        return ""
    each = _differences(frame[frame["generator"].isin(whole)])
    found = intervals(each, ["judge", "generator", "column"], "value", "se")
    found = found[found["mean"].notna()]
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
        rows = [[f"*{g}*" if g in references else g, *(_text(found, (judge, g, c)) for c in shown)] for g in whole]
        head = f"TSTR, judged by {judge}" if judge else "TSTR, mean over judges"
        parts.append(tabulate(rows, [head, *titles], tablefmt="github", disable_numparse=True))
    return "\n\n".join(parts)


def _differences(frame: pd.DataFrame) -> pd.DataFrame:
    """Value and error of every column of COLUMNS, per judge, generator and replicate."""
    parts = []
    for column, (_, own, other) in enumerate(COLUMNS):
        mine = frame[frame["score"] == own].assign(column=column)
        if other:
            who = "arm_of" if other == FIRST else "generator"
            beside = frame[frame["score"] == (own if other == FIRST else other)]
            off = beside.set_index(["generator", "replicate", "judge"])["value"].rename("off")
            mine = mine.join(off, on=[who, "replicate", "judge"])
            mine = mine.assign(value=mine["value"] - mine["off"], se=float("nan"))
        if other == FIRST:
            mine = mine[mine["arm_of"] != mine["generator"]]
        parts.append(mine)
    return pd.concat(parts, ignore_index=True)


def _text(found: pd.DataFrame, key: tuple[str, str, int]) -> str:
    """A mean with its interval; a difference with its sign."""
    if key not in found.index:
        return "–"
    one = found.loc[key]
    half = "" if pd.isna(one["low"]) else f" ±{one['mean'] - one['low']:.3f}"
    return f"{round(one['mean'], 3) + 0.0:{'+' if COLUMNS[key[2]][2] else ''}.3f}{half}"
