"""From a suite's cells in the store to the frame that leaderboards read, and to the boards on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import generators
from bench.cell import Cell, Record
from bench.errors import BenchError
from bench.store import Store
from bench.suite import Suite, cells

if TYPE_CHECKING:
    import pandas as pd

    from leaderboards.rank import Board

UP_TO_SAMPLING = ("start", "load", "split", "tune", "reload", "fit", "sample", "minority")


def records(
    suite: Suite, store: Store, data_dir: Path | None, *, scores: bool = True
) -> list[tuple[Any, Any, Record | None]]:
    """Every cell of a suite with its source and record: the stored one, a skip where it cannot run here, or None.

    scores: with the records' scores, which take most of the time that reading takes.
    """
    from bench.cell import Fault

    here = set(store.keys(""))
    out: list[tuple[Any, Any, Record | None]] = []
    for cell, source, why_not in cells(suite, data_dir):
        if why_not:
            record: Record | None = Record(cell, "skipped", Fault("", "", why_not))
        else:
            record = store.record(cell.key, scores=scores) if cell.key in here else None
        out.append((cell, source, record))
    return out


def frame(found: Sequence[tuple[Any, Any, Record | None]], metric_names: list[str]) -> pd.DataFrame:
    """The frame of leaderboards/__init__.py; a cell without a record is "missing"."""
    from leaderboards.scores import frame_of

    return frame_of(list(_cells(found, metric_names)))


def _cells(found: Sequence[tuple[Any, Any, Record | None]], metric_names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """Cells as leaderboards/scores.py takes them."""
    first: dict[str, str] = {}
    asked: dict[str, bool] = {}
    for cell, source, record in found:
        row = generators.find(cell.generator)
        facts = record.facts if record else {}
        scores = {}
        for name, score in (record.scores if record else {}).items():
            if name not in asked:
                asked[name] = name.split("/")[0] in metric_names
            if asked[name]:
                value = score.get("value")
                known = value is not None and value == value  # NaN is none
                scores[name] = (value, score.get("se")) if known else score.get("undefined", "")
        yield {
            "dataset": cell.dataset,
            "shape": source.row.shape,
            "subset": facts.get("subset", ""),
            "generator": cell.label,
            "arm_of": cell.label if cell.untuned_of else first.setdefault(cell.generator, cell.label),
            "untuned_of": cell.untuned_of,
            "tuning": facts.get("tuned"),
            "native": source.row.shape in row.native,
            "reference": row.family == "reference",
            "replicate": cell.replicate,
            "status": record.status if record else "missing",
            "reason": record.reason if record else "not run yet",
            "n_train": facts.get("n_train"),
            "n_holdout": facts.get("n_holdout"),
            "scores": scores,
        }


def spent(cell: Cell, store: Store) -> tuple[dict[str, dict[str, float]], bool]:
    """Seconds and peak memory of a cell by phase, and whether its fit was made for another cell.

    A fit that was loaded stands with what it cost when it was made, left out where that is not known.
    """
    phases = (store.note(cell.key, "cost") or {}).get("phases", {})
    if "reload" not in phases:
        return phases, False
    made = store.fit_cost(cell.fit_key)
    phases = {k: v for k, v in phases.items() if k != "fit"}
    if made is None:
        return phases, False
    return {**phases, "fit": {k: v for k, v in made.items() if k != "cell"}}, made["cell"] != cell.key


def cost_frame(found: Sequence[tuple[Any, Any, Record | None]], store: Store) -> pd.DataFrame:
    """What done cells cost: per dataset and generator the means over replicates."""
    import pandas as pd

    rows = []
    for cell, _, record in found:
        phases, shared = spent(cell, store) if record and record.status == "done" else ({}, False)
        if record is None or not phases:
            continue

        def seconds(name: str, phases: dict = phases) -> float | None:
            return phases[name]["seconds"] if name in phases else None

        study = store.study_result(cell.study.key) if cell.searched else None
        sampled, n = seconds("sample"), record.facts["n_synth"]
        rows.append(
            {
                "dataset": cell.dataset,
                "generator": cell.label,
                "tune_s": study["spent_s"] if study else None,
                "fit_s": seconds("fit"),
                "fit_shared": shared,
                "sample_s_per_1k": None if sampled is None else sampled / n * 1_000,
                "score_s": seconds("score"),
                "peak_memory_mb": max(
                    (p["peak_memory_mb"] for k, p in phases.items() if k in UP_TO_SAMPLING), default=None
                ),
                "n_parameters": record.facts["n_parameters"],
            }
        )
    table = pd.DataFrame(rows)
    return table if table.empty else table.groupby(["dataset", "generator"], sort=False).mean().reset_index()


def write_boards(suite: Suite, store: Store, data_dir: Path | None) -> dict[str, Path]:
    """Render a suite's boards from all its cells. Gives paths by name: those of `texts`, and "cost.md"."""
    from leaderboards import render

    found = records(suite, store, data_dir)
    scores, costs = scores_text(suite, found), render.costs(cost_frame(found, store))
    del found  # a long suite's records take gigabytes
    made = {**texts(scores), "cost.md": costs}
    return {name: store.save_board(suite.name, name, text) for name, text in made.items()}


def scores_text(suite: Suite, found: Sequence[tuple[Any, Any, Record | None]]) -> str:
    """The scores of a suite's cells as a file that boards are rendered from."""
    from leaderboards import scores

    about = {"suite": suite.name, "title": f"Board: {suite.name}", "about": suite.about}
    return scores.text_of(_cells(found, suite.metric_names), **about)


def texts(scores: str) -> dict[str, str]:
    """All that follows from a file of scores, by file name: the scores themselves, board.md, board.csv, board.json.

    The same scores give the same bytes.
    """
    from leaderboards.rank import Board
    from leaderboards.scores import from_text

    table, facts = from_text(scores)
    return {"scores.json": scores, **_rendered(Board(table), facts)}


def _rendered(board: Board, facts: Mapping[str, Any]) -> dict[str, str]:
    from leaderboards import render

    about = {"title": facts.get("title", "Board"), "about": facts.get("about", "")}
    return {
        "board.md": render.markdown(board, **about),
        "board.csv": render.csv(board),
        "board.json": render.as_json(board, **about),
    }


def render_file(path: Path, to: Path | None) -> dict[str, str]:
    """The boards of a file of scores by file name, written into a folder too where one is named, with a picture.

    Raises BenchError where the file is not one of scores, or the folder cannot be written.
    """
    from bench.whole import reason, write_bytes, write_text
    from leaderboards.board_pictures import ranking
    from leaderboards.rank import Board
    from leaderboards.scores import ScoresError, read

    try:
        table, facts = read(path)
    except ScoresError as error:
        raise BenchError(str(error)) from error
    board = Board(table)
    made = _rendered(board, facts)
    if to is None:
        return made
    try:
        to.mkdir(parents=True, exist_ok=True)
        for name, text in {**made, "scores.json": path.read_text(encoding="utf-8")}.items():
            write_text(to / name, text)
        picture = ranking(board, title=facts.get("title", "Board"), about=facts.get("about", ""))
        write_bytes(to / "board.png", picture)
    except OSError as error:
        raise BenchError(f"--out {to}: cannot be written: {reason(error)}") from error
    return made
