"""Open data in the layouts their sources give them: hand-made files with traps, tables by hand, and damaged files."""

import csv
import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.datasets import cinc2012, cinc2019, law, support2
from bench.datasets.data import Data, DataError
from conftest import write

NAN = float("nan")
SECRETS = ("77.125", "7700", "zebra")  # a value, record numbers and a text out of rows: no message may hold them


def refused(load: Callable[[], Data], says: str) -> None:
    """Loading must fail with one line that says so and holds no value of a row."""
    with pytest.raises(DataError) as error:
        load()
    text = str(error.value)
    assert says in text
    assert "\n" not in text
    assert not [secret for secret in SECRETS if secret in text]


# --- cinc2012 ---

STAY = "Time,Parameter,Value\n00:00,RecordID,{id}\n00:00,Age,54\n00:00,Gender,0\n00:00,Height,-1\n00:00,ICUType,4\n"
ONE = (
    "00:00,Weight,80.5\n00:07,HR,73\n00:37,HR,77\n00:37,NISysABP,117\n00:37,Temp,17.8\n01:00,HR,500\n01:10,Weight,70\n"
    "01:10,SysABP,90\n01:20,NISysABP,120\n01:30,GCS,15\n01:40,GCS,13\n02:00,Urine,100\n02:59,Urine,50\n47:59,HR,60\n"
    "48:00,HR,70\n"
)


def stays_archive(path: Path, stays: Mapping[str, bytes]) -> Path:
    """A set's tar.gz: one txt a stay in a folder, as PhysioNet packs them."""
    with tarfile.open(path, "w:gz", compresslevel=1) as files:
        for name, body in stays.items():
            member = tarfile.TarInfo(name if "/" in name else f"{path.name[:5]}/{name}.txt")
            member.size = len(body)
            files.addfile(member, io.BytesIO(body))
    return path


def outcomes_file(path: Path, died: Mapping[int, int]) -> Path:
    rows = "".join(f"{who},6,1,5,-1,{dead}\n" for who, dead in died.items())
    return write(path, "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death\n" + rows)


def challenge2012(folder: Path, which: str = "a", first: int = 7700001, n: int = 3) -> dict[str, bytes]:
    """A set of n stays, the first of them full; the second one dies. Gives the stays' files."""
    stays = {str(first + i): STAY.format(id=first + i).encode() for i in range(n)}
    stays[str(first)] += ONE.encode()
    stays_archive(folder / f"set-{which}.tar.gz", stays)
    outcomes_file(folder / f"Outcomes-{which}.txt", {first + i: int(i == 1) for i in reversed(range(n))})
    return stays


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cinc2012, "STAYS", 3)


def test_a_stay_of_2012_by_hand(three: None, tmp_path: Path) -> None:
    challenge2012(tmp_path, "c")
    data = cinc2012.load(tmp_path, sets="c")
    law.check(data.table, data.roles, what="cinc2012")
    assert data.facts == {"stays": 3, "rows": 3 * 5 + 15, "deaths": 1}
    stay = data.table.loc[7700001]
    assert len(stay) == 48
    static = stay.iloc[0][["Age", "Gender", "ICUType", "Height", "Weight", "died"]].tolist()
    assert static[:3] == [54, "female", "surgical"]
    assert np.isnan(static[3])
    assert static[4:] == [80.5, False]
    expected = pd.DataFrame(NAN, index=pd.RangeIndex(48, name="time"), columns=list(cinc2012.CHANNELS))
    expected.loc[0, ["HR", "SBP"]] = [75, 117]  # the mean; a cuff where no line is; 17.8 degrees are impossible
    expected.loc[1, ["SBP", "GCS"]] = [90, 13]  # the line before the cuff; the last; a pulse of 500 is impossible
    expected.loc[2, "Urine"] = 150
    expected.loc[47, "HR"] = 65  # 48:00 closes the last hour
    pd.testing.assert_frame_equal(stay[list(cinc2012.CHANNELS)], expected)
    assert data.table.loc[7700002, "died"].all()


def test_all_three_sets_of_2012_go_one_way(tmp_path: Path) -> None:
    for which, first in (("a", 132_539), ("b", 142_675), ("c", 152_871)):
        challenge2012(tmp_path, which, first, n=4_000)
    all_three, last = cinc2012.load(tmp_path, sets="cab"), cinc2012.load(tmp_path, sets="c").table
    law.check(all_three.table, all_three.roles, what="cinc2012")
    assert all_three.facts["stays"] == 12_000
    assert all_three.facts["deaths"] == 3
    assert all_three.table.loc[152_871:].equals(last)


