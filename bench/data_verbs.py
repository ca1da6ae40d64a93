"""The verbs of `bench data`: which datasets there are, whether yours are whole, and fetching those that are open."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.arguments import HERE, DataOpt, JsonOpt, StoreOpt, data_folder
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.datasets.fetch import Report
    from bench.datasets.source import Source

SAY_EVERY_S = 10.0

data_app = typer.Typer(no_args_is_help=True, help="Datasets: which there are, whether yours are whole, fetching them.")


@data_app.command("list")
def data_list(data: DataOpt = None, as_json: JsonOpt = False) -> None:
    """Every dataset: shape, size, access, licence, whether it is here, and how to get it."""
    from bench import show
    from bench.registries import dataset_rows

    show.table(*dataset_rows(data_folder(data)), as_json=as_json)


@data_app.command("check")
def data_check(
    name: Annotated[str, typer.Argument(help="A dataset's name, or the path of a TOML.")],
    data: DataOpt = None,
    store: StoreOpt = HERE,
    as_json: JsonOpt = False,
) -> None:
    """Read a dataset whole: counts, checksums, and the table law's verdict."""
    from bench import show
    from bench.registries import check_dataset

    rows, sound = check_dataset(name, data_folder(data), store)
    show.table(["what", "found", "expected", "verdict"], rows, as_json=as_json)
    raise typer.Exit(0 if sound else 1)


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="A dataset's name; with cuts, only the files they ask for.")],
    data: DataOpt = None,
) -> None:
    """Fetch a dataset's files into its folder under DATA, going on where an earlier fetch broke off."""
    from bench.datasets import open_dataset

    fetch_source(open_dataset(name, data), data)


def fetch_source(source: Source, data: Path | None) -> None:
    """Fetch the files a dataset's name asks for, with progress on stderr, and print what was done.

    Raises BenchError where files must be got by hand (saying how) or no data folder is named, FetchError where a fetch
    fails.
    """
    from bench import show
    from bench.datasets.fetch import fetch

    row = source.row
    if row.access in ("simulated", "packaged") or source.toml:
        why = "its file is where its TOML says" if source.toml else "it comes with the package"
        show.out.print(f"{row.name}: nothing to fetch: {why}", markup=False)
        return
    urls = {file: row.urls[file] for file in source.wanted if file in row.urls}
    by_hand = f"dataset {row.name} cannot be fetched by the harness: {row.by_hand or f'put {source.put()}'}"
    if not urls:
        raise BenchError(by_hand)
    if data is None:
        raise BenchError(f"fetching {row.name} needs a folder for data: give --data DIR or set BENCH_DATA")
    folder = data / row.folders[0]
    with _told() as report:
        done = fetch(urls, row.files, folder, report=report)
    show.table(["file", "outcome", "bytes"], [(f, how, (folder / f).stat().st_size) for f, how in done.items()])
    show.out.print(f"in {folder}; to read it whole: bench data check '{source.name}'", markup=False)
    missing = [file for file in source.wanted if file not in urls and not (folder / file).is_file()]
    if missing:
        raise BenchError(f"{', '.join(missing)} of {by_hand}")


@contextmanager
def _told() -> Iterator[Report]:
    """A fetch's progress on stderr: bars on a terminal, else a line now and then."""
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TimeRemainingColumn, TransferSpeedColumn

    from bench import show

    if not show.err.is_terminal:
        yield _lines()
        return
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=show.err) as bars:
        known: dict[str, tuple[TaskID, int]] = {}

        def report(name: str, have: int, total: int | None) -> None:
            if name not in known:
                task = bars.add_task(escape(name), total=total, completed=have)
            else:
                task, before = known[name]
                if have < before:  # begun anew
                    bars.reset(task)
                bars.update(task, total=total, completed=have)
            known[name] = (task, have)

        yield report


def _lines() -> Report:
    from bench import show

    said: dict[str, tuple[float, str]] = {}

    def report(name: str, have: int, total: int | None) -> None:
        of = "" if total is None else f" of {total / 1e6:,.1f}"
        text, now = f"{name}: {have / 1e6:,.1f}{of} MB", time.monotonic()
        when, before = said.get(name, (now - SAY_EVERY_S, ""))
        if text != before and (have == total or now - when >= SAY_EVERY_S):
            show.err.print(text, markup=False)
            said[name] = (now, text)

    return report
