"""A suite's report: its board, what its cells cost, and views of one replicate's samples, put on one page."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.markup import escape

from bench import views
from bench.collect import cost_frame, records, scores_text, subtitle
from bench.errors import BenchError
from bench.machine import environment
from bench.store import Store
from bench.suite import Suite
from bench.whole import reason, write_text

FILE, BOARD = "report.html", "board.png"
PACKAGES = ("torch", "xgboost", "scikit-learn", "numpy")


def write_report(
    suite: Suite, store: Store, data_dir: Path | None, *, to: Path | None, replicate: int, tell: Callable[[str], Any]
) -> Path:
    """Write the page; views of samples are made where they are not kept. tell(line) hears of each dataset.

    Raises BenchError where no cell is done, there is no such replicate, or the page cannot be written.
    """
    from leaderboards.board_pictures import ranking
    from leaderboards.rank import Board
    from leaderboards.report import report
    from leaderboards.scores import from_text

    if replicate >= suite.replicates:
        raise BenchError(f"replicate {replicate}: suite {suite.name} has 0 to {suite.replicates - 1}")
    found = records(suite, store, data_dir)
    if not any(record is not None and record.status == "done" for _, _, record in found):
        raise BenchError(f"suite {suite.name}: no cell is done: `bench run --suite {suite.name}` runs them")
    seen: dict[str, dict[str, Any]] = {}
    for cell, source, record in found:
        if record is None or record.status != "done" or cell.replicate != replicate:
            continue
        if cell.dataset not in seen:
            tell(escape(f"looking at samples of {cell.dataset}"))
        seen.setdefault(cell.dataset, {})[cell.label] = views.view(cell, source, store, suite.name)
    scores = scores_text(suite, found)
    table, facts = from_text(scores)
    board = Board(table)
    ordered = {name: {g: here[g] for g in board.order if g in here} for name, here in seen.items()}
    store.save_picture(suite.name, BOARD, ranking(board, title=f"Board: {suite.name}", about=suite.about))
    text = report(
        board, cost_frame(found, store), ordered, title=f"Report: {suite.name}", about=subtitle(facts),
        foot=_foot(replicate), mark=mark(scores),
    )  # fmt: skip
    if to is None:
        return store.save_board(suite.name, FILE, text)
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        write_text(to, text)
    except OSError as error:
        raise BenchError(f"--out {to}: cannot be written: {reason(error)}") from error
    return to


def mark(scores: str) -> str:
    """What a page says it was made from: a hash of the scores."""
    return hashlib.sha256(scores.encode()).hexdigest()[:16]


def current(suite: Suite, store: Store, scores: str) -> str:
    """The suite's page, where there is one that was made from these scores; else ""."""
    from leaderboards.page import made_from

    path = store.board(suite.name) / FILE
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return text if made_from(text, mark(scores)) else ""


def _foot(replicate: int) -> str:
    machine = environment()
    versions = ", ".join(f"{name} {machine['packages'][name]}" for name in PACKAGES if name in machine["packages"])
    return (
        f"Figures of samples are of replicate {replicate}; tables are of all. Rendered by synth-health-bench on "
        f"python {machine.get('python', '')}, {versions}."
    )