def test_stays_of_set_a_under_the_name_of_set_c_are_the_same(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, shift, n = data_dir / "cinc2012", 100_000, 400
    if not folder.is_dir():
        pytest.skip("cinc2012 is not here")
    a = cinc2012.load(folder, sets="a").table
    stays = {}
    with tarfile.open(folder / "set-a.tar.gz") as files:
        for member in files:
            if member.isfile() and len(stays) < n:
                stays[str(int(Path(member.name).stem) + shift)] = files.extractfile(member).read()
    stays_archive(tmp_path / "set-c.tar.gz", stays)
    outcomes = pd.read_csv(folder / "Outcomes-a.txt").assign(RecordID=lambda o: o["RecordID"] + shift)
    outcomes[outcomes["RecordID"].astype(str).isin(list(stays))].to_csv(tmp_path / "Outcomes-c.txt", index=False)
    monkeypatch.setattr(cinc2012, "STAYS", n)
    c = cinc2012.load(tmp_path, sets="c").table
    same = law.take(a, law.subjects(c) - shift)
    assert (c.index.get_level_values("subject") - shift == same.index.get_level_values("subject")).all()
    assert c.reset_index(drop=True).equals(same.reset_index(drop=True))
    assert 0 < law.per_subject(c, "died").sum() < n / 2


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("48:01,HR,70\n", "set-a.tar.gz: 1 rows have a time that is not HH:MM up to 48:00"),
        ("7:15,HR,70\n07:60,HR,70\n", "2 rows have a time that is not HH:MM"),
        ("07:15,HR\n", "1 rows lack a time, a parameter or a value"),
        ("07:15,,77.125\n", "1 rows lack a time, a parameter or a value"),
        ("07:15,HR,77.125,1\n", "a row has more than a time, a parameter and a value"),
        ("07:15,HR,zebra\n", "a value is not a number"),
        ("07:15,HR°,70\n", "bytes that are not ASCII"),
    ],
)
def test_a_damaged_row_of_2012_is_one_clear_line(three: None, tmp_path: Path, rows: str, says: str) -> None:
    stays = challenge2012(tmp_path)
    stays["7700002"] += rows.encode()
    stays_archive(tmp_path / "set-a.tar.gz", stays)
    refused(lambda: cinc2012.load(tmp_path, sets="a"), says)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"set-a/again/7700001.txt": b"Time,Parameter,Value\n00:00,Age,54\n"}, "a record stands twice"),
        ({"7700002": b"00:00,RecordID,7700002\n00:00,Age,54\n"}, "does not begin with Time,Parameter,Value"),
        ({"7700002": b"Time,Parameter,Value\n"}, "set-a.tar.gz: stays: found 2, expected 3"),
        ({"7700004": b"Time,Parameter,Value\n00:00,Age,54\n"}, "set-a.tar.gz: stays: found 4, expected 3"),
        ({"zebra": b"Time,Parameter,Value\n00:00,Age,54\n"}, "not named by a record number"),
    ],
)
def test_another_archive_of_2012_is_one_clear_line(
    three: None, tmp_path: Path, change: dict[str, bytes], says: str
) -> None:
    stays_archive(tmp_path / "set-a.tar.gz", challenge2012(tmp_path) | change)
    refused(lambda: cinc2012.load(tmp_path, sets="a"), says)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("7700003,6,1,5,-1,0\n", "", "Outcomes-a.txt: stays: found 2, expected 3"),
        ("7700003,", "7700002,", "Outcomes-a.txt: 1 rows repeat a record"),
        ("7700003,", "7700009,", "not every stay of set-a.tar.gz has an outcome of 0 or 1"),
        ("7700003,6,1,5,-1,0", "7700003,6,1,5,-1,-1", "not every stay of set-a.tar.gz has an outcome of 0 or 1"),
        (",", ";", "Outcomes-a.txt: lacks column RecordID"),
        ("7700003,6", "7700003,\xe9", "Outcomes-a.txt: not a readable csv file"),
    ],
)
def test_damaged_outcomes_of_2012_are_one_clear_line(
    three: None, tmp_path: Path, old: str, new: str, says: str
) -> None:
    challenge2012(tmp_path)
    path = tmp_path / "Outcomes-a.txt"
    path.write_bytes(path.read_text().replace(old, new).encode("latin-1"))
    refused(lambda: cinc2012.load(tmp_path, sets="a"), says)


def test_sets_of_2012_that_are_none(three: None, tmp_path: Path) -> None:
    challenge2012(tmp_path)
    for which in ("", "d", "abd"):
        refused(lambda which=which: cinc2012.load(tmp_path, sets=which), "expected one or more of a, b, c")
    shutil.copy(tmp_path / "set-a.tar.gz", tmp_path / "set-b.tar.gz")
    shutil.copy(tmp_path / "Outcomes-a.txt", tmp_path / "Outcomes-b.txt")
    refused(lambda: cinc2012.load(tmp_path), "3 records stand in more than one set")
    stays_archive(tmp_path / "set-a.tar.gz", {})
    refused(lambda: cinc2012.load(tmp_path), "set-a.tar.gz: holds no stay's .txt file")


