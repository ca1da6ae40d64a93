"""Tuning: what the search found on the inner split of train, and what it is worth on holdout, beside the defaults.

Holdout differences are paired by replicate; a row whose replicates share one study has none.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate

from leaderboards.intervals import intervals
from leaderboards.rank import Board

# what is told of the holdout: score -> title, decimals
HOLDOUT = {
    "c2st_auroc_gap": ("c2st ↓", 3),
    "cmd_denoised_distance": ("cmd denoised ↓", 5),
    "tstr_auprc": ("TSTR AUPRC ↑", 3),
    "mia_distance_auroc_gap": ("MIA distance ↓", 3),
}
STATES = ("done", "infeasible", "pruned", "failed", "timeout")


def tables(board: Board, dataset: str) -> str:
    """A table of the tuned rows of a dataset, or "" where there is none."""
    cells = board.cells[(board.cells["dataset"] == dataset) & board.cells["tuning"].notna()]
    if cells.empty:
        return ""
    tuned = [g for g in board.order if (cells["generator"] == g).any()]
    beside = _beside(board, dataset)
    shown = [m for m in HOLDOUT if any((g, m) in beside.index for g in tuned)]
    rows, notes = [], []
    for generator in tuned:
        mine = cells[cells["generator"] == generator]
        inner = _inner(mine.head(1) if board.shared_study(dataset, generator) else mine)
        found = [_text(beside, (generator, m), HOLDOUT[m][1], sign=True) for m in shown]
        before, after, gain = (
            _text(inner, (which,), 3, sign=which == "gain") for which in ("default", "value", "gain")
        )
        rows.append([generator, _trials(list(mine["tuning"])), before, after, gain, *found])
        notes += _notes(board, dataset, generator, mine)
    heads = ["generator", "trials", "inner: defaults ↑", "tuned ↑", "gain", *(HOLDOUT[m][0] for m in shown)]
    if shown:
        heads[5] = f"holdout, tuned less untuned: {heads[5]}"
    text = tabulate(rows, heads, tablefmt="github", disable_numparse=True)
    for what, why in (("left_out", "not in the objective, for want of resolution on the inner split"),
                      ("unchecked", "no bound, for it is not defined on the inner split")):  # fmt: skip
        names = sorted({n for t in cells["tuning"] for n in t.get(what) or ()})
        notes += [f"{why}: {', '.join(names)}"] if names else []
    said = "; ".join(notes)
    return "\n\n".join(p for p in (_about(next(iter(cells["tuning"]))), text, f"{said}." if said else "") if p)


def _about(tuning: Mapping[str, Any]) -> str:
    """The budget and the objective, which are the same for every row."""
    if "from" in tuning:
        return f"Tuning: parameters of `{tuning['from']}`, found by earlier studies; no study was run here."
    amounts = [f"{tuning['trials_asked']} trials"] if tuning["trials_asked"] else []
    amounts += [f"{tuning['time_s']:,.0f} s"] if tuning["time_s"] else []
    each = f", at most {tuning['trial_s']:,.0f} s a trial" if tuning["trial_s"] else ""
    bounds = ", ".join(f"{name} {bound:g}" for name, bound in tuning["privacy"].items())
    where = "a replicate" if tuning["per"] == "replicate" else "a dataset, on replicate 0"
    return (
        f"Tuning: {' or '.join(amounts)} {where}{each}, the same for every generator, on an inner split of train. "
        f"Objective: {' and '.join(tuning['objective'])}, 0 at the floor and 1 at the ceiling of the inner split. "
        + (f"A trial may not exceed {bounds}." if bounds else "No bound on privacy.")
    )


def _trials(tunings: Sequence[Mapping[str, Any]]) -> str:
    """How many trials ended how, over all replicates; a shared study counts once."""
    if "from" in tunings[0]:
        return "–"
    if tunings[0]["per"] == "dataset":
        tunings = tunings[:1]
    counts = {s: sum(t["trials"].get(s, 0) for t in tunings) for s in STATES}
    off = ", ".join(f"{k} {s}" for s, k in counts.items() if k and s != "done")
    return f"{sum(counts.values())}" + (f" ({off})" if off else "")


def _inner(mine: pd.DataFrame) -> pd.DataFrame:
    """Mean and interval of the objective (of two, their mean) at the defaults, at what was taken, and the gain."""
    parts = []
    for cell in mine.to_dict("records"):
        before, after = (_mean(cell["tuning"][k]) for k in ("default", "value"))
        known = before is not None and after is not None
        values = {"default": before, "value": after, "gain": after - before if known else None}  # type: ignore[operator]
        parts += [{"which": k, "value": v, **{x: cell[x] for x in ("n_train", "n_holdout")}} for k, v in values.items()]
    frame = pd.DataFrame(parts).astype({"value": float}).assign(se=float("nan"))
    return intervals(frame, ["which"], "value", "se")


def _mean(values: Sequence[float] | None) -> float | None:
    return sum(values) / len(values) if values else None


def _beside(board: Board, dataset: str) -> pd.DataFrame:
    """Tuned less untuned on holdout, paired by replicate; index (generator, metric)."""
    frame = board.by_name[dataset]
    frame = frame[frame["metric"].isin(HOLDOUT)]
    keys = ["generator", "replicate", "metric"]
    untuned = frame.loc[frame["untuned_of"] != "", ["untuned_of", *keys[1:], "value"]].set_axis([*keys, "off"], axis=1)
    mine = frame[frame["tuning"].notna()].merge(untuned, on=keys)
    paired = np.array([not board.shared_study(dataset, g) for g in mine["generator"]], dtype=bool)
    mine = mine[paired]
    return intervals(
        mine.assign(value=mine["value"] - mine["off"], se=float("nan")), ["generator", "metric"], "value", "se"
    )


def _notes(board: Board, dataset: str, generator: str, mine: pd.DataFrame) -> list[str]:
    """What must be known of a row."""
    said = []
    if board.shared_study(dataset, generator):
        said.append(f"`{generator}`: tuned on replicate 0 alone, whose train holds holdout rows of the others")
    marks: dict[str, list[str]] = {}
    for cell in mine.to_dict("records"):
        if cell["tuning"]["mark"]:
            marks.setdefault(cell["tuning"]["mark"], []).append(str(cell["replicate"]))
    for mark, replicates in marks.items():
        where = "" if len(replicates) == len(mine) else f" in replicate {', '.join(replicates)}"
        said.append(f"`{generator}` keeps its defaults{where}: {mark}")
    over = [t for t in mine["tuning"] if t.get("default_state") == "infeasible" and not t["mark"]]
    if over:
        said.append(f"`{generator}`: its defaults exceed the bounds on privacy, in {len(over)} of {len(mine)}")
    return said


def _text(found: pd.DataFrame, key: tuple[str, ...], places: int, *, sign: bool) -> str:
    """A mean with its interval; a difference with its sign."""
    at = key if len(key) > 1 else key[0]
    if at not in found.index or pd.isna(found.loc[at, "mean"]):
        return "–"
    one = found.loc[at]
    half = "" if pd.isna(one["low"]) else f" ±{one['mean'] - one['low']:.{places}f}"
    return f"{round(one['mean'], places) + 0.0:{'+' if sign else ''}.{places}f}{half}"
