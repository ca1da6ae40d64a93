"""Codes, visits and tasks of hand-made releases: the tables are written out here."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import releases
from loaded import held, load, texts
from releases import Tables, find

from bench.datasets import open_dataset
from bench.datasets.law import per_subject
from bench.errors import BenchError

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