# --- cinc2019 ---

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


# --- support2 ---

COLUMNS = (
    "id age death sex hospdead slos d.time dzgroup dzclass num.co edu income scoma charges totcst totmcst avtisst race "
    "sps aps surv2m surv6m hday diabetes dementia ca prg2m prg6m dnr dnrday meanbp wblc hrt resp temp pafi alb bili "
    "crea sod ph glucose bun urine adlp adls sfdm2 adlsc"
).split()
FULL = {
    "id": "1", "age": "62.99998", "death": "1", "sex": "male", "hospdead": "1", "slos": "5", "d.time": "5",
    "dzgroup": "Lung Cancer", "dzclass": "Cancer", "num.co": "2", "edu": "11", "income": "$11-$25k", "scoma": "0",
    "charges": "9715", "totcst": "77.125", "totmcst": "77.125", "avtisst": "7", "race": "other", "sps": "33.8984375",
    "aps": "20", "surv2m": "0.262939453", "surv6m": "0.036994934", "hday": "1", "diabetes": "0", "dementia": "1",
    "ca": "metastatic", "prg2m": "0.5", "prg6m": "2.50E-01", "dnr": "no dnr", "dnrday": "5", "meanbp": "0",
    "wblc": "17.0976562", "hrt": "0", "resp": "22", "temp": "34.59375", "pafi": "231.65625", "alb": "1.7998047",
    "bili": "0.19998169", "crea": "1.19995117", "sod": "141", "ph": "7.459961", "glucose": "98", "bun": "6",
    "urine": "1500", "adlp": "7", "adls": "3", "sfdm2": "<2 mo. follow-up", "adlsc": "7",
}  # fmt: skip
MUST = ("id", "death", "sex", "hospdead", "num.co", "hday", "diabetes", "dementia")
BARE = {name: value if name in MUST else "" for name, value in FULL.items()} | {
    "id": "2",
    "hospdead": "0",
    "sex": "female",
}
PEOPLE = [
    FULL,
    BARE,
    FULL | {"id": "3", "age": "-4", "income": "under $11k", "race": "NA", "temp": "98.6", "ph": "NA", "hospdead": "0"},
    FULL | {"id": "4", "age": "121", "ca": "no", "dzgroup": "CHF", "income": ">$50k", "crea": "-1", "adls": "0"},
]


