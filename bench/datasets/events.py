"""Tables of events too large for memory (CHARTEVENTS: 330 million rows): one pass by Polars into a parquet file.

A query names the few columns it needs; Polars reads the csv, packed or not, in pieces, and what is left after its
filters is written as it comes. Of 20 million packed rows it read 4.6 million a second on two cores, pyarrow 2.3, DuckDB
2.0, pandas in chunks 1.3 (Polars 2.1.0, DuckDB 2.0.1); tests/benchmarks/test_event_speed.py holds it against pandas.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import polars as pl

from bench.datasets.data import DataError
from bench.datasets.release import find, unreadable

TIME = "%Y-%m-%d %H:%M:%S"


def scan(folder: Path, table: str, columns: tuple[str, ...]) -> pl.LazyFrame:
    """The named columns (lower case) of a table of a release, all as text, not read yet.

    Raises DataError where the file is absent or lacks a column.
    """
    path, names = find(folder, table, columns)
    raw = pl.scan_csv(path, infer_schema=False, encoding="utf8-lossy")
    return raw.select(pl.col(name).alias(plain) for name, plain in zip(names, columns, strict=True))


def as_time(column: str) -> pl.Expr:
    """A column of text as a time; missing where it is not of the form TIME."""
    return pl.col(column).str.to_datetime(TIME, time_unit="ms", strict=False)


def write(rows: pl.LazyFrame, to: Path, table: str, *, within_s: int) -> None:
    """Run a query over a table and write its readings.

    rows: subject, channel (position), source (what it was read from), second (since the stay began, missing where that
    cannot be told), value (in the channel's unit). Only those of the first `within_s` seconds are kept. Raises
    DataError where the file cannot be read to its end, a reading cannot be placed or there is none, OSError where
    nothing can be written.
    """
    inside = pl.col("second").is_between(0, within_s, closed="left")
    kept = rows.filter(inside | pl.col("second").is_null()).select(
        pl.col("subject").cast(pl.Int64), pl.col("channel").cast(pl.Int8), pl.col("source").cast(pl.Int32),
        pl.col("second").cast(pl.Int32), pl.col("value").cast(pl.Float64),
    )  # fmt: skip
    try:
        kept.sink_parquet(to)
    except (pl.exceptions.PolarsError, OSError) as error:
        system = re.search(r"os error (\d+)", str(error))  # a full disk is no fault of the file
        if system:
            raise OSError(int(system[1]), os.strerror(int(system[1]))) from error
        raise unreadable(table) from error
    n, unplaced = pl.scan_parquet(to).select(pl.len(), u=pl.col("second").is_null().sum()).collect().row(0)
    if unplaced:
        raise DataError(
            f"{table}: {unplaced:,} readings have no whole number as identifier, or no time (of the form {TIME} "
            "without a zone; an offset is in whole minutes)"
        )
    if not n:
        raise DataError(f"{table}: has no reading of any channel in the first day of a stay: truncated?")


def read_channel(readings: Path, channel: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One channel of what was written: subject (int64), second (int32) and value (float64), each reading once.

    A row that the source repeats is one reading. They are sorted, so that sums do not depend on who was read first.
    """
    found = pl.scan_parquet(readings).filter(pl.col("channel") == channel).drop("channel")
    rows = found.unique().sort("subject", "second", "value").collect()
    return tuple(rows[name].to_numpy() for name in ("subject", "second", "value"))  # type: ignore[return-value]
