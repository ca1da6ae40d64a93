"""PhysioNet 2019 on tiny files in its layout: the landmark, its grid, and what is refused."""

import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from loaded import refused

from bench.datasets import cinc2019, law
from bench.datasets.data import Data
from conftest import write

NAN = float("nan")
HEADER = (
    "HR|O2Sat|Temp|SBP|MAP|DBP|Resp|EtCO2|BaseExcess|HCO3|FiO2|pH|PaCO2|SaO2|AST|BUN|Alkalinephos|Calcium|Chloride|"
    "Creatinine|Bilirubin_direct|Glucose|Lactate|Magnesium|Phosphate|Potassium|Bilirubin_total|TroponinI|Hct|Hgb|PTT|WBC|"
    "Fibrinogen|Platelets|Age|Gender|Unit1|Unit2|HospAdmTime|ICULOS|SepsisLabel"
)
WHO = {"Age": 61.99, "Gender": 1, "Unit1": 0, "Unit2": 1, "HospAdmTime": -77.125}


def psv(hours: list[int], label_from: int | None = None, who: Mapping[str, object] = WHO, **channels: object) -> str:
    """A record: ICULOS of its rows, the one its label turns 1 at, and what else its rows hold, alike or one by one."""
    lines = [HEADER]
    for i, hour in enumerate(hours):
        cells = dict.fromkeys(HEADER.split("|"), "NaN") | {"HR": 80 + i} | dict(who) | {"ICULOS": hour}
        cells |= {name: value[i] if isinstance(value, list) else value for name, value in channels.items()}
        cells["SepsisLabel"] = int(label_from is not None and hour >= label_from)
        lines.append("|".join(map(str, cells.values())))
    return "\n".join(lines) + "\n"


ODD = {"Age": 100, "Gender": 0, "Unit1": 1, "Unit2": 0, "HospAdmTime": 1e6}
UNSAID = {"Age": -3, "Gender": 7, "Unit1": "NaN", "Unit2": "NaN", "HospAdmTime": 0}
SET_A = {
    # the last hour of six; impossible values at both ends
    "p007701": psv([1, 2, 3, 4, 5, 6], who=ODD, HR=[60, 9, 301, 10, 300, "NaN"], Temp=[0, 36.5, 98, 25, 45, 24.9]),
    "p007702": psv([5, 6, 7, 8, 9, 10, 11, 12], label_from=11),  # labelled in its seventh hour, not that of the unit
    "p007703": psv([1, 2, 3, 4, 5, 6, 7], label_from=6),  # labelled in the last hour of the window
    "p007704": psv([1, 2, 3, 4, 5]),  # gone before the sixth hour
    "p007705": psv([2, 3, 5, 6, 7, 9], who=UNSAID, O2Sat=[97, 98, 99, 20, 19, 0]),  # two hours skipped
    "p007706": psv([1, 2, 3], label_from=1),  # septic from the start, and gone
}
SET_B = {
    "p107701": psv([1, 2, 3, 4, 5, 6, 7], who={**WHO, "Unit1": 1}),  # both units
    "p107702": psv([3, 9], label_from=9),  # five hours skipped
}


def folder_of(path: Path, records: Mapping[str, str]) -> Path:
    for name, text in records.items():
        write(path / f"{name}.psv", text)
    return path


def archive_of(path: Path, records: Mapping[str, str], inside: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in records.items():
            archive.writestr(f"{inside}/{name}.psv", text)
        archive.writestr(f"__MACOSX/{inside}/._p1.psv", "not a record")
    return path


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cinc2019, "PATIENTS", {"a": len(SET_A), "b": len(SET_B)})


@pytest.fixture
def challenge2019(eight: None, tmp_path: Path) -> Path:
    folder_of(tmp_path / "training_setA", SET_A)
    folder_of(tmp_path / "training_setB", SET_B)
    return tmp_path