def sheet(people: list[dict[str, str]], *, ids: str | None = "id", sep: str = ",") -> str:
    """The csv file; ids: how the column of row numbers is headed, None for not at all."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=sep, lineterminator="\n")
    writer.writerow(COLUMNS[1:] if ids is None else [ids, *COLUMNS[1:]])
    writer.writerows([person[name] for name in COLUMNS] for person in people)
    return out.getvalue()


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support2, "PATIENTS", 4)


def zipped(path: Path, text: str, inside: str = "support2.csv") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(inside, text)
    return path


def test_support2_by_hand(four: None, tmp_path: Path) -> None:
    zipped(tmp_path / "support2.zip", sheet(PEOPLE))
    data = support2.load(tmp_path)
    law.check(data.table, data.roles, what="support2")
    assert data.facts == {"rows": 4, "positives": 2}
    expected = {
        "age": pd.array([62, None, None, None], "Int64"),
        "sex": pd.Categorical(["male", "female", "male", "male"], ["female", "male"]),
        "race": pd.Categorical(["other", None, None, "other"], ["asian", "black", "hispanic", "other", "white"]),
        "income": pd.Categorical(
            ["$11-$25k", None, "under $11k", ">$50k"], ["under $11k", "$11-$25k", "$25-$50k", ">$50k"], ordered=True
        ),
        "dzgroup": pd.Categorical(["Lung Cancer", None, "Lung Cancer", "CHF"], support2.LEVELS["dzgroup"][0]),
        "num.co": pd.array([2, 2, 2, 2], "Int64"),
        "hday": pd.array([1, 1, 1, 1], "Int64"),
        "diabetes": [False] * 4,
        "dementia": [True] * 4,
        "ca": pd.Categorical(["metastatic", None, "metastatic", "no"], ["no", "yes", "metastatic"], ordered=True),
    }
    numbers = {"edu": 11, "scoma": 0, "aps": 20, "meanbp": 0, "wblc": 17.1, "hrt": 0, "resp": 22, "temp": 34.6,
               "pafi": 231.7, "alb": 1.8, "bili": 0.2, "crea": 1.2, "sod": 141, "ph": 7.46, "glucose": 98, "bun": 6,
               "urine": 1500, "adlp": 7, "adls": 3}  # fmt: skip
    expected |= {name: pd.Series([value, NAN, value, value], dtype=float) for name, value in numbers.items()}
    expected["temp"][2] = expected["ph"][2] = expected["crea"][3] = NAN  # Fahrenheit, not known, impossible
    expected["adls"][3] = 0
    expected["hospdead"] = [True, False, False, True]
    pd.testing.assert_frame_equal(data.table, pd.DataFrame(expected, index=pd.RangeIndex(4, name="subject")))
    assert set(data.roles.describe) == set(data.table)


def test_support2_says_of_every_column_what_becomes_of_it(four: None, tmp_path: Path) -> None:
    write(tmp_path / "support2.csv", sheet(PEOPLE))
    used = set(support2.load(tmp_path).table)
    assert used | set(support2.LEFT_OUT) | {"id"} == set(COLUMNS)
    assert not used & set(support2.LEFT_OUT)


@pytest.mark.parametrize(("name", "ids"), [("support2.csv", ""), ("support2csv.zip", None), ("support2.zip", "id")])
def test_layouts_of_support2_are_one_table(four: None, tmp_path: Path, name: str, ids: str | None) -> None:
    write(tmp_path / "one/support2.csv", sheet(PEOPLE))
    text = "\ufeff" + sheet(PEOPLE, ids=ids).replace("\n", "\r\n")
    if name.endswith(".zip"):
        zipped(tmp_path / name, text, "folder/support2.csv")
    else:
        write(tmp_path / name, text)
    pd.testing.assert_frame_equal(support2.load(tmp_path).table, support2.load(tmp_path / "one").table)
    assert support2.locate(tmp_path) == tmp_path / name


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (sheet(PEOPLE, sep=";"), "support2.csv: lacks column age, sex, race, income, dzgroup: a different file"),
        (sheet(PEOPLE).replace("hospdead", "died"), "support2.csv: lacks column hospdead"),
        (sheet(PEOPLE).replace("death,", "age,", 1), "names a column twice"),
        (sheet(PEOPLE[:3]), "support2.csv: patients: found 3, expected 4"),
        (sheet(PEOPLE)[:-30], "1 rows have more or fewer cells"),
        (sheet(PEOPLE).replace("Lung Cancer", "Lung,Cancer", 1), "3 rows have more or fewer cells"),
        (sheet([*PEOPLE[:3], PEOPLE[3] | {"id": "1"}]), "1 rows repeat a patient"),
        (sheet([*PEOPLE[:3], PEOPLE[3] | {"id": "1"}], ids=None), "1 rows repeat a patient"),
        (sheet([*PEOPLE[:3], PEOPLE[3] | {"sex": "zebra"}]), "column sex: 1 of 4 cells are none of female, male"),
        (sheet([*PEOPLE[:3], PEOPLE[3] | {"age": "zebra"}]), "column age: 1 of 4 cells are not numbers"),
        (sheet([*PEOPLE[:3], PEOPLE[3] | {"ph": "77.125.1"}]), "column ph: 1 of 4 cells are not numbers"),
        (sheet([*PEOPLE[:3], PEOPLE[3] | {"hospdead": "2"}]), "column hospdead: 1 of 4 cells are not 0 or 1"),
        (sheet([*PEOPLE[:3], PEOPLE[3] | {"hospdead": ""}]), "column hospdead: 1 of 4 cells are not 0 or 1"),
        (sheet([*PEOPLE[:3], PEOPLE[3] | {"num.co": "1.5"}]), "column num.co holds numbers that are not whole"),
        (sheet([*PEOPLE[:3], PEOPLE[3] | {"race": "\xe9"}]), "not a csv file in UTF-8"),
        ("", "support2.csv: lacks column age"),
    ],
)
def test_other_files_of_support2_are_one_clear_line(four: None, tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "support2.csv").write_bytes(text.encode("latin-1"))
    refused(lambda: support2.load(tmp_path), says)


def test_other_archives_of_support2_are_one_clear_line(four: None, tmp_path: Path) -> None:
    refused(lambda: support2.load(tmp_path), "expected one of support2.zip, support2csv.zip, support2.csv")
    path = zipped(tmp_path / "support2.zip", sheet(PEOPLE))
    body = path.read_bytes()
    for damaged in (body[: len(body) // 2], b"", body.replace(b"male", b"mule", 1)):
        path.write_bytes(damaged)
        refused(lambda: support2.load(tmp_path), "support2.zip: not a whole zip file")
    zipped(path, "a,b\n", "other.csv")
    refused(lambda: support2.load(tmp_path), "support2.zip: holds no support2.csv")
