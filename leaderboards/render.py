"""A board as Markdown, CSV and JSON. The same frame gives the same bytes."""

import json
from collections.abc import Mapping
from math import floor
from typing import Any

import pandas as pd
from tabulate import tabulate

from leaderboards import arms, rare, standing_tables, tuning
from leaderboards.rank import CELL, FAMILIES, Board
from leaderboards.standing import Standing
from leaderboards.words import fixed, many
from metrics import METRICS

# what a dataset's table shows, left to right, where it has values; the CSV holds everything
KEY = {
    "c2st_auroc_gap": "c2st",
    "cmd_distance": "cmd",
    "cmd_denoised_distance": "cmd denoised",
    "mmd_distance": "mmd",
    "prevalence_spearman_score": "prevalence ρ",
    "mcad_distance": "mcad",
    "ks_gap": "ks",
    "tvd_gap": "tvd",
    "missing_rate_gap": "missing",
    "tstr_auroc": "TSTR AUROC",
    "tstr_auprc": "TSTR AUPRC",
    "boost_f1_score/xgb/100/half/gain": "boost F1 gain",
    "air_excess_risk": "AIR excess",
    "mir_excess_risk": "MIR excess",
    "mia_distance_auroc_gap": "MIA distance",
    "mia_density_auroc_gap": "MIA density",
}
CONDITION = {
    "condition_rate_score": "rate ↑",
    "condition_prevalence_error": "log-odds error ↓",
    "condition_cmd_distance": "cmd ↓",
}
AUGMENTED = {
    "boost_auprc/xgb/100/gain": "AUPRC, xgb",
    "boost_auprc/rf/100/gain": "AUPRC, rf",
    "boost_auroc/xgb/100/gain": "AUROC, xgb",
    "boost_auroc/rf/100/gain": "AUROC, rf",
    "balanced_tstr_auprc/xgb/balanced/gain": "TSTR AUPRC, xgb",
    "balanced_tstr_auprc/xgb/weighted/gain": "TSTR by weights",
}
FREE = {"oversampled": "train's positives repeated", "weighted": "classes weighted alike"}  # need no generator
DECIMALS = {"cmd_distance": 4, "cmd_denoised_distance": 5, "mmd_distance": 5}  # the others have 3
CONTROLS = {
    "trtr_auroc": "TRTR AUROC",
    "trtr_auprc": "TRTR AUPRC",
    "boost_f1_score/xgb/weighted/half/gain": "F1 gain of class weights",
    "boost_f1_score/xgb/oversampled/half/gain": "of oversampling",
    "boost_f1_score/xgb/0/best": "F1 at a moved threshold",
}
NOT_DONE, SURE, SHAPES = "Not done", "How sure is this order", "By shape"
FEW = 5  # replicates
NO_SCORES = '\n "scores": [],'  # the one field of many rows, which json.dumps would indent slowly
_flat = json.JSONEncoder(ensure_ascii=False, separators=(",\n   ", ": ")).encode
STATUSES = ("done", "failed", "timeout", "skipped", "missing")
HOW_TO_READ = """\
Rows go by name: no order over all families is given. Family means: 0 is the floor (`marginal`, `uniform` or chance; for
privacy `copycat`), 1 the ceiling (`copycat`; for privacy an attack at chance), a mean over the scores that can tell
good from bad on a dataset (each clipped to −1 to 1.5), datasets counting equally. ± is the half-width of the 95 %
interval. ↑ more is better, ↓ less. References, in italics, are lines to read the others by, never ranked. # is the rank
in a family; generators with a letter in common cannot be told apart there. ° the generator was not made for this shape.
(In brackets) resolution under 3: cannot tell good from bad here, not in the means. Distances to the nearest record are
weak evidence of privacy: a low risk is no certificate."""


def markdown(board: Board, *, title: str, about: str = "") -> str:
    """The board as Markdown."""
    parts = [f"# {title}", about]
    for name, texts in sections(board).items():
        parts += [f"## {name}" if name else "", *texts]
    return "\n\n".join(p for p in parts if p) + "\n"


def sections(board: Board) -> dict[str, list[str]]:
    """What a board says, as Markdown by heading; under "" what stands first, and a heading for each dataset."""
    out = {"": [counts(board), _ranking(board), HOW_TO_READ], SURE: standing_tables.section(board)}
    out[SHAPES] = _shapes(board)
    out |= {dataset: _dataset(board, dataset) for dataset in board.datasets}
    out[NOT_DONE] = _not_done(board)
    return {name: texts for name, texts in out.items() if texts}


