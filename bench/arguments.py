"""What verbs of the command line have in common: options, and what becomes of them. Loads nothing heavy."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.store import Store
    from bench.suite import Suite

SuiteArg = Annotated[str, typer.Argument(help="A suite's name (see `bench list suites`) or the path of a TOML.")]
SuiteOpt = Annotated[
    str, typer.Option("--suite", help="A suite's name (see `bench list suites`) or the path of a TOML.")
]
StoreOpt = Annotated[Path, typer.Option("--store", envvar="BENCH_STORE", help="The store folder.")]
DataOpt = Annotated[
    Path | None, typer.Option("--data", envvar="BENCH_DATA", help="Folder with one folder per dataset.")
]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print JSON.")]
UriOpt = Annotated[
    str | None, typer.Option("--tracking-uri", help="An MLflow server; a SQLite file in the store if none.")
]
StudiesOpt = Annotated[
    str,
    typer.Option(
        "--studies", envvar="BENCH_STUDIES",
        help="Database of tuning studies: sqlite:///FILE or postgresql://...; a file in the store if none.",
    ),
]  # fmt: skip
ReplicatesOpt = Annotated[int, typer.Option("--replicates", min=0, help="Replicates; 0: the suite's.")]
HERE = Path("bench-store")


def suite_named(name: str, replicates: int = 0) -> Suite:
    """A suite by name or path. replicates: in the place of its own; 0: its own."""
    from bench.suite import find_suite

    found = find_suite(name)
    return found.model_copy(update={"replicates": replicates}) if replicates else found


def opened(root: Path) -> Store:
    """A store to write to."""
    from bench.store import Store

    return Store.open(root)


def looked_at(root: Path) -> Store:
    """A store to read from; it need not exist or be writable."""
    from bench.store import Store

    return Store(root)


def data_folder(data: Path | None) -> Path | None:
    """The folder of data, which must be there where one is named."""
    if data is not None and not data.is_dir():
        raise BenchError(f"data folder {data} does not exist (--data or BENCH_DATA)")
    return data


def mirrored(suite: Suite, store: Store, data: Path | None, uri: str | None) -> None:
    """Bring MLflow in line; where that fails a warning says so, and the store has everything."""
    from bench import show
    from bench.collect import write_boards
    from bench.track import sync

    try:
        sync(suite, store, data, write_boards(suite, store, data), uri=uri)
    except BenchError as error:
        show.warn(f"{error}; nothing is lost: replay with `bench track`")


def listed(text: str) -> list[str]:
    """The parts of a comma-separated text."""
    return [part.strip() for part in text.split(",") if part.strip()]


def seconds(text: str) -> float:
    """A length of time such as 8h, 90m or 30s; without end where there is none.

    >>> seconds("1.5h")
    5400.0
    """
    if not text:
        return float("inf")
    number, unit = text[:-1], {"s": 1, "m": 60, "h": 3_600, "d": 86_400}.get(text[-1])
    try:
        if unit and 0 < float(number) < float("inf"):
            return float(number) * unit
    except ValueError:
        pass
    raise BenchError(f"--budget {text}: expected a length of time such as 8h, 90m or 30s")


def key_values(given: list[str]) -> dict[str, Any]:
    """Hyperparameters from key=value texts, values as JSON where they are."""
    out = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise BenchError(f"--param {text}: expected key=value")
        try:
            out[key] = json.loads(value)
        except ValueError:
            out[key] = value
    return out


def use_cores(n: int = 0) -> None:
    """Before numpy is loaded: so many threads; 0: as many as there are cores, where the user has not said otherwise."""
    from bench.child import thread_settings

    asked = thread_settings(n or os.cpu_count() or 1)
    os.environ |= asked if n else {k: os.environ.get(k, v) for k, v in asked.items()}
