"""From a suite's cells in the store to the frame that leaderboards read, and to the boards on disk."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import generators
from bench.apart import in_two
from bench.cell import Cell, Record
from bench.errors import BenchError
from bench.store import Store
from bench.suite import Suite, cells
from bench.whole import Damaged
from metrics import METRICS

if TYPE_CHECKING:
    import pandas as pd

    from bench.datasets.source import Source
    from leaderboards.rank import Board

Versions = dict[str, dict[str, int]]  # "metrics" and "generators": name -> version
MANY = 4_000  # cells that are worth a second process
UP_TO_SAMPLING = ("start", "load", "split", "tune", "reload", "fit", "sample", "minority")


def records(
    suite: Suite, store: Store, data_dir: Path | None, *, scores: bool = True
) -> list[tuple[Any, Any, Record | None]]:
    """Every cell of a suite with its source and record: the stored one, a skip where it cannot run here, or None.

    scores: with the records' scores, which take most of the time that reading takes.
    """
    return _read(list(cells(suite, data_dir)), store, set(store.keys("")), scores=scores)


def _read(
    listed: Sequence[tuple[Cell, Source, str]], store: Store, here: Collection[str], *, scores: bool = True
) -> list[tuple[Any, Any, Record | None]]:
    """As `records`, of cells as `bench.suite.cells` lists them. here: keys of the cells that the store has.

    A damaged record counts as none, with a warning, so that boards leave it out and `bench run` makes it again.
    """
    from bench import show
    from bench.cell import Fault

    out: list[tuple[Any, Any, Record | None]] = []
    for cell, source, why_not in listed:
        if why_not:
            record: Record | None = Record(cell, "skipped", Fault("", "", why_not))
        else:
            try:
                record = store.record(cell.key, scores=scores) if cell.key in here else None
            except Damaged as error:
                show.warn(str(error))
                record = None
        out.append((cell, source, record))
    return out


def frame(found: Sequence[tuple[Any, Any, Record | None]], metric_names: list[str]) -> pd.DataFrame:
    """The frame of leaderboards/__init__.py; a cell without a record is "missing"."""
    from leaderboards.scores import frame_of

    return frame_of(list(_cells(found, metric_names, _first(cell for cell, *_ in found))))


def _first(all_cells: Iterable[Cell]) -> dict[str, str]:
    """Generator -> the label of its first row, which the others of it are arms of."""
    first: dict[str, str] = {}
    for cell in all_cells:
        if not cell.untuned_of:
            first.setdefault(cell.generator, cell.label)
    return first


def _cells(
    found: Sequence[tuple[Any, Any, Record | None]], metric_names: Sequence[str], first: Mapping[str, str]
) -> Iterator[Mapping[str, Any]]:
    """Cells as leaderboards/scores.py takes them. first: of `_first`, of all cells."""
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
            "arm_of": cell.label if cell.untuned_of else first[cell.generator],
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
    return _means(_costs(found, store))


def _means(rows: list[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    table = pd.DataFrame(rows)
    return table if table.empty else table.groupby(["dataset", "generator"], sort=False).mean().reset_index()


def _costs(found: Sequence[tuple[Any, Any, Record | None]], store: Store) -> list[dict[str, Any]]:
    """What each done cell cost."""
    rows: list[dict[str, Any]] = []
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
    return rows


def write_boards(suite: Suite, store: Store, data_dir: Path | None) -> dict[str, Path]:
    """Render a suite's boards from all its cells. Gives paths by name: those of `texts`, and "cost.md"."""
    from leaderboards import render, scores

    listed, names, here = list(cells(suite, data_dir)), suite.metric_names, set(store.keys(""))
    first = _first(cell for cell, *_ in listed)

    def part(some: Sequence[tuple[Cell, Source, str]]) -> tuple[list[str], list[dict[str, Any]], Versions]:
        found = _read(some, store, here)
        return [scores.line(cell) for cell in _cells(found, names, first)], _costs(found, store), _versions(found)

    half = len(listed) // 2
    parts = in_two(part, listed[:half], listed[half:], worth=len(listed) > MANY)
    lines, costs, versions = zip(*parts, strict=True)
    text = scores.text_of_lines(chain(*lines), **_about(suite), versions=_oldest(*versions))
    made = {**texts(text), "cost.md": render.costs(_means([*chain(*costs)]))}
    return {name: store.save_board(suite.name, name, text) for name, text in made.items()}