def csv(board: Board) -> str:
    """Every score as one row: its mean, interval, and what it is normalised by."""
    return rows(board).to_csv(index=False, float_format="%.6g", lineterminator="\n")


def as_json(board: Board, *, title: str, about: str = "") -> str:
    """Ranking, scores and cells that are not done, as JSON."""
    references = set(board.cells.loc[board.cells["reference"], "generator"])
    fields = ("mean", "low", "high", "rank", "gap")
    ranking = [
        {"generator": g, "reference": g in references}
        | {f: {k: _number(board.families.loc[g, (f, k)]) for k in fields} for f in FAMILIES}
        for g in board.order
    ]
    off = board.cells[board.cells["status"] != "done"]
    out = {
        "title": title,
        "about": about,
        "ranking": ranking,
        "scores": [],
        "tuning": [
            {**{k: cell[k] for k in ("dataset", "generator", "replicate")}, **_rounded(cell["tuning"])}
            for cell in board.cells.to_dict("records")
            if cell["tuning"]
        ],
        "not_done": off[["dataset", "generator", "replicate", "status", "reason"]].to_dict("records"),
    }
    before, after = json.dumps(out, indent=1, ensure_ascii=False).split(NO_SCORES)
    scores = [_flat({k: _number(v) for k, v in row.items()}) for row in rows(board).to_dict("records")]
    laid_out = ",\n".join(f"  {{\n   {score[1:-1]}\n  }}" for score in scores)
    return f"{before}{NO_SCORES[:-2]}\n{laid_out}\n ],{after}\n"


def rows(board: Board) -> pd.DataFrame:
    """Every score's mean, interval, status, floor, ceiling, resolution and normalised value, as one table."""
    facts = board.frame.drop_duplicates(CELL).set_index(CELL)[["native", "reference"]]
    for column, usual in (("undefined", ""), ("status", "done")):
        other = board.frame[board.frame[column] != usual].drop_duplicates(CELL).set_index(CELL)[column]
        facts[column] = other.reindex(facts.index).fillna(usual)
    table = facts.join(board.summary.drop(columns="se")).reset_index()
    table = table.merge(board.scales.drop(columns="usable"), how="left", on=["dataset", "metric"])
    width = table["ceiling"] - table["floor"]
    return table.assign(normalised=((table["mean"] - table["floor"]) / width).where(width != 0) + 0.0)  # no -0


def costs(frame: pd.DataFrame) -> str:
    """What cells cost, as Markdown. frame: dataset, generator, then one column per cost, means over replicates."""
    shown = [
        ["" if pd.isna(v) else f"{v:,.4g}" if isinstance(v, float) else v for v in row] for row in frame.to_numpy()
    ]
    align = ["left", "left", *["right"] * (frame.shape[1] - 2)]
    text = tabulate(
        shown, list(frame.columns), tablefmt="github", disable_numparse=True, colalign=align if shown else None
    )
    about = (
        "Seconds, MiB and counts, means over replicates; memory up to sampling. fit_shared: share of the replicates\n"
        "whose fit was made for another row that differs only in how it samples, and is shown here again."
    )
    return f"# Cost\n\n{about}\n\n{text}\n"


# --- parts of a board ---


def counts(board: Board) -> str:
    """How many cells there are and how they ended, in words."""
    cells, status = board.cells, board.cells["status"].value_counts()
    said = ", ".join(f"{status[s]} {s}" for s in STATUSES if s in status)
    replicates = cells["replicate"].nunique()
    few = " One replicate: intervals are a resampling of the holdout alone." if replicates == 1 else ""
    if 1 < replicates < FEW:
        few = f" {replicates} replicates are few: intervals are wide, and little can be told apart."
    return (
        f"{many(cells['dataset'].nunique(), 'dataset')} × {many(cells['generator'].nunique(), 'generator')} × "
        f"{many(replicates, 'replicate')} = {many(len(cells), 'cell')}: {said}.{few}"
    )


