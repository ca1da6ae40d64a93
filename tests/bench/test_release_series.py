"""Vitals of hand-made releases: the grid is written out here."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import releases
from loaded import CREDENTIALED, VITALS, load, texts
from releases import Tables, find

from bench.datasets.law import per_subject

# --- series: CHARTEVENTS ---

# subject (10001, 10005, 10007) -> channel -> hour -> mean
GRID = [
    {
        "HR": {0: 85, 2: 72, 3: 77, 23: 70},
        "SBP": {0: 115},
        "DBP": {0: 60},
        "MBP": {0: 80},
        "RR": {0: 16},
        "Temp": {0: 37.0, 2: 38.5, 3: 40.0, 4: 36.5},
        "SpO2": {0: 97},
    },
    {"HR": {0: 105, 23: 90}, "SBP": {5: 130}},
    {"HR": {13: 101, 14: 102, 15: 103, 23: 104}},
]


def grid(table: pd.DataFrame) -> list[dict[str, dict[int, float]]]:
    """What a table holds that is not missing, in GRID's form."""
    found = []
    for who in table.index.unique("subject"):
        stay = table.loc[who, [c for c in VITALS if c in table]].round(4)
        found.append({c: stay[c].dropna().to_dict() for c in stay if stay[c].notna().any()})
    return found


def test_chartevents_become_the_grid_written_here(data: Path) -> None:
    loaded = load("mimic3-mortality", data)
    assert grid(loaded.table) == GRID
    assert loaded.table.groupby(level="subject").size().tolist() == [24] * 3
    first = loaded.table.groupby(level="subject").first()
    assert first["age"].tolist() == [58, 49, 31]
    assert texts(first["race"]) == ["WHITE", "WHITE", "WHITE"]  # the first that is known
    assert first["unit"].tolist() == ["MICU", "CSRU", "MICU"]  # of the first stay, not of the first line
    assert first["gender"].tolist() == ["F", "M", "F"]
    assert first["died"].tolist() == [False, False, True]  # 10005 dies in another admission
    assert loaded.roles.time_unit == "hour"
    assert loaded.facts == {
        "patients": 7,
        "left out: under 18, or age not known": 1, "left out: under a day": 2, "left out: outcome not known": 0,
        "left out: no reading": 1, "readings": 23, "impossible readings": 3, "stays": 3, "positives": 1,
    }  # fmt: skip


def test_a_stay_is_long_from_three_days_and_a_second(data: Path) -> None:
    loaded = load("mimic3-stay", data)
    assert per_subject(loaded.table, "long_stay").tolist() == [False, False, True]
    assert grid(loaded.table) == GRID
    assert "died" not in loaded.table


@pytest.fixture
def new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process in a zone whose clocks go forward on 9 March 2132 at two."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    assert time.localtime(pd.Timestamp("2132-03-09 12:00").timestamp()).tm_isdst == 1
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("new_york")
def test_the_zone_of_the_computer_does_not_matter(data: Path) -> None:
    assert grid(load("mimic3-mortality", data).table) == GRID


def test_two_items_that_agree_are_two_readings(tmp_path: Path) -> None:
    """A row that the source repeats counts once; a cuff and an arterial line that say the same do not."""

    def change(tables: Tables) -> None:
        known = find(tables["CHARTEVENTS"], ITEMID="51")
        tables["CHARTEVENTS"].append({**known, "ITEMID": "455"})

    releases.mimic3(tmp_path, change=change)
    assert load("mimic3-mortality", tmp_path).table.loc[(0, 0), "SBP"] == pytest.approx((120 + 120 + 110) / 3)


