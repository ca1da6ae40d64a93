"""SUPPORT2 on tiny files in its three layouts."""

import csv
import io
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from loaded import refused

from bench.datasets import law, support2
from conftest import write

NAN = float("nan")
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
