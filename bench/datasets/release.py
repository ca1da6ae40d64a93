"""Tables of a release of MIMIC or eICU as PhysioNet distributes them: found, read, and refused in one line.

A table is NAME.csv or NAME.csv.gz, its name in upper or lower case, in the release's folder or in `hosp` or `icu` below
it. Column names are read in lower case. Bytes that are not UTF-8 are replaced: they stand in free text only, which no
loader reads. Messages name files, columns and counts, never a value.
"""

from __future__ import annotations

import gzip
import warnings
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from bench.datasets.data import DataError

Kind = Literal["id", "text", "flag", "number", "time", "date"]
FORMATS = {"time": "%Y-%m-%d %H:%M:%S", "date": "%Y-%m-%d"}
NESTED = ("", "hosp", "icu")
OLDEST = 90  # MIMIC-III shifts ages over 89 to 300 and more, eICU writes "> 89": all are given as 90
LONGEST = 100_000  # bytes of a line
UNREADABLE = (ValueError, EOFError, OSError, zlib.error)


def locate(folder: Path, table: str) -> Path | None:
    """The file of a table in a release, or None. An unpacked file comes before a packed one."""
    wanted = [f"{table.lower()}.csv", f"{table.lower()}.csv.gz"]
    found: dict[str, Path] = {}
    for below in NESTED:
        place = folder / below
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            found.setdefault(path.name.lower(), path)
    return next((found[name] for name in wanted if name in found), None)


def find(folder: Path, table: str, columns: Iterable[str]) -> tuple[Path, list[str]]:
    """The file of a table, and how it writes the names of the columns asked for.

    Raises DataError where the file is absent, lacks a column or, not being packed, ends in the middle of a line.
    """
    path = locate(folder, table)
    if path is None:
        raise DataError(f"{folder} has neither {table}.csv nor {table}.csv.gz")
    try:
        with gzip.open(path) if _packed(path) else path.open("rb") as stream:
            names = _cells(stream.readline(LONGEST))
        cut = not _packed(path) and _cut_off(path)
    except UNREADABLE as error:
        raise unreadable(path.name) from error
    here = {name.lower(): name for name in names}
    lacking = [name for name in columns if name not in here]
    if lacking:
        raise DataError(f"{path.name}: lacks column {', '.join(lacking)}: a different file, or not separated by commas")
    if cut:
        raise unreadable(path.name)
    return path, [here[name] for name in columns]


def unreadable(name: str) -> DataError:
    """The error of a file that does not hold what it should to its end."""
    return DataError(f"{name}: not a readable csv file: truncated?")


def _cells(line: bytes) -> list[str]:
    return [cell.strip().strip('"') for cell in line.decode("utf-8-sig", errors="replace").strip().split(",")]


def _packed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _cut_off(path: Path) -> bool:
    """True where the last line is not ended: it may be half a row, or half a number."""
    with path.open("rb") as stream:
        stream.seek(max(path.stat().st_size - 1, 0))
        return stream.read(1) not in (b"\n", b"\r")


def read(folder: Path, table: str, columns: Mapping[str, Kind]) -> pd.DataFrame:
    """The named columns of a table, one row per line of the file.

    columns: name in lower case -> kind. "id": int64, never missing. "text": text, None where empty. "flag": bool,
    from 0 or 1. "number": float64, NaN where empty. "time", "date": datetime64[s], NaT where empty; a time has no zone,
    since those of MIMIC are local times of a patient moved in time as a whole.
    Raises DataError where the file is absent, truncated, lacks a column or holds anything else in one.
    """
    path, names = find(folder, table, columns)
    try:
        raw = _csv(path, names)
    except UNREADABLE as error:  # ParserError is a ValueError
        raise unreadable(path.name) from error
    if raw.empty:
        raise DataError(f"{path.name}: has no rows: truncated?")
    raw.columns = raw.columns.str.lower()
    return pd.DataFrame(
        {name: _typed(raw[name], kind, f"{path.name}: column {name}") for name, kind in columns.items()}
    )


