"""A user's own tables: a CSV or parquet file, a small TOML of roles, and how dtypes are read off plain columns.

name = "loans"               # optional: else the TOML's own name
file = "loans.csv"           # beside the TOML, .csv or .parquet
target = "defaulted"         # true/false or 0/1
subject = "customer"         # optional: a column that names the subject; else every row is one
time = "month"               # optional: a whole number; makes the table longitudinal
static = ["sex"]             # constant per subject (longitudinal tables)
order = "opened"             # optional: orders subjects for split = "time"; not a column of the table
drop = ["full_name"]         # columns to leave out
keep = ["amount"]            # measurements; any other column that differs in every row is refused as an identifier
ordinal = { grade = ["low", "middle", "high"] }
codes = [], sensitive = [], quasi = [], drop_duplicates = false, shape = "table", describe = { }
"""

import re
import tomllib
import warnings
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from bench.datasets.data import Absent, Data, DataError
from bench.datasets.law import FLOATS, INTEGERS, Roles, check, kind, longitudinal
from bench.errors import BenchError, unknown

IDENTIFIER_LEVELS = 100  # a text column with more levels than this, most of them unique, is taken for an identifier
MIN_SUBJECTS = 20  # in a table of fewer, a count may differ in every row by chance (20 ages from 60 do in 3 %)
VERSION = 2  # of how a file becomes a table: raised when the same file gives another one


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
    keep: tuple[str, ...] = ()
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
    named = [own.target, *filter(None, (own.subject, own.time, own.order)), *own.drop, *own.keep, *own.ordinal]
    named += [*own.static, *own.codes, *own.sensitive, *own.quasi]
    frame = read_table(path.parent / own.file, named)
    has_columns(frame, named, str(path))
    if own.time is None and longitudinal(frame):
        raise BenchError(
            f"{path}: no key 'time', but the index of {own.file} is subject and time: "
            'expected subject = "subject" and time = "time"'
        )
    table = frame.drop(columns=list(dict.fromkeys([*filter(None, (own.subject, own.time, own.order)), *own.drop])))
    table = lawful(table, ordinal=own.ordinal, keep=own.keep, what=own.file)
    table.index = index_of(frame, own.subject, own.time)
    order = None if own.order is None else _order(frame[own.order], table.index.get_level_values("subject"), own.order)
    if own.time is not None:
        table = table.sort_index()
    check(table, what=own.file)
    refuse_identifiers(table, (*own.keep, *own.ordinal, *own.sensitive, *own.quasi), own.file)
    static = (*own.static, own.target) if own.time and own.target not in own.static else own.static
    roles = Roles(
        own.target, static if own.time else (), own.codes, own.sensitive or (own.target,), own.quasi,
        describe=own.describe, time_unit="step" if own.time else None,
    )  # fmt: skip
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


def read_table(path: Path, named: Collection[str] = ()) -> pd.DataFrame:
    """Read a CSV or parquet file into a frame whose columns are the file's own.

    An index that was stored with the table never becomes a column, save the levels that are `named`. An index `subject`
    or `subject, time` is the frame's index. Any other is left out with a warning, and rows are numbered.
    """
    if not path.exists():
        raise Absent(f"{path}: no such file")
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
        elif path.suffix == ".csv":
            frame = _with_stored_index(pd.read_csv(path), named)
        else:
            raise BenchError(f"{path}: expected a .csv or .parquet file")
    except (ValueError, OSError) as error:  # parser, decoding, empty-file and parquet errors
        raise DataError(f"{path}: not a readable {path.suffix[1:]} file: {type(error).__name__}") from error
    asked = [name for name in frame.index.names if name in named and name not in frame.columns]
    if asked:
        frame = frame.reset_index(level=asked)
    if set(frame.index.names) == {"subject", "time"}:
        return frame.reorder_levels(["subject", "time"])
    if frame.index.names == ["subject"]:
        return frame
    if not isinstance(frame.index, pd.RangeIndex):
        from bench import show

        levels = ", ".join(f"'{name}'" for name in frame.index.names if name is not None)
        show.warn(
            f"{path.name}: its index{levels and f' {levels}'} is left out: a stored index is no feature; "
            "name it (as subject, for instance), or save it as a column"
        )
    return frame.reset_index(drop=True)


def _with_stored_index(frame: pd.DataFrame, named: Collection[str]) -> pd.DataFrame:
    """A CSV's frame with its first columns as the index where the header leaves them nameless, as pandas and R write
    row names; a nameless column that is `named` (pandas calls it 'Unnamed: 0') stays a column."""
    first = takewhile(lambda c: re.fullmatch(r"Unnamed: \d+", str(c)) and c not in named, frame.columns)
    nameless = list(first)
    return frame.set_index(nameless).rename_axis([None] * len(nameless)) if nameless else frame


