"""A suite's scores against a reference: the verdict, reports, and a new reference where there is a reason."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import show
from bench.collect import frame, records
from bench.errors import BenchError
from bench.machine import environment
from bench.store import Store
from bench.suite import Suite
from bench.whole import reason, write_text
from leaderboards import scores as files
from leaderboards.compare import MOST, Comparison, compare
from leaderboards.render import KEY

if TYPE_CHECKING:
    import pandas as pd

BOARDS = Path(__file__).parent.parent / "leaderboards" / "boards"
LEAST_REPLICATES = 3  # of a reference: with fewer its spreads say next to nothing
PACKAGES = ("numpy", "torch", "xgboost", "scikit-learn")  # whose versions can move a score


def check(
    suite: Suite, store: Store, data_dir: Path | None, *, against: Path | None, scores: Path | None, update: str,
    markdown: Path | None, junit: Path | None, metric_names: Sequence[str] = (),
) -> int:  # fmt: skip
    """Compare a suite's scores with a reference. Gives the exit code: 0 where nothing is worse, else 1.

    against: the reference, leaderboards/boards/SUITE.json if None. scores: a file of scores (JSON, CSV or parquet) that
    stands for the store's. update: why there is to be a new reference, "" for none; it is then written, and nothing
    fails. markdown, junit: where to write reports. metric_names: at most eight headline metrics; if none, the
    reference's, else the suite's. Raises BenchError where nothing can be compared or written.
    """
    place = against or BOARDS / f"{suite.name}.json"
    now = _read(scores)[0] if scores else _stored(suite, store, data_dir)
    if update:
        return _update(suite, place, now, update.strip(), markdown, junit, metric_names)
    if not place.is_file():
        raise BenchError(f"no reference {place}: write one with --update REASON, or name another with --against")
    reference, facts = _read(place)
    found = _compare(reference, now, _headline(suite, facts, reference, now, metric_names))
    _report(found, markdown, junit)
    return int(found.failed)


def _update(
    suite: Suite, place: Path, now: pd.DataFrame, why: str, markdown: Path | None, junit: Path | None,
    metric_names: Sequence[str],
) -> int:  # fmt: skip
    """Write a new reference, whole or not at all, and say what it changes."""
    if not why:
        raise BenchError("--update: expected the reason for a new reference")
    if place.suffix != ".json":
        raise BenchError(f"--update: {place}: a reference is a .json file")
    _check_reference(now)
    old, facts = _read(place) if place.is_file() else (now, {})
    headline = _headline(suite, facts, old, now, metric_names)
    found = _compare(old, now, headline)  # also where there is no old one: what cannot be compared is no reference
    history = [*facts.get("history", []), {"date": date.today().isoformat(), "reason": why, "versions": _versions()}]
    text = files.to_text(now, suite=suite.name, about=suite.about, headline=headline, history=history)
    _write(place, text)
    if facts:
        _report(found, markdown, junit)
    show.out.print(f"reference written: {place} ({why})", markup=False, soft_wrap=True)
    return 0


def _check_reference(now: pd.DataFrame) -> None:
    """Every cell done, and replicates enough for a spread."""
    cells = now.drop_duplicates(["dataset", "generator", "replicate"])
    off = cells[cells["status"] != "done"]
    if len(off):
        first = off.iloc[0]
        name = f"{first['dataset']} · {first['generator']} · r{first['replicate']}"
        raise BenchError(f"no reference of cells that are not done: {name}: {first['status']}: {first['reason']}")
    counts = cells.groupby(["dataset", "generator"], sort=False).size()
    if counts.min() < LEAST_REPLICATES:
        dataset, generator = counts.idxmin()
        raise BenchError(
            f"no reference of {counts.min()} replicates ({dataset} · {generator}): expected {LEAST_REPLICATES} or more"
        )


def _stored(suite: Suite, store: Store, data_dir: Path | None) -> pd.DataFrame:
    now = frame(records(suite, store, data_dir), suite.metric_names)
    if not (now["status"] == "done").any():
        raise BenchError(f"suite {suite.name} has no done cell: run it first: bench run --suite {suite.name}")
    return now


def _read(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A frame and further facts, of our JSON or a table of the user's own."""
    if path.suffix not in (".json", ".csv", ".parquet"):
        raise BenchError(f"{path}: expected a .json, .csv or .parquet file of scores")
    try:
        return files.read(path) if path.suffix == ".json" else (files.read_table(path), {})
    except files.ScoresError as error:
        raise BenchError(str(error)) from error


def _headline(
    suite: Suite, facts: dict[str, Any], reference: pd.DataFrame, now: pd.DataFrame, asked: Sequence[str]
) -> list[str]:
    """The metrics to compare. Raises BenchError for one that neither side has."""
    before, after = ({*side["metric"]} - {""} for side in (reference, now))
    named = list(asked) or list(facts.get("headline", []))
    strange = [name for name in named if name not in before | after]
    if strange:
        raise BenchError(
            f"no score of metric '{strange[0]}' on either side: known: {', '.join(sorted(before | after))}"
        )
    own = suite.metric_names
    chosen = [m for m in own if m in before | after] if len(own) <= MOST else [m for m in KEY if m in before & after]
    return named or chosen[:MOST]


def _compare(reference: pd.DataFrame, now: pd.DataFrame, headline: Sequence[str]) -> Comparison:
    keys = ["dataset", "generator"]
    if not headline or reference[keys].merge(now[keys].drop_duplicates(), on=keys).empty:
        what = "metric" if not headline else "dataset and generator"
        raise BenchError(f"nothing to compare: reference and scores have no {what} in common")
    try:
        return compare(reference, now, headline)
    except ValueError as error:
        raise BenchError(str(error)) from error


def _report(found: Comparison, markdown: Path | None, junit: Path | None) -> None:
    """Print the Markdown, and write the files that were asked for."""
    text = found.markdown()
    show.out.print(text, markup=False, soft_wrap=True)  # a table's lines stay whole
    if markdown:
        _write(markdown, text)
    if junit:
        _write(junit, found.junit())


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        raise BenchError(f"{path} cannot be written: {reason(error)}") from error


def _versions() -> dict[str, str]:
    """What scores were made with."""
    machine = environment()
    return {"python": machine["python"], **{name: machine["packages"][name] for name in PACKAGES}}