def _csv(path: Path, names: list[str]) -> pd.DataFrame:
    """Columns of a csv file as text. Raises ValueError where a row has too many cells."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            return pd.read_csv(
                path, usecols=names, dtype=str, keep_default_na=False, na_values=[""], index_col=False,
                encoding="utf-8-sig", encoding_errors="replace", compression="gzip" if _packed(path) else None,
            )  # fmt: skip
        except pd.errors.ParserWarning as warning:
            raise ValueError("rows have more cells than the first line") from warning


def _typed(column: pd.Series, kind: Kind, what: str) -> pd.Series:
    """A column of text as its kind."""
    if kind == "text":
        text = column.astype(object).str.strip()
        return text.where(text.notna() & (text != ""), None)
    if kind in FORMATS:
        # a date may carry an empty time of day, as MIMIC-III's do
        text = column.str.removesuffix(" 00:00:00") if kind == "date" else column
        values = pd.to_datetime(text, format=FORMATS[kind], errors="coerce")
        values = pd.Series(values.to_numpy("datetime64[s]"), column.index)
        _refuse(what, column.notna() & values.isna(), f"not of the form {FORMATS[kind]}, without a time zone")
        return values
    values = pd.to_numeric(column, errors="coerce").astype("float64")
    if kind == "number":
        _refuse(what, column.notna() & values.isna(), "not numbers")
        return values
    whole = (values == np.floor(values)) & (values.abs() < 2**53)
    if kind == "flag":
        _refuse(what, ~values.isin([0, 1]), "not 0 or 1")
        return values == 1
    _refuse(what, ~whole, "not whole numbers: truncated?")
    return values.astype("int64")


def _refuse(what: str, bad: pd.Series, why: str) -> None:
    if bad.any():
        raise DataError(f"{what}: {int(bad.sum()):,} of {len(bad):,} values are {why}")


def unique(frame: pd.DataFrame, column: str, table: str) -> None:
    """Raise DataError where a table that has one row per `column` has two."""
    twice = int(frame[column].duplicated().sum())
    if twice:
        raise DataError(f"{table}: {twice:,} rows repeat a {column} that stands there already")


def belongs(frame: pd.DataFrame, column: str, known: pd.Series, table: str, other: str) -> None:
    """Raise DataError where a row of a table names somebody whom another table lacks."""
    strange = int((~frame[column].isin(known)).sum())
    if strange:
        raise DataError(f"{table}: {strange:,} rows have a {column} that {other} lacks: parts of different releases?")


def agree(frame: pd.DataFrame, key: str, column: str, known: pd.DataFrame, table: str, other: str) -> None:
    """Raise DataError where rows of two tables with the same `key` differ in a column."""
    there = known.set_index(key)[column].reindex(frame[key]).to_numpy()
    strange = int((frame[column].to_numpy() != there).sum())
    if strange:
        raise DataError(f"{table}: {strange:,} rows have a {column} that is not that of their {key} in {other}")


def ages(birth: pd.Series, at: pd.Series, what: str) -> pd.Series:
    """Whole years from birth to a time, by the calendar, at most OLDEST; Int64, missing where either is.

    Raises DataError where somebody is born after the time.
    """
    years = at.dt.year - birth.dt.year
    before = (at.dt.month * 100 + at.dt.day) < (birth.dt.month * 100 + birth.dt.day)
    age = (years - before).where(birth.notna() & at.notna())
    negative = int((age < 0).sum())
    if negative:
        raise DataError(f"{what}: {negative:,} of {len(age):,} are born later than that")
    return age.clip(upper=OLDEST).astype("Int64")


def first_known(rows: pd.DataFrame, by: str, column: str, unknown: tuple[str, ...] = ()) -> pd.Series:
    """Each subject's first value of a column of text that says something, by subject."""
    values = rows[column].where(~rows[column].isin(unknown))
    return values.groupby(rows[by]).first()  # skips missing ones


def levels(column: pd.Series) -> pd.Categorical:
    """Text as a category with sorted levels."""
    return pd.Categorical(column, sorted(column.dropna().unique()))