def test_the_landmark_of_2019_by_hand(challenge2019: Path) -> None:
    data = cinc2019.load(challenge2019, hours=6)
    law.check(data.table, data.roles, what="cinc2019")
    assert data.facts == {
        "patients": 8, "hours": 6 + 8 + 7 + 5 + 6 + 3 + 7 + 2, "septic": 4, "left out: labelled": 2,
        "left out: short": 1, "hours filled": 2 + 5 - 1, "subjects": 5, "positives": 2,
    }  # fmt: skip
    assert data.facts["septic"] == data.facts["left out: labelled"] + data.facts["positives"]
    who = [7701, 7702, 7705, 107701, 107702]
    assert list(law.subjects(data.table)) == who
    first = data.table.groupby(level="subject").first(skipna=False)[list(cinc2019.STATIC)]
    expected = pd.DataFrame(
        {
            "Age": pd.array([90, 61, None, 61, 61], "Int64"),
            "Gender": pd.Categorical(["female", "male", None, "male", "male"], ["female", "male"]),
            "Unit": pd.Categorical(["medical", "surgical", None, None, "surgical"], ["medical", "surgical"]),
            "HospAdmTime": [NAN, -77.125, 0, -77.125, -77.125],
            "sepsis": [False, True, False, False, True],
        },
        index=pd.Index(who, name="subject"),
    )
    pd.testing.assert_frame_equal(first, expected)
    grid = {name: data.table[name].unstack() for name in cinc2019.CHANNELS}
    hr = [[60, NAN, NAN, 10, 300, NAN], [80, 81, 82, 83, 84, 85], [80, 81, NAN, 82, 83, 84], [80, 81, 82, 83, 84, 85],
          [80, NAN, NAN, NAN, NAN, NAN]]  # fmt: skip
    np.testing.assert_array_equal(grid["HR"], hr)
    np.testing.assert_array_equal(grid["Temp"].loc[7701], [NAN, 36.5, NAN, 25, 45, NAN])
    np.testing.assert_array_equal(grid["O2Sat"].loc[7705], [97, 98, NAN, 99, 20, NAN])
    assert all(grid[name].isna().all(axis=None) for name in ("SBP", "MAP", "DBP", "Resp"))


def test_nothing_after_the_landmark_of_2019_is_seen(challenge2019: Path) -> None:
    """The same window and the same answer, whatever the record's length, values and hour of the label after it."""
    before = cinc2019.load(challenge2019, sets="a", hours=6).table
    assert set(before.groupby(level="subject").size()) == {6}
    later = psv(
        [5, 6, 7, 8, 9, 10, *range(11, 60)], label_from=50, HR=[80, 81, 82, 83, 84, 85, *[200] * 49], Temp="NaN"
    )
    write(challenge2019 / "training_setA/p007702.psv", later)
    longer = psv(list(range(1, 30)), who=ODD, HR=[60, 9, 301, 10, 300, "NaN", *[99] * 23],
                 Temp=[0, 36.5, 98, 25, 45, 24.9, *[40] * 23])  # fmt: skip
    write(challenge2019 / "training_setA/p007701.psv", longer)
    pd.testing.assert_frame_equal(cinc2019.load(challenge2019, sets="a", hours=6).table, before)