def index_of(frame: pd.DataFrame, subject: str | None, time: str | None) -> pd.Index:
    """The law's index of a frame that `read_table` gave: columns that name the subject and the time, else the stored
    index, else a subject for each row."""
    if subject is None and time is None:
        return frame.index.rename("subject") if frame.index.names == [None] else frame.index
    if subject is not None:
        who = pd.Index(frame[subject], name="subject")
    elif frame.index.names == ["subject"]:
        who = frame.index
    else:
        who = pd.RangeIndex(len(frame), name="subject")
    return who if time is None else pd.MultiIndex.from_arrays([who, frame[time]], names=["subject", "time"])


def refuse_identifiers(table: pd.DataFrame, declared: Collection[str], what: str) -> None:
    """Raise BenchError where a column tells every row, or every subject, from all others.

    Such a column is a row number or an identifier, which no generator should learn and no score should compare. Floats
    are measurements, and so are declared columns: those of `keep`, `ordinal`, `sensitive` and `quasi`. Tables of fewer
    than MIN_SUBJECTS subjects are not searched: there any count may differ in every row.
    """
    subjects = table.index.get_level_values("subject")
    if subjects.nunique() < MIN_SUBJECTS:
        return
    for name in table.columns:
        column = table[name]
        if kind(column) not in ("bool", "float") and name not in declared and _identifies(column, subjects):
            many = f"{len(column):,} rows" if column.is_unique else f"{subjects.nunique():,} subjects"
            raise BenchError(
                f"{what}: column '{name}' has a different value in each of {many}, as an identifier has: leave it out "
                "with `drop`, name it as `subject`, or list it in `keep` if it is a measurement"
            )


def _identifies(column: pd.Series, subjects: pd.Index) -> bool:
    """Whether every row or, in a longitudinal table, every subject has a value of its own."""
    if column.is_unique or subjects.is_unique:
        return bool(column.is_unique)
    pairs = pd.DataFrame({"subject": subjects, "value": column.to_numpy()}).drop_duplicates()
    return len(pairs) == pairs["subject"].nunique() == pairs["value"].nunique(dropna=False)


def lawful(
    frame: pd.DataFrame, *, ordinal: dict[str, tuple[str, ...]] | None = None, keep: Sequence[str] = (), what: str
) -> pd.DataFrame:  # fmt: skip
    """A plain frame with the law's dtypes: 0/1 and true/false become bool, text becomes category, numbers stay.

    keep: columns whose texts may be as many as they like. Raises BenchError where another has so many that it seems to
    be an identifier.
    """
    ordinal = ordinal or {}
    columns = {str(c): _lawful(frame[c], ordinal.get(str(c)), str(c) in keep, what) for c in frame.columns}
    return pd.DataFrame(columns, index=frame.index)


def lawful_together(frames: dict[str, pd.DataFrame], *, keep: Sequence[str] = ()) -> dict[str, pd.DataFrame]:
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
    whole = lawful(together, keep=keep, what=" and ".join(frames))
    return {name: whole.loc[name] for name in frames}


def _plain(frame: pd.DataFrame) -> dict[str, str]:
    """Categories as text, so that frames with different levels can stand below each other."""
    return {c: "object" for c in frame.columns if isinstance(frame[c].dtype, pd.CategoricalDtype)}


def _lawful(column: pd.Series, levels: tuple[str, ...] | None, keep: bool, what: str) -> pd.Series:
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
        return _text(column, keep, what)
    raise BenchError(
        f"{what}: column '{name}' has dtype {dtype}: expected numbers, text or true/false; leave it out with `drop`"
    )


def _text(column: pd.Series, keep: bool, what: str) -> pd.Series:
    text = column.astype("object").map(lambda v: v if pd.isna(v) else str(v))
    levels = sorted(text.dropna().unique())
    if text.notna().all() and {v.lower() for v in levels} <= {"true", "false"}:
        return text.str.lower().eq("true").astype("bool")
    if len(levels) > max(IDENTIFIER_LEVELS, len(text) // 2) and not keep:
        raise BenchError(
            f"{what}: column '{column.name}' has {len(levels):,} different texts in {len(text):,} rows: an identifier? "
            "leave it out with `drop`, or put it in `keep`"
        )
    return pd.Series(pd.Categorical(text, levels), column.index)


def _order(column: pd.Series, subject: pd.Index, name: str) -> pd.Series:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        when = column if column.dtype.kind in "iuf" else pd.to_datetime(column, errors="coerce", utc=True)
    if when.isna().any():
        raise BenchError(f"order column '{name}' has values that are neither numbers nor dates")
    return pd.Series(when.rank().to_numpy(), subject).groupby(level=0).min()
