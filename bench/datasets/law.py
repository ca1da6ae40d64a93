"""The table law: what generators, metrics and datasets agree on, and its checker.

A table is a pandas DataFrame.

* The index says who: `subject` (one row per subject), or `subject, time` (longitudinal: each subject's times run
  0, 1, 2, ... without a gap, and rows are sorted; a step without an observation is a row of missing values).
* The columns say what, by dtype: bool = a code or flag; category with string levels = nominal, ordered category =
  ordinal; float = numeric; integer = count. Missing values stand in float, nullable-integer and category columns only.
* A table survives a parquet round trip exactly (which is why the dtypes are these few).

Roles say what a column is for. They belong to the dataset, not to the frame.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pandas as pd

from bench.errors import BenchError


class LawError(BenchError):
    """A table breaks the table law."""


@dataclass(frozen=True)
class Roles:
    """What the columns of one dataset are for.

    target: bool column to predict, one value per subject.
    static: columns constant within a subject (longitudinal tables; holds the target there).
    codes: bool columns that are clinical codes.
    sensitive, quasi: columns to protect; columns an attacker is taken to know.
    describe: column -> text.
    time_unit: what one step is ("hour", "visit"), for longitudinal tables.
    """

    target: str
    static: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    sensitive: tuple[str, ...] = ()
    quasi: tuple[str, ...] = ()
    describe: Mapping[str, str] = field(default_factory=dict)
    time_unit: str | None = None

    @classmethod
    def read(cls, saved: Mapping[str, Any]) -> Self:
        """Roles from what JSON keeps of them, also of an older version that kept more."""
        known = cls.__dataclass_fields__
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in saved.items() if k in known}
        return cls(**fields)


INTEGERS = ("int64", "int32", "int16", "int8", "Int64", "Int32", "Int16", "Int8")
FLOATS = ("float64", "float32")


def kind(column: pd.Series) -> str | None:
    """ "bool", "category", "ordinal", "float" or "integer"; None for a dtype the law does not know.

    >>> kind(pd.Series([True, False])), kind(pd.Series([1, 2], dtype="Int64")), kind(pd.Series(["a"], dtype="str"))
    ('bool', 'integer', None)
    """
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return "ordinal" if dtype.ordered else "category"
    name = str(dtype)
    if name == "bool":
        return "bool"
    if name in FLOATS:
        return "float"
    return "integer" if name in INTEGERS else None


def longitudinal(table: pd.DataFrame) -> bool:
    """True where the index is `subject, time`."""
    return table.index.nlevels == 2


def subjects(table: pd.DataFrame) -> pd.Index:
    """The subjects of a table, each once, in the order they come."""
    return table.index.get_level_values("subject").unique() if longitudinal(table) else table.index


def take(table: pd.DataFrame, who: pd.Index) -> pd.DataFrame:
    """The rows of the given subjects, in the table's own order."""
    return table[table.index.get_level_values("subject").isin(who)]


def per_subject(table: pd.DataFrame, column: str) -> pd.Series:
    """A static column's one value per subject (its first), indexed by subject."""
    values = table[column]
    return values.groupby(level="subject", sort=False, observed=True).first() if longitudinal(table) else values


def faults(table: pd.DataFrame, roles: Roles | None = None) -> list[str]:
    """Every way in which a table breaks the law, each as one line; an empty list for a lawful table."""
    found = _index_faults(table)
    if table.columns.has_duplicates:
        twice = table.columns[table.columns.duplicated()][0]
        return [*found, f"column '{twice}' stands twice"]
    for name in table.columns:
        found += _column_faults(name, table[name])
    if roles is not None and not found:
        found += _role_faults(table, roles)
    return found


def check(table: pd.DataFrame, roles: Roles | None = None, *, what: str) -> None:
    """Raise LawError with the first faults of a table; `what` names it in the message."""
    found = faults(table, roles)
    if found:
        more = f" (and {len(found) - 3} more faults)" if len(found) > 3 else ""
        raise LawError(f"{what}: {'; '.join(found[:3])}{more}")