def scores_text(suite: Suite, found: Sequence[tuple[Any, Any, Record | None]]) -> str:
    """The scores of a suite's cells as a file that boards are rendered from."""
    from leaderboards import scores

    first = _first(cell for cell, *_ in found)
    about = {**_about(suite), "versions": _versions(found)}
    return scores.text_of(_cells(found, suite.metric_names, first), **about)


def _about(suite: Suite) -> dict[str, str]:
    about = {"suite": suite.name, "title": f"Board: {suite.name}", "about": suite.about}
    note = held_out(gen.name for gen in suite.generators)
    return about | ({"note": note} if note else {})


def held_out(names: Iterable[str]) -> str:
    """Say which of these generators train on less than all of train, and on how much less; "" where none does."""
    shares: dict[float, list[str]] = {}
    for name in dict.fromkeys(names):
        if share := generators.find(name).held_out:
            shares.setdefault(share, []).append(name)
    if not shares:
        return ""
    listed = "; ".join(f"{100 * share:.0f} % {', '.join(some)}" for share, some in sorted(shares.items()))
    return f"Networks choose their training step on a share of train that they do not train on: {listed}."


def _versions(found: Sequence[tuple[Any, Any, Record | None]]) -> Versions:
    """The versions that cells were made with: of each metric and each generator of the package, the oldest."""
    parts: list[Versions] = []
    for cell, _, record in found:
        if record is None or record.status != "done":
            continue
        scored = record.facts.get("versions") or dict.fromkeys((name.split("/")[0] for name in record.scores), 0)
        own = {cell.generator: int(cell.version)} if cell.generator in generators.REGISTRY else {}
        parts.append({"metrics": scored, "generators": own})
    return _oldest(*parts)


def _oldest(*parts: Versions) -> Versions:
    out: Versions = {"metrics": {}, "generators": {}}
    for part in parts:
        for kind, versions in part.items():
            for name, version in versions.items():
                out[kind][name] = min(version, out[kind].get(name, version))
    return {kind: dict(sorted(versions.items())) for kind, versions in out.items()}


def outdated(facts: Mapping[str, Any]) -> str:
    """Say which metrics and generators have changed since scores were made, "" where none has. facts: of their file."""
    versions: Versions = facts.get("versions", {})
    scored, drawn = versions.get("metrics", {}), versions.get("generators", {})
    metrics = [n for n, v in scored.items() if n not in METRICS or METRICS[n].version != v]
    made = [n for n, v in drawn.items() if n not in generators.REGISTRY or generators.REGISTRY[n].version != v]
    every = "all" if len(metrics) == len(scored) else f"{len(metrics)} of"
    changed = [f"{every} {len(scored)} metrics"] if metrics else []
    changed += [f"the generators {', '.join(f'`{n}`' for n in made)}"] if made else []
    if not changed:
        return ""
    return f"Made by older versions: {' and '.join(changed)} have changed since; run it again before quoting it."


def texts(scores: str) -> dict[str, str]:
    """All that follows from a file of scores, by file name: the scores themselves, board.md, board.csv, board.json.

    The same scores give the same bytes.
    """
    from leaderboards.rank import Board
    from leaderboards.scores import from_text

    table, facts = from_text(scores)
    return {"scores.json": scores, **_rendered(Board(table), facts)}


def subtitle(facts: Mapping[str, Any]) -> str:
    """Return the text under a board's title: whether older versions made it, the suite's question, and a note on how
    to read its scores."""
    return " ".join(filter(None, (outdated(facts), facts.get("about", ""), facts.get("note", ""))))


def _rendered(board: Board, facts: Mapping[str, Any]) -> dict[str, str]:
    from leaderboards import render

    about = {"title": facts.get("title", "Board"), "about": subtitle(facts)}
    made = {
        "board.md": partial(render.markdown, board, **about),
        "board.csv": partial(render.csv, board),
        "board.json": partial(render.as_json, board, **about),
    }
    names = list(made)
    worth = len(board.cells) > MANY
    first, second = in_two(lambda some: {n: made[n]() for n in some}, names[:1], names[1:], worth=worth)
    return first | second


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
        title = facts.get("title", "Board") + (" (made by older versions)" if outdated(facts) else "")
        picture = ranking(board, title=title, about=facts.get("about", ""))
        write_bytes(to / "board.png", picture)
    except OSError as error:
        raise BenchError(f"--out {to}: cannot be written: {reason(error)}") from error
    return made