def _ranking(board: Board) -> str:
    letters = {f: Standing(board, f).letters for f in FAMILIES}
    table = []
    for name in board.order:
        mine = board.cells_of[name]
        done = f"{(mine['status'] == 'done').sum()}/{len(mine)}"
        shown = [f"{family(board, name, f)} {letters[f].get(name, '')}".rstrip() for f in FAMILIES]
        table.append([_label(mine, "" if mine["native"].any() else " °"), *shown, done])
    heads = ["generator", *(f"{f} ↑" for f in FAMILIES), "cells done"]
    align = ("left", "right", "right", "right", "right")
    text = tabulate(table, headers=heads, tablefmt="github", disable_numparse=True, colalign=align)
    gaps = {g: {board.families.loc[g, (f, "gap")] for f in FAMILIES} - {""} for g in board.order}
    reasons = {g: ", ".join(sorted(why)) for g, why in gaps.items() if why}
    if len(set(reasons.values())) == 1 and len(reasons) == len(gaps) > 1:
        return f"{text}\n\n– no mean, for all alike: {next(iter(reasons.values()))}."
    said = "; ".join(f"`{g}`: {why}" for g, why in reasons.items())
    return f"{text}\n\n– no mean: {said}." if said else text


def _shapes(board: Board) -> list[str]:
    """The ranking over the datasets of each shape, where there are several."""
    names = board.cells.drop_duplicates("dataset").groupby("shape", sort=False)["dataset"].agg(list)
    if len(names) < 2:
        return []
    parts = []
    for shape, datasets in names.items():
        parts += [f"### {shape}", f"Over {', '.join(datasets)}.", _ranking(board.of_shape(shape))]
    return parts


def family(board: Board, name: str, which: str) -> str:
    """A generator's mean of a family as text: mean, half-width of its interval, rank; "–" where it has none."""
    found = board.families.loc[name, which]
    if pd.isna(found["mean"]):
        return "–"
    half = "" if pd.isna(found["low"]) else f" ±{found['mean'] - found['low']:.2f}"
    return f"{fixed(found['mean'], 2)}{half}" + ("" if pd.isna(found["rank"]) else f" #{found['rank']:.0f}")


def _dataset(board: Board, name: str) -> list[str]:
    cells = board.cells[board.cells["dataset"] == name]
    done = cells[cells["status"] == "done"]
    if done.empty:
        return [f"No cell is done: {cells['reason'].iloc[0] or cells['status'].iloc[0]}."]
    first = done.iloc[0]
    facts = [first["shape"], f"{first['n_train']:,.0f} train and {first['n_holdout']:,.0f} holdout subjects"]
    if first["subset"]:
        facts.append(f"**a subset: {first['subset']}**")
    known = {metric for dataset, _, metric in board.means if dataset == name}
    shown = [m for m in KEY if m in known]
    table = []
    mine = dict(iter(cells.groupby("generator", sort=False)))
    for generator in (g for g in board.order if g in mine):
        mark = "" if mine[generator]["native"].all() else " °"
        table.append([_label(mine[generator], mark), *(_cell(board, name, generator, m) for m in shown)])
    heads = ["generator", *(_head(board, name, m) for m in shown)]
    text = tabulate(table, headers=heads, tablefmt="github", disable_numparse=True)
    facts_line = f"{'; '.join(facts)}. {_controls(board, done)}"
    beside = [arms.tables(board, name), rare.tables(board, name) or _augmented(board, name, mine, known)]
    beside += [_guidance(board, name, mine, known), tuning.tables(board, name)]
    return [facts_line, text, _weak(board, name, known), _unable(board, name), *beside]


def _augmented(board: Board, name: str, mine: Mapping[str, pd.DataFrame], known: set[str]) -> str:
    """What positives gain a judge, drawn until balance, beside the controls that need no generator.

    mine: the cells of each generator on this dataset; known: metrics with a value there.
    """
    shown = [m for m in AUGMENTED if m in known]
    table = []
    for generator in board.order:
        found = [_cell(board, name, generator, m) for m in shown] if board.whole(name, generator) else []
        if any(v != "undefined" for v in found):
            one = generator
            table.append([_label(mine[generator]), *("–" if v == "undefined" else v for v in found)])
    if not table:
        return ""
    for control, text in FREE.items():
        own = [_cell(board, name, one, m.replace("/100/", f"/{control}/")) if "/100/" in m else "–" for m in shown]
        table.append([f"*{text}*", *own])
    heads = ["gain of", *(f"{AUGMENTED[m]} ↑" for m in shown)]
    said = "Positives drawn until balance, added to train, or to synth (TSTR), against the same judge without them:"
    return said + "\n\n" + tabulate(table, heads, tablefmt="github", disable_numparse=True)


