"""The table law: what it lets through, and the one line it says of what it does not."""

import numpy as np
import pandas as pd
import pytest

from bench.datasets.law import LawError, Roles, check, check_like, faults


def flat(**columns) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    return pd.DataFrame(columns, index=pd.RangeIndex(n, name="subject"))


def long(subjects: list[int], times: list[int], **columns) -> pd.DataFrame:
    return pd.DataFrame(columns, index=pd.MultiIndex.from_arrays([subjects, times], names=["subject", "time"]))


GOOD = flat(
    y=[True, False, False],
    code=[True, True, False],
    place=pd.Categorical(["a", None, "b"]),
    grade=pd.Categorical(["low", "high", "low"], ["low", "high"], ordered=True),
    x=[1.5, np.nan, 2.0],
    k=[1, 2, 3],
    maybe=pd.array([1, None, 3], dtype="Int64"),
)


def test_a_lawful_table_has_no_faults() -> None:
    assert faults(GOOD, Roles("y", codes=("code",), quasi=("place",))) == []
    visits = long([0, 0, 1], [0, 1, 0], y=[True, True, False], x=[1.0, np.nan, 2.0])
    assert faults(visits, Roles("y", static=("y",))) == []


def test_lawful_tables_survive_parquet(tmp_path) -> None:
    GOOD.to_parquet(tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet"), GOOD)


@pytest.mark.parametrize(
    ("table", "roles", "says"),
    [
        (GOOD.rename_axis("id"), None, "index names ['id'], expected ['subject'] or ['subject', 'time']"),
        (GOOD.iloc[:0], None, "no rows"),
        (GOOD.iloc[[0, 0]], None, "names a row twice"),
        (GOOD.assign(when=pd.Timestamp("2020-01-01")), None, "column 'when' has dtype datetime64"),
        (GOOD.assign(text=["a", "b", "c"]), None, "column 'text' has dtype"),
        (GOOD.assign(x=[1.0, np.inf, 2.0]), None, "column 'x' has infinite values"),
        (GOOD.assign(place=pd.Categorical([1, 2, 1])), None, "levels that are not strings"),
        (pd.concat([GOOD, GOOD[["x"]]], axis=1), None, "column 'x' stands twice"),
        (GOOD.rename(columns={"x": 7}), None, "column name 7 is not a string"),
        (GOOD, Roles("z"), "target names column 'z' that the table lacks"),
        (GOOD, Roles("x"), "target column 'x' is float64, expected bool"),
        (GOOD, Roles("y", codes=("k",)), "codes column 'k' is int64, expected bool"),
        (GOOD.assign(y=False), Roles("y"), "target 'y' has one class (False): nothing to predict"),
        (long([0, 0, 1], [0, 2, 0], y=[True, True, False]), None, "do not run 0, 1, 2"),
        (long([0, 1, 0], [0, 0, 1], y=[True, True, False]), None, "do not stand together"),
        (long([0, 0, 1], [0, 1, 0], y=[True, False, False]), Roles("y", static=("y",)), "'y' changes within a subject"),
        (long([0, 0, 1], [0, 1, 0], y=[True, True, False]), Roles("y"), "not among the static columns"),
    ],
)
def test_a_fault_is_one_clear_line(table, roles, says) -> None:
    with pytest.raises(LawError) as error:
        check(table, roles, what="my table")
    assert says in str(error.value)
    assert str(error.value).startswith("my table: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("samples", "n", "says"),
    [
        ([1, 2], 3, "expected a DataFrame, got list"),
        (GOOD.drop(columns="x"), 3, "column 'x' missing"),
        (GOOD.assign(more=1), 3, "1 column not in train"),
        (GOOD[GOOD.columns[::-1]], 3, "not in train's order"),
        (GOOD.astype({"x": "float32"}), 3, "column 'x' has dtype float32, expected float64"),
        (GOOD.assign(place=pd.Categorical(["a", "c", "a"])), 3, "column 'place' has dtype category"),
        (GOOD, 4, "3 subjects, expected 4"),
        (GOOD.reset_index(), 3, "index names"),
    ],
)
def test_samples_are_held_to_trains_law(samples, n, says) -> None:
    with pytest.raises(LawError, match=says):
        check_like(samples, GOOD, n, what="samples")


def test_samples_may_not_have_gaps_that_train_has_not() -> None:
    train = flat(y=[True, False], x=[1.0, 2.0])
    check_like(train, train, 2, what="samples")
    with pytest.raises(LawError, match="column 'x' has 1 missing values, train has none"):
        check_like(train.assign(x=[1.0, np.nan]), train, 2, what="samples")


def test_many_faults_are_cut_short() -> None:
    table = flat(**{f"c{i}": ["text", "text"] for i in range(6)})
    with pytest.raises(LawError, match="and 3 more faults"):
        check(table, what="t")
