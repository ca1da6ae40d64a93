"""A user's own tables: a CSV or parquet file, a small TOML of roles, and how dtypes are read off plain columns.

name = "loans"               # optional: else the TOML's own name
file = "loans.csv"           # beside the TOML, .csv or .parquet
target = "defaulted"         # true/false or 0/1
subject = "customer"         # optional: a column that names the subject; else every row is one
time = "month"               # optional: a whole number; makes the table longitudinal
static = ["sex"]             # constant per subject (longitudinal tables)
order = "opened"             # optional: orders subjects for split = "time"; not a column of the table
drop = ["full_name"]         # columns to leave out
ordinal = { grade = ["low", "middle", "high"] }
codes = [], sensitive = [], quasi = [], drop_duplicates = false, shape = "table", describe = { }
"""

import tomllib
import warnings
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from bench.datasets.data import Absent, Data, DataError
from bench.datasets.law import FLOATS, INTEGERS, Roles
from bench.errors import BenchError, unknown

IDENTIFIER_LEVELS = 100  # a text column with more levels than this, most of them unique, is taken for an identifier


class Own(BaseModel):
    """The TOML of a user's dataset."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    target: str
    name: str | None = None
    subject: str | None = None
    time: str | None = None
    static: tuple[str, ...] = ()
    order: str | None = None
    drop: tuple[str, ...] = ()
    ordinal: dict[str, tuple[str, ...]] = {}
    codes: tuple[str, ...] = ()
    sensitive: tuple[str, ...] = ()
    quasi: tuple[str, ...] = ()
    describe: dict[str, str] = {}
    drop_duplicates: bool = False
    shape: Literal["codes", "table", "series", "visits"] | None = None

    @property
    def shape_or_guess(self) -> str:
        """The declared shape, else the one its roles suggest."""
        if self.shape:
            return self.shape
        if self.time:
            return "visits" if self.codes else "series"
        return "codes" if self.codes else "table"


def read_toml(path: Path) -> dict:
    """A TOML file as a dictionary. Raises BenchError where it is not there or malformed."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BenchError(f"{path}: no such file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BenchError(f"{path}: not valid TOML: {error}") from error


def first_fault(error: ValidationError, path: Path, known: list[str]) -> BenchError:
    """A pydantic error as one clear line."""
    fault = error.errors()[0]
    where = ".".join(str(p) for p in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return BenchError(f"{path}: {unknown('key', where, known)}")
    if fault["type"] == "missing":
        return BenchError(f"{path}: key '{where}' is missing")
    return BenchError(f"{path}: key '{where}': {fault['msg']}")


def read(path: Path) -> Own:
    """Read and check a user's TOML; the data file is not touched."""
    try:
        return Own.model_validate(read_toml(path))
    except ValidationError as error:
        raise first_fault(error, path, list(Own.model_fields)) from error


def load(path: Path) -> Data:
    """Load a user's dataset from its TOML."""
    own = read(path)
    frame = read_table(path.parent / own.file)
    named = [own.target, *filter(None, (own.subject, own.time, own.order)), *own.drop, *own.ordinal, *own.static]
    has_columns(frame, [*named, *own.codes, *own.sensitive, *own.quasi], str(path))
    subject = frame[own.subject] if own.subject else pd.Series(np.arange(len(frame)))
    index = [subject] if own.time is None else [subject, frame[own.time]]
    table = frame.drop(columns=list(dict.fromkeys([*filter(None, (own.subject, own.time, own.order)), *own.drop])))
    table = lawful(table, ordinal=own.ordinal, what=own.file)
    if own.time is None:
        table.index = pd.Index(index[0], name="subject")
    else:
        table.index = pd.MultiIndex.from_arrays(index, names=["subject", "time"])
        table = table.sort_index()
    static = (*own.static, own.target) if own.time and own.target not in own.static else own.static
    roles = Roles(
        own.target, static if own.time else (), own.codes, own.sensitive or (own.target,), own.quasi,
        describe=own.describe, time_unit="step" if own.time else None,
    )  # fmt: skip
    order = None if own.order is None else _order(frame[own.order], table.index.get_level_values("subject"), own.order)
    return Data(table, roles, order, facts={"rows": len(frame)})


def has_columns(frame: pd.DataFrame, named: list[str], what: str) -> None:
    """Raise BenchError unless a frame has these columns.

    Of one that has none of them no list is shown: where a file has no line of names, a subject's values stand there.
    """
    known = [str(c) for c in frame.columns]
    lacking = [c for c in named if c not in known]
    if not lacking:
        return
    near = get_close_matches(lacking[0], known, n=1)
    if len(lacking) < len(named) or not known:
        raise BenchError(f"{what}: {unknown('column', lacking[0], known)}")
    hint = f"did you mean '{near[0]}'?" if near else "nor any other that is named: is its first line names?"
    raise BenchError(f"{what}: unknown column '{lacking[0]}': {hint}")


def read_table(path: Path) -> pd.DataFrame:
    """A CSV or parquet file as a plain frame."""
    if not path.exists():
        raise Absent(f"{path}: no such file")
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path).reset_index(drop=False).drop(columns="index", errors="ignore")
        if path.suffix == ".csv":
            return pd.read_csv(path)
    except (ValueError, OSError) as error:  # parser, decoding, empty-file and parquet errors
        raise DataError(f"{path}: not a readable {path.suffix[1:]} file: {type(error).__name__}") from error
    raise BenchError(f"{path}: expected a .csv or .parquet file")