@pytest.mark.parametrize("layout", ["mirror", "archives", "unpacked", "windows"])
def test_layouts_of_2019_are_one_table(
    challenge2019: Path, tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = cinc2019.load(challenge2019, hours=6)
    folder = tmp_path / layout
    folder.mkdir()
    if layout == "mirror":
        folder_of(folder / "training/training_setA", SET_A)
        folder_of(folder / "training/training_setB", SET_B)
    elif layout == "archives":
        archive_of(folder / "training_setA.zip", SET_A, "training")
        archive_of(folder / "training_setB.zip", SET_B, "training_setB")
    else:
        folder_of(folder / "training", {n: t.replace("\n", "\r\n") if layout == "windows" else t.rstrip("\n")
                                        for n, t in SET_A.items()})  # fmt: skip
        folder_of(folder / "training_setB", SET_B)
    monkeypatch.setattr(cinc2019, "TOGETHER", 2 if layout == "mirror" else 4)  # parsed in parts, one of nobody at risk
    data = cinc2019.load(folder, hours=6)
    pd.testing.assert_frame_equal(data.table, expected.table)
    assert data.facts == expected.facts
    assert cinc2019.load(folder, sets="b", hours=6).facts["patients"] == 2


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("|", ",", "training_setA: files differ in their header"),
        ("HR|O2Sat", "HR|Sat", "files differ in their header"),
        ("|NaN|-77.125|", "|NaN|NaN|-77.125|", "a row is not 41 numbers"),
        ("80|NaN", "zebra|NaN", "a row is not 41 numbers"),
        ("80|NaN", "8°|NaN", "a row is not 41 numbers"),
        ("|5|0\n", "|5|2\n", "a row is not 41 numbers"),
        ("|5|0\n", "|5|0\n\n", "a row is not 41 numbers"),
        ("|12|1\n", "|12", "a row is not 41 numbers"),
        ("|6|0\n", "|5|0\n", "ICULOS does not count hours upwards"),
        ("|6|0\n", "|6.5|0\n", "ICULOS does not count hours upwards"),
        ("|6|0\n", "|NaN|0\n", "ICULOS does not count hours upwards"),
        ("|12|1\n", "|99999|1\n", "ICULOS does not count hours upwards"),
    ],
)
def test_a_damaged_record_of_2019_is_one_clear_line(challenge2019: Path, old: str, new: str, says: str) -> None:
    text = SET_A["p007702"].replace("|0|1|-77.125|", "|NaN|NaN|-77.125|")
    assert old in text
    write(challenge2019 / "training_setA/p007702.psv", text.replace(old, new))
    refused(lambda: cinc2019.load(challenge2019, hours=6), says)


def test_other_files_of_2019_are_one_clear_line(challenge2019: Path) -> None:
    def load() -> Data:
        return cinc2019.load(challenge2019, hours=6)

    a = challenge2019 / "training_setA"
    (a / "p007704.psv").unlink()
    refused(load, "training_setA: patients: found 5, expected 6: a truncated or different file")
    for text in ("", HEADER, HEADER + "\n\n"):
        write(a / "p007704.psv", text)
        refused(load, "files differ in their header" if not text else "a patient's file has no rows: truncated?")
    write(a / "p7701.psv", SET_A["p007704"]).rename(a / "p007704.psv")
    write(a / "p7701.psv", SET_A["p007701"])
    refused(load, "training_setA: a patient stands twice")
    (a / "p7701.psv").unlink()
    write(a / "zebra.psv", SET_A["p007704"])
    refused(load, "a file is not named p and a number")
    (a / "zebra.psv").unlink()
    for name, text in SET_A.items():
        write(a / f"{name}.psv", text.replace("|", ","))
    refused(load, "training_setA: lacks column HR, O2Sat, Temp, SBP, MAP: a different file, or not separated by |")
    folder_of(a, {name.replace("p00", "p10"): text for name, text in SET_A.items()})
    for name in SET_A:
        (a / f"{name}.psv").unlink()
    refused(load, "a patient stands in more than one set")
    shutil.rmtree(a)
    refused(load, "training_setA is missing")
    archive = archive_of(challenge2019 / "training_setA.zip", SET_A, "training")
    assert cinc2019.load(challenge2019, hours=6).facts["patients"] == 8
    body = archive.read_bytes()
    for damaged in (body[: len(body) // 2], b"", body.replace(b"SepsisLabel", b"SepsisLevel", 1)):
        archive.write_bytes(damaged)
        refused(load, "training_setA.zip: not a whole zip file")


def test_names_of_2019_that_are_none(challenge2019: Path) -> None:
    for which in ("", "c", "abc"):
        refused(lambda which=which: cinc2019.load(challenge2019, sets=which), "expected one or more of a, b")
    for hours in (5, 49, 0):
        refused(lambda hours=hours: cinc2019.load(challenge2019, hours=hours), f"hours={hours}: expected 6 to 48")