def check_like(samples: object, train: pd.DataFrame, n: int, *, static: tuple[str, ...] = (), what: str) -> None:
    """Raise LawError unless samples obey train's law: columns, dtypes, levels, n subjects, no new missing values."""
    if not isinstance(samples, pd.DataFrame):
        raise LawError(f"{what}: expected a DataFrame, got {type(samples).__name__}")
    found: list[str] = []
    if list(samples.index.names) != list(train.index.names):
        found.append(f"index names are not {list(train.index.names)}")  # what they are may be made of values
    missing = [c for c in train.columns if c not in samples.columns]
    extra = [c for c in samples.columns if c not in train.columns]
    if missing:
        found.append(f"{_some('column', missing)} missing")
    if extra:
        found.append(f"{len(extra)} column{'s' * (len(extra) > 1)} not in train")  # whose names may be made of values
    if not found and list(samples.columns) != list(train.columns):
        found.append("columns are not in train's order")
    for name in train.columns.intersection(samples.columns):
        if samples[name].dtype != train[name].dtype:
            found.append(f"column '{name}' has dtype {_dtype(samples[name])}, expected {_dtype(train[name])}")
        elif samples[name].isna().any() and not train[name].isna().any():
            found.append(f"column '{name}' has {int(samples[name].isna().sum())} missing values, train has none")
    if not found:
        found = faults(samples)
    if not found:
        if len(subjects(samples)) != n:
            found.append(f"{len(subjects(samples))} subjects, expected {n}")
        found += _static_faults(samples, static)
    if found:
        raise LawError(f"{what}: {'; '.join(found[:3])}")


def _index_faults(table: pd.DataFrame) -> list[str]:
    names = list(table.index.names)
    if names not in (["subject"], ["subject", "time"]):
        return [f"index names {names}, expected ['subject'] or ['subject', 'time']"]
    if len(table) == 0:
        return ["no rows"]
    if table.index.has_duplicates:
        return ["the index names a row twice"]
    if not longitudinal(table):
        return []
    time = table.index.get_level_values("time")
    if time.dtype.kind != "i":
        return [f"time has dtype {time.dtype}, expected an integer step"]
    codes = table.index.codes[0] if isinstance(table.index, pd.MultiIndex) else np.zeros(len(table))
    starts = np.r_[True, codes[1:] != codes[:-1]]
    if starts.sum() != table.index.get_level_values("subject").nunique():
        return ["rows of one subject do not stand together"]
    steps = np.asarray(time)
    if (steps[starts] != 0).any() or (np.diff(steps)[~starts[1:]] != 1).any():
        return ["times of a subject do not run 0, 1, 2, ... in order"]
    return []


def _column_faults(name: object, column: pd.Series) -> list[str]:
    if not isinstance(name, str):
        return [f"column name {name!r} is not a string"]
    what = kind(column)
    if what is None:
        return [f"column '{name}' has dtype {column.dtype}, expected bool, category, float or integer"]
    if what in ("category", "ordinal") and not all(isinstance(level, str) for level in column.cat.categories):
        return [f"column '{name}' has levels that are not strings"]
    if what == "float" and np.isinf(column.to_numpy()).any():
        return [f"column '{name}' has infinite values"]
    return []


def _role_faults(table: pd.DataFrame, roles: Roles) -> list[str]:
    named = {"target": (roles.target,), "static": roles.static, "codes": roles.codes, "sensitive": roles.sensitive}
    named |= {"quasi": roles.quasi}
    for role, columns in named.items():
        absent = [c for c in columns if c not in table.columns]
        if absent:
            return [f"{role} names {_some('column', absent)} that the table lacks"]
    found = [
        f"{role} column '{c}' is {table[c].dtype}, expected bool"
        for role in ("target", "codes")
        for c in named[role]
        if kind(table[c]) != "bool"
    ]
    if found:
        return found
    if longitudinal(table) and roles.target not in roles.static:
        found.append(f"target '{roles.target}' is not among the static columns of a longitudinal table")
    found += _static_faults(table, roles.static)
    values = per_subject(table, roles.target)
    if values.nunique() < 2:
        found.append(f"target '{roles.target}' has one class ({values.iloc[0]}): nothing to predict")
    return found


def _static_faults(table: pd.DataFrame, static: tuple[str, ...]) -> list[str]:
    if not longitudinal(table):
        return []
    found = []
    for name in static:
        column = table[name]
        codes = column.cat.codes if isinstance(column.dtype, pd.CategoricalDtype) else column
        groups = codes.groupby(level="subject", sort=False)
        if (groups.nunique(dropna=False) > 1).any():
            found.append(f"static column '{name}' changes within a subject")
    return found


def _some(word: str, names: list[str]) -> str:
    shown = ", ".join(f"'{n}'" for n in names[:3])
    return f"{word} {shown}" + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _dtype(column: pd.Series) -> str:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return f"category of {len(column.cat.categories)} levels"
    return str(column.dtype)
