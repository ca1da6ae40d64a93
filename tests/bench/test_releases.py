"""Loaders of credentialed releases: hand-made ones whose tables are written out here, and the open demo releases."""

import gzip
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import releases
from releases import Tables, find, rows

from bench.datasets import DATASETS, digest, open_dataset
from bench.datasets.data import Absent, Data
from bench.datasets.law import faults, per_subject
from bench.errors import BenchError
from bench.store import Store
from conftest import environment

CREDENTIALED = [name for name, row in DATASETS.items() if row.access == "credentialed"]
SERIES = [name for name in CREDENTIALED if DATASETS[name].readings]
FLAT = ["mimic3-codes", "mimic4-codes", "eicu-codes"]
VITALS = ["HR", "SBP", "DBP", "MBP", "RR", "Temp", "SpO2"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three hand-made releases; nothing is changed there."""
    folder = tmp_path_factory.mktemp("data")
    for write in (releases.mimic3, releases.mimic4, releases.eicu):
        write(folder)
    return folder


@cache
def load(name: str, data: Path) -> Data:
    """A dataset, which keeps the law; read once where several tests look at it."""
    loaded = open_dataset(name, data).load()
    assert faults(loaded.table, loaded.roles) == []
    return loaded


def held(table: pd.DataFrame, codes: tuple[str, ...]) -> list[str]:
    """The codes of each row, as text."""
    return [" ".join(c for c, have in zip(codes, row, strict=True) if have) for row in table[list(codes)].to_numpy()]


def texts(column: pd.Series) -> list[str]:
    return ["" if pd.isna(value) else str(value) for value in column]


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
        "patients": 7, "left out: under 18, or age not known": 1, "left out: under a day": 2, "left out: outcome not known": 0,
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
        "patients": 8, "left out: under 18, or age not known": 2, "left out: under a day": 1, "left out: outcome not known": 1,
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


# --- codes ---


def test_mimic3_codes_are_the_table_written_here(data: Path) -> None:
    loaded = load("mimic3-codes", data)
    table = loaded.table
    # 10001, 10002, ..., 10007
    assert table["age"].tolist() == [58, 90, 0, 40, 49, 60, 31]
    assert table["gender"].tolist() == ["F", "M", "F", "M", "M", "F", "F"]
    assert texts(table["race"]) == ["WHITE", "ASIAN", "BLACK/AFRICAN AMERICAN", "", "WHITE", "ASIAN", "WHITE"]
    assert table["died"].tolist() == [False, False, False, False, True, False, True]
    assert held(table, loaded.roles.codes) == ["250 428 E878", "403 V45", "V30", "", "038 250", "428", "493"]
    assert loaded.roles.codes == tuple(sorted(loaded.roles.codes))
    assert loaded.roles.describe["428"] == "Heart failure"
    assert loaded.facts == {
        "patients": 7, "admissions": 9, "diagnoses": 12, "codes": 9, "diagnoses without a code": 1,
        "diagnoses not of ICD-9's form": 0, "columns of codes": 8, "diagnoses without a group": 0,
    }  # fmt: skip


def test_mimic3_visits_are_the_table_written_here(data: Path) -> None:
    loaded = load("mimic3-visits", data)
    table = loaded.table
    assert table.index.tolist() == [(0, 0), (0, 1), (1, 0), (2, 0), (3, 0), (4, 0), (4, 1), (5, 0), (6, 0)]
    # 10001 is admitted the day before a birthday, the second time
    assert table["age"].tolist() == [58, 59, 90, 0, 40, 49, 50, 60, 31]
    assert held(table, loaded.roles.codes) == ["428", "250 E878", "403 V45", "V30", "", "250", "038", "428", "493"]
    assert per_subject(table, "died").tolist() == [False, False, False, False, True, False, True]
    assert loaded.roles.static == ("gender", "race", "died")
    ever = table[list(loaded.roles.codes)].groupby(level="subject").any()
    pd.testing.assert_frame_equal(ever, load("mimic3-codes", data).table[list(loaded.roles.codes)], check_names=False)


def test_codes_are_cut_as_far_as_the_name_says(data: Path) -> None:
    full = load("mimic3-codes[level=full]", data)
    assert held(full.table, full.roles.codes)[0] == "25000 4280 E8788"
    ccs = load("mimic3-codes[level=ccs]", data)
    assert held(ccs.table, ccs.roles.codes)[5] == "ccs 108"  # congestive heart failure
    assert ccs.roles.describe["ccs 108"].startswith("Congestive heart failure")
    chapter = load("mimic3-codes[level=chapter]", data)
    assert held(chapter.table, chapter.roles.codes)[5] == "chapter 390-459"
    with pytest.raises(BenchError, match="level=chapters: expected one of category, full, ccs, chapter"):
        open_dataset("mimic3-codes[level=chapters]", data).load()


def test_mimic4_codes_are_the_table_written_here(data: Path) -> None:
    loaded = load("mimic4-codes", data)
    table = loaded.table
    # 10000001, ..., 10000004; of 10000003, never admitted, nothing is known: no DIVORCED, no first race of a list
    assert table["age"].tolist() == [52, 90, 30, 17]
    assert table["gender"].tolist() == ["F", "M", "F", "M"]
    assert table["admissions"].tolist() == [2, 1, 0, 1]
    assert texts(table["marital_status"]) == ["MARRIED", "WIDOWED", "", "SINGLE"]
    assert texts(table["race"]) == ["WHITE", "", "", "ASIAN"]
    assert table["died"].tolist() == [False, True, False, True]  # a date of death is known
    # 0730 is both A70 and J17; 25000 is E119; V6441 is nothing
    assert held(table, loaded.roles.codes) == ["A70 E11 I10 J17", "J45", "", "I10"]
    assert loaded.facts["ICD-9 diagnoses without an ICD-10 target"] == 1
    assert loaded.facts["ICD-9 codes without an ICD-10 target"] == 1
    assert (loaded.facts["codes (ICD-9)"], loaded.facts["codes (ICD-10)"]) == (4, 3)
    assert loaded.order is not None
    assert loaded.order.tolist() == [2, 3, 4, 1]  # of anchor_year_group


def test_mimic4_visits_are_the_table_written_here(data: Path) -> None:
    loaded = load("mimic4-visits", data)
    table = loaded.table
    assert table.index.tolist() == [(0, 0), (0, 1), (1, 0), (2, 0)]
    assert table["age"].tolist() == [51, 54, 90, 17]  # by the anchor; 10000002 is shown as 91 there
    assert held(table, loaded.roles.codes) == ["A70 E11 J17", "E11 I10", "J45", "I10"]
    assert per_subject(table, "died").tolist() == [False, True, False]  # in hospital
    assert "admissions" not in table
    assert loaded.order is not None
    assert loaded.order.tolist() == [2, 3, 1]


def test_eicu_codes_are_the_table_written_here(data: Path) -> None:
    loaded = load("eicu-codes", data)
    table = loaded.table
    # 002-1001, ..., 009-8008
    assert table["age"].astype("float").fillna(-1).tolist() == [90, 45, 17, 50, 51, 52, -1, 18]
    assert texts(table["gender"]) == ["Female", "Male", "Male", "", "Female", "Female", "Male", "Male"]
    assert texts(table["race"])[:4] == ["Caucasian", "Asian", "Asian", ""]
    assert table["died"].tolist() == [False, True, False, False, False, False, False, False]
    # 003-2002: "I50.9, 428.0" has its ICD-9 last, "I10" has none
    assert held(table, loaded.roles.codes) == ["250 401", "428", "493", "", "", "", "", "E980 V58"]
    assert loaded.facts["diagnoses"] == 9
    assert loaded.facts["diagnoses without a code"] == 1
    assert loaded.facts["diagnoses coded in ICD-10 only"] == 1


def test_what_is_neither_version_is_not_counted_as_icd10(tmp_path: Path) -> None:
    """Like 31.1, a procedure, in the demo."""
    releases.eicu(tmp_path, change=lambda tables: find(tables["diagnosis"], icd9code="I10").update(icd9code="31.1"))
    assert load("eicu-codes", tmp_path).facts["diagnoses coded in ICD-10 only"] == 0


# --- tasks ---

# task -> in ICD-9, then in ICD-10: codes that make somebody positive, and codes that do not
TASKS = {
    "type-2-diabetes": [
        ("25000 25002 25040 25092", "25001 25003 24900 7902 6480"),
        ("E119 E1165 E1122", "E109 E139 O2411 R7303"),
    ],
    "asthma": [("49300 49312 49390", "4912 4940 49120 5198"), ("J4520 J45909 J45998", "J449 J479 J410")],
    "copd": [
        ("490 4919 49121 4928 4940 4941 496", "4660 4959 49390 500"),
        ("J40 J410 J42 J439 J440 J449 J479", "J209 J4520 J60 J391"),
    ],
    "ckd": [("5851 5856 5859", "5849 586 40391 28521"), ("N181 N1830 N186 N189", "N179 N19 I129 D631")],
    "hypertensive-heart-disease": [
        ("40200 40291 40400 40493", "4010 40391 40511 4280 4160"),
        ("I110 I119 I130 I132", "I10 I129 I150 I509 I160"),
    ],
    "osteoarthritis": [
        ("71500 71536 71598", "7140 71690 7210 7197"),
        ("M150 M1611 M179 M189 M1990", "M069 M1000 M130 M479 M2550"),
    ],
}


def one_code_each(codes: list[str], version: int) -> Callable[[Tables], None]:
    """A change: patient 500000 + i has the i-th code, and the one before them all has none."""

    def change(tables: Tables) -> None:
        nine = version == 9
        diagnoses = tables["DIAGNOSES_ICD" if nine else "diagnoses_icd"] = []
        people = tables["PATIENTS" if nine else "patients"]
        admissions = tables["ADMISSIONS" if nine else "admissions"]
        person, admission = people[0], admissions[0]
        people[:], admissions[:] = [], []
        subject, hadm = ("SUBJECT_ID", "HADM_ID") if nine else ("subject_id", "hadm_id")
        flag = "HOSPITAL_EXPIRE_FLAG" if nine else "hospital_expire_flag"
        for i, code in enumerate(["", *codes], 499_999):
            who = {subject: str(i)}
            people.append({**person, **who} | ({} if nine else {"dod": "2199-01-01" if i % 2 else ""}))
            admissions.append({**admission, **who, hadm: str(i), flag: str(i % 2)})
            written = {"ICD9_CODE": code} if nine else {"icd_code": code, "icd_version": "10"}
            diagnoses += [{**who, hadm: str(i), "SEQ_NUM": "1", **written}] if code else []

    return change


@pytest.mark.parametrize("version", [9, 10])
def test_tasks_know_their_codes(tmp_path: Path, version: int) -> None:
    sets = {task: [part.split() for part in both[version == 10]] for task, both in TASKS.items()}
    codes = list(dict.fromkeys(code for pair in sets.values() for part in pair for code in part))
    write, name = (releases.mimic3, "mimic3-codes") if version == 9 else (releases.mimic4, "mimic4-codes")
    write(tmp_path, change=one_code_each(codes, version))
    tasks = load(name, tmp_path).tasks
    assert set(tasks) == set(TASKS)
    for task, (positive, near) in sets.items():
        found = dict(zip(["", *codes], tasks[task].positive, strict=True))
        assert [c for c in positive if not found[c]] == [], task
        assert [c for c in near if found[c]] == [], task
        assert not found[""]


@pytest.mark.parametrize(
    ("name", "gone", "positive"),
    [
        ("mimic3-codes[target=asthma]", ["493"], [6]),
        ("mimic3-codes[target=type-2-diabetes]", ["250"], [0, 4]),
        ("mimic3-codes[level=full,target=type-2-diabetes]", ["25000", "25002"], [0, 4]),
        ("mimic3-codes[level=ccs,target=asthma]", ["ccs 128"], [6]),
        ("mimic3-codes[level=chapter,target=asthma]", ["chapter 460-519"], [6]),
        ("mimic4-codes[target=asthma]", ["J45"], [1]),
        ("mimic4-codes[target=type-2-diabetes]", ["E11"], [0]),
        ("eicu-codes[target=asthma]", ["493"], [2]),
    ],
)
def test_a_task_takes_the_place_of_the_columns_that_define_it(
    name: str, gone: list[str], positive: list[int], data: Path
) -> None:
    plain, task = load(re.sub(r",?target=[\w-]+", "", name).replace("[]", ""), data), load(name, data)
    target = name.split("target=")[1].rstrip("]").split(",")[0]
    assert sorted(set(plain.table) - set(task.table)) == gone
    assert set(task.table) - set(plain.table) == {target}
    assert task.roles.target == target
    assert np.flatnonzero(task.table[target]).tolist() == positive
    assert "died" in task.table  # one more flag
    assert {"died", target} <= set(task.roles.sensitive)
    assert not set(gone) & {*task.roles.codes, *task.roles.sensitive, *task.roles.describe}
    assert task.roles.describe[target]


def test_a_near_relative_of_a_task_is_not_positive_and_goes_too(tmp_path: Path) -> None:
    """Type 1 diabetes shares its category with type 2: the flag that both raise would give much away."""
    releases.mimic3(tmp_path, change=lambda t: find(t["DIAGNOSES_ICD"], ICD9_CODE="25002").update(ICD9_CODE="25001"))
    task = load("mimic3-codes[level=full,target=type-2-diabetes]", tmp_path)
    assert np.flatnonzero(task.table["type-2-diabetes"]).tolist() == [0]
    assert not {"25000", "25001"} & set(task.table)


def test_type_1_with_a_complication_is_not_type_2_by_way_of_the_map(tmp_path: Path) -> None:
    """357.2, neuropathy in any diabetes, is mapped to E10.42, E11.42 and others at once, 362.01 to E11.319 alone."""

    def change(tables: Tables) -> None:
        table = tables["diagnoses_icd"]
        known = find(table, icd_code="4019")
        table += [{**known, "icd_code": code} for code in ("25061", "3572", "36201")]

    releases.mimic4(tmp_path, change=change)
    loaded = load("mimic4-codes[target=type-2-diabetes]", tmp_path)
    assert np.flatnonzero(loaded.table["type-2-diabetes"]).tolist() == [0]


def test_a_code_can_be_the_target_too(data: Path) -> None:
    loaded = load("mimic3-codes[target=428]", data)
    assert loaded.roles.target == "428"
    assert "428" not in loaded.roles.codes
    assert np.flatnonzero(loaded.table["428"]).tolist() == [0, 5]


def test_an_unknown_target_is_one_line_that_names_known_ones(data: Path) -> None:
    with pytest.raises(BenchError) as error:
        open_dataset("mimic3-codes[target=ashtma]", data).load()
    said = str(error.value)
    assert "unknown target 'ashtma': did you mean 'asthma'?" in said
    assert "\n" not in said
    assert all(task in said for task in TASKS)


def test_a_target_that_nobody_has_is_one_line(data: Path) -> None:
    with pytest.raises(BenchError, match="target 'osteoarthritis' has one class") as error:
        open_dataset("mimic3-codes[target=osteoarthritis]", data).load()
    assert "\n" not in str(error.value)


# --- larger drawn releases ---


@pytest.mark.parametrize("name", CREDENTIALED)
def test_drawn_releases_are_read_too(name: str, drawn: Path) -> None:
    loaded = load(name, drawn)
    assert len(loaded.table.index.unique("subject")) == 40
    assert 8 <= per_subject(loaded.table, loaded.roles.target).sum() <= 32
    assert "subset" not in loaded.facts


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    for write in (releases.mimic3, releases.mimic4, releases.eicu):
        write(folder, 40)
    return folder


@pytest.mark.parametrize("name", CREDENTIALED)
def test_somebody_has_each_level_of_a_category(name: str, data: Path) -> None:
    """No adult is in NICU, and no table of adults has the level."""
    table = load(name, data).table
    for column in table.select_dtypes("category"):
        assert set(table[column].cat.categories) == set(table[column].dropna()), column


@pytest.mark.parametrize("name", CREDENTIALED)
def test_no_number_of_the_source_enters_a_table(name: str, drawn: Path) -> None:
    table = load(name, drawn).table
    assert table.index.unique("subject").tolist() == list(range(40))
    assert not [c for c in table if re.search(r"_id$|stay$|pid$", c) and c != "long_stay"]


# --- demo releases ---

MIMIC3_DEMO = {"patients": 100, "admissions": 129, "diagnoses": 1_761, "codes": 581}
MIMIC4_DEMO = {"patients": 100, "admissions": 275, "diagnoses": 4_506, "codes (ICD-9)": 740, "codes (ICD-10)": 734}
DEMOS = {
    "mimic3-codes": MIMIC3_DEMO,
    "mimic3-visits": MIMIC3_DEMO,
    "mimic4-codes": MIMIC4_DEMO,
    "mimic4-visits": MIMIC4_DEMO,
    "eicu-codes": {"patients": 1_841, "stays": 2_520, "expired": 212, "diagnoses": 24_978},
}
FILES = {
    "mimic3": ("mimic-iii-demo-1.4", ["PATIENTS", "ADMISSIONS", "DIAGNOSES_ICD", "ICUSTAYS"], "mimic-iii-1.4"),
    "mimic4": ("mimic-iv-demo-2.2/hosp", ["patients", "admissions", "diagnoses_icd"], "mimic-iv-3.1"),
    "eicu": ("eicu-demo-2.0.1", ["patient", "diagnosis"], "eicu-crd-2.0"),
}


@pytest.mark.parametrize("name", DEMOS)
def test_demos_have_the_counts_known(name: str, data_dir: Path) -> None:
    loaded = load(name, demo(name, data_dir))
    assert {k: loaded.facts[k] for k in DEMOS[name]} == DEMOS[name]
    assert str(loaded.facts["subset"]).startswith("the demo release, ")
    died = per_subject(loaded.table, "died")
    ends = {"mimic3-visits": 129, "mimic4-visits": 275}
    assert len(loaded.table) == ends.get(name, len(died))
    # 40 of 129 admissions end in death, each another patient's
    positives = {"mimic3-codes": 40, "mimic3-visits": 40, "mimic4-codes": 31, "mimic4-visits": 15, "eicu-codes": 181}
    assert died.sum() == positives[name]


def demo(name: str, data_dir: Path) -> Path:
    """The folder of data, where it has the demo that a dataset reads, and no whole release besides."""
    source = open_dataset(name, data_dir)
    if source.folder is None or "demo" not in source.folder.name:
        pytest.skip(f"{name}: the demo release is not here, or a whole one is")
    return data_dir


def test_the_deaths_of_the_demo_by_its_file(data_dir: Path) -> None:
    folder = demo("mimic3-codes", data_dir) / FILES["mimic3"][0]
    admissions = pd.read_csv(folder / "ADMISSIONS.csv.gz")
    assert admissions["hospital_expire_flag"].sum() == 40
    assert len(pd.read_csv(folder / "ICUSTAYS.csv.gz")) == 136


def test_a_demo_patient_by_hand(data_dir: Path) -> None:
    """The first rows of the demo's files: 10006, born 2094-03-05, admitted 2164-10-23."""
    loaded = load("mimic3-visits", demo("mimic3-visits", data_dir))
    folder = data_dir / FILES["mimic3"][0]
    codes = pd.read_csv(folder / "DIAGNOSES_ICD.csv.gz", dtype=str)
    cut = {c[:4] if c[0] == "E" else c[:3] for c in codes["icd9_code"][codes["hadm_id"] == "142345"]}
    row = loaded.table.loc[(0, 0)]
    assert (row["age"], row["gender"], row["race"], row["died"]) == (70, "F", "BLACK/AFRICAN AMERICAN", False)
    assert {c for c in loaded.roles.codes if row[c]} == cut


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize(
    ("upper", "packed", "below"), [(True, True, ""), (False, False, "hosp"), (True, False, "hosp")]
)
def test_a_release_is_the_same_however_its_files_are_named(
    kind: str, upper: bool, packed: bool, below: str, data_dir: Path, tmp_path: Path
) -> None:
    where, tables, folder = FILES[kind]
    here = demo(f"{kind}-codes", data_dir) / where
    to = tmp_path / folder / below
    to.mkdir(parents=True)
    for table in tables:
        plain = gzip.decompress((here / f"{table}.csv.gz").read_bytes())
        name = table.upper() if upper else table.lower()
        (to / f"{name}.csv{'.gz' if packed else ''}").write_bytes(gzip.compress(plain, 1) if packed else plain)
    found, expected = (load(f"{kind}-codes", d) for d in (tmp_path, data_dir))
    pd.testing.assert_frame_equal(found.table, expected.table)
    assert found.facts == expected.facts


def test_an_ending_in_capitals_is_an_ending_too(data: Path, tmp_path: Path) -> None:
    folder = releases.mimic3(tmp_path)
    for path in list(folder.iterdir()):
        path.rename(path.with_name(path.name.upper()))
    for name in ("mimic3-codes", "mimic3-mortality"):
        pd.testing.assert_frame_equal(load(name, tmp_path).table, load(name, data).table)


def test_an_unpacked_file_comes_before_a_packed_one(data: Path, tmp_path: Path) -> None:
    folder = releases.mimic3(tmp_path, packed=False)
    (folder / "PATIENTS.csv.gz").write_bytes(b"half of an unfinished")
    pd.testing.assert_frame_equal(load("mimic3-codes", tmp_path).table, load("mimic3-codes", data).table)


@pytest.mark.parametrize("name", CREDENTIALED)
def test_a_missing_table_is_one_line_that_names_it(name: str, data: Path, tmp_path: Path) -> None:
    for gone in DATASETS[name].tables:
        copy = shutil.copytree(data, tmp_path / gone)
        (path,) = copy.rglob(f"{gone}.csv.gz")
        path.unlink()
        source = open_dataset(name, copy)
        with pytest.raises(Absent) as error:
            source.load()
        assert f"lacks {gone}.csv (or .csv.gz): put " in str(error.value)
        assert "\n" not in str(error.value)
        assert str(source.absence()) in str(error.value)


@pytest.mark.parametrize("name", CREDENTIALED)
def test_without_a_release_it_is_said_what_to_put_where(name: str, tmp_path: Path) -> None:
    source = open_dataset(name, tmp_path)
    assert all(f"{table}.csv.gz" in str(source.absence()) for table in DATASETS[name].tables)
    assert f"into DATA/{DATASETS[name].folders[0]}, from https://physionet.org/" in str(source.absence())


def test_data_check_calls_the_demo_a_subset(
    data_dir: Path, bench: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = bench("data", "check", "mimic3-codes", "--data", str(demo("mimic3-codes", data_dir)))
    assert done.returncode == 0, done.stderr
    assert re.search(r"patients +100 +46,520 +a subset: the demo release, 100 of 46,520 patients", done.stdout)


# --- the store ---


def test_datasets_of_one_release_share_the_readings(data: Path, tmp_path: Path) -> None:
    """CHARTEVENTS is read once: gathered for the first, it may be gone for the second but for its hash."""
    store = Store.open(tmp_path)
    for names in (["mimic3-mortality", "mimic3-stay"], ["eicu-mortality", "eicu-stay"]):
        marks = []
        for name in names:
            kept, read = store.table(open_dataset(name, data)), load(name, data)
            pd.testing.assert_frame_equal(kept.table, read.table)
            assert (kept.roles, kept.facts) == (read.roles, read.facts)
            marks.append({p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in gathered(store)})
        assert marks[0] == marks[1]
    assert len(gathered(store)) == 2


def gathered(store: Store) -> list[Path]:
    return sorted((store.private / "tables").glob("readings-*"))


def test_a_second_dataset_does_not_ask_for_the_readings_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.datasets import mimic3

    store = Store.open(tmp_path)
    store.table(open_dataset("mimic3-mortality", data))
    monkeypatch.setattr(mimic3, "readings", lambda *_: pytest.fail("gathered twice"))
    assert "long_stay" in store.table(open_dataset("mimic3-stay", data)).table


def test_other_readings_are_gathered_where_a_file_is_another(data: Path, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    releases.mimic3(tmp_path / "data")
    store.table(open_dataset("mimic3-mortality", tmp_path / "data"))
    releases.mimic3(
        tmp_path / "data", change=lambda t: find(t["CHARTEVENTS"], ITEMID="646", VALUENUM="97").update(VALUENUM="91")
    )
    assert store.table(open_dataset("mimic3-mortality", tmp_path / "data")).table.loc[(0, 0), "SpO2"] == 91
    assert len(gathered(store)) == 2


def test_what_holds_rows_is_private(data: Path, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    store.table(open_dataset("mimic3-mortality", data))
    assert stat.S_IMODE(store.private.stat().st_mode) == 0o700
    assert [stat.S_IMODE(p.stat().st_mode) for p in gathered(store)] == [0o700]
    outside = [p for p in (tmp_path / "store").rglob("*") if p.is_file() and store.private not in p.parents]
    assert [p.name for p in outside] == ["store.json"]


def test_a_dataset_that_cannot_be_read_leaves_no_half_of_its_readings(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    folder = releases.mimic3(tmp_path / "data")
    path = folder / "CHARTEVENTS.csv.gz"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(BenchError, match="CHARTEVENTS"):
        store.table(open_dataset("mimic3-mortality", tmp_path / "data"))
    assert list((store.private / "tables").iterdir()) == []


# --- hashes of large files ---


@pytest.fixture
def memo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of hashes, with every file large and nothing known yet."""
    monkeypatch.setattr(digest, "LARGE", 0)
    monkeypatch.setattr(digest, "_hashed", {})
    monkeypatch.setattr(digest, "_memo", [tmp_path / "sha256.json"])
    return tmp_path / "sha256.json"


def test_a_hash_is_remembered_by_the_next_process(memo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "big.csv"
    file.write_bytes(b"a,b\n1,2\n")
    first = digest.sha256(file)
    assert first == subprocess.run(["sha256sum", file], capture_output=True, text=True, check=True).stdout.split()[0]
    monkeypatch.setattr(digest, "_hashed", {})
    monkeypatch.setattr(digest, "_of_file", lambda _: pytest.fail("hashed again"))
    assert digest.sha256(file) == first
    code = (
        "import sys; from pathlib import Path; from bench.datasets import digest; digest.LARGE = 0; "
        "digest._of_file = lambda _: 'hashed again'; digest.remember_in(Path(sys.argv[1])); "
        "print(digest.sha256(Path(sys.argv[2])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, memo, file], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == first


def test_a_changed_file_has_another_hash(memo: Path, tmp_path: Path) -> None:
    file = tmp_path / "big.csv"
    file.write_bytes(b"a,b\n1,2\n")
    first = digest.sha256(file)
    file.write_bytes(b"a,b\n1,3\n")
    os.utime(file, ns=(1, 1))  # not later than before
    assert digest.sha256(file) != first
    assert len(json.loads(memo.read_text())) == 2


@pytest.mark.parametrize("torn", [b"", b'{"a', b"\xff\xfe", b"[1, 2]", b"null"])
def test_a_torn_file_of_hashes_does_not_matter(
    torn: bytes, memo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "big.csv"
    file.write_bytes(b"a,b\n1,2\n")
    first = digest.sha256(file)
    memo.write_bytes(torn)
    monkeypatch.setattr(digest, "_hashed", {})
    assert digest.sha256(file) == first
    assert json.loads(memo.read_text())


def test_hashes_are_kept_in_the_private_folder(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "LARGE", 0)
    monkeypatch.setattr(digest, "_hashed", {})
    store = Store.open(tmp_path)
    _ = open_dataset("mimic3-codes", data).identity
    known: Mapping[str, str] = json.loads((store.private / "sha256.json").read_text())
    assert len(known) == 3
    assert stat.S_IMODE(store.private.stat().st_mode) == 0o700


def test_rows_of_a_text_are_rows() -> None:
    assert rows("a | b\n 1 | \n") == [{"a": "1", "b": ""}]
