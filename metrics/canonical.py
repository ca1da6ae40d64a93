"""The order of a table's columns and subjects, by content alone: names, units, origins and arrival do not decide it."""

from collections.abc import Mapping

import numpy as np
import pandas as pd


def canonical_columns(train: pd.DataFrame) -> list[tuple[str, np.uint64]]:
    """Return the columns of train in an order that follows from their content alone, each with a key of that content.

    A column's key sums what its values are and in which rows they stand, so that only columns that are equal row by row
    share one; those go by name.
    """
    plain = {name: _content(train[name]) for name in train.columns}
    rows = _row_keys(plain, {name: _mixed(x).sum() for name, x in plain.items()}, train.index)
    keys = {name: _mixed(x + rows).sum() for name, x in plain.items()}
    return sorted(keys.items(), key=lambda item: (item[1], str(item[0])))


def canonical(table: pd.DataFrame, order: list[tuple[str, np.uint64]], name: str) -> pd.DataFrame:
    """Sort the columns of a table as `order` has them and its subjects by content, and number subjects afresh.

    name: of the table, for the error. ValueError where a column is not in both the table and the order.
    """
    keys = dict(order)
    if set(table.columns) != set(keys):
        odd = sorted(set(table.columns) ^ set(keys))[0]
        raise ValueError(f"{name}: column '{odd}' is not in both this table and train")
    table = table[list(keys)]
    rows = _row_keys({c: _content(table[c]) for c in keys}, keys, table.index)
    if table.index.nlevels == 1:
        table = table.iloc[np.argsort(rows, kind="stable")]
        table.index = pd.RangeIndex(len(table), name="subject")
        return table
    place = pd.factorize(table.index.get_level_values("subject"))[0]
    time = table.index.get_level_values("time").to_numpy()
    subject = np.zeros(place.max() + 1, np.uint64)
    np.add.at(subject, place, rows)
    rank = np.empty(len(subject), np.int64)
    rank[np.argsort(subject, kind="stable")] = np.arange(len(subject))
    sequence = np.lexsort((time, rank[place]))
    table = table.iloc[sequence]
    table.index = pd.MultiIndex.from_arrays([rank[place][sequence], time[sequence]], names=["subject", "time"])
    return table


def _row_keys(contents: Mapping[str, np.ndarray], keys: Mapping[str, np.uint64], index: pd.Index) -> np.ndarray:
    """Return a key (n,) uint64 of each row's content and time, whatever the order of columns."""
    rows = np.zeros(len(index), np.uint64)
    for name, content in contents.items():
        rows += _mixed(content + keys[name])
    if index.nlevels == 2:
        rows = _mixed(rows + index.get_level_values("time").to_numpy().astype(np.uint64))
    return rows


def _content(values: pd.Series) -> np.ndarray:
    """Return values (n,) as uint64, equal where they are equal: levels by their names, numbers by their ranks.

    The least rank of equal numbers depends on neither unit nor origin; a gap is 0.
    """
    if isinstance(values.dtype, pd.CategoricalDtype):
        levels = pd.util.hash_array(values.cat.categories.astype(str).to_numpy(dtype=object))
        return np.append(levels, np.uint64(0))[values.cat.codes.to_numpy()]
    if str(values.dtype) == "bool":
        return values.to_numpy().astype(np.uint64)
    x = values.to_numpy(dtype=float, na_value=np.nan)
    order = np.argsort(x, kind="stable")
    starts = np.r_[True, np.diff(x[order]) > 0][: len(x)]  # of runs of equal numbers
    ranks = np.empty(len(x), np.uint64)
    ranks[order] = np.maximum.accumulate(np.where(starts, np.arange(1, len(x) + 1), 0))
    return np.where(np.isnan(x), np.uint64(0), ranks)


def _mixed(x: np.ndarray) -> np.ndarray:
    """Scatter uint64 numbers over all 64 bits (the finaliser of SplitMix64, Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
