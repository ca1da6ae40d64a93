"""A report from a board, what its cells cost, and views of what they drew: what stands on the page, in which order."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from leaderboards import figures, findings, render
from leaderboards.board_pictures import critical
from leaderboards.choices import front
from leaderboards.page import Section, page, table
from leaderboards.rank import CEILING, FAMILIES, Board
from leaderboards.render import KEY
from leaderboards.standing import Standing
from metrics import METRICS

FOLDED = 10  # rows of a table beside the first that stands open
COSTS = {"tune_s": "tune, s", "fit_s": "fit, s", "sample_s_per_1k": "draw 1,000, s", "peak_memory_mb": "memory, MiB"}
Views = Mapping[str, Mapping[str, Mapping[str, Any]]]  # dataset -> generator -> view


def report(board: Board, costs: pd.DataFrame, views: Views, *, title: str, about: str, foot: str, mark: str) -> str:
    """The page. costs: the frame of bench/collect.py's `cost_frame`. views: of bench/views.py, of some replicate.
    mark: see `page`."""
    said = render.sections(board)
    first, sure, shapes, off = (said.pop(k, []) for k in ("", render.SURE, render.SHAPES, render.NOT_DONE))
    standings = [Standing(board, family) for family in FAMILIES]
    parts = [
        Section("Findings", "\n".join(f"- {sentence}" for sentence in findings.sentences(board))),
        Section("Board", f"{first[0]}\n\n{render.HOW_TO_READ}", before=_ranking(board, standings, costs)),
        Section("Trade-offs", figures=_pareto(board, costs)),
        Section(render.SURE, "\n\n".join(sure), figures.duels(standings), stills=_diagrams(standings)),
        Section(render.SHAPES, "\n\n".join(shapes)),
    ]
    for dataset, texts in said.items():
        here = views.get(dataset, {})
        made = figures.of_dataset(here)
        picks = [g for g in board.order if g in here and g != CEILING]  # whose curves are always shown
        whole = [text for text in texts if text]
        beside = [text for text in whole[2:] if text.count("\n|") > FOLDED]
        text = "\n\n".join(text for text in whole if text not in beside)
        folds = [("Tuned parameters", tuned)] if (tuned := _tuned(board, dataset)) else []
        folds += [(f"{re.split('[:.,]', text)[0]}: tables", text) for text in beside]
        parts.append(Section(dataset, text, made, picks, folds=folds))
    parts += [Section("Cost", _costs(costs)), Section("Scores in short", _glossary(board))]
    parts += [Section(render.NOT_DONE, "\n\n".join(off))] if off else []
    shown = [p for p in parts if p.text or p.figures or p.before]
    return page(title, about, shown, foot=foot, mark=mark)


def _ranking(board: Board, standings: list[Standing], costs: pd.DataFrame) -> str:
    """The board as a table that can be sorted and filtered."""
    spent = costs.groupby("generator")[[c for c in COSTS if c in costs]].mean() if len(costs) else pd.DataFrame()
    letters = {s.family: s.letters for s in standings}
    heads = ["generator"]
    for family in FAMILIES:
        heads += [f"{family} ↑", "group"]
    heads += ["cells done", *(title for c, title in COSTS.items() if c in spent and spent[c].notna().any())]
    rows, kinds = [], []
    for g in board.order:
        mine = board.cells_of[g]
        row: list[Any] = [g]
        for family in FAMILIES:
            mean = board.families.loc[g, (family, "mean")]
            row += [
                (render.family(board, g, family), "" if pd.isna(mean) else f"{mean:.6g}"),
                letters[family].get(g, ""),
            ]
        row.append(f"{(mine['status'] == 'done').sum()}/{len(mine)}")
        for c, title in COSTS.items():
            if title in heads:
                known = g in spent.index and pd.notna(spent.loc[g, c])
                row.append((f"{spent.loc[g, c]:,.3g}", spent.loc[g, c]) if known else "–")
        rows.append(row)
        kinds.append("reference" if mine["reference"].any() else "untuned" if (mine["untuned_of"] != "").any() else "")
    return _filter([kind for kind in ("reference", "untuned") if kind in kinds]) + table(
        heads, rows, id="ranking", kinds=kinds
    )


def _filter(kinds: list[str]) -> str:
    """Controls over the ranking: words, and kinds of rows to show."""
    boxes = "".join(f'<label><input type="checkbox" name="{kind}" checked> {kind} rows</label>' for kind in kinds)
    words = '<input type="search" name="text" placeholder="filter by words" aria-label="filter by words">'
    return f'<form id="filter" class="controls">{words}{boxes}<span class="count"></span></form>'


def _pareto(board: Board, costs: pd.DataFrame) -> list[figures.Figure]:
    """Fidelity and utility against privacy."""
    names = [g for g in board.order if board.families.loc[g, [(f, "mean") for f in FAMILIES]].notna().any()]
    if len(names) < 2:
        return []
    spent: dict[str, float] = {}
    if len(costs):
        seconds = costs["fit_s"] + costs["sample_s_per_1k"]
        spent = seconds.groupby(costs["generator"]).mean().dropna().to_dict()
    ranked = [g for g in names if not board.unranked[g]]
    means = board.families.loc[ranked, [(f, "mean") for f in FAMILIES]].to_numpy(float)
    cheap = np.array([-spent.get(g, np.nan) for g in ranked])
    best, cheapest = (
        {g for g, on in zip(ranked, front(values), strict=True) if on}
        for values in (means, np.column_stack([means[:, 1:], cheap]))
    )
    points = {
        g: {
            **{f: [_known(board.families.loc[g, (f, k)]) for k in ("mean", "low", "high")] for f in FAMILIES},
            "cost_s": spent.get(g), "reference": bool(board.unranked[g]),
            "front": g in best, "front_cost": g in cheapest,
        }
        for g in names
    }  # fmt: skip
    return [figures.pareto(points, "privacy", up) for up in ("utility", "fidelity")]


def _known(value: float) -> float | None:
    return None if pd.isna(value) else float(value)


def _diagrams(standings: list[Standing]) -> list[tuple[str, bytes, str]]:
    """Critical-difference diagrams, where there are datasets enough to rank over."""
    out = []
    for standing in standings:
        if standing.critical is not None:
            about = "Mean ranks over datasets, the best to the left; a bar joins generators that cannot be told apart."
            out.append((f"{standing.family.capitalize()}: mean ranks", critical(standing, title=""), about))
    return out


def _tuned(board: Board, dataset: str) -> str:
    """What each tuned cell of a dataset took, "" where there is none."""
    cells = board.cells[(board.cells["dataset"] == dataset) & board.cells["tuning"].notna()]
    rows = [
        f"| {c['generator']} | {c['replicate']} | `{json.dumps(c['tuning']['params'], sort_keys=True)}` |"
        for c in cells.to_dict("records")
    ]
    return "\n".join(["| generator | replicate | parameters |", "|---|---|---|", *rows]) if rows else ""


def _costs(costs: pd.DataFrame) -> str:
    return render.costs(costs).partition("\n\n")[2] if len(costs) else ""


def _glossary(board: Board) -> str:
    """What each score of the datasets' tables is."""
    there = set(board.frame["metric"])
    rows = []
    for name, short in KEY.items():
        if name in there:
            row = METRICS[name.partition("/")[0]]
            rows.append(f"| {short} {'↑' if row.up else '↓'} | `{name}` | {row.about} | {row.fooled or '–'} |")
    return "\n".join(["| here | name | what it is | fooled by |", "|---|---|---|---|", *rows]) if rows else ""
