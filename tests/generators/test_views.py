"""Views: what goes in comes back, on every shape, from train's facts alone."""

import numpy as np
import pandas as pd
import pytest

from bench.datasets import open_dataset
from bench.doctor import TABLES
from generators.columns import Column, Layout, interpolate
from generators.encode import Bins, Matrix, Series, Tokens


def load(shape: str):
    data = open_dataset(TABLES[shape], None).load()
    return data.table, data.roles.static


def same(back: pd.DataFrame, table: pd.DataFrame, **tolerance: float) -> None:
    pd.testing.assert_frame_equal(back, table, check_index_type=False, **tolerance)


@pytest.mark.parametrize("scale", ["standard", "robust", "quantile"])
@pytest.mark.parametrize("shape", TABLES)
def test_matrix_and_series_come_back(shape: str, scale: str) -> None:
    table, static = load(shape)
    matrix = Matrix.fit(table, static=static, scale=scale)
    x = matrix.transform(table)
    assert x.dtype == np.float32
    assert np.isfinite(x).all()
    same(matrix.inverse(x), table, rtol=1e-4, atol=1e-4)
    series = Series.fit(table, static=static, scale=scale)
    grid, rest = series.transform(table)
    same(series.inverse(grid, rest), table, rtol=1e-4, atol=1e-4)
    assert [f.stop for f in matrix.features][-1] == x.shape[1]
    assert [f.start for f in matrix.features] == [0, *[f.stop for f in matrix.features][:-1]]
    for f in matrix.features:
        if f.kind != "number":
            assert set(np.unique(x[:, f.start : f.stop])) <= {0.0, 1.0}


@pytest.mark.parametrize("shape", TABLES)
def test_tokens_come_back_inside_their_bin(shape: str) -> None:
    table, static = load(shape)
    view = Tokens.fit(table, static=static, bins=8)
    tokens = view.transform(table)
    assert tokens.shape[1] == len(view.sizes)
    assert ((tokens >= 0) & (tokens < view.sizes)).all()
    back = view.inverse(tokens, seed=0)
    assert (view.transform(back) == tokens).all()
    assert (back.dtypes == table.dtypes).all()
    exact = [c for c in table if table[c].dtype.kind not in "f"]
    few = [c for c in exact if table[c].nunique() <= 8]
    same(back[few], table[few])
    assert view.inverse(tokens, seed=0).equals(back)


def test_rows_never_seen_are_encoded_by_trains_facts() -> None:
    train = pd.Series([0.0, 10.0, 20.0], name="x")
    column = Column.fit(train)
    assert column.encode(pd.Series([1_000.0], name="x"))[0, 0] == pytest.approx((1_000 - 10) / column.scale, rel=1e-5)
    assert column.decode(np.array([[99.0]], np.float32))[0] == 20.0  # inside train's range


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([1.25, 3.5, np.nan, 2.0], name="v"),
        pd.Series([1, 2, 3, 900], name="v"),
        pd.Series([1, None, 3, 4], dtype="Int64", name="v"),
        pd.Series(pd.Categorical(["b", None, "a", "b"], ["a", "b", "c"], ordered=True), name="v"),
        pd.Series([True, False, True, True], name="v"),
        pd.Series([5.0, 5.0, 5.0, 5.0], name="v"),
        pd.Series([np.nan] * 4, name="v"),
        pd.Series(pd.Categorical([None] * 4, []), name="v"),
        pd.Series([0.1, 0.2, 0.3, 1e6], dtype="float32", name="v"),
    ],
    ids=["gaps", "counts", "counts with gaps", "ordinal", "flag", "constant", "all missing", "no level", "float32"],
)
def test_every_kind_of_column(values: pd.Series) -> None:
    for scale in ("standard", "robust", "quantile"):
        column = Column.fit(values, scale)
        features = column.encode(values)
        assert features.shape == (4, column.width)
        pd.testing.assert_series_equal(column.decode(features), values, check_names=False, rtol=1e-3)
    bins = Bins.fit(values, bins=8)
    tokens = bins.encode(values)
    back = bins.decode(tokens, np.random.default_rng(0))
    pd.testing.assert_series_equal(back, values, check_names=False, rtol=1e-6)


def test_decimals_are_kept() -> None:
    column = Column.fit(pd.Series([12.25, 3.5, 7.0], name="v"))
    assert column.decimals == 2
    assert column.decode(np.array([[0.1234]], np.float32))[0] == round(float(column.center + 0.12340 * column.scale), 2)
    assert Column.fit(pd.Series(np.random.default_rng(0).normal(size=50), name="v")).decimals == -1


def test_lengths_alone_decide_how_many_rows_come_back() -> None:
    table, static = load("visits")
    matrix = Matrix.fit(table, static=static)
    x = matrix.transform(table)
    at = next(f.start for f in matrix.features if f.column == "length")
    steps = matrix.series.layout.steps
    x[:, at] = 2 / steps
    assert (matrix.inverse(x).groupby(level="subject").size() == 2).all()


def test_cover_cuts_long_subjects() -> None:
    table, static = load("visits")
    lengths = table.groupby(level="subject").size()
    layout = Layout.fit(table, static, cover=0.9)
    assert layout.steps < lengths.max()
    assert (lengths <= layout.steps).mean() >= 0.9
    back = Matrix.fit(table, static=static, cover=0.9)
    assert back.inverse(back.transform(table)).groupby(level="subject").size().max() == layout.steps


def test_columns_held_apart_come_back_as_handed() -> None:
    table, static = load("series")
    target = "died"
    view = Matrix.fit(table, static=static, without=[target])
    n = table.index.get_level_values("subject").nunique()
    back = view.inverse(view.transform(table), held={target: pd.Series(np.ones(n, bool))})
    assert back[target].all()
    assert list(back.columns) == list(table.columns)


def test_interpolation_by_hand() -> None:
    x = np.array([[9.0, 1, 9, 9, 7], [9, 9, 9, 9, 9]])
    seen = np.array([[False, True, False, False, True], [False] * 5])
    assert interpolate(x, seen).tolist() == [[1, 1, 3, 5, 7], [0] * 5]