def lawful(frame: pd.DataFrame, *, ordinal: dict[str, tuple[str, ...]] | None = None, what: str) -> pd.DataFrame:
    """A plain frame with the law's dtypes: 0/1 and true/false become bool, text becomes category, numbers stay."""
    ordinal = ordinal or {}
    columns = {str(c): _lawful(frame[c], ordinal.get(str(c)), what) for c in frame.columns}
    return pd.DataFrame(columns, index=frame.index)


def lawful_together(frames: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Plain frames of the same columns with one set of dtypes, read off all of them together.

    A level that only one frame has is a level of all; a column that is whole in one frame and fractional in another is
    float in all. Raises BenchError naming the frame whose columns differ from the first one's.
    """
    (first, reference), *rest = frames.items()
    for name, frame in rest:
        absent = [str(c) for c in reference.columns if c not in frame.columns]
        extra = [str(c) for c in frame.columns if c not in reference.columns]
        if absent or extra:
            how = f"lacks column '{absent[0]}'" if absent else f"has column '{extra[0]}'"
            raise BenchError(f"{name}: {how}, unlike {first}")
    together = pd.concat([f[list(reference.columns)].astype(_plain(f)) for f in frames.values()], keys=list(frames))
    whole = lawful(together, what=" and ".join(frames))
    return {name: whole.loc[name] for name in frames}


def _plain(frame: pd.DataFrame) -> dict[str, str]:
    """Categories as text, so that frames with different levels can stand below each other."""
    return {c: "object" for c in frame.columns if isinstance(frame[c].dtype, pd.CategoricalDtype)}


def _lawful(column: pd.Series, levels: tuple[str, ...] | None, what: str) -> pd.Series:
    name, dtype = column.name, column.dtype
    if levels is not None:
        text = column.astype("object").map(lambda v: v if pd.isna(v) else str(v))
        strange = set(text.dropna().unique()) - set(levels)
        if strange:
            raise BenchError(f"{what}: ordinal column '{name}' has {len(strange)} values that are not among its levels")
        return pd.Series(pd.Categorical(text, list(levels), ordered=True), column.index)
    if isinstance(dtype, pd.CategoricalDtype) or str(dtype) == "bool":
        return column
    if str(dtype) in (*FLOATS, *INTEGERS):
        plain = column.notna().all() and column.isin([0, 1]).all()
        return column.astype("bool") if plain else column
    if pd.api.types.is_object_dtype(dtype) or pd.api.types.is_string_dtype(dtype):
        return _text(column, what)
    raise BenchError(
        f"{what}: column '{name}' has dtype {dtype}: expected numbers, text or true/false; leave it out with `drop`"
    )


def _text(column: pd.Series, what: str) -> pd.Series:
    text = column.astype("object").map(lambda v: v if pd.isna(v) else str(v))
    levels = sorted(text.dropna().unique())
    if text.notna().all() and {v.lower() for v in levels} <= {"true", "false"}:
        return text.str.lower().eq("true").astype("bool")
    if len(levels) > max(IDENTIFIER_LEVELS, len(text) // 2):
        raise BenchError(
            f"{what}: column '{column.name}' has {len(levels):,} different texts in {len(text):,} rows: an identifier? "
            "leave it out with `drop`"
        )
    return pd.Series(pd.Categorical(text, levels), column.index)


def _order(column: pd.Series, subject: pd.Index, name: str) -> pd.Series:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        when = column if column.dtype.kind in "iuf" else pd.to_datetime(column, errors="coerce", utc=True)
    if when.isna().any():
        raise BenchError(f"order column '{name}' has values that are neither numbers nor dates")
    return pd.Series(when.rank().to_numpy(), subject).groupby(level=0).min()