def _guidance(board: Board, name: str, mine: Mapping[str, pd.DataFrame], known: set[str]) -> str:
    """Subjects drawn for conditions and for texts, where a suite asks for them; never part of a mean."""
    metrics = board.summary.index.get_level_values("metric").unique()
    asked = dict.fromkeys(m.partition("/")[2] for m in metrics if m in known)
    conditions = [c for c in asked if c not in ("", "target") and f"condition_rate_score/{c}" in known]
    table, said = [], []
    for generator in (g for g in board.order if g in mine):
        for condition in conditions:
            found = [_cell(board, name, generator, f"{metric}/{condition}") for metric in CONDITION]
            table.append([condition, _label(mine[generator]), *("–" if v == "undefined" else v for v in found)])
        met, gain = (_cell(board, name, generator, m) for m in ("prompt_accuracy_score", "prompt_gain_score"))
        if board.whole(name, generator) and met != "undefined":
            said.append(f"`{generator}` meets {met} of what prompts say, {gain} more than with shuffled prompts.")
    parts = []
    if table:
        order = {c: i for i, c in enumerate(sorted(conditions))}
        heads = ["condition", "generator", *CONDITION.values()]
        rows = sorted(table, key=lambda row: order[row[0]])
        parts.append("Drawn for a condition:\n\n" + tabulate(rows, heads, tablefmt="github", disable_numparse=True))
    return "\n\n".join([*parts, *said])


def _label(mine: pd.DataFrame, mark: str = "") -> str:
    """A generator's name from its cells: references in italics, others with a mark."""
    name = mine["generator"].iloc[0]
    return f"*{name}*" if mine["reference"].any() else f"{name}{mark}"


def _head(board: Board, dataset: str, metric: str) -> str:
    row = METRICS[metric.split("/")[0]]
    text = f"{KEY[metric]} {'↑' if row.up else '↓'}"
    key = (dataset, metric)
    usable = key in board.scales.index and board.scales.loc[key, "usable"]
    return f"({text})" if row.ranked and not usable else text


def _cell(board: Board, dataset: str, generator: str, metric: str) -> str:
    """One score of a generator that has cells on a dataset."""
    off = board.off(dataset, generator)
    if off:
        return off
    key = (dataset, generator, metric)
    if key not in board.means:
        return "undefined"
    mean, half = board.means[key][0], board.halves[key]
    places = DECIMALS.get(metric, 3)
    return fixed(mean, places) + ("" if pd.isna(half) else f" ±{half:.{places}f}")


def _controls(board: Board, done: pd.DataFrame) -> str:
    """TRTR, which is the same for every generator."""
    where = (done["dataset"].iloc[0], done["generator"].iloc[0])
    said = [
        f"{text} {_cell(board, *where, metric)}" for metric, text in CONTROLS.items() if (*where, metric) in board.means
    ]
    return f"Train itself: {', '.join(said)}." if said else ""


def _weak(board: Board, name: str, known: set[str]) -> str:
    """Ranked scores left out of the family means here, and why."""
    left = []
    for metric in (m for m in METRICS if m in known and METRICS[m].ranked):
        if (name, metric) not in board.scales.index:
            left.append(f"{metric} (no reference)")
        elif not board.scales.loc[(name, metric), "usable"]:
            resolution = board.scales.loc[(name, metric), "resolution"]
            left.append(
                f"{metric} ({'unknown' if pd.isna(resolution) else f'{floor(10 * resolution + 1e-9) / 10:.1f}'})"
            )
    return f"Left out of the means for want of resolution: {', '.join(left)}." if left else ""


def _unable(board: Board, name: str) -> str:
    """Downstream models that cannot judge here, even fitted on train."""
    rows = board.by_name[name]
    here = rows[rows["undefined"].str.startswith("no judge here")]
    judges = ", ".join(sorted({m.split("/")[1] for m in here["metric"]}))
    return f"No judge in every replicate, so left out of means over judges there: {judges}." if judges else ""


def _not_done(board: Board) -> list[str]:
    off = board.cells[board.cells["status"] != "done"]
    if off.empty:
        return []
    keys = ["dataset", "generator", "status", "reason"]
    grouped = off.groupby(keys, sort=False)["replicate"].apply(list).reset_index()
    table = [
        [r.dataset, r.generator, ", ".join(map(str, r.replicate)), r.status, r.reason] for r in grouped.itertuples()
    ]
    heads = ["dataset", "generator", "replicates", "status", "reason"]
    return [tabulate(table, headers=heads, tablefmt="github", disable_numparse=True)]


def _rounded(value: Any) -> Any:
    """The numbers in nested lists and mappings, to six significant digits."""
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, list | tuple) else _number(value)


def _number(value: Any) -> Any:
    """A number to six significant digits, so that a board does not depend on the last bits of a sum."""
    if not isinstance(value, float):
        return value
    if pd.isna(value):
        return None
    return "inf" if abs(value) == float("inf") else float(f"{value:.6g}")