@pytest.mark.parametrize(
    ("item", "low", "high"),
    [("211", "1", "300"), ("455", "1", "400"), ("8441", "1", "300"), ("456", "1", "300"), ("618", "1", "70"),
     ("676", "25", "45"), ("678", "77", "113"), ("646", "1", "100")],
)  # fmt: skip
def test_the_bounds_of_a_channel_are_possible(tmp_path: Path, item: str, low: str, high: str) -> None:
    def change(tables: Tables) -> None:
        row = find(tables["CHARTEVENTS"], SUBJECT_ID="10001", ITEMID="198")
        for k, value in enumerate((low, high, str(float(low) - 0.1), str(float(high) + 0.1))):
            at = f"2158-06-15 {20 + k}:40:00"
            tables["CHARTEVENTS"].append({**row, "ITEMID": item, "CHARTTIME": at, "VALUENUM": value})

    releases.mimic3(tmp_path, change=change)
    loaded = load("mimic3-mortality", tmp_path)
    late = loaded.table.loc[0].loc[11:14, VITALS].notna().any(axis=1)
    assert late.tolist() == [True, True, False, False]
    assert loaded.facts["impossible readings"] == 5


@pytest.mark.parametrize("zero", ["0", "0.0", ""])
def test_a_row_is_an_error_where_its_mark_is_not_zero(tmp_path: Path, zero: str) -> None:
    def change(tables: Tables) -> None:
        for row in tables["CHARTEVENTS"]:
            row["ERROR"] = {"0": zero, "": zero, "1": "1.0" if "." in zero else "1"}[row.get("ERROR", "")]

    releases.mimic3(tmp_path, change=change)
    assert grid(load("mimic3-mortality", tmp_path).table) == GRID


def test_rows_in_another_order_are_the_same_table(data: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)

    def shuffle(tables: Tables) -> None:
        for name, table in tables.items():
            tables[name] = [table[i] for i in rng.permutation(len(table))]

    for write in (releases.mimic3, releases.mimic4, releases.eicu):
        write(tmp_path, change=shuffle)
    for name in CREDENTIALED:
        pd.testing.assert_frame_equal(load(name, tmp_path).table, load(name, data).table)


# --- series: vitalPeriodic ---

EICU_GRID = [
    {"HR": {0: 85, 1: 70, 287: 60}, "RR": {0: 18, 1: 16}, "SpO2": {0: 97, 287: 96}},  # 002-1001
    {"HR": {2: 111}, "RR": {2: 24}, "SpO2": {2: 91}},  # 003-2002
    {"RR": {143: 12}},  # 009-8008
]


def test_vitalperiodic_becomes_the_grid_written_here(data: Path) -> None:
    loaded = load("eicu-mortality", data)
    assert grid(loaded.table) == EICU_GRID
    assert loaded.table.groupby(level="subject").size().tolist() == [288] * 3
    first = loaded.table.groupby(level="subject").first()
    assert first["age"].tolist() == [90, 45, 18]
    assert texts(first["race"]) == ["Caucasian", "Asian", "Hispanic"]
    assert first["unit"].tolist() == ["CTICU", "MICU", "MICU"]  # by year, hospital stay and visit number
    assert first["died"].tolist() == [False, True, False]
    assert loaded.roles.time_unit == "5 minutes"
    assert loaded.facts == {
        "patients": 8,
        "left out: under 18, or age not known": 2, "left out: under a day": 1, "left out: outcome not known": 1,
        "left out: no reading": 1, "readings": 14, "impossible readings": 3, "stays": 3, "positives": 1,
    }  # fmt: skip


def test_an_eicu_stay_is_long_from_three_days_and_a_minute(data: Path) -> None:
    loaded = load("eicu-stay", data)
    assert per_subject(loaded.table, "long_stay").tolist() == [False, True, False]
    assert grid(loaded.table) == EICU_GRID


def test_an_outcome_of_another_word_is_not_known(tmp_path: Path) -> None:
    def change(tables: Tables) -> None:
        find(tables["patient"], uniquepid="002-1001", unitvisitnumber="1", hospitaldischargeyear="2014")[
            "hospitaldischargestatus"
        ] = "Transferred"

    releases.eicu(tmp_path, change=change)
    loaded = load("eicu-mortality", tmp_path)
    assert loaded.facts["left out: outcome not known"] == 2
    assert grid(loaded.table) == EICU_GRID[1:]
